"""How signed metadata describes images and bundles: target paths and custom fields. The repository writes what this module reads.

Paths: ``<hardware id>/<version>/image``, ``<hardware id>/<version>/<old sha256>.bundle`` and ``<hardware id>/<version>/full.bundle``.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from packager.vehicle.errors import UntrustedError
from packager.vehicle.head import MAX_HEAD_BYTES, MIN_HEAD_BYTES, SignedHead
from packager.vehicle.identity import SHA256, Digest, ImageId
from packager.vehicle.manifest import MAX_IMAGE_BYTES, MAX_RELEASE_COUNTER, Kind
from packager.vehicle.table import is_name

IMAGE: Final = "image"
BUNDLE_SUFFIX: Final = ".bundle"
FULL: Final = "full"


@dataclass(frozen=True, slots=True)
class ImageTarget:
    """An image that a release offers to hardware.

    Attributes:
        hardware_id: The hardware whose path it stands under.
        version: For people.
        image: Length and digest of the whole image.
        release_counter: Grows with every release of the image.
        hardware_ids: All hardware that it is made for.
        max_repair_bytes: Most bytes of the full bundle that a car may fetch to replace damaged blocks; None leaves the full bundle
            as the way out, 0 allows neither.
    """

    hardware_id: str
    version: str
    image: ImageId
    release_counter: int
    hardware_ids: tuple[str, ...]
    max_repair_bytes: int | None = None

    @property
    def path(self) -> str:
        """Target path."""
        return f"{self.hardware_id}/{self.version}/{IMAGE}"

    @property
    def custom(self) -> dict[str, Any]:
        """Custom fields in signed metadata."""
        fields: dict[str, Any] = {"release_counter": self.release_counter, "hardware_ids": list(self.hardware_ids)}
        return fields if self.max_repair_bytes is None else {**fields, "max_repair_bytes": self.max_repair_bytes}


@dataclass(frozen=True, slots=True)
class BundleTarget:
    """A bundle to an image, from one old image or from nothing.

    Attributes:
        hardware_id: The hardware whose path it stands under.
        version: Version of the new image.
        length_bytes: Length of the whole file.
        digest: SHA-256 of the whole file.
        old: The image that it starts from; None for a full bundle.
        new: The image that results.
        head: Length and digest of its head: what makes the head authentic.
    """

    hardware_id: str
    version: str
    length_bytes: int
    digest: Digest
    old: ImageId | None
    new: ImageId
    head: SignedHead

    @property
    def path(self) -> str:
        """Target path."""
        return bundle_path(self.hardware_id, self.version, self.old)

    @property
    def custom(self) -> dict[str, Any]:
        """Custom fields in signed metadata."""
        fields: dict[str, Any] = {
            "kind": (Kind.FULL if self.old is None else Kind.DELTA).name.lower(),
            "new": _write_id(self.new),
            "head": {"length": self.head.length_bytes, SHA256: self.head.digest.hex},
        }
        return fields if self.old is None else {**fields, "old": _write_id(self.old)}


def bundle_path(hardware_id: str, version: str, old: ImageId | None) -> str:
    """Return the target path of the bundle from `old` (None: from nothing) to `version`."""
    return f"{hardware_id}/{version}/{FULL if old is None else old.digest.hex}{BUNDLE_SUFFIX}"


def read_target(
    path: str, length_bytes: int, hashes: Mapping[str, str], custom: Mapping[str, Any] | None
) -> ImageTarget | BundleTarget:
    """Read one target of verified metadata.

    Raises:
        UntrustedError: Path, hashes or custom fields are not of the form above. Signed nonsense is not trusted.
    """
    what = f"target {path!r}"
    parts = path.split("/")
    if len(parts) != 3 or not all(map(is_name, parts[:2])):
        raise UntrustedError(f"{what}: expected <hardware id>/<version>/image or .bundle")
    hardware_id, version, name = parts
    digest = _digest(what, hashes.get(SHA256))
    fields = custom or {}
    if name == IMAGE:
        image = ImageId(_integer(what, length_bytes, 1, MAX_IMAGE_BYTES), digest)
        counter = _integer(what, fields.get("release_counter"), 0, MAX_RELEASE_COUNTER)
        hardware_ids = fields.get("hardware_ids")
        if (
            not isinstance(hardware_ids, list)
            or hardware_id not in hardware_ids
            or not all(isinstance(item, str) and is_name(item) for item in hardware_ids)
        ):
            raise UntrustedError(
                f"{what}: hardware ids {hardware_ids!r}, expected a list of names with {hardware_id!r}"
            )
        repair = fields.get("max_repair_bytes")
        max_repair_bytes = None if repair is None else _integer(what, repair, 0, MAX_IMAGE_BYTES)
        return ImageTarget(hardware_id, version, image, counter, tuple(hardware_ids), max_repair_bytes)
    head_fields = fields.get("head")
    if not isinstance(head_fields, Mapping):
        raise UntrustedError(f"{what}: found head {head_fields!r}, expected its length and sha256")
    head = SignedHead(
        _integer(what, head_fields.get("length"), MIN_HEAD_BYTES, MAX_HEAD_BYTES),
        _digest(what, head_fields.get(SHA256)),
    )
    kinds = {Kind.FULL.name.lower(): False, Kind.DELTA.name.lower(): True}
    is_delta = kinds.get(str(fields.get("kind")))
    if is_delta is None:
        raise UntrustedError(f"{what}: found kind {fields.get('kind')!r}, expected full or delta")
    if length_bytes < head.length_bytes:
        raise UntrustedError(f"{what}: {length_bytes} bytes, expected at least its head of {head.length_bytes}")
    if not is_delta and "old" in fields:
        raise UntrustedError(f"{what}: found an old image, expected none of a full bundle")
    old = _read_id(what, fields.get("old")) if is_delta else None
    bundle = BundleTarget(hardware_id, version, length_bytes, digest, old, _read_id(what, fields.get("new")), head)
    if bundle.path != path:
        raise UntrustedError(f"{what}: its custom fields belong to {bundle.path!r}")
    return bundle


def _write_id(image: ImageId) -> dict[str, Any]:
    return {"length": image.length_bytes, SHA256: image.digest.hex}


def _read_id(what: str, value: object) -> ImageId:
    if not isinstance(value, Mapping):
        raise UntrustedError(f"{what}: found image identity {value!r}, expected length and sha256")
    return ImageId(_integer(what, value.get("length"), 1, MAX_IMAGE_BYTES), _digest(what, value.get(SHA256)))


def _digest(what: str, value: object) -> Digest:
    try:
        return Digest.from_hex(value if isinstance(value, str) else "")
    except ValueError as error:
        raise UntrustedError(f"{what}: {error}") from error


def _integer(what: str, value: object, least: int, most: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise UntrustedError(f"{what}: found {value!r}, expected an integer from {least} to {most}")
    return value
