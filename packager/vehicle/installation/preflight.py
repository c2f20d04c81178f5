"""Pre-flight: finds out, before anything is overwritten or paid for, which bundle leads to the new image and how many bytes that takes.

Where the active slot holds no image that a bundle starts from, but a known one that is damaged, its old parts are hashed block by block
against the signed index: what does not hold will be repaired from the full bundle, if the signed byte policy allows it.
"""

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import Final

from packager.vehicle.core.head import Head, read_head
from packager.vehicle.core.missing import find_held, missing_ranges
from packager.vehicle.core.targets import BundleTarget
from packager.vehicle.errors import IncompatibleError
from packager.vehicle.identity import ImageId
from packager.vehicle.installation.heads import KeptHeads
from packager.vehicle.installation.home import Ecu, VehicleHome
from packager.vehicle.installation.repair import BlockRepair, find_damage
from packager.vehicle.installation.selection import Offer, check_head
from packager.vehicle.installation.state import EcuState
from packager.vehicle.storage import FileOnDisk
from packager.vehicle.transport.fetch import BundleSource

MAX_SURVEYED: Final = 8
"""Bundles whose heads are fetched at most to find out what a damaged image once was."""


@dataclass(frozen=True, slots=True)
class Ways:
    """How to reach the new image.

    Attributes:
        bundles: What to try, best first.
        repairs: What each block of the first bundle that needs repair takes of the full bundle.
        repair_bytes: What they take, and the full bundle's head.
        read_bytes: Bytes of bundles that finding this out took.
        note: In words, why not the plain way; may be empty.
    """

    bundles: tuple[BundleTarget, ...]
    repairs: Mapping[int, int] = field(default_factory=dict)
    repair_bytes: int = 0
    read_bytes: int = 0
    note: str = ""


@dataclass(frozen=True, slots=True)
class Forecast:
    """What an update would do to one ECU.

    Attributes:
        offer: What the ECU has and what is offered.
        bundle: The bundle that would be used; None if nothing is to be done, or nothing can be.
        bundle_bytes: Bytes of it that are still to be downloaded; its head is none of them if an earlier start kept it, or the survey
            reads it.
        damaged: Blocks that need repair and do not lie in the slot already.
        repair_bytes: Bytes of the full bundle for that, likewise.
        survey_bytes: Bytes of heads that are read to find out which bundle takes the fewest, where the installed image is unknown, and
            of heads that exceed the profile; an update may have up to 64 KiB behind each of these under way before it knows.
        space_bytes: Space that the update takes beyond what is taken.
        note: In words, why things would go this way; may be empty.
        problem: Why it can't be updated; empty if it can.
    """

    offer: Offer
    bundle: BundleTarget | None = None
    bundle_bytes: int = 0
    damaged: tuple[int, ...] = ()
    repair_bytes: int = 0
    survey_bytes: int = 0
    space_bytes: int = 0
    note: str = ""
    problem: str = ""

    @property
    def download_bytes(self) -> int:
        """All bytes that would be downloaded."""
        return self.bundle_bytes + self.repair_bytes + self.survey_bytes


def find_ways(home: VehicleHome, offer: Offer, state: EcuState, source: BundleSource, heads: KeptHeads) -> Ways:
    """Decide which bundles to try; reads heads and the active slot only where the installed image is unknown.

    Args:
        home: The vehicle.
        offer: With at least one bundle.
        state: What the vehicle remembers of the ECU.
        source: The repository's targets.
        heads: What is kept; it remembers those that are read here and needed later.

    Raises:
        IncompatibleError: The installed image is a known one, but repairing it takes more than the signed policy allows.
        CorruptError: A head is damaged.
        TemporaryError: A head can't be had now.
        ResourceError: The active slot can't be read.
    """
    image = offer.image
    assert image is not None  # noqa: S101 - an offer with bundles has an image
    if not offer.candidates or image.max_repair_bytes is None:
        return Ways(offer.bundles, note=offer.note)
    counting = CountingSource(source)
    best: Ways | None = None
    with FileOnDisk.open(home.root / home.slot_name(offer.ecu, state.slot)) as old:
        for bundle in offer.candidates[:MAX_SURVEYED]:
            found = _survey(offer, bundle, old, counting, heads, image.max_repair_bytes)
            if found is not None and (best is None or _total(found) < _total(best)):
                best = found
            if found is not None and state.installed is not None and bundle.old == state.installed.digest:
                break
    if best is None:
        note = f"{offer.note}; nothing of it is of a known image"
        return Ways(offer.bundles, read_bytes=counting.read_bytes, note=note)
    heads.forget(bundle for bundle in offer.candidates if bundle != best.bundles[0])
    if best.repair_bytes > image.max_repair_bytes:
        raise IncompatibleError(
            f"{best.bundles[0].path}: the old image is damaged in {len(best.repairs)} blocks; repairing them takes "
            f"{best.repair_bytes} bytes of the full bundle, the signed policy allows {image.max_repair_bytes}"
        )
    return Ways(best.bundles, best.repairs, best.repair_bytes, counting.read_bytes, best.note)


def forecast(home: VehicleHome, offer: Offer, state: EcuState, source: BundleSource) -> Forecast:
    """Tell what an update would do to one ECU, and change nothing.

    Raises:
        CorruptError: A head is damaged.
        UntrustedError: A manifest disagrees with signed metadata.
        TemporaryError: A head can't be had now.
        ResourceError: A slot can't be read.
    """
    if offer.image is None or not offer.bundles:
        return Forecast(offer, note=offer.note)
    slot = target_slot(offer.ecu, state)
    if holds_image(home, offer.ecu, slot, offer.image.image):
        return Forecast(offer, note="lies in the slot already")
    heads = KeptHeads.of(home, offer.ecu)
    try:
        ways = find_ways(home, offer, state, source, heads)
        bundle, head, head_bytes, refused_bytes, note = _first_fitting(offer, ways, source, heads)
    except IncompatibleError as error:
        return Forecast(offer, problem=str(error))
    held = _held(home, offer.ecu, slot, head)
    repairs: Mapping[int, int] = {}
    if bundle == ways.bundles[0] and ways.repairs:
        there = {head.index.outcome(position)[0] for position in range(len(held)) if held[position]}
        repairs = {block: length_bytes for block, length_bytes in ways.repairs.items() if block not in there}
    repair_bytes = sum(repairs.values())
    if repairs and offer.full is not None and heads.find(offer.full) is None:
        repair_bytes += offer.full.head.length_bytes
    held_bytes = home.held_bytes(offer.ecu, slot)
    space_bytes = max(0, offer.image.image.length_bytes - held_bytes) + head.manifest.scratch_bytes
    space_bytes += heads.space_bytes(offer)
    return Forecast(
        offer,
        bundle,
        head_bytes + sum(end - start for start, end in missing_ranges(head.index, held)),
        tuple(repairs),
        repair_bytes,
        ways.read_bytes + refused_bytes,
        space_bytes,
        "; ".join(filter(None, (ways.note, note))),
    )


def target_slot(ecu: Ecu, state: EcuState) -> str:
    """Return the slot that an update writes: the spare one, or the only one."""
    return state.spare_slot if ecu.profile.spare_slot else state.slot


def holds_image(home: VehicleHome, ecu: Ecu, slot: str, image: ImageId) -> bool:
    """Tell whether a slot holds exactly an image.

    Raises:
        ResourceError: It can't be read.
    """
    length_bytes = home.files.length(home.slot_name(ecu, slot))
    return length_bytes == image.length_bytes and home.identify(ecu, slot) == image


@dataclass(slots=True)
class CountingSource:
    """A `BundleSource` that counts the bytes of the parts that were read."""

    source: BundleSource
    read_bytes: int = field(default=0)

    @property
    def serves_ranges(self) -> bool:
        """See `BundleSource.serves_ranges`."""
        return self.source.serves_ranges

    def stream(self, path: str, offset: int, end: int) -> Generator[bytes, None, None]:
        """See `BundleSource.stream`."""
        return self.source.stream(path, offset, end)

    def read(self, path: str, offset: int, end: int) -> bytes:
        """See `BundleSource.read`."""
        data = self.source.read(path, offset, end)
        self.read_bytes += len(data)
        return data


def _survey(
    offer: Offer, bundle: BundleTarget, old: FileOnDisk, source: BundleSource, heads: KeptHeads, limit_bytes: int
) -> Ways | None:
    """Return how a bundle would do with the installed image; None if nothing of that is what it starts from."""
    data = heads.find(bundle) or source.read(bundle.path, 0, bundle.head.length_bytes)
    try:
        head = read_head(data, bundle.head, offer.ecu.profile)
    except IncompatibleError:
        return None
    check_head(head, bundle, offer)
    damaged, reading = find_damage(head, old)
    if len(damaged) == reading:
        return None
    repair = BlockRepair(head, offer.full, source, offer.ecu.profile, limit_bytes, heads, keeps_head=False)
    repairs = repair.blob_bytes(damaged)
    repair_bytes = sum(repairs.values()) + (offer.full.head.length_bytes if repairs and offer.full is not None else 0)
    assert bundle.old is not None  # noqa: S101 - candidates are deltas
    heads.remember(bundle, data)
    note = f"the installed image is {bundle.old.hex[:12]}, damaged in {len(damaged)} of {reading} blocks"
    return Ways((bundle,), repairs, repair_bytes, 0, note)


def _total(ways: Ways) -> int:
    return ways.bundles[0].length_bytes + ways.repair_bytes


def _first_fitting(
    offer: Offer, ways: Ways, source: BundleSource, heads: KeptHeads
) -> tuple[BundleTarget, Head, int, int, str]:
    """Return the first bundle within the profile, its head, how much of that is to be read, that of heads before, and in words why."""
    notes = []
    refused_bytes = 0
    for position, bundle in enumerate(ways.bundles):
        kept = heads.find(bundle)
        data = source.read(bundle.path, 0, bundle.head.length_bytes) if kept is None else kept
        read_bytes = len(data) if kept is None else 0
        try:
            head = read_head(data, bundle.head, offer.ecu.profile)
        except IncompatibleError as error:
            if position + 1 == len(ways.bundles):
                raise
            notes.append(str(error))
            refused_bytes += read_bytes
            continue
        check_head(head, bundle, offer)
        return bundle, head, read_bytes, refused_bytes, "; ".join(notes)
    raise AssertionError("unreachable: the last bundle returns or raises")


def _held(home: VehicleHome, ecu: Ecu, slot: str, head: Head) -> bytearray:
    """Return which blocks a slot holds (`find_held`): an update that was cut short goes on where it stopped."""
    path = home.root / home.slot_name(ecu, slot)
    if not path.exists():
        return bytearray(len(head.index))
    with FileOnDisk.open(path) as file:
        return find_held(head.manifest, head.index, file)
