"""`packager diff`, `apply` and `inspect` on loose files, as a newcomer runs them."""

import hashlib
import json
import random
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from packager.bundle.loose import ANY_PROFILE, LooseBundle
from packager.cli import packager
from packager.cli.failure import run
from packager.diff import matcher
from packager.vehicle.profile import Coder
from sample_images.modules import KnownEdit
from sample_images.synthesiser import FirmwareSpec, synthesise_bytes, with_edit
from tests import needs

OLD = random.Random(3).randbytes(30_000)
NEW = OLD[:700] + b"a few new bytes" + OLD[700:]


@pytest.fixture
def cli(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Runs a command in a directory with `old` and `new`; returns code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    Path("old").write_bytes(OLD)
    Path("new").write_bytes(NEW)

    def call(*arguments: str) -> tuple[int, str, str]:
        code = run(packager, arguments, "packager")
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


def test_diff_does_not_wait_for_what_signs(tmp_path: Path) -> None:
    """To import it takes longer than to make a small bundle."""
    (tmp_path / "old").write_bytes(OLD)
    (tmp_path / "new").write_bytes(NEW)
    program = (
        "import sys; from packager.cli import packager\n"
        "packager(['diff', 'old', 'new', '-o', 'bundle'], standalone_mode=False)\n"
        "assert not {'tuf', 'in_toto', 'securesystemslib', 'cryptography', 'pkcs11'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=tmp_path)
    assert (tmp_path / "bundle").stat().st_size < 1000


def test_diff_and_apply(cli: Callable[..., Any]) -> None:
    code, out, _ = cli("diff", "old", "new", "-o", "b")
    assert code == 0
    assert "checked by applying it" in out
    assert Path("b").stat().st_size < 400
    code, out, err = cli("apply", "b", "--old", "old", "-o", "made")
    assert code == 0
    assert Path("made").read_bytes() == NEW
    assert "not authenticated" in err


def test_a_time_budget_lowers_the_effort_and_says_so(cli: Callable[..., Any]) -> None:
    code, _, err = cli("diff", "old", "new", "-o", "hurried", "--time-budget", "0.1")
    assert code == 0
    assert "effort 1 instead of 5, expected to take 0.1 s; the budget is 0.1 s" in err
    cli("diff", "old", "new", "-o", "first", "--effort", "1")
    assert Path("hurried").read_bytes() == Path("first").read_bytes()
    code, out, err = cli("diff", "old", "new", "-o", "b", "--time-budget", "9", "--json")
    assert (json.loads(out)["effort"], err) == (5, "")


@pytest.mark.parametrize(
    ("is_compiled", "engine", "is_said"),
    [(False, "match", True), pytest.param(True, "match", False, marks=needs.MATCHER), (False, "bsdiff", False)],
)
def test_a_missing_matcher_is_named(
    cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, *, is_compiled: bool, engine: str, is_said: bool
) -> None:
    monkeypatch.setattr(matcher, "is_compiled", lambda: is_compiled)
    monkeypatch.setattr(matcher, "PROBLEM", "")
    code, _, err = cli("diff", "old", "new", "-o", "b", "--engine", engine)
    assert code == 0
    assert ("no compiled matcher: bsdiff aligns and nothing is predicted" in err) is is_said


def test_json_says_that_nobody_vouches(cli: Callable[..., Any]) -> None:
    cli("diff", "old", "new", "-o", "b")
    code, out, err = cli("apply", "b", "--old", "old", "-o", "made", "--json")
    summary = json.loads(out.splitlines()[-1])
    assert (code, err) == (0, "")
    assert summary["message_type"] == "summary"
    assert summary["authenticated"] is False
    assert summary["length_bytes"] == len(NEW)


SMALL = "[profile]\nram_kib = 256\nflash_kib = 2048\ncoders = []\nblock_kib = 4\npredictors = false\n"


def test_a_bundle_for_another_profile(cli: Callable[..., Any]) -> None:
    Path("ecu.toml").write_text(SMALL)
    assert cli("diff", "old", "new", "-o", "b", "--profile", "ecu.toml")[0] == 0
    head = LooseBundle.open(Path("b"), ANY_PROFILE).head
    manifest = head.manifest
    assert (manifest.block_bytes, manifest.coders, head.predictors) == (4096, {Coder.RAW}, None)
    assert manifest.memory_bytes <= 256 * 1024
    assert cli("apply", "b", "--old", "old", "-o", "made")[0] == 0
    assert Path("made").read_bytes() == NEW
    in_place = SMALL + "spare_slot = false\nscratch_kib = 16\n"
    Path("ecu.toml").write_text(in_place)
    assert cli("diff", "old", "new", "-o", "b", "--profile", "ecu.toml")[0] == 0
    assert LooseBundle.open(Path("b"), ANY_PROFILE).head.manifest.in_place
    assert "slot:            the old one, with 4.0 KiB of scratch" in cli("inspect", "b")[1]
    assert cli("apply", "b", "--old", "old", "-o", "made")[0] == 0


@pytest.mark.parametrize(
    ("content", "code", "said"),
    [
        (SMALL.replace("= 4\n", "= 5\n"), 2, "block size: found 5120 bytes, expected a power of two"),
        (SMALL.replace("ram_kib = 256\n", "") + "speed = 1\n", 2, "ram_kib is missing; .* speed is unknown"),
        ("ram_kib = 256\n", 2, r"profile is missing; expected a table \[profile\]"),
        ("[profile", 2, "expected TOML"),
        (
            SMALL.replace("ram_kib = 256", "ram_kib = 16").replace("block_kib = 4", "block_kib = 16"),
            20,
            "its profile has 16384",
        ),
        (SMALL.replace("flash_kib = 2048", "flash_kib = 16"), 61, "a slot holds 16384"),
    ],
)
def test_a_profile_that_is_wrong_or_too_small(cli: Callable[..., Any], content: str, code: int, said: str) -> None:
    Path("ecu.toml").write_text(content)
    found, _, err = cli("diff", "old", "new", "-o", "b", "--profile", "ecu.toml")
    assert (found, Path("b").exists()) == (code, False)
    assert re.search(said, " ".join(err.split())), err


def test_the_wrong_old_image(cli: Callable[..., Any]) -> None:
    cli("diff", "old", "new", "-o", "b")
    Path("old").write_bytes(OLD[:-1] + b"!")
    before = sorted(path.name for path in Path.cwd().iterdir())
    code, _, err = cli("apply", "b", "--old", "old", "-o", "made")
    assert code == 61
    assert "the old image is another one or damaged" in err
    assert sorted(path.name for path in Path.cwd().iterdir()) == before


def test_every_flipped_byte_is_found_and_leaves_nothing(cli: Callable[..., Any]) -> None:
    cli("diff", "old", "new", "-o", "b")
    data = Path("b").read_bytes()
    for position in range(len(data)):
        damaged = bytearray(data)
        damaged[position] ^= 1
        Path("damaged").write_bytes(damaged)
        code, _, err = cli("apply", "damaged", "--old", "old", "-o", "made")
        assert code in (60, 61), (position, err)
        assert not Path("made").exists()


@pytest.mark.parametrize("keep", [0, 1, 20, 100, -1])
def test_a_truncated_bundle(cli: Callable[..., Any], keep: int) -> None:
    cli("diff", "old", "new", "-o", "b")
    Path("b").write_bytes(Path("b").read_bytes()[:keep])
    code, _, _ = cli("apply", "b", "--old", "old", "-o", "made")
    assert code == 60
    assert not Path("made").exists()


def test_apply_asks_for_the_old_image_and_for_both_of_repo_and_root(cli: Callable[..., Any]) -> None:
    cli("diff", "old", "new", "-o", "b")
    code, _, err = cli("apply", "b", "-o", "made")
    assert (code, "give it with --old" in err) == (2, True)
    code, _, err = cli("apply", "b", "--old", "old", "-o", "made", "--repo", ".")
    assert (code, "expected both or neither" in err) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("diff", "none", "new", "-o", "b"), 10, "none: can't be read: No such file"),
        (("diff", "empty", "new", "-o", "b"), 10, "empty: is empty"),
        (("diff", "old", "empty", "-o", "b"), 10, "empty: is empty"),
        (("diff", "old", "new"), 2, "Missing option '-o'"),
        (("frobnicate",), 2, "No such command"),
        (("apply", "new", "--old", "old", "-o", "made"), 60, "this is not a bundle"),
        (("apply", "none", "--old", "old", "-o", "made"), 62, "can't be opened"),
        (("inspect", "new"), 60, "error: new: preamble: "),
    ],
)
def test_bad_input(cli: Callable[..., Any], arguments: tuple[str, ...], code: int, message: str) -> None:
    Path("empty").touch()
    found, out, err = cli(*arguments)
    assert found == code
    assert message in err
    assert "Traceback" not in err
    assert out == ""
    found, out, _ = cli(*arguments, "--json")
    assert json.loads(out.splitlines()[-1])["code"] == code


def test_inspect(cli: Callable[..., Any]) -> None:
    cli("diff", "old", "new", "-o", "b")
    code, out, _ = cli("inspect", "b", "--blocks")
    assert code == 0
    for wanted in ("kind:            delta", f"{len(NEW)} bytes", "delta", "total"):
        assert wanted in out
    code, out, _ = cli("inspect", "b", "--json")
    lines = [json.loads(line) for line in out.splitlines()]
    assert [line["message_type"] for line in lines] == ["bundle", "block", "summary"]
    assert lines[-1]["bundle_bytes"] == Path("b").stat().st_size
    assert lines[0]["new"] == {"length": len(NEW), "sha256": hashlib.sha256(NEW).hexdigest()}
    head = Path("b").read_bytes()[: lines[0]["head"]["length"]]
    assert lines[0]["head"]["sha256"] == hashlib.sha256(head).hexdigest()
    assert lines[0]["hardware_ids"] == []


def test_inspect_shows_columns_modes_and_hits(cli: Callable[..., Any]) -> None:
    old = FirmwareSpec("thumb2", 64 << 10, 3)
    Path("old").write_bytes(synthesise_bytes(old))
    Path("new").write_bytes(synthesise_bytes(with_edit(old, KnownEdit.INSERT_INSTRUCTION)))
    cli("diff", "old", "new", "-o", "b")
    code, out, _ = cli("inspect", "b", "--blocks", "--old", "old")
    assert code == 0
    for wanted in ("literals", "gaps", "values", "decoded", "thumb2", "calls", "0x8000000", "corrections of"):
        assert wanted in out
    code, out, _ = cli("inspect", "b", "--json")
    lines = [json.loads(line) for line in out.splitlines()]
    assert [line["message_type"] for line in lines] == ["bundle", "mode", "block", "summary"]
    mode, block, summary = lines[1:]
    assert mode["pages"] == 16
    assert "predicted_bytes" not in mode
    assert [column["column"] for column in block["columns"]] == ["literals", "gaps", "values"]
    columns = sum(column["coded_bytes"] for column in block["columns"])
    assert summary["head_bytes"] + 1 + columns == summary["bundle_bytes"] == Path("b").stat().st_size
    code, out, _ = cli("inspect", "b", "--json", "--old", "old")
    mode = json.loads(out.splitlines()[1])
    assert mode["predicted_bytes"] > 4 * mode["missed_bytes"]


@pytest.mark.parametrize(("old", "code", "message"), [("new", 61, "b: block 0: its "), ("none", 62, "none")])
def test_inspect_with_the_wrong_old_image(cli: Callable[..., Any], old: str, code: int, message: str) -> None:
    spec = FirmwareSpec("aarch64", 32 << 10, 3)
    Path("old").write_bytes(synthesise_bytes(spec))
    Path("new").write_bytes(synthesise_bytes(with_edit(spec, KnownEdit.INSERT_FUNCTION)))
    cli("diff", "old", "new", "-o", "b")
    found, _, err = cli("inspect", "b", "--old", old)
    assert found == code
    assert message in err


def test_inspect_of_a_damaged_bundle(cli: Callable[..., Any]) -> None:
    cli("diff", "old", "new", "-o", "b")
    data = bytearray(Path("b").read_bytes())
    data[-1] ^= 1
    Path("b").write_bytes(data)
    code, out, err = cli("inspect", "b")
    assert code == 60
    assert "cut short or damaged" in err
    assert out == ""
