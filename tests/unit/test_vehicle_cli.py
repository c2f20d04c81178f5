"""The command line in this process: what goes where, and which exit code."""

import io
import json
import re
import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from packager.vehicle import kernel
from packager.vehicle.cli import program
from packager.vehicle.cli.program import run
from packager.vehicle.core.targets import ImageTarget
from packager.vehicle.errors import CancelledError, CorruptError, IncompatibleError, StateError
from packager.vehicle.identity import ImageId
from packager.vehicle.installation.home import open_home
from packager.vehicle.installation.state import Begun
from packager.vehicle.transport.fetch import SlowError
from packager.vehicle.transport.speed import Speed
from packager.vehicle.version import VERSION
from tests.repository_simulator import NOW, RepositorySimulator, make_bundle

VEHICLE = """
vin = "TESTCAR"
evidence = "optional"
[[ecu]]
name = "BDC"
serial = "1"
hardware_id = "bdc"
[ecu.profile]
ram_kib = 4096
flash_kib = 1024
block_kib = 4
"""
OLD, NEW = b"old" * 3000, b"new" * 3000
URL = "http://repository.test/os7"


class _Connection:
    def __init__(self, repository: RepositorySimulator) -> None:
        self.repository = repository

    def __enter__(self) -> RepositorySimulator:
        return self.repository

    def __exit__(self, *_: object) -> None:
        pass


class Shell:
    def __init__(self, home: Path, repository: RepositorySimulator, monkeypatch: pytest.MonkeyPatch) -> None:
        self.home = home
        self.repository = repository
        self.urls: list[str] = []
        self.now = NOW

        def connect(url: str, **_: object) -> _Connection:
            self.urls.append(url)
            return _Connection(repository)

        monkeypatch.setattr(program, "HttpFetcher", connect)

    def __call__(self, *arguments: str, **environment: str) -> tuple[int, str, str]:
        out, err = io.StringIO(), io.StringIO()
        code = run(arguments, environment, lambda: self.now, out, err)
        return code, out.getvalue(), err.getvalue()

    def json(self, *arguments: str) -> tuple[int, list[dict[str, Any]]]:
        code, out, err = self(*arguments, "--home", str(self.home), "--repo-url", URL, "--json")
        assert not err
        return code, [json.loads(line) for line in out.splitlines()]


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shell:
    repository = RepositorySimulator()
    repository.delegate("body", ["bdc/*/*"])
    repository.release("body", "bdc", "OS7-2", 2, NEW, OLD)
    repository.publish()
    home = tmp_path / "home"
    (home / "slots/BDC").mkdir(parents=True)
    (home / "slots/BDC/a").write_bytes(OLD)
    (home / "vehicle.toml").write_text(VEHICLE)
    (tmp_path / "root.json").write_bytes(repository.files["1.root.json"])
    shell = Shell(home, repository, monkeypatch)
    assert shell("--home", str(home), "init", str(tmp_path / "root.json"))[0] == 0
    return shell


def test_the_version_names_the_kernel(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        run(["--version"], {}, lambda: NOW, io.StringIO(), io.StringIO())
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"packager-vehicle {VERSION} (kernel: {kernel.DESCRIPTION})\n"


def test_options_stand_before_or_after_the_command_or_in_the_environment(shell: Shell) -> None:
    home = str(shell.home)
    results = [
        shell("--home", home, "status"),
        shell("status", "--home", home),
        shell("status", PACKAGER_VEHICLE_HOME=home),
        shell("status", "--home", home, PACKAGER_VEHICLE_HOME="/nowhere"),
    ]
    assert {code for code, _, _ in results} == {0}
    assert len({out for _, out, _ in results}) == 1
    assert shell("refresh", "--home", home, PACKAGER_REPO_URL=URL + "/")[0] == 0
    assert shell("--repo-url", URL, "refresh", "--home", home)[0] == 0
    assert shell.urls == [URL + "/metadata"] * 2
    assert shell("status", PACKAGER_VEHICLE_HOME=home, PACKAGER_JSON="1")[1].startswith('{"message_type": "ecu"')


def test_an_update_for_people(shell: Shell) -> None:
    code, out, err = shell("update", "--home", str(shell.home), "--repo-url", URL)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].split() == ["ECU", "old", "new", "bundle", "downloaded", "of", "image", "seconds"]
    assert re.match(r"BDC  sha256:[0-9a-f]{12}  OS7-2  delta   \d+ +[\d.]+%", lines[1])
    assert re.fullmatch(r"1 of 1 ECUs updated, [\d,]+ bytes of bundles and [\d,]+ of metadata in [\d.]+ s", lines[2])
    assert shell.urls == [URL + "/metadata", URL + "/targets"]
    code, out, _ = shell("status", "--home", str(shell.home))
    assert out.splitlines()[1].split() == ["BDC", "bdc", "b", "OS7-2", "9,000", "2"]
    code, out, _ = shell("update", "--home", str(shell.home), "--repo-url", URL)
    assert "up to date" in out


def test_the_same_for_programs(shell: Shell) -> None:
    code, objects = shell.json("refresh")
    assert code == 0
    assert objects[0] == {
        "message_type": "ecu",
        "name": "BDC",
        "hardware_id": "bdc",
        "version": "OS7-2",
        "release_counter": 2,
    }
    code, (entry, summary) = shell.json("update")
    assert code == 0
    assert (entry["message_type"], entry["bundle"], entry["updated"], entry["new_version"]) == (
        "ecu",
        "delta",
        True,
        "OS7-2",
    )
    assert entry["old"]["length"] == entry["new"]["length"] == len(OLD)
    assert (summary["message_type"], summary["updated"], summary["vin"]) == ("summary", 1, "TESTCAR")
    assert summary["downloaded_bytes"] == entry["downloaded_bytes"] > 0
    code, (entry, summary) = shell.json("status")
    assert (entry["slot"], entry["version"], entry["release_counter"], entry["interrupted"]) == ("b", "OS7-2", 2, False)
    assert summary == {"message_type": "summary", "vin": "TESTCAR", "ecus": 1}


def _expire(shell: Shell) -> None:
    shell.now = NOW + timedelta(days=40)


def _flip(shell: Shell) -> None:
    for path, data in shell.repository.contents.items():
        shell.repository.contents[path] = data[:-1] + bytes((data[-1] ^ 1,))


def _forge(shell: Shell) -> None:
    shell.repository.files["timestamp.json"] = shell.repository.files["timestamp.json"].replace(b"1.0.31", b"1.0.30")


def _starve(shell: Shell) -> None:
    (shell.home / "vehicle.toml").write_text(VEHICLE.replace("block_kib = 4", "block_kib = 8"))


def _vanish(shell: Shell) -> None:
    shell.repository.contents.clear()


def _spoil_state(shell: Shell) -> None:
    (shell.home / "state/active.json").write_text("?")


def _spoil_configuration(shell: Shell) -> None:
    (shell.home / "vehicle.toml").write_text(VEHICLE.replace("serial", "cereal").replace("vin", "win"))


@pytest.mark.parametrize(
    ("harm", "code", "message", "hint"),
    [
        (_expire, 60, "timestamp.json version 1: expired", "clock"),
        (_flip, 60, "ECU BDC: block", "run the command again"),
        (_forge, 60, "timestamp.json: signed by 0", "do not install"),
        (_starve, 61, "ECU BDC: bundle exceeds the profile", "profile in vehicle.toml"),
        (_spoil_state, 62, "active.json: damaged", "storage"),
        (_vanish, 75, "ECU BDC: .* not found", "later"),
        (_spoil_configuration, 2, "serial is missing.*cereal is unknown.*|vin is missing.*", "correct"),
    ],
)
def test_errors_have_a_code_a_message_and_a_hint(
    shell: Shell, harm: Callable[[Shell], None], code: int, message: str, hint: str
) -> None:
    harm(shell)
    found, out, err = shell("update", "--home", str(shell.home), "--repo-url", URL)
    assert found == code, err
    assert out == ""
    assert re.search(f"packager-vehicle: error: .*({message})", err)
    assert re.search(f"\nhint: .*{hint}", err)
    assert "Traceback" not in err
    found, objects = shell.json("update")
    assert (found, len(objects)) == (code, 1)
    assert (objects[0]["message_type"], objects[0]["code"]) == ("exit_error", code)
    assert re.search(message, objects[0]["message"])
    assert re.search(hint, objects[0]["hint"])
    if harm is not _spoil_state:
        assert not (shell.home / "state/active.json").exists()


@pytest.mark.parametrize(
    ("raised", "code"),
    [
        (KeyboardInterrupt(), 130),
        (CancelledError("stopped"), 130),
        (CorruptError("bad"), 60),
        (IncompatibleError("bad"), 61),
        (OSError(28, "No space left on device"), 62),
        (StateError("a bug"), 1),
        (RuntimeError("a bug"), 1),
    ],
)
def test_every_end_has_an_exit_code(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, raised: BaseException, code: int
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise raised

    monkeypatch.setattr(program, "update", fail)
    found, _, err = shell("update", "--home", str(shell.home), "--repo-url", URL)
    assert found == code
    assert ("Traceback" in err) == (code == 1)  # a defect is reported with all there is
    assert shell.json("update")[1][0]["code"] == code


@pytest.mark.parametrize(
    ("arguments", "wrong"),
    [
        ([], "COMMAND"),
        (["fly"], "invalid choice"),
        (["status"], "--home is missing"),
        (["status", "--home"], "expected one argument"),
        (["init", "--home", "HOME"], "ROOT.json"),
        (["init", "missing.json", "--home", "HOME"], "missing.json: can't be read"),
        (["update", "--home", "HOME"], "--repo-url is missing"),
        (["update", "--home", "HOME", "--repo-url", "ftp://x"], "expected http:// or https://"),
        (["status", "--home", "/nowhere"], "/nowhere/vehicle.toml: can't be read"),
    ],
    ids=str,
)
def test_wrong_use_ends_with_2(shell: Shell, arguments: list[str], wrong: str) -> None:
    arguments = [str(shell.home) if argument == "HOME" else argument for argument in arguments]
    code, out, err = shell(*arguments)
    assert (code, out) == (2, "")
    assert wrong in err
    code, out, _ = shell("--json", *arguments)
    assert json.loads(out)["code"] == 2


def test_another_root_is_refused(shell: Shell, tmp_path: Path) -> None:
    assert shell("init", str(tmp_path / "root.json"), "--home", str(shell.home))[0] == 0
    (tmp_path / "other.json").write_bytes(RepositorySimulator().files["1.root.json"])
    before = (shell.home / "metadata/root.json").read_bytes()
    code, _, err = shell("init", str(tmp_path / "other.json"), "--home", str(shell.home))
    assert code == 60
    assert "another one is trusted already" in err
    assert (shell.home / "metadata/root.json").read_bytes() == before


def test_progress_is_for_terminals_only(shell: Shell) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    err = Terminal()
    arguments = ["update", "--home", str(shell.home), "--repo-url", URL]
    assert run(arguments, {}, lambda: NOW, io.StringIO(), err) == 0
    assert err.getvalue().startswith("\rBDC: block 1 of 3")
    assert err.getvalue().endswith("BDC: block 3 of 3, 100%   \n")


def test_a_check_for_people_and_programs_changes_nothing(shell: Shell) -> None:
    code, out, err = shell("status", "--check", "--home", str(shell.home), "--repo-url", URL)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].split() == ["ECU", "old", "new", "bundle", "download", "of", "it", "repair", "space"]
    assert re.match(
        r"BDC  sha256:[0-9a-f]{12}  OS7-2  delta   [\d,]+ +- +9,[45]\d\d", lines[1]
    )  # the image, and its head beside the state
    assert re.fullmatch(
        r"download [\d,]+ bytes: [\d.]+ s at 1 Mbit/s, [\d.]+ s at 10 Mbit/s, [\d.]+ s at 100 Mbit/s", lines[2]
    )
    assert re.fullmatch(r"space [\d,]+ bytes, [\d,]+ free: enough", lines[3])
    code, objects = shell.json("status", "--check")
    assert code == 0
    assert (objects[0]["bundle"], objects[0]["repair_blocks"], objects[0]["problem"]) == ("delta", 0, "")
    assert objects[-1]["download_bytes"] == objects[0]["download_bytes"] > 0
    assert objects[-1]["enough_space"]
    assert (shell.home / "slots/BDC/a").read_bytes() == OLD
    assert not (shell.home / "slots/BDC/b").exists()
    _, (ecu, _) = shell.json("update")
    assert ecu["downloaded_bytes"] == objects[0]["download_bytes"]
    _, objects = shell.json("status", "--check")
    assert (objects[0]["bundle"], objects[0]["note"], objects[-1]["needed_bytes"]) == (None, "up to date", 0)


def test_a_check_tells_of_a_clock_that_is_behind(shell: Shell) -> None:
    shell.json("refresh")
    assert shell.json("status", "--check")[1][-1]["clock"] is None
    shell.now = NOW - timedelta(days=400)
    said = "the clock says 2025-05-27T12:00:00Z, before the last verified time; 2026-07-01T12:00:00Z is used"
    assert shell.json("status", "--check")[1][-1]["clock"] == said
    _, out, _ = shell("status", "--check", "--home", str(shell.home), "--repo-url", URL)
    assert out.splitlines()[-1] == f"clock: {said}"


def test_an_update_that_is_given_up_for_being_too_slow_tells_the_speed(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stream(path: str, *_: object) -> None:
        shell.repository.speed = Speed(3000, 30.0, 7)
        raise SlowError(f"{path}: delivers 7 bytes/s")

    monkeypatch.setattr(shell.repository, "stream", stream)
    code, out, err = shell("update", "--home", str(shell.home), "--repo-url", URL)
    assert code == 75
    # The same simulator is metadata and targets here, so that all is counted twice.
    wanted = "the repository delivered 6,000 bytes in 60.0 s, 7 bytes/s at the slowest, expected at least 1,000\n"
    assert out == wanted
    assert "delivers 7 bytes/s" in err
    shell.repository.speed = Speed()
    code, objects = shell.json("update")
    assert [entry["message_type"] for entry in objects] == ["speed", "exit_error"]
    assert objects[0] == {
        "message_type": "speed",
        "received_bytes": 6000,
        "bytes_per_second": 100,
        "slowest_bytes_per_second": 7,
        "min_bytes_per_second": 1000,
    }


@pytest.fixture
def factory(shell: Shell) -> Shell:
    """A home that trusts nothing yet."""
    shutil.rmtree(shell.home / "metadata")
    return shell


def init(shell: Shell, time: str) -> tuple[int, str]:
    code, out, err = shell(
        "init", "--home", str(shell.home), str(shell.home.parent / "root.json"), "--time", time, "--json"
    )
    assert not err
    return code, json.loads(out.splitlines()[-1]).get("message", "")


@pytest.mark.parametrize("time", ["2026-07-01T12:00:00Z", "2026-07-01T14:00:00+02:00"])
def test_a_new_car_believes_no_time_before_it_was_made(factory: Shell, time: str) -> None:
    assert init(factory, time) == (0, "")
    assert open_home(factory.home).read_floor() == NOW
    assert init(factory, "2026-06-01T12:00:00Z") == (0, "")
    assert open_home(factory.home).read_floor() == NOW, "it is never set back"
    factory.now = NOW - timedelta(days=400)
    factory.repository.timestamp.expires = NOW - timedelta(days=1)
    factory.repository.publish()
    code, objects = factory.json("update")
    assert code == 60
    assert "timestamp.json version 2: expired" in objects[-1]["message"]


def test_without_a_time_the_first_clock_is_believed(shell: Shell) -> None:
    assert open_home(shell.home).read_floor() is None
    shell.now = NOW - timedelta(days=400)
    assert shell.json("update")[0] == 0


def test_the_root_bounds_the_time_of_a_new_car(factory: Shell) -> None:
    expires = factory.repository.root.expires
    code, said = init(factory, f"{expires:%Y-%m-%dT%H:%M:%SZ}")
    assert code == 60
    assert re.fullmatch("root.json version 1: expired at .*, the time is .*", said)
    assert not (factory.home / "metadata").exists()
    assert not (factory.home / "state/clock.json").exists()
    assert init(factory, f"{expires - timedelta(seconds=1):%Y-%m-%dT%H:%M:%SZ}")[0] == 0


@pytest.mark.parametrize("time", ["now", "", "2026-07-01", "2026-07-01T12:00:00", "0001-01-01T00:00:00+23:00"])
def test_a_time_that_is_none_changes_nothing(factory: Shell, time: str) -> None:
    code, said = init(factory, time)
    assert code == 2
    assert "--time: " in said
    assert "expected a time as 2026-07-01T12:00:00Z" in said
    assert not (factory.home / "metadata").exists()


def test_plain_tuf_remembers_no_time(shell: Shell) -> None:
    root, directory = str(shell.home.parent / "root.json"), shell.home.parent / "plain"
    code, _, err = shell("init", root, "--metadata-dir", str(directory), "--time", "2026-07-01T12:00:00Z")
    assert code == 1
    assert "--time: plain TUF remembers no time" in err
    assert not directory.exists()


def test_a_check_tells_what_is_lacking(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("packager.vehicle.installation.home.VehicleHome.free_bytes", lambda _: 1000)
    _, out, _ = shell("status", "--check", "--home", str(shell.home), "--repo-url", URL)
    assert re.search(r"space ([\d,]+) bytes, 1,000 free: make room for [\d,]+ bytes more", out)
    config = (shell.home / "vehicle.toml").read_text()
    (shell.home / "vehicle.toml").write_text(config.replace("block_kib = 4", "block_kib = 8"))
    code, out, _ = shell("status", "--check", "--home", str(shell.home), "--repo-url", URL)
    assert code == 0
    assert "can't be updated: bundle exceeds the profile of the ECU" in out
    assert out.splitlines()[-1] == "1 of 1 ECUs can't be updated"
    assert shell.json("status", "--check")[1][-1]["problems"] == 1


def test_a_check_needs_a_repository(shell: Shell) -> None:
    code, _, err = shell("status", "--check", "--home", str(shell.home))
    assert code == 2
    assert "--repo-url is missing" in err


def test_a_half_overwritten_ecu_is_named(shell: Shell) -> None:
    home = open_home(shell.home)
    target = make_bundle("bdc", "OS7-2", 2, OLD, NEW).target
    home.mark_begun(
        home.configuration.ecus[0], Begun(target, ImageTarget("bdc", "OS7-2", ImageId.of(NEW), 2, ("bdc",)))
    )
    _, out, _ = shell("status", "--home", str(shell.home))
    assert "half overwritten: must not be started, run update" in out
    assert shell.json("status")[1][0]["startable"] is False
