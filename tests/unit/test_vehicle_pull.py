"""Pulling from files and streams: from the byte that is needed on, and not a byte more than once."""

import io
from collections.abc import Iterator

import pytest

from packager.vehicle.core import pull
from packager.vehicle.core.applier import Applier
from packager.vehicle.core.blocks import OldImage
from packager.vehicle.core.pull import apply_file, apply_stream, usable_cores
from packager.vehicle.errors import CancelledError, CorruptError, ResourceError, StateError, TemporaryError
from tests.faulty_storage import MemoryFile
from tests.sample_bundles import Sample, delta_mixed, full_mixed, samples


def fresh(sample: Sample, slot: MemoryFile | None = None, workers: int = 1) -> tuple[Applier, MemoryFile]:
    slot = slot or MemoryFile(0, content=b"\x55" * len(sample.new))
    old: OldImage | None = None if sample.old is None else MemoryFile(0, content=sample.old)
    return Applier(sample.head, old, slot, workers=workers), slot


class Recorded(io.BytesIO):
    """Remembers which bytes were read."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.reads: list[tuple[int, int]] = []

    def read(self, size: int | None = -1, /) -> bytes:
        start = self.tell()
        data = super().read(size)
        self.reads.append((start, len(data)))
        return data


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("sample", samples(), ids=lambda sample: sample.name)
def test_a_file_is_applied_wherever_it_stands(sample: Sample, workers: int) -> None:
    applier, slot = fresh(sample, workers=workers)
    bundle = io.BytesIO(sample.data)
    bundle.seek(3)
    with applier:
        assert apply_file(applier, bundle).image == sample.head.manifest.new
    assert slot.content == sample.new


def test_each_byte_of_a_file_is_read_once_and_none_before_the_needed_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pull, "READ_BYTES", 100)
    sample = full_mixed()
    first = sample.head.index[2]
    slot = MemoryFile(0, content=sample.new[: 2 * 4096].ljust(len(sample.new), b"\x55"))
    applier, _ = fresh(sample, slot)
    bundle = Recorded(sample.data)
    apply_file(applier, bundle)
    at = sample.head_bytes + first.blob_offset
    for start, length in bundle.reads:
        assert start == at
        at += length
    assert at == len(sample.data)


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("chunk_bytes", [1, 700, 1 << 20])
def test_a_stream_is_asked_for_what_is_missing(chunk_bytes: int, workers: int) -> None:
    sample = delta_mixed()
    slot = MemoryFile(len(sample.new), content=sample.new[: 5 * 4096])
    applier, _ = fresh(sample, slot, workers)
    asked = []

    def chunks_of(start: int, end: int) -> Iterator[bytes]:
        asked.append((start, end))
        for at in range(start, end, chunk_bytes):
            yield sample.data[at : min(at + chunk_bytes, end)]

    with applier:
        assert apply_stream(applier, chunks_of).image == sample.head.manifest.new
    assert asked == [(sample.head_bytes + sample.head.index[5].blob_offset, len(sample.data))]
    assert slot.content == sample.new


def test_a_stream_is_not_asked_for_nothing() -> None:
    sample = full_mixed()
    applier, _ = fresh(sample, MemoryFile(len(sample.new), content=sample.new))
    assert applier.is_fed
    assert applier.missing_bytes == 0

    def chunks_of(start: int, end: int) -> Iterator[bytes]:
        raise AssertionError(start, end)

    apply_stream(applier, chunks_of)


@pytest.mark.parametrize("workers", [1, 2])
def test_neither_a_stream_nor_a_file_gives_what_lies_beyond_a_gap(workers: int) -> None:
    sample = full_mixed()
    records = [sample.head.index[position] for position in range(5)]
    content = bytearray(sample.new)
    for lost in (1, 3):
        content[lost * 4096] ^= 1
    wanted = [
        (sample.head_bytes + records[lost].blob_offset, sample.head_bytes + records[lost].blob_end) for lost in (1, 3)
    ]
    asked = []

    def chunks_of(start: int, end: int) -> Iterator[bytes]:
        asked.append((start, end))
        yield sample.data[start:end]

    applier, slot = fresh(sample, MemoryFile(0, content=bytes(content)), workers)
    with applier:
        assert applier.missing_ranges() == applier.missing_ranges(0) == wanted
        apply_stream(applier, chunks_of)
    assert asked == wanted
    assert slot.content == sample.new
    assert slot.writes == 2
    applier, slot = fresh(sample, MemoryFile(0, content=bytes(content)), workers)
    bundle = Recorded(sample.data)
    with applier, pytest.MonkeyPatch.context() as patch:
        patch.setattr(pull, "READ_BYTES", 1)
        apply_file(applier, bundle)
    assert [(start, start + length) for start, length in bundle.reads] == [
        *wanted,
        (len(sample.data), len(sample.data)),
    ]
    assert slot.content == sample.new


def test_a_stream_that_ends_before_the_last_range_is_cut_short() -> None:
    sample = full_mixed()
    content = bytearray(sample.new)
    for lost in (2, 4):
        content[lost * 4096] ^= 1
    applier, _ = fresh(sample, MemoryFile(0, content=bytes(content)))
    with pytest.raises(CorruptError, match=f"ended at byte {sample.head_bytes + sample.head.index[2].blob_offset + 7}"):
        apply_stream(applier, lambda start, end: [sample.data[start : min(end, start + 7)]])


def test_short_and_unreadable_files() -> None:
    sample = full_mixed()
    with pytest.raises(CorruptError, match=f"ended at byte {len(sample.data) - 1}"):
        apply_file(fresh(sample)[0], io.BytesIO(sample.data[:-1]))

    class Broken(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            raise OSError(5, "Input/output error")

    with pytest.raises(ResourceError, match=f"can't be read at byte {sample.head_bytes}: Input/output error"):
        apply_file(fresh(sample)[0], Broken(sample.data))


def test_a_broken_stream_is_gone_on_with_later() -> None:
    sample = full_mixed()
    middle = sample.head_bytes + sample.head.index[3].blob_offset + 1
    applier, slot = fresh(sample)

    def breaks(start: int, end: int) -> Iterator[bytes]:
        yield sample.data[start:middle]
        raise TemporaryError("connection lost")

    with applier, pytest.raises(TemporaryError, match="connection lost"):
        apply_stream(applier, breaks)
    again, _ = fresh(sample, slot)
    assert again.next_offset == middle - 1
    apply_stream(again, lambda start, end: [sample.data[start:end]])
    assert slot.content == sample.new


def test_cancelling_stops_a_pull_for_good() -> None:
    sample = full_mixed()
    asked = iter([False, False, True])
    applier = Applier(sample.head, None, MemoryFile(len(sample.new)), cancelled=lambda: next(asked))
    with pytest.raises(CancelledError):
        apply_file(applier, io.BytesIO(sample.data))
    with pytest.raises(StateError):
        apply_file(applier, io.BytesIO(sample.data))


def test_a_chunk_that_the_caller_uses_again_is_copied() -> None:
    sample = full_mixed()
    applier, slot = fresh(sample, workers=2)
    buffer = bytearray(5000)
    with applier:
        for start in range(applier.next_offset, len(sample.data), len(buffer)):
            part = sample.data[start : start + len(buffer)]
            buffer[: len(part)] = part
            applier.feed(memoryview(buffer)[: len(part)])
            buffer[:] = bytes(len(buffer))
        applier.finish()
    assert slot.content == sample.new


def test_there_is_at_least_one_core() -> None:
    assert 1 <= usable_cores() <= pull.MAX_WORKERS
