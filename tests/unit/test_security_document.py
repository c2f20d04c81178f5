"""SECURITY.md says of roles what the policy says, and its links lead somewhere."""

import re
from pathlib import Path

import pytest

from packager.config.policy import read_policy
from packager.model.policy import RolePolicy

PROJECT = Path(__file__).parents[2]
TEXT = (PROJECT / "SECURITY.md").read_text()
POLICY = read_policy(PROJECT / "keys/policy.toml")


def _said(role: RolePolicy) -> str:
    count = f"{role.threshold} of {len(role.keys)}" if len(role.keys) > 1 else "1"
    return f"{count}, {role.expires_days} days"


@pytest.mark.parametrize(
    ("name", "role"),
    [
        ("root", POLICY.root),
        ("targets", POLICY.targets),
        ("layout owner", POLICY.layout),
        *(("a domain, per release (`body.07-2020.45`)", domain) for domain in POLICY.domains.values()),
    ],
)
def test_thresholds_and_life_times_are_those_of_the_policy(name: str, role: RolePolicy) -> None:
    assert f"| {name} | {_said(role)} |" in TEXT


def test_online_roles_and_functionaries_are_those_of_the_policy() -> None:
    online = (POLICY.snapshot, POLICY.timestamp)
    assert [(len(role.keys), role.threshold) for role in online] == [(1, 1)] * 2
    assert f"1 each, {online[0].expires_days} and {online[1].expires_days} days" in TEXT
    assert POLICY.gate is not None
    assert f"| gate | {POLICY.gate.threshold} |" in TEXT
    assert f"functionaries ({', '.join(f'`{step}`' for step in POLICY.steps)}) | 1 each" in TEXT


def test_links_lead_somewhere() -> None:
    for link in re.findall(r"\]\(([^)#]+)\)", TEXT):
        assert (PROJECT / link).exists(), link
