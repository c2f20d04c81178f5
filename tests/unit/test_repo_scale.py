"""A repository as large as it gets: 100 hardware ids, 11 releases, 5 old versions each. Seconds are `make bench-metadata`'s."""

from collections.abc import Callable

import pytest

from packager.repo.authority import Authority
from tests.release_series import DOMAINS, Series, Served, car_reads, fresh_car, make_authority, summaries_of
from tests.signed_metadata import load_metadata, write_metadata

SERIES = Series.of(hardware_ids=100, olds=5)
RELEASES = 11
CAR_BYTES = 300_000
"""What one car may read for a release of 100 ECUs."""


@pytest.fixture(scope="module")
def authority() -> Authority:
    return make_authority()


@pytest.fixture(scope="module")
def repository(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Served]:
    """Publishes all releases; returns what was served after any of them."""
    directory = tmp_path_factory.mktemp("repository")
    states = []
    for number in range(1, RELEASES + 1):
        contents = SERIES.release(number, authority)
        write_metadata(directory, authority, contents, SERIES.issued_at(number))
        states.append(({path.name: path.read_bytes() for path in directory.iterdir()}, summaries_of(contents)))
    return lambda number: Served(dict(states[number - 1][0]), states[number - 1][1])


def test_a_car_reads_its_newest_release_alone(authority: Authority, repository: Callable[[int], Served]) -> None:
    alone, crowded = repository(1), repository(RELEASES)
    first = car_reads(alone, fresh_car(authority), SERIES, SERIES.issued_at(1))
    eleventh = car_reads(crowded, fresh_car(authority), SERIES, SERIES.issued_at(RELEASES))
    assert set(crowded.read_bytes_of) == {
        *("timestamp.json", "11.snapshot.json", "11.targets.json"),
        *(f"1.{domain}.07-2020.11.json" for domain in DOMAINS),
        *(f"summary/{domain}.07-2020.11.json" for domain in DOMAINS),
    }
    assert first < eleventh < CAR_BYTES
    assert eleventh - first < 5_000 * (RELEASES - 1), "what a release costs a car that does not need it"


def test_a_daily_refresh_reads_the_timestamp_alone(authority: Authority, repository: Callable[[int], Served]) -> None:
    storage, served = fresh_car(authority), repository(RELEASES)
    car_reads(served, storage, SERIES, SERIES.issued_at(RELEASES))
    assert car_reads(served, storage, SERIES, SERIES.issued_at(RELEASES), installs=False) < 1000
    assert list(served.read_bytes_of) == ["timestamp.json"]


def test_a_new_release_costs_a_car_that_knows_the_one_before_no_more(
    authority: Authority, repository: Callable[[int], Served]
) -> None:
    storage = fresh_car(authority)
    car_reads(repository(RELEASES - 1), storage, SERIES, SERIES.issued_at(RELEASES))
    assert car_reads(repository(RELEASES), storage, SERIES, SERIES.issued_at(RELEASES)) < CAR_BYTES


def test_every_release_stays_verifiable(authority: Authority, repository: Callable[[int], Served]) -> None:
    trusted = load_metadata(repository(RELEASES).files, authority.root, SERIES.issued_at(RELEASES))
    found = trusted.delegations.everything(superseded=True)
    expected = [
        target
        for number in range(1, RELEASES + 1)
        for targets in SERIES.release(number, authority).targets.values()
        for target in targets
    ]
    assert found == sorted(expected, key=lambda target: target.path)
    assert len(trusted.delegations.everything()) == len(found) // RELEASES


def test_old_releases_never_change(repository: Callable[[int], Served]) -> None:
    before, after = repository(1).files, repository(RELEASES).files
    assert {name for name in before if after[name] != before[name]} == {"timestamp.json"}
    assert len(after) == 1 + RELEASES * (2 + len(DOMAINS)) + 1


def test_the_vehicle_gets_along_without_the_expired_past(
    authority: Authority, repository: Callable[[int], Served]
) -> None:
    """Roles that no car reads need no renewal."""
    served = repository(RELEASES)
    for name in list(served.files):
        if ".07-2020." in name and ".07-2020.11." not in name:
            del served.files[name]
    trusted = load_metadata(served.files, authority.root, SERIES.issued_at(RELEASES))
    assert len(trusted.delegations.roles(superseded=False)) == len(DOMAINS)
    assert car_reads(served, fresh_car(authority), SERIES, SERIES.issued_at(RELEASES)) < CAR_BYTES
