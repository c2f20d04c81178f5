"""The segment map: which stretch of the new image follows which stretch of the old one.

It covers the whole image, is read before the first block, and is bounded by the head's length and a signed count. It tells each
delta block what it reads of the old image, and it is the address map of predicted blocks.
"""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple, Self

from packager.vehicle.codec import CodecLimits, read_columns
from packager.vehicle.errors import CorruptError
from packager.vehicle.wire import Cursor, unzigzag

SEGMENT_BYTES: Final = 20
"""Memory of one segment: two 64-bit offsets and a 32-bit length."""
MAX_SEGMENT_BYTES: Final = (1 << 32) - 1


class Segment(NamedTuple):
    """`length_bytes` bytes of the new image at `new_offset` follow those of the old image at `old_offset`."""

    new_offset: int
    old_offset: int
    length_bytes: int


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
        first = max(bisect_right(self.new_offsets, start) - 1, 0)
        last = bisect_left(self.new_offsets, end)
        found = list(map(Segment, self.new_offsets[first:last], self.old_offsets[first:last], self.lengths[first:last]))
        if found and found[0].new_offset < start:  # without overlap, only the first and the last can be cut
            new_offset, old_offset, length_bytes = found[0]
            cut = start - new_offset
            found[:1] = [Segment(start, old_offset + cut, length_bytes - cut)] if cut < length_bytes else []
        if found and found[-1].new_offset + found[-1].length_bytes > end:
            found[-1] = found[-1]._replace(length_bytes=end - found[-1].new_offset)
        return found


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
    columns = [Cursor(column, what) for column in read_columns(cursor, what, max_decoded_bytes, limits)]
    gaps, lengths, diagonals = columns
    segment_map = SegmentMap(array("Q"), array("Q"), array("I"))
    new_offset = diagonal = 0
    for index in range(count):
        new_offset += gaps.varint()
        length_bytes = lengths.varint()
        diagonal += unzigzag(diagonals.varint())
        old_offset = new_offset + diagonal
        if not 1 <= length_bytes <= MAX_SEGMENT_BYTES:
            raise CorruptError(f"{what}: segment {index} is {length_bytes} bytes long, expected 1 to 2**32 - 1")
        if new_offset + length_bytes > new_length_bytes:
            raise CorruptError(
                f"{what}: segment {index} ends at new byte {new_offset + length_bytes}, but the image has {new_length_bytes}"
            )
        if old_offset < 0 or old_offset + length_bytes > old_length_bytes:
            raise CorruptError(
                f"{what}: segment {index} reads old bytes {old_offset} to {old_offset + length_bytes}, "
                f"but the image has {old_length_bytes}"
            )
        segment_map.new_offsets.append(new_offset)
        segment_map.old_offsets.append(old_offset)
        segment_map.lengths.append(length_bytes)
        new_offset += length_bytes
    for column in columns:
        column.end()
    return segment_map
