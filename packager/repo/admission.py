"""What a release must fulfil to be added to a repository: names, ownership of hardware, and what is in force already. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from tuf.api.metadata import TargetFile, Targets

from packager.model.errors import RepositoryError
from packager.model.policy import KeyPolicy
from packager.repo.contents import Contents, Target
from packager.vehicle.core.targets import CHAIN, SUMMARY, ImageTarget, is_summary_path, read_target
from packager.vehicle.identity import SHA256
from packager.vehicle.table import MAX_NAME_CHARACTERS, is_name


@dataclass(frozen=True, slots=True)
class Standing:
    """The targets metadata that is in force.

    Attributes:
        targets: The top-level role.
        roles: Every delegated role by name.
    """

    targets: Targets
    roles: Mapping[str, Targets]


def role_name(domain: str, release: str) -> str:
    """Return the name of the role in which a domain signs a release.

    Raises:
        RepositoryError: It would be no name, or ambiguous.
    """
    name = f"{domain}.{release}"
    if "." in domain or not is_name(name):
        raise RepositoryError(
            f"role {name!r}: expected a domain without a dot, and at most {MAX_NAME_CHARACTERS} characters in all",
            hint="choose a shorter version of the release, or another name of the domain",
        )
    return name


def split_role_name(name: str) -> tuple[str, str]:
    """Return domain and release of a role; the inverse of `role_name`."""
    domain, _, release = name.partition(".")
    return domain, release


def chain_path(release: str, name: str) -> str:
    """Return the target path of a file of a release's supply chain."""
    return f"{CHAIN}/{release}/{name}"


def check_hardware(policy: KeyPolicy, hardware: Mapping[str, Sequence[str]]) -> None:
    """Check which hardware belongs to which domain.

    Raises:
        RepositoryError: A domain has no role in the policy, a hardware id is not a name or is in two domains.
    """
    domains: dict[str, str] = {}
    for domain, hardware_ids in hardware.items():
        if domain not in policy.domains:
            raise RepositoryError(
                f"domain {domain!r}: has no role; the policy has {', '.join(sorted(policy.domains))}",
                hint=f"add [domains.{domain}] to the policy and run packager keys create, or correct the release file",
            )
        for hardware_id in hardware_ids:
            if not is_name(hardware_id) or hardware_id in (CHAIN, SUMMARY):
                raise RepositoryError(
                    f"domain {domain!r}: found hardware id {hardware_id!r}, expected a name other than {CHAIN!r} and {SUMMARY!r}"
                )
            first = domains.setdefault(hardware_id, domain)
            if first != domain:
                raise RepositoryError(
                    f"hardware id {hardware_id!r}: found in the domains {first!r} and {domain!r}, expected one",
                    hint="two roles must not sign for one hardware",
                )


def check_owners(policy: KeyPolicy, contents: Contents) -> None:
    """Check that every target of a release is of its domain's hardware, and of no other's.

    Raises:
        RepositoryError: It is not, as `check_hardware`, or there is no target.
    """
    check_hardware(policy, contents.hardware)
    unknown = sorted(set(contents.targets) - set(contents.hardware))
    if unknown:
        raise RepositoryError(f"domain {unknown[0]!r}: has targets but no hardware", hint="correct the release file")
    owner = {hardware_id: domain for domain, hardware_ids in contents.hardware.items() for hardware_id in hardware_ids}
    for domain, targets in contents.targets.items():
        for target in targets:
            _check_owner(domain, target, owner)
    if not any(contents.targets.values()):
        raise RepositoryError(f"release {contents.release!r}: has no targets, expected at least one image")


def _check_owner(domain: str, target: Target, owner: Mapping[str, str]) -> None:
    if owner.get(target.hardware_id) != domain:
        raise RepositoryError(
            f"target {target.path!r}: its hardware is not of the domain {domain!r}",
            hint="add it to the domain's hardware ids",
        )
    for hardware_id in sorted(target.hardware_ids) if isinstance(target, ImageTarget) else ():
        if owner.get(hardware_id, domain) != domain:
            raise RepositoryError(
                f"target {target.path!r}: is for hardware {hardware_id!r} of the domain {owner[hardware_id]!r}, expected {domain!r}",
                hint="a domain signs for its own hardware only",
            )


def check_standing(standing: Standing, contents: Contents) -> None:
    """Check that a release is new, changes nothing that is published, and goes back behind nothing.

    Raises:
        RepositoryError: It does not.
    """
    prefix = chain_path(contents.release, "")
    if any(path.startswith(prefix) for path in standing.targets.targets) or any(
        split_role_name(name)[1] == contents.release for name in standing.roles
    ):
        raise RepositoryError(
            f"release {contents.release!r}: is in force already, expected a new one",
            hint="give the release another version; what is published never changes",
        )
    images: dict[str, ImageTarget] = {}
    files = {}
    for path, found in _standing_entries(standing):
        files[path] = (found.length, found.hashes)
        target = read_target(path, found.length, found.hashes, found.custom)
        if isinstance(target, ImageTarget):
            known = images.get(target.hardware_id)
            if known is None or target.release_counter > known.release_counter:
                images[target.hardware_id] = target
    for target in (target for targets in contents.targets.values() for target in targets):
        new = (target.file.length_bytes, {SHA256: target.file.digest.hex})
        if files.get(target.path, new) != new:
            raise RepositoryError(
                f"target {target.path!r}: found {target.file}, in force is another content",
                hint="give the image another version; what is published never changes",
            )
        known = images.get(target.hardware_id)
        if not isinstance(target, ImageTarget) or known is None:
            continue
        if target.release_counter < known.release_counter or (
            target.release_counter == known.release_counter and target.image != known.image
        ):
            raise RepositoryError(
                f"target {target.path!r}: release counter {target.release_counter}, but {known.path!r} with "
                f"{known.release_counter} is in force; expected a higher one",
                hint="release counters only grow; no car would install it",
            )


def _standing_entries(standing: Standing) -> Iterator[tuple[str, TargetFile]]:
    for role in standing.roles.values():
        yield from ((path, entry) for path, entry in role.targets.items() if not is_summary_path(path))
