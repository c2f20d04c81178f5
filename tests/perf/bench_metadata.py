"""Measures a repository of many releases: `make bench-metadata`. Seconds depend on the machine and are no part of the tests; bytes are.

Releases are built from small random images, and everything from the build on is done by the commands that a release office uses.
"""

import argparse
import json
import os
import platform
import tempfile
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from packager.pipeline.verify import load_repository
from packager.vehicle.trust.metadata_store import MemoryStorage, initialise
from tests.perf.many_releases import Office
from tests.release_series import Series, car_reads

GOAL_BYTES: Final = 300_000
GOAL_S: Final = 60
PUBLISH_AND_VERIFY: Final = ("chain approve", "repo propose", "repo publish", "verify")


def main() -> None:
    options = _options()
    with tempfile.TemporaryDirectory(prefix="bench-metadata-", dir=options.scratch) as place:
        found = measure(Path(place), options.hardware_ids, options.versions, options.olds)
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, Ed25519 keys\n"
        f"{options.hardware_ids} hardware ids x {options.versions} versions x {options.olds} old versions\n"
        f"{'seconds of all runs':24} {'runs':>5} {'clock':>8} {'cores':>8} {'last run':>9}"
    )
    for name, spent in found["commands"].items():
        print(f"  {name:22} {spent['runs']:5} {spent['wall_s']:8.1f} {spent['cpu_s']:8.1f} {spent['last_s']:9.1f}")
    print(
        f"all that is no build and no custodian's work: {found['publish_and_verify_s']:.1f} s "
        f"({found['publish_and_verify_cpu_s']:.1f} s of a core; goal: under {GOAL_S} s where nothing else runs)\n"
        f"check all roles of all releases: {found['all_roles_s']:.1f} s; a car checks its newest: {found['car_s']:.1f} s\n"
        f"all metadata: {found['metadata_bytes']:,} bytes\n"
        f"one car of {options.hardware_ids} ECUs reads for a release (goal: under {GOAL_BYTES:,} bytes)"
    )
    for before, reads in found["cars"].items():
        print(f"  with {before:>2} before, fresh          {reads['fresh']:8,} bytes")
        print(f"  with {before:>2} before, daily refresh  {reads['daily']:8,} bytes")
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(found, indent=1) + "\n")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench-metadata", description="Measure the metadata of many releases.")
    add = parser.add_argument
    add("--hardware-ids", type=int, default=100, help="hardware ids, which are the ECUs of the car (100)")
    add("--versions", type=int, default=10, help="releases (10)")
    add("--olds", type=int, default=5, help="old versions that each release has bundles from (5)")
    add("--scratch", type=Path, help="directory to work in; 100 MB for the sizes above")
    add("--json", type=Path, help="write all figures there")
    return parser.parse_args()


def measure(place: Path, hardware_ids: int, versions: int, olds: int) -> dict[str, Any]:
    """Make a repository in a directory, verify it, and return all figures."""
    office = Office(place / "office", hardware_ids, versions, olds)
    root = (office.place / "keys/public/root.json").read_bytes()
    series = Series.of(hardware_ids, olds)
    cars = {}
    for number in range(1, versions + 1):
        office.release(number)
        if number in (1, versions):
            cars[number - 1], car_s = _read_as_car(office, root, series)
    office.verify()
    commands = {
        name: {
            "runs": len(took.wall_s),
            "wall_s": sum(took.wall_s),
            "cpu_s": sum(took.cpu_s),
            "last_s": took.wall_s[-1],
        }
        for name, took in office.spent.items()
    }
    start_s = time.perf_counter()
    load_repository(office.place / "site/repo", root, _now()).delegations.everything(superseded=True)
    return {
        "commands": commands,
        "publish_and_verify_s": sum(commands[name]["wall_s"] for name in PUBLISH_AND_VERIFY),
        "publish_and_verify_cpu_s": sum(commands[name]["cpu_s"] for name in PUBLISH_AND_VERIFY),
        "all_roles_s": time.perf_counter() - start_s,
        "car_s": car_s,
        "metadata_bytes": sum(map(len, office.served().files.values())),
        "cars": cars,
    }


def _read_as_car(office: Office, root: bytes, series: Series) -> tuple[Mapping[str, int], float]:
    served, storage = office.served(), MemoryStorage()
    initialise(storage, root)
    start_s = time.perf_counter()
    fresh = car_reads(served, storage, series, _now())
    car_s = time.perf_counter() - start_s
    return {"fresh": fresh, "daily": car_reads(served, storage, series, _now(), installs=False)}, car_s


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


if __name__ == "__main__":
    main()
