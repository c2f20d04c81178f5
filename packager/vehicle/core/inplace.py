"""Installs a bundle over the old image itself, for ECUs without a spare slot.

Per block: made from old bytes that no earlier block overwrote, or that were put aside -> verified -> written to the scratch, synced,
journalled as intent -> written in place, synced -> journalled as done. So at every moment either the old bytes of the next block are
whole, or the block itself lies whole in the scratch. Where an update stands is told by hashes of slot and scratch; the journal counts
starts and makes the order plain, but even without it every cut is recovered from.
"""

import contextlib
import hashlib
from collections.abc import Callable
from typing import Final

from packager.vehicle.core.head import Head
from packager.vehicle.core.index import BlockRecord
from packager.vehicle.core.journal import Journal
from packager.vehicle.core.manifest import Kind
from packager.vehicle.core.missing import find_held, first_missing
from packager.vehicle.errors import IncompatibleError, ResourceError, StateError
from packager.vehicle.identity import Digest, ImageId
from packager.vehicle.storage import StoredFile

_COPY_BYTES: Final = 1 << 16


class OverwrittenImage:
    """The old image while it is being overwritten: spilled stretches come from the scratch, all else from the slot."""

    def __init__(self, head: Head, slot: StoredFile, scratch: StoredFile) -> None:
        self._length_bytes = head.manifest.old_length_bytes
        self._spills = head.spills
        self._spilled_at = head.manifest.max_output_bytes
        self._slot = slot
        self._scratch = scratch

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """See `packager.vehicle.core.blocks.OldImage.read_into`."""
        if offset + len(buffer) > self._length_bytes:
            raise IncompatibleError(
                f"old image: ends at byte {self._length_bytes}, expected {len(buffer)} bytes at byte {offset}"
            )
        for first, end, spill in self._spills.split(offset, offset + len(buffer)):
            part = buffer[first - offset : end - offset]
            if spill is None:
                self._slot.read_into(first, part)
            else:
                self._scratch.read_into(self._spilled_at + spill.scratch_offset + first - spill.old_offset, part)


class InPlaceSlot:
    """A `packager.vehicle.core.destination.Destination` that overwrites the old image.

    Args:
        head: The authentic head of an in-place bundle, or of a full one.
        slot: Holds the old image. It is written up to the new image's length, and may stay longer.
        scratch: As long as the manifest says; of this slot alone, and kept until the update has ended. None for a full bundle: it reads
            nothing of the old image, so a torn block is fetched again.
        journal: Of this update; None where nothing can cut the power, as in a self-check.
        before_overwrite: Called once, before the first byte of the slot changes; what it did must survive a power cut.
    """

    is_ordered: Final = True

    def __init__(
        self,
        head: Head,
        slot: StoredFile,
        scratch: StoredFile | None,
        journal: Journal | None,
        before_overwrite: Callable[[], None] | None = None,
    ) -> None:
        if head.manifest.kind is Kind.DELTA and not head.manifest.in_place:
            raise StateError("bundle: found one for a spare slot, expected one that is installed in place")
        scratch_bytes = 0 if scratch is None else scratch.length_bytes
        if scratch_bytes < head.manifest.scratch_bytes:
            raise StateError(f"scratch: {scratch_bytes} bytes, expected {head.manifest.scratch_bytes}")
        self._manifest = head.manifest
        self._index = head.index
        self._spills = head.spills
        self._slot = slot
        self._scratch = scratch
        self._journal = journal
        self._before_overwrite = before_overwrite
        self._position = 0

    def resume(self) -> bytearray:
        """See `Destination.resume`. Puts old bytes aside, or completes the block that a cut tore.

        A block that lies there is left alone: what it was made from may be gone, and flash wears.
        """
        self._slot.sync()  # what a killed process wrote counts as there, so it must be on the medium
        held = find_held(self._manifest, self._index, self._slot)
        self._position = first_missing(held)
        if self._scratch is not None:
            self._put_aside(self._scratch)
            self._replay(self._scratch, held)
        if self._journal is not None:
            if self._position > self._journal.entry.position:
                self._journal.finished(self._position)
            self._journal.start()
        return held

    def put(self, record: BlockRecord, output: memoryview) -> None:
        """See `Destination.put`."""
        if self._scratch is not None:
            self._scratch.write(0, output)
            self._scratch.sync()
        if self._journal is not None:
            self._journal.intend(self._position)
        self._overwrite(record, output)

    def commit(self, position: int, output_bytes: int) -> None:
        """See `Destination.commit`. What was there before is journalled with the next block that was not."""
        self._position = position
        if self._journal is not None and output_bytes:
            self._journal.finished(position)

    def complete(self) -> ImageId:
        """See `Destination.complete`. Bytes of a longer old image after the end are not read."""
        self._slot.sync()
        hasher = hashlib.sha256()
        length_bytes = self._manifest.new.length_bytes
        buffer = memoryview(bytearray(min(_COPY_BYTES, length_bytes)))
        for offset in range(0, length_bytes, len(buffer)):
            view = buffer[: length_bytes - offset]
            self._slot.read_into(offset, view)
            hasher.update(view)
        return ImageId(length_bytes, Digest(hasher.digest()))

    def settle(self) -> None:
        """See `Destination.settle`."""
        if self._journal is not None:
            with contextlib.suppress(ResourceError):
                self._journal.settle()

    def _overwrite(self, record: BlockRecord, output: memoryview) -> None:
        if self._before_overwrite is not None:
            self._before_overwrite()
            self._before_overwrite = None
        start, _ = self._manifest.block_range(record.block)
        self._slot.write(start, output)
        self._slot.sync()

    def _put_aside(self, scratch: StoredFile) -> None:
        """Copy the spilled stretches to the scratch, unless they lie there or a block has been written since the start."""
        if not self._spills or self._spilled_digest(scratch) == self._spills.digest:
            return
        entry = None if self._journal is None else self._journal.entry
        if entry is not None and (entry.position or entry.intent is not None):
            return  # the slot is no longer the old image; each block's own hash decides whether it can still be made
        buffer = memoryview(bytearray(_COPY_BYTES))
        for old_offset, length_bytes, scratch_offset in self._spills.spills:
            for done in range(0, length_bytes, _COPY_BYTES):
                view = buffer[: length_bytes - done]
                self._slot.read_into(old_offset + done, view)
                scratch.write(self._manifest.max_output_bytes + scratch_offset + done, view)
        scratch.sync()

    def _spilled_digest(self, scratch: StoredFile) -> bytes:
        hasher = hashlib.sha256()
        buffer = memoryview(bytearray(_COPY_BYTES))
        end = self._manifest.max_output_bytes + self._spills.spilled_bytes
        for offset in range(self._manifest.max_output_bytes, end, _COPY_BYTES):
            view = buffer[: end - offset]
            scratch.read_into(offset, view)
            hasher.update(view)
        return hasher.digest()

    def _replay(self, scratch: StoredFile, held: bytearray) -> None:
        """Write the first missing block from the scratch, if it lies there whole."""
        if self._position == len(self._index):
            return
        record = self._index[self._position]
        start, end = self._manifest.block_range(record.block)
        output = memoryview(bytearray(end - start))
        scratch.read_into(0, output)
        if hashlib.sha256(output).digest() == record.output_digest:
            self._overwrite(record, output)
            held[self._position] = 1
            self._position = first_missing(held)
