"""A client of any TUF repository: files into directories, no vehicle home. The rules are those of `trust`, by the policy `PLAIN`.

It keeps no time floor and switches nothing; what is done to a car stands in `install`.
"""

import contextlib
import os
import tempfile
from datetime import datetime
from pathlib import Path
from typing import Final
from urllib.parse import quote

from tuf.api.metadata import TargetFile

from packager.vehicle.errors import IncompatibleError, ResourceError, UntrustedError
from packager.vehicle.storage import DirectoryStorage
from packager.vehicle.transport.fetch import BundleSource
from packager.vehicle.trust import metadata_store
from packager.vehicle.trust.metadata_store import Fetcher, TrustedMetadata
from packager.vehicle.trust.policy import PLAIN, Hashes

_CHUNK_BYTES: Final = 1 << 20


def trust_root(metadata_dir: Path, data: bytes) -> int:
    """Trust a root, the first step; return its version.

    Raises:
        UntrustedError: It does not hold, or another one is trusted already.
        ResourceError: It can't be stored.
    """
    return metadata_store.initialise(DirectoryStorage(metadata_dir), data, PLAIN).version


def refresh(metadata_dir: Path, metadata: Fetcher, now: datetime) -> TrustedMetadata:
    """Bring the metadata in a directory up to date; every file is stored once it holds.

    Raises:
        UntrustedError: Anything does not hold.
        TemporaryError: The repository can't be read.
        ResourceError: The directory failed.
    """
    return metadata_store.refresh(DirectoryStorage(metadata_dir), metadata, now, PLAIN)


def download(trusted: TrustedMetadata, targets: BundleSource, name: str, target_dir: Path) -> Path:
    """Return the file of a target, downloaded unless it is there already with the hashes that are signed now.

    Args:
        trusted: What `refresh` returned.
        targets: The repository's targets.
        name: Target path.
        target_dir: Gets the file, under its quoted path, whole or not at all.

    Raises:
        IncompatibleError: No role that is responsible for it lists it.
        UntrustedError: A role on the way, or the file, does not hold.
        TemporaryError: It can't be had now.
        ResourceError: It can't be written.
    """
    target = trusted.delegations.find(name)
    if target is None:
        raise IncompatibleError(f"target {name!r}: the repository lists none; expected the path of a target")
    hashes = Hashes(target.hashes, f"target {name!r}", PLAIN)
    path = target_dir / quote(name, safe="")
    if not _is_whole(path, target):
        _fetch(targets, _served_path(name, hashes if trusted.root.consistent_snapshot else None), target, hashes, path)
    return path


def _served_path(name: str, prefix: Hashes | None) -> str:
    """Return the quoted path of a target on the server: with a hash before the file's name if snapshots are consistent."""
    folder, slash, file = name.rpartition("/")
    first = "" if prefix is None else f"{next(iter(prefix.expected.values()))}."
    return quote(f"{folder}{slash}{first}{file}")


def _is_whole(path: Path, target: TargetFile) -> bool:
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_size != target.length:
                return False
            hashes = Hashes(target.hashes, str(path), PLAIN)
            while chunk := file.read(_CHUNK_BYTES):
                hashes.update(chunk)
            hashes.check()
    except (OSError, UntrustedError):
        return False
    return True


def _fetch(targets: BundleSource, served_path: str, target: TargetFile, hashes: Hashes, path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".download-", delete=False) as file:
            try:
                for chunk in targets.stream(served_path, 0, target.length):
                    file.write(chunk)
                    hashes.update(chunk)
                hashes.check()
                file.flush()
                os.fsync(file.fileno())
                Path(file.name).replace(path)
            except BaseException:
                with contextlib.suppress(OSError):
                    Path(file.name).unlink()
                raise
    except OSError as error:
        raise ResourceError(f"{path}: can't be written: {error.strerror}") from error
