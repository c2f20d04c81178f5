"""Laws of the format: what the packager encodes, both readers decode; what is damaged, both refuse."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from packager.bundle.encoder import Label, encode
from packager.diff.alignment import normalise
from packager.diff.engine import Alignment
from packager.vehicle.core.applier import Applier
from packager.vehicle.core.head import SignedHead, read_head
from packager.vehicle.core.segments import Segment
from packager.vehicle.errors import CorruptError, IncompatibleError
from packager.vehicle.identity import Digest
from packager.vehicle.profile import KIB, Coder, UpdateProfile
from tests import spec_reader
from tests.faulty_storage import MemoryFile
from tests.sample_bundles import (
    ALL_CODERS,
    LZMA,
    PROFILE,
    Sample,
    delta_mixed,
    delta_one_block,
    make,
    sign,
    text,
    window_one_block,
)


def apply(
    data: bytes, old: bytes | None, signed: SignedHead, profile: UpdateProfile = PROFILE, workers: int = 1
) -> bytes:
    head = read_head(data[: signed.length_bytes], signed, profile)
    slot = MemoryFile(head.manifest.new.length_bytes)
    with Applier(head, None if old is None else MemoryFile(0, content=old), slot, workers=workers) as applier:
        applier.feed(data[applier.next_offset :])
        applier.finish()
    return bytes(slot.content)


def answer(decode: object, *given_arguments: object) -> str:
    try:
        return Digest.of(decode(*given_arguments)).hex  # type: ignore[operator]
    except (CorruptError, spec_reader.SpecCorruptError):
        return "corrupt"
    except (IncompatibleError, spec_reader.SpecIncompatibleError):
        return "incompatible"


def both(data: bytes, old: bytes | None, head_bytes: int) -> tuple[str, str]:
    signed = sign(data[:head_bytes])
    return (
        answer(apply, data, old, signed),
        answer(spec_reader.decode, data, old, head_bytes, signed.digest.value),
    )


CODERS = st.sampled_from([frozenset({Coder.RAW}), frozenset({Coder.RAW, Coder.ZSTD}), ALL_CODERS])


@given(
    seed=st.integers(0, 2**32),
    block_kib=st.sampled_from([None, 4, 8, 64]),
    coders=CODERS,
    old_bytes=st.integers(0, 40_000),
    workers=st.sampled_from([1, 2]),
)
@settings(deadline=None, max_examples=60)
def test_what_is_encoded_is_decoded(
    seed: int, block_kib: int | None, coders: frozenset[Coder], old_bytes: int, workers: int
) -> None:
    chance = random.Random(seed)
    old = text(seed, old_bytes) if old_bytes else None
    new = bytearray()
    segments = []
    for _ in range(chance.randint(1, 12)):
        if old is not None and chance.random() < 0.7:
            first = chance.randrange(len(old))
            length = min(chance.randint(1, 9000), len(old) - first)
            segments.append(Segment(len(new), first, length))
            new += old[first : first + length]
            for _ in range(chance.randint(0, 20)):
                new[-chance.randint(1, length)] ^= chance.randint(1, 255)
        else:
            new += chance.choice([chance.randbytes(300), bytes(5000), b"\xff" * 4096, text(seed + 1, 3000)])
    profile = UpdateProfile(coders=coders, block_bytes=None if block_kib is None else block_kib * KIB)
    found = normalise(segments, old, bytes(new)) if old is not None else []
    written = encode(old, bytes(new), Alignment(found), profile, Label(), 3).written
    signed = sign(written.data[: written.head_bytes])
    assert apply(written.data, old, signed, profile, workers) == new
    assert spec_reader.decode(written.data, old, signed.length_bytes, signed.digest.value) == new


@given(at=st.integers(0, delta_mixed().head_bytes - 33), value=st.integers(0, 255))
@settings(deadline=None, max_examples=150)
def test_a_changed_head_is_the_same_to_both_readers_even_if_signed(at: int, value: int) -> None:
    sample = delta_mixed()
    body = bytearray(sample.data[: sample.head_bytes - 32])
    body[at] = value
    data = bytes(body) + Digest.of(body).value + sample.blobs
    ours, theirs = both(data, sample.old, sample.head_bytes)
    assert ours == theirs


def lzma_one_block() -> Sample:
    return make("lzma-one-block", None, text(60, 2000), [LZMA])


@pytest.mark.parametrize(
    "sample", [delta_one_block(), window_one_block(), lzma_one_block()], ids=lambda sample: sample.name
)
def test_a_changed_blob_is_corrupt_to_both_readers_even_if_signed(sample: Sample) -> None:
    """With its hash made right: what is behind the hashes holds too, on its own."""
    good = Digest.of(sample.blobs).value
    at_hash = sample.data.index(good)
    for at in range(len(sample.blobs)):
        for bit in (0x01, 0x20, 0x80):
            blob = bytearray(sample.blobs)
            blob[at] ^= bit
            body = bytearray(sample.data[: sample.head_bytes - 32])
            body[at_hash : at_hash + 32] = Digest.of(blob).value
            data = bytes(body) + Digest.of(body).value + bytes(blob)
            ours, theirs = both(data, sample.old, sample.head_bytes)
            assert ours == theirs, f"byte {at}"
            assert ours in ("corrupt", Digest.of(sample.new).hex)
