"""Applies a bundle: push interface, bounded memory, resumable after a cut at any moment.

The caller owns the download: it feeds bytes of the bundle from `Applier.next_offset` on, cut as it likes, and may leave out what lies
between `Applier.missing_ranges`: blobs of blocks that an earlier start finished, also beyond a gap. The applier owns the slot:
each block is verified before and after it is decoded (see `blocks`), written, synced and journalled in groups. `finish` reads the whole
slot back and gives the verdict on the full image (Uptane 5.4.4.2, deployment practice 7.2); only its result may be activated.
"""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from packager.vehicle.core.blocks import NoOldImage, OldImage, Workspace
from packager.vehicle.core.destination import SYNC_BYTES, Destination, SpareSlot
from packager.vehicle.core.head import Head
from packager.vehicle.core.index import BlockRecord
from packager.vehicle.core.journal import Journal
from packager.vehicle.core.makers import BlockMakers, useful_workers
from packager.vehicle.core.missing import REQUEST_BYTES, first_missing, missing_ranges
from packager.vehicle.errors import CancelledError, CorruptError, StateError
from packager.vehicle.identity import ImageId
from packager.vehicle.storage import FileOnDisk, StoredFile


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
        old: The old image; None for a full bundle.
        slot: Where the new image goes.
        journal: Keeps the position across power cuts; None, for bundles that lie at hand, starts
            from what an earlier run left in the slot, an image of one block from nothing. Not for a `destination`.
        workers: Threads that verify and decode; 1 does all in the caller's thread and holds one block.
        sync_bytes: Written bytes between two syncs.
        on_progress: Told after each block, in the caller's thread.
        cancelled: Asked before each block; True stops with `CancelledError`.
        destination: Where blocks go; None writes them to `slot`, which is then as long as the new image.
        repair: Makes, in another way, a block whose old part is not what the head says; called by the workers. None lets it fail.

    Raises:
        ResourceError: Ten starts at the same block failed.
        StateError: The old image and the slot are one file; only an in-place bundle may overwrite what it reads.
    """

    def __init__(
        self,
        head: Head,
        old: OldImage | None,
        slot: StoredFile,
        *,
        journal: Journal | None = None,
        workers: int = 1,
        sync_bytes: int = SYNC_BYTES,
        on_progress: Callable[[Progress], None] | None = None,
        cancelled: Callable[[], bool] | None = None,
        destination: Destination | None = None,
        repair: Callable[[BlockRecord], memoryview] | None = None,
    ) -> None:
        if (
            destination is None
            and isinstance(old, FileOnDisk)
            and isinstance(slot, FileOnDisk)
            and old.is_same_as(slot)
        ):
            raise StateError("the old image and the slot are one file, expected two; it takes an in-place bundle")
        self._head = head
        self._bundle_bytes = head.bundle_bytes
        workers = useful_workers(head, workers, is_ordered=destination is not None and destination.is_ordered)
        self._pool = ThreadPoolExecutor(workers, "apply") if workers > 1 else None
        reader = None if head.manifest.in_place else self._pool  # an in-place bundle is not in block order
        self._destination: Destination = destination or SpareSlot(head, slot, journal, sync_bytes, reader)
        old_image: OldImage = NoOldImage() if old is None else old
        self._makers = BlockMakers(head, old_image, self._destination, repair, self._pool, workers)
        self._on_progress = on_progress
        self._cancelled = cancelled
        self._blob: bytearray | None = None
        self._blob_bytes = 0
        self._state = "open"
        if len(head.index) > 1:
            Workspace.drop_idle()
        self._held = self._destination.resume()
        self._committed = self._received = first_missing(self._held)
        if self._received < len(head.index):
            self._record = head.index[self._received]
        self._fed_bytes = self.next_offset

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
        if self._state == "open":
            self._state = "closed"
            self._destination.settle()
        if len(self._head.index) > 1:
            Workspace.drop_idle()

    @property
    def next_offset(self) -> int:
        """Byte of the bundle that is needed next; what was fed before it is taken, what lies before it and was not fed is held already."""
        if self._received == len(self._head.index):
            return self._bundle_bytes
        return self._head.length_bytes + self._record.blob_offset + self._blob_bytes

    @property
    def missing_bytes(self) -> int:
        """Bytes up to the end of the next blob; 0 if no blob is missing. A blob fed as one `bytes` object is not copied."""
        return 0 if self.is_fed else self._record.blob_bytes - self._blob_bytes

    def missing_ranges(self, gap_bytes: int = REQUEST_BYTES) -> list[tuple[int, int]]:
        """Return which bytes of the bundle are still needed: ascending ranges of first byte and end, the first from `next_offset` on.

        Args:
            gap_bytes: Ranges with at most so many bytes between them are joined: one more request would cost more. 0 is exact.
        """
        head_bytes = self._head.length_bytes
        found = missing_ranges(self._head.index, self._held, self._received, gap_bytes)
        ranges = [(head_bytes + start, head_bytes + end) for start, end in found]
        if ranges and self._blob_bytes:
            ranges[0] = (self.next_offset, ranges[0][1])
        return ranges

    @property
    def is_fed(self) -> bool:
        """Whether all bytes of the bundle were fed, so that `finish` is next."""
        return self._received == len(self._head.index)

    @property
    def progress(self) -> Progress:
        """How far it is."""
        return Progress(self._committed, len(self._head.index), self.next_offset, self._bundle_bytes)

    def feed(self, chunk: bytes | bytearray | memoryview, offset: int | None = None) -> None:
        """Take the next bytes of the bundle, any number of them. Those that are not needed, because their blocks are held, are left out.

        Args:
            chunk: The bytes.
            offset: Byte of the bundle that they start with, at most `next_offset`; None goes on behind the chunk before, at first from
                `next_offset`.

        Raises:
            CorruptError: A blob or block is not the signed one, or bytes follow the last blob.
            IncompatibleError: The old image is another one.
            ResourceError: The slot can't be written or the old image not read.
            CancelledError: The caller's `cancelled` said so.
            StateError: The applier failed or ended before, or bytes between the last chunk and this one are needed.
        """
        self._require_open()
        try:
            view = memoryview(chunk).cast("B")
            at = self._fed_bytes if offset is None else offset
            end = at + len(view)
            self._pass_over()
            if at > self.next_offset:
                raise StateError(f"feed: found byte {at} of the bundle, expected one up to {self.next_offset}")
            while self._received < len(self._head.index) and self.next_offset < end:
                needed = view[self.next_offset - at :]
                self._take(needed, is_kept=isinstance(chunk, bytes))
                self._pass_over()
            if end > self._bundle_bytes:
                raise CorruptError(f"bundle: {end - self._bundle_bytes} bytes after the last blob, expected none")
            self._fed_bytes = end
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
            self._pass_over()
            if self._received < len(self._head.index):
                raise CorruptError(
                    f"bundle: ended at byte {self.next_offset}, expected {self._bundle_bytes}; fetch the rest"
                )
            self._commit(self._makers.end_all())
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

    def _take(self, view: memoryview, *, is_kept: bool) -> None:
        """Take what the next block still misses and hand the block over when it is whole.

        Args:
            view: The next bytes.
            is_kept: Whether they stay as they are while other threads read them; then a whole blob is not copied.
        """
        wanted = min(self._record.blob_bytes - self._blob_bytes, len(view))
        if wanted == self._record.blob_bytes and (is_kept or self._pool is None):
            self._hand_over(view[:wanted], None)
            return
        if self._blob is None:
            self._blob = self._makers.buffer()
        self._blob[self._blob_bytes : self._blob_bytes + wanted] = view[:wanted]
        self._blob_bytes += wanted
        if self._blob_bytes == self._record.blob_bytes:
            blob, self._blob, self._blob_bytes = self._blob, None, 0
            self._hand_over(memoryview(blob)[: self._record.blob_bytes], blob)

    def _hand_over(self, blob: memoryview, buffer: bytearray | None) -> None:
        """Have the next block made; go on to the one after."""
        record = self._record
        if self._cancelled is not None and self._cancelled():
            self._destination.settle()
            raise CancelledError(f"update: stopped by the caller at block {record.block}; it can go on later")
        self._commit(self._makers.make_room(record.blob_bytes))
        self._go_on()
        self._commit(self._makers.make(record, blob, buffer))

    def _go_on(self) -> None:
        self._received += 1
        if self._received < len(self._head.index):
            self._record = self._head.index.after(self._received - 1, self._record)

    def _pass_over(self) -> None:
        """Go on to the next block that needs bytes: hand over those that have no blob, leave out those that are held."""
        while self._received < len(self._head.index):
            if self._held[self._received]:
                self._commit(self._makers.make_room(0))
                self._go_on()
                self._commit(self._makers.pass_over())
            elif not self._record.blob_bytes:
                self._hand_over(memoryview(b""), None)
            else:
                return

    def _commit(self, done: Iterable[int]) -> None:
        """Record blocks that are done, by their lengths, one after the other."""
        for length_bytes in done:
            self._committed += 1
            self._destination.commit(self._committed, length_bytes)
            if self._on_progress is not None:
                self._on_progress(self.progress)
