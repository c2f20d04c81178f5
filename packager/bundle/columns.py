"""Writes columns: each in the smallest of the forms that the ECU can decode, ties to the simplest."""

from packager.diff import lzma, zstd
from packager.vehicle.profile import Coder
from packager.vehicle.wire import encode_varint

MIN_COMPRESSED_BYTES = 16
"""Shorter columns never gain from a coder's own header."""


def compress(data: bytes, coders: frozenset[Coder], level: int = zstd.LEVEL) -> tuple[Coder, bytes]:
    """Return the smallest coded form of `data` and its coder."""
    best = (Coder.RAW, data)
    if len(data) >= MIN_COMPRESSED_BYTES:
        if Coder.ZSTD in coders:
            best = min(best, (Coder.ZSTD, zstd.compress(data, level)), key=lambda form: len(form[1]))
        if Coder.LZMA in coders:
            best = min(best, (Coder.LZMA, lzma.compress(data)), key=lambda form: len(form[1]))
    return best


def encode_column(data: bytes, coders: frozenset[Coder], level: int = zstd.LEVEL) -> bytes:
    """Return a column as `packager.vehicle.codec.read_column` reads it."""
    coder, coded = compress(data, coders, level)
    tag = encode_varint(len(data) << 2 | coder)
    packed = tag + coded if coder is Coder.RAW else tag + encode_varint(len(coded)) + coded
    plain = tag[:0] + encode_varint(len(data) << 2) + data
    return min(plain, packed, key=len)
