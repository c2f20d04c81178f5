"""Section 5 of the head of an in-place bundle: stretches of the old image that are put aside before the first overwrite.

Scratch of an in-place update: the block that is being written, then the spilled stretches one after the other. All of them are copied
before the first block is written, and from then on read from there alone; so what the scratch holds never changes but for its first block.
"""

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

from packager.vehicle.errors import CorruptError
from packager.vehicle.identity import DIGEST_BYTES
from packager.vehicle.wire import Cursor

SPILL_BYTES: Final = 12
"""Length of one entry: `u64` old offset, `u32` length."""
MAX_SPILLS: Final = 1 << 16


class Spill(NamedTuple):
    """`length_bytes` bytes of the old image at `old_offset` lie in the spilled part of the scratch at `scratch_offset`."""

    old_offset: int
    length_bytes: int
    scratch_offset: int


@dataclass(frozen=True, slots=True)
class SpillMap:
    """Spilled stretches by ascending old offset, apart from each other.

    Attributes:
        spills: The stretches.
        digest: SHA-256 of all of them, one after the other; empty without any.
    """

    spills: tuple[Spill, ...]
    digest: bytes

    def __len__(self) -> int:
        return len(self.spills)

    @property
    def spilled_bytes(self) -> int:
        """Length of all stretches."""
        return self.spills[-1].scratch_offset + self.spills[-1].length_bytes if self.spills else 0

    def split(self, start: int, end: int) -> Iterator[tuple[int, int, Spill | None]]:
        """Cut the old bytes `start` to `end` where spilled and other bytes meet: first and end byte, and the spill they lie in."""
        index = max(bisect_right(self.spills, start, key=lambda spill: spill.old_offset) - 1, 0)
        while start < end:
            while index < len(self.spills) and self.spills[index].old_offset + self.spills[index].length_bytes <= start:
                index += 1
            spill = self.spills[index] if index < len(self.spills) else None
            if spill is None or spill.old_offset >= end:
                yield start, end, None
                return
            if spill.old_offset > start:
                yield start, spill.old_offset, None
                start = spill.old_offset
            stop = min(end, spill.old_offset + spill.length_bytes)
            yield start, stop, spill
            start = stop


NO_SPILLS: Final = SpillMap((), b"")


def parse_spills(section: memoryview, old_length_bytes: int) -> SpillMap:
    """Read section 5 of an authentic head.

    Raises:
        CorruptError: A rule of FORMAT.md section 12 is broken.
    """
    what = "spills"
    cursor = Cursor(section, what)
    digest = bytes(cursor.take(DIGEST_BYTES))
    count, rest = divmod(cursor.left, SPILL_BYTES)
    if rest or not 1 <= count <= MAX_SPILLS:
        raise CorruptError(f"{what}: {cursor.left} bytes of entries, expected 1 to {MAX_SPILLS} of {SPILL_BYTES} bytes")
    spills: list[Spill] = []
    end = -1
    scratch_offset = 0
    for index in range(count):
        old_offset, length_bytes = cursor.uint(8), cursor.uint(4)
        if old_offset <= end or not length_bytes or old_offset + length_bytes > old_length_bytes:
            raise CorruptError(
                f"{what}: entry {index} of {length_bytes} bytes at old byte {old_offset}, expected one after byte {end} "
                f"and within the {old_length_bytes} bytes of the old image"
            )
        spills.append(Spill(old_offset, length_bytes, scratch_offset))
        end = old_offset + length_bytes
        scratch_offset += length_bytes
    return SpillMap(tuple(spills), digest)


def encode_spills(spills: list[tuple[int, int]], digest: bytes) -> bytes:
    """Write section 5 from first byte and length of each stretch; the inverse of `parse_spills`."""
    return digest + b"".join(first.to_bytes(8, "little") + count.to_bytes(4, "little") for first, count in spills)
