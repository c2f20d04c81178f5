"""Pulls a bundle into an `Applier`, from a seekable file or from the body of an HTTP response.

The applier says from which byte on it needs the bundle, so that a resumed update reads nothing twice. The caller keeps the applier's
options, and its life: a stop in between keeps what is finished.
"""

import os
from collections.abc import Callable, Iterable
from typing import BinaryIO, Final

from packager.vehicle.applier import Applier, VerifiedImage
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
    try:
        bundle.seek(applier.next_offset)
        chunk = bundle.read(max(applier.missing_bytes, READ_BYTES))
    except OSError as error:
        raise ResourceError(f"bundle: can't be read at byte {applier.next_offset}: {error.strerror}") from error
    while chunk:
        applier.feed(chunk)
        try:
            chunk = bundle.read(max(applier.missing_bytes, READ_BYTES))
        except OSError as error:
            raise ResourceError(f"bundle: can't be read at byte {applier.next_offset}: {error.strerror}") from error
    return applier.finish()


def apply_stream(applier: Applier, chunks_from: Callable[[int], Iterable[bytes]]) -> VerifiedImage:
    """Apply a bundle that comes as a stream.

    Args:
        applier: Fresh or resumed.
        chunks_from: Given a byte offset, starts the stream there (``Range: bytes=N-``) and yields the rest, cut anyhow. Not called
            if nothing is missing. `bytes` are taken without a copy where a blob lies within one chunk.

    Raises:
        CorruptError: The bundle ends early or is not the signed one.
        IncompatibleError: The old image is another one.
        ResourceError: The old image can't be read, or the slot not written.
        CancelledError: The caller's `cancelled` said so.
        StateError: The applier failed or ended before.
        TemporaryError: As the stream raises it; a new applier goes on later.
    """
    if not applier.is_fed:
        for chunk in chunks_from(applier.next_offset):
            applier.feed(chunk)
    return applier.finish()
