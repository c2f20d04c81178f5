"""The segment map in pure Python: the executable specification of `segments.c`, and what runs where no compiler was.

Both follow FORMAT.md sections 8 and 13 to the letter; property tests hold them equal on valid and on hostile input.
"""

from array import array
from bisect import bisect_left
from typing import Final

from packager.vehicle.errors import CorruptError
from packager.vehicle.wire import Cursor, unzigzag

MAX_SEGMENT_BYTES: Final = (1 << 32) - 1
_TRIPLE: Final = 3
_WORD: Final = (1 << 32) - 1


def read_segments(
    gaps: bytes | memoryview,
    lengths: bytes | memoryview,
    diagonals: bytes | memoryview,
    count: int,
    old_bytes: int,
    new_bytes: int,
    /,
) -> tuple["array[int]", "array[int]", "array[int]"]:
    """Decode the three columns of a segment map.

    Args:
        gaps: New bytes between a segment and the one before, varints.
        lengths: Their lengths, varints.
        diagonals: Changes of old minus new offset, zigzag varints.
        count: Number of segments.
        old_bytes: Length of the old image, at most 2**61.
        new_bytes: Length of the new image, at most 2**61.

    Returns:
        New offsets (type Q, ascending), old offsets (Q) and lengths (I).

    Raises:
        CorruptError: A segment is empty, too long or leaves an image, or a column is not used up exactly.
    """
    what = "segment map"
    columns = [Cursor(column, what) for column in (gaps, lengths, diagonals)]
    made = array("Q"), array("Q"), array("I")
    new_offset = diagonal = 0
    for index in range(count):
        new_offset += columns[0].varint()
        length_bytes = columns[1].varint()
        diagonal += unzigzag(columns[2].varint())
        old_offset = new_offset + diagonal
        if not 1 <= length_bytes <= MAX_SEGMENT_BYTES:
            raise CorruptError(f"{what}: segment {index} is {length_bytes} bytes long, expected 1 to 2**32 - 1")
        if new_offset + length_bytes > new_bytes:
            raise CorruptError(
                f"{what}: segment {index} ends at new byte {new_offset + length_bytes}, but the image has {new_bytes}"
            )
        if old_offset < 0 or old_offset + length_bytes > old_bytes:
            raise CorruptError(
                f"{what}: segment {index} reads old bytes {old_offset} to {old_offset + length_bytes}, "
                f"but the image has {old_bytes}"
            )
        for column, number in zip(made, (new_offset, old_offset, length_bytes), strict=True):
            column.append(number)
        new_offset += length_bytes
    for cursor in columns:
        cursor.end()
    return made


def read_values(
    gaps: bytes | memoryview, changes: bytes | memoryview, count: int, /
) -> tuple["array[int]", "array[int]"]:
    """Decode the two columns of a value map.

    Args:
        gaps: Numbers between a number of the old image and the one before, varints.
        changes: By how much more than the one before each changes, zigzag varints.
        count: Number of numbers.

    Returns:
        Old numbers (type I, ascending), and what they become (I).

    Raises:
        CorruptError: A number has more than 32 bits, or a column is not used up exactly.
    """
    what = "value map"
    columns = Cursor(gaps, what), Cursor(changes, what)
    old_values, new_values = array("I"), array("I")
    value, change = -1, 0
    for _ in range(count):
        value += columns[0].varint() + 1
        change += unzigzag(columns[1].varint())
        if value > _WORD:
            raise CorruptError(f"{what}: number {value}, expected at most 2**32 - 1")
        old_values.append(value)
        new_values.append((value + change) & _WORD)
    for cursor in columns:
        cursor.end()
    return old_values, new_values


def cut_pieces(
    new_offsets: "array[int]", old_offsets: "array[int]", lengths: "array[int]", start: int, end: int, /
) -> tuple["array[int]", "array[int]", int]:
    """Return the segments within the new bytes `start` to `end`, cut at both.

    Returns:
        Offset in the block and length of each, flat; new offset, length and old offset of each, flat; the length of all.
    """
    last = bisect_left(new_offsets, end) if start < end else 0
    first = bisect_left(new_offsets, start)
    if first and new_offsets[first - 1] + lengths[first - 1] > start:
        first -= 1
    pairs, triples, total = array("Q"), array("Q"), 0
    for index in range(first, last):
        cut = max(start - new_offsets[index], 0)
        begin = new_offsets[index] + cut
        length_bytes = min(new_offsets[index] + lengths[index], end) - begin
        pairs.extend((begin - start, length_bytes))
        triples.extend((begin, length_bytes, old_offsets[index] + cut))
        total += length_bytes
    return pairs, triples, total


def plan_reads(triples: "array[int]", near_bytes: int, room_bytes: int, /) -> tuple["array[int]", "array[int]"]:
    """Plan how the old bytes of pieces are read: neighbours together, in ascending order.

    A piece goes with those before if at most `near_bytes` lie between them and the read stays within `room_bytes`; one that is longer
    than half of that is read alone.

    Args:
        triples: New offset, length and old offset of each piece, flat.
        near_bytes: What may be read in vain between two pieces.
        room_bytes: Longest read of several pieces.

    Returns:
        Old offset, length, first move and move behind the last of each read, flat; old offset, length and offset in the source of each
        move, flat. In the source the pieces stand one after the other.
    """
    moves, at = [], 0
    for index in range(0, len(triples), _TRIPLE):
        moves.append((triples[index + 2], triples[index + 1], at))
        at += triples[index + 1]
    moves.sort(key=lambda move: (move[0], -move[1], move[2]))
    reads = array("Q")
    index = 0
    while index < len(moves):
        first = index
        low, length_bytes, _ = moves[first]
        index += 1
        while moves[first][1] <= room_bytes // 2 and index < len(moves):
            ahead, piece_bytes = moves[index][0] - low, moves[index][1]
            if ahead - length_bytes > near_bytes or piece_bytes > room_bytes // 2 or ahead + piece_bytes > room_bytes:
                break
            length_bytes = max(length_bytes, ahead + piece_bytes)
            index += 1
        reads.extend((low, length_bytes, first, index))
    return reads, array("Q", [number for move in moves for number in move])


def scatter(
    source: bytearray | memoryview,
    buffer: bytes | bytearray | memoryview,
    low: int,
    moves: "array[int]",
    first: int,
    last: int,
    /,
) -> None:
    """Copy what was read to where it belongs in the source.

    Args:
        source: Where the pieces go.
        buffer: Old bytes from `low` on.
        low: Their offset in the old image.
        moves: As `plan_reads` returns them.
        first: First move to do.
        last: Move behind the last one to do.

    Raises:
        IndexError: A move leaves the source or the buffer, or is not there.
    """
    if not 0 <= first <= last <= len(moves) // _TRIPLE:
        raise IndexError("scatter: the moves asked for are not there")
    for index in range(_TRIPLE * first, _TRIPLE * last, _TRIPLE):
        old_offset, length_bytes, at = moves[index : index + _TRIPLE]
        begin = old_offset - low
        if begin < 0 or begin + length_bytes > len(buffer) or at + length_bytes > len(source):
            raise IndexError("scatter: a move leaves the source or the buffer")
        source[at : at + length_bytes] = buffer[begin : begin + length_bytes]


def join_pieces(source: bytearray | memoryview, old: bytes | bytearray | memoryview, triples: "array[int]", /) -> None:
    """Copy pieces, one after the other, out of the whole old image.

    Args:
        source: Where the pieces go.
        old: The old image.
        triples: New offset, length and old offset of each piece, flat.

    Raises:
        IndexError: A piece leaves the source or the old image.
    """
    at = 0
    for index in range(0, len(triples), _TRIPLE):
        _, length_bytes, old_offset = triples[index : index + _TRIPLE]
        if old_offset + length_bytes > len(old) or at + length_bytes > len(source):
            raise IndexError("join_pieces: a piece leaves the source or the old image")
        source[at : at + length_bytes] = old[old_offset : old_offset + length_bytes]
        at += length_bytes


def address_map(
    new_offsets: "array[int]", old_offsets: "array[int]", lengths: "array[int]", /
) -> tuple["array[int]", "array[int]"]:
    """Turn segments around: from which old offset on, what is added to get the new one.

    By ascending old offset, longer ones first. What an earlier one covers is its own; of a later one only the rest counts.

    Returns:
        Old offsets (type Q, ascending), and what is added from each on (q).
    """
    starts, shifts = array("Q"), array("q")
    end = 0
    for old_offset, shorter, new_offset in sorted(
        zip(old_offsets, (-length for length in lengths), new_offsets, strict=True)
    ):
        if old_offset - shorter > end:
            starts.append(max(old_offset, end))
            shifts.append(new_offset - old_offset)
            end = old_offset - shorter
    return starts, shifts
