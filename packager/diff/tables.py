"""Finds tables in an image: distances from their own place, and records whose fields grow slowly; page by page, without headers.

What looks like a table may be anything: only where an alignment of the tables' labels leaves less to code than the one before, they stay.
"""

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Final

from packager.diff import matcher
from packager.diff.matcher import Costs
from packager.diff.prediction import CELLS, Mode, Prediction, make_context, missed_in_pages, with_chosen
from packager.diff.realignment import align_again, between, clusters, follow_pages, join, old_range
from packager.diff.sizing import Measured
from packager.diff.workers import Workers
from packager.vehicle._pure_stretch import PAGE_BYTES, PAGE_LOG2
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
LEAST_STRETCH: Final = 512
"""Shorter stretches than this part of the image are not worth an alignment."""


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
    best = _Best(bytearray(plain.context.pages), plain_costs, list(plain.segments))
    kinds = slice(0 if plain.follows_addresses or CELLS not in plain.modes else len(SHORTEST), None)
    looks_new = _looks(new, bytes(cost >= POOR_PAGE_COST for cost in best.costs), workers.steps)[kinds]
    candidates = [any(modes) for modes in zip(*looks_new, strict=True)]
    least_bytes = max(MIN_PAGES << PAGE_LOG2, len(new) // LEAST_STRETCH)
    stretches = [pair for pair in clusters(candidates, len(new), len(candidates)) if pair[1] - pair[0] >= least_bytes]
    looks_new = [_within(modes, stretches) for modes in looks_new]
    looks_old = _looks(old, _old_pages(plain.segments, stretches, len(old)), workers.steps)[kinds]
    old_pages = follow_pages(plain.context, len(old))
    modes = list(plain.modes)
    trials = []
    for found_new, found_old in zip(looks_new, looks_old, strict=True):
        counts = Counter(mode for mode in found_new if mode is not None)
        likely = [mode for mode, count in counts.most_common(MAX_MODES - KEPT_MODES - len(modes)) if count >= MIN_PAGES]
        modes += likely
        if likely:
            pages = _mixed(plain.context.pages, found_new, modes)
            places = [pair for pair in stretches if any(found_new[pair[0] >> PAGE_LOG2 : page_count(pair[1])])]
            trials.append((tuple(modes), pages, _mixed(old_pages, found_old, modes), places))

    def align_trial(
        trial: tuple[tuple[Mode, ...], bytes, bytes, list[tuple[int, int]]],
    ) -> tuple[Prediction, list[int]]:
        modes, pages, old_modes, places = trial
        context = make_context(modes, pages, old, new, plain.segments)
        segments = align_again(old, new, plain.segments, context, old_modes, places, costs, workers.steps)
        found = Prediction(modes, make_context(modes, pages, old, new, segments), segments)
        inside = [piece for first, last in places for piece in between(segments, first, last)]
        (missed,) = missed_in_pages([found.context], old, new, inside, workers.steps)
        return found, _page_costs(segments, missed, costs, places)

    for found, page_costs in workers.rounds.map(align_trial, trials):
        _keep_better(best, found, plain.context.pages, page_costs)
    if best.pages == plain.context.pages:
        return None
    return with_chosen(old, new, best.segments, modes, bytes(best.pages))


def _looks(image: bytes, wanted: bytes, pool: Executor) -> list[list[Mode | None]]:
    """Return for each page what table of distances, by the shortest, and what table of records it may be."""
    found: list[list[Mode | None]] = []
    for shortest, measured in zip(
        SHORTEST, pool.map(lambda each: matcher.measure_tables(image, wanted, each), SHORTEST), strict=True
    ):
        distances = Mode(InstructionSet.DISTANCES, Group.CALLS, shortest)
        found.append([distances if leading >= LEAST_DISTANCES else None for leading in measured[::3]])
    records: list[Mode | None] = []
    for length, repeated in zip(measured[1::3], measured[2::3], strict=True):
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
