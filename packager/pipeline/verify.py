"""Checks a finished release as a third party would: from a trusted root alone, offline, with the vehicle's own code.

TUF metadata, then the supply chain (whose layout keys come from signed targets), then every bundle applied to its old image.
"""

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final, Self

from tuf.api.metadata import Root

from packager.bundle.check import apply_to_file, rebuild
from packager.bundle.loose import ANY_PROFILE
from packager.model.errors import VerificationError
from packager.pipeline.bound_chain import verify_chains
from packager.pipeline.exported import verify_exported
from packager.repo.serving import FetchFromDirectory
from packager.supplychain.chain import VerifiedChain
from packager.vehicle.core.head import Head, read_head
from packager.vehicle.core.targets import CHAIN, BundleTarget, ImageTarget
from packager.vehicle.errors import ResourceError, UntrustedError
from packager.vehicle.identity import ImageId
from packager.vehicle.installation.selection import check_manifest
from packager.vehicle.trust.metadata_store import MemoryStorage, NotFoundError, TrustedMetadata, initialise, refresh
from packager.vehicle.trust.summary import read_gate
from packager.vehicle.trust.workflow import MAX_ROOT_BYTES, read_next_root, read_root

METADATA: Final = Path("metadata")
TARGETS: Final = Path("targets")


@dataclass(frozen=True, slots=True)
class VerifiedRelease:
    """A repository that holds: the newest release of every hardware id.

    Attributes:
        chains: What the supply chains prove, by release id, newest first.
        images: Images that it offers.
        bundles: Bundles that were applied.
    """

    chains: Mapping[str, VerifiedChain]
    images: tuple[ImageTarget, ...]
    bundles: tuple[BundleTarget, ...]


def verify_release(
    directory: Path,
    root: bytes,
    images: Path | None,
    now: datetime,
    on_bundle: Callable[[BundleTarget], None] = lambda _: None,
) -> VerifiedRelease:
    """Verify ``DIR/repo``, ``DIR/chain`` and ``DIR/evidence``: of every hardware id what cars read, which is its newest release.

    Args:
        directory: The release.
        root: The root metadata that is trusted.
        images: Directory with old images, under any names; None for none.
        now: Time to judge expiry by.
        on_bundle: Told each bundle that was applied.

    Raises:
        UntrustedError: Metadata does not hold or has expired.
        SupplyChainError: The chain or what is said of it does not hold, or is about something else than what is signed.
        CorruptError: A bundle does not make its image.
        VerificationError: Bundles could not be verified because an old image is missing; the message lists them.
        ResourceError: A file can't be read.
    """
    targets, chains = verify_evidence(directory, root, now)
    offered = tuple(target for target in targets if isinstance(target, ImageTarget))
    bundles = tuple(target for target in targets if isinstance(target, BundleTarget))
    _apply_all(directory / "repo" / TARGETS, offered, bundles, images, on_bundle)
    return VerifiedRelease(chains, offered, bundles)


def verify_evidence(
    directory: Path, root: bytes, now: datetime
) -> tuple[list[ImageTarget | BundleTarget], dict[str, VerifiedChain]]:
    """Verify all but the bundles themselves: metadata, supply chains, and what is said of them.

    Args:
        directory: The release.
        root: The root metadata that is trusted.
        now: Time to judge expiry by.

    Returns:
        What cars read, and what the supply chains prove, by release id, newest first.

    Raises:
        UntrustedError: Metadata does not hold or has expired.
        SupplyChainError: A chain or what is said of it does not hold; the message names the file.
        ResourceError: A file can't be read.
    """
    check_roots(directory / "repo" / METADATA, root)
    trusted = load_repository(directory / "repo", root, now)
    try:
        targets = trusted.delegations.everything()
    except NotFoundError as error:
        raise UntrustedError(f"repository {directory}: {error}") from error
    # A release stays released when its layout expires: the gate says when it judged, and TUF whether the release is still offered.
    has_gate = read_gate(trusted.targets) is not None
    chains = verify_chains(directory / CHAIN, trusted, targets, None if has_gate else now)
    if not chains:
        raise UntrustedError(f"repository {directory}: has no release, expected at least one")
    verify_exported(directory, trusted, chains)
    return targets, chains


def load_repository(repo: Path, root: bytes, now: datetime) -> TrustedMetadata:
    """Verify the metadata of a repository in a directory.

    Raises:
        UntrustedError: It does not hold, has expired, or is missing.
    """
    storage = MemoryStorage()
    initialise(storage, root)
    try:
        return refresh(storage, FetchFromDirectory(repo / METADATA), now)
    except NotFoundError as error:
        raise UntrustedError(f"repository {repo}: {error}") from error


def check_roots(metadata: Path, root: bytes) -> None:
    """Check that every published root follows from the one before, and that the trusted one is among them as it is trusted.

    Cars that were away for long walk roots that nobody else reads any more.

    Raises:
        UntrustedError: One does not; the message names it.
        ResourceError: One can't be read.
    """
    before: Root | None = None
    trusted = read_root(root)
    for path in sorted(metadata.glob("*.root.json"), key=lambda path: (len(path.name), path.name)):
        following = "" if before is None else f"{before.version + 1}.root.json"
        if following and path.name != following:
            raise UntrustedError(f"{metadata / following}: is missing, expected it before {path.name}")
        data = FetchFromDirectory(metadata).fetch(path.name, MAX_ROOT_BYTES)
        try:
            before = read_root(data) if before is None else read_next_root(data, before)
        except UntrustedError as error:
            raise UntrustedError(f"{path}: {error}") from error
        if before.version == trusted.version and data != root:
            raise UntrustedError(f"{path}: found another root of version {trusted.version} than the trusted one")
    if before is None or before.version < trusted.version:
        raise UntrustedError(
            f"{metadata}: found no root of version {trusted.version}, which is trusted; expected what packager build or repo published"
        )


def find_signed_head(repo: Path, root: bytes, head: Head, now: datetime) -> BundleTarget:
    """Return the target of a repository that vouches for `head`.

    Raises:
        UntrustedError: The metadata does not hold, or lists no such head.
    """
    delegations = load_repository(repo, root, now).delegations
    for superseded in (False, True):  # old releases are read only where that is needed: they may have expired
        for target in delegations.everything(superseded=superseded):
            if isinstance(target, BundleTarget) and target.head.digest == head.digest:
                return target
    raise UntrustedError(f"bundle: its head {head.digest} is in no target that {repo} signed")


def _apply_all(
    targets: Path,
    offered: tuple[ImageTarget, ...],
    bundles: tuple[BundleTarget, ...],
    images: Path | None,
    on_bundle: Callable[[BundleTarget], None],
) -> None:
    with tempfile.TemporaryDirectory(prefix="packager-verify-") as scratch:
        checked = [_Bundle.open(targets, target, {image.path: image for image in offered}) for target in bundles]
        olds = _OldImages(checked, images, Path(scratch))
        missing = []
        for bundle in checked:
            old = None if bundle.old is None else olds.find(bundle.old)
            if bundle.old is not None and old is None:
                missing.append(
                    f"{bundle.target.path}: its old image {bundle.old} is in no full bundle and not in --images"
                )
                continue
            bundle.apply(old, Path(scratch))
            on_bundle(bundle.target)
    if missing:
        raise VerificationError(
            "\n  ".join((f"{len(missing)} of {len(bundles)} bundles are not verified", *missing)),
            hint="give the directory of the old images with --images",
        )


@dataclass(frozen=True, slots=True)
class _Bundle:
    """A bundle whose file and head are those that were signed."""

    target: BundleTarget
    path: Path
    head: Head
    new: ImageId

    @property
    def old(self) -> ImageId | None:
        return self.head.manifest.old

    @classmethod
    def open(cls, targets: Path, target: BundleTarget, images: Mapping[str, ImageTarget]) -> Self:
        path = targets / target.path
        found = _identify(path)
        if found != target.file:
            raise VerificationError(
                f"{path}: found {found}, signed are {target.length_bytes} bytes, {target.digest}",
                hint="get the release again",
            )
        image = images.get(target.image_path)
        if image is None:
            raise VerificationError(f"{path}: leads to no image, expected a target {target.image_path}")
        with path.open("rb") as stream:
            head = read_head(stream.read(target.head.length_bytes), target.head, ANY_PROFILE)
        check_manifest(head, target, image)
        return cls(target, path, head, image.image)

    def apply(self, old: Path | None, scratch: Path) -> None:
        made = rebuild(self.path, self.target.head, ANY_PROFILE, old, scratch).image
        if made != self.new:
            raise VerificationError(f"{self.path}: makes {made}, signed is {self.new}")


class _OldImages:
    """Finds old images by identity: in a directory, or by applying a full bundle of the repository."""

    def __init__(self, bundles: Sequence[_Bundle], images: Path | None, scratch: Path) -> None:
        self._full = {bundle.new: bundle for bundle in bundles if bundle.old is None}
        self._scratch = scratch
        wanted = {bundle.old.length_bytes for bundle in bundles if bundle.old is not None}
        self._found = dict(_identify_all(images, wanted)) if images is not None else {}

    def find(self, image: ImageId) -> Path | None:
        if image not in self._found and image in self._full:
            full = self._full[image]
            full.apply(None, self._scratch)
            self._found[image] = self._scratch / image.digest.hex
            apply_to_file(full.path, full.head, None, self._found[image])
        return self._found.get(image)


def _identify_all(directory: Path, lengths: set[int]) -> Iterator[tuple[ImageId, Path]]:
    """Identify the files below a directory that have one of the lengths."""
    if not directory.is_dir():
        raise ResourceError(f"--images {directory}: is no directory")
    for path in sorted(directory.rglob("*")):
        if path.is_file() and path.stat().st_size in lengths:
            yield _identify(path), path


def _identify(path: Path) -> ImageId:
    try:
        with path.open("rb") as stream:
            return ImageId.of_stream(stream)
    except FileNotFoundError as error:
        raise VerificationError(
            f"{path}: is missing, expected the file that was signed", hint="get the release again"
        ) from error
    except OSError as error:
        raise ResourceError(f"{path}: can't be read: {error.strerror}") from error
