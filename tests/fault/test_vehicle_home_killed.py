"""Whole updates of a home stopped at every change of a file, then run again: A/B and in-place ECUs together."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from packager.vehicle.core.inplace import InPlaceSlot
from packager.vehicle.errors import ResourceError
from packager.vehicle.identity import Digest, ImageId
from packager.vehicle.installation.inventory import status
from packager.vehicle.installation.state import EcuState
from tests.faulty_storage import CUTS, RecordProperty
from tests.repository_simulator import BLOCK_BYTES, RepositorySimulator
from tests.vehicle_car import IN_PLACE, Car, edited, image, repository_with

OLD, OLD_2 = image(1, 3 * BLOCK_BYTES + 50), image(2, 2 * BLOCK_BYTES)
NEW, NEW_2 = edited(OLD)[:-900], edited(OLD_2)
NEWER = edited(NEW, 3) + image(3, 2 * BLOCK_BYTES)
HEADS = {
    f"state/{name}.head": f"{name.lower()}/2/{Digest.of(old).hex}.bundle"
    for name, old in (("EPS", OLD), ("BDC", OLD_2))
}
CHANGES = ("pwrite", "fdatasync", "fsync", "ftruncate", "replace", "unlink", "open")


class StopError(BaseException):
    """The process is gone."""


class Disk:
    """Counts system calls that change files, and lets the process end at one of them, before or after it was done."""

    def __init__(self, stop_at: int | None, *, is_done: bool) -> None:
        self.steps = 0
        self._stop_at = stop_at
        self._is_done = is_done

    @contextmanager
    def watched(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        with monkeypatch.context() as patch:
            for name in CHANGES:
                patch.setattr(os, name, self._wrapped(getattr(os, name)))
            yield

    def _wrapped(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(*arguments: Any, **options: Any) -> Any:
            if call.__name__ == "open" and not arguments[1] & os.O_CREAT:
                return call(*arguments, **options)
            step, self.steps = self.steps, self.steps + 1
            if step == self._stop_at and not self._is_done:
                raise StopError
            try:
                return call(*arguments, **options)
            finally:  # also if there was nothing to be removed
                if step == self._stop_at:
                    raise StopError

        return wrapper


@pytest.fixture(scope="module")
def repository() -> RepositorySimulator:
    repository = repository_with("bdc", "eps")
    repository.release("bdc", "bdc", "2", 2, NEW_2, OLD_2)
    repository.release("eps", "eps", "2", 2, NEW, OLD, profile=IN_PLACE)
    repository.publish()
    return repository


@pytest.fixture(scope="module")
def later(repository: RepositorySimulator) -> RepositorySimulator:
    """The same repository after the next release of the in-place ECU; the bundle in between is still served, but no longer signed."""
    later = repository_with("bdc", "eps")
    later.signers, later.root, later.files = repository.signers, repository.root, dict(repository.files)
    later.delegate("bdc", ["bdc/*/*"], with_signers=repository.signers["bdc"])
    later.delegate("eps", ["eps/*/*"], with_signers=repository.signers["eps"])
    later.release("bdc", "bdc", "2", 2, NEW_2, OLD_2)
    later.release("eps", "eps", "3", 3, NEWER, NEW, profile=IN_PLACE)
    later.contents = {**repository.contents, **later.contents}
    for role in (later.targets, later.snapshot, later.timestamp, *later.delegated.values()):
        role.version = 7
    later.publish(bump=False)
    return later


def car(root: Path, repository: RepositorySimulator) -> Car:
    car = Car(root, repository, {"EPS": ("eps", False), "BDC": ("bdc", True)})
    car.put("EPS", OLD)
    car.put("BDC", OLD_2)
    return car


def stopped(car: Car, monkeypatch: pytest.MonkeyPatch, at: int, *, is_done: bool) -> None:
    with Disk(at, is_done=is_done).watched(monkeypatch), pytest.raises(StopError):
        car.update()


def half_overwritten(root: Path, repository: RepositorySimulator, monkeypatch: pytest.MonkeyPatch) -> Car:
    """Return a car that was stopped after the second block of its in-place ECU."""

    def stop(_: InPlaceSlot, position: int, output_bytes: int) -> None:
        if position == 2:
            raise StopError

    found = car(root, repository)
    with monkeypatch.context() as patch:
        patch.setattr(InPlaceSlot, "commit", stop)
        with pytest.raises(StopError):
            found.update()
    assert found.slot("EPS") not in (OLD, NEW)
    assert [entry.is_startable for entry in status(found.home)] == [False, True]
    return found


def count_steps(car: Car, monkeypatch: pytest.MonkeyPatch) -> int:
    disk = Disk(None, is_done=True)
    with disk.watched(monkeypatch):
        car.update()
    return disk.steps


def require_startable_or_told(car: Car) -> None:
    """An ECU whose active slot holds neither image whole must be known as not to be started."""
    for entry in status(car.home):
        whole = (OLD, NEW) if entry.ecu.name == "EPS" else (OLD_2, NEW_2)
        if car.active(entry.ecu.name) not in whole:
            assert not entry.is_startable
    assert car.active("BDC") == (NEW_2 if car.state("BDC").slot == "b" else OLD_2)


@pytest.mark.parametrize("is_done", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("step", [7, pytest.param(1, marks=pytest.mark.long)])
def test_every_stop_ends_in_the_new_images(
    tmp_path: Path,
    repository: RepositorySimulator,
    monkeypatch: pytest.MonkeyPatch,
    is_done: bool,
    step: int,
    record_property: RecordProperty,
) -> None:
    steps = count_steps(car(tmp_path / "whole", repository), monkeypatch)
    tried = range(0, steps, step)
    for at in tried:
        found = car(tmp_path / str(at), repository)
        stopped(found, monkeypatch, at, is_done=is_done)
        require_startable_or_told(found)
        kept = {path for name, path in HEADS.items() if (found.home.root / name).exists()}
        repository.reads.clear()
        found.update()
        assert not kept & {path for path, start, _ in repository.reads if start == 0}, "a head that lies there"
        assert [found.slot("EPS"), found.active("BDC")] == [NEW, NEW_2]
        assert found.home.read_state() == {
            "EPS": EcuState("a", 2, ImageId.of(NEW)),
            "BDC": EcuState("b", 2, ImageId.of(NEW_2)),
        }
        left = [name for name in found.files() if name.startswith(("slots/EPS", "state/")) and not _is_temporary(name)]
        assert left == ["slots/EPS/a", "state/active.json", "state/clock.json", "state/lock"]
    record_property(CUTS, len(tried))
    print(f"home with both kinds of ECU, {len(tried)} of {steps} stops {'after' if is_done else 'before'} a change")


@pytest.mark.parametrize("step", [11, pytest.param(1, marks=pytest.mark.long)])
def test_every_stop_with_torn_heads_ends_in_the_new_images(
    tmp_path: Path,
    repository: RepositorySimulator,
    monkeypatch: pytest.MonkeyPatch,
    step: int,
    record_property: RecordProperty,
) -> None:
    """Their file system may not keep the promise of `write_atomically`: a part of them, or nothing, is there."""
    steps = count_steps(car(tmp_path / "whole", repository), monkeypatch)
    tried, torn = range(0, steps, step), 0
    for at in tried:
        found = car(tmp_path / str(at), repository)
        stopped(found, monkeypatch, at, is_done=True)
        for path in (found.home.root / "state").glob("*.head"):
            torn += 1
            path.write_bytes(path.read_bytes()[: at % 300])
        found.update()
        assert [found.slot("EPS"), found.active("BDC")] == [NEW, NEW_2]
        assert not list((found.home.root / "state").glob("*.head"))
    assert torn
    record_property(CUTS, len(tried))
    print(f"home with both kinds of ECU, {len(tried)} stops, {torn} torn heads")


@pytest.mark.parametrize("step", [9, pytest.param(1, marks=pytest.mark.long)])
def test_a_newer_release_waits_until_what_was_begun_is_finished(
    tmp_path: Path,
    repository: RepositorySimulator,
    later: RepositorySimulator,
    monkeypatch: pytest.MonkeyPatch,
    step: int,
    record_property: RecordProperty,
) -> None:
    finished_first = 0
    tried = range(0, count_steps(car(tmp_path / "whole", repository), monkeypatch), step)
    for at in tried:
        found = car(tmp_path / str(at), repository)
        stopped(found, monkeypatch, at, is_done=True)
        begun = found.state("EPS").begun
        found.repository = later
        entry = found.update().ecus[0]
        assert found.slot("EPS") == NEWER
        assert found.state("EPS") == EcuState("a", 3, ImageId.of(NEWER))
        if begun is not None:
            finished_first += 1
            assert "finished 2 first" in entry.note
            assert entry.bundle is not None
            assert entry.bundle.old == Digest.of(NEW), "the delta from the image that was finished"
    assert finished_first
    record_property(CUTS, len(tried))
    print(f"newer release, {len(tried)} stops, {finished_first} of them with an update begun in place")


def test_what_can_not_be_finished_gives_way_to_the_newest_full_bundle(
    tmp_path: Path, repository: RepositorySimulator, later: RepositorySimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = half_overwritten(tmp_path, repository, monkeypatch)
    begun = found.state("EPS").begun
    assert begun is not None
    with monkeypatch.context() as patch:
        patch.delitem(later.contents, begun.bundle.path)
        found.repository = later
        entry = found.update().ecus[0]
    assert "can't be finished" in entry.note
    assert entry.bundle is not None
    assert entry.bundle.old is None
    assert found.slot("EPS") == NEWER
    assert found.state("EPS").begun is None


def test_a_begun_bundle_that_is_gone_gives_way_to_the_full_one_of_its_image(
    tmp_path: Path, repository: RepositorySimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = half_overwritten(tmp_path, repository, monkeypatch)
    begun = found.state("EPS").begun
    assert begun is not None
    with monkeypatch.context() as patch:
        patch.delitem(repository.contents, begun.bundle.path)
        entry = found.update().ecus[0]
    assert entry.bundle is not None
    assert entry.bundle.old is None
    assert found.slot("EPS") == NEW


def test_an_ecu_in_place_is_not_touched_before_all_spare_slots_are_ready(
    tmp_path: Path, repository: RepositorySimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = car(tmp_path, repository)
    path = f"bdc/2/{ImageId.of(OLD_2).digest.hex}.bundle"
    monkeypatch.setitem(repository.contents, path, repository.contents[path][:-1] + b"?")
    with pytest.raises(Exception, match="ECU BDC"):
        found.update()
    assert found.slot("EPS") == OLD
    assert found.state("EPS").begun is None


def test_a_state_that_can_not_be_written_leaves_the_only_slot_alone(
    tmp_path: Path, repository: RepositorySimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = car(tmp_path, repository)

    def fail(*_: object) -> None:
        raise ResourceError("read-only")

    with monkeypatch.context() as patch:
        patch.setattr("packager.vehicle.installation.home.write_atomically", fail)
        with pytest.raises(ResourceError, match="read-only"):
            found.update()
    assert found.slot("EPS") == OLD
    found.update()
    assert found.slot("EPS") == NEW


def _is_temporary(name: str) -> bool:
    return "/." in name
