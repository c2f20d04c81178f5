"""What a repository serves at this moment, verified from its first root with the vehicle's code; expiry apart, which others judge.

A publication that was killed may have left a root that does not vouch for the timestamp beside it yet. So the state in force is the one
that the newest root that can vouches for, and the roots behind it are pending.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from tuf.api.metadata import Root, Snapshot, Targets, Timestamp

from packager.model.errors import RepositoryError
from packager.repo.serving import FetchFromDirectory
from packager.vehicle.errors import UntrustedError, VehicleError
from packager.vehicle.trust import workflow
from packager.vehicle.trust.metadata_store import NotFoundError

METADATA: Final = Path("repo/metadata")
TIMESTAMP_NAME: Final = "timestamp.json"
REGARDLESS: Final = datetime.min.replace(tzinfo=UTC)
"""A time at which nothing has expired: what is in force stays in force when its time is over."""
_ROOT_NAME: Final = re.compile(r"([1-9][0-9]{0,8})\.root\.json")


@dataclass(frozen=True, slots=True)
class InForce:
    """A verified state of a repository.

    Attributes:
        roots: All roots, oldest first; empty if there is nothing yet.
        vouching: The root that vouches for the rest: the last, unless a publication has not ended.
        timestamp: None if nothing but roots is published.
        snapshot: None likewise.
        roles: Targets roles by name: ``targets`` first, then the delegated ones in their order; empty likewise.
        files: The bytes of all of these, by role.
    """

    roots: tuple[Root, ...] = ()
    vouching: Root | None = None
    timestamp: Timestamp | None = None
    snapshot: Snapshot | None = None
    roles: Mapping[str, Targets] = field(default_factory=dict)
    files: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def root(self) -> Root | None:
        """The newest root."""
        return self.roots[-1] if self.roots else None

    @property
    def is_interrupted(self) -> bool:
        """Tell whether a publication was killed between the root and the timestamp that goes with it."""
        return self.vouching is not self.root

    @property
    def targets(self) -> Targets | None:
        """The top-level targets role."""
        return self.roles.get(Targets.type)

    @property
    def payloads(self) -> dict[str, Root | Timestamp | Snapshot | Targets]:
        """All payloads by role, in the order in which a client reads them."""
        found = {"root": self.root, "timestamp": self.timestamp, "snapshot": self.snapshot, **self.roles}
        return {role: payload for role, payload in found.items() if payload is not None}


def delegated_names(targets: Targets | None) -> tuple[str, ...]:
    """Return the roles that a targets role delegates to, in their order."""
    if targets is None or targets.delegations is None:
        return ()
    return tuple(targets.delegations.roles or {})


def listed_releases(in_force: InForce) -> set[str]:
    """Return the ids of the releases that the targets role delegates to."""
    return {name.partition(".")[2] for name in delegated_names(in_force.targets)} - {""}


def retired_releases(in_force: InForce) -> set[str]:
    """Return the ids of the releases that were in force and are no more: a snapshot forgets no role (TUF 5.5.5)."""
    names = in_force.snapshot.meta if in_force.snapshot is not None else ()
    return {name.removesuffix(".json").partition(".")[2] for name in names} - {""} - listed_releases(in_force)


def read_in_force(directory: Path, anchor: bytes | None = None) -> InForce:
    """Read ``DIR/repo/metadata``.

    Args:
        directory: ``DIR``; may be missing.
        anchor: The signed root that trust starts from; None for the oldest one in the directory.

    Raises:
        RepositoryError: It does not hold.
        ResourceError: A file can't be read.
    """
    metadata = directory / METADATA
    try:
        roots, root_data = _follow_roots(metadata, anchor)
    except UntrustedError as error:
        raise _damaged(metadata, error) from error
    if not roots:
        return InForce()
    try:
        timestamp_data = FetchFromDirectory(metadata).fetch(TIMESTAMP_NAME, workflow.MAX_TIMESTAMP_BYTES)
    except NotFoundError:
        return InForce(roots, roots[-1], files={"root": root_data})
    problem: VehicleError | None = None
    for root in reversed(roots):
        try:
            return _read_state(metadata, roots, root, {"root": root_data, "timestamp": timestamp_data})
        except (UntrustedError, NotFoundError) as error:
            problem = problem or error
    assert problem is not None  # noqa: S101 - there is a root, and it did not vouch
    raise _damaged(metadata, problem) from problem


def _follow_roots(metadata: Path, anchor: bytes | None) -> tuple[tuple[Root, ...], bytes]:
    try:
        names = [path.name for path in metadata.iterdir()]
    except FileNotFoundError:
        names = []
    versions = sorted(int(match[1]) for name in names if (match := _ROOT_NAME.fullmatch(name)))
    fetcher = FetchFromDirectory(metadata)
    if not versions:
        return (), b""
    data = anchor or fetcher.fetch(f"{versions[0]}.root.json", workflow.MAX_ROOT_BYTES)
    roots = [workflow.read_root(data)]
    first = roots[0].version
    if first in versions and fetcher.fetch(f"{first}.root.json", workflow.MAX_ROOT_BYTES) != data:
        raise UntrustedError(f"{first}.root.json: found another root of version {first} than the trusted one")
    for version in (version for version in versions if version > first):
        data = fetcher.fetch(f"{version}.root.json", workflow.MAX_ROOT_BYTES)
        roots.append(workflow.read_next_root(data, roots[-1]))
    return tuple(roots), data


def _read_state(metadata: Path, roots: tuple[Root, ...], root: Root, files: dict[str, bytes]) -> InForce:
    fetcher = FetchFromDirectory(metadata)
    timestamp = workflow.read_timestamp(files["timestamp"], root, None, REGARDLESS)
    version, length_bytes = timestamp.snapshot_meta.version, workflow.snapshot_length_bytes(timestamp)
    files["snapshot"] = fetcher.fetch(f"{version}.snapshot.json", length_bytes)
    snapshot = workflow.read_snapshot(files["snapshot"], root, timestamp, None, REGARDLESS)

    def fetch(role: str) -> bytes:
        role_version, role_bytes, _ = workflow.listed_file(snapshot, role)
        return fetcher.fetch(f"{role_version}.{role}.json", role_bytes)

    files[Targets.type] = fetch(Targets.type)
    targets = workflow.read_targets(files[Targets.type], root, snapshot, REGARDLESS)
    roles = {Targets.type: targets}
    for name in delegated_names(targets):
        files[name] = fetch(name)
        roles[name] = workflow.read_delegated(files[name], name, targets, snapshot, REGARDLESS)
    return InForce(roots, root, timestamp, snapshot, roles, files)


def _damaged(metadata: Path, error: VehicleError) -> RepositoryError:
    return RepositoryError(
        f"{metadata}: what is published does not hold: {error}",
        hint="restore it from a backup; nothing may be signed on top of it",
    )
