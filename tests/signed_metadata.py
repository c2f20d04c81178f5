"""All metadata of a release signed in memory by somebody who has every key: what proposing, signing and publishing must come to."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from tuf.api.metadata import MetaFile, Snapshot, Targets, Timestamp

from packager.model.errors import RepositoryError, SpaceError
from packager.repo.admission import Standing, split_role_name
from packager.repo.authority import Authority
from packager.repo.ceremony import read_root
from packager.repo.contents import Contents
from packager.repo.files import write_once
from packager.repo.serving import FetchFromMemory
from packager.repo.signing import expiry, sign
from packager.repo.targets_set import prepare
from packager.vehicle.core.targets import BundleTarget, ImageTarget
from packager.vehicle.errors import ResourceError, UntrustedError
from packager.vehicle.identity import SHA256, Digest
from packager.vehicle.storage import write_atomically
from packager.vehicle.trust import workflow
from packager.vehicle.trust.metadata_store import MemoryStorage, NotFoundError, TrustedMetadata, initialise, refresh

TIMESTAMP_NAME: Final = "timestamp.json"
_FILE_MODE: Final = 0o644
_BEFORE_ALL: Final = datetime(1970, 1, 1, tzinfo=UTC)
"""A time at which nothing has expired."""


def sign_metadata(
    authority: Authority, contents: Contents, issued_at: datetime, standing: Mapping[str, bytes] | None = None
) -> dict[str, bytes]:
    """Prepare, sign and verify all metadata that a new release needs, in memory.

    Args:
        authority: Who signs.
        contents: What is signed.
        issued_at: UTC, whole seconds; life times count from it.
        standing: All metadata of the repository by file name, which the release is added to; None for a new repository.

    Returns:
        Contents of new files by name, in the order in which they must be written: the timestamp is last.

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
    before = load_metadata(standing, authority.root, issued_at) if standing else None

    # Everything is prepared before the first signature, so that a refusal costs none.
    in_force = Standing(before.targets, _all_roles(before, standing or {})) if before else None
    payloads = prepare(policy, authority.keys, issued_at, in_force, contents)

    meta = dict(before.snapshot.meta) if before else {}
    roles = {
        name: (payload, policy.domains[split_role_name(name)[0]]) for name, payload in sorted(payloads.roles.items())
    }
    if payloads.targets is not None:
        roles["targets"] = (payloads.targets, policy.targets)
    for name, (payload, role_policy) in roles.items():
        data = sign(name, payload, role_policy, signers)
        files[f"{payload.version}.{name}.json"] = data
        meta[f"{name}.json"] = _describe(data, payload.version)
    version = before.snapshot.version + 1 if before else 1
    snapshot = Snapshot(version=version, expires=expiry(policy.snapshot, issued_at), meta=dict(sorted(meta.items())))
    snapshot_data = sign("snapshot", snapshot, policy.snapshot, signers)
    files[f"{version}.snapshot.json"] = snapshot_data
    timestamp = Timestamp(
        version=before.timestamp.version + 1 if before else 1,
        expires=expiry(policy.timestamp, issued_at),
        snapshot_meta=_describe(snapshot_data, version),
    )
    files[TIMESTAMP_NAME] = sign("timestamp", timestamp, policy.timestamp, signers)
    _check_offer(load_metadata({**(standing or {}), **files}, authority.root, issued_at), contents)
    return files


def load_metadata(files: Mapping[str, bytes], root: bytes, now: datetime) -> TrustedMetadata:
    """Verify a complete set of metadata with the vehicle's own code.

    Args:
        files: Contents by file name.
        root: The root that is trusted.
        now: Time to judge expiry by, in UTC.

    Raises:
        RepositoryError: It does not hold, or a file is missing.
    """
    storage = MemoryStorage()
    try:
        initialise(storage, root)
        return refresh(storage, FetchFromMemory(files), now)
    except (UntrustedError, NotFoundError) as error:
        raise _refused(error) from error


def verify_metadata(files: Mapping[str, bytes], root: bytes, now: datetime) -> list[ImageTarget | BundleTarget]:
    """Verify a complete set of metadata and all roles that some vehicle reads, so that nothing is published that none would take.

    Args:
        files: Contents by file name.
        root: The root that is trusted.
        now: Time to judge expiry by, in UTC.

    Returns:
        Every image and bundle of those roles, sorted by path.

    Raises:
        RepositoryError: It does not hold, or a file is missing.
    """
    try:
        return load_metadata(files, root, now).delegations.everything()
    except (UntrustedError, NotFoundError) as error:
        raise _refused(error) from error


def write_metadata(
    directory: Path,
    authority: Authority,
    contents: Contents,
    issued_at: datetime,
) -> tuple[str, ...]:
    """Sign the metadata of a release and add it to a repository, the timestamp last and only after all else was read back and verified.

    Args:
        directory: ``DIR/repo/metadata``; made if missing.
        authority: Who signs.
        contents: What is signed.
        issued_at: UTC, whole seconds.

    Returns:
        Names of the files, in the order written.

    Raises:
        RepositoryError: As `sign_metadata`; or a file of this version exists with other content. Nothing was written then.
        KeyMaterialError: A threshold can't be met. Nothing was written then.
        SpaceError: A file can't be written. No client sees what was: no timestamp leads to it.
    """
    try:
        before = {path.name: path.read_bytes() for path in sorted(directory.glob("*.json"))}
        files = sign_metadata(authority, contents, issued_at, before if TIMESTAMP_NAME in before else None)
        versioned = {name: data for name, data in files.items() if name != TIMESTAMP_NAME}
        for name in sorted(versioned):
            if before.get(name, versioned[name]) != versioned[name]:
                raise RepositoryError(
                    f"{directory / name}: exists with other content, and a published version never changes",
                    hint="remove what was never published, or take the time of issue that it has",
                )
        directory.mkdir(parents=True, exist_ok=True)
        for name, data in versioned.items():
            if name not in before:
                write_once(directory / name, data, _FILE_MODE)
        written = {path.name: path.read_bytes() for path in directory.glob("*.json")}
        verify_metadata({**written, TIMESTAMP_NAME: files[TIMESTAMP_NAME]}, authority.root, issued_at)
        write_atomically(directory / TIMESTAMP_NAME, files[TIMESTAMP_NAME])
    except (OSError, ResourceError) as error:
        raise SpaceError(f"{directory}: metadata can't be written: {error}") from error
    return tuple(files)


def _all_roles(trusted: TrustedMetadata, files: Mapping[str, bytes]) -> dict[str, Targets]:
    """Return every delegated role; superseded ones may have expired, as nobody renews what no car reads."""
    roles = {}
    delegations = trusted.targets.delegations
    for name in (delegations.roles or {}) if delegations else {}:
        version, _, _ = workflow.listed_file(trusted.snapshot, name)
        try:
            data = files[f"{version}.{name}.json"]
            roles[name] = workflow.read_delegated(data, name, trusted.targets, trusted.snapshot, _BEFORE_ALL)
        except (UntrustedError, KeyError) as error:
            raise _refused(error) from error
    return roles


def _check_offer(trusted: TrustedMetadata, contents: Contents) -> None:
    expected: dict[str, list[ImageTarget | BundleTarget]] = {}
    for target in (target for targets in contents.targets.values() for target in targets):
        expected.setdefault(target.hardware_id, []).append(target)
    try:
        trusted.delegations.everything()
        for hardware_id, targets in sorted(expected.items()):
            if trusted.delegations.of_hardware(hardware_id) != sorted(targets, key=lambda target: target.path):
                raise RepositoryError(
                    f"metadata: a vehicle would find other targets of {hardware_id!r} than those of the release"
                )
    except (UntrustedError, NotFoundError) as error:
        raise _refused(error) from error


def _refused(error: Exception) -> RepositoryError:
    return RepositoryError(
        f"metadata: a vehicle would refuse it: {error}",
        hint="the keys must be those that root.json and the policy name",
    )


def _describe(data: bytes, version: int) -> MetaFile:
    return MetaFile(version, len(data), {SHA256: Digest.of(data).hex})
