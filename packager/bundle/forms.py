"""The forms that one block can take; the encoder measures them and keeps the smallest.

Every form is made only if the ECU can decode it, and carries what the head must say of it.
"""

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from packager.bundle.columns import Column, compress, encode_column
from packager.bundle.writer import CodedBlock
from packager.diff import zstd
from packager.diff.prediction import Prediction
from packager.vehicle import kernel
from packager.vehicle._pure_predict import Kind
from packager.vehicle.manifest import Op
from packager.vehicle.predicted import LITERALS_KNOW_OLD, LITERALS_KNOW_SOURCE, WITHOUT_PIECES
from packager.vehicle.profile import Coder
from packager.vehicle.segments import Segment
from packager.vehicle.wire import encode_varint

MAX_KEPT_EQUAL: Final = 3
"""Equal bytes between two changes that stay in one run: a new control pair costs about as much."""
QUICK_LEVEL: Final = 3
UNITS_LOG2: Final = (0, 1, 2)
TINY_BLOB_BYTES: Final = 64
"""Below this no other form is tried: nothing is left to gain."""


@dataclass(frozen=True, slots=True)
class Means:
    """What may be used for one bundle.

    Attributes:
        coders: Coders of the ECU that fit its memory.
        window_bytes: Longest old window of `Op.WINDOW`; 0 for none.
        level: zstd level.
        prediction: What is predicted; None for nothing.
        labelled_old: The whole old image as labels, where blocks may refer to it; else empty.
    """

    coders: frozenset[Coder]
    window_bytes: int
    level: int
    prediction: Prediction | None = None
    labelled_old: bytes = b""


@dataclass(frozen=True, slots=True)
class Place:
    """One block of the new image and what lies around it.

    Attributes:
        block: Its number.
        start: Its first byte in the new image.
        output: Its bytes.
        old: The old image; None for a full bundle.
        pieces: Segments within it.
    """

    block: int
    start: int
    output: bytes
    old: bytes | None
    pieces: Sequence[Segment]


def fill_form(place: Place) -> CodedBlock | None:
    """Return the block as one repeated byte, if it is that."""
    output = place.output
    if output.count(output[0]) != len(output):
        return None
    return CodedBlock(place.block, Op.FILL, Coder.RAW, output[:1], output)


def raw_form(place: Place) -> CodedBlock:
    """Return the block as it is."""
    return CodedBlock(place.block, Op.RAW, Coder.RAW, place.output, place.output)


def compressed_form(place: Place, means: Means) -> CodedBlock | None:
    """Return the block compressed by itself, if that makes it smaller."""
    coder, coded = compress(place.output, means.coders, means.level)
    if coder is Coder.RAW:
        return None
    window_log2 = zstd.window_log2(coded) if coder is Coder.ZSTD else 0
    return CodedBlock(place.block, Op.COMPRESSED, coder, coded, place.output, window_log2=window_log2)


def copy_form(place: Place) -> CodedBlock | None:
    """Return the block as old segments without any change, if they make it."""
    source = gather(place)
    if source != place.output:
        return None
    return CodedBlock(place.block, Op.COPY, Coder.RAW, b"", place.output, source)


def delta_form(place: Place, means: Means) -> CodedBlock:
    """Return the block as segments with residuals, and literals between them (delta coding 1)."""
    source = gather(place)
    literals, controls, values = bytearray(), bytearray(), bytearray()
    at = taken = done = 0
    for new_offset, _, length_bytes in place.pieces:
        first = new_offset - place.start
        literals += place.output[at:first]
        made = place.output[first : first + length_bytes]
        for skip, run in changed_runs(source[taken : taken + length_bytes], made):
            controls += encode_varint(taken + skip - done) + encode_varint(run)
            values += residual(source[taken + skip : taken + skip + run], made[skip : skip + run])
            done = taken + skip + run
        taken += length_bytes
        at = first + length_bytes
    literals += place.output[at:]
    columns: list[Column] = [
        encode_column(bytes(column), means.coders, means.level) for column in (literals, controls, values)
    ]
    return CodedBlock(
        place.block,
        Op.DELTA,
        Coder.RAW,
        b"".join(column.encoded for column in columns),
        place.output,
        source,
        decoded_bytes=sum(column.decoded_bytes for column in columns),
        window_log2=max(column.window_log2 for column in columns),
        coders=frozenset(column.coder for column in columns),
    )


def predicted_form(place: Place, means: Means) -> CodedBlock | None:
    """Return the block as labelled segments with residuals in units, and literals (delta coding 2), if anything is predicted."""
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
    literal_column, known = _literal_column(bytes(literals), bytes(source), means)
    sparse = [(log2, *sparse_units(bytes(made), bytes(wanted), cuts, 1 << log2)) for log2 in UNITS_LOG2]
    unit_log2, gaps, values = min(sparse, key=lambda item: _quick_size(item[1], means) + _quick_size(item[2], means))
    columns = (literal_column, *(encode_column(column, means.coders, means.level) for column in (gaps, values)))
    blob = bytes((unit_log2 | known,)) + b"".join(column.encoded for column in columns)
    return CodedBlock(
        place.block,
        Op.PREDICTED,
        Coder.RAW,
        blob,
        place.output,
        gather(place),
        decoded_bytes=sum(column.decoded_bytes for column in columns),
        window_log2=max(column.window_log2 for column in columns),
        coders=frozenset(column.coder for column in columns),
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
        decoded_bytes=column.decoded_bytes,
        window_log2=column.window_log2,
        coders=coders,
    )


def _quick_size(data: bytes, means: Means) -> int:
    """Return about how long a column will be."""
    return len(compress(data, means.coders - {Coder.LZMA}, QUICK_LEVEL)[1])


def _literal_column(literals: bytes, source: bytes, means: Means) -> tuple[Column, int]:
    """Code literals alone, or with labelled old bytes that the frame may refer to; return the flag that tells which, too."""
    best, known = encode_column(literals, means.coders, means.level), 0
    if Coder.ZSTD not in means.coders or best.coder is Coder.RAW:
        return best, known
    for flag, window in ((LITERALS_KNOW_SOURCE, source), (LITERALS_KNOW_OLD, means.labelled_old)):
        if not window or (flag == LITERALS_KNOW_SOURCE and means.labelled_old):
            continue  # the whole old image holds the source
        coded = zstd.compress(literals, means.level, window)
        packed = encode_varint(len(literals) << 2 | Coder.ZSTD) + encode_varint(len(coded)) + coded
        if len(packed) < len(best.encoded):
            best, known = Column(packed, len(literals), Coder.ZSTD, zstd.window_log2(coded)), flag
    return best, known


def sparse_units(made: bytes, wanted: bytes, cuts: Sequence[tuple[int, int]], unit: int) -> tuple[bytes, bytes]:
    """Return gaps and values that turn `made` into `wanted`, as `packager.vehicle._pure_predict.add_units` reads them."""
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
    for position in _nonzero(difference):
        if position // unit != last:
            last = position // unit
            yield last


def window_form(place: Place, means: Means) -> CodedBlock | None:
    """Return the block as one zstd frame that may refer to a window of the old image, if the means allow it."""
    if place.old is None or not means.window_bytes or Coder.ZSTD not in means.coders:
        return None
    first, last = old_window(place, means.window_bytes)
    if first >= last:
        return None
    window = place.old[first:last]
    coded = zstd.compress(place.output, means.level, window)
    return CodedBlock(
        place.block,
        Op.WINDOW,
        Coder.ZSTD,
        coded,
        place.output,
        window,
        window_offset=first,
        window_log2=zstd.window_log2(coded),
    )


def old_window(place: Place, window_bytes: int) -> tuple[int, int]:
    """Return the stretch of the old image where most of the block's bytes come from, at most `window_bytes` long."""
    assert place.old is not None  # noqa: S101 - callers hold it
    if len(place.old) <= window_bytes:
        return 0, len(place.old)
    if place.pieces:
        middle = max(place.pieces, key=lambda piece: (piece.length_bytes, -piece.new_offset))
        centre = middle.old_offset - middle.new_offset + place.start + len(place.output) // 2
    else:
        centre = place.start + len(place.output) // 2
    first = min(max(centre - window_bytes // 2, 0), len(place.old) - window_bytes)
    return first, first + window_bytes


def gather(place: Place) -> bytes:
    """Return the old bytes of the block's pieces, one after the other."""
    if place.old is None:
        return b""
    return b"".join(place.old[piece.old_offset : piece.old_offset + piece.length_bytes] for piece in place.pieces)


def residual(old: bytes, new: bytes) -> bytes:
    """Return `new` minus `old`, byte by byte modulo 256."""
    return bytes((second - first) & 0xFF for first, second in zip(old, new, strict=True))


def changed_runs(old: bytes, new: bytes) -> Iterator[tuple[int, int]]:
    """Yield offset and length of each run of changed bytes; equal stretches of up to `MAX_KEPT_EQUAL` bytes stay inside a run."""
    difference = (int.from_bytes(old, "little") ^ int.from_bytes(new, "little")).to_bytes(len(old), "little")
    start = end = -1
    for position in _nonzero(difference):
        if start >= 0 and position - end <= MAX_KEPT_EQUAL:
            end = position + 1
            continue
        if start >= 0:
            yield start, end - start
        start, end = position, position + 1
    if start >= 0:
        yield start, end - start


def _nonzero(data: bytes) -> Iterator[int]:
    """Yield the positions of bytes that are not zero; long zero stretches cost little."""
    at = 0
    while True:
        rest = data[at : at + 4096]
        if not rest:
            return
        if rest.count(0) != len(rest):
            yield from (at + index for index, byte in enumerate(rest) if byte)
        at += 4096
