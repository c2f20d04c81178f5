"""What `bench_apply` measures: image pairs in files on a RAM disk, with our bundle and the patch of every peer.

Our bundle is made anew each time: one that was kept would measure the code that made it. Patches of peers are kept by what they depend on.
"""

import hashlib
import importlib.metadata
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import bsdiff4
import hdiffpatch
import zstandard

from packager.bundle.encoder import Label, encode
from packager.diff.engine import DEFAULT_EFFORT, Alignment, align, level_of
from packager.vehicle.profile import DEFAULT_PROFILE, MIB
from sample_images.synthesiser import SYNTHESISER_REVISION, FirmwareSpec, write_firmware
from tests.perf.alignment import by_seeds, by_symbols

BSDIFF_MOST_BYTES = 16 * MIB
"""Longer images are not given to bsdiff: it takes minutes to make the patch."""
ALIGN_MOST_BYTES = 64 * MIB
"""Longer images are aligned along shared words, and nothing is predicted in them."""
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
        files.append(directory / f"generated-{SYNTHESISER_REVISION}-{size_bytes}-v{spec.version}.bin")
        if not files[-1].exists():
            write_firmware(spec, files[-1])
    title = f"generated aarch64, {size_bytes // MIB} MiB"
    return _case(title, *files, ".bundle", lambda before, after: Alignment(by_symbols(*specs)))


def of_corpus(corpus: Path, directory: Path) -> Iterator[Case]:
    """Yield each image's two newest versions of ``CLASS/NAME/VERSION.bin``, by the order of their names, copied to `directory`.

    Their bundles are those of ``packager diff``.
    """
    for place in sorted(corpus.glob("*/*")):
        versions = sorted(place.glob("*.bin"))
        for old, new in list(pairwise(versions))[-1:]:
            key = f"{place.parent.name}-{place.name}"
            files = [directory / f"{key}-{side}.bin" for side in ("old", "new")]
            for source, file in zip((old, new), files, strict=True):
                shutil.copyfile(source, file)
            yield _case(f"{place.parent.name} {place.name} {old.stem} -> {new.stem}", *files, ".predicted", _align)


def _align(before: bytes, after: bytes) -> Alignment:
    if max(len(before), len(after)) > ALIGN_MOST_BYTES:
        return Alignment(by_seeds(before, after))
    return align(before, after)


def _case(title: str, old: Path, new: Path, kind: str, aligned: Callable[[bytes, bytes], Alignment]) -> Case:
    bundle = new.with_suffix(kind)
    before, after = old.read_bytes(), new.read_bytes()
    level = LEVEL if kind == ".bundle" else level_of(DEFAULT_EFFORT)
    written = encode(before, after, aligned(before, after), DEFAULT_PROFILE, Label(), level).written
    bundle.write_bytes(written.data)
    longest = max(len(before), len(after))
    makers = {"zstd": (_zstd_patch, "zstandard")}
    if longest <= HDIFF_MOST_BYTES:
        makers["hdiffpatch"] = (_hdiff_patch, "hdiffpatch")
    if longest <= BSDIFF_MOST_BYTES:
        makers["bsdiff4"] = (bsdiff4.diff, "bsdiff4")
    pair = hashlib.sha256(hashlib.sha256(before).digest() + hashlib.sha256(after).digest()).hexdigest()
    patches = {}
    for name, (make, package) in makers.items():
        patches[name] = new.with_name(f"{pair[:16]}.{name}-{importlib.metadata.version(package)}")
        if not patches[name].exists():
            patches[name].write_bytes(make(before, after))
    return Case(title, old, new, bundle, written.head_bytes, patches)


def _hdiff_patch(old: bytes, new: bytes) -> bytes:
    patch: bytes = hdiffpatch.diff(old, new, hdiffpatch.COMPRESSION_ZSTD, validate=False)
    return patch


def _zstd_patch(old: bytes, new: bytes) -> bytes:
    """Do what ``zstd --patch-from`` does: one frame, the old image as its prefix, long distance matching over both."""
    window_log = max((len(old) + len(new)).bit_length(), 10)
    parameters = zstandard.ZstdCompressionParameters.from_level(
        LEVEL, window_log=min(window_log, zstandard.WINDOWLOG_MAX), enable_ldm=True
    )
    prefix = zstandard.ZstdCompressionDict(old, zstandard.DICT_TYPE_RAWCONTENT)
    return zstandard.ZstdCompressor(dict_data=prefix, compression_params=parameters).compress(new)
