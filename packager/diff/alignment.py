"""What every engine returns, brought to one form: ordered, clipped, merged, extended over equal bytes."""

from typing import Final

from packager.vehicle.core.segments import Segment

MIN_SEGMENT_BYTES: Final = 8
_COMPARE_BYTES: Final = 256


def normalise(found: list[Segment], old: bytes, new: bytes) -> list[Segment]:
    """Order, clip to both images, cut overlaps (the earlier one wins), extend over equal bytes, merge, drop tiny ones."""
    result: list[Segment] = []
    ordered = sorted(found)
    for index, (new_offset, old_offset, length_bytes) in enumerate(ordered):
        end_limit = ordered[index + 1].new_offset if index + 1 < len(ordered) else len(new)
        done = result[-1].new_offset + result[-1].length_bytes if result else 0
        skip = max(done - new_offset, -old_offset, 0)
        new_offset, old_offset, length_bytes = new_offset + skip, old_offset + skip, length_bytes - skip
        length_bytes = min(length_bytes, len(new) - new_offset, len(old) - old_offset)
        if length_bytes <= 0:
            continue
        back = _equal_before(old, new, old_offset, new_offset, new_offset - done)
        new_offset, old_offset, length_bytes = new_offset - back, old_offset - back, length_bytes + back
        end = new_offset + length_bytes
        length_bytes += _equal_after(old, new, old_offset + length_bytes, end, max(end_limit - end, 0))
        if result and _continues(result[-1], new_offset, old_offset):
            result[-1] = result[-1]._replace(length_bytes=result[-1].length_bytes + length_bytes)
        elif length_bytes >= MIN_SEGMENT_BYTES:
            result.append(Segment(new_offset, old_offset, length_bytes))
    return result


def _continues(last: Segment, new_offset: int, old_offset: int) -> bool:
    return (
        last.new_offset + last.length_bytes == new_offset
        and last.new_offset - last.old_offset == new_offset - old_offset
    )


def _equal_before(old: bytes, new: bytes, old_end: int, new_end: int, limit: int) -> int:
    count = 0
    limit = min(limit, old_end)
    while count < limit and old[old_end - count - 1] == new[new_end - count - 1]:
        count += 1
    return count


def _equal_after(old: bytes, new: bytes, old_start: int, new_start: int, limit: int) -> int:
    limit = min(limit, len(old) - old_start)
    count = 0
    while count + _COMPARE_BYTES <= limit and (
        old[old_start + count : old_start + count + _COMPARE_BYTES]
        == new[new_start + count : new_start + count + _COMPARE_BYTES]
    ):
        count += _COMPARE_BYTES
    while count < limit and old[old_start + count] == new[new_start + count]:
        count += 1
    return count
