"""Measures a repository of many releases: `make bench-metadata`. Seconds depend on the machine and are no part of the tests; bytes are."""

import argparse
import json
import os
import platform
import tempfile
import time
from pathlib import Path
from typing import Any, Final

from tests.release_series import DOMAINS, Series, Served, car_reads, fresh_car, make_authority, summaries_of
from tests.signed_metadata import load_metadata, write_metadata

PREVIOUS: Final = 10
GOAL_BYTES: Final = 300_000
GOAL_S: Final = 60


def main() -> None:
    options = _options()
    series = Series.of(options.hardware_ids, options.olds)
    found = _measure(series, options.versions)
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, Ed25519 keys\n"
        f"{options.hardware_ids} hardware ids x {options.versions} versions x {options.olds} old versions, {len(DOMAINS)} domains\n"
        f"  publish all, one by one        {found['publish_s']:8.2f} s\n"
        f"  verify all                     {found['verify_s']:8.2f} s   goal for both: under {GOAL_S} s\n"
        f"  a car checks its newest        {found['car_s']:8.2f} s\n"
        f"  one role of a release          {found['role_bytes']:8,} bytes\n"
        f"  the release gate's summaries   {found['summary_bytes']:8,} bytes\n"
        f"  all metadata                   {found['repository_bytes']:8,} bytes\n"
        f"one car of {options.hardware_ids} ECUs reads for a release (goal: under {GOAL_BYTES:,} bytes)"
    )
    for previous, reads in found["cars"].items():
        print(
            f"  with {previous:>2} before, fresh          {reads['fresh']:8,} bytes\n"
            f"  with {previous:>2} before, daily refresh  {reads['daily']:8,} bytes"
        )
        if "following" in reads:
            print(f"  with {previous:>2} before, knows the last {reads['following']:8,} bytes")
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(found, indent=1) + "\n")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench-metadata", description="Measure the metadata of many releases.")
    add = parser.add_argument
    add("--hardware-ids", type=int, default=100, help="hardware ids, which are the ECUs of the car (100)")
    add("--versions", type=int, default=10, help="releases (10)")
    add("--olds", type=int, default=5, help="old versions that each release has bundles from (5)")
    add("--json", type=Path, help="write all figures there")
    return parser.parse_args()


def _measure(series: Series, versions: int) -> dict[str, Any]:
    authority = make_authority()
    cars: dict[int, dict[str, int]] = {}
    published_s = verified_s = car_s = 0.0
    known = fresh_car(authority)
    with tempfile.TemporaryDirectory(prefix="bench-metadata-") as place:
        directory = Path(place)
        for number in range(1, max(versions, PREVIOUS + 1) + 1):
            contents, now = series.release(number, authority), series.issued_at(number)
            start_s = time.perf_counter()
            write_metadata(directory, authority, contents, now)
            published_s += (time.perf_counter() - start_s) * (number <= versions)
            served = Served({path.name: path.read_bytes() for path in directory.iterdir()}, summaries_of(contents))
            if number == versions:
                start_s = time.perf_counter()
                load_metadata(served.files, authority.root, now).delegations.everything(superseded=True)
                verified_s = time.perf_counter() - start_s
                repository_bytes = sum(map(len, served.files.values()))
            if number - 1 in (0, PREVIOUS):
                fresh = fresh_car(authority)
                start_s = time.perf_counter()
                reads = {"fresh": car_reads(served, fresh, series, now)}
                car_s = time.perf_counter() - start_s
                reads["daily"] = car_reads(served, fresh, series, now, installs=False)
                if number > 1:
                    reads["following"] = car_reads(served, known, series, now)
                cars[number - 1] = reads
            if number == PREVIOUS:
                car_reads(served, known, series, now)
        summary_bytes = sum(map(len, served.summaries.values()))
        role_bytes = len(served.files[f"1.{DOMAINS[0]}.{contents.release}.json"])
    return {
        "publish_s": published_s,
        "verify_s": verified_s,
        "car_s": car_s,
        "role_bytes": role_bytes,
        "summary_bytes": summary_bytes,
        "repository_bytes": repository_bytes,
        "cars": cars,
    }


if __name__ == "__main__":
    main()
