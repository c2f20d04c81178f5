"""Names of keys for people."""

from contextlib import suppress
from pathlib import Path

from packager.model.errors import KeyMaterialError
from packager.repo.keys import ROOT_NAME, load_public


def key_labels(directory: Path) -> dict[str, str]:
    """Return the names of all public keys in a key directory by id, also of those that no role lists any more."""
    names = {}
    for path in sorted((directory / "public").glob("*.json")):
        if path.name != ROOT_NAME:
            with suppress(KeyMaterialError):  # what is no key names none
                names[load_public(directory, path.stem).keyid] = path.stem
    return names
