"""Says about how long a bundle will be with an alignment: its columns, coded quickly.

Counting bytes misjudges: what is missed again and again costs little, and literals more where they are short. So the real columns are
made, for the whole image at once, and compressed at a low level.
"""

from array import array
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from itertools import chain
from typing import Final

from packager.diff import matcher, zstd
from packager.diff.prediction import Part, Prediction, count_missed, label_new, label_source, parts_of
from packager.vehicle import kernel
from packager.vehicle._pure_stretch import Context
from packager.vehicle.core.index import MAX_WHOLE_OLD_BYTES
from packager.vehicle.wire import encode_varint, zigzag

LEVEL: Final = 3
LITERALS_LEVEL: Final = 9
"""Of short images, whose literals may refer to the whole old image."""
UNITS: Final = (1, 4)
ADAPTIVE_BYTES: Final = 4 << 20
"""Residuals of longer images are estimated as if they were not adaptive, which takes less time."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What is predicted, and how well.

    Attributes:
        prediction: The alignment with what it predicts.
        coded_bytes: How long the head's maps and the columns of all blocks will be, about.
        missed: Per page of the new image, how many bytes of segments are not predicted.
    """

    prediction: Prediction
    coded_bytes: int
    missed: "array[int]"


def measure(prediction: Prediction, old: bytes, new: bytes, pool: Executor, *, adaptive: bool = False) -> Measured:
    """Estimate how long a bundle will be.

    Args:
        prediction: An alignment with what it predicts.
        old: The old image.
        new: The new image.
        pool: Where parts of the image are measured.
        adaptive: Whether residuals may be adaptive: then they are shorter, and what they learn need not be said.
    """
    is_adaptive = adaptive and len(new) <= ADAPTIVE_BYTES
    parts = parts_of(prediction.segments, len(new))
    found = list(pool.map(lambda part: _columns_of(prediction.context, old, new, part, adaptive=is_adaptive), parts))
    literals = b"".join(each.literals for each in found)
    known = b"".join(each.source for each in found) if len(old) <= MAX_WHOLE_OLD_BYTES else b""
    heads = [pool.submit(_quick, column) for column in (*_map_columns(prediction), *_value_columns(prediction))]
    coded_literals = pool.submit(_quick, literals, known, LITERALS_LEVEL if known else LEVEL)
    residual_bytes = sum(each.adaptive_bytes for each in found)
    if not is_adaptive:
        columns = [b"".join(each) for each in zip(*(each.residuals for each in found), strict=True)]
        sizes = list(pool.map(_quick, columns))
        residual_bytes = min(map(sum, zip(sizes[::2], sizes[1::2], strict=True)))
    coded_bytes = sum(head.result() for head in heads) + coded_literals.result() + residual_bytes
    missed = array("I", chain.from_iterable(each.missed for each in found))
    return Measured(prediction, coded_bytes, missed)


@dataclass(frozen=True, slots=True)
class _Columns:
    """What is coded of a part of the image.

    Attributes:
        literals: As labels.
        source: The labelled old bytes.
        residuals: Gaps and values for each of `UNITS`; empty where residuals are adaptive,
        adaptive_bytes: and then this is their length.
        missed: Per page of the part.
    """

    literals: bytearray
    source: bytearray
    residuals: Sequence[bytes]
    adaptive_bytes: int
    missed: "array[int]"


def _columns_of(context: Context, old: bytes, new: bytes, part: Part, *, adaptive: bool) -> _Columns:
    source, labelled = label_source(context, old, part.pieces), label_new(context, new, part.first, part.last)
    made, wanted, literals, cuts = bytearray(labelled), bytearray(), bytearray(), array("Q")
    at = taken = 0
    for new_offset, _, length_bytes in part.pieces:
        first = new_offset - part.first
        literals += labelled[at:first]
        at = first + length_bytes
        wanted += labelled[first:at]
        made[first:at] = source[taken : taken + length_bytes]
        taken += length_bytes
        cuts.extend((first, length_bytes))
    literals += labelled[at:]
    missed = count_missed(source, wanted, part)
    if adaptive:
        return _Columns(literals, source, (), len(kernel.write_adaptive(bytes(made), bytes(labelled), cuts)), missed)
    residuals = [matcher.sparse_units(bytes(made), bytes(labelled), cuts, unit) for unit in UNITS]
    return _Columns(literals, source, list(chain.from_iterable(residuals)), 0, missed)


def _map_columns(prediction: Prediction) -> list[bytes]:
    gaps, lengths, diagonals = bytearray(), bytearray(), bytearray()
    at = diagonal = 0
    for new_offset, old_offset, length_bytes in prediction.segments:
        gaps += encode_varint(new_offset - at)
        lengths += encode_varint(length_bytes)
        diagonals += encode_varint(zigzag(old_offset - new_offset - diagonal))
        at, diagonal = new_offset + length_bytes, old_offset - new_offset
    return [bytes(gaps), bytes(lengths), bytes(diagonals)]


def _value_columns(prediction: Prediction) -> list[bytes]:
    gaps, changes = bytearray(), bytearray()
    last, change = -1, 0
    context = prediction.context
    for old_value, new_value in zip(context.old_values, context.new_values, strict=True):
        gaps += encode_varint(old_value - last - 1)
        changes += encode_varint(zigzag(new_value - old_value - change))
        last, change = old_value, new_value - old_value
    return [bytes(gaps), bytes(changes)]


def _quick(column: bytes, window: bytes = b"", level: int = LEVEL) -> int:
    return min(len(column), len(zstd.compress(column, level, window))) if column else 0
