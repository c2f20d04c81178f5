"""Bounded decompression to an exact length, with nothing left over.

Callers pass bytes whose hash was checked. The traps of the zstandard binding are closed here: the declared content size and window
are compared with the bounds before decoding, and trailing bytes, a second frame or a truncated frame are errors
(`max_output_size` alone is ignored by the binding when a frame declares its size).
"""

import lzma
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import zstandard

from packager.vehicle.errors import CorruptError
from packager.vehicle.profile import Coder
from packager.vehicle.wire import Cursor

COLUMNS: Final = 3
"""Delta blocks and the segment map have three each."""
MIN_LZMA_DICTIONARY_BYTES: Final = 4096
LZMA_PROPERTIES_BYTES: Final = 1
LZMA2_CHUNK_BYTES: Final = 1 << 16
"""Most bytes of a chunk that is stored as it is."""
_MAX_LZMA_PROPERTIES: Final = (4 * 5 + 4) * 9 + 8


@dataclass(frozen=True, slots=True)
class CodecLimits:
    """What an authentic head allows its coded bytes.

    Attributes:
        coders: Coders that may occur.
        window_bytes: Largest window that a zstd frame may declare.
    """

    coders: frozenset[Coder]
    window_bytes: int


def decode(
    coder: Coder,
    coded: memoryview | bytes,
    decoded_length_bytes: int,
    what: str,
    limits: CodecLimits,
    window: bytes | bytearray | memoryview = b"",
) -> bytes | memoryview:
    """Decode `coded` to exactly `decoded_length_bytes` bytes.

    Args:
        coder: How it was coded.
        coded: The whole coded form, hash already checked.
        decoded_length_bytes: Exact length, already bounded by the caller.
        what: Name of the object for error messages.
        limits: The head's limits.
        window: Old bytes that a zstd frame or LZMA stream refers to; empty for none.

    Raises:
        CorruptError: Another length comes out, bytes are left over, the stream is malformed, or the head does not declare the coder.
    """
    if coder not in limits.coders:
        raise CorruptError(f"{what}: needs coder {coder.name}, which the manifest does not declare")
    if coder is Coder.RAW:
        if len(coded) != decoded_length_bytes:
            raise CorruptError(f"{what}: found {len(coded)} raw bytes, expected {decoded_length_bytes}")
        return coded
    if not decoded_length_bytes:  # the zstandard binding does not look at what follows an empty frame
        raise CorruptError(f"{what}: nothing, coded as {coder.name}; expected RAW")
    if coder is Coder.ZSTD:
        return _decode_zstd(coded, decoded_length_bytes, what, limits.window_bytes, window)
    return _decode_lzma(coded, decoded_length_bytes, what, window)


class _Engines(threading.local):
    """The zstd decompressor of each thread: making one takes ten times as long as a short column in it."""

    def __init__(self) -> None:
        self.plain = zstandard.ZstdDecompressor(format=zstandard.FORMAT_ZSTD1_MAGICLESS)


_ENGINES: Final = _Engines()


def _decode_zstd(
    coded: memoryview | bytes,
    decoded_length_bytes: int,
    what: str,
    window_bytes: int,
    window: bytes | bytearray | memoryview,
) -> bytes:
    try:
        frame = zstandard.get_frame_parameters(coded, format=zstandard.FORMAT_ZSTD1_MAGICLESS)
        if frame.content_size != decoded_length_bytes or frame.dict_id or frame.has_checksum:
            raise CorruptError(
                f"{what}: zstd frame declares {frame.content_size} bytes, dictionary {frame.dict_id}, "
                f"checksum {frame.has_checksum}; expected {decoded_length_bytes} bytes and neither"
            )
        if frame.window_size > window_bytes:
            raise CorruptError(
                f"{what}: zstd frame wants a window of {frame.window_size} bytes, expected at most {window_bytes}"
            )
        engine = _ENGINES.plain
        if window:
            dictionary = zstandard.ZstdCompressionDict(window, zstandard.DICT_TYPE_RAWCONTENT)
            engine = zstandard.ZstdDecompressor(dict_data=dictionary, format=zstandard.FORMAT_ZSTD1_MAGICLESS)
        decoded = engine.decompress(coded, max_output_size=decoded_length_bytes, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise CorruptError(f"{what}: malformed zstd frame: {error}") from error
    if len(decoded) != decoded_length_bytes:
        raise CorruptError(f"{what}: zstd frame holds {len(decoded)} bytes, expected {decoded_length_bytes}")
    return decoded


def lzma_filters(properties: int, decoded_length_bytes: int) -> list[dict[str, int]]:
    """Return the raw LZMA1 filter for a property byte; the dictionary size follows from the decoded length."""
    return [
        {
            "id": lzma.FILTER_LZMA1,
            "dict_size": max(MIN_LZMA_DICTIONARY_BYTES, decoded_length_bytes),
            "lc": properties % 9,
            "lp": properties // 9 % 5,
            "pb": properties // 45,
        }
    ]


def _primed(window: bytes | bytearray | memoryview) -> Iterator[bytes | bytearray | memoryview]:
    """Yield the chunks of an LZMA2 stream that hold the window as it is; the first resets the dictionary."""
    for at in range(0, len(window), LZMA2_CHUNK_BYTES):
        chunk = window[at : at + LZMA2_CHUNK_BYTES]
        yield bytes((2 if at else 1,)) + (len(chunk) - 1).to_bytes(2, "big")
        yield chunk


def _decode_lzma(
    coded: memoryview | bytes, decoded_length_bytes: int, what: str, window: bytes | bytearray | memoryview
) -> bytes | memoryview:
    if window:
        # The binding has no preset dictionary; an LZMA2 stream may begin with what is already known.
        total_bytes = len(window) + decoded_length_bytes
        filters = [{"id": lzma.FILTER_LZMA2, "dict_size": max(MIN_LZMA_DICTIONARY_BYTES, total_bytes)}]
        stream = b"".join((*_primed(window), coded))
        return memoryview(_run_lzma(filters, stream, total_bytes, what))[len(window) :]
    if len(coded) < LZMA_PROPERTIES_BYTES or coded[0] > _MAX_LZMA_PROPERTIES:
        raise CorruptError(f"{what}: malformed LZMA properties")
    filters = lzma_filters(coded[0], decoded_length_bytes)
    return _run_lzma(filters, coded[LZMA_PROPERTIES_BYTES:], decoded_length_bytes, what)


def _run_lzma(filters: list[dict[str, int]], stream: memoryview | bytes, decoded_length_bytes: int, what: str) -> bytes:
    try:
        engine = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=filters)
        decoded = engine.decompress(stream, max_length=decoded_length_bytes)
        if not engine.eof:  # the end marker may stand behind the last byte
            decoded += engine.decompress(b"", max_length=1)
    except (lzma.LZMAError, ValueError) as error:
        raise CorruptError(f"{what}: malformed LZMA stream: {error}") from error
    if len(decoded) != decoded_length_bytes or not engine.eof or engine.unused_data:
        raise CorruptError(
            f"{what}: LZMA stream holds {len(decoded)} bytes (ended: {engine.eof}, left over: {len(engine.unused_data)}), "
            f"expected exactly {decoded_length_bytes}"
        )
    return decoded


def read_column(
    cursor: Cursor, what: str, *, max_decoded_bytes: int, limits: CodecLimits, window: bytes | memoryview = b""
) -> bytes | memoryview:
    """Read one column: varint ``decoded length * 4 + coder``, for a coder other than raw a varint coded length, then the bytes.

    Args:
        cursor: At the column.
        what: Name of the object for error messages.
        max_decoded_bytes: What it may have, decoded.
        limits: The head's limits.
        window: What a zstd frame or LZMA stream may refer to; empty for nothing.

    Raises:
        CorruptError: Longer than `max_decoded_bytes`, a coder that the head does not declare, or malformed content.
    """
    tag = cursor.varint()
    decoded_length_bytes = tag >> 2
    if decoded_length_bytes > max_decoded_bytes:
        raise CorruptError(f"{what}: column of {decoded_length_bytes} bytes, expected at most {max_decoded_bytes}")
    if tag & 3 > Coder.LZMA:
        raise CorruptError(f"{what}: found coder {tag & 3}, expected 0 to {int(Coder.LZMA)}")
    coder = Coder(tag & 3)
    if coder is Coder.RAW:
        return cursor.take(decoded_length_bytes)
    return decode(coder, cursor.take(cursor.varint()), decoded_length_bytes, what, limits, window)


def read_columns(cursor: Cursor, what: str, max_decoded_bytes: int, limits: CodecLimits) -> list[bytes | memoryview]:
    """Read the three columns that are the rest of a blob or section.

    Args:
        cursor: At the first of them.
        what: Name of the object for error messages.
        max_decoded_bytes: What they may have in all, decoded.
        limits: The head's limits.

    Raises:
        CorruptError: As `read_column`, or bytes are left over.
    """
    columns: list[bytes | memoryview] = []
    for _ in range(COLUMNS):
        columns.append(read_column(cursor, what, max_decoded_bytes=max_decoded_bytes, limits=limits))
        max_decoded_bytes -= len(columns[-1])
    cursor.end()
    return columns
