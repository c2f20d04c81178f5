"""What the options of all commands share. Imports little, as every command imports it."""

from pathlib import Path
from typing import Final

import click

from packager.model.errors import ConfigError

PATH: Final = click.Path(path_type=Path, dir_okay=False)
JSON: Final = click.option("--json", "as_json", is_flag=True, help="One JSON object per line on stdout.")


def read_root_file(path: Path) -> bytes:
    """Read the root metadata that the caller trusts.

    Raises:
        ConfigError: It can't be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"--root {path}: can't be read: {error.strerror}") from error
