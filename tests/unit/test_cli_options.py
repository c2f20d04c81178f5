"""Options by environment variable, and errors in the form that was asked for; nobody may be there to read them."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from packager.cli import packager
from packager.cli.failure import run

PROGRAM = (sys.executable, "-c", "from packager.cli import main; main()")


def commands(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    for name in group.commands:
        command = group.commands[name]
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name), command


def test_every_option_has_a_variable_named_as_it_is_typed() -> None:
    found = {
        parameter.envvar: ("_".join(("packager", *path)).upper(), parameter.opts)
        for path, command in commands(packager)
        for parameter in command.params
        if isinstance(parameter, click.Option)
    }
    assert len(found) > 60
    for variable, (prefix, names) in found.items():
        assert variable in {f"{prefix}_{name.strip('-').replace('-', '_').upper()}" for name in names}
    assert {"PACKAGER_BUILD_JOBS", "PACKAGER_REPO_STATUS_KEYS", "PACKAGER_VERIFY_JSON"} <= found.keys()


def test_variables_are_read(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("PACKAGER_VERIFY_JSON", "1")
    monkeypatch.setenv("PACKAGER_VERIFY_ROOT", "missing.json")
    assert run(packager, ["verify", "nothing"], "packager") == 2
    assert json.loads(capsys.readouterr().out)["message"].startswith("--root missing.json: can't be read")


@pytest.mark.parametrize("options", [["--json"], []])
def test_an_error_that_nobody_reads_is_an_exit_code(options: list[str], tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        command = [*PROGRAM, "verify", "nothing", "--root", "missing.json", *options]
        done = subprocess.run(command, stdout=writing, stderr=writing, cwd=tmp_path, check=False)
    finally:
        os.close(writing)
    assert done.returncode == 2
