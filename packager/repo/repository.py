"""Writes the metadata of a TUF repository, in the order in which a client may come by at any moment: timestamp last.

Signing keys come in as signers; a machine that has none can still prepare and check what others sign (`targets_set`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from securesystemslib.signer import Signer
from tuf.api.exceptions import RepositoryError as TufError
from tuf.api.metadata import Key, MetaFile, Root, Snapshot, Targets, Timestamp

from packager.model.errors import RepositoryError, SpaceError
from packager.model.policy import KeyPolicy
from packager.repo.ceremony import read_root
from packager.repo.files import write_once
from packager.repo.signing import expiry, sign, verify
from packager.repo.targets_set import Chain, prepare_domains, prepare_targets
from packager.vehicle.errors import ResourceError
from packager.vehicle.identity import SHA256, Digest
from packager.vehicle.storage import write_atomically
from packager.vehicle.targets import BundleTarget, ImageTarget

TIMESTAMP_NAME: Final = "timestamp.json"
MAX_METADATA_BYTES: Final = 5_000_000
"""As TUF clients bound a targets role (python-tuf `UpdaterConfig.targets_max_length`)."""

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
            f"root: expired at {root.expires:%Y-%m-%d %H:%M:%S} UTC, before the time of issue {issued_at:%Y-%m-%d}"
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
    for name, data in files.items():
        if len(data) > MAX_METADATA_BYTES:
            raise RepositoryError(
                f"{name}: found {len(data)} bytes, a client takes {MAX_METADATA_BYTES}", hint="split the domain"
            )
    verify_metadata(files, root, issued_at)
    return files


def verify_metadata(files: Mapping[str, bytes], root: Root, now: datetime | None = None) -> dict[str, Targets]:
    """Verify a complete set of metadata the way a client walks it: root, timestamp, snapshot, targets, every domain and its paths.

    Args:
        files: Contents by file name.
        root: Verified.
        now: Time to judge expiry by, in UTC; None if that does not matter.

    Returns:
        The verified targets roles by name: ``targets`` and the domains.

    Raises:
        RepositoryError: A file is missing, too few keys signed it, its version, length or hash differs from what signed metadata says,
            a domain has a target outside its paths, or something expired.
    """
    timestamp = verify("timestamp", _file(files, TIMESTAMP_NAME), root, Timestamp)
    snapshot = verify("snapshot", _fetch(files, "snapshot", timestamp.snapshot_meta), root, Snapshot)
    if "targets.json" not in snapshot.meta:
        raise RepositoryError("snapshot: found no targets.json, expected it")
    top = verify("targets", _fetch(files, "targets", snapshot.meta["targets.json"]), root, Targets)
    delegations = (top.delegations.roles or {}) if top.delegations else {}
    found = {"targets": top}
    for role, delegation in delegations.items():
        meta = snapshot.meta.get(f"{role}.json")
        if meta is None:
            raise RepositoryError(f"snapshot: found no {role}.json, expected every delegated role")
        found[role] = verify(role, _fetch(files, role, meta), top, Targets)
        for path in found[role].targets:
            if not delegation.is_delegated_path(path):
                raise RepositoryError(
                    f"role {role!r}: found target {path!r}, expected only {', '.join(delegation.paths or ())}"
                )
    if now is not None:
        for name, payload in {"root": root, "timestamp": timestamp, "snapshot": snapshot, **found}.items():
            if payload.is_expired(now):
                raise RepositoryError(
                    f"role {name!r}: expired at {payload.expires:%Y-%m-%d %H:%M:%S} UTC, now is {now:%Y-%m-%d %H:%M:%S}",
                    hint="publish again",
                )
    return found


def read_metadata(directory: Path) -> dict[str, bytes]:
    """Read the metadata files of a repository, unverified, by name.

    Raises:
        RepositoryError: They can't be read, or one is larger than a client would take.
    """
    files = {}
    try:
        for path in sorted(directory.glob("*.json")):
            with path.open("rb") as file:
                files[path.name] = file.read(MAX_METADATA_BYTES + 1)
            if len(files[path.name]) > MAX_METADATA_BYTES:
                raise RepositoryError(f"{path}: found more than {MAX_METADATA_BYTES} bytes, expected less")
    except OSError as error:
        raise RepositoryError(f"{directory}: metadata can't be read: {error}") from error
    if not files:
        raise RepositoryError(
            f"{directory}: found no metadata, expected {TIMESTAMP_NAME} and more", hint="is it DIR/repo/metadata?"
        )
    return files


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
        verify_metadata({**written, TIMESTAMP_NAME: files[TIMESTAMP_NAME]}, read_root(authority.root))
        write_atomically(directory / TIMESTAMP_NAME, files[TIMESTAMP_NAME])
    except (OSError, ResourceError) as error:
        raise SpaceError(f"{directory}: metadata can't be written: {error}") from error
    return tuple(files)


def _describe(data: bytes, version: int) -> MetaFile:
    return MetaFile(version, len(data), {SHA256: Digest.of(data).hex})


def _file(files: Mapping[str, bytes], name: str) -> bytes:
    if name not in files:
        raise RepositoryError(f"{name}: is missing, expected it beside {TIMESTAMP_NAME}")
    return files[name]


def _fetch(files: Mapping[str, bytes], role: str, meta: MetaFile) -> bytes:
    data = _file(files, f"{meta.version}.{role}.json")
    if meta.length is None or SHA256 not in (meta.hashes or {}):
        raise RepositoryError(f"{role}: found no length or no {SHA256} in signed metadata, expected both")
    try:
        meta.verify_length_and_hashes(data)
    except TufError as error:
        raise RepositoryError(f"{meta.version}.{role}.json: {error}") from error
    return data
