"""Tells what every ECU of a vehicle home has, without the network."""

import contextlib
from dataclasses import dataclass
from datetime import UTC, datetime

from packager.vehicle.core.targets import ImageTarget
from packager.vehicle.errors import VehicleError
from packager.vehicle.identity import ImageId
from packager.vehicle.installation.home import Ecu, VehicleHome
from packager.vehicle.installation.state import EcuState
from packager.vehicle.trust.metadata_store import TrustedMetadata, read_stored


@dataclass(frozen=True, slots=True)
class EcuStatus:
    """What an ECU has.

    Attributes:
        ecu: The ECU.
        state: Active slot and highest release counter.
        installed: What the active slot holds; None for nothing.
        version: Version of that image if stored metadata knows it.
        is_interrupted: Whether an update was begun and not ended.
        is_startable: Whether its active slot holds a whole image: False while an in-place update is half done.
    """

    ecu: Ecu
    state: EcuState
    installed: ImageId | None
    version: str | None
    is_interrupted: bool
    is_startable: bool = True


def status(home: VehicleHome) -> list[EcuStatus]:
    """Tell what every ECU has, without the network.

    Raises:
        ResourceError: A slot or the state can't be read.
    """
    states = home.read_state()
    trusted = None
    with contextlib.suppress(VehicleError):  # versions are for people; nothing depends on them, nor on their expiry
        trusted = read_stored(home.metadata, datetime.min.replace(tzinfo=UTC))
    found = []
    for ecu in home.configuration.ecus:
        state = states.get(ecu.name, EcuState())
        installed = home.identify(ecu, state.slot)
        is_interrupted = home.files.length(home.journal_name(ecu)) is not None
        version = _known_version(trusted, ecu, installed)
        found.append(EcuStatus(ecu, state, installed, version, is_interrupted, state.begun is None))
    return found


def _known_version(trusted: TrustedMetadata | None, ecu: Ecu, installed: ImageId | None) -> str | None:
    if trusted is not None:
        with contextlib.suppress(VehicleError):
            for target in trusted.delegations.of_hardware(ecu.hardware_id):
                if isinstance(target, ImageTarget) and target.image == installed:
                    return target.version
    return None
