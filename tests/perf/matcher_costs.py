"""Measures the matcher on one pair of images in a child process: memory at its peak, processor time, clock.

The images are cut from files, or made: pieces of code whose words recur as instructions do, of which the new image has some changed, some
moved and some more.
"""

import argparse
import json
import random
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from packager.diff.matcher import Costs, Index

WORDS: Final = 300
PIECE_WORDS: Final = 200
PIECES_PER_MIB: Final = (1 << 20) // (4 * PIECE_WORDS)
_STATUS: Final = Path("/proc/self/status")
_CLEAR: Final = Path("/proc/self/clear_refs")


@dataclass(frozen=True, slots=True)
class MatcherCosts:
    """What the matcher took.

    Attributes:
        old_bytes: Length of the old image.
        threads: Who shared the work.
        peak_bytes: Memory at most, above that before; what was found is in it, the images are not.
        cpu_s: Of all threads.
        wall_s: From start to end.
        segments: What was found.
    """

    old_bytes: int
    threads: int
    peak_bytes: int
    cpu_s: float
    wall_s: float
    segments: int


def can_measure() -> bool:
    """Tell whether the system says what the peak of a process was: Linux."""
    return _CLEAR.exists()


def measure(old_mib: int, threads: int, files: Sequence[Path] = ()) -> MatcherCosts:
    """Align images of so many MiB in a child process: made ones, or the starts of an old and a new file."""
    command = [sys.executable, "-m", "tests.perf.matcher_costs", str(old_mib), str(threads), *map(str, files)]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return MatcherCosts(**json.loads(said))


def make_images(mib: int) -> tuple[bytes, bytes]:
    """Make an old and a new image: of every eight pieces one is changed, one moved to the front of its MiB, one longer."""
    vocabulary = [word.to_bytes(4, "little") for word in random.Random(0).choices(range(1 << 32), k=WORDS)]
    weights = [1 / (rank + 1) for rank in range(WORDS)]
    old, new = bytearray(), bytearray()
    for number in range(mib):
        chance = random.Random(number + 1)
        pieces = [chance.choices(vocabulary, weights, k=PIECE_WORDS) for _ in range(PIECES_PER_MIB)]
        old += b"".join(map(b"".join, pieces))
        old += bytes(-len(old) % (1 << 20))
        for index in range(0, PIECES_PER_MIB, 8):
            for at in range(0, PIECE_WORDS, 5):
                pieces[index][at] = chance.choice(vocabulary)
        for index in range(1, PIECES_PER_MIB, 8):
            pieces[index] = pieces[index] + chance.choices(vocabulary, weights, k=3)
        pieces.sort(key=lambda piece: piece[0] != vocabulary[0])
        new += b"".join(map(b"".join, pieces))
    return bytes(old), bytes(new)


def _read_start(file: Path, old_bytes: int) -> bytes:
    with file.open("rb") as stream:
        return stream.read(old_bytes)


def _peak_bytes() -> int:
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) << 10


def _child() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("old_mib", type=int)
    parser.add_argument("threads", type=int)
    parser.add_argument("files", type=Path, nargs="*")
    options = parser.parse_args()
    if options.files:
        old, new = (_read_start(file, options.old_mib << 20) for file in options.files)
    else:
        old, new = make_images(options.old_mib)
    _CLEAR.write_text("5")
    before, cpu, wall = _peak_bytes(), time.process_time(), time.perf_counter()
    with ThreadPoolExecutor(options.threads) as pool:
        found = Index(old, pool).segments(new, Costs())
    costs = MatcherCosts(
        old_bytes=len(old),
        threads=options.threads,
        peak_bytes=_peak_bytes() - before,
        cpu_s=time.process_time() - cpu,
        wall_s=time.perf_counter() - wall,
        segments=len(found),
    )
    sys.stdout.write(json.dumps(asdict(costs)))


if __name__ == "__main__":
    _child()
