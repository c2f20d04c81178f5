"""What `bench_apply` measures: image pairs in files on a RAM disk, with our bundle and the patch of every peer, made once and kept."""

import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import bsdiff4
import hdiffpatch
import zstandard

from packager.bundle.encoder import Label, encode
from packager.diff import bsdiff
from packager.diff.engine import Alignment
from packager.vehicle.profile import DEFAULT_PROFILE, MIB
from packager.vehicle.segments import Segment
from sample_images.synthesiser import FirmwareSpec, write_firmware
from tests.perf.alignment import by_seeds, by_symbols

BSDIFF_MOST_BYTES = 16 * MIB
"""Longer images are not given to bsdiff: it takes minutes, to make the patch and to align ours."""
HDIFF_MOST_BYTES = 256 * MIB
LEVEL = 3


@dataclass(frozen=True, slots=True)
class Case:
    """One pair on the RAM disk.

    Attributes:
        title: For people.
        old: Old image.
        new: New image.
        bundle: Our bundle.
        head_bytes: Length of its head.
        patches: The patch file of each peer that makes one.
    """

    title: str
    old: Path
    new: Path
    bundle: Path
    head_bytes: int
    patches: dict[str, Path]


def ram_disk() -> Path:
    """Return where files cost no disk: the shared memory of Linux, else the directory for temporary files."""
    shared = Path("/dev/shm")
    return shared if shared.is_dir() and shutil.disk_usage(shared).free > 4 << 30 else Path(tempfile.gettempdir())


def generated(directory: Path, size_bytes: int) -> Case:
    """Make two versions of a generated firmware."""
    specs = [FirmwareSpec("aarch64", size_bytes, seed=7, version=version) for version in (0, 1)]
    files = []
    for spec in specs:
        files.append(directory / f"generated-{size_bytes // MIB}-v{spec.version}.bin")
        if not files[-1].exists():
            write_firmware(spec, files[-1])
    bundle = files[1].with_suffix(".bundle")
    segments = [] if bundle.exists() else by_symbols(*specs)
    return _case(f"generated aarch64, {size_bytes // MIB} MiB", files[0], files[1], directory, segments)


def of_corpus(corpus: Path, directory: Path) -> Iterator[Case]:
    """Yield each image's two newest versions of ``CLASS/NAME/VERSION.bin``, by the order of their names, copied to `directory`."""
    for place in sorted(corpus.glob("*/*")):
        versions = sorted(place.glob("*.bin"))
        for old, new in list(pairwise(versions))[-1:]:
            key = f"{place.parent.name}-{place.name}"
            files = [directory / f"{key}-{side}.bin" for side in ("old", "new")]
            for source, file in zip((old, new), files, strict=True):
                if not file.exists():
                    shutil.copyfile(source, file)
            segments: list[Segment] = []
            if not files[1].with_suffix(".bundle").exists():
                before, after = files[0].read_bytes(), files[1].read_bytes()
                is_small = max(len(before), len(after)) <= BSDIFF_MOST_BYTES
                segments = list(bsdiff.segments(before, after) if is_small else by_seeds(before, after))
            yield _case(f"{place.parent.name} {place.name} {old.stem} -> {new.stem}", *files, directory, segments)


def _case(title: str, old: Path, new: Path, directory: Path, segments: list[Segment]) -> Case:
    bundle = new.with_suffix(".bundle")
    head = new.with_suffix(".head")
    before, after = old.read_bytes(), new.read_bytes()
    if not bundle.exists():
        written = encode(before, after, Alignment(segments), DEFAULT_PROFILE, Label(), LEVEL).written
        head.write_text(str(written.head_bytes))
        bundle.write_bytes(written.data)
    longest = max(len(before), len(after))
    patches = {"zstd": new.with_suffix(".zst")}
    if not patches["zstd"].exists():
        patches["zstd"].write_bytes(_zstd_patch(before, after))
    if longest <= HDIFF_MOST_BYTES:
        patches["hdiffpatch"] = new.with_suffix(".hdiff")
        if not patches["hdiffpatch"].exists():
            patches["hdiffpatch"].write_bytes(
                hdiffpatch.diff(before, after, hdiffpatch.COMPRESSION_ZSTD, validate=False)
            )
    if longest <= BSDIFF_MOST_BYTES:
        patches["bsdiff4"] = new.with_suffix(".bsdiff")
        if not patches["bsdiff4"].exists():
            patches["bsdiff4"].write_bytes(bsdiff4.diff(before, after))
    return Case(title, old, new, bundle, int(head.read_text()), patches)


def _zstd_patch(old: bytes, new: bytes) -> bytes:
    """Do what ``zstd --patch-from`` does: one frame, the old image as its prefix, long distance matching over both."""
    window_log = max((len(old) + len(new)).bit_length(), 10)
    parameters = zstandard.ZstdCompressionParameters.from_level(
        LEVEL, window_log=min(window_log, zstandard.WINDOWLOG_MAX), enable_ldm=True
    )
    prefix = zstandard.ZstdCompressionDict(old, zstandard.DICT_TYPE_RAWCONTENT)
    return zstandard.ZstdCompressor(dict_data=prefix, compression_params=parameters).compress(new)
