"""Compares our bundles with the patches of all open peers, in one run: `make bench-delta CORPUS=DIR PAIRS=FILE`.

For every version pair: our whole bundle, with all hashes and the self-check, for an ECU with zstd, one with adaptive residuals
besides, and one with LZMA, too; against the smallest bare patch that any peer makes.
Without a corpus the images of the sample release are compared.
"""

import argparse
import json
import platform
import signal
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

from packager.diff.engine import DEFAULT_EFFORT, MAX_EFFORT, MIN_EFFORT
from packager.vehicle.profile import MIB
from tests.perf.limited import measure
from tests.perf.makers import OUR_CODERS, PEERS, Maker, our_name
from tests.perf.pairs import Pair, corpus_pairs, sample_pairs
from tests.perf.peer_cache import PeerCache
from tests.perf.summary import Compared, left_out_lines, pair_line, peer_table, summarise, summary_table, time_table


def main() -> int:
    options = _options()
    pairs = _chosen(options)
    versions = {name: maker.version() for name, maker in PEERS.items()}
    _announce(versions)
    cache = PeerCache(options.cache)
    rows = []
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with ThreadPoolExecutor(options.jobs) as pool:
        # One at a time needs no thread, so that an interrupt reaches the child that is running.
        mapped = map if options.jobs == 1 else pool.map
        for row in mapped(partial(_compare, options, cache, versions), pairs):
            print(pair_line(row), *left_out_lines(row), sep="\n", flush=True)
            rows.append(row)
    figures = summarise(rows, options.profiles)
    if figures:
        print("", summary_table(figures), "", time_table(figures), sep="\n")
    print("", peer_table(rows), sep="\n")
    print(
        "\nPeers: bare patches. Ours: the whole bundle. Time is wall time of making, ours with the self-check, theirs without"
        f" a check; {sum(bool(peer.get('cached')) for row in rows for peer in row.peers.values())} peer results are from the cache."
        "\nImages with a compressed payload stand apart: no delta sees through it without unpacking."
    )
    if options.json:
        _write_json(options.json, rows, figures, versions)
    return int(any(result["state"] != "done" for row in rows for result in row.ours.values()))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="bench-delta", description="Compare our bundles with the patches of open peers."
    )
    add = parser.add_argument
    add("--corpus", type=Path, help="directory of CLASS/NAME/VERSION.bin; without it the sample images")
    add("--pairs", type=Path, help="table of class, name, old, new; CORPUS/pairs.tsv by default")
    add("--class", dest="kinds", action="append", default=[], help="only this class; may be given again")
    add("--name", dest="names", action="append", default=[], help="only names that start so; may be given again")
    add("--max-mib", type=int, default=64, help="leave longer images out (64)")
    add("--peer", dest="peers", action="append", choices=[*PEERS], help="only this peer; may be given again")
    add(
        "--profile",
        dest="profiles",
        action="append",
        choices=[*OUR_CODERS],
        help="only this profile; may be given again",
    )
    efforts = range(MIN_EFFORT, MAX_EFFORT + 1)
    more = f"our effort ({DEFAULT_EFFORT}); may be given again, all are compared in the same run"
    add("--effort", dest="efforts", action="append", type=int, choices=efforts, metavar="1..9", help=more)
    add("--limit", dest="limit_s", type=float, default=120, help="seconds per pair and peer (120)")
    add("--our-limit", dest="our_limit_s", type=float, default=3600, help="seconds per pair for us (3600)")
    add("--cache", type=Path, help="JSON file that remembers what peers made")
    side = parser.add_mutually_exclusive_group()
    side.add_argument("--ours-only", action="store_true", help="run only our side, peers from the cache")
    side.add_argument("--peers-only", action="store_true", help="run only the peers")
    add("--jobs", type=int, default=1, help="pairs at a time (1); times are only good with 1")
    add("--json", type=Path, help="write everything that was measured")
    options = parser.parse_args()
    if options.ours_only and not options.cache:
        parser.error("--ours-only: found no --cache, expected the file of an earlier run")
    options.peers = options.peers or [*PEERS]
    chosen = product(options.efforts or [DEFAULT_EFFORT], options.profiles or [*OUR_CODERS])
    options.profiles = [] if options.peers_only else [our_name(profile, effort) for effort, profile in chosen]
    return options


def _chosen(options: argparse.Namespace) -> list[Pair]:
    found = (
        sample_pairs()
        if options.corpus is None
        else corpus_pairs(options.corpus, options.pairs or options.corpus / "pairs.tsv")
    )
    pairs = []
    for pair in found:
        if options.kinds and pair.kind not in options.kinds:
            continue
        if options.names and not pair.name.startswith(tuple(options.names)):
            continue
        missing = [str(path) for path in (pair.old, pair.new) if not path.exists()]
        if missing:
            print(f"{pair.title}: left out, missing {', '.join(missing)}", file=sys.stderr)
        elif pair.longest_bytes > options.max_mib * MIB:
            print(f"{pair.title}: left out, longer than {options.max_mib} MiB", file=sys.stderr)
        else:
            pairs.append(pair)
    if not pairs:
        raise SystemExit("no pairs of images found; `make sample-images` makes those of the sample release")
    return pairs


def _announce(versions: Mapping[str, str | None]) -> None:
    for name, maker in PEERS.items():
        print(f"{name}: {versions[name] or 'not installed, left out'} ({maker.settings})", file=sys.stderr)


def _compare(options: argparse.Namespace, cache: PeerCache, versions: Mapping[str, str | None], pair: Pair) -> Compared:
    old, new = pair.old.read_bytes(), pair.new.read_bytes()
    peers = {
        name: _peer_result(options, cache, (name, PEERS[name], versions[name]), pair, (old, new))
        for name in options.peers
    }
    ours = {name: measure("ours", name, pair.old, pair.new, options.our_limit_s) for name in options.profiles}
    return Compared(pair, len(new), ours, peers)


def _peer_result(
    options: argparse.Namespace,
    cache: PeerCache,
    peer: tuple[str, Maker, str | None],
    pair: Pair,
    images: tuple[bytes, bytes],
) -> dict[str, Any]:
    name, maker, version = peer
    if version is None:
        return {"state": "skipped", "message": "not installed"}
    if reason := maker.refuses(*images):
        return {"state": "skipped", "message": reason}
    make = None if options.ours_only else partial(measure, "peers", name, pair.old, pair.new, options.limit_s)
    return cache.result(*images, (name, version, maker.settings), options.limit_s, make)


def _write_json(
    file: Path, rows: Sequence[Compared], figures: Sequence[dict[str, Any]], versions: Mapping[str, str | None]
) -> None:
    pairs = [
        {
            "class": row.pair.kind,
            "name": row.pair.name,
            "old": row.pair.versions[0],
            "new": row.pair.versions[1],
            "new_bytes": row.new_bytes,
            "best_peer": row.best_peer,
            "best_peer_bytes": row.best_peer_bytes or None,
            "ours": row.ours,
            "peers": row.peers,
        }
        for row in rows
    ]
    peers = {name: {"version": versions[name], "settings": maker.settings} for name, maker in PEERS.items()}
    result = {"machine": platform.machine(), "python": platform.python_version(), "peers": peers, "figures": figures}
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({**result, "pairs": pairs}, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
