"""Updates a vehicle home: refresh trust, prepare every ECU, then switch all of them at once.

An active slot is written only if its ECU has no other one, and only after all spare slots are prepared. Until the one atomic write at the
end the car boots what it booted before, but for ECUs that are being overwritten: the state says that these must not be started, and the
next run goes on with them first. What was prepared stays, so that nothing is downloaded again. Memory does not depend on image size.
"""

import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Final

from packager.vehicle.clearance import Clearance
from packager.vehicle.clock import check_time
from packager.vehicle.errors import CorruptError, IncompatibleError, ResourceError, UntrustedError, VehicleError
from packager.vehicle.fetch import BundleSource
from packager.vehicle.home import Ecu, VehicleHome
from packager.vehicle.identity import ImageId
from packager.vehicle.metadata_store import Fetcher, NotFoundError, TrustedMetadata, read_stored, refresh
from packager.vehicle.preflight import Forecast, forecast, target_slot
from packager.vehicle.preparation import EcuUpdate, OnProgress, prepare
from packager.vehicle.selection import Offer, go_on, select
from packager.vehicle.speed import Speed
from packager.vehicle.state import Begun, EcuState
from packager.vehicle.targets import BundleTarget, ImageTarget, bundle_path
from packager.vehicle.trust import ExpiredError

_LOG: Final = logging.getLogger(__name__)
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
        is_startable: Whether its active slot holds a whole image: False while an in-place update is half done.
    """

    ecu: Ecu
    state: EcuState
    installed: ImageId | None
    version: str | None
    is_interrupted: bool
    is_startable: bool = True


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
        In each case no ECU switches.
    """
    start_s = clock_s()
    with home.lock():
        counting = _CountingFetcher(metadata)
        trusted, clock_note = refresh_home(home, counting, now)
        _LOG.info("metadata is trusted, %d bytes read", counting.read_bytes)

        def do(offer: Offer, state: EcuState) -> EcuUpdate:
            with _named(offer.ecu):
                return prepare(home, offer, state, bundles, workers, on_progress, clock_s, cancelled)

        finished = _finish_begun(home, trusted, do)
        states = _states(home)
        offers = [_offer(home, ecu, states[ecu.name], trusted) for ecu in home.configuration.ecus]
        clearance = Clearance(trusted, bundles, is_required=home.configuration.is_evidence_required)
        _clear(clearance, offers, states)
        _check_space(home, offers, states)
        done = {}
        for offer in sorted(offers, key=lambda offer: not offer.ecu.profile.spare_slot):
            done[offer.ecu.name] = _joined(finished.get(offer.ecu.name), do(offer, states[offer.ecu.name]))
        _switch(home, offers)
    ecus = tuple(done[ecu.name] for ecu in home.configuration.ecus)
    read_bytes = counting.read_bytes + clearance.read_bytes
    return UpdateReport(ecus, read_bytes, clock_s() - start_s, clock_note)


def check(home: VehicleHome, metadata: Fetcher, bundles: BundleSource, now: datetime) -> list[Forecast]:
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
        trusted, _ = refresh_home(home, metadata, now)
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
    return found


def _states(home: VehicleHome) -> dict[str, EcuState]:
    known = home.read_state()
    return {ecu.name: known.get(ecu.name, EcuState()) for ecu in home.configuration.ecus}


def _finish_begun(
    home: VehicleHome, trusted: TrustedMetadata, do: Callable[[Offer, EcuState], EcuUpdate]
) -> dict[str, EcuUpdate]:
    """Finish in-place updates that were begun to an image that is no longer the newest: they can only go forward.

    Where that can't be done any more, because the bundle is gone or the half-old image is beyond repair, the newest image will be
    installed by its full bundle instead, which needs no old image.
    """
    finished = {}
    for ecu in home.configuration.ecus:
        state = home.read_state().get(ecu.name, EcuState())
        if state.begun is None:
            continue
        targets = trusted.delegations.of_hardware(ecu.hardware_id)
        if _is_newer_offered(state.begun, targets):
            offer = go_on(ecu, state.begun, _of_begun(trusted, state.begun))
            try:
                finished[ecu.name] = replace(do(offer, state), note=f"finished {state.begun.bundle.version} first")
            except (NotFoundError, IncompatibleError, CorruptError) as error:
                note = f"what was begun can't be finished: {error}"
                _LOG.warning("ECU %s: %s", ecu.name, note)
                finished[ecu.name] = EcuUpdate(offer, None, 0, 0.0, note)
            else:
                _switch(home, [offer])
    return finished


def _is_newer_offered(begun: Begun, targets: Sequence[ImageTarget | BundleTarget]) -> bool:
    return any(isinstance(t, ImageTarget) and t.release_counter > begun.image.release_counter for t in targets)


def _of_begun(trusted: TrustedMetadata, begun: Begun) -> list[ImageTarget | BundleTarget]:
    """Return image and full bundle of what was begun; by their paths, as the newest release lists others."""
    found = []
    try:
        for path in (begun.image.path, bundle_path(begun.bundle.hardware_id, begun.bundle.version, None)):
            target = trusted.delegations.read(path)
            if target is not None:
                found.append(target)
    except (UntrustedError, NotFoundError) as error:  # an old release may have expired; the bundle itself is remembered
        _LOG.warning("%s: nothing but the bundle that was begun is at hand: %s", begun.image.path, error)
        return []
    return found


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
    with _named(ecu):
        targets = trusted.delegations.of_hardware(ecu.hardware_id)
        begun = state.begun
        if begun is None:
            return select(ecu, home.identify(ecu, state.slot), state, targets)
        if not _is_newer_offered(begun, targets):
            return go_on(ecu, begun, _of_begun(trusted, begun))
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
        if not offer.ecu.profile.spare_slot:
            home.files.remove(home.scratch_name(offer.ecu))


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
