"""Makes all sample images: real ones from the registry, generated ones, and generated stand-ins where the registry is silent.

An image is done when its file has the right SHA-256: the pinned one, or the noted one of a generated image with the same recipe.
A stand-in is replaced by the real image as soon as a later run gets it.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import groupby
from pathlib import Path
from typing import Any

from packager.model.errors import ImageError, SpaceError
from packager.vehicle.storage import write_atomically
from sample_images.catalogue import RealImage, SampleImage
from sample_images.conversion import convert
from sample_images.provenance import read_provenance, write_provenance
from sample_images.registry import Registry, UnreachableError, sha256_of
from sample_images.synthesiser import write_firmware


class Origin(Enum):
    """Where the bytes of an image come from."""

    REAL = "real"
    GENERATED = "generated"


@dataclass(frozen=True, slots=True)
class ObtainedImage:
    """An image that is there.

    Attributes:
        name: Path below the directory of images.
        origin: Real or generated.
        is_stand_in: Generated in place of a real image.
        is_new: Made now; otherwise it was there.
        sha256: Of the file.
        length_bytes: Of the file.
    """

    name: str
    origin: Origin
    is_stand_in: bool
    is_new: bool
    sha256: str
    length_bytes: int


def obtain(
    catalogue: Sequence[SampleImage],
    directory: Path,
    registry: Registry,
    tell: Callable[[str], None],
) -> list[ObtainedImage]:
    """Make every image that is not there yet.

    Args:
        catalogue: The images wanted; those of one kind stand together.
        directory: Where ``<kind>/<version>.bin`` go.
        registry: Where real ones come from; once it does not answer it is not asked again.
        tell: Told, in one line each, what takes time and what went another way than planned.

    Raises:
        SupplyChainError: The registry delivers something else than pinned; images made before stay.
        ImageError: A distribution does not convert to the pinned image.
        SpaceError: No space, or the directory can't be written.
        ResourceError: As SpaceError.
    """
    run = _Run(directory, registry, tell)
    obtained = []
    for _, group in groupby(catalogue, key=lambda image: image.kind):
        images = list(group)
        if images[0].real is None:
            obtained += [run.generate(image) for image in images]
        else:
            obtained += run.obtain_real(images)
    return obtained


class _Run:
    """One run: what it knows of the images that are there, and whether the registry answers."""

    def __init__(self, directory: Path, registry: Registry, tell: Callable[[str], None]) -> None:
        self._directory = directory
        self._registry = registry
        self._tell = tell
        self._entries = read_provenance(directory)

    def obtain_real(self, images: Sequence[SampleImage]) -> list[ObtainedImage]:
        """Get all versions of one kind, or stand-ins for all: a real old and a generated new image have nothing in common."""
        try:
            return [self._obtain(image, image.real) for image in images if image.real]
        except UnreachableError as error:
            self._tell(f"warning: {error}")
            self._tell(
                f"warning: {images[0].kind}: GENERATED stand-ins instead of real images ({len(images)} versions)"
            )
            self._registry = Registry(self._registry.cache, None)
            return [self.generate(image) for image in images]

    def _obtain(self, image: SampleImage, real: RealImage) -> ObtainedImage:
        path = self._directory / image.name
        entry = {
            "origin": Origin.REAL.value,
            "sha256": real.image_sha256,
            "length_bytes": real.image_bytes,
            "distribution": real.file,
            "distribution_sha256": real.file_sha256,
            "licence": real.package.licence,
            "source": real.package.source,
        }
        is_new = _sha256_if_there(path) != real.image_sha256
        if is_new:
            self._tell(f"{image.name}: from {real.file}")
            write_atomically(path, _convert(real, self._registry.fetch(real)))
        self._note(image, entry)
        return ObtainedImage(image.name, Origin.REAL, False, is_new, real.image_sha256, real.image_bytes)  # noqa: FBT003

    def generate(self, image: SampleImage) -> ObtainedImage:
        """Generate an image, unless it is there."""
        path = self._directory / image.name
        recipe = image.firmware.recipe
        entry = self._entries.get(image.name, {})
        digest = entry.get("sha256") if entry.get("recipe") == recipe else None
        is_new = digest is None or _sha256_if_there(path) != digest
        if is_new:
            self._tell(f"{image.name}: generated")
            write_firmware(image.firmware, path)
            digest = sha256_of(path)
        length = image.firmware.flash_bytes
        is_stand_in = image.real is not None
        self._note(
            image,
            {
                "origin": Origin.GENERATED.value,
                "sha256": digest,
                "length_bytes": length,
                "recipe": recipe,
                **({"stands_in_for": image.real.file} if image.real else {}),
            },
        )
        return ObtainedImage(image.name, Origin.GENERATED, is_stand_in, is_new, str(digest), length)

    def _note(self, image: SampleImage, entry: dict[str, Any]) -> None:
        if self._entries.get(image.name) != entry:
            self._entries[image.name] = entry
            write_provenance(self._directory, self._entries)


def _sha256_if_there(path: Path) -> str | None:
    try:
        return sha256_of(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise SpaceError(f"{path}: can't be read: {error.strerror}") from error


def _convert(real: RealImage, distribution: Path) -> bytes:
    """Convert a distribution and check the result.

    Raises:
        ImageError: It is not the pinned image.
    """
    data = convert(distribution, real.conversion)
    found = hashlib.sha256(data).hexdigest()
    if found != real.image_sha256 or len(data) != real.image_bytes:
        raise ImageError(
            f"{real.file}: converts to {len(data)} bytes with SHA-256 {found}, "
            f"expected {real.image_bytes} bytes with {real.image_sha256}",
            hint="the conversion or the catalogue was changed; correct image_bytes and image_sha256 if that was meant",
        )
    return data
