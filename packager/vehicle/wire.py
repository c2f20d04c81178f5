"""Bounded reading of little-endian fields and varints from bytes whose hash was already checked.

Every read names the object it serves, so that an error says what was cut short. Nothing here allocates more than it was given.
"""

from typing import Final

from packager.vehicle.errors import CorruptError

MAX_VARINT_BYTES: Final = 9
"""Longest varint: 63 bits, so that every value fits a signed 64-bit integer."""


class Cursor:
    """Reads fields from `data` in order.

    Args:
        data: The bytes; not copied.
        what: Name of the object for error messages.
    """

    __slots__ = ("_data", "_length_bytes", "_what", "offset")

    def __init__(self, data: memoryview | bytes, what: str) -> None:
        self._data = memoryview(data)
        self._length_bytes = len(self._data)
        self._what = what
        self.offset = 0

    @property
    def left(self) -> int:
        """Bytes not yet read."""
        return self._length_bytes - self.offset

    def take(self, length_bytes: int) -> memoryview:
        """Read `length_bytes` bytes.

        Raises:
            CorruptError: Fewer are left.
        """
        start, end = self.offset, self.offset + length_bytes
        if end > self._length_bytes:
            raise CorruptError(
                f"{self._what}: truncated at byte {self.offset}: found {self.left} bytes, expected {length_bytes}"
            )
        self.offset = end
        return self._data[start:end]

    def uint(self, width_bytes: int) -> int:
        """Read an unsigned little-endian integer of `width_bytes` bytes."""
        return int.from_bytes(self.take(width_bytes), "little")

    def text(self) -> str:
        """Read one length byte and that many bytes of UTF-8.

        Raises:
            CorruptError: Truncated, or not UTF-8.
        """
        raw = self.take(self.uint(1))
        try:
            return str(raw, "utf-8")
        except UnicodeDecodeError as error:
            raise CorruptError(f"{self._what}: text at byte {self.offset} is not UTF-8: {error.reason}") from error

    def varint(self) -> int:
        """Read an LEB128 varint in its shortest form, at most 63 bits.

        Raises:
            CorruptError: Truncated, longer than nine bytes, or padded with zero bits.
        """
        data, start = self._data, self.offset
        value = shift = 0
        if start < self._length_bytes and data[start] < 0x80:  # most have one byte
            self.offset = start + 1
            return data[start]
        for at in range(
            start, min(start + MAX_VARINT_BYTES, self._length_bytes)
        ):  # no calls in here: a segment map has many
            byte = data[at]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                self.offset = at + 1
                if byte == 0 and shift:
                    raise CorruptError(f"{self._what}: varint at byte {self.offset} is not in its shortest form")
                return value
            shift += 7
        self.offset = start + shift // 7
        if shift < 7 * MAX_VARINT_BYTES:
            self.take(1)
        raise CorruptError(f"{self._what}: varint at byte {self.offset} is longer than {MAX_VARINT_BYTES} bytes")

    def end(self) -> None:
        """Require that everything was read.

        Raises:
            CorruptError: Bytes are left over.
        """
        if self.left:
            raise CorruptError(f"{self._what}: {self.left} bytes left over after byte {self.offset}, expected none")


def encode_varint(value: int) -> bytes:
    """Encode `value` (0 to 2**63 - 1) as the shortest LEB128 varint.

    Raises:
        ValueError: It is another number.
    """
    if not 0 <= value < 1 << 63:
        raise ValueError(f"varint: found {value}, expected 0 to 2**63 - 1")
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def zigzag(value: int) -> int:
    """Map a signed integer to an unsigned one, small magnitudes first."""
    return value << 1 if value >= 0 else (-value << 1) - 1


def unzigzag(value: int) -> int:
    """Undo `zigzag`."""
    return -((value + 1) >> 1) if value & 1 else value >> 1
