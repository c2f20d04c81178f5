"""Intel HEX, as compilers and programmers of microcontrollers write it, turned into a flat image. Every checksum is verified."""

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from packager.model.errors import ImageError

MAX_IMAGE_BYTES: Final = 64 << 20
"""Longest flat image: a wrong address record must not ask for gigabytes of fill."""
FILL: Final = 0xFF
_OVERHEAD_BYTES: Final = 5  # length, address, type, checksum


class _Record(IntEnum):
    DATA = 0
    END = 1
    SEGMENT_ADDRESS = 2
    SEGMENT_START = 3
    LINEAR_ADDRESS = 4
    LINEAR_START = 5


_FIXED_BYTES: Final = {
    _Record.END: 0,
    _Record.SEGMENT_ADDRESS: 2,
    _Record.SEGMENT_START: 4,
    _Record.LINEAR_ADDRESS: 2,
    _Record.LINEAR_START: 4,
}


@dataclass(frozen=True, slots=True)
class Extent:
    """Bytes at an address."""

    address: int
    data: bytes


def read_hex(text: str) -> list[Extent]:
    """Read the data records of an Intel HEX file, with their absolute addresses, in the order of the file.

    Raises:
        ImageError: A record is damaged or unknown, or there is none that ends the file, or something follows it.
    """
    extents: list[Extent] = []
    base = 0
    ended = False
    for number, line in enumerate(text.split(), start=1):
        if ended:
            raise ImageError(f"Intel HEX record {number}: found {line[:20]!r} behind the end record, expected nothing")
        kind, address, data = _read_record(number, line)
        match kind:
            case _Record.DATA:
                if address + len(data) > 1 << 16:
                    raise ImageError(f"Intel HEX record {number}: runs over the end of its 64 KiB at {address:#06x}")
                extents.append(Extent(base + address, data))
            case _Record.END:
                ended = True
            case _Record.SEGMENT_ADDRESS:
                base = int.from_bytes(data, "big") << 4
            case _Record.LINEAR_ADDRESS:
                base = int.from_bytes(data, "big") << 16
            case _:
                pass  # where execution starts is not part of the image
    if not ended:
        raise ImageError("Intel HEX: no end record; the file was cut off, obtain it again")
    return extents


def _read_record(number: int, line: str) -> tuple[_Record, int, bytes]:
    where = f"Intel HEX record {number}"
    if not line.startswith(":"):
        raise ImageError(f"{where}: starts with {line[:1]!r}, expected ':'")
    try:
        raw = bytes.fromhex(line[1:])
    except ValueError:
        raise ImageError(f"{where}: {line[:60]!r}, expected an even number of hexadecimal digits") from None
    if len(raw) < _OVERHEAD_BYTES or len(raw) != raw[0] + _OVERHEAD_BYTES:
        wanted = raw[0] + _OVERHEAD_BYTES if raw else _OVERHEAD_BYTES
        raise ImageError(f"{where}: {len(raw)} bytes, expected {wanted} by its length field")
    if sum(raw) & 0xFF:
        wanted = -sum(raw[:-1]) & 0xFF
        raise ImageError(f"{where}: checksum {raw[-1]:#04x}, expected {wanted:#04x}; the file is damaged")
    try:
        kind = _Record(raw[3])
    except ValueError:
        raise ImageError(f"{where}: type {raw[3]:#04x}, expected 0x00 to 0x05") from None
    if kind in _FIXED_BYTES and raw[0] != _FIXED_BYTES[kind]:
        raise ImageError(f"{where}: {raw[0]} data bytes, expected {_FIXED_BYTES[kind]} in a record of type {kind}")
    return kind, int.from_bytes(raw[1:3], "big"), raw[4:-1]


def flatten(extents: list[Extent], end_address: int = 1 << 32) -> bytes:
    """Lay extents out in one image that starts at the lowest address; gaps are 0xFF, as in erased flash.

    Args:
        extents: What `read_hex` returned.
        end_address: What lies at or above it is another memory (for example configuration registers) and left out.

    Raises:
        ImageError: Nothing is left, two extents overlap, or the image would be longer than `MAX_IMAGE_BYTES`.
    """
    kept = sorted((extent for extent in extents if extent.address < end_address), key=lambda extent: extent.address)
    if not kept:
        raise ImageError(f"Intel HEX: no data below {end_address:#x}, expected an image")
    base = kept[0].address
    length = kept[-1].address + len(kept[-1].data) - base
    if length > MAX_IMAGE_BYTES:
        raise ImageError(f"Intel HEX: spans {length} bytes from {base:#x}, expected at most {MAX_IMAGE_BYTES}")
    image = bytearray()
    for extent in kept:
        gap = extent.address - base - len(image)
        if gap < 0:
            raise ImageError(f"Intel HEX: two records hold data for address {extent.address:#x}, expected one")
        image += bytes([FILL]) * gap + extent.data
    return bytes(image)
