"""Attacks 14 to 20: rollback, mix and match, freeze."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tuf.api.metadata import MetaFile

from packager.vehicle.errors import UntrustedError
from packager.vehicle.trust.metadata_store import NotFoundError
from packager.vehicle.trust.workflow import MAX_TARGETS_BYTES, ExpiredError
from tests.attacks.scene import NEW, NEWEST, OLD, Scene, sign
from tests.repository_simulator import LATER, NOW, listed

DELEGATED = ["metadata/timestamp.json", "metadata/snapshot.json", "metadata/targets.json"]
"""Top-level metadata holds by itself and may be kept if a delegated role fails."""


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def _up_to_date(scene: Scene) -> tuple[dict[str, bytes], dict[str, bytes]]:
    """Bring the car to release 3 and return what was served with release 2."""
    old = scene.snapshot_of_everything()
    scene.accepted()
    scene.recovers()
    return old


def _publish_next(scene: Scene) -> None:
    """Publish a new version of every role without a new release."""
    scene.repository.publish()


def test_attack_14_the_whole_old_repository_is_served_again(scene: Scene) -> None:
    """CVE-2022-29173 among others: all of it is signed and still valid."""
    old = _up_to_date(scene)
    new = scene.snapshot_of_everything()
    scene.serve(old)
    scene.refused(UntrustedError, "timestamp.json: version 1, but version 2 was trusted before")
    scene.serve(new)
    scene.accepted(NEWEST)


def test_attack_14_an_old_snapshot_under_a_new_timestamp(scene: Scene) -> None:
    old = scene.repository.timestamp.snapshot_meta
    _up_to_date(scene)
    new = scene.repository.timestamp.snapshot_meta
    scene.repository.timestamp.snapshot_meta = old
    scene.repository.timestamp.version += 1
    scene.repository.publish_timestamp()
    scene.refused(UntrustedError, "timestamp.json: lists snapshot version 1, but version 2 was trusted before")
    scene.repository.timestamp.snapshot_meta = new
    scene.repository.publish_timestamp()
    scene.accepted(NEWEST)


@pytest.mark.parametrize("role", ["targets", "body"])
def test_attack_14_an_old_role_under_a_new_snapshot(scene: Scene, role: str) -> None:
    old = scene.repository.snapshot.meta[f"{role}.json"]
    _up_to_date(scene)
    scene.repository.snapshot.meta[f"{role}.json"] = old
    scene.publish_online()
    scene.refused(UntrustedError, f"snapshot.json: lists {role}.json version 1, but version 2 was trusted before")
    scene.repository.publish()
    scene.accepted(NEWEST)


@pytest.mark.parametrize("what", ["goes back", "is missing", "is damaged", "vanishes", "is unsigned", "has expired"])
def test_attack_15_a_timestamp_is_not_kept_if_its_snapshot_fails(scene: Scene, what: str) -> None:
    """CVE-2025-2888: the timestamp had been stored already, and no honest one of the same version was accepted any more."""
    repository = scene.repository
    scene.accepted()
    old = repository.snapshot.meta["body.json"]
    _publish_next(scene)
    scene.accepted()
    honest = dict(repository.snapshot.meta)
    error: type[Exception] = UntrustedError
    if what == "goes back":
        repository.snapshot.meta["body.json"] = old
        scene.publish_online()
    elif what == "vanishes":
        del repository.snapshot.meta["body.json"]
        scene.publish_online()
    elif what == "has expired":
        repository.snapshot.expires = NOW
        scene.publish_online()
        error = ExpiredError
    else:
        scene.publish_online()
        name = scene.current("snapshot")
        if what == "is missing":
            del repository.files[name]
            error = NotFoundError
        elif what == "is damaged":
            repository.files[name] = repository.files[name].replace(b"body", b"BODY")
        else:
            scene.replace_snapshot(sign(repository.snapshot.to_dict(), repository.signers["timestamp"]))
    for _ in range(2):
        scene.refused(error, "snapshot.json")  # type: ignore[arg-type]
    repository.snapshot.meta = honest
    repository.snapshot.expires = LATER
    repository.publish_snapshot()  # the same versions as those refused
    scene.accepted()
    scene.recovers()


@pytest.mark.parametrize("role", ["targets", "body", "chassis"])
def test_attack_16_a_role_vanishes_from_the_snapshot(scene: Scene, role: str) -> None:
    """One of CVE-2025-2886, CVE-2025-2887; also a role that this car never reads."""
    scene.accepted()
    meta = scene.repository.snapshot.meta.pop(f"{role}.json")
    scene.publish_online()
    scene.refused(UntrustedError, f"snapshot.json: {role}.json is missing, but was listed with version 1 before")
    scene.repository.snapshot.meta[f"{role}.json"] = meta
    scene.publish_online()
    scene.accepted()


@pytest.mark.parametrize("role", ["targets", "body", "chassis"])
def test_attack_16_a_role_goes_back_in_the_snapshot(scene: Scene, role: str) -> None:
    old = scene.repository.snapshot.meta[f"{role}.json"]
    _publish_next(scene)
    scene.accepted()
    scene.repository.snapshot.meta[f"{role}.json"] = old
    scene.publish_online()
    scene.refused(UntrustedError, f"lists {role}.json version 1, but version 2 was trusted before")
    _publish_next(scene)
    scene.accepted()


@pytest.mark.parametrize("role", ["snapshot", "targets", "body"])
@pytest.mark.parametrize("what", ["length", "hash", "version"])
def test_attack_17_a_listed_file_is_another(scene: Scene, role: str, what: str) -> None:
    repository = scene.repository
    data = repository.files[scene.current(role)]
    meta = listed(1, data)
    if what == "length":
        meta.length = len(data) + 1
    elif what == "hash":
        meta.hashes = {"sha256": "0" * 64}
    else:
        meta.version = 7
        repository.files[f"7.{role}.json"] = data
    if role == "snapshot":
        repository.timestamp.snapshot_meta = meta
        repository.publish_timestamp()
    else:
        repository.snapshot.meta[f"{role}.json"] = meta
        scene.publish_online()
    wrong = f"{role}.json: " + (
        "states version 1, but is listed as version 7" if what == "version" else "found .* lists"
    )
    scene.refused(UntrustedError, wrong, may_change=DELEGATED if role == "body" else ())
    if what == "version":
        repository.rotate("snapshot")  # the listed version has been seen
    scene.recovers()


@pytest.mark.parametrize("role", ["timestamp", "snapshot"])
def test_attack_17_an_equal_version_has_other_content(scene: Scene, role: str) -> None:
    """Two signed answers under one number: a split view, or a key in other hands."""
    repository = scene.repository
    scene.accepted()
    signed = repository.timestamp if role == "timestamp" else repository.snapshot
    signed.expires = LATER + timedelta(days=1)
    if role == "timestamp":
        repository.publish_timestamp()
    else:
        repository.timestamp.version += 1
        repository.publish_snapshot()
    scene.refused(UntrustedError, f"{role}.json: version 1 was trusted before with other content")
    _publish_next(scene)
    scene.recovers()


@pytest.mark.parametrize("role", ["targets", "body"])
def test_attack_17_an_equal_version_of_a_role_has_other_content(scene: Scene, role: str) -> None:
    """Signed by its own keys and listed by the online ones, under a number that the car has trusted with other content."""
    repository = scene.repository
    scene.accepted()
    if role == "body":
        scene.offer_evil()
    signed = repository.targets if role == "targets" else repository.delegated[role]
    signed.expires = LATER + timedelta(days=1)
    scene.replace_role(role, repository.sign(signed, repository.signers[role]))
    scene.refused(UntrustedError, f"{role}.json version 1 was trusted before with other content")
    scene.recovers()


def test_attack_18_an_expired_delegated_role(scene: Scene) -> None:
    """CVE-2026-6967."""
    scene.repository.delegated["body"].expires = NOW
    _publish_next(scene)
    scene.refused(ExpiredError, r"body.json version 2: expired at 2026-07-01T12:00:00Z", may_change=DELEGATED)
    scene.repository.delegated["body"].expires = LATER
    scene.recovers()


@pytest.mark.parametrize(
    ("meta", "wrong"),
    [
        (MetaFile(1), "the length of body.json is missing"),
        (MetaFile(1, 100), r"body.json: found hashes \[\], expected sha256 alone"),
        (MetaFile(1, MAX_TARGETS_BYTES + 1, {"sha256": "0" * 64}), "expected at most 5000000"),
    ],
)
def test_attack_18_a_delegated_role_is_listed_without_length_or_hash(scene: Scene, meta: MetaFile, wrong: str) -> None:
    """CVE-2026-6967: then any signed version, or any length, would do."""
    scene.repository.snapshot.meta["body.json"] = meta
    scene.publish_online()
    scene.refused(UntrustedError, wrong, may_change=DELEGATED)
    scene.recovers()


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets", "body"])
def test_attack_19_a_frozen_role_expires(scene: Scene, role: str) -> None:
    """Somebody holds newer metadata back: the car notices when the time of what it gets is over, and not a second later."""
    repository = scene.repository
    signed = {"timestamp": repository.timestamp, "snapshot": repository.snapshot, "targets": repository.targets}
    signed.get(role, repository.delegated["body"]).expires = NOW + timedelta(days=1)
    _publish_next(scene)
    scene.accepted(now=NOW + timedelta(days=1, seconds=-1))
    scene.refused(
        ExpiredError,
        f"{role}.json version 2: expired",
        now=NOW + timedelta(days=1),
        may_change=DELEGATED if role == "body" else (),
    )
    signed.get(role, repository.delegated["body"]).expires = LATER
    scene.recovers()


@pytest.mark.parametrize(
    "now", [NOW + timedelta(days=31), datetime(2106, 2, 7, tzinfo=UTC), datetime.max.replace(tzinfo=UTC)]
)
def test_attack_19_a_clock_that_is_ahead_refuses_and_forgets_nothing(scene: Scene, now: datetime) -> None:
    scene.refused(ExpiredError, r"expired at .*, the time is", now=now)
    scene.recovers()


@pytest.mark.parametrize("now", [datetime(1970, 1, 1, tzinfo=UTC), datetime.min.replace(tzinfo=UTC)])
def test_attack_19_a_clock_that_is_behind_opens_no_way_back(scene: Scene, now: datetime) -> None:
    """A reset clock finds old metadata valid again; versions still only grow."""
    old = _up_to_date(scene)
    new = scene.snapshot_of_everything()
    scene.serve(old)
    scene.refused(UntrustedError, "timestamp.json: version 1, but version 2 was trusted before", now=now)
    scene.serve(new)
    scene.accepted(NEWEST)


@pytest.mark.parametrize(
    ("role", "served"),
    [
        (role, served)
        for role in ("root", "timestamp", "snapshot", "targets", "body")
        for served in ("root", "timestamp", "snapshot", "targets")
        if served != role and (role, served) != ("body", "targets")
    ],
)
def test_attack_20_metadata_of_another_type_is_served(scene: Scene, role: str, served: str) -> None:
    """Signed by the right keys, as if one key served two roles."""
    kind = "targets" if role == "body" else role
    repository = scene.repository
    document = {
        "root": repository.root,
        "timestamp": repository.timestamp,
        "snapshot": repository.snapshot,
        "targets": repository.targets,
    }[served].to_dict()
    scene.next_version(role)
    scene.replace(role, sign({**json.loads(json.dumps(document)), "version": 2}, repository.signers[role]))
    scene.refused(
        UntrustedError,
        f"{role}.json.*found type '{served}', expected '{kind}'",
        may_change=DELEGATED if role == "body" else (),
    )
    assert scene.car.active("BDC") == OLD
    scene.recovers()
    assert scene.car.slot("BDC", "b") == NEWEST != NEW
