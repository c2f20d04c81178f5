"""Files in memory that lose power or fail at a chosen step, with the promise of `packager.vehicle.storage` and nothing more.

What was written before a sync that returned survives. What was written after may survive in part: by sectors, in any order,
torn at any byte.
"""

import random
from collections.abc import Callable
from typing import Final

from packager.vehicle.errors import IncompatibleError, ResourceError

SECTOR_BYTES: Final = 512
LOSE_ALL: Final = "lose all"
KEEP_ALL: Final = "keep all"
TORN: Final = "torn"
REORDERED: Final = "reordered"
CUTS: Final = "power cuts"
"""Property of a test: how often it cut the power. What it prints is not seen when it passes; the sum of these is."""
RecordProperty = Callable[[str, object], None]
LOSSES: Final = (LOSE_ALL, KEEP_ALL, TORN, REORDERED)


class PowerCut(BaseException):
    """The machine is off; no handler of the program runs to any effect."""


class Power:
    """Counts writes and syncs of all files, and lets one of them be the last or fail."""

    def __init__(self, cut_at: int | None = None, fail_at: int | None = None, reason: str = "no space left") -> None:
        self.steps = 0
        self.is_off = False
        self._cut_at = cut_at
        self._fail_at = fail_at
        self._reason = reason

    def step(self) -> None:
        """Take one step.

        Raises:
            PowerCut: It is the last one, or power is off already.
            ResourceError: It is the one that fails.
        """
        if self.is_off:
            raise PowerCut
        step, self.steps = self.steps, self.steps + 1
        if step == self._cut_at:
            self.is_off = True
            raise PowerCut
        if step == self._fail_at:
            raise ResourceError(f"step {step}: {self._reason}")


class MemoryFile:
    """A `StoredFile` in memory.

    Args:
        length_bytes: Its length.
        power: Shared by the files of one machine; None for a file that never fails.
    """

    def __init__(self, length_bytes: int, power: Power | None = None, content: bytes = b"") -> None:
        self.content = bytearray(content.ljust(length_bytes, b"\0"))
        self.power = power or Power()
        self.synced = bytearray(self.content)
        self.pending: list[tuple[int, bytes]] = []
        self.writes = 0
        self.on_write: Callable[[int], None] | None = None

    @property
    def length_bytes(self) -> int:
        return len(self.content)

    def read_into(self, offset: int, buffer: memoryview) -> None:
        if offset + len(buffer) > len(self.content):
            raise IncompatibleError(f"ends at byte {len(self.content)}, expected {len(buffer)} bytes at byte {offset}")
        buffer[:] = self.content[offset : offset + len(buffer)]

    def write(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        assert offset + len(data) <= len(self.content), "a write beyond the file"
        self.writes += 1
        if self.on_write is not None:
            self.on_write(offset)
        if not self.power.is_off:
            self.pending.append((offset, bytes(data)))
        self.power.step()
        self.content[offset : offset + len(data)] = data

    def sync(self) -> None:
        self.power.step()
        self.synced[:] = self.content
        self.pending.clear()

    def restart(self, loss: str, chance: random.Random) -> None:
        """Come back after a power cut with what survived."""
        self.content[:] = self.synced
        for offset, data in _surviving(self.pending, loss, chance):
            self.content[offset : offset + len(data)] = data
        self.synced[:] = self.content
        self.pending.clear()
        self.power = Power()


def _surviving(pending: list[tuple[int, bytes]], loss: str, chance: random.Random) -> list[tuple[int, bytes]]:
    if loss == LOSE_ALL:
        return []
    if loss == KEEP_ALL:
        return pending
    if loss == TORN:
        return [*pending[:-1], *((at, data[: chance.randint(0, len(data))]) for at, data in pending[-1:])]
    sectors = [
        (offset + at, data[at : at + SECTOR_BYTES])
        for offset, data in pending
        for at in range(0, len(data), SECTOR_BYTES)
        if chance.random() < 0.6
    ]
    chance.shuffle(sectors)
    return [(at, data[: chance.randint(1, len(data))]) for at, data in sectors]
