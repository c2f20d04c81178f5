"""The forms of a block in label space (delta coding 2): segments with sparse residuals, or labels alone."""

from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Final

from packager.bundle.columns import MIN_COMPRESSED_BYTES, Column, compress, encode_column
from packager.bundle.forms import QUICK_LEVEL, Means, Place, gather, nonzero
from packager.bundle.writer import CodedBlock
from packager.diff import lzma, matcher, zstd
from packager.vehicle import kernel
from packager.vehicle._pure_stretch import Kind
from packager.vehicle.core.manifest import Op
from packager.vehicle.core.predicted import (
    ADAPTIVE,
    ADAPTIVE_UNIT_LOG2,
    LITERALS_KNOW_OLD,
    LITERALS_KNOW_SOURCE,
    WITHOUT_PIECES,
)
from packager.vehicle.profile import Coder
from packager.vehicle.wire import encode_varint

UNITS_LOG2: Final = (0, 1, 2)
FASTEST_LEVEL: Final = 1
SOURCE_PAYS_FROM: Final = 512
"""Shorter literals don't refer to their source: to sort it takes 0.1 s per MiB and saves 5 % of them."""
FEW_LITERALS: Final = 256
LONG_WINDOW_BYTES: Final = 1 << 20
"""Where a long window is this many times as long as the literals that refer to it, it is searched quickly, for at most 2 % more of them: to
sort 4 MiB of text for 135 bytes took 2 s with zstd and 7 s with LZMA. Shorter ones are sorted in 0.1 s."""
HURRIED_LEVEL: Final = 12


@dataclass(frozen=True, slots=True)
class Labelled:
    """A block in label space: what its columns are made of.

    Attributes:
        literals: Labels that no piece makes.
        source: The old bytes of all pieces as labels, one after the other.
        made: The block as the pieces make it.
        wanted: The block.
        cuts: Start and length of each piece.
        unit_log2: Of the units of which residuals are shortest,
        gaps: and those, as `sparse_units` makes them.
        values: The same.
    """

    literals: bytes
    source: bytes
    made: bytes
    wanted: bytes
    cuts: "array[int]"
    unit_log2: int
    gaps: bytes
    values: bytes


def label_pieces(place: Place, means: Means) -> Labelled | None:
    """Return the block in label space, if it has pieces and anything is predicted."""
    if means.prediction is None or place.old is None or not place.pieces:
        return None
    context = means.prediction.context
    source, wanted = bytearray(gather(place)), bytearray(place.output)
    triples, cuts = array("Q"), []
    for new_offset, old_offset, length_bytes in place.pieces:
        triples.extend((new_offset, length_bytes, old_offset))
        cuts.append((new_offset - place.start, length_bytes))
    kernel.label_source(context, source, triples)
    kernel.label_block(context, Kind.LABEL, wanted, place.start)
    made, literals = bytearray(wanted), bytearray()
    at = taken = 0
    for first, length_bytes in cuts:
        literals += wanted[at:first]
        made[first : first + length_bytes] = source[taken : taken + length_bytes]
        at, taken = first + length_bytes, taken + length_bytes
    literals += wanted[at:]
    sparse = [(log2, *sparse_units(bytes(made), bytes(wanted), cuts, 1 << log2)) for log2 in UNITS_LOG2]
    best = min(sparse, key=lambda item: _quick_size(item[1], means) + _quick_size(item[2], means))
    flat = array("Q", chain.from_iterable(cuts))
    return Labelled(bytes(literals), bytes(source), bytes(made), bytes(wanted), flat, *best)


def predicted_form(place: Place, means: Means, labelled: Labelled) -> CodedBlock:
    """Return the block as labelled segments with residuals in units, and literals (delta coding 2)."""
    residuals = [
        means.start(encode_column, each, means.coders, means.level) for each in (labelled.gaps, labelled.values)
    ]
    literal_column, known = _literal_column(labelled.literals, labelled.source, means)
    columns: tuple[Column, ...] = (literal_column, *(residual() for residual in residuals))
    blob = bytes((labelled.unit_log2 | known,)) + b"".join(column.encoded for column in columns)
    coders = frozenset(column.coder for column in columns)
    if Coder.ADAPTIVE in means.coders:
        stream = kernel.write_adaptive(labelled.made, labelled.wanted, labelled.cuts)
        adaptive = bytes((ADAPTIVE_UNIT_LOG2 | known | ADAPTIVE,)) + literal_column.encoded + stream
        if len(adaptive) < len(blob):
            blob, columns, coders = adaptive, (literal_column,), frozenset({literal_column.coder, Coder.ADAPTIVE})
    return CodedBlock(
        place.block,
        Op.PREDICTED,
        Coder.RAW,
        blob,
        place.output,
        gather(place),
        decoded_bytes=sum(column.decoded_bytes for column in columns),
        window_log2=max(column.window_log2 for column in columns),
        coders=coders,
    )


def labels_form(place: Place, means: Means) -> CodedBlock | None:
    """Return the block as one column of labels that may refer to the whole labelled old image (delta coding 2 without pieces)."""
    if means.prediction is None or place.old is None or not means.labelled_old:
        return None
    wanted = bytearray(place.output)
    kernel.label_block(means.prediction.context, Kind.LABEL, wanted, place.start)
    column, known = _literal_column(bytes(wanted), b"", means)
    empty = encode_column(b"", means.coders, means.level)
    blob = bytes((known | WITHOUT_PIECES,)) + column.encoded + empty.encoded + empty.encoded
    coders = frozenset({column.coder})
    return CodedBlock(
        place.block,
        Op.PREDICTED,
        Coder.RAW,
        blob,
        place.output,
        gather(place),  # not used, but read and hashed: the segments stand in the map
        decoded_bytes=column.decoded_bytes,
        window_log2=column.window_log2,
        coders=coders,
    )


def _quick_size(data: bytes, means: Means) -> int:
    """Return about how long a column will be."""
    return len(compress(data, means.coders - {Coder.LZMA}, QUICK_LEVEL)[1])


def _literal_column(literals: bytes, source: bytes, means: Means) -> tuple[Column, int]:
    """Code literals alone, or with labelled old bytes that the frame may refer to; return the flag that tells which, too."""
    flag, window = (LITERALS_KNOW_OLD, means.labelled_old) if means.labelled_old else (LITERALS_KNOW_SOURCE, source)
    shrinks = means.pool is not None and literals != b"" and len(zstd.compress(literals, FASTEST_LEVEL)) < len(literals)
    start = means.start if shrinks else partial
    hurried = len(window) > max(len(literals) * FEW_LITERALS, LONG_WINDOW_BYTES)
    behind = [  # started first: they take longest; but of packed data none is needed
        (coder, start(code, literals, window))
        for coder, code in _coders_behind(means, hurried=hurried)
        if window and len(literals) >= MIN_COMPRESSED_BYTES
    ]
    best, known = encode_column(literals, means.coders, means.level), 0
    if best.coder is Coder.RAW or (flag == LITERALS_KNOW_SOURCE and len(best.encoded) < SOURCE_PAYS_FROM):
        return best, known
    for coder, started in behind:
        coded = started()
        if coded is None:
            continue
        packed = encode_varint(len(literals) << 2 | coder) + encode_varint(len(coded)) + coded
        if len(packed) < len(best.encoded):
            window_log2 = zstd.window_log2(coded) if coder is Coder.ZSTD else 0
            best, known = Column(packed, len(literals), coder, window_log2), flag
    return best, known


def _coders_behind(means: Means, *, hurried: bool) -> Iterator[tuple[Coder, Callable[[bytes, bytes], bytes | None]]]:
    """Yield the coders that may refer to old bytes, and how they code literals that follow a window; hurried, they sort none of it."""
    level = min(means.level, HURRIED_LEVEL) if hurried else means.level
    if Coder.ZSTD in means.coders:
        yield Coder.ZSTD, lambda literals, window: zstd.compress(literals, level, window)
    if Coder.LZMA in means.coders:
        yield Coder.LZMA, partial(lzma.compress_behind, hurried=hurried)


def sparse_units(made: bytes, wanted: bytes, cuts: Sequence[tuple[int, int]], unit: int) -> tuple[bytes, bytes]:
    """Return gaps and values that turn `made` into `wanted`, as `packager.vehicle._pure.add_units` reads them."""
    if matcher.is_compiled():
        return matcher.sparse_units(made, wanted, array("Q", (number for cut in cuts for number in cut)), unit)
    return sparse_units_slowly(made, wanted, cuts, unit)


def sparse_units_slowly(made: bytes, wanted: bytes, cuts: Sequence[tuple[int, int]], unit: int) -> tuple[bytes, bytes]:
    """Do the same without a compiler's help: what the compiled form is held to."""
    gaps, values = bytearray(), bytearray()
    done = waiting = 0
    mask = (1 << 8 * unit) - 1
    for start, length_bytes in cuts:
        if not length_bytes:
            continue
        first, last = max(start // unit, done), (start + length_bytes - 1) // unit + 1
        before, after = made[first * unit : last * unit], wanted[first * unit : last * unit]
        at = 0
        for number in _changed_units(before, after, unit):
            gaps += encode_varint(waiting + number - at)
            place = number * unit
            old_value = int.from_bytes(before[place : place + unit], "little")
            new_value = int.from_bytes(after[place : place + unit], "little")
            values += ((new_value - old_value) & mask).to_bytes(unit, "little")
            waiting, at = 0, number + 1
        waiting += max(last - first, 0) - at
        done = max(done, last)
    return bytes(gaps), bytes(values)


def _changed_units(before: bytes, after: bytes, unit: int) -> Iterator[int]:
    """Yield the numbers of the units that differ."""
    if before == after:
        return
    difference = (int.from_bytes(before, "little") ^ int.from_bytes(after, "little")).to_bytes(len(before), "little")
    last = -1
    for position in nonzero(difference):
        if position // unit != last:
            last = position // unit
            yield last
