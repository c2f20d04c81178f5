"""Makes what was proposed and signed take force: bundles, roles, snapshot, roots, and the timestamp last.

All of it is verified with the vehicle's code from the first root on, before the first write in memory and before the timestamp on disk.
The roots come next to last: a root that changes the online keys is not followed by the timestamp of old, and the time between these two
writes is all that a car can see of it. Killed anywhere, a publication is finished by running it again.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from securesystemslib.signer import Key
from tuf.api.metadata import Root, Targets

from packager.model.errors import RepositoryError
from packager.repo.admission import split_role_name
from packager.repo.contents import TARGETS
from packager.repo.files import locked
from packager.repo.in_force import METADATA, TIMESTAMP_NAME, InForce, delegated_names, read_in_force, retired_releases
from packager.repo.keys import DEMO_MARKER, is_demo
from packager.repo.online import Online, describe, first_root, sign_online, verify_as_vehicle
from packager.repo.serving import FetchFromDirectory, FetchFromMemory
from packager.repo.staged import STAGED, StagedFile, demands, read_staged
from packager.repo.writes import Writes, identify
from packager.vehicle.core.targets import CHAIN, IMAGE
from packager.vehicle.errors import UntrustedError
from packager.vehicle.identity import SHA256, Digest, ImageId
from packager.vehicle.trust import workflow
from packager.vehicle.trust.metadata_store import TrustedMetadata

TREES: Final = (CHAIN, "evidence")
"""What lies beside ``repo``, per release and unserved."""

RETIRED: Final = "retired"
"""Where these go when no car reads the release any more and the targets role does not list it."""

CheckChain = Callable[[str, Path, TrustedMetadata], None]
"""Verifies the supply chain of a release (first) in a directory of chains (second) for the targets that vehicles would see (third)."""


@dataclass(frozen=True, slots=True)
class _Plan:
    roots: Mapping[str, bytes]
    roles: Mapping[str, bytes]
    online: Mapping[str, bytes] = field(default_factory=dict)
    moves: tuple[tuple[Path, Path], ...] = ()
    places: tuple[Path, ...] = ()  # of all that these roles vouch for, whichever run moved it there
    releases: tuple[str, ...] = ()

    @property
    def files(self) -> dict[str, bytes]:
        """All metadata, in the order of writing but for the roots."""
        return {**self.roots, **self.roles, **self.online}


@dataclass(frozen=True, slots=True)
class Published:
    """What a publication did, or would do.

    Attributes:
        metadata: Names of the metadata files, in the order of writing.
        bundles: How many files were moved among the served targets.
        releases: Ids of the new releases.
    """

    metadata: tuple[str, ...]
    bundles: int
    releases: tuple[str, ...]


def publish(
    directory: Path,
    online: Online,
    check_chain: CheckChain,
    *,
    anchor: bytes | None = None,
    allow_demo: bool = False,
    dry_run: bool = False,
    writes: Writes | None = None,
) -> Published:
    """Publish what lies in ``DIR/staged``.

    Args:
        directory: ``DIR``.
        online: Signs snapshot and timestamp.
        check_chain: Called for every new release, before anything is signed.
        anchor: The root that trust starts from; None for the oldest in the directory.
        allow_demo: Whether demo keys may be published.
        dry_run: Check all and write nothing.
        writes: For tests.

    Raises:
        RepositoryError: Signatures are missing; there is no root, not even staged; demo keys; a role lists what is not delegated to it; a
            file is not the one that was signed or would change what is published; a vehicle would refuse it. Nothing was written.
        SupplyChainError: As `check_chain`. Nothing was written.
        KeyMaterialError: A key of snapshot or timestamp can't sign. Nothing was written.
        SpaceError: A file can't be written. The old state is in force; running it again goes on.
    """
    writes = writes or Writes()
    with locked(directory):
        if not dry_run:
            writes.sweep(directory / METADATA)
        in_force = read_in_force(directory, anchor)
        staged = read_staged(directory)
        fresh = {role: file for role, file in staged.items() if in_force.files.get(role) != file.data}
        is_finished = not in_force.is_interrupted
        if not staged and not in_force.roots:
            raise RepositoryError(
                f"{directory / STAGED}: found nothing to publish, expected a root", hint="packager repo init"
            )
        if not fresh and is_finished:  # killed after the timestamp, or published already
            return _clean(directory, writes, Published((), 0, ()), dry_run=dry_run)
        _check_signed(staged, fresh, in_force)
        plan = _plan(directory, fresh, in_force, online, check_chain, anchor)
        if not allow_demo:
            _check_demo(in_force, fresh)
        published = Published(
            (*plan.roles, *(name for name in plan.online if name != TIMESTAMP_NAME), *plan.roots)
            + ((TIMESTAMP_NAME,) if plan.online else ()),
            sum(path.is_relative_to(directory / TARGETS) for _, path in plan.moves),
            plan.releases,
        )
        if dry_run:
            return published
        metadata = directory / METADATA
        for source, path in plan.moves:
            writes.move(source, path)
        writes.settle(plan.places, directory)
        for name in published.metadata:
            if name != TIMESTAMP_NAME:
                writes.add(metadata / name, plan.files[name])
        if plan.online:
            timestamp = {TIMESTAMP_NAME: plan.online[TIMESTAMP_NAME]}
            verify_as_vehicle(
                FetchFromMemory(timestamp, FetchFromDirectory(metadata)), first_root(directory, anchor), online.now
            )
            writes.replace(metadata / TIMESTAMP_NAME, timestamp[TIMESTAMP_NAME])
        return _clean(directory, writes, published)


def _plan(
    directory: Path,
    fresh: Mapping[str, StagedFile],
    in_force: InForce,
    online: Online,
    check_chain: CheckChain,
    anchor: bytes | None,
) -> _Plan:
    roots = {file.name: file.data for role, file in fresh.items() if role == Root.type}
    for name, data in roots.items():
        _check_root(name, data, in_force, anchor)
    roles = {file.name: file.data for role, file in fresh.items() if role != Root.type}
    proposed = fresh[Targets.type].metadata.claimed if Targets.type in fresh else in_force.targets
    if not isinstance(proposed, Targets):
        if roles:
            raise RepositoryError(f"{min(roles)}: has no targets role above it", hint="packager repo propose")
        return _Plan(roots, roles)
    meta = dict(in_force.snapshot.meta) if in_force.snapshot is not None else {}
    meta |= {f"{role}.json": describe(file.data, file.version) for role, file in fresh.items() if role != Root.type}
    missing = [name for name in delegated_names(proposed) if f"{name}.json" not in meta]
    if missing:
        raise RepositoryError(f"role {missing[0]!r}: is delegated but was never signed", hint="packager repo propose")
    signed_online = sign_online(directory, in_force, meta, online)
    first = first_root(directory, anchor) or next(iter(roots.values()))
    fetcher = FetchFromMemory({**roots, **roles, **signed_online}, FetchFromDirectory(directory / METADATA))
    trusted = verify_as_vehicle(fetcher, first, online.now, in_force)
    new_roles = [role for role in fresh if role not in in_force.roles and role not in (Root.type, Targets.type)]
    releases = tuple(dict.fromkeys(split_role_name(role)[1] for role in new_roles))
    for release in releases:
        staged_chain = directory / STAGED / CHAIN
        check_chain(release, staged_chain if (staged_chain / release).exists() else directory / CHAIN, trusted)
    places = _check_files(directory, fresh, proposed)
    moves = tuple(_find_moves(directory))
    places += [directory / tree / release for release in releases for tree in TREES if (directory / tree).exists()]
    places += [path for _, path in moves]
    return _Plan(roots, roles, signed_online, moves, tuple(places), releases)


def _check_root(name: str, data: bytes, in_force: InForce, anchor: bytes | None) -> None:
    try:
        if in_force.root is not None:
            workflow.read_next_root(data, in_force.root)
        else:
            workflow.read_root(data)
    except UntrustedError as error:
        raise RepositoryError(f"{name}: a vehicle would refuse it: {error}", hint="packager repo propose") from error
    if in_force.root is None and anchor is not None and data != anchor:
        raise RepositoryError(
            f"{name}: differs from the root that is trusted already, expected the same file",
            hint="publish that one (packager repo init --root), or name another with --root",
        )


def _check_signed(staged: Mapping[str, StagedFile], fresh: Mapping[str, StagedFile], in_force: InForce) -> None:
    problems = []
    for file in fresh.values():
        needed = demands(file, staged, in_force)
        if not needed:
            problems.append(f"{file.name}: nobody delegates to {file.role!r}")
        problems += [
            f"{file.name}: {len(demand.signed)} of {demand.role.threshold} signatures that {demand.by} demands"
            for demand in needed
            if demand.lacking
        ]
    if problems:
        raise RepositoryError(
            "\n  ".join(("proposals are not ready", *problems)),
            hint="packager repo status says who is missing; packager repo sign signs",
        )


def _check_demo(in_force: InForce, fresh: Mapping[str, StagedFile]) -> None:
    payloads = {**in_force.payloads, **{role: file.metadata.claimed for role, file in fresh.items()}}
    for payload in payloads.values():
        keys: Mapping[str, Key] = {}
        if isinstance(payload, Root):
            keys = payload.keys
        elif isinstance(payload, Targets) and payload.delegations is not None:
            keys = payload.delegations.keys
        if DEMO_MARKER in payload.unrecognized_fields or any(map(is_demo, keys.values())):
            raise RepositoryError(
                f"{payload.type}: has demo keys, which anybody may have; expected real ones",
                hint="set demo = false in the policy and make new keys (packager keys create); for a demonstration, --allow-demo-keys",
            )


def _check_files(directory: Path, fresh: Mapping[str, StagedFile], top: Targets) -> list[Path]:
    """Check that what a new or changed role lists is delegated to it, and at hand, or served already, with the bytes that were signed.

    Returns:
        Where they are served.
    """
    places = []
    for role, file in fresh.items():
        claimed = file.metadata.claimed
        if not isinstance(claimed, Targets) or role == Targets.type:
            continue
        for path, target in claimed.targets.items():
            _check_path(file.name, role, path, top)
            if path.endswith(f"/{IMAGE}"):
                continue  # identifies what results; it is not served
            staged, served = directory / STAGED / "targets" / path, directory / TARGETS / path
            found = identify(staged if staged.exists() else served)
            if found != ImageId(target.length, Digest.from_hex(target.hashes[SHA256])):
                raise RepositoryError(
                    f"{path}: found {found}, signed are {target.length} bytes, {SHA256}:{target.hashes[SHA256]}",
                    hint="propose the release again",
                )
            places.append(served)
    return places


def _check_path(name: str, role: str, path: str, top: Targets) -> None:
    delegations = top.delegations.roles if top.delegations is not None else None
    if not (delegations and role in delegations and delegations[role].is_delegated_path(path)):
        raise RepositoryError(
            f"{name}: lists {path!r}, which is not delegated to {role!r}; cars would not look for it there",
            hint="whoever signs this role changed it; propose again",
        )


def _find_moves(directory: Path) -> list[tuple[Path, Path]]:
    targets = directory / STAGED / "targets"
    moves = [
        (path, directory / TARGETS / path.relative_to(targets)) for path in sorted(targets.rglob("*")) if path.is_file()
    ]
    for tree in TREES:
        moves += [(path, directory / tree / path.name) for path in sorted((directory / STAGED / tree).glob("*"))]
    return moves


def _clean(directory: Path, writes: Writes, published: Published, *, dry_run: bool = False) -> Published:
    """Put retired releases away, and remove proposals that are in force now, the targets role last: the others are understood by it."""
    if not dry_run:
        for release in sorted(retired_releases(read_in_force(directory))):
            for tree in TREES:
                if (directory / tree / release).exists():
                    writes.move(directory / tree / release, directory / RETIRED / tree / release)
                    writes.settle([directory / RETIRED / tree / release], directory)
        writes.sweep(directory / STAGED)
        for name in ("targets", *TREES):
            writes.remove(directory / STAGED / name)
        for path in sorted((directory / STAGED).glob("*.json"), key=lambda path: path.name.endswith(".targets.json")):
            writes.remove(path)
    return published
