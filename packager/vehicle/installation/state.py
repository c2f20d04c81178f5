"""What a vehicle remembers of its ECUs across updates: the content of ``state/active.json``.

One file for all ECUs, so that all switch with one rename. It says which slot is active, and of an ECU that is updated in place, that its
only slot is between two images. Digests in it are claims that help to find a bundle; what is installed is told by hashing.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from packager.vehicle.core.manifest import MAX_IMAGE_BYTES, MAX_RELEASE_COUNTER
from packager.vehicle.core.targets import BundleTarget, ImageTarget, encode_target, parse_target
from packager.vehicle.errors import UntrustedError
from packager.vehicle.identity import SHA256, Digest, ImageId
from packager.vehicle.trust.metadata_json import parse_json

SLOTS: Final = ("a", "b")
STATE_FORMAT: Final = 1


@dataclass(frozen=True, slots=True)
class Begun:
    """An update that has begun to overwrite the only slot of an ECU: it can only go forward.

    Attributes:
        bundle: What it installs, as signed metadata described it when it began.
        image: The image that results, likewise.
    """

    bundle: BundleTarget
    image: ImageTarget


@dataclass(frozen=True, slots=True)
class EcuState:
    """What the vehicle remembers of an ECU.

    Attributes:
        slot: The active one.
        release_counter: The highest that was ever installed.
        installed: What was installed last; None if that was before this was remembered.
        begun: An in-place update that is half done: the ECU must not be started; None if it may.
    """

    slot: str = SLOTS[0]
    release_counter: int = 0
    installed: ImageId | None = None
    begun: Begun | None = None

    @property
    def spare_slot(self) -> str:
        """The other slot."""
        return SLOTS[1 - SLOTS.index(self.slot)]


def encode_state(state: Mapping[str, EcuState]) -> bytes:
    """Write the file; the inverse of `parse_state`."""
    ecus = {name: _encode_ecu(entry) for name, entry in state.items()}
    return json.dumps({"format": STATE_FORMAT, "ecus": ecus}, indent=1, sort_keys=True).encode()


def parse_state(data: bytes) -> dict[str, EcuState]:
    """Read the file.

    Raises:
        UntrustedError: It is damaged.
    """
    document = parse_json(data, "state")
    if not isinstance(document, dict) or document.get("format") != STATE_FORMAT:
        raise UntrustedError(f"expected an object of format {STATE_FORMAT}")
    ecus = document.get("ecus")
    if not isinstance(ecus, dict):
        raise UntrustedError("expected a table of ECUs")
    return {name: _parse_ecu(name, entry if isinstance(entry, dict) else {}) for name, entry in ecus.items()}


def _encode_ecu(state: EcuState) -> dict[str, Any]:
    entry: dict[str, Any] = {"slot": state.slot, "release_counter": state.release_counter}
    if state.installed is not None:
        entry["installed"] = {"length": state.installed.length_bytes, SHA256: state.installed.digest.hex}
    if state.begun is not None:
        entry["begun"] = {"bundle": encode_target(state.begun.bundle), "image": encode_target(state.begun.image)}
    return entry


def _parse_ecu(name: str, fields: Mapping[str, Any]) -> EcuState:
    slot, counter = fields.get("slot"), fields.get("release_counter")
    if slot not in SLOTS or type(counter) is not int or not 0 <= counter <= MAX_RELEASE_COUNTER:
        raise UntrustedError(f"ECU {name!r}: found {fields!r}, expected slot a or b and a release counter")
    installed, begun = fields.get("installed"), fields.get("begun")
    return EcuState(
        slot,
        counter,
        None if installed is None else _parse_image(name, installed),
        None if begun is None else _parse_begun(name, begun),
    )


def _parse_image(name: str, fields: object) -> ImageId:
    if isinstance(fields, dict):
        length_bytes, digest = fields.get("length"), fields.get(SHA256)
        if type(length_bytes) is int and 1 <= length_bytes <= MAX_IMAGE_BYTES and isinstance(digest, str):
            try:
                return ImageId(length_bytes, Digest.from_hex(digest))
            except ValueError:
                pass
    raise UntrustedError(f"ECU {name!r}: found installed {fields!r}, expected length and sha256")


def _parse_begun(name: str, fields: object) -> Begun:
    what = f"ECU {name!r}: begun update"
    if not isinstance(fields, dict):
        raise UntrustedError(f"{what}: found {fields!r}, expected bundle and image")
    try:
        bundle, image = parse_target(fields.get("bundle")), parse_target(fields.get("image"))
    except UntrustedError as error:
        raise UntrustedError(f"{what}: {error}") from error
    if not isinstance(bundle, BundleTarget) or not isinstance(image, ImageTarget) or bundle.image_path != image.path:
        raise UntrustedError(f"{what}: found {bundle.path!r} and {image.path!r}, expected a bundle and its image")
    return Begun(bundle, image)
