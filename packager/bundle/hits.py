"""How often the prediction of a bundle was right: counted over both images, not known from the bundle alone."""

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from packager.bundle.anatomy import BlockAnatomy
from packager.vehicle import kernel
from packager.vehicle._pure_stretch import PAGE_LOG2, Kind
from packager.vehicle.core.head import Head
from packager.vehicle.core.manifest import Op
from packager.vehicle.core.segments import Segment


@dataclass(slots=True)
class Hits:
    """Bytes of pieces in the pages of one mode.

    Attributes:
        predicted_bytes: They changed, and the labels of old and new are equal: a predicted address, for which nothing is stored.
        missed_bytes: The labels differ: a correction is stored.
    """

    predicted_bytes: int = 0
    missed_bytes: int = 0


def count_hits(head: Head, blocks: Sequence[BlockAnatomy], old: bytes, new: bytes) -> list[Hits]:
    """Count, for each mode, over the pieces of the predicted blocks.

    Args:
        head: Of the bundle.
        blocks: Its blocks.
        old: The old image.
        new: The new image.
    """
    if head.predictors is None:
        return []
    context = head.predictors
    hits = [Hits() for _ in context.sets]
    for block in blocks:
        if block.record.op is not Op.PREDICTED or not block.has_pieces:
            continue
        start, end = head.manifest.block_range(block.record.block)
        labels = bytearray(new[start:end])
        kernel.label_block(context, Kind.LABEL, labels, start)
        for piece in head.segments.pieces(start, end):
            plain = old[piece.old_offset : piece.old_offset + piece.length_bytes]
            made = bytearray(plain)
            kernel.label_source(context, made, array("Q", (piece.new_offset, piece.length_bytes, piece.old_offset)))
            for first, last in _cut_at_pages(piece):
                place, count = piece.new_offset + first, last - first
                changed = _differing(plain[first:last], new[place : place + count])
                missed = _differing(made[first:last], labels[place - start : place - start + count])
                found = hits[context.pages[place >> PAGE_LOG2]]
                found.missed_bytes += len(missed)
                found.predicted_bytes += len(changed - missed)
    return hits


def _cut_at_pages(piece: Segment) -> Iterator[tuple[int, int]]:
    at = 0
    while at < piece.length_bytes:
        step = min(piece.length_bytes - at, (1 << PAGE_LOG2) - (piece.new_offset + at) % (1 << PAGE_LOG2))
        yield at, at + step
        at += step


def _differing(first: bytes | bytearray, second: bytes | bytearray) -> set[int]:
    if first == second:
        return set()
    return {at for at, (one, other) in enumerate(zip(first, second, strict=True)) if one != other}
