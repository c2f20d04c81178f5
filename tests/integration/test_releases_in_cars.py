"""Two releases, one after the other, built by the real command and installed by the real program over HTTP into the same homes."""

import json
import random
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from packager.cli import packager
from packager.cli.failure import run
from packager.config.policy import read_policy
from packager.config.release import read_release
from packager.pipeline.build import load_authority
from packager.pipeline.gate import approve_release
from packager.repo.contents import read_contents
from sample_images.car import make_car
from sample_images.catalogue import CATALOGUE, read_catalogue
from sample_images.obtaining import obtain
from sample_images.registry import Registry
from tests.integration.test_vehicle_update import served
from tests.signed_metadata import write_metadata

PROJECT = Path(__file__).parents[2]
FOLDERS = {"DME": "small-engine", "ZGW": "small-gateway", "ACSM": "small-airbag"}
"""ACSM has no spare slot."""


class Workshop:
    """A directory with keys and images, and the repository when it had release A alone and when it had both."""

    def __init__(self, place: Path) -> None:
        self.place = place
        (place / "keys").mkdir()
        shutil.copy(PROJECT / "keys" / "policy.toml", place / "keys")
        assert run(packager, ["keys", "create", "--keys", str(place / "keys")], "packager") == 0
        wanted = [image for image in read_catalogue(CATALOGUE) if image.kind.startswith("small-")]
        obtain(wanted, place / "images", Registry(place / "cache", None), lambda _: None)
        text = (PROJECT / "sample_images" / "small.toml").read_text()
        (place / "b.toml").write_text(text)
        head, *ecus = text.split("[[ecu]]")
        before = [ecu.rpartition("[[ecu.old]]")[0].replace("1.1.0", "1.0.0").replace("1.2.0", "1.1.0") for ecu in ecus]
        text = "[[ecu]]".join([head.replace("2020.45", "2020.41"), *before])
        (place / "a.toml").write_text(text.replace("release_counter = 3", "release_counter = 2"))
        self.first, self.both = place / "first", place / "both"
        self.build("a.toml", self.first)
        self.build("b.toml", place / "b", "--unsigned")
        release, _ = read_release(place / "b.toml")
        authority = load_authority(read_policy(place / "keys" / "policy.toml"), release, place / "keys")
        now = datetime.now(UTC).replace(microsecond=0)
        approve_release(place / "b", authority, now)
        shutil.copytree(self.first, self.both)
        for folder in ("repo", "chain"):
            shutil.copytree(place / "b" / folder, self.both / folder, dirs_exist_ok=True)
        write_metadata(self.both / "repo/metadata", authority, read_contents(place / "b"), now)

    def build(self, release: str, out: Path, *options: str) -> None:
        arguments = [
            "build",
            str(self.place / release),
            "--out",
            str(out),
            "--keys",
            str(self.place / "keys"),
            "--jobs=1",
        ]
        assert run(packager, [*arguments, *options], "packager") == 0

    def image(self, ecu: str, version: str) -> bytes:
        return (self.place / "images" / FOLDERS[ecu] / f"{version}.bin").read_bytes()


class Car:
    """A home that release A finds in the field, driven by processes."""

    def __init__(self, workshop: Workshop, home: Path) -> None:
        self.workshop = workshop
        self.home = home
        make_car(workshop.place / "a.toml", 0, home, "WBA00000000000001")
        self.run("init", str(workshop.place / "keys/public/root.json"))

    def run(self, *arguments: str) -> list[dict[str, Any]]:
        command = [sys.executable, "-m", "packager.vehicle.cli", "--home", str(self.home), "--json", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    def update(self, repository: Path) -> dict[str, dict[str, Any]]:
        with served(repository / "repo") as url:
            lines = self.run("update", "--repo-url", url)
        return {line["name"]: line for line in lines if line["message_type"] == "ecu"}

    def put(self, ecu: str, data: bytes) -> None:
        (self.home / "slots" / ecu / "a").write_bytes(data)

    def require(self, version: str) -> None:
        """Hold what is active against an image, and what `status` says of it."""
        entries = {line["name"]: line for line in self.run("status") if line["message_type"] == "ecu"}
        assert entries.keys() == FOLDERS.keys()
        for ecu, entry in entries.items():
            assert (entry["version"], entry["interrupted"]) == (version, False)
            assert (self.home / "slots" / ecu / entry["slot"]).read_bytes() == self.workshop.image(ecu, version)


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    return Workshop(tmp_path_factory.mktemp("workshop"))


@pytest.fixture
def car(workshop: Workshop, tmp_path: Path) -> Car:
    return Car(workshop, tmp_path / "car")


def is_full(entry: dict[str, Any]) -> bool:
    return {"full": True, "delta": False}[entry["bundle"]]


def test_a_car_takes_both_releases_one_after_the_other(workshop: Workshop, car: Car) -> None:
    done = car.update(workshop.first)
    assert all(entry["updated"] and not is_full(entry) for entry in done.values())
    car.require("1.1.0")
    assert not any(entry["updated"] for entry in car.update(workshop.first).values())
    done = car.update(workshop.both)
    assert all(entry["updated"] and not is_full(entry) for entry in done.values())
    car.require("1.2.0")
    assert not any(entry["updated"] for entry in car.update(workshop.both).values())


def test_a_car_that_skips_a_release_goes_straight_to_the_newest(workshop: Workshop, car: Car) -> None:
    done = car.update(workshop.both)
    assert all(entry["updated"] and not is_full(entry) for entry in done.values())
    car.require("1.2.0")


def test_an_unknown_image_gets_the_full_bundle_and_the_others_their_delta(workshop: Workshop, car: Car) -> None:
    for ecu in FOLDERS:
        if ecu != "ZGW":
            car.put(ecu, random.Random(ecu).randbytes(len(workshop.image(ecu, "1.0.0"))))
    done = car.update(workshop.both)
    assert {ecu for ecu, entry in done.items() if is_full(entry)} == {"DME", "ACSM"}
    car.require("1.2.0")


def test_the_older_repository_is_refused_after_the_newer_and_changes_nothing(workshop: Workshop, car: Car) -> None:
    car.update(workshop.both)
    with served(workshop.first / "repo") as url:
        command = [sys.executable, "-m", "packager.vehicle.cli", "--home", str(car.home), "update", "--repo-url", url]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 60
    car.require("1.2.0")
