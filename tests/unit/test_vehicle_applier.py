"""The push interface: however the bytes come and whatever is wrong with them, the slot is right or refused."""

import threading
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from packager.vehicle import kernel
from packager.vehicle.core import blocks, codec
from packager.vehicle.core.applier import Applier, Progress
from packager.vehicle.core.blocks import NoOldImage, OldImage
from packager.vehicle.core.head import Head, read_head
from packager.vehicle.core.journal import JOURNAL_BYTES, Binding, Journal
from packager.vehicle.core.manifest import Op
from packager.vehicle.errors import (
    CancelledError,
    CorruptError,
    IncompatibleError,
    ResourceError,
    StateError,
)
from packager.vehicle.identity import Digest
from tests.faulty_storage import MemoryFile
from tests.sample_bundles import BLOCK, PROFILE, Sample, delta_mixed, delta_one_block, full_mixed, samples

BINDING = Binding(Digest.of(b"bundle"), Digest.of(b"ecu"))


class Case:
    """An applier on a slot in memory."""

    def __init__(self, sample: Sample, head: Head | None = None, old: bytes | None = None, **options: Any) -> None:
        self.sample = sample
        self.slot = MemoryFile(0, content=b"\x55" * len(sample.new))  # nothing of it is of the new image
        content = sample.old if old is None else old
        self.old: OldImage | None = None if content is None else MemoryFile(0, content=content)
        self.applier = Applier(head or sample.head, self.old, self.slot, **options)

    def feed_all(self, data: bytes | None = None, chunk_bytes: int = 1 << 20) -> None:
        data = self.sample.data if data is None else data
        for start in range(self.applier.next_offset, len(data), chunk_bytes):
            self.applier.feed(data[start : start + chunk_bytes])


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("sample", samples(), ids=lambda sample: sample.name)
def test_it_makes_the_new_image(sample: Sample, workers: int) -> None:
    case = Case(sample, workers=workers, sync_bytes=BLOCK)
    with case.applier as applier:
        case.feed_all()
        assert applier.finish().image == sample.head.manifest.new
    assert case.slot.content == sample.new


@pytest.mark.parametrize("sample", samples(), ids=lambda sample: sample.name)
def test_byte_at_a_time(sample: Sample) -> None:
    case = Case(sample)
    case.feed_all(chunk_bytes=1)
    case.applier.finish()
    assert case.slot.content == sample.new


@given(cuts=st.lists(st.integers(0, 20_000), max_size=30))
@settings(max_examples=40, deadline=None)
def test_any_cut_into_chunks(cuts: list[int]) -> None:
    sample = delta_mixed()
    case = Case(sample)
    for cut in [*sorted(cuts), len(sample.data)]:
        offset = case.applier.next_offset
        case.applier.feed(memoryview(sample.data)[offset:cut])
        assert case.applier.next_offset == max(offset, min(cut, len(sample.data)))
    case.applier.finish()
    assert case.slot.content == sample.new


class Spies:
    """Count how often each decoder is entered."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[str] = []
        for module, name in (
            (blocks, "decode"),
            (blocks, "read_columns"),
            (blocks, "_decode"),
            (codec, "_decode_zstd"),
            (codec, "_decode_lzma"),
            (codec.zstandard, "get_frame_parameters"),
            (codec.zstandard, "ZstdDecompressor"),
            (codec.lzma, "LZMADecompressor"),
            (kernel, "apply_delta"),
        ):
            self._watch(monkeypatch, module, name)

    def _watch(self, monkeypatch: pytest.MonkeyPatch, module: Any, name: str) -> None:
        real = getattr(module, name)

        def spy(*args: Any, **options: Any) -> Any:
            self.calls.append(name)
            return real(*args, **options)

        monkeypatch.setattr(module, name, spy)


@pytest.mark.parametrize("sample", samples(), ids=lambda sample: sample.name)
def test_a_flipped_byte_anywhere_in_a_blob_stops_before_any_decoder(
    sample: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each block alone: the blocks before stand in the slot already, so that a decoder that is reached is reached wrongly."""
    head = sample.head
    spies = Spies(monkeypatch)
    reached_when_good = set()
    for position in range(len(head.index)):
        record = head.index[position]
        start, _ = head.manifest.block_range(record.block)
        first, end = head.length_bytes + record.blob_offset, head.length_bytes + record.blob_end
        every = range(first, end)  # empty for a block that needs no blob
        for at in {*every[:: max(1, len(every) // 100)], *every[-1:]}:
            slot = MemoryFile(len(sample.new), content=sample.new[:start])
            slot.content[start:] = bytes(byte ^ 0xFF for byte in sample.new[start:])
            old: OldImage | None = None if sample.old is None else MemoryFile(0, content=sample.old)
            applier = Applier(head, old, slot)
            assert applier.next_offset == first
            blob = bytearray(sample.data[first:end])
            blob[at - first] ^= 1 << at % 8
            with pytest.raises(CorruptError, match="not the signed one"):
                applier.feed(blob)
            with pytest.raises(StateError):
                applier.finish()
            assert slot.writes == 0
        assert spies.calls == []
        case = Case(sample)
        case.feed_all(sample.data[:end])
        case.applier.feed(b"")
        reached_when_good.update(spies.calls)
        spies.calls.clear()
    assert reached_when_good, "the spies would have seen a decoder"


@pytest.mark.parametrize("sample", [delta_one_block(), full_mixed()], ids=lambda sample: sample.name)
def test_every_flipped_byte_of_the_head_is_corrupt_before_it_is_parsed(
    sample: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    def reached(*_: object) -> None:
        raise AssertionError("parsed without a matching hash")

    monkeypatch.setattr("packager.vehicle.core.head.read_sections", reached)
    monkeypatch.setattr("packager.vehicle.core.head.parse_manifest", reached)
    signed = sample.signed
    for at in range(sample.head_bytes):
        head = bytearray(sample.data[: sample.head_bytes])
        head[at] ^= 1 << at % 8
        with pytest.raises(CorruptError, match="the signed"):
            read_head(head, signed, PROFILE)


@pytest.mark.parametrize("sample", [delta_one_block(), full_mixed()], ids=lambda sample: sample.name)
def test_truncated_at_every_byte(sample: Sample) -> None:
    signed, head = sample.signed, sample.head
    for end in range(sample.head_bytes):
        with pytest.raises(CorruptError, match="head: found"):
            read_head(sample.data[:end], signed, PROFILE)
    for end in range(sample.head_bytes, len(sample.data)):
        case = Case(sample, head)
        case.feed_all(sample.data[:end])
        with pytest.raises(CorruptError, match=f"ended at byte {end}, expected {len(sample.data)}"):
            case.applier.finish()
        with pytest.raises(StateError, match="failed"):
            case.applier.finish()


@pytest.mark.parametrize("workers", [1, 2])
def test_trailing_bytes_are_refused(workers: int) -> None:
    case = Case(full_mixed(), workers=workers)
    with case.applier as applier, pytest.raises(CorruptError, match="2 bytes after the last blob"):
        case.feed_all(case.sample.data + b"..")
    with pytest.raises(StateError, match="failed"):
        applier.finish()


@pytest.mark.parametrize("workers", [1, 2])
def test_a_failed_one_stays_failed(workers: int) -> None:
    sample = full_mixed()
    data = bytearray(sample.data)
    data[sample.head_bytes] ^= 1
    case = Case(sample, workers=workers)
    with case.applier as applier:
        with pytest.raises(CorruptError):  # noqa: PT012 - with workers the fault shows later
            case.feed_all(bytes(data))
            applier.finish()
        for act in (lambda: applier.feed(sample.blobs), applier.finish):
            with pytest.raises(StateError, match="it is failed; make a new one"):
                act()


def test_a_finished_or_closed_one_takes_nothing() -> None:
    case = Case(full_mixed())
    case.feed_all()
    case.applier.finish()
    with pytest.raises(StateError, match="finished"):
        case.applier.feed(b"")
    closed = Case(full_mixed())
    closed.applier.close()
    closed.applier.close()
    with pytest.raises(StateError, match="closed"):
        closed.applier.finish()


def test_a_slot_of_another_length_is_a_bug_of_the_caller() -> None:
    sample = full_mixed()
    for wrong in (len(sample.new) - 1, len(sample.new) + 1):
        with pytest.raises(StateError, match=f"found {wrong} bytes, expected {len(sample.new)}"):
            Applier(sample.head, None, MemoryFile(wrong))


def test_progress_is_told_after_each_block_in_the_callers_thread() -> None:
    for workers in (1, 3):
        told: list[tuple[Progress, int]] = []
        case = Case(
            delta_mixed(), workers=workers, on_progress=lambda p, told=told: told.append((p, threading.get_ident()))
        )
        with case.applier as applier:
            case.feed_all(chunk_bytes=500)
            applier.finish()
            assert applier.progress == Progress(10, 10, len(case.sample.data), len(case.sample.data))
        assert [progress.blocks_done for progress, _ in told] == list(range(1, 11))
        assert {thread for _, thread in told} == {threading.get_ident()}
        done = [progress.bundle_bytes_done for progress, _ in told]
        assert done == sorted(done)


def test_cancelled_at_every_block_keeps_what_is_done_and_counts_as_no_failure() -> None:
    sample = delta_mixed()
    for stop_at in range(10):
        journal_file = MemoryFile(JOURNAL_BYTES)
        asked = iter(range(100))
        case = Case(
            sample,
            journal=Journal(journal_file, BINDING),
            cancelled=lambda asked=asked, stop_at=stop_at: next(asked) == stop_at,
        )
        with case.applier as applier:
            with pytest.raises(CancelledError, match="can go on later"):
                case.feed_all()
            with pytest.raises(StateError):
                applier.finish()
        assert Journal(journal_file, BINDING).entry.failures == 0
        again = Applier(sample.head, case.old, case.slot)
        assert again.progress.blocks_done == stop_at
        again.feed(sample.data[again.next_offset :])
        again.finish()


def test_what_the_slot_already_holds_is_not_asked_for() -> None:
    sample = full_mixed()
    slot = MemoryFile(len(sample.new), content=sample.new)
    applier = Applier(sample.head, None, slot)
    assert applier.next_offset == len(sample.data)
    assert applier.finish().image == sample.head.manifest.new
    assert slot.writes == 0


@pytest.mark.parametrize("workers", [1, 2])
def test_the_verdict_reads_the_slot_back(workers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A medium that loses a bit after it was written is found before anything is activated."""
    case = Case(full_mixed(), workers=workers, sync_bytes=1 << 30)
    sync = case.slot.sync

    def sync_and_spoil() -> None:
        sync()
        case.slot.content[3] ^= 4

    monkeypatch.setattr(case.slot, "sync", sync_and_spoil)
    with case.applier as applier:
        case.feed_all()
        with pytest.raises(CorruptError, match="read back"):
            applier.finish()


def test_a_read_error_in_the_background_pass_is_a_resource_error() -> None:
    class Failing(MemoryFile):
        broken = False

        def read_into(self, offset: int, buffer: memoryview) -> None:
            if self.broken:
                raise ResourceError("medium is broken")
            super().read_into(offset, buffer)

    sample = full_mixed()
    slot = Failing(len(sample.new))
    with Applier(sample.head, None, slot, workers=2, sync_bytes=BLOCK) as applier:
        slot.broken = True
        with pytest.raises(ResourceError, match="medium is broken"):  # noqa: PT012 - the next sync may see it, or the end
            applier.feed(sample.blobs)
            applier.finish()
        with pytest.raises(StateError):
            applier.finish()


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("block", [0, 1, 3, 7, 9])
def test_a_damaged_old_image_is_incompatible_and_its_block_is_not_written(block: int, workers: int) -> None:
    sample = delta_mixed()
    head = sample.head
    record = head.index[block]
    start, end = head.manifest.block_range(block)
    at = record.window_offset if record.op is Op.WINDOW else head.segments.pieces(start, end)[0].old_offset
    assert sample.old is not None
    old = bytearray(sample.old)
    old[at] ^= 1
    case = Case(sample, old=bytes(old), workers=workers)
    with case.applier as applier, pytest.raises(IncompatibleError, match="the old image is another one or damaged"):  # noqa: PT012
        case.feed_all()
        applier.finish()
    assert case.slot.content[start:end] == b"\x55" * (end - start)


def test_a_short_or_unreadable_old_image() -> None:
    sample = delta_one_block()
    assert sample.old is not None
    case = Case(sample, old=sample.old[:-1])
    with pytest.raises(IncompatibleError, match="ends at byte"):
        case.feed_all()
    longer = Case(sample, old=sample.old + b"more than needed is the caller's to see")
    longer.feed_all()
    longer.applier.finish()


def test_an_old_image_that_changes_during_the_update_is_found() -> None:
    sample = delta_mixed()
    case = Case(sample)
    head = sample.head
    case.applier.feed(sample.data[case.applier.next_offset : head.length_bytes + head.index[6].blob_end])
    old = case.old
    assert isinstance(old, MemoryFile)
    old.content[:BLOCK] = b"x" * BLOCK  # block 7 copies from here
    with pytest.raises(IncompatibleError, match="block 7"):
        case.feed_all()


def test_a_full_bundle_reads_no_old_image() -> None:
    with pytest.raises(IncompatibleError, match="found none"):
        NoOldImage().read_into(5, memoryview(bytearray(3)))


@pytest.mark.parametrize("workers", [1, 2])
def test_failures_of_one_block_count_and_progress_forgives(workers: int) -> None:
    sample = full_mixed()
    wrong = bytearray(sample.data)
    wrong[-1] ^= 1  # the last blob
    journal_file = MemoryFile(JOURNAL_BYTES)
    slot = MemoryFile(len(sample.new), content=b"\xaa" * len(sample.new))
    counts = []
    for _ in range(4):
        journal = Journal(journal_file, BINDING)
        applier = Applier(sample.head, None, slot, journal=journal, workers=workers)
        with applier, pytest.raises(CorruptError):  # noqa: PT012 - with workers the fault shows later
            applier.feed(bytes(wrong[applier.next_offset :]))
            applier.finish()
        counts.append(journal.entry.failures)
    assert counts == [1, 1, 2, 3]
