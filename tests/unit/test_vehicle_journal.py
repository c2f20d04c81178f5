"""The journal: two slots, of which one is always intact."""

from dataclasses import replace

import pytest

from packager.vehicle.core.journal import JOURNAL_BYTES, MAX_FAILURES, SLOT_BYTES, Binding, Journal, JournalEntry
from packager.vehicle.errors import ResourceError
from packager.vehicle.identity import Digest
from tests.faulty_storage import MemoryFile, Power

BINDING = Binding(Digest.of(b"bundle"), Digest.of(b"ecu"), Digest.of(b"plan"))
EMPTY = JournalEntry(0, 0, None, 0)


def opened(file: MemoryFile) -> JournalEntry:
    return Journal(file, BINDING).entry


def filled(positions: int = 5) -> MemoryFile:
    file = MemoryFile(JOURNAL_BYTES)
    journal = Journal(file, BINDING)
    for position in range(1, positions + 1):
        journal.finished(position)
    return file


def test_an_empty_file_is_an_empty_journal() -> None:
    assert opened(MemoryFile(JOURNAL_BYTES)) == EMPTY
    assert opened(MemoryFile(JOURNAL_BYTES, content=b"\xff" * JOURNAL_BYTES)) == EMPTY


def test_the_newest_entry_comes_back() -> None:
    file = MemoryFile(JOURNAL_BYTES)
    journal = Journal(file, BINDING)
    journal.start()
    assert opened(file) == JournalEntry(1, 0, None, 1)
    journal.finished(3)
    assert opened(file) == JournalEntry(2, 3, None, 0)
    journal.intend(3)
    assert opened(file) == JournalEntry(3, 3, 3, 0)
    journal.finished(4)
    assert opened(file) == journal.entry == JournalEntry(4, 4, None, 0)


def test_every_entry_is_synced_and_slots_alternate() -> None:
    file = filled()
    assert file.pending == []
    offsets = []
    file.on_write = offsets.append
    journal = Journal(file, BINDING)
    for position in range(4):
        journal.finished(position)
    assert offsets == [SLOT_BYTES, 0, SLOT_BYTES, 0]


def test_slots_are_sectors_of_their_own() -> None:
    assert SLOT_BYTES % 4096 == 0
    assert JOURNAL_BYTES == 2 * SLOT_BYTES


@pytest.mark.parametrize("at", [0, 4, 11, 12, 44, 76, 108, 112, 116, 117, 148])
def test_a_damaged_slot_leaves_the_other(at: int) -> None:
    for slot, position in ((0, 4), (1, 5)):
        file = filled()  # entries 1, 3, 5 stand in slot 0; 2, 4 in slot 1
        file.content[slot * SLOT_BYTES + at] ^= 1
        assert opened(file).position == (4 if slot == 0 else 5), position
        file.content[(1 - slot) * SLOT_BYTES + at] ^= 1
        assert opened(file) == EMPTY


def test_writing_goes_on_over_the_damaged_slot() -> None:
    file = filled()
    file.content[5] ^= 1
    journal = Journal(file, BINDING)
    journal.finished(9)
    file.content[SLOT_BYTES] ^= 1
    assert opened(file).position == 9


@pytest.mark.parametrize("part", ["bundle", "ecu", "plan"])
def test_another_ones_journal_counts_as_none(part: str) -> None:
    file = filled()
    other = replace(BINDING, **{part: Digest.of(b"another")})
    journal = Journal(file, other)
    assert journal.entry == EMPTY
    journal.finished(1)
    journal.finished(2)
    assert Journal(file, other).entry.position == 2
    assert opened(file) == EMPTY


def test_an_entry_of_the_same_bundle_survives_until_both_slots_are_anothers() -> None:
    file = filled()
    Journal(file, replace(BINDING, ecu=Digest.of(b"another"))).finished(1)
    assert opened(file).position in (4, 5)


def test_torn_at_every_byte() -> None:
    before = filled(4)
    after = filled(5)
    for end in range(SLOT_BYTES):
        file = MemoryFile(JOURNAL_BYTES, content=bytes(after.content[:end] + before.content[end:]))
        assert opened(file).position in (4, 5)


def test_ten_starts_without_progress_and_no_more() -> None:
    file = MemoryFile(JOURNAL_BYTES)
    for count in range(MAX_FAILURES):
        journal = Journal(file, BINDING)
        assert journal.entry.failures == count
        journal.start()
    for _ in range(2):
        with pytest.raises(
            ResourceError, match=r"10 starts failed at the same block .* until another bundle is offered"
        ):
            Journal(file, BINDING).start()
    Journal(file, replace(BINDING, bundle=Digest.of(b"another"))).start()


def test_progress_forgives_and_standing_still_does_not() -> None:
    file = MemoryFile(JOURNAL_BYTES)
    journal = Journal(file, BINDING)
    journal.start()
    journal.start()
    journal.finished(0)
    assert journal.entry.failures == 2
    journal.finished(1)
    assert journal.entry.failures == 0


def test_an_end_in_order_takes_its_start_back() -> None:
    journal = Journal(MemoryFile(JOURNAL_BYTES), BINDING)
    journal.start()
    journal.start()
    journal.settle()
    assert journal.entry.failures == 1
    journal.settle()
    journal.settle()
    assert journal.entry.failures == 0


@pytest.mark.parametrize("step", [0, 1])
def test_an_entry_that_could_not_be_written_is_not_taken_for_written(step: int) -> None:
    file = filled()
    journal = Journal(file, BINDING)
    file.power = Power(fail_at=step)
    with pytest.raises(ResourceError, match="no space left"):
        journal.finished(6)
    assert journal.entry.position == 5
    file.power = Power()
    journal.finished(7)
    assert opened(file).position == 7
