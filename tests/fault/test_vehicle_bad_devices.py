"""Slots and journals that are not what the caller thinks: one file for both images, a journal from the future, a failing medium."""

import errno
import hashlib
import os
from pathlib import Path
from typing import Any

import pytest

from packager.vehicle.core.applier import Applier
from packager.vehicle.core.batch import Task, apply_many
from packager.vehicle.core.index import BlockRecord
from packager.vehicle.core.inplace import InPlaceSlot, OverwrittenImage
from packager.vehicle.core.journal import JOURNAL_BYTES, MAX_SEQUENCE, SLOT_BYTES, Binding, Journal
from packager.vehicle.errors import CorruptError, IncompatibleError, ResourceError, StateError
from packager.vehicle.identity import Digest
from packager.vehicle.storage import FileOnDisk
from tests.faulty_storage import MemoryFile
from tests.in_place_bundles import swapped
from tests.sample_bundles import BLOCK, PROFILE, Sample, delta_mixed, delta_one_block

ECU = Digest.of(b"ecu")
LARGEST = (1 << 64) - 1


def binding(sample: Any) -> Binding:
    return Binding(sample.head.digest, ECU)


def complete(applier: Applier, sample: Sample) -> None:
    applier.feed(sample.data[applier.next_offset :])
    applier.finish()


def written(path: Path, data: bytes | None) -> Path:
    assert data is not None
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("link", [Path.symlink_to, Path.hardlink_to, None])
def test_a_slot_that_is_the_old_image_is_refused_before_a_byte_is_written(tmp_path: Path, link: Any) -> None:
    sample = delta_mixed()
    assert sample.old is not None
    old_path = written(tmp_path / "old", sample.old)
    slot_path = tmp_path / "slot" if link else old_path
    if link:
        link(slot_path, old_path)
    with (
        FileOnDisk.open(old_path) as old,
        FileOnDisk.open(slot_path, len(sample.old)) as slot,
        pytest.raises(StateError, match="are one file, expected two"),
    ):
        Applier(sample.head, old, slot)
    (outcome,) = apply_many(
        [Task("one", written(tmp_path / "b", sample.data), sample.signed, PROFILE, old_path, slot_path)]
    )
    assert isinstance(outcome.error, StateError)
    assert old_path.read_bytes() == sample.old
    with (
        FileOnDisk.open(old_path) as old,
        FileOnDisk.open(tmp_path / "other", len(sample.new)) as slot,
        Applier(sample.head, old, slot) as applier,
    ):
        applier.feed(sample.data[applier.next_offset :])
        applier.finish()


def entry(binding: Binding, sequence: int, position: int, intent: int = 0xFFFFFFFF, failures: int = 0) -> bytes:
    """Write a journal slot from the definition, with a right checksum."""
    body = b"\x89OTJ" + sequence.to_bytes(8, "little")
    body += binding.bundle.value + binding.ecu.value + binding.plan.value
    body += position.to_bytes(4, "little") + intent.to_bytes(4, "little") + failures.to_bytes(1, "little")
    return (body + hashlib.sha256(body).digest()).ljust(SLOT_BYTES, b"\0")


@pytest.mark.parametrize("sequence", [7, MAX_SEQUENCE - 1, MAX_SEQUENCE, LARGEST])
@pytest.mark.parametrize("position", [10, 11, 0xFFFFFFFE])
def test_a_journal_from_the_future_misleads_no_spare_slot(sequence: int, position: int) -> None:
    sample = delta_mixed()
    content = entry(binding(sample), sequence, position)
    journal = Journal(MemoryFile(JOURNAL_BYTES, content=content), binding(sample))
    assert journal.entry.position == (position if sequence < MAX_SEQUENCE else 0)
    assert sample.old is not None
    slot = MemoryFile(len(sample.new))
    with Applier(sample.head, MemoryFile(len(sample.old), content=sample.old), slot, journal=journal) as applier:
        applier.feed(sample.data[applier.next_offset :])
        applier.finish()
    assert slot.content == sample.new


@pytest.mark.parametrize(("position", "intent"), [(1, 0xFFFFFFFF), (0xFFFFFFFE, 0xFFFFFFFF), (0, 0xFFFFFFFE), (5, 3)])
def test_a_journal_from_the_future_spoils_nothing_in_place(position: int, intent: int) -> None:
    """It may keep the old bytes from being put aside; then the update stops by hash at a block that needs them."""
    sample = swapped()
    journal = Journal(MemoryFile(JOURNAL_BYTES, content=entry(binding(sample), 9, position, intent)), binding(sample))
    slot, scratch = MemoryFile(len(sample.old), content=sample.old), MemoryFile(sample.head.manifest.scratch_bytes)
    place = InPlaceSlot(sample.head, slot, scratch, journal)
    old = OverwrittenImage(sample.head, slot, scratch)
    with Applier(sample.head, old, slot, destination=place) as applier, pytest.raises(IncompatibleError):  # noqa: PT012
        applier.feed(sample.data[applier.next_offset :])
        applier.finish()
    for block in range(len(sample.head.index)):
        start, end = sample.head.manifest.block_range(block)
        assert slot.content[start:end] in (sample.old[start:end], sample.new[start:end])


def test_a_newer_journals_layout_counts_as_none() -> None:
    sample = delta_one_block()
    content = b"\x89OTK" + entry(binding(sample), 5, 1)[4:]
    assert Journal(MemoryFile(JOURNAL_BYTES, content=content), binding(sample)).entry.position == 0


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("code", [errno.EIO, errno.ENXIO])
def test_a_read_error_in_the_middle_of_the_old_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, workers: int
) -> None:
    """The medium fails from the third read on: the slot is never called complete, and it goes on later."""
    sample = delta_mixed()
    old_path = written(tmp_path / "old", sample.old)
    whole = os.preadv
    reads: list[int] = []

    with FileOnDisk.open(old_path) as old, FileOnDisk.open(tmp_path / "slot", len(sample.new)) as slot:

        def failing(descriptor: int, buffers: list[memoryview], offset: int) -> int:
            if descriptor == old._descriptor:
                reads.append(offset)
                if len(reads) > 2:
                    raise OSError(code, os.strerror(code))
            return whole(descriptor, buffers, offset)

        monkeypatch.setattr(os, "preadv", failing)
        with (
            Applier(sample.head, old, slot, workers=workers) as applier,
            pytest.raises(ResourceError, match="old: can't read"),
        ):
            complete(applier, sample)
        monkeypatch.setattr(os, "preadv", whole)
        with Applier(sample.head, old, slot, workers=workers) as applier:
            assert (
                applier.progress.blocks_done >= 1 or workers > 1
            )  # of several at work, the first may be the one that fails
            complete(applier, sample)
    assert (tmp_path / "slot").read_bytes() == sample.new


@pytest.mark.parametrize("block", [1, 3, 7])
@pytest.mark.parametrize("in_middle", [False, True])
def test_an_old_image_that_changes_while_a_block_is_made(block: int, in_middle: bool) -> None:
    """TOCTOU: each old byte is read once, into memory; what was hashed is what is decoded."""
    sample = delta_mixed()
    assert sample.old is not None
    record = sample.head.index[block]
    reads: dict[int, int] = {}

    class Changing(MemoryFile):
        def read_into(self, offset: int, buffer: memoryview) -> None:
            super().read_into(offset, buffer)
            for at in range(offset, offset + len(buffer)):
                reads[at] = reads.get(at, 0) + 1
            self.content[offset : offset + len(buffer)] = bytes(len(buffer))  # gone as soon as it was read

    old = Changing(len(sample.old), content=sample.old)
    slot = MemoryFile(len(sample.new), content=_without(sample, record))
    try:
        with Applier(sample.head, old, slot) as applier:
            applier.feed(sample.data[applier.next_offset :])
            applier.finish()
    except IncompatibleError:
        assert max(reads.values()) > 1, "a byte was read again, and its change was found"
    else:
        assert slot.content == sample.new


def _without(sample: Sample, record: BlockRecord) -> bytes:
    """Return a slot that lacks one block alone."""
    start, end = sample.head.manifest.block_range(record.block)
    return sample.new[:start] + bytes(end - start) + sample.new[end:]


@pytest.mark.parametrize("change", ["swapped", "twice", "missing"])
def test_blobs_swapped_repeated_or_missing(change: str) -> None:
    sample = delta_mixed()
    assert sample.old is not None
    index = sample.head.index
    first, second = (sample.blobs[index[n].blob_offset : index[n].blob_end] for n in (4, 5))
    end = index[5].blob_end
    middle = {"swapped": second + first, "twice": first + first + second, "missing": second}[change]
    blobs = sample.blobs[: index[4].blob_offset] + middle + sample.blobs[end:]
    slot = MemoryFile(len(sample.new))
    with (
        Applier(sample.head, MemoryFile(len(sample.old), content=sample.old), slot) as applier,
        pytest.raises(CorruptError, match=r"block [45]: its blob"),
    ):
        applier.feed(blobs[applier.next_offset - sample.head_bytes :])
    assert not any(slot.content[5 * BLOCK :])


def test_two_appliers_at_one_slot_end_in_the_new_image_or_an_error() -> None:
    """Nothing but the vehicle home's lock keeps two apart; without it, both write the same signed blocks."""
    sample = delta_mixed()
    assert sample.old is not None
    slot = MemoryFile(len(sample.new))
    with (
        Applier(sample.head, MemoryFile(len(sample.old), content=sample.old), slot) as one,
        Applier(sample.head, MemoryFile(len(sample.old), content=sample.old), slot) as other,
    ):
        for at in range(sample.head_bytes, len(sample.data), 50):
            for applier in (one, other):
                applier.feed(sample.data[at : at + 50])
        assert one.finish() == other.finish()
    assert slot.content == sample.new
