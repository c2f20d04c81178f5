"""What a thief of keys can do, as SECURITY.md says: with what he has he signs as much as he can, and serves it himself."""

from pathlib import Path

import pytest

from packager.vehicle.errors import UntrustedError
from tests.attacks.scene import EVIL, NEW, OLD, Scene
from tests.repository_simulator import listed, signers

ONLINE = ("snapshot", "timestamp")


def _strike(scene: Scene, stolen: tuple[str, ...], *, of_threshold: int = 2) -> None:
    """Publish another image with the stolen keys, and with keys of his own where he has none; the rest stays as it is."""
    repository = scene.repository
    own = signers(2)
    if "root" in stolen:
        old = repository.signers["root"][:of_threshold]
        for name in ("root", "targets", *ONLINE):
            repository.signers[name] = own if name in ("root", "targets") else own[:1]
            repository.root.keys.update({s.public_key.keyid: s.public_key for s in own})
            repository.root.roles[name] = repository.role(name, len(repository.signers[name]))
        repository.root.version += 1
        repository.publish_root([*old, *own])
        stolen = ("targets", *ONLINE)
    if "targets" in stolen:
        repository.delegate("body", ["bdc/*/*"], with_signers=own[:1])
        repository.signers["body"] = own[:1]
        repository.signers["targets"] = repository.signers["targets"][:of_threshold]
    scene.offer_evil()
    mine = [name for name in ("targets", "body") if name in stolen or "targets" in stolen]
    for name in mine:
        role = repository.targets if name == "targets" else repository.delegated[name]
        role.version += 1
        data = repository.sign(role, repository.signers[name])
        repository.files[f"{role.version}.{name}.json"] = data
        repository.files[f"{role.version - 1}.{name}.json"] = data
        repository.snapshot.meta[f"{name}.json"] = listed(role.version, data)
    for name in ONLINE:
        repository.signers[name] = repository.signers[name] if name in stolen else own[:1]
    if set(ONLINE) & set(stolen):
        scene.publish_online()


@pytest.mark.parametrize(
    "stolen",
    [
        (),
        ("timestamp",),
        ("snapshot",),
        ONLINE,
        ("body",),
        ("body", "snapshot"),
        ("body", "timestamp"),
        ("targets",),
        ("targets", "body"),
        ("targets", "body", "timestamp"),
        ("chassis", *ONLINE),
    ],
    ids=lambda stolen: ", ".join(stolen) or "none",
)
@pytest.mark.parametrize("is_new_car", [True, False])
def test_these_keys_install_nothing(tmp_path: Path, stolen: tuple[str, ...], is_new_car: bool) -> None:
    scene = Scene(tmp_path, threshold=2)
    if not is_new_car:
        scene.accepted(NEW)
    _strike(scene, stolen)
    scene.accepted_or_refused()
    assert scene.car.active("BDC") in (OLD, NEW)
    assert EVIL not in scene.files().values(), "not even beside the active image"


@pytest.mark.parametrize("stolen", [("body", *ONLINE), ("targets", *ONLINE), ("root",)], ids=", ".join)
def test_these_keys_install_anything(tmp_path: Path, stolen: tuple[str, ...]) -> None:
    """The other side: nothing else than the keys stops the thief of the test above. A release gate is not in this repository."""
    scene = Scene(tmp_path, threshold=2)
    scene.accepted(NEW)
    _strike(scene, stolen)
    scene.accepted(EVIL)


@pytest.mark.parametrize("role", ["root", "targets"])
def test_one_key_of_two_installs_nothing(tmp_path: Path, role: str) -> None:
    scene = Scene(tmp_path, threshold=2)
    scene.accepted(NEW)
    _strike(scene, (role, *ONLINE), of_threshold=1)
    wrong = f"{role}.json.*signed by [01] different keys .* expected 2"
    scene.refused(UntrustedError, wrong)
    assert scene.car.active("BDC") == NEW
