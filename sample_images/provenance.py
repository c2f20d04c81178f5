"""Which sample image is real and which is generated: ``images/PROVENANCE.json``."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from packager.vehicle.storage import write_atomically

PROVENANCE: Final = "PROVENANCE.json"
FORMAT: Final = 1


def read_provenance(directory: Path) -> dict[str, dict[str, Any]]:
    """Return the entry of each image by its name; empty if there is no file, or one that is damaged or of another format."""
    try:
        document = json.loads((directory / PROVENANCE).read_bytes())
        images = document["images"] if document["format"] == FORMAT else {}
        return {str(name): dict(entry) for name, entry in images.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def write_provenance(directory: Path, images: Mapping[str, Mapping[str, Any]]) -> None:
    """Write the entries of all images.

    Raises:
        ResourceError: The file can't be written.
    """
    document = {"format": FORMAT, "images": {name: images[name] for name in sorted(images)}}
    write_atomically(directory / PROVENANCE, (json.dumps(document, indent=1) + "\n").encode())
