"""Finishes in-place updates that were begun: their ECUs can't start and can't go back, so they go forward whatever metadata says today.

What was begun was verified then: the state holds the signed identities of its bundle and its image, and nothing else can come of it. Hence
it needs no metadata that is still valid, nor the newest.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

from packager.vehicle.core.targets import BundleTarget, ImageTarget, bundle_path
from packager.vehicle.errors import CancelledError, CorruptError, IncompatibleError, UntrustedError, VehicleError
from packager.vehicle.installation.activation import activate
from packager.vehicle.installation.home import VehicleHome
from packager.vehicle.installation.preparation import EcuUpdate
from packager.vehicle.installation.selection import Offer, go_on
from packager.vehicle.installation.state import Begun, EcuState
from packager.vehicle.trust.metadata_store import NotFoundError, TrustedMetadata, read_stored

_LOG: Final = logging.getLogger(__name__)
Prepare = Callable[[Offer, EcuState], EcuUpdate]
"""Brings an image into its slot."""


def finish_superseded(home: VehicleHome, trusted: TrustedMetadata, do: Prepare) -> dict[str, EcuUpdate]:
    """Finish in-place updates that were begun to an image that is no longer the newest: they can only go forward.

    Where that can't be done any more, because the bundle is gone or the half-old image is beyond repair, the newest image will be
    installed by its full bundle instead, which needs no old image.

    Args:
        home: The vehicle, locked.
        trusted: Valid metadata.
        do: Prepares one ECU.

    Raises:
        UntrustedError: Metadata of an ECU does not hold.
        VehicleError: What `do` raises and no other bundle makes good.

    Returns:
        What was done, by the name of the ECU.
    """
    finished = {}
    for ecu in home.configuration.ecus:
        state = home.read_state().get(ecu.name, EcuState())
        if state.begun is None:
            continue
        targets = trusted.delegations.of_hardware(ecu.hardware_id)
        if is_newer_offered(state.begun, targets):
            offer = go_on(ecu, state.begun, targets_of_begun(trusted, state.begun))
            try:
                finished[ecu.name] = replace(do(offer, state), note=f"finished {state.begun.bundle.version} first")
            except (NotFoundError, IncompatibleError, CorruptError) as error:
                note = f"what was begun can't be finished: {error}"
                _LOG.warning("ECU %s: %s", ecu.name, note)
                finished[ecu.name] = EcuUpdate(offer, None, 0, 0.0, note)
            else:
                activate(home, [offer])
    return finished


def finish_begun(home: VehicleHome, do: Prepare) -> list[str]:
    """Finish all in-place updates that were begun, without metadata that is valid now; it was refused, or has expired.

    Metadata that was verified before still tells the full bundle to the same image, which repairs or replaces the begun one.

    Args:
        home: The vehicle, locked.
        do: Prepares one ECU.

    Raises:
        CancelledError: The user wants to stop.
        ResourceError: The home failed.

    Returns:
        For people, one sentence per ECU that had been begun; an ECU that can't be finished now stays as it is.
    """
    said = []
    for ecu in home.configuration.ecus:
        state = home.read_state().get(ecu.name, EcuState())
        if state.begun is None:
            continue
        version = state.begun.bundle.version
        offer = go_on(ecu, state.begun, targets_of_begun(_read_expired(home), state.begun))
        try:
            do(offer, state)
        except CancelledError:
            raise
        except VehicleError as error:
            said.append(f"version {version}, begun before, can't be finished now: {error}")
        else:
            activate(home, [offer])
            said.append(f"ECU {ecu.name}: version {version}, begun before, was finished")
        _LOG.warning("%s", said[-1])
    return said


def _read_expired(home: VehicleHome) -> TrustedMetadata | None:
    """Return what the last refresh left, expired or not."""
    try:
        return read_stored(home.metadata, datetime.min.replace(tzinfo=UTC))
    except (UntrustedError, NotFoundError) as error:
        _LOG.warning("stored metadata is of no help: %s", error)
        return None


def is_newer_offered(begun: Begun, targets: Sequence[ImageTarget | BundleTarget]) -> bool:
    """Tell whether there is a newer image than the one that was begun."""
    return any(isinstance(t, ImageTarget) and t.release_counter > begun.image.release_counter for t in targets)


def targets_of_begun(trusted: TrustedMetadata | None, begun: Begun) -> list[ImageTarget | BundleTarget]:
    """Return image and full bundle of what was begun, as far as they are known; by their paths, as the newest release lists others."""
    found: list[ImageTarget | BundleTarget] = []
    if trusted is None:
        return found
    try:
        for path in (begun.image.path, bundle_path(begun.bundle.hardware_id, begun.bundle.version, None)):
            target = trusted.delegations.read(path)
            if target is not None:
                found.append(target)
    except (UntrustedError, NotFoundError) as error:  # an old release may have expired; the bundle itself is remembered
        _LOG.warning("%s: nothing but the bundle that was begun is at hand: %s", begun.image.path, error)
        return []
    return found
