"""Drives the rules of `trust` over stored and fetched bytes: what is stored was verified, and is written only when all of a refresh held.

Names are unversioned: ``root.json``, ``timestamp.json``, ``snapshot.json``, ``targets.json``, ``<role>.json``. Roots are written as they
are verified (TUF 5.3.8). Everything else waits, by the strict policy, until root, timestamp, snapshot and targets all hold, the timestamp
last: so nothing that fails leaves a trace, and a timestamp whose snapshot is refused can't lock the car out (CVE-2025-2888). Nothing was
used of it either.
"""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol, TypeVar
from urllib.parse import quote

from tuf.api.metadata import MetaFile, Root, Snapshot, Targets, Timestamp

from packager.vehicle.errors import TemporaryError, UntrustedError
from packager.vehicle.identity import SHA256, Digest
from packager.vehicle.storage import TooLongError
from packager.vehicle.trust import workflow
from packager.vehicle.trust.delegations import DelegationTree
from packager.vehicle.trust.policy import STRICT, TrustPolicy

ROOT: Final = "root.json"
TIMESTAMP: Final = "timestamp.json"
SNAPSHOT: Final = "snapshot.json"
T = TypeVar("T")


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
        """Return a file's content, None if there is none.

        Raises:
            TooLongError: Longer than `max_bytes`.
        """

    def replace(self, name: str, data: bytes) -> None:
        """Write a file atomically."""

    def remove(self, name: str) -> None:
        """Remove a file if it is there."""

    def names(self) -> list[str]:
        """Return the names of all files, in order."""


class MemoryStorage:
    """A `MetadataStorage` that forgets: for one check of a finished release."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}

    def read(self, name: str, max_bytes: int) -> bytes | None:
        """See `MetadataStorage.read`."""
        data = self.files.get(name)
        if data is not None and len(data) > max_bytes:
            raise TooLongError(f"{name}: longer than {max_bytes} bytes")
        return data

    def replace(self, name: str, data: bytes) -> None:
        """See `MetadataStorage.replace`."""
        self.files[name] = data

    def remove(self, name: str) -> None:
        """See `MetadataStorage.remove`."""
        self.files.pop(name, None)

    def names(self) -> list[str]:
        """See `MetadataStorage.names`."""
        return sorted(self.files)


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


def initialise(storage: MetadataStorage, data: bytes, policy: TrustPolicy = STRICT) -> Root:
    """Make `data` the root that trust starts from; the same again changes nothing.

    Raises:
        UntrustedError: It does not hold by itself, or another one is trusted already.
    """
    root = workflow.read_root(data, policy)
    stored = _read(storage, ROOT, workflow.MAX_ROOT_BYTES)
    if stored is None:
        storage.replace(ROOT, data)
    elif stored != data:
        raise UntrustedError(
            f"root.json: found root version {root.version}, but another one is trusted already "
            f"(version {workflow.read_root(stored, policy).version}); roots are replaced by rotation only"
        )
    return root


def refresh(storage: MetadataStorage, fetcher: Fetcher, now: datetime, policy: TrustPolicy = STRICT) -> TrustedMetadata:
    """Bring trusted metadata up to date (TUF 5.3 to 5.6).

    Args:
        storage: Where `initialise` put the first root.
        fetcher: The repository.
        now: The time, UTC.
        policy: What the repository may leave open.

    Raises:
        ExpiredError: The newest metadata has expired.
        UntrustedError: Anything does not hold; the storage is as it was, but for verified roots.
        TemporaryError: The repository can't be read, or has more roots than one refresh follows.
        ResourceError: The storage failed.
    """
    root = _follow_roots(storage, fetcher, read_stored_root(storage, policy), policy)
    workflow.check_expiry(root, ROOT, now)
    known_timestamp = _stored_timestamp(storage, root, policy)
    known_snapshot = _stored_snapshot(storage, root, policy)
    files = _Files(storage, fetcher, policy, is_versioned=root.consistent_snapshot is True)
    timestamp_data = fetcher.fetch(TIMESTAMP, workflow.MAX_TIMESTAMP_BYTES)
    timestamp = workflow.read_timestamp(timestamp_data, root, known_timestamp, now, policy)
    if timestamp is not known_timestamp:
        files.keep(TIMESTAMP, timestamp_data)
    snapshot = files.get(
        SNAPSHOT,
        timestamp.snapshot_meta,
        workflow.snapshot_length_bytes(timestamp, policy),
        lambda data: workflow.read_snapshot(data, root, timestamp, known_snapshot, now, policy),
    )
    targets = files.get_role(
        Targets.type, snapshot, lambda data: workflow.read_targets(data, root, snapshot, now, policy)
    )
    files.commit()
    return _trusted(files, root, timestamp, snapshot, targets, now)


def read_stored(storage: MetadataStorage, now: datetime) -> TrustedMetadata:
    """Return what the last refresh left, without the network.

    Raises:
        UntrustedError: Nothing is stored, or it does not hold (any more).
        NotFoundError: A role was never fetched.
    """
    root = read_stored_root(storage)
    timestamp_data = _read(storage, TIMESTAMP, workflow.MAX_TIMESTAMP_BYTES)
    snapshot_data = _read(storage, SNAPSHOT, workflow.MAX_SNAPSHOT_BYTES)
    if timestamp_data is None or snapshot_data is None:
        raise UntrustedError("metadata: no refresh was made yet; run refresh")
    timestamp = workflow.read_timestamp(timestamp_data, root, None, now)
    snapshot = workflow.read_snapshot(snapshot_data, root, timestamp, None, now)
    files = _Files(storage, None, STRICT, is_versioned=True)
    targets = files.get_role(Targets.type, snapshot, lambda data: workflow.read_targets(data, root, snapshot, now))
    return _trusted(files, root, timestamp, snapshot, targets, now)


def remove_unneeded(storage: MetadataStorage, trusted: TrustedMetadata) -> None:
    """Remove the files of roles that `trusted` was not asked for: superseded by a newer release, dropped, or of other hardware.

    Rollback protection loses nothing: the snapshot stays, and tells the version and hash of every role. Should a role be needed after
    all, it is fetched again and must be the one that is listed. Whatever a power cut leaves over goes the next time.

    Args:
        storage: Where `refresh` has put the very metadata.
        trusted: Metadata that holds, from which everything was read that the vehicle needs.

    Raises:
        ResourceError: The storage failed.
    """
    needed = {ROOT, TIMESTAMP, SNAPSHOT, *map(_file_name, (Targets.type, *trusted.delegations.loaded()))}
    for name in storage.names():
        is_left_over = name.startswith(".")  # by a power cut, before its name was given
        if name not in needed and (is_left_over or name.endswith(".json")):
            storage.remove(name)


def read_stored_root(storage: MetadataStorage, policy: TrustPolicy = STRICT) -> Root:
    """Return the trusted root.

    Raises:
        UntrustedError: There is none.
    """
    data = _read(storage, ROOT, workflow.MAX_ROOT_BYTES)
    if data is None:
        raise UntrustedError("root.json: no root is trusted yet; run init with the root of the repository")
    return workflow.read_root(data, policy)


class _Files:
    """Verified metadata files: from the storage if it has what is listed, else fetched and kept."""

    def __init__(
        self, storage: MetadataStorage, fetcher: Fetcher | None, policy: TrustPolicy, *, is_versioned: bool
    ) -> None:
        self._storage = storage
        self._fetcher = fetcher
        self.policy = policy
        self._is_versioned = is_versioned
        self._waiting: list[tuple[str, bytes]] = []
        self._is_committed = policy.stores_each

    def get(self, name: str, meta: MetaFile, max_bytes: int, verify: Callable[[bytes], T]) -> T:
        """Return the file `name` as `verify` returns it."""
        stored = _read(self._storage, name, workflow.MAX_TARGETS_BYTES)
        if stored is not None:
            if (
                not self.policy.requires_length_and_hash
            ):  # then only its content tells whether it is the one that is listed
                with contextlib.suppress(UntrustedError):
                    return verify(stored)
            elif len(stored) == meta.length and Digest.of(stored).hex == (meta.hashes or {}).get(SHA256):
                verified = verify(stored)
                self.keep(name, stored)
                return verified
        if self._fetcher is None:
            raise NotFoundError(f"{name}: version {meta.version} was not fetched yet; run refresh")
        data = self._fetcher.fetch(f"{meta.version}.{name}" if self._is_versioned else name, max_bytes)
        verified = verify(data)
        self.keep(name, data)
        return verified

    def get_role(self, role: str, snapshot: Snapshot, verify: Callable[[bytes], Targets]) -> Targets:
        """Return a targets role that the snapshot lists."""
        meta = workflow.listed_role(snapshot, role)
        max_bytes = workflow.role_length_bytes(snapshot, role, self.policy)
        return self.get(_file_name(role), meta, max_bytes, verify)

    def keep(self, name: str, data: bytes) -> None:
        """Store a verified file, or remember it until `commit`."""
        if not self._is_committed:
            self._waiting.append((name, data))
        elif self._fetcher is not None and _read(self._storage, name, workflow.MAX_TARGETS_BYTES) != data:
            self._storage.replace(name, data)

    def commit(self) -> None:
        """Store what waited, the first, which is the timestamp, last."""
        self._is_committed = True
        while self._waiting:
            self.keep(*self._waiting.pop())


def _trusted(
    files: _Files, root: Root, timestamp: Timestamp, snapshot: Snapshot, targets: Targets, now: datetime
) -> TrustedMetadata:
    policy = files.policy

    def load(name: str, _: str, delegator: Targets) -> Targets:
        return files.get_role(
            name, snapshot, lambda data: workflow.read_delegated(data, name, delegator, snapshot, now, policy)
        )

    tree = DelegationTree(targets, load, requires_safe_names=policy.requires_safe_names)
    return TrustedMetadata(root, timestamp, snapshot, targets, tree)


def _follow_roots(storage: MetadataStorage, fetcher: Fetcher, root: Root, policy: TrustPolicy) -> Root:
    for rotations in range(workflow.MAX_ROOT_ROTATIONS + 1):
        try:
            data = fetcher.fetch(f"{root.version + 1}.{ROOT}", workflow.MAX_ROOT_BYTES)
        except NotFoundError:
            return root
        if rotations == workflow.MAX_ROOT_ROTATIONS:
            break
        following = workflow.read_next_root(data, root, policy)
        if workflow.rotates_online_keys(root, following):
            # Before the root is stored: a power cut in between must not leave fast-forwarded versions under the new root.
            storage.remove(TIMESTAMP)
            storage.remove(SNAPSHOT)
        storage.replace(ROOT, data)
        root = following
    raise TemporaryError(
        f"root.json: more than {workflow.MAX_ROOT_ROTATIONS} new roots; version {root.version} is reached, run again"
    )


def _stored_timestamp(storage: MetadataStorage, root: Root, policy: TrustPolicy) -> Timestamp | None:
    """Return the stored timestamp if the root still vouches for it; after a rotation of its keys it does not."""
    data = _read(storage, TIMESTAMP, workflow.MAX_TIMESTAMP_BYTES)
    with contextlib.suppress(UntrustedError):
        return None if data is None else workflow.read_stored_timestamp(data, root, policy)
    return None


def _stored_snapshot(storage: MetadataStorage, root: Root, policy: TrustPolicy) -> Snapshot | None:
    data = _read(storage, SNAPSHOT, workflow.MAX_SNAPSHOT_BYTES)
    with contextlib.suppress(UntrustedError):
        return None if data is None else workflow.read_stored_snapshot(data, root, policy)
    return None


def _file_name(role: str) -> str:
    """Return a role's file name. It is quoted: it goes into a path and a URL (CVE-2021-41131)."""
    return f"{quote(role, safe='')}.json"


def _read(storage: MetadataStorage, name: str, max_bytes: int) -> bytes | None:
    """Return a stored file. One that is too long was damaged: nothing is returned that could hold, so that it is replaced as others are."""
    try:
        return storage.read(name, max_bytes)
    except TooLongError:
        return b""
