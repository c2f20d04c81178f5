"""Which blocks a slot holds, and which bytes are therefore asked for."""

import pytest

from packager.vehicle.core.applier import Applier
from packager.vehicle.core.journal import JOURNAL_BYTES, Binding, Journal
from packager.vehicle.core.missing import REQUEST_BYTES, find_held, first_missing, missing_ranges
from packager.vehicle.identity import Digest
from tests.faulty_storage import MemoryFile
from tests.in_place_bundles import swapped
from tests.sample_bundles import BLOCK, RAW, Sample, delta_mixed, full_mixed, make, noise, samples


def held_of(sample: Sample, content: bytes, ahead_blocks: int | None = None) -> list[int]:
    head = sample.head
    return list(find_held(head.manifest, head.index, MemoryFile(0, content=content), ahead_blocks))


def without(sample: Sample, *lost: int) -> bytes:
    content = bytearray(sample.new)
    for position in lost:
        content[position * BLOCK] ^= 1
    return bytes(content)


@pytest.mark.parametrize("sample", samples(), ids=lambda sample: sample.name)
def test_all_none_and_each_block(sample: Sample) -> None:
    count = len(sample.head.index)
    assert held_of(sample, sample.new) == [1] * count
    assert held_of(sample, bytes(byte ^ 1 for byte in sample.new)) == [0] * count
    for lost in range(count):
        assert held_of(sample, without(sample, lost)) == [int(position != lost) for position in range(count)]


def test_a_shorter_slot_lacks_what_it_can_not_hold_and_a_longer_one_nothing() -> None:
    sample = delta_mixed()
    assert held_of(sample, sample.new[: 2 * BLOCK + 1]) == [1, 1] + [0] * 8
    assert held_of(sample, sample.new + b"more") == [1] * 10
    assert held_of(sample, b"") == [0] * 10


def test_install_order_counts() -> None:
    head, new = swapped().head, swapped().new
    content = bytearray(new)
    content[head.index[0].block * head.manifest.block_bytes] ^= 1
    held = find_held(head.manifest, head.index, MemoryFile(0, content=bytes(content)))
    assert [position for position, flag in enumerate(held) if not flag] == [0]


@pytest.mark.parametrize(("ahead", "found"), [(1, False), (3, False), (4, True), (None, True)])
def test_how_far_it_looks_behind_a_missing_block(ahead: int | None, found: bool) -> None:
    sample = delta_mixed()
    held = held_of(sample, without(sample, 1, 2, 3), ahead)
    assert held == [1, 0, 0, 0] + [int(found)] * 6


@pytest.mark.parametrize(("lost", "read_blocks"), [((0,), 1), ((1, 2, 3, 4, 5), 5), ((1, 2, 3), 10)])
def test_behind_a_missing_first_block_and_a_long_gap_it_reads_nothing(lost: tuple[int, ...], read_blocks: int) -> None:
    sample = delta_mixed()
    slot = Counting(without(sample, *lost))
    find_held(sample.head.manifest, sample.head.index, slot, 4)
    assert slot.read_bytes == min(read_blocks * BLOCK, len(sample.new))


def test_without_a_journal_an_image_of_one_block_is_not_looked_for() -> None:
    sample = make("", None, noise(1, BLOCK), [RAW])
    slot = Counting(sample.new)
    with Applier(sample.head, None, slot) as applier:
        assert applier.missing_ranges() == [(sample.head_bytes, len(sample.data))]
    assert slot.read_bytes == 0
    journal = Journal(MemoryFile(JOURNAL_BYTES), Binding(sample.head.digest, Digest(bytes(32))))
    with Applier(sample.head, None, slot, journal=journal) as applier:
        assert applier.missing_ranges() == []
    assert slot.read_bytes == BLOCK


class Counting(MemoryFile):
    def __init__(self, content: bytes) -> None:
        super().__init__(0, content=content)
        self.read_bytes = 0

    def read_into(self, offset: int, buffer: memoryview) -> None:
        self.read_bytes += len(buffer)
        super().read_into(offset, buffer)


@pytest.mark.parametrize(("flags", "first"), [(b"\0\0", 0), (b"\1\0", 1), (b"\1\1", 2), (b"\0\1", 0)])
def test_the_first_missing(flags: bytes, first: int) -> None:
    assert first_missing(bytearray(flags)) == first


def test_ranges_are_those_of_the_missing_blobs() -> None:
    index = full_mixed().head.index
    ends = [(index[position].blob_offset, index[position].blob_end) for position in range(5)]
    assert missing_ranges(index, bytearray(5), 0, 0) == [(0, index.blobs_bytes)]
    assert missing_ranges(index, bytearray(b"\0\1\0\1\0"), 0, 0) == [ends[0], ends[2], ends[4]]
    assert missing_ranges(index, bytearray(b"\0\1\0\1\0"), 1, 0) == [ends[2], ends[4]]
    assert missing_ranges(index, bytearray(b"\0\1\0\1\0"), 0, 1) == [(ends[0][0], ends[2][1]), ends[4]]
    assert missing_ranges(index, bytearray(b"\1" * 5), 0, 0) == []


def test_blocks_without_a_blob_ask_for_nothing_and_split_nothing() -> None:
    index = delta_mixed().head.index
    assert index[0].blob_bytes == index[9].blob_bytes == 0
    assert missing_ranges(index, bytearray(b"\0" + b"\1" * 8 + b"\0"), 0, 0) == []
    assert missing_ranges(index, bytearray(b"\1" + b"\0" * 8 + b"\1"), 0, 0) == [(0, index.blobs_bytes)]


@pytest.mark.parametrize(("length_bytes", "count"), [(REQUEST_BYTES, 1), (REQUEST_BYTES + 1, 2)])
def test_a_gap_that_is_shorter_than_a_request_is_read_through(length_bytes: int, count: int) -> None:
    sample = make("", None, noise(1, 2 * BLOCK) + noise(2, BLOCK), [RAW, RAW, RAW])
    index = sample.head.index
    held = bytearray(b"\0\1\0")
    gap = BLOCK - length_bytes
    assert len(missing_ranges(index, held, 0, REQUEST_BYTES + gap)) == count
