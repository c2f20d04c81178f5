from dataclasses import replace

import pytest

from packager.vehicle.core.head import Head, read_head
from packager.vehicle.core.targets import ImageTarget
from packager.vehicle.errors import IncompatibleError, UntrustedError
from packager.vehicle.identity import ImageId
from packager.vehicle.installation.home import Ecu
from packager.vehicle.installation.selection import check_head, check_manifest, select
from packager.vehicle.installation.state import EcuState
from tests.repository_simulator import PROFILE, MadeBundle, make_bundle

ECU = Ecu("BDC", "1", "bdc", PROFILE)
OLD, NEW, OTHER = b"old" * 100, b"new" * 100, b"other" * 100
OLD_ID = ImageId.of(OLD)


def _image(version: str, counter: int, data: bytes = NEW, *hardware_ids: str) -> ImageTarget:
    return ImageTarget("bdc", version, ImageId.of(data), counter, hardware_ids or ("bdc",))


DELTA = make_bundle("bdc", "2", 2, OLD, NEW)
FULL = make_bundle("bdc", "2", 2, None, NEW)
FROM_OTHER = make_bundle("bdc", "2", 2, OTHER, NEW)


def test_the_highest_counter_and_the_bundle_from_what_is_installed_win() -> None:
    targets = [_image("1", 1, OLD), _image("2", 2), FROM_OTHER.target, FULL.target, DELTA.target]
    offer = select(ECU, OLD_ID, EcuState(), targets)
    assert offer.image == _image("2", 2)
    assert offer.bundles == (DELTA.target, FULL.target)
    assert (offer.installed_version, offer.note) == ("1", "")


def test_without_a_bundle_from_what_is_installed_the_full_one_is_taken_and_why_is_said() -> None:
    targets = [_image("2", 2), FROM_OTHER.target, FULL.target]
    offer = select(ECU, OLD_ID, EcuState(), targets)
    assert offer.bundles == (FULL.target,)
    assert offer.note == f"no bundle from the installed image {OLD_ID.digest.hex[:12]}"
    offer = select(ECU, None, EcuState(), targets)
    assert offer.bundles == (FULL.target,)
    assert offer.note == "the active slot is empty"


def test_bundles_to_another_image_or_version_lead_nowhere() -> None:
    strange = [replace(FULL.target, version="1"), replace(DELTA.target, version="3"), FROM_OTHER.target]
    with pytest.raises(IncompatibleError, match=r"bdc/2/image: no bundle from .* and no full bundle"):
        select(ECU, OLD_ID, EcuState(), [_image("2", 2), *strange])


def test_the_newest_image_needs_nothing() -> None:
    offer = select(ECU, ImageId.of(NEW), EcuState(release_counter=2), [_image("2", 2)])
    assert (offer.bundles, offer.note) == ((), "up to date")


@pytest.mark.parametrize("targets", [[], [_image("2", 2, NEW, "dsc")]])
def test_no_image_for_the_hardware_is_no_error(targets: list[ImageTarget]) -> None:
    offer = select(ECU, OLD_ID, EcuState(), targets)
    assert (offer.image, offer.bundles) == (None, ())
    assert "no image is offered for hardware bdc" in offer.note


def test_an_older_release_is_never_installed() -> None:
    targets = [_image("2", 2), FULL.target]
    assert select(ECU, OLD_ID, EcuState(release_counter=2), targets).bundles
    with pytest.raises(UntrustedError, match="release counter 2, but 3 was installed before"):
        select(ECU, OLD_ID, EcuState(release_counter=3), targets)


def test_two_newest_images_are_one_too_many() -> None:
    with pytest.raises(UntrustedError, match="have the same release counter 2"):
        select(ECU, OLD_ID, EcuState(), [_image("2", 2), _image("2b", 2, OTHER)])
    assert select(ECU, ImageId.of(NEW), EcuState(), [_image("2", 2), _image("2b", 2)]).note == "up to date"


def _head(bundle: MadeBundle) -> Head:
    return read_head(bundle.data[: bundle.head_bytes], bundle.target.head, PROFILE)


def test_a_manifest_must_agree_with_signed_metadata() -> None:
    offer = select(ECU, OLD_ID, EcuState(), [_image("2", 2), DELTA.target])
    check_head(_head(DELTA), DELTA.target, offer)
    for made, wrong in (
        (make_bundle("bdc", "2", 2, OLD, OTHER), "new image"),
        (make_bundle("bdc", "2", 2, OTHER, NEW), "old image"),
        (FULL, "old image"),
        (make_bundle("bdc", "3", 2, OLD, NEW), "version 3, expected 2"),
        (make_bundle("bdc", "2", 3, OLD, NEW), "release counter 3, expected 2"),
        (make_bundle("bdc", "2", 2, OLD, NEW, hardware_ids=("dsc",)), "hardware dsc, expected bdc"),
    ):
        with pytest.raises(UntrustedError, match=wrong):
            check_head(_head(made), replace(DELTA.target, length_bytes=len(made.data)), offer)
    with pytest.raises(UntrustedError, match="image bdc/3/image, expected bdc/2/image"):
        check_head(_head(DELTA), replace(DELTA.target, version="3"), offer)
    with pytest.raises(UntrustedError, match=r"length \d+, expected 1"):
        check_head(_head(DELTA), replace(DELTA.target, length_bytes=1), offer)


def test_a_manifest_must_state_the_length_of_what_is_installed() -> None:
    offer = select(ECU, OLD_ID, EcuState(), [_image("2", 2), DELTA.target])
    head = _head(DELTA)
    wrong = replace(head, manifest=replace(head.manifest, old=ImageId(OLD_ID.length_bytes + 1, OLD_ID.digest)))
    with pytest.raises(UntrustedError, match="old image 301 bytes"):
        check_head(wrong, DELTA.target, offer)
    with pytest.raises(UntrustedError, match="hardware bdc, expected dsc"):
        check_manifest(head, DELTA.target, _image("2", 2), "dsc")
    check_manifest(head, DELTA.target, _image("2", 2))
