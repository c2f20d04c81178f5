"""Clocks that are reset, behind, ahead or at their end, and a car that was away for years."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from packager.vehicle.errors import ResourceError, TemporaryError
from packager.vehicle.installation.install import refresh_home, update
from packager.vehicle.trust import clock, workflow
from packager.vehicle.trust.clock import MAX_JUMP, ClockError, check_time, encode_floor, parse_floor
from packager.vehicle.trust.workflow import ExpiredError
from tests.repository_simulator import LATER, NOW, TOP_LEVEL, RepositorySimulator
from tests.vehicle_car import Car, image, repository_with

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
END = datetime.max.replace(tzinfo=UTC)
SECOND = timedelta(seconds=1)


@pytest.fixture
def repository() -> RepositorySimulator:
    repository = repository_with("bdc")
    repository.release("bdc", "bdc", "2", 2, image(2, 20_000))
    repository.publish()
    return repository


@pytest.fixture
def car(tmp_path: Path, repository: RepositorySimulator) -> Car:
    return Car(tmp_path / "home", repository, {"BDC": ("bdc", True)})


def stored(car: Car) -> dict[str, bytes]:
    return {name: (car.home.root / name).read_bytes() for name in car.files()}


def test_a_clock_that_was_reset_to_1970_is_replaced_by_the_floor_and_reported(car: Car) -> None:
    refresh_home(car.home, car.repository, NOW)
    assert car.home.read_floor() == NOW
    report = update(car.home, car.repository, car.repository, EPOCH)
    assert "1970-01-01T00:00:00Z, before the last verified time; 2026-07-01T12:00:00Z is used" in report.clock_note
    assert car.home.read_floor() == NOW


def test_a_reset_clock_revives_nothing_that_had_expired(car: Car, repository: RepositorySimulator) -> None:
    refresh_home(car.home, repository, NOW)
    car.home.raise_floor(LATER)
    with pytest.raises(ExpiredError):
        refresh_home(car.home, repository, EPOCH)


def test_without_a_floor_the_clock_counts(car: Car) -> None:
    assert check_time(EPOCH, None).now == EPOCH
    refresh_home(car.home, car.repository, NOW)
    assert not check_time(NOW, NOW).note
    assert check_time(NOW - SECOND, NOW).note


@pytest.mark.parametrize("ahead", [NOW + timedelta(days=3 * 365), END])
def test_a_clock_far_ahead_stores_nothing_and_is_survived(car: Car, ahead: datetime) -> None:
    refresh_home(car.home, car.repository, NOW)
    car.repository.publish()
    before = stored(car)
    with pytest.raises(ClockError, match="set the clock"):
        refresh_home(car.home, car.repository, ahead)
    assert stored(car) == before
    refresh_home(car.home, car.repository, NOW + SECOND)
    assert car.home.read_floor() == NOW + SECOND


def test_what_is_doubted_depends_on_how_far_the_clock_is_ahead(car: Car) -> None:
    error = ExpiredError("timestamp.json: expired")
    assert check_time(NOW + MAX_JUMP, NOW).explain(error) is error
    doubt = check_time(NOW + MAX_JUMP + SECOND, NOW).explain(error)
    assert isinstance(doubt, TemporaryError)
    assert "90 days ahead" in str(doubt)
    assert check_time(END, None).explain(error) is error
    refresh_home(car.home, car.repository, NOW)
    with pytest.raises(ExpiredError):
        refresh_home(car.home, car.repository, NOW + MAX_JUMP)


def test_the_floor_is_raised_by_a_refresh_that_held_only(car: Car, repository: RepositorySimulator) -> None:
    with pytest.raises(ExpiredError):
        refresh_home(car.home, repository, LATER)
    assert car.home.read_floor() is None
    refresh_home(car.home, repository, LATER - SECOND)
    assert car.home.read_floor() == LATER - SECOND
    car.home.raise_floor(NOW)
    assert car.home.read_floor() == LATER - SECOND


def test_three_years_away_everything_rotated_every_week(car: Car, repository: RepositorySimulator) -> None:
    refresh_home(car.home, repository, NOW)
    for week in range(3 * 52):
        repository.root.expires = NOW + timedelta(weeks=week + 8)
        repository.rotate(TOP_LEVEL[week % len(TOP_LEVEL)])
    now = NOW + timedelta(weeks=3 * 52)
    for role in (repository.timestamp, repository.snapshot, repository.targets, repository.delegated["bdc"]):
        role.expires = now + timedelta(days=7)
    repository.publish()
    trusted, note = refresh_home(car.home, repository, now)
    assert (trusted.root.version, note) == (157, "")
    assert car.home.read_floor() == now


@pytest.mark.parametrize(
    ("years", "is_reached"), [(workflow.MAX_ROOT_ROTATIONS, True), (workflow.MAX_ROOT_ROTATIONS + 1, False)]
)
def test_as_many_roots_as_one_refresh_follows(
    car: Car, repository: RepositorySimulator, years: int, is_reached: bool
) -> None:
    for _ in range(years):
        repository.root.version += 1
        repository.publish_root()
    if not is_reached:
        with pytest.raises(TemporaryError, match="run again"):
            refresh_home(car.home, repository, NOW)
    trusted, _ = refresh_home(car.home, repository, NOW)
    assert trusted.root.version == years + 1


def test_a_clock_that_no_date_can_express_is_far_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    class Overflowing(datetime):
        @classmethod
        def now(cls, tz: object = None) -> "Overflowing":
            raise OverflowError("year is out of range")

    monkeypatch.setattr(clock, "datetime", Overflowing)
    assert clock.read_clock().year == 9999


@pytest.mark.parametrize("data", [b"", b"{}", b'{"format": 1}', b'{"format": 2, "verified": "2026-07-01T12:00:00Z"}'])
def test_a_damaged_floor_is_reported_not_forgotten(car: Car, data: bytes) -> None:
    assert parse_floor(encode_floor(NOW)) == NOW
    car.home.files.replace("state/clock.json", data)
    with pytest.raises(ResourceError, match="damaged"):
        refresh_home(car.home, car.repository, NOW)
