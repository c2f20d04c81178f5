"""Prepares the targets metadata of a release, unsigned: one delegated role per domain, and the top-level role that delegates to them.

Pure: values in, payloads out. What does not belong into a role is refused here, before anything is signed or written.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from tuf.api.metadata import DelegatedRole, Delegations, Key, TargetFile, Targets

from packager.model.errors import RepositoryError
from packager.model.policy import KeyPolicy
from packager.repo.signing import expiry
from packager.vehicle.errors import UntrustedError
from packager.vehicle.identity import SHA256, Digest
from packager.vehicle.table import is_name
from packager.vehicle.targets import BundleTarget, ImageTarget, read_target

CHAIN_PREFIX: Final = "chain/"
LAYOUT_NAME: Final = "root.layout"


@dataclass(frozen=True, slots=True)
class Chain:
    """The evidence of a release's supply chain.

    Attributes:
        files: Content by file name: ``root.layout`` and ``<step>.<key id>.link``; their target paths begin with ``chain/``.
        layout_keys: All of them must have signed the layout.
    """

    files: Mapping[str, bytes]
    layout_keys: Sequence[Key]


def delegated_paths(hardware_ids: Sequence[str]) -> list[str]:
    """Return the path patterns of a domain with this hardware."""
    return [f"{hardware_id}/*/*" for hardware_id in sorted(hardware_ids)]


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
                hint="add [domains." + domain + "] to the policy and run make keys, or correct the release file",
            )
        for hardware_id in hardware_ids:
            if not is_name(hardware_id):
                raise RepositoryError(f"domain {domain!r}: found hardware id {hardware_id!r}, expected a name")
            first = domains.setdefault(hardware_id, domain)
            if first != domain:
                raise RepositoryError(
                    f"hardware id {hardware_id!r}: found in the domains {first!r} and {domain!r}, expected one",
                    hint="two roles must not sign for one hardware",
                )


def prepare_domains(
    policy: KeyPolicy,
    hardware: Mapping[str, Sequence[str]],
    targets: Mapping[str, Sequence[ImageTarget | BundleTarget]],
    issued_at: datetime,
    version: int,
) -> dict[str, Targets]:
    """Return the payload of every domain of the policy, by name and sorted.

    A domain without hardware gets an empty one: a role that disappeared from a later snapshot would stop every client (TUF 5.5.5).

    Args:
        policy: Domains and life times.
        hardware: Hardware ids per domain.
        targets: What to sign per domain.
        issued_at: UTC, whole seconds.
        version: Of the metadata, from 1.

    Raises:
        RepositoryError: As `check_hardware`; or a target is not of its domain's hardware, is twice, or the vehicle would not read it.
    """
    check_hardware(policy, hardware)
    owner = {hardware_id: domain for domain, hardware_ids in hardware.items() for hardware_id in hardware_ids}
    unknown = sorted(set(targets) - set(hardware))
    if unknown:
        raise RepositoryError(f"domain {unknown[0]!r}: has targets but no hardware", hint="correct the release file")
    payloads = {}
    for domain in sorted(policy.domains):
        entries: dict[str, TargetFile] = {}
        for target in targets.get(domain, ()):
            _check_owner(domain, target, owner)
            if target.path in entries:
                raise RepositoryError(
                    f"target {target.path!r}: found twice, expected once", hint="two versions or images coincide"
                )
            entries[target.path] = _write_target(target)
        payloads[domain] = Targets(version=version, expires=expiry(policy.domains[domain], issued_at), targets=entries)
    return payloads


def prepare_targets(
    policy: KeyPolicy,
    keys: Mapping[str, Key],
    hardware: Mapping[str, Sequence[str]],
    chain: Chain,
    issued_at: datetime,
    version: int,
) -> Targets:
    """Return the payload of the top-level targets role: the delegations, and the supply chain as its own targets.

    Args:
        policy: Domains, their keys and thresholds.
        keys: Public keys by name.
        hardware: Hardware ids per domain.
        chain: What the supply chain left behind.
        issued_at: UTC, whole seconds.
        version: Of the metadata, from 1.

    Raises:
        RepositoryError: As `check_hardware`, or the chain has no layout, no layout key or a file with a wrong name.
    """
    check_hardware(policy, hardware)
    if LAYOUT_NAME not in chain.files or not chain.layout_keys:
        raise RepositoryError(
            "supply chain: found no layout or no key for it, expected both", hint="make the layout before signing"
        )
    roles = {
        domain: DelegatedRole(
            domain,
            [keys[name].keyid for name in role.keys],
            role.threshold,
            terminating=True,
            paths=delegated_paths(hardware.get(domain, ())),
        )
        for domain, role in sorted(policy.domains.items())
    }
    used = {keys[name].keyid: keys[name] for _, role in sorted(policy.domains.items()) for name in role.keys}
    entries = {}
    for name, data in sorted(chain.files.items()):
        if not is_name(name):
            raise RepositoryError(f"supply chain: found file {name!r}, expected a plain name such as {LAYOUT_NAME}")
        custom = {"in-toto": {"keys": [write_key(key) for key in chain.layout_keys]}} if name == LAYOUT_NAME else None
        path = CHAIN_PREFIX + name
        entries[path] = _file(path, len(data), Digest.of(data), custom)
    return Targets(
        version=version,
        expires=expiry(policy.targets, issued_at),
        targets=entries,
        delegations=Delegations(dict(used), dict(roles)),
    )


def write_key(key: Key) -> dict[str, Any]:
    """Return a public key with its key id, as the layout's custom field and in-toto hold it."""
    return {**key.to_dict(), "keyid": key.keyid}


def _check_owner(domain: str, target: ImageTarget | BundleTarget, owner: Mapping[str, str]) -> None:
    hardware_ids = {target.hardware_id}
    if owner.get(target.hardware_id) != domain:
        raise RepositoryError(
            f"target {target.path!r}: its hardware is not of the domain {domain!r}",
            hint="add it to the domain's hardware ids",
        )
    if isinstance(target, ImageTarget):
        hardware_ids.update(target.hardware_ids)
    for hardware_id in sorted(hardware_ids):
        if owner.get(hardware_id, domain) != domain:
            raise RepositoryError(
                f"target {target.path!r}: is for hardware {hardware_id!r} of the domain {owner[hardware_id]!r}, expected {domain!r}",
                hint="a domain signs for its own hardware only",
            )


def _write_target(target: ImageTarget | BundleTarget) -> TargetFile:
    length_bytes, digest = (
        (target.image.length_bytes, target.image.digest)
        if isinstance(target, ImageTarget)
        else (target.length_bytes, target.digest)
    )
    try:
        read = read_target(target.path, length_bytes, {SHA256: digest.hex}, target.custom)
    except UntrustedError as error:
        raise RepositoryError(f"{error}; a vehicle would refuse it") from error
    if read != target:
        raise RepositoryError(f"target {target.path!r}: a vehicle would read {read}, expected {target}")
    return _file(target.path, length_bytes, digest, target.custom)


def _file(path: str, length_bytes: int, digest: Digest, custom: Mapping[str, Any] | None) -> TargetFile:
    return TargetFile(length_bytes, {SHA256: digest.hex}, path, {"custom": dict(custom)} if custom else None)
