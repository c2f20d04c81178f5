"""Attacks 21 to 25: who may say what about which hardware."""

from pathlib import Path

import pytest

from packager.vehicle.errors import UntrustedError
from packager.vehicle.trust import workflow
from packager.vehicle.trust.delegations import MAX_DELEGATIONS
from packager.vehicle.trust.metadata_store import read_stored
from tests.attacks.scene import EVIL, NEW, NEW_DSC, OLD, OLD_DSC, Scene
from tests.repository_simulator import NOW, RepositorySimulator, signers
from tests.vehicle_car import Car

DELEGATED = [f"metadata/{name}.json" for name in ("timestamp", "snapshot", "targets", "body", "chassis")]


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def test_attack_21_a_later_role_does_not_outbid_an_earlier_one(scene: Scene) -> None:
    """CVE-2024-47534: traversal in another order than signed. The later role offers a higher release counter."""
    scene.repository.delegate("late", ["bdc/*/*"], terminating=False)
    scene.offer_evil("late")
    scene.repository.publish()
    scene.accepted(NEW)
    assert not scene.asked_for("late")


def test_attack_21_an_earlier_role_wins_path_by_path(tmp_path: Path) -> None:
    """Not terminating, so that both are read: for a path that both name the first one decides."""
    scene = Scene(tmp_path)
    scene.repository.delegate("body", ["bdc/*/*"], terminating=False)
    scene.repository.delegate("late", ["bdc/*/*"], terminating=False)
    scene.offer_evil("late", version="2", counter=2)
    scene.repository.publish()
    scene.accepted(NEW)
    assert scene.asked_for("late")


@pytest.mark.parametrize("is_nested", [False, True])
def test_attack_21_a_terminating_role_ends_the_search(tmp_path: Path, is_nested: bool) -> None:
    """One of CVE-2025-2886, CVE-2025-2887. The terminating role names no version 9; a later one does."""
    scene = Scene(tmp_path)
    repository = scene.repository
    repository.delegate("body", ["bdc/[2]/*", "bdc/9/*"], terminating=True)
    if is_nested:
        repository.delegate("inner", ["bdc/9/*"], by="body", terminating=True)
    repository.delegate("late", ["bdc/*/*"], terminating=False)
    scene.offer_evil("late")
    repository.publish()
    scene.accepted(NEW)


def test_attack_21_a_terminating_role_ends_the_search_for_what_others_name(scene: Scene) -> None:
    """`body` names version 9, which is not delegated to it; who is asked first for it has none, and ends the search before `late`."""
    repository = scene.repository
    repository.delegate("body", ["bdc/2/*"], terminating=False)
    repository.delegate("closed", ["bdc/9/*"], terminating=True)
    repository.delegate("late", ["bdc/9/*"], terminating=False)
    scene.offer_evil("late")
    scene.offer_evil("body")
    repository.publish()
    scene.accepted(NEW)


def test_attack_21_cycles_end(scene: Scene) -> None:
    """CVE-2021-41150 neighbours in tough: delegations in a circle."""
    scene.repository.delegate("body", ["bdc/*/*"], terminating=False)
    scene.repository.delegate("inner", ["bdc/*/*"], by="body", terminating=False)
    scene.repository.delegate("body", ["bdc/*/*"], by="inner", terminating=False)
    scene.repository.delegate("inner", ["bdc/*/*"], by="inner", terminating=False)
    scene.repository.publish()
    scene.accepted(NEW)


@pytest.mark.parametrize("shape", ["wide", "deep"])
def test_attack_21_a_supplier_delegates_without_end(scene: Scene, shape: str) -> None:
    """A domain's own delegations can cost a car a bounded number of requests."""
    group = signers(1)
    by = "body"
    scene.repository.delegate("body", ["bdc/*/*"], terminating=False)
    for number in range(3 * MAX_DELEGATIONS):
        scene.repository.delegate(f"r{number}", ["bdc/*/*"], by=by, terminating=False, with_signers=group)
        by = f"r{number}" if shape == "deep" else "body"
    scene.repository.publish()
    inner = [f"metadata/r{number}.json" for number in range(3 * MAX_DELEGATIONS)]
    scene.refused(UntrustedError, "more than 32 roles on the way", may_change=[*DELEGATED, *inner])
    assert sum(1 for path in scene.repository.requests if ".r" in path and "root" not in path) <= MAX_DELEGATIONS
    scene.repository.delegated["body"].delegations = None
    scene.recovers()


def test_attack_22_a_role_that_one_delegator_vouches_for_is_not_anothers(tmp_path: Path) -> None:
    """Diamond, python-tuf pull request 2978: loaded for the DSC by the key that `chassis` lists, then taken for the BDC's."""
    repository = RepositorySimulator()
    repository.delegate("chassis", ["dsc/*/*"])
    repository.delegate("body", ["bdc/*/*"])
    repository.delegate("shared", ["dsc/*/*"], by="chassis", with_signers=(theirs := signers(1)))
    repository.delegate("shared", ["bdc/*/*"], by="body", with_signers=(ours := signers(1)))
    repository.release("shared", "dsc", "2", 2, NEW_DSC, OLD_DSC)
    repository.release("shared", "bdc", "9", 9, EVIL, OLD)
    repository.signers["shared"] = theirs
    repository.publish()
    car = Car(tmp_path, repository, {"DSC": ("dsc", True), "BDC": ("bdc", True)})
    car.put("DSC", OLD_DSC)
    car.put("BDC", OLD)
    with pytest.raises(UntrustedError, match=r"ECU BDC: shared.json: signed by 0 different keys"):
        car.update()
    assert [car.active("DSC"), car.active("BDC")] == [OLD_DSC, OLD]
    repository.signers["shared"] = [*theirs, *ours]
    repository.publish()
    car.update()
    assert [car.active("DSC"), car.active("BDC")] == [NEW_DSC, EVIL], "now both vouch for it"


PATTERNS = [
    ("*", "a star does not cross a slash"),
    ("*/*", "a star does not cross a slash"),
    ("bdc/*", "a star does not cross a slash"),
    ("bdc/*/*/*", "four parts"),
    ("BDC/*/*", "case counts"),
    ("bdc/9/IMAGE", "case counts"),
    ("bdc/../*", "no way up"),
    ("./bdc/*/*", "no other spelling"),
    ("/bdc/*/*", "no other spelling"),
    ("bdc//*", "no other spelling"),
    ("bdc\\9\\*", "no separator of another system"),
    ("bd/*/*", "no prefix"),
    ("bdc[/*/*", "malformed"),
    ("[!b]dc/*/*", "another letter"),
    ("", "nothing"),
]


@pytest.mark.parametrize(("pattern", "why"), PATTERNS)
def test_attack_23_a_pattern_that_does_not_name_the_hardware(scene: Scene, pattern: str, why: str) -> None:
    """GHSA-qp9x-wp8f-qgjj and go-tuf pull requests 747, 753: the same on every system. The role stands first."""
    repository = scene.repository
    assert repository.targets.delegations is not None
    first = repository.targets.delegations.roles
    assert first is not None
    repository.delegate("wild", [pattern], terminating=False)
    repository.targets.delegations.roles = {"wild": first.pop("wild"), **first}
    scene.offer_evil("wild")
    repository.publish()
    scene.accepted(NEW)


@pytest.mark.parametrize("pattern", ["bdc/*/*", "b?c/*/*", "[a-c]dc/*/*", "*/9/*", "bdc/9/*"])
def test_attack_23_patterns_that_do_name_it(scene: Scene, pattern: str) -> None:
    """The other side of the test above: else it would pass for a role that is never read."""
    repository = scene.repository
    assert repository.targets.delegations is not None
    repository.delegate("wild", [pattern], terminating=False)
    roles = repository.targets.delegations.roles
    assert roles is not None
    repository.targets.delegations.roles = {"wild": roles.pop("wild"), **roles}
    scene.offer_evil("wild")
    repository.publish()
    scene.accepted(EVIL)


def test_attack_24_a_role_that_nobody_delegates_to(scene: Scene) -> None:
    """GHSA-77hh-43cm-v8j6: listed in the snapshot and served, but not delegated."""
    repository = scene.repository
    stray = RepositorySimulator()
    stray.delegate("stray", ["bdc/*/*"])
    stray.release("stray", "bdc", "9", 9, EVIL, OLD)
    repository.delegated["stray"], repository.signers["stray"] = stray.delegated["stray"], stray.signers["stray"]
    repository.publish()
    scene.accepted(NEW)
    assert not scene.asked_for("stray")
    trusted = read_stored(scene.car.home.metadata, NOW)
    for delegator in (trusted.targets, repository.delegated["body"]):
        with pytest.raises(UntrustedError, match=r"stray.json: nobody delegates to it"):
            workflow.read_delegated(repository.files[scene.current("stray")], "stray", delegator, trusted.snapshot, NOW)


@pytest.mark.parametrize("version", ["2", "9"])
def test_attack_25_a_supplier_signs_for_the_hardware_of_another(scene: Scene, version: str) -> None:
    """Uptane I25: `chassis`, with all of its keys, offers a newer image to the BDC, as a new version or in place of the honest one."""
    scene.offer_evil("chassis", version=version)
    scene.repository.publish()
    scene.accepted(NEW)


def test_attack_25_a_supplier_names_the_hardware_of_another_in_his_own_image(scene: Scene) -> None:
    scene.repository.add_image("chassis", "dsc", "9", 9, EVIL, hardware_ids=("dsc", "bdc"))
    scene.repository.publish()
    scene.accepted(NEW)


def test_attack_25_a_supplier_delegates_what_is_not_his(scene: Scene) -> None:
    """His delegation of `bdc/*/*` to a role of his own gives nothing that he does not have."""
    scene.repository.delegate("thief", ["bdc/*/*", "dsc/*/*"], by="chassis")
    scene.offer_evil("thief")
    scene.repository.publish()
    scene.accepted(NEW)


def test_attack_25_the_car_of_the_supplier_gets_his_own_images_only(tmp_path: Path) -> None:
    """Both directions in one car."""
    scene = Scene(tmp_path)
    repository = scene.repository
    repository.release("chassis", "dsc", "2", 2, NEW_DSC, OLD_DSC)
    repository.release("chassis", "bdc", "9", 9, EVIL, OLD)
    repository.release("body", "dsc", "9", 9, EVIL, OLD_DSC)
    repository.publish()
    car = Car(tmp_path / "two", repository, {"DSC": ("dsc", True), "BDC": ("bdc", True)})
    car.put("DSC", OLD_DSC)
    car.put("BDC", OLD)
    car.update()
    assert [car.active("DSC"), car.active("BDC")] == [NEW_DSC, NEW]
