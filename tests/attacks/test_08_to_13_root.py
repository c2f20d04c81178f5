"""Attacks 8 to 13: the root, its chain and what a rotation must undo."""

import os
import shutil
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from packager.vehicle.errors import TemporaryError, UntrustedError
from packager.vehicle.installation.home import open_home
from packager.vehicle.trust import workflow
from packager.vehicle.trust.metadata_store import initialise, read_stored_root
from packager.vehicle.trust.workflow import ExpiredError
from tests.attacks.scene import Scene, sign
from tests.repository_simulator import LATER, NOW, signers


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path, threshold=2)


def _root(scene: Scene) -> int:
    return read_stored_root(open_home(scene.car.home.root).metadata).version


@pytest.mark.parametrize("who", ["old keys", "new keys", "one of each"])
def test_attack_08_the_next_root_is_signed_by_half_of_those_who_must(scene: Scene, who: str) -> None:
    """CVE-2020-15163, and a thief of the old keys."""
    chosen = {
        "old keys": lambda old, new: old,
        "new keys": lambda old, new: new,
        "one of each": lambda old, new: [old[0], new[0]],
    }
    old = scene.repository.signers["root"]
    scene.repository.rotate("root", sign_with=chosen[who])
    scene.refused(UntrustedError, "root.json.*signed by [01] different keys .* expected 2")
    scene.repository.publish_root([*old, *scene.repository.signers["root"]])
    scene.recovers()
    assert _root(scene) == 2


@pytest.mark.parametrize("states", [1, 3, 2**63 - 1])
def test_attack_09_a_root_states_another_version(scene: Scene, states: int) -> None:
    """CVE-2025-2885."""
    root = scene.next_version("root")
    root["version"] = states
    scene.replace("root", sign(root, scene.repository.signers["root"]))
    scene.refused(UntrustedError, f"root.json version 2: states version {states}; roots follow one by one")
    scene.recovers()


def test_attack_09_a_version_is_skipped(scene: Scene) -> None:
    """Root 2 is held back: root 3 is not followed, and what it says does not count."""
    stolen = scene.repository.signers["timestamp"]
    scene.repository.rotate("timestamp")
    second = scene.repository.files.pop("2.root.json")
    scene.repository.rotate("timestamp")
    scene.repository.publish()
    scene.refused(UntrustedError, r"timestamp.json: signed by 0 different keys")
    assert _root(scene) == 1
    scene.repository.files["2.root.json"] = second
    scene.recovers()
    scene.replace("timestamp", sign(scene.next_version("timestamp"), stolen))
    scene.refused(UntrustedError, r"timestamp.json: signed by 0 different keys")


def test_attack_10_a_refused_root_is_not_trusted_at_the_next_start(scene: Scene) -> None:
    """CVE-2020-15163: the invalid root had been stored. `refused` opens the home anew and compares every byte."""
    thieves = signers(2)
    old, scene.repository.signers["root"] = scene.repository.signers["root"], thieves
    root = scene.next_version("root")
    root["roles"]["root"]["keyids"] = [s.public_key.keyid for s in thieves]
    root["keys"].update({s.public_key.keyid: s.public_key.to_dict() for s in thieves})
    scene.replace("root", sign(root, thieves))
    for _ in range(2):
        scene.refused(UntrustedError, r"root.json version 2: signed by 0 different keys that root version 1 trusts")
    assert _root(scene) == 1
    scene.repository.signers["root"] = old
    scene.recovers()


class CutError(BaseException):
    """The power is gone."""


@pytest.mark.parametrize("is_done", [False, True], ids=["before", "after"])
def test_attack_10_the_power_is_cut_between_root_and_timestamp(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_done: bool
) -> None:
    """At every change of a name: afterwards an honest update works, and the fast-forwarded versions are gone."""
    fast_forward(scene)
    scene.accepted()
    scene.repository.timestamp.version = scene.repository.snapshot.version = 2
    scene.repository.rotate("snapshot")
    scene.repository.publish(bump=False)
    whole = tmp_path / "whole"
    shutil.copytree(scene.car.home.root, whole)
    left = 0

    def counted(call: Any) -> Any:
        def wrapper(*arguments: Any, **options: Any) -> Any:
            nonlocal left
            left -= 1
            if left == 0 and not is_done:
                raise CutError
            result = call(*arguments, **options)
            if left == 0:
                raise CutError
            return result

        return wrapper

    cuts = 0
    while True:
        shutil.rmtree(scene.car.home.root)
        shutil.copytree(whole, scene.car.home.root)
        left = cuts + 1
        with monkeypatch.context() as patch:
            for name in ("replace", "unlink"):
                patch.setattr(os, name, counted(getattr(os, name)))
            try:
                scene.update()
                break
            except CutError:
                pass
        left = 0
        scene.accepted()
        cuts += 1
    assert cuts >= 4, "two files removed, root and timestamp written"


def test_attack_11_the_chain_of_roots_never_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """256 roots in one go, as python-tuf (20 here); what was verified is kept, and the next start goes on from there."""
    assert workflow.MAX_ROOT_ROTATIONS == 256
    monkeypatch.setattr(workflow, "MAX_ROOT_ROTATIONS", 20)
    scene = Scene(tmp_path)
    keys = scene.repository.signers["root"]
    for version in range(2, workflow.MAX_ROOT_ROTATIONS + 3):
        scene.repository.root.version = version
        scene.repository.publish_root(keys)
    scene.refused(TemporaryError, "more than 20 new roots; version 21 is reached", may_change=["metadata/root.json"])
    assert f"{workflow.MAX_ROOT_ROTATIONS + 2}.root.json" in scene.repository.requests
    assert f"{workflow.MAX_ROOT_ROTATIONS + 3}.root.json" not in scene.repository.requests
    scene.recovers()


def test_attack_11_a_root_is_too_long(scene: Scene) -> None:
    root = scene.next_version("root")
    data = sign(root, scene.repository.signers["root"])
    scene.replace("root", data + b" " * (workflow.MAX_ROOT_BYTES + 1 - len(data)))
    scene.refused(UntrustedError, "2.root.json: longer than 512000 bytes")
    scene.replace("root", data + b" " * (workflow.MAX_ROOT_BYTES - len(data)))
    scene.accepted()


def test_attack_12_an_expired_root_counts_only_at_the_end_of_the_chain(scene: Scene) -> None:
    scene.repository.root.expires = NOW - timedelta(days=400)
    scene.repository.rotate("root")
    scene.refused(ExpiredError, r"root.json version 2: expired at 2025-05-27", may_change=["metadata/root.json"])
    scene.repository.root.expires = LATER
    scene.repository.rotate("root")
    scene.recovers()
    assert _root(scene) == 3


def test_attack_12_an_older_root_to_start_from_replaces_nothing(scene: Scene) -> None:
    """Whoever can run `init` with an old root, whose keys were stolen since, must not win by it."""
    first = scene.repository.files["1.root.json"]
    scene.repository.rotate("root")
    scene.accepted()
    before = scene.files()
    with pytest.raises(UntrustedError, match="another one is trusted already"):
        initialise(open_home(scene.car.home.root).metadata, first)
    assert scene.files() == before
    scene.recovers()


def fast_forward(scene: Scene) -> None:
    """What a thief of the online keys can do: the highest versions there are."""
    repository = scene.repository
    repository.timestamp.version = repository.snapshot.version = 2**62
    repository.publish(bump=False)


@pytest.mark.parametrize("role", ["timestamp", "snapshot"])
def test_attack_13_rotated_online_keys_undo_a_fast_forward(scene: Scene, role: str) -> None:
    """TUF 5.3.11."""
    fast_forward(scene)
    scene.accepted()
    scene.repository.timestamp.version = scene.repository.snapshot.version = 5
    scene.repository.publish(bump=False)
    scene.refused(UntrustedError, f"{2**62} was trusted before")
    scene.repository.rotate(role)
    scene.recovers()


@pytest.mark.parametrize("role", ["targets", "body"])
def test_attack_13_versions_of_other_roles_are_fast_forwarded(scene: Scene, role: str) -> None:
    """The stolen online keys list a version of a role that nobody signed: it is refused, and a rotation makes cars forget it."""
    repository = scene.repository
    scene.accepted()
    signed: Any = repository.targets if role == "targets" else repository.delegated[role]
    signed.version = 2**62
    repository.publish(bump=False)
    scene.publish_online()
    scene.accepted()
    signed.version = 3
    repository.publish(bump=False)
    scene.publish_online()
    scene.refused(UntrustedError, f"lists {role}.json version 3, but version {2**62} was trusted before")
    repository.rotate("snapshot")
    scene.recovers()
