"""Which blocks of the new image a slot holds already, and which bytes of a bundle are still to be had.

Hashes alone decide: blocks are made by several threads and written back by the system in any order, so that after a cut whole blocks may
lie behind missing ones. Neither is made, nor is its blob asked for, again.
"""

import hashlib
from collections.abc import Iterator
from typing import Final

from packager.vehicle.core.blocks import Workspace
from packager.vehicle.core.index import BlockIndex
from packager.vehicle.core.manifest import Manifest
from packager.vehicle.errors import IncompatibleError
from packager.vehicle.storage import StoredFile

REQUEST_BYTES: Final = 512
"""What one more request costs about, in headers of both ways: a shorter stretch between two missing ones is read with them."""
_READ_BYTES: Final = 1 << 18


def find_held(manifest: Manifest, index: BlockIndex, slot: StoredFile, ahead_blocks: int | None = None) -> bytearray:
    """Tell which blocks a slot holds.

    Args:
        manifest: Of the authentic head.
        index: Of the same head.
        slot: May be shorter or longer than the new image.
        ahead_blocks: Stop after this many missing blocks in a row, and at once where the first block is missing, as in every slot that
            no earlier run wrote to; the rest counts as missing. None reads all.

    Returns:
        One byte per block, in install order: 1 where the slot holds it, else 0.

    Raises:
        ResourceError: The slot can't be read.
    """
    count = len(index)
    held = bytearray(count)
    end = count if ahead_blocks is None else min(ahead_blocks, 1)
    position = 0
    with Workspace.borrowed() as workspace:
        buffer = workspace.gather(min(_READ_BYTES, manifest.max_output_bytes))
        while position < end:
            block, output_digest = index.outcome(position)
            if _digest_of(slot, *manifest.block_range(block), buffer) == output_digest:
                held[position] = 1
                end = count if ahead_blocks is None else min(position + 1 + ahead_blocks, count)
            position += 1
    return held


def first_missing(held: bytearray) -> int:
    """Return the position of the first missing block; the number of blocks if none is."""
    position = held.find(0)
    return len(held) if position < 0 else position


def missing_ranges(
    index: BlockIndex, held: bytearray, position: int = 0, gap_bytes: int = REQUEST_BYTES
) -> list[tuple[int, int]]:
    """Return which bytes of the blobs are missing, as ascending ranges of first byte and end, counted from the end of the head.

    Args:
        index: The bundle's index.
        held: As `find_held` returns it.
        position: The first block, in install order, that counts.
        gap_bytes: Ranges with at most so many bytes between them are joined; 0 is exact.
    """
    found: list[tuple[int, int]] = []
    for first, last in _missing_runs(held, position):
        start, end = index[first].blob_offset, index[last].blob_end
        if start == end:
            continue
        if found and start - found[-1][1] <= gap_bytes:
            start = found.pop()[0]
        found.append((start, end))
    return found


def _missing_runs(held: bytearray, position: int) -> Iterator[tuple[int, int]]:
    """Yield the first and the last position of every run of missing blocks."""
    while (first := held.find(0, position)) >= 0:
        position = held.find(1, first)
        if position < 0:
            position = len(held)
        yield first, position - 1


def _digest_of(slot: StoredFile, start: int, end: int, buffer: memoryview) -> bytes | None:
    """Return the SHA-256 of a part; None if the slot ends before."""
    hasher = hashlib.sha256()
    for offset in range(start, end, len(buffer)):
        view = buffer[: end - offset]
        try:
            slot.read_into(offset, view)
        except IncompatibleError:
            return None
        hasher.update(view)
    return hasher.digest()
