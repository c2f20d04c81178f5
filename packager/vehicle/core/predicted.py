"""Makes a predicted block (delta coding 2): old bytes become labels, residuals and literals are added, labels become addresses.

FORMAT.md section 13. Reached only with an authentic blob and old part.
"""

from array import array
from dataclasses import dataclass, replace
from typing import Final

from packager.vehicle import kernel
from packager.vehicle._pure_stretch import Context, Kind
from packager.vehicle.core.codec import CodecLimits, read_column
from packager.vehicle.core.predictors import page_count
from packager.vehicle.core.segments import NO_PIECES, Pieces
from packager.vehicle.errors import CorruptError
from packager.vehicle.profile import Coder
from packager.vehicle.wire import Cursor

UNIT_MASK: Final = 3
LITERALS_KNOW_SOURCE: Final = 4
"""Flag: the literals' zstd frame may refer to the labelled source."""
LITERALS_KNOW_OLD: Final = 8
"""Flag: it may refer to the whole labelled old image instead; only where that is the old part."""
WITHOUT_PIECES: Final = 16
"""Flag: the block is all literals; the segments in it only serve the address map."""
ADAPTIVE: Final = 32
"""Flag: the residuals are one adaptive stream instead of gaps and values."""
ADAPTIVE_UNIT_LOG2: Final = 1
MAX_UNIT_LOG2: Final = 2


@dataclass(frozen=True, slots=True)
class OldPart:
    """What a block has of the old image; both become labels.

    Attributes:
        source: Old bytes of the pieces, one after the other.
        whole: The whole old image, where it is the old part of the only block; else empty.
    """

    source: memoryview
    whole: memoryview


def make_predicted(
    context: Context,
    blob: memoryview,
    what: str,
    pieces: Pieces,
    old: OldPart,
    out: memoryview,
    start: int,
    max_decoded_bytes: int,
    limits: CodecLimits,
) -> None:
    """Decode one block.

    Args:
        context: Modes, pages and address map of the bundle.
        blob: The blob.
        what: Name of the block, for messages.
        pieces: Segments within the block.
        old: The verified old part.
        out: The block; the source may lie in its end.
        start: Where it stands in the new image.
        max_decoded_bytes: What the columns may have in all.
        limits: The head's limits.

    Raises:
        CorruptError: A column is too short or too long, or leaves its range.
    """
    cursor = Cursor(blob, what)
    flags = cursor.uint(1)
    known = flags & (LITERALS_KNOW_SOURCE | LITERALS_KNOW_OLD)
    if flags & ~63 or flags & UNIT_MASK > MAX_UNIT_LOG2 or known == LITERALS_KNOW_SOURCE | LITERALS_KNOW_OLD:
        raise CorruptError(f"{what}: flags {flags:#x} of a predicted block are unknown")
    if flags & ADAPTIVE and flags & UNIT_MASK != ADAPTIVE_UNIT_LOG2:
        raise CorruptError(f"{what}: adaptive residuals in units of {1 << (flags & UNIT_MASK)} bytes, expected 2")
    if flags & ADAPTIVE and Coder.ADAPTIVE not in limits.coders:
        raise CorruptError(f"{what}: needs coder ADAPTIVE, which the manifest does not declare")
    if known == LITERALS_KNOW_OLD and not len(old.whole):
        raise CorruptError(f"{what}: its literals refer to the whole old image, which is not its old part")
    source = old.source
    if flags & WITHOUT_PIECES:
        pieces, source = NO_PIECES, source[:0]
    kernel.label_source(context, source, pieces.triples)
    if known == LITERALS_KNOW_OLD:
        label_whole(context, old.whole)
    window = {LITERALS_KNOW_SOURCE: source, LITERALS_KNOW_OLD: old.whole}.get(known, b"")
    literals = read_column(cursor, what, max_decoded_bytes=max_decoded_bytes, limits=limits, window=window)
    if flags & ADAPTIVE:
        kernel.apply_delta(out, source, pieces.pairs, literals, b"", b"")
        kernel.add_adaptive(out, pieces.pairs, cursor.take(cursor.left))
        kernel.label_block(context, Kind.UNLABEL, out, start)
        return
    left = max_decoded_bytes - len(literals)
    gaps = read_column(cursor, what, max_decoded_bytes=left, limits=limits)
    values = read_column(cursor, what, max_decoded_bytes=left - len(gaps), limits=limits)
    cursor.end()
    kernel.apply_delta(out, source, pieces.pairs, literals, b"", b"")
    kernel.add_units(out, pieces.pairs, gaps, values, 1 << (flags & UNIT_MASK))
    kernel.label_block(context, Kind.UNLABEL, out, start)


def label_whole(context: Context, old: bytearray | memoryview) -> None:
    """Turn the whole old image into labels, as if every page had the first mode and nothing moved."""
    everywhere = replace(context, pages=bytes(page_count(len(old))))
    kernel.label_source(everywhere, old, array("Q", (0, len(old), 0)))
