"""Measures the matcher for old images of 1 to 64 MiB: `make bench-matcher`. Memory must stay below 8 bytes per byte of the old image."""

import argparse
import json
import os
import platform
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Final

from tests.perf.matcher_costs import can_measure, measure

GOAL_BYTES: Final = 8
SIZES_MIB: Final = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)


def main() -> int:
    """Print the table; fail if the matcher takes more memory than it may."""
    parser = argparse.ArgumentParser(prog="bench-matcher", description="Measure the matcher's memory and time.")
    add = parser.add_argument
    add("--mib", type=int, action="append", help=f"only old images of this length; may be given again {SIZES_MIB}")
    add("--threads", type=int, default=1, help="who share the work (1)")
    add("--files", type=Path, nargs=2, default=(), metavar=("OLD", "NEW"), help="cut the images from these files")
    add("--json", type=Path, help="write all figures there")
    options = parser.parse_args()
    if not can_measure():
        print("bench-matcher: this system does not say what a process needed at its peak: use Linux", file=sys.stderr)
        return 1
    print(f"{platform.machine()}, {os.cpu_count()} cores, {options.threads} threads")
    print(f"{'old MiB':>7} {'segments':>9} {'CPU s':>7} {'clock s':>8} {'CPU ms/MiB':>11} {'bytes per old byte':>19}")
    found = []
    for mib in options.mib or SIZES_MIB:
        costs = measure(mib, options.threads, options.files)
        length_mib = costs.old_bytes / (1 << 20)
        print(
            f"{length_mib:7.4g} {costs.segments:9,} {costs.cpu_s:7.2f} {costs.wall_s:8.2f} {1000 * costs.cpu_s / length_mib:11.0f} "
            f"{costs.peak_bytes / costs.old_bytes:19.2f}",
            flush=True,
        )
        found.append(costs)
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps([asdict(costs) for costs in found], indent=1) + "\n")
    return int(any(costs.peak_bytes > GOAL_BYTES * costs.old_bytes for costs in found))


if __name__ == "__main__":
    sys.exit(main())
