"""What `_pure_predict` and `_pure_tables` rewrite, and what they need to know for that."""

from array import array
from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final

PAGE_LOG2: Final = 12
PAGE_BYTES: Final = 1 << PAGE_LOG2
WORD: Final = (1 << 32) - 1
LONG: Final = (1 << 64) - 1


class Kind(IntEnum):
    """What `label` does."""

    LABEL = 0
    UNLABEL = 1
    LABEL_OLD = 2


@dataclass(frozen=True, slots=True)
class Context:
    """What the rules need to know; see `packager.vehicle.core.predictors`."""

    sets: bytes
    groups: bytes
    bases: "array[int]"
    pages: bytes
    starts: "array[int]"
    shifts: "array[int]"
    old_bytes: int
    new_bytes: int
    old_values: "array[int]" = field(default_factory=lambda: array("I"))
    new_values: "array[int]" = field(default_factory=lambda: array("I"))

    def map(self, old_offset: int) -> int:
        """Return the new offset of an old one, both modulo 2**64."""
        if old_offset >= self.old_bytes or not len(self.starts):
            return old_offset
        index = max(bisect_right(self.starts, old_offset) - 1, 0)
        return (old_offset + self.shifts[index]) & LONG

    def value(self, old_value: int) -> int | None:
        """Return what a number of the old image becomes; None if the value map does not know it."""
        index = bisect_left(self.old_values, old_value)
        known = index < len(self.old_values) and self.old_values[index] == old_value
        return self.new_values[index] if known else None


class Stretch:
    """A stretch that is being rewritten; `at` is the address of its first byte in its own image."""

    def __init__(self, context: Context, kind: int, data: memoryview, at: int) -> None:
        self.context = context
        self.kind = kind
        self.data = data
        self.at = at

    def load(self, at: int, width: int) -> int:
        """Return the little-endian number of `width` bytes at `at`."""
        return int.from_bytes(self.data[at : at + width], "little")

    def store(self, at: int, width: int, value: int) -> None:
        """Write `value`, modulo 256 to the power of `width`."""
        self.data[at : at + width] = (value & ((1 << 8 * width) - 1)).to_bytes(width, "little")
