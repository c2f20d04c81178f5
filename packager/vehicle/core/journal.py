"""How far an update has come, so that it goes on after a power cut: two slots, sequence number and checksum.

Each slot is a sector of its own, written whole and synced before the other is touched, so that one of them is always intact. It is bound
to bundle, ECU and plan; another one's journal counts as none. It holds no decoder or hash state, because blocks are independent.
Losing it costs time, never a download: blocks whose destination already holds the right bytes are recognised by their hash.
"""

import contextlib
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Self

from packager.vehicle.errors import ResourceError
from packager.vehicle.identity import DIGEST_BYTES, Digest
from packager.vehicle.storage import DirectoryStorage, StoredFile
from packager.vehicle.wire import Cursor

MAGIC: Final = b"\x89OTJ"
SLOT_BYTES: Final = 4096
"""One sector or page of common media, so that a torn write of one slot can't reach the other."""
JOURNAL_BYTES: Final = 2 * SLOT_BYTES
MAX_FAILURES: Final = 10
"""Starts at the same block without progress, after which the update stops until it is given another bundle."""
MAX_SEQUENCE: Final = 1 << 63
"""No update writes as many entries: a larger number is damage, and would leave none for the next entry."""
_NO_INTENT: Final = 0xFFFFFFFF
_BODY_BYTES: Final = len(MAGIC) + 8 + 3 * DIGEST_BYTES + 4 + 4 + 1


@dataclass(frozen=True, slots=True)
class Binding:
    """What a journal belongs to.

    Attributes:
        bundle: Digest of the bundle's head.
        ecu: Digest of the ECU's identity.
        plan: Digest of what signed metadata says of the update; all zero for a bundle alone.
    """

    bundle: Digest
    ecu: Digest
    plan: Digest = Digest(bytes(DIGEST_BYTES))  # noqa: RUF009 - immutable


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """The newest intact state.

    Attributes:
        sequence: Grows with every write.
        position: Blocks finished, in install order.
        intent: Position whose block lies complete in the scratch and is being written in place; None for none.
        failures: Starts at this position without progress.
    """

    sequence: int
    position: int
    intent: int | None
    failures: int


class Journal:
    """The journal of one update.

    Args:
        file: `JOURNAL_BYTES` long.
        binding: What it must belong to; otherwise it starts empty.
    """

    def __init__(self, file: StoredFile, binding: Binding) -> None:
        self._file = file
        self._binding = binding
        found = [entry for slot in (0, 1) if (entry := self._read(slot)) is not None]
        newest = max(found, key=lambda item: item[1].sequence, default=None)
        self._next_slot = 0 if newest is None else 1 - newest[0]
        self.entry = JournalEntry(0, 0, None, 0) if newest is None else newest[1]

    @classmethod
    @contextlib.contextmanager
    def open(cls, path: Path, binding: Binding) -> Iterator[Self]:
        """Open a journal in a file of its own, made if it is not there; remove the file when the update has been activated.

        Args:
            path: The file.
            binding: What it must belong to; otherwise it starts empty.

        Raises:
            ResourceError: It can't be opened or made.
        """
        with DirectoryStorage(path.parent).open(path.name, JOURNAL_BYTES) as file:
            yield cls(file, binding)

    def start(self) -> None:
        """Count this start; ten at the same position without progress are the end.

        Raises:
            ResourceError: The eleventh.
        """
        if self.entry.failures >= MAX_FAILURES:
            raise ResourceError(
                f"journal: {self.entry.failures} starts failed at the same block (position {self.entry.position}); "
                "the update stops until another bundle is offered"
            )
        self._write(replace(self.entry, failures=self.entry.failures + 1))

    def settle(self) -> None:
        """Take the last `start` back: it ended in order, with the image done or because the caller stopped."""
        self._write(replace(self.entry, failures=max(self.entry.failures - 1, 0)))

    def finished(self, position: int) -> None:
        """Record that all blocks before `position` are on the medium. Call only after a sync."""
        failures = self.entry.failures if position == self.entry.position else 0
        self._write(replace(self.entry, position=position, intent=None, failures=failures))

    def intend(self, position: int) -> None:
        """Record that the block at `position` lies synced in the scratch and is about to be written in place."""
        self._write(replace(self.entry, intent=position))

    def _write(self, entry: JournalEntry) -> None:
        restarts = self.entry.sequence + 1 >= MAX_SEQUENCE
        entry = replace(entry, sequence=1 if restarts else self.entry.sequence + 1)
        body = b"".join(
            (
                MAGIC,
                entry.sequence.to_bytes(8, "little"),
                self._binding.bundle.value,
                self._binding.ecu.value,
                self._binding.plan.value,
                entry.position.to_bytes(4, "little"),
                (_NO_INTENT if entry.intent is None else entry.intent).to_bytes(4, "little"),
                entry.failures.to_bytes(1, "little"),
            )
        )
        slot = (body + hashlib.sha256(body).digest()).ljust(SLOT_BYTES, b"\0")
        self._file.write(self._next_slot * SLOT_BYTES, slot)
        self._file.sync()
        self._next_slot = 1 - self._next_slot
        if restarts:  # until this is done, the entry before counts, which only costs time
            self._file.write(self._next_slot * SLOT_BYTES, bytes(SLOT_BYTES))
            self._file.sync()
        self.entry = entry

    def _read(self, slot: int) -> tuple[int, JournalEntry] | None:
        raw = bytearray(SLOT_BYTES)
        self._file.read_into(slot * SLOT_BYTES, memoryview(raw))
        cursor = Cursor(bytes(raw), "journal")
        body = bytes(cursor.take(_BODY_BYTES))
        if hashlib.sha256(body).digest() != cursor.take(DIGEST_BYTES) or not body.startswith(MAGIC):
            return None
        cursor = Cursor(body[len(MAGIC) :], "journal")
        sequence = cursor.uint(8)
        binding = Binding(*(Digest(bytes(cursor.take(DIGEST_BYTES))) for _ in range(3)))
        position, intent, failures = cursor.uint(4), cursor.uint(4), cursor.uint(1)
        if binding != self._binding or sequence >= MAX_SEQUENCE or position >= _NO_INTENT:
            return None  # of another update, or damage: no image has as many blocks
        return slot, JournalEntry(sequence, position, None if intent == _NO_INTENT else intent, failures)
