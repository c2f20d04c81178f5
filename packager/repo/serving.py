"""Serves metadata to the vehicle's own code, so that what was or will be published is judged as a vehicle judges it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from packager.vehicle.errors import ResourceError, UntrustedError
from packager.vehicle.trust.metadata_store import Fetcher, NotFoundError


@dataclass(frozen=True, slots=True)
class FetchFromDirectory:
    """Gets metadata from a directory; a `packager.vehicle.trust.metadata_store.Fetcher`.

    Attributes:
        directory: The metadata's.
    """

    directory: Path

    def fetch(self, path: str, max_bytes: int) -> bytes:
        """See `Fetcher.fetch`."""
        file_path = self.directory / _name(path)
        try:
            with file_path.open("rb") as file:
                data = file.read(max_bytes + 1)
        except FileNotFoundError as error:
            raise NotFoundError(f"{file_path}: is missing") from error
        except OSError as error:
            raise ResourceError(f"{file_path}: can't be read: {error.strerror}") from error
        return _bounded(str(file_path), data, max_bytes)


@dataclass(frozen=True, slots=True)
class FetchFromMemory:
    """Gets metadata from memory, and what is not there from elsewhere; a `packager.vehicle.trust.metadata_store.Fetcher`.

    Attributes:
        files: Content by name.
        beneath: Asked for what `files` lacks; None for nobody.
    """

    files: Mapping[str, bytes]
    beneath: Fetcher | None = None

    def fetch(self, path: str, max_bytes: int) -> bytes:
        """See `Fetcher.fetch`."""
        name = _name(path)
        if name in self.files:
            return _bounded(name, self.files[name], max_bytes)
        if self.beneath is not None:
            return self.beneath.fetch(path, max_bytes)
        raise NotFoundError(f"{path}: is missing")


def _name(path: str) -> str:
    """Return the name of the file that a server would read: vehicles quote the names of roles (CVE-2021-41131)."""
    name = unquote(path)
    if "/" in name:
        raise NotFoundError(f"{path}: is missing; metadata lies in one directory")
    return name


def _bounded(what: str, data: bytes, max_bytes: int) -> bytes:
    if len(data) > max_bytes:
        raise UntrustedError(f"{what}: longer than {max_bytes} bytes, expected at most that many")
    return data
