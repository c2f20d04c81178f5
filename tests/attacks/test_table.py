"""The table of attacks and the tests name each other, completely."""

import ast
import re
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
ATTACK_FILES = sorted(HERE.glob("test_[0-9]*.py"))
ATTACKS = range(1, 54)
OF_A_DIRECTOR = {36, 37, 40, 41, 43}


def _tests_of(path: Path) -> list[str]:
    tree = ast.parse(path.read_text())
    return [node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")]


def _table() -> dict[int, list[str]]:
    """Return the cells behind the number of each row."""
    rows = re.findall(r"^\| (\d+) \|(.*)\|$", (HERE / "README.md").read_text(), re.MULTILINE)
    assert len({number for number, _ in rows}) == len(rows), "each number once"
    return {int(number): cells.split("|") for number, cells in rows}


def test_every_attack_has_a_row() -> None:
    assert sorted(_table()) == list(ATTACKS)


def test_every_row_names_the_tests_of_its_attack_and_no_other() -> None:
    here = [name for path in ATTACK_FILES for name in _tests_of(path)]
    assert len(set(here)) == len(here), "a name says which test it is"
    for number, cells in _table().items():
        named = re.findall(r"`(test_\w+)`", cells[-1])
        assert named == [name for name in here if name.startswith(f"test_attack_{number:02}_")]
        is_tested = bool(named) or "::" in cells[-1]
        assert is_tested != (number in OF_A_DIRECTOR), f"attack {number} needs a test"


def test_every_test_stands_in_the_table() -> None:
    numbers = {f"{number:02}" for number in _table()}
    for path in ATTACK_FILES:
        for name in _tests_of(path):
            assert name.startswith("test_attack_"), f"{path.name}: {name}"
            assert name.split("_")[2] in numbers, f"{path.name}: {name}"


def test_tests_elsewhere_are_there() -> None:
    for path, name in re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", (HERE / "README.md").read_text()):
        assert name in _tests_of(ROOT / path), f"{path}::{name}"
