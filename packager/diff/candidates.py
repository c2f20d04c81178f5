"""Aligns two images in label space with the modes and the costs that may pay, and keeps the alignment whose columns are shortest.

After a first alignment both images are rewritten so that every reference holds the address of its target in the *new* image; there, code
that only moved is equal, and the second alignment follows it further. Modes are chosen by what the path of a quick alignment costs.
"""

from array import array
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Final

from packager.diff.detection import has_cell_lists
from packager.diff.matcher import Costs, Index
from packager.diff.prediction import (
    CELLS,
    NOTHING,
    REMATCHED_BYTES,
    Mode,
    Prediction,
    count_equal,
    likely_modes,
    make_context,
    with_pages,
)
from packager.diff.sizing import coded_bytes
from packager.vehicle import kernel
from packager.vehicle._pure_stretch import Kind
from packager.vehicle.core.predictors import page_count
from packager.vehicle.core.segments import Segment

COARSER_EXCESS: Final = 1.02
"""By so much the estimate is too high for the coarser alignment of a short image: with this, level 9 chooses better than 16 without."""


@dataclass(frozen=True, slots=True)
class Workers:
    """The threads that share the work on one pair of images.

    Attributes:
        steps: For what waits for nothing: parts of an alignment, counting.
        rounds: For what waits for steps. A pool of its own: a thread that waits for another of the same pool could wait for ever.
    """

    steps: Executor
    rounds: Executor


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is tried.

    Attributes:
        quick: Costs of alignments that others follow from.
        short: Of those that are compared for short images,
        long: and for long ones,
        unpredicted: and for long ones where nothing is predicted by addresses.
        rounds: How often images are aligned in label space after the quick alignment there; at 0 that is kept, and nothing compared.
        adaptive: Whether residuals may be adaptive.
    """

    quick: Costs
    short: Sequence[Costs]
    long: Sequence[Costs]
    unpredicted: Sequence[Costs]
    rounds: int
    adaptive: bool = False


@dataclass(frozen=True, slots=True)
class Candidate:
    """The best alignment in label space.

    Attributes:
        first: The alignment that it followed from; None where labels need none, and where nothing is predicted.
        prediction: The alignment with what it predicts.
        costs: Its costs.
        coded_bytes: How long the bundle will be, about; 0 if nothing was compared.
    """

    first: Sequence[Segment] | None
    prediction: Prediction
    costs: Costs
    coded_bytes: int


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
    mode = CELLS
    if not has_cell_lists(new):
        first = Index(old, workers.steps).segments(new, effort.quick)
        mode, segments = _choose_mode(old, new, first, effort.quick, workers)
    follows_addresses = mode not in (CELLS, NOTHING)
    costs = effort.short
    if len(new) > REMATCHED_BYTES:
        costs = effort.long if follows_addresses else effort.unpredicted
    aligned: list[tuple[Costs, Sequence[Segment]]]
    if not effort.rounds:
        costs = [effort.unpredicted[-1] if mode is CELLS else effort.quick]
    if effort.rounds or mode is CELLS:
        aligned = list(zip(costs, align_labelled(old, new, segments, mode, costs, workers), strict=True))
    else:
        aligned = [(effort.quick, segments)]
    for _ in range(1, effort.rounds if follows_addresses else 1):
        aligned = [(each, align_labelled(old, new, found, mode, [each], workers)[0]) for each, found in aligned]

    def measure(found: Sequence[Segment]) -> tuple[Prediction, int]:
        prediction = with_pages(old, new, found, (mode, NOTHING) if mode is not NOTHING else (NOTHING,), workers.steps)
        return prediction, coded_bytes(prediction, old, new, adaptive=effort.adaptive) if effort.rounds else 0

    found = list(workers.rounds.map(measure, (segments for _, segments in aligned)))
    sizes = [size for _, size in found]
    allowance = [size / COARSER_EXCESS if index and costs is effort.short else size for index, size in enumerate(sizes)]
    best = allowance.index(min(allowance))
    return Candidate(first if follows_addresses else None, found[best][0], costs[best], sizes[best])


def _choose_mode(
    old: bytes, new: bytes, first: Sequence[Segment], quick: Costs, workers: Workers
) -> tuple[Mode, Sequence[Segment]]:
    """Return the mode whose alignment has the cheapest path, and an alignment that its labels follow from."""
    modes = likely_modes(old, new, first)
    tried = modes[:1] if len(new) > REMATCHED_BYTES else modes

    def measure(mode: Mode) -> tuple[float, Sequence[Segment]]:
        found = first if mode is NOTHING else align_labelled(old, new, first, mode, [quick], workers)[0]
        return _path_cost(old, new, found, mode, quick), found

    measured = list(workers.rounds.map(measure, (NOTHING, *tried)))
    best = min(range(len(measured)), key=lambda number: measured[number][0])
    return (NOTHING, *tried)[best], measured[best][1]


def align_labelled(
    old: bytes, new: bytes, segments: Sequence[Segment], mode: Mode, costs: Sequence[Costs], workers: Workers
) -> list[list[Segment]]:
    """Align in label space, with each of some costs.

    Args:
        old: The old image.
        new: The new image.
        segments: An alignment that the labels follow from.
        mode: What is predicted.
        costs: Of each alignment.
        workers: Who does it.
    """
    if mode is not NOTHING:
        labelled_old, labelled_new = bytearray(old), bytearray(new)
        everywhere = make_context([mode], bytes(page_count(max(len(old), len(new)))), old, new, segments)
        kernel.label_source(everywhere, labelled_old, array("Q", (0, len(old), 0)))
        kernel.label_block(everywhere, Kind.LABEL, labelled_new, 0)
        old, new = bytes(labelled_old), bytes(labelled_new)
    index = Index(old, workers.steps)
    return [index.segments(new, each) for each in costs]


def _path_cost(old: bytes, new: bytes, segments: Sequence[Segment], mode: Mode, costs: Costs) -> int:
    """Return what the matcher's path costs with the addresses that follow from it."""
    context = make_context([mode], bytes(page_count(len(new))), old, new, segments)
    covered = sum(segment.length_bytes for segment in segments)
    differing = covered - count_equal(context, old, new, segments)
    return differing * costs.mismatch + (len(new) - covered) * costs.literal + len(segments) * costs.change
