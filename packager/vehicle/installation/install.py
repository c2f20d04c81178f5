"""Updates a vehicle home: refresh trust, prepare every ECU, then switch all of them at once.

An active slot is written only if its ECU has no other one, and only after all spare slots are prepared. Until the one atomic write at the
end the car boots what it booted before, but for ECUs that are being overwritten: the state says that these must not be started, and the
next run goes on with them first, even if metadata has expired since (`completion`). What was prepared stays, so that nothing is downloaded
again. Memory does not depend on image size.
"""

import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

from tuf.api.metadata import Root

from packager.vehicle.errors import IncompatibleError, ResourceError, UntrustedError, VehicleError
from packager.vehicle.installation.activation import activate
from packager.vehicle.installation.clearance import Clearance
from packager.vehicle.installation.completion import finish_begun, finish_superseded, is_newer_offered, targets_of_begun
from packager.vehicle.installation.heads import KeptHeads
from packager.vehicle.installation.home import Ecu, VehicleHome
from packager.vehicle.installation.preflight import Forecast, forecast, target_slot
from packager.vehicle.installation.preparation import EcuUpdate, OnProgress, prepare
from packager.vehicle.installation.selection import Offer, go_on, select
from packager.vehicle.installation.state import EcuState
from packager.vehicle.transport.fetch import BundleSource
from packager.vehicle.transport.speed import Speed
from packager.vehicle.trust.clock import ClockError, check_time
from packager.vehicle.trust.metadata_store import Fetcher, TrustedMetadata, initialise, refresh, remove_unneeded
from packager.vehicle.trust.workflow import ExpiredError, check_expiry, read_root

_LOG: Final = logging.getLogger(__name__)
SPARE_SPACE_BYTES: Final = 1 << 20
"""Kept free for metadata, journals and state."""


@dataclass(frozen=True, slots=True)
class UpdateReport:
    """What an update did.

    Attributes:
        ecus: One entry per ECU in the order of ``vehicle.toml``.
        metadata_bytes: Read of metadata and evidence.
        seconds: Duration.
        clock_note: What is to be reported of the clock; empty if it is plausible.
        speed: How fast the repository delivered, as far as it was measured.
    """

    ecus: tuple[EcuUpdate, ...]
    metadata_bytes: int
    seconds: float
    clock_note: str = ""
    speed: Speed = field(default_factory=Speed)


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What an update would do.

    Attributes:
        ecus: One entry per ECU in the order of ``vehicle.toml``.
        clock_note: What is to be reported of the clock; empty if it is plausible.
    """

    ecus: tuple[Forecast, ...]
    clock_note: str = ""


def provision(home: VehicleHome, data: bytes, time: datetime | None) -> Root:
    """Give a locked home what trust starts from: a root and, if its maker knows it, the time, before which no clock is believed any more.

    Args:
        home: The vehicle.
        data: The root.
        time: The time, UTC, from a source that the maker trusts; an earlier one than is known already changes nothing.

    Raises:
        ExpiredError: The root has expired at that time, so that one of both is wrong; nothing was changed.
        UntrustedError: The root does not hold by itself, or another one is trusted already; nothing was changed.
        ResourceError: The home failed.
    """
    if time is not None:
        check_expiry(read_root(data), "root.json", time)
    root = initialise(home.metadata, data)
    if time is not None:
        home.raise_floor(time)
    return root


def refresh_home(home: VehicleHome, metadata: Fetcher, clock: datetime) -> tuple[TrustedMetadata, str]:
    """Bring the metadata of a locked home up to date, at a time that is never before the last verified one.

    Args:
        home: The vehicle; `metadata_store.initialise` gave it a root.
        metadata: The repository's metadata.
        clock: What the clock says, UTC.

    Returns:
        The metadata, and what is to be reported of the clock (empty if it is plausible).

    Raises:
        UntrustedError: Metadata does not hold.
        ClockError: Metadata looks expired, but it may be the clock.
        TemporaryError: The repository can't be read.
        ResourceError: The home failed.
    """
    checked = check_time(clock, home.read_floor())
    try:
        trusted = refresh(home.metadata, metadata, checked.now)
    except ExpiredError as error:
        raise checked.explain(error) from error
    home.raise_floor(checked.now)
    if checked.note:
        _LOG.warning("%s", checked.note)
    return trusted, checked.note


def update(
    home: VehicleHome,
    metadata: Fetcher,
    bundles: BundleSource,
    now: datetime,
    *,
    workers: int = 1,
    on_progress: OnProgress | None = None,
    cancelled: Callable[[], bool] | None = None,
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
        cancelled: Asked before each block; True stops.
        clock_s: Measures durations.

    Raises:
        UntrustedError: Metadata, what it says of an ECU, or the evidence for an image does not hold, or there is none and it is required.
        CorruptError: A bundle is damaged.
        IncompatibleError: No bundle suits an ECU.
        ResourceError: Space or the file system falls short.
        TemporaryError: The repository can't be read now, or another updater is at work.
        CancelledError: `cancelled` said so; the next update goes on from there.
        In each case no ECU switches, but for those that were being overwritten since an earlier update and could be finished.
    """
    start_s = clock_s()
    with home.lock():
        counting = _CountingFetcher(metadata)

        def do(offer: Offer, state: EcuState) -> EcuUpdate:
            with _named(offer.ecu):
                return prepare(home, offer, state, bundles, workers, on_progress, clock_s, cancelled)

        try:
            trusted, clock_note = refresh_home(home, counting, now)
            _LOG.info("metadata is trusted, %d bytes read", counting.read_bytes)
            finished = finish_superseded(home, trusted, do)
            states = _states(home)
            offers = []
            for ecu in home.configuration.ecus:
                with _named(ecu):
                    offers.append(_offer(home, ecu, states[ecu.name], trusted))
            clearance = Clearance(trusted, bundles, is_required=home.configuration.is_evidence_required)
            _clear(clearance, offers, states)
        except (UntrustedError, IncompatibleError, ClockError) as error:
            raise type(error)("; ".join([str(error), *finish_begun(home, do)])) from error
        _check_space(home, offers, states)
        done = {}
        for offer in sorted(offers, key=lambda offer: not offer.ecu.profile.spare_slot):
            done[offer.ecu.name] = _joined(finished.get(offer.ecu.name), do(offer, states[offer.ecu.name]))
        activate(home, offers)
        tidy(home, trusted)
    ecus = tuple(done[ecu.name] for ecu in home.configuration.ecus)
    read_bytes = counting.read_bytes + clearance.read_bytes
    return UpdateReport(ecus, read_bytes, clock_s() - start_s, clock_note)


def check(home: VehicleHome, metadata: Fetcher, bundles: BundleSource, now: datetime) -> CheckReport:
    """Tell for every ECU, beforehand, what an update would download and need; changes nothing but metadata.

    Args:
        home: The vehicle; `metadata_store.initialise` gave it a root.
        metadata: The repository's metadata.
        bundles: The repository's targets; only heads are read.
        now: The time, UTC.

    Raises:
        UntrustedError: As `update`.
        CorruptError: A head is damaged.
        ResourceError: The file system falls short.
        TemporaryError: The repository can't be read now, or another updater is at work.
    """
    with home.lock():
        trusted, clock_note = refresh_home(home, metadata, now)
        states = _states(home)
        clearance = Clearance(trusted, bundles, is_required=home.configuration.is_evidence_required)
        found = []
        for ecu in home.configuration.ecus:
            with _named(ecu):
                try:
                    offer = _offer(home, ecu, states[ecu.name], trusted)
                except IncompatibleError as error:
                    nothing = Offer(ecu, home.identify(ecu, states[ecu.name].slot), None, None, (), "")
                    found.append(Forecast(nothing, problem=str(error)))
                    continue
            _clear(clearance, [offer], states)
            with _named(ecu):
                found.append(forecast(home, offer, states[ecu.name], bundles))
        tidy(home, trusted)
    return CheckReport(tuple(found), clock_note)


def tidy(home: VehicleHome, trusted: TrustedMetadata) -> None:
    """Remove metadata that no ECU needs any more, once that of all ECUs was read; while an in-place update is half done, nothing.

    Args:
        home: The vehicle, locked.
        trusted: The metadata, from which the targets of every ECU's hardware were read.

    Raises:
        ResourceError: The home failed.
    """
    if all(state.begun is None for state in home.read_state().values()):
        remove_unneeded(home.metadata, trusted)


def _states(home: VehicleHome) -> dict[str, EcuState]:
    known = home.read_state()
    return {ecu.name: known.get(ecu.name, EcuState()) for ecu in home.configuration.ecus}


def _joined(first: EcuUpdate | None, second: EcuUpdate) -> EcuUpdate:
    """Return one entry for an ECU that first finished another update."""
    if first is None:
        return second
    return replace(
        second,
        downloaded_bytes=first.downloaded_bytes + second.downloaded_bytes,
        seconds=first.seconds + second.seconds,
        repaired_blocks=first.repaired_blocks + second.repaired_blocks,
        note="; ".join(filter(None, (first.note, second.note))),
    )


def _offer(home: VehicleHome, ecu: Ecu, state: EcuState, trusted: TrustedMetadata) -> Offer:
    targets = trusted.delegations.of_hardware(ecu.hardware_id)
    begun = state.begun
    if begun is None:
        return select(ecu, home.identify(ecu, state.slot), state, targets)
    if not is_newer_offered(begun, targets):
        return go_on(ecu, begun, targets_of_begun(trusted, begun))
    return replace(select(ecu, None, state, targets), note="the slot is half overwritten")


def _clear(clearance: Clearance, offers: Sequence[Offer], states: Mapping[str, EcuState]) -> None:
    """Require evidence for every image that is to be installed, but for those that were cleared when they were begun."""
    for offer in offers:
        begun = states[offer.ecu.name].begun
        if offer.image is None or not offer.bundles or (begun is not None and begun.image.image == offer.image.image):
            continue
        with _named(offer.ecu):
            clearance.require(offer.image)


def _check_space(home: VehicleHome, offers: list[Offer], states: Mapping[str, EcuState]) -> None:
    needed_bytes = SPARE_SPACE_BYTES
    for offer in offers:
        if offer.image is not None and offer.bundles:
            held_bytes = home.held_bytes(offer.ecu, target_slot(offer.ecu, states[offer.ecu.name]))
            needed_bytes += max(0, offer.image.image.length_bytes - held_bytes)
            needed_bytes += 0 if offer.ecu.profile.spare_slot else offer.ecu.profile.scratch_bytes
            needed_bytes += KeptHeads.of(home, offer.ecu).space_bytes(offer)
    free_bytes = home.free_bytes()
    if any(offer.bundles for offer in offers) and free_bytes < needed_bytes:
        raise ResourceError(f"{home.root}: {free_bytes} bytes free, the update needs {needed_bytes}; make room")


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
