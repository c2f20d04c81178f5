"""The fuzz target of what is read after a power cut: its seeds and what becomes of them are harmless; a short run finds nothing."""

import importlib.util
import random
import subprocess
import sys
from pathlib import Path

import pytest

from packager.vehicle.core.journal import JOURNAL_BYTES, Binding, Journal
from packager.vehicle.identity import Digest
from tests.faulty_storage import MemoryFile
from tests.fuzz.fuzz_resume import BINDING, TARGETS, sealed, take_input

ROOT = Path(__file__).parents[2]
SEEDS = sorted((ROOT / "tests/fuzz/corpus/resume").iterdir())
SECONDS = 10


@pytest.mark.parametrize("seed", SEEDS, ids=lambda seed: seed.name)
def test_seeds_and_what_becomes_of_them_are_harmless(seed: Path) -> None:
    chance = random.Random(seed.name)
    data = seed.read_bytes()
    take_input(data)
    for _ in range(60):
        changed = bytearray(data)
        for _ in range(chance.randint(1, 4)):
            changed[chance.randrange(1, len(changed))] = chance.choice((0, 1, 9, 10, 127, 128, 254, 255))
        take_input(bytes(changed[: chance.choice((len(changed), chance.randint(1, len(changed))))]))


def test_there_is_a_seed_for_each_kind_of_input() -> None:
    assert {seed.read_bytes()[0] for seed in SEEDS} == set(range(len(TARGETS)))


def test_a_position_that_no_image_has_is_damage() -> None:
    """Found by fuzzing: written as an intent, it would be read as none."""
    for position, is_kept in ((2**32 - 2, True), (2**32 - 1, False)):
        content = sealed((7).to_bytes(8, "little") + position.to_bytes(4, "little") + b"\xff\xff\xff\xff\x01")
        entry = Journal(MemoryFile(JOURNAL_BYTES, content=content), BINDING).entry
        assert entry.position == (position if is_kept else 0)
        assert (
            Journal(
                MemoryFile(JOURNAL_BYTES, content=content), Binding(Digest.of(b"x"), Digest.of(b"y"))
            ).entry.sequence
            == 0
        )


@pytest.mark.system
def test_a_short_run_finds_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if importlib.util.find_spec("atheris") is None:
        pytest.skip("no atheris here (make fuzz installs it)")
    for name in ("corpus", "findings"):
        (tmp_path / name).mkdir()
    command = [
        sys.executable,
        "-m",
        "tests.fuzz.fuzz_resume",
        f"-max_total_time={SECONDS}",
        "-max_len=2048",
        "-print_final_stats=1",
    ]
    command += [
        f"-artifact_prefix={tmp_path}/findings/",
        str(tmp_path / "corpus"),
        str(ROOT / "tests/fuzz/corpus/resume"),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    with capsys.disabled():
        print("\n" + "\n".join(line for line in done.stderr.splitlines() if line.startswith(("Done", "stat::number"))))
    assert done.returncode == 0, done.stderr
    assert not any((tmp_path / "findings").iterdir())
