"""Pulls a bundle into an `Applier`, from a seekable file or from the body of an HTTP response.

The applier says from which byte on it needs the bundle, so that a resumed update reads nothing twice. The caller keeps the applier's
options, and its life: a stop in between keeps what is finished.
"""

import os
from collections.abc import Callable, Iterable
from typing import BinaryIO, Final

from packager.vehicle.core.applier import Applier, VerifiedImage
from packager.vehicle.errors import ResourceError

READ_BYTES: Final = 1 << 18
"""Least that is asked of a file at once; a longer blob is read whole, which saves a copy."""
MAX_WORKERS: Final = 4
"""More threads than these are never chosen by default; the last hash, over the whole image, keeps one of them busy."""


def usable_cores() -> int:
    """Return how many threads an update should use here: the cores that this process may run on, within `MAX_WORKERS`."""
    if hasattr(os, "sched_getaffinity"):
        return min(len(os.sched_getaffinity(0)), MAX_WORKERS)
    return min(os.cpu_count() or 1, MAX_WORKERS)


def apply_file(applier: Applier, bundle: BinaryIO) -> VerifiedImage:
    """Apply a bundle that lies in a file.

    Args:
        applier: Fresh or resumed.
        bundle: The whole bundle, head included; read from where the applier needs it, wherever it stands.

    Raises:
        CorruptError: The bundle ends early or is not the signed one.
        IncompatibleError: The old image is another one.
        ResourceError: The bundle or the old image can't be read, or the slot not written.
        CancelledError: The caller's `cancelled` said so.
        StateError: The applier failed or ended before.
    """
    offset = applier.next_offset
    beyond = (
        applier.progress.bundle_bytes + 1
    )  # what is asked for is allocated: no more than tells whether bytes follow
    while chunk := _read(bundle, offset, min(max(applier.missing_bytes, READ_BYTES), beyond - offset)):
        applier.feed(chunk, offset)
        offset = max(offset + len(chunk), applier.next_offset)
    return applier.finish()


def _read(bundle: BinaryIO, offset: int, length_bytes: int) -> bytes:
    try:
        bundle.seek(offset)
        return bundle.read(length_bytes)
    except OSError as error:
        raise ResourceError(f"bundle: can't be read at byte {offset}: {error.strerror}") from error


def apply_stream(applier: Applier, chunks_of: Callable[[int, int], Iterable[bytes]]) -> VerifiedImage:
    """Apply a bundle that comes as a stream.

    Args:
        applier: Fresh or resumed.
        chunks_of: Given first byte and end, yields these bytes of the bundle (``Range: bytes=FIRST-LAST``, LAST being the end less one),
            cut anyhow; called once for each range that is missing. `bytes` are taken without a copy where a blob lies within one chunk.

    Raises:
        CorruptError: The bundle ends early or is not the signed one.
        IncompatibleError: The old image is another one.
        ResourceError: The old image can't be read, or the slot not written.
        CancelledError: The caller's `cancelled` said so.
        StateError: The applier failed or ended before.
        TemporaryError: As the stream raises it; a new applier goes on later.
    """
    for offset, end in applier.missing_ranges():
        for chunk in chunks_of(offset, end):
            applier.feed(chunk, offset)
            offset += len(chunk)
        if offset < end:
            break  # cut short; `finish` says so
    return applier.finish()
