"""The programs that are compared: our packager in three profiles and its open peers, each with the settings that make it smallest.

A maker writes a patch of two image files and can apply it. Peers' patches are bare: no hashes, no signature, no limits. Ours is the whole
bundle with all its hashes, made by the code behind `packager diff`, self-check included.
"""

import importlib.metadata
import importlib.util
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Protocol

import zstandard

from packager.bundle.check import apply_to_file, rebuild
from packager.bundle.encoder import Label, encode
from packager.bundle.loose import LooseBundle, self_signed
from packager.diff.engine import DEFAULT_EFFORT, align, level_of
from packager.vehicle.profile import DEFAULT_PROFILE, MIB, Coder, UpdateProfile

MAX_BSDIFF4_BYTES: Final = 16 * MIB
PERIODIC_RATIO: Final = 24
"""Data that zstd -1 shrinks more than this is fill or periodic: bsdiff4's sort takes hours on it."""


class Maker(Protocol):
    """A program that makes patches."""

    @property
    def settings(self) -> str: ...

    @property
    def modules(self) -> Sequence[str]:
        """What Python needs to import for it, which is not counted."""

    def version(self) -> str | None:
        """Return the version, or None where the program is not installed."""

    def refuses(self, old: bytes, new: bytes) -> str:
        """Return why the pair is left out, or nothing."""

    def create(self, old: Path, new: Path, patch: Path) -> Mapping[str, object]:
        """Write the patch; return what else is worth knowing."""

    def apply(self, old: Path, patch: Path, new: Path) -> None: ...


@dataclass(frozen=True, slots=True)
class Ours:
    """The packager, for an ECU with the default profile and these coders."""

    coders: frozenset[Coder]
    modules: Sequence[str] = ()
    effort: int = DEFAULT_EFFORT

    @property
    def settings(self) -> str:
        return "+".join(sorted(coder.name.lower() for coder in self.coders - {Coder.RAW}))

    @property
    def profile(self) -> UpdateProfile:
        return replace(DEFAULT_PROFILE, coders=self.coders)

    def version(self) -> str | None:
        return importlib.metadata.version("delta-packager")

    def refuses(self, old: bytes, new: bytes) -> str:
        return ""

    def create(self, old: Path, new: Path, patch: Path) -> Mapping[str, object]:
        started = time.perf_counter()
        old_data, new_data = old.read_bytes(), new.read_bytes()
        alignment = align(old_data, new_data, effort=self.effort, adaptive=Coder.ADAPTIVE in self.coders)
        aligned = time.perf_counter()
        encoded = encode(old_data, new_data, alignment, self.profile, Label(), level_of(self.effort))
        patch.write_bytes(encoded.written.data)
        written = time.perf_counter()
        with tempfile.TemporaryDirectory() as scratch:
            rebuild(patch, self_signed(patch), self.profile, old, Path(scratch))
        return {
            "head_bytes": encoded.written.head_bytes,
            "forms": dict(encoded.blocks_by_form),
            "align_s": round(aligned - started, 3),
            "encode_s": round(written - aligned, 3),
            "check_s": round(time.perf_counter() - written, 3),
        }

    def apply(self, old: Path, patch: Path, new: Path) -> None:
        apply_to_file(patch, LooseBundle.open(patch, self.profile).head, old, new)


@dataclass(frozen=True, slots=True)
class HDiffPatch:
    """HDiffPatch's compressed format."""

    coder: str
    modules: Sequence[str] = ("hdiffpatch",)

    @property
    def settings(self) -> str:
        return {"zstd": "zstd-19", "lzma2": "lzma2-9,64MiB"}[self.coder]

    def version(self) -> str | None:
        return _package_version("hdiffpatch")

    def refuses(self, old: bytes, new: bytes) -> str:
        return ""

    def create(self, old: Path, new: Path, patch: Path) -> Mapping[str, object]:
        import hdiffpatch

        coder = (
            hdiffpatch.ZStdConfig(level=19)
            if self.coder == "zstd"
            else hdiffpatch.Lzma2Config(level=9, window=26, threads=1)
        )
        patch.write_bytes(hdiffpatch.diff(old.read_bytes(), new.read_bytes(), coder, validate=False))
        return {}

    def apply(self, old: Path, patch: Path, new: Path) -> None:
        import hdiffpatch

        new.write_bytes(hdiffpatch.apply(old.read_bytes(), patch.read_bytes()))


@dataclass(frozen=True, slots=True)
class Detools:
    """detools with LZMA."""

    algorithm: str
    patch_type: str
    modules: Sequence[str] = ("detools",)

    @property
    def settings(self) -> str:
        return f"{self.algorithm},{self.patch_type},lzma"

    def version(self) -> str | None:
        return _package_version("detools")

    def refuses(self, old: bytes, new: bytes) -> str:
        return ""

    def create(self, old: Path, new: Path, patch: Path) -> Mapping[str, object]:
        import detools

        detools.create_patch_filenames(
            str(old), str(new), str(patch), compression="lzma", patch_type=self.patch_type, algorithm=self.algorithm
        )
        return {}

    def apply(self, old: Path, patch: Path, new: Path) -> None:
        import detools

        detools.apply_patch_filenames(str(old), str(patch), str(new))


@dataclass(frozen=True, slots=True)
class Bsdiff4:
    """bsdiff's format with bzip2."""

    settings: str = "file_diff,bz2"
    modules: Sequence[str] = ("bsdiff4",)

    def version(self) -> str | None:
        return _package_version("bsdiff4")

    def refuses(self, old: bytes, new: bytes) -> str:
        longest = max(len(old), len(new))
        if longest > MAX_BSDIFF4_BYTES:
            return f"{longest} bytes, more than {MAX_BSDIFF4_BYTES}: its sort takes too long"
        if any(len(zstandard.compress(data, 1)) * PERIODIC_RATIO < len(data) for data in (old, new)):
            return "mostly fill or periodic: its sort takes too long"
        return ""

    def create(self, old: Path, new: Path, patch: Path) -> Mapping[str, object]:
        import bsdiff4

        bsdiff4.file_diff(str(old), str(new), str(patch))
        return {}

    def apply(self, old: Path, patch: Path, new: Path) -> None:
        import bsdiff4

        bsdiff4.file_patch(str(old), str(new), str(patch))


@dataclass(frozen=True, slots=True)
class Zstd:
    """The zstd program with the old image as prefix."""

    settings: str = "-22 --ultra --long=31 --patch-from"
    modules: Sequence[str] = ()

    def version(self) -> str | None:
        return _program_version("zstd", "--version")

    def refuses(self, old: bytes, new: bytes) -> str:
        return ""

    def create(self, old: Path, new: Path, patch: Path) -> Mapping[str, object]:
        _run("zstd", "-q", "-f", "-22", "--ultra", "--long=31", f"--patch-from={old}", str(new), "-o", str(patch))
        return {}

    def apply(self, old: Path, patch: Path, new: Path) -> None:
        _run("zstd", "-q", "-f", "-d", "--long=31", f"--patch-from={old}", str(patch), "-o", str(new))


@dataclass(frozen=True, slots=True)
class Xdelta3:
    """VCDIFF with secondary compression, without the file names and checksums that it adds unasked.

    `-D` is needed: without it compressed images are unpacked first, and what it makes of the patch is not the new image.
    """

    coder: str
    modules: Sequence[str] = ()

    @property
    def settings(self) -> str:
        return f"-9 -D -n -A -S {self.coder} -W 16MiB -B old"

    def version(self) -> str | None:
        return _program_version("xdelta3", "-V")

    def refuses(self, old: bytes, new: bytes) -> str:
        return ""

    def create(self, old: Path, new: Path, patch: Path) -> Mapping[str, object]:
        window_bytes = 1 << max((old.stat().st_size - 1).bit_length(), 20)
        options = ("-W", str(16 * MIB), "-B", str(window_bytes), "-I", "0", "-A=", "-S", self.coder)
        _run("xdelta3", "-q", "-f", "-9", "-D", "-n", *options, "-e", "-s", str(old), str(new), str(patch))
        return {}

    def apply(self, old: Path, patch: Path, new: Path) -> None:
        window_bytes = 1 << max((old.stat().st_size - 1).bit_length(), 20)
        _run("xdelta3", "-q", "-f", "-D", "-B", str(window_bytes), "-d", "-s", str(old), str(patch), str(new))


OUR_CODERS: Final[Mapping[str, frozenset[Coder]]] = {
    "zstd": frozenset({Coder.RAW, Coder.ZSTD}),
    "adaptive": frozenset({Coder.RAW, Coder.ZSTD, Coder.ADAPTIVE}),
    "best": frozenset(Coder),
}
PEERS: Final[Mapping[str, Maker]] = {
    "hdiffpatch-zstd": HDiffPatch("zstd"),
    "hdiffpatch-lzma2": HDiffPatch("lzma2"),
    "detools-hdiffpatch": Detools("hdiffpatch", "hdiffpatch"),
    "detools-sequential": Detools("bsdiff", "sequential"),
    "bsdiff4": Bsdiff4(),
    "zstd-patch-from": Zstd(),
    "xdelta3-djw": Xdelta3("djw"),
    "xdelta3-lzma": Xdelta3("lzma"),
}


def our_name(profile: str, effort: int) -> str:
    """Return what our packager is called with a profile and an effort: "best", or "best-1" at an effort that is not the usual one."""
    return profile if effort == DEFAULT_EFFORT else f"{profile}-{effort}"


def ours(name: str) -> Maker:
    """Return our packager by its name, see `our_name`."""
    profile, _, effort = name.partition("-")
    return Ours(OUR_CODERS[profile], effort=int(effort or DEFAULT_EFFORT))


def _package_version(name: str) -> str | None:
    return importlib.metadata.version(name) if importlib.util.find_spec(name) else None


def _program_version(name: str, option: str) -> str | None:
    if shutil.which(name) is None:
        return None
    shown = subprocess.run([name, option], capture_output=True, text=True, check=True)
    lines: Sequence[str] = (shown.stdout or shown.stderr).splitlines()
    return next((word.strip("v,") for word in lines[0].split() if word.strip("v,")[:1].isdigit()), lines[0])


def _run(*command: str) -> None:
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
