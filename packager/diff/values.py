"""Learns what numbers of the old image become that are no addresses: type numbers, offsets of strings, operands.

When a type is added to a kernel, half of the numbers that name types change, each by its own amount. Nothing but the number itself tells
what it becomes, so the head says it: the value map. It is learnt from an alignment, and the images are aligned again with it.
"""

from array import array
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from typing import Final

from packager.diff import matcher
from packager.diff.matcher import Costs, Index
from packager.diff.prediction import (
    NOTHING,
    Mode,
    Prediction,
    Values,
    choose_pages,
    make_context,
    missed_in_pages,
    with_pages,
)
from packager.vehicle import kernel
from packager.vehicle._pure_predict import PAGE_LOG2, Kind
from packager.vehicle.instructions import Group, InstructionSet
from packager.vehicle.manifest import MAX_VALUES
from packager.vehicle.predictors import page_count
from packager.vehicle.segments import Segment

POOR_PAGE_BYTES: Final = 64
"""Pages where this many bytes are missed are learnt from."""
LEAST_OFTEN: Final = 2
"""A number must become its new value this much more often than it stays."""
MAX_GAP_PAGES: Final = 64
"""Pages with values that are further apart are not aligned together again."""
LEAST_CLUSTER: Final = 50
"""Nor are groups of them with less than this part of all."""
STRAY_SHARE: Final = 100
"""This part of the segments on each side does not count for which old bytes are aligned again."""
MARGIN_BYTES: Final = 1 << 18


def predict_values(
    old: bytes, new: bytes, plain: Prediction, costs: Sequence[Costs], pool: Executor
) -> Prediction | None:
    """Learn a value map and align again with it.

    Args:
        old: The old image.
        new: The new image.
        plain: What is predicted without.
        costs: Of the alignments that follow from each other.
        pool: Where they are made.

    Returns:
        None where there is nothing to learn.
    """
    mode = next((mode for mode in plain.modes if mode.groups), NOTHING)
    valued = [Mode(InstructionSet.NONE, Group.VALUES, 0)]
    valued += [replace(mode, groups=mode.groups | Group.VALUES)] if mode.groups else []
    modes = (mode, NOTHING, *valued)
    segments = plain.segments
    pages = bytes(missed >= POOR_PAGE_BYTES for missed in missed_in_pages(plain.context, old, new, segments))
    for each in costs:
        values = _learn(old, new, segments, pages)
        chosen = choose_pages(old, new, segments, modes, pool, values)
        pages = bytes(number >= 2 for number in chosen)
        if not any(pages):
            return None
        segments = _align_again(old, new, segments, modes, chosen, values, each, pool)
    values = _learn(old, new, segments, pages)
    found = with_pages(old, new, segments, modes, pool, values)
    return found if found.context.old_values else None


def _learn(old: bytes, new: bytes, segments: Sequence[Segment], pages: bytes) -> Values:
    values = matcher.learn_values(old, new, segments, pages, LEAST_OFTEN)
    return values[0][:MAX_VALUES], values[1][:MAX_VALUES]


def _align_again(
    old: bytes,
    new: bytes,
    segments: Sequence[Segment],
    modes: Sequence[Mode],
    pages: bytes,
    values: Values,
    costs: Costs,
    pool: Executor,
) -> list[Segment]:
    """Align in label space where pages have values; outside all stays as it is."""
    context = make_context(modes, pages, old, new, segments, values)
    half_page = 1 << PAGE_LOG2 - 1
    places = (context.map((number << PAGE_LOG2) + half_page) >> PAGE_LOG2 for number in range(page_count(len(old))))
    old_context = replace(context, pages=bytes(pages[place] if place < len(pages) else 0 for place in places))
    made: list[Segment] = []
    done = 0
    for first, last in _clusters(pages, len(new)):
        inside = list(_between(segments, first, last))
        if not inside:
            continue
        old_first, old_last = _old_range(inside, len(old))
        labelled_new, labelled_old = bytearray(new[first:last]), bytearray(old[old_first:old_last])
        kernel.label_block(context, Kind.LABEL, labelled_new, first)
        kernel.label_source(old_context, labelled_old, array("Q", (old_first, len(labelled_old), old_first)))
        found = Index(bytes(labelled_old), pool).segments(bytes(labelled_new), costs)
        made += _between(segments, done, first)
        made += (Segment(first + new_at, old_first + old_at, length) for new_at, old_at, length in found)
        done = last
    return [*made, *_between(segments, done, len(new))]


def _clusters(pages: bytes, new_bytes: int) -> Iterator[tuple[int, int]]:
    """Yield the stretches of the new image where pages with values lie close together; single ones far from all others are left out."""
    valued = [number for number, mode in enumerate(pages) if mode >= 2]
    start = 0
    for index in range(1, len(valued) + 1):
        if index < len(valued) and valued[index] - valued[index - 1] <= MAX_GAP_PAGES:
            continue
        if (index - start) * LEAST_CLUSTER >= len(valued):
            yield valued[start] << PAGE_LOG2, min((valued[index - 1] + 1) << PAGE_LOG2, new_bytes)
        start = index


def _old_range(segments: Sequence[Segment], old_bytes: int) -> tuple[int, int]:
    """Return the stretch of the old image that nearly all of these segments follow, and some more around it."""
    stray = len(segments) // STRAY_SHARE
    begins = sorted(segment.old_offset for segment in segments)
    ends = sorted(segment.old_offset + segment.length_bytes for segment in segments)
    first = max(begins[stray] - MARGIN_BYTES, 0) & ~((1 << PAGE_LOG2) - 1)
    return first, min(max(ends[-1 - stray], begins[stray]) + MARGIN_BYTES, old_bytes)


def _between(segments: Sequence[Segment], first: int, last: int) -> list[Segment]:
    """Return what lies between two places of the new image."""
    made = []
    for new_offset, old_offset, length_bytes in segments:
        start, end = max(new_offset, first), min(new_offset + length_bytes, last)
        if start < end:
            made.append(Segment(start, old_offset + start - new_offset, end - start))
    return made
