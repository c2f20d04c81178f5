"""Output appears whole or not at all: it grows in a hidden directory beside its place and is moved there at the end."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from packager.model.errors import ConfigError, SpaceError
from packager.vehicle.storage import sync_directory


@dataclass(frozen=True, slots=True)
class Stage:
    """A build in the making.

    Attributes:
        out: What will be moved to its place.
        work: Files of the way there; removed at the end.
    """

    out: Path
    work: Path


def check_place(out: Path, needed_bytes: int) -> None:
    """Check, before any work, that `out` is free and that the disk has room.

    Raises:
        ConfigError: `out` exists and is not an empty directory.
        SpaceError: Less than `needed_bytes` is free, or the directory above can't be used.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(
            f"--out {out}: exists already, expected a new or empty directory", hint="remove it, or choose another"
        )
    parent = out.absolute().parent
    while not parent.exists():
        parent = parent.parent
    free_bytes = shutil.disk_usage(parent).free
    if free_bytes < needed_bytes:
        raise SpaceError(
            f"--out {out}: {free_bytes} bytes are free, the build may need {needed_bytes}",
            hint="make room, or choose another disk",
        )
    if not os.access(parent, os.W_OK):
        raise SpaceError(f"--out {out}: {parent} can't be written")


@contextmanager
def staging(out: Path) -> Iterator[Stage]:
    """Provide a stage; what lies in its `out` at the end of the block becomes `out`. On any error nothing does.

    Raises:
        SpaceError: The disk is full or can't be written.
    """
    out = out.absolute()
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(
            dir=out.parent, prefix=f".{out.name}-", ignore_cleanup_errors=True
        ) as directory:
            stage = Stage(Path(directory) / "out", Path(directory) / "work")
            stage.out.mkdir()
            stage.work.mkdir()
            yield stage
            if out.exists():
                out.rmdir()
            stage.out.rename(out)
            sync_directory(out.parent)
    except OSError as error:
        raise SpaceError(f"--out {out}: can't be written: {error.strerror} ({error.filename})") from error
