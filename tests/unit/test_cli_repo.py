"""`packager repo` as it is typed: what a custodian sees, what is refused, what the exit code says. The whole life is `test_ceremony`'s."""

import json
import re
import shlex
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import click
import pytest

from packager.cli import packager
from packager.cli.failure import run

PROJECT = Path(__file__).parents[2]
CEREMONY = (PROJECT / "docs/ceremony.md").read_text()
AT = "--issued-at=2026-11-20"

Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Demo keys, without a root."""
    directory = tmp_path_factory.mktemp("keys") / "keys"
    directory.mkdir()
    shutil.copy(PROJECT / "keys/policy.toml", directory)
    assert run(packager, ["keys", "create", "--keys", str(directory), AT], "packager") == 0
    (directory / "public/root.json").unlink()
    return directory


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], keys: Path) -> Cli:
    """Runs `packager repo` with the keys; returns code, stdout and stderr."""

    def call(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code = run(packager, ["repo", *map(str, arguments), "--keys", str(keys)], "packager")
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


@pytest.fixture
def site(tmp_path: Path, cli: Cli) -> Path:
    """A repository whose root is staged."""
    assert cli("init", tmp_path / "site", AT)[0] == 0
    return tmp_path / "site"


def sign(cli: Cli, file: Path, key: str) -> tuple[int, str, str]:
    _, out, _ = cli("sign", file, "--key", key, "--sha256=no", "--json")
    digest = json.loads(out.splitlines()[0]).get("sha256", "none")
    return cli("sign", file, "--key", key, "--sha256", digest)


def test_what_a_custodian_sees(site: Path, cli: Cli) -> None:
    code, out, err = cli("sign", site / "staged/1.root.json", "--key", "root-1")
    assert "role root: any 2 of root-1, root-2, root-3" in out
    assert re.search(r"SHA-256 of the bytes to be signed: [0-9a-f]{64}", out)
    assert (code, "found no terminal" in err, "--sha256" in err) == (2, True, True)
    assert json.loads((site / "staged/1.root.json").read_bytes())["signatures"] == []


def test_another_digest_than_the_agreed_one(site: Path, cli: Cli) -> None:
    before = (site / "staged/1.root.json").read_bytes()
    code, _, err = cli("sign", site / "staged/1.root.json", "--key", "root-1", "--sha256", "0" * 64)
    assert (code, "do not sign it" in err) == (40, True)
    assert (site / "staged/1.root.json").read_bytes() == before


def test_a_key_of_another_role(site: Path, cli: Cli) -> None:
    code, _, err = cli("sign", site / "staged/1.root.json", "--key", "targets-1", "--sha256", "0" * 64)
    assert (code, "may not sign for 'root', expected one of root-1, root-2, root-3" in err) == (30, True)


def test_a_key_by_uri(site: Path, cli: Cli, keys: Path) -> None:
    code, out, _ = sign(cli, site / "staged/1.root.json", f"file:{keys}/private/root-2.pem")
    assert (code, "signed by root-2; root 1 asks for 2, has 1 (root-2)" in out) == (0, True)


def test_signing_twice_changes_nothing(site: Path, cli: Cli) -> None:
    sign(cli, site / "staged/1.root.json", "root-1")
    before = (site / "staged/1.root.json").read_bytes()
    code, out, _ = sign(cli, site / "staged/1.root.json", "root-1")
    assert (code, "had the signature of root-1 already" in out) == (0, True)
    assert (site / "staged/1.root.json").read_bytes() == before


def test_who_is_missing(site: Path, cli: Cli) -> None:
    sign(cli, site / "staged/1.root.json", "root-3")
    code, out, _ = cli("status", site, AT)
    assert (code, "1 more of root-1, root-2" in out, "nothing is published yet" in out) == (0, True, True)
    _, out, _ = cli("status", site, AT, "--json")
    staged = json.loads(out.splitlines()[0])
    assert (staged["signed"], staged["missing"], staged["lacking"]) == (["root-3"], ["root-1", "root-2"], 1)


def test_publishing_demands_signatures_and_real_keys(site: Path, cli: Cli) -> None:
    code, _, err = cli("publish", site, AT)
    assert (code, "0 of 2 signatures" in err, "packager repo sign" in err) == (40, True, True)
    sign(cli, site / "staged/1.root.json", "root-1")
    sign(cli, site / "staged/1.root.json", "root-2")
    code, _, err = cli("publish", site, AT)
    assert (code, "--allow-demo-keys" in err) == (40, True)
    assert not (site / "repo").exists()
    code, out, _ = cli("publish", site, AT, "--allow-demo-keys", "--dry-run")
    assert (code, "would publish 1 metadata" in out, (site / "repo").exists()) == (0, True, False)
    assert cli("publish", site, AT, "--allow-demo-keys")[0] == 0
    code, out, _ = cli("propose", site, AT)
    assert (code, "nothing to sign" in out) == (0, True)
    assert cli("init", site, AT)[0] == 40


def test_status_fails_before_the_root_expires(site: Path, cli: Cli) -> None:
    for key in ("root-1", "root-2"):
        sign(cli, site / "staged/1.root.json", key)
    assert cli("publish", site, AT, "--allow-demo-keys")[0] == 0
    assert cli("status", site, "--issued-at=2027-08-20T17:59:59Z")[0] == 0  # three quarters of 365 days
    code, out, err = cli("status", site, "--issued-at=2027-08-20T18:00:00Z")
    assert (code, "due" in out, "propose --renew" in err) == (40, True, True)
    assert cli("status", site, "--issued-at=2027-08-20T18:00:00Z", "--warn-days=91")[0] == 0
    code, out, _ = cli("status", site, "--issued-at=2027-11-20", "--warn-days=0")
    assert (code, "EXPIRED" in out) == (40, True)


def test_a_directory_that_is_no_repository_is_no_good_state(tmp_path: Path, cli: Cli) -> None:
    """What cron asks must not be answered with 0 because of a typing error, or of a disk that is not there."""
    for place in (tmp_path, tmp_path / "missing"):
        code, _, err = cli("status", place)
        assert (code, "expected a repository" in err, "packager repo init" in err) == (40, True, True)


def test_builds_dated_back_date_nothing_else_back(site: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """CI sets SOURCE_DATE_EPOCH to the time of a commit: by it, nothing would ever be due, and a refresh would be over at once."""
    for key in ("root-1", "root-2"):
        sign(cli, site / "staged/1.root.json", key)
    assert cli("publish", site, AT, "--allow-demo-keys")[0] == 0
    monkeypatch.setattr("packager.cli.times.now", lambda: datetime(2027, 11, 21, tzinfo=UTC))
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1795132800")
    code, out, _ = cli("status", site)
    assert (code, "EXPIRED" in out) == (40, True)


@pytest.mark.parametrize("content", [b"", b"{}", b'{"signed": {}, "signatures": []}', b"\xff"])
def test_a_file_that_is_no_metadata(site: Path, cli: Cli, content: bytes) -> None:
    (site / "staged/2.root.json").write_bytes(content)
    code, _, err = cli("sign", site / "staged/2.root.json", "--key", "root-1")
    assert (code, "2.root.json" in err) == (40, True)
    code, _, err = cli("status", site)
    assert (code, "2.root.json" in err) == (40, True)


def test_a_file_under_another_name(site: Path, cli: Cli) -> None:
    problems = {
        "2.root.json": "states version 1",
        "root.json": "expected a file name",
        "1.timestamp.json": "never proposed",
    }
    for name, message in problems.items():
        shutil.copy(site / "staged/1.root.json", site / name)
        code, _, err = cli("sign", site / name, "--key", "root-1")
        assert (code, message in err) == (40, True), err


def test_a_signed_root_is_taken_as_it_is(site: Path, cli: Cli, tmp_path: Path) -> None:
    code, _, err = cli("init", tmp_path / "other", "--root", site / "staged/1.root.json", AT)
    assert (code, "signed by 0 different keys" in err, (tmp_path / "other").exists()) == (40, True, False)
    for key in ("root-1", "root-2"):
        sign(cli, site / "staged/1.root.json", key)
    assert cli("init", tmp_path / "other", "--root", site / "staged/1.root.json", AT)[0] == 0
    assert (tmp_path / "other/staged/1.root.json").read_bytes() == (site / "staged/1.root.json").read_bytes()


def test_proposing_begins_with_the_root_that_is_trusted(site: Path, cli: Cli, tmp_path: Path) -> None:
    """Else custodians would sign another first version, and publishing would refuse it."""
    for key in ("root-1", "root-2"):
        sign(cli, site / "staged/1.root.json", key)
    trusted = site / "staged/1.root.json"
    for _ in range(2):
        code, out, _ = cli("propose", tmp_path / "other", "--root", trusted, AT)
        assert (code, "1.root.json: is signed" in out, "nothing left to sign" in out) == (0, True, True)
        assert (tmp_path / "other/staged/1.root.json").read_bytes() == trusted.read_bytes()


@pytest.mark.parametrize("line", sorted(set(re.findall(r"^(?:! )?packager ([a-z].*)$", CEREMONY, re.MULTILINE))))
def test_the_ceremony_types_what_the_program_knows(line: str) -> None:
    words = shlex.split(line, comments=True)
    command: click.Command = packager
    while isinstance(command, click.Group):
        command = command.commands[words.pop(0)]
    known = {option for parameter in command.params for option in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= known


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\(([^)#]+)\)", CEREMONY))))
def test_the_ceremony_s_links_lead_somewhere(target: str) -> None:
    assert (PROJECT / "docs" / target).exists()
