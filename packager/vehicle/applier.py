"""Applies a bundle: push interface, bounded memory, resumable after a cut at any moment.

The caller owns the download: it feeds bytes of the bundle from `Applier.next_offset` on, cut as it likes. The applier owns the slot:
each block is verified before and after it is decoded (see `blocks`), written, synced and journalled in groups. `finish` reads the whole
slot back and gives the verdict on the full image (Uptane 5.4.4.2, deployment practice 7.2); only its result may be activated.
"""

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

from packager.vehicle.blocks import OldImage, make_block
from packager.vehicle.destination import Destination, SpareSlot
from packager.vehicle.errors import CancelledError, CorruptError, StateError
from packager.vehicle.head import Head
from packager.vehicle.identity import ImageId
from packager.vehicle.index import BlockRecord
from packager.vehicle.journal import Journal
from packager.vehicle.storage import StoredFile

SYNC_BYTES: Final = 8 << 20
"""Written bytes between two syncs; a cut costs at most this much decoding, no download."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an update is: blocks finished of all, and bytes of the bundle consumed of all."""

    blocks_done: int
    blocks: int
    bundle_bytes_done: int
    bundle_bytes: int


@dataclass(frozen=True, slots=True)
class VerifiedImage:
    """A slot whose whole content was read back and has the signed identity. Only `Applier.finish` makes one."""

    image: ImageId


class Applier:
    """Turns the bytes of one bundle into the new image. A context manager; not for use by several threads at once.

    Args:
        head: The authentic head.
        old: The old image; `NoOldImage()` for a full bundle.
        slot: Where the new image goes; as long as the new image.
        journal: Keeps the position across power cuts; None starts from what the slot already holds.
        workers: Threads that verify and decode; 1 does all in the caller's thread and holds one block.
        sync_bytes: Written bytes between two syncs.
        on_progress: Told after each block, in the caller's thread.
        cancelled: Asked before each block; True stops with `CancelledError`.

    Raises:
        ResourceError: Ten starts at the same block failed.
    """

    def __init__(
        self,
        head: Head,
        old: OldImage,
        slot: StoredFile,
        *,
        journal: Journal | None = None,
        workers: int = 1,
        sync_bytes: int = SYNC_BYTES,
        on_progress: Callable[[Progress], None] | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> None:
        self._head = head
        self._old = old
        self._destination: Destination = SpareSlot(head, slot, journal, sync_bytes, background=workers > 1)
        if self._destination.is_ordered:
            workers = 1
        self._on_progress = on_progress
        self._cancelled = cancelled
        self._blob = bytearray()
        self._state = "open"
        self._workers = workers
        self._pool = ThreadPoolExecutor(workers, "apply") if workers > 1 else None
        self._pending: deque[Future[int]] = deque()
        self._committed = self._received = self._destination.resume()
        if self._received < len(head.index):
            self._record = head.index[self._received]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop the threads; what is finished stays. A stop in between counts as no failure. Later calls do nothing."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
        self._destination.close()
        if self._state == "open":
            self._state = "closed"
            self._destination.settle()

    @property
    def next_offset(self) -> int:
        """Byte of the bundle that the next `feed` must start with."""
        if self._received == len(self._head.index):
            return self._head.bundle_bytes
        return self._head.length_bytes + self._record.blob_offset + len(self._blob)

    @property
    def progress(self) -> Progress:
        """How far it is."""
        return Progress(self._committed, len(self._head.index), self.next_offset, self._head.bundle_bytes)

    def feed(self, chunk: bytes | bytearray | memoryview) -> None:
        """Take the next bytes of the bundle, any number of them.

        Raises:
            CorruptError: A blob or block is not the signed one, or bytes follow the last blob.
            IncompatibleError: The old image is another one.
            ResourceError: The slot can't be written or the old image not read.
            CancelledError: The caller's `cancelled` said so.
            StateError: The applier failed or ended before.
        """
        self._require_open()
        try:
            view = memoryview(chunk)
            self._advance()
            while len(view):
                if self._received == len(self._head.index):
                    raise CorruptError(f"bundle: {len(view)} bytes after the last blob, expected none")
                wanted = self._record.blob_bytes - len(self._blob)
                self._blob += view[:wanted]
                view = view[wanted:]
                self._advance()
        except BaseException:
            self._state = "failed"
            raise

    def finish(self) -> VerifiedImage:
        """Complete the image and give the verdict on all of it.

        Raises:
            CorruptError: Bytes are missing, or the image that was read back is not the signed one.
            StateError: The applier failed or ended before.
        """
        self._require_open()
        try:
            self._advance()
            if self._received < len(self._head.index):
                raise CorruptError(
                    f"bundle: ended at byte {self.next_offset}, expected {self._head.bundle_bytes}; fetch the rest"
                )
            while self._pending:
                self._commit_oldest()
            found = self._destination.complete()
            if found != self._head.manifest.new:
                raise CorruptError(f"new image: read back {found}, expected {self._head.manifest.new}")
        except BaseException:
            self._state = "failed"
            raise
        self._state = "finished"
        self._destination.settle()
        return VerifiedImage(found)

    def _require_open(self) -> None:
        if self._state != "open":
            raise StateError(f"applier: it is {self._state}; make a new one")

    def _advance(self) -> None:
        """Hand over every block whose blob is complete."""
        while self._received < len(self._head.index) and len(self._blob) == self._record.blob_bytes:
            if self._cancelled is not None and self._cancelled():
                self._destination.settle()
                raise CancelledError(f"update: stopped by the caller at block {self._record.block}; it can go on later")
            record, blob = self._record, self._blob
            self._blob = bytearray()
            self._received += 1
            if self._received < len(self._head.index):
                self._record = self._head.index[self._received]
            if self._pool is None:
                self._commit(self._put(record, blob))
            else:
                self._pending.append(self._pool.submit(self._put, record, blob))
                if len(self._pending) > self._workers:
                    self._commit_oldest()

    def _put(self, record: BlockRecord, blob: bytearray) -> int:
        """Make a block and write it, with workers in one of their threads. Returns its length in bytes."""
        output = memoryview(make_block(self._head, record, blob, self._old))
        self._destination.put(record, output)
        return len(output)

    def _commit_oldest(self) -> None:
        self._commit(self._pending.popleft().result())

    def _commit(self, output_bytes: int) -> None:
        self._committed += 1
        self._destination.commit(self._committed, output_bytes)
        if self._on_progress is not None:
            self._on_progress(self.progress)
