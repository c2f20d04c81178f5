"""Finds targets through delegations (TUF 5.6.7): pre-order, terminating roles respected, each role only inside the paths it was given.

Per hardware id only the newest release counts: the first terminating role in order that names it ends the walk for it, so that a car
does not read the releases before (`docs/decisions/0012-role-per-release.md`). Those stay reachable by exact path.

Pure but for the `load` that the caller passes in; loading is lazy, so that a car reads the roles of its own hardware only.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final

from tuf.api.metadata import DelegatedRole, TargetFile, Targets

from packager.vehicle.core.targets import CHAIN, BundleTarget, ImageTarget, read_target
from packager.vehicle.errors import UntrustedError
from packager.vehicle.table import is_name
from packager.vehicle.trust.metadata_json import digest_of

MAX_DELEGATIONS: Final = 32
"""Delegated roles that the search for one target, or for the targets of one hardware id, may visit. Roles that are not responsible do
not count, so that this does not limit how many releases a repository keeps."""
MAX_ROLES: Final = 4096
"""Delegated roles that a whole repository may have: 5 domains and 800 releases. Its snapshot is then a third of the longest."""
_PATH_PARTS: Final = 3
_WILDCARDS: Final = frozenset("*?[")

Load = Callable[[str, str, Targets], Targets]
"""Returns the verified role `name` (first) as its delegator (second: name, third: content) vouches for it."""


class DelegationTree:
    """The targets roles of one repository state.

    Args:
        top: The verified top-level targets role.
        load: Gets and verifies delegated roles.
        requires_safe_names: Whether names of roles must be safe as paths; else `load` makes them so.
    """

    def __init__(self, top: Targets, load: Load, *, requires_safe_names: bool = True) -> None:
        self._requires_safe_names = requires_safe_names
        self._top = _Role(top)
        self._load = load
        self._loaded: dict[tuple[str, str], _Role] = {}

    def find(self, path: str) -> TargetFile | None:
        """Return the target at `path` from the first role responsible for it, None if there is none.

        Raises:
            UntrustedError: A role on the way does not hold.
        """
        target, _ = self._find(path, Targets.type, self._top, _Visited(MAX_DELEGATIONS))
        return target

    def read(self, path: str) -> ImageTarget | BundleTarget | None:
        """Return the image or bundle at `path`, also of an old release, None if there is none.

        Raises:
            UntrustedError: A role on the way does not hold, or the target is nonsense.
        """
        target = self.find(path)
        if target is None:
            return None
        digest = digest_of(target.hashes, f"target {path!r}")
        return read_target(path, target.length, {digest.algorithm: digest.hex}, target.custom)

    def of_hardware(self, hardware_id: str) -> list[ImageTarget | BundleTarget]:
        """Return the images and bundles under ``<hardware id>/`` of the newest release that names it, sorted by path.

        Raises:
            UntrustedError: A role on the way does not hold, or a target is nonsense.
        """
        roles = self._walk(Targets.type, self._top, _OneHardware(hardware_id).choose, _Visited(MAX_DELEGATIONS))
        return self._read_all(path for _, role in roles for path in role.targets if path.split("/")[0] == hardware_id)

    def roles(self, *, superseded: bool) -> dict[str, Targets]:
        """Return the delegated roles by name, in order.

        Args:
            superseded: Also those that no car reads any more, because newer ones name all of their hardware; they may have expired.

        Raises:
            UntrustedError: A role does not hold.
        """
        roles = self._walk(Targets.type, self._top, _AllHardware(superseded=superseded).choose, _Visited(MAX_ROLES))
        return {name: role for name, role in roles if role is not self._top.content}

    def everything(self, *, superseded: bool = False) -> list[ImageTarget | BundleTarget]:
        """Return all images and bundles of `roles`, sorted by path: for checking a whole repository.

        Raises:
            UntrustedError: A role does not hold, or a target is nonsense.
        """
        roles = [self._top.content, *self.roles(superseded=superseded).values()]
        return self._read_all(path for role in roles for path in role.targets)

    def loaded(self) -> set[str]:
        """Return the names of the delegated roles that were needed so far."""
        return {name for _, name in self._loaded}

    def responsible(self, path: str) -> str | None:
        """Return the name of the first role that the top-level role delegates `path` to, None if there is none."""
        return next((role.name for role in self._top.responsible(path)), None)

    def _read_all(self, paths: Iterable[str]) -> list[ImageTarget | BundleTarget]:
        wanted = {path for path in paths if path.count("/") == _PATH_PARTS - 1 and not path.startswith(f"{CHAIN}/")}
        return [target for target in map(self.read, sorted(wanted)) if target is not None]

    def _walk(
        self, name: str, role: "_Role", choose: "Callable[[_Role], Iterator[DelegatedRole]]", visited: "_Visited"
    ) -> Iterator[tuple[str, Targets]]:
        """Yield roles in order, as far as `choose` goes on to name delegated ones."""
        yield name, role.content
        for delegated in choose(role):
            if not visited.has(name, delegated.name):
                inner = self._get(delegated.name, name, role, visited)
                yield from self._walk(delegated.name, inner, choose, visited)

    def _find(self, path: str, name: str, role: "_Role", visited: "_Visited") -> tuple[TargetFile | None, bool]:
        """Return the target, and whether the search is over."""
        if path in role.content.targets:
            return role.content.targets[path], True
        for delegated in role.responsible(path):
            if visited.has(name, delegated.name):
                continue
            inner = self._get(delegated.name, name, role, visited)
            target, is_over = self._find(path, delegated.name, inner, visited)
            if is_over or delegated.terminating:
                return target, True
        return None, False

    def _get(self, name: str, delegator: str, role: "_Role", visited: "_Visited") -> "_Role":
        if self._requires_safe_names and not is_name(name):
            raise UntrustedError(f"{delegator}.json: delegates to {name!r}, expected a name that is safe as a path")
        visited.enter(delegator, name)
        # By delegator, too: keys of one delegator say nothing about another's (diamond delegations, python-tuf 7.0.1).
        if (delegator, name) not in self._loaded:
            self._loaded[delegator, name] = _Role(self._load(name, delegator, role.content))
        return self._loaded[delegator, name]


@dataclass(frozen=True, slots=True)
class _Scope:
    """A delegation with those of its patterns that begin alike; None for hash prefixes, which may hold anything."""

    position: int
    role: DelegatedRole
    patterns: list[list[str]] | None

    def holds(self, path: str, parts: list[str]) -> bool:
        """Tell whether the role is responsible for a path."""
        if self.patterns is None:
            return self.role.is_delegated_path(path)
        return any(len(pattern) == len(parts) and all(map(fnmatchcase, parts, pattern)) for pattern in self.patterns)

    def names(self, hardware_id: str) -> bool:
        """Tell whether a pattern is for images and bundles of a hardware id."""
        patterns = self.patterns or ()
        return any(len(pattern) == _PATH_PARTS and fnmatchcase(hardware_id, pattern[0]) for pattern in patterns)


class _Role:
    """A targets role, its delegations indexed by the first part of their patterns: a repository has thousands of those."""

    def __init__(self, content: Targets) -> None:
        self.content = content
        self.delegated: list[DelegatedRole] = []
        if content.delegations is not None:
            self.delegated.extend((content.delegations.roles or {}).values())
        self._by_first: dict[str, list[_Scope]] = {}
        self._anywhere: list[_Scope] = []
        for position, role in enumerate(self.delegated):
            if role.paths is None:
                self._anywhere.append(_Scope(position, role, None))
            for pattern in role.paths or ():
                parts = pattern.split("/")
                scopes = self._anywhere if _WILDCARDS & set(parts[0]) else self._by_first.setdefault(parts[0], [])
                if not scopes or scopes[-1].position != position:
                    scopes.append(_Scope(position, role, []))
                patterns = scopes[-1].patterns
                assert patterns is not None  # noqa: S101 - a role has either patterns or hash prefixes
                patterns.append(parts)

    def scopes(self, first: str) -> list[_Scope]:
        """Return the delegations, in order, that may hold paths beginning with ``<first>/``."""
        found = self._by_first.get(first, ())
        return sorted((*found, *self._anywhere), key=lambda scope: scope.position)

    def responsible(self, path: str) -> Iterator[DelegatedRole]:
        """Yield the delegated roles that may list `path`, in order."""
        delegations = self.content.delegations
        succinct = None if delegations is None else delegations.succinct_roles
        if succinct is not None:  # TAP 15: one bin is responsible, and ends the search
            name = succinct.get_role_for_target(path)
            return iter([DelegatedRole(name, succinct.keyids, succinct.threshold, terminating=True, paths=["*"])])
        parts = path.split("/")
        return (scope.role for scope in self.scopes(parts[0]) if scope.holds(path, parts))


class _OneHardware:
    """Chooses the roles that may list targets of a hardware id, up to the newest release that names it."""

    def __init__(self, hardware_id: str) -> None:
        self._hardware_id = hardware_id
        self._is_found = False

    def choose(self, role: _Role) -> Iterator[DelegatedRole]:
        for scope in role.scopes(self._hardware_id):
            if self._is_found:
                return
            is_named = scope.names(self._hardware_id)
            if is_named or scope.patterns is None:
                yield scope.role
                self._is_found |= is_named and scope.role.terminating


class _AllHardware:
    """Chooses all roles; without the superseded ones if so wanted."""

    def __init__(self, *, superseded: bool) -> None:
        self._superseded = superseded
        self._found: set[str] = set()

    def choose(self, role: _Role) -> Iterator[DelegatedRole]:
        for delegated in role.delegated:
            patterns = [pattern.split("/") for pattern in delegated.paths or ()]
            parts = [part for part in patterns if len(part) == _PATH_PARTS]  # others can't list images or bundles
            names = {part[0] for part in parts if not _WILDCARDS & set(part[0])}
            is_whole = bool(parts) and all(part[0] in names for part in parts)
            if self._superseded or not is_whole or not names <= self._found:
                yield delegated
                self._found |= names if delegated.terminating else set()


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
