"""What the options of all commands share. Imports little, as every command imports it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import click

from packager.model.errors import ConfigError, ImageError

PATH: Final = click.Path(path_type=Path, dir_okay=False)


@dataclass(slots=True)
class Form:
    """In which form a command shows what it has to say; errors, too, which leave the command.

    Attributes:
        as_json: One JSON object per line.
    """

    as_json: bool = False


def _note_form(context: click.Context, _: click.Parameter, value: bool) -> bool:  # noqa: FBT001 - click calls it so
    form = context.find_object(Form)
    if form is not None:
        form.as_json = value
    return value


JSON: Final = click.option(
    "--json", "as_json", is_flag=True, is_eager=True, callback=_note_form, help="One JSON object per line on stdout."
)


def read_root_file(path: Path) -> bytes:
    """Read the root metadata that the caller trusts.

    Raises:
        ConfigError: It can't be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"--root {path}: can't be read: {error.strerror}") from error


def read_image(path: Path) -> bytes:
    """Read an image.

    Raises:
        ImageError: It can't be read, or is empty.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ImageError(f"{path}: can't be read: {error.strerror}") from error
    if not data:
        raise ImageError(f"{path}: is empty, expected an image")
    return data
