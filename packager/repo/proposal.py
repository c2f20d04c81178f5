"""Proposes metadata: compares what the policy wants with what is in force, and names exactly what has to be signed. Pure.

A role is signed again when the signatures that it has no longer suffice under the keys that it will be judged by. So a lost key costs one
new root; and a key that is taken away costs no signature of roles that enough others have signed.
"""

import copy
from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Final

from tuf.api.metadata import Key, Root, Targets

from packager.model.errors import RepositoryError
from packager.model.policy import KeyPolicy
from packager.repo.admission import Standing, split_role_name
from packager.repo.ceremony import prepare_root
from packager.repo.contents import Contents
from packager.repo.in_force import InForce, listed_releases, retired_releases
from packager.repo.lifetimes import lifetimes, needed_roles
from packager.repo.signing import expiry
from packager.repo.staged import StagedFile, delegated, parse_file, valid_signers
from packager.repo.targets_set import prepare, renew

_TOP: Final = (Root.type, Targets.type)


def propose(
    policy: KeyPolicy,
    keys: Mapping[str, Key],
    in_force: InForce,
    issued_at: datetime,
    contents: Contents | None = None,
    *,
    is_renewed: bool = False,
    warn_days: int | None = None,
    retired: Collection[str] = (),
) -> dict[str, Root | Targets]:
    """Return the payloads that have to be signed by hand, by role; empty if what is in force is what is wanted.

    Args:
        policy: What is wanted.
        keys: Its public keys by name.
        in_force: What is served.
        issued_at: UTC, whole seconds.
        contents: A new release; None for none.
        is_renewed: Whether roles that are due get a new life time.
        warn_days: When they are due, as in `lifetimes`.
        retired: Ids of releases to take out of what cars read.

    Raises:
        RepositoryError: A release is refused (`targets_set.prepare`), had its id before or can't be retired; or there are releases but no
            root for them.
    """
    lives = lifetimes(in_force, policy, issued_at, warn_days) if is_renewed else []
    due = {life.role for life in lives if life.is_due}
    root = _next_root(policy, keys, in_force, issued_at, is_due="root" in due)
    proposed: dict[str, Root | Targets] = {} if root is None else {Root.type: root}
    following = root or in_force.root
    if following is None:
        raise RepositoryError("repository: has no root, and none is wanted; expected one", hint="packager repo init")
    if in_force.targets is None and contents is None:
        return proposed
    _check_releases(in_force, contents, retired)
    targets = _next_targets(policy, keys, in_force, issued_at, contents, due, retired)
    top = targets.pop(Targets.type, None)
    if top is None and in_force.targets is not None:
        role = following.roles[Targets.type]
        if len(valid_signers(_file(in_force, Targets.type), role, following.keys)) < role.threshold:
            top = copy.deepcopy(in_force.targets)
            top.version, top.expires = top.version + 1, expiry(policy.targets, issued_at)
    if top is not None:
        proposed[Targets.type] = top
    return proposed | dict(sorted(targets.items()))


def _check_releases(in_force: InForce, contents: Contents | None, retired: Collection[str]) -> None:
    """Check that a new release has an id that was never used, and that no car reads what is to be retired."""
    present = listed_releases(in_force)
    if contents is not None and contents.release in retired_releases(in_force):
        raise RepositoryError(
            f"release {contents.release!r}: was in force and is retired, expected a new one",
            hint="give the release another version; what is published never changes",
        )
    for release in retired:
        if release not in present:
            raise RepositoryError(
                f"release {release!r}: is not in force, expected one of {', '.join(sorted(present)) or 'none'}",
                hint="--retire takes the id of a release as in DIR/chain",
            )
        needed = sorted(name for name in needed_roles(in_force) if split_role_name(name)[1] == release)
        if needed:
            raise RepositoryError(
                f"release {release!r}: cars read its role {needed[0]!r}, expected a release whose hardware newer ones name",
                hint="retire it after a newer release of that hardware was published",
            )


def _next_root(
    policy: KeyPolicy, keys: Mapping[str, Key], in_force: InForce, issued_at: datetime, *, is_due: bool
) -> Root | None:
    wanted = prepare_root(policy, keys, issued_at)
    old = in_force.root
    if old is not None:
        is_same = (old.keys, old.roles, old.unrecognized_fields) == (
            wanted.keys,
            wanted.roles,
            wanted.unrecognized_fields,
        )
        if is_same and not is_due:
            return None
        wanted.version = old.version + 1
    return wanted


def _next_targets(
    policy: KeyPolicy,
    keys: Mapping[str, Key],
    in_force: InForce,
    issued_at: datetime,
    contents: Contents | None,
    due: set[str],
    retired: Collection[str],
) -> dict[str, Targets]:
    old = in_force.targets
    delegated_roles = {name: role for name, role in in_force.roles.items() if name not in _TOP}
    payloads = prepare(policy, keys, issued_at, Standing(old, delegated_roles) if old else None, contents, retired)
    top, proposed = payloads.targets, dict(payloads.roles)
    if top is None and Targets.type in due and old is not None:
        top = copy.deepcopy(old)
        top.version, top.expires = top.version + 1, expiry(policy.targets, issued_at)
    for name in list(proposed):
        if name in delegated_roles and top is not None:
            role, role_keys = delegated(top, name)
            if role is not None and len(valid_signers(_file(in_force, name), role, role_keys)) >= role.threshold:
                del proposed[name]
    for name in due & set(delegated_roles) - set(proposed):
        proposed[name] = renew(policy, name, in_force.roles[name], issued_at)
    return proposed if top is None else {Targets.type: top, **proposed}


def _file(in_force: InForce, role: str) -> StagedFile:
    return parse_file(f"{in_force.roles[role].version}.{role}.json", in_force.files[role])
