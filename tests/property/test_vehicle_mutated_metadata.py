"""Whatever a server without keys makes of published metadata, a car refuses it or has what was published, and goes on with the honest one.

A whole update in a whole home, so that the law holds for the store and the order of writes, too, not for parsing alone.
"""

import json
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from packager.vehicle.errors import TemporaryError, UntrustedError, VehicleError
from packager.vehicle.installation.home import open_home
from packager.vehicle.installation.install import update
from tests.repository_simulator import NOW
from tests.vehicle_car import Car, edited, image, repository_with

OLD = image(1, 4096 + 50)
FIRST, SECOND = edited(OLD, 1), edited(OLD, 2)
STORED_BEFORE_ROLES: Final = {f"metadata/{name}.json" for name in ("timestamp", "snapshot", "targets")} | {
    "state/clock.json"
}
"""What is stored, because it holds, before the role of a domain is asked for."""
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4) | st.sampled_from(["root", "0" * 64]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=4,
)


class World:
    """A car that has release 1, and a repository that publishes release 2 and a new root.

    Attributes:
        repository: What is served; hostile during `met_by`.
        honest: Its metadata files.
        hostile: Those that a car asks for when it goes to release 2, and the root that follows.
        root: The next root; served only if it is mutated, as it would be stored for good.
        published: All files that there ever were.
    """

    def __init__(self, directory: Path) -> None:
        self.repository = repository_with("bdc", "dsc")
        self.repository.release("bdc", "bdc", "1", 1, FIRST, OLD)
        self.repository.publish()
        car = Car(directory / "car", self.repository, {"BDC": ("bdc", True)})
        car.put("BDC", OLD)
        car.update()
        self._home = car.home.root
        self._before = files(self._home)
        frozen = self.repository.files["timestamp.json"]
        self.repository.release("bdc", "bdc", "2", 2, SECOND, FIRST)
        self.repository.publish()
        self.honest = dict(self.repository.files)
        self.repository.rotate("root")
        self.root = self.repository.files.pop("2.root.json")
        self.published = {**self.honest, "2.root.json": self.root, "timestamp.json before": frozen}
        self.hostile = ["2.root.json", "timestamp.json", "2.snapshot.json", "2.targets.json", "2.bdc.json"]

    def met_by(self, name: str, data: bytes) -> VehicleError | None:
        """Serve `data` as `name` to the car and then honest files; return what the first update failed with."""
        failure: VehicleError | None = None
        with tempfile.TemporaryDirectory() as directory:
            home = Path(directory) / "car"
            shutil.copytree(self._home, home)
            self.repository.files = {**self.honest, name: data}
            try:
                update(open_home(home), self.repository, self.repository, NOW)
            except VehicleError as error:
                failure = error
                found = files(home)
                changed = {at for at in {*found, *self._before} if found.get(at) != self._before.get(at)}
                assert changed <= (STORED_BEFORE_ROLES if name == "2.bdc.json" else set()), changed
                assert active(home) == FIRST
            else:
                assert active(home) in (FIRST, SECOND)
            self.repository.files = self.honest
            update(open_home(home), self.repository, self.repository, NOW)
            assert active(home) == SECOND
        return failure


def files(home: Path) -> dict[str, bytes]:
    return {str(path.relative_to(home)): path.read_bytes() for path in sorted(home.rglob("*")) if path.is_file()}


def active(home: Path) -> bytes:
    return (home / "slots/BDC" / open_home(home).read_state()["BDC"].slot).read_bytes()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("world"))


def places(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in items:
        yield (*path, key)
        yield from places(value, (*path, key))


def with_other_field(document: Any, draw: st.DrawFn) -> Any:
    """Replace, remove, repeat or add one field."""
    path = draw(st.sampled_from(list(places(document))))
    place = document
    for key in path[:-1]:
        place = place[key]
    what = draw(st.sampled_from(["replace", "remove", "repeat", "add"]))
    if what == "remove":
        del place[path[-1]]
    elif what == "repeat" and isinstance(place, list):
        place.append(place[path[-1]])
    elif what == "add" and isinstance(place, dict):
        place[draw(st.text(max_size=4))] = draw(JSON)
    else:
        place[path[-1]] = draw(JSON)
    return document


@st.composite
def mutations(draw: st.DrawFn, data: bytes, others: list[bytes]) -> bytes:
    """Return other bytes than `data`, or now and then the same."""
    kind = draw(st.sampled_from(["bytes", "cut", "twice", "field", "repeated key", "swapped", "anything"]))
    at = draw(st.integers(0, len(data)))
    end = draw(st.integers(at, len(data)))
    if kind == "bytes":
        return (
            data[:at] + draw(st.binary(min_size=1, max_size=8)) + data[min(len(data), at + draw(st.integers(0, 8))) :]
        )
    if kind == "cut":
        return data[:at] + data[end:]
    if kind == "twice":
        return data[:end] + data[at:]
    if kind == "field":
        return json.dumps(with_other_field(json.loads(data), draw)).encode()
    if kind == "repeated key":
        first = draw(st.sampled_from(list(re.finditer(rb'\{("[^"]*")', data))))
        repeated = first[1] + b":" + json.dumps(draw(JSON)).encode() + b","
        return data[: first.start(1)] + repeated + data[first.start(1) :]
    if kind == "swapped":
        return draw(st.sampled_from(others))
    return draw(st.binary(max_size=200))


def require_refused_or_harmless(world: World, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(world.hostile))
    hostile = data.draw(mutations(world.published[name], list(world.published.values())))
    failure = world.met_by(name, hostile)
    assert failure is None or isinstance(failure, UntrustedError | TemporaryError), repr(failure)


FIXTURE_IS_NOT_CHANGED = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]


@settings(max_examples=60, deadline=None, suppress_health_check=FIXTURE_IS_NOT_CHANGED)
@given(data=st.data())
def test_mutated_metadata_is_refused_and_changes_nothing(world: World, data: st.DataObject) -> None:
    require_refused_or_harmless(world, data)


@pytest.mark.long
@settings(max_examples=1000, deadline=None, phases=[Phase.generate], suppress_health_check=FIXTURE_IS_NOT_CHANGED)
@given(data=st.data())
def test_much_mutated_metadata_is_refused_and_changes_nothing(world: World, data: st.DataObject) -> None:
    require_refused_or_harmless(world, data)


@pytest.mark.parametrize("name", ["2.root.json", "timestamp.json", "2.snapshot.json", "2.targets.json", "2.bdc.json"])
def test_every_published_file_swapped_for_every_other(world: World, name: str) -> None:
    """A freeze is the most that an old file does."""
    for other, data in world.published.items():
        failure = world.met_by(name, data)
        is_harmless = other.split()[0] == name
        assert failure is None if is_harmless else isinstance(failure, UntrustedError), (other, failure)
