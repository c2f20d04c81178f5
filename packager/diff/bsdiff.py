"""The bsdiff4 engine: the only module that touches bsdiff4, whose private `core.diff` changed shape between 1.2 and 1.3.

bsdiff needs 17 bytes of memory per byte of the old image and takes minutes on fill and periodic data (1 MB of zeros with 7 changed
bytes: 24 s). So runs are shortened first, unchanged ends and pages are taken out, the rest is cut in windows of bounded size, and
windows that compress like periodic data are left to zstd. All bounds depend on the bytes alone, never on a clock.
"""

import re
import struct
from bisect import bisect_right
from typing import Final

import bsdiff4.core
import zstandard

from packager.diff.alignment import normalise
from packager.vehicle.core.segments import Segment

NEW_WINDOW_BYTES: Final = 1 << 20
OLD_MARGIN_BYTES: Final = 1 << 20
PAGE_BYTES: Final = 4096
KEPT_RUN_BYTES: Final = 16
MAX_RATIO: Final = 24
"""A window that zstd -1 compresses more than this is fill or periodic: bsdiff's sort would take minutes on it."""
_RUN: Final = re.compile(rb"(.)\1{127,}", re.DOTALL)
_TRIPLE: Final = struct.Struct("<QQQ")
_SIGN: Final = 1 << 63


def segments(old: bytes, new: bytes) -> list[Segment]:
    """Align `new` with `old`.

    Returns:
        Segments by ascending new offset, without overlap; bytes within may differ.
    """
    found: list[Segment] = []
    for start, end in _changed_ranges(old, new, found):
        for first in range(start, end, NEW_WINDOW_BYTES):
            last = min(first + NEW_WINDOW_BYTES, end)
            old_first = max(first - OLD_MARGIN_BYTES, 0)
            old_last = min(
                last + OLD_MARGIN_BYTES + max(len(old) - len(new), 0), len(old), old_first + 4 * NEW_WINDOW_BYTES
            )
            if old_first < old_last:
                found += _window(old, new, (old_first, old_last), (first, last))
    return normalise(found, old, new)


def _changed_ranges(old: bytes, new: bytes, found: list[Segment]) -> list[tuple[int, int]]:
    """Put unchanged pages at the same offset into `found` and return the ranges of `new` that are left."""
    ranges: list[tuple[int, int]] = []
    same_from: int | None = None
    changed_from: int | None = None
    for start in range(0, len(new), PAGE_BYTES):
        end = min(start + PAGE_BYTES, len(new))
        if old[start:end] == new[start:end]:
            if changed_from is not None:
                ranges.append((changed_from, start))
                changed_from = None
            same_from = start if same_from is None else same_from
        else:
            if same_from is not None:
                found.append(Segment(same_from, same_from, start - same_from))
                same_from = None
            changed_from = start if changed_from is None else changed_from
    if same_from is not None:
        found.append(Segment(same_from, same_from, len(new) - same_from))
    if changed_from is not None:
        ranges.append((changed_from, len(new)))
    return ranges


def _window(old: bytes, new: bytes, old_range: tuple[int, int], new_range: tuple[int, int]) -> list[Segment]:
    old_short, old_starts, old_kept = _shorten_runs(old, *old_range)
    new_short, new_starts, new_kept = _shorten_runs(new, *new_range)
    if _is_periodic(old_short) or _is_periodic(new_short):
        return []
    controls = bsdiff4.core.diff(old_short, new_short)[0]
    found = []
    old_at = new_at = 0
    for add, extra, seek in _TRIPLE.iter_unpack(controls):
        found += _split(new_at, old_at, add, (new_starts, new_kept), (old_starts, old_kept))
        new_at += add + extra
        old_at += add + (_SIGN - seek if seek & _SIGN else seek)
    return [s for s in found if s.old_offset >= 0]


def _is_periodic(data: bytes) -> bool:
    return len(data) > PAGE_BYTES and len(zstandard.compress(data, 1)) * MAX_RATIO < len(data)


def _shorten_runs(data: bytes, start: int, end: int) -> tuple[bytes, list[int], list[int]]:
    """Cut each run of one byte down to `KEPT_RUN_BYTES`.

    Returns:
        The short form, and per kept stretch its start in the short form and in `data`.
    """
    parts, starts, kept = [], [0], [start]
    at, length = start, 0
    for match in _RUN.finditer(data, start, end):
        keep = match.start() + KEPT_RUN_BYTES
        parts.append(data[at:keep])
        length += keep - at
        at = match.end()
        starts.append(length)
        kept.append(at)
    parts.append(data[at:end])
    return b"".join(parts), starts, kept


def _split(
    new_at: int, old_at: int, length: int, new_map: tuple[list[int], list[int]], old_map: tuple[list[int], list[int]]
) -> list[Segment]:
    """Map a stretch of the short forms back, cut where either of them left bytes out."""
    found = []
    while length > 0:
        new_start, new_left = _place(new_at, *new_map)
        old_start, old_left = _place(max(old_at, 0), *old_map)
        step = min(length, new_left, old_left) if old_at >= 0 else min(length, -old_at)
        if old_at >= 0:
            found.append(Segment(new_start, old_start, step))
        new_at, old_at, length = new_at + step, old_at + step, length - step
    return found


def _place(short: int, starts: list[int], kept: list[int]) -> tuple[int, int]:
    """Return where a byte of the short form stands in the data, and how many bytes follow it before the next cut."""
    index = bisect_right(starts, short) - 1
    left = starts[index + 1] - short if index + 1 < len(starts) else 1 << 62
    return kept[index] + short - starts[index], left
