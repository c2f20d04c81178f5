"""Where finished blocks go: the seam between making a block and keeping it.

The applier makes blocks; a destination writes them, makes them durable, journals how far it is, and at the end gives the verdict
on the whole image. `SpareSlot` is the one for ECUs with room for a second image.
"""

import contextlib
import hashlib
import threading
from concurrent.futures import Executor, Future
from typing import Final, Protocol

from packager.vehicle.core.blocks import Workspace
from packager.vehicle.core.head import Head
from packager.vehicle.core.index import BlockRecord
from packager.vehicle.core.journal import Journal
from packager.vehicle.core.missing import find_held, first_missing
from packager.vehicle.errors import ResourceError, StateError
from packager.vehicle.identity import Digest, ImageId
from packager.vehicle.storage import StoredFile

SYNC_BYTES: Final = 8 << 20
"""Written bytes between two syncs; a cut costs at most this much decoding, no download."""
MAX_BLOCKS_AT_ONCE: Final = 17
"""Blocks behind the oldest one that is not finished, that may be made or wait for it."""
_READ_BACK_BYTES: Final = 1 << 18


class Destination(Protocol):
    """Takes verified blocks in install order and keeps them across power cuts. Owned by one applier.

    The calls: `resume` once; for each position from the first missing one on `put`, unless the block is held, then `commit`; at the end
    `complete`.
    """

    @property
    def is_ordered(self) -> bool:
        """Whether each block must be committed before the next one is even read for; then the applier uses no threads."""

    def resume(self) -> bytearray:
        """Find out which blocks lie there already, so that neither they nor their blobs are asked for, and count this start.

        Returns:
            One byte per block, in install order: 1 where it is held, else 0.

        Raises:
            ResourceError: Ten starts at the same block failed, or the medium did.
        """

    def put(self, record: BlockRecord, output: memoryview) -> None:
        """Write one verified block. Unless `is_ordered`, several threads do so at once, in any order.

        Args:
            record: The block's record.
            output: Its bytes, valid during the call alone.

        Raises:
            ResourceError: It can't be written.
        """

    def commit(self, position: int, output_bytes: int) -> None:
        """Take note that all blocks before `position` are there; sync and journal when due.

        Args:
            position: In install order.
            output_bytes: Length of the last of them; 0 if it was held already.

        Raises:
            ResourceError: The medium failed.
        """

    def complete(self) -> ImageId:
        """Make all blocks durable, read the whole image back and return what it is.

        Raises:
            ResourceError: The medium failed.
        """

    def settle(self) -> None:
        """Take the start back: it ended in order. If that can't be written, the start counts, which is safe."""


class SpareSlot:
    """Writes blocks where they belong in a slot of their own; a sync and a journal entry every `sync_bytes`.

    Args:
        head: The authentic head.
        slot: As long as the new image.
        journal: Keeps the position across power cuts; None starts from what the slot already holds.
        sync_bytes: Written bytes between two syncs.
        executor: Reads back while later blocks are made; None reads back at the end. The threads that make the blocks do it best: more
            threads than cores cost a fifth of the speed, because one that holds the interpreter may have to wait for a core.
    """

    is_ordered: Final = False

    def __init__(
        self, head: Head, slot: StoredFile, journal: Journal | None, sync_bytes: int, executor: Executor | None
    ) -> None:
        if slot.length_bytes != head.manifest.new.length_bytes:
            raise StateError(f"slot: found {slot.length_bytes} bytes, expected {head.manifest.new.length_bytes}")
        self._manifest = head.manifest
        self._index = head.index
        self._slot = slot
        self._journal = journal
        self._sync_bytes = sync_bytes
        self._unsynced_bytes = 0
        self._position = 0
        self._verdict = ReadBack(slot)
        self._executor = executor

    def resume(self) -> bytearray:
        """See `Destination.resume`. Trusts hashes alone: neither a lost nor a wrong journal can mislead it.

        With a journal the bundle is being downloaded, and any block that is there is worth its hash. Without one the bundle lies at
        hand, and only what an earlier run can have left is looked for: nothing behind a missing first block, and nothing at all of an
        image of one block, which is made anew in little more time than the look takes.
        """
        held = find_held(self._manifest, self._index, self._slot, self._ahead_blocks())
        self._position = first_missing(held)
        if self._journal is not None:
            if self._position > self._journal.entry.position:  # progress that a failure or cut kept from the journal
                self._slot.sync()
                self._journal.finished(self._position)
            self._journal.start()
        return held

    def put(self, record: BlockRecord, output: memoryview) -> None:
        """See `Destination.put`."""
        start, _ = self._manifest.block_range(record.block)
        self._slot.write(start, output)

    def commit(self, position: int, output_bytes: int) -> None:
        """See `Destination.commit`."""
        self._position = position
        self._unsynced_bytes += output_bytes
        if self._unsynced_bytes >= self._sync_bytes:
            self._sync()

    def complete(self) -> ImageId:
        """See `Destination.complete`."""
        self._sync()
        return self._verdict.identify()

    def settle(self) -> None:
        """See `Destination.settle`."""
        if self._journal is not None:
            with contextlib.suppress(ResourceError):
                self._journal.settle()

    def _ahead_blocks(self) -> int | None:
        """Return how far behind a missing block an earlier run can have left others: what it had not synced, and what it was making."""
        if self._journal is not None:
            return None
        if len(self._index) == 1:
            return 0
        return max(self._sync_bytes, SYNC_BYTES) // self._manifest.block_bytes + 1 + MAX_BLOCKS_AT_ONCE

    def _sync(self) -> None:
        self._slot.sync()
        self._unsynced_bytes = 0
        if self._journal is not None:
            self._journal.finished(self._position)
        if self._executor is not None:
            end = min(self._position << self._manifest.block_log2, self._manifest.new.length_bytes)
            self._verdict.go_on_to(end, self._executor)


class ReadBack:
    """Hashes a slot from its start, as far as it is synced: the whole-image hash and the read-back in one pass."""

    def __init__(self, slot: StoredFile) -> None:
        self._slot = slot
        self._hasher = hashlib.sha256()
        self._buffer = bytearray()  # of its own where it reads beside those who make blocks
        self._offset = 0
        self._end = 0
        self._lock = threading.Lock()
        self._is_running = False
        self._task: Future[None] | None = None

    def go_on_to(self, end: int, executor: Executor) -> None:
        """Read and hash up to `end` in one thread of `executor`. Does not wait: it is the one pass that can't be spread over cores.

        Raises:
            ResourceError: The medium failed before.
        """
        with self._lock:
            self._end = end
            if self._is_running:
                return
            self._is_running = True
        if not self._buffer:
            self._buffer = bytearray(min(_READ_BACK_BYTES, self._slot.length_bytes))
        if self._task is not None:
            self._task.result()
        self._task = executor.submit(self._run)

    def identify(self) -> ImageId:
        """Read the rest and return what the slot holds.

        Raises:
            ResourceError: The medium failed.
        """
        if self._task is not None:
            self._task.result()
        if self._buffer:
            self._read_to(self._slot.length_bytes, memoryview(self._buffer))
        else:
            with Workspace.borrowed() as workspace:
                self._read_to(self._slot.length_bytes, workspace.gather(min(_READ_BACK_BYTES, self._slot.length_bytes)))
        return ImageId(self._offset, Digest(self._hasher.digest()))

    def _run(self) -> None:
        while True:
            with self._lock:
                end = self._end
                if self._offset >= end:
                    self._is_running = False
                    return
            self._read_to(end, memoryview(self._buffer))

    def _read_to(self, end: int, buffer: memoryview) -> None:
        while self._offset < end:
            view = buffer[: min(len(buffer), end - self._offset)]
            self._slot.read_into(self._offset, view)
            self._hasher.update(view)
            self._offset += len(view)
