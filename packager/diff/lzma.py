"""Raw LZMA streams of the form that the vehicle reads: one property byte, LZMA1, end marker."""

import lzma
from typing import Final

from packager.vehicle.codec import lzma_filters

PROPERTIES: Final = (93, 0, 90, 4, 1, 94)
"""Property bytes that are tried, ``(pb * 5 + lp) * 9 + lc``: the usual 3/0/2 first, then ones for bytes, words and text."""


THOROUGH_BYTES: Final = 1 << 18
"""Up to this length all properties are tried; each takes about 0.6 s per MiB."""


def compress(data: bytes) -> bytes:
    """Compress `data` with the properties that make it smallest; the first of equals wins."""
    tried = PROPERTIES if len(data) <= THOROUGH_BYTES else PROPERTIES[:1]
    return min((_compress(data, properties) for properties in tried), key=len)


def _compress(data: bytes, properties: int) -> bytes:
    filters = [
        {
            **lzma_filters(properties, len(data))[0],
            "mode": lzma.MODE_NORMAL,
            "nice_len": 273,
            "mf": lzma.MF_BT4,
            "depth": 512,
        }
    ]
    return bytes((properties,)) + lzma.compress(data, lzma.FORMAT_RAW, filters=filters)
