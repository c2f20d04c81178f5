"""Target paths and custom fields: what is signed is read strictly."""

import json
from dataclasses import replace
from typing import Any

import pytest

from packager.vehicle.core.head import MAX_HEAD_BYTES, MIN_HEAD_BYTES, SignedHead
from packager.vehicle.core.manifest import MAX_IMAGE_BYTES, MAX_RELEASE_COUNTER
from packager.vehicle.core.targets import BundleTarget, ImageTarget, bundle_path, read_target
from packager.vehicle.errors import UntrustedError
from packager.vehicle.identity import Digest, ImageId

NEW = ImageId(1000, Digest.of(b"new"))
OLD = Digest.of(b"old")
IMAGE = ImageTarget("DME-8.4", "7.0.45", NEW, 45, ("DME-8.4", "DME-8.6"))
DELTA = BundleTarget("DME-8.4", "7.0.45", 300, Digest.of(b"file"), OLD, SignedHead(200, Digest.of(b"head")))
FULL = BundleTarget("DME-8.4", "7.0.45", 300, Digest.of(b"file"), None, SignedHead(200, Digest.of(b"head")))


def as_signed(target: ImageTarget | BundleTarget) -> dict[str, Any]:
    """Return the arguments of `read_target` as they come out of JSON."""
    is_image = isinstance(target, ImageTarget)
    length, digest = (
        (target.image.length_bytes, target.image.digest) if is_image else (target.length_bytes, target.digest)
    )
    given = {"path": target.path, "length_bytes": length, "hashes": {"sha256": digest.hex}, "custom": target.custom}
    return json.loads(json.dumps(given))  # type: ignore[no-any-return]


REPAIRED = replace(IMAGE, max_repair_bytes=0)


@pytest.mark.parametrize("target", [IMAGE, REPAIRED, DELTA, FULL], ids=["image", "with a limit", "delta", "full"])
def test_targets_come_back(target: ImageTarget | BundleTarget) -> None:
    assert read_target(**as_signed(target)) == target


def test_paths() -> None:
    assert IMAGE.path == "DME-8.4/7.0.45/image"
    assert DELTA.path == f"DME-8.4/7.0.45/{OLD.hex}.bundle" == bundle_path("DME-8.4", "7.0.45", OLD)
    assert FULL.path == "DME-8.4/7.0.45/full.bundle"


GONE = object()


def changed(target: ImageTarget | BundleTarget, where: str, value: object) -> dict[str, Any]:
    given = as_signed(target)
    place: Any = given
    *parents, last = (int(part) if part.isdecimal() else part for part in where.split("/"))
    for parent in parents:
        place = place[parent]
    if value is GONE:
        del place[last]
    else:
        place[last] = value
    return given


@pytest.mark.parametrize(
    ("target", "where", "value"),
    [
        *(
            (target, "path", path)
            for target in (IMAGE, DELTA)
            for path in ("", "image", "a/b/c/d", "../7.0.45/image", "DME-8.4/../image")
        ),
        (IMAGE, "path", "/7.0.45/image"),
        (IMAGE, "path", "DME-8.4/7.0.45/other"),
        (IMAGE, "path", "other/7.0.45/image"),
        *(
            (target, "hashes", value)
            for target in (IMAGE, FULL)
            for value in ({}, {"sha512": "0" * 128}, {"sha256": "0" * 63})
        ),
        (IMAGE, "hashes/sha256", 5),
        (IMAGE, "hashes/sha256", NEW.digest.hex.upper()),
        (IMAGE, "custom", None),
        (IMAGE, "length_bytes", 0),
        (IMAGE, "length_bytes", MAX_IMAGE_BYTES + 1),
        (IMAGE, "length_bytes", True),
        (IMAGE, "custom/release_counter", GONE),
        (IMAGE, "custom/release_counter", -1),
        (IMAGE, "custom/release_counter", MAX_RELEASE_COUNTER + 1),
        (IMAGE, "custom/release_counter", 4.0),
        (IMAGE, "custom/release_counter", "4"),
        (IMAGE, "custom/hardware_ids", GONE),
        (IMAGE, "custom/hardware_ids", "DME-8.4"),
        (IMAGE, "custom/hardware_ids", ["DME-8.6"]),
        (IMAGE, "custom/hardware_ids", ["DME-8.4", 5]),
        (IMAGE, "custom/hardware_ids", ["DME-8.4", "../x"]),
        (DELTA, "path", f"DME-8.4/7.0.45/{OLD.hex.upper()}.bundle"),
        (DELTA, "path", f"DME-8.4/7.0.45/{OLD.hex[:-1]}.bundle"),
        (DELTA, "path", f"DME-8.4/7.0.45/{OLD.hex}"),
        (DELTA, "path", f"DME-8.4/7.0.45/{OLD.hex}.bundle.bundle"),
        (FULL, "path", "DME-8.4/7.0.45/full"),
        (DELTA, "custom", None),
        (FULL, "custom/head", GONE),
        (FULL, "custom/head", 3),
        (FULL, "custom/head", []),
        (FULL, "custom/head", [200]),
        (FULL, "custom/head", [200, "0" * 64, 1]),
        (FULL, "custom/head", {"length": 200, "sha256": "0" * 64}),
        (FULL, "custom/head/0", MIN_HEAD_BYTES - 1),
        (FULL, "custom/head/0", MAX_HEAD_BYTES + 1),
        (FULL, "custom/head/0", True),
        (FULL, "custom/head/1", ""),
        (FULL, "custom/head/1", 5),
        (FULL, "length_bytes", 199),
    ],
)
def test_signed_nonsense_is_not_trusted(target: ImageTarget | BundleTarget, where: str, value: object) -> None:
    with pytest.raises(UntrustedError, match="target"):
        read_target(**changed(target, where, value))


@pytest.mark.parametrize(
    ("target", "where", "value"),
    [
        (IMAGE, "length_bytes", 1),
        (IMAGE, "length_bytes", MAX_IMAGE_BYTES),
        (IMAGE, "custom/release_counter", 0),
        (IMAGE, "custom/release_counter", MAX_RELEASE_COUNTER),
        (IMAGE, "hashes/sha512", "ignored"),
        (IMAGE, "custom/later", "ignored"),
        (FULL, "custom/head/0", MIN_HEAD_BYTES),
        (FULL, "length_bytes", 200),
    ],
)
def test_limits_from_inside(target: ImageTarget | BundleTarget, where: str, value: object) -> None:
    assert read_target(**changed(target, where, value))


@pytest.mark.parametrize(("good", "bad"), [(0, -1), (MAX_IMAGE_BYTES, MAX_IMAGE_BYTES + 1), (5, "5"), (1, True)])
def test_the_limit_of_repair_from_both_sides(good: int, bad: object) -> None:
    found = read_target(**changed(REPAIRED, "custom/max_repair_bytes", good))
    assert isinstance(found, ImageTarget)
    assert found.max_repair_bytes == good
    with pytest.raises(UntrustedError, match="expected an integer from 0"):
        read_target(**changed(REPAIRED, "custom/max_repair_bytes", bad))
