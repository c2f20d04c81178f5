"""The writes of a publication: few kinds, each atomic, so that a publication is killed between two of them and never inside one.

Each is on the disk before the next: a timestamp that survives a power cut leads to bundles that do.
"""

import os
import shutil
from pathlib import Path
from typing import Final

from packager.model.errors import RepositoryError, SpaceError
from packager.repo.files import write_once
from packager.vehicle.errors import ResourceError
from packager.vehicle.identity import ImageId
from packager.vehicle.storage import sync_directory, write_atomically

_FILE_MODE: Final = 0o644


class Writes:
    """Writes to a repository; tests count them and make them fail."""

    def add(self, path: Path, data: bytes) -> None:
        """Write a file that never changes. The same again is fine.

        Raises:
            RepositoryError: Another one stands there.
            SpaceError: It can't be written.
        """
        try:
            if path.exists():
                if path.read_bytes() != data:
                    raise _taken(path)
                return
            _make_directory(path.parent)
            write_once(path, data, _FILE_MODE)
        except OSError as error:
            raise _unwritten(path, error) from error

    def move(self, source: Path, path: Path) -> None:
        """Move a file or a directory to its place. If the same file stands there, the source is removed.

        Raises:
            RepositoryError: Another one stands there.
            SpaceError: It can't be written.
        """
        try:
            if path.exists():
                if not _is_same(source, path):
                    raise _taken(path)
                shutil.rmtree(source) if source.is_dir() else source.unlink()
                return
            _make_directory(path.parent)
            _sync(source)
            source.rename(path)
            sync_directory(path.parent)
        except OSError as error:
            raise _unwritten(path, error) from error

    def replace(self, path: Path, data: bytes) -> None:
        """Replace a file atomically.

        Raises:
            SpaceError: It can't be written; the old content stands.
        """
        try:
            write_atomically(path, data)
        except ResourceError as error:
            raise SpaceError(str(error)) from error

    def sweep(self, directory: Path) -> None:
        """Remove the unfinished files that a writer left when it was killed inside a write. No other may be at work there.

        Raises:
            SpaceError: One can't be removed.
        """
        for path in directory.glob(".*.json.*"):
            self.remove(path)

    def remove(self, path: Path) -> None:
        """Remove a file or a directory with all that is in it, if it is there.

        Raises:
            SpaceError: It can't be removed.
        """
        try:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        except OSError as error:
            raise _unwritten(path, error) from error


def identify(path: Path) -> ImageId:
    """Return length and digest of a file.

    Raises:
        SpaceError: It can't be read.
    """
    try:
        with path.open("rb") as stream:
            return ImageId.of_stream(stream)
    except OSError as error:
        raise SpaceError(f"{path}: can't be read: {error.strerror}") from error


def _make_directory(path: Path) -> None:
    if path.is_dir():
        return
    _make_directory(path.parent)
    path.mkdir(exist_ok=True)
    sync_directory(path.parent)


def _sync(path: Path) -> None:
    """Make a file, or a directory with all that is in it, survive a power cut."""
    for found in (*path.rglob("*"), path) if path.is_dir() else (path,):
        descriptor = os.open(found, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _is_same(first: Path, second: Path) -> bool:
    if not first.is_dir():
        return not second.is_dir() and identify(first) == identify(second)
    names = {path.relative_to(first) for path in first.rglob("*")}
    same_names = second.is_dir() and names == {path.relative_to(second) for path in second.rglob("*")}
    return same_names and all(_is_same(first / name, second / name) for name in names if not (first / name).is_dir())


def _taken(path: Path) -> RepositoryError:
    return RepositoryError(
        f"{path}: exists with other content, and what is published never changes",
        hint="give the release another version, or propose again",
    )


def _unwritten(path: Path, error: OSError) -> SpaceError:
    return SpaceError(
        f"{path}: can't be written: {error.strerror or error}", hint="run it again; it goes on from there"
    )
