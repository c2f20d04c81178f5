"""Reads where the private halves of keys lie: a file of one machine, beside the key policy. Does not look at any key."""

from collections.abc import Mapping
from pathlib import Path

from packager.config.document import read_document
from packager.model.errors import ConfigError
from packager.vehicle.table import Table


def read_uris(path: Path) -> Mapping[str, str]:
    """Read key URIs by name of the key; there are none if there is no such file.

    Args:
        path: The file, usually ``keys/uris.toml``.

    Raises:
        ConfigError: It can't be read, is not TOML, or holds something else than names and strings; all problems are listed.
    """
    if not path.exists():
        return {}
    values, _ = read_document(path, "key URIs", hint='each line says NAME = "URI"')
    problems: list[str] = []
    uris = Table(values, "", problems).texts()
    if problems:
        raise ConfigError(f"{path}: {len(problems)} problem{'s' if len(problems) > 1 else ''}", tuple(problems))
    return uris
