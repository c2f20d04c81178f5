"""The compiled segment map and its pure twin: the same arrays or the same refusal, on valid and on hostile input."""

from array import array
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from packager.vehicle import _pure_segments as pure
from packager.vehicle.core.segments import Segment, SegmentMap
from packager.vehicle.errors import CorruptError
from packager.vehicle.wire import encode_varint, zigzag

native = pytest.importorskip("packager.vehicle._native", reason="no compiled kernel here")

MOST_IMAGE_BYTES = 1 << 40
NUMBERS = st.one_of(st.integers(0, 3), st.integers(0, 500), st.integers(0, 2**63 - 1))
LENGTHS = st.one_of(st.integers(1, 3), st.integers(1, 500), st.integers(2**32 - 3, 2**32 + 3))


def result_of(function: Any, *arguments: Any) -> Any:
    """Return what came out, types of arrays included, or the class of the error."""
    try:
        return repr(function(*arguments))
    except (CorruptError, IndexError, OverflowError) as error:
        return type(error)


@st.composite
def maps(draw: st.DrawFn) -> SegmentMap:
    """A map whose old offsets come in any order, with overlaps."""
    segments, at = [], 0
    shapes = st.tuples(st.integers(0, 40), st.integers(1, 60), st.one_of(st.none(), st.integers(0, 300)))
    old_offset = 0
    for gap, length_bytes, jump in draw(st.lists(shapes, max_size=40)):
        old_offset = old_offset + gap if jump is None else jump
        segments.append(Segment(at + gap, old_offset, length_bytes))
        at += gap + length_bytes
        old_offset += length_bytes
    return SegmentMap.of(segments)


@given(
    st.lists(
        st.tuples(NUMBERS, LENGTHS, st.one_of(st.integers(-300, 300), st.integers(-(2**62), 2**62 - 1))), max_size=12
    ),
    st.sampled_from([0, 50, 1000, MOST_IMAGE_BYTES, 1 << 61]),
    st.sampled_from([0, 50, 1000, MOST_IMAGE_BYTES, 1 << 61]),
    st.integers(-1, 1),
)
@settings(max_examples=300)
def test_columns(shapes: list[tuple[int, int, int]], old_bytes: int, new_bytes: int, more: int) -> None:
    gaps = b"".join(encode_varint(gap) for gap, _, _ in shapes)
    lengths = b"".join(encode_varint(length) for _, length, _ in shapes)
    diagonals = b"".join(encode_varint(zigzag(diagonal)) for _, _, diagonal in shapes)
    arguments = gaps, lengths, memoryview(diagonals), max(len(shapes) + more, 0), old_bytes, new_bytes
    assert result_of(native.read_segments, *arguments) == result_of(pure.read_segments, *arguments)


@given(
    st.lists(st.tuples(NUMBERS, st.integers(-(2**62), 2**62 - 1) | st.integers(-300, 300)), max_size=12),
    st.integers(-1, 1),
    st.sampled_from([b"", b"\0", b"\x80"]),
)
@settings(max_examples=200)
def test_value_maps(shapes: list[tuple[int, int]], more: int, end: bytes) -> None:
    gaps = b"".join(encode_varint(gap) for gap, _ in shapes)
    changes = b"".join(encode_varint(zigzag(change)) for _, change in shapes) + end
    arguments = gaps, memoryview(changes), max(len(shapes) + more, 0)
    assert result_of(native.read_values, *arguments) == result_of(pure.read_values, *arguments)


@pytest.mark.parametrize("read_values", [native.read_values, pure.read_values], ids=["compiled", "pure"])
def test_numbers_of_a_value_map_have_32_bits(read_values: Any) -> None:
    last = encode_varint(2**32 - 2)
    assert [list(made) for made in read_values(b"\0" + last, b"\1\4", 2)] == [[0, 2**32 - 1], [2**32 - 1, 0]]
    with pytest.raises(CorruptError, match="value map: number"):
        read_values(b"\1" + last, b"\0\0", 2)


@given(st.binary(max_size=24), st.binary(max_size=24), st.binary(max_size=24), st.integers(0, 8))
@settings(max_examples=300)
def test_columns_of_any_bytes(gaps: bytes, lengths: bytes, diagonals: bytes, count: int) -> None:
    arguments = gaps, lengths, diagonals, count, MOST_IMAGE_BYTES, MOST_IMAGE_BYTES
    assert result_of(native.read_segments, *arguments) == result_of(pure.read_segments, *arguments)


@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(1, 9), st.integers(-4, 9)), max_size=9),
    st.integers(0, 90),
    st.integers(0, 90),
)
@settings(max_examples=300)
def test_refusals_say_the_same(shapes: list[tuple[int, int, int]], old_bytes: int, new_bytes: int) -> None:
    columns = [
        b"".join(encode_varint(number) for number in column)
        for column in (
            [gap for gap, _, _ in shapes],
            [length for _, length, _ in shapes],
            [zigzag(diagonal) for _, _, diagonal in shapes],
        )
    ]
    found = []
    for kernel in (native, pure):
        try:
            found.append(repr(kernel.read_segments(*columns, len(shapes), old_bytes, new_bytes)))
        except CorruptError as error:
            found.append(str(error))
    assert found[0] == found[1]


@given(maps(), st.integers(0, 2500), st.integers(0, 2500))
@settings(max_examples=200)
def test_pieces(made: SegmentMap, start: int, end: int) -> None:
    columns = made.new_offsets, made.old_offsets, made.lengths
    pairs, triples, total = pure.cut_pieces(*columns, start, end)
    assert repr(native.cut_pieces(*columns, start, end)) == repr((pairs, triples, total))
    wanted = {
        (new_offset, old_offset - segment.old_offset + segment.new_offset - new_offset)
        for segment in made
        for new_offset, old_offset in zip(
            range(segment.new_offset, segment.new_offset + segment.length_bytes),
            range(segment.old_offset, segment.old_offset + segment.length_bytes),
            strict=True,
        )
        if start <= new_offset < end
    }
    assert total == len(wanted) == sum(pairs[1::2])
    assert list(pairs[0::2]) == [offset - start for offset in triples[0::3]]


@given(maps(), st.integers(0, 50), st.integers(0, 200))
@settings(max_examples=200)
def test_gathering(made: SegmentMap, near_bytes: int, room_bytes: int) -> None:
    """What is read and scattered is the pieces, one after the other."""
    old = bytes(range(256)) * 20
    triples = made.cut(0, 1 << 20).triples
    reads, moves = pure.plan_reads(triples, near_bytes, room_bytes)
    assert repr(native.plan_reads(triples, near_bytes, room_bytes)) == repr((reads, moves))
    wanted = b"".join(old[piece.old_offset : piece.old_offset + piece.length_bytes] for piece in made)
    for kernel in (native, pure):
        source = bytearray(len(wanted))
        for index in range(0, len(reads), 4):
            low, length_bytes, first, last = reads[index : index + 4]
            assert last == first + 1 or length_bytes <= room_bytes
            kernel.scatter(source, old[low : low + length_bytes], low, moves, first, last)
        assert source == wanted
        joined = bytearray(len(wanted))
        kernel.join_pieces(joined, old, triples)
        assert joined == wanted


@given(st.lists(st.tuples(NUMBERS, NUMBERS, NUMBERS), max_size=4))
@settings(max_examples=200)
def test_joining_stays_inside(pieces: list[tuple[int, int, int]]) -> None:
    flat = array("Q", [number for piece in pieces for number in piece])
    made = [bytearray(300), bytearray(300)]
    found = [
        result_of(kernel.join_pieces, source, bytes(range(250)), flat)
        for kernel, source in zip((native, pure), made, strict=True)
    ]
    assert found[0] == found[1]
    assert made[0] == made[1]


@given(st.lists(st.tuples(NUMBERS, NUMBERS, NUMBERS), max_size=4), NUMBERS, st.integers(-1, 5), st.integers(-1, 5))
@settings(max_examples=200)
def test_scattering_stays_inside(moves: list[tuple[int, int, int]], low: int, first: int, last: int) -> None:
    flat = array("Q", [number for move in moves for number in move])
    made = [bytearray(300), bytearray(300)]
    found = [
        result_of(kernel.scatter, source, bytes(range(250)), low, flat, first, last)
        for kernel, source in zip((native, pure), made, strict=True)
    ]
    assert found[0] == found[1]
    assert made[0] == made[1]


@given(maps())
@settings(max_examples=200)
def test_the_address_map(made: SegmentMap) -> None:
    columns = made.new_offsets, made.old_offsets, made.lengths
    starts, shifts = pure.address_map(*columns)
    assert repr(native.address_map(*columns)) == repr((starts, shifts))
    assert list(starts) == sorted(set(starts))
    first: dict[int, int] = {}
    for segment in sorted(made, key=lambda item: (item.old_offset, -item.length_bytes, item.new_offset)):
        for offset in range(segment.old_offset, segment.old_offset + segment.length_bytes):
            first.setdefault(offset, segment.new_offset - segment.old_offset)
    for offset, shift in first.items():
        at = max(index for index, start in enumerate(starts) if start <= offset)
        assert shifts[at] == shift


@pytest.mark.parametrize("kernel", [native, pure])
def test_a_move_is_held_to_both_buffers(kernel: Any) -> None:
    for move, is_fine in (
        ((5, 4, 0), True),
        ((5, 4, 1), False),
        ((4, 4, 0), False),
        ((7, 3, 0), False),
        ((5, 5, 0), False),
    ):
        source = bytearray(4)
        if is_fine:
            kernel.scatter(source, b"abcd", 5, array("Q", move), 0, 1)
            assert source == b"abcd"
        else:
            with pytest.raises(IndexError, match="leaves the source or the buffer"):
                kernel.scatter(source, b"abcd", 5, array("Q", move), 0, 1)
