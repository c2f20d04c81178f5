"""Where the bytes of a bundle go: its modes, and the columns of every blob, measured without decoding them."""

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from packager.bundle.check import open_bundle
from packager.vehicle.core.codec import COLUMNS
from packager.vehicle.core.head import Head
from packager.vehicle.core.index import BlockRecord
from packager.vehicle.core.manifest import Op
from packager.vehicle.core.predicted import ADAPTIVE, LITERALS_KNOW_OLD, LITERALS_KNOW_SOURCE, UNIT_MASK, WITHOUT_PIECES
from packager.vehicle.errors import CorruptError
from packager.vehicle.instructions import Group, InstructionSet
from packager.vehicle.profile import Coder
from packager.vehicle.wire import Cursor

_NAMES = {Op.DELTA: ("literals", "controls", "values"), Op.PREDICTED: ("literals", "gaps", "values")}
_KNOWN = {LITERALS_KNOW_SOURCE: "source", LITERALS_KNOW_OLD: "old image"}


@dataclass(frozen=True, slots=True)
class ColumnSize:
    """One column of a blob; a blob without columns is one that is named after its operation.

    Attributes:
        name: What it holds.
        coder: How it is coded.
        coded_bytes: Its length in the blob, with its own tag and length.
        decoded_bytes: Its length after decoding.
    """

    name: str
    coder: Coder
    coded_bytes: int
    decoded_bytes: int


@dataclass(frozen=True, slots=True)
class BlockAnatomy:
    """One block.

    Attributes:
        record: Its record in the index.
        columns: Its columns in the order of the blob; together, with the flags of a predicted block (one byte), they are the blob.
        unit_bytes: Predicted: unit of its residuals; 0 otherwise.
        corrections: Predicted: units that the prediction missed; 0 with adaptive residuals, which tell only when decoded.
        literals_know: Predicted: "source", "old image" or nothing.
        has_pieces: Whether old segments make it; a predicted block can be all literals.
    """

    record: BlockRecord
    columns: tuple[ColumnSize, ...]
    unit_bytes: int = 0
    corrections: int = 0
    literals_know: str = ""
    has_pieces: bool = False


@dataclass(frozen=True, slots=True)
class ModeUse:
    """One mode of section 4 of the head.

    Attributes:
        instruction_set: Whose fields are predicted.
        groups: Which of them.
        base: Address of the image's first byte, for pointers.
        pages: How many pages have it.
    """

    instruction_set: InstructionSet
    groups: Group
    base: int
    pages: int


def count_modes(head: Head) -> list[ModeUse]:
    """Return the modes of a bundle and how many pages have each; none without predicted blocks."""
    if head.predictors is None:
        return []
    context = head.predictors
    pages = Counter(context.pages)
    return [
        ModeUse(InstructionSet(number), Group(groups), base, pages[mode])
        for mode, (number, groups, base) in enumerate(zip(context.sets, context.groups, context.bases, strict=True))
    ]


def dissect_file(path: Path, head: Head) -> Iterator[BlockAnatomy]:
    """Yield the blocks of a bundle in the order of the file.

    Args:
        path: The bundle.
        head: Its head.

    Raises:
        CorruptError: A blob is cut short or is not the one of the index.
        ResourceError: The file can't be read.
    """
    with open_bundle(path) as stream:
        stream.seek(head.length_bytes)
        for position in range(len(head.index)):
            record = head.index[position]
            blob = stream.read(record.blob_bytes)
            if len(blob) != record.blob_bytes or hashlib.sha256(blob).digest() != record.blob_digest:
                raise CorruptError(
                    f"{path}: found {len(blob)} bytes of block {record.block}, expected the {record.blob_bytes} of the index "
                    "and their SHA-256; the file is cut short or damaged, fetch it again"
                )
            start, end = head.manifest.block_range(record.block)
            yield dissect(record, blob, end - start)


def dissect(record: BlockRecord, blob: bytes, output_bytes: int) -> BlockAnatomy:
    """Measure the columns of one blob whose hash was checked.

    Args:
        record: Its record.
        blob: Its bytes.
        output_bytes: Length of the block.

    Raises:
        CorruptError: The columns leave the blob, or do not fill it.
    """
    names = _NAMES.get(record.op)
    if names is None:
        whole = ColumnSize(record.op.name.lower(), record.coder, len(blob), output_bytes)
        return BlockAnatomy(record, (whole,), has_pieces=record.op is Op.COPY)
    cursor = Cursor(blob, f"block {record.block}")
    flags = cursor.uint(1) if record.op is Op.PREDICTED else 0
    if flags & ADAPTIVE:
        literals = _measure(cursor, names[0])
        columns: tuple[ColumnSize, ...] = (literals, ColumnSize("residuals", Coder.ADAPTIVE, cursor.left, 0))
        cursor.take(cursor.left)
    else:
        columns = tuple(_measure(cursor, names[index]) for index in range(COLUMNS))
    cursor.end()
    if record.op is Op.DELTA:
        return BlockAnatomy(record, columns, has_pieces=True)
    unit_bytes = 1 << (flags & UNIT_MASK)
    known = _KNOWN.get(flags & (LITERALS_KNOW_SOURCE | LITERALS_KNOW_OLD), "")
    corrections = 0 if flags & ADAPTIVE else columns[-1].decoded_bytes // unit_bytes
    return BlockAnatomy(record, columns, unit_bytes, corrections, known, not flags & WITHOUT_PIECES)


def _measure(cursor: Cursor, name: str) -> ColumnSize:
    start = cursor.offset
    tag = cursor.varint()
    if tag & 3 > Coder.LZMA:
        raise CorruptError(f"column {name}: found coder {tag & 3}, expected 0 to {int(Coder.LZMA)}")
    coder = Coder(tag & 3)
    cursor.take(tag >> 2 if coder is Coder.RAW else cursor.varint())
    return ColumnSize(name, coder, cursor.offset - start, tag >> 2)
