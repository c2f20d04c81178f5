"""Whole updates against the simulator: what switches, what is kept, what is downloaded."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from packager.vehicle.core.applier import Progress
from packager.vehicle.errors import (
    CorruptError,
    IncompatibleError,
    ResourceError,
    TemporaryError,
    UntrustedError,
)
from packager.vehicle.identity import Digest, ImageId
from packager.vehicle.installation import preparation
from packager.vehicle.installation.home import VehicleHome, open_home
from packager.vehicle.installation.install import SPARE_SPACE_BYTES, check, update
from packager.vehicle.installation.inventory import status
from packager.vehicle.installation.state import EcuState
from tests.repository_simulator import BLOCK_BYTES, NOW, PROFILE, RepositorySimulator, make_bundle, with_target
from tests.vehicle_car import Car, edited, image

SIZE = 5 * BLOCK_BYTES + 100


OLD = image(1, SIZE)
NEW = edited(OLD)
OLD_2 = image(2, SIZE)
WIDE = replace(PROFILE, block_bytes=1 << 16)
NEW_2 = edited(OLD_2)
BDC_2 = EcuState("b", 2, ImageId.of(NEW))
DSC_2 = EcuState("b", 2, ImageId.of(NEW_2))


@pytest.fixture
def repository() -> RepositorySimulator:
    repository = RepositorySimulator()
    repository.delegate("body", ["bdc/*/*"])
    repository.delegate("chassis", ["dsc/*/*"])
    repository.release("body", "bdc", "2", 2, NEW, OLD)
    repository.release("chassis", "dsc", "2", 2, NEW_2, OLD_2)
    repository.publish()
    return repository


@pytest.fixture
def car(tmp_path: Path, repository: RepositorySimulator) -> Car:
    car = Car(tmp_path / "car", repository, {"BDC": ("bdc", True), "DSC": ("dsc", True)})
    car.put("BDC", OLD)
    car.put("DSC", OLD_2)
    return car


def _delta(repository: RepositorySimulator) -> str:
    return f"bdc/2/{Digest.of(OLD).hex}.bundle"


@pytest.mark.parametrize("workers", [1, 3])
def test_all_ecus_are_updated_by_their_deltas(car: Car, repository: RepositorySimulator, workers: int) -> None:
    configuration = (car.home.root / "vehicle.toml").read_bytes()
    events: list[tuple[str, Progress]] = []
    report = car.update(workers=workers, on_progress=lambda ecu, progress: events.append((ecu, progress)))
    assert [car.active("BDC"), car.active("DSC")] == [NEW, NEW_2]
    assert [car.slot("BDC", "a"), car.slot("DSC", "a")] == [OLD, OLD_2]
    assert car.home.read_state() == {"BDC": BDC_2, "DSC": DSC_2}
    assert [entry.is_updated for entry in report.ecus] == [True, True]
    lengths = [len(repository.contents[entry.bundle.path]) for entry in report.ecus if entry.bundle]
    assert [entry.downloaded_bytes for entry in report.ecus] == lengths
    assert sum(lengths) < SIZE // 4
    assert [offset for _, offset in repository.streams] == [0, 0]
    assert report.metadata_bytes == sum(
        len(repository.files[name]) for name in repository.requests if name in repository.files
    )
    assert [ecu for ecu, _ in events] == ["BDC"] * 6 + ["DSC"] * 6
    assert (events[5][1].blocks_done, events[5][1].bundle_bytes_done) == (6, lengths[0])
    assert (car.home.root / "vehicle.toml").read_bytes() == configuration
    assert sorted(p.name for p in (car.home.root / "state").iterdir()) == ["active.json", "clock.json", "lock"]


def test_a_second_update_has_nothing_to_do(car: Car, repository: RepositorySimulator) -> None:
    car.update()
    repository.streams.clear()
    report = car.update()
    assert not repository.streams
    assert [entry.note for entry in report.ecus] == ["up to date"] * 2
    assert not any(entry.is_updated for entry in report.ecus)


def test_slots_take_turns(car: Car, repository: RepositorySimulator) -> None:
    car.update()
    newer = edited(NEW, 1)[:-500]
    repository.release("body", "bdc", "3", 3, newer, NEW)
    repository.publish()
    car.update()
    assert car.home.read_state()["BDC"] == EcuState("a", 3, ImageId.of(newer))
    assert car.slot("BDC", "a") == newer
    assert car.slot("BDC", "b") == NEW


def test_the_counter_of_an_image_from_the_factory_is_remembered(car: Car, repository: RepositorySimulator) -> None:
    car.put("BDC", NEW)
    car.update()
    assert car.home.read_state()["BDC"] == EcuState("a", 2, ImageId.of(NEW))


def test_an_older_release_is_refused(car: Car) -> None:
    car.home.write_state({"BDC": EcuState("a", 3)})
    car.refused(UntrustedError, "ECU BDC: bdc/2/image: release counter 2, but 3 was installed before")


@pytest.mark.parametrize(
    ("installed", "why"), [(image(9, SIZE), "no bundle from the installed image"), (b"", "the active slot is empty")]
)
def test_another_old_image_gets_the_full_bundle(
    car: Car, repository: RepositorySimulator, installed: bytes, why: str
) -> None:
    car.put("BDC", installed)
    entry = car.update().ecus[0]
    assert entry.bundle is not None
    assert entry.bundle.old is None
    assert why in entry.note
    assert car.active("BDC") == NEW


def test_a_delta_beyond_the_profile_gives_way_to_the_full_bundle(car: Car, repository: RepositorySimulator) -> None:
    wide = make_bundle("bdc", "2", 2, OLD, NEW, profile=WIDE)
    repository.add_bundle("body", wide)
    repository.publish()
    entry = car.update().ecus[0]
    assert entry.bundle is not None
    assert entry.bundle.old is None
    assert "exceeds the profile" in entry.note
    assert (wide.target.path, 0) in repository.streams
    assert car.active("BDC") == NEW


def test_without_a_spare_slot_of_its_own_an_ecu_gets_the_full_bundle(car: Car, repository: RepositorySimulator) -> None:
    path = car.home.root / "vehicle.toml"
    path.write_text(path.read_text().replace("block_kib = 4\n", "block_kib = 4\nspare_slot = false\n", 1))
    car.home = open_home(car.home.root)
    entry, other = car.update().ecus
    assert entry.bundle is not None
    assert other.bundle is not None
    assert (entry.bundle.old, other.bundle.old) == (None, Digest.of(OLD_2))
    assert "needs a spare slot" in entry.note


def test_bundles_all_beyond_the_profile_are_refused(car: Car, repository: RepositorySimulator) -> None:
    for old in (OLD, None):
        repository.add_bundle("body", make_bundle("bdc", "2", 2, old, NEW, profile=WIDE))
    repository.publish()
    car.refused(IncompatibleError, "ECU BDC: bundle exceeds the profile")


def test_messages_name_the_ecu_once(car: Car, repository: RepositorySimulator) -> None:
    car.put("BDC", image(7, len(OLD)))
    del repository.delegated["body"].targets["bdc/2/full.bundle"]
    repository.publish()
    with pytest.raises(IncompatibleError, match=r"^ECU BDC: bdc/2/image: no bundle from"):
        car.update()
    problem = check(car.home, repository, repository, NOW).ecus[0].problem
    assert problem.startswith("bdc/2/image: no bundle from"), "it stands in the row of its ECU"
    repository.add_image("body", "bdc", "9", 2, image(9, len(OLD)))
    repository.publish()
    for call in (update, check):
        with pytest.raises(UntrustedError, match=r"^ECU BDC: bdc/.* have the same release counter"):
            call(car.home, repository, repository, NOW)


def test_no_way_to_the_image_is_refused_before_anything_is_downloaded(
    car: Car, repository: RepositorySimulator
) -> None:
    del repository.delegated["body"].targets["bdc/2/full.bundle"]
    repository.publish()
    car.put("BDC", image(9, SIZE))
    car.refused(IncompatibleError, "ECU BDC: .* no full bundle")
    assert not repository.streams


def test_hardware_without_an_offer_is_left_alone(tmp_path: Path, repository: RepositorySimulator) -> None:
    car = Car(tmp_path / "other", repository, {"BDC": ("bdc", True), "KOMBI": ("kombi", True)})
    car.put("BDC", OLD)
    car.put("KOMBI", OLD_2)
    report = car.update()
    assert report.ecus[1].offer.image is None
    assert car.home.read_state() == {"BDC": BDC_2}


def test_one_failure_switches_none_and_costs_no_second_download(car: Car, repository: RepositorySimulator) -> None:
    path = f"dsc/2/{Digest.of(OLD_2).hex}.bundle"
    good = repository.contents[path]
    repository.contents[path] = good[:-1] + bytes((good[-1] ^ 1,))
    for _ in range(3):
        car.refused(CorruptError, "ECU DSC: ")
    assert car.slot("BDC", "b") == NEW
    repository.contents[path] = good
    repository.streams.clear()
    report = car.update()
    assert [car.active("BDC"), car.active("DSC")] == [NEW, NEW_2]
    assert _delta(repository) not in [path for path, _ in repository.streams]
    assert report.ecus[0].downloaded_bytes == 0
    assert "already" in report.ecus[0].note


def test_an_update_goes_on_where_it_broke_off(car: Car, repository: RepositorySimulator) -> None:
    path = _delta(repository)
    target = repository.contents[path]
    head_bytes = make_bundle("bdc", "2", 2, OLD, NEW).head_bytes
    repository.chunk_bytes = 16
    repository.cut_stream_at = head_bytes + (len(target) - head_bytes) // 2
    car.refused(TemporaryError, "ECU BDC: .* broke off")
    assert [s.is_interrupted for s in status(car.home)] == [True, False]
    repository.cut_stream_at = None
    repository.streams.clear()
    repository.reads.clear()
    car.update()
    assert not repository.reads, "the head was kept"
    again, offset = repository.streams[0]
    assert again == path
    assert head_bytes < offset < len(target)
    assert [car.active("BDC"), car.active("DSC")] == [NEW, NEW_2]
    assert not any(s.is_interrupted for s in status(car.home))


def test_many_lost_connections_are_no_failure_of_the_bundle(car: Car, repository: RepositorySimulator) -> None:
    repository.cut_stream_at = make_bundle("bdc", "2", 2, OLD, NEW).head_bytes + 10
    repository.chunk_bytes = 10
    for _ in range(15):
        car.refused(TemporaryError, "broke off")
    repository.cut_stream_at = None
    car.update()
    assert car.active("BDC") == NEW


def test_a_head_is_checked_before_a_blob_is_taken(car: Car, repository: RepositorySimulator) -> None:
    path = _delta(repository)
    data = bytearray(repository.contents[path])
    head_bytes = make_bundle("bdc", "2", 2, OLD, NEW).head_bytes
    data[head_bytes // 2] ^= 1
    repository.contents[path] = bytes(data)
    repository.chunk_bytes = 1
    car.refused(CorruptError, "ECU BDC: head: ")
    assert repository.streamed_bytes == head_bytes
    assert not (car.home.root / "slots/BDC/b").exists()


@pytest.mark.parametrize(
    ("version", "counter", "new"),
    [("2", 2, image(8, SIZE)), ("1", 2, NEW), ("2", 1, NEW)],
    ids=["image", "version", "counter"],
)
def test_a_signed_bundle_that_is_not_what_is_said_of_it_is_refused(
    car: Car, repository: RepositorySimulator, version: str, counter: int, new: bytes
) -> None:
    honest = make_bundle("bdc", "2", 2, OLD, NEW)
    other = make_bundle("bdc", version, counter, OLD, new)
    repository.add_bundle("body", with_target(other, version="2", old=honest.target.old))
    repository.publish()
    car.refused(UntrustedError, "ECU BDC: .* its manifest disagrees with signed metadata")
    assert not (car.home.root / "slots/BDC/b").exists()


def test_every_flipped_byte_of_a_bundle_is_refused(car: Car, repository: RepositorySimulator) -> None:
    path = _delta(repository)
    good = repository.contents[path]
    repository.delegated["chassis"].targets.clear()
    repository.publish()
    for at in range(0, len(good), 3):
        repository.contents[path] = good[:at] + bytes((good[at] ^ 1 << at % 8,)) + good[at + 1 :]
        journal = car.home.root / "state/BDC.journal"
        journal.unlink(missing_ok=True)
        car.refused(CorruptError, "ECU BDC: ")
    repository.contents[path] = good
    car.update()
    assert car.active("BDC") == NEW


@pytest.mark.parametrize("length", [0, 1, 40, 500, -1])
def test_a_bundle_that_is_cut_short_is_refused(car: Car, repository: RepositorySimulator, length: int) -> None:
    path = _delta(repository)
    repository.contents[path] = repository.contents[path][:length]
    car.refused(TemporaryError, "ECU BDC: ")


def test_a_longer_file_on_the_server_does_no_harm(car: Car, repository: RepositorySimulator) -> None:
    for path in repository.contents:
        repository.contents[path] += b"more"
    car.update()
    assert car.active("BDC") == NEW


def test_a_missing_bundle_is_temporary(car: Car, repository: RepositorySimulator) -> None:
    del repository.contents[_delta(repository)]
    car.refused(TemporaryError, "ECU BDC: .* not found")


def test_a_spare_slot_of_another_length_is_made_anew(car: Car) -> None:
    car.put("BDC", image(7, 3 * SIZE), "b")
    car.put("DSC", image(7, 10), "b")
    car.update()
    assert [car.active("BDC"), car.active("DSC")] == [NEW, NEW_2]


def test_space_is_checked_before_anything_is_downloaded(
    car: Car, repository: RepositorySimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    heads_bytes = sum(make_bundle("bdc", "2", 2, old, new).head_bytes for old, new in ((OLD, NEW), (OLD_2, NEW_2)))
    needed = 2 * SIZE + heads_bytes + SPARE_SPACE_BYTES
    monkeypatch.setattr(VehicleHome, "free_bytes", lambda _: needed - 1)
    car.refused(ResourceError, f"{needed - 1} bytes free, the update needs {needed}; make room")
    assert not repository.streams
    monkeypatch.setattr(VehicleHome, "free_bytes", lambda _: needed)
    car.update()
    monkeypatch.setattr(VehicleHome, "free_bytes", lambda _: 0)
    car.update()  # nothing to do needs no room


def test_bad_metadata_changes_nothing(car: Car, repository: RepositorySimulator) -> None:
    good = repository.files["1.snapshot.json"]
    repository.files["1.snapshot.json"] = good[:-1] + b" "
    car.refused(UntrustedError, "snapshot.json")
    assert not repository.streams
    assert sorted(p.name for p in (car.home.root / "metadata").iterdir()) == ["root.json"]


def test_the_old_slot_is_opened_for_reading_only(car: Car, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[tuple[Path, int | None]] = []
    real = preparation.FileOnDisk.open

    def spy(path: Path, length_bytes: int | None = None) -> Any:
        opened.append((path, length_bytes))
        return real(path, length_bytes)

    monkeypatch.setattr(preparation.FileOnDisk, "open", spy)
    car.update()
    slots = {str(path.relative_to(car.home.root)): length for path, length in opened if "slots" in path.parts}
    assert slots == {"slots/BDC/a": None, "slots/BDC/b": SIZE, "slots/DSC/a": None, "slots/DSC/b": SIZE}


def test_all_ecus_switch_with_one_write(car: Car, monkeypatch: pytest.MonkeyPatch) -> None:
    writes: list[dict[str, EcuState]] = []
    monkeypatch.setattr(VehicleHome, "write_state", lambda _, state: writes.append(dict(state)))
    car.update()
    assert writes == [{"BDC": BDC_2, "DSC": DSC_2}]


def test_a_power_cut_before_the_switch_costs_no_download(
    car: Car, repository: RepositorySimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    class CutError(BaseException):
        pass

    def cut(*_: object) -> None:
        raise CutError

    with monkeypatch.context() as patch:
        patch.setattr(VehicleHome, "write_state", cut)
        with pytest.raises(CutError):
            car.update()
    assert [car.active("BDC"), car.active("DSC")] == [OLD, OLD_2]
    repository.streams.clear()
    car.update()
    assert not repository.streams
    assert [car.active("BDC"), car.active("DSC")] == [NEW, NEW_2]


def test_a_journal_left_by_a_cut_after_the_switch_goes_with_the_next_update(car: Car) -> None:
    car.update()
    (car.home.root / "state/BDC.journal").write_bytes(b"left")
    assert [s.is_interrupted for s in status(car.home)] == [True, False]
    car.update()
    assert [s.is_interrupted for s in status(car.home)] == [False, False]


def test_a_prepared_slot_is_read_again_before_it_is_believed(
    car: Car, repository: RepositorySimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(VehicleHome, "write_state", lambda *_: None)
        car.update()
    worn = bytearray(NEW)
    worn[2 * BLOCK_BYTES] ^= 1
    car.put("BDC", bytes(worn), "b")
    car.update()
    assert car.active("BDC") == NEW


def test_a_damaged_state_stops_the_update(car: Car) -> None:
    (car.home.root / "state").mkdir(exist_ok=True)
    (car.home.root / "state/active.json").write_text("{}")
    with pytest.raises(ResourceError, match="damaged"):
        car.update()


def test_another_updater_is_waited_for(car: Car) -> None:
    with car.home.lock():
        car.refused(TemporaryError, "another updater")


def test_status_tells_what_slots_hold_and_versions_that_metadata_knows(car: Car) -> None:
    first = status(car.home)
    assert [(s.installed, s.version) for s in first] == [(ImageId.of(OLD), None), (ImageId.of(OLD_2), None)]
    car.update()
    after = status(car.home)
    assert [(s.installed, s.version, s.state) for s in after] == [
        (ImageId.of(NEW), "2", BDC_2),
        (ImageId.of(NEW_2), "2", DSC_2),
    ]
