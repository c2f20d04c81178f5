"""Raw LZMA streams of the form that the vehicle reads: one property byte, LZMA1, end marker."""

import lzma
from typing import Final

from packager.vehicle.codec import lzma_filters

PROPERTIES: Final = (93, 0, 90, 4, 1, 94)
"""Property bytes that are tried, ``(pb * 5 + lp) * 9 + lc``: the usual 3/0/2 first, then ones for bytes, words and text."""


def compress(data: bytes, *, thorough: bool = True) -> bytes:
    """Compress `data`, with each of `PROPERTIES` if `thorough`; the first of the smallest wins."""
    return min((_compress(data, properties) for properties in (PROPERTIES if thorough else PROPERTIES[:1])), key=len)


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
