"""zstd frames of the form that the vehicle reads, with and without a window of the old image.

`zstandard` has no true prefix mode: with a raw dictionary only the last part of a large window is indexed unless `hash_log` and
`chain_log` cover it (measured: 40 MiB moved by half, level 19: 8.4 MB with the defaults, 3.5 kB with both set). So they are set from
the sizes. One compressor per frame: two streams of one `ZstdCompressor` silently corrupt each other.
"""

from typing import Final

import zstandard

LEVEL: Final = 19
MIN_WINDOW_LOG2: Final = 10
MAX_WINDOW_LOG2: Final = 27
MAX_TABLE_LOG2: Final = 28


def compress(data: bytes, level: int = LEVEL, window: bytes = b"") -> bytes:
    """Compress `data` to one magicless frame with its content size, without checksum and dictionary id.

    Args:
        data: Not empty.
        level: 1 to 22.
        window: Old bytes that the frame may refer to.
    """
    dictionary = zstandard.ZstdCompressionDict(window, zstandard.DICT_TYPE_RAWCONTENT) if window else None
    return zstandard.ZstdCompressor(
        compression_params=_parameters(len(data), level, len(window)), dict_data=dictionary
    ).compress(data)


def window_log2(data: bytes) -> int:
    """Return log2 of the window that the decoder of a frame needs, rounded up."""
    size = zstandard.get_frame_parameters(data, format=zstandard.FORMAT_ZSTD1_MAGICLESS).window_size
    return max((size - 1).bit_length(), 1)


def _parameters(data_bytes: int, level: int, window_bytes: int) -> zstandard.ZstdCompressionParameters:
    total_log2 = max((data_bytes + window_bytes - 1).bit_length(), MIN_WINDOW_LOG2)
    options: dict[str, int] = {}
    if window_bytes:
        options = {
            "window_log": min(total_log2, MAX_WINDOW_LOG2),
            "hash_log": min(total_log2, MAX_TABLE_LOG2),
            "chain_log": min(total_log2 + 1, MAX_TABLE_LOG2),
        }
    return zstandard.ZstdCompressionParameters.from_level(
        level,
        source_size=data_bytes + window_bytes,
        format=zstandard.FORMAT_ZSTD1_MAGICLESS,
        write_checksum=False,
        write_dict_id=False,
        write_content_size=True,
        **options,
    )
