"""Codes columns: each in the smallest of the forms that the ECU can decode, ties to the simplest."""

from dataclasses import dataclass
from typing import Final

from packager.diff import lzma, zstd
from packager.vehicle.profile import Coder
from packager.vehicle.wire import encode_varint

MIN_COMPRESSED_BYTES: Final = 16
"""Shorter columns never gain from a coder's own header."""


@dataclass(frozen=True, slots=True)
class Column:
    """A coded column, as `packager.vehicle.core.codec.read_column` reads it.

    Attributes:
        encoded: Its bytes: tag, coded length if compressed, content.
        decoded_bytes: Length after decoding.
        coder: How it is coded.
        window_log2: log2 of the zstd window that it needs; 0 without zstd.
    """

    encoded: bytes
    decoded_bytes: int
    coder: Coder
    window_log2: int


def compress(data: bytes, coders: frozenset[Coder], level: int = zstd.LEVEL) -> tuple[Coder, bytes]:
    """Return the smallest coded form of `data` and its coder."""
    best = (Coder.RAW, data)
    if len(data) >= MIN_COMPRESSED_BYTES:
        if Coder.ZSTD in coders:
            best = min(best, (Coder.ZSTD, zstd.compress(data, level)), key=lambda form: len(form[1]))
        if Coder.LZMA in coders:
            best = min(best, (Coder.LZMA, lzma.compress(data)), key=lambda form: len(form[1]))
    return best


def encode_column(data: bytes, coders: frozenset[Coder], level: int = zstd.LEVEL) -> Column:
    """Code one column."""
    plain = encode_varint(len(data) << 2 | Coder.RAW) + data
    coder, coded = compress(data, coders, level)
    packed = encode_varint(len(data) << 2 | coder) + encode_varint(len(coded)) + coded
    if coder is Coder.RAW or len(packed) >= len(plain):
        return Column(plain, len(data), Coder.RAW, 0)
    return Column(packed, len(data), coder, zstd.window_log2(coded) if coder is Coder.ZSTD else 0)
