"""Attacks 38, 39, 42, 44 and 45, as far as they need no Director: hardware, release counters, mixed sets, time, outdated media."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from packager.vehicle.core.manifest import MAX_RELEASE_COUNTER
from packager.vehicle.errors import CorruptError, TemporaryError, UntrustedError
from packager.vehicle.identity import Digest, ImageId
from packager.vehicle.installation.inventory import status
from packager.vehicle.trust.workflow import ExpiredError
from tests.attacks.scene import (
    DELEGATED,
    EVIL,
    HEAD,
    JOURNAL,
    NEW,
    NEW_DSC,
    NEWEST,
    OLD,
    OLD_DSC,
    SLOT,
    Scene,
)
from tests.repository_simulator import LATER, NOW, RepositorySimulator, make_bundle
from tests.vehicle_car import IN_PLACE, Car, repository_with

AFTER = NOW + timedelta(days=60)
FINISHED = ["slots/DSC/a", "slots/DSC/scratch", "state/DSC.journal", "state/DSC.head", "state/active.json"]
"""What changes when the DSC, which has no spare slot, is finished."""


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


# 38: hardware


@pytest.mark.parametrize("hardware_ids", [["dsc"], [], None, "bdc", ["BDC"], ["bdc "]])
def test_attack_38_an_image_under_the_path_of_other_hardware(scene: Scene, hardware_ids: object) -> None:
    """Its path says BDC, its signed hardware ids do not."""
    image = "bdc/2/image"
    scene.repository.delegated["body"].targets[image].unrecognized_fields["custom"]["hardware_ids"] = hardware_ids
    scene.repository.publish()
    scene.refused(UntrustedError, f"target '{image}': hardware ids .*, expected", may_change=DELEGATED)
    scene.recovers()


@pytest.mark.parametrize("hardware_ids", [("dsc",), ("bdc2", "BDC")])
def test_attack_38_a_bundle_that_was_made_for_other_hardware(scene: Scene, hardware_ids: tuple[str, ...]) -> None:
    """Signed metadata offers it to the BDC, its own manifest says otherwise."""
    scene.repository.add_bundle("body", make_bundle("bdc", "2", 2, OLD, NEW, hardware_ids=hardware_ids))
    scene.repository.publish()
    scene.refused(UntrustedError, "hardware .*, expected bdc", may_change=DELEGATED)
    scene.recovers()


def test_attack_38_a_car_with_other_hardware_under_the_same_name(scene: Scene) -> None:
    car = Car(scene.root / "other", scene.repository, {"BDC": ("bdc2", True)})
    car.put("BDC", OLD)
    assert car.update().ecus[0].note == "no image is offered for hardware bdc2"
    assert car.active("BDC") == OLD


# 39: release counter


def test_attack_39_an_older_release_with_valid_signatures(scene: Scene) -> None:
    """All keys of the domain and the online ones are stolen, and every version number grows: the counter still does not go back."""
    scene.accepted()
    scene.recovers()
    scene.publish_alone("2", 2, NEW, OLD, NEWEST)
    scene.refused(
        UntrustedError,
        "release counter 2, but 3 was installed before; an older release is never installed",
        may_change=DELEGATED,
    )
    scene.recovers()


def test_attack_39_an_older_release_under_a_newer_version_text(scene: Scene) -> None:
    """Versions are for people."""
    scene.accepted()
    scene.publish_alone("99.0", 1, EVIL, NEW)
    scene.refused(UntrustedError, "release counter 1, but 2 was installed before", may_change=DELEGATED)
    scene.recovers()


def test_attack_39_the_counter_is_kept_when_the_slot_is_emptied(scene: Scene) -> None:
    """Somebody with access to the flash removes the image, not the state: the car does not start again from any release."""
    scene.accepted()
    scene.recovers()
    (scene.car.home.root / "slots/BDC" / scene.car.state("BDC").slot).write_bytes(b"")
    scene.publish_alone("2", 2, NEW, OLD)
    scene.refused(UntrustedError, "release counter 2, but 3 was installed before", may_change=DELEGATED)
    scene.recovers()


def test_attack_39_an_equal_counter_is_allowed(scene: Scene) -> None:
    scene.accepted()
    scene.repository.publish()
    assert scene.accepted().ecus[0].note == "up to date"


@pytest.mark.parametrize("counter", [None, -1, "9", True, MAX_RELEASE_COUNTER + 1, []])
def test_attack_39_a_counter_that_is_none(scene: Scene, counter: object) -> None:
    fields = scene.repository.delegated["body"].targets["bdc/2/image"].unrecognized_fields["custom"]
    if counter is None:
        del fields["release_counter"]
    else:
        fields["release_counter"] = counter
    scene.repository.publish()
    scene.refused(UntrustedError, "target 'bdc/2/image': found .*, expected an integer", may_change=DELEGATED)
    scene.recovers()


def test_attack_39_two_images_share_the_highest_counter(scene: Scene) -> None:
    scene.offer_evil(counter=2)
    scene.repository.publish()
    scene.refused(UntrustedError, "have the same release counter 2; expected one newest image", may_change=DELEGATED)
    scene.recovers()


# 42: mixed sets


def _two(root: Path, spare: bool = True) -> tuple[RepositorySimulator, Car]:
    repository = repository_with("bdc", "dsc")
    repository.release("bdc", "bdc", "2", 2, NEW, OLD)
    repository.release("dsc", "dsc", "2", 2, NEW_DSC, OLD_DSC, **({} if spare else {"profile": IN_PLACE}))
    repository.publish()
    car = Car(root, repository, {"BDC": ("bdc", True), "DSC": ("dsc", spare)})
    car.put("BDC", OLD)
    car.put("DSC", OLD_DSC)
    return repository, car


@pytest.mark.parametrize("who", ["bdc", "dsc"])
@pytest.mark.parametrize("what", ["missing", "damaged", "cut short"])
def test_attack_42_one_control_unit_gets_its_bundle_and_the_other_does_not(tmp_path: Path, who: str, what: str) -> None:
    """Partial bundle: all switch or none."""
    repository, car = _two(tmp_path)
    path = f"{who}/2/{Digest.of(OLD if who == 'bdc' else OLD_DSC).hex}.bundle"
    good = repository.contents.pop(path)
    if what != "missing":
        repository.contents[path] = good[:-1] + (b"?" if what == "damaged" else b"")
    with pytest.raises((TemporaryError, CorruptError), match=f"ECU {who.upper()}"):
        car.update()
    assert [car.active("BDC"), car.active("DSC")] == [OLD, OLD_DSC]
    assert not car.home.read_state()
    repository.contents[path] = good
    car.update()
    assert [car.active("BDC"), car.active("DSC")] == [NEW, NEW_DSC]


def test_attack_42_a_unit_without_a_spare_slot_waits_for_the_others(tmp_path: Path) -> None:
    """It can't go back, so nothing of it is touched while another one is blocked."""
    repository, car = _two(tmp_path, spare=False)
    path = f"bdc/2/{Digest.of(OLD).hex}.bundle"
    good = repository.contents.pop(path)
    with pytest.raises(TemporaryError, match="ECU BDC"):
        car.update()
    assert [car.active("BDC"), car.active("DSC")] == [OLD, OLD_DSC]
    repository.contents[path] = good
    car.update()
    assert [car.active("BDC"), car.active("DSC")] == [NEW, NEW_DSC]


def test_attack_42_the_roles_of_two_releases_are_mixed(tmp_path: Path) -> None:
    """The server, without any key, serves one domain's role of the old release beside the other's of the new one."""
    repository, car = _two(tmp_path)
    old = repository.files["1.dsc.json"]
    repository.release("bdc", "bdc", "3", 3, NEWEST, OLD)
    repository.publish()
    repository.files["2.dsc.json"] = old
    with pytest.raises(UntrustedError, match=r"ECU DSC: dsc.json: found .* snapshot.json lists"):
        car.update()
    assert [car.active("BDC"), car.active("DSC")] == [OLD, OLD_DSC]
    repository.publish()
    car.update()
    assert [car.active("BDC"), car.active("DSC")] == [NEWEST, NEW_DSC]


def test_attack_42_the_bundle_of_one_release_with_the_image_of_another(scene: Scene) -> None:
    """Release 9 promises an image, but its bundles lead to that of release 2."""
    scene.repository.add_image("body", "bdc", "9", 9, EVIL)
    for old in (OLD, None):
        scene.repository.add_bundle("body", make_bundle("bdc", "9", 9, old, NEW))
    scene.repository.publish()
    scene.refused(UntrustedError, "its manifest disagrees with signed metadata: new image", may_change=DELEGATED)
    scene.recovers()


# 44: time passes between the steps


def _renew(scene: Scene) -> None:
    repository = scene.repository
    signed: list[Any] = [repository.timestamp, repository.snapshot, repository.targets, *repository.delegated.values()]
    for role in signed:
        role.expires = AFTER + timedelta(days=30)
    repository.publish()


def test_attack_44_metadata_expires_between_download_and_installation(scene: Scene) -> None:
    """aktualizr pull requests 1548, 1185: parked for two months with half an update. No panic, nothing lost, nothing paid twice."""
    scene.car.put("BDC", EVIL)
    data = scene.repository.contents["bdc/2/full.bundle"]
    scene.repository.cut_stream_at = len(data) * 3 // 4
    scene.refused(TemporaryError, "broke off", may_change=[*DELEGATED, SLOT, JOURNAL, HEAD])
    scene.repository.cut_stream_at = None
    scene.refused(ExpiredError, r"timestamp.json version 1: expired", now=AFTER)
    assert [(entry.is_interrupted, entry.is_startable) for entry in status(scene.car.home)] == [(True, True)]
    assert LATER < AFTER
    _renew(scene)
    scene.repository.streams.clear()
    scene.accepted(NEW, now=AFTER)
    assert max(offset for _, offset in scene.repository.streams) > len(data) // 2


def test_attack_44_metadata_expires_between_preparation_and_switch(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("packager.vehicle.installation.install.activate", stop)
        with pytest.raises(KeyboardInterrupt):
            scene.update()
    assert scene.car.slot("BDC", "b") == NEW
    scene.refused(ExpiredError, r"timestamp.json version 1: expired", now=AFTER)
    assert scene.car.active("BDC") == OLD
    _renew(scene)
    scene.repository.streams.clear()
    scene.accepted(NEW, now=AFTER)
    assert not scene.repository.streams


def test_attack_44_metadata_expires_between_installation_and_start(scene: Scene) -> None:
    """What is installed needs no valid metadata to be started, nor to be told."""
    scene.accepted()
    scene.refused(ExpiredError, r"timestamp.json version 1: expired", now=AFTER)
    (entry,) = status(scene.car.home)
    assert (entry.installed, entry.version, entry.is_startable) == (ImageId.of(NEW), "2", True)
    _renew(scene)
    scene.accepted(NEW, now=AFTER)


def test_attack_44_metadata_expires_while_an_image_is_half_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A unit that can't be started is worth nothing to anybody: it gets what was verified when it was begun, and only it."""
    scene = _half_overwritten(tmp_path, monkeypatch)
    car = scene.car
    scene.refused(
        ExpiredError,
        r"timestamp.json version 1: expired.*; ECU DSC: version 2, begun before, was finished",
        now=AFTER,
        may_change=FINISHED,
    )
    assert (car.active("DSC"), car.active("BDC")) == (NEW_DSC, OLD)
    assert [(entry.is_startable, entry.is_interrupted) for entry in status(car.home)] == [(True, True), (True, False)]
    scene.refused(ExpiredError, r"timestamp.json version 1: expired at [^;]*$", now=AFTER)
    _renew(scene)
    scene.accepted(NEW, now=AFTER)
    assert car.slot("DSC") == NEW_DSC


def test_attack_44_something_else_is_served_for_what_was_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Expired metadata opens no way for another image: the state holds the signed identities of bundle and image."""
    scene = _half_overwritten(tmp_path, monkeypatch)
    half = scene.car.slot("DSC")
    honest = dict(scene.repository.contents)
    evil = make_bundle("dsc", "2", 2, None, EVIL, profile=IN_PLACE)
    scene.repository.contents.update({path: evil.data for path in honest if path.startswith("dsc/")})
    scene.refused(
        ExpiredError,
        r"timestamp.json version 1: expired.*; version 2, begun before, can't be finished now: ECU DSC: ",
        now=AFTER,
        may_change=["state/DSC.journal"],  # the start is counted
    )
    assert scene.car.slot("DSC") == half
    assert [entry.is_startable for entry in status(scene.car.home)] == [True, False]
    scene.repository.contents.update(honest)
    _renew(scene)
    scene.accepted(NEW, now=AFTER)
    assert scene.car.slot("DSC") == NEW_DSC


def _half_overwritten(root: Path, monkeypatch: pytest.MonkeyPatch) -> Scene:
    """Return a car whose DSC has no spare slot and is half overwritten; its BDC has everything in its spare slot, not switched."""
    repository, car = _two(root, spare=False)
    car.stop_in_place(monkeypatch, 2)
    assert car.slot("DSC") not in (OLD_DSC, NEW_DSC)
    scene = Scene(root / "other")
    scene.root, scene.car, scene.repository = root, car, repository
    return scene


# 45: outdated media


def _stick(scene: Scene) -> RepositorySimulator:
    """Return what somebody copied on a stick today."""
    stick = RepositorySimulator()
    stick.files, stick.contents = scene.snapshot_of_everything()
    return stick


@pytest.mark.parametrize("now", [NOW, AFTER])
def test_attack_45_an_outdated_stick_meets_a_newer_car(scene: Scene, now: Any) -> None:
    """aktualizr-lite 308, 314: nothing goes back, and the way over the air stays open."""
    stick = _stick(scene)
    scene.accepted()
    scene.recovers()
    scene.refused(UntrustedError, "version 1, but version 2 was trusted before", metadata=stick, bundles=stick, now=now)
    scene.accepted(NEWEST)


def test_attack_45_a_stick_that_expired_in_the_drawer(scene: Scene) -> None:
    stick = _stick(scene)
    scene.refused(ExpiredError, r"timestamp.json version 1: expired", metadata=stick, bundles=stick, now=AFTER)
    _renew(scene)
    scene.accepted(NEW, now=AFTER)


def test_attack_45_a_newer_stick_and_then_a_stale_server(scene: Scene) -> None:
    stale = scene.snapshot_of_everything()
    scene.repository.release("body", "bdc", "3", 3, NEWEST, OLD)
    scene.repository.publish()
    stick = _stick(scene)
    scene.update(metadata=stick, bundles=stick)
    assert scene.car.active("BDC") == NEWEST
    scene.serve(stale)
    scene.refused(UntrustedError, "version 1, but version 2 was trusted before")
    scene.repository.publish()
    scene.accepted(NEWEST)
