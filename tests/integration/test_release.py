"""A small release as its users make it: built, verified, installed by the real commands; and what bad input does to them."""

import base64
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from packager.cli import packager
from packager.cli.failure import run
from packager.vehicle.identity import ImageId
from sample_images.catalogue import CATALOGUE, read_catalogue
from sample_images.obtaining import obtain
from sample_images.registry import Registry
from tests.loopback import PATIENCE_S

pytestmark = pytest.mark.usefixtures("clock_stands_still")
PROJECT = Path(__file__).parents[2]
ISSUED_AT = "--issued-at=2026-11-20"
EXPIRED = "--issued-at=2020-07-01"
_HELD_BUILD = """
import sys, time
from packager.cli import main
from packager.pipeline import build

def hold(executor, work, items, *_):
    for item in items:
        executor.submit(work, item)
    print("held", file=sys.stderr, flush=True)
    while True:
        time.sleep(0.1)

build.run = hold
main()
"""


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with keys and the images of the small release, which are generated."""
    directory = tmp_path_factory.mktemp("workshop")
    (directory / "keys").mkdir()
    shutil.copy(PROJECT / "keys" / "policy.toml", directory / "keys")
    assert (
        run(packager, ["keys", "create", "--keys", str(directory / "keys"), "--issued-at=2026-11-01"], "packager") == 0
    )
    wanted = [image for image in read_catalogue(CATALOGUE) if image.kind.startswith("small-")]
    obtain(wanted, directory / "images", Registry(directory / "cache", None), lambda _: None)
    shutil.copy(PROJECT / "sample_images" / "small.toml", directory)
    return directory


@pytest.fixture(scope="module")
def release(workshop: Path) -> Path:
    """The small release, built once."""
    assert build(workshop, "release") == 0
    return workshop / "release"


@pytest.fixture
def damaged(release: Path, tmp_path: Path) -> Path:
    """A copy of the release to be damaged."""
    return shutil.copytree(release, tmp_path / "release")


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Runs a command; returns code, stdout and stderr."""

    def call(*arguments: object) -> tuple[int, str, str]:
        code = run(packager, [str(argument) for argument in arguments], "packager")
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


def build(workshop: Path, out: str, *options: str, issued_at: str = ISSUED_AT) -> int:
    keys = str(workshop / "keys")
    arguments = [
        "build",
        str(workshop / "small.toml"),
        "--out",
        str(workshop / out),
        "--keys",
        keys,
        "--jobs=1",
        issued_at,
    ]
    return run(packager, [*arguments, *options], "packager")


def verify_arguments(workshop: Path, directory: Path) -> list[object]:
    return ["verify", directory, "--root", workshop / "keys/public/root.json", "--images", workshop / "images"]


def files(directory: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(directory)): path.read_bytes() for path in sorted(directory.rglob("*")) if path.is_file()
    }


def test_a_release_is_complete_and_verified(workshop: Path, release: Path, cli: Callable[..., Any]) -> None:
    names = set(files(release))
    assert {"report.json", "measurements.json", "repo/metadata/timestamp.json", "repo/metadata/1.root.json"} <= names
    assert sum(name.endswith(".bundle") for name in names) == 9
    assert sorted(name.split("/")[2].split(".")[0] for name in names if name.startswith("chain/07-2020.45/")) == [
        "bundle", "collect", "diff", "publish", "root", "sbom", "self-check",
    ]  # fmt: skip
    assert sorted(name for name in names if name.startswith("repo/targets/summary/")) == [
        f"repo/targets/summary/{domain}.07-2020.45.json" for domain in ("body", "chassis-safety", "powertrain")
    ]
    assert {name for name in names if name.startswith("evidence/")} == {
        f"evidence/07-2020.45/{name.removeprefix('repo/targets/')}.provenance.json"
        for name in names
        if name.endswith(".bundle")
    }
    code, out, err = cli(*verify_arguments(workshop, release))
    assert (code, err) == (0, "")
    assert "is verified: 3 images, 9 bundles applied, 5 steps" in out
    code, out, _ = cli(*verify_arguments(workshop, release), "--json")
    assert json.loads(out.splitlines()[-1])["verified"] is True


def test_the_report_holds_what_follows_from_the_inputs(release: Path) -> None:
    report = json.loads((release / "report.json").read_text())
    for row in report["bundles"]:
        bundle = (release / "repo/targets" / row["path"]).read_bytes()
        identity = ImageId.of(bundle)
        assert (row["bundle_bytes"], row["bundle_sha256"]) == (identity.length_bytes, identity.digest.hex)
        assert row["download_seconds"]["1_mbit_per_s"] == pytest.approx(len(bundle) * 8 / 1e6, abs=1e-3)
    full = sum(row["bundle_bytes"] for row in report["bundles"] if row["old_version"] is None)
    assert report["cars"]["none"]["bundle_bytes"] == full
    assert report["cars"]["none"]["fleet_bytes"] == full * 900_000
    measured = json.loads((release / "measurements.json").read_text())["bundles"]
    assert measured.keys() == {row["path"] for row in report["bundles"]}


def test_same_inputs_same_bytes(workshop: Path, release: Path, tmp_path: Path) -> None:
    """Another directory, another hash seed, another number of processes."""
    copy = shutil.copytree(workshop, tmp_path / "elsewhere", ignore=shutil.ignore_patterns("release*", "cache"))
    command = [sys.executable, "-c", "from packager.cli import main; main()"]
    command += ["build", "small.toml", "--out", "out", "--jobs=2", ISSUED_AT]
    environment = {**os.environ, "PYTHONHASHSEED": "4711", "PYTHONPATH": str(PROJECT)}
    subprocess.run(command, cwd=copy, env=environment, check=True, capture_output=True)
    first, second = files(release), files(copy / "out")
    del first["measurements.json"], second["measurements.json"]
    assert first == second


def test_the_time_of_issue_counts_from_the_epoch_variable(
    workshop: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1795132800")
    keys = str(workshop / "keys")
    arguments = [
        "build",
        str(workshop / "small.toml"),
        "--out",
        str(workshop / "release-epoch"),
        "--keys",
        keys,
        "--jobs=1",
    ]
    assert run(packager, arguments, "packager") == 0
    assert json.loads((workshop / "release-epoch/report.json").read_text())["issued_at"] == "2026-11-20T00:00:00+00:00"
    assert "expired" not in capsys.readouterr().err
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1794268800")  # two weeks before the clock, as long as a timestamp lives
    arguments[3] = str(workshop / "release-old-epoch")
    assert run(packager, arguments, "packager") == 0
    assert "issued 2026-11-10, so its timestamp has expired" in capsys.readouterr().err
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "yesterday")
    assert run(packager, [*arguments[:3], str(workshop / "release-no"), *arguments[4:]], "packager") == 2


def test_a_missing_old_image_means_not_verified(
    workshop: Path, release: Path, tmp_path: Path, cli: Callable[..., Any]
) -> None:
    images = shutil.copytree(workshop / "images", tmp_path / "images")
    (images / "small-engine/1.0.0.bin").unlink()
    code, _, err = cli(*verify_arguments(workshop, release)[:-1], images)
    assert code == 60
    assert "1 of 9 bundles are not verified" in err
    assert "dme-small/1.2.0/" in err
    code, _, err = cli(*verify_arguments(workshop, release)[:-2])
    assert (code, "6 of 9 bundles are not verified" in err) == (60, True)


def test_one_flipped_byte_in_any_file_is_found(workshop: Path, damaged: Path, cli: Callable[..., Any]) -> None:
    names = [name for name in files(damaged) if name.startswith(("repo/", "chain/", "evidence/"))]
    assert len(names) > 20
    for name in names:
        path = damaged / name
        good = path.read_bytes()
        for position in (0, len(good) // 2, len(good) - 1):
            path.write_bytes(good[:position] + bytes([good[position] ^ 1]) + good[position + 1 :])
            code, _, err = cli(*verify_arguments(workshop, damaged))
            expected = {50, 60, 61}
            assert code in expected, (name, position, err)
        path.write_bytes(good)


@pytest.mark.parametrize(
    "name",
    [
        "chain/07-2020.45/root.layout",
        "chain/07-2020.45/sbom.cdx.json",
        "evidence/07-2020.45/zgw-small/1.2.0/full.bundle.provenance.json",
        "repo/metadata/1.snapshot.json",
        "repo/targets/summary/powertrain.07-2020.45.json",
        "repo/targets/zgw-small/1.2.0/full.bundle",
    ],
)
def test_a_missing_file_is_found(workshop: Path, damaged: Path, cli: Callable[..., Any], name: str) -> None:
    (damaged / name).unlink()
    code, _, err = cli(*verify_arguments(workshop, damaged))
    assert code in (50, 60, 62)
    assert name.rsplit("/", 1)[1].lstrip("1.") in err


def test_the_chain_of_another_release_is_found(workshop: Path, damaged: Path, cli: Callable[..., Any]) -> None:
    assert build(workshop, "release-other", issued_at="--issued-at=2026-11-21") == 0
    shutil.rmtree(damaged / "chain")
    shutil.copytree(workshop / "release-other" / "chain", damaged / "chain")
    code, _, err = cli(*verify_arguments(workshop, damaged))
    assert (code, "root.layout" in err) == (50, True)


def test_another_root_is_not_trusted(workshop: Path, release: Path, tmp_path: Path, cli: Callable[..., Any]) -> None:
    shutil.copy(workshop / "keys" / "policy.toml", tmp_path)
    cli("keys", "create", "--keys", tmp_path)
    code, _, err = cli("verify", release, "--root", tmp_path / "public/root.json")
    assert (code, "1.root.json: found another root of version 1 than the trusted one" in err) == (60, True)


def test_expired_metadata_is_refused(workshop: Path, cli: Callable[..., Any]) -> None:
    assert build(workshop, "release-old", issued_at=EXPIRED) == 0
    code, _, err = cli(*verify_arguments(workshop, workshop / "release-old"))
    assert (code, "expired at 2020-" in err) == (60, True)


def test_apply_with_a_repository_that_vouches(
    workshop: Path, release: Path, tmp_path: Path, cli: Callable[..., Any]
) -> None:
    old = workshop / "images/small-engine/1.1.0.bin"
    bundle = release / f"repo/targets/dme-small/1.2.0/{ImageId.of(old.read_bytes()).digest.hex}.bundle"
    trusted = ["--repo", release / "repo", "--root", workshop / "keys/public/root.json"]
    code, out, err = cli("apply", bundle, "--old", old, "-o", tmp_path / "new", *trusted, "--json")
    assert (code, err, json.loads(out)["authenticated"]) == (0, "", True)
    assert (tmp_path / "new").read_bytes() == (workshop / "images/small-engine/1.2.0.bin").read_bytes()
    cli("diff", old, workshop / "images/small-engine/1.0.0.bin", "-o", tmp_path / "unsigned")
    code, _, err = cli("apply", tmp_path / "unsigned", "--old", old, "-o", tmp_path / "other", *trusted)
    assert (code, "in no target" in err, (tmp_path / "other").exists()) == (60, True, False)


def test_dry_run_writes_nothing(workshop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(workshop.iterdir())
    assert build(workshop, "dry", "--dry-run", "--json") == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["message_type"] for line in lines] == ["job"] * 9 + ["summary"]
    assert sorted(workshop.iterdir()) == before


def test_a_time_budget_lowers_the_effort_of_long_images(workshop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Planned, used, and recorded in the provenance; the length of an image decides."""
    assert build(workshop, "hurried", "--time-budget=0.15", "--dry-run", "--json") == 0
    planned = {job["path"]: job["effort"] for job in map(json.loads, capsys.readouterr().out.splitlines()[:-1])}
    assert {path.split("/")[0]: effort for path, effort in planned.items()} == {
        "dme-small": 1,
        "zgw-small": 2,
        "acsm-small": 5,
    }
    assert build(workshop, "hurried", "--time-budget=0.15") == 0
    for path, effort in planned.items():
        (file,) = (workshop / "hurried" / "evidence").glob(f"*/{path}.*")
        statement = json.loads(base64.b64decode(json.loads(file.read_text())["payload"]))
        assert statement["predicate"]["buildDefinition"]["externalParameters"]["effort"] == effort


@pytest.mark.parametrize(
    ("old", "new", "code", "message"),
    [
        ('version = "1.2.0"\n', 'version = "1.2.0"\ncolour = "red"\n', 2, "colour is unknown"),
        ('version = "1.1.0"', 'version = "1.0.0"', 2, "version 1.0.0 is listed 2 times"),
        ("images/small-engine/1.1.0.bin", "images/none.bin", 10, "can't be read: No such file"),
        ("images/small-engine/1.1.0.bin", "small.toml.empty", 10, "is empty"),
        ("flash_kib = 128", "flash_kib = 127", 10, "but the flash holds 130048"),
        ("flash_kib = 128", "flash_kib = 128", 0, ""),
        ("flash_kib_per_s = 300", "flash_kib_per_s = 1", 20, "s to install, its share is"),
        ("ram_kib = 512", "ram_kib = 16\nblock_kib = 64", 20, "of memory on the ECU, its profile has 16384"),
        ('domain = "powertrain"', 'domain = "kitchen"', 40, "kitchen"),
    ],
)
def test_bad_input_is_named_and_leaves_nothing(
    workshop: Path, tmp_path: Path, cli: Callable[..., Any], old: str, new: str, code: int, message: str
) -> None:
    text = (workshop / "small.toml").read_text()
    assert old in text
    (workshop / "small.toml.empty").touch()
    release_file = workshop / f"changed-{tmp_path.name}.toml"
    release_file.write_text(text.replace(old, new, 1))
    found, _, err = cli(
        "build", release_file, "--out", tmp_path / "out", "--keys", workshop / "keys", "--jobs=1", ISSUED_AT
    )
    assert found == code, err
    assert message in err
    assert (tmp_path / "out").exists() == (code == 0)
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "out") == []


def test_missing_keys_are_named(workshop: Path, tmp_path: Path, cli: Callable[..., Any]) -> None:
    shutil.copy(workshop / "keys" / "policy.toml", tmp_path)
    code, _, err = cli("build", workshop / "small.toml", "--out", tmp_path / "out", "--keys", tmp_path, ISSUED_AT)
    assert (code, "packager keys create" in err, (tmp_path / "out").exists()) == (30, True, False)


@pytest.mark.parametrize(
    ("number", "whole_group", "code"),
    [
        (signal.SIGINT, False, 130),
        (signal.SIGTERM, False, 143),
        (signal.SIGHUP, True, 129),
        (signal.SIGKILL, False, -9),
    ],
)
def test_an_interrupted_build_leaves_nothing(
    workshop: Path, tmp_path: Path, number: int, whole_group: bool, code: int
) -> None:
    """Its processes have begun to work, and it never takes what they made: so it can't be over before it is interrupted."""
    command = [sys.executable, "-c", _HELD_BUILD, "build", str(workshop / "small.toml")]
    command += ["--out", str(tmp_path / "out"), "--keys", str(workshop / "keys"), "--jobs=2"]
    process = subprocess.Popen(command, cwd=PROJECT, stderr=subprocess.PIPE, text=True, start_new_session=True)
    assert process.stderr is not None
    for line in process.stderr:
        if line == "held\n":
            break
    assert any(tmp_path.iterdir())
    assert len(in_session(process.pid)) > 2  # the program, its workers
    (os.killpg if whole_group else os.kill)(process.pid, number)
    _, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == code
    assert "Traceback" not in err
    left = list(tmp_path.iterdir())
    if number == signal.SIGKILL:
        assert [path.name.startswith(".out-") for path in left] == [True]  # nobody was left to remove it
    else:
        assert left == []
    deadline = time.monotonic() + PATIENCE_S
    while in_session(process.pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert in_session(process.pid) == []


def in_session(leader: int) -> list[int]:
    """Return the processes of the session that `leader` began, but those that are dead and wait to be noticed."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = path.read_text().rpartition(")")[2].split()
            if fields[0] != "Z" and int(fields[3]) == leader:
                found.append(int(path.parent.name))
    return found
