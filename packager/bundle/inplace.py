"""Orders the blocks of an in-place bundle by what they overwrite.

A block may be installed when no block after it still reads old bytes that it destroys. Where blocks need each other's bytes in a
circle, it is broken in the cheapest of three ways: old bytes are put aside in the ECU's scratch before the first overwrite, a block does
without those old bytes, or without the old image at all. Deterministic: the result depends on the images, the reads and the scratch alone.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from typing import Final

from packager.vehicle.core.segments import Segment
from packager.vehicle.core.spills import MAX_SPILLS, SPILL_BYTES

Range = tuple[int, int]
"""First and end byte."""
MIN_PIECE_BYTES: Final = 8
JOINED_GAP_BYTES: Final = 32
"""Spilled stretches this near to each other become one: an entry costs bytes of the head."""


@dataclass(frozen=True, slots=True)
class Arrangement:
    """How to install in place.

    Attributes:
        order: Block numbers in install order.
        spills: First byte and length of the old bytes to put aside, ascending and apart.
        recoded: Blocks that must be coded without the old image.
        left_out: Old bytes that a block must do without, by block.
    """

    order: tuple[int, ...]
    spills: tuple[tuple[int, int], ...]
    recoded: frozenset[int]
    left_out: Mapping[int, Sequence[Range]]

    @property
    def spilled_bytes(self) -> int:
        """Length of all spilled stretches."""
        return sum(length for _, length in self.spills)


def arrange(
    old: bytes,
    new: bytes,
    block_bytes: int,
    reads: Sequence[Sequence[Range]],
    spill_bytes: int,
    extra_bytes: Callable[[int], int],
    divisible: Collection[int],
) -> Arrangement:
    """Find an order in which every block still finds its old bytes.

    Args:
        old: The old image.
        new: The new image.
        block_bytes: Size of a block.
        reads: For every block, the stretches of the old image that it reads.
        spill_bytes: Most old bytes that may be put aside.
        extra_bytes: Tells, for a block, how much longer it gets when it is coded without the old image.
        divisible: Blocks that can leave out a part of what they read; it costs them at most as many bytes.
    """
    graph = _Graph(old, new, block_bytes, reads)
    spills: list[Range] = []
    recoded: set[int] = set()
    left_out: dict[int, list[Range]] = {}
    while graph.install_ready():
        freed = min(graph.core(), key=lambda block: (graph.needed(block)[1], block))
        ranges = graph.needed(freed)[0]
        readers = {reader: join(read, 0) for reader, read in graph.readers[freed].items()}
        divided = {
            reader for reader in readers if reader in divisible and _total(readers[reader]) <= extra_bytes(reader)
        }
        cost_bytes = sum(_total(readers[r]) if r in divided else extra_bytes(r) for r in readers)
        fits = _total(spills) + _total(ranges) <= spill_bytes and len(spills) + len(ranges) <= MAX_SPILLS
        if fits and SPILL_BYTES * len(ranges) <= cost_bytes:
            spills += ranges
        else:
            for reader in readers.keys() - divided:
                recoded.add(reader)
                left_out.pop(reader, None)
            for reader in divided:
                left_out.setdefault(reader, []).extend(readers[reader])
        graph.release(freed)
        for reader in readers.keys() & recoded:
            graph.forget(reader)
    joined = tuple((first, end - first) for first, end in join(spills, 0))
    return Arrangement(tuple(graph.order), joined, frozenset(recoded), left_out)


def without(pieces: Sequence[Segment], left_out: Iterable[Range]) -> list[Segment]:
    """Cut stretches of the old image out of pieces; what gets too short to pay goes, too."""
    for low, high in left_out:
        rest = []
        for new_offset, old_offset, length_bytes in pieces:
            end = old_offset + length_bytes
            for first, last in ((old_offset, min(end, low)), (max(old_offset, high), end)):
                if last - first >= MIN_PIECE_BYTES:
                    rest.append(Segment(new_offset + first - old_offset, first, last - first))
        pieces = rest
    return list(pieces)


def join(ranges: Iterable[Range], gap_bytes: int) -> list[Range]:
    """Return the ranges in ascending order, those that overlap or lie at most `gap_bytes` apart as one."""
    joined: list[Range] = []
    for first, end in sorted(ranges):
        if joined and first <= joined[-1][1] + gap_bytes:
            joined[-1] = (joined[-1][0], max(joined[-1][1], end))
        else:
            joined.append((first, end))
    return joined


class _Graph:
    """Who reads what whom overwrites.

    Attributes:
        readers: For each block that is not installed, the other blocks that must come before it, and what they read of its place.
        overwriters: The same edges the other way round.
        order: Installed so far.
    """

    def __init__(self, old: bytes, new: bytes, block_bytes: int, reads: Sequence[Sequence[Range]]) -> None:
        count = len(reads)
        self.readers: dict[int, dict[int, list[Range]]] = {block: {} for block in range(count)}
        self.overwriters: dict[int, set[int]] = {block: set() for block in range(count)}
        self.order: list[int] = []
        self._needed: dict[int, tuple[list[Range], int]] = {}
        for reader, ranges in enumerate(reads):
            for first, end in ranges:
                for block in range(first // block_bytes, min(-(-end // block_bytes), count)):
                    low, high = max(first, block * block_bytes), min(end, (block + 1) * block_bytes, len(new))
                    if block != reader and low < high and old[low:high] != new[low:high]:
                        self.readers[block].setdefault(reader, []).append((low, high))
                        self.overwriters[reader].add(block)
        self._ready = [block for block, readers in self.readers.items() if not readers]
        heapify(self._ready)

    def install_ready(self) -> bool:
        """Install every block that can be, the lowest first. Returns whether some are left."""
        while self._ready:
            block = heappop(self._ready)
            self.order.append(block)
            del self.readers[block]
            self.forget(block)
        return bool(self.readers)

    def forget(self, reader: int) -> None:
        """Let a block read nothing any more: it is installed, or coded without the old image."""
        for block in self.overwriters[reader]:
            del self.readers[block][reader]
            self._needed.pop(block, None)
            if not self.readers[block]:
                heappush(self._ready, block)
        self.overwriters[reader] = set()

    def release(self, block: int) -> None:
        """Let nobody read the place of a block any more: what they need of it is put aside."""
        for reader in self.readers[block]:
            self.overwriters[reader].remove(block)
        self.readers[block] = {}
        heappush(self._ready, block)

    def needed(self, block: int) -> tuple[list[Range], int]:
        """Return what others read of a block's place, and how many bytes that is."""
        if block not in self._needed:
            read = (item for ranges in self.readers[block].values() for item in ranges)
            found = join(read, JOINED_GAP_BYTES)
            self._needed[block] = found, _total(found)
        return self._needed[block]

    def core(self) -> list[int]:
        """Return, of the blocks that are left, those in circles or between them; each both waits and is waited for."""
        waited_for = {block: len(self.overwriters[block]) for block in self.readers}
        idle = [block for block, number in waited_for.items() if not number]
        while idle:
            block = idle.pop()
            del waited_for[block]
            for reader in self.readers[block]:
                if reader in waited_for:
                    waited_for[reader] -= 1
                    if not waited_for[reader]:
                        idle.append(reader)
        return sorted(waited_for)


def _total(ranges: Iterable[Range]) -> int:
    return sum(end - first for first, end in ranges)
