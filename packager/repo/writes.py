"""The writes of a publication: few kinds, each atomic, so that a publication is killed between two of them and never inside one.

Files that are added or replaced are on the disk when the call returns; those that are moved, after `settle`: hundreds of syncs, one after
the other, take minutes on a busy disk, and together as long as a few.
"""

import os
import shutil
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from packager.model.errors import RepositoryError, SpaceError
from packager.repo.files import write_once
from packager.vehicle.errors import ResourceError
from packager.vehicle.identity import ImageId
from packager.vehicle.storage import write_atomically

_FILE_MODE: Final = 0o644
_SYNCS_AT_ONCE: Final = 32


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
            path.parent.mkdir(parents=True, exist_ok=True)
            write_once(path, data, _FILE_MODE)
        except OSError as error:
            raise _unwritten(path, error) from error

    def move(self, source: Path, path: Path) -> None:
        """Move a file or a directory to its place, to be settled. If the same file stands there, the source is removed.

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
            path.parent.mkdir(parents=True, exist_ok=True)
            source.rename(path)
        except OSError as error:
            raise _unwritten(path, error) from error

    def settle(self, paths: Iterable[Path], top: Path) -> None:
        """Make files and directories with all that is in them survive a power cut, and their names in the directories above, up to `top`.

        Raises:
            SpaceError: The device failed.
        """
        found: set[Path] = set()
        for path in paths:
            found.update((path, *path.rglob("*")) if path.is_dir() else (path,))
            found.update(parent for parent in path.parents if parent.is_relative_to(top))
        try:
            with ThreadPoolExecutor(_SYNCS_AT_ONCE) as pool:
                list(pool.map(_sync, sorted(found)))
        except OSError as error:
            raise _unwritten(top, error) from error

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


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
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
