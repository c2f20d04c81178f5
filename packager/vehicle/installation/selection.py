"""Decides, for one ECU, which image it should have and which bundles lead there. Pure: identities and verified targets in, an offer out."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from packager.vehicle.core.head import Head
from packager.vehicle.core.targets import BundleTarget, ImageTarget
from packager.vehicle.errors import IncompatibleError, UntrustedError
from packager.vehicle.identity import ImageId
from packager.vehicle.installation.home import Ecu
from packager.vehicle.installation.state import Begun, EcuState


@dataclass(frozen=True, slots=True)
class Offer:
    """What a repository offers to one ECU.

    Attributes:
        ecu: The ECU.
        installed: What its active slot holds; None for nothing.
        installed_version: Version of that image if signed metadata knows it.
        image: The newest image for its hardware; None if there is none.
        bundles: Ways to that image, best first; empty if nothing is to be done.
        note: Why there is nothing to do, or why the best way is not a delta; may be empty.
        candidates: Bundles from other images than the installed one, the likeliest first; one of them may do if the installed
            image is a known one that is damaged.
        full: The full bundle, from which damaged blocks can be fetched one by one.
    """

    ecu: Ecu
    installed: ImageId | None
    installed_version: str | None
    image: ImageTarget | None
    bundles: tuple[BundleTarget, ...]
    note: str
    candidates: tuple[BundleTarget, ...] = ()
    full: BundleTarget | None = None


def select(
    ecu: Ecu, installed: ImageId | None, state: EcuState, targets: Sequence[ImageTarget | BundleTarget]
) -> Offer:
    """Choose the image with the highest release counter, and the bundles to it: from what is installed, then the full one.

    Args:
        ecu: The ECU.
        installed: What its active slot holds.
        state: What the vehicle remembers of it.
        targets: Verified targets of its hardware id.

    Raises:
        UntrustedError: The newest image has a lower release counter than was installed before, or two images share the highest.
        IncompatibleError: No bundle leads to it.
    """
    images = [t for t in targets if isinstance(t, ImageTarget) and ecu.hardware_id in t.hardware_ids]
    version = next((image.version for image in images if image.image == installed), None)
    if not images:
        return Offer(ecu, installed, version, None, (), f"no image is offered for hardware {ecu.hardware_id}")
    newest = max(images, key=lambda image: image.release_counter)
    rivals = [i.path for i in images if i.release_counter == newest.release_counter and i.image != newest.image]
    if rivals:
        raise UntrustedError(
            f"{newest.path} and {rivals[0]} have the same release counter {newest.release_counter}; expected one newest image"
        )
    if newest.release_counter < state.release_counter:
        raise UntrustedError(
            f"{newest.path}: release counter {newest.release_counter}, but {state.release_counter} was installed before; "
            "an older release is never installed"
        )
    if newest.image == installed:
        return Offer(ecu, installed, newest.version, newest, (), "up to date")
    bundles = [t for t in targets if isinstance(t, BundleTarget) and t.image_path == newest.path]
    full = next((bundle for bundle in bundles if bundle.old is None), None)
    deltas = [bundle for bundle in bundles if installed is not None and bundle.old == installed.digest]
    if not deltas and full is None:
        raise IncompatibleError(
            f"{newest.path}: no bundle from {installed or 'an empty slot'} and no full bundle; expected one of them"
        )
    ways = (*deltas, *([full] if full else []))
    if deltas:
        return Offer(ecu, installed, version, newest, ways, "", (), full)
    if installed is None:
        return Offer(ecu, installed, version, newest, ways, "the active slot is empty", (), full)
    last = state.installed.digest if state.installed is not None else None
    candidates = sorted(
        (bundle for bundle in bundles if bundle.old is not None),
        key=lambda bundle: (bundle.old != last, bundle.head.length_bytes, bundle.path),
    )
    note = f"no bundle from the installed image {installed.digest.hex[:12]}"
    return Offer(ecu, installed, version, newest, ways, note, tuple(candidates), full)


def go_on(ecu: Ecu, begun: Begun, targets: Sequence[ImageTarget | BundleTarget]) -> Offer:
    """Offer to finish an in-place update that was begun, with its own bundle, or else with the full bundle to the same image.

    Repair may take what is signed now: the limit may have been raised so that this update can be finished.

    Args:
        ecu: The ECU.
        begun: What was begun.
        targets: Verified targets of its hardware id and version; they need not hold that bundle or image any more.
    """
    images = (t for t in targets if isinstance(t, ImageTarget))
    known = next((t for t in images if (t.path, t.image) == (begun.image.path, begun.image.image)), None)
    fulls = (t for t in targets if isinstance(t, BundleTarget) and t.old is None and t.image_path == begun.image.path)
    full = next(fulls, None) if known else None
    image = replace(begun.image, max_repair_bytes=known.max_repair_bytes) if known else begun.image
    ways = tuple(dict.fromkeys((begun.bundle, *([full] if full else []))))
    return Offer(ecu, None, None, image, ways, "went on with what was begun", (), full)


def check_head(head: Head, bundle: BundleTarget, offer: Offer) -> None:
    """Require that a bundle's manifest says of itself what signed metadata says of it, and that it is for the ECU.

    Raises:
        UntrustedError: It is about other images, hardware, version or release counter.
    """
    assert offer.image is not None  # noqa: S101 - an offer with bundles has an image
    check_manifest(head, bundle, offer.image, offer.ecu.hardware_id, offer.installed)


def check_manifest(
    head: Head,
    bundle: BundleTarget,
    image: ImageTarget,
    hardware_id: str | None = None,
    installed: ImageId | None = None,
) -> None:
    """Require that a bundle's manifest says of itself what signed metadata says of it.

    Args:
        head: The bundle's.
        bundle: Its signed target.
        image: The signed image that it leads to.
        hardware_id: Hardware that it must be for; None for that of its path.
        installed: An image that is known; if it is the one that the bundle starts from, its length must be right, too.

    Raises:
        UntrustedError: It is about other images, hardware, version or release counter.
    """
    manifest = head.manifest
    old = None if manifest.old is None else manifest.old.digest
    pairs: list[tuple[str, object, object]] = [
        ("image", bundle.image_path, image.path),
        ("new image", manifest.new, image.image),
        ("old image", old, bundle.old),
        ("version", manifest.version, image.version),
        ("release counter", manifest.release_counter, image.release_counter),
        ("length", head.bundle_bytes, bundle.length_bytes),
    ]
    if installed is not None and installed.digest == old:
        pairs.append(("old image", manifest.old, installed))
    faults = [f"{name} {found}, expected {expected}" for name, found, expected in pairs if found != expected]
    wanted = hardware_id or bundle.hardware_id
    if wanted not in manifest.hardware_ids:
        faults.append(f"hardware {', '.join(manifest.hardware_ids) or 'none'}, expected {wanted}")
    if faults:
        raise UntrustedError(f"{bundle.path}: its manifest disagrees with signed metadata: " + "; ".join(faults))
