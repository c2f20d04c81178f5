"""Writes the golden bundles again: `python -m tests.make_vectors`. Their bytes are fixed; a change is a change of the format."""

import json
from pathlib import Path

from tests.in_place_bundles import shifted_up, swapped
from tests.predicted_bundles import predicted_samples
from tests.sample_bundles import Sample, samples

VECTORS = Path(__file__).parent / "vectors"


def vector_files() -> dict[str, bytes]:
    """Return every file of the vectors by name."""
    files: dict[str, bytes] = {}
    listing = []
    for sample in [*samples(), *in_place_samples(), *predicted_samples()]:
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


def in_place_samples() -> list[Sample]:
    """Return one bundle with another install order, and one with spills besides."""
    names = {"in-place-reordered": shifted_up(), "in-place-spilled": swapped()}
    return [Sample(name, made.old, made.new, made.data, made.head_bytes) for name, made in names.items()]


if __name__ == "__main__":
    for name, content in vector_files().items():
        (VECTORS / name).write_bytes(content)
