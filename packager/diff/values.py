"""Learns what numbers of the old image become that are no addresses: type numbers, offsets of strings, operands.

When a type is added to a kernel, half of the numbers that name types change, each by its own amount. Nothing but the number itself tells
what it becomes, so the head says it: the value map. It is learnt from an alignment, and the images are aligned again with it.
"""

from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import replace
from typing import Final

from packager.diff import matcher
from packager.diff.matcher import Costs
from packager.diff.prediction import (
    NOTHING,
    PAGE_GAIN_BYTES,
    TABLE_SETS,
    Mode,
    Prediction,
    Values,
    make_context,
    missed_in_pages,
    with_chosen,
)
from packager.diff.realignment import align_again, clusters, follow_pages
from packager.diff.sizing import Measured
from packager.vehicle.core.manifest import MAX_VALUES
from packager.vehicle.core.predictors import page_count
from packager.vehicle.core.segments import Segment
from packager.vehicle.instructions import Group, InstructionSet

POOR_PAGE_BYTES: Final = 64
"""Pages where this many bytes are missed are learnt from."""
LEAST_OFTEN: Final = 2
"""A number must become its new value this much more often than it stays."""
VALUE_BYTES: Final = 2
"""About what a value costs in the head: where the first map predicts fewer bytes more than that, none ever made a bundle shorter."""
LEAST_SHARE: Final = 200
"""And nor where it is not more by this part of the bundle: a map that seems to gain less costs two alignments."""
LEAST_CLUSTER: Final = 50
"""Groups of pages with values that have less than this part of all are not aligned again."""


def predict_values(
    old: bytes, new: bytes, measured: Measured, costs: Sequence[Costs], pool: Executor
) -> Prediction | None:
    """Learn a value map and align again with it.

    Args:
        old: The old image.
        new: The new image.
        measured: What is predicted without.
        costs: Of the alignments that follow from each other.
        pool: Where they are made.

    Returns:
        None where there is nothing to learn, or clearly not enough.
    """
    plain = measured.prediction
    mode = next((mode for mode in plain.modes if mode.groups and mode.instruction_set not in TABLE_SETS), NOTHING)
    valued = [Mode(InstructionSet.NONE, Group.VALUES, 0)]
    valued += [replace(mode, groups=mode.groups | Group.VALUES)] if mode.groups else []
    modes = (*plain.modes, *valued)

    def choose(segments: Sequence[Segment], values: Values, plainly: Sequence[int] | None) -> tuple[bytes, int]:
        """Return for each page the mode that it had, or one with values if that predicts clearly more; and how much more all predict."""
        count = page_count(len(new))
        contexts = [] if plainly else [make_context(plain.modes, plain.context.pages, old, new, segments)]
        contexts += [make_context([mode], bytes(count), old, new, segments, values) for mode in valued]
        missed = missed_in_pages(contexts, old, new, segments, pool)
        chosen, gained = bytearray(plain.context.pages), 0
        for number, counts in enumerate(zip(*([plainly] if plainly else []), *missed, strict=True)):
            best = min(range(1, len(counts)), key=lambda index: counts[index])
            if counts[best] + PAGE_GAIN_BYTES < counts[0]:
                chosen[number] = len(plain.modes) + best - 1
                gained += counts[0] - counts[best]
        return bytes(chosen), gained

    segments = plain.segments
    pages = bytes(missed >= POOR_PAGE_BYTES for missed in measured.missed)
    values = _learn(old, new, segments, pages)
    chosen, gained = choose(segments, values, measured.missed)
    if (gained - VALUE_BYTES * len(values[0])) * LEAST_SHARE <= measured.coded_bytes:
        return None
    for each in costs:
        pages = bytes(number >= len(plain.modes) for number in chosen)
        if not any(pages):
            return None
        context = make_context(modes, chosen, old, new, segments, values)
        stretches = list(clusters(pages, len(new), LEAST_CLUSTER))
        segments = align_again(
            old, new, segments, context, follow_pages(context, len(old)), stretches, pages, each, pool
        )
        values = _learn(old, new, segments, pages)
        chosen, _ = choose(segments, values, None)
    found = with_chosen(old, new, segments, modes, chosen, values)
    return found if found.context.old_values else None


def _learn(old: bytes, new: bytes, segments: Sequence[Segment], pages: bytes) -> Values:
    values = matcher.learn_values(old, new, segments, pages, LEAST_OFTEN)
    return values[0][:MAX_VALUES], values[1][:MAX_VALUES]
