"""How signed metadata describes images and bundles: target paths and custom fields. The repository writes what this module reads.

Paths: ``<hardware id>/<version>/image``, ``<hardware id>/<version>/<old sha256>.bundle`` and ``<hardware id>/<version>/full.bundle``.
Paths below ``chain/`` are evidence of the supply chain, which vehicles do not read.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from packager.vehicle.core.head import MAX_HEAD_BYTES, MIN_HEAD_BYTES, SignedHead
from packager.vehicle.core.manifest import MAX_IMAGE_BYTES, MAX_RELEASE_COUNTER
from packager.vehicle.errors import UntrustedError
from packager.vehicle.identity import SHA256, Digest, ImageId
from packager.vehicle.table import is_name

IMAGE: Final = "image"
BUNDLE_SUFFIX: Final = ".bundle"
FULL: Final = "full"
CHAIN: Final = "chain"
SUMMARY: Final = "summary"
_SUMMARY_SUFFIX: Final = ".json"


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
        summary: Target path of what the release gate says of its supply chain (`packager.vehicle.trust.summary`); None if it comes without.
    """

    hardware_id: str
    version: str
    image: ImageId
    release_counter: int
    hardware_ids: tuple[str, ...]
    max_repair_bytes: int | None = None
    summary: str | None = None

    @property
    def file(self) -> ImageId:
        """What its length and digest in signed metadata are of: the image."""
        return self.image

    @property
    def path(self) -> str:
        """Target path."""
        return image_path(self.hardware_id, self.version)

    @property
    def custom(self) -> dict[str, Any]:
        """Custom fields in signed metadata."""
        fields: dict[str, Any] = {"release_counter": self.release_counter, "hardware_ids": list(self.hardware_ids)}
        fields |= {} if self.max_repair_bytes is None else {"max_repair_bytes": self.max_repair_bytes}
        return fields if self.summary is None else {**fields, "summary": self.summary}


@dataclass(frozen=True, slots=True)
class BundleTarget:
    """A bundle to an image, from one old image or from nothing.

    The image that results is the one that stands under the same hardware id and version. Lengths of both images and all else stand in
    the manifest, which the head's digest makes authentic and which must agree (`selection.check_head`).

    Attributes:
        hardware_id: The hardware whose path it stands under.
        version: Version of the new image.
        length_bytes: Length of the whole file.
        digest: SHA-256 of the whole file.
        old: Digest of the image that it starts from; None for a full bundle.
        head: Length and digest of its head: what makes the head authentic.
    """

    hardware_id: str
    version: str
    length_bytes: int
    digest: Digest
    old: Digest | None
    head: SignedHead

    @property
    def file(self) -> ImageId:
        """What its length and digest in signed metadata are of: the whole file."""
        return ImageId(self.length_bytes, self.digest)

    @property
    def path(self) -> str:
        """Target path."""
        return bundle_path(self.hardware_id, self.version, self.old)

    @property
    def image_path(self) -> str:
        """Target path of the image that results."""
        return image_path(self.hardware_id, self.version)

    @property
    def custom(self) -> dict[str, Any]:
        """Custom fields in signed metadata: a car reads hundreds of them, so they say only what nothing else does."""
        return {"head": [self.head.length_bytes, self.head.digest.hex]}


def image_path(hardware_id: str, version: str) -> str:
    """Return the target path of an image."""
    return f"{hardware_id}/{version}/{IMAGE}"


def bundle_path(hardware_id: str, version: str, old: Digest | None) -> str:
    """Return the target path of the bundle from the image with the digest `old` (None: from nothing) to `version`."""
    return f"{hardware_id}/{version}/{FULL if old is None else old.hex}{BUNDLE_SUFFIX}"


def summary_path(role: str) -> str:
    """Return the target path of the summary for a delegated role, which lists it itself."""
    return f"{SUMMARY}/{role}{_SUMMARY_SUFFIX}"


def is_summary_path(path: object) -> bool:
    """Tell whether `path` is one that `summary_path` returns."""
    if not isinstance(path, str):
        return False
    folder, _, name = path.partition("/")
    return folder == SUMMARY and name.endswith(_SUMMARY_SUFFIX) and is_name(name.removesuffix(_SUMMARY_SUFFIX))


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
        summary = fields.get("summary")
        if summary is not None and not is_summary_path(summary):
            raise UntrustedError(f"{what}: found summary {summary!r}, expected {SUMMARY}/<role>.json")
        return ImageTarget(hardware_id, version, image, counter, tuple(hardware_ids), max_repair_bytes, summary)
    head_fields = fields.get("head")
    if not isinstance(head_fields, list) or len(head_fields) != 2:
        raise UntrustedError(f"{what}: found head {head_fields!r}, expected a list of its length and sha256")
    head = SignedHead(_integer(what, head_fields[0], MIN_HEAD_BYTES, MAX_HEAD_BYTES), _digest(what, head_fields[1]))
    if length_bytes < head.length_bytes:
        raise UntrustedError(f"{what}: {length_bytes} bytes, expected at least its head of {head.length_bytes}")
    start = name.removesuffix(BUNDLE_SUFFIX)
    old = None if start == FULL else _digest(what, start)
    bundle = BundleTarget(hardware_id, version, length_bytes, digest, old, head)
    if bundle.path != path:
        raise UntrustedError(f"{what}: expected {IMAGE}, {FULL}{BUNDLE_SUFFIX} or <old sha256>{BUNDLE_SUFFIX}")
    return bundle


def encode_target(target: ImageTarget | BundleTarget) -> dict[str, Any]:
    """Return a target as a JSON object that stands alone."""
    file = target.file
    return {"path": target.path, "length": file.length_bytes, SHA256: file.digest.hex, "custom": target.custom}


def parse_target(fields: object) -> ImageTarget | BundleTarget:
    """Read what `encode_target` returned.

    Raises:
        UntrustedError: It is something else.
    """
    if isinstance(fields, Mapping) and fields.keys() == {"path", "length", SHA256, "custom"}:
        path, length_bytes, custom = fields["path"], fields["length"], fields["custom"]
        if isinstance(path, str) and isinstance(custom, Mapping):
            return read_target(path, length_bytes, {SHA256: fields[SHA256]}, custom)
    raise UntrustedError(f"found target {fields!r}, expected path, length, sha256 and custom fields")


def _digest(what: str, value: object) -> Digest:
    try:
        return Digest.from_hex(value if isinstance(value, str) else "")
    except ValueError as error:
        raise UntrustedError(f"{what}: {error}") from error


def _integer(what: str, value: object, least: int, most: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise UntrustedError(f"{what}: found {value!r}, expected an integer from {least} to {most}")
    return value
