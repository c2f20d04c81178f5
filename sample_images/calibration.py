"""Calibration data of generated firmware: smooth maps of 16-bit values behind their axes, at a fixed place of the flash."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sample_images.streams import digest

_SIZES: Final = ((8, 8), (16, 16), (12, 10), (16, 1), (1, 1), (20, 16))
"""Columns and rows of the maps; one row is a curve, one value a scalar."""
_EVERY_NTH_VERSION_ADDS: Final = 3
_ROOM: Final = 8  # of the region, one in so many bytes stays free for maps to come


@dataclass(frozen=True, slots=True)
class CalibrationMap:
    """One map: its identity, the versions that changed it, and its place from the start of the region."""

    number: int
    edits: tuple[int, ...]
    offset: int


def _length_bytes(key: str, number: int) -> int:
    columns, rows = _shape(key, number)
    return 2 * (columns * rows + columns + rows + 2)


def _shape(key: str, number: int) -> tuple[int, int]:
    return _SIZES[digest(1, key, "map", number)[0] % len(_SIZES)]


def plan_calibration(
    key: str, region_bytes: int, version: int, extra_edits: Sequence[int] = ()
) -> tuple[CalibrationMap, ...]:
    """Lay out the maps of a version: each one changes a few maps, and every third inserts one, which moves those behind it.

    Args:
        key: Names the random stream.
        region_bytes: Length of the region.
        version: Number of the version, from 0.
        extra_edits: Maps to change once more.
    """
    limit = region_bytes - region_bytes // _ROOM
    numbers: list[int] = []
    length = 0
    while length + _length_bytes(key, len(numbers)) <= limit:
        length += _length_bytes(key, len(numbers))
        numbers.append(len(numbers))
    original = len(numbers)
    edits: dict[int, list[int]] = {}
    for step in range(1, version + 1):
        draws = struct.unpack("<8I", digest(32, key, "calibration", step))
        for draw in draws[: 1 + original // 64 % 7]:
            edits.setdefault(numbers[draw % len(numbers)], []).append(step)
        added = original + step
        if step % _EVERY_NTH_VERSION_ADDS == 0 and length + _length_bytes(key, added) <= region_bytes:
            length += _length_bytes(key, added)
            numbers.insert(draws[7] % len(numbers), added)
    for number in extra_edits:
        edits.setdefault(number, []).append(-1)
    maps = []
    offset = 0
    for number in numbers:
        maps.append(CalibrationMap(number, tuple(edits.get(number, ())), offset))
        offset += _length_bytes(key, number)
    return tuple(maps)


def write_map(key: str, wanted: CalibrationMap) -> bytes:
    """Make the bytes of a map: columns, rows, both axes, values row by row, all little-endian 16-bit."""
    columns, rows = _shape(key, wanted.number)
    base, slope_x, slope_y, step_x, step_y = struct.unpack("<5H", digest(10, key, "surface", wanted.number))
    base, slope_x, slope_y = base % 20000, slope_x % 300, slope_y % 300
    axis_x = [step_x % 500 + 250 * index for index in range(columns)]
    axis_y = [step_y % 90 + 40 * index for index in range(rows)]
    noise = digest(columns * rows, key, "roughness", wanted.number)
    values = [
        base + slope_x * x + slope_y * y + x * y + (noise[y * columns + x] & 7)
        for y in range(rows)
        for x in range(columns)
    ]
    for edit in wanted.edits:
        draw = digest(4, key, "tuning", wanted.number, edit)
        first = draw[0] % len(values)
        for index in range(first, min(len(values), first + 1 + draw[1] % 12)):
            values[index] += 1 + draw[2] % 40
    words = [columns, rows, *axis_x, *axis_y, *values]
    return struct.pack(f"<{len(words)}H", *[word & 0xFFFF for word in words])
