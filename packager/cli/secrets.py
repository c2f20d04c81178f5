"""Where secrets come from: the terminal, or a file that an environment variable names. Never from an option, which others can see."""

import os
import sys
from pathlib import Path
from typing import Final

import click

from packager.model.errors import KeyMaterialError

PASSPHRASE_FILE: Final = "PACKAGER_PASSPHRASE_FILE"  # noqa: S105 - the name of a variable
PIN_FILE: Final = "PACKAGER_PIN_FILE"
_MAX_SECRET_BYTES: Final = 1024


def ask_secret(what: str) -> str:
    """Return a secret: the secrets handler of every command.

    Args:
        what: For example ``passphrase of private/root-1.pem`` or ``PIN of hsm:2?label=root-1``.

    Raises:
        KeyMaterialError: There is no terminal to ask at and no file to read from, or the file is unfit.
    """
    return _ask(what, PIN_FILE if what.startswith("PIN ") else PASSPHRASE_FILE, confirm=False)


def ask_new_passphrase(name: str) -> str:
    """Return the passphrase for a new key, typed twice.

    Raises:
        KeyMaterialError: As `ask_secret`.
    """
    return _ask(f"new passphrase of {name}", PASSPHRASE_FILE, confirm=True)


def _ask(what: str, variable: str, *, confirm: bool) -> str:
    path = os.environ.get(variable)
    if path:
        return _read(Path(path), what, variable)
    if not sys.stdin.isatty():
        raise KeyMaterialError(
            f"{what}: found no terminal to ask at, expected one",
            hint=f"{variable} may name a file whose first line holds it",
        )
    answer: str = click.prompt(what, hide_input=True, confirmation_prompt=confirm, err=True)
    return answer


def _read(path: Path, what: str, variable: str) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_SECRET_BYTES + 1)
        lines = data.decode().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise KeyMaterialError(f"{variable}: {path}: {reason}; expected a file with the {what}") from None
    if len(data) > _MAX_SECRET_BYTES or len(lines) != 1 or not lines[0]:
        raise KeyMaterialError(
            f"{variable}: {path}: expected one line of at most {_MAX_SECRET_BYTES} bytes with the {what}"
        )
    return lines[0]
