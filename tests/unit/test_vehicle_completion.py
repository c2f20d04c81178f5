"""What was begun in the only slot goes forward, whatever has become of metadata since."""

from datetime import timedelta
from pathlib import Path

import pytest

from packager.vehicle.errors import CancelledError, IncompatibleError, UntrustedError, VehicleError
from packager.vehicle.identity import Digest
from packager.vehicle.installation.install import update
from packager.vehicle.trust.clock import ClockError
from packager.vehicle.trust.workflow import ExpiredError
from tests.repository_simulator import BLOCK_BYTES, LATER, NOW, RepositorySimulator
from tests.vehicle_car import IN_PLACE, Car, damage, edited, image, repository_with

OLD = image(1, 4 * BLOCK_BYTES + 50)
NEW = edited(OLD)
NEWER = edited(NEW, 3)
OTHER = image(2, 2 * BLOCK_BYTES)
YEARS = timedelta(days=200)
DELTA = f"eps/2/{Digest.of(OLD).hex}.bundle"
FULL = "eps/2/full.bundle"


@pytest.fixture
def repository() -> RepositorySimulator:
    repository = repository_with("eps", "bdc")
    repository.release("eps", "eps", "2", 2, NEW, OLD, profile=IN_PLACE, max_repair_bytes=1 << 20)
    repository.publish()
    return repository


@pytest.fixture
def car(tmp_path: Path, repository: RepositorySimulator, monkeypatch: pytest.MonkeyPatch) -> Car:
    """A car whose EPS was left half overwritten."""
    car = Car(tmp_path / "car", repository, {"EPS": ("eps", False), "BDC": ("bdc", True)})
    car.put("EPS", OLD)
    car.put("BDC", OTHER)
    car.stop_in_place(monkeypatch, 2)
    assert car.state("EPS").begun is not None
    repository.streams.clear()
    return car


def fails(car: Car, kind: type[VehicleError], wrong: str, days: timedelta = timedelta(0)) -> None:
    with pytest.raises(VehicleError, match=wrong) as caught:
        update(car.home, car.repository, car.repository, NOW + days)
    assert type(caught.value) is kind


def is_finished(car: Car) -> bool:
    assert car.active("BDC") == OTHER
    return car.slot("EPS") == NEW and car.state("EPS").begun is None and car.state("EPS").release_counter == 2


def test_expired_metadata_does_not_stop_it(car: Car) -> None:
    floor = car.home.read_floor()
    fails(car, ExpiredError, "expired .*; ECU EPS: version 2, begun before, was finished", LATER - NOW)
    assert is_finished(car)
    assert {path for path, _ in car.repository.streams} == {DELTA}
    assert car.home.read_floor() == floor


def test_a_doubted_clock_does_not_stop_it(car: Car) -> None:
    fails(car, ClockError, "set the clock.*; ECU EPS: .* was finished", YEARS)
    assert is_finished(car)


def test_refused_metadata_does_not_stop_it(car: Car, repository: RepositorySimulator) -> None:
    repository.files["timestamp.json"] = b"{}"
    fails(car, UntrustedError, "timestamp.json.*; ECU EPS: .* was finished")
    assert is_finished(car)


@pytest.mark.parametrize("of", ["eps", "bdc"])
def test_an_expired_domain_does_not_stop_it(car: Car, repository: RepositorySimulator, of: str) -> None:
    repository.delegated[of].expires = NOW
    repository.publish()
    fails(car, ExpiredError, f"{of}.json version 2: expired .*; ECU EPS: .* was finished")
    assert is_finished(car)


def test_what_another_ecu_lacks_does_not_stop_it(car: Car, repository: RepositorySimulator) -> None:
    repository.add_image("bdc", "bdc", "2", 2, NEW)
    repository.publish()
    fails(car, IncompatibleError, "ECU BDC: .*no full bundle.*; ECU EPS: .* was finished")
    assert is_finished(car)


def test_the_full_bundle_that_was_known_before_takes_the_place_of_a_missing_one(car: Car) -> None:
    del car.repository.contents[DELTA]
    fails(car, ExpiredError, "was finished", LATER - NOW)
    assert is_finished(car)
    assert [path for path, _ in car.repository.streams if path != DELTA] == [FULL]


def test_blocks_that_the_old_image_has_lost_come_from_the_full_bundle(car: Car) -> None:
    car.put("EPS", damage(car.slot("EPS"), 3))
    fails(car, ExpiredError, "was finished", LATER - NOW)
    assert is_finished(car)
    assert any(path == FULL for path, _, _ in car.repository.reads)


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets", "eps"])
def test_stored_metadata_is_of_help_but_not_needed(car: Car, role: str) -> None:
    (car.home.root / f"metadata/{role}.json").unlink()
    fails(car, ExpiredError, "was finished", LATER - NOW)
    assert is_finished(car)


def test_what_cannot_be_finished_now_stays_as_it_is(car: Car) -> None:
    held = dict(car.repository.contents)
    car.repository.contents.clear()
    half = car.slot("EPS")
    fails(car, ExpiredError, "; version 2, begun before, can't be finished now: ECU EPS: .*not found", LATER - NOW)
    assert car.slot("EPS") == half
    assert car.state("EPS").begun is not None
    car.repository.contents.update(held)
    car.update()
    assert is_finished(car)


def test_who_stops_it_is_heard(car: Car) -> None:
    with pytest.raises(CancelledError):
        update(car.home, car.repository, car.repository, LATER, cancelled=lambda: True)
    assert car.state("EPS").begun is not None


def test_nothing_else_starts(car: Car, repository: RepositorySimulator) -> None:
    """Nor does the ECU itself go on to a newer release, until a refresh holds."""
    repository.release("eps", "eps", "3", 3, NEWER, NEW, profile=IN_PLACE)
    repository.release("bdc", "bdc", "3", 3, NEW)
    repository.publish()
    fails(car, ExpiredError, "was finished", LATER - NOW)
    assert is_finished(car)
    fails(car, ExpiredError, "expired at [^;]*$", LATER - NOW)
    assert is_finished(car)
    car.update()
    assert (car.active("EPS"), car.active("BDC")) == (NEWER, NEW)
