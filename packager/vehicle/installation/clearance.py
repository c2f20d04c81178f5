"""Lets no image be installed that the release gate does not vouch for, where the car demands it (Uptane PURE-3, Scudo).

That the field is missing from signed metadata is no way around it: then there is no evidence either.
"""

from collections.abc import Mapping

from packager.vehicle.core.targets import ImageTarget
from packager.vehicle.errors import CorruptError, UntrustedError
from packager.vehicle.identity import Digest
from packager.vehicle.transport.fetch import BundleSource
from packager.vehicle.trust.metadata_json import digest_of
from packager.vehicle.trust.metadata_store import TrustedMetadata
from packager.vehicle.trust.summary import MAX_SUMMARY_BYTES, read_gate, verify_summary


class Clearance:
    """Checks images of one verified repository state; each summary is read once.

    Args:
        trusted: The metadata.
        source: The repository's targets.
        is_required: Whether an image without evidence is refused. Evidence that is there must hold in any case.

    Attributes:
        read_bytes: What summaries took.
    """

    def __init__(self, trusted: TrustedMetadata, source: BundleSource, *, is_required: bool) -> None:
        self._trusted = trusted
        self._source = source
        self._is_required = is_required
        self._known: dict[str, Mapping[str, Digest]] = {}
        self.read_bytes = 0

    def require(self, image: ImageTarget) -> None:
        """Require that the release gate vouches for an image.

        Raises:
            UntrustedError: It does not, or the image comes without evidence and that is required.
            CorruptError: The summary is not the file that was signed.
            TemporaryError: It can't be had now.
        """
        gate = read_gate(self._trusted.targets)
        if image.summary is None or gate is None:
            if not self._is_required:
                return
            lacking = "its target names no summary" if image.summary is None else "no release gate is named"
            raise UntrustedError(
                f"{image.path}: comes without evidence of its supply chain ({lacking}), which vehicle.toml requires"
            )
        if image.summary not in self._known:
            self._known[image.summary] = verify_summary(self._read(image.summary), image.summary, gate)
        vouched = self._known[image.summary].get(image.path)
        if vouched != image.image.digest:
            raise UntrustedError(
                f"{image.summary}: vouches for {vouched or 'nothing'} as {image.path}, expected {image.image.digest}"
            )

    def _read(self, path: str) -> bytes:
        target = self._trusted.delegations.find(path)
        if target is None:
            raise UntrustedError(f"{path}: is in no role that may list it, expected the release gate's summary")
        if target.length > MAX_SUMMARY_BYTES:
            raise UntrustedError(f"{path}: found {target.length} bytes, expected at most {MAX_SUMMARY_BYTES}")
        expected = digest_of(target.hashes, f"target {path!r}")
        data = self._source.read(path, 0, target.length)
        self.read_bytes += len(data)
        if Digest.of(data) != expected:
            raise CorruptError(f"{path}: found {Digest.of(data)}, signed is {expected}")
        return data
