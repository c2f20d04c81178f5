"""Heads of bundles in use, kept beside the state of an ECU: an update that was cut short does not download them again.

Two at most: that of the bundle, and that of the full bundle if blocks had to be repaired. What lies there is a copy and never trusted: only
bytes of the length and SHA-256 that signed metadata states today count, anything else is fetched again.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Self

from packager.vehicle.core.targets import BundleTarget
from packager.vehicle.errors import ResourceError
from packager.vehicle.identity import Digest
from packager.vehicle.installation.home import Ecu, VehicleHome
from packager.vehicle.installation.selection import Offer
from packager.vehicle.storage import Storage


@dataclass(frozen=True, slots=True)
class KeptHeads:
    """The heads that are kept for one ECU.

    Attributes:
        files: Of the vehicle home.
        name: Path of the head of the bundle in use.
        repair_name: Path of the head of the full bundle that repairs it.
        known: Heads that this run has read already, by their digest.
    """

    files: Storage
    name: str
    repair_name: str
    known: dict[Digest, bytes] = field(default_factory=dict)

    @classmethod
    def of(cls, home: VehicleHome, ecu: Ecu) -> Self:
        """Return those of an ECU."""
        return cls(home.files, f"state/{ecu.name}.head", f"state/{ecu.name}.repair-head")

    def find(self, bundle: BundleTarget) -> bytes | None:
        """Return the head of a bundle; None if it was not read yet and is not there, or is not what is signed."""
        return self.known.get(bundle.head.digest) or self._stored(bundle)

    def remember(self, bundle: BundleTarget, data: bytes) -> None:
        """Remember the verified head of a bundle for this run, and write nothing."""
        self.known[bundle.head.digest] = data

    def forget(self, bundles: Iterable[BundleTarget]) -> None:
        """Forget what `remember` was told of these bundles."""
        for bundle in bundles:
            self.known.pop(bundle.head.digest, None)

    def keep(self, bundle: BundleTarget, data: bytes) -> None:
        """Keep the verified head of the bundle in use; those of another update go.

        Raises:
            ResourceError: It can't be written.
        """
        if self._read(self.name, bundle) is None:
            self.files.replace(self.name, data)
            self.files.remove(self.repair_name)

    def keep_repair(self, full: BundleTarget, data: bytes) -> None:
        """Keep the verified head of the full bundle that repairs the one in use.

        Raises:
            ResourceError: It can't be written.
        """
        if self._stored(full) is None:
            self.files.replace(self.repair_name, data)

    def remove(self) -> None:
        """Forget them: the update is done.

        Raises:
            ResourceError: They can't be removed.
        """
        self.files.remove(self.name)
        self.files.remove(self.repair_name)

    def space_bytes(self, offer: Offer) -> int:
        """Return the most space that they will take beyond what they take now.

        Raises:
            ResourceError: They can't be looked up.
        """
        ways = (*offer.bundles, *offer.candidates)
        wanted_bytes = max((bundle.head.length_bytes for bundle in ways), default=0)
        if offer.full is not None and offer.image is not None and offer.image.max_repair_bytes is not None:
            wanted_bytes += offer.full.head.length_bytes
        held_bytes = sum(self.files.length(name) or 0 for name in (self.name, self.repair_name))
        return max(0, wanted_bytes - held_bytes)

    def _stored(self, bundle: BundleTarget) -> bytes | None:
        return self._read(self.name, bundle) or self._read(self.repair_name, bundle)

    def _read(self, name: str, bundle: BundleTarget) -> bytes | None:
        try:
            data = self.files.read(name, bundle.head.length_bytes)
        except ResourceError:  # longer than this head, or unreadable
            return None
        if data is None or len(data) != bundle.head.length_bytes or Digest.of(data) != bundle.head.digest:
            return None
        return data
