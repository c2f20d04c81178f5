"""A real process is killed in the middle of a download; the server then counts what the next one asks for: not a byte that is on disk."""

import os
import random
import re
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from packager.vehicle.core.head import Head, read_head
from packager.vehicle.core.index import BlockRecord
from packager.vehicle.profile import UpdateProfile
from tests.loopback import PATIENCE_S, LoopbackServer
from tests.repository_simulator import MadeBundle, RepositorySimulator, make_bundle

BLOCK_BYTES = 64 * 1024
BLOCKS = 160
SENT_BLOCKS = 64
"""What an answer carries at most before it is held back."""
STORED_BLOCKS = 20
"""What a process that is to be killed has on disk by then."""
PROFILE = UpdateProfile(block_bytes=BLOCK_BYTES)
RANGE = re.compile(r"bytes=(\d+)-(\d+)")
_CHILD = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from packager.vehicle.transport.fetch import HttpFetcher
from packager.vehicle.installation.home import open_home
from packager.vehicle.installation.install import update

home, url, workers = open_home(Path(sys.argv[1])), sys.argv[2], int(sys.argv[3])
with HttpFetcher(url + "/metadata") as metadata, HttpFetcher(url + "/targets") as targets:
    report = update(home, metadata, targets, datetime.now(UTC), workers=workers)
print(report.ecus[0].downloaded_bytes)
"""


@dataclass
class Traffic:
    """What was asked for and sent of bundles."""

    asked: list[tuple[int, int]] = field(default_factory=list)
    sent_bytes: int = 0
    clients: set[tuple[str, int]] = field(default_factory=set)


class Server(LoopbackServer):
    """Serves a directory over HTTP/1.1 with ranges, counts the traffic in bundles, and can hold back their ends."""

    def __init__(self, root: Path) -> None:
        super().__init__("HTTP/1.1")
        self.root = root
        self.traffic = Traffic()
        self.go_on = threading.Event()
        self.go_on.set()
        self.knows_ranges = True

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        path = self.root / request.path.lstrip("/")
        if not path.is_file():
            request.send_error(404)
            return
        data, asked = path.read_bytes(), RANGE.fullmatch(request.headers["Range"] or "")
        start, end = (int(asked[1]), int(asked[2]) + 1) if asked and self.knows_ranges else (0, len(data))
        request.send_response(206 if asked and self.knows_ranges else 200)
        request.send_header("Content-Length", str(end - start))
        if asked:
            request.send_header("Content-Range", f"bytes {start}-{end - 1}/{len(data)}")
        request.end_headers()
        is_bundle = request.path.endswith(".bundle")
        # An answer under way when its client is killed may go on for a moment: it stays in the traffic of that client's time.
        traffic = self.traffic
        if is_bundle:
            traffic.asked.append((start, end))
            traffic.clients.add(request.client_address)
        try:
            for at in range(start, end, BLOCK_BYTES):
                part = data[at : min(at + BLOCK_BYTES, end)]
                if is_bundle and at - start >= SENT_BLOCKS * BLOCK_BYTES:
                    self.go_on.wait(PATIENCE_S)
                traffic.sent_bytes += (
                    len(part) if is_bundle else 0
                )  # first: its client may have ended when the call returns
                request.wfile.write(part)
        except OSError:
            request.close_connection = True


class World:
    """A published full bundle of blocks that don't compress, and a car with nothing."""

    def __init__(self, root: Path) -> None:
        self.new = random.Random(5).randbytes(BLOCKS * BLOCK_BYTES)
        self.bundle: MadeBundle = make_bundle("bdc", "1", 1, None, self.new, profile=PROFILE)
        self.server_root = root / "server"
        repository = RepositorySimulator()
        expires = datetime.now(UTC).replace(microsecond=0) + timedelta(days=1)
        for role in (repository.root, repository.targets, repository.snapshot, repository.timestamp):
            role.expires = expires
        repository.publish_root()
        repository.delegate("body", ["bdc/*/*"]).expires = expires
        repository.add_image("body", "bdc", "1", 1, self.new)
        repository.add_bundle("body", self.bundle)
        repository.publish()
        repository.write(self.server_root)
        self.home = root / "home"
        (self.home / "metadata").mkdir(parents=True)
        (self.home / "metadata/root.json").write_bytes(repository.files["1.root.json"])
        (self.home / "vehicle.toml").write_text(
            'vin = "T"\nevidence = "optional"\n[[ecu]]\nname = "BDC"\nserial = "1"\nhardware_id = "bdc"\n'
            "[ecu.profile]\nram_kib = 8192\nflash_kib = 65536\nblock_kib = 64\n"
        )
        self.slot = self.home / "slots/BDC/b"

    @property
    def head(self) -> Head:
        return read_head(self.bundle.data[: self.bundle.head_bytes], self.bundle.target.head, PROFILE)

    def missing(self) -> list[BlockRecord]:
        content, head = self.slot.read_bytes() if self.slot.exists() else b"", self.head
        records = (head.index[position] for position in range(len(head.index)))
        places = {record: slice(*head.manifest.block_range(record.block)) for record in records}
        return [record for record, at in places.items() if content[at] != self.new[at]]

    def start(self, server: Server, workers: int) -> "subprocess.Popen[str]":
        command = [sys.executable, "-c", _CHILD, str(self.home), server.url, str(workers)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def kill_halfway(self, server: Server, workers: int) -> None:
        server.go_on.clear()
        with self.start(server, workers) as process:
            deadline = time.monotonic() + PATIENCE_S
            while any(record.block < STORED_BLOCKS for record in self.missing()):
                assert process.poll() is None, process.communicate()
                assert time.monotonic() < deadline
                time.sleep(0.01)
            process.kill()
        server.traffic = Traffic()
        server.go_on.set()

    def lose(self, *blocks: int) -> None:
        """Do to the slot what a power cut does that loses writes which were not synced."""
        with self.slot.open("r+b") as file:
            for block in blocks:
                file.seek(block * BLOCK_BYTES + 100)
                file.write(bytes(100))
                os.fsync(file.fileno())


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_after_a_cut_the_wire_carries_what_the_slot_lacks_and_no_more(tmp_path: Path, workers: int) -> None:
    world = World(tmp_path)
    with Server(world.server_root) as server:
        world.kill_halfway(server, workers)
        world.lose(3, 4, 9)
        missing = world.missing()
        lost = [record.block for record in missing]
        assert lost[:4] == [3, 4, 9, lost[3]]
        assert STORED_BLOCKS <= lost[3] <= SENT_BLOCKS, "it was killed halfway"
        process = world.start(server, workers)
        out, err = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == 0, err
        head_bytes = world.bundle.head_bytes
        assert server.traffic.sent_bytes == sum(record.blob_bytes for record in missing)
        assert int(out) == server.traffic.sent_bytes
        first = [world.head.index[block] for block in (3, 4, 9)]
        assert server.traffic.asked[:2] == [
            (head_bytes + first[0].blob_offset, head_bytes + first[1].blob_end),
            (head_bytes + first[2].blob_offset, head_bytes + first[2].blob_end),
        ]
        assert len(server.traffic.clients) == 1, "one connection for all parts"
    assert world.slot.read_bytes() == world.new


def test_a_server_without_ranges_is_asked_once_and_not_for_each_gap(tmp_path: Path) -> None:
    world = World(tmp_path)
    with Server(world.server_root) as server:
        server.knows_ranges = False
        world.kill_halfway(server, 2)
        world.lose(*range(0, 20, 2))
        process = world.start(server, 2)
        _, err = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == 0, err
        assert len(server.traffic.asked) == 2, "for the first gap, and once that gave more, for all others"
    assert world.slot.read_bytes() == world.new
