"""Switches ECUs to what was prepared: the one write after which the car boots other images."""

import logging
from collections.abc import Sequence
from typing import Final

from packager.vehicle.installation.heads import KeptHeads
from packager.vehicle.installation.home import VehicleHome
from packager.vehicle.installation.preflight import target_slot
from packager.vehicle.installation.selection import Offer
from packager.vehicle.installation.state import EcuState

_LOG: Final = logging.getLogger(__name__)


def activate(home: VehicleHome, offers: Sequence[Offer]) -> None:
    """Make all prepared slots active with one write; remember release counters of images that are installed already, too."""
    before = home.read_state()
    after = dict(before)
    for offer in offers:
        if offer.image is None:
            continue
        state = before.get(offer.ecu.name, EcuState())
        slot = target_slot(offer.ecu, state) if offer.bundles else state.slot
        counter = max(state.release_counter, offer.image.release_counter)
        after[offer.ecu.name] = EcuState(slot, counter, offer.image.image)
    if after != before:
        home.write_state(after)
        _LOG.info(
            "switched: %s", ", ".join(offer.ecu.name for offer in offers if offer.bundles) or "release counters only"
        )
    for offer in offers:  # of all ECUs: a cut between switch and this must not leave one for ever
        home.files.remove(home.journal_name(offer.ecu))
        KeptHeads.of(home, offer.ecu).remove()
        if not offer.ecu.profile.spare_slot:
            home.files.remove(home.scratch_name(offer.ecu))
