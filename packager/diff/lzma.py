"""Raw LZMA streams of the forms that the vehicle reads: one property byte, LZMA1, end marker; or LZMA2 behind known bytes."""

import ctypes
import ctypes.util
import functools
import lzma
from typing import Final

from packager.vehicle.core.codec import MIN_LZMA_DICTIONARY_BYTES, lzma_filters

PROPERTIES: Final = (93, 0, 90, 4, 1, 94)
"""Property bytes that are tried, ``(pb * 5 + lp) * 9 + lc``: the usual 3/0/2 first, then ones for bytes, words and text."""

PROPERTIES_BEHIND: Final = (3, 48, 0)
"""Of machine code with more of it known; the best of them is within 0.2 % of the best of all."""
_LAST_FILTER: Final = (1 << 64) - 1


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


class _Options(ctypes.Structure):
    """`lzma_options_lzma` of liblzma 5; what is behind the last field is reserved and zero."""

    _fields_ = (
        ("dict_size", ctypes.c_uint32),
        ("preset_dict", ctypes.c_char_p),
        ("preset_dict_size", ctypes.c_uint32),
        ("lc", ctypes.c_uint32),
        ("lp", ctypes.c_uint32),
        ("pb", ctypes.c_uint32),
        ("mode", ctypes.c_int),
        ("nice_len", ctypes.c_uint32),
        ("mf", ctypes.c_int),
        ("depth", ctypes.c_uint32),
        ("reserved", ctypes.c_uint8 * 128),
    )


class _Filter(ctypes.Structure):
    _fields_ = (("id", ctypes.c_uint64), ("options", ctypes.c_void_p))


@functools.cache
def _library() -> ctypes.CDLL | None:
    """Return the system's liblzma: Python's own module has no preset dictionary."""
    name = ctypes.util.find_library("lzma")
    try:
        return ctypes.CDLL(name) if name else None
    except OSError:
        return None


def liblzma_version() -> str:
    """Return the version of the system's liblzma; "none" where there is none, and bundles for ECUs with LZMA are larger."""
    library = _library()
    if library is None:
        return "none"
    library.lzma_version_string.restype = ctypes.c_char_p
    return str(library.lzma_version_string().decode())


def compress_behind(data: bytes, window: bytes, *, hurried: bool = False) -> bytes | None:
    """Compress `data` to LZMA2 chunks that may refer to `window`, with the properties that make it smallest.

    Args:
        data: Not empty.
        window: Not empty.
        hurried: Whether the window is hashed instead of sorted, for little data behind a lot.

    Returns:
        The chunks and the end mark; None where the system has no liblzma.
    """
    library = _library()
    if library is None:
        return None
    tried = PROPERTIES_BEHIND if len(data) <= THOROUGH_BYTES and not hurried else PROPERTIES_BEHIND[:1]
    finder = lzma.MF_HC4 if hurried else lzma.MF_BT4
    made = [_compress_behind(library, data, window, properties, finder) for properties in tried]
    return min((coded for coded in made if coded is not None), key=len, default=None)


def _compress_behind(library: ctypes.CDLL, data: bytes, window: bytes, properties: int, finder: int) -> bytes | None:
    options = _Options(
        dict_size=max(MIN_LZMA_DICTIONARY_BYTES, len(window) + len(data)),
        preset_dict=window,
        preset_dict_size=len(window),
        lc=properties % 9,
        lp=properties // 9 % 5,
        pb=properties // 45,
        mode=lzma.MODE_NORMAL,
        nice_len=273,
        mf=finder,
        depth=512,
    )
    filters = (_Filter * 2)(_Filter(lzma.FILTER_LZMA2, ctypes.addressof(options)), _Filter(_LAST_FILTER, None))
    out = ctypes.create_string_buffer(len(data) + len(data) // 64 + 64)
    used = ctypes.c_size_t(0)
    failed = library.lzma_raw_buffer_encode(
        filters, None, data, ctypes.c_size_t(len(data)), out, ctypes.byref(used), ctypes.c_size_t(len(out))
    )
    return None if failed else out.raw[: used.value]
