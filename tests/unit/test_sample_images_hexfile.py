"""Intel HEX: every record type read, every kind of damage named."""

import pytest

from packager.model.errors import ImageError
from sample_images.hexfile import MAX_IMAGE_BYTES, Extent, flatten, read_hex

END = ":00000001FF"


def record(kind: int, address: int, data: bytes) -> str:
    raw = bytes([len(data)]) + address.to_bytes(2, "big") + bytes([kind]) + data
    return ":" + (raw + bytes([-sum(raw) & 0xFF])).hex().upper()


def test_reads_a_published_example() -> None:
    # From Intel's specification of the format (revision A, 1988).
    text = ":10010000214601360121470136007EFE09D2190140\n:100110002146017E17C20001FF5F16002148011928\n" + END
    extents = read_hex(text)
    assert [extent.address for extent in extents] == [0x100, 0x110]
    assert extents[0].data.hex() == "214601360121470136007efe09d21901"


def test_lays_out_from_the_lowest_address_with_gaps_as_erased_flash() -> None:
    text = "\n".join(
        [record(4, 0, b"\x00\x01"), record(0, 0x12, b"late"), record(0, 0x10, b"\x01"), record(5, 0, b"\0\1\0\1"), END]
    )
    assert flatten(read_hex(text)) == b"\x01\xfflate"
    assert read_hex(text)[0].address == 0x10012


def test_segment_address_counts_in_paragraphs() -> None:
    assert read_hex("\n".join([record(2, 0, b"\x12\x34"), record(3, 0, bytes(4)), record(0, 1, b"x"), END])) == [
        Extent(0x12341, b"x")
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (record(0, 0, b"abc"), "no end record"),
        ("", "no end record"),
        (END + "\n" + record(0, 0, b"a"), "behind the end record"),
        ("00000001FF", "expected ':'"),
        (":0000000", "hexadecimal digits"),
        (":00000001FG", "hexadecimal digits"),
        (":", "expected 5 by its length field"),
        (":0000", "2 bytes, expected 5"),
        (":0300000061626304" + "\n" + END, "checksum 0x04, expected 0xd7"),
        (":04000000616263D6\n" + END, "8 bytes, expected 9"),
        (record(6, 0, b"") + "\n" + END, "type 0x06, expected 0x00 to 0x05"),
        (record(4, 0, b"\x01") + "\n" + END, "1 data bytes, expected 2"),
        (record(1, 0, b"\x01"), "1 data bytes, expected 0"),
        (record(0, 0xFFFF, b"ab") + "\n" + END, "runs over the end"),
    ],
)
def test_names_what_is_wrong_with_a_record(text: str, expected: str) -> None:
    with pytest.raises(ImageError, match=expected):
        read_hex(text)


def test_data_may_end_exactly_at_the_end_of_its_64_kib() -> None:
    assert read_hex(record(0, 0xFFFE, b"ab") + "\n" + END) == [Extent(0xFFFE, b"ab")]


@pytest.mark.parametrize("bit", range(8))
def test_a_flipped_bit_anywhere_is_found(bit: int) -> None:
    good = bytes.fromhex(record(0, 0x1234, b"data")[1:])
    for index in range(len(good)):
        bad = bytearray(good)
        bad[index] ^= 1 << bit
        with pytest.raises(ImageError):
            read_hex(f":{bad.hex()}\n{END}")


def test_two_records_for_one_address_are_refused_but_neighbours_are_not() -> None:
    assert flatten([Extent(4, b"cd"), Extent(2, b"ab")]) == b"abcd"
    with pytest.raises(ImageError, match="two records hold data for address 0x3"):
        flatten([Extent(3, b"cd"), Extent(2, b"ab")])


def test_leaves_out_what_lies_behind_the_flash() -> None:
    extents = [Extent(0, b"flash"), Extent(0x40000, b"register"), Extent(0x1000_10C0, b"register")]
    assert flatten(extents, 0x40000) == b"flash"
    with pytest.raises(ImageError, match="no data below 0x40000"):
        flatten(extents[1:], 0x40000)


def test_the_length_limit_from_both_sides() -> None:
    assert len(flatten([Extent(0, b"a"), Extent(MAX_IMAGE_BYTES - 1, b"z")])) == MAX_IMAGE_BYTES
    with pytest.raises(ImageError, match=f"expected at most {MAX_IMAGE_BYTES}"):
        flatten([Extent(0, b"a"), Extent(MAX_IMAGE_BYTES, b"z")])
