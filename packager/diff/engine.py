"""The diff engines behind one function: two images in, an alignment out, with what can be predicted of it."""

import json
import struct
from array import array
from collections.abc import Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Final

from packager.diff import bsdiff, matcher, zstd
from packager.diff.candidates import Effort, best_candidate
from packager.diff.matcher import Costs, Index
from packager.diff.prediction import NOTHING, Mode, Prediction, make_context, with_pages
from packager.diff.sizing import measure
from packager.diff.tables import predict_tables
from packager.diff.values import predict_values
from packager.diff.workers import Workers
from packager.vehicle.core.segments import Segment
from packager.vehicle.instructions import Group, InstructionSet

MIN_EFFORT: Final = 1
DEFAULT_EFFORT: Final = 5
MAX_EFFORT: Final = 9
ROUNDS_TWICE_FROM: Final = 7
RIVALS_FROM: Final = 9
"""From here on bundles are also made of what the usual effort aligns, and of what bsdiff does."""
QUICK: Final = Costs(chain=4, sparse=2)
"""Of alignments that others follow from."""
COARSER: Final = Costs(mismatch=16, change=80)
"""Fewer, longer segments suit images that differ much."""
COARSEST: Final = Costs(mismatch=24, change=160, chain=4, sparse=2)
"""And those of databases: 8 % shorter, and 1.5 % shorter with fewer seeds than with all of them."""
VALUES_PAY_FROM: Final = 1.01
"""A value map must make the bundle shorter by this factor: the estimate is not more exact."""
THOROUGH_FROM: Final = 3
"""Below this effort seeds are looked for half as often, and no value map is tried, which takes a third of the time."""
DEFAULT_THREADS: Final = 2
"""Each holds an index of the old image or a window of zstd: memory grows with them."""
_TRIPLE: Final = struct.Struct("<QQQ")


class Engine(StrEnum):
    """Which engine aligns."""

    MATCH = "match"
    BSDIFF = "bsdiff"


@dataclass(frozen=True, slots=True)
class Alignment:
    """How a new image follows from an old one.

    Attributes:
        segments: By ascending new offset, without overlap; bytes within may differ.
        prediction: The same in label space, with what is predicted; None if nothing is.
        rivals: Other alignments of the same images; the smallest bundle that any of them makes counts.
    """

    segments: Sequence[Segment]
    prediction: Prediction | None = None
    rivals: Sequence["Alignment"] = ()


NO_ALIGNMENT: Final = Alignment(())
"""Of a full bundle."""


def align(
    old: bytes,
    new: bytes,
    engine: Engine = Engine.MATCH,
    effort: int = DEFAULT_EFFORT,
    *,
    predicts: bool = True,
    adaptive: bool = False,
    threads: int = DEFAULT_THREADS,
) -> Alignment:
    """Align `new` with `old` and find out what can be predicted.

    Args:
        old: The old image.
        new: The new image.
        engine: Which one; without a compiler at installation bsdiff stands in for the matcher.
        effort: 1 (fast) to 9 (small).
        predicts: Whether the ECU can decode predictions.
        adaptive: Whether their residuals may be adaptive; then some alignments pay less, and value maps.
        threads: How many share the work; the result does not depend on it.
    """
    if engine is Engine.BSDIFF or not matcher.is_compiled():
        return Alignment(bsdiff.segments(old, new))
    with ThreadPoolExecutor(threads) as steps, ThreadPoolExecutor(threads) as rounds:
        workers = Workers(steps, rounds)

        def matched(each: int) -> Alignment:
            if predicts:
                return _predicted(old, new, each, workers, adaptive=adaptive)
            return Alignment(Index(old, steps).segments(new, _costs_of(each)))

        made = matched(effort)
        if effort < RIVALS_FROM:
            return made
        usual = [matched(DEFAULT_EFFORT)] if predicts else []
        return replace(made, rivals=(*usual, _as_bsdiff_aligns(old, new, made.prediction, steps)))


def _costs_of(effort: int) -> Costs:
    return Costs(chain=4 if effort < DEFAULT_EFFORT else 16, sparse=2 if effort < THOROUGH_FROM else 1)


def _predicted(old: bytes, new: bytes, effort: int, workers: Workers, *, adaptive: bool) -> Alignment:
    """Align with the matcher and find out what can be predicted."""
    costs, steps = _costs_of(effort), workers.steps
    is_usual = effort >= DEFAULT_EFFORT
    tried = Effort(
        quick=QUICK,
        short=[costs, COARSER] if is_usual else [costs],
        plain=[costs, COARSER, COARSEST] if is_usual else [costs],
        long=[replace(costs, chain=QUICK.chain)],
        unpredicted=[replace(COARSER, chain=QUICK.chain), COARSEST],
        cells=[replace(COARSER, chain=costs.chain), COARSEST],
        rounds=(effort >= THOROUGH_FROM) + (effort >= ROUNDS_TWICE_FROM),
        adaptive=adaptive,
        hasty=effort == MIN_EFFORT,
    )
    best = best_candidate(old, new, tried, workers)
    kept = best.measured
    if effort >= THOROUGH_FROM:
        tables = predict_tables(old, new, kept, replace(best.costs, chain=QUICK.chain), workers)
        if tables is not None:
            measured = measure(tables, old, new, steps, adaptive=adaptive)
            kept = measured if measured.coded_bytes < kept.coded_bytes else kept
        each = [QUICK, best.costs] if is_usual else [best.costs]
        valued = predict_values(old, new, kept, each, steps)
        if valued is not None:
            measured = measure(valued, old, new, steps, adaptive=adaptive)
            kept = measured if measured.coded_bytes * VALUES_PAY_FROM < kept.coded_bytes else kept
    return Alignment(best.measured.prediction.segments if best.first is None else best.first, kept.prediction)


def _as_bsdiff_aligns(old: bytes, new: bytes, prediction: Prediction | None, pool: Executor) -> Alignment:
    """Align with bsdiff, and predict by modes that another alignment found."""
    segments = bsdiff.segments(old, new)
    if prediction is None or not segments:
        return Alignment(segments)
    plain = [mode for mode in prediction.modes if mode.groups and not mode.groups & Group.VALUES]
    return Alignment(segments, with_pages(old, new, segments, [*plain, NOTHING], pool))


def level_of(effort: int) -> int:
    """Return the zstd level for an effort."""
    return min(zstd.LEVEL, 3 * effort + 4)


def dump(alignment: Alignment) -> bytes:
    """Write an alignment as bytes, the same for the same alignment."""
    prediction = alignment.prediction
    header: dict[str, Any] = {"segments": len(alignment.segments)}
    parts = [_TRIPLE.pack(*segment) for segment in alignment.segments]
    if prediction is not None:
        header["modes"] = [[int(mode.instruction_set), int(mode.groups), mode.base] for mode in prediction.modes]
        header["predicted"] = len(prediction.segments)
        parts += [_TRIPLE.pack(*segment) for segment in prediction.segments]
        header["values"] = len(prediction.context.old_values)
        parts += [prediction.context.old_values.tobytes(), prediction.context.new_values.tobytes()]
        header["pages"] = len(prediction.context.pages)
        parts.append(prediction.context.pages)
    rivals = [dump(rival) for rival in alignment.rivals]
    header["rivals"] = [len(rival) for rival in rivals]
    parts += rivals
    return b"".join((json.dumps(header, sort_keys=True).encode(), b"\n", *parts))


def load(data: bytes, old: bytes, new: bytes) -> Alignment:
    """Read what `dump` wrote, of the same images."""
    line, _, rest = data.partition(b"\n")
    header = json.loads(line)
    end = header["segments"] * _TRIPLE.size
    segments = [Segment(*fields) for fields in _TRIPLE.iter_unpack(rest[:end])]
    prediction = None
    if "modes" in header:
        middle = end + header["predicted"] * _TRIPLE.size
        predicted = [Segment(*fields) for fields in _TRIPLE.iter_unpack(rest[end:middle])]
        modes = tuple(Mode(InstructionSet(number), Group(groups), base) for number, groups, base in header["modes"])
        last = middle + 4 * header["values"]
        values_end = last + 4 * header["values"]
        values = (array("I", rest[middle:last]), array("I", rest[last:values_end]))
        end = values_end + header["pages"]
        context = make_context(modes, rest[values_end:end], old, new, predicted, values)
        prediction = Prediction(modes, context, predicted)
    rivals = []
    for length in header["rivals"]:
        rivals.append(load(rest[end : end + length], old, new))
        end += length
    return Alignment(segments, prediction, tuple(rivals))
