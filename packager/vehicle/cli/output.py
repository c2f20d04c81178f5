"""What the vehicle's command line prints: tables for people, one JSON object per line for programs."""

import json
from collections.abc import Sequence
from typing import Any, Final, TextIO

from packager.vehicle.core.applier import Progress

PROGRAM: Final = "packager-vehicle"


class Output:
    """Writes for people or, with ``--json``, for programs; a call that is meant for the other one does nothing."""

    def __init__(self, stdout: TextIO, stderr: TextIO, *, as_json: bool) -> None:
        self._stdout = stdout
        self._stderr = stderr
        self._as_json = as_json
        self._shows_progress = stderr.isatty() and not as_json
        self._has_progress = False

    def line(self, text: str) -> None:
        """Print a line for people."""
        if not self._as_json:
            print(text, file=self._stdout)

    def table(self, headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Print a table for people."""
        if self._as_json:
            return
        widths = [max(map(len, column)) for column in zip(headers, *rows, strict=True)]
        for row in (headers, *rows):
            cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            print("  ".join(cells).rstrip(), file=self._stdout)

    def item(self, message_type: str, **fields: Any) -> None:
        """Print an object for programs."""
        if self._as_json:
            print(json.dumps({"message_type": message_type, **fields}), file=self._stdout)

    def summary(self, **fields: Any) -> None:
        """Print the last object for programs."""
        self.item("summary", **fields)

    def progress(self, ecu: str, progress: Progress) -> None:
        """Show how far an ECU is, on a terminal only."""
        if self._shows_progress:
            share = progress.bundle_bytes_done / progress.bundle_bytes
            print(
                f"\r{ecu}: block {progress.blocks_done} of {progress.blocks}, {share:.0%}   ", end="", file=self._stderr
            )
            self._stderr.flush()
            self._has_progress = True

    def end_progress(self) -> None:
        """Leave the line of the progress."""
        if self._has_progress:
            print(file=self._stderr)
            self._has_progress = False

    def failure(self, code: int, message: str, hint: str) -> int:
        """Report an error and return its exit code."""
        self.end_progress()
        if self._as_json:
            fields = {"code": code, "message": message, "hint": hint}
            print(json.dumps({"message_type": "exit_error", **fields}), file=self._stdout)
        else:
            print(f"{PROGRAM}: error: {message}\nhint: {hint}", file=self._stderr)
        return code
