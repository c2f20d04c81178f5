"""Makes one block of the new image, in the one order that keeps unsigned bytes away from decoders.

caps (already held by the parsed head) -> hash of the blob -> hash of the old part -> bounded decode to the exact length -> hash of
the output. Decoding is unreachable before both hashes held.
"""

import hashlib
from array import array
from typing import Final, Protocol

from packager.vehicle import kernel
from packager.vehicle.codec import decode, read_columns
from packager.vehicle.errors import CorruptError, IncompatibleError
from packager.vehicle.head import Head
from packager.vehicle.index import BlockRecord
from packager.vehicle.manifest import READS_OLD, READS_SEGMENTS, Op
from packager.vehicle.segments import Segment
from packager.vehicle.wire import Cursor

GATHER_BYTES: Final = 1 << 16
"""Short pieces that lie within this many old bytes are read with one call."""


class OldImage(Protocol):
    """Random access to the old image. Implementations are safe to call from several threads at once."""

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill `buffer` from byte `offset` on.

        Raises:
            ResourceError: It can't be read.
            IncompatibleError: It ends before.
        """


class NoOldImage:
    """Stands for the old image of a full bundle, which reads none."""

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Refuse to read."""
        raise IncompatibleError(f"old image: found none, expected {len(buffer)} bytes at byte {offset}")


def make_block(head: Head, record: BlockRecord, blob: bytes | bytearray | memoryview, old: OldImage) -> bytearray:
    """Verify a blob and its old part, decode the block and verify it.

    Args:
        head: The authentic head.
        record: The block's record in it.
        blob: Exactly ``record.blob_bytes`` bytes.
        old: The old image.

    Raises:
        CorruptError: The blob or the result is not what the head says; fetch the blob again.
        IncompatibleError: The old image does not hold what the head says.
        ResourceError: The old image can't be read.
    """
    what = f"block {record.block}"
    if len(blob) != record.blob_bytes or hashlib.sha256(blob).digest() != record.blob_digest:
        raise CorruptError(f"{what}: its blob of {len(blob)} bytes is not the signed one; fetch it again")
    start, end = head.manifest.block_range(record.block)
    pieces = head.segments.pieces(start, end) if record.op in READS_SEGMENTS else []
    source = _read_source(head, record, pieces, old) if record.op in READS_OLD else bytearray()
    out = _decode(head, record, memoryview(blob), source, pieces)
    found = hashlib.sha256(out).digest()
    if len(out) != end - start or found != record.output_digest:
        raise CorruptError(f"{what}: result of {len(out)} bytes has SHA-256 {found.hex()}, not the signed one")
    return out


def _read_source(head: Head, record: BlockRecord, pieces: list[Segment], old: OldImage) -> bytearray:
    """Read and check the old part: the window, or the pieces one after the other."""
    length_bytes = record.window_bytes if record.op is Op.WINDOW else sum(piece.length_bytes for piece in pieces)
    if length_bytes > head.manifest.max_source_bytes:
        raise CorruptError(
            f"block {record.block}: reads {length_bytes} old bytes, expected at most {head.manifest.max_source_bytes}"
        )
    if record.source_digest is None:  # the only block: the whole old image is the old part
        assert head.manifest.old is not None  # noqa: S101 - parse_index holds it
        whole = bytearray(head.manifest.old_length_bytes)  # parse_index holds it to the cap
        old.read_into(0, memoryview(whole))
        _check_source(record, whole, head.manifest.old.digest.value)
        if record.op is Op.WINDOW:
            return whole[record.window_offset : record.window_offset + record.window_bytes]
        view = memoryview(whole)
        return bytearray().join(view[p.old_offset : p.old_offset + p.length_bytes] for p in pieces)
    if record.op is Op.WINDOW:
        source = bytearray(record.window_bytes)
        old.read_into(record.window_offset, memoryview(source))
    else:
        source = _gather(pieces, length_bytes, old)
    _check_source(record, source, record.source_digest)
    return source


def _gather(pieces: list[Segment], total_bytes: int, old: OldImage) -> bytearray:
    """Read the pieces, neighbours together: thousands of short ones would cost a call each."""
    source = bytearray(total_bytes)
    view = memoryview(source)
    buffer = memoryview(bytearray(min(GATHER_BYTES, 2 * total_bytes)))
    at = index = 0
    while index < len(pieces):
        first = low = pieces[index].old_offset
        high = first + pieces[index].length_bytes
        end = index + 1
        while end < len(pieces):
            _, old_offset, length_bytes = pieces[end]
            wider = min(low, old_offset), max(high, old_offset + length_bytes)
            if wider[1] - wider[0] > len(buffer):
                break
            low, high = wider
            end += 1
        if end - index == 1:
            old.read_into(first, view[at : at + high - first])
            at += high - first
        else:
            old.read_into(low, buffer[: high - low])
            for _, old_offset, length_bytes in pieces[index:end]:
                view[at : at + length_bytes] = buffer[old_offset - low : old_offset - low + length_bytes]
                at += length_bytes
        index = end
    return source


def _check_source(record: BlockRecord, source: bytearray, expected: bytes) -> None:
    found = hashlib.sha256(source).digest()
    if found != expected:
        raise IncompatibleError(
            f"block {record.block}: its {len(source)} bytes of the old image have SHA-256 {found.hex()}, "
            f"expected {expected.hex()}; the old image is another one or damaged"
        )


def _decode(head: Head, record: BlockRecord, blob: memoryview, source: bytearray, pieces: list[Segment]) -> bytearray:
    """Decode; reached only with an authentic blob and old part."""
    what = f"block {record.block}"
    manifest = head.manifest
    start, end = manifest.block_range(record.block)
    length_bytes = end - start
    if record.op is Op.RAW:
        return bytearray(blob)
    if record.op is Op.FILL:
        return bytearray(blob) * length_bytes
    if record.op is Op.COPY:
        return source
    if record.op in (Op.COMPRESSED, Op.WINDOW):
        return bytearray(decode(record.coder, blob, length_bytes, what, manifest.limits, source))
    if record.op is Op.PREDICTED:
        raise IncompatibleError(f"{what}: predicted blocks are unknown to this reader")
    literals, controls, values = read_columns(Cursor(blob, what), what, manifest.max_decoded_bytes, manifest.limits)
    flat = array("Q")
    for piece in pieces:
        flat.extend((piece.new_offset - start, piece.length_bytes))
    out = source if len(source) == length_bytes else bytearray(length_bytes)
    kernel.apply_delta(out, source, flat, literals, controls, values)
    return out
