"""The fuzz targets build, take their seeds, and find nothing in ten seconds each; `make fuzz` takes longer."""

import random
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.c.core import C_CODE, ROOT, SANITIZED, SOURCES, STRICT, compile_c, compiler

SECONDS = 10
TARGETS = ("adaptive", "core", "delta", "predict", "segments")


@pytest.mark.system
def test_a_short_run_finds_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    probe = tmp_path / "probe.c"
    probe.write_text(
        "int LLVMFuzzerTestOneInput(const unsigned char *d, unsigned long n) { (void)d; (void)n; return 0; }\n"
    )
    command = ["clang", "-fsanitize=fuzzer", probe, "-o", tmp_path / "probe"]
    if shutil.which("clang") is None or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("no clang with libFuzzer here (Debian: clang, libclang-rt-14-dev)")
    run = [ROOT / "tests/fuzz/run", str(SECONDS), tmp_path / "work", "300"]  # a busy machine may leave an input waiting
    done = subprocess.run(run, capture_output=True, text=True, check=False)
    with capsys.disabled():
        print(f"\n{done.stdout}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("cov:") == len(TARGETS)
    assert not any((tmp_path / "work").glob("*/findings/*"))


def test_the_seeds_are_small() -> None:
    seeds = [path for path in (ROOT / "tests/fuzz/corpus").rglob("*") if path.is_file()]
    assert len(seeds) >= 4
    assert sum(path.stat().st_size for path in seeds) < 16 * 1024


@pytest.mark.parametrize("target", TARGETS)
def test_seeds_and_what_becomes_of_them_are_harmless(target: str, tmp_path: Path) -> None:
    """A few hundred changed seeds under AddressSanitizer, where no libFuzzer is."""
    program = tmp_path / "replay"
    sources = (
        ROOT / "tests/c/replay.c",
        ROOT / f"tests/fuzz/fuzz_{target}.c",
        *SOURCES,
        C_CODE / "adaptive.c",
        *sorted(C_CODE.glob("predict*.c")),
        C_CODE / "segments.c",
    )
    compile_c(compiler("gcc", "clang"), *STRICT, *SANITIZED, f"-I{C_CODE}", *sources, "-o", program)
    chance = random.Random(1)
    files = sorted((ROOT / "tests/fuzz/corpus" / target).iterdir())
    for number in range(300):
        data = bytearray(files[number % len(files)].read_bytes())
        for _ in range(chance.randint(1, 4)):
            data[min(int(chance.expovariate(1 / 60)), len(data) - 1)] = chance.choice(
                (0, 1, 2, 5, 9, 64, 127, 128, 255)
            )
        changed = tmp_path / f"{number}"
        changed.write_bytes(data[: chance.choice((len(data), len(data), chance.randint(1, len(data))))])
        files.append(changed)
    done = subprocess.run([program, *files], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
