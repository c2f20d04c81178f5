"""The decoding kernel in pure Python: the executable specification of `_native.c`, and what runs where no compiler was.

Both follow FORMAT.md sections 7 and 13 to the letter; property tests hold them equal on valid and on hostile input.
"""

from collections.abc import Iterator, Sequence

from packager.vehicle.errors import CorruptError
from packager.vehicle.wire import Cursor

NAME = "pure Python"


def apply_delta(
    out: bytearray | memoryview,
    source: bytes | bytearray | memoryview,
    pieces: Sequence[int],
    literals: bytes | memoryview,
    controls: bytes | memoryview,
    values: bytes | memoryview,
    /,
) -> None:
    """Make one block from its source, residuals and literals.

    Args:
        out: The block; every byte is written, or it is left undefined on error.
        source: Old bytes of the block's pieces, one after the other. May be the end of `out`, or all of it.
        pieces: Offset in the block and length of each piece, flat, ascending and without overlap.
        literals: Bytes of the gaps between the pieces, exactly.
        controls: Varint pairs (unchanged source bytes to skip, changed bytes, at least 1).
        values: For each changed byte what is added to it, modulo 256.

    Raises:
        CorruptError: A column is too short or too long, or a piece or run leaves its range.
    """
    what = "delta block"
    changed = bytearray(source)
    cursor = Cursor(controls, what)
    position = used = 0
    while cursor.left:
        position += cursor.varint()
        run = cursor.varint()
        if run < 1 or position + run > len(changed) or used + run > len(values):
            raise CorruptError(f"{what}: run of {run} bytes at source byte {position} leaves the source or the values")
        for index in range(run):
            changed[position + index] = (changed[position + index] + values[used + index]) & 0xFF
        position += run
        used += run
    if used != len(values):
        raise CorruptError(f"{what}: {len(values) - used} residual values left over, expected none")
    at = taken = literal = 0
    for index in range(0, len(pieces), 2):
        start, length_bytes = pieces[index], pieces[index + 1]
        gap = start - at
        if (
            gap < 0
            or start + length_bytes > len(out)
            or taken + length_bytes > len(changed)
            or literal + gap > len(literals)
        ):
            raise CorruptError(f"{what}: piece of {length_bytes} bytes at byte {start} leaves the block or its columns")
        out[at:start] = literals[literal : literal + gap]
        out[start : start + length_bytes] = changed[taken : taken + length_bytes]
        at, taken, literal = start + length_bytes, taken + length_bytes, literal + gap
    if taken != len(changed) or len(out) - at != len(literals) - literal:
        raise CorruptError(f"{what}: source or literals left over or short at byte {at} of {len(out)}")
    out[at:] = literals[literal:]


def add_units(
    out: bytearray | memoryview,
    pieces: Sequence[int],
    gaps: bytes | memoryview,
    values: bytes | memoryview,
    unit: int,
    /,
) -> None:
    """Add residuals to a block in units of `unit` bytes.

    A unit is covered if a piece has a byte of it. Each gap (a varint) skips that many covered units; the next one gets a value added,
    little-endian, modulo 2 to the power of its bits. Bytes behind the end of the block are left out.

    Args:
        out: The block.
        pieces: Offset in the block and length of each piece, flat, ascending and without overlap.
        gaps: Varints.
        values: As many values as gaps.
        unit: 1, 2 or 4.

    Raises:
        CorruptError: A gap leads behind the last covered unit, or values are left over or short.
    """
    what = "predicted block"
    units = covered_units(pieces, unit)
    cursor = Cursor(gaps, what)
    used = 0
    at = next(units, None)
    while cursor.left:
        for _ in range(cursor.varint()):
            if at is None:
                break
            at = next(units, None)
        if at is None or used + unit > len(values):
            raise CorruptError(f"{what}: value {used // unit} leaves the pieces or the values")
        place = at * unit
        end = min(place + unit, len(out))
        total = int.from_bytes(out[place:end], "little") + int.from_bytes(values[used : used + unit], "little")
        out[place:end] = (total & ((1 << 8 * (end - place)) - 1)).to_bytes(end - place, "little")
        used += unit
        at = next(units, None)
    if used != len(values):
        raise CorruptError(f"{what}: {len(values) - used} bytes of values left over, expected none")


def covered_units(pieces: Sequence[int], unit: int) -> Iterator[int]:
    """Yield the numbers of the units of which a piece has a byte."""
    done = 0
    for index in range(0, len(pieces), 2):
        start, length_bytes = pieces[index], pieces[index + 1]
        if length_bytes:
            first, last = start // unit, (start + length_bytes - 1) // unit + 1
            yield from range(max(first, done), last)
            done = max(done, last)
