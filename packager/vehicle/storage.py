"""Where images, journal and state lie: one small protocol, so that tests can cut the power at every step of it.

The promise that the update relies on: what was written before a `sync` that returned survives a power cut; what was written after may
survive in part, torn at any byte and in any order. `replace` is atomic: afterwards either all old or all new bytes are there.
"""

import contextlib
import os
import tempfile
from pathlib import Path
from typing import Protocol, Self

from packager.vehicle.errors import IncompatibleError, ResourceError


class TooLongError(ResourceError):
    """A stored file is longer than it may be."""


class StoredFile(Protocol):
    """Random access to one file or partition of a fixed length.

    Reading, and writing of ranges apart, is safe from several threads at once.
    """

    @property
    def length_bytes(self) -> int:
        """Length of the file."""

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill `buffer` from byte `offset` on.

        Raises:
            ResourceError: The device failed.
            IncompatibleError: The file ends before.
        """

    def write(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        """Write all of `data` at byte `offset`.

        Raises:
            ResourceError: No space, read-only, or the device failed.
        """

    def sync(self) -> None:
        """Make everything written so far survive a power cut.

        Raises:
            ResourceError: The device failed.
        """


class Storage(Protocol):
    """Named files of one vehicle home."""

    def open(self, name: str, length_bytes: int) -> StoredFile:
        """Open a file for reading and writing, created or cut to exactly `length_bytes`; new bytes are zero."""

    def length(self, name: str) -> int | None:
        """Return a file's length, None if there is none."""

    def read(self, name: str, max_bytes: int) -> bytes | None:
        """Return a small file's content, None if there is none.

        Raises:
            TooLongError: Longer than `max_bytes`.
            ResourceError: Unreadable.
        """

    def replace(self, name: str, data: bytes) -> None:
        """Write a small file atomically."""

    def remove(self, name: str) -> None:
        """Remove a file if it is there."""


class FileOnDisk:
    """A `StoredFile` on a file system. Open one with `FileOnDisk.open` or `DirectoryStorage.open`."""

    def __init__(self, descriptor: int, path: Path, length_bytes: int) -> None:
        self._descriptor = descriptor
        self._path = path
        self._length_bytes = length_bytes

    @classmethod
    def open(cls, path: Path, length_bytes: int | None = None) -> Self:
        """Open `path`; read-only if `length_bytes` is None, else for writing with exactly that length.

        Raises:
            ResourceError: The file can't be opened, made or cut to length.
        """
        try:
            flags = os.O_RDONLY if length_bytes is None else os.O_RDWR | os.O_CREAT
            descriptor = os.open(path, flags | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise ResourceError(f"{path}: can't be opened: {error.strerror}") from error
        try:
            found = os.fstat(descriptor).st_size
            if length_bytes is not None and found != length_bytes:
                os.ftruncate(descriptor, length_bytes)
        except OSError as error:
            os.close(descriptor)
            raise ResourceError(f"{path}: can't be made {length_bytes} bytes long: {error.strerror}") from error
        return cls(descriptor, path, found if length_bytes is None else length_bytes)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def length_bytes(self) -> int:
        """Length of the file when it was opened."""
        return self._length_bytes

    def is_same_as(self, other: "FileOnDisk") -> bool:
        """Tell whether both are one file or partition, under whatever names."""
        return os.path.sameopenfile(self._descriptor, other._descriptor)  # noqa: SLF001 - of the same class

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """See `StoredFile.read_into`."""
        done = 0
        while done < len(buffer):
            try:
                count = os.preadv(self._descriptor, [buffer[done:]], offset + done)
            except OSError as error:
                raise ResourceError(f"{self._path}: can't read at byte {offset + done}: {error.strerror}") from error
            if not count:
                raise IncompatibleError(
                    f"{self._path}: ends at byte {offset + done}, expected {len(buffer)} bytes at byte {offset}"
                )
            done += count

    def write(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        """See `StoredFile.write`."""
        view = memoryview(data)
        done = 0
        while done < len(view):
            try:
                count = os.pwrite(self._descriptor, view[done:], offset + done)
            except OSError as error:
                raise ResourceError(f"{self._path}: can't write at byte {offset + done}: {error.strerror}") from error
            if not count:
                raise ResourceError(f"{self._path}: nothing could be written at byte {offset + done}")
            done += count

    def sync(self) -> None:
        """See `StoredFile.sync`; also drops the cached pages, so that a read-back comes from the medium where that is possible."""
        try:
            os.fdatasync(self._descriptor)
            os.posix_fadvise(self._descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        except OSError as error:
            raise ResourceError(f"{self._path}: can't be synced: {error.strerror}") from error

    def close(self) -> None:
        """Close the file; later calls do nothing."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class DirectoryStorage:
    """A `Storage` in a directory. Names are relative paths that the caller has made safe."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def open(self, name: str, length_bytes: int) -> FileOnDisk:
        """See `Storage.open`."""
        path = self._root / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            is_new = not path.exists()
        except OSError as error:
            raise ResourceError(f"{path.parent}: can't be made: {error.strerror}") from error
        file = FileOnDisk.open(path, length_bytes)
        if is_new:  # else a power cut may lose a synced file with its name
            try:
                sync_directory(path.parent)
            except OSError as error:
                file.close()
                raise ResourceError(f"{path.parent}: can't be synced: {error.strerror}") from error
        return file

    def length(self, name: str) -> int | None:
        """See `Storage.length`."""
        try:
            return (self._root / name).stat().st_size
        except FileNotFoundError:
            return None
        except OSError as error:
            raise ResourceError(f"{self._root / name}: can't be looked up: {error.strerror}") from error

    def read(self, name: str, max_bytes: int) -> bytes | None:
        """See `Storage.read`."""
        try:
            with (self._root / name).open("rb") as file:
                data = file.read(max_bytes + 1)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise ResourceError(f"{self._root / name}: can't be read: {error.strerror}") from error
        if len(data) > max_bytes:
            raise TooLongError(f"{self._root / name}: longer than {max_bytes} bytes")
        return data

    def replace(self, name: str, data: bytes) -> None:
        """See `Storage.replace`."""
        write_atomically(self._root / name, data)

    def remove(self, name: str) -> None:
        """See `Storage.remove`."""
        try:
            (self._root / name).unlink(missing_ok=True)
        except OSError as error:
            raise ResourceError(f"{self._root / name}: can't be removed: {error.strerror}") from error

    def names(self) -> list[str]:
        """Return the names of all files right in the directory, in order.

        Raises:
            ResourceError: It can't be read.
        """
        try:
            return sorted(path.name for path in self._root.iterdir() if path.is_file())
        except OSError as error:
            raise ResourceError(f"{self._root}: can't be listed: {error.strerror}") from error


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file so that its name shows the old content or all of the new: temporary file, sync, rename, sync of the directory.

    Raises:
        ResourceError: It can't be written; the old content is untouched.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).chmod(0o644)
            Path(temporary).replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                Path(temporary).unlink()
            raise
        sync_directory(path.parent)
    except OSError as error:
        raise ResourceError(f"{path}: can't be written: {error.strerror}") from error


def sync_directory(path: Path) -> None:
    """Make renames within a directory survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
