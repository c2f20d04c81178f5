"""Reads TOML files: bounded, UTF-8, with one error for all that can be wrong before their content is looked at."""

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from packager.model.errors import ConfigError

MAX_DOCUMENT_BYTES: Final = 1 << 20


def refuse(what: str, problems: Sequence[str]) -> None:
    """Name all problems of a file at once.

    Raises:
        ConfigError: There are some.
    """
    if problems:
        raise ConfigError(f"{what}: {len(problems)} problem{'s' if len(problems) > 1 else ''}", tuple(problems))


def read_document(path: Path, what: str, hint: str = "") -> tuple[dict[str, Any], bytes]:
    """Read a TOML file.

    Args:
        path: The file.
        what: What it is expected to be, for messages.
        hint: What to do if it can't be read.

    Returns:
        Its content, and its bytes.

    Raises:
        ConfigError: It is missing, unreadable, longer than `MAX_DOCUMENT_BYTES` or not TOML.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_DOCUMENT_BYTES + 1)
        if len(raw) > MAX_DOCUMENT_BYTES:
            raise ConfigError(f"{what} {path}: longer than {MAX_DOCUMENT_BYTES} bytes, expected at most that many")
        return tomllib.loads(raw.decode()), raw
    except OSError as error:
        raise ConfigError(f"{what} {path}: can't be read: {error.strerror}", hint=hint) from error
    except ValueError as error:
        raise ConfigError(f"{what} {path}: {error}; expected TOML in UTF-8") from error
