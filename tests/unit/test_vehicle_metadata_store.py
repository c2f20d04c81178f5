"""What stays in a car's ``metadata/``: damaged files are replaced, and what no ECU needs any more goes."""

from collections.abc import Callable
from pathlib import Path

import pytest

from packager.vehicle.errors import UntrustedError
from packager.vehicle.installation.install import check, update
from packager.vehicle.storage import DirectoryStorage
from packager.vehicle.trust import workflow
from packager.vehicle.trust.metadata_store import MemoryStorage, TrustedMetadata, initialise, refresh, remove_unneeded
from packager.vehicle.trust.workflow import ExpiredError
from tests.repository_simulator import LATER, NOW, RepositorySimulator
from tests.vehicle_car import IN_PLACE, Car, edited, image, repository_with

OLD = image(1, 20_000)
TOP_LEVEL = ["root.json", "snapshot.json", "targets.json", "timestamp.json"]
NEWEST_OF_CAR = sorted([*TOP_LEVEL, "body.3.json"])


def publish_release(repository: RepositorySimulator, number: int, **options: object) -> None:
    """Publish one role per domain and release, the newest first, as `packager` does."""
    for hardware, domain in (("bdc", "body"), ("dsc", "chassis")):
        role = f"{domain}.{number}"
        repository.delegate(role, [f"{hardware}/{number}/*"])
        assert repository.targets.delegations is not None
        roles = repository.targets.delegations.roles
        assert roles is not None
        repository.targets.delegations.roles = {role: roles.pop(role), **roles}
        repository.release(role, hardware, str(number), number, edited(OLD, number), OLD, **options)  # type: ignore[arg-type]
    for published in repository.delegated.values():
        published.version = 1 if number == 1 else 0  # files of roles never change
    repository.publish(bump=number > 1)


@pytest.fixture
def repository() -> RepositorySimulator:
    repository = RepositorySimulator()
    publish_release(repository, 1)
    return repository


@pytest.fixture
def car(tmp_path: Path, repository: RepositorySimulator) -> Car:
    car = Car(tmp_path / "car", repository, {"BDC": ("bdc", True)})
    car.put("BDC", OLD)
    return car


def stored(car: Car) -> list[str]:
    return sorted(path.name for path in (car.home.root / "metadata").iterdir())


# What is damaged


@pytest.mark.parametrize(
    ("name", "max_bytes"),
    [
        ("timestamp.json", workflow.MAX_TIMESTAMP_BYTES),
        ("snapshot.json", workflow.MAX_SNAPSHOT_BYTES),
        ("targets.json", workflow.MAX_TARGETS_BYTES),
        ("body.1.json", workflow.MAX_TARGETS_BYTES),
    ],
)
@pytest.mark.parametrize("too_many", [0, 1, 1000])
def test_a_stored_file_that_is_too_long_is_fetched_again(car: Car, name: str, max_bytes: int, too_many: int) -> None:
    car.update()
    path = car.home.root / "metadata" / name
    good = path.read_bytes()
    path.write_bytes(good.ljust(max_bytes + too_many))
    car.update()
    assert path.read_bytes() == good


@pytest.mark.parametrize("make", [lambda _: MemoryStorage(), DirectoryStorage])
def test_a_stored_root_that_is_too_long_is_no_root(
    tmp_path: Path, repository: RepositorySimulator, make: Callable[[Path], DirectoryStorage | MemoryStorage]
) -> None:
    storage = make(tmp_path)
    initialise(storage, repository.files["1.root.json"])
    storage.replace("root.json", repository.files["1.root.json"].ljust(workflow.MAX_ROOT_BYTES))
    refresh(storage, repository, NOW)
    storage.replace("root.json", repository.files["1.root.json"].ljust(workflow.MAX_ROOT_BYTES + 1))
    with pytest.raises(UntrustedError, match=r"root\.json"):
        refresh(storage, repository, NOW)


# What is not needed any more


def test_roles_of_releases_before_go_when_the_newest_is_installed(car: Car, repository: RepositorySimulator) -> None:
    for number in (2, 3):
        car.update()
        assert stored(car) == sorted([*TOP_LEVEL, f"body.{number - 1}.json"])
        publish_release(repository, number)
    car.update()
    assert stored(car) == NEWEST_OF_CAR
    repository.requests.clear()
    car.update()
    assert repository.requests == ["2.root.json", "timestamp.json"], "what is needed was kept"


def test_a_check_removes_them_too(car: Car, repository: RepositorySimulator) -> None:
    car.update()
    publish_release(repository, 2)
    check(car.home, repository, repository, NOW)
    assert stored(car) == sorted([*TOP_LEVEL, "body.2.json"])


def test_a_role_that_was_dropped_goes(car: Car, repository: RepositorySimulator) -> None:
    car.update()
    publish_release(repository, 2)
    assert repository.targets.delegations is not None
    assert repository.targets.delegations.roles is not None
    del repository.targets.delegations.roles["body.1"]
    repository.publish()
    car.update()
    assert "body.1.json" in repository.snapshot.meta
    assert stored(car) == sorted([*TOP_LEVEL, "body.2.json"])


def test_what_a_power_cut_left_goes_and_what_is_not_ours_stays(car: Car) -> None:
    car.update()
    for name in (".body.1.json.k3j2h1", "README"):
        (car.home.root / "metadata" / name).write_bytes(b"?")
    (car.home.root / "metadata/old.json").mkdir()
    car.update()
    assert stored(car) == sorted([*TOP_LEVEL, "README", "body.1.json", "old.json"])


@pytest.mark.parametrize("why", ["expired", "refused", "bundle is gone"])
def test_nothing_goes_before_the_new_state_is_trusted_and_installed(
    car: Car, repository: RepositorySimulator, why: str
) -> None:
    car.update()
    publish_release(repository, 2)
    if why == "refused":
        repository.files["2.targets.json"] += b" "
    if why == "bundle is gone":
        repository.contents.clear()
    with pytest.raises(Exception, match=r"expired|targets\.json|not found"):
        update(car.home, repository, repository, LATER if why == "expired" else NOW)
    assert "body.1.json" in stored(car)


def test_nothing_goes_while_an_ecu_is_half_overwritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The full bundle to the image that was begun is told by the role of its release, which is not the newest any more."""
    repository = RepositorySimulator()
    publish_release(repository, 1, profile=IN_PLACE)
    car = Car(tmp_path / "car", repository, {"BDC": ("bdc", False)})
    car.put("BDC", OLD)
    car.stop_in_place(monkeypatch, 1)
    assert car.state("BDC").begun is not None
    publish_release(repository, 2, profile=IN_PLACE)
    check(car.home, repository, repository, NOW)
    assert {"body.1.json", "body.2.json"} < set(stored(car))
    repository.contents = {path: data for path, data in repository.contents.items() if path.endswith("full.bundle")}
    with pytest.raises(ExpiredError, match="version 1, begun before, was finished"):
        update(car.home, repository, repository, LATER)
    assert car.slot("BDC") == edited(OLD, 1)
    car.update()
    assert car.slot("BDC") == edited(OLD, 2)
    assert stored(car) == sorted([*TOP_LEVEL, "body.2.json"])


def test_versions_are_remembered_without_the_files(car: Car, repository: RepositorySimulator) -> None:
    """Rollback protection is the snapshot's: a role that goes back under a new snapshot is refused though its file is gone."""
    for number in (2, 3):
        car.update()
        publish_release(repository, number)
    repository.publish()
    car.update()
    assert stored(car) == NEWEST_OF_CAR
    assert repository.snapshot.meta["body.1.json"].version == 2
    repository.snapshot.meta["body.1.json"].version = 1
    repository.snapshot.version += 1
    repository.timestamp.version += 1
    repository.publish_snapshot()
    with pytest.raises(UntrustedError, match=r"lists body\.1\.json version 1, but version 2 was trusted before"):
        car.update()


def test_a_role_that_is_needed_again_is_fetched_and_must_be_the_listed_one(
    car: Car, repository: RepositorySimulator
) -> None:
    for number in (2, 3):
        car.update()
        publish_release(repository, number)
    car.update()
    path = f"{repository.delegated['body.1'].version}.body.1.json"
    good = repository.files[path]
    trusted = refresh(car.home.metadata, repository, NOW)
    assert trusted.delegations.read("bdc/1/image") is not None
    repository.files[path] = good[:-1] + b" "
    remove_unneeded(car.home.metadata, refresh(car.home.metadata, repository, NOW))
    assert stored(car) == TOP_LEVEL
    with pytest.raises(UntrustedError, match=r"body\.1\.json: found .*; snapshot\.json lists"):
        refresh(car.home.metadata, repository, NOW).delegations.read("bdc/1/image")


def test_a_cut_at_any_removal_is_harmless(repository: RepositorySimulator) -> None:
    class CutError(Exception):
        pass

    class CutStorage(MemoryStorage):
        removals = 0

        def remove(self, name: str) -> None:
            if not self.removals:
                raise CutError
            self.removals -= 1
            super().remove(name)

    def read(storage: MemoryStorage) -> TrustedMetadata:
        trusted = refresh(storage, repository, NOW)
        assert trusted.delegations.of_hardware("bdc")
        return trusted

    for number in (2, 3):
        publish_release(repository, number)
    for removals in range(3):
        storage = CutStorage()
        initialise(storage, repository.files["1.root.json"])
        read(storage).delegations.roles(superseded=True)
        assert len(storage.names()) == len(TOP_LEVEL) + 6
        storage.removals = removals
        with pytest.raises(CutError):
            remove_unneeded(storage, read(storage))
        storage.removals = 9
        remove_unneeded(storage, read(storage))
        assert storage.names() == NEWEST_OF_CAR


def test_a_role_name_that_is_quoted_is_kept(tmp_path: Path) -> None:
    repository = repository_with("bdc+a")
    repository.publish()
    repository.files["1.bdc%2Ba.json"] = repository.files["1.bdc+a.json"]
    car = Car(tmp_path / "car", repository, {"BDC": ("bdc", True)})
    trusted = refresh(car.home.metadata, repository, NOW)
    trusted.delegations.roles(superseded=True)
    remove_unneeded(car.home.metadata, trusted)
    assert stored(car) == sorted([*TOP_LEVEL, "bdc%2Ba.json"])
