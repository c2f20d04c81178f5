"""What the command line shows: results on stdout, the rest on stderr; text for people, or one JSON object per line."""

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import click


@dataclass(frozen=True, slots=True)
class Output:
    """Where results go.

    Attributes:
        as_json: One JSON object per line instead of text.
    """

    as_json: bool

    def result(self, message_type: str, text: str = "", **fields: Any) -> None:
        """Show one result: `text` to people (nothing if empty), `fields` as JSON."""
        if self.as_json:
            click.echo(json.dumps({"message_type": message_type, **fields}, sort_keys=False))
        elif text:
            click.echo(text)

    def note(self, text: str) -> None:
        """Tell something that is not the result."""
        click.echo(text, err=True)

    @contextmanager
    def progress(self, label: str, length: int) -> Iterator[Callable[[int], None]]:
        """Show a bar on a terminal, else one line; the function that is provided takes steps."""
        if self.as_json or not sys.stderr.isatty():
            if not self.as_json:
                self.note(f"{label} ...")
            yield lambda _: None
            return
        with click.progressbar(length=max(length, 1), label=label, file=sys.stderr) as bar:
            yield bar.update


def table(headings: Sequence[str], rows: Sequence[Sequence[str]], left: int) -> str:
    """Lay out a table.

    Args:
        headings: One per column.
        rows: Cells as text.
        left: How many columns, from the first, are aligned to the left; the others to the right.
    """
    lines = [list(headings), *map(list, rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(headings))]
    laid = [
        "  ".join(
            cell.ljust(width) if column < left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]
    return "\n".join([laid[0], "-" * max(map(len, laid)), *laid[1:]])


def size(length_bytes: int) -> str:
    """Return a number of bytes for people, in binary units with one decimal."""
    value = float(length_bytes)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"
