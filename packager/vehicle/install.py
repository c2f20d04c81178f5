"""Updates a vehicle home: refresh trust, prepare every ECU's spare slot, then switch all of them at once.

The active slot is never written. Until the one atomic write at the end the car boots what it booted before; what was prepared stays in the
spare slots, so that the next run downloads nothing again. Memory does not depend on the size of images.
"""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from packager.vehicle.errors import ResourceError, VehicleError
from packager.vehicle.fetch import BundleSource
from packager.vehicle.home import Ecu, EcuState, VehicleHome
from packager.vehicle.identity import ImageId
from packager.vehicle.metadata_store import Fetcher, TrustedMetadata, read_stored, refresh
from packager.vehicle.preparation import EcuUpdate, OnProgress, prepare
from packager.vehicle.selection import Offer, select
from packager.vehicle.targets import ImageTarget

SPARE_SPACE_BYTES: Final = 1 << 20
"""Kept free for metadata, journals and state."""


@dataclass(frozen=True, slots=True)
class EcuStatus:
    """What an ECU has.

    Attributes:
        ecu: The ECU.
        state: Active slot and highest release counter.
        installed: What the active slot holds; None for nothing.
        version: Version of that image if stored metadata knows it.
        is_interrupted: Whether an update was begun and not ended.
    """

    ecu: Ecu
    state: EcuState
    installed: ImageId | None
    version: str | None
    is_interrupted: bool


@dataclass(frozen=True, slots=True)
class UpdateReport:
    """What an update did: one entry per ECU in the order of ``vehicle.toml``."""

    ecus: tuple[EcuUpdate, ...]
    metadata_bytes: int
    seconds: float


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
        found.append(EcuStatus(ecu, state, installed, _known_version(trusted, ecu, installed), is_interrupted))
    return found


def update(
    home: VehicleHome,
    metadata: Fetcher,
    bundles: BundleSource,
    now: datetime,
    *,
    workers: int = 1,
    on_progress: OnProgress | None = None,
    clock_s: Callable[[], float] = time.monotonic,
) -> UpdateReport:
    """Bring every ECU to the newest image of its hardware, all or none.

    Args:
        home: The vehicle; `metadata_store.initialise` gave it a root.
        metadata: The repository's metadata.
        bundles: The repository's targets.
        now: The time, UTC.
        workers: Threads that decode.
        on_progress: Told after each block.
        clock_s: Measures durations.

    Raises:
        UntrustedError: Metadata, or what it says of an ECU, does not hold.
        CorruptError: A bundle is damaged.
        IncompatibleError: No bundle suits an ECU.
        ResourceError: Space or the file system falls short.
        TemporaryError: The repository can't be read now, or another updater is at work.
        In each case no ECU switches.
    """
    start_s = clock_s()
    with home.lock():
        counting = _CountingFetcher(metadata)
        trusted = refresh(home.metadata, counting, now)
        known = home.read_state()
        states = {ecu.name: known.get(ecu.name, EcuState()) for ecu in home.configuration.ecus}
        offers = [_offer(home, ecu, states[ecu.name], trusted) for ecu in home.configuration.ecus]
        _check_space(home, offers, states)
        done = []
        for offer in offers:
            with _named(offer.ecu):
                done.append(prepare(home, offer, states[offer.ecu.name], bundles, workers, on_progress, clock_s))
        _switch(home, offers)
    return UpdateReport(tuple(done), counting.read_bytes, clock_s() - start_s)


def _offer(home: VehicleHome, ecu: Ecu, state: EcuState, trusted: TrustedMetadata) -> Offer:
    with _named(ecu):
        return select(ecu, home.identify(ecu, state.slot), state, trusted.delegations.of_hardware(ecu.hardware_id))


def _check_space(home: VehicleHome, offers: list[Offer], states: Mapping[str, EcuState]) -> None:
    needed_bytes = SPARE_SPACE_BYTES
    for offer in offers:
        if offer.image is not None and offer.bundles:
            held_bytes = home.held_bytes(offer.ecu, states[offer.ecu.name].spare_slot)
            needed_bytes += max(0, offer.image.image.length_bytes - held_bytes)
    free_bytes = home.free_bytes()
    if any(offer.bundles for offer in offers) and free_bytes < needed_bytes:
        raise ResourceError(f"{home.root}: {free_bytes} bytes free, the update needs {needed_bytes}; make room")


def _switch(home: VehicleHome, offers: list[Offer]) -> None:
    """Make all prepared slots active with one write; remember release counters of images that are installed already, too."""
    before = home.read_state()
    after = dict(before)
    for offer in offers:
        if offer.image is None:
            continue
        state = before.get(offer.ecu.name, EcuState())
        slot = state.spare_slot if offer.bundles else state.slot
        after[offer.ecu.name] = EcuState(slot, max(state.release_counter, offer.image.release_counter))
    if after != before:
        home.write_state(after)
    for offer in offers:  # of all ECUs: a cut between switch and this must not leave one for ever
        home.files.remove(home.journal_name(offer.ecu))


def _known_version(trusted: TrustedMetadata | None, ecu: Ecu, installed: ImageId | None) -> str | None:
    if trusted is not None:
        with contextlib.suppress(VehicleError):
            for target in trusted.delegations.of_hardware(ecu.hardware_id):
                if isinstance(target, ImageTarget) and target.image == installed:
                    return target.version
    return None


@contextlib.contextmanager
def _named(ecu: Ecu) -> Iterator[None]:
    """Put the ECU's name before the message of an error."""
    try:
        yield
    except VehicleError as error:
        raise type(error)(f"ECU {ecu.name}: {error}") from error


class _CountingFetcher:
    """A `Fetcher` that counts."""

    def __init__(self, fetcher: Fetcher) -> None:
        self._fetcher = fetcher
        self.read_bytes = 0

    def fetch(self, path: str, max_bytes: int) -> bytes:
        data = self._fetcher.fetch(path, max_bytes)
        self.read_bytes += len(data)
        return data
