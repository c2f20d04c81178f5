"""One block, in the one order that keeps unsigned bytes away from decoders."""

import hashlib
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from packager.vehicle import kernel
from packager.vehicle.core import blocks
from packager.vehicle.core.blocks import GATHER_BYTES, make_block
from packager.vehicle.core.head import Head
from packager.vehicle.core.index import BlockRecord
from packager.vehicle.core.manifest import Op
from packager.vehicle.core.segments import Segment, SegmentMap
from packager.vehicle.errors import CorruptError, IncompatibleError, ResourceError
from packager.vehicle.profile import Coder
from tests.faulty_storage import MemoryFile
from tests.predicted_bundles import predicted_samples
from tests.sample_bundles import (
    BLOCK,
    COPY,
    Sample,
    column,
    delta_mixed,
    delta_one_block,
    make,
    noise,
    samples,
    window_one_block,
)

MIXED = delta_mixed()
HEAD = MIXED.head
OLD = MemoryFile(0, content=MIXED.old or b"")


def blob_of(sample: Sample, record: BlockRecord) -> bytes:
    return sample.blobs[record.blob_offset : record.blob_end]


def signed(record: BlockRecord, blob: bytes, **changes: Any) -> BlockRecord:
    """Return a record as if `blob` had been signed."""
    return replace(record, blob_bytes=len(blob), blob_digest=hashlib.sha256(blob).digest(), **changes)


@pytest.mark.parametrize("position", range(10))
def test_every_operation_makes_its_block(position: int) -> None:
    record = HEAD.index[position]
    start, end = HEAD.manifest.block_range(record.block)
    made = make_block(HEAD, record, blob_of(MIXED, record), OLD)
    assert made == MIXED.new[start:end]


@pytest.mark.parametrize("sample", [*samples(), *predicted_samples()], ids=lambda sample: sample.name)
def test_no_decoder_is_reached_for_any_flipped_byte_of_any_blob(
    sample: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every byte in turn, of every operation and coder; nor is the old image read."""

    def reached(*_: object) -> None:
        raise AssertionError("reached for a blob that nobody signed")

    monkeypatch.setattr(blocks, "_decode", reached)
    monkeypatch.setattr(blocks, "_read_source", reached)
    head, workspace = sample.head, blocks.Workspace()
    for position in range(len(head.index)):
        record = head.index[position]
        blob = bytearray(blob_of(sample, record))
        for at in range(len(blob)):
            blob[at] ^= 1 << at % 8
            try:
                make_block(head, record, blob, blocks.NoOldImage(), workspace)
            except CorruptError as error:
                assert "is not the signed one" in str(error)  # noqa: PT017 - pytest.raises takes longer than the hash
            else:
                pytest.fail(f"byte {at} of block {record.block} was taken")
            blob[at] ^= 1 << at % 8
        with pytest.raises(AssertionError, match="nobody signed"):
            make_block(head, record, blob, blocks.NoOldImage(), workspace)


def test_the_order_of_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blob hash, old part's hash, decoding, block's hash."""
    steps: list[str] = []
    record = HEAD.index[1]
    names = {
        record.blob_digest: "blob hash",
        record.source_digest: "old part hash",
        record.output_digest: "block hash",
    }

    class Watched:
        def __init__(self, data: bytes) -> None:
            self.value = hashlib.sha256(data).digest()
            steps.append(names.get(self.value, "?"))

        def digest(self) -> bytes:
            return self.value

    real_kernel, real_decode = kernel.apply_delta, blocks.read_columns

    def apply_delta(*args: Any) -> None:
        steps.append("kernel")
        real_kernel(*args)

    def read_columns(*args: Any) -> Any:
        steps.append("columns")
        return real_decode(*args)

    monkeypatch.setattr(kernel, "apply_delta", apply_delta)
    monkeypatch.setattr(blocks, "read_columns", read_columns)
    monkeypatch.setattr(blocks, "hashlib", type("hashlib", (), {"sha256": Watched}))
    make_block(HEAD, record, blob_of(MIXED, record), OLD)
    assert steps == ["blob hash", "old part hash", "columns", "kernel", "block hash"]


@pytest.mark.parametrize("change", [b"", b"short", None])
def test_a_blob_that_is_not_the_signed_one(change: bytes | None) -> None:
    record = HEAD.index[6]
    good = blob_of(MIXED, record)
    with pytest.raises(CorruptError, match=r"block 6: its blob of .* bytes is not the signed one; fetch it again"):
        make_block(HEAD, record, good + b"x" if change is None else change, OLD)


@pytest.mark.parametrize("position", range(10))
def test_a_signed_blob_that_makes_another_block_is_corrupt(position: int) -> None:
    record = HEAD.index[position]
    wrong = replace(record, output_digest=bytes(32))
    with pytest.raises(CorruptError, match=f"block {position}: result of .* bytes has SHA-256 .*, not the signed one"):
        make_block(HEAD, wrong, blob_of(MIXED, record), OLD)


@pytest.mark.parametrize(
    ("position", "blob", "message"),
    [
        (4, b"", "block 4"),
        (4, b"\0" * 20, "block 4"),
        (5, b"\xff" * 20, "block 5: malformed LZMA properties"),
        (3, b"\0" * 20, "block 3"),
        (8, column(b"x" * (BLOCK - 1)) + column(b"") + column(b""), "left over or short"),
        (8, column(b"x" * BLOCK) + column(b"") + column(b""), "expected at most"),
        (8, column(b"x" * 9) + column(b""), "truncated"),
        (8, column(b"x" * 9) + column(b"") + column(b"") + b"\0", "left over"),
        (7, column(b"") + column(b"\x05\x00") + column(b""), "run"),
        (7, column(b"") + column(b"\xff" * 8 + b"\x7f\x01") + column(b"v"), "run"),
        (7, column(b"") + column(b"\x05\x01") + column(b"vv"), "left over"),
    ],
)
def test_signed_blobs_that_break_the_format(position: int, blob: bytes, message: str) -> None:
    head = HEAD
    if message != "expected at most":
        head = replace(HEAD, manifest=replace(HEAD.manifest, max_decoded_bytes=BLOCK))
    else:
        head = replace(HEAD, manifest=replace(HEAD.manifest, max_decoded_bytes=BLOCK - 1))
    with pytest.raises(CorruptError, match=message):
        make_block(head, signed(HEAD.index[position], blob), blob, OLD)


def test_the_old_part_is_capped_before_it_is_read() -> None:
    record = HEAD.index[0]
    tight = replace(HEAD, manifest=replace(HEAD.manifest, max_source_bytes=BLOCK))
    assert make_block(tight, record, b"", OLD) == MIXED.new[:BLOCK]
    tighter = replace(HEAD, manifest=replace(HEAD.manifest, max_source_bytes=BLOCK - 1))
    with pytest.raises(CorruptError, match="reads 4096 old bytes, expected at most 4095"):
        make_block(tighter, record, b"", OLD)


@pytest.mark.parametrize("sample", [delta_one_block(), window_one_block()], ids=lambda sample: sample.name)
def test_the_implied_old_part_is_the_whole_old_image(sample: Sample) -> None:
    record = sample.head.index[0]
    assert sample.old is not None
    assert make_block(sample.head, record, sample.blobs, MemoryFile(0, content=sample.old)) == sample.new
    for at in (0, len(sample.old) // 2, len(sample.old) - 1):
        old = bytearray(sample.old)
        old[at] ^= 0x80
        with pytest.raises(IncompatibleError, match="another one or damaged"):
            make_block(sample.head, record, sample.blobs, MemoryFile(0, content=bytes(old)))


def test_a_read_error_is_a_resource_error() -> None:
    class Broken(MemoryFile):
        def read_into(self, offset: int, buffer: memoryview) -> None:
            raise ResourceError("medium is broken")

    with pytest.raises(ResourceError, match="medium is broken"):
        make_block(HEAD, HEAD.index[0], b"", Broken(0))


class Counting(MemoryFile):
    calls = 0
    longest = 0

    def read_into(self, offset: int, buffer: memoryview) -> None:
        self.calls += 1
        self.longest = max(self.longest, len(buffer))
        super().read_into(offset, buffer)


def copies(pieces: list[tuple[int, int]], old: bytes) -> tuple[Head, BlockRecord, bytes]:
    """Return a head and record of one COPY block made of these (old offset, length)."""
    at = 0
    segments = []
    for old_offset, length_bytes in pieces:
        segments.append(Segment(at, old_offset, length_bytes))
        at += length_bytes
    new = b"".join(old[first : first + length] for first, length in pieces)
    assert at <= 1 << 20
    manifest = replace(
        HEAD.manifest, new=replace(HEAD.manifest.new, length_bytes=at), max_source_bytes=at, block_log2=20
    )
    record = BlockRecord(
        0,
        Op.COPY,
        Coder.RAW,
        0,
        0,
        0,
        0,
        hashlib.sha256(b"").digest(),
        hashlib.sha256(new).digest(),
        hashlib.sha256(new).digest(),
    )
    return replace(HEAD, manifest=manifest, segments=SegmentMap.of(segments)), record, new


OLD_BYTES = bytes(range(251)) * 2000


@given(
    st.lists(
        st.tuples(st.integers(0, len(OLD_BYTES) - 1), st.integers(1, 90_000)).map(
            lambda piece: (piece[0], min(piece[1], len(OLD_BYTES) - piece[0]))
        ),
        min_size=1,
        max_size=11,
    )
)
@settings(deadline=None, max_examples=60)
def test_pieces_are_gathered_wherever_they_lie(pieces: list[tuple[int, int]]) -> None:
    head, record, new = copies(pieces, OLD_BYTES)
    assert make_block(head, record, b"", MemoryFile(0, content=OLD_BYTES)) == new


@pytest.mark.parametrize("change", [-1, 1])
def test_copied_pieces_fill_their_block_exactly(change: int) -> None:
    head, record, new = copies([(5, 100), (300, 50)], OLD_BYTES)
    length_bytes = head.manifest.new.length_bytes + change
    manifest = replace(head.manifest, new=replace(head.manifest.new, length_bytes=length_bytes))
    made = b"".join(OLD_BYTES[first : first + count] for first, count in [(5, 100), (300, 50 + min(change, 0))])
    digest = hashlib.sha256(made).digest()
    record = replace(record, output_digest=digest, source_digest=digest)
    if change > 0:
        with pytest.raises(CorruptError, match="block 0: result of 150 bytes"):
            make_block(replace(head, manifest=manifest), record, b"", MemoryFile(0, content=OLD_BYTES))
    else:  # a piece that leaves its block is cut off
        assert make_block(replace(head, manifest=manifest), record, b"", MemoryFile(0, content=OLD_BYTES)) == new[:-1]


def test_neighbouring_pieces_are_read_together_in_bounded_memory() -> None:
    pieces = [(index * 100 + (index % 3), 40) for index in range(2000)]
    head, record, new = copies(pieces, OLD_BYTES)
    old = Counting(0, content=OLD_BYTES)
    assert make_block(head, record, b"", old) == new
    assert old.calls == -(-200_000 // GATHER_BYTES)
    assert old.longest <= GATHER_BYTES


def test_a_small_old_image_may_be_read_many_times_over() -> None:
    """With one block the whole old image is hashed, but the pieces may be longer together."""
    old = noise(70, 21)
    segments = [Segment(index * 18, index % 3, 18) for index in range(5)]
    new = b"".join(old[s.old_offset : s.old_offset + 18] for s in segments)
    sample = make("again", old, new, [COPY], segments)
    assert sample.head.manifest.max_source_bytes == len(new)
    assert make_block(sample.head, sample.head.index[0], b"", MemoryFile(0, content=old)) == new
