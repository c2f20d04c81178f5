"""Finds tables in an image: distances from their own place, and records whose fields grow slowly; page by page, without headers.

What looks like a table may be anything: only where an alignment of the tables' labels leaves less to code than the one before, they stay.
"""

from array import array
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from itertools import chain
from typing import Final

from packager.diff import matcher
from packager.diff.matcher import Costs
from packager.diff.prediction import CELLS, Mode, Prediction, make_context, missed_in_pages, with_chosen
from packager.diff.realignment import NEAR_PAGES, align_again, between, clusters, follow_pages, join, near, old_range
from packager.diff.sizing import Measured
from packager.diff.workers import Workers
from packager.vehicle._pure_stretch import PAGE_BYTES, PAGE_LOG2, Context
from packager.vehicle.core.predictors import MAX_MODES, page_count
from packager.vehicle.core.segments import Segment
from packager.vehicle.instructions import Group, InstructionSet

POOR_PAGE_COST: Final = 512
"""Pages that cost so much, in units of the matcher, are looked at: about 40 changed bytes."""
LEAST_GAIN: Final = 128
"""What a page must gain by a table, in these units."""
SHORTEST: Final = (1 << 16, 1 << 20)
"""Smaller numbers are taken for lengths and flags, not for distances; which are, differs: Python's unwind tables lie 2 MB behind its code,
and other numbers stand between their distances; a kernel's exports name strings that are 100 kB away."""
LEAST_DISTANCES: Final = 48
"""So many of the 1,024 words of a page must lead into the image."""
LEAST_REPEATED: Final = 1024
"""So many bytes of a page must be as those one record before;"""
MOST_REPEATED: Final = 4032
"""but not nearly all: that is fill."""
BIG_ENDIAN: Final = 256
KEPT_MODES: Final = 2
"""For numbers that the value map knows."""
MIN_PAGES: Final = 2
HOPELESS_FROM: Final = 1.5
"""With the alignment that is there, most pages that become tables cost less than this many times what they did; others are near those."""
LEAST_STRETCH: Final = 512
"""Shorter stretches than this part of the image are not worth an alignment."""


@dataclass(frozen=True, slots=True)
class _Trial:
    """What is tried.

    Attributes:
        modes: Those of all pages.
        pages: The mode of each page of the new image,
        old_pages: and of the old one.
    """

    modes: tuple[Mode, ...]
    pages: bytes
    old_pages: bytes


@dataclass(slots=True)
class _Best:
    """The best of what was tried for each page of the new image."""

    pages: bytearray
    costs: list[int]
    segments: list[Segment]


def predict_tables(old: bytes, new: bytes, measured: Measured, costs: Costs, workers: Workers) -> Prediction | None:
    """Find tables where little is predicted, and align again with them.

    Args:
        old: The old image.
        new: The new image.
        measured: What is predicted without.
        costs: Of the alignment.
        workers: Who makes it.

    Returns:
        None where there are none.
    """
    # In a database nothing follows addresses: for a few chance tables the bundle would have to hold the whole address map.
    plain = measured.prediction
    plain_costs = _page_costs(plain.segments, measured.missed, costs, [(0, len(new))])
    best = _Best(bytearray(plain.context.pages), list(plain_costs), list(plain.segments))
    follows = plain.follows_addresses or CELLS not in plain.modes
    shortest = [each for each in SHORTEST if follows and each < len(new)]
    looks_new = _looks(new, bytes(cost >= POOR_PAGE_COST for cost in plain_costs), shortest, workers.steps)
    candidates = [any(modes) for modes in zip(*looks_new, strict=True)]
    least_bytes = max(MIN_PAGES << PAGE_LOG2, len(new) // LEAST_STRETCH)
    stretches = [pair for pair in clusters(candidates, len(new), len(candidates)) if pair[1] - pair[0] >= least_bytes]
    looks_new = [_within(modes, stretches) for modes in looks_new]
    looks_old = _looks(old, _old_pages(plain.segments, stretches, len(old)), shortest, workers.steps)
    old_pages = follow_pages(plain.context, len(old))
    modes = list(plain.modes)
    trials = []
    for found_new, found_old in zip(looks_new, looks_old, strict=True):
        counts = Counter(mode for mode in found_new if mode is not None)
        likely = [mode for mode, count in counts.most_common(MAX_MODES - KEPT_MODES - len(modes)) if count >= MIN_PAGES]
        modes += likely
        if likely:
            pages = _mixed(plain.context.pages, found_new, modes)
            trials.append(_Trial(tuple(modes), pages, _mixed(old_pages, found_old, modes)))

    def align_trial(trial: _Trial) -> tuple[Prediction, list[int]] | None:
        chosen = [page != before for page, before in zip(trial.pages, plain.context.pages, strict=True)]
        places = _near(chosen, stretches, 0)
        quickly = make_context(trial.modes, trial.pages, old, new, plain.segments)
        missed = _missed_within(quickly, old, new, plain.segments, places, workers)
        quick_costs = _page_costs(plain.segments, missed, costs, places)
        hopes = [
            is_chosen and cost < before * HOPELESS_FROM
            for is_chosen, cost, before in zip(chosen, quick_costs, plain_costs, strict=True)
        ]
        chosen = [is_chosen and is_near for is_chosen, is_near in zip(chosen, _marked(hopes), strict=True)]
        if not any(chosen):
            return None
        pages = bytes(
            page if is_chosen else before
            for page, before, is_chosen in zip(trial.pages, plain.context.pages, chosen, strict=True)
        )
        context = replace(quickly, pages=pages)
        segments = align_again(
            old, new, plain.segments, context, trial.old_pages, stretches, chosen, costs, workers.steps
        )
        found = Prediction(trial.modes, make_context(trial.modes, pages, old, new, segments), segments)
        places = _near(chosen, stretches, NEAR_PAGES)
        missed = _missed_within(found.context, old, new, segments, places, workers)
        return found, _page_costs(segments, missed, costs, places)

    for tried in workers.rounds.map(align_trial, trials):
        if tried is not None:
            _keep_better(best, tried[0], plain.context.pages, tried[1])
    if best.pages == plain.context.pages:
        return None
    return with_chosen(old, new, best.segments, modes, bytes(best.pages))


def _near(chosen: Sequence[int], stretches: Sequence[tuple[int, int]], pages: int) -> list[tuple[int, int]]:
    return [place for stretch in stretches for place in near(chosen, *stretch, pages)]


def _marked(hopes: Sequence[int]) -> list[bool]:
    """Mark the pages near those with hope."""
    marked = [False] * len(hopes)
    for first, last in near(hopes, 0, len(hopes) << PAGE_LOG2):
        for number in range(first >> PAGE_LOG2, last >> PAGE_LOG2):
            marked[number] = True
    return marked


def _missed_within(
    context: Context,
    old: bytes,
    new: bytes,
    segments: Sequence[Segment],
    places: Sequence[tuple[int, int]],
    workers: Workers,
) -> Sequence[int]:
    """Count, per page, the bytes of segments within some places that are not predicted."""
    inside = [piece for first, last in places for piece in between(segments, first, last)]
    (missed,) = missed_in_pages([context], old, new, inside, workers.steps)
    return missed


def _looks(image: bytes, wanted: bytes, shortest: Sequence[int], pool: Executor) -> list[list[Mode | None]]:
    """Return for each page what table of distances, by the shortest, and what table of records it may be."""
    middle = len(wanted) // 2
    parts = ((0, middle), (middle, len(wanted)))
    found_records = pool.map(
        lambda part: matcher.measure_records(
            memoryview(image)[part[0] << PAGE_LOG2 : part[1] << PAGE_LOG2], wanted[part[0] : part[1]]
        ),
        parts,
    )
    found: list[list[Mode | None]] = []
    for each, counts in zip(
        shortest, pool.map(lambda each: matcher.count_distances(image, wanted, each), shortest), strict=True
    ):
        distances = Mode(InstructionSet.DISTANCES, Group.CALLS, each)
        found.append([distances if leading >= LEAST_DISTANCES else None for leading in counts])
    measured = array("H", chain.from_iterable(found_records))
    records: list[Mode | None] = []
    for length, repeated in zip(measured[::2], measured[1::2], strict=True):
        group = Group.CONDITIONAL if length >= BIG_ENDIAN else Group.CALLS
        is_table = LEAST_REPEATED <= repeated <= MOST_REPEATED
        records.append(Mode(InstructionSet.RECORDS, group, length % BIG_ENDIAN) if is_table else None)
    return [*found, records]


def _within(found: Sequence[Mode | None], stretches: Sequence[tuple[int, int]]) -> list[Mode | None]:
    made: list[Mode | None] = [None] * len(found)
    for first, last in stretches:
        pages = slice(first >> PAGE_LOG2, page_count(last))
        made[pages] = found[pages]
    return made


def _old_pages(segments: Sequence[Segment], stretches: Sequence[tuple[int, int]], old_bytes: int) -> bytes:
    """Return which pages of the old image the stretches follow."""
    wanted = bytearray(page_count(old_bytes))
    for first, last in stretches:
        inside = between(segments, first, last)
        if inside:
            old_first, old_last = old_range(inside, old_bytes)
            for number in range(old_first >> PAGE_LOG2, page_count(old_last)):
                wanted[number] = 1
    return bytes(wanted)


def _mixed(pages: bytes, found: Sequence[Mode | None], modes: Sequence[Mode]) -> bytes:
    numbers = {mode: number for number, mode in enumerate(modes)}
    return bytes(numbers.get(mode, page) if mode else page for page, mode in zip(pages, found, strict=True))


def _keep_better(best: _Best, trial: Prediction, plain_pages: bytes, costs: Sequence[int]) -> None:
    """Take over the pages that became tables and cost less, with the alignment there."""
    pages = trial.context.pages
    better = [
        costs[number] + LEAST_GAIN <= best.costs[number] and pages[number] != plain_pages[number]
        for number in range(len(pages))
    ]
    best.segments = join(best.segments, trial.segments, better, trial.context.new_bytes)
    for number, is_better in enumerate(better):
        if is_better:
            best.pages[number], best.costs[number] = pages[number], costs[number]


def _page_costs(
    segments: Sequence[Segment], missed: Sequence[int], costs: Costs, stretches: Sequence[tuple[int, int]]
) -> list[int]:
    """Return what each page of some stretches costs on the matcher's path; 0 for others.

    Args:
        segments: The path.
        missed: How many bytes of segments each page misses.
        costs: Of the matcher.
        stretches: First and last byte of each.
    """
    result = [count * costs.mismatch for count in missed]
    for first, last in stretches:
        at = first
        for new_offset, _, length_bytes in [*between(segments, first, last), Segment(last, 0, 0)]:
            while at < new_offset:
                end = min(new_offset, (at | (PAGE_BYTES - 1)) + 1)
                result[at >> PAGE_LOG2] += (end - at) * costs.literal
                at = end
            at = new_offset + length_bytes
            if length_bytes:
                result[new_offset >> PAGE_LOG2] += costs.change
    return result
