"""Differences in words: nothing that changes goes unsaid, whatever field it is in."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
from tuf.api.metadata import Root, Targets

from packager.repo.difference import describe
from tests.repository_life import Life


@pytest.fixture(scope="module")
def life(tmp_path_factory: pytest.TempPathFactory) -> Life:
    life = Life(tmp_path_factory.mktemp("life"))
    life.whole()
    life.whole(1)
    return life


def lines(life: Life, role: str, change: Callable[[Any], None]) -> str:
    old = life.in_force().payloads[role]
    assert isinstance(old, (Root, Targets))
    new = copy.deepcopy(old)
    new.version += 1
    change(new)
    return "\n".join(describe(old, new, life.names)[2:])


def test_nothing_but_version_and_expiry(life: Life) -> None:
    assert lines(life, "root", lambda _: None) == ""
    assert lines(life, "targets", lambda _: None) == ""


def _first(targets: Targets) -> Any:
    return next(iter(targets.targets.values()))


def _body(targets: Targets) -> Any:
    assert targets.delegations is not None
    assert targets.delegations.roles is not None
    return targets.delegations.roles["body.07-2020.01"]


@pytest.mark.parametrize(
    ("role", "change", "expected"),
    [
        ("root", lambda new: new.roles["root"].keyids.pop(), "role root: REMOVED root-3"),
        ("root", lambda new: new.roles["root"].keyids.append("ab" * 32), "role root: ADDED key abababababababab"),
        ("root", lambda new: setattr(new.roles["targets"], "threshold", 1), "role targets: threshold 2 of 3 -> 1 of 3"),
        ("root", lambda new: setattr(new, "consistent_snapshot", False), "consistent_snapshot: True -> False"),
        ("root", lambda new: new.unrecognized_fields.update(x=1), "x: 1"),
        ("root", lambda new: new.keys.pop(next(iter(new.keys))), "LISTED no more"),
        ("root", lambda new: next(iter(new.keys.values())).unrecognized_fields.update(x=1), "x = 1"),
        ("targets", lambda new: new.targets.pop("chain/07-2020.01/root.layout"), "target chain/07-2020.01/root.layout: REMOVED"),
        ("targets", lambda new: setattr(_first(new), "length", 1), "CHANGED from"),
        ("targets", lambda new: _first(new).unrecognized_fields.update(custom={"a": 1}), "a=1"),
        ("targets", lambda new: new.delegations.roles.pop("body.07-2020.01"), "delegation body.07-2020.01: REMOVED"),
        ("targets", lambda new: _body(new).paths.append("DME-1/*/*"), "delegation body.07-2020.01: path ADDED DME-1/*/*"),
        ("targets", lambda new: _body(new).paths.pop(), "delegation body.07-2020.01: path REMOVED BDC-1/1.0/*"),
        ("targets", lambda new: setattr(_body(new), "terminating", False), "terminating: True -> False"),
        ("targets", lambda new: setattr(_body(new), "threshold", 2), "threshold 1 of 1 -> 2 of 1"),
        ("targets", lambda new: _body(new).unrecognized_fields.update(y=[1]), "delegation body.07-2020.01: y: 1"),
        ("targets", lambda new: new.delegations.unrecognized_fields.update(z=1), "delegations: z: 1"),
        (
            "targets",
            lambda new: setattr(new.delegations, "roles", dict(reversed(new.delegations.roles.items()))),
            "delegations: order is now powertrain.07-2020.01, body.07-2020.01",
        ),
    ],
)  # fmt: skip
def test_every_change_is_said(life: Life, role: str, change: Callable[[Any], None], expected: str) -> None:
    assert expected in lines(life, role, change)


def test_without_a_version_in_force_all_is_said(life: Life) -> None:
    targets = life.in_force().targets
    assert targets is not None
    text = "\n".join(describe(None, targets, life.names))
    assert all(path in text for path in targets.targets)
    assert "delegation body.07-2020.01: ADDED, terminating, for BDC-1/1.0/*" in text
    assert "role body.07-2020.01: any 1 of body" in text


def test_control_characters_are_not_shown_as_they_are(life: Life) -> None:
    """A name in a travelling file must not repaint the terminal of who is to sign it."""
    text = lines(life, "targets", lambda new: new.unrecognized_fields.update({"x\x1b[2J\n": "\x1b[1A\u202e"}))
    assert text.isprintable()
    assert "\\x1b" in text
