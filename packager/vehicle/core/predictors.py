"""Section 4 of the head: what is predicted in which page; and the address map that follows from the segment map.

FORMAT.md section 13.
"""

from array import array
from collections.abc import Iterable
from typing import Final

from packager.vehicle import kernel
from packager.vehicle._pure_stretch import PAGE_LOG2, Context
from packager.vehicle.core.codec import CodecLimits, read_column
from packager.vehicle.core.segments import Segment, SegmentMap
from packager.vehicle.errors import CorruptError, IncompatibleError
from packager.vehicle.instructions import ALL_GROUPS, InstructionSet
from packager.vehicle.wire import Cursor, unzigzag

MAX_MODES: Final = 16
_LONG: Final = (1 << 64) - 1
PREDICTORS_VERSION: Final = 1
MAP_ENTRY_BYTES: Final = 16
"""Memory of one segment in the address map: two 64-bit numbers."""
VALUE_BYTES: Final = 8
"""Memory of one number in the value map, with what it becomes."""


def fits_section(base: int) -> bool:
    """Tell whether section 4 can hold a base: as a signed 64-bit number it has at most 62 bits and a sign."""
    return base < 1 << 62 or (1 << 64) - (1 << 62) <= base < 1 << 64


def page_count(new_length_bytes: int) -> int:
    """Return the number of pages of the new image."""
    return -(-new_length_bytes >> PAGE_LOG2)


def parse_predictors(
    section: memoryview,
    segments: Iterable[Segment],
    *,
    old_bytes: int,
    new_bytes: int,
    values: tuple[int, int],
    limits: CodecLimits,
) -> Context:
    """Read section 4 of an authentic head.

    Args:
        section: The section.
        segments: The parsed segment map.
        old_bytes: Length of the old image.
        new_bytes: Length of the new image.
        values: How many numbers the value map has, and how long its decoded columns may be, from the manifest.
        limits: The head's limits on coded bytes.

    Raises:
        CorruptError: A rule of FORMAT.md section 13 is broken.
        IncompatibleError: An unknown version, instruction set or group.
    """
    what = "predictors"
    cursor = Cursor(section, what)
    version, count = cursor.uint(1), cursor.uint(1)
    if version != PREDICTORS_VERSION:
        raise IncompatibleError(f"{what}: version {version}, expected {PREDICTORS_VERSION}; needs a newer reader")
    if not 1 <= count <= MAX_MODES:
        raise CorruptError(f"{what}: {count} modes, expected 1 to {MAX_MODES}")
    sets, groups, bases = bytearray(), bytearray(), array("Q")
    for _ in range(count):
        sets.append(cursor.uint(1))
        groups.append(cursor.uint(1))
        bases.append(unzigzag(cursor.varint()) & _LONG)
    if max(sets) >= len(InstructionSet) or any(group & ~int(ALL_GROUPS) for group in groups):
        raise IncompatibleError(f"{what}: an instruction set or group is unknown; this bundle needs a newer reader")
    pages = page_count(new_bytes)
    modes = bytes(pages)
    if count > 1:
        modes = bytes(read_column(cursor, what, max_decoded_bytes=pages, limits=limits))
    old_values, new_values = array("I"), array("I")
    if values[0]:
        gaps = read_column(cursor, what, max_decoded_bytes=values[1], limits=limits)
        changes = read_column(cursor, what, max_decoded_bytes=values[1] - len(gaps), limits=limits)
        old_values, new_values = kernel.read_values(gaps, changes, values[0])
    cursor.end()
    if len(modes) != pages or max(modes, default=0) >= count:
        raise CorruptError(
            f"{what}: modes of {len(modes)} pages, the highest {max(modes, default=0)}; expected {pages} below {count}"
        )
    starts, shifts = address_map(segments)
    return Context(
        bytes(sets), bytes(groups), bases, modes, starts, shifts, old_bytes, new_bytes, old_values, new_values
    )


def address_map(segments: Iterable[Segment]) -> tuple["array[int]", "array[int]"]:
    """Turn segments around: from which old offset on, what is added to get the new one.

    By ascending old offset, longer ones first. What an earlier one covers is its own; of a later one only the rest counts.

    Returns:
        Old offsets, ascending, and what is added from each on.
    """
    made = segments if isinstance(segments, SegmentMap) else SegmentMap.of(segments)
    return kernel.address_map(made.new_offsets, made.old_offsets, made.lengths)
