"""Makes blocks, several at a time where that pays, in bounded memory, and finishes them in the order in which they were begun.

`blocks` says how one is made; where the bytes of the bundle come from is the `applier`'s matter, where blocks go the `destination`'s.
"""

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

from packager.vehicle.core.blocks import OldImage, Workspace, make_block
from packager.vehicle.core.destination import MAX_BLOCKS_AT_ONCE, Destination
from packager.vehicle.core.head import Head
from packager.vehicle.core.index import BlockRecord
from packager.vehicle.core.manifest import Manifest, Op
from packager.vehicle.errors import IncompatibleError

PIPELINE_BYTES: Final = 6 << 20
"""Blocks that are made at the same time hold at most this much together, if more than one is."""
QUEUE_BYTES: Final = 3 << 20
"""Blobs of blocks that are made or wait for it hold at most this much together, if more than one does."""


@dataclass(frozen=True, slots=True)
class _Pending:
    """A block that a worker makes: its length to come, its blob's length, the buffer of its blob if it is one of `BlockMakers.buffer`."""

    future: Future[int]
    blob_bytes: int
    buffer: bytearray | None


_PASSED: Final[Future[int]] = Future()
"""Stands for a block that the destination held already."""
_PASSED.set_result(0)


class _MemoryGate:
    """Lets threads go on as long as what they hold together is within a limit; one may always go on."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._held_bytes = 0
        self._changed = threading.Condition()

    @contextlib.contextmanager
    def holding(self, cost_bytes: int) -> Iterator[None]:
        """Wait until there is room for `cost_bytes`, and hold them."""
        with self._changed:
            self._changed.wait_for(lambda: not self._held_bytes or self._held_bytes + cost_bytes <= self._limit_bytes)
            self._held_bytes += cost_bytes
        try:
            yield
        finally:
            with self._changed:
                self._held_bytes -= cost_bytes
                self._changed.notify_all()


def _cost_bytes(manifest: Manifest, op: Op, window_bytes: int = 0) -> int:
    """Return what a block holds in memory at most while it is made, besides its blob."""
    cost_bytes = manifest.max_output_bytes
    if op is Op.WINDOW:
        cost_bytes += 2 * window_bytes  # the binding copies it
    elif op in (Op.DELTA, Op.PREDICTED):
        cost_bytes += min(manifest.max_decoded_bytes, manifest.max_output_bytes)
        if op is Op.PREDICTED:  # others are made where their old part lies
            cost_bytes += manifest.max_output_bytes
    return cost_bytes


def useful_workers(head: Head, workers: int, *, is_ordered: bool) -> int:
    """Return how many threads are worth it for a bundle, at most `workers`.

    Args:
        head: The bundle's.
        workers: As many as there may be.
        is_ordered: Whether a block may only be begun when the one before is done.
    """
    if len(head.index) == 1 or is_ordered:
        return 1  # one block is made in one thread, and starting others takes longer than a small image
    if (
        Op.PREDICTED in head.manifest.ops
    ):  # threads that would wait for memory keep some: their allocators give little back
        return min(workers, max(PIPELINE_BYTES // _cost_bytes(head.manifest, Op.PREDICTED), 1))
    return workers


class BlockMakers:
    """Makes the blocks of one bundle and puts them in their places. Used by one thread.

    Its methods yield the lengths of the blocks that are done by then, in the order of their begin; 0 for one that was passed over.
    They go on while they are iterated over, to the end.

    Args:
        head: The authentic head.
        old: The old image.
        destination: Where blocks go.
        repair: Makes, in another way, a block whose old part is not what the head says; called by the workers. None lets it fail.
        pool: The workers; None makes each block at once, in the caller's thread.
        workers: How many they are.
    """

    def __init__(
        self,
        head: Head,
        old: OldImage,
        destination: Destination,
        repair: Callable[[BlockRecord], memoryview] | None,
        pool: ThreadPoolExecutor | None,
        workers: int,
    ) -> None:
        self._head = head
        self._old = old
        self._destination = destination
        self._repair = repair
        self._pool = pool
        self._most_pending = min(4 * workers, MAX_BLOCKS_AT_ONCE - 1)
        self._pending: deque[_Pending] = deque()
        self._queued_bytes = 0
        self._spare: list[bytearray] = []
        self._gate = _MemoryGate(PIPELINE_BYTES)

    def buffer(self) -> bytearray:
        """Return a buffer for the longest blob, to be handed over to `make`."""
        return self._spare.pop() if self._spare else bytearray(self._head.manifest.max_blob_bytes)

    def make_room(self, blob_bytes: int) -> Iterator[int]:
        """Wait until one more block may be under way. The caller's thread wakes up once for several blocks: each time costs the workers."""
        if len(self._pending) > self._most_pending:
            self._pending[self._most_pending // 2].future.result()
        while self._pending and (
            self._pending[0].future.done()
            or len(self._pending) > self._most_pending
            or self._queued_bytes + blob_bytes > QUEUE_BYTES
        ):
            yield self._end_oldest()

    def make(self, record: BlockRecord, blob: memoryview, buffer: bytearray | None) -> Iterator[int]:
        """Begin with a block, after `make_room`.

        Args:
            record: The block.
            blob: Its blob; with a pool it must stay as it is until the block is done.
            buffer: Where the blob lies, if that came from `buffer`.
        """
        future: Future[int]
        if self._pool is None:
            length_bytes = self._put(record, blob)
            if buffer is not None:
                self._spare.append(buffer)
            yield length_bytes
            return
        if _cost_bytes(self._head.manifest, record.op, record.window_bytes) <= PIPELINE_BYTES:
            future = self._pool.submit(self._put, record, blob)
        else:  # it is made alone, so it may as well be here: the allocator of each thread keeps what was freed in it
            future = Future()
            future.set_result(self._put(record, blob))
        self._queued_bytes += record.blob_bytes
        self._pending.append(_Pending(future, record.blob_bytes, buffer))

    def pass_over(self) -> Iterator[int]:
        """Take a block that lies in its place already, after `make_room`."""
        if self._pending:
            self._pending.append(_Pending(_PASSED, 0, None))
        else:
            yield 0

    def end_all(self) -> Iterator[int]:
        """Wait until all blocks are done."""
        while self._pending:
            yield self._end_oldest()

    def _put(self, record: BlockRecord, blob: memoryview) -> int:
        """Make a block and write it, with workers in one of their threads. Returns its length in bytes."""
        cost_bytes = _cost_bytes(self._head.manifest, record.op, record.window_bytes)
        with self._gate.holding(cost_bytes):
            if cost_bytes > PIPELINE_BYTES:  # it is made alone: what the others used is not held beside it
                Workspace.drop_idle()
            with Workspace.borrowed() as workspace:
                try:
                    output = make_block(self._head, record, blob, self._old, workspace)
                except IncompatibleError:
                    if self._repair is None:
                        raise
                    output = self._repair(record)
                self._destination.put(record, output)
                return len(output)

    def _end_oldest(self) -> int:
        oldest = self._pending.popleft()
        length_bytes = oldest.future.result()
        self._queued_bytes -= oldest.blob_bytes
        if oldest.buffer is not None:
            self._spare.append(oldest.buffer)
        return length_bytes
