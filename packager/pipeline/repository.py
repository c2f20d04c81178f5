"""The join of a repository's life: propose, publish, refresh; the supply chain is verified before people and before keys sign."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from securesystemslib.signer import Key
from tuf.api.metadata import Root, Targets

from packager.model.errors import RepositoryError
from packager.model.policy import KeyPolicy
from packager.pipeline.bound_chain import verify_chains
from packager.pipeline.gate import verify_contents
from packager.pipeline.vouched import check_vouched
from packager.repo.authority import Authority
from packager.repo.ceremony import read_root
from packager.repo.contents import TARGETS, read_contents
from packager.repo.in_force import METADATA, TIMESTAMP_NAME, InForce, delegated_names, read_in_force
from packager.repo.lifetimes import lifetimes
from packager.repo.online import Online, renew_online
from packager.repo.proposal import propose
from packager.repo.publication import Published, publish
from packager.repo.signing import sign
from packager.repo.staged import STAGED, StagedFile, parse_file, read_staged, role_policy, unsigned_file
from packager.repo.staging_area import stage
from packager.vehicle.trust.metadata_store import TrustedMetadata


@dataclass(frozen=True, slots=True)
class Place:
    """A repository and what it is judged by.

    Attributes:
        directory: ``DIR``.
        policy: Who signs what.
        keys: Public keys of the policy by name.
        now: The time, UTC, whole seconds.
        anchor: The root that trust starts from; None for the oldest one in the directory.
    """

    directory: Path
    policy: KeyPolicy
    keys: Mapping[str, Key]
    now: datetime
    anchor: bytes | None = None

    def in_force(self) -> InForce:
        """Read what is served.

        Raises:
            RepositoryError: It does not hold, or the timestamp is gone: one that began again at version 1 would be refused by every car.
        """
        found = read_in_force(self.directory, self.anchor)
        metadata = self.directory / METADATA
        # A first publication that was killed left snapshots and no timestamp, too; but then what was to be published is still staged.
        if found.timestamp is None and any(metadata.glob("*.snapshot.json")) and not read_staged(self.directory):
            raise RepositoryError(
                f"{metadata / TIMESTAMP_NAME}: is missing, expected it beside the snapshots",
                hint="restore it from a backup; nothing may be signed without it",
            )
        return found


def propose_changes(
    place: Place,
    release_dir: Path | None,
    *,
    is_renewed: bool = False,
    warn_days: int | None = None,
    is_replaced: bool = False,
    retired: Collection[str] = (),
) -> list[StagedFile]:
    """Stage what has to be signed so that the repository follows the policy and offers a new release.

    A repository in which nothing is published begins with the root that is trusted already, if there is one.

    Args:
        place: The repository.
        release_dir: What a build left; None for none.
        is_renewed: Whether roles that are due get a new life time.
        warn_days: When they are due; None for the last quarter of their life.
        is_replaced: Whether proposals that have signatures may go.
        retired: Ids of releases that no car reads any more, to be taken out of what cars read.

    Raises:
        RepositoryError: The release or what is in force does not hold; or a repository would begin with a root that the policy has changed.
        SupplyChainError: The release's chain does not hold. Nothing is staged then.
        SpaceError: A file can't be written.
    """
    contents = None if release_dir is None else read_contents(release_dir)
    if contents is not None:
        verify_contents(contents, place.policy, place.keys, place.now)
    in_force = place.in_force()
    signed: dict[str, StagedFile] = {}
    if in_force.root is None and place.anchor is not None:
        in_force, signed = _begin(place.anchor)
    payloads = propose(
        place.policy,
        place.keys,
        in_force,
        place.now,
        contents,
        is_renewed=is_renewed,
        warn_days=warn_days,
        retired=retired,
    )
    _check_begun(signed, payloads)
    _check_vouched(
        in_force, payloads, [directory / TARGETS for directory in (release_dir, place.directory) if directory]
    )
    files = signed | {role: unsigned_file(role, payload) for role, payload in payloads.items()}
    return stage(place.directory, files, release_dir, contents, is_replaced=is_replaced)


def publish_at_once(directory: Path, authority: Authority, now: datetime) -> Published:
    """Propose, sign and publish the first release of a repository, where all keys are at hand: a demonstration.

    Args:
        directory: What a build left; becomes the repository.
        authority: The signed root, and every key below it.
        now: Time of issue, UTC, whole seconds.

    Raises:
        RepositoryError: The release is refused, the root is not the policy's, or a vehicle would refuse the result.
        SupplyChainError: The release's chain does not hold.
        KeyMaterialError: A threshold can't be met.
        SpaceError: A file can't be written.
    """
    policy, signers = authority.policy, authority.signers
    known, files = _begin(authority.root)
    proposed = propose(policy, authority.keys, known, now, read_contents(directory))
    _check_begun(files, proposed)
    for role, payload in proposed.items():
        mine = role_policy(policy, role)
        assert isinstance(payload, Targets)  # noqa: S101 - the root was looked for above
        assert mine is not None  # noqa: S101 - the policy has every role that was proposed
        files[role] = parse_file(f"{payload.version}.{role}.json", sign(role, payload, mine, signers))
    stage(directory, files)
    place = Place(directory, policy, authority.keys, now, authority.root)
    published = publish_staged(place, Online(policy, signers, now), allow_demo=True)
    (directory / STAGED).rmdir()
    return published


def publish_staged(place: Place, online: Online, *, allow_demo: bool = False, dry_run: bool = False) -> Published:
    """Publish what is staged and signed; see `publish` and `check_vouched`."""

    def check_chain(release: str, chains: Path, trusted: TrustedMetadata) -> None:
        verify_chains(chains, trusted, trusted.delegations.everything(), place.now, release)

    proposed = {role: file.metadata.claimed for role, file in read_staged(place.directory).items()}
    _check_vouched(place.in_force(), proposed, [place.directory / STAGED / "targets", place.directory / TARGETS])
    return publish(place.directory, online, check_chain, anchor=place.anchor, allow_demo=allow_demo, dry_run=dry_run)


def refresh_online(place: Place, online: Online, warn_days: int | None = None) -> tuple[str, ...]:
    """Sign a new timestamp, and a new snapshot if it is due; see `renew_online`."""

    def is_due(in_force: InForce) -> bool:
        lives = lifetimes(in_force, place.policy, place.now, warn_days)
        return any(life.is_due for life in lives if life.role == "snapshot")

    return renew_online(place.directory, online, snapshot_is_due=is_due, anchor=place.anchor)


def _begin(anchor: bytes) -> tuple[InForce, dict[str, StagedFile]]:
    """Return what is in force where nothing is published yet but a root is trusted, and that root as it will be staged."""
    root = read_root(anchor)
    file = parse_file(f"{root.version}.root.json", anchor)
    return InForce((root,), root, files={Root.type: anchor}), {Root.type: file}


def _check_begun(signed: Mapping[str, StagedFile], proposed: Collection[str]) -> None:
    if Root.type in signed and Root.type in proposed:
        raise RepositoryError(
            f"{signed[Root.type].name}: its keys or thresholds differ from the policy's",
            hint="publish it first (packager repo init, publish), then propose the next; for a new demo set, make keys anew",
        )


def _check_vouched(in_force: InForce, proposed: Mapping[str, Root | Targets], places: Sequence[Path]) -> None:
    roles = {**in_force.roles, **{role: payload for role, payload in proposed.items() if isinstance(payload, Targets)}}
    if proposed and Targets.type in roles and roles.keys() >= set(delegated_names(roles[Targets.type])):
        check_vouched(roles[Targets.type], roles, places)
