"""Checks a finished release as a third party would: from a trusted root alone, offline, with the vehicle's own code.

TUF metadata, then the supply chain (whose layout keys come from signed targets), then every bundle applied to its old image.
"""

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from securesystemslib.exceptions import Error as SignerError
from tuf.api.metadata import Key, Targets

from packager.bundle.check import apply_to_file, rebuild
from packager.bundle.loose import ANY_PROFILE, LooseBundle
from packager.model.errors import SupplyChainError, VerificationError
from packager.repo.targets_set import CHAIN_PREFIX
from packager.supplychain.chain import LAYOUT_NAME, VerifiedChain, read_chain, verify_chain
from packager.vehicle.errors import ResourceError, UntrustedError
from packager.vehicle.head import Head
from packager.vehicle.identity import SHA256, Digest, ImageId
from packager.vehicle.metadata_store import MemoryStorage, NotFoundError, TrustedMetadata, initialise, refresh
from packager.vehicle.targets import BundleTarget, ImageTarget

METADATA: Final = Path("metadata")
TARGETS: Final = Path("targets")


@dataclass(frozen=True, slots=True)
class DirectoryFetcher:
    """Gets metadata from a directory; a `packager.vehicle.metadata_store.Fetcher`.

    Attributes:
        directory: The metadata's.
    """

    directory: Path

    def fetch(self, path: str, max_bytes: int) -> bytes:
        """See `Fetcher.fetch`."""
        try:
            with (self.directory / path).open("rb") as file:
                data = file.read(max_bytes + 1)
        except FileNotFoundError as error:
            raise NotFoundError(f"{self.directory / path}: is missing") from error
        except OSError as error:
            raise ResourceError(f"{self.directory / path}: can't be read: {error.strerror}") from error
        if len(data) > max_bytes:
            raise UntrustedError(f"{self.directory / path}: longer than {max_bytes} bytes, expected at most that many")
        return data


@dataclass(frozen=True, slots=True)
class VerifiedRelease:
    """A release that holds.

    Attributes:
        chain: What its supply chain proves.
        images: Images that it offers.
        bundles: Bundles that were applied.
    """

    chain: VerifiedChain
    images: tuple[ImageTarget, ...]
    bundles: tuple[BundleTarget, ...]


def verify_release(
    directory: Path,
    root: bytes,
    images: Path | None,
    now: datetime,
    on_bundle: Callable[[BundleTarget], None] = lambda _: None,
) -> VerifiedRelease:
    """Verify ``DIR/repo`` and ``DIR/chain``.

    Args:
        directory: The release.
        root: The root metadata that is trusted.
        images: Directory with old images, under any names; None for none.
        now: Time to judge expiry by.
        on_bundle: Told each bundle that was applied.

    Raises:
        UntrustedError: Metadata does not hold or has expired.
        SupplyChainError: The chain does not hold, or is about something else than what is signed.
        CorruptError: A bundle does not make its image.
        VerificationError: Bundles could not be verified because an old image is missing; the message lists them.
        ResourceError: A file can't be read.
    """
    trusted = load_repository(directory / "repo", root, now)
    targets = trusted.delegations.everything()
    offered = tuple(target for target in targets if isinstance(target, ImageTarget))
    bundles = tuple(target for target in targets if isinstance(target, BundleTarget))
    chain = _verify_chain(directory, trusted.targets, now)
    _compare(chain, offered, bundles)
    _apply_all(directory / "repo" / TARGETS, bundles, images, on_bundle)
    return VerifiedRelease(chain, offered, bundles)


def load_repository(repo: Path, root: bytes, now: datetime) -> TrustedMetadata:
    """Verify the metadata of a repository in a directory.

    Raises:
        UntrustedError: It does not hold, has expired, or is missing.
    """
    storage = MemoryStorage()
    initialise(storage, root)
    try:
        return refresh(storage, DirectoryFetcher(repo / METADATA), now)
    except NotFoundError as error:
        raise UntrustedError(f"repository {repo}: {error}") from error


def find_signed_head(repo: Path, root: bytes, head: Head, now: datetime) -> BundleTarget:
    """Return the target of a repository that vouches for `head`.

    Raises:
        UntrustedError: The metadata does not hold, or lists no such head.
    """
    for target in load_repository(repo, root, now).delegations.everything():
        if isinstance(target, BundleTarget) and target.head.digest == head.digest:
            return target
    raise UntrustedError(f"bundle: its head {head.digest} is in no target that {repo} signed")


def _verify_chain(directory: Path, top: Targets, now: datetime) -> VerifiedChain:
    """Verify the supply chain; its files and the layout's keys are those of the signed targets."""
    files = read_chain(directory / "chain")
    signed = {
        path.removeprefix(CHAIN_PREFIX): target for path, target in top.targets.items() if path.startswith(CHAIN_PREFIX)
    }
    for name in sorted(files.keys() | signed.keys()):
        expected = signed[name].hashes.get(SHA256) if name in signed else "nothing: no such target"
        found = Digest.of(files[name]).hex if name in files else "nothing: the file is missing"
        if found != expected:
            raise SupplyChainError(
                f"{directory / CHAIN_PREFIX / name}: found {found}, expected {expected}",
                hint="the file is not the one that was signed; get the release again",
            )
    return verify_chain(files, _layout_keys(signed[LAYOUT_NAME].custom if LAYOUT_NAME in signed else None), now)


def _layout_keys(custom: object) -> list[Key]:
    try:
        entries = [dict(entry) for entry in custom["in-toto"]["keys"]]  # type: ignore[index]
        return [Key.from_dict(entry.pop("keyid"), entry) for entry in entries]
    except (SignerError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise SupplyChainError(
            f"target {CHAIN_PREFIX}{LAYOUT_NAME}: {error!r}; expected the layout's keys in its custom fields"
        ) from error


def _compare(chain: VerifiedChain, images: tuple[ImageTarget, ...], bundles: tuple[BundleTarget, ...]) -> None:
    """Check that what is signed is what the chain proves, all of it and nothing else."""
    signed = {target.path: target.digest for target in bundles}
    for path in sorted(signed.keys() | chain.targets.keys()):
        if signed.get(path) != chain.targets.get(path):
            raise SupplyChainError(
                f"target {path}: signed is {signed.get(path) or 'nothing'}, "
                f"the supply chain proves {chain.targets.get(path) or 'nothing'}"
            )
    for image in images:
        proven = chain.images.get(f"images/{image.path}")
        if proven != image.image.digest:
            raise SupplyChainError(
                f"target {image.path}: signed is {image.image.digest}, the supply chain collected {proven or 'nothing'}"
            )


def _apply_all(
    targets: Path, bundles: tuple[BundleTarget, ...], images: Path | None, on_bundle: Callable[[BundleTarget], None]
) -> None:
    with tempfile.TemporaryDirectory(prefix="packager-verify-") as scratch:
        olds = _OldImages(targets, bundles, images, Path(scratch))
        missing = []
        for target in bundles:
            old = None if target.old is None else olds.find(target.old)
            if target.old is not None and old is None:
                missing.append(f"{target.path}: its old image {target.old} is in no full bundle and not in --images")
                continue
            _apply(targets, target, old, Path(scratch))
            on_bundle(target)
    if missing:
        raise VerificationError(
            "\n  ".join((f"{len(missing)} of {len(bundles)} bundles are not verified", *missing)),
            hint="give the directory of the old images with --images",
        )


def _apply(targets: Path, target: BundleTarget, old: Path | None, scratch: Path) -> None:
    path = targets / target.path
    found = _identify(path)
    if found != ImageId(target.length_bytes, target.digest):
        raise VerificationError(
            f"{path}: found {found}, signed are {target.length_bytes} bytes, {target.digest}",
            hint="get the release again",
        )
    made = rebuild(path, target.head, ANY_PROFILE, old, scratch).image
    if made != target.new:
        raise VerificationError(f"{path}: makes {made}, signed is {target.new}")


class _OldImages:
    """Finds old images by identity: in a directory, or by applying a full bundle of the repository."""

    def __init__(self, targets: Path, bundles: tuple[BundleTarget, ...], images: Path | None, scratch: Path) -> None:
        self._targets = targets
        self._full = {target.new: target for target in bundles if target.old is None}
        self._scratch = scratch
        wanted = {target.old.length_bytes for target in bundles if target.old is not None}
        self._found = dict(_identify_all(images, wanted)) if images is not None else {}

    def find(self, image: ImageId) -> Path | None:
        if image not in self._found and image in self._full:
            full = self._full[image]
            _apply(self._targets, full, None, self._scratch)
            bundle = LooseBundle.open(self._targets / full.path, ANY_PROFILE)
            self._found[image] = self._scratch / image.digest.hex
            apply_to_file(bundle.path, bundle.head, None, self._found[image])
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
    except OSError as error:
        raise ResourceError(f"{path}: can't be read: {error.strerror}") from error
