"""Power cut at every write and sync of an in-place update: each ends in the new image; before the first overwrite the old one is whole."""

import random
from collections.abc import Callable

import pytest

from packager.vehicle.core.applier import Applier
from packager.vehicle.core.index import BlockRecord
from packager.vehicle.core.inplace import InPlaceSlot, OverwrittenImage
from packager.vehicle.core.journal import JOURNAL_BYTES, MAX_FAILURES, Binding, Journal
from packager.vehicle.errors import CorruptError, IncompatibleError, ResourceError
from packager.vehicle.identity import Digest
from tests.faulty_storage import (
    CUTS,
    KEEP_ALL,
    LOSE_ALL,
    LOSSES,
    REORDERED,
    TORN,
    MemoryFile,
    Power,
    PowerCut,
    RecordProperty,
)
from tests.in_place_bundles import (
    SAMPLES,
    InPlaceSample,
    mostly_unchanged,
    one_block,
    shifted_down,
    shifted_up,
    swapped,
)
from tests.sample_bundles import BLOCK

BINDING = Binding(Digest.of(b"bundle"), Digest.of(b"ecu"))
CHUNK_BYTES = 1000


class Machine:
    """An ECU whose slot, scratch and journal share one power supply."""

    def __init__(self, sample: InPlaceSample) -> None:
        self.sample = sample
        self.head = sample.head
        self.slot = MemoryFile(max(len(sample.old), len(sample.new)), content=sample.old)
        self.scratch = MemoryFile(self.head.manifest.scratch_bytes)
        self.journal = MemoryFile(JOURNAL_BYTES)
        self.is_marked = False
        self.requested_bytes = 0

    @property
    def files(self) -> tuple[MemoryFile, MemoryFile, MemoryFile]:
        return self.slot, self.scratch, self.journal

    def update(self, power: Power) -> None:
        """Run an update to its end."""
        for file in self.files:
            file.power = power

        def mark() -> None:
            power.step()
            self.is_marked = True

        place = InPlaceSlot(self.head, self.slot, self.scratch, Journal(self.journal, BINDING), mark)
        old = OverwrittenImage(self.head, self.slot, self.scratch)
        with Applier(self.head, old, self.slot, destination=place) as applier:
            ranges = applier.missing_ranges(gap_bytes=0)
            self.requested_bytes = sum(end - start for start, end in ranges)
            for first, end in ranges:
                for start in range(first, end, CHUNK_BYTES):
                    applier.feed(self.sample.data[start : min(start + CHUNK_BYTES, end)], start)
            assert applier.finish().image == self.head.manifest.new
        self.require_new()

    def missing_bytes(self) -> int:
        """Return the length of the blobs of all blocks that the slot does not hold."""
        records = [self.head.index[position] for position in range(len(self.head.index))]
        places = [slice(*self.head.manifest.block_range(record.block)) for record in records]
        return sum(
            record.blob_bytes
            for record, at in zip(records, places, strict=True)
            if self.slot.content[at] != self.sample.new[at]
        )

    def repair(self) -> list[int]:
        """Run an update that may get blocks in another way; return which."""
        repaired: list[int] = []

        def another_way(record: BlockRecord) -> memoryview:
            repaired.append(record.block)
            start, end = self.head.manifest.block_range(record.block)
            return memoryview(self.sample.new)[start:end]

        place = InPlaceSlot(self.head, self.slot, self.scratch, Journal(self.journal, BINDING))
        old = OverwrittenImage(self.head, self.slot, self.scratch)
        with Applier(self.head, old, self.slot, destination=place, repair=another_way) as applier:
            applier.feed(self.sample.data[applier.next_offset :])
            applier.finish()
        self.require_new()
        return repaired

    def require_new(self) -> None:
        new = self.sample.new
        assert self.slot.content[: len(new)] == new
        assert self.slot.synced[: len(new)] == new, "a verdict on what is not on the medium"

    def cut(self, cut_at: int, loss: str, chance: random.Random) -> bool:
        """Cut the power of an update at a step and come back. Returns whether it was cut before its end."""
        try:
            self.update(Power(cut_at))
        except PowerCut:
            for file in self.files:
                file.restart(loss, chance)
            if not self.is_marked:
                old = self.sample.old
                assert self.slot.content == old.ljust(len(self.slot.content), b"\0"), "overwritten without a mark"
            return True
        return False


def count_steps(sample: InPlaceSample) -> int:
    power = Power()
    Machine(sample).update(power)
    return power.steps


@pytest.mark.parametrize("make", SAMPLES)
@pytest.mark.parametrize("loss", LOSSES)
def test_every_cut_ends_in_the_new_image(
    make: Callable[[], InPlaceSample], loss: str, record_property: RecordProperty
) -> None:
    sample = make()
    steps = count_steps(sample)
    for cut_at in range(steps):
        machine = Machine(sample)
        assert machine.cut(cut_at, loss, random.Random(cut_at))
        missing_bytes = machine.missing_bytes()
        machine.update(Power())
        assert machine.requested_bytes <= missing_bytes, "downloaded again what was on the medium"
    record_property(CUTS, steps)
    print(f"in place, {sample.name}, {loss}: {steps} cut points")


@pytest.mark.parametrize("loss", LOSSES)
def test_every_cut_with_the_journal_lost(loss: str, record_property: RecordProperty) -> None:
    tried = 0
    for make in SAMPLES:
        sample = make()
        for cut_at in range(count_steps(sample)):
            for lost in ((0,), (1,), (0, 1)):
                machine = Machine(sample)
                machine.cut(cut_at, loss, random.Random(cut_at))
                for slot in lost:
                    at = slot * JOURNAL_BYTES // 2
                    machine.journal.content[at : at + 200] = b"\xff" * 200
                machine.update(Power())
                tried += 1
    record_property(CUTS, tried)
    print(f"in place, journal slots lost, {loss}: {tried} cut points")


def _two_cuts(sample: InPlaceSample, step: int, loss: str) -> int:
    steps = count_steps(sample)
    tried = 0
    for first in range(0, steps, step):
        for second in range(0, steps, step):
            machine = Machine(sample)
            chance = random.Random(first * steps + second)
            machine.cut(first, loss, chance)
            machine.cut(second, loss, chance)
            machine.update(Power())
            tried += 1
    return tried


@pytest.mark.parametrize("make", SAMPLES)
def test_every_cut_with_the_scratch_lost(make: Callable[[], InPlaceSample], record_property: RecordProperty) -> None:
    """What lay there is gone: blocks that need it are refused, never made from other bytes, and can be had in another way."""
    sample = make()
    steps = count_steps(sample)
    refused = 0
    for cut_at in range(steps):
        machine = Machine(sample)
        assert machine.cut(cut_at, TORN, random.Random(cut_at))
        machine.scratch = MemoryFile(sample.head.manifest.scratch_bytes)
        try:
            machine.update(Power())
        except IncompatibleError:
            refused += 1
            assert machine.is_marked
            assert machine.repair()
    assert refused < steps
    record_property(CUTS, steps)
    print(
        f"in place, {sample.name}, scratch lost: {steps} cut points, after {refused} of them a block took another way"
    )


def test_a_second_cut_during_the_resume(record_property: RecordProperty) -> None:
    for make in (swapped, shifted_up):
        tried = _two_cuts(make(), 7, REORDERED)
        record_property(CUTS, tried)
        print(f"in place, {make().name}: {tried} pairs of cut points")


@pytest.mark.long
@pytest.mark.parametrize("make", SAMPLES)
@pytest.mark.parametrize("loss", [LOSE_ALL, TORN, REORDERED])
def test_every_second_cut_during_the_resume(
    make: Callable[[], InPlaceSample], loss: str, record_property: RecordProperty
) -> None:
    tried = _two_cuts(make(), 1, loss)
    record_property(CUTS, tried)
    print(f"in place, {make().name}, {loss}: {tried} pairs of cut points")


def test_many_cuts_in_a_row_make_progress_or_stop_after_ten_at_one_block() -> None:
    sample = swapped()
    machine = Machine(sample)
    cuts = 0
    while machine.cut(9, KEEP_ALL, random.Random(cuts)):
        cuts += 1
        assert cuts < 50
    print(f"in place: done after {cuts} cuts in a row")


@pytest.mark.parametrize("reason", ["no space left on device", "input/output error"])
def test_a_failing_write_or_sync_is_resumable(reason: str) -> None:
    sample = swapped()
    steps = count_steps(sample)
    for fail_at in range(steps):
        machine = Machine(sample)
        power = Power(fail_at=fail_at, reason=reason)
        if fail_at < steps - 2:
            with pytest.raises(ResourceError, match=reason):
                machine.update(power)
        else:
            machine.update(power)  # the last journal entry only takes a count back
        machine.update(Power())


def test_ten_failures_of_one_block_then_stop() -> None:
    sample = shifted_up()
    machine = Machine(sample)
    wrong = bytearray(sample.data)
    wrong[sample.head_bytes + sample.head.index[2].blob_offset] ^= 1
    machine.sample = InPlaceSample("", sample.old, sample.new, bytes(wrong), sample.head_bytes)
    for _ in range(MAX_FAILURES + 1):
        with pytest.raises(CorruptError, match="not the signed one"):
            machine.update(Power())
    with pytest.raises(ResourceError, match="10 starts failed"):
        machine.update(Power())


def test_a_bad_blob_changes_no_byte_and_marks_nothing() -> None:
    sample = one_block()
    machine = Machine(sample)
    wrong = bytearray(sample.data)
    wrong[sample.head_bytes] ^= 1
    machine.sample = InPlaceSample("", sample.old, sample.new, bytes(wrong), sample.head_bytes)
    with pytest.raises(CorruptError):
        machine.update(Power())
    assert not machine.is_marked
    assert machine.slot.writes == 0


@pytest.mark.parametrize("make", [shifted_up, shifted_down, swapped, one_block])
def test_another_old_image_is_refused_before_the_first_overwrite(make: Callable[[], InPlaceSample]) -> None:
    machine = Machine(make())
    for at in range(0, len(machine.sample.old), 100):
        machine.slot.content[at] ^= 1
    before = bytes(machine.slot.content)
    with pytest.raises(IncompatibleError, match="another one or damaged"):
        machine.update(Power())
    assert machine.slot.content == before
    assert not machine.is_marked


def test_a_block_that_lies_there_is_not_written_again() -> None:
    machine = Machine(mostly_unchanged())
    machine.update(Power())
    assert machine.slot.writes == 3  # the changed one, the fill, the new end
    writes = machine.slot.writes
    machine.update(Power())
    assert machine.slot.writes == writes


def test_a_worn_block_after_the_intent_is_not_made_from_bytes_that_are_gone() -> None:
    """Blocks after it that are there count as done, even though their old bytes were overwritten."""
    sample = shifted_up()
    machine = Machine(sample)
    with pytest.raises(PowerCut):
        machine.update(Power(count_steps(sample) * 2 // 3))
    for file in machine.files:
        file.restart(KEEP_ALL, random.Random(0))
    last = machine.head.index[0].block
    machine.slot.content[last * BLOCK + 3] ^= 1
    assert machine.repair() == [last]


def test_before_a_block_is_overwritten_it_lies_in_the_scratch_and_the_journal_says_so() -> None:
    """Both on the medium: what was put aside is not copied again from a slot that a cut left between two images."""
    machine = Machine(swapped())
    blocks = [machine.head.index[position].block for position in range(len(machine.head.index))]
    seen: list[int] = []

    def look(offset: int) -> None:
        entry = Journal(MemoryFile(JOURNAL_BYTES, content=bytes(machine.journal.synced)), BINDING).entry
        assert entry.intent is not None
        assert blocks[entry.intent] == offset // BLOCK
        new = machine.sample.new[offset : offset + BLOCK]
        assert machine.scratch.synced[: len(new)] == new
        seen.append(entry.intent)

    machine.slot.on_write = look
    machine.update(Power())
    assert seen == list(range(len(blocks)))


def test_a_damaged_spill_costs_the_blocks_that_read_it_and_no_other() -> None:
    """What was put aside is never copied again once the slot has changed: the copy would be of other bytes."""
    sample = swapped()
    machine = Machine(sample)
    with pytest.raises(PowerCut):
        machine.update(Power(count_steps(sample) // 4))
    for file in machine.files:
        file.restart(KEEP_ALL, random.Random(0))
    assert len(machine.head.spills) == 1
    machine.scratch.content[-5] ^= 1
    assert len(machine.repair()) == 1
