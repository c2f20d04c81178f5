"""`packager keys` as people and scripts run it: what is shown, and that a secret comes from a terminal or a file and goes nowhere."""

import io
import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from packager.cli import packager
from packager.cli.failure import run
from packager.config.policy import read_policy
from packager.model.policy import key_names
from packager.repo.key_files import encode_private
from packager.repo.schemes import generate

SAMPLE = Path(__file__).parents[2] / "keys" / "policy.toml"
ALL = len(key_names(read_policy(SAMPLE)))
PASSPHRASE = "correct horse battery staple"


@pytest.fixture
def cli(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Runs `packager keys` in a directory with the sample policy; returns code, objects of stdout, and stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.stdin", io.StringIO())
    for variable in ("PACKAGER_PASSPHRASE_FILE", "PACKAGER_PIN_FILE"):
        monkeypatch.delenv(variable, raising=False)
    Path("keys").mkdir()
    Path("keys/policy.toml").write_text(SAMPLE.read_text())

    def call(*arguments: str) -> tuple[int, list[dict[str, Any]], str]:
        code = run(packager, ("keys", *arguments, "--json"), "packager")
        captured = capsys.readouterr()
        return code, [json.loads(line) for line in captured.out.splitlines()], captured.err

    return call


def make_real() -> None:
    path = Path("keys/policy.toml")
    path.write_text(path.read_text().replace("demo = true", "demo = false"))


def test_demo_set_is_made_listed_and_shown(cli: Callable[..., Any]) -> None:
    code, (summary,), _ = cli("create")
    assert (code, summary["root_created"], summary["demo"], len(summary["created"])) == (0, True, True, ALL)
    code, lines, _ = cli("list")
    assert code == 0
    assert lines[-1] == {"message_type": "summary", "keys": ALL, "missing": 0}
    assert all(line["private"] and line["demo"] for line in lines[:-1])
    code, (shown,), _ = cli("show", "root-2")
    private = load_pem_private_key(Path("keys/private/root-2.pem").read_bytes(), None)
    der = private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert shown["fingerprint"] == sha256(der).hexdigest()
    assert (shown["scheme"], shown["uri"], shown["roles"]) == ("ed25519", "file:private/root-2.pem", ["root"])


def test_text_for_people(cli: Callable[..., Any], capsys: pytest.CaptureFixture[str]) -> None:
    cli("create", "collect")
    assert run(packager, ("keys", "show", "collect"), "packager") == 0
    text = capsys.readouterr().out
    assert "file:private/collect.pem (here)" in text
    assert "step collect" in text
    assert run(packager, ("keys", "list"), "packager") == 0
    text = capsys.readouterr().out
    assert "root-1" in text
    assert "missing" in text


def test_names_make_no_root(cli: Callable[..., Any]) -> None:
    code, (summary,), _ = cli("create", "root-1", "snapshot")
    assert (code, summary["created"]) == (0, ["root-1", "snapshot"])
    assert "root" not in summary
    assert not Path("keys/public/root.json").exists()
    assert cli("list")[1][-1]["missing"] == ALL - 2


def test_add_keeps_the_uri_and_shows_the_fingerprint(cli: Callable[..., Any]) -> None:
    Path("a.pem").write_bytes(encode_private(generate("ml-dsa-65"), None))
    Path("a.pem").chmod(0o600)
    code, (summary,), _ = cli("add", "root-1", "--uri", "file:a.pem")
    assert (code, summary["uri"], summary["scheme"]) == (0, f"file:{Path('a.pem').absolute()}", "ml-dsa-65")
    assert cli("show", "root-1")[1][0] == summary


def test_unknown_names_and_uris_are_key_errors(cli: Callable[..., Any]) -> None:
    for arguments in (
        ("create", "nobody"),
        ("show", "nobody"),
        ("add", "root-1", "--uri", "pgp:x"),
        ("show", "root-1"),
    ):
        code, (error,), _ = cli(*arguments)
        assert (code, error["message_type"], error["code"]) == (30, "exit_error", 30)
    assert {path.name for path in Path("keys").iterdir()} == {"policy.toml"}


def test_passphrase_comes_out_of_a_file(cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    make_real()
    code, (error,), _ = cli("create", "root-1")
    assert code == 30
    assert "no terminal" in error["message"]
    assert "PACKAGER_PASSPHRASE_FILE" in error["hint"]
    Path("secret").write_text(f"{PASSPHRASE}\n")
    monkeypatch.setenv("PACKAGER_PASSPHRASE_FILE", "secret")
    code, lines, err = cli("create", "root-1")
    assert code == 0
    assert PASSPHRASE not in json.dumps(lines) + err
    load_pem_private_key(Path("keys/private/root-1.pem").read_bytes(), PASSPHRASE.encode())
    Path("keys/private/root-1.pem").rename("elsewhere.pem")
    Path("keys/public/root-1.json").unlink()
    assert cli("add", "root-1", "--uri", "file:elsewhere.pem")[0] == 0


@pytest.mark.parametrize(
    "content", [b"", b"\n", b"one line that is long enough\nanother\n", b"x" * 1025, b"\xff" * 20, None]
)
def test_unfit_passphrase_file_is_refused_without_showing_it(
    cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, content: bytes | None
) -> None:
    make_real()
    if content is not None:
        Path("secret").write_bytes(content)
    monkeypatch.setenv("PACKAGER_PASSPHRASE_FILE", "secret")
    code, (error,), _ = cli("create", "root-1")
    assert (code, error["message"].startswith("PACKAGER_PASSPHRASE_FILE: secret: ")) == (30, True)
    assert "one line that" not in error["message"]
    assert {path.name for path in Path("keys").iterdir()} == {"policy.toml"}


def test_passphrase_is_asked_at_the_terminal_and_not_echoed(cli: Callable[..., Any]) -> None:
    make_real()
    terminal, its_end = pty.openpty()
    program = [sys.executable, "-c", "import packager.cli; packager.cli.main()", "keys", "create", "root-1"]
    with subprocess.Popen(program, stdin=its_end, stdout=its_end, stderr=its_end, start_new_session=True) as process:
        os.close(its_end)
        shown = converse(terminal)
        code = process.wait()
    os.close(terminal)
    assert (code, PASSPHRASE.encode() in shown) == (0, False), shown
    load_pem_private_key(Path("keys/private/root-1.pem").read_bytes(), PASSPHRASE.encode())


def converse(terminal: int) -> bytes:
    """Type the passphrase at both prompts; return all that was shown."""
    shown = b""
    for prompt in (b"new passphrase of root-1", b"Repeat"):
        while prompt not in shown:
            shown += os.read(terminal, 1024)
        while not shown.endswith(b": "):
            shown += os.read(terminal, 1024)
        os.write(terminal, f"{PASSPHRASE}\n".encode())
    while True:
        try:
            piece = os.read(terminal, 1024)
        except OSError:  # the other end is closed
            break
        shown += piece
        if not piece:
            break
    return shown
