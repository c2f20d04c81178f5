"""Builds the C core with the harness beside this file and talks to it: one process answers many requests."""

import functools
import shutil
import struct
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from packager.vehicle.errors import CorruptError, IncompatibleError, ResourceError, VehicleError
from tests.sample_bundles import Sample

ROOT = Path(__file__).parents[2]
C_CODE = ROOT / "packager" / "vehicle" / "c"
NAMES = ("core.c", "core_head.c", "core_segments.c", "core_fields.c", "delta.c", "sha256.c")
SOURCES = tuple(C_CODE / name for name in NAMES)
STRICT = ("-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic")
SANITIZED = ("-g", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
NO_OLD = 0xFFFFFFFF
APPLY, FLIPS, TRUNCATIONS, CUTS, FAILURES = range(5)
ARENA_BYTES = 1 << 20
_REQUEST = struct.Struct("<10I32s")
_ANSWER = struct.Struct("<4I2Q")

CORRUPT, INCOMPATIBLE, RESOURCE, CALLER = 1, 2, 3, 4
FEATURE, UNKNOWN_SECTION, CODER, ARENA, OLD_IMAGE, SLOT, BLOCK_SIZE = 0x22, 0x23, 0x26, 0x29, 0x2A, 0x27, 0x28


def compiler(*names: str) -> str:
    """Return the first compiler of these that is here, or skip the test."""
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None:
        pytest.skip(f"no compiler of {', '.join(names)} here")
    return found


def compile_c(command: str, *arguments: str | Path) -> None:
    done = subprocess.run([command, *map(str, arguments)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@functools.cache
def built(*, sanitized: bool) -> Path:
    """Build the harness once per process."""
    command = compiler("gcc", "clang", "cc")
    target = Path(tempfile.mkdtemp(prefix="core-harness-")) / "harness"
    flags = SANITIZED if sanitized else ("-O2",)
    compile_c(command, *STRICT, *flags, f"-I{C_CODE}", ROOT / "tests/c/core_harness.c", *SOURCES, "-o", target)
    return target


@dataclass(frozen=True)
class Answer:
    error: int
    blocks_done: int
    tried: int
    wrong: int
    next_offset: int
    arena_needed: int
    slot: bytes

    @property
    def fault(self) -> int:
        """Class of the error."""
        return self.error >> 4


class Core:
    """A running harness."""

    def __init__(self, *, sanitized: bool) -> None:
        program = built(sanitized=sanitized)
        self._process = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def ask(
        self,
        sample: Sample,
        mode: int = APPLY,
        *,
        arena_bytes: int = ARENA_BYTES,
        chunk: int = 1000,
        slot: bytes | None = None,
        slot_limit: int = 0,
        block_limit: int = 0,
        own_hasher: bool = False,
        signed_sha256: bytes | None = None,
    ) -> Answer:
        head_bytes, signed = sample.head_bytes, signed_sha256 or sample.signed.digest.value
        old_bytes = NO_OLD if sample.old is None else len(sample.old)
        sizes = (mode, head_bytes, old_bytes, len(sample.data), len(sample.new), arena_bytes, chunk)
        request = _REQUEST.pack(*sizes, slot_limit, block_limit, own_hasher, signed)
        slot = slot if slot is not None else b"\xee" * len(sample.new)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(request + sample.data + (sample.old or b"") + slot + sample.new)
        self._process.stdin.flush()
        header = self._process.stdout.read(_ANSWER.size)
        assert len(header) == _ANSWER.size, "the harness ended: see its standard error"
        return Answer(*_ANSWER.unpack(header), slot=self._process.stdout.read(len(sample.new)))

    def close(self) -> None:
        """End it; a sanitizer's finding is its exit code."""
        self._process.communicate()
        assert self._process.returncode == 0


def fault_of(error: VehicleError | None) -> int:
    """Return the class that the core gives an error of the Python applier."""
    classes = {CorruptError: CORRUPT, IncompatibleError: INCOMPATIBLE, ResourceError: RESOURCE}
    return 0 if error is None else classes[type(error)]
