"""Prepares one ECU: a bundle's head first, checked before a blob is taken, then the new image in the spare slot, or over the old one."""

import contextlib
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from packager.vehicle.core.applier import Applier, Progress
from packager.vehicle.core.blocks import OldImage
from packager.vehicle.core.head import Head, read_head
from packager.vehicle.core.inplace import InPlaceSlot, OverwrittenImage
from packager.vehicle.core.journal import JOURNAL_BYTES, Binding, Journal
from packager.vehicle.core.targets import BundleTarget, encode_target
from packager.vehicle.errors import CorruptError, IncompatibleError
from packager.vehicle.identity import Digest
from packager.vehicle.installation.heads import KeptHeads
from packager.vehicle.installation.home import Ecu, VehicleHome
from packager.vehicle.installation.preflight import find_ways, holds_image, target_slot
from packager.vehicle.installation.reader import BundleReader
from packager.vehicle.installation.repair import BlockRepair
from packager.vehicle.installation.selection import Offer, check_head
from packager.vehicle.installation.state import Begun, EcuState
from packager.vehicle.storage import FileOnDisk
from packager.vehicle.transport.fetch import BundleSource
from packager.vehicle.trust.metadata_store import NotFoundError

_LOG: Final = logging.getLogger(__name__)
OnProgress = Callable[[str, Progress], None]
"""Told the ECU's name and how far its bundle is."""


@dataclass(frozen=True, slots=True)
class EcuUpdate:
    """What an update did to one ECU.

    Attributes:
        offer: What it had and what was offered.
        bundle: The bundle that was used; None if nothing was to be done or the image lay in the slot already.
        downloaded_bytes: Bytes of bundles that were read, repairs included.
        seconds: Time that it took, without the refresh.
        note: In words, why things went this way; may be empty.
        repaired_blocks: Blocks that were made from the full bundle because the old image is damaged.
    """

    offer: Offer
    bundle: BundleTarget | None
    downloaded_bytes: int
    seconds: float
    note: str
    repaired_blocks: int = 0

    @property
    def is_updated(self) -> bool:
        """Whether the ECU has another image now."""
        return bool(self.offer.bundles)


@dataclass(frozen=True, slots=True)
class _Task:
    """One bundle to be applied to one ECU."""

    home: VehicleHome
    offer: Offer
    state: EcuState
    bundle: BundleTarget
    workers: int
    on_progress: OnProgress | None
    cancelled: Callable[[], bool] | None

    @property
    def ecu(self) -> Ecu:
        """The ECU."""
        return self.offer.ecu

    @property
    def plan(self) -> Digest:
        """Digest of all that signed metadata says of the image: where that changes, a wider policy for repair say, starts count anew."""
        assert self.offer.image is not None  # noqa: S101 - an offer with bundles has an image
        return Digest.of(json.dumps(encode_target(self.offer.image), sort_keys=True).encode())


def prepare(
    home: VehicleHome,
    offer: Offer,
    state: EcuState,
    source: BundleSource,
    workers: int,
    on_progress: OnProgress | None,
    clock_s: Callable[[], float],
    cancelled: Callable[[], bool] | None = None,
) -> EcuUpdate:
    """Bring the new image into the spare slot, or over the old image where there is none, verified by reading it back.

    With a spare slot the active one is only read. Without one, the state says from before the first overwrite that the ECU must not
    be started, until the caller has switched.

    Args:
        home: The vehicle.
        offer: What to install; nothing is done without bundles.
        state: What the vehicle remembers of the ECU.
        source: The repository's targets.
        workers: Threads that decode.
        on_progress: Told after each block.
        clock_s: Measures durations.
        cancelled: Asked before each block; True stops.

    Raises:
        CorruptError: The bundle is damaged.
        UntrustedError: Its manifest disagrees with signed metadata.
        IncompatibleError: No bundle suits the ECU, or repair takes more bytes than the signed policy allows.
        ResourceError: The slots can't be read or written.
        TemporaryError: The bundle can't be had now.
        CancelledError: `cancelled` said so; what is finished stays.
    """
    start_s = clock_s()
    name = offer.ecu.name
    if offer.image is None or not offer.bundles:
        _LOG.info("ECU %s: nothing to do", name)
        return EcuUpdate(offer, None, 0, 0.0, offer.note)
    if holds_image(home, offer.ecu, target_slot(offer.ecu, state), offer.image.image):
        place = "spare slot" if offer.ecu.profile.spare_slot else "slot"
        _LOG.info("ECU %s: the new image is in the %s already", name, place)
        return EcuUpdate(offer, None, 0, clock_s() - start_s, f"was in the {place} already")
    is_resumed = home.files.length(home.journal_name(offer.ecu)) is not None
    heads = KeptHeads.of(home, offer.ecu)
    ways = find_ways(home, offer, state, source, heads)
    notes = [ways.note] if ways.note else []
    downloaded_bytes = ways.read_bytes
    for position, bundle in enumerate(ways.bundles):
        is_last = position + 1 == len(ways.bundles)
        head: Head | None = None
        with BundleReader(source, bundle, heads.find(bundle), is_resumed=is_resumed) as reader:
            try:
                head = _verified_head(reader, bundle, offer, heads)
                repair = _repair(offer, bundle, head, source, heads)
                _apply(_Task(home, offer, state, bundle, workers, on_progress, cancelled), head, reader, repair)
            except (IncompatibleError, NotFoundError, CorruptError) as error:
                is_begun = state.begun is not None and state.begun.bundle == bundle
                if is_last or not _gives_way(error, head, reader, is_begun=is_begun):
                    raise
                _LOG.warning("ECU %s: %s can't be used, the next bundle is tried: %s", name, bundle.path, error)
                notes.append(str(error))
                downloaded_bytes += reader.read_bytes
                continue
            downloaded_bytes += reader.read_bytes
        repaired = 0
        if repair is not None and repair.blocks:
            repaired = repair.blocks
            downloaded_bytes += repair.read_bytes
            notes.append(f"{repaired} blocks from the full bundle")
            _LOG.warning("ECU %s: the old image is damaged, %d blocks came from the full bundle", name, repaired)
        _LOG.info("ECU %s: %s is in its slot and verified, %d bytes read", name, offer.image.version, downloaded_bytes)
        return EcuUpdate(offer, bundle, downloaded_bytes, clock_s() - start_s, "; ".join(notes), repaired)
    raise AssertionError("unreachable: the last bundle returns or raises")


def _verified_head(reader: BundleReader, bundle: BundleTarget, offer: Offer, heads: KeptHeads) -> Head:
    """Return a bundle's head, kept for the next start."""
    data = reader.head()
    head = read_head(data, bundle.head, offer.ecu.profile)
    check_head(head, bundle, offer)
    heads.keep(bundle, data)
    return head


def _gives_way(error: Exception, head: Head | None, reader: BundleReader, *, is_begun: bool) -> bool:
    """Tell whether the next bundle is tried: this one exceeds the profile, or was begun in place and is no longer served as signed."""
    if head is None:
        return is_begun or isinstance(error, IncompatibleError)
    return is_begun and not isinstance(error, IncompatibleError) and not reader.is_served()


def _repair(
    offer: Offer, bundle: BundleTarget, head: Head, source: BundleSource, heads: KeptHeads
) -> BlockRepair | None:
    """Return what makes blocks that the old image can't; None where there is no policy, or no old image in play."""
    if bundle.old is None or offer.image is None or offer.image.max_repair_bytes is None:
        return None
    limit_bytes = offer.image.max_repair_bytes
    return BlockRepair(head, offer.full, source, offer.ecu.profile, limit_bytes, heads, keeps_head=True)


def _apply(task: _Task, head: Head, reader: BundleReader, repair: BlockRepair | None) -> None:
    home, ecu, on_progress = task.home, task.ecu, task.on_progress
    length_bytes = head.manifest.new.length_bytes
    with contextlib.ExitStack() as stack:
        journal = Journal(
            stack.enter_context(home.files.open(home.journal_name(ecu), JOURNAL_BYTES)),
            Binding(head.digest, ecu.identity, task.plan),
        )
        old: OldImage | None = None
        place: InPlaceSlot | None = None
        if ecu.profile.spare_slot:
            slot = stack.enter_context(home.files.open(home.slot_name(ecu, task.state.spare_slot), length_bytes))
            if head.manifest.old is not None:
                old = stack.enter_context(FileOnDisk.open(home.root / home.slot_name(ecu, task.state.slot)))
        else:
            slot, place, old = _open_in_place(task, head, journal, stack)
        applier = stack.enter_context(
            Applier(
                head,
                old,
                slot,
                journal=journal,
                workers=task.workers,
                on_progress=None if on_progress is None else lambda progress: on_progress(ecu.name, progress),
                cancelled=task.cancelled,
                destination=place,
                repair=repair,
            )
        )
        missing = applier.missing_ranges()
        missing_bytes = sum(end - start for start, end in missing)
        _LOG.info(
            "ECU %s: %s, %d of %d bytes are missing", ecu.name, task.bundle.path, missing_bytes, head.bundle_bytes
        )
        for offset, chunk in reader.chunks_of(missing):
            applier.feed(chunk, offset)
        applier.finish()
    if place is not None:  # a longer old image ends here
        with home.files.open(home.slot_name(ecu, task.state.slot), length_bytes) as slot:
            slot.sync()


def _open_in_place(
    task: _Task, head: Head, journal: Journal, stack: contextlib.ExitStack
) -> tuple[FileOnDisk, InPlaceSlot, OldImage | None]:
    """Open the only slot for overwriting, as long as it is now; it changes no earlier than the state says so."""
    home, ecu, image = task.home, task.ecu, task.offer.image
    assert image is not None  # noqa: S101 - an offer with bundles has an image
    begun = Begun(task.bundle, image)
    name = home.slot_name(ecu, task.state.slot)
    slot = stack.enter_context(home.files.open(name, home.files.length(name) or 0))
    scratch: FileOnDisk | None = None
    old: OldImage | None = None
    if head.manifest.scratch_bytes:
        scratch = stack.enter_context(home.files.open(home.scratch_name(ecu), head.manifest.scratch_bytes))
        old = OverwrittenImage(head, slot, scratch)
    place = InPlaceSlot(head, slot, scratch, journal, lambda: home.mark_begun(ecu, begun))
    return slot, place, old
