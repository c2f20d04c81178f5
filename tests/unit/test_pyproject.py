"""The two distributions must not drift apart: what `pyproject.toml` and the vehicle's `wheel.toml` both say is the same."""

import tomllib
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).parents[2]


def read(path: str) -> dict[str, Any]:
    return tomllib.loads((PROJECT / path).read_text())


WHOLE, VEHICLE = read("pyproject.toml"), read("packager/vehicle/wheel.toml")


def test_the_vehicles_wheel_takes_the_kernel_from_here() -> None:
    """The Makefile copies the first extension module, and it is the vehicle's."""
    assert WHOLE["tool"]["setuptools"]["ext-modules"][0]["name"] == "packager.vehicle._native"
    assert "ext-modules" not in VEHICLE["tool"]["setuptools"]
    assert VEHICLE["tool"]["distutils"] == WHOLE["tool"]["distutils"]


def test_the_vehicle_needs_some_of_the_packages_in_the_same_versions() -> None:
    needed = set(VEHICLE["project"]["dependencies"])
    assert needed < set(WHOLE["project"]["dependencies"])
    assert not [name for name in needed if name.startswith(("click", "bsdiff4", "in-toto"))]
    assert set(VEHICLE["dependency-groups"]["test"]) < set(WHOLE["dependency-groups"]["dev"])


def test_both_are_the_same_version_for_the_same_python() -> None:
    for key in ("requires-python", "license", "license-files", "dynamic"):
        assert VEHICLE["project"][key] == WHOLE["project"][key]
    assert VEHICLE["tool"]["setuptools"]["dynamic"] == WHOLE["tool"]["setuptools"]["dynamic"]
    assert VEHICLE["tool"]["setuptools"]["package-data"] == WHOLE["tool"]["setuptools"]["package-data"]
    name = "packager-vehicle"
    assert VEHICLE["project"]["scripts"] == {name: WHOLE["project"]["scripts"][name]}
