"""How long what is in force stays valid, and when it is time to renew it. Pure."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from tuf.api.metadata import Targets

from packager.model.policy import KeyPolicy
from packager.repo.in_force import InForce
from packager.repo.staged import role_policy
from packager.vehicle.trust.delegations import DelegationTree

_WARN_PART: Final = 4
"""By default a role is due in the last quarter of its life: three days and a half for a timestamp of two weeks."""
_UNKNOWN_DAYS: Final = 90


@dataclass(frozen=True, slots=True)
class Life:
    """The life time of one role.

    Attributes:
        role: Its name.
        version: In force.
        expires: When it ends, UTC.
        left: What is left of it; negative if it is over.
        is_due: Whether it is time to renew it.
    """

    role: str
    version: int
    expires: datetime
    left: timedelta
    is_due: bool


def lifetimes(in_force: InForce, policy: KeyPolicy, now: datetime, warn_days: int | None = None) -> list[Life]:
    """Return the life time of every role that some car reads, in the order in which cars read them.

    Args:
        in_force: What is served.
        policy: Life times of the roles.
        now: The time, UTC.
        warn_days: How long before its end a role is due; None for a quarter of its life time.
    """
    superseded = set(in_force.roles) - needed_roles(in_force)
    lives = []
    for role, payload in in_force.payloads.items():
        if role in superseded:
            continue
        mine = role_policy(policy, role)
        days = warn_days if warn_days is not None else (mine.expires_days if mine else _UNKNOWN_DAYS) / _WARN_PART
        left = payload.expires - now
        lives.append(Life(role, payload.version, payload.expires, left, left <= timedelta(days=days)))
    return lives


def needed_roles(in_force: InForce) -> set[str]:
    """Return the targets roles that some car reads: all but those whose hardware newer releases name."""
    if in_force.targets is None:
        return set()
    tree = DelegationTree(in_force.targets, lambda name, _, __: in_force.roles[name])
    return {Targets.type, *tree.roles(superseded=False)}
