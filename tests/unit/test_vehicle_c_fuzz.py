"""The fuzz targets build, take their seeds, and find nothing in ten seconds each; `make fuzz` takes longer."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.c.core import ROOT

SECONDS = 10


@pytest.mark.system
def test_a_short_run_finds_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    probe = tmp_path / "probe.c"
    probe.write_text(
        "int LLVMFuzzerTestOneInput(const unsigned char *d, unsigned long n) { (void)d; (void)n; return 0; }\n"
    )
    command = ["clang", "-fsanitize=fuzzer", probe, "-o", tmp_path / "probe"]
    if shutil.which("clang") is None or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("no clang with libFuzzer here (Debian: clang, libclang-rt-14-dev)")
    run = [ROOT / "tests/fuzz/run", str(SECONDS), tmp_path / "work"]
    done = subprocess.run(run, capture_output=True, text=True, check=False)
    with capsys.disabled():
        print(f"\n{done.stdout}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("cov:") == 2
    assert not any((tmp_path / "work").glob("*/findings/*"))


def test_the_seeds_are_small() -> None:
    seeds = [path for path in (ROOT / "tests/fuzz/corpus").rglob("*") if path.is_file()]
    assert len(seeds) >= 4
    assert sum(path.stat().st_size for path in seeds) < 16 * 1024
