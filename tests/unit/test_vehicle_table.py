"""Strict configuration tables: every problem, all at once."""

from typing import Any

import pytest

from packager.vehicle.table import MAX_NAME_CHARACTERS, Table, is_name


@pytest.mark.parametrize("name", ["a", "DME-8.4", "7.0+45~rc_1", "9", "x" * MAX_NAME_CHARACTERS, "a..b"])
def test_names_are_safe_in_paths(name: str) -> None:
    assert is_name(name)


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        ".hidden",
        "-x",
        "a/b",
        "a\\b",
        "a\0",
        "a\n",
        "C:",
        "ä",
        "a\u200fb",
        "a b",
        "x" * (MAX_NAME_CHARACTERS + 1),
        "٣",
        "%2e",
    ],
)
def test_what_is_no_name(name: str) -> None:
    assert not is_name(name)


def table(**values: Any) -> Table:
    return Table(values, "t", [])


def test_values_of_the_right_type() -> None:
    given = table(text="x y", name="n", integer=3, boolean=True, names=["a", "b"], inner={"k": 1}, rows=[{"k": 1}])
    assert (given.text("text"), given.name("name"), given.integer("integer", least=3, most=3)) == ("x y", "n", 3)
    assert given.boolean("boolean")
    assert given.names("names") == ("a", "b")
    assert given.table("inner").integer("k", least=0, most=1) == 1
    assert [row.integer("k", least=0, most=1) for row in given.tables("rows")] == [1]
    given.end()
    assert given.problems == []


def test_defaults_stand_for_missing_values() -> None:
    given = table()
    assert given.text("a", "x") == "x"
    assert given.integer("b", least=1, most=2, default=2) == 2
    assert given.boolean("c", default=True)
    assert given.names("d", ("e",)) == ("e",)
    given.table("f", optional=True).end()
    assert list(given.tables("g")) == []
    assert given.problems == []


def test_all_problems_are_collected() -> None:
    given = Table(
        {"i": 5, "b": "yes", "n": "../x", "l": ["a", "a"], "t": "a\x07", "in": 3, "rows": [1], "odd": 1}, "t", []
    )
    given.integer("i", least=0, most=4)
    given.boolean("b")
    given.name("n")
    given.names("l")
    given.text("t")
    given.table("in")
    given.tables("rows")
    given.text("gone")
    given.end()
    assert [problem.split()[1].rstrip(":") for problem in given.problems] == [
        "i",
        "b",
        "n",
        "l",
        "t",
        "in",
        "rows[0]",
        "gone",
        "odd",
    ]
    assert "t: odd is unknown" in given.problems
    assert "t: gone is missing; expected a string" in given.problems


@pytest.mark.parametrize("value", [0, 5, True, 1.0, "1"])
def test_integers_have_both_limits_and_no_other_type(value: Any) -> None:
    given = table(k=value)
    assert given.integer("k", least=1, most=4) == 1
    assert len(given.problems) == 1


def test_children_are_named_tables() -> None:
    given = Table({"good": {"k": 1}, "bad/name": {}}, "t", [])
    assert [name for name, _ in given.children()] == ["good", "bad/name"]
    given.end()
    assert len(given.problems) == 1
    assert "bad/name" in given.problems[0]


def test_a_table_can_be_renamed() -> None:
    given = table()
    given.rename('ecu "DME"')
    given.text("x")
    assert given.problems == ['ecu "DME": x is missing; expected a string']


def test_texts_are_named_strings() -> None:
    problems: list[str] = []
    assert Table({"a": "x", "b": "y"}, "t", problems).texts() == {"a": "x", "b": "y"}
    assert problems == []
    Table({"../a": "x", "b": 7, "c": ""}, "t", problems).texts()
    assert len(problems) == 3
