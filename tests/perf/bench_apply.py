"""Measures how fast bundles are applied: `make bench-apply [CORPUS=DIR]`. Never part of the tests: figures depend on the machine.

Every round runs everyone once, one after the other, so that a busy machine hits all alike; medians and ratios of each round's neighbours
are printed. The limit is the time of the SHA-256 passes that the order of checks asks for, spread over the cores.
"""

import argparse
import json
import platform
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from packager.vehicle import kernel
from packager.vehicle.core.pull import usable_cores
from packager.vehicle.profile import MIB
from tests.perf import apply_contestants as run
from tests.perf.apply_cases import BSDIFF_MOST_BYTES, Case, generated, of_corpus, ram_disk


def main() -> None:
    options = _options()
    if options.directory:
        options.directory.mkdir(parents=True, exist_ok=True)
        _measure_all(options, options.directory)
    else:
        with tempfile.TemporaryDirectory(prefix="bench-apply-", dir=ram_disk()) as directory:
            _measure_all(options, Path(directory))


def _measure_all(options: argparse.Namespace, directory: Path) -> None:
    print(
        f"{platform.machine()}, {usable_cores()} cores, Python {platform.python_version()}, kernel {kernel.NAME}; files in {directory};"
        f" {options.rounds} rounds, medians\n"
        f"bsdiff4 gets images up to {BSDIFF_MOST_BYTES // MIB} MiB only: longer ones take it minutes to diff"
    )
    cases = [generated(directory, options.mib * MIB)] if options.mib else []
    found = [_measure(case, options.rounds, options.workers) for case in cases]
    if options.corpus:
        found += [_measure(case, options.rounds, options.workers) for case in of_corpus(options.corpus, directory)]
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(found, indent=1) + "\n")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench-apply", description="Measure how fast bundles are applied.")
    add = parser.add_argument
    add("--corpus", type=Path, help="directory of CLASS/NAME/VERSION.bin; the two newest versions of each are a pair")
    add("--mib", type=int, default=256, help="size of the generated pair; 0 for none (256)")
    add("--rounds", type=int, default=7, help="rounds (7)")
    add("--workers", type=int, default=usable_cores(), help="threads of ours (one per core)")
    add(
        "--directory",
        type=Path,
        help="where images and peers' patches are kept; by default a RAM disk, and nothing is kept",
    )
    add("--json", type=Path, help="write all figures there")
    return parser.parse_args()


def _measure(case: Case, rounds: int, workers: int) -> dict[str, Any]:
    cores = usable_cores()
    head = run.read_our_head(case)
    passes = run.passes_of(head)
    length_bytes = head.manifest.new.length_bytes
    expected = case.new.read_bytes()
    peers = run.peers(case)
    times: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory(dir=case.new.parent) as place:
        slot = Path(place) / "slot"

        def right() -> None:
            if slot.read_bytes() != expected:
                raise SystemExit(f"{case.title}: a wrong image was made")

        for round_number in range(rounds + 1):
            taken: dict[str, float] = {}
            run.spoil(slot, length_bytes)
            split = run.ours(case, slot, workers)
            taken["ours"], taken["sync"] = split.total_s - split.sync_s, split.sync_s
            taken["limit"] = run.hash_spread(passes.total, cores)
            right()
            run.spoil(slot, length_bytes)
            single = run.ours(case, slot, 1)
            taken |= {"one thread": single.total_s, "read": single.read_s, "write": single.write_s}
            taken["hash"] = run.hash_spread(passes.total, 1)
            taken |= {"ours CPU": single.cpu_s, "sha256 of output CPU": run.hash_cpu(expected)}
            taken["sha256 of output"] = run.hash_files(case.new)
            for name, (patch, apply) in peers.items():
                run.spoil(slot, length_bytes)
                start_s, start_cpu_s = time.perf_counter(), time.process_time()
                apply(slot)
                taken[f"{name} apply"] = time.perf_counter() - start_s
                taken[f"{name} hash"] = run.hash_files(case.old, patch, slot)
                taken[f"{name} CPU"] = time.process_time() - start_cpu_s
                right()
            if round_number:  # the first one warms up
                for name, value in taken.items():
                    times.setdefault(name, []).append(value)
    return _report(case, head.manifest.block_count, passes, times, sorted(peers))


def _report(
    case: Case, blocks: int, passes: run.Passes, times: dict[str, list[float]], peers: list[str]
) -> dict[str, Any]:
    median = {name: statistics.median(values) for name, values in times.items()}
    cores = usable_cores()

    def ratio(over: list[float], under: list[float]) -> float:
        return statistics.median(a / b for a, b in zip(over, under, strict=True))

    def speed(seconds: float) -> str:
        return f"{passes.output / MIB / seconds:7.0f} MiB/s"

    of_limit = ratio(times["limit"], times["ours"])
    per_core = min(times["sha256 of output CPU"]) / min(times["ours CPU"])
    print(
        f"\n{case.title}: {passes.output:,} bytes in {blocks} blocks, bundle of {case.bundle.stat().st_size:,} bytes\n"
        f"  ours, all checks          {median['ours']:8.4f} s {speed(median['ours'])}  sync apart {median['sync']:.4f} s\n"
        f"  limit                     {median['limit']:8.4f} s {speed(median['limit'])}"
        f"  SHA-256 of {passes.old_part / MIB:.1f} MiB old part, {passes.blobs / MIB:.1f} blobs, {passes.output / MIB:.1f} output,"
        f" {passes.output / MIB:.1f} read back, on {cores} cores\n"
        f"  ours is at                {of_limit:8.2f}   of the limit\n"
        f"  processor time            {min(times['ours CPU']):8.4f} s in one thread: {per_core:.2f} of the rate at which a core hashes the"
        " output; that of the order of checks alone would be"
        f" {passes.output / passes.total:.2f}\n"
        f"  sha256 of the output      {median['sha256 of output']:8.4f} s {speed(median['sha256 of output'])}"
    )
    fastest = None
    for name in peers:
        total = [a + h for a, h in zip(times[f"{name} apply"], times[f"{name} hash"], strict=True)]
        spread = [a + h / cores for a, h in zip(times[f"{name} apply"], times[f"{name} hash"], strict=True)]
        faster = ratio(total, times["ours"])
        fastest = min(fastest, faster) if fastest is not None else faster
        print(
            f"  {name:25s} {statistics.median(total):8.4f} s {speed(statistics.median(total))}  apply {median[f'{name} apply']:.4f},"
            f" hash {median[f'{name} hash']:.4f}, CPU {min(times[f'{name} CPU']):.4f};"
            f" ours is {faster:.2f} x as fast ({ratio(spread, times['ours']):.2f} x if its hashes were spread over the cores)"
        )
    rest = median["one thread"] - median["hash"] - median["read"] - median["write"]
    print(
        f"  one thread                {median['one thread']:8.4f} s: hash {median['hash']:.4f}, read {median['read']:.4f},"
        f" write {median['write']:.4f}, decode and the rest {max(rest, 0):.4f}"
    )
    return {
        "title": case.title,
        "bytes": passes.output,
        "of_limit": of_limit,
        "fastest_peer": fastest,
        "per_core": per_core,
        "cpu_seconds": {name: min(values) for name, values in times.items() if name.endswith(" CPU")},
        "seconds": median,
    }


if __name__ == "__main__":
    main()
