"""The real program against a real server: ``packager-vehicle`` as a process, ``python -m http.server`` beside it."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from packager.bundle.writer import CodedBlock, Identity, write_bundle
from packager.vehicle.core.head import SignedHead
from packager.vehicle.core.manifest import Op
from packager.vehicle.core.targets import BundleTarget
from packager.vehicle.identity import Digest, ImageId
from packager.vehicle.profile import Coder
from tests.loopback import PATIENCE_S, LoopbackServer
from tests.repository_simulator import MadeBundle, RepositorySimulator, make_bundle

MIB = 1 << 20
SIZE = 6 * 4096 + 100
OLD = random.Random(1).randbytes(SIZE)
NEW = bytes(byte ^ 1 if at % 1000 == 50 else byte for at, byte in enumerate(OLD))
DELTA = make_bundle("bdc", "2", 2, OLD, NEW)
FULL = make_bundle("bdc", "2", 2, None, NEW)
VEHICLE = """
vin = "TESTCAR"
evidence = "optional"

[[ecu]]
name = "BDC"
serial = "1"
hardware_id = "bdc"

[ecu.profile]
ram_kib = 65536
flash_kib = 1048576
"""


@contextmanager
def served(directory: Path) -> Iterator[str]:
    command = [sys.executable, "-u", "-m", "http.server", "--bind", "127.0.0.1", "--directory", str(directory), "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as server:
        assert server.stdout is not None
        match = re.search(rb"port (\d+)", server.stdout.readline())
        assert match is not None
        try:
            yield f"http://127.0.0.1:{int(match[1])}"
        finally:
            server.kill()


class HoldingServer(LoopbackServer):
    """Serves a directory without ranges, and holds back what comes after the first bytes of a bundle."""

    def __init__(self, root: Path, sent_bytes: int) -> None:
        super().__init__()
        self.root = root
        self.sent_bytes = sent_bytes
        self.go_on = threading.Event()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        path = self.root / request.path.lstrip("/")
        if not path.is_file():
            request.send_error(404)
            return
        data = path.read_bytes()
        request.send_response(200)
        request.send_header("Content-Length", str(len(data)))
        request.end_headers()
        with suppress(OSError):
            if path.suffix == ".bundle":
                request.wfile.write(data[: self.sent_bytes])
                self.go_on.wait(PATIENCE_S)
                data = data[self.sent_bytes :]
            request.wfile.write(data)


class Car:
    """A vehicle home, a published repository, and the program between them."""

    def __init__(self, root: Path, old: bytes, new: bytes, *bundles: MadeBundle) -> None:
        self.server = root / "server"
        self.home = root / "home"
        self.repository = repository = RepositorySimulator()
        expires = datetime.now(UTC).replace(microsecond=0) + timedelta(days=1)
        for role in (repository.root, repository.targets, repository.snapshot, repository.timestamp):
            role.expires = expires
        repository.publish_root()
        repository.delegate("body", ["bdc/*/*"]).expires = expires
        repository.add_image("body", "bdc", "2", 2, new)
        self.bundles = [repository.add_bundle("body", bundle) for bundle in bundles]
        repository.publish()
        repository.write(self.server)
        (self.home / "slots/BDC").mkdir(parents=True)
        (self.home / "slots/BDC/a").write_bytes(old)
        (self.home / "vehicle.toml").write_text(VEHICLE)
        assert self.run("init", str(self.server / "metadata/1.root.json"))[0] == 0

    def command(self, *arguments: str) -> list[str]:
        program = Path(sys.executable).with_name("packager-vehicle")
        return [str(program), "--home", str(self.home), *arguments, "--json"]

    def run(self, *arguments: str) -> tuple[int, list[dict[str, Any]]]:
        done = subprocess.run(self.command(*arguments), capture_output=True, check=False, timeout=PATIENCE_S)
        assert done.stderr == b""
        return done.returncode, [json.loads(line) for line in done.stdout.splitlines()]

    def update(self, url: str) -> tuple[int, list[dict[str, Any]]]:
        return self.run("update", "--repo-url", url)

    def still_old(self, old: bytes = OLD) -> bool:
        """Tell whether the old image is active and untouched."""
        return not (self.home / "state/active.json").exists() and (self.home / "slots/BDC/a").read_bytes() == old

    def file(self, bundle: MadeBundle) -> Path:
        return self.server / "targets" / bundle.target.path


@pytest.fixture
def car(tmp_path: Path) -> Car:
    return Car(tmp_path, OLD, NEW, DELTA, FULL)


def test_an_update_by_delta(car: Car) -> None:
    with served(car.server) as url:
        code, (entry, summary) = car.update(url)
        assert code == 0
        assert (entry["bundle"], entry["downloaded_bytes"]) == ("delta", len(DELTA.data))
        assert summary["updated"] == 1
        assert (car.home / "slots/BDC/b").read_bytes() == NEW
        assert (car.home / "slots/BDC/a").read_bytes() == OLD
        code, (entry, summary) = car.update(url)
        assert (code, summary["updated"], summary["downloaded_bytes"]) == (0, 0, 0)
    code, (entry, _) = car.run("status")
    assert (code, entry["version"], entry["slot"], entry["release_counter"]) == (0, "2", "b", 2)
    assert entry["installed"]["sha256"] == Digest.of(NEW).hex


def test_a_wrong_old_image_gets_the_full_bundle(car: Car) -> None:
    wrong = bytes((OLD[0] ^ 1,)) + OLD[1:]
    (car.home / "slots/BDC/a").write_bytes(wrong)
    with served(car.server) as url:
        code, (entry, _) = car.update(url)
    assert (code, entry["bundle"]) == (0, "full")
    assert "no bundle from the installed image" in entry["note"]
    assert (car.home / "slots/BDC/b").read_bytes() == NEW
    assert (car.home / "slots/BDC/a").read_bytes() == wrong


def test_a_wrong_old_image_without_a_full_bundle_ends_with_61(tmp_path: Path) -> None:
    car = Car(tmp_path, OLD, NEW, DELTA)
    (car.home / "slots/BDC/a").write_bytes(OLD[:-1])
    with served(car.server) as url:
        code, (error,) = car.update(url)
    assert (code, error["code"]) == (61, 61)
    assert car.still_old(OLD[:-1])


def test_one_flipped_byte_in_each_region_of_a_bundle_ends_with_60(car: Car) -> None:
    good = DELTA.data
    head = DELTA.head_bytes
    regions = {
        "magic": 0,
        "features": 8,
        "section table": 18,
        "manifest": 40,
        "index": head // 2,
        "segment map": head - 34,
        "head hash": head - 1,
        "first blob": head,
        "middle blob": (head + len(good)) // 2,
        "last byte": len(good) - 1,
    }
    with served(car.server) as url:
        for region, at in regions.items():
            car.file(DELTA).write_bytes(good[:at] + bytes((good[at] ^ 0x10,)) + good[at + 1 :])
            code, (error,) = car.update(url)
            assert (code, error["message_type"]) == (60, "exit_error"), region
            assert car.still_old(), region
            for left in ("slots/BDC/b", "state/BDC.journal"):  # else the next run reads only what is missing
                (car.home / left).unlink(missing_ok=True)
        car.file(DELTA).write_bytes(good)
        assert car.update(url)[0] == 0
    assert (car.home / "slots/BDC/b").read_bytes() == NEW


def test_a_file_cut_short_on_the_server_ends_with_75_and_is_taken_up_when_whole(car: Car) -> None:
    good = DELTA.data
    with served(car.server) as url:
        for length_bytes in (DELTA.head_bytes // 2, len(good) - 1):
            car.file(DELTA).write_bytes(good[:length_bytes])
            code, (error,) = car.update(url)
            assert code == 75
            assert "cut short" in error["message"]
            assert car.still_old()
        car.file(DELTA).write_bytes(good)
        code, (entry, _) = car.update(url)
    assert (code, entry["updated"]) == (0, True)
    assert entry["downloaded_bytes"] <= len(good)


@pytest.mark.parametrize("name", ["timestamp.json", "1.snapshot.json", "1.targets.json", "1.body.json"])
def test_one_flipped_byte_of_metadata_ends_with_60_and_leaves_no_trace(car: Car, name: str) -> None:
    path = car.server / "metadata" / name
    good = path.read_bytes()
    at = good.index(b'"version"') + 1
    path.write_bytes(good[:at] + bytes((good[at] ^ 1,)) + good[at + 1 :])
    with served(car.server) as url:
        code, (error,) = car.update(url)
    assert (code, error["code"]) == (60, 60)
    assert car.still_old()
    stored = {p.name for p in (car.home / "metadata").iterdir()}
    assert stored == (
        {"root.json"} if name != "1.body.json" else {"root.json", "timestamp.json", "snapshot.json", "targets.json"}
    )


def test_expired_metadata_ends_with_60(car: Car) -> None:
    car.repository.timestamp.expires = datetime(2020, 1, 1, tzinfo=UTC)
    car.repository.publish()
    car.repository.write(car.server)
    with served(car.server) as url:
        code, (error,) = car.update(url)
    assert code == 60
    assert "expired at 2020-01-01" in error["message"]
    assert "clock" in error["hint"]
    assert car.still_old()


def test_no_server_ends_with_75(car: Car) -> None:
    code, (error,) = car.update("http://127.0.0.1:9")
    assert (code, error["code"]) == (75, 75)
    assert car.still_old()


@pytest.mark.parametrize(("how", "code"), [(signal.SIGKILL, -9), (signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_update_that_was_killed_or_stopped_goes_on(tmp_path: Path, how: signal.Signals, code: int) -> None:
    new = random.Random(3).randbytes(48 * MIB)
    car = Car(tmp_path, OLD, new, _raw_bundle(new))
    spare = car.home / "slots/BDC/b"
    with HoldingServer(car.server, 8 * MIB) as server:
        with subprocess.Popen(car.command("update", "--repo-url", server.url), stdout=subprocess.PIPE) as process:
            deadline = time.monotonic() + PATIENCE_S
            while not _holds(
                spare, 0, new[: 4 * MIB]
            ):  # threads finish blocks out of order; what counts is without a gap
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.01)
            process.send_signal(how)
            assert process.wait(PATIENCE_S) == code
        server.go_on.set()
    assert car.still_old()
    code, (entry, _) = car.run("status")
    assert (code, entry["interrupted"]) == (0, True)
    with served(car.server) as url:
        code, (entry, _) = car.update(url)
    assert (code, entry["updated"]) == (0, True)
    assert entry["downloaded_bytes"] < 45 * MIB
    assert spare.read_bytes() == new
    assert (car.home / "slots/BDC/a").read_bytes() == OLD


def test_memory_does_not_depend_on_the_size_of_the_image(tmp_path: Path) -> None:
    # Between this process and the program stands a small one, because the peak of a child starts at its parent's.
    measure = (
        "import resource, subprocess, sys\n"
        "done = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL)\n"
        "print(done.returncode, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    peaks_kib = []
    for mib in (4, 64):
        new = random.Random(3).randbytes(MIB) * mib
        car = Car(tmp_path / str(mib), OLD, new, _raw_bundle(new))
        with served(car.server) as url:
            command = [sys.executable, "-c", measure, *car.command("update", "--repo-url", url)]
            done = subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=PATIENCE_S)
        code, peak_kib = map(int, done.stdout.split())
        assert code == 0
        peaks_kib.append(peak_kib)
    assert peaks_kib[1] - peaks_kib[0] < 8 * 1024


def _raw_bundle(new: bytes) -> MadeBundle:
    """Return a full bundle of blocks as they are: what the encoder would make of random bytes, without its trying."""
    pieces = [new[start : start + MIB] for start in range(0, len(new), MIB)]
    blocks = [CodedBlock(number, Op.RAW, Coder.RAW, piece, piece) for number, piece in enumerate(pieces)]
    identity = Identity(ImageId.of(new), None, 20, 2, "2", ("bdc",))
    written = write_bundle(identity, blocks, [], frozenset({Coder.RAW}))
    head = SignedHead(written.head_bytes, Digest.of(written.data[: written.head_bytes]))
    target = BundleTarget("bdc", "2", len(written.data), Digest.of(written.data), None, head)
    return MadeBundle(written.data, written.head_bytes, target)


def _holds(path: Path, offset: int, expected: bytes) -> bool:
    try:
        with path.open("rb") as file:
            return os.pread(file.fileno(), len(expected), offset) == expected
    except FileNotFoundError:
        return False
