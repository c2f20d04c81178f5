"""The public names of the vehicle library, and its page: the examples run, and what the page says of errors and logs is so."""

import logging
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import packager.vehicle
from packager.vehicle import cli, core, errors, installation, transport, trust
from packager.vehicle.errors import CancelledError, VehicleError
from packager.vehicle.installation.home import read_configuration
from packager.vehicle.installation.state import EcuState
from packager.vehicle.profile import DEFAULT_PROFILE, UpdateProfile
from tests.loopback import LoopbackServer
from tests.repository_simulator import NOW, RepositorySimulator, make_bundle
from tests.sample_bundles import PROFILE, delta_mixed
from tests.vehicle_car import SPARE, Car, edited, image, repository_with

PROJECT = Path(__file__).parents[2]
PAGE = (PROJECT / "docs/vehicle-library.md").read_text()
ONE_BUNDLE, TWO_FILES, WHOLE_VEHICLE = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
(CONFIGURATION,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
OUTER = ("tuf", "securesystemslib", "cryptography", "urllib3")
OLD, NEW = image(1, 40_000), edited(image(1, 40_000))


def scope_of(example: str) -> dict[str, Any]:
    scope: dict[str, Any] = {}
    exec(example, scope)
    return scope


def fetch_from(data: bytes, asked: list[int] | None = None) -> Callable[[int, int], Iterator[bytes]]:
    def fetch(first: int, end: int) -> Iterator[bytes]:
        if asked is not None:
            asked.append(first)
        for at in range(first, end, 100):
            yield data[at : min(at + 100, end)]

    return fetch


def test_the_example_of_one_bundle_stops_and_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    sample = delta_mixed()
    assert sample.old is not None
    (tmp_path / "old").write_bytes(sample.old)
    install = scope_of(ONE_BUNDLE)["install"]
    answers = iter([False, False, False, True])
    asked: list[int] = []
    arguments = (sample.signed, PROFILE, tmp_path / "old", tmp_path / "slot", tmp_path / "journal")
    logger = logging.getLogger("packager.vehicle")
    before = list(logger.handlers)
    try:
        with pytest.raises(CancelledError):
            install(fetch_from(sample.data, asked), *arguments, lambda: next(answers))
        made = install(fetch_from(sample.data, asked), *arguments, lambda: False)
    finally:
        logger.handlers = before
    assert made == sample.head.manifest.new
    assert (tmp_path / "slot").read_bytes() == sample.new
    assert asked[1] < asked[3], "the second run took up where the first one ended"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["old", "slot"]
    assert "10 of 10 blocks" in capsys.readouterr().out


def test_the_example_of_two_files(tmp_path: Path) -> None:
    new, slot = edited(image(2, 100_000)), tmp_path / "slot"
    bundle = make_bundle("bdc", "1", 1, None, new, profile=UpdateProfile())
    for name, content in (("bundle", bundle.data), ("old", b"")):
        (tmp_path / name).write_bytes(content)
    signed = bundle.target.head
    try_it = scope_of(ONE_BUNDLE + TWO_FILES)["try_it"]
    made = try_it(tmp_path / "bundle", signed.length_bytes, signed.digest.hex, tmp_path / "old", slot)
    assert made.length_bytes == len(new)
    assert slot.read_bytes() == new


@pytest.fixture
def repository() -> RepositorySimulator:
    repository = repository_with("bdc")
    repository.release("bdc", "bdc", "2", 2, NEW, OLD)
    repository.publish()
    return repository


@pytest.fixture
def car(tmp_path: Path, repository: RepositorySimulator) -> Car:
    car = Car(tmp_path / "car", repository, {"BDC": ("bdc", SPARE)})
    car.put("BDC", OLD)
    return car


class Served(LoopbackServer):
    """The files of a directory."""

    def __init__(self, root: Path) -> None:
        super().__init__()
        self.root = root

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        path = self.root / request.path.lstrip("/")
        if not path.is_file():
            request.send_error(404)
            return
        request.send_response(200)
        request.end_headers()
        request.wfile.write(path.read_bytes())


def test_the_example_of_a_vehicle_updates_it(
    car: Car, repository: RepositorySimulator, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    repository.write(tmp_path / "os7")
    scope = scope_of(WHOLE_VEHICLE)
    scope["datetime"] = type("Clock", (), {"now": staticmethod(lambda zone: NOW)})
    with Served(tmp_path) as server:
        scope["update_vehicle"](car.home.root, f"{server.url}/os7", lambda: False)
    assert car.active("BDC") == NEW
    assert "BDC 2 may be started" in capsys.readouterr().out


def test_the_configuration_of_the_page_states_the_defaults() -> None:
    stated = read_configuration(CONFIGURATION)
    lines = CONFIGURATION.splitlines(keepends=True)
    kept = [
        line
        for line in lines
        if not re.match(r"(evidence|min_bytes|spare_slot|coders|block_kib|scratch|predict)", line)
    ]
    assert len(kept) == len(lines) - 7
    assert read_configuration("".join(kept)) == stated


def test_an_update_of_a_vehicle_stops_and_goes_on(car: Car) -> None:
    answers = iter([False, False, True])
    with pytest.raises(CancelledError, match=r"ECU BDC: .* stopped by the caller at block 2"):
        car.update(cancelled=lambda: next(answers))
    assert car.active("BDC") == OLD
    for _ in range(12):  # a stop is no failure, however often
        with pytest.raises(CancelledError):
            car.update(cancelled=lambda: True)
    car.update(cancelled=lambda: False)
    assert car.active("BDC") == NEW
    assert car.state("BDC") != EcuState()


def test_an_update_is_logged_without_the_vin(car: Car, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "packager.vehicle")
    car.update()
    messages = [record.getMessage() for record in caplog.records]
    for wanted in (
        "metadata is trusted",
        "ECU BDC: bdc/2/.*, [0-9]+ of [0-9]+ bytes are missing",
        "ECU BDC: 2 is in its slot",
        "switched: BDC",
    ):
        assert any(re.match(wanted, message) for message in messages), wanted
    assert not any("TESTCAR" in message for message in messages)
    assert all(record.name.startswith("packager.vehicle.") for record in caplog.records)


def test_a_bundle_that_gives_way_is_a_warning(
    car: Car, repository: RepositorySimulator, caplog: pytest.LogCaptureFixture
) -> None:
    repository.add_bundle(
        "bdc", make_bundle("bdc", "2", 2, OLD, NEW, profile=replace(PROFILE, ram_bytes=64 << 20, block_bytes=4 << 20))
    )
    repository.publish()
    caplog.set_level(logging.WARNING, "packager.vehicle")
    car.update()
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "can't be used, the next bundle is tried" in caplog.text


def test_a_logger_without_a_handler_says_nothing() -> None:
    program = "import logging, packager.vehicle; logging.getLogger('packager.vehicle.installation.install').error('no')"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert done.stderr == b""


def test_every_public_name_is_there_and_on_the_page() -> None:
    assert packager.vehicle.__all__ == sorted(packager.vehicle.__all__)
    assert set(packager.vehicle.__all__) <= set(dir(packager.vehicle))
    for name in packager.vehicle.__all__:
        assert getattr(packager.vehicle, name).__name__ == name
        assert f"`{name}`" in PAGE
    with pytest.raises(AttributeError, match="no attribute 'helper'"):
        _ = packager.vehicle.helper


def test_the_core_imports_no_outer_ring() -> None:
    core = (
        "SignedHead",
        "Digest",
        "UpdateProfile",
        "read_head",
        "FileOnDisk",
        "Journal",
        "Binding",
        "Applier",
        "apply_stream",
    )
    program = (
        "import sys, packager.vehicle as v\n"
        "assert not [m for m in sys.modules if m.startswith('packager.vehicle.')], 'imported before it is used'\n"
        f"[getattr(v, name) for name in {core!r}]\n"
        f"assert not [m for m in {OUTER!r} if m in sys.modules]\n"
        "v.update\nassert 'tuf' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_every_error_is_on_the_page() -> None:
    for name, kind in vars(errors).items():
        if isinstance(kind, type) and issubclass(kind, VehicleError) and kind is not VehicleError:
            assert re.search(rf"^\| `{name}` \|", PAGE, re.MULTILINE), name


def test_every_module_is_in_its_ring() -> None:
    inner, _, outer = (packager.vehicle.__doc__ or "").partition("The outer ring")
    folder = Path(packager.vehicle.__file__).parent
    for path in {path.relative_to(folder) for path in folder.rglob("*.py")} - {Path("__init__.py")}:
        name = path.parts[0].removesuffix(".py")
        assert (f"`{name}`" in inner) != (f"`{name}`" in outer), path
        imports = re.findall(r"^(?:from|import) (\w+)", (folder / path).read_text(), re.MULTILINE)
        assert not set(imports) & set(OUTER) or f"`{name}`" in outer, path


@pytest.mark.parametrize("package", [cli, core, installation, transport, trust])
def test_every_package_says_what_its_modules_are_for(package: ModuleType) -> None:
    modules = {path.stem for path in Path(package.__file__ or "").parent.glob("*.py")} - {"__init__", "__main__"}
    assert modules == set(re.findall(r"`([a-z_]+)`", package.__doc__ or "")) - {"zstandard"}


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\(([^)#]+)\)", PAGE))))
def test_links_lead_somewhere(target: str) -> None:
    assert (PROJECT / "docs" / target).exists()


def test_the_default_profile_is_the_one_of_the_page() -> None:
    assert {coder.name for coder in DEFAULT_PROFILE.coders} == {"RAW", "ZSTD"}
