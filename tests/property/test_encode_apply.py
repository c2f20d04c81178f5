"""The law of the product: applying the bundle from `old` to `new` gives `new`, whatever the bytes, the profile and the block size."""

import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from packager.bundle.check import rebuild
from packager.bundle.encoder import Label, encode
from packager.bundle.loose import LooseBundle, self_signed
from packager.diff.engine import NO_ALIGNMENT, Engine, align
from packager.vehicle.identity import ImageId
from packager.vehicle.profile import Coder, UpdateProfile

PROFILES = st.builds(
    UpdateProfile,
    ram_bytes=st.sampled_from([256 << 10, 1 << 20, 256 << 20]),
    coders=st.sampled_from([frozenset({Coder.RAW}), frozenset({Coder.RAW, Coder.ZSTD}), frozenset(Coder)]),
    block_bytes=st.sampled_from([None, 4096, 8192, 65536]),
)


@st.composite
def images(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """An old image, and a new one made of its pieces, changed, with new bytes, runs and periods between them."""
    old = draw(
        st.one_of(
            st.binary(min_size=1, max_size=300), st.randoms(use_true_random=False).map(lambda r: r.randbytes(20_000))
        )
    )
    new = bytearray()
    for kind in draw(st.lists(st.sampled_from(["copy", "change", "fresh", "fill", "period"]), min_size=1, max_size=8)):
        start, end = sorted((draw(st.integers(0, len(old))), draw(st.integers(0, len(old)))))
        if kind in ("copy", "change"):
            piece = bytearray(old[start:end])
            for position in (
                draw(st.lists(st.integers(0, max(len(piece) - 1, 0)), max_size=5)) if kind == "change" and piece else ()
            ):
                piece[position] = draw(st.integers(0, 255))
            new += piece
        elif kind == "fresh":
            new += draw(st.binary(max_size=200))
        else:
            unit = draw(st.binary(min_size=1, max_size=1 if kind == "fill" else 9))
            new += unit * draw(st.integers(0, 9000 // len(unit)))
    return old, bytes(new) or b"\0"


@settings(max_examples=60)
@given(images(), PROFILES, st.booleans(), st.sampled_from(Engine))
def test_apply_of_diff_gives_new(
    pair: tuple[bytes, bytes], profile: UpdateProfile, is_full: bool, engine: Engine
) -> None:
    old, new = pair
    alignment = NO_ALIGNMENT if is_full else align(old, new, engine)
    encoded = encode(None if is_full else old, new, alignment, profile, Label(3, "1.0", ("hw-b", "hw-a")), level=3)
    with tempfile.TemporaryDirectory() as directory:
        scratch = Path(directory)
        (scratch / "old").write_bytes(old)
        (scratch / "bundle").write_bytes(encoded.written.data)
        signed = self_signed(scratch / "bundle")
        made = rebuild(scratch / "bundle", signed, profile, None if is_full else scratch / "old", scratch)
        manifest = LooseBundle.open(scratch / "bundle", profile).head.manifest
    assert made.image == ImageId.of(new)
    assert (manifest.release_counter, manifest.version, manifest.hardware_ids) == (3, "1.0", ("hw-a", "hw-b"))
    assert manifest.memory_bytes == encoded.written.memory_bytes <= profile.ram_bytes
    assert sum(encoded.blocks_by_form.values()) == manifest.block_count
