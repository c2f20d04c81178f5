"""Who is measured by `bench_apply`: this core, the hashes alone, and the peers.

All start from files and end with the new image in the slot's file.
"""

import hashlib
import shutil
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import bsdiff4
import hdiffpatch
import zstandard

from packager.vehicle.core.applier import Applier
from packager.vehicle.core.head import Head, SignedHead, read_head
from packager.vehicle.core.manifest import READS_OLD, Op
from packager.vehicle.core.pull import apply_file
from packager.vehicle.identity import Digest
from packager.vehicle.profile import DEFAULT_PROFILE, MIB
from packager.vehicle.storage import FileOnDisk
from tests.perf.apply_cases import Case

_OTHER_CONTENT = b"\x55" * MIB


class TimedFile:
    """A `StoredFile` that counts what its calls take."""

    def __init__(self, file: FileOnDisk) -> None:
        self._file = file
        self.read_s = self.write_s = self.sync_s = 0.0

    @property
    def length_bytes(self) -> int:
        return self._file.length_bytes

    def read_into(self, offset: int, buffer: memoryview) -> None:
        start_s = time.perf_counter()
        self._file.read_into(offset, buffer)
        self.read_s += time.perf_counter() - start_s

    def write(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        start_s = time.perf_counter()
        self._file.write(offset, data)
        self.write_s += time.perf_counter() - start_s

    def sync(self) -> None:
        start_s = time.perf_counter()
        self._file.sync()
        self.sync_s += time.perf_counter() - start_s


@dataclass(frozen=True, slots=True)
class Split:
    """Where the time of one thread goes, in seconds; `cpu_s` is what all threads computed."""

    total_s: float
    cpu_s: float
    read_s: float
    write_s: float
    sync_s: float


@dataclass(frozen=True, slots=True)
class Passes:
    """The bytes that the order of checks has hashed."""

    old_part: int
    blobs: int
    output: int

    @property
    def total(self) -> int:
        """All; the whole image and the read-back are one pass."""
        return self.old_part + self.blobs + 2 * self.output


def read_our_head(case: Case) -> Head:
    with case.bundle.open("rb") as bundle:
        data = bundle.read(case.head_bytes)
    return read_head(data, SignedHead(len(data), Digest.of(data)), DEFAULT_PROFILE)


def ours(case: Case, slot: Path, workers: int) -> Split:
    """Apply our bundle, all checks on, head included."""
    start_s, start_cpu_s = time.perf_counter(), time.process_time()
    with case.bundle.open("rb") as bundle, FileOnDisk.open(case.old) as old_file:
        data = bundle.read(case.head_bytes)
        head = read_head(data, SignedHead(len(data), Digest.of(data)), DEFAULT_PROFILE)
        with FileOnDisk.open(slot, head.manifest.new.length_bytes) as slot_file:
            old, new = TimedFile(old_file), TimedFile(slot_file)
            with Applier(head, old, new, workers=workers) as applier:
                apply_file(applier, bundle)
    cpu_s = time.process_time() - start_cpu_s
    return Split(time.perf_counter() - start_s, cpu_s, old.read_s + new.read_s, new.write_s, new.sync_s)


def passes_of(head: Head) -> Passes:
    """Count what must be hashed, by the operations of the bundle's blocks."""
    old_part = 0
    for position in range(len(head.index)):
        record = head.index[position]
        if record.op is Op.WINDOW:
            old_part += record.window_bytes
        elif record.op in READS_OLD:
            old_part += sum(
                piece.length_bytes for piece in head.segments.pieces(*head.manifest.block_range(record.block))
            )
    if head.manifest.block_count == 1 and old_part:
        old_part = head.manifest.old_length_bytes
    return Passes(old_part, head.index.blobs_bytes, head.manifest.new.length_bytes)


def hash_spread(total_bytes: int, threads: int) -> float:
    """Return how long `threads` threads take to hash `total_bytes` that lie in the cache."""

    def work() -> None:
        for _ in range(max(total_bytes // threads // MIB, 1)):
            hashlib.sha256(_OTHER_CONTENT).digest()

    running = [threading.Thread(target=work) for _ in range(threads)]
    start_s = time.perf_counter()
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    return (time.perf_counter() - start_s) * total_bytes / (max(total_bytes // threads // MIB, 1) * threads * MIB)


def hash_cpu(data: bytes) -> float:
    """Return how long the processor computes for the SHA-256 of `data`."""
    start_s = time.process_time()
    hashlib.sha256(data).digest()
    return time.process_time() - start_s


def hash_files(*files: Path) -> float:
    """Return how long the SHA-256 of whole files takes, one after the other."""
    start_s = time.perf_counter()
    for file in files:
        with file.open("rb") as stream:
            hashlib.file_digest(stream, "sha256")
    return time.perf_counter() - start_s


def peers(case: Case) -> dict[str, tuple[Path, Callable[[Path], None]]]:
    """Return, by name, the patch and what applies it to a slot."""
    found: dict[str, tuple[Path, Callable[[Path], None]]] = {}

    def in_memory(patch: Path, apply: Callable[[bytes, bytes], bytes]) -> Callable[[Path], None]:
        def run(slot: Path) -> None:
            made = apply(case.old.read_bytes(), patch.read_bytes())
            with slot.open("r+b") as file:
                file.write(made)

        return run

    for name, apply in (("zstd", _zstd), ("hdiffpatch", hdiffpatch.apply), ("bsdiff4", bsdiff4.patch)):
        if patch := case.patches.get(name):
            found[name] = (patch, in_memory(patch, apply))
    if program := shutil.which("zstd"):
        patch = case.patches["zstd"]
        command = [program, "-q", "-d", "-f", "--long=31", f"--patch-from={case.old}", str(patch), "-o"]
        found["zstd program"] = (patch, lambda slot: subprocess.run([*command, str(slot)], check=True) and None)
    return found


def _zstd(old: bytes, patch: bytes) -> bytes:
    prefix = zstandard.ZstdCompressionDict(old, zstandard.DICT_TYPE_RAWCONTENT)
    return zstandard.ZstdDecompressor(dict_data=prefix, max_window_size=1 << 31).decompress(patch)


def spoil(slot: Path, length_bytes: int) -> None:
    """Make the slot a file of the right length that holds another image, as the spare slot of a car does."""
    with slot.open("r+b" if slot.exists() else "w+b") as file:
        for start in range(0, length_bytes, MIB):
            file.write(_OTHER_CONTENT[: min(MIB, length_bytes - start)])
        file.truncate(length_bytes)
