"""The decoding kernel in pure Python: the executable specification of `_native.c`, and what runs where no compiler was.

Both follow FORMAT.md section 7 to the letter; property tests hold them equal on valid and on hostile input.
"""

from collections.abc import Sequence

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
        source: Old bytes of the block's pieces, one after the other. May be `out` itself if one piece covers the block.
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
