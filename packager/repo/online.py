"""Signs what is signed without people, snapshot and timestamp, and judges the result as a vehicle does."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from securesystemslib.signer import Signer
from tuf.api.metadata import MetaFile, Snapshot, Timestamp

from packager.model.errors import RepositoryError
from packager.model.policy import KeyPolicy
from packager.repo.files import locked
from packager.repo.in_force import METADATA, TIMESTAMP_NAME, InForce, read_in_force
from packager.repo.serving import FetchFromDirectory, FetchFromMemory
from packager.repo.signing import expiry, sign
from packager.repo.writes import Writes
from packager.vehicle.errors import UntrustedError
from packager.vehicle.identity import SHA256, Digest
from packager.vehicle.trust.metadata_store import Fetcher, MemoryStorage, NotFoundError, TrustedMetadata, refresh


@dataclass(frozen=True, slots=True)
class Online:
    """What signs without people.

    Attributes:
        policy: Of all roles.
        signers: By key name; those of snapshot and timestamp are used.
        now: The time, UTC, whole seconds.
    """

    policy: KeyPolicy
    signers: Mapping[str, Signer]
    now: datetime


def renew_online(
    directory: Path,
    online: Online,
    *,
    snapshot_is_due: Callable[[InForce], bool],
    anchor: bytes | None = None,
    writes: Writes | None = None,
) -> tuple[str, ...]:
    """Sign a new timestamp, and a new snapshot if it is due. Proposals are not looked at.

    Args:
        directory: ``DIR``.
        online: Signs.
        snapshot_is_due: Tells whether the snapshot needs a new life time, too.
        anchor: The root that trust starts from; None for the oldest in the directory.
        writes: For tests.

    Returns:
        Names of the new files, in the order of writing.

    Raises:
        RepositoryError: Nothing is published, a publication has not ended, or a vehicle would refuse the result.
        KeyMaterialError: A key can't sign.
        SpaceError: A file can't be written.
    """
    writes = writes or Writes()
    with locked(directory):
        writes.sweep(directory / METADATA)
        in_force = read_in_force(directory, anchor)
        if in_force.snapshot is None:
            raise RepositoryError(
                f"{directory}: found nothing published, expected a release", hint="packager repo publish"
            )
        if in_force.is_interrupted:
            raise RepositoryError(
                f"{directory}: a publication was interrupted, so that timestamp and root don't fit",
                hint="finish it: packager repo publish",
            )
        meta = in_force.snapshot.meta if snapshot_is_due(in_force) else None
        files = sign_online(directory, in_force, meta, online)
        fetcher = FetchFromMemory(files, FetchFromDirectory(directory / METADATA))
        verify_as_vehicle(fetcher, first_root(directory, anchor), online.now, in_force)
        for name, data in files.items():
            write = writes.replace if name == TIMESTAMP_NAME else writes.add
            write(directory / METADATA / name, data)
        return tuple(files)


def describe(data: bytes, version: int) -> MetaFile:
    """Return what a snapshot or timestamp says of a file."""
    return MetaFile(version, len(data), {SHA256: Digest.of(data).hex})


def sign_online(
    directory: Path, in_force: InForce, meta: Mapping[str, MetaFile] | None, online: Online
) -> dict[str, bytes]:
    """Return the next snapshot, if its content is given, and the next timestamp, by file name.

    Args:
        directory: ``DIR``: numbers of snapshots that lie there are taken.
        in_force: What the next versions follow.
        meta: Content of the snapshot by file name; None keeps the one in force.
        online: Signs.

    Raises:
        KeyMaterialError: A key can't sign.
    """
    files: dict[str, bytes] = {}
    policy = online.policy
    snapshot_meta = in_force.timestamp.snapshot_meta if in_force.timestamp is not None else None
    if meta is not None or snapshot_meta is None:
        # A publication that was killed may have left a snapshot that no timestamp lists: its number is taken.
        version = 1 + in_force.snapshot.version if in_force.snapshot is not None else 1
        while (directory / METADATA / f"{version}.snapshot.json").exists():
            version += 1
        snapshot = Snapshot(
            version=version, expires=expiry(policy.snapshot, online.now), meta=dict(sorted((meta or {}).items()))
        )
        data = sign(Snapshot.type, snapshot, policy.snapshot, online.signers)
        files[f"{version}.snapshot.json"] = data
        snapshot_meta = describe(data, version)
    timestamp = Timestamp(
        version=1 + in_force.timestamp.version if in_force.timestamp is not None else 1,
        expires=expiry(policy.timestamp, online.now),
        snapshot_meta=snapshot_meta,
    )
    files[TIMESTAMP_NAME] = sign(Timestamp.type, timestamp, policy.timestamp, online.signers)
    return files


def verify_as_vehicle(fetcher: Fetcher, root: bytes, now: datetime, known: InForce | None = None) -> TrustedMetadata:
    """Verify as a vehicle does that knows the first root and, if given, the state in force; read all that some vehicle reads.

    Raises:
        RepositoryError: A vehicle would refuse it.
    """
    storage = MemoryStorage()
    if known is not None:
        storage.files |= {f"{role}.json": data for role, data in known.files.items()}
    storage.files["root.json"] = root
    try:
        trusted = refresh(storage, fetcher, now)
        trusted.delegations.everything()
    except (UntrustedError, NotFoundError) as error:
        raise RepositoryError(
            f"metadata: a vehicle would refuse it: {error}",
            hint="if something has expired: packager repo propose --renew; else the keys at hand are not those of the root",
        ) from error
    return trusted


def first_root(directory: Path, anchor: bytes | None) -> bytes:
    """Return the root that trust starts from: the anchor, else the oldest that is published; empty if there is none.

    Raises:
        RepositoryError: It can't be read.
    """
    if anchor is not None:
        return anchor
    names = [path.name for path in (directory / METADATA).glob("*.root.json")]
    if not names:
        return b""
    try:
        return (directory / METADATA / min(names, key=lambda name: int(name.split(".")[0]))).read_bytes()
    except (OSError, ValueError) as error:
        raise RepositoryError(f"{directory / METADATA}: {error}; expected the first root") from error
