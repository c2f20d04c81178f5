"""A real process that is killed in the middle of an update, again and again, and goes on from where it was."""

import subprocess
import sys
from pathlib import Path

from packager.vehicle.core.journal import JOURNAL_BYTES, MAX_FAILURES, Journal
from packager.vehicle.storage import FileOnDisk
from tests.fault.test_vehicle_power import BINDING
from tests.sample_bundles import delta_mixed

_CHILD = """
import sys
from pathlib import Path
from packager.vehicle.core.applier import Applier
from packager.vehicle.core.head import SignedHead, read_head
from packager.vehicle.identity import Digest
from packager.vehicle.core.journal import JOURNAL_BYTES, Binding, Journal
from packager.vehicle.profile import Coder, UpdateProfile
from packager.vehicle.storage import FileOnDisk

home, length, digest = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
data = (home / "bundle").read_bytes()
head = read_head(data[:length], SignedHead(length, Digest.from_hex(digest)), UpdateProfile(coders=frozenset(Coder)))
binding = Binding(Digest.of(b"bundle"), Digest.of(b"ecu"))

def wait(progress):
    print(progress.blocks_done, flush=True)
    sys.stdin.readline()

with (
    FileOnDisk.open(home / "old") as old,
    FileOnDisk.open(home / "slot", head.manifest.new.length_bytes) as slot,
    FileOnDisk.open(home / "journal", JOURNAL_BYTES) as journal,
    Applier(head, old, slot, journal=Journal(journal, binding), sync_bytes=8192, on_progress=wait) as applier,
):
    print(applier.progress.blocks_done, flush=True)
    sys.stdin.readline()
    applier.feed(data[applier.next_offset :])
    applier.finish()
    print("done", flush=True)
"""


def start(home: Path, length: int, digest: str) -> "subprocess.Popen[str]":
    arguments = [sys.executable, "-c", _CHILD, str(home), str(length), digest]
    return subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_killed_after_every_block(tmp_path: Path) -> None:
    sample = delta_mixed()
    assert sample.old is not None
    (tmp_path / "bundle").write_bytes(sample.data)
    (tmp_path / "old").write_bytes(sample.old)
    signed = sample.signed
    blocks = len(sample.head.index)
    for run in range(blocks):
        with start(tmp_path, signed.length_bytes, signed.digest.hex) as child:
            assert child.stdin is not None
            assert child.stdout is not None
            assert int(child.stdout.readline()) == run, "what was done is not done again"
            child.stdin.write("\n")
            child.stdin.flush()
            assert int(child.stdout.readline()) == run + 1
            child.kill()
        assert child.returncode == -9
    with start(tmp_path, signed.length_bytes, signed.digest.hex) as child:
        output, _ = child.communicate("\n" * (blocks + 2))
    assert output.split() == [str(blocks), "done"]
    assert (tmp_path / "slot").read_bytes() == sample.new
    with FileOnDisk.open(tmp_path / "journal", JOURNAL_BYTES) as file:
        entry = Journal(file, BINDING).entry
    assert entry.position == blocks
    assert entry.failures < MAX_FAILURES
