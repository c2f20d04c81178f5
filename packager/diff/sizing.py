"""Says about how long a bundle will be with an alignment: its columns, coded quickly.

Counting bytes misjudges: what is missed again and again costs little, and literals more where they are short. So the real columns are
made, for the whole image at once, and compressed at a low level.
"""

from array import array
from typing import Final

from packager.diff import matcher, zstd
from packager.diff.prediction import Prediction, label_pieces
from packager.vehicle import kernel
from packager.vehicle._pure_stretch import Kind
from packager.vehicle.core.index import MAX_WHOLE_OLD_BYTES
from packager.vehicle.wire import encode_varint, zigzag

LEVEL: Final = 3
LITERALS_LEVEL: Final = 9
"""Of short images, whose literals may refer to the whole old image."""
UNITS: Final = (1, 4)
ADAPTIVE_BYTES: Final = 4 << 20
"""Residuals of longer images are estimated as if they were not adaptive, which takes less time."""


def coded_bytes(prediction: Prediction, old: bytes, new: bytes, *, adaptive: bool = False) -> int:
    """Estimate how long the head's maps and the columns of all blocks will be.

    Args:
        prediction: An alignment with what it predicts.
        old: The old image.
        new: The new image.
        adaptive: Whether residuals may be adaptive: then they are shorter, and what they learn need not be said.
    """
    segments = prediction.segments
    source, _ = label_pieces(prediction.context, old, new, segments)
    wanted = bytearray(new)
    kernel.label_block(prediction.context, Kind.LABEL, wanted, 0)
    made, literals, cuts = bytearray(wanted), bytearray(), array("Q")
    at = taken = 0
    for new_offset, _, length_bytes in segments:
        literals += wanted[at:new_offset]
        at = new_offset + length_bytes
        made[new_offset:at] = source[taken : taken + length_bytes]
        taken += length_bytes
        cuts.extend((new_offset, length_bytes))
    literals += wanted[at:]
    columns = [*_map_columns(prediction), *_value_columns(prediction)]
    known = bytes(source) if len(old) <= MAX_WHOLE_OLD_BYTES else b""
    return (
        sum(map(_quick, columns))
        + _quick(bytes(literals), known, LITERALS_LEVEL if known else LEVEL)
        + _residual_bytes(bytes(made), bytes(wanted), cuts, adaptive=adaptive and len(new) <= ADAPTIVE_BYTES)
    )


def _residual_bytes(made: bytes, wanted: bytes, cuts: "array[int]", *, adaptive: bool) -> int:
    if adaptive:
        return len(kernel.write_adaptive(made, wanted, cuts))
    residuals = [matcher.sparse_units(made, wanted, cuts, unit) for unit in UNITS]
    return min(_quick(gaps) + _quick(values) for gaps, values in residuals)


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
