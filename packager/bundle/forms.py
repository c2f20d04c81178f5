"""The forms that one block can take; the encoder measures them and keeps the smallest.

Every form is made only if the ECU can decode it, and carries what the head must say of it.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from typing import Final, ParamSpec, TypeVar

from packager.bundle.columns import Column, compress, encode_column
from packager.bundle.writer import CodedBlock
from packager.diff import zstd
from packager.diff.prediction import Prediction
from packager.vehicle.core.manifest import Op
from packager.vehicle.core.segments import Segment
from packager.vehicle.profile import Coder
from packager.vehicle.wire import encode_varint

MAX_KEPT_EQUAL: Final = 3
"""Equal bytes between two changes that stay in one run: a new control pair costs about as much."""
QUICK_LEVEL: Final = 3
TINY_BLOB_BYTES: Final = 64
"""Below this no other form is tried: nothing is left to gain."""
Parameters = ParamSpec("Parameters")
Made = TypeVar("Made")


@dataclass(frozen=True, slots=True)
class Means:
    """What may be used for one bundle.

    Attributes:
        coders: Coders of the ECU that fit its memory.
        window_bytes: Longest old window of `Op.WINDOW`; 0 for none.
        level: zstd level.
        prediction: What is predicted; None for nothing.
        labelled_old: The whole old image as labels, where blocks may refer to it; else empty.
        pool: Where columns of one block are coded at once; None where blocks are.
    """

    coders: frozenset[Coder]
    window_bytes: int
    level: int
    prediction: Prediction | None = None
    labelled_old: bytes = b""
    pool: Executor | None = None

    def start(
        self, code: Callable[Parameters, Made], *arguments: Parameters.args, **named: Parameters.kwargs
    ) -> Callable[[], Made]:
        """Start to code in the pool, and return what waits for the result; without a pool that does the work."""
        if self.pool is not None:
            return self.pool.submit(code, *arguments, **named).result
        return partial(code, *arguments, **named)


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
    for position in nonzero(difference):
        if start >= 0 and position - end <= MAX_KEPT_EQUAL:
            end = position + 1
            continue
        if start >= 0:
            yield start, end - start
        start, end = position, position + 1
    if start >= 0:
        yield start, end - start


def nonzero(data: bytes) -> Iterator[int]:
    """Yield the positions of bytes that are not zero; long zero stretches cost little."""
    at = 0
    while True:
        rest = data[at : at + 4096]
        if not rest:
            return
        if rest.count(0) != len(rest):
            yield from (at + index for index, byte in enumerate(rest) if byte)
        at += 4096
