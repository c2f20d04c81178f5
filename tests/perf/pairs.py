"""Which version pairs are compared: those of a directory of images, or those of the sample release."""

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from packager.config.release import read_release

SAMPLE_RELEASE: Final = Path("sample_images/os7.toml")
_COLUMNS: Final = {"class", "name", "old", "new"}


@dataclass(frozen=True, slots=True)
class Pair:
    """Two versions of an image.

    Attributes:
        kind: Its class, for example ``mcu``.
        name: Of the image.
        versions: Old and new.
        old: File of the old version.
        new: File of the new version.
    """

    kind: str
    name: str
    versions: tuple[str, str]
    old: Path
    new: Path

    @property
    def title(self) -> str:
        return f"{self.kind} {self.name} {self.versions[0]} -> {self.versions[1]}"

    @property
    def longest_bytes(self) -> int:
        return max(self.old.stat().st_size, self.new.stat().st_size)


def corpus_pairs(corpus: Path, table: Path) -> list[Pair]:
    """Read a table (tabulators; class, name, old, new) of the pairs of ``CLASS/NAME/VERSION.bin``.

    Raises:
        SystemExit: A column or a file is missing.
    """
    with table.open(newline="") as stream:
        rows = list(csv.DictReader(stream, delimiter="\t"))
    if not rows or not rows[0].keys() >= _COLUMNS:
        found = list(rows[0]) if rows else "no rows"
        raise SystemExit(f"{table}: found {found}, expected the columns {sorted(_COLUMNS)}, separated by tabulators")
    return [
        Pair(
            row["class"],
            row["name"],
            (row["old"], row["new"]),
            corpus / row["class"] / row["name"] / f"{row['old']}.bin",
            corpus / row["class"] / row["name"] / f"{row['new']}.bin",
        )
        for row in rows
    ]


def sample_pairs() -> list[Pair]:
    """Return the pairs of the sample release, each image once."""
    release, _ = read_release(SAMPLE_RELEASE)
    pairs = {
        (old.path, ecu.new.path): Pair(
            "sample", ecu.hardware_id, (old.version, ecu.new.version), old.path, ecu.new.path
        )
        for ecu in release.ecus
        for old in ecu.old
    }
    return list(pairs.values())
