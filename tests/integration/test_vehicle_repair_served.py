"""Real processes and a server that counts: what repair fetches on the wire, and two updaters on one home."""

import json
import re
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from tests.loopback import PATIENCE_S, LoopbackServer
from tests.repository_simulator import BLOCK_BYTES, RepositorySimulator, make_bundle
from tests.vehicle_car import IN_PLACE, SPARE, Car, damage, edited, image

BLOCKS = 10
OLD = image(1, BLOCKS * BLOCK_BYTES)
NEW = edited(OLD)
RANGE = re.compile(r"bytes=(\d+)-(\d*)")


class CountingServer(LoopbackServer):
    """Serves files with ranges, and remembers for each request the path, the range asked for and the bytes sent."""

    def __init__(self, root: Path) -> None:
        super().__init__()
        self.root = root
        self.sent: list[tuple[str, str | None, int]] = []
        self.go_on = threading.Event()
        self.go_on.set()
        self.waiting = threading.Event()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        path = self.root / request.path.lstrip("/")
        if not path.is_file():
            request.send_error(404)
            return
        data, asked = path.read_bytes(), request.headers["Range"]
        start, end = 0, len(data)
        if asked:
            match = RANGE.fullmatch(asked)
            assert match is not None
            start, end = int(match[1]), int(match[2] or len(data) - 1) + 1
        self.sent.append((request.path, asked, end - start))
        if request.path.endswith(".bundle"):
            self.waiting.set()
            self.go_on.wait(PATIENCE_S)
        request.send_response(206 if asked else 200)
        request.send_header("Content-Length", str(end - start))
        if asked:
            request.send_header("Content-Range", f"bytes {start}-{end - 1}/{len(data)}")
        request.end_headers()
        request.wfile.write(data[start:end])


class World:
    """A published release, a car, and the program as a process."""

    def __init__(self, root: Path, has_spare: bool) -> None:
        self.server_root = root / "server"
        profile = SPARE if has_spare else IN_PLACE
        self.repository = repository = RepositorySimulator()
        expires = datetime.now(UTC).replace(microsecond=0) + timedelta(days=1)
        for role in (repository.root, repository.targets, repository.snapshot, repository.timestamp):
            role.expires = expires
        repository.publish_root()
        repository.delegate("body", ["bdc/*/*"]).expires = expires
        repository.release("body", "bdc", "2", 2, NEW, OLD, profile=profile, max_repair_bytes=5 * BLOCK_BYTES)
        repository.publish()
        repository.write(self.server_root)
        self.delta = make_bundle("bdc", "2", 2, OLD, NEW, profile=profile).target
        self.full = make_bundle("bdc", "2", 2, None, NEW, profile=profile).target
        self.car = Car(root / "home", repository, {"BDC": ("bdc", has_spare)})

    def start(self, server: CountingServer, *arguments: str) -> "subprocess.Popen[str]":
        command = [sys.executable, "-m", "packager.vehicle.cli", *arguments, "--json"]
        command += ["--home", str(self.car.home.root), "--repo-url", server.url]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process: "subprocess.Popen[str]") -> tuple[int, list[dict[str, Any]]]:
    out, err = process.communicate(timeout=PATIENCE_S)
    assert not err, err
    return process.returncode, [json.loads(line) for line in out.splitlines()]


@pytest.mark.parametrize("has_spare", [True, False], ids=["spare slot", "in place"])
def test_the_wire_carries_the_damaged_blocks_and_no_more(tmp_path: Path, has_spare: bool) -> None:
    world = World(tmp_path, has_spare)
    world.car.put("BDC", damage(OLD, 2, 7))
    with CountingServer(world.server_root) as server:
        code, (ecu, summary) = finish(world.start(server, "status", "--check"))
        assert code == 0
        assert (ecu["bundle"], ecu["repair_blocks"], ecu["problem"]) == ("delta", 2, "")
        predicted = ecu["download_bytes"]
        assert summary["download_bytes"] == predicted
        assert summary["seconds_at_1_mbit_per_s"] == round(predicted * 8 / 1e6, 1)
        assert summary["enough_space"]
        assert world.car.slot("BDC") == damage(OLD, 2, 7)
        server.sent.clear()
        code, messages = finish(world.start(server, "update"))
    assert code == 0
    assert messages[0]["repaired_blocks"] == 2
    assert world.car.active("BDC") == NEW
    head_bytes = world.full.head.length_bytes
    starts = [head_bytes + block * BLOCK_BYTES for block in (2, 7)]
    of_full = [(asked, sent) for path, asked, sent in server.sent if path == f"/targets/{world.full.path}"]
    blobs = [(f"bytes={start}-{start + BLOCK_BYTES - 1}", BLOCK_BYTES) for start in starts]
    head = (f"bytes=0-{head_bytes - 1}", head_bytes)
    assert sorted(of_full) == sorted([head, *blobs])
    sent_bytes = sum(sent for path, _, sent in server.sent if path.startswith("/targets/"))
    assert sent_bytes == messages[0]["downloaded_bytes"] == predicted
    assert ecu["survey_bytes"] == head_bytes + world.delta.head.length_bytes


@pytest.mark.parametrize("has_spare", [True, False], ids=["spare slot", "in place"])
def test_two_updaters_at_once_are_one_update_and_one_refusal(tmp_path: Path, has_spare: bool) -> None:
    world = World(tmp_path, has_spare)
    world.car.put("BDC", OLD)
    with CountingServer(world.server_root) as server:
        server.go_on.clear()
        first = world.start(server, "update")
        assert server.waiting.wait(PATIENCE_S)
        others = [world.start(server, *command) for command in (["update"], ["status", "--check"], ["refresh"])]
        for other in others:  # all at once: the first gives up on a server that is silent for minutes
            code, messages = finish(other)
            assert code == 75
            assert "another updater" in messages[-1]["message"]
        server.go_on.set()
        code, messages = finish(first)
        assert (code, messages[-1]["updated"]) == (0, 1)
        assert world.car.active("BDC") == NEW
        code, messages = finish(world.start(server, "update"))
        assert (code, messages[-1]["updated"]) == (0, 0)


def test_a_half_overwritten_ecu_is_told_and_the_next_update_ends_it(tmp_path: Path) -> None:
    world = World(tmp_path, has_spare=False)
    world.car.put("BDC", OLD)
    bundle = world.server_root / "targets" / world.delta.path
    data = bundle.read_bytes()
    half = world.delta.head.length_bytes + (len(data) - world.delta.head.length_bytes) // 2
    bundle.write_bytes(data[:half])
    with CountingServer(world.server_root) as server:
        code, messages = finish(world.start(server, "update"))
        assert code == 75, messages
        code, messages = finish(world.start(server, "status"))
        assert messages[0]["startable"] is False
        bundle.write_bytes(data)
        server.sent.clear()
        code, messages = finish(world.start(server, "update"))
    assert code == 0
    assert world.car.slot("BDC") == NEW
    assert messages[0]["note"] == "went on with what was begun"
