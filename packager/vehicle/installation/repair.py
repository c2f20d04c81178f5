"""Repair: blocks that can't be made because the old image is damaged are fetched one by one from the full bundle.

Every bundle to one image has the same block grid, so block `n` of the full bundle is block `n` of the delta. Its head is as signed as the
other one, its blobs are verified alike, and the signed byte policy bounds what may be fetched: never a gigabyte in silence.
"""

import threading
from collections.abc import Iterable

from packager.vehicle.core.blocks import NoOldImage, OldImage, check_old_part, make_block
from packager.vehicle.core.head import Head, read_head
from packager.vehicle.core.index import BlockRecord
from packager.vehicle.core.manifest import READS_OLD, Kind
from packager.vehicle.core.targets import BundleTarget
from packager.vehicle.errors import CorruptError, IncompatibleError
from packager.vehicle.installation.heads import KeptHeads
from packager.vehicle.profile import UpdateProfile
from packager.vehicle.transport.fetch import BundleSource


class BlockRepair:
    """Makes single blocks of an image from its full bundle. Safe to call from several threads.

    Args:
        head: Head of the bundle that is being installed.
        full: The full bundle to the same image; None if there is none.
        source: The repository's targets.
        profile: Limits of the ECU.
        limit_bytes: Most bytes of the full bundle, its head included, that repairs may take; the signed policy. The head is read in
            any case, to tell how many bytes it would take.
        heads: Where the full bundle's head may lie from an earlier start; it is then not read again, but counts.
        keeps_head: Whether a head that was read is kept there.
    """

    def __init__(
        self,
        head: Head,
        full: BundleTarget | None,
        source: BundleSource,
        profile: UpdateProfile,
        limit_bytes: int,
        heads: KeptHeads,
        *,
        keeps_head: bool,
    ) -> None:
        self._head = head
        self._full = full
        self._source = source
        self._profile = profile
        self._limit_bytes = limit_bytes
        self._heads = heads
        self._keeps_head = keeps_head
        self._spent_bytes = 0
        self._full_head: Head | None = None
        self._lock = threading.Lock()
        self.read_bytes = 0
        self.blocks = 0

    def __call__(self, record: BlockRecord) -> memoryview:
        """Fetch and make one block.

        Args:
            record: The block's record in the bundle that is being installed.

        Raises:
            IncompatibleError: There is no full bundle, or it would take more bytes than the policy allows.
            CorruptError: The full bundle is damaged.
            TemporaryError: It can't be had now.
        """
        with self._lock:
            full, head = self._open(1)
            wanted = head.index[record.block]  # a full bundle is in block order
            needed_bytes = self._spent_bytes + wanted.blob_bytes
            if needed_bytes > self._limit_bytes:
                raise IncompatibleError(
                    f"{full.path}: block {record.block} can't be made from the damaged old image; repair needs at least "
                    f"{needed_bytes} bytes, the signed policy allows {self._limit_bytes}"
                )
            start = head.length_bytes + wanted.blob_offset
            blob = self._source.read(full.path, start, start + wanted.blob_bytes)
            self._spent_bytes += len(blob)
            self.read_bytes += len(blob)
            output = make_block(head, wanted, blob, NoOldImage())
            if wanted.output_digest != record.output_digest:
                raise CorruptError(f"{full.path}: block {record.block} differs from that of the bundle in use")
            self.blocks += 1
            return output

    def blob_bytes(self, blocks: Iterable[int]) -> dict[int, int]:
        """Return, by block, how many bytes of the full bundle repairing these blocks takes, besides its head.

        Raises:
            IncompatibleError: There is no full bundle for this ECU.
            CorruptError: Its head is damaged.
            TemporaryError: It can't be had now.
        """
        wanted = list(blocks)
        if not wanted:
            return {}
        with self._lock:
            _, head = self._open(len(wanted))
        return {block: head.index[block].blob_bytes for block in wanted}

    def _open(self, count: int) -> tuple[BundleTarget, Head]:
        full = self._full
        if full is None:
            raise IncompatibleError(f"{count} blocks need repair, but there is no full bundle to take them from")
        if self._full_head is None:
            data = self._heads.find(full)
            if data is None:
                data = self._source.read(full.path, 0, full.head.length_bytes)
                self.read_bytes += len(data)
            head = read_head(data, full.head, self._profile)
            self._heads.remember(full, data)
            ours, theirs = self._head.manifest, head.manifest
            if (theirs.kind, theirs.new, theirs.block_log2) != (Kind.FULL, ours.new, ours.block_log2):
                raise IncompatibleError(
                    f"{full.path}: {theirs.kind.name} bundle to {theirs.new} in blocks of {theirs.block_bytes} bytes, "
                    f"expected a full one to {ours.new} in blocks of {ours.block_bytes}"
                )
            if self._keeps_head:
                self._heads.keep_repair(full, data)
            self._spent_bytes = head.length_bytes
            self._full_head = head
        return full, self._full_head


def find_damage(head: Head, old: OldImage) -> tuple[list[int], int]:
    """Hash the old part of every block against the signed index.

    Returns:
        The blocks whose old part differs, and how many blocks have one.

    Raises:
        ResourceError: The old image can't be read.
    """
    damaged = []
    reading = 0
    for position in range(len(head.index)):
        record = head.index[position]
        if record.op in READS_OLD:
            reading += 1
            try:
                check_old_part(head, record, old)
            except IncompatibleError:
                damaged.append(record.block)
    return damaged, reading
