"""Runs one maker on one pair in a child process with a time limit, and measures it: time, processor time, memory, size.

The child says two lines: one when the patch is made, one when it was applied and compared; so a limit that ends the check does not lose
the patch. Start-up of Python is not counted.
"""

import importlib
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from tests.perf.makers import PEERS, ours


def measure(side: str, name: str, old: Path, new: Path, limit_s: float) -> dict[str, object]:
    """Make and check one patch.

    Returns:
        `state` (done, timeout, failed), and what was measured: bytes, wall_s, cpu_s, peak_bytes, verified.
    """
    with tempfile.TemporaryDirectory(prefix="bench-delta-") as scratch:
        command = [sys.executable, "-m", "tests.perf.limited", side, name, str(old), str(new), scratch]
        environment = {**os.environ, "TMPDIR": scratch}
        with subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env=environment,
        ) as child:
            try:
                said, complaints = child.communicate(timeout=limit_s)
                late = False
            except subprocess.TimeoutExpired:
                os.killpg(child.pid, signal.SIGKILL)
                said, complaints = child.communicate()
                late = True
            except BaseException:
                os.killpg(child.pid, signal.SIGKILL)
                raise
    return _result(said, complaints, child.returncode, late=late, limit_s=limit_s)


def _result(said: str, complaints: str, code: int, *, late: bool, limit_s: float) -> dict[str, object]:
    result: dict[str, object] = {"state": "failed", "verified": False, "limit_s": limit_s}
    for line in said.splitlines():
        if line.startswith('{"'):
            result |= json.loads(line)
    if "bytes" in result and (late or (code == 0 and result["verified"])):
        return {**result, "state": "done"}
    if late:
        return {**result, "state": "timeout", "message": f"no patch after {limit_s:.0f} s"}
    ending = f"signal {-code}" if code < 0 else f"exit code {code}"
    last = (complaints.strip().splitlines() or ["no message"])[-1]
    return {**result, "state": "failed", "message": f"{ending}: {last[:300]}"}


def _child(side: str, name: str, old: Path, new: Path, scratch: Path) -> int:
    maker = ours(name) if side == "ours" else PEERS[name]
    patch, rebuilt = scratch / "patch", scratch / "rebuilt"
    for module in maker.modules:
        importlib.import_module(module)
    wall, cpu = time.perf_counter(), _cpu_s()
    details: Mapping[str, object] = maker.create(old, new, patch)
    made = {
        "bytes": patch.stat().st_size,
        "wall_s": round(time.perf_counter() - wall, 3),
        "cpu_s": round(_cpu_s() - cpu, 3),
        "peak_bytes": 1024 * max(resource.getrusage(who).ru_maxrss for who in _WHO),
        **details,
    }
    print(json.dumps(made), flush=True)
    wall = time.perf_counter()
    maker.apply(old, patch, rebuilt)
    apply_s = round(time.perf_counter() - wall, 3)
    if rebuilt.read_bytes() != new.read_bytes():
        print("the patch does not make the new image", file=sys.stderr)
        return 1
    print(json.dumps({"verified": True, "apply_s": apply_s}), flush=True)
    return 0


_WHO = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)


def _cpu_s() -> float:
    spent = os.times()
    return spent.user + spent.system + spent.children_user + spent.children_system


if __name__ == "__main__":
    sys.exit(_child(sys.argv[1], sys.argv[2], *map(Path, sys.argv[3:6])))
