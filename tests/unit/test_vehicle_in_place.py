"""In-place updates of a home: release after release, what status says, what is refused, what a cut leaves."""

from dataclasses import replace
from pathlib import Path

import pytest

from packager.vehicle.core.inplace import InPlaceSlot, OverwrittenImage
from packager.vehicle.core.targets import ImageTarget
from packager.vehicle.errors import CorruptError, IncompatibleError, ResourceError, StateError, UntrustedError
from packager.vehicle.identity import ImageId
from packager.vehicle.installation.home import VehicleHome, open_home
from packager.vehicle.installation.install import SPARE_SPACE_BYTES, check, update
from packager.vehicle.installation.inventory import status
from packager.vehicle.installation.state import Begun, EcuState, encode_state, parse_state
from packager.vehicle.storage import FileOnDisk
from tests.faulty_storage import MemoryFile
from tests.in_place_bundles import SAMPLES, InPlaceSample, swapped
from tests.repository_simulator import BLOCK_BYTES, NOW, RepositorySimulator, make_bundle
from tests.sample_bundles import delta_mixed
from tests.vehicle_car import IN_PLACE, Car, edited, image, repository_with

OLD = image(1, 4 * BLOCK_BYTES + 50)
NEW = edited(OLD)[:-900]
NEWER = image(3, 500) + edited(NEW, 3)


@pytest.fixture
def repository() -> RepositorySimulator:
    repository = repository_with("eps")
    repository.release("eps", "eps", "2", 2, NEW, OLD, profile=IN_PLACE)
    repository.publish()
    return repository


@pytest.fixture
def car(tmp_path: Path, repository: RepositorySimulator) -> Car:
    car = Car(tmp_path / "car", repository, {"EPS": ("eps", False)})
    car.put("EPS", OLD)
    return car


def test_release_after_release_overwrites_the_only_slot(car: Car, repository: RepositorySimulator) -> None:
    delta = make_bundle("eps", "2", 2, OLD, NEW, profile=IN_PLACE).target
    entry = car.update().ecus[0]
    assert (entry.bundle, entry.downloaded_bytes) == (delta, delta.length_bytes)
    assert car.slot("EPS") == NEW, "the end of the longer old image is gone"
    assert car.state("EPS") == EcuState("a", 2, ImageId.of(NEW))
    repository.release("eps", "eps", "3", 3, NEWER, NEW, profile=IN_PLACE)
    repository.publish()
    assert car.update().ecus[0].bundle is not None
    assert car.slot("EPS") == NEWER
    assert not (car.home.root / "slots/EPS/b").exists()
    assert not (car.home.root / "slots/EPS/scratch").exists()
    assert car.update().ecus[0].note == "up to date"


@pytest.mark.parametrize("installed", [b"", image(8, 3 * BLOCK_BYTES), image(8, 9 * BLOCK_BYTES)])
def test_the_full_bundle_overwrites_too(car: Car, installed: bytes) -> None:
    car.put("EPS", installed)
    entry = car.update().ecus[0]
    assert entry.bundle is not None
    assert entry.bundle.old is None
    assert car.slot("EPS") == NEW
    assert car.state("EPS") == EcuState("a", 2, ImageId.of(NEW))


def test_a_bundle_for_a_spare_slot_gives_way_to_the_full_one(car: Car, repository: RepositorySimulator) -> None:
    repository.add_bundle("eps", make_bundle("eps", "2", 2, OLD, NEW))
    repository.publish()
    entry = car.update().ecus[0]
    assert entry.bundle is not None
    assert entry.bundle.old is None
    assert "needs a spare slot" in entry.note


def test_more_scratch_than_the_ecu_has_is_refused_before_anything_is_written(
    car: Car, repository: RepositorySimulator
) -> None:
    path = car.home.root / "vehicle.toml"
    path.write_text(path.read_text().replace("scratch_kib = 16", "scratch_kib = 3"))
    home = open_home(path.parent)
    del repository.delegated["eps"].targets["eps/2/full.bundle"]
    repository.publish()
    with pytest.raises(IncompatibleError, match="needs 4096 bytes of scratch, the ECU has 3072"):
        update(home, repository, repository, NOW)
    assert (home.root / "slots/EPS/a").read_bytes() == OLD


def test_space_is_needed_for_the_scratch_but_not_for_a_second_image(car: Car, monkeypatch: pytest.MonkeyPatch) -> None:
    head_bytes = make_bundle("eps", "2", 2, OLD, NEW, profile=IN_PLACE).head_bytes
    needed = SPARE_SPACE_BYTES + IN_PLACE.scratch_bytes + head_bytes
    monkeypatch.setattr(VehicleHome, "held_bytes", lambda *_: len(OLD))
    monkeypatch.setattr(VehicleHome, "free_bytes", lambda _: needed - 1)
    with pytest.raises(ResourceError, match=f"the update needs {needed}"):
        car.update()
    monkeypatch.setattr(VehicleHome, "free_bytes", lambda _: needed)
    found = check(car.home, car.repository, car.repository, NOW).ecus[0]
    assert found.space_bytes == BLOCK_BYTES + head_bytes
    car.update()


def test_status_tells_that_an_ecu_must_not_be_started(car: Car, repository: RepositorySimulator) -> None:
    target = make_bundle("eps", "2", 2, OLD, NEW, profile=IN_PLACE).target
    offered = ImageTarget("eps", "2", ImageId.of(NEW), 2, ("eps",), 5)
    ecu = car.home.configuration.ecus[0]
    assert status(car.home)[0].is_startable
    car.home.mark_begun(ecu, Begun(target, offered))
    assert not status(car.home)[0].is_startable
    assert car.state("EPS") == EcuState("a", 0, None, Begun(target, offered))
    car.update()
    assert status(car.home)[0].is_startable


def test_state_comes_back_with_what_was_begun() -> None:
    target = make_bundle("eps", "2", 2, OLD, NEW, profile=IN_PLACE).target
    full = make_bundle("eps", "2", 2, None, NEW, profile=IN_PLACE).target
    offered = ImageTarget("eps", "2", ImageId.of(NEW), 2, ("eps",))
    state = {
        "A": EcuState("a", 7, ImageId.of(OLD), Begun(target, offered)),
        "B": EcuState("b", 0, None, Begun(full, replace(offered, hardware_ids=("eps", "epb"), max_repair_bytes=12345))),
        "C": EcuState("a", 1, ImageId.of(NEW)),
    }
    data = encode_state(state)
    assert parse_state(data) == state
    for wrong in (b'"path": "eps/2', b'"release_counter": 2', b'"length": 16', b'"head": [', b'image"'):
        assert wrong in data
        with pytest.raises(UntrustedError):
            parse_state(data.replace(wrong, wrong[:-1] + b"?"))
    for wrong, right in (("eps/2/image", "eps/3/image"), (full.path, "eps/2/image"), (full.path, "eps/3/full.bundle")):
        with pytest.raises(UntrustedError, match="eps"):
            parse_state(data.replace(wrong.encode(), right.encode()))
    with pytest.raises(UntrustedError, match="begun update"):
        parse_state(b'{"format": 1, "ecus": {"A": {"slot": "a", "release_counter": 1, "begun": 5}}}')
    with pytest.raises(UntrustedError, match="installed"):
        parse_state(b'{"format": 1, "ecus": {"A": {"slot": "a", "release_counter": 1, "installed": {"length": 0}}}}')


def test_a_bundle_for_a_spare_slot_is_a_mistake_of_the_caller() -> None:
    sample = delta_mixed()
    with pytest.raises(StateError, match="for a spare slot"):
        InPlaceSlot(sample.head, MemoryFile(9), MemoryFile(9), None)


def test_scratch_that_is_too_short_is_a_mistake_of_the_caller() -> None:
    head = swapped().head
    scratch_bytes = head.manifest.scratch_bytes
    InPlaceSlot(head, MemoryFile(9), MemoryFile(scratch_bytes), None)
    for scratch in (MemoryFile(scratch_bytes - 1), None):
        with pytest.raises(StateError, match="scratch"):
            InPlaceSlot(head, MemoryFile(9), scratch, None)


@pytest.mark.parametrize("make", SAMPLES)
def test_spilled_and_other_bytes_are_read_as_one_image(make: object) -> None:
    sample: InPlaceSample = make()  # type: ignore[operator]
    head = sample.head
    slot, scratch = MemoryFile(len(sample.old), content=sample.old), MemoryFile(head.manifest.scratch_bytes)
    InPlaceSlot(head, slot, scratch, None).resume()
    for old_offset, length_bytes, _ in head.spills.spills:
        slot.content[old_offset : old_offset + length_bytes] = bytes(length_bytes)
    image = OverwrittenImage(head, slot, scratch)
    for start in range(0, len(sample.old), 777):
        part = bytearray(min(2000, len(sample.old) - start))
        image.read_into(start, memoryview(part))
        assert part == sample.old[start : start + len(part)]
    with pytest.raises(IncompatibleError, match="ends at byte"):
        image.read_into(len(sample.old) - 1, memoryview(bytearray(2)))


def test_the_slot_of_an_update_that_does_not_begin_is_as_it_was(car: Car, repository: RepositorySimulator) -> None:
    path = make_bundle("eps", "2", 2, OLD, NEW, profile=IN_PLACE).target.path
    head = make_bundle("eps", "2", 2, OLD, NEW, profile=IN_PLACE).head_bytes
    data = bytearray(repository.contents[path])
    data[head] ^= 1
    repository.contents[path] = bytes(data)
    with pytest.raises(CorruptError, match="ECU EPS: block"):
        car.update()
    assert car.state("EPS").begun is None
    assert car.slot("EPS") == OLD


def test_file_on_disk_grows_by_writing(tmp_path: Path) -> None:
    """The slot is opened as long as it is, and the new image may be longer."""
    (tmp_path / "slot").write_bytes(b"old")
    with FileOnDisk.open(tmp_path / "slot", 3) as file:
        file.write(5, b"new")
        part = bytearray(3)
        file.read_into(5, memoryview(part))
    assert part == b"new"
    assert (tmp_path / "slot").read_bytes() == b"old\0\0new"


def test_what_was_begun_is_finished_with_the_full_bundle_of_its_own_release(tmp_path: Path) -> None:
    """The newest release is read only; the one before is reached by its exact path."""
    repository = RepositorySimulator()
    newest = edited(NEW, 5)
    for version, counter, old, new in (("3", 3, NEW, newest), ("2", 2, OLD, NEW)):
        repository.delegate(f"eps.{version}", [f"eps/{version}/*"])
        repository.release(f"eps.{version}", "eps", version, counter, new, old, profile=IN_PLACE)
    repository.publish()
    car = Car(tmp_path, repository, {"EPS": ("eps", False)})
    begun = Begun(
        make_bundle("eps", "2", 2, OLD, NEW, profile=IN_PLACE).target,
        ImageTarget("eps", "2", ImageId.of(NEW), 2, ("eps",)),
    )
    car.put("EPS", OLD)
    car.home.mark_begun(car.home.configuration.ecus[0], begun)
    del repository.contents[begun.bundle.path]
    entry = car.update().ecus[0]
    assert "finished 2 first" in entry.note
    assert ("eps/2/full.bundle", 0) in repository.streams
    assert car.slot("EPS") == newest


@pytest.mark.parametrize("lacks", ["image", "other image", "expired", "missing"])
@pytest.mark.parametrize("is_gone", [False, True], ids=["its bundle", "nothing"])
def test_a_full_bundle_to_another_image_is_no_way_to_finish(tmp_path: Path, lacks: str, is_gone: bool) -> None:
    repository = RepositorySimulator()
    for version, counter, old, new in (("3", 3, NEW, edited(NEW, 5)), ("2", 2, OLD, NEW)):
        repository.delegate(f"eps.{version}", [f"eps/{version}/*"])
        repository.release(f"eps.{version}", "eps", version, counter, new, old, profile=IN_PLACE)
    role = repository.delegated["eps.2"]
    if lacks == "image":
        del role.targets["eps/2/image"]
    elif lacks == "other image":
        repository.add_image("eps.2", "eps", "2", 2, b"other")
    elif lacks == "expired":
        role.expires = NOW
    repository.publish()
    if lacks == "missing":
        del repository.files["1.eps.2.json"]
    car = Car(tmp_path, repository, {"EPS": ("eps", False)})
    bundle = make_bundle("eps", "2", 2, OLD, NEW, profile=IN_PLACE).target
    car.put("EPS", OLD)
    car.home.mark_begun(
        car.home.configuration.ecus[0], Begun(bundle, ImageTarget("eps", "2", ImageId.of(NEW), 2, ("eps",)))
    )
    if is_gone:
        del repository.contents[bundle.path]
    entry = car.update().ecus[0]
    assert ("can't be finished" if is_gone else "finished 2 first") in entry.note
    assert {path for path, _ in repository.streams if path.startswith("eps/2/")} == {bundle.path}
    assert car.slot("EPS") == edited(NEW, 5)
