"""The TUF client workflow, rule by rule, against a repository that turns hostile."""

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Key, Metadata, MetaFile, Root

from packager.vehicle.errors import TemporaryError, UntrustedError
from packager.vehicle.trust import workflow
from packager.vehicle.trust.metadata_store import (
    MemoryStorage,
    NotFoundError,
    TrustedMetadata,
    initialise,
    read_stored,
    refresh,
)
from packager.vehicle.trust.signatures import key_identity
from packager.vehicle.trust.workflow import ExpiredError
from tests.repository_simulator import (
    LATER,
    NOW,
    RepositorySimulator,
    listed,
    signers,
    under_another_id,
)


class Car:
    """Storage with the first root of a repository."""

    def __init__(self, repository: RepositorySimulator) -> None:
        self.repository = repository
        self.storage = MemoryStorage()
        initialise(self.storage, repository.files["1.root.json"])

    def refresh(self, *, days: int = 0) -> TrustedMetadata:
        return refresh(self.storage, self.repository, NOW + timedelta(days=days))

    def refused(self, wrong: str, *, days: int = 0) -> None:
        """Require that a refresh fails and leaves no trace."""
        before = dict(self.storage.files)
        with pytest.raises(UntrustedError, match=wrong):
            self.refresh(days=days)
        assert self.storage.files == before


@pytest.fixture
def repository() -> RepositorySimulator:
    repository = RepositorySimulator()
    repository.delegate("body", ["bdc/*/*"])
    repository.add_image("body", "bdc", "1", 1, b"image")
    repository.publish()
    return repository


@pytest.fixture
def car(repository: RepositorySimulator) -> Car:
    return Car(repository)


def test_a_good_repository_is_trusted_and_stored_under_unversioned_names(
    car: Car, repository: RepositorySimulator
) -> None:
    trusted = car.refresh()
    assert [t.path for t in trusted.delegations.of_hardware("bdc")] == ["bdc/1/image"]
    assert car.storage.files == {
        "root.json": repository.files["1.root.json"],
        "timestamp.json": repository.files["timestamp.json"],
        "snapshot.json": repository.files["1.snapshot.json"],
        "targets.json": repository.files["1.targets.json"],
        "body.json": repository.files["1.body.json"],
    }


def test_what_is_stored_already_is_not_fetched_again(car: Car, repository: RepositorySimulator) -> None:
    car.refresh().delegations.of_hardware("bdc")
    repository.requests.clear()
    assert car.refresh().delegations.of_hardware("bdc")
    assert repository.requests == ["2.root.json", "timestamp.json"]


def test_a_damaged_stored_role_is_fetched_again(car: Car) -> None:
    car.refresh().delegations.of_hardware("bdc")
    good = dict(car.storage.files)
    for name in ("timestamp.json", "snapshot.json", "targets.json", "body.json"):
        car.storage.files[name] = b"\0" + good[name][1:]
        assert car.refresh().delegations.of_hardware("bdc")
        assert car.storage.files == good


# Root


def test_a_root_that_does_not_sign_itself_is_no_start(repository: RepositorySimulator) -> None:
    storage = MemoryStorage()
    with pytest.raises(UntrustedError, match="signed by 0 different keys"):
        initialise(storage, repository.publish_root(signers(1)))
    assert not storage.files


def test_a_trusted_root_is_not_replaced_by_another(car: Car) -> None:
    before = dict(car.storage.files)
    initialise(car.storage, before["root.json"])
    with pytest.raises(UntrustedError, match="another one is trusted already"):
        initialise(car.storage, RepositorySimulator().files["1.root.json"])
    assert car.storage.files == before


def test_without_a_root_nothing_is_trusted(repository: RepositorySimulator) -> None:
    with pytest.raises(UntrustedError, match="run init"):
        refresh(MemoryStorage(), repository, NOW)


def test_a_root_signed_by_old_and_new_keys_is_followed(car: Car, repository: RepositorySimulator) -> None:
    repository.rotate("root")
    repository.rotate("root")
    assert car.refresh().root.version == 3
    assert car.storage.files["root.json"] == repository.files["3.root.json"]


@pytest.mark.parametrize("who", ["old", "new"])
def test_a_root_signed_by_old_or_new_keys_alone_is_refused(car: Car, repository: RepositorySimulator, who: str) -> None:
    """CVE-2020-15163, and a thief of old keys."""
    repository.rotate("root", sign_with=lambda old, new: old if who == "old" else new)
    car.refused("root.json.*signed by 0 different keys")


def test_roots_follow_one_by_one(car: Car, repository: RepositorySimulator) -> None:
    """CVE-2025-2885."""
    repository.root.version = 3
    repository.files["2.root.json"] = repository.publish_root()
    car.refused("states version 3")
    repository.root.version = 1
    repository.files["2.root.json"] = repository.publish_root()
    car.refused("states version 1")


def test_a_good_root_before_a_bad_one_is_kept(car: Car, repository: RepositorySimulator) -> None:
    repository.rotate("root")
    repository.rotate("root", sign_with=lambda old, new: new)
    with pytest.raises(UntrustedError):
        car.refresh()
    assert car.storage.files == {"root.json": repository.files["2.root.json"]}


def test_an_expired_root_is_refused_only_at_the_end_of_the_chain(car: Car, repository: RepositorySimulator) -> None:
    repository.root.expires = NOW
    repository.rotate("root")
    with pytest.raises(ExpiredError, match=r"root.json version 2: expired at 2026-07-01T12:00:00Z"):
        car.refresh()
    repository.root.expires = LATER
    repository.rotate("root")
    assert car.refresh().root.version == 3


def test_the_root_chain_is_bounded_and_goes_on_next_time(
    car: Car, repository: RepositorySimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert workflow.MAX_ROOT_ROTATIONS == 256
    monkeypatch.setattr(workflow, "MAX_ROOT_ROTATIONS", 3)
    for _ in range(3):
        repository.rotate("root")
    assert Car(repository).refresh().root.version == 4
    repository.rotate("root")
    with pytest.raises(TemporaryError, match="more than 3 new roots"):
        car.refresh()
    assert car.refresh().root.version == 5


def test_a_root_without_consistent_snapshots_is_refused(repository: RepositorySimulator) -> None:
    repository.root.consistent_snapshot = False
    with pytest.raises(UntrustedError, match="consistent_snapshot"):
        workflow.read_root(repository.publish_root())


# Thresholds


@pytest.mark.parametrize(("signing", "is_enough"), [(1, False), (2, True), (3, True)])
def test_the_threshold_holds_from_both_sides(signing: int, is_enough: bool) -> None:
    repository = RepositorySimulator()
    repository.delegate("body", ["bdc/*/*"], threshold=2, with_signers=signers(3))
    repository.add_image("body", "bdc", "1", 1, b"image")
    group = repository.signers["body"]
    repository.signers["body"] = group[:signing]
    repository.publish()
    trusted = Car(repository).refresh()
    if is_enough:
        assert trusted.delegations.of_hardware("bdc")
    else:
        with pytest.raises(UntrustedError, match=r"body.json: signed by 1 different keys .* expected 2"):
            trusted.delegations.of_hardware("bdc")


def test_one_key_under_two_ids_counts_once() -> None:
    """go-tuf pull request 733; python-tuf 7.0.1 accepts it."""
    repository = RepositorySimulator()
    (signer,) = signers(1)
    twice = [signer, under_another_id(signer)]
    repository.delegate("body", ["bdc/*/*"], threshold=2, with_signers=twice)
    repository.add_image("body", "bdc", "1", 1, b"image")
    repository.publish()
    role = Metadata[Any].from_bytes(repository.files["1.body.json"])
    repository.targets.verify_delegate("body", role.signed_bytes, role.signatures)  # the library is content
    with pytest.raises(UntrustedError, match=r"signed by 1 different keys .* expected 2"):
        Car(repository).refresh().delegations.of_hardware("bdc")


def test_a_root_key_under_two_ids_counts_once() -> None:
    repository = RepositorySimulator()
    twice = [*repository.signers["root"], under_another_id(repository.signers["root"][0])]
    repository.root.keys.update({s.public_key.keyid: s.public_key for s in twice})
    repository.root.roles["root"].keyids = [s.public_key.keyid for s in twice]
    repository.root.roles["root"].threshold = 2
    with pytest.raises(UntrustedError, match="signed by 1 different keys"):
        workflow.read_root(repository.publish_root(twice))


def test_a_key_has_one_identity_in_all_its_encodings() -> None:
    (signer,) = signers(1)
    public = signer.public_key.to_dict()
    upper = Key.from_dict("a", {**public, "keyval": {"public": public["keyval"]["public"].upper()}})
    assert key_identity(upper) == key_identity(signer.public_key) is not None
    bad = Key.from_dict("a", {**public, "keyval": {"public": "xyz"}})
    assert key_identity(bad) is None
    curve = CryptoSigner.generate_ecdsa().public_key
    fields = curve.to_dict()
    spaced = fields["keyval"]["public"].replace("\n", "\r\n")
    other = Key.from_dict("b", {**fields, "keyval": {"public": spaced}})
    assert key_identity(other) == key_identity(curve) is not None
    broken = Key.from_dict("c", {**fields, "keyval": {"public": spaced[:-60]}})
    assert key_identity(broken) is None


def _edit(data: bytes, change: Callable[[dict[str, Any]], None]) -> bytes:
    document = json.loads(data)
    change(document)
    return json.dumps(document).encode()


def test_a_malformed_signature_harms_no_other(car: Car, repository: RepositorySimulator) -> None:
    def add(document: dict[str, Any]) -> None:
        document["signatures"][:0] = [
            {"keyid": "a", "sig": 5},
            {"keyid": "b", "sig": "zz"},
            {"keyid": "c", "sig": ""},
        ]

    repository.files["timestamp.json"] = _edit(repository.files["timestamp.json"], add)
    assert car.refresh()


@pytest.mark.parametrize("text", ["upper", "", "zz", 7, None])
def test_a_malformed_signature_of_the_right_key_does_not_count(
    car: Car, repository: RepositorySimulator, text: Any
) -> None:
    def spoil(document: dict[str, Any]) -> None:
        entry = document["signatures"][0]
        entry["sig"] = entry["sig"].upper() if text == "upper" else text

    repository.files["timestamp.json"] = _edit(repository.files["timestamp.json"], spoil)
    car.refused("timestamp.json: ")


def test_the_same_signature_twice_is_refused(car: Car, repository: RepositorySimulator) -> None:
    """CVE-2020-6174."""
    repository.files["timestamp.json"] = _edit(
        repository.files["timestamp.json"], lambda d: d["signatures"].append(d["signatures"][0])
    )
    car.refused("Multiple signatures")


def test_a_key_of_another_role_does_not_count(car: Car, repository: RepositorySimulator) -> None:
    repository.timestamp.version += 1
    repository.files["timestamp.json"] = repository.sign(repository.timestamp, repository.signers["snapshot"])
    car.refused("timestamp.json: signed by 0 different keys that root trusts")


# Timestamp


def test_an_older_timestamp_is_refused(car: Car, repository: RepositorySimulator) -> None:
    old = repository.files["timestamp.json"]
    repository.publish()
    car.refresh()
    repository.files["timestamp.json"] = old
    car.refused("timestamp.json: version 1, but version 2 was trusted before")


def test_the_same_timestamp_version_with_other_content_is_refused(car: Car, repository: RepositorySimulator) -> None:
    car.refresh()
    repository.timestamp.expires = LATER + timedelta(days=1)
    repository.publish_timestamp()
    car.refused("version 1 was trusted before with other content")


def test_a_timestamp_that_lists_an_older_snapshot_is_refused(car: Car, repository: RepositorySimulator) -> None:
    old = repository.timestamp.snapshot_meta
    repository.publish()
    car.refresh()
    repository.timestamp.version += 1
    repository.timestamp.snapshot_meta = old
    repository.publish_timestamp()
    car.refused("lists snapshot version 1, but version 2 was trusted before")


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets"])
def test_expired_metadata_is_refused_from_its_last_second_on(
    car: Car, repository: RepositorySimulator, role: str
) -> None:
    getattr(repository, role).expires = NOW + timedelta(days=1)
    repository.publish()
    before = dict(car.storage.files)
    with pytest.raises(ExpiredError, match=f"{role}.json version 2: expired at 2026-07-02T12:00:00Z"):
        car.refresh(days=1)
    assert car.storage.files == before
    refresh(car.storage, repository, NOW + timedelta(days=1, seconds=-1))


def test_a_frozen_repository_is_noticed_with_stored_metadata(car: Car) -> None:
    car.refresh()
    car.refused("timestamp.json version 1: expired", days=31)


def test_an_expired_delegated_role_is_refused(car: Car, repository: RepositorySimulator) -> None:
    """CVE-2026-6967."""
    repository.delegated["body"].expires = NOW
    repository.publish()
    with pytest.raises(ExpiredError, match=r"body.json version 2: expired"):
        car.refresh().delegations.of_hardware("bdc")
    assert "body.json" not in car.storage.files


def test_an_expired_stored_timestamp_still_guards_against_rollback(car: Car, repository: RepositorySimulator) -> None:
    old = repository.files["timestamp.json"]
    repository.timestamp.expires = NOW + timedelta(days=1)
    repository.publish()
    car.refresh()
    repository.files["timestamp.json"] = old
    car.refused("version 1, but version 2 was trusted before", days=2)


# Snapshot


def test_a_snapshot_with_another_hash_is_refused(car: Car, repository: RepositorySimulator) -> None:
    """Mix and match: a snapshot that is signed, but not the one of this timestamp."""
    repository.snapshot.expires = LATER + timedelta(days=1)
    repository.files["1.snapshot.json"] = repository.sign(repository.snapshot, repository.signers["snapshot"])
    car.refused("snapshot.json: found .* timestamp.json lists")


def test_a_snapshot_with_another_length_is_refused(car: Car, repository: RepositorySimulator) -> None:
    repository.files["1.snapshot.json"] = repository.files["1.snapshot.json"][:-1]
    car.refused("snapshot.json: found .* timestamp.json lists")
    repository.files["1.snapshot.json"] += b"}  "
    car.refused("1.snapshot.json: longer than")


def test_a_snapshot_of_another_version_is_refused(car: Car, repository: RepositorySimulator) -> None:
    data = repository.files["1.snapshot.json"]
    repository.timestamp.snapshot_meta = listed(7, data)
    repository.timestamp.version += 1
    repository.publish_timestamp()
    repository.files["7.snapshot.json"] = data
    car.refused("snapshot.json: states version 1, but is listed as version 7")


def test_a_snapshot_in_which_a_role_goes_back_is_refused(car: Car, repository: RepositorySimulator) -> None:
    """CVE-2022-29173; afterwards a good repository is not locked out (CVE-2025-2888)."""
    old = {name: repository.snapshot.meta[f"{name}.json"] for name in ("body", "targets")}
    repository.publish()
    car.refresh()
    for name in ("body", "targets"):
        good = repository.snapshot.meta[f"{name}.json"]
        repository.snapshot.meta[f"{name}.json"] = old[name]
        repository.snapshot.version += 1
        repository.timestamp.version += 1
        repository.publish_snapshot()
        car.refused(f"lists {name}.json version 1, but version 2 was trusted before")
        repository.snapshot.meta[f"{name}.json"] = good
    repository.publish_snapshot()
    car.refresh()


def test_a_snapshot_that_drops_a_role_is_refused(car: Car, repository: RepositorySimulator) -> None:
    car.refresh()
    del repository.snapshot.meta["body.json"]
    repository.snapshot.version += 1
    repository.timestamp.version += 1
    repository.publish_snapshot()
    car.refused("body.json is missing, but was listed with version 1 before")


def test_the_same_snapshot_version_with_other_content_is_refused(car: Car, repository: RepositorySimulator) -> None:
    car.refresh()
    repository.snapshot.expires = LATER + timedelta(days=1)
    repository.timestamp.version += 1
    repository.publish_snapshot()
    car.refused("snapshot.json: version 1 was trusted before with other content")


@pytest.mark.parametrize(
    ("meta", "wrong"),
    [
        (MetaFile(1), "length of snapshot.json is missing"),
        (MetaFile(1, 100), r"found hashes \[\], expected sha256 alone"),
        (MetaFile(1, 100, {"md5": "0" * 32}), r"found hashes \['md5'\]"),
        (MetaFile(1, workflow.MAX_SNAPSHOT_BYTES + 1, {"sha256": "0" * 64}), "expected at most 2000000"),
    ],
)
def test_a_timestamp_must_bind_the_snapshot(
    car: Car, repository: RepositorySimulator, meta: MetaFile, wrong: str
) -> None:
    repository.timestamp.snapshot_meta = meta
    repository.publish_timestamp()
    car.refused(wrong)


@pytest.mark.parametrize("role", ["targets", "body"])
@pytest.mark.parametrize(
    ("meta", "wrong"),
    [
        (None, "is missing; expected its version, length and hash"),
        (MetaFile(1), "the length of .* is missing"),
        (MetaFile(1, 100), r"found hashes \[\], expected sha256 alone"),
        (MetaFile(1, 100, {"sha1": "0" * 40}), r"found hashes \['sha1'\]"),
        (MetaFile(1, workflow.MAX_TARGETS_BYTES + 1, {"sha256": "0" * 64}), "expected at most 5000000"),
    ],
)
def test_a_snapshot_must_bind_every_role(
    car: Car, repository: RepositorySimulator, role: str, meta: MetaFile | None, wrong: str
) -> None:
    if meta is None:
        del repository.snapshot.meta[f"{role}.json"]
    else:
        repository.snapshot.meta[f"{role}.json"] = meta
    repository.publish_snapshot()
    with pytest.raises(UntrustedError, match=wrong):
        car.refresh().delegations.of_hardware("bdc")


@pytest.mark.parametrize("role", ["targets", "body"])
def test_a_role_of_another_version_or_content_is_refused(car: Car, repository: RepositorySimulator, role: str) -> None:
    name = f"1.{role}.json"
    data = repository.files[name]
    repository.files[name] = data[:-1] + b" "
    with pytest.raises(UntrustedError, match=f"{role}.json: found .* snapshot.json lists"):
        car.refresh().delegations.of_hardware("bdc")
    repository.files[f"9.{role}.json"] = data
    repository.snapshot.meta[f"{role}.json"] = listed(9, data)
    repository.snapshot.version += 1
    repository.timestamp.version += 1
    repository.publish_snapshot()
    with pytest.raises(UntrustedError, match=f"{role}.json: states version 1, but is listed as version 9"):
        car.refresh().delegations.of_hardware("bdc")


def test_too_long_metadata_is_refused(car: Car, repository: RepositorySimulator) -> None:
    good = repository.files["timestamp.json"]
    repository.files["timestamp.json"] = good + b" " * (workflow.MAX_TIMESTAMP_BYTES - len(good))
    car.refresh()
    repository.files["timestamp.json"] += b" "
    car.refused("longer than 16384")
    repository.files["timestamp.json"] = good
    repository.files["2.root.json"] = b" " * (workflow.MAX_ROOT_BYTES + 1)
    car.refused("longer than 512000")


# Key rotation and recovery


def _fast_forward(repository: RepositorySimulator) -> None:
    """What a thief of the online keys can do: the highest versions there are."""
    repository.timestamp.version = repository.snapshot.version = 1_000_000
    repository.publish(bump=False)


@pytest.mark.parametrize("role", ["timestamp", "snapshot"])
def test_rotating_online_keys_undoes_a_fast_forward(car: Car, repository: RepositorySimulator, role: str) -> None:
    """TUF 5.3.11."""
    _fast_forward(repository)
    car.refresh()
    repository.timestamp.version = repository.snapshot.version = 2
    repository.publish(bump=False)
    car.refused("1000000 was trusted before")
    repository.rotate(role)
    repository.publish(bump=False)
    trusted = car.refresh()
    assert (trusted.timestamp.version, trusted.snapshot.version) == (2, 2)


def test_recovery_survives_a_power_cut_between_its_writes(car: Car, repository: RepositorySimulator) -> None:
    _fast_forward(repository)
    car.refresh()
    repository.timestamp.version = repository.snapshot.version = 2
    repository.rotate("snapshot")
    repository.publish(bump=False)
    stored = dict(car.storage.files)

    class CutError(Exception):
        pass

    class CutStorage(MemoryStorage):
        writes = 0

        def _count(self) -> None:
            type(self).writes -= 1
            if type(self).writes < 0:
                raise CutError

        def replace(self, name: str, data: bytes) -> None:
            self._count()
            super().replace(name, data)

        def remove(self, name: str) -> None:
            self._count()
            super().remove(name)

    for writes in range(6):
        storage = CutStorage()
        storage.files = dict(stored)
        CutStorage.writes = writes
        try:
            refresh(storage, repository, NOW)
            assert writes == 5
        except CutError:
            CutStorage.writes = 100
            assert refresh(storage, repository, NOW).timestamp.version == 2


def test_rotating_other_keys_keeps_the_guard(car: Car, repository: RepositorySimulator) -> None:
    old = repository.files["timestamp.json"]
    repository.publish()
    car.refresh()
    repository.rotate("root")
    repository.files["timestamp.json"] = old
    with pytest.raises(UntrustedError, match="version 1, but version 2 was trusted before"):
        car.refresh()


def test_a_revoked_key_signs_no_more(car: Car, repository: RepositorySimulator) -> None:
    old = repository.signers["timestamp"]
    repository.rotate("timestamp")
    repository.timestamp.version += 1
    repository.files["timestamp.json"] = repository.sign(repository.timestamp, old)
    with pytest.raises(UntrustedError, match=r"timestamp.json: signed by 0 different keys"):
        car.refresh()


# One flipped byte


def _flips(data: bytes) -> list[bytes]:
    """Every single-bit flip of small data; of each byte one bit, in turn."""
    return [data[:i] + bytes((data[i] ^ 1 << i % 8,)) + data[i + 1 :] for i in range(len(data))]


def test_every_flipped_byte_of_the_timestamp_is_refused(car: Car, repository: RepositorySimulator) -> None:
    good = repository.files["timestamp.json"]
    for bit in range(8):
        for at in range(len(good)):
            bad = good[:at] + bytes((good[at] ^ 1 << bit,)) + good[at + 1 :]
            with pytest.raises(UntrustedError):
                workflow.read_timestamp(bad, repository.root, None, NOW)
    before = dict(car.storage.files)
    for bad in _flips(good)[::7]:
        repository.files["timestamp.json"] = bad
        car.refused("timestamp.json: ")
    assert car.storage.files == before


@pytest.mark.parametrize("name", ["1.snapshot.json", "1.targets.json"])
def test_every_flipped_byte_of_snapshot_and_targets_is_refused(
    car: Car, repository: RepositorySimulator, name: str
) -> None:
    for bad in _flips(repository.files[name]):
        repository.files[name] = bad
        car.refused(f"{name[2:]}: found")


def test_every_flipped_byte_of_a_delegated_role_is_refused(car: Car, repository: RepositorySimulator) -> None:
    for bad in _flips(repository.files["1.body.json"]):
        repository.files["1.body.json"] = bad
        with pytest.raises(UntrustedError, match=r"body.json: found"):
            car.refresh().delegations.of_hardware("bdc")
        assert "body.json" not in car.storage.files


def test_every_flipped_byte_of_a_new_root_is_refused(car: Car, repository: RepositorySimulator) -> None:
    repository.rotate("root")
    root = Root.from_dict(json.loads(repository.files["1.root.json"])["signed"])
    for bad in _flips(repository.files["2.root.json"]):
        with pytest.raises(UntrustedError):
            workflow.read_next_root(bad, root)
    repository.files["2.root.json"] = _flips(repository.files["2.root.json"])[100]
    car.refused("root.json")


# Without the network


def test_stored_metadata_is_read_without_the_network(car: Car) -> None:
    with pytest.raises(UntrustedError, match="run refresh"):
        read_stored(car.storage, NOW)
    car.refresh().delegations.of_hardware("bdc")
    assert read_stored(car.storage, NOW).delegations.of_hardware("bdc")
    del car.storage.files["body.json"]
    with pytest.raises(NotFoundError, match=r"body.json: version 1 was not fetched yet"):
        read_stored(car.storage, NOW).delegations.of_hardware("bdc")
