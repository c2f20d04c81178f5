"""Says in words how proposed metadata differs from the version in force: what a custodian reads before signing.

Complete by construction: what no sentence is about is shown as it stands, so that nothing can be signed unseen.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from tuf.api.metadata import Key, Role, Root, TargetFile, Targets

from packager.repo.staged import label, labels
from packager.vehicle.identity import SHA256

_TIME = "%Y-%m-%d %H:%M:%S UTC"


def describe(old: Root | Targets | None, new: Root | Targets, names: Mapping[str, str]) -> list[str]:
    """Return the differences, one per line.

    Args:
        old: The version in force; None if there is none, or none is at hand: then all that is proposed is named.
        new: What is proposed.
        names: Names of keys by id; others are shown by their id.
    """
    return [_printable(line) for line in _differences(old, new, names)]


def _printable(line: str) -> str:
    """Escape what would not show: a name in the file must not repaint the terminal of who is to sign it."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode() for character in line
    )


def _differences(old: Root | Targets | None, new: Root | Targets, names: Mapping[str, str]) -> Iterator[str]:
    yield f"version: {'' if old is None else f'{old.version} -> '}{new.version}"
    yield f"expires: {'' if old is None else f'{old.expires:{_TIME}} -> '}{new.expires:{_TIME}}"
    if isinstance(new, Root):
        before = old if isinstance(old, Root) else None
        for role in new.roles:
            yield from _role(role, None if before is None else before.roles.get(role), new.roles[role], names)
        yield from _keys({} if before is None else before.keys, new.keys, names)
        consistent = None if before is None else before.consistent_snapshot
        yield from _value("consistent_snapshot", consistent, new.consistent_snapshot)
    else:
        before_targets = old if isinstance(old, Targets) else None
        yield from _delegations(before_targets, new, names)
        yield from _targets({} if before_targets is None else before_targets.targets, new.targets)
    yield from _fields({} if old is None else old.unrecognized_fields, new.unrecognized_fields)


def _role(name: str, old: Role | None, new: Role, names: Mapping[str, str]) -> Iterator[str]:
    if old is None:
        yield f"role {name}: any {new.threshold} of {labels(new.keyids, names)}"
        return
    for key_id in old.keyids:
        if key_id not in new.keyids:
            yield f"role {name}: REMOVED {label(key_id, names)}"
    for key_id in new.keyids:
        if key_id not in old.keyids:
            yield f"role {name}: ADDED {label(key_id, names)}"
    if type(new) is Role:
        yield from (f"role {name}: {line}" for line in _fields(old.unrecognized_fields, new.unrecognized_fields))
    if (old.threshold, len(old.keyids)) != (new.threshold, len(new.keyids)):
        yield f"role {name}: threshold {old.threshold} of {len(old.keyids)} -> {new.threshold} of {len(new.keyids)}"


def _keys(old: Mapping[str, Key], new: Mapping[str, Key], names: Mapping[str, str]) -> Iterator[str]:
    for key_id, key in sorted(new.items(), key=lambda item: label(item[0], names)):
        if key_id not in old or old[key_id].to_dict() != key.to_dict():
            more = "".join(f", {name} = {value}" for name, value in sorted(key.unrecognized_fields.items()))
            public = " ".join(key.keyval["public"].split())
            yield f"{label(key_id, names)}: id {key_id}, {key.keytype}, {key.scheme}, public {public}{more}"
    for key_id in sorted(old.keys() - new.keys()):
        yield f"{label(key_id, names)}: id {key_id}, LISTED no more"


def _delegations(old: Targets | None, new: Targets, names: Mapping[str, str]) -> Iterator[str]:
    before = (old.delegations.roles or {}) if old is not None and old.delegations is not None else {}
    keys_before = old.delegations.keys if old is not None and old.delegations is not None else {}
    after = (new.delegations.roles or {}) if new.delegations is not None else {}
    for name in before:
        if name not in after:
            yield f"delegation {name}: REMOVED"
    for name, role in after.items():
        known = before.get(name)
        if known is None:
            end = "terminating" if role.terminating else "not terminating"
            yield f"delegation {name}: ADDED, {end}, for {', '.join(role.paths or ()) or 'nothing'}"
        else:
            yield from _paths(name, known.paths or [], role.paths or [])
            yield from _value(f"delegation {name}: terminating", known.terminating, role.terminating)
        prefixes = None if known is None else known.path_hash_prefixes
        yield from _value(f"delegation {name}: path_hash_prefixes", prefixes, role.path_hash_prefixes)
        yield from _role(name, known, role, names)
        fields = {} if known is None else known.unrecognized_fields
        yield from (f"delegation {name}: {line}" for line in _fields(fields, role.unrecognized_fields))
    stayed = [name for name in after if name in before]
    if stayed != [name for name in before if name in after]:
        yield f"delegations: order is now {', '.join(after)}"
    elif list(after)[len(after) - len(stayed) :] != stayed:
        yield f"delegations: order is now {', '.join(after)}; new ones are not in front"
    if new.delegations is not None:
        yield from _keys(keys_before, new.delegations.keys, names)
        fields = old.delegations.unrecognized_fields if old is not None and old.delegations is not None else {}
        yield from (f"delegations: {line}" for line in _fields(fields, new.delegations.unrecognized_fields))


def _paths(name: str, old: list[str], new: list[str]) -> Iterator[str]:
    yield from (f"delegation {name}: path REMOVED {path}" for path in old if path not in new)
    yield from (f"delegation {name}: path ADDED {path}" for path in new if path not in old)


def _targets(old: Mapping[str, TargetFile], new: Mapping[str, TargetFile]) -> Iterator[str]:
    for path in sorted(old.keys() - new.keys()):
        yield f"target {path}: REMOVED"
    for path in sorted(new):
        if path not in old:
            yield f"target {path}: ADDED, {_target(new[path])}"
        elif old[path].to_dict() != new[path].to_dict():
            yield f"target {path}: CHANGED from {_target(old[path])} to {_target(new[path])}"


def _target(target: TargetFile) -> str:
    hashes = ", ".join(f"{name} {value}" for name, value in target.hashes.items())
    fields = f", {_show(target.unrecognized_fields)}" if target.unrecognized_fields else ""
    return f"{target.length} bytes, {hashes or f'no {SHA256}'}{fields}"


def _fields(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    for name in sorted(old.keys() | new.keys()):
        yield from _value(name, old.get(name), new.get(name))


def _value(name: str, old: object, new: object) -> Iterator[str]:
    if old != new:
        yield f"{name}: {'' if old is None else f'{_show(old)} -> '}{'REMOVED' if new is None else _show(new)}"


def _show(value: object) -> str:
    if isinstance(value, Mapping):
        return " ".join(f"{name}={_show(item)}" for name, item in value.items())
    return ",".join(map(_show, value)) if isinstance(value, list) else str(value)
