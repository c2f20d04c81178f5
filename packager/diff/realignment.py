"""Aligns again, in label space, only where something new is predicted; outside all stays as it is."""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from typing import Final

from packager.diff.matcher import Costs, Index
from packager.vehicle import kernel
from packager.vehicle._pure_stretch import PAGE_LOG2, Context, Kind
from packager.vehicle.core.predictors import page_count
from packager.vehicle.core.segments import Segment

MAX_GAP_PAGES: Final = 64
"""Pages that are further apart do not share the old bytes that they are aligned with."""
NEAR_PAGES: Final = 8
"""So many pages on each side of those that are predicted anew are aligned with them, so that paths have a start."""
STRAY_SHARE: Final = 20
"""This part of the bytes on each side does not count for which old bytes are aligned again."""
MARGIN_BYTES: Final = 1 << 18
WIDEST: Final = 4
"""More than this many times as many old bytes as those that are followed are not looked at: strays that lead all over a kernel cost an
index of all of it."""
WIDE_BYTES: Final = 8 << 20
"""So many always are: in a database rows move anywhere."""
WIDEST_TOGETHER: Final = 16 << 20
"""Old ranges that overlap are indexed together up to this length."""


def follow_pages(context: Context, old_bytes: int) -> bytes:
    """Return for each page of the old image the mode of the new one where its middle went."""
    half_page, pages = 1 << PAGE_LOG2 - 1, context.pages
    places = (context.map((number << PAGE_LOG2) + half_page) >> PAGE_LOG2 for number in range(page_count(old_bytes)))
    return bytes(pages[place] if place < len(pages) else 0 for place in places)


def align_again(
    old: bytes,
    new: bytes,
    segments: Sequence[Segment],
    context: Context,
    old_pages: bytes,
    stretches: Sequence[tuple[int, int]],
    chosen: Sequence[int],
    costs: Costs,
    pool: Executor,
) -> list[Segment]:
    """Align some pages of the new image in label space.

    Args:
        old: The old image.
        new: The new image.
        segments: The alignment so far.
        context: Modes, pages of the new image, address map.
        old_pages: The mode of each page of the old image.
        stretches: First and last byte of each, at pages; what lies in one is aligned with the same old bytes.
        chosen: For each page of the new image, whether it is aligned, with those near it.
        costs: Of the alignment.
        pool: Where it is made.
    """
    old_context = replace(context, pages=old_pages)
    ranges: dict[tuple[int, int], tuple[int, int]] = {}
    for stretch in stretches:
        inside = list(between(segments, *stretch))
        if inside:
            ranges[stretch] = old_range(inside, len(old))
    found: dict[tuple[int, int], list[Segment]] = {}
    for old_first, old_last, together in overlapping(ranges):
        labelled_old = bytearray(old[old_first:old_last])
        kernel.label_source(old_context, labelled_old, array("Q", (old_first, len(labelled_old), old_first)))
        index = Index(bytes(labelled_old), pool)
        started = {}
        for first, last in (place for stretch in together for place in near(chosen, *stretch)):
            labelled_new = bytearray(new[first:last])
            kernel.label_block(context, Kind.LABEL, labelled_new, first)
            started[first, last] = index.start(bytes(labelled_new), costs)
        for (first, last), pieces in started.items():
            found[first, last] = [Segment(first + at, old_first + old_at, length) for at, old_at, length in pieces()]
    made: list[Segment] = []
    done = 0
    for first, last in sorted(found):
        made += between(segments, done, first)
        made += found[first, last]
        done = last
    return [*made, *between(segments, done, len(new))]


def near(chosen: Sequence[int], first: int, last: int, pages: int = NEAR_PAGES) -> Iterator[tuple[int, int]]:
    """Yield the places of a stretch where pages are chosen, and so many pages around them.

    Args:
        chosen: For each page.
        first: First byte of the stretch, at a page.
        last: Its end.
        pages: How many on each side.
    """
    begin = end = first
    for number in range(first >> PAGE_LOG2, page_count(last)):
        if not chosen[number]:
            continue
        start = max((number - pages) << PAGE_LOG2, first)
        if start > end:
            if end > begin:
                yield begin, end
            begin = start
        end = min((number + 1 + pages) << PAGE_LOG2, last)
    if end > begin:
        yield begin, end


def overlapping(
    ranges: Mapping[tuple[int, int], tuple[int, int]],
) -> Iterator[tuple[int, int, list[tuple[int, int]]]]:
    """Yield old ranges and the stretches that follow them: one for those that overlap, as long as it is not too long for one index."""
    together: list[tuple[int, int]] = []
    first = last = 0
    for stretch, (begin, end) in sorted(ranges.items(), key=lambda item: item[1]):
        if together and (begin >= last or max(end, last) - first > WIDEST_TOGETHER):
            yield first, last, together
            together = []
        first, last = (first, max(end, last)) if together else (begin, end)
        together.append(stretch)
    if together:
        yield first, last, together


def clusters(chosen: Sequence[int], new_bytes: int, least_share: int) -> Iterator[tuple[int, int]]:
    """Yield the stretches of the new image where chosen pages lie close together.

    Args:
        chosen: For each page.
        new_bytes: Length of the new image.
        least_share: Groups with less than this part of all chosen pages are left out.
    """
    numbers = [number for number, is_chosen in enumerate(chosen) if is_chosen]
    start = 0
    for index in range(1, len(numbers) + 1):
        if index < len(numbers) and numbers[index] - numbers[index - 1] <= MAX_GAP_PAGES:
            continue
        if (index - start) * least_share >= len(numbers):
            yield numbers[start] << PAGE_LOG2, min((numbers[index - 1] + 1) << PAGE_LOG2, new_bytes)
        start = index


def old_range(segments: Sequence[Segment], old_bytes: int) -> tuple[int, int]:
    """Return the stretch of the old image that nearly all bytes of these segments follow, and some more around it."""
    ordered = sorted((segment.old_offset, segment.length_bytes) for segment in segments)
    total = sum(length_bytes for _, length_bytes in ordered)
    first = _skip(ordered, total // STRAY_SHARE)[0]
    last = sum(_skip(ordered[::-1], total // STRAY_SHARE))
    if last - first > max(WIDEST * total, WIDE_BYTES):
        first, last = _densest(ordered, max(WIDEST * total, WIDE_BYTES))
    return max(first - MARGIN_BYTES, 0) & ~((1 << PAGE_LOG2) - 1), min(last + MARGIN_BYTES, old_bytes)


def _densest(ordered: Sequence[tuple[int, int]], width: int) -> tuple[int, int]:
    """Return the stretch of at most this width, or of one pair, where most bytes of some pairs of offset and length start."""
    inside = most = start = 0
    best = (0, 0)
    for end, length_bytes in ordered:
        inside += length_bytes
        while end - ordered[start][0] > width:
            inside -= ordered[start][1]
            start += 1
        if inside > most:
            most, best = inside, (ordered[start][0], end + length_bytes)
    return best


def _skip(ordered: Sequence[tuple[int, int]], stray: int) -> tuple[int, int]:
    """Return the first of some pairs of offset and length behind so many bytes."""
    for start, length_bytes in ordered:
        stray -= length_bytes
        if stray < 0:
            return start, length_bytes
    return ordered[-1]


def between(segments: Sequence[Segment], first: int, last: int) -> list[Segment]:
    """Return what lies between two places of the new image."""
    made = []
    start = max(bisect_right(segments, first, key=_new_offset) - 1, 0)
    for index in range(start, bisect_left(segments, last, key=_new_offset)):
        new_offset, old_offset, length_bytes = segments[index]
        begin, end = max(new_offset, first), min(new_offset + length_bytes, last)
        if begin < end:
            made.append(Segment(begin, old_offset + begin - new_offset, end - begin))
    return made


def _new_offset(segment: Segment) -> int:
    return segment.new_offset


def join(first: Sequence[Segment], second: Sequence[Segment], chosen: Sequence[bool], new_bytes: int) -> list[Segment]:
    """Take the second alignment in the chosen pages, and the first elsewhere."""
    made: list[Segment] = []
    start = 0
    sources = (first, second)
    index = [0, 0]
    for number in range(1, len(chosen) + 1):
        if number < len(chosen) and chosen[number] == chosen[start]:
            continue
        which = int(chosen[start])
        source, at = sources[which], index[which]
        begin, end = start << PAGE_LOG2, min(number << PAGE_LOG2, new_bytes)
        while at < len(source) and source[at].new_offset < end:
            new_offset, old_offset, length_bytes = source[at]
            skip = max(begin - new_offset, 0)
            _append(made, Segment(new_offset + skip, old_offset + skip, min(length_bytes, end - new_offset) - skip))
            at += 1
        index[which] = max(at - 1, 0)
        start = number
    return made


def _append(made: list[Segment], piece: Segment) -> None:
    if piece.length_bytes <= 0:
        return
    last = made[-1] if made else None
    if (
        last is not None
        and last.new_offset + last.length_bytes == piece.new_offset
        and last.old_offset + last.length_bytes == piece.old_offset
    ):
        made[-1] = last._replace(length_bytes=last.length_bytes + piece.length_bytes)
    else:
        made.append(piece)
