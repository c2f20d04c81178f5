"""Prepares one ECU: a bundle's head first, checked before a blob is taken, then the new image in the spare slot."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Self

from packager.vehicle.applier import Applier, Progress
from packager.vehicle.blocks import NoOldImage
from packager.vehicle.errors import IncompatibleError, TemporaryError
from packager.vehicle.fetch import BundleSource
from packager.vehicle.head import Head, read_head
from packager.vehicle.home import Ecu, EcuState, VehicleHome
from packager.vehicle.journal import JOURNAL_BYTES, Binding, Journal
from packager.vehicle.selection import Offer, check_head
from packager.vehicle.storage import FileOnDisk
from packager.vehicle.targets import BundleTarget

OnProgress = Callable[[str, Progress], None]
"""Told the ECU's name and how far its bundle is."""


@dataclass(frozen=True, slots=True)
class EcuUpdate:
    """What an update did to one ECU.

    Attributes:
        offer: What it had and what was offered.
        bundle: The bundle that was used; None if nothing was to be done or the image lay in the spare slot already.
        downloaded_bytes: Bytes of bundles that were read.
        seconds: Time that it took, without the refresh.
        note: In words, why things went this way; may be empty.
    """

    offer: Offer
    bundle: BundleTarget | None
    downloaded_bytes: int
    seconds: float
    note: str

    @property
    def is_updated(self) -> bool:
        """Whether the ECU has another image now."""
        return bool(self.offer.bundles)


def prepare(
    home: VehicleHome,
    offer: Offer,
    state: EcuState,
    source: BundleSource,
    workers: int,
    on_progress: OnProgress | None,
    clock_s: Callable[[], float],
) -> EcuUpdate:
    """Bring the new image into the spare slot, verified by reading it back; the active slot is only read.

    Args:
        home: The vehicle.
        offer: What to install; nothing is done without bundles.
        state: What the vehicle remembers of the ECU.
        source: The repository's targets.
        workers: Threads that decode.
        on_progress: Told after each block.
        clock_s: Measures durations.

    Raises:
        CorruptError: The bundle is damaged.
        UntrustedError: Its manifest disagrees with signed metadata.
        IncompatibleError: No bundle suits the ECU.
        ResourceError: The slots can't be read or written.
        TemporaryError: The bundle can't be had now.
    """
    start_s = clock_s()
    if offer.image is None or not offer.bundles:
        return EcuUpdate(offer, None, 0, 0.0, offer.note)
    spare = state.spare_slot
    image = offer.image.image
    length_bytes = home.files.length(home.slot_name(offer.ecu, spare))
    if length_bytes == image.length_bytes and home.identify(offer.ecu, spare) == image:
        return EcuUpdate(offer, None, 0, clock_s() - start_s, "was in the spare slot already")
    notes = [offer.note] if offer.note else []
    downloaded_bytes = 0
    for position, bundle in enumerate(offer.bundles):
        with _BundleReader(source, bundle) as reader:
            try:
                head = read_head(reader.take(bundle.head.length_bytes), bundle.head, offer.ecu.profile)
            except IncompatibleError as error:
                if position + 1 == len(offer.bundles):
                    raise
                notes.append(str(error))
                downloaded_bytes += reader.read_bytes
                continue
            check_head(head, bundle, offer)
            _apply(home, offer.ecu, state, head, reader, workers, on_progress)
            downloaded_bytes += reader.read_bytes
        return EcuUpdate(offer, bundle, downloaded_bytes, clock_s() - start_s, "; ".join(notes))
    raise AssertionError("unreachable: the last bundle returns or raises")


def _apply(
    home: VehicleHome,
    ecu: Ecu,
    state: EcuState,
    head: Head,
    reader: "_BundleReader",
    workers: int,
    on_progress: OnProgress | None,
) -> None:
    name = home.slot_name(ecu, state.spare_slot)
    length_bytes = head.manifest.new.length_bytes
    with contextlib.ExitStack() as stack:
        slot = stack.enter_context(home.files.open(name, length_bytes))
        journal_file = stack.enter_context(home.files.open(home.journal_name(ecu), JOURNAL_BYTES))
        old: NoOldImage | FileOnDisk = NoOldImage()
        if head.manifest.old is not None:
            old = stack.enter_context(FileOnDisk.open(home.root / home.slot_name(ecu, state.slot)))
        applier = stack.enter_context(
            Applier(
                head,
                old,
                slot,
                journal=Journal(journal_file, Binding(head.digest, ecu.identity)),
                workers=workers,
                on_progress=None if on_progress is None else lambda progress: on_progress(ecu.name, progress),
            )
        )
        for chunk in reader.chunks_from(applier.next_offset):
            applier.feed(chunk)
        applier.finish()


class _BundleReader:
    """Reads a bundle: first its head, then from any byte on; with one request where that is possible."""

    def __init__(self, source: BundleSource, bundle: BundleTarget) -> None:
        self._source = source
        self._bundle = bundle
        self._stream = source.stream(bundle.path, 0, bundle.length_bytes)
        self._rest = b""
        self._offset = 0
        self.read_bytes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()

    def take(self, length_bytes: int) -> bytes:
        """Return the next `length_bytes` bytes.

        Raises:
            TemporaryError: There are not as many.
        """
        found = bytearray()
        while len(found) < length_bytes:
            chunk = self._rest or self._next()
            if not chunk:
                raise TemporaryError(f"{self._bundle.path}: ended at byte {self._offset}, expected {length_bytes}")
            wanted = length_bytes - len(found)
            found += chunk[:wanted]
            self._rest = chunk[wanted:]
        self._offset += length_bytes
        return bytes(found)

    def chunks_from(self, offset: int) -> Iterator[bytes]:
        """Yield the bytes from `offset` to the end."""
        ahead = offset - self._offset
        if ahead <= len(self._rest):
            self._rest = self._rest[ahead:]
        else:
            self._stream.close()
            self._rest = b""
            self._stream = self._source.stream(self._bundle.path, offset, self._bundle.length_bytes)
        while chunk := self._rest or self._next():
            self._rest = b""
            yield chunk

    def _next(self) -> bytes:
        chunk = next(self._stream, b"")
        self.read_bytes += len(chunk)
        return chunk
