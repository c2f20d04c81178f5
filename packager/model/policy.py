"""Who signs what: roles, their keys, thresholds and life times."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

KEY_SCHEMES: Final = (
    "ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "rsassa-pss-sha256",
    "rsassa-pss-sha384",
    "rsassa-pss-sha512",
    "ml-dsa-44",
    "ml-dsa-65",
    "ml-dsa-87",
)
"""Signature schemes of TUF that keys may have; the three of ML-DSA stand for their version 1 (TAP 21)."""

DEFAULT_SCHEME: Final = KEY_SCHEMES[0]


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
        steps: Functionaries per in-toto step, in order; steps of the company's own are performed before those of a build.
        schemes: Signature scheme per key; a key that is not listed may be of any, and is made with the default one.
        gate: The release gate, which verifies the supply chain and says so to the cars; None for a repository that says nothing.
        commands: What a step of the company's own must run, by its name; a step that is not listed may run anything.
        step_hardware: Hardware ids whose images a step of the company's own may make, by its name; one that is not listed may make any.
    """

    demo: bool
    root: RolePolicy
    targets: RolePolicy
    snapshot: RolePolicy
    timestamp: RolePolicy
    domains: Mapping[str, RolePolicy]
    layout: RolePolicy
    steps: Mapping[str, RolePolicy]
    schemes: Mapping[str, str] = field(default_factory=dict)
    gate: RolePolicy | None = None
    commands: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    step_hardware: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def roles(self) -> dict[str, RolePolicy]:
        """Return every role under a name for people, those of TUF first."""
        return {
            "root": self.root,
            "targets": self.targets,
            "snapshot": self.snapshot,
            "timestamp": self.timestamp,
            **{f"domain {name}": role for name, role in self.domains.items()},
            "layout": self.layout,
            **{f"step {name}": role for name, role in self.steps.items()},
            **({"gate": self.gate} if self.gate else {}),
        }


def key_names(policy: KeyPolicy) -> tuple[str, ...]:
    """Return the name of every key of a policy, each once."""
    return tuple(dict.fromkeys(key for role in policy.roles().values() for key in role.keys))
