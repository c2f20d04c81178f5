"""Writes the metadata of a TUF repository, in the order in which a client may come by at any moment: timestamp last.

Signing keys come in as signers; a machine that has none can still prepare and check what others sign (`targets_set`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from securesystemslib.signer import Signer
from tuf.api.metadata import Key, MetaFile, Snapshot, Timestamp

from packager.model.errors import RepositoryError, SpaceError
from packager.model.policy import KeyPolicy
from packager.repo.ceremony import read_root
from packager.repo.files import write_once
from packager.repo.signing import expiry, sign
from packager.repo.targets_set import Chain, prepare_domains, prepare_targets
from packager.vehicle.errors import ResourceError, UntrustedError
from packager.vehicle.identity import SHA256, Digest
from packager.vehicle.metadata_store import MemoryStorage, NotFoundError, initialise, refresh
from packager.vehicle.storage import write_atomically
from packager.vehicle.targets import BundleTarget, ImageTarget

TIMESTAMP_NAME: Final = "timestamp.json"
_FILE_MODE: Final = 0o644


@dataclass(frozen=True, slots=True)
class Authority:
    """Who may sign, and what is needed to do it here.

    Attributes:
        policy: Roles, thresholds, life times.
        keys: Every public key of the policy, by name.
        signers: The private keys at hand, by name.
        root: The signed root, which is copied.
    """

    policy: KeyPolicy
    keys: Mapping[str, Key]
    signers: Mapping[str, Signer]
    root: bytes


@dataclass(frozen=True, slots=True)
class Contents:
    """What a release puts into the repository.

    Attributes:
        hardware: Hardware ids per domain.
        targets: Images and bundles per domain.
        chain: The evidence of the supply chain.
    """

    hardware: Mapping[str, Sequence[str]]
    targets: Mapping[str, Sequence[ImageTarget | BundleTarget]]
    chain: Chain


def sign_metadata(authority: Authority, contents: Contents, issued_at: datetime, version: int = 1) -> dict[str, bytes]:
    """Prepare, sign and verify all metadata of a release, in memory.

    Args:
        authority: Who signs.
        contents: What is signed.
        issued_at: UTC, whole seconds; life times count from it.
        version: Of every role but the root.

    Returns:
        File contents by name, in the order in which they must be written: the timestamp is last.

    Raises:
        RepositoryError: The contents are refused (`targets_set`), or what was signed does not verify against the root.
        KeyMaterialError: A threshold can't be met.
    """
    policy, signers = authority.policy, authority.signers
    root = read_root(authority.root)
    if root.is_expired(issued_at):
        raise RepositoryError(
            f"root.json: expired at {root.expires:%Y-%m-%dT%H:%M:%SZ}, the time of issue is {issued_at:%Y-%m-%dT%H:%M:%SZ}",
            hint="sign a new root",
        )
    files = {f"{root.version}.root.json": authority.root}

    # Everything is prepared before the first signature, so that a refusal costs none.
    domains = prepare_domains(policy, contents.hardware, contents.targets, issued_at, version)
    targets = prepare_targets(policy, authority.keys, contents.hardware, contents.chain, issued_at, version)

    roles = {domain: sign(domain, payload, policy.domains[domain], signers) for domain, payload in domains.items()}
    roles["targets"] = sign("targets", targets, policy.targets, signers)
    snapshot = Snapshot(
        version=version,
        expires=expiry(policy.snapshot, issued_at),
        meta={f"{role}.json": _describe(data, version) for role, data in sorted(roles.items())},
    )
    files |= {f"{version}.{role}.json": data for role, data in roles.items()}
    snapshot_data = sign("snapshot", snapshot, policy.snapshot, signers)
    files[f"{version}.snapshot.json"] = snapshot_data
    timestamp = Timestamp(
        version=version,
        expires=expiry(policy.timestamp, issued_at),
        snapshot_meta=_describe(snapshot_data, version),
    )
    files[TIMESTAMP_NAME] = sign("timestamp", timestamp, policy.timestamp, signers)
    expected = [target for targets in contents.targets.values() for target in targets]
    if verify_metadata(files, authority.root, issued_at) != sorted(expected, key=lambda target: target.path):
        raise RepositoryError("metadata: a vehicle would find other targets than those of the release")
    return files


def verify_metadata(files: Mapping[str, bytes], root: bytes, now: datetime) -> list[ImageTarget | BundleTarget]:
    """Verify a complete set of metadata with the vehicle's own code, so that nothing is published that no vehicle would take.

    Args:
        files: Contents by file name.
        root: The root that is trusted.
        now: Time to judge expiry by, in UTC.

    Returns:
        Every image and bundle that a vehicle finds in it, sorted by path.

    Raises:
        RepositoryError: It does not hold, or a file is missing.
    """
    storage = MemoryStorage()
    try:
        initialise(storage, root)
        return refresh(storage, _Files(files), now).delegations.everything()
    except (UntrustedError, NotFoundError) as error:
        raise RepositoryError(
            f"metadata: a vehicle would refuse it: {error}",
            hint="the keys must be those that root.json and the policy name",
        ) from error


def write_metadata(
    directory: Path,
    authority: Authority,
    contents: Contents,
    issued_at: datetime,
    version: int = 1,
    *,
    write_new: Callable[[Path, bytes, int], None] = write_once,
) -> tuple[str, ...]:
    """Sign all metadata of a release and write it, the timestamp last and only after all else was read back and verified.

    Args:
        directory: ``DIR/repo/metadata``; made if missing.
        authority: Who signs.
        contents: What is signed.
        issued_at: UTC, whole seconds.
        version: Of every role but the root.
        write_new: Writes one versioned file, which must not exist; for tests.

    Returns:
        Names of the files, in the order written.

    Raises:
        RepositoryError: As `sign_metadata`; or a file of this version exists with other content. Nothing was written then.
        KeyMaterialError: A threshold can't be met. Nothing was written then.
        SpaceError: A file can't be written. No client sees what was: no timestamp leads to it.
    """
    files = sign_metadata(authority, contents, issued_at, version)
    versioned = {name: data for name, data in files.items() if name != TIMESTAMP_NAME}
    try:
        standing = {name for name in versioned if (directory / name).exists()}
        for name in sorted(standing):
            if (directory / name).read_bytes() != versioned[name]:
                raise RepositoryError(
                    f"{directory / name}: exists with other content, and a published version never changes",
                    hint="raise the version",
                )
        directory.mkdir(parents=True, exist_ok=True)
        for name, data in versioned.items():
            if name not in standing:
                write_new(directory / name, data, _FILE_MODE)
        written = {name: (directory / name).read_bytes() for name in versioned}
        verify_metadata({**written, TIMESTAMP_NAME: files[TIMESTAMP_NAME]}, authority.root, issued_at)
        write_atomically(directory / TIMESTAMP_NAME, files[TIMESTAMP_NAME])
    except (OSError, ResourceError) as error:
        raise SpaceError(f"{directory}: metadata can't be written: {error}") from error
    return tuple(files)


def _describe(data: bytes, version: int) -> MetaFile:
    return MetaFile(version, len(data), {SHA256: Digest.of(data).hex})


@dataclass(frozen=True, slots=True)
class _Files:
    """Serves metadata from memory; a `packager.vehicle.metadata_store.Fetcher`."""

    files: Mapping[str, bytes]

    def fetch(self, path: str, max_bytes: int) -> bytes:
        if path not in self.files:
            raise NotFoundError(f"{path}: is missing")
        if len(self.files[path]) > max_bytes:
            raise UntrustedError(f"{path}: found {len(self.files[path])} bytes, expected at most {max_bytes}")
        return self.files[path]
