"""The golden bundles and the specification: two readers that share no code agree, on good bundles and on damaged ones."""

import json
from dataclasses import replace

import pytest

from packager.vehicle.core.applier import Applier
from packager.vehicle.core.head import Head, SignedHead, read_head
from packager.vehicle.core.inplace import InPlaceSlot, OverwrittenImage
from packager.vehicle.core.manifest import Op
from packager.vehicle.core.segments import Segment
from packager.vehicle.errors import CorruptError, IncompatibleError
from packager.vehicle.identity import Digest
from packager.vehicle.profile import Coder
from tests import spec_reader
from tests.faulty_storage import MemoryFile
from tests.in_place_bundles import shifted_up, swapped
from tests.make_vectors import VECTORS, vector_files
from tests.sample_bundles import (
    ALL_CODERS,
    BLOCK,
    COPY,
    DELTA,
    PROFILE,
    Sample,
    delta_mixed,
    delta_one_block,
    full_one_block,
    make,
    noise,
    samples,
    sign,
)

LISTING = json.loads((VECTORS / "vectors.json").read_bytes())


def read(name: str) -> tuple[bytes, bytes | None, bytes]:
    old = VECTORS / f"{name}.old"
    return (
        (VECTORS / f"{name}.bundle").read_bytes(),
        old.read_bytes() if old.exists() else None,
        (VECTORS / f"{name}.new").read_bytes(),
    )


def apply(data: bytes, old: bytes | None, signed: SignedHead) -> bytes:
    head = read_head(data[: signed.length_bytes], signed, replace(PROFILE, scratch_bytes=1 << 20))
    if head.manifest.in_place:
        return overwrite(head, data, old or b"")
    slot = MemoryFile(head.manifest.new.length_bytes)
    old_image = None if old is None else MemoryFile(0, content=old)
    with Applier(head, old_image, slot) as applier:
        applier.feed(data[applier.next_offset :])
        applier.finish()
    return bytes(slot.content)


def overwrite(head: Head, data: bytes, old: bytes) -> bytes:
    new_bytes = head.manifest.new.length_bytes
    slot = MemoryFile(max(len(old), new_bytes), content=old)
    scratch = MemoryFile(head.manifest.scratch_bytes)
    place = InPlaceSlot(head, slot, scratch, None)
    with Applier(head, OverwrittenImage(head, slot, scratch), slot, destination=place) as applier:
        applier.feed(data[applier.next_offset :])
        applier.finish()
    return bytes(slot.content[:new_bytes])


@pytest.mark.parametrize("entry", LISTING, ids=lambda entry: entry["name"])
def test_both_readers_decode_the_golden_bundles(entry: dict[str, object]) -> None:
    data, old, new = read(str(entry["name"]))
    head_bytes, head_sha256 = int(str(entry["head_bytes"])), str(entry["head_sha256"])
    assert (old is None) == entry["full"]
    assert spec_reader.decode(data, old, head_bytes, bytes.fromhex(head_sha256)) == new
    assert apply(data, old, SignedHead(head_bytes, Digest.from_hex(head_sha256))) == new


def test_the_writer_makes_the_golden_bundles_again() -> None:
    files = vector_files()
    kept = {path.name for path in VECTORS.iterdir()} - {"README.md", ".gitattributes"}
    assert kept == set(files)
    for name, content in files.items():
        assert (VECTORS / name).read_bytes() == content, name


def test_the_golden_bundles_use_everything() -> None:
    heads = [sample.head for sample in samples()] + [swapped().head]
    assert heads[-1].manifest.in_place
    assert heads[-1].spills.spills
    assert {op for head in heads for op in head.manifest.ops} == set(Op) - {Op.PREDICTED}
    assert {coder for head in heads for coder in head.manifest.coders} == set(Coder) - {Coder.ADAPTIVE}
    mixed = delta_mixed().head
    assert {mixed.index[position].coder for position in range(len(mixed.index))} == set(ALL_CODERS) - {Coder.ADAPTIVE}
    assert {head.index.layout for head in heads} >= {0, 2, 4, 13, 14}


def both(data: bytes, old: bytes | None, head_bytes: int) -> tuple[str, str]:
    """Decode with both readers a bundle whose head is taken as signed; return what each says."""
    signed = sign(data[:head_bytes])
    answers = []
    for decode in (apply, lambda *given: spec_reader.decode(given[0], given[1], head_bytes, signed.digest.value)):
        try:
            answers.append(str(len(decode(data, old, signed))))
        except (CorruptError, spec_reader.SpecCorruptError):
            answers.append("corrupt")
        except (IncompatibleError, spec_reader.SpecIncompatibleError):
            answers.append("incompatible")
    return answers[0], answers[1]


@pytest.mark.parametrize("bit", [0x01, 0x80])
@pytest.mark.parametrize("sample", [full_one_block(), delta_one_block()], ids=lambda sample: sample.name)
def test_both_readers_say_the_same_of_every_head_with_a_changed_byte_even_if_signed(sample: Sample, bit: int) -> None:
    """Its own hash is made right again, so that the rules behind the hashes are what refuses."""
    for at in range(sample.head_bytes - 32):
        body = bytearray(sample.data[: sample.head_bytes - 32])
        body[at] ^= bit
        data = bytes(body) + Digest.of(body).value + sample.blobs
        ours, theirs = both(data, sample.old, sample.head_bytes)
        assert ours == theirs, f"byte {at}"
        assert not 12 <= at < 16 or ours.isdigit(), "optional features are ignored"


@pytest.mark.parametrize("bit", [0x01, 0x80])
def test_both_readers_say_the_same_of_in_place_heads(bit: int) -> None:
    for sample in (shifted_up(), swapped()):
        for at in range(sample.head_bytes - 32):
            body = bytearray(sample.data[: sample.head_bytes - 32])
            body[at] ^= bit
            data = bytes(body) + Digest.of(body).value + sample.data[sample.head_bytes :]
            ours, theirs = both(data, sample.old, sample.head_bytes)
            assert ours.isdigit() == theirs.isdigit(), f"byte {at}: {ours}, {theirs}"


def test_fixed_cost_of_one_block() -> None:
    """At most 250 bytes, all hashes and usual names included."""
    old = noise(20, BLOCK)
    new = old[:99] + b"!" + old[100:]
    sample = make(
        "tiny",
        old,
        new,
        [DELTA],
        [Segment(0, 0, BLOCK)],
        version="7.0.45",
        hardware_ids=("DME-8.4",),
        release_counter=45,
    )
    print(f"one changed byte: {len(sample.data)} bytes, head {sample.head_bytes}")
    assert len(sample.data) <= 250


def test_head_of_a_gibibyte_costs_at_most_a_thousandth() -> None:
    """1024 blocks of 1 MiB; what counts is the record, so blocks of 4 KiB stand for them."""
    old = noise(21, 1024 * BLOCK)
    sample = make("big", old, old, [COPY] * 1024, [Segment(0, 0, len(old))])
    print(f"1024 blocks: head {sample.head_bytes} bytes, {sample.head_bytes / 2**30:.6%} of 1 GiB")
    assert sample.head_bytes <= 2**30 // 1000
