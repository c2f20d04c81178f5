"""Finds targets through delegations (TUF 5.6.7): pre-order, terminating roles respected, each role only inside the paths it was given.

Pure but for the `load` that the caller passes in; loading is lazy, so that a car reads the roles of its own hardware only.
"""

from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from typing import Final

from tuf.api.metadata import DelegatedRole, TargetFile, Targets

from packager.vehicle.errors import UntrustedError
from packager.vehicle.metadata_json import digest_of
from packager.vehicle.table import is_name
from packager.vehicle.targets import BundleTarget, ImageTarget, read_target

MAX_DELEGATIONS: Final = 32
"""Delegated roles that the search for one target, or for the targets of one hardware id, may visit."""
MAX_ROLES: Final = 1024
"""Delegated roles that a whole release may have."""
_PATH_PARTS: Final = 3

Load = Callable[[str, str, Targets], Targets]
"""Returns the verified role `name` (first) as its delegator (second: name, third: content) vouches for it."""


class DelegationTree:
    """The targets roles of one repository state.

    Args:
        top: The verified top-level targets role.
        load: Gets and verifies delegated roles.
    """

    def __init__(self, top: Targets, load: Load) -> None:
        self._top = top
        self._load = load
        self._loaded: dict[tuple[str, str], Targets] = {}

    def find(self, path: str) -> TargetFile | None:
        """Return the target at `path` from the first role responsible for it, None if there is none.

        Raises:
            UntrustedError: A role on the way does not hold.
        """
        target, _ = self._find(path, Targets.type, self._top, _Visited(MAX_DELEGATIONS))
        return target

    def of_hardware(self, hardware_id: str) -> list[ImageTarget | BundleTarget]:
        """Return all images and bundles under ``<hardware id>/``, sorted by path.

        Raises:
            UntrustedError: A role on the way does not hold, or a target is nonsense.
        """
        return [target for _, target in self._select(lambda role: _may_hold(role, hardware_id), hardware_id)]

    def everything(self) -> list[ImageTarget | BundleTarget]:
        """Return all images and bundles of all roles, sorted by path: for checking a whole release.

        Raises:
            UntrustedError: A role does not hold, or a target is nonsense.
        """
        return [target for _, target in self._select(lambda _: True, None)]

    def _select(
        self, wanted: Callable[[DelegatedRole], bool], hardware_id: str | None
    ) -> list[tuple[str, ImageTarget | BundleTarget]]:
        paths = set()
        visited = _Visited(MAX_ROLES if hardware_id is None else MAX_DELEGATIONS)
        for role in self._walk(Targets.type, self._top, wanted, hardware_id, visited):
            for path in role.targets:
                parts = path.split("/")
                if len(parts) == _PATH_PARTS and hardware_id in (None, parts[0]):
                    paths.add(path)
        found = []
        for path in sorted(paths):
            target = self.find(path)
            if target is not None:
                digest = digest_of(target.hashes, f"target {path!r}")
                found.append((path, read_target(path, target.length, {digest.algorithm: digest.hex}, target.custom)))
        return found

    def _walk(
        self,
        name: str,
        role: Targets,
        wanted: Callable[[DelegatedRole], bool],
        hardware_id: str | None,
        visited: "_Visited",
    ) -> Iterator[Targets]:
        """Yield the roles that may list targets of some hardware, in order; stops behind one that ends the search for all of them."""
        yield role
        for delegated in _roles(role):
            if not wanted(delegated) or visited.has(name, delegated.name):
                continue
            content = self._get(delegated.name, name, role, visited)
            yield from self._walk(delegated.name, content, wanted, hardware_id, visited)
            if hardware_id is not None and _ends_search(delegated, hardware_id):
                return

    def _find(self, path: str, name: str, role: Targets, visited: "_Visited") -> tuple[TargetFile | None, bool]:
        """Return the target, and whether the search is over."""
        if path in role.targets:
            return role.targets[path], True
        for delegated in _roles(role):
            if not delegated.is_delegated_path(path) or visited.has(name, delegated.name):
                continue
            content = self._get(delegated.name, name, role, visited)
            target, is_over = self._find(path, delegated.name, content, visited)
            if is_over or delegated.terminating:
                return target, True
        return None, False

    def _get(self, name: str, delegator: str, content: Targets, visited: "_Visited") -> Targets:
        if not is_name(name):
            raise UntrustedError(f"{delegator}.json: delegates to {name!r}, expected a name that is safe as a path")
        visited.enter(delegator, name)
        # By delegator, too: keys of one delegator say nothing about another's (diamond delegations, python-tuf 7.0.1).
        if (delegator, name) not in self._loaded:
            self._loaded[delegator, name] = self._load(name, delegator, content)
        return self._loaded[delegator, name]


class _Visited:
    """The delegations that one search has followed; each is followed once, so that cycles end."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._edges: set[tuple[str, str]] = set()

    def has(self, delegator: str, name: str) -> bool:
        return (delegator, name) in self._edges

    def enter(self, delegator: str, name: str) -> None:
        self._edges.add((delegator, name))
        if len(self._edges) > self._limit:
            raise UntrustedError(
                f"delegations: found more than {self._limit} roles on the way, expected at most that many"
            )


def _roles(role: Targets) -> list[DelegatedRole]:
    return list((role.delegations.roles or {}).values()) if role.delegations is not None else []


def _may_hold(role: DelegatedRole, hardware_id: str) -> bool:
    """Tell whether a role may list targets of `hardware_id`; hash prefixes may hold anything."""
    if role.paths is None:
        return True
    parts = (pattern.split("/") for pattern in role.paths)
    return any(len(part) == _PATH_PARTS and fnmatchcase(hardware_id, part[0]) for part in parts)


def _ends_search(role: DelegatedRole, hardware_id: str) -> bool:
    if not role.terminating or role.paths is None:
        return False
    parts = (pattern.split("/") for pattern in role.paths)
    return any(part[1:] == ["*", "*"] and fnmatchcase(hardware_id, part[0]) for part in parts)
