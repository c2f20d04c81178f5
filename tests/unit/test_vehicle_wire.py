"""Bounded reading of fields."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from packager.vehicle.errors import CorruptError
from packager.vehicle.wire import MAX_VARINT_BYTES, Cursor, encode_varint, unzigzag, zigzag


def test_fields_are_read_in_order_little_endian() -> None:
    cursor = Cursor(b"\x01\x02\x03\x04rest", "thing")
    assert (cursor.uint(1), cursor.uint(3), bytes(cursor.take(4)), cursor.left) == (1, 0x040302, b"rest", 0)
    cursor.end()


def test_every_field_up_to_the_last_byte_and_not_beyond() -> None:
    assert bytes(Cursor(b"abc", "x").take(3)) == b"abc"
    with pytest.raises(CorruptError, match="x: truncated at byte 0: found 3 bytes, expected 4"):
        Cursor(b"abc", "x").take(4)
    with pytest.raises(CorruptError, match="expected 8"):
        Cursor(b"abc", "x").uint(8)


def test_bytes_left_over() -> None:
    with pytest.raises(CorruptError, match="x: 2 bytes left over after byte 0, expected none"):
        Cursor(b"ab", "x").end()


def test_text_is_utf8_of_the_stated_length() -> None:
    assert Cursor(b"\x03\xe2\x82\xac", "x").text() == "€"
    assert Cursor(b"\0", "x").text() == ""
    with pytest.raises(CorruptError, match="not UTF-8"):
        Cursor(b"\x02\xe2\x82", "x").text()
    with pytest.raises(CorruptError, match="truncated"):
        Cursor(b"\x02a", "x").text()


@given(st.integers(0, 2**63 - 1))
def test_varints_come_back(value: int) -> None:
    encoded = encode_varint(value)
    cursor = Cursor(encoded, "x")
    assert cursor.varint() == value
    cursor.end()
    assert len(encoded) == max(1, -(-value.bit_length() // 7))


@given(st.integers(-(2**62), 2**62 - 1))
def test_zigzag_comes_back(value: int) -> None:
    assert unzigzag(zigzag(value)) == value
    assert zigzag(value) >= 0


def test_small_magnitudes_come_first() -> None:
    assert [zigzag(value) for value in (0, -1, 1, -2, 2)] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("value", [-1, 2**63])
def test_a_varint_has_63_bits(value: int) -> None:
    assert len(encode_varint(2**63 - 1)) == MAX_VARINT_BYTES
    with pytest.raises(ValueError, match="expected 0 to"):
        encode_varint(value)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "truncated"),
        (b"\x80", "truncated"),
        (b"\x80\x00", "shortest"),
        (b"\xff\x80\x00", "shortest"),
        (b"\xff" * 9, "longer than 9"),
        (b"\x80" * 9 + b"\x01", "longer than 9"),
    ],
)
def test_malformed_varints(raw: bytes, message: str) -> None:
    with pytest.raises(CorruptError, match=message):
        Cursor(raw, "x").varint()
