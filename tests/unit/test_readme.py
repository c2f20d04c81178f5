"""The README can't lie: its library example runs, its commands and links exist, its exit codes are those of the program."""

import io
import random
import re
from pathlib import Path
from typing import Any

import pytest

from packager.bundle.encoder import Label, encode
from packager.bundle.loose import self_signed
from packager.cli import EPILOG, packager
from packager.diff.engine import align
from packager.vehicle.identity import ImageId
from packager.vehicle.profile import DEFAULT_PROFILE

PROJECT = Path(__file__).parents[2]
README = (PROJECT / "README.md").read_text()


def test_the_library_example_installs_an_image(tmp_path: Path) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    old = random.Random(1).randbytes(50_000)
    new = old[:100] + b"new" + old[100:]
    encoded = encode(old, new, align(old, new), DEFAULT_PROFILE, Label())
    (tmp_path / "old").write_bytes(old)
    (tmp_path / "bundle").write_bytes(encoded.written.data)
    scope: dict[str, Any] = {}
    exec(example, scope)
    signed = self_signed(tmp_path / "bundle")
    made = scope["install"](
        io.BytesIO(encoded.written.data), signed, DEFAULT_PROFILE, tmp_path / "old", tmp_path / "slot"
    )
    assert made == ImageId.of(new)
    assert (tmp_path / "slot").read_bytes() == new


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\(([^)#]+)\)", README))))
def test_links_lead_somewhere(target: str) -> None:
    assert (PROJECT / target).exists()


@pytest.mark.parametrize("command", sorted(set(re.findall(r"\bpackager ([a-z]+)", README))))
def test_commands_exist(command: str) -> None:
    assert command in packager.commands


@pytest.mark.parametrize("target", sorted(set(re.findall(r"^    make ([a-z-]+)", README, re.MULTILINE))))
def test_make_targets_exist(target: str) -> None:
    assert re.search(rf"^{target}:.*## ", (PROJECT / "Makefile").read_text(), re.MULTILINE)


def test_exit_codes_are_those_of_the_help() -> None:
    in_help = {int(code) for code in re.findall(r"\b(\d+) [a-z]", EPILOG)}
    in_readme = {int(code) for code in re.findall(r"\| (\d+) \|", README)}
    assert in_readme == in_help
