"""The block index: every rule of FORMAT.md section 5, broken once."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pytest

from packager.vehicle.core.index import (
    CHECKPOINT_RECORDS,
    MAX_WHOLE_OLD_BYTES,
    NUMBERED,
    OUTPUT_HASHED,
    SOURCE_HASHED,
    WINDOWED,
    blob_length_width,
    parse_index,
    record_width,
)
from packager.vehicle.core.manifest import READS_OLD, Manifest, Op
from packager.vehicle.errors import CorruptError, IncompatibleError
from packager.vehicle.identity import Digest, ImageId
from packager.vehicle.profile import Coder

BLOCK = 4096
LAST = 904


@dataclass(frozen=True)
class Row:
    """One record as the test writes it."""

    op: int
    coder: int = 0
    length: int = 0
    block: int = 0
    window: tuple[int, int] = (0, 0)
    source: bytes | None = None


def manifest(
    rows: Sequence[Row], *, count: int | None = None, old_bytes: int | None = 50_000, **changes: object
) -> Manifest:
    count = len(rows) if count is None else count
    ops = frozenset(Op(row.op) for row in rows if row.op < len(Op))
    made = Manifest(
        new=ImageId((count - 1) * BLOCK + LAST, Digest.of(b"new")),
        old=None if old_bytes is None else ImageId(old_bytes, Digest.of(b"old")),
        block_log2=12,
        in_place=False,
        ops=ops,
        coders=frozenset(Coder),
        window_log2=20,
        max_blob_bytes=max(row.length for row in rows),
        max_source_bytes=BLOCK,
        max_decoded_bytes=0,
        segment_count=0,
        memory_bytes=0,
        scratch_bytes=0,
        release_counter=0,
        version="",
        hardware_ids=(),
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def section(rows: Sequence[Row], layout: int, width: int) -> memoryview:
    parts = [bytes((layout, width))]
    for row in rows:
        parts += [row.block.to_bytes(4, "little")] if layout & NUMBERED else []
        parts += [bytes((row.op, row.coder)), row.length.to_bytes(width, "little")]
        if layout & WINDOWED:
            parts += [row.window[0].to_bytes(8, "little"), row.window[1].to_bytes(4, "little")]
        parts += [hashlib.sha256(b"blob").digest()]
        parts += [hashlib.sha256(b"output").digest()] if layout & OUTPUT_HASHED else []
        if layout & SOURCE_HASHED:
            reads = row.op in READS_OLD
            parts += [
                row.source if row.source is not None else hashlib.sha256(b"old part").digest() if reads else bytes(32)
            ]
    return memoryview(b"".join(parts))


RAW = Row(Op.RAW, length=BLOCK)
ZSTD = Row(Op.COMPRESSED, Coder.ZSTD, 50)
LZMA = Row(Op.COMPRESSED, Coder.LZMA, 60)
FILL = Row(Op.FILL, length=1)
COPY = Row(Op.COPY)
DELTA = Row(Op.DELTA, length=70)
WINDOW = Row(Op.WINDOW, Coder.ZSTD, 80, window=(100, 200))
ALL = [RAW, ZSTD, LZMA, FILL, COPY, DELTA, WINDOW]
ALL_LAYOUT = WINDOWED | OUTPUT_HASHED | SOURCE_HASHED


def check(rows: Sequence[Row], layout: int = ALL_LAYOUT, **changes: object) -> object:
    width = blob_length_width(max(row.length for row in rows))
    return parse_index(section(rows, layout, width), manifest(rows, **changes))  # type: ignore[arg-type]


def test_every_operation_and_the_offsets_of_the_blobs() -> None:
    index = parse_index(section(ALL, ALL_LAYOUT, 2), manifest(ALL))
    assert len(index) == 7
    records = [index[position] for position in range(7)]
    assert [record.op for record in records] == [row.op for row in ALL]
    assert [record.blob_offset for record in records] == [0, 4096, 4146, 4206, 4207, 4207, 4277]
    assert index.blobs_bytes == records[-1].blob_end == 4357
    assert (records[6].window_offset, records[6].window_bytes) == (100, 200)
    assert records[0].output_digest == hashlib.sha256(b"output").digest()
    for wrong in (-1, 7):
        with pytest.raises(IndexError):
            index[wrong]


def test_offsets_far_into_a_long_index() -> None:
    count = 2 * CHECKPOINT_RECORDS + 3
    rows = [Row(Op.COMPRESSED, Coder.ZSTD, 1 + number % 7) for number in range(count)]
    index = parse_index(section(rows, OUTPUT_HASHED, 1), manifest(rows, old_bytes=None))
    offset = 0
    for position in range(count):
        assert index[position].blob_offset == offset
        offset += rows[position].length
    assert index.blobs_bytes == offset


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([RAW, Row(Op.RAW, length=LAST - 1)], "expected 904 for RAW"),
        ([RAW, Row(Op.RAW, length=LAST + 1)], "expected 904 for RAW"),
        ([RAW, Row(Op.FILL, length=2)], "expected 1 for FILL"),
        ([RAW, Row(Op.FILL, length=0)], "expected 1 for FILL"),
        ([RAW, Row(Op.COPY, length=1)], "expected 0 for COPY"),
        ([RAW, Row(Op.RAW, Coder.ZSTD, LAST)], "RAW with coder ZSTD, expected RAW"),
        ([RAW, Row(Op.DELTA, Coder.ZSTD, 70)], "DELTA with coder ZSTD"),
        ([RAW, Row(Op.COMPRESSED, Coder.RAW, 50)], "COMPRESSED with coder RAW"),
        ([RAW, Row(Op.WINDOW, Coder.LZMA, 50, window=(0, 1))], "WINDOW with coder LZMA"),
        ([RAW, Row(7, 0, 50)], "operation 7 or coder 0 is not one"),
        ([RAW, Row(255, 0, 50)], "operation 255"),
        ([RAW, Row(Op.COMPRESSED, Coder.ADAPTIVE, 50)], "COMPRESSED with coder ADAPTIVE"),
        ([RAW, Row(Op.COMPRESSED, 4, 50)], "coder 4 is not one"),
        ([RAW, Row(Op.WINDOW, Coder.ZSTD, 50, window=(0, 0))], "old window of 0 bytes"),
        ([RAW, Row(Op.WINDOW, Coder.ZSTD, 50, window=(0, BLOCK + 1))], "expected at most 4096"),
        ([RAW, Row(Op.WINDOW, Coder.ZSTD, 50, window=(49_901, 100))], "ends at 50001"),
        ([RAW, Row(Op.WINDOW, Coder.ZSTD, 50, window=(2**64 - 1, 1))], "old window ends at"),
        ([WINDOW, Row(Op.FILL, length=1, window=(0, 1))], "old window of 1 bytes for FILL"),
        ([WINDOW, Row(Op.FILL, length=1, window=(1, 0))], "old window of 0 bytes for FILL"),
        ([RAW, Row(Op.COPY, source=bytes(32))], "zero exactly where COPY"),
        ([COPY, Row(Op.RAW, length=LAST, source=b"\1" * 32)], "zero exactly where RAW"),
    ],
)
def test_records_that_break_a_rule(rows: list[Row], message: str) -> None:
    ops = {row.op for row in rows}
    layout = OUTPUT_HASHED | (WINDOWED if Op.WINDOW in ops else 0) | (SOURCE_HASHED if ops & READS_OLD else 0)
    with pytest.raises(CorruptError, match=message):
        check(rows, layout)


@pytest.mark.parametrize("window", [(49_900, 100), (0, 1), (0, BLOCK)])
def test_windows_within_the_old_image(window: tuple[int, int]) -> None:
    assert check([RAW, Row(Op.WINDOW, Coder.ZSTD, 50, window=window)])


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        (OUTPUT_HASHED | SOURCE_HASHED, "without WINDOW blocks, or missing"),
        (WINDOWED | SOURCE_HASHED, "output hashes"),
        (WINDOWED | OUTPUT_HASHED, "hashes of the old parts"),
        (ALL_LAYOUT | NUMBERED, "only for in-place"),
    ],
)
def test_layouts_that_are_not_canonical(layout: int, message: str) -> None:
    with pytest.raises(CorruptError, match=message):
        check(ALL, layout)


def test_layouts_that_say_too_much() -> None:
    with pytest.raises(CorruptError, match="window fields present"):
        check([RAW, ZSTD], WINDOWED | OUTPUT_HASHED)
    with pytest.raises(CorruptError, match="hashes of the old parts"):
        check([RAW, ZSTD], SOURCE_HASHED | OUTPUT_HASHED)
    with pytest.raises(CorruptError, match="output hashes"):
        check([ZSTD], OUTPUT_HASHED)


@pytest.mark.parametrize("bit", [4, 5, 6, 7])
def test_an_unknown_layout_needs_a_newer_reader(bit: int) -> None:
    with pytest.raises(IncompatibleError, match="newer reader"):
        check(ALL, ALL_LAYOUT | 1 << bit)


@pytest.mark.parametrize("width", [0, 1, 3, 4, 5, 255])
def test_the_width_of_lengths_is_the_least(width: int) -> None:
    raw = bytearray(section(ALL, ALL_LAYOUT, 2))
    raw[1] = width
    with pytest.raises(CorruptError, match=f"length width {width}, expected 2"):
        parse_index(memoryview(raw), manifest(ALL))


def test_widths() -> None:
    assert [blob_length_width(value) for value in (0, 255, 256, 65_535, 65_536, 2**24, 2**32 - 1)] == [
        1,
        1,
        2,
        2,
        3,
        4,
        4,
    ]
    assert record_width(0, 1) == 35
    assert record_width(NUMBERED | ALL_LAYOUT, 4) == 4 + 2 + 4 + 12 + 3 * 32


@pytest.mark.parametrize("change", [-1, 1])
def test_the_number_of_records_is_that_of_the_grid(change: int) -> None:
    with pytest.raises(CorruptError, match="bytes of records, expected"):
        check(ALL, count=len(ALL) + change)


def test_a_million_blocks_need_a_million_records_before_anything_is_allocated() -> None:
    huge = replace(manifest(ALL), new=ImageId(1 << 40, Digest.of(b"new")))
    with pytest.raises(CorruptError, match="expected 268435456 of"):
        parse_index(section(ALL, ALL_LAYOUT, 2), huge)


def test_cut_short_at_every_byte() -> None:
    raw = section(ALL, ALL_LAYOUT, 2)
    for end in range(len(raw)):
        with pytest.raises(CorruptError):
            parse_index(raw[:end], manifest(ALL))


@pytest.mark.parametrize("changes", [{"max_blob_bytes": BLOCK + 1}, {"ops": frozenset(Op) - {Op.PREDICTED}}])
def test_caps_are_exact(changes: dict[str, object]) -> None:
    rows = [RAW, ZSTD, COPY, WINDOW, FILL]
    assert check(rows)
    with pytest.raises(CorruptError, match=r"exactly"):
        check(rows, **changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_blob_bytes": BLOCK - 1}, "expected at most 4095"),
        ({"ops": frozenset({Op.RAW, Op.COMPRESSED, Op.COPY, Op.WINDOW})}, "FILL with RAW is not declared"),
        ({"coders": frozenset({Coder.RAW, Coder.LZMA})}, "COMPRESSED with ZSTD is not declared"),
        ({"max_source_bytes": 199}, "expected at most 199"),
        ({"old": ImageId(299, Digest.of(b""))}, "old window ends at 300"),
    ],
)
def test_caps_bind(changes: dict[str, object], message: str) -> None:
    with pytest.raises(CorruptError, match=message):
        check([RAW, ZSTD, COPY, WINDOW, FILL], **changes)


def numbered(order: Sequence[int]) -> object:
    rows = [Row(Op.FILL, length=1, block=block) for block in order]
    return check(rows, NUMBERED | OUTPUT_HASHED, in_place=True)


def test_block_numbers_are_a_permutation_that_is_not_the_plain_order() -> None:
    index = numbered([2, 0, 1])
    assert [index[position].block for position in range(3)] == [2, 0, 1]  # type: ignore[index]
    for order in ([0, 0, 1], [0, 2, 3], [2, 1, 1], [2**32 - 1, 0, 1]):
        with pytest.raises(CorruptError, match="outside the grid or listed twice"):
            numbered(order)
    with pytest.raises(CorruptError, match="expected them left out"):
        numbered([0, 1, 2])


def one(old_bytes: int, layout: int, **changes: object) -> object:
    return check([Row(Op.DELTA, length=70)], layout, old_bytes=old_bytes, **changes)


def test_the_implied_hash_of_the_old_part() -> None:
    index = one(MAX_WHOLE_OLD_BYTES, 0, max_source_bytes=MAX_WHOLE_OLD_BYTES)
    record = index[0]  # type: ignore[index]
    assert record.source_digest is None
    assert record.output_digest == Digest.of(b"new").value
    assert one(MAX_WHOLE_OLD_BYTES + 1, SOURCE_HASHED)
    with pytest.raises(CorruptError, match="against the rules"):
        one(MAX_WHOLE_OLD_BYTES + 1, 0, max_source_bytes=MAX_WHOLE_OLD_BYTES + 1)
    with pytest.raises(CorruptError, match="expected at least the 1000 of the whole old image"):
        one(1000, 0, max_source_bytes=999)
    assert one(1000, 0, max_source_bytes=1000)
