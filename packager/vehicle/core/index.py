"""Section 2 of the head: one record per block, in install order; its width is fixed per bundle."""

import struct
from dataclasses import dataclass
from typing import Final

from packager.vehicle.core.manifest import READS_OLD, Manifest, Op
from packager.vehicle.errors import CorruptError, IncompatibleError
from packager.vehicle.identity import DIGEST_BYTES
from packager.vehicle.profile import Coder
from packager.vehicle.wire import Cursor

NUMBERED: Final = 1
WINDOWED: Final = 2
OUTPUT_HASHED: Final = 4
SOURCE_HASHED: Final = 8
ALL_LAYOUT_FLAGS: Final = NUMBERED | WINDOWED | OUTPUT_HASHED | SOURCE_HASHED
BLOCK_NUMBER_BYTES: Final = 4
WINDOW_BYTES: Final = 12
MAX_WHOLE_OLD_BYTES: Final = 1 << 22
"""Longest old image that may stand as the old part of the only block, with its hash implied."""
_OPS: Final = tuple(Op)
_CODERS: Final = tuple(Coder)
_WINDOW: Final = struct.Struct("<QI")
_NO_DIGEST: Final = bytes(DIGEST_BYTES)


@dataclass(frozen=True, slots=True)
class BlockRecord:
    """How one block is made.

    Attributes:
        block: Its number in the grid.
        op: Operation.
        coder: Coder of `Op.COMPRESSED` and `Op.WINDOW`, else RAW.
        blob_offset: Where its blob starts, counted from the end of the head.
        blob_bytes: Exact length of its blob.
        window_offset: First old byte of the window of `Op.WINDOW`.
        window_bytes: Length of that window.
        blob_digest: SHA-256 of the blob.
        output_digest: SHA-256 of the block.
        source_digest: SHA-256 of the old part; None where the whole old image is the old part.
    """

    block: int
    op: Op
    coder: Coder
    blob_offset: int
    blob_bytes: int
    window_offset: int
    window_bytes: int
    blob_digest: bytes
    output_digest: bytes
    source_digest: bytes | None

    @property
    def blob_end(self) -> int:
        """Where its blob ends, counted from the end of the head."""
        return self.blob_offset + self.blob_bytes


@dataclass(frozen=True, slots=True)
class BlockIndex:
    """The records in install order, decoded one at a time so that a large index costs no more than its bytes.

    Build one with `parse_index`. `blobs_bytes` is the length of all blobs.
    """

    manifest: Manifest
    raw: bytes
    layout: int
    length_width: int
    record_bytes: int
    checkpoints: tuple[int, ...]
    blobs_bytes: int

    def __len__(self) -> int:
        return self.manifest.block_count

    def __getitem__(self, position: int) -> BlockRecord:
        """Return the record at `position` in install order."""
        if not 0 <= position < len(self):
            raise IndexError(position)
        offset = self.checkpoints[position // CHECKPOINT_RECORDS]
        for earlier in range(position - position % CHECKPOINT_RECORDS, position):
            offset += self._blob_bytes(earlier)
        return self._record(position, offset)

    def after(self, position: int, record: BlockRecord) -> BlockRecord:
        """Return the record behind the one at `position`, which is `record`; in order this is much quicker than by position."""
        return self._record(position + 1, record.blob_end)

    def outcome(self, position: int) -> tuple[int, bytes]:
        """Return the number of the block at `position` and its SHA-256, without the rest of the record."""
        at = position * self.record_bytes
        block = position
        if self.layout & NUMBERED:
            block = int.from_bytes(self.raw[at : at + BLOCK_NUMBER_BYTES], "little")
            at += BLOCK_NUMBER_BYTES
        if not self.layout & OUTPUT_HASHED:
            return block, self.manifest.new.digest.value
        at += 2 + self.length_width + (WINDOW_BYTES if self.layout & WINDOWED else 0) + DIGEST_BYTES
        return block, self.raw[at : at + DIGEST_BYTES]

    def _blob_bytes(self, position: int) -> int:
        start = position * self.record_bytes + (BLOCK_NUMBER_BYTES if self.layout & NUMBERED else 0) + 2
        return int.from_bytes(self.raw[start : start + self.length_width], "little")

    def _record(self, position: int, blob_offset: int) -> BlockRecord:
        raw, at, block = (
            self.raw,
            position * self.record_bytes,
            position,
        )  # no cursor: there may be thousands of records
        if self.layout & NUMBERED:
            block = int.from_bytes(raw[at : at + BLOCK_NUMBER_BYTES], "little")
            at += BLOCK_NUMBER_BYTES
        op, coder = raw[at], raw[at + 1]
        if op >= len(_OPS) or coder >= len(_CODERS):
            raise CorruptError(f"index record {position}: operation {op} or coder {coder} is not one of the manifest")
        at += 2 + self.length_width
        blob_bytes = int.from_bytes(raw[at - self.length_width : at], "little")
        window_offset = window_bytes = 0
        if self.layout & WINDOWED:
            at += WINDOW_BYTES
            window_offset, window_bytes = _WINDOW.unpack(raw[at - WINDOW_BYTES : at])
        at += DIGEST_BYTES
        blob_digest = raw[at - DIGEST_BYTES : at]
        output_digest, source_digest = self.manifest.new.digest.value, None
        if self.layout & OUTPUT_HASHED:
            at += DIGEST_BYTES
            output_digest = raw[at - DIGEST_BYTES : at]
        if self.layout & SOURCE_HASHED:
            source_digest = raw[at : at + DIGEST_BYTES]
        return BlockRecord(
            block=block,
            op=_OPS[op],
            coder=_CODERS[coder],
            blob_offset=blob_offset,
            blob_bytes=blob_bytes,
            window_offset=window_offset,
            window_bytes=window_bytes,
            blob_digest=blob_digest,
            output_digest=output_digest,
            source_digest=source_digest,
        )


CHECKPOINT_RECORDS: Final = 256
"""Every this many records the blob offset is kept, so that any record is found in bounded time."""


def blob_length_width(max_blob_bytes: int) -> int:
    """Return the width of blob lengths in the records: the least bytes, at least one, that hold the longest."""
    return max((max_blob_bytes.bit_length() + 7) // 8, 1)


def record_width(layout: int, length_width: int) -> int:
    """Return the length of one record in bytes."""
    width = 2 + length_width + DIGEST_BYTES
    width += BLOCK_NUMBER_BYTES if layout & NUMBERED else 0
    width += WINDOW_BYTES if layout & WINDOWED else 0
    width += DIGEST_BYTES if layout & OUTPUT_HASHED else 0
    return width + (DIGEST_BYTES if layout & SOURCE_HASHED else 0)


def parse_index(section: memoryview, manifest: Manifest) -> BlockIndex:
    """Read section 2 of an authentic head and check every record against the manifest's caps.

    Raises:
        CorruptError: A rule of FORMAT.md section 5 is broken.
        IncompatibleError: An unknown layout flag.
    """
    what = "index"
    cursor = Cursor(section, what)
    layout, length_width = cursor.uint(1), cursor.uint(1)
    _check_layout(what, layout, length_width, manifest)
    count, width = manifest.block_count, record_width(layout, length_width)
    raw = bytes(cursor.take(cursor.left))
    if len(raw) != count * width:
        raise CorruptError(f"{what}: found {len(raw)} bytes of records, expected {count} of {width} bytes")
    checkpoints = []
    offset = longest = 0
    ops = set()
    index = BlockIndex(manifest, raw, layout, length_width, width, (), 0)
    seen = bytearray(count) if layout & NUMBERED else None
    for position in range(count):
        if position % CHECKPOINT_RECORDS == 0:
            checkpoints.append(offset)
        record = index._record(position, offset)  # noqa: SLF001 - same module
        if seen is not None:
            if record.block >= count or seen[record.block]:
                raise CorruptError(
                    f"{what}: block {record.block} at position {position} is outside the grid or listed twice"
                )
            seen[record.block] = 1
        _check(record, position, manifest)
        offset = record.blob_end
        longest = max(longest, record.blob_bytes)
        ops.add(record.op)
    if seen is not None and all(index._record(position, 0).block == position for position in range(count)):  # noqa: SLF001 - same module
        raise CorruptError(f"{what}: block numbers that are the positions, expected them left out")
    if longest != manifest.max_blob_bytes or ops != manifest.ops:
        raise CorruptError(
            f"{what}: longest blob {longest} bytes, operations {sorted(op.name for op in ops)}; expected exactly "
            f"{manifest.max_blob_bytes} and {sorted(op.name for op in manifest.ops)} as the manifest says"
        )
    return BlockIndex(manifest, raw, layout, length_width, width, tuple(checkpoints), offset)


def _check_layout(what: str, layout: int, length_width: int, manifest: Manifest) -> None:
    """Check that the records have exactly the fields that the manifest's blocks need."""
    if layout & ~ALL_LAYOUT_FLAGS:
        raise IncompatibleError(f"{what}: layout {layout:#x} is unknown; this bundle needs a newer reader")
    if length_width != blob_length_width(manifest.max_blob_bytes):
        raise CorruptError(
            f"{what}: length width {length_width}, expected {blob_length_width(manifest.max_blob_bytes)} "
            f"for blobs of at most {manifest.max_blob_bytes} bytes"
        )
    if layout & NUMBERED and not manifest.in_place:
        raise CorruptError(f"{what}: block numbers are only for in-place bundles; others install in block order")
    if bool(layout & WINDOWED) != (Op.WINDOW in manifest.ops):
        raise CorruptError(f"{what}: window fields present without WINDOW blocks, or missing with them")
    count = manifest.block_count
    if bool(layout & OUTPUT_HASHED) != (count > 1):
        raise CorruptError(f"{what}: output hashes must be left out with one block and only then; found {count} blocks")
    reads_old = bool(manifest.ops & READS_OLD)
    implied = reads_old and not layout & SOURCE_HASHED
    if (layout & SOURCE_HASHED and not reads_old) or (
        implied and (count > 1 or manifest.old_length_bytes > MAX_WHOLE_OLD_BYTES)
    ):
        raise CorruptError(f"{what}: hashes of the old parts are present or left out against the rules")
    if implied and manifest.max_source_bytes < manifest.old_length_bytes:
        raise CorruptError(
            f"{what}: longest old part of {manifest.max_source_bytes} bytes, expected at least the "
            f"{manifest.old_length_bytes} of the whole old image, whose hash stands for it"
        )


def _check(record: BlockRecord, position: int, manifest: Manifest) -> None:
    what = f"index record {position}"
    if record.op not in manifest.ops or record.coder not in manifest.coders:
        raise CorruptError(f"{what}: {record.op.name} with {record.coder.name} is not declared in the manifest")
    if record.coder is not Coder.RAW and record.op not in (Op.COMPRESSED, Op.WINDOW):
        raise CorruptError(f"{what}: {record.op.name} with coder {record.coder.name}, expected RAW")
    if record.op is Op.WINDOW and record.coder is not Coder.ZSTD:
        raise CorruptError(f"{what}: WINDOW with coder {record.coder.name}, expected ZSTD")
    if record.op is Op.COMPRESSED and record.coder not in (Coder.ZSTD, Coder.LZMA):
        raise CorruptError(f"{what}: COMPRESSED with coder {record.coder.name}, expected ZSTD or LZMA")
    start, end = manifest.block_range(record.block)
    exact = {Op.RAW: end - start, Op.FILL: 1, Op.COPY: 0}.get(record.op)
    if exact is not None and record.blob_bytes != exact:
        raise CorruptError(f"{what}: blob of {record.blob_bytes} bytes, expected {exact} for {record.op.name}")
    if record.blob_bytes > manifest.max_blob_bytes:
        raise CorruptError(f"{what}: blob of {record.blob_bytes} bytes, expected at most {manifest.max_blob_bytes}")
    if (record.op is Op.WINDOW) != bool(record.window_bytes) or (record.window_offset and not record.window_bytes):
        raise CorruptError(f"{what}: old window of {record.window_bytes} bytes for {record.op.name}")
    if record.window_bytes > manifest.max_source_bytes:
        raise CorruptError(
            f"{what}: old window of {record.window_bytes} bytes, expected at most {manifest.max_source_bytes}"
        )
    if record.window_offset + record.window_bytes > manifest.old_length_bytes:
        raise CorruptError(
            f"{what}: old window ends at {record.window_offset + record.window_bytes}, "
            f"but the old image has {manifest.old_length_bytes} bytes"
        )
    if record.source_digest is not None and (record.op in READS_OLD) == (record.source_digest == _NO_DIGEST):
        raise CorruptError(f"{what}: hash of the old part is zero exactly where {record.op.name} reads the old image")
