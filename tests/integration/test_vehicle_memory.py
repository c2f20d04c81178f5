"""What an update costs in memory: a real process applies real files, and its resident peak is bounded whatever the image size."""

import subprocess
import sys
from pathlib import Path

import pytest

from packager.bundle.writer import CodedBlock, Identity, write_bundle
from packager.diff import zstd
from packager.vehicle.identity import ImageId
from packager.vehicle.manifest import Op
from packager.vehicle.profile import Coder
from packager.vehicle.segments import Segment
from tests.sample_bundles import noise, sign

MIB = 1 << 20
BLOCK_LOG2 = 20
MOST_GROWTH_BYTES = 16 * MIB
SPREAD_BYTES = 2 * MIB
_CHILD = """
import sys
from pathlib import Path
from packager.vehicle.applier import Applier
from packager.vehicle.blocks import NoOldImage
from packager.vehicle.head import SignedHead, read_head
from packager.vehicle.identity import Digest
from packager.vehicle.profile import DEFAULT_PROFILE
from packager.vehicle.storage import FileOnDisk

def apply(bundle, old, slot, length, digest):
    with Path(bundle).open("rb") as stream:
        head = read_head(stream.read(int(length)), SignedHead(int(length), Digest.from_hex(digest)), DEFAULT_PROFILE)
        source = FileOnDisk.open(Path(old)) if old else NoOldImage()
        with FileOnDisk.open(Path(slot), head.manifest.new.length_bytes) as target, Applier(head, source, target) as applier:
            stream.seek(applier.next_offset)
            while chunk := stream.read(65536):
                applier.feed(chunk)
            applier.finish()

if len(sys.argv) > 1:
    apply(*sys.argv[1:])
# Not ru_maxrss: it keeps the parent's peak across exec. This is the same number of this process alone.
print(next(line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")))
"""


def peak_bytes(*arguments: str) -> int:
    done = subprocess.run([sys.executable, "-c", _CHILD, *arguments], capture_output=True, text=True, check=True)
    return int(done.stdout) * 1024


def write_case(directory: Path, name: str, new: bytes, old: bytes | None, blocks: list[CodedBlock]) -> list[str]:
    """Write the files of one update and return the child's arguments."""
    segments = [] if old is None else [Segment(0, 0, len(new))]
    identity = Identity(ImageId.of(new), None if old is None else ImageId.of(old), BLOCK_LOG2)
    written = write_bundle(identity, blocks, segments, frozenset({Coder.RAW, Coder.ZSTD}))
    (directory / f"{name}.bundle").write_bytes(written.data)
    if old is not None:
        (directory / f"{name}.old").write_bytes(old)
    signed = sign(written.data[: written.head_bytes])
    old_path = "" if old is None else str(directory / f"{name}.old")
    slot = str(directory / f"{name}.slot")
    return [str(directory / f"{name}.bundle"), old_path, slot, str(signed.length_bytes), signed.digest.hex]


def full(new: bytes) -> list[CodedBlock]:
    """Code every other block with zstd, the rest as they are."""
    blocks = []
    for start in range(0, len(new), MIB):
        output = new[start : start + MIB]
        block = start >> BLOCK_LOG2
        if block % 2:
            coded = zstd.compress(output, 1)
            log2 = zstd.window_log2(coded)
            blocks.append(CodedBlock(block, Op.COMPRESSED, Coder.ZSTD, coded, output, window_log2=log2))
        else:
            blocks.append(CodedBlock(block, Op.RAW, Coder.RAW, output, output))
    return blocks


def copied(new: bytes) -> list[CodedBlock]:
    return [
        CodedBlock(start >> BLOCK_LOG2, Op.COPY, Coder.RAW, b"", new[start : start + MIB], new[start : start + MIB])
        for start in range(0, len(new), MIB)
    ]


@pytest.mark.parametrize("kind", ["full", "copy"])
def test_peak_memory_is_bounded_and_does_not_grow_with_the_image(tmp_path: Path, kind: str) -> None:
    idle = peak_bytes()
    growth = []
    for size in (16 * MIB, 64 * MIB):
        new = noise(50, size // 2) * 2 if kind == "full" else noise(51, MIB) * (size // MIB)
        old, blocks = (None, full(new)) if kind == "full" else (new, copied(new))
        arguments = write_case(tmp_path, f"{kind}-{size}", new, old, blocks)
        growth.append(peak_bytes(*arguments) - idle)
        assert Path(arguments[2]).read_bytes() == new
    print(f"{kind}: {growth[0] / MIB:.1f} MiB at 16 MiB, {growth[1] / MIB:.1f} MiB at 64 MiB above an idle interpreter")
    assert max(growth) <= MOST_GROWTH_BYTES
    assert growth[1] - growth[0] <= SPREAD_BYTES
