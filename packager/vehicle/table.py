"""Strict reading of configuration tables: every problem is collected, so that they are reported all at once.

Serves the vehicle's own configuration and, on the build side, release files and policies.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final, Self

MAX_NAME_CHARACTERS: Final = 64
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+~-]*")


def is_name(text: str) -> bool:
    """Tell whether `text` is safe as one component of a path or URL: ASCII letters, digits and ``._+~-``, at most 64, no leading dot."""
    return len(text) <= MAX_NAME_CHARACTERS and _NAME.fullmatch(text) is not None


class Table:
    """Reads typed values out of parsed TOML. Reading a missing or wrong value notes a problem and returns a stand-in.

    Args:
        values: The parsed table.
        where: Its name in problems, for example ``ecu "DME"``.
        problems: Where problems go; shared with the tables inside.
    """

    def __init__(self, values: Mapping[str, Any], where: str, problems: list[str]) -> None:
        self._values = values
        self._where = where
        self._read: set[str] = set()
        self.problems = problems

    def problem(self, text: str) -> None:
        """Note a problem of this table."""
        self.problems.append(f"{self._where}: {text}" if self._where else text)

    def rename(self, where: str) -> None:
        """Give the table a better name, once its content tells one."""
        self._where = where

    def _take(self, key: str, kind: type, wanted: str, default: Any) -> Any:
        self._read.add(key)
        if key not in self._values:
            if default is None:
                self.problem(f"{key} is missing; expected {wanted}")
            return default
        value = self._values[key]
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            self.problem(f"{key}: found {value!r}, expected {wanted}")
            return None
        return value

    def text(self, key: str, default: str | None = None) -> str:
        """Read a non-empty printable string."""
        value = self._take(key, str, "a string", default)
        if isinstance(value, str) and value != default and not (value and value.isprintable()):
            self.problem(f"{key}: found {value!r}, expected a non-empty string without control characters")
        return value or ""

    def name(self, key: str, default: str | None = None) -> str:
        """Read a string that is safe as one component of a path or URL."""
        value = self._take(key, str, "a name", default)
        if isinstance(value, str) and not is_name(value):
            self.problem(
                f"{key}: found {value!r}, expected 1 to {MAX_NAME_CHARACTERS} of A-Z a-z 0-9 . _ + ~ -, no leading dot"
            )
        return value or ""

    def integer(self, key: str, *, least: int, most: int, default: int | None = None) -> int:
        """Read an integer from `least` to `most`."""
        value = self._take(key, int, f"an integer from {least} to {most}", default)
        if value is None:
            return least
        if value != default and not least <= value <= most:
            self.problem(f"{key}: found {value}, expected {least} to {most}")
            return least
        return int(value)

    def boolean(self, key: str, *, default: bool | None = None) -> bool:
        """Read true or false."""
        return bool(self._take(key, bool, "true or false", default))

    def names(self, key: str, default: tuple[str, ...] | None = None) -> tuple[str, ...]:
        """Read a list of different strings that are safe as names."""
        value = self._take(key, list, "a list of names", default)
        if value is None or value is default:
            return default or ()
        if not all(isinstance(item, str) and is_name(item) for item in value) or len(set(value)) != len(value):
            self.problem(f"{key}: found {value!r}, expected different names")
            return ()
        return tuple(value)

    def table(self, key: str, *, optional: bool = False) -> Self:
        """Read a table inside this one; a missing one is empty."""
        value = self._take(key, dict, f"a table [{key}]", {} if optional else None)
        return type(self)(value or {}, f"{self._where}.{key}" if self._where else key, self.problems)

    def tables(self, key: str) -> list[Self]:
        """Read a list of tables, ``[[key]]``."""
        value = self._take(key, list, f"tables [[{key}]]", [])
        found = []
        for index, item in enumerate(value or []):
            where = f"{self._where}.{key}[{index}]" if self._where else f"{key}[{index}]"
            if isinstance(item, dict):
                found.append(type(self)(item, where, self.problems))
            else:
                self.problem(f"{key}[{index}]: found {item!r}, expected a table")
        return found

    def children(self) -> Iterator[tuple[str, Self]]:
        """Read every value of this table as a named table inside it."""
        for key in self._values:
            if not is_name(key):
                self.problem(f"found {key!r}, expected a name of A-Z a-z 0-9 . _ + ~ -")
            yield key, self.table(key)

    def texts(self) -> dict[str, str]:
        """Read every value of this table as a non-empty printable string, by name."""
        for key in self._values:
            if not is_name(key):
                self.problem(f"found {key!r}, expected a name of A-Z a-z 0-9 . _ + ~ -")
        return {key: self.text(key) for key in self._values}

    def end(self) -> None:
        """Note every key that nobody read."""
        for key in self._values:
            if key not in self._read:
                self.problem(f"{key} is unknown")
