"""The segment map."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from packager.bundle.writer import encode_segments
from packager.vehicle.core.codec import CodecLimits
from packager.vehicle.core.segments import EMPTY_MAP, Segment, SegmentMap, parse_segments
from packager.vehicle.errors import CorruptError
from packager.vehicle.profile import Coder
from packager.vehicle.wire import encode_varint, zigzag

ALL = CodecLimits(frozenset(Coder), 1 << 20)
RAW_ONLY = CodecLimits(frozenset({Coder.RAW}), 0)
BIG = 1 << 40


def write(segments: list[Segment], coders: frozenset[Coder] = frozenset(Coder)) -> bytes:
    return encode_varint(len(segments)) + b"".join(column.encoded for column in encode_segments(segments, coders))


def columns(count: int, gaps: bytes, lengths: bytes, diagonals: bytes) -> bytes:
    return encode_varint(count) + b"".join(
        encode_varint(len(column) << 2) + column for column in (gaps, lengths, diagonals)
    )


def parse(
    raw: bytes, count: int = 1, *, old: int = BIG, new: int = BIG, decoded: int = 1 << 20, limits: CodecLimits = ALL
) -> SegmentMap:
    return parse_segments(
        memoryview(raw),
        old_length_bytes=old,
        new_length_bytes=new,
        max_segments=count,
        max_decoded_bytes=decoded,
        limits=limits,
    )


@given(st.lists(st.tuples(st.integers(0, 300), st.integers(1, 300), st.integers(0, 10_000)), min_size=1, max_size=80))
def test_a_map_comes_back(shapes: list[tuple[int, int, int]]) -> None:
    segments = []
    at = 0
    for gap, length_bytes, old_offset in shapes:
        segments.append(Segment(at + gap, old_offset, length_bytes))
        at += gap + length_bytes
    assert list(parse(write(segments), len(segments))) == segments


def test_pieces_are_cut_at_both_ends() -> None:
    segment_map = SegmentMap.of([Segment(10, 100, 20), Segment(30, 0, 5), Segment(50, 7, 50)])
    assert segment_map.pieces(0, 10) == []
    assert segment_map.pieces(0, 11) == [Segment(10, 100, 1)]
    assert segment_map.pieces(15, 32) == [Segment(15, 105, 15), Segment(30, 0, 2)]
    assert segment_map.pieces(35, 50) == []
    assert segment_map.pieces(99, 200) == [Segment(99, 56, 1)]
    assert segment_map.pieces(100, 200) == []
    assert EMPTY_MAP.pieces(0, 1000) == []
    assert len(segment_map) == 3


def test_both_images_bound_every_segment() -> None:
    raw = write([Segment(10, 5, 20)])
    assert parse(raw, new=30, old=25)
    with pytest.raises(CorruptError, match="ends at new byte 30, but the image has 29"):
        parse(raw, new=29, old=25)
    with pytest.raises(CorruptError, match="reads old bytes 5 to 25, but the image has 24"):
        parse(raw, new=30, old=24)
    with pytest.raises(CorruptError, match="reads old bytes -1"):
        parse(columns(1, b"\0", b"\1", encode_varint(zigzag(-1))))
    assert parse(columns(1, b"\1", b"\1", encode_varint(zigzag(-1))))


def test_lengths_from_both_sides() -> None:
    most = (1 << 32) - 1
    assert parse(columns(1, b"\0", encode_varint(most), b"\0"))
    for wrong in (0, most + 1, 2**63 - 1):
        with pytest.raises(CorruptError, match="expected 1 to 2"):
            parse(columns(1, b"\0", encode_varint(wrong), b"\0"))


@pytest.mark.parametrize("seek", [2**62 - 1, -(2**62)])
def test_huge_seeks(seek: int) -> None:
    with pytest.raises(CorruptError, match="reads old bytes"):
        parse(columns(1, b"\0", b"\1", encode_varint(zigzag(seek))))
    with pytest.raises(CorruptError, match="ends at new byte"):
        parse(columns(1, encode_varint(2**63 - 1), b"\1", b"\0"))


def test_the_count_is_that_of_the_manifest() -> None:
    raw = write([Segment(0, 0, 9), Segment(9, 20, 9)])
    assert len(parse(raw, 2)) == 2
    for wrong in (1, 3):
        with pytest.raises(CorruptError, match=f"found 2 segments, expected the {wrong}"):
            parse(raw, wrong)


@pytest.mark.parametrize("place", range(3))
def test_columns_are_used_up_exactly(place: int) -> None:
    fine = [b"\0", b"\1", b"\0"]
    for column, message in ((b"", "truncated"), (fine[place] + b"\1", "left over")):
        given = [*fine]
        given[place] = column
        with pytest.raises(CorruptError, match=message):
            parse(columns(1, *given))
    with pytest.raises(CorruptError, match="left over"):
        parse(columns(1, *fine) + b"\0")


def test_decoded_columns_are_capped_together_before_they_are_decoded() -> None:
    segments = [Segment(index * 10, index * 10, 9) for index in range(1000)]
    raw = write(segments)
    assert len(raw) < 100
    assert len(parse(raw, 1000, decoded=3000)) == 1000
    with pytest.raises(CorruptError, match="column of 1000 bytes, expected at most 999"):
        parse(raw, 1000, decoded=2999)


def test_undeclared_coders() -> None:
    segments = [Segment(index * 10, index * 10, 9) for index in range(1000)]
    with pytest.raises(CorruptError, match="which the manifest does not declare"):
        parse(write(segments), 1000, limits=RAW_ONLY)
    assert parse(write(segments, frozenset({Coder.RAW})), 1000, limits=RAW_ONLY)


def test_cut_short_at_every_byte() -> None:
    raw = write([Segment(index * 300, index * 250, 200) for index in range(40)])
    for end in range(len(raw)):
        with pytest.raises(CorruptError):
            parse(raw[:end], 40)
