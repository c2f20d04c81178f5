"""What an update costs in memory: a real process applies real files, and its resident peak is bounded whatever the image size."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from packager.bundle.forms import Means, Place, compressed_form, delta_form, raw_form, window_form
from packager.bundle.writer import CodedBlock, Identity, write_bundle
from packager.diff.prediction import NOTHING, Prediction, make_context
from packager.vehicle.core.manifest import READS_SEGMENTS, Op
from packager.vehicle.core.predicted import LITERALS_KNOW_SOURCE
from packager.vehicle.core.predictors import page_count
from packager.vehicle.core.pull import MAX_WORKERS, usable_cores
from packager.vehicle.core.segments import Segment, SegmentMap
from packager.vehicle.identity import ImageId
from packager.vehicle.profile import Coder
from tests.predicted_bundles import UNIT_4, predicted_block
from tests.sample_bundles import noise, sign, text

MIB = 1 << 20
BLOCK_LOG2 = 20
MOST_GROWTH_BYTES = 16 * MIB
SPREAD_BYTES = 2 * MIB
PERIOD = 4 * MIB
"""The images repeat themselves after this many bytes, so that large ones are made quickly."""
MOST_SHORT_RUNS = 20
"""A short run of several threads does not always meet its costliest moment, a long one does: so the short one may try again."""
CODERS = frozenset({Coder.RAW, Coder.ZSTD})
MEANS = Means(CODERS, 4 * MIB, 1)

_CHILD = """
import sys
from pathlib import Path
from packager.vehicle.core.applier import Applier
from packager.vehicle.core.head import SignedHead, read_head
from packager.vehicle.identity import Digest
from packager.vehicle.profile import DEFAULT_PROFILE
from packager.vehicle.core.pull import apply_file
from packager.vehicle.storage import FileOnDisk

def apply(bundle, old, slot, length, digest, workers):
    with Path(bundle).open("rb") as stream:
        head = read_head(stream.read(int(length)), SignedHead(int(length), Digest.from_hex(digest)), DEFAULT_PROFILE)
        source = FileOnDisk.open(Path(old)) if old else None
        with (
            FileOnDisk.open(Path(slot), head.manifest.new.length_bytes) as target,
            Applier(head, source, target, workers=int(workers)) as applier,
        ):
            apply_file(applier, stream)

if len(sys.argv) > 1:
    apply(*sys.argv[1:])
# Not ru_maxrss: it keeps the parent's peak across exec. This is the same number of this process alone.
print(next(line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")))
"""


def peak_bytes(*arguments: str) -> int:
    done = subprocess.run([sys.executable, "-c", _CHILD, *arguments], capture_output=True, text=True, check=True)
    return int(done.stdout) * 1024


def growth_bytes(arguments: list[str], workers: int, idle_bytes: int) -> int:
    """Return the peak of one run above that of an idle interpreter."""
    peak = peak_bytes(*arguments, str(workers))
    Path(arguments[2]).unlink()
    return peak - idle_bytes


@cache
def periods() -> tuple[bytes, bytes]:
    """Return what the old and the new image repeat."""
    old = text(50, MIB)
    old = b"".join(old[at:] + old[:at] for at in range(0, PERIOD, MIB // 2))[:PERIOD]
    return old, b"".join(old[at : at + MIB - 7] + noise(at, 7) for at in range(0, PERIOD, MIB))


def write_case(directory: Path, size: int, period: Callable[[bytes, bytes], list[CodedBlock]]) -> list[str]:
    """Write the files of one update, an image that repeats itself, and return the child's arguments."""
    old_period, new_period = periods()
    if period is predicted:
        new_period = bytes(byte ^ (at % 8 == 0) for at, byte in enumerate(new_period))
    coded = period(old_period, new_period)
    times = size // PERIOD
    blocks = [
        replace(
            block,
            block=block.block + index * len(coded),
            window_offset=block.window_offset + index * PERIOD if block.source else 0,
        )
        for index in range(times)
        for block in coded
    ]
    reads_old = any(block.source for block in coded)
    segments = [
        piece._replace(new_offset=piece.new_offset + index * PERIOD, old_offset=piece.old_offset + index * PERIOD)
        for index in range(times)
        for block in coded
        if block.op in READS_SEGMENTS
        for piece in pieces_of(block.block)
    ]
    old_image = ImageId.of(old_period * times) if reads_old else None
    identity = Identity(ImageId.of(new_period * times), old_image, BLOCK_LOG2)
    prediction = None
    if any(block.op is Op.PREDICTED for block in coded):
        context = make_context([NOTHING], bytes(page_count(size)), b"", b"", segments)
        context = replace(context, old_bytes=size, new_bytes=size)
        prediction = Prediction((NOTHING,), context, segments)
    written = write_bundle(identity, blocks, segments, CODERS, prediction)
    bundle, old, slot = (directory / f"{size}.{name}" for name in ("bundle", "old", "slot"))
    bundle.write_bytes(written.data)
    if reads_old:
        with old.open("wb") as stream:
            stream.writelines([old_period] * times)
    signed = sign(written.data[: written.head_bytes])
    return [str(bundle), str(old) if reads_old else "", str(slot), str(signed.length_bytes), signed.digest.hex]


def pieces_of(block: int) -> list[Segment]:
    """Two pieces with a gap between them, so that the old part is not the block."""
    start = block * MIB
    return [Segment(start, start, 600_000), Segment(start + 600_100, start + 600_100, MIB - 600_107)]


@cache
def full(old: bytes, new: bytes) -> list[CodedBlock]:
    """Code every other block with zstd, the rest as they are."""
    places = [Place(at // MIB, at, new[at : at + MIB], None, ()) for at in range(0, PERIOD, MIB)]
    blocks = []
    for place in places:
        block = compressed_form(place, MEANS) if place.block % 2 else raw_form(place)
        assert block is not None
        blocks.append(block)
    return blocks


@cache
def delta(old: bytes, new: bytes) -> list[CodedBlock]:
    """Code each fourth block with the longest window of the old image, the rest as deltas of several pieces."""
    blocks = []
    for at in range(0, PERIOD, MIB):
        place = Place(at // MIB, at, new[at : at + MIB], old, pieces_of(at // MIB))
        block = window_form(place, MEANS) if place.block % 4 == 3 else delta_form(place, MEANS)
        assert block is not None
        blocks.append(block)
    return blocks


@cache
def predicted(old: bytes, new: bytes) -> list[CodedBlock]:
    """Code each fourth block with the longest window, the rest as predicted blocks whose literals know the source.

    Without fields, so that a block is the same wherever it stands; rewriting them takes no memory.
    """
    segments = [piece for block in range(PERIOD // MIB) for piece in pieces_of(block)]
    context = make_context([NOTHING], bytes(page_count(PERIOD)), old, new, segments)
    blocks = [
        predicted_block(context, SegmentMap.of(segments), block, MIB, old, new, LITERALS_KNOW_SOURCE | UNIT_4)
        for block in range(PERIOD // MIB - 1)
    ]
    window = window_form(Place(len(blocks), PERIOD - MIB, new[PERIOD - MIB :], old, pieces_of(len(blocks))), MEANS)
    assert window is not None
    return [*blocks, window]


@pytest.mark.parametrize("period", [full, delta, predicted])
@pytest.mark.parametrize(
    "sizes", [(16 * MIB, 64 * MIB), pytest.param((16 * MIB, 1024 * MIB), marks=pytest.mark.long)], ids=["64", "1024"]
)
def test_peak_memory_is_bounded_and_does_not_grow_with_the_image(
    tmp_path: Path, period: Callable[[bytes, bytes], list[CodedBlock]], sizes: tuple[int, int]
) -> None:
    """For one thread, for the default on this machine, and for the most that is chosen by default anywhere."""
    kind = period.__name__
    idle = peak_bytes()
    cases = [write_case(tmp_path, size, period) for size in sizes]
    for workers in sorted({1, usable_cores(), MAX_WORKERS}):
        long = growth_bytes(cases[1], workers, idle)
        short: list[int] = []
        while len(short) < MOST_SHORT_RUNS and max(short, default=0) < long - SPREAD_BYTES:
            short.append(growth_bytes(cases[0], workers, idle))
        print(
            f"{kind}, {workers} workers: {max(short) / MIB:.1f} MiB at {sizes[0] // MIB} MiB in {len(short)} runs, "
            f"{long / MIB:.1f} MiB at {sizes[1] // MIB} MiB above an idle interpreter"
        )
        assert max(long, *short) <= MOST_GROWTH_BYTES
        assert long - max(short) <= SPREAD_BYTES
