"""The bill of materials of a release: CycloneDX 1.6, every new image a firmware component, the only module that touches CycloneDX."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID, uuid5

from packager.model.errors import SupplyChainError
from packager.model.strict_json import parse_json
from packager.supplychain.intoto import ReleaseId
from packager.vehicle.identity import Digest

if TYPE_CHECKING:
    from cyclonedx.model.component import Component

SBOM_NAME: Final = "sbom.cdx.json"
_NAMESPACE: Final = UUID("6f1c53cb-1e0f-5a1c-9b57-0c6c9e6b2f5d")
"""Of serial numbers, which follow from the release file's digest: the same release has the same one."""
_PROPERTY: Final = "delta-packager:"


@dataclass(frozen=True, slots=True)
class Firmware:
    """One new image, as a bill of materials lists it.

    Attributes:
        path: Target path.
        name: Of the ECU.
        version: For people.
        supplier: Who delivers it.
        hardware_ids: What it is for.
        release_counter: Grows with every release of the image.
        length_bytes: Of the image.
        digest: Of the image.
    """

    path: str
    name: str
    version: str
    supplier: str
    hardware_ids: Sequence[str]
    release_counter: int
    length_bytes: int
    digest: Digest


def make_sbom(release: ReleaseId, images: Sequence[Firmware], tools: Mapping[str, str], issued_at: datetime) -> bytes:
    """Make the bill of materials.

    Args:
        release: What it is of.
        images: The new images.
        tools: Versions of what built it, by name.
        issued_at: UTC, whole seconds.
    """
    # Imported here: it takes a fifth of a second, and only who builds needs it.
    from cyclonedx.model.bom import Bom, BomMetaData
    from cyclonedx.model.component import Component, ComponentType
    from cyclonedx.model.tool import ToolRepository
    from cyclonedx.output.json import JsonV1Dot6

    components = [_component(image) for image in images]
    whole = Component(
        name=release.name, version=release.version, type=ComponentType.FIRMWARE, bom_ref=release.description.hex
    )
    made_with = [
        Component(name=name, version=version, type=ComponentType.LIBRARY, bom_ref=f"tool:{name}")
        for name, version in tools.items()
    ]
    bom = Bom(
        serial_number=uuid5(_NAMESPACE, release.description.hex),
        metadata=BomMetaData(timestamp=issued_at, component=whole, tools=ToolRepository(components=made_with)),
        components=components,
    )
    bom.register_dependency(whole, components)
    return (JsonV1Dot6(bom).output_as_string(indent=1) + "\n").encode()


def check_sbom(data: bytes, what: str, images: Mapping[str, Digest]) -> None:
    """Check that a bill of materials lists exactly `images`, by target path.

    Raises:
        SupplyChainError: It is no such document, or lists others.
    """
    document = parse_json(data, what, SupplyChainError)
    try:
        if (document["bomFormat"], document["specVersion"]) != ("CycloneDX", "1.6"):
            raise ValueError("not CycloneDX 1.6")
        listed = {str(item["bom-ref"]): _digest(item) for item in document["components"]}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise SupplyChainError(f"{what}: {error!r}; expected a CycloneDX 1.6 document with components") from error
    for path in sorted(listed.keys() | images.keys()):
        if listed.get(path) != images.get(path):
            raise SupplyChainError(
                f"{what}: {path}: lists {listed.get(path) or 'nothing'}, signed is {images.get(path) or 'nothing'}"
            )


def without_sbom(files: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return layout and links of a release: the bill of materials lies beside them and is no part of the chain."""
    return {name: data for name, data in files.items() if name != SBOM_NAME}


def _component(image: Firmware) -> "Component":
    from cyclonedx.model import HashAlgorithm, HashType, Property
    from cyclonedx.model.component import Component, ComponentType
    from cyclonedx.model.contact import OrganizationalEntity

    properties = [Property(name=_PROPERTY + "hardware_id", value=item) for item in image.hardware_ids]
    properties.append(Property(name=_PROPERTY + "release_counter", value=str(image.release_counter)))
    properties.append(Property(name=_PROPERTY + "length_bytes", value=str(image.length_bytes)))
    return Component(
        name=image.name,
        version=image.version,
        type=ComponentType.FIRMWARE,
        bom_ref=image.path,
        supplier=OrganizationalEntity(name=image.supplier),
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=image.digest.hex)],
        properties=properties,
    )


def _digest(item: Mapping[str, Any]) -> Digest:
    (entry,) = item["hashes"]
    if entry["alg"] != "SHA-256":
        raise ValueError(f"found a hash of {entry['alg']}, expected SHA-256")
    return Digest.from_hex(entry["content"])
