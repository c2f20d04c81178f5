"""A repository is served while a command runs, and no longer."""

import sys
from pathlib import Path

import pytest

from packager.model.errors import ConfigError
from sample_images.serving import run_served

READ = """
import os, sys, urllib.request
with urllib.request.urlopen(os.environ["PACKAGER_REPO_URL"] + "/metadata/x") as answer:
    sys.stdout.write(answer.read().decode())
"""


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    (tmp_path / "metadata").mkdir()
    (tmp_path / "metadata" / "x").write_text("content")
    return tmp_path


def test_the_command_finds_the_repository(repo: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run_served(repo, [sys.executable, "-c", READ]) == 0
    assert capfd.readouterr().out == "content"


def test_its_exit_code_is_passed_on(repo: Path) -> None:
    assert run_served(repo, [sys.executable, "-c", "raise SystemExit(61)"]) == 61


def test_what_is_missing(repo: Path) -> None:
    with pytest.raises(ConfigError, match="has no metadata/"):
        run_served(repo / "metadata", [sys.executable])
    with pytest.raises(ConfigError, match="no such program"):
        run_served(repo, ["no-such-program"])
