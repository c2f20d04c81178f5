"""Aligns two images in label space with the modes and the costs that may pay, and keeps the alignment whose columns are shortest.

After a first alignment both images are rewritten so that every reference holds the address of its target in the *new* image; there, code
that only moved is equal, and the second alignment follows it further. Modes are chosen by what the path of a quick alignment costs.
"""

from array import array
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Final

from packager.diff.detection import has_cell_lists, likely_sets
from packager.diff.matcher import Costs, Index
from packager.diff.prediction import (
    CELLS,
    LIKELY_SETS,
    NOTHING,
    REMATCHED_BYTES,
    Mode,
    guessed_modes,
    likely_modes,
    make_context,
    missed_in_pages,
    with_pages,
)
from packager.diff.sizing import Measured, measure
from packager.diff.workers import Workers
from packager.vehicle import kernel
from packager.vehicle._pure_stretch import Kind
from packager.vehicle.core.predictors import page_count
from packager.vehicle.core.segments import Segment
from packager.vehicle.instructions import InstructionSet

COARSER_EXCESS: Final = 1.02
"""By so much the estimate is too high for the coarser alignment of a short image: with this, level 9 chooses better than 16 without."""

CLEAR_SHARE: Final = 0.95
"""Where code and pointers together make the path cheaper than this part of it, neither is tried alone. In long images a mode must."""


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is tried.

    Attributes:
        quick: Costs of alignments that others follow from.
        short: Of those that are compared for short images,
        plain: and for short ones where nothing is predicted,
        long: and for long ones,
        unpredicted: and for long ones where nothing is predicted,
        cells: and for databases.
        rounds: How often images are aligned in label space after the quick alignment there; at 0 that is kept, and nothing compared.
        adaptive: Whether residuals may be adaptive.
        hasty: Whether the likeliest mode is taken for all pages, or none, whatever the length of the image.
    """

    quick: Costs
    short: Sequence[Costs]
    plain: Sequence[Costs]
    long: Sequence[Costs]
    unpredicted: Sequence[Costs]
    cells: Sequence[Costs]
    rounds: int
    adaptive: bool = False
    hasty: bool = False


@dataclass(frozen=True, slots=True)
class Candidate:
    """The best alignment in label space.

    Attributes:
        first: The alignment that it followed from; None where labels need none, and where nothing is predicted.
        measured: The alignment with what it predicts, and how well.
        costs: Its costs.
    """

    first: Sequence[Segment] | None
    measured: Measured
    costs: Costs


def best_candidate(old: bytes, new: bytes, effort: Effort, workers: Workers) -> Candidate:
    """Choose mode and costs.

    Args:
        old: The old image.
        new: The new image.
        effort: What is tried.
        workers: Who does it; the result does not depend on them.
    """
    first: Sequence[Segment] | None = None
    segments: Sequence[Segment] = ()
    mode, index = CELLS, None
    if not has_cell_lists(new):
        sets = workers.rounds.submit(likely_sets, new)
        index = Index(old, workers.steps)
        first = index.segments(new, effort.quick)
        mode, segments = _choose_mode(old, new, first, sets.result(), effort, workers)
    follows_addresses = mode not in (CELLS, NOTHING)
    costs = effort.plain if mode is NOTHING else effort.short
    if len(new) > REMATCHED_BYTES:
        costs = effort.cells if mode is CELLS else effort.long if follows_addresses else effort.unpredicted
    if not effort.rounds:
        costs = [effort.cells[-1] if mode is CELLS else effort.quick]
    is_labelled = mode is not CELLS and len(new) <= REMATCHED_BYTES and not effort.hasty
    keeps = not effort.rounds and (is_labelled or mode is NOTHING)
    wanted = new
    if keeps or mode is not NOTHING:
        index = None
    if not keeps and index is None:
        index, wanted = _in_label_space(old, new, segments, mode, workers.steps)

    def align(each: Costs) -> Measured:
        found = segments if index is None else index.segments(wanted, each)
        for _ in range(1, effort.rounds if follows_addresses else 1):
            again, labelled_new = _in_label_space(old, new, found, mode, workers.steps)
            found = again.segments(labelled_new, each)
        modes = (mode,) if mode is NOTHING or effort.hasty else (mode, NOTHING)
        prediction = with_pages(old, new, found, modes, workers.steps)
        if not effort.rounds:  # nothing is compared
            return Measured(prediction, 0, array("I"))
        return measure(prediction, old, new, workers.steps, adaptive=effort.adaptive)

    found = list(workers.rounds.map(align, costs))
    sizes = [each.coded_bytes for each in found]
    excess = COARSER_EXCESS if len(new) <= REMATCHED_BYTES else 1
    allowance = [size / excess if index else size for index, size in enumerate(sizes)]
    best = allowance.index(min(allowance))
    return Candidate(first if follows_addresses else None, found[best], costs[best])


def _choose_mode(
    old: bytes, new: bytes, first: Sequence[Segment], sets: Sequence[InstructionSet], effort: Effort, workers: Workers
) -> tuple[Mode, Sequence[Segment]]:
    """Return the mode whose alignment has the cheapest path, and an alignment that its labels follow from.

    In long images that is the first alignment for all: another one in label space made a kernel no shorter, and a library by 1 %.
    """
    is_long = len(new) > REMATCHED_BYTES
    find = guessed_modes if effort.hasty else likely_modes
    modes = find(old, new, first, sets, workers.steps)[: 1 if is_long and not effort.hasty else None]
    aligns = not is_long and not effort.hasty
    quick = effort.quick

    def align(mode: Mode) -> tuple[int, Sequence[Segment]]:
        found = first
        if mode is not NOTHING and aligns:
            index, labelled_new = _in_label_space(old, new, first, mode, workers.steps)
            found = index.segments(labelled_new, quick)
        others = () if effort.hasty else (NOTHING,)
        return _path_cost(old, new, found, (mode, *others), quick, workers.steps), found

    tried = [NOTHING, *modes[:LIKELY_SETS]]
    measured = list(workers.rounds.map(align, tried))
    if aligns and min(cost for cost, _ in measured) > measured[0][0] * CLEAR_SHARE:
        rest = modes[LIKELY_SETS:]
        tried += rest
        measured += workers.rounds.map(align, rest)
    path_costs: list[float] = [cost for cost, _ in measured]
    if is_long and not effort.hasty:
        # Without prediction several alignments will be compared, and one of them has fewer segments than this path.
        path_costs[0] *= CLEAR_SHARE
    best = path_costs.index(min(path_costs))
    return tried[best], measured[best][1]


def _in_label_space(
    old: bytes, new: bytes, segments: Sequence[Segment], mode: Mode, pool: Executor
) -> tuple[Index, bytes]:
    """Return an index of the old image and the new image, both as labels that follow from an alignment."""
    labelled_old, labelled_new = bytearray(old), bytearray(new)
    everywhere = make_context([mode], bytes(page_count(max(len(old), len(new)))), old, new, segments)
    kernel.label_source(everywhere, labelled_old, array("Q", (0, len(old), 0)))
    kernel.label_block(everywhere, Kind.LABEL, labelled_new, 0)
    return Index(bytes(labelled_old), pool), bytes(labelled_new)


def _path_cost(
    old: bytes, new: bytes, segments: Sequence[Segment], modes: Sequence[Mode], costs: Costs, pool: Executor
) -> int:
    """Return what the matcher's path costs with the addresses that follow from it, where each page has the best of some modes."""
    pages = bytes(page_count(len(new)))
    contexts = [make_context([mode], pages, old, new, segments) for mode in dict.fromkeys(modes)]
    covered = sum(segment.length_bytes for segment in segments)
    missed = missed_in_pages(contexts, old, new, segments, pool)
    changed: int = sum(map(min, zip(*missed, strict=True)))
    return changed * costs.mismatch + (len(new) - covered) * costs.literal + len(segments) * costs.change
