"""The catalogue of sample images: where real ones come from, with every hash, and what the generated ones are made from."""

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from packager.model.errors import ConfigError
from packager.vehicle.profile import KIB
from packager.vehicle.table import Table
from sample_images.conversion import METHODS, Conversion
from sample_images.synthesiser import MAX_VERSION, FirmwareSpec

CATALOGUE: Final = Path(__file__).with_name("catalogue.toml")
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_FILE_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*\.(whl|tar\.gz)")
_MAX_BYTES: Final = 1 << 30


@dataclass(frozen=True, slots=True)
class Package:
    """A package of the registry.

    Attributes:
        name: As pip knows it.
        licence: Of what the image holds.
        source: Page of the project.
        is_wheel: Wheel or source distribution.
        abi: Of the wheel; empty if any will do.
        platforms: Of the wheel; empty if any will do.
    """

    name: str
    licence: str
    source: str
    is_wheel: bool
    abi: str
    platforms: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RealImage:
    """One version of a real image: a pinned distribution, how it is converted, and the pinned result."""

    package: Package
    package_version: str
    file: str
    file_sha256: str
    conversion: Conversion
    image_sha256: str
    image_bytes: int


@dataclass(frozen=True, slots=True)
class SampleImage:
    """One image of the sample.

    Attributes:
        kind: What it is; names its directory.
        version: Names its file.
        firmware: What it is generated from; for a real image, its stand-in without a registry.
        real: Where it really comes from; None for a generated image.
    """

    kind: str
    version: str
    firmware: FirmwareSpec
    real: RealImage | None

    @property
    def name(self) -> str:
        """Path below the directory of images."""
        return f"{self.kind}/{self.version}.bin"


def read_catalogue(path: Path = CATALOGUE) -> tuple[SampleImage, ...]:
    """Read the catalogue; images of one kind stand together, oldest first.

    Raises:
        ConfigError: It can't be read, or breaks a rule; lists every problem.
    """
    try:
        values = tomllib.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ConfigError(f"catalogue {path}: can't be read: {error}") from error
    problems: list[str] = []
    root = Table(values, "", problems)
    images = [image for table in root.tables("real") for image in _read_real(table)]
    images += [image for table in root.tables("generated") for image in _read_generated(table)]
    root.end()
    names = [image.name for image in images]
    problems += [f"{name} is listed twice, expected once" for name in sorted({n for n in names if names.count(n) > 1})]
    if problems:
        raise ConfigError(f"catalogue {path}: {len(problems)} problems", tuple(problems))
    return tuple(images)


def _read_real(table: Table) -> list[SampleImage]:
    kind = table.name("kind")
    table.rename(f"real {kind or '?'}")
    table.text("title")
    form = table.name("distribution")
    if form not in ("wheel", "sdist"):
        table.problem(f"distribution: found {form!r}, expected wheel or sdist")
    package = Package(
        name=table.name("package"),
        licence=table.text("licence"),
        source=table.text("source"),
        is_wheel=form == "wheel",
        abi=table.text("abi", default=""),
        platforms=table.names("platforms", default=()),
    )
    method = table.name("conversion")
    if method not in METHODS:
        table.problem(f"conversion: found {method!r}, expected one of {', '.join(METHODS)}")
    variable = table.text("variable", default="")
    end_address = table.integer("end_address", least=1, most=1 << 32, default=1 << 32)
    recipe = table.table("stand_in")
    stand_in = _read_recipe(recipe)
    recipe.end()
    images = []
    for step, entry in enumerate(table.tables("version")):
        version = entry.name("version")
        real = RealImage(
            package=package,
            package_version=version,
            file=_file_name(entry, "file"),
            file_sha256=_sha256(entry, "sha256"),
            conversion=Conversion(method, entry.text("member"), variable, end_address),
            image_sha256=_sha256(entry, "image_sha256"),
            image_bytes=entry.integer("image_bytes", least=1, most=_MAX_BYTES),
        )
        entry.end()
        firmware = _spec(entry, stand_in, step)
        if firmware:
            images.append(SampleImage(kind, version, firmware, real))
    table.end()
    return images


def _read_generated(table: Table) -> list[SampleImage]:
    kind = table.name("kind")
    table.rename(f"generated {kind or '?'}")
    table.text("title")
    recipe = _read_recipe(table)
    images = []
    for entry in table.tables("version"):
        version = entry.name("version")
        firmware = _spec(entry, recipe, entry.integer("step", least=0, most=MAX_VERSION))
        entry.end()
        if firmware:
            images.append(SampleImage(kind, version, firmware, None))
    table.end()
    return images


@dataclass(frozen=True, slots=True)
class _Recipe:
    isa: str
    flash_bytes: int
    seed: int
    fill_percent: int


def _read_recipe(table: Table) -> _Recipe:
    return _Recipe(
        isa=table.name("isa"),
        flash_bytes=table.integer("flash_kib", least=1, most=_MAX_BYTES // KIB) * KIB,
        seed=table.integer("seed", least=0, most=1 << 32),
        fill_percent=table.integer("fill_percent", least=0, most=100, default=20),
    )


def _spec(table: Table, recipe: _Recipe, step: int) -> FirmwareSpec | None:
    try:
        return FirmwareSpec(recipe.isa, recipe.flash_bytes, recipe.seed, step, recipe.fill_percent)
    except ConfigError as error:
        for problem in error.problems:
            table.problem(problem)
        return None


def _file_name(table: Table, key: str) -> str:
    text = table.text(key)
    if text and not _FILE_NAME.fullmatch(text):
        table.problem(f"{key}: found {text!r}, expected the file name of a .whl or .tar.gz")
    return text


def _sha256(table: Table, key: str) -> str:
    text = table.text(key)
    if text and not _SHA256.fullmatch(text):
        table.problem(f"{key}: found {text!r}, expected 64 lower-case hexadecimal digits")
    return text
