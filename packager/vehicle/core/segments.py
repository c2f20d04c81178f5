"""The segment map: which stretch of the new image follows which stretch of the old one.

It covers the whole image, is read before the first block, and is bounded by the head's length and a signed count. It tells each
delta block what it reads of the old image, and it is the address map of predicted blocks.
"""

from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple, Self

from packager.vehicle import kernel
from packager.vehicle._pure_segments import MAX_SEGMENT_BYTES
from packager.vehicle.core.codec import CodecLimits, read_columns
from packager.vehicle.errors import CorruptError
from packager.vehicle.wire import Cursor

__all__ = [
    "EMPTY_MAP",
    "MAX_SEGMENT_BYTES",
    "NO_PIECES",
    "SEGMENT_BYTES",
    "Pieces",
    "Segment",
    "SegmentMap",
    "parse_segments",
]

SEGMENT_BYTES: Final = 20
"""Memory of one segment: two 64-bit offsets and a 32-bit length."""


class Segment(NamedTuple):
    """`length_bytes` bytes of the new image at `new_offset` follow those of the old image at `old_offset`."""

    new_offset: int
    old_offset: int
    length_bytes: int


@dataclass(frozen=True, slots=True)
class Pieces:
    """Segments cut to a block, as the kernel takes them: objects for thousands of them cost more than their hashes.

    Attributes:
        pairs: Offset in the block and length of each, flat.
        triples: New offset, length and old offset of each, flat.
        length_bytes: Length of all.
    """

    pairs: "array[int]"
    triples: "array[int]"
    length_bytes: int


NO_PIECES: Final = Pieces(array("Q"), array("Q"), 0)


@dataclass(frozen=True, slots=True)
class SegmentMap:
    """Segments by ascending new offset, without overlap. Columns are kept as arrays: 20 bytes a segment."""

    new_offsets: "array[int]"
    old_offsets: "array[int]"
    lengths: "array[int]"

    @classmethod
    def of(cls, segments: Iterable[Segment]) -> Self:
        """Build a map from segments in ascending order."""
        made = cls(array("Q"), array("Q"), array("I"))
        for new_offset, old_offset, length_bytes in segments:
            made.new_offsets.append(new_offset)
            made.old_offsets.append(old_offset)
            made.lengths.append(length_bytes)
        return made

    def __len__(self) -> int:
        return len(self.new_offsets)

    def __iter__(self) -> Iterator[Segment]:
        return map(Segment, self.new_offsets, self.old_offsets, self.lengths)

    def pieces(self, start: int, end: int) -> list[Segment]:
        """Return the segments within the new bytes `start` to `end`, cut at both."""
        triples = self.cut(start, end).triples
        return list(map(Segment, triples[0::3], triples[2::3], triples[1::3]))

    def cut(self, start: int, end: int) -> Pieces:
        """Return the same as arrays."""
        return Pieces(*kernel.cut_pieces(self.new_offsets, self.old_offsets, self.lengths, start, end))


EMPTY_MAP: Final = SegmentMap(array("Q"), array("Q"), array("I"))


def parse_segments(
    section: memoryview,
    *,
    old_length_bytes: int,
    new_length_bytes: int,
    max_segments: int,
    max_decoded_bytes: int,
    limits: CodecLimits,
) -> SegmentMap:
    """Read section 3 of an authentic head.

    Args:
        section: The section: varint count, then three columns (gap, length, change of diagonal).
        old_length_bytes: Length of the old image; no segment reads outside it.
        new_length_bytes: Length of the new image; no segment writes outside it.
        max_segments: The signed number of segments, from the manifest.
        max_decoded_bytes: Longest decoded columns together, from the manifest.
        limits: The head's limits on coded bytes.

    Raises:
        CorruptError: A rule of FORMAT.md section 8 is broken.
    """
    what = "segment map"
    cursor = Cursor(section, what)
    count = cursor.varint()
    if count != max_segments:
        raise CorruptError(f"{what}: found {count} segments, expected the {max_segments} of the manifest")
    gaps, lengths, diagonals = read_columns(cursor, what, max_decoded_bytes, limits)
    return SegmentMap(*kernel.read_segments(gaps, lengths, diagonals, count, old_length_bytes, new_length_bytes))
