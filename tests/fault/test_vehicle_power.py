"""Power cut at every write and sync of an update, then resumed: every cut ends in the new image.

And it asks for no byte of a block that the slot held whole when power came back, wherever that lies.
"""

import contextlib
import random
import time
from collections.abc import Callable

import pytest

from packager.vehicle.core.applier import Applier
from packager.vehicle.core.blocks import OldImage
from packager.vehicle.core.index import BlockRecord
from packager.vehicle.core.journal import JOURNAL_BYTES, MAX_FAILURES, Binding, Journal
from packager.vehicle.errors import CorruptError, ResourceError, StateError
from packager.vehicle.identity import Digest
from tests.faulty_storage import (
    CUTS,
    KEEP_ALL,
    LOSE_ALL,
    LOSSES,
    REORDERED,
    MemoryFile,
    Power,
    PowerCut,
    RecordProperty,
)
from tests.sample_bundles import BLOCK, Sample, delta_mixed, full_mixed

BINDING = Binding(Digest.of(b"bundle"), Digest.of(b"ecu"))
SYNC_BYTES = 2 * BLOCK
CHUNK_BYTES = 1000
MOST_SWEEPS = 20


class Machine:
    """A vehicle whose slot and journal share one power supply."""

    def __init__(self, sample: Sample) -> None:
        self.sample = sample
        self.head = sample.head
        self.slot = MemoryFile(len(sample.new))
        self.journal = MemoryFile(JOURNAL_BYTES)
        self.old: OldImage | None = None if sample.old is None else MemoryFile(0, content=sample.old)
        self.first_offset = 0
        self.requested_bytes = 0

    def update(self, power: Power, workers: int = 1) -> None:
        """Run an update to its end."""
        self.slot.power = self.journal.power = power
        journal = Journal(self.journal, BINDING)
        with Applier(
            self.head, self.old, self.slot, journal=journal, workers=workers, sync_bytes=SYNC_BYTES
        ) as applier:
            self.first_offset = applier.next_offset
            ranges = applier.missing_ranges(gap_bytes=0)
            self.requested_bytes = sum(end - start for start, end in ranges)
            for first, end in ranges:
                for start in range(first, end, CHUNK_BYTES):
                    applier.feed(self.sample.data[start : min(start + CHUNK_BYTES, end)], start)
            assert applier.finish().image == self.head.manifest.new
        assert self.slot.content == self.sample.new
        assert self.slot.synced == self.sample.new, "a verdict on what is not on the medium"

    def missing_bytes(self) -> int:
        """Return the length of the blobs of all blocks that the slot does not hold."""
        block_range = self.head.manifest.block_range
        lost = [r for r in self.records() if self.slot.content[slice(*block_range(r.block))] != self.new_block(r)]
        return sum(record.blob_bytes for record in lost)

    def has_gap(self) -> bool:
        """Tell whether a block that the slot holds lies behind one that it does not."""
        held = [
            self.slot.content[slice(*self.head.manifest.block_range(r.block))] == self.new_block(r)
            for r in self.records()
        ]
        return held != sorted(held, reverse=True)

    def records(self) -> list[BlockRecord]:
        return [self.head.index[position] for position in range(len(self.head.index))]

    def new_block(self, record: BlockRecord) -> bytes:
        return self.sample.new[slice(*self.head.manifest.block_range(record.block))]

    def synced_offset(self) -> int:
        """Return the byte of the bundle up to which everything lies safe in the slot."""
        for record in self.head.index:
            start, end = self.head.manifest.block_range(record.block)
            if self.slot.synced[start:end] != self.sample.new[start:end]:
                return self.head.length_bytes + record.blob_offset
        return self.head.bundle_bytes

    def journal_offset(self) -> int:
        """Return the byte of the bundle up to which the journal says that blocks are done."""
        position = Journal(self.journal, BINDING).entry.position
        records = self.head.index
        return self.head.length_bytes + (
            records[position].blob_offset if position < len(records) else records.blobs_bytes
        )

    def restart(self, loss: str, chance: random.Random) -> None:
        self.slot.restart(loss, chance)
        self.journal.restart(loss, chance)


def count_steps(sample: Sample) -> int:
    power = Power()
    Machine(sample).update(power)
    return power.steps


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("make", [full_mixed, delta_mixed])
def test_every_cut_ends_in_the_new_image(
    make: Callable[[], Sample], loss: str, record_property: RecordProperty
) -> None:
    sample = make()
    steps = count_steps(sample)
    for cut_at in range(steps):
        machine = Machine(sample)
        with pytest.raises(PowerCut):
            machine.update(Power(cut_at))
        safe = machine.synced_offset()
        machine.restart(loss, random.Random(cut_at))
        assert machine.journal_offset() <= machine.synced_offset(), "the journal promises what is not on the medium"
        missing_bytes = machine.missing_bytes()
        machine.update(Power())
        assert machine.first_offset >= safe
        assert machine.requested_bytes == missing_bytes, "downloaded again what was on the medium"
    record_property(CUTS, steps)
    print(f"{sample.name}, {loss}: {steps} cut points")


def test_every_second_cut_during_the_resume_too(record_property: RecordProperty) -> None:
    sample = full_mixed()
    steps = count_steps(sample)
    tried = 0
    for first in range(steps):
        for second in range(steps):
            machine = Machine(sample)
            chance = random.Random(first * steps + second)
            with pytest.raises(PowerCut):
                machine.update(Power(first))
            machine.restart(REORDERED, chance)
            try:
                machine.update(Power(second))
            except PowerCut:
                machine.restart(REORDERED, chance)
                machine.update(Power())
            tried += 1
    record_property(CUTS, tried)
    print(f"{sample.name}: {tried} pairs of cut points")


@pytest.mark.parametrize("workers", [2, 4])
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("make", [full_mixed, delta_mixed])
def test_cuts_with_worker_threads(
    make: Callable[[], Sample], loss: str, workers: int, record_property: RecordProperty
) -> None:
    """Every third block is slow to write, so that others are finished behind it; until that was met, all is tried again."""
    sample = make()
    steps = count_steps(sample)
    tried = gaps = 0
    for _ in range(MOST_SWEEPS):
        for cut_at in range(steps):
            machine = Machine(sample)
            machine.slot.on_write = lambda offset: None if offset // BLOCK % 3 else time.sleep(0.001)
            with contextlib.suppress(PowerCut):  # threads make the number of steps vary a little
                machine.update(Power(cut_at), workers=workers)
            machine.slot.on_write = None
            machine.restart(loss, random.Random(cut_at))
            assert machine.journal_offset() <= machine.synced_offset(), "the journal promises what is not on the medium"
            missing_bytes = machine.missing_bytes()
            gaps += machine.has_gap()
            machine.update(Power(), workers=workers)
            assert machine.requested_bytes == missing_bytes, "downloaded again what was on the medium"
            tried += 1
        if gaps or loss == LOSE_ALL:
            break
    record_property(CUTS, tried)
    print(f"{sample.name}, {workers} workers, {loss}: {tried} cut points, {gaps} with blocks behind a gap")
    assert gaps or loss == LOSE_ALL


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_any_set_of_blocks_that_survived_is_not_asked_for_again(workers: int) -> None:
    sample = full_mixed()
    for survivors in range(1 << len(sample.head.index)):
        machine = Machine(sample)
        for position in range(len(sample.head.index)):
            at = slice(*sample.head.manifest.block_range(position))
            machine.slot.content[at] = bytes(byte ^ (not survivors >> position & 1) for byte in sample.new[at])
        missing_bytes = machine.missing_bytes()
        machine.update(Power(), workers)
        assert machine.requested_bytes == missing_bytes
    print(f"{sample.name}, {workers} workers: {1 << len(sample.head.index)} sets of surviving blocks")


@pytest.mark.parametrize("reason", ["no space left on device", "input/output error"])
def test_a_failing_write_or_sync_is_a_resource_error_and_resumable(reason: str) -> None:
    sample = delta_mixed()
    steps = count_steps(sample)
    after_verdict = 2  # write and sync of the last journal entry, which only takes a count back
    for fail_at in range(steps):
        machine = Machine(sample)
        power = Power(fail_at=fail_at, reason=reason)
        if fail_at < steps - after_verdict:
            with pytest.raises(ResourceError, match=reason):
                machine.update(power)
        else:
            machine.update(power)
        machine.update(Power())


def test_a_failed_applier_stays_failed() -> None:
    sample = full_mixed()
    slot = MemoryFile(len(sample.new), Power(fail_at=0))
    applier = Applier(sample.head, None, slot)
    with pytest.raises(ResourceError):
        applier.feed(sample.blobs)
    for act in (lambda: applier.feed(b""), applier.finish):
        with pytest.raises(StateError, match="failed"):
            act()


@pytest.mark.parametrize("block", range(10))
def test_resume_after_a_failure_at_every_block_with_unsynced_writes_lost(block: int) -> None:
    sample = delta_mixed()
    machine = Machine(sample)
    record = machine.head.index[block]
    end = machine.head.length_bytes + record.blob_offset
    journal = Journal(machine.journal, BINDING)
    applier = Applier(machine.head, machine.old, machine.slot, journal=journal, sync_bytes=SYNC_BYTES)
    applier.feed(sample.data[applier.next_offset : end])
    safe = machine.synced_offset()
    machine.restart(LOSE_ALL, random.Random(0))
    machine.update(Power())
    assert machine.first_offset == safe


def test_ten_failures_of_one_block_then_stop_and_progress_starts_the_count_anew() -> None:
    sample = full_mixed()
    machine = Machine(sample)
    wrong = bytearray(sample.data)
    wrong[machine.head.length_bytes + machine.head.index[2].blob_offset] ^= 1
    machine.sample = Sample("", None, sample.new, bytes(wrong), sample.head_bytes)
    for _ in range(MAX_FAILURES + 1):  # the first start came as far as block 2, so it does not count against that block
        with pytest.raises(Exception, match="not the signed one"):
            machine.update(Power())
    with pytest.raises(ResourceError, match="10 starts failed"):
        machine.update(Power())
    machine.slot.content[2 * BLOCK : 3 * BLOCK] = sample.new[2 * BLOCK : 3 * BLOCK]  # block 2 got there by another way
    machine.sample = sample
    machine.update(Power())


def test_ends_in_order_never_count_as_failures() -> None:
    machine = Machine(full_mixed())
    for _ in range(MAX_FAILURES + 2):
        with Applier(machine.head, machine.old, machine.slot, journal=Journal(machine.journal, BINDING)) as applier:
            applier.feed(machine.sample.data[applier.next_offset : applier.next_offset + 10])
    for _ in range(MAX_FAILURES + 2):
        machine.update(Power())


def test_the_journal_may_say_more_than_the_slot_holds() -> None:
    machine = Machine(full_mixed())
    machine.update(Power())
    machine.slot.content[BLOCK + 5] ^= 1  # a worn sector
    machine.update(Power())
    assert machine.first_offset == machine.head.length_bytes + machine.head.index[1].blob_offset


@pytest.mark.parametrize("slots", [(0,), (1,), (0, 1)])
def test_lost_journal_slots_cost_no_download(slots: tuple[int, ...]) -> None:
    sample = delta_mixed()
    machine = Machine(sample)
    with pytest.raises(PowerCut):
        machine.update(Power(count_steps(sample) // 2))
    safe = machine.synced_offset()
    machine.restart(KEEP_ALL, random.Random(0))
    for slot in slots:
        at = slot * JOURNAL_BYTES // 2
        machine.journal.content[at : at + 64] = b"\xff" * 64
    machine.update(Power())
    assert machine.first_offset >= safe


def test_cuts_after_a_failure_that_left_unsynced_blocks() -> None:
    sample = full_mixed()
    wrong = bytearray(sample.data)
    wrong[sample.head.length_bytes + sample.head.index[3].blob_offset] ^= 1
    for cut_at in range(count_steps(sample)):
        machine = Machine(sample)
        machine.sample = Sample("", None, sample.new, bytes(wrong), sample.head_bytes)
        with pytest.raises(CorruptError):
            machine.update(Power())
        machine.sample = sample
        try:
            machine.update(Power(cut_at))
        except PowerCut:
            machine.restart(LOSE_ALL, random.Random(cut_at))
        assert machine.journal_offset() <= machine.synced_offset()
        machine.update(Power())
