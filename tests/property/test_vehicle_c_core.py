"""The C core and the Python applier: the same image or the same class of refusal, on valid, damaged and maliciously signed bundles."""

import hashlib
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from packager.bundle.encoder import Label, encode
from packager.diff import bsdiff
from packager.diff.engine import Alignment
from packager.vehicle.core.applier import Applier
from packager.vehicle.core.blocks import OldImage
from packager.vehicle.core.head import SECTION_ENTRY_BYTES, Section, read_head
from packager.vehicle.errors import StateError, VehicleError
from packager.vehicle.profile import Coder, UpdateProfile
from tests.c.core import CODER, FEATURE, UNKNOWN_SECTION, Core, fault_of
from tests.faulty_storage import MemoryFile
from tests.sample_bundles import Sample, copy_one_block, delta_one_block, full_one_block, noise
from tests.unit.test_vehicle_c_core import delta_raw, small_delta

PROFILE = UpdateProfile(coders=frozenset({Coder.RAW}), block_bytes=4096)
WIDE = UpdateProfile(coders=frozenset({Coder.RAW}))
BUNDLES = [full_one_block(), delta_one_block(), small_delta(), delta_raw(), copy_one_block()]
FIXTURE_IS_NOT_CHANGED = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]


@pytest.fixture(scope="module")
def core() -> Iterator[Core]:
    core = Core(sanitized=True)
    yield core
    core.close()


def python(sample: Sample, chunk: int) -> tuple[int, bytes]:
    """Return the class of the error, and the slot."""
    slot = MemoryFile(len(sample.new), content=b"\xee" * len(sample.new))
    old: OldImage | None = None if sample.old is None else MemoryFile(0, content=sample.old)
    try:
        head = read_head(sample.data[: sample.head_bytes], sample.signed, WIDE)
        applier = Applier(head, old, slot)
        for start in range(sample.head_bytes, len(sample.data), chunk):
            applier.feed(sample.data[start : start + chunk], start)
        applier.finish()
    except StateError:  # another length than the slot: the core's caller refuses it
        return 2, bytes(slot.content)
    except VehicleError as error:
        return fault_of(error), bytes(slot.content)
    return 0, bytes(slot.content)


@st.composite
def images(draw: st.DrawFn) -> tuple[bytes, bytes]:
    old = noise(draw(st.integers(0, 99)), draw(st.integers(1, 20_000)))
    new = bytearray()
    for kind in draw(st.lists(st.sampled_from(["copy", "change", "fresh", "fill"]), min_size=1, max_size=6)):
        start, end = sorted((draw(st.integers(0, len(old))), draw(st.integers(0, len(old)))))
        piece = bytearray(old[start:end])
        if kind == "change" and piece:
            for at in range(draw(st.integers(0, 99)), len(piece), draw(st.integers(9, 300))):
                piece[at] ^= 0x21
        new += (
            piece
            if kind in ("copy", "change")
            else bytes((start & 0xFF,)) * 5000
            if kind == "fill"
            else noise(end, 3000)
        )
    return old, bytes(new) or b"\0"


@settings(max_examples=40, deadline=None, suppress_health_check=FIXTURE_IS_NOT_CHANGED)
@given(images(), st.booleans(), st.sampled_from([1, 33, 4096, 1 << 20]))
@example(pair=(noise(1, 5000), b"\xee" * 5000), is_full=False, chunk=4096)  # what the slot already holds
def test_it_makes_what_the_python_applier_makes(
    core: Core, pair: tuple[bytes, bytes], is_full: bool, chunk: int
) -> None:
    old, new = pair
    segments = [] if is_full else bsdiff.segments(old, new)
    made = encode(
        None if is_full else old, new, Alignment(segments), PROFILE, Label(1, "1.0", ("hw",)), level=1
    ).written
    sample = Sample("", None if is_full else old, new, made.data, made.head_bytes)
    needed = core.ask(sample).arena_needed
    answer = core.ask(sample, chunk=chunk, arena_bytes=needed)
    assert (answer.error, answer.slot) == (0, new)
    assert python(sample, 4096) == (0, new)
    assert core.ask(sample, arena_bytes=needed - 1).error != 0


@st.composite
def changed_heads(draw: st.DrawFn) -> Sample:
    """A bundle whose head was changed and signed anew, so that only the rules of the format can refuse it."""
    sample = draw(st.sampled_from(BUNDLES))
    body = bytearray(sample.data[: sample.head_bytes - 32])
    for _ in range(draw(st.integers(1, 3))):
        # Mostly where the fields are; digests, which fill most of a head, say little.
        table = 16 + SECTION_ENTRY_BYTES * body[6]
        at = draw(
            st.one_of(
                st.integers(0, table + 9), st.integers(0, len(body) - 1), st.integers(len(body) - 40, len(body) - 1)
            )
        )
        body[min(at, len(body) - 1)] = draw(st.one_of(st.integers(0, 9), st.integers(0, 255)))
    head = bytes(body) + hashlib.sha256(body).digest()
    return Sample("", sample.old, sample.new, head + sample.blobs, len(head))


@settings(max_examples=400, deadline=None, suppress_health_check=FIXTURE_IS_NOT_CHANGED)
@given(changed_heads())
def test_a_changed_and_signed_head_gets_the_same_answer(core: Core, sample: Sample) -> None:
    answer = core.ask(sample)
    ids = sample.data[16 : 16 + SECTION_ENTRY_BYTES * sample.data[6] : SECTION_ENTRY_BYTES]
    has_more = answer.error in (FEATURE, CODER) or (answer.error == UNKNOWN_SECTION and Section.SPILLS in ids)
    if not has_more:  # of what other readers know
        assert (answer.fault, answer.slot) == python(sample, 4096)


@settings(max_examples=150, deadline=None, suppress_health_check=FIXTURE_IS_NOT_CHANGED)
@given(st.sampled_from(BUNDLES), st.data())
def test_a_changed_blob_that_is_signed_gets_the_same_answer(core: Core, sample: Sample, data: st.DataObject) -> None:
    """The first blob is changed and its hash in the head as well: only decoding and the block's hash are left to refuse it."""
    blob_bytes = sample.head.index[0].blob_bytes
    if blob_bytes == 0:
        return
    blob = bytearray(sample.blobs[:blob_bytes])
    for _ in range(data.draw(st.integers(1, 3))):
        blob[data.draw(st.one_of(st.integers(0, blob_bytes - 1), st.just(0)))] = data.draw(st.integers(0, 255))
    before = sample.data[: sample.head_bytes - 32]
    body = before.replace(hashlib.sha256(sample.blobs[:blob_bytes]).digest(), hashlib.sha256(blob).digest(), 1)
    head = body + hashlib.sha256(body).digest()
    changed = Sample("", sample.old, sample.new, head + blob + sample.blobs[blob_bytes:], len(head))
    answer = core.ask(changed)
    assert (answer.fault, answer.slot) == python(changed, 4096)
