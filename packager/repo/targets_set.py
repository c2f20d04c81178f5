"""Prepares the next targets metadata of a repository, unsigned: one delegated role per domain and release, and the role above them.

A new release adds roles and never touches those before: they stay in the snapshot, as clients demand (TUF 5.5.5), and their targets stay
at their paths. The newest stands first, where cars look first (`packager.vehicle.trust.delegations`).

Pure: values in, payloads out. What does not belong into a role is refused here, before anything is signed or written.
"""

import copy
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from tuf.api.metadata import DelegatedRole, Delegations, Key, TargetFile, Targets

from packager.model.errors import RepositoryError
from packager.model.policy import KeyPolicy, RolePolicy
from packager.repo.admission import Standing, chain_path, check_owners, check_standing, role_name, split_role_name
from packager.repo.contents import LAYOUT_NAME, Contents, Target, write_key
from packager.repo.signing import expiry
from packager.vehicle.core.targets import ImageTarget, read_target, summary_path
from packager.vehicle.errors import UntrustedError
from packager.vehicle.identity import SHA256, Digest
from packager.vehicle.table import is_name
from packager.vehicle.trust.summary import GATE

BINDING: Final = "supply_chain"
"""Signed field of a release's roles: ``{"release": id, "layout": name, "files": {name: sha256}}``, the complete chain of the release."""


@dataclass(frozen=True, slots=True)
class Payloads:
    """What must be signed next.

    Attributes:
        targets: The next top-level role; None if the one in force says all.
        roles: Delegated roles by name: new ones, and those that other keys must sign from now on.
    """

    targets: Targets | None
    roles: Mapping[str, Targets]


def prepare(
    policy: KeyPolicy,
    keys: Mapping[str, Key],
    issued_at: datetime,
    standing: Standing | None = None,
    contents: Contents | None = None,
    retired: Collection[str] = (),
) -> Payloads:
    """Return what must be signed so that a repository serves a new release, or follows a changed policy, or both.

    Args:
        policy: Domains, their keys, thresholds and life times.
        keys: Public keys by name.
        issued_at: UTC, whole seconds.
        standing: What is in force; None for nothing.
        contents: The new release; None for none.
        retired: Ids of releases that no car reads any more: they are not delegated to from now on, and their chains are no targets.

    Raises:
        RepositoryError: The release is in force already, has hardware or targets in the wrong place, goes back behind what is in force,
            or a vehicle would not read it.
    """
    roles: dict[str, Targets] = {}
    delegated: dict[str, DelegatedRole] = {}
    entries = {
        path: entry
        for path, entry in (standing.targets.targets.items() if standing else ())
        if not any(path.startswith(chain_path(release, "")) for release in retired)
    }
    if contents is not None:
        check_owners(policy, contents)
        if standing:
            check_standing(standing, contents)
        entries.update(_chain_entries(contents))
        for domain in sorted(contents.targets):
            if contents.targets[domain]:
                name = role_name(domain, contents.release)
                roles[name] = _prepare_role(policy.domains[domain], contents, domain, issued_at)
                summary = _summary_path(contents, domain)
                patterns = [*_patterns(contents.targets[domain]), *([summary] if summary else [])]
                delegated[name] = _delegate(name, policy.domains[domain], keys, patterns)
    delegations = standing.targets.delegations if standing else None
    for name, role in ((delegations.roles or {}) if delegations else {}).items():
        if split_role_name(name)[1] in retired:
            continue
        delegated[name] = _delegate_again(policy, keys, role)
        if standing and (set(delegated[name].keyids), delegated[name].threshold) != (set(role.keyids), role.threshold):
            roles[name] = renew(policy, name, standing.roles[name], issued_at)
    known = {**(delegations.keys if delegations else {}), **{key.keyid: key for key in keys.values()}}
    used = {keyid: known[keyid] for role in delegated.values() for keyid in role.keyids}
    targets = Targets(
        version=standing.targets.version + 1 if standing else 1,
        expires=expiry(policy.targets, issued_at),
        targets=entries,
        delegations=Delegations(used, delegated),
        unrecognized_fields=_gate(policy, keys),
    )
    is_same = (
        standing is not None
        and not contents
        and delegations == targets.delegations
        and standing.targets.unrecognized_fields == targets.unrecognized_fields
    )
    return Payloads(None if is_same else targets, roles)


def renew(policy: KeyPolicy, name: str, role: Targets, issued_at: datetime) -> Targets:
    """Return the next version of a delegated role with the same content and a new life time.

    Raises:
        RepositoryError: Its domain is not in the policy.
    """
    domain, _ = split_role_name(name)
    if domain not in policy.domains:
        raise RepositoryError(f"role {name!r}: the policy has no domain {domain!r}", hint="add it to the policy")
    following = copy.deepcopy(role)
    following.version += 1
    following.expires = expiry(policy.domains[domain], issued_at)
    return following


def binding(contents: Contents) -> dict[str, Any]:
    """Return what each role of a release says of its supply chain (ITE-2): the layout and all other files, by digest."""
    files = {name: Digest.of(data).hex for name, data in sorted(contents.chain.files.items())}
    return {"release": contents.release, "layout": LAYOUT_NAME, "files": files}


def _prepare_role(policy: RolePolicy, contents: Contents, domain: str, issued_at: datetime) -> Targets:
    entries: dict[str, TargetFile] = {}
    for target in contents.targets[domain]:
        if target.path in entries:
            raise RepositoryError(
                f"target {target.path!r}: found twice, expected once", hint="two versions or images coincide"
            )
        entries[target.path] = _write_target(target)
    for target in contents.targets[domain]:
        if not isinstance(target, ImageTarget) and target.image_path not in entries:
            raise RepositoryError(
                f"target {target.path!r}: leads to no image, expected {target.image_path!r} beside it"
            )
    path = _summary_path(contents, domain)
    if path is not None:
        data = contents.summaries[domain]
        entries[path] = _file(path, len(data), Digest.of(data), None)
    return Targets(
        version=1,
        expires=expiry(policy, issued_at),
        targets=entries,
        unrecognized_fields={BINDING: binding(contents)},
    )


def _summary_path(contents: Contents, domain: str) -> str | None:
    """Return where the release gate's summary for a domain stands; None if its images name none.

    Raises:
        RepositoryError: They name another than their role's, or the gate was not passed.
    """
    found = {target.summary for target in contents.targets[domain] if isinstance(target, ImageTarget)}
    if found <= {None}:
        return None
    path = summary_path(role_name(domain, contents.release))
    if found != {path}:
        raise RepositoryError(f"domain {domain!r}: its images name {sorted(map(str, found))}, expected {path!r}")
    if domain not in contents.summaries:
        raise RepositoryError(
            f"target {path!r}: is missing, and cars would refuse the images of {domain!r} without it",
            hint="the release gate has to approve the release first: packager chain approve",
        )
    return path


def _patterns(targets: Iterable[Target]) -> list[str]:
    return sorted({f"{target.hardware_id}/{target.version}/*" for target in targets})


def _delegate(name: str, policy: RolePolicy, keys: Mapping[str, Key], patterns: list[str]) -> DelegatedRole:
    keyids = [keys[key].keyid for key in policy.keys]
    return DelegatedRole(name, keyids, policy.threshold, terminating=True, paths=patterns)


def _delegate_again(policy: KeyPolicy, keys: Mapping[str, Key], role: DelegatedRole) -> DelegatedRole:
    """Return a delegation with the keys that the policy has now; as it was if the policy has given up the domain."""
    domain, _ = split_role_name(role.name)
    if domain not in policy.domains:
        return role
    return _delegate(role.name, policy.domains[domain], keys, list(role.paths or ()))


def _gate(policy: KeyPolicy, keys: Mapping[str, Key]) -> dict[str, Any]:
    """Return the field of the top-level role that says whose summaries cars take."""
    if policy.gate is None:
        return {}
    return {GATE: {"keys": [write_key(keys[name]) for name in policy.gate.keys], "threshold": policy.gate.threshold}}


def _chain_entries(contents: Contents) -> dict[str, TargetFile]:
    chain = contents.chain
    if LAYOUT_NAME not in chain.files or not chain.layout_keys:
        raise RepositoryError(
            "supply chain: found no layout or no key for it, expected both", hint="make the layout before signing"
        )
    entries = {}
    for name, data in sorted(chain.files.items()):
        if not is_name(name):
            raise RepositoryError(f"supply chain: found file {name!r}, expected a plain name such as {LAYOUT_NAME}")
        custom = {"in-toto": {"keys": [write_key(key) for key in chain.layout_keys]}} if name == LAYOUT_NAME else None
        path = chain_path(contents.release, name)
        entries[path] = _file(path, len(data), Digest.of(data), custom)
    return entries


def _write_target(target: Target) -> TargetFile:
    file = target.file
    try:
        read = read_target(target.path, file.length_bytes, {SHA256: file.digest.hex}, target.custom)
    except UntrustedError as error:
        raise RepositoryError(f"{error}; a vehicle would refuse it") from error
    if read != target:
        raise RepositoryError(f"target {target.path!r}: a vehicle would read {read}, expected {target}")
    return _file(target.path, file.length_bytes, file.digest, target.custom)


def _file(path: str, length_bytes: int, digest: Digest, custom: Mapping[str, Any] | None) -> TargetFile:
    return TargetFile(length_bytes, {SHA256: digest.hex}, path, {"custom": dict(custom)} if custom else None)
