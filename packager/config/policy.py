"""Reads the key policy: who signs what, thresholds and life times. Does not look at any key."""

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from packager.config.document import read_document, refuse
from packager.model.policy import KEY_SCHEMES, KeyPolicy, RolePolicy, key_names
from packager.vehicle.table import Table

MAX_EXPIRES_DAYS: Final = 3650
"""Ten years: longer than that is never, and TUF wants an end (TUF 4.3)."""

MAX_THRESHOLD: Final = 100
TOP_LEVEL_ROLES: Final = ("root", "targets", "snapshot", "timestamp")
_NONE: Final = RolePolicy((), 1, 1)
"""Stands in for a role that is missing, which is noted once."""


def read_policy(path: Path) -> KeyPolicy:
    """Read a key policy from a TOML file.

    Args:
        path: The file, usually ``keys/policy.toml``.

    Raises:
        ConfigError: It can't be read, is not TOML, or says something that a policy must not; all problems are listed.
    """
    values, _ = read_document(path, "key policy", hint="keys/policy.toml is an example")
    problems: list[str] = []
    top = Table(values, "", problems)
    layout = _read_role(top, "layout")
    commands: dict[str, tuple[str, ...]] = {}
    step_hardware: dict[str, tuple[str, ...]] = {}
    steps = {}
    for name, table in top.table("steps").children():
        if words := _read_command(table):
            commands[name] = words
        if hardware := table.names("hardware", default=()):
            step_hardware[name] = hardware
        steps[name] = _read_keys(table, layout.expires_days)
    policy = KeyPolicy(
        demo=top.boolean("demo"),
        root=_read_role(top, "root"),
        targets=_read_role(top, "targets"),
        snapshot=_read_role(top, "snapshot"),
        timestamp=_read_role(top, "timestamp"),
        domains={name: _read_keys(table) for name, table in top.table("domains").children()},
        layout=layout,
        steps=steps,
        schemes=top.table("schemes", optional=True).texts(),
        gate=_read_keys(top.table("gate"), layout.expires_days) if "gate" in values else None,
        commands=commands,
        step_hardware=step_hardware,
    )
    top.end()
    problems.extend(
        f"{what}: found none, expected at least one table [{what}.NAME]"
        for what, roles in (("domains", policy.domains), ("steps", policy.steps))
        if not roles and values.get(what) == {}
    )
    problems.extend(
        f"domains.{name}: a domain can't have the name of a top-level role"
        for name in TOP_LEVEL_ROLES
        if name in policy.domains
    )
    problems.extend(_find_shared_keys(policy))
    problems.extend(_find_wrong_schemes(policy))
    refuse(str(path), problems)
    return policy


def _read_role(parent: Table, name: str) -> RolePolicy:
    before = len(parent.problems)
    table = parent.table(name)
    return _read_keys(table) if len(parent.problems) == before else _NONE


def _read_keys(table: Table, expires_days: int | None = None) -> RolePolicy:
    before = len(table.problems)
    keys = table.names("keys")
    if len(table.problems) == before and not keys:
        table.problem("keys: found [], expected at least one name")
    threshold = table.integer("threshold", least=1, most=MAX_THRESHOLD)
    if keys and threshold > len(keys):
        table.problem(f"threshold: found {threshold}, expected at most the number of keys, {len(keys)}")
    if expires_days is None:
        expires_days = table.integer("expires_days", least=1, most=MAX_EXPIRES_DAYS)
    table.end()
    return RolePolicy(keys, threshold, expires_days)


def _read_command(table: Table) -> tuple[str, ...]:
    text = table.text("command", default="")
    try:
        return tuple(shlex.split(text))
    except ValueError as error:
        table.problem(f"command: found {text!r}: {error}; expected words as a shell splits them")
        return ()


def _find_wrong_schemes(policy: KeyPolicy) -> Iterator[str]:
    known = frozenset(key_names(policy))
    for key, scheme in policy.schemes.items():
        if key not in known:
            yield f"schemes.{key}: found a key that no role lists, expected one of them"
        if scheme not in KEY_SCHEMES:
            yield f"schemes.{key}: found {scheme!r}, expected one of {', '.join(KEY_SCHEMES)}"


def _find_shared_keys(policy: KeyPolicy) -> Iterator[str]:
    """Yield a problem for every key that serves two purposes.

    A key that is online by its nature (snapshot, timestamp, a build machine) must not sign as one that is kept offline, and the owners of
    root, targets and layout must be different (ITE-2), or the chain vouches for itself. Domains of one supplier may share a key, so may
    steps of one machine, and snapshot and timestamp.
    """
    purposes = (
        ("root", (policy.root,)),
        ("targets", (policy.targets,)),
        ("layout", (policy.layout,)),
        ("domains", tuple(policy.domains.values())),
        ("snapshot or timestamp", (policy.snapshot, policy.timestamp)),
        ("steps", tuple(policy.steps.values())),
        ("gate", (policy.gate,) if policy.gate else ()),
    )
    found: dict[str, list[str]] = {}
    for purpose, roles in purposes:
        for key in dict.fromkeys(key for role in roles for key in role.keys):
            found.setdefault(key, []).append(purpose)
    for key, uses in found.items():
        if len(uses) > 1:
            yield f"key {key!r}: found in {' and in '.join(uses)}, expected a key of its own for each"
