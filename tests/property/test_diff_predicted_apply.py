"""What the packager makes of any two images that look like machine code is applied to the new one, by both readers."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from packager.bundle.encoder import Label, encode
from packager.diff.engine import align
from packager.vehicle.instructions import InstructionSet
from packager.vehicle.profile import KIB, Coder, UpdateProfile
from tests import needs, spec_reader
from tests.predicted_cases import code
from tests.property.test_vehicle_two_readers import apply
from tests.sample_bundles import sign

pytestmark = needs.MATCHER

FAR = 0x5123_0000_0000_0000
"""A base that section 4 can't hold; it must not be chosen."""
PROFILES = [
    UpdateProfile(),
    UpdateProfile(block_bytes=4 * KIB, coders=frozenset(Coder)),
    UpdateProfile(coders=frozenset({Coder.RAW})),
    UpdateProfile(coders=frozenset({Coder.RAW, Coder.ADAPTIVE})),
    UpdateProfile(predictors=False),
]


@st.composite
def pairs(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """An image of several instruction sets, and one made of its parts, moved and changed."""
    seed = draw(st.integers(0, 1 << 30))
    sets = draw(st.lists(st.sampled_from(InstructionSet), min_size=1, max_size=3))
    old = b"".join(code(seed + n, kind, draw(st.integers(1, 4000))) for n, kind in enumerate(sets))
    new = bytearray()
    for _ in range(draw(st.integers(1, 4))):
        first = draw(st.integers(0, len(old) - 1))
        new += old[first : first + draw(st.integers(1, 6000))]
        new += draw(st.binary(max_size=12))
    for _ in range(draw(st.integers(0, 8))):
        new[draw(st.integers(0, len(new) - 1))] ^= draw(st.integers(1, 255))
    return old, bytes(new)


@settings(max_examples=40, deadline=None)
@given(pairs(), st.sampled_from(PROFILES), st.sampled_from([1, 5, 9]))
def test_apply_undoes_diff(images: tuple[bytes, bytes], profile: UpdateProfile, effort: int) -> None:
    old, new = images
    written = encode(old, new, align(old, new, effort=effort), profile, Label(), 9).written
    signed = sign(written.data[: written.head_bytes])
    assert apply(written.data, old, signed, profile) == new
    assert spec_reader.decode(written.data, old, written.head_bytes, signed.digest.value) == new


@pytest.mark.parametrize("base", [0, 0x08000000, 0xC0008000, 0x400000, FAR, 0xFFFF_8000_0008_0000])
@pytest.mark.parametrize("width", [4, 8])
def test_pointers_of_any_base(base: int, width: int) -> None:
    """Tables of pointers before and after a piece is put in front; where a base can't be written, the bundle is merely larger."""
    base %= 1 << 8 * width
    mask = (1 << 8 * width) - 1
    chance = random.Random(width)
    targets = [chance.randrange(8000) for _ in range(1000)]
    body = code(width, InstructionSet.THUMB2, 4000)
    old = body + b"".join(((base + target) & mask).to_bytes(width, "little") for target in targets)
    new = bytes(64) + body + b"".join(((base + target + 64) & mask).to_bytes(width, "little") for target in targets)
    written = encode(old, new, align(old, new), UpdateProfile(), Label(), 9).written
    signed = sign(written.data[: written.head_bytes])
    assert apply(written.data, old, signed) == new


def test_adaptive_residuals_are_chosen_where_the_ecu_has_them() -> None:
    """What is behind an insertion moves; some bytes of one kind of instruction change. Learning which is worth a tenth of the bundle."""
    old = code(5, InstructionSet.THUMB2, 60_000)
    new = bytearray(old[:2000] + bytes(6) + old[2000:])
    chance = random.Random(5)
    for at in range(2 * 1500, len(new) - 2, 2):
        if new[at + 1] & 0xE0 == 0x40 and chance.random() < 0.3:
            new[at] = (new[at] + (4 if at % 3 else 8)) & 0xFF
    alignment = align(old, bytes(new))
    sizes = {}
    for coders in (frozenset({Coder.RAW, Coder.ZSTD}), frozenset({Coder.RAW, Coder.ZSTD, Coder.ADAPTIVE})):
        profile = UpdateProfile(coders=coders)
        made = encode(old, bytes(new), alignment, profile, Label())
        signed = sign(made.written.data[: made.written.head_bytes])
        assert apply(made.written.data, old, signed, profile) == new
        assert any("adaptive" in form for form in made.blocks_by_form) == (Coder.ADAPTIVE in coders)
        sizes[coders] = len(made.written.data)
    plain, adaptive = sizes.values()
    assert adaptive * 10 < plain * 9
