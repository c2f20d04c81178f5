"""Drives the rules of `trust` over stored and fetched bytes: what is stored was verified, and is written only when all of a refresh held.

Names are unversioned: ``root.json``, ``timestamp.json``, ``snapshot.json``, ``targets.json``, ``<role>.json``. Roots are written as they
are verified (TUF 5.3.8). Everything else waits until root, timestamp, snapshot and targets all hold, the timestamp last: so nothing that
fails leaves a trace, and a timestamp whose snapshot is refused can't lock the car out (CVE-2025-2888). Nothing was used of it either.
"""

import contextlib
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol

from tuf.api.metadata import Root, Snapshot, Targets, Timestamp

from packager.vehicle import trust
from packager.vehicle.delegations import DelegationTree
from packager.vehicle.errors import TemporaryError, UntrustedError
from packager.vehicle.identity import Digest

ROOT: Final = "root.json"
TIMESTAMP: Final = "timestamp.json"
SNAPSHOT: Final = "snapshot.json"


class NotFoundError(TemporaryError):
    """The server does not have the file, or not yet."""


class Fetcher(Protocol):
    """Gets metadata files of a repository."""

    def fetch(self, path: str, max_bytes: int) -> bytes:
        """Return the file at `path`, relative to the metadata.

        Raises:
            NotFoundError: There is none.
            UntrustedError: It is longer than `max_bytes`; no more than that is read.
            TemporaryError: It can't be had now.
        """


class MetadataStorage(Protocol):
    """Keeps verified metadata; `packager.vehicle.storage.DirectoryStorage` is one."""

    def read(self, name: str, max_bytes: int) -> bytes | None:
        """Return a file's content, None if there is none."""

    def replace(self, name: str, data: bytes) -> None:
        """Write a file atomically."""

    def remove(self, name: str) -> None:
        """Remove a file if it is there."""


class MemoryStorage:
    """A `MetadataStorage` that forgets: for one check of a finished release."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}

    def read(self, name: str, max_bytes: int) -> bytes | None:
        """See `MetadataStorage.read`."""
        data = self.files.get(name)
        return None if data is None or len(data) > max_bytes else data

    def replace(self, name: str, data: bytes) -> None:
        """See `MetadataStorage.replace`."""
        self.files[name] = data

    def remove(self, name: str) -> None:
        """See `MetadataStorage.remove`."""
        self.files.pop(name, None)


@dataclass(frozen=True, slots=True)
class TrustedMetadata:
    """One verified state of a repository. Made by `refresh` and `read_stored`.

    Attributes:
        root: The newest root.
        timestamp: The timestamp.
        snapshot: The snapshot that it lists.
        targets: The top-level targets role that the snapshot lists.
        delegations: Finds targets, and loads delegated roles as they are needed.
    """

    root: Root
    timestamp: Timestamp
    snapshot: Snapshot
    targets: Targets
    delegations: DelegationTree


def initialise(storage: MetadataStorage, data: bytes) -> Root:
    """Make `data` the root that trust starts from; the same again changes nothing.

    Raises:
        UntrustedError: It does not hold by itself, or another one is trusted already.
    """
    root = trust.read_root(data)
    stored = storage.read(ROOT, trust.MAX_ROOT_BYTES)
    if stored is None:
        storage.replace(ROOT, data)
    elif stored != data:
        raise UntrustedError(
            f"root.json: found root version {root.version}, but another one is trusted already "
            f"(version {trust.read_root(stored).version}); roots are replaced by rotation only"
        )
    return root


def refresh(storage: MetadataStorage, fetcher: Fetcher, now: datetime) -> TrustedMetadata:
    """Bring trusted metadata up to date (TUF 5.3 to 5.6).

    Args:
        storage: Where `initialise` put the first root.
        fetcher: The repository.
        now: The time, UTC.

    Raises:
        ExpiredError: The newest metadata has expired.
        UntrustedError: Anything does not hold; the storage is as it was, but for verified roots.
        TemporaryError: The repository can't be read, or has more roots than one refresh follows.
        ResourceError: The storage failed.
    """
    root = _follow_roots(storage, fetcher, read_stored_root(storage))
    trust.check_expiry(root, ROOT, now)
    known_timestamp = _stored_timestamp(storage, root)
    known_snapshot = _stored_snapshot(storage, root)
    timestamp_data = fetcher.fetch(TIMESTAMP, trust.MAX_TIMESTAMP_BYTES)
    timestamp = trust.read_timestamp(timestamp_data, root, known_timestamp, now)
    files = _Files(storage, fetcher)
    meta = timestamp.snapshot_meta
    length_bytes = trust.snapshot_length_bytes(timestamp)
    snapshot_data = files.get(SNAPSHOT, meta.version, length_bytes, (meta.hashes or {}).get("sha256", ""))
    snapshot = trust.read_snapshot(snapshot_data, root, timestamp, known_snapshot, now)
    targets_data = files.get_listed(snapshot, Targets.type)
    targets = trust.read_targets(targets_data, root, snapshot, now)
    for name, data in ((f"{Targets.type}.json", targets_data), (SNAPSHOT, snapshot_data), (TIMESTAMP, timestamp_data)):
        files.keep(name, data)
    return _trusted(files, root, timestamp, snapshot, targets, now)


def read_stored(storage: MetadataStorage, now: datetime) -> TrustedMetadata:
    """Return what the last refresh left, without the network.

    Raises:
        UntrustedError: Nothing is stored, or it does not hold (any more).
        NotFoundError: A role was never fetched.
    """
    root = read_stored_root(storage)
    timestamp_data = storage.read(TIMESTAMP, trust.MAX_TIMESTAMP_BYTES)
    snapshot_data = storage.read(SNAPSHOT, trust.MAX_SNAPSHOT_BYTES)
    if timestamp_data is None or snapshot_data is None:
        raise UntrustedError("metadata: no refresh was made yet; run refresh")
    timestamp = trust.read_timestamp(timestamp_data, root, None, now)
    snapshot = trust.read_snapshot(snapshot_data, root, timestamp, None, now)
    files = _Files(storage, None)
    targets = trust.read_targets(files.get_listed(snapshot, Targets.type), root, snapshot, now)
    return _trusted(files, root, timestamp, snapshot, targets, now)


def read_stored_root(storage: MetadataStorage) -> Root:
    """Return the trusted root.

    Raises:
        UntrustedError: There is none.
    """
    data = storage.read(ROOT, trust.MAX_ROOT_BYTES)
    if data is None:
        raise UntrustedError("root.json: no root is trusted yet; run init with the root of the repository")
    return trust.read_root(data)


class _Files:
    """Metadata files by signed version, length and hash: from the storage if it has them, else fetched."""

    def __init__(self, storage: MetadataStorage, fetcher: Fetcher | None) -> None:
        self._storage = storage
        self._fetcher = fetcher

    def get(self, name: str, version: int, length_bytes: int, sha256: str) -> bytes:
        stored = self._storage.read(name, trust.MAX_TARGETS_BYTES)
        if stored is not None and len(stored) == length_bytes and Digest.of(stored).hex == sha256:
            return stored
        if self._fetcher is None:
            raise NotFoundError(f"{name}: version {version} was not fetched yet; run refresh")
        return self._fetcher.fetch(f"{version}.{name}", length_bytes)

    def get_listed(self, snapshot: Snapshot, role: str) -> bytes:
        version, length_bytes, digest = trust.listed_file(snapshot, role)
        return self.get(f"{role}.json", version, length_bytes, digest.hex)

    def keep(self, name: str, data: bytes) -> None:
        if self._fetcher is not None and self._storage.read(name, trust.MAX_TARGETS_BYTES) != data:
            self._storage.replace(name, data)


def _trusted(
    files: _Files, root: Root, timestamp: Timestamp, snapshot: Snapshot, targets: Targets, now: datetime
) -> TrustedMetadata:
    def load(name: str, _: str, delegator: Targets) -> Targets:
        data = files.get_listed(snapshot, name)
        role = trust.read_delegated(data, name, delegator, snapshot, now)
        files.keep(f"{name}.json", data)
        return role

    return TrustedMetadata(root, timestamp, snapshot, targets, DelegationTree(targets, load))


def _follow_roots(storage: MetadataStorage, fetcher: Fetcher, root: Root) -> Root:
    for rotations in range(trust.MAX_ROOT_ROTATIONS + 1):
        try:
            data = fetcher.fetch(f"{root.version + 1}.{ROOT}", trust.MAX_ROOT_BYTES)
        except NotFoundError:
            return root
        if rotations == trust.MAX_ROOT_ROTATIONS:
            break
        following = trust.read_next_root(data, root)
        if trust.rotates_online_keys(root, following):
            # Before the root is stored: a power cut in between must not leave fast-forwarded versions under the new root.
            storage.remove(TIMESTAMP)
            storage.remove(SNAPSHOT)
        storage.replace(ROOT, data)
        root = following
    raise TemporaryError(
        f"root.json: more than {trust.MAX_ROOT_ROTATIONS} new roots; version {root.version} is reached, run again"
    )


def _stored_timestamp(storage: MetadataStorage, root: Root) -> Timestamp | None:
    """Return the stored timestamp if the root still vouches for it; after a rotation of its keys it does not."""
    data = storage.read(TIMESTAMP, trust.MAX_TIMESTAMP_BYTES)
    with contextlib.suppress(UntrustedError):
        return None if data is None else trust.read_stored_timestamp(data, root)
    return None


def _stored_snapshot(storage: MetadataStorage, root: Root) -> Snapshot | None:
    data = storage.read(SNAPSHOT, trust.MAX_SNAPSHOT_BYTES)
    with contextlib.suppress(UntrustedError):
        return None if data is None else trust.read_stored_snapshot(data, root)
    return None
