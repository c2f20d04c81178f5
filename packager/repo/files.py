"""Writes files that must never replace another: complete under their name or not there at all."""

import fcntl
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from packager.model.errors import SpaceError
from packager.vehicle.errors import TemporaryError
from packager.vehicle.storage import sync_directory

_POLL_S: Final = 0.05


def write_once(path: Path, data: bytes, mode: int) -> None:
    """Write a new file, synced, with `mode` from its first byte; a reader sees all of it or nothing.

    Args:
        path: Where; nothing may stand there.
        data: Its content.
        mode: Permission bits, not cut by the umask.

    Raises:
        FileExistsError: Something stands there; it is left as it is.
        OSError: It can't be written; nothing is left behind.
    """
    # mkstemp opens with O_EXCL and mode 0600: no moment in which others could open a private key. A hard link, unlike a rename, fails
    # if the name is taken.
    descriptor, part = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            os.fchmod(file.fileno(), mode)
            file.flush()
            os.fsync(file.fileno())
        os.link(part, path)
    finally:
        Path(part).unlink(missing_ok=True)
    sync_directory(path.parent)


@contextmanager
def locked(directory: Path, *, wait_s: float = 30.0) -> Iterator[None]:
    """Keep other processes out of a directory; the lock leaves no file and goes with the process, however it ends.

    Args:
        directory: The directory, which exists.
        wait_s: How long to wait for the other, in seconds.

    Raises:
        TemporaryError: Another one is at work for longer.
        SpaceError: The directory can't be opened.
    """
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise SpaceError(
            f"{directory}: can't be opened: {error.strerror}; expected the directory of a repository",
            hint="packager repo init begins one; is this the right directory, and is its disk mounted?",
        ) from error
    deadline = time.monotonic() + wait_s
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() >= deadline:
                    raise TemporaryError(
                        f"{directory}: another process works on it; try again when it has ended"
                    ) from error
                time.sleep(_POLL_S)
        yield
    finally:
        os.close(descriptor)
