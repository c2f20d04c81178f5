"""Makes one block of the new image, in the one order that keeps unsigned bytes away from decoders.

caps (already held by the parsed head) -> hash of the blob -> hash of the old part -> bounded decode to the exact length -> hash of
the output. Decoding is unreachable before both hashes held.
"""

import contextlib
import hashlib
import mmap
from collections import deque
from collections.abc import Iterator
from typing import ClassVar, Final, Protocol

from packager.vehicle import kernel
from packager.vehicle.core.codec import decode, read_columns
from packager.vehicle.core.head import Head
from packager.vehicle.core.index import BlockRecord
from packager.vehicle.core.manifest import READS_OLD, READS_SEGMENTS, Op
from packager.vehicle.core.predicted import OldPart, make_predicted
from packager.vehicle.core.segments import NO_PIECES, Pieces
from packager.vehicle.errors import CorruptError, IncompatibleError
from packager.vehicle.wire import Cursor

GATHER_BYTES: Final = 1 << 16
"""Short pieces that lie within this many old bytes are read with one call."""
NEAR_BYTES: Final = 1 << 14
"""If at most this much lies between two of them: copying it in vain costs less than one more call."""
KEPT_BYTES: Final = 1 << 20
"""Longest old part whose buffer is used again, if there are several blocks."""
MAPPED_BYTES: Final = 1 << 16
"""From this length on a buffer is memory of its own, not the allocator's."""
LARGE_PAGE_BYTES: Final = 1 << 21
"""From this length on large pages may back it."""
MAX_IDLE: Final = 4
"""Workspaces that are kept between images of one block."""
IDLE_BYTES: Final = 1 << 22
"""Most that one of them holds."""
_NOTHING: Final = memoryview(b"")


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
        """Refuse to read.

        Raises:
            IncompatibleError: Always.
        """
        raise IncompatibleError(f"old image: found none, expected {len(buffer)} bytes at byte {offset}")


def _buffer(length_bytes: int) -> bytearray | mmap.mmap:
    """Return zeroed memory. A large piece is mapped by itself, so that the system has it back at once when it is dropped.

    The allocator keeps freed memory for later, in each thread by itself: 5 to 10 MiB of a peak. Large pages, where the system has
    them, save faults: a sixth of the time where old parts of several MiB are read.
    """
    if length_bytes < MAPPED_BYTES:
        return bytearray(length_bytes)
    buffer = mmap.mmap(-1, length_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if length_bytes >= LARGE_PAGE_BYTES and hasattr(mmap, "MADV_HUGEPAGE"):
        with contextlib.suppress(OSError):  # a system without them
            buffer.madvise(mmap.MADV_HUGEPAGE)
    return buffer


class Workspace:
    """Buffers of one thread, used again for block after block: fresh memory costs a page fault per page, a tenth of the hashing.

    What `make_block` returns lies in it, or is the blob, and is valid until the next block. Between images of one
    block a few are kept (`borrowed`): faults were a third of the time of a small one.
    """

    _idle: ClassVar[deque["Workspace"]] = deque(maxlen=MAX_IDLE)

    def __init__(self) -> None:
        self._source = _buffer(0)
        self._output = _buffer(0)
        self._gather = bytearray()
        self._filled: tuple[tuple[int, int], bytes] | None = None
        self._holds: tuple[int, int] | None = None

    @staticmethod
    @contextlib.contextmanager
    def borrowed() -> Iterator["Workspace"]:
        """Lend a workspace to one thread. One whose user failed does not come back, nor one that has grown large."""
        try:
            workspace = Workspace._idle.pop()
        except IndexError:
            workspace = Workspace()
        yield workspace
        if len(workspace._source) + len(workspace._output) <= IDLE_BYTES:
            Workspace._idle.append(workspace)

    @staticmethod
    def drop_idle() -> None:
        """Give back the memory of those that nobody uses."""
        Workspace._idle.clear()

    def source(self, length_bytes: int, kept_bytes: int = KEPT_BYTES) -> memoryview:
        """Return a buffer for an old part; longer ones than `kept_bytes` are not kept."""
        if length_bytes > kept_bytes:
            return memoryview(_buffer(length_bytes))
        if length_bytes > len(self._source):
            self._source = _buffer(length_bytes)
        return memoryview(self._source)[:length_bytes]

    def output(self, length_bytes: int) -> memoryview:
        """Return a buffer for a block."""
        self._holds = None
        if length_bytes > len(self._output):
            self._output = _buffer(length_bytes)
        return memoryview(self._output)[:length_bytes]

    def gather(self, length_bytes: int) -> memoryview:
        """Return a buffer for what is read around short pieces."""
        if length_bytes > len(self._gather):
            self._gather = bytearray(length_bytes)
        return memoryview(self._gather)[:length_bytes]

    def filled(self, byte: int, length_bytes: int) -> tuple[memoryview, bytes]:
        """Return `length_bytes` times `byte` and their SHA-256; such blocks are hashed once, and a run of them is made once."""
        wanted = (byte, length_bytes)
        view = memoryview(self._output)[:length_bytes]
        if self._holds != wanted:
            view = self.output(length_bytes)
            some = bytes((byte,)) * min(length_bytes, GATHER_BYTES)
            for at in range(0, length_bytes, len(some)):
                view[at : at + len(some)] = some[: length_bytes - at]
            self._holds = wanted
        if self._filled is None or self._filled[0] != wanted:
            self._filled = (wanted, hashlib.sha256(view).digest())
        return view, self._filled[1]


def make_block(
    head: Head,
    record: BlockRecord,
    blob: bytes | bytearray | memoryview,
    old: OldImage,
    workspace: Workspace | None = None,
) -> memoryview:
    """Verify a blob and its old part, decode the block and verify it.

    Args:
        head: The authentic head.
        record: The block's record in it.
        blob: Exactly ``record.blob_bytes`` bytes.
        old: The old image.
        workspace: Buffers to use, of the calling thread alone.

    Returns:
        The block; valid until `blob` or the workspace is used again.

    Raises:
        CorruptError: The blob or the result is not what the head says; fetch the blob again.
        IncompatibleError: The old image does not hold what the head says.
        ResourceError: The old image can't be read.
    """
    workspace = workspace or Workspace()
    what = f"block {record.block}"
    if len(blob) != record.blob_bytes or hashlib.sha256(blob).digest() != record.blob_digest:
        raise CorruptError(f"{what}: its blob of {len(blob)} bytes is not the signed one; fetch it again")
    start, end = head.manifest.block_range(record.block)
    pieces = head.segments.cut(start, end) if record.op in READS_SEGMENTS else NO_PIECES
    source, whole = _NOTHING, _NOTHING
    if record.op in READS_OLD:
        source, whole = _read_source(head, record, pieces, old, workspace)
    out, found = _decode(head, record, memoryview(blob), source, whole, pieces, workspace)
    if len(out) != end - start or found != record.output_digest:
        raise CorruptError(f"{what}: result of {len(out)} bytes has SHA-256 {found.hex()}, not the signed one")
    return out


def check_old_part(head: Head, record: BlockRecord, old: OldImage, workspace: Workspace | None = None) -> None:
    """Verify what a block reads of the old image, without making it; a block that reads nothing of it passes.

    Raises:
        IncompatibleError: The old image does not hold what the head says.
        ResourceError: The old image can't be read.
    """
    if record.op in READS_OLD:
        start, end = head.manifest.block_range(record.block)
        pieces = head.segments.cut(start, end) if record.op in READS_SEGMENTS else NO_PIECES
        _read_source(head, record, pieces, old, workspace or Workspace())


def _read_source(
    head: Head, record: BlockRecord, pieces: Pieces, old: OldImage, workspace: Workspace
) -> tuple[memoryview, memoryview]:
    """Read and check the old part: the window, or the pieces one after the other.

    Returns:
        It, and the whole old image where that is what was checked, else nothing.
    """
    length_bytes = record.window_bytes if record.op is Op.WINDOW else pieces.length_bytes
    if length_bytes > head.manifest.max_source_bytes:
        raise CorruptError(
            f"block {record.block}: reads {length_bytes} old bytes, expected at most {head.manifest.max_source_bytes}"
        )
    if record.source_digest is None:  # the only block: the whole old image is the old part
        assert head.manifest.old is not None  # noqa: S101 - parse_index holds it
        whole = workspace.source(head.manifest.old_length_bytes, IDLE_BYTES)  # parse_index holds it to the cap
        old.read_into(0, whole)
        _check_source(record, whole, head.manifest.old.digest.value)
        if record.op is Op.WINDOW:
            return whole[record.window_offset : record.window_offset + record.window_bytes], whole
        joined = _place(head, record, length_bytes, workspace)
        kernel.join_pieces(joined, whole, pieces.triples)
        return joined, whole
    if record.op is Op.WINDOW:
        source = workspace.source(length_bytes)
        old.read_into(record.window_offset, source)
    else:
        source = _place(head, record, length_bytes, workspace)
        _gather(pieces, source, old, workspace.gather(min(GATHER_BYTES, 2 * length_bytes)))
    _check_source(record, source, record.source_digest)
    return source, _NOTHING


def _place(head: Head, record: BlockRecord, length_bytes: int, workspace: Workspace) -> memoryview:
    """Return where the pieces of a block go: to the end of the block itself, which then needs no second buffer.

    Literals that refer to them are decoded before the first of them moves.
    """
    start, end = head.manifest.block_range(record.block)
    return workspace.output(end - start)[end - start - length_bytes :]


def _gather(pieces: Pieces, source: memoryview, old: OldImage, buffer: memoryview) -> None:
    """Read the pieces, neighbours in the old image together: thousands of short ones would cost a call each."""
    reads, moves = kernel.plan_reads(pieces.triples, NEAR_BYTES, len(buffer))
    for low, length_bytes, first, last in zip(reads[0::4], reads[1::4], reads[2::4], reads[3::4], strict=True):
        if last - first == 1:
            at = moves[3 * first + 2]
            old.read_into(low, source[at : at + length_bytes])
        else:
            old.read_into(low, buffer[:length_bytes])
            kernel.scatter(source, buffer, low, moves, first, last)


def _check_source(record: BlockRecord, source: memoryview, expected: bytes) -> None:
    found = hashlib.sha256(source).digest()
    if found != expected:
        raise IncompatibleError(
            f"block {record.block}: its {len(source)} bytes of the old image have SHA-256 {found.hex()}, "
            f"expected {expected.hex()}; the old image is another one or damaged"
        )


def _decode(
    head: Head,
    record: BlockRecord,
    blob: memoryview,
    source: memoryview,
    whole: memoryview,
    pieces: Pieces,
    workspace: Workspace,
) -> tuple[memoryview, bytes]:
    """Decode, and hash what came out; reached only with an authentic blob and old part.

    A block that is its blob is not hashed a second time.
    """
    what = f"block {record.block}"
    manifest = head.manifest
    start, end = manifest.block_range(record.block)
    length_bytes = end - start
    if record.op is Op.RAW:
        return blob, record.blob_digest
    if record.op is Op.FILL:
        return workspace.filled(blob[0], length_bytes)
    if record.op is Op.COPY:
        out = source
        if record.source_digest is not None:
            return out, record.source_digest
    elif record.op in (Op.COMPRESSED, Op.WINDOW):
        out = memoryview(decode(record.coder, blob, length_bytes, what, manifest.limits, source))
    elif record.op is Op.PREDICTED and head.predictors is not None:
        out = workspace.output(length_bytes)
        limits, decoded = manifest.limits, manifest.max_decoded_bytes
        make_predicted(head.predictors, blob, what, pieces, OldPart(source, whole), out, start, decoded, limits)
    else:
        columns = read_columns(Cursor(blob, what), what, manifest.max_decoded_bytes, manifest.limits)
        literals, controls, values = columns
        out = workspace.output(length_bytes)  # `source` is the end of it
        kernel.apply_delta(out, source, pieces.pairs, literals, controls, values)
    return out, hashlib.sha256(out).digest()
