"""Section 1 of the head: identities and exact, signed caps. Canonical: every valid manifest has one byte form."""

from dataclasses import dataclass
from enum import IntEnum
from functools import cache
from typing import Final

from packager.vehicle.core.codec import CodecLimits
from packager.vehicle.errors import CorruptError, IncompatibleError
from packager.vehicle.identity import DIGEST_BYTES, Digest, ImageId
from packager.vehicle.profile import MAX_BLOCK_LOG2, MIN_BLOCK_LOG2, Coder
from packager.vehicle.table import is_name
from packager.vehicle.wire import Cursor

MAX_IMAGE_BYTES: Final = 1 << 40
MAX_HARDWARE_IDS: Final = 16
MAX_RELEASE_COUNTER: Final = (1 << 32) - 1
MAX_WINDOW_LOG2: Final = 27
MAX_CAP_BYTES: Final = (1 << 32) - 1
"""Largest value of any cap, so that a reader in C can keep each in 32 bits."""
MAX_SEGMENTS: Final = 1 << 22
MAX_VALUES: Final = 1 << 20
MEMORY_FIELD_BYTES: Final = 4
FLAG_IN_PLACE: Final = 1


class Kind(IntEnum):
    """What a bundle starts from."""

    FULL = 0
    DELTA = 1


class Op(IntEnum):
    """How a block is made. FORMAT.md section 6."""

    RAW = 0
    FILL = 1
    COPY = 2
    COMPRESSED = 3
    DELTA = 4
    WINDOW = 5
    PREDICTED = 6


READS_OLD: Final = frozenset({Op.COPY, Op.DELTA, Op.WINDOW, Op.PREDICTED})
READS_SEGMENTS: Final = frozenset({Op.COPY, Op.DELTA, Op.PREDICTED})


@dataclass(frozen=True, slots=True)
class Manifest:
    """What the bundle is, for whom, and what it will ask of the ECU.

    Attributes:
        new: The image that results.
        old: The image that it starts from; None for a full bundle.
        block_log2: log2 of the block size.
        in_place: Whether it overwrites the old image.
        ops: Operations that occur.
        coders: Coders that occur, `Coder.RAW` always.
        window_log2: log2 of the largest zstd window that occurs; 0 if zstd does not occur.
        max_blob_bytes: Longest blob.
        max_source_bytes: Longest old part that one block reads.
        max_decoded_bytes: Largest sum of decoded columns of one block, of the segment map, or of the value map.
        segment_count: Segments in the map.
        value_count: Numbers in the value map of predicted blocks.
        memory_bytes: Memory that the reader of FORMAT.md section 9 needs; the reader computes it again.
        scratch_bytes: Scratch that an in-place update needs.
        release_counter: Grows with every release of the image.
        version: Version of the image, for people.
        hardware_ids: Hardware that the image is made for, ascending; empty in a loose bundle.
    """

    new: ImageId
    old: ImageId | None
    block_log2: int
    in_place: bool
    ops: frozenset[Op]
    coders: frozenset[Coder]
    window_log2: int
    max_blob_bytes: int
    max_source_bytes: int
    max_decoded_bytes: int
    segment_count: int
    memory_bytes: int
    scratch_bytes: int
    release_counter: int
    version: str
    hardware_ids: tuple[str, ...]
    value_count: int = 0

    @property
    def kind(self) -> Kind:
        """Full without an old image, else delta."""
        return Kind.FULL if self.old is None else Kind.DELTA

    @property
    def block_bytes(self) -> int:
        """Block size."""
        return 1 << self.block_log2

    @property
    def block_count(self) -> int:
        """Blocks in the grid of the new image; the last may be short."""
        return -(-self.new.length_bytes >> self.block_log2)

    @property
    def max_output_bytes(self) -> int:
        """Length of the longest block."""
        return min(self.block_bytes, self.new.length_bytes)

    @property
    def old_length_bytes(self) -> int:
        """Length of the old image, 0 without one."""
        return 0 if self.old is None else self.old.length_bytes

    @property
    def limits(self) -> CodecLimits:
        """What its coded bytes may use."""
        return CodecLimits(self.coders, 1 << self.window_log2 if self.window_log2 else 0)

    def block_range(self, block: int) -> tuple[int, int]:
        """Return first and end byte of a block in the new image."""
        start = block << self.block_log2
        return start, min(start + self.block_bytes, self.new.length_bytes)


def parse_manifest(section: memoryview) -> Manifest:
    """Read section 1 of an authentic head.

    Raises:
        CorruptError: It is not the canonical form of a manifest.
        IncompatibleError: It uses an operation, coder or flag that this reader does not know.
    """
    cursor = Cursor(section, "manifest")
    kind, block_log2, flags, window_log2 = cursor.uint(1), cursor.uint(1), cursor.uint(1), cursor.uint(1)
    ops_mask, coders_mask = cursor.uint(2), cursor.uint(2)
    if kind > Kind.DELTA or flags & ~FLAG_IN_PLACE or ops_mask >> len(Op) or coders_mask >> len(Coder):
        raise IncompatibleError(
            f"manifest: kind {kind}, flags {flags:#x}, operations {ops_mask:#x} or coders {coders_mask:#x} are unknown; "
            "this bundle needs a newer reader"
        )
    new = _image(cursor)
    old = _image(cursor) if kind == Kind.DELTA else None
    max_blob_bytes, max_source_bytes, max_decoded_bytes = cursor.varint(), cursor.varint(), cursor.varint()
    segment_count, scratch_bytes, release_counter = cursor.varint(), cursor.varint(), cursor.varint()
    memory_bytes = cursor.uint(MEMORY_FIELD_BYTES)
    version = cursor.text()
    hardware_ids = tuple(cursor.text() for _ in range(cursor.uint(1)))
    value_count = cursor.varint() if ops_mask >> Op.PREDICTED & 1 else 0
    cursor.end()
    manifest = Manifest(
        new=new,
        old=old,
        block_log2=block_log2,
        in_place=bool(flags & FLAG_IN_PLACE),
        ops=_ops_of(ops_mask),
        coders=_coders_of(coders_mask),
        window_log2=window_log2,
        max_blob_bytes=max_blob_bytes,
        max_source_bytes=max_source_bytes,
        max_decoded_bytes=max_decoded_bytes,
        segment_count=segment_count,
        memory_bytes=memory_bytes,
        scratch_bytes=scratch_bytes,
        release_counter=release_counter,
        version=version,
        hardware_ids=hardware_ids,
        value_count=value_count,
    )
    _check(manifest)
    return manifest


@cache
def _ops_of(mask: int) -> frozenset[Op]:
    return frozenset(op for op in Op if mask >> op & 1)


@cache
def _coders_of(mask: int) -> frozenset[Coder]:
    return frozenset(coder for coder in Coder if mask >> coder & 1)


def _image(cursor: Cursor) -> ImageId:
    length_bytes = cursor.varint()
    return ImageId(length_bytes, Digest(bytes(cursor.take(DIGEST_BYTES))))


def _check(manifest: Manifest) -> None:
    """Check the rules that tie fields together; FORMAT.md section 4."""
    faults = []
    if not MIN_BLOCK_LOG2 <= manifest.block_log2 <= MAX_BLOCK_LOG2:
        faults.append(f"block size 2**{manifest.block_log2}, expected 2**{MIN_BLOCK_LOG2} to 2**{MAX_BLOCK_LOG2}")
    if not 1 <= manifest.new.length_bytes <= MAX_IMAGE_BYTES:
        faults.append(f"new image of {manifest.new.length_bytes} bytes, expected 1 to {MAX_IMAGE_BYTES}")
    if manifest.old is not None and not 1 <= manifest.old.length_bytes <= MAX_IMAGE_BYTES:
        faults.append(f"old image of {manifest.old.length_bytes} bytes, expected 1 to {MAX_IMAGE_BYTES}")
    if manifest.old is None and (
        manifest.ops & READS_OLD or manifest.segment_count or manifest.max_source_bytes or manifest.in_place
    ):
        faults.append("a full bundle that reads an old image")
    if Coder.RAW not in manifest.coders:
        faults.append("coder RAW is missing")
    least, most = (1, MAX_WINDOW_LOG2) if Coder.ZSTD in manifest.coders else (0, 0)
    if not least <= manifest.window_log2 <= most:
        faults.append(f"zstd window 2**{manifest.window_log2}, expected 1 to {MAX_WINDOW_LOG2} with zstd and 0 without")
    if Coder.ADAPTIVE in manifest.coders and Op.PREDICTED not in manifest.ops:
        faults.append("coder ADAPTIVE without predicted blocks")
    if manifest.scratch_bytes and not manifest.in_place:
        faults.append(f"{manifest.scratch_bytes} bytes of scratch without the in-place flag")
    for name, value, most in (
        ("longest blob", manifest.max_blob_bytes, MAX_CAP_BYTES),
        ("longest old part", manifest.max_source_bytes, MAX_CAP_BYTES),
        ("decoded columns", manifest.max_decoded_bytes, MAX_CAP_BYTES),
        ("scratch", manifest.scratch_bytes, MAX_CAP_BYTES),
        ("release counter", manifest.release_counter, MAX_RELEASE_COUNTER),
        ("number of segments", manifest.segment_count, MAX_SEGMENTS),
        ("number of values", manifest.value_count, MAX_VALUES),
    ):
        if value > most:
            faults.append(f"{name} of {value}, expected at most {most}")
    if not all(map(is_name, (manifest.version or "0", *manifest.hardware_ids))):
        faults.append(f"version {manifest.version!r} or hardware ids {manifest.hardware_ids}, expected path-safe names")
    if len(manifest.hardware_ids) > MAX_HARDWARE_IDS or any(
        first >= second for first, second in zip(manifest.hardware_ids, manifest.hardware_ids[1:], strict=False)
    ):
        faults.append(f"hardware ids not strictly ascending, or more than {MAX_HARDWARE_IDS}")
    if faults:
        raise CorruptError("manifest: found " + "; ".join(faults))
