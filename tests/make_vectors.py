"""Writes the golden bundles again: `python -m tests.make_vectors`. Their bytes are fixed; a change is a change of the format."""

import json
from pathlib import Path

from tests.sample_bundles import samples

VECTORS = Path(__file__).parent / "vectors"


def vector_files() -> dict[str, bytes]:
    """Return every file of the vectors by name."""
    files: dict[str, bytes] = {}
    listing = []
    for sample in samples():
        files[f"{sample.name}.bundle"] = sample.data
        files[f"{sample.name}.new"] = sample.new
        if sample.old is not None:
            files[f"{sample.name}.old"] = sample.old
        listing.append(
            {
                "name": sample.name,
                "full": sample.old is None,
                "head_bytes": sample.head_bytes,
                "head_sha256": sample.signed.digest.hex,
            }
        )
    files["vectors.json"] = (json.dumps(listing, indent=2) + "\n").encode()
    return files


if __name__ == "__main__":
    for name, content in vector_files().items():
        (VECTORS / name).write_bytes(content)
