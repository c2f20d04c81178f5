"""Who signs what: roles, their keys, thresholds and life times."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RolePolicy:
    """One role.

    Attributes:
        keys: Names of the keys that may sign for it.
        threshold: How many different ones must.
        expires_days: How long what they sign is valid, counted from the time of issue.
    """

    keys: tuple[str, ...]
    threshold: int
    expires_days: int


@dataclass(frozen=True, slots=True)
class KeyPolicy:
    """All roles of a repository and of its supply chain.

    Attributes:
        demo: Whether the keys are for demonstration; they are marked so in everything they sign.
        root: TUF root.
        targets: TUF top-level targets, which delegates to the domains.
        snapshot: TUF snapshot.
        timestamp: TUF timestamp.
        domains: Delegated targets role per domain.
        layout: Owner of the in-toto layout.
        steps: Functionaries per in-toto step.
    """

    demo: bool
    root: RolePolicy
    targets: RolePolicy
    snapshot: RolePolicy
    timestamp: RolePolicy
    domains: Mapping[str, RolePolicy]
    layout: RolePolicy
    steps: Mapping[str, RolePolicy]
