"""Publishing: killed at every write, refused before anything is written, and what cars see meanwhile."""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from packager.model.errors import KeyMaterialError, RepositoryError, SupplyChainError
from packager.repo.files import locked
from packager.repo.keys import DEMO_MARKER
from packager.repo.online import renew_online
from packager.repo.publication import Published, publish
from packager.vehicle.errors import TemporaryError, UntrustedError
from tests.repository_life import POLICY, Car, DyingWrites, KilledError, Life, with_role

RELEASE_1 = ["BDC-1 1.0", "DME-1 1.0"]
RELEASE_2 = ["BDC-1 2.0", "DME-1 2.0"]


def files(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


@pytest.fixture
def life(tmp_path: Path) -> Life:
    """A repository with one release."""
    return Life.with_a_release(tmp_path)


def test_the_first_release(life: Life) -> None:
    assert Car(life).versions() == RELEASE_1
    assert life.chains == ["07-2020.01"]
    assert not list((life.directory / "staged").iterdir())
    assert (life.directory / "chain/07-2020.01/root.layout").read_bytes() == b"layout 1"


def test_the_timestamp_is_written_last_and_the_roots_before_it(life: Life) -> None:
    life.policy = with_role(life.policy, "root", ("root-1", "root-2", "root-4"), 2)
    life.propose(life.release(2))
    life.sign()
    published = life.publish()
    assert published.metadata[-2:] == ("2.root.json", "timestamp.json")
    assert set(published.metadata) >= {"2.targets.json", "1.body.07-2020.02.json", "2.snapshot.json"}
    assert (published.bundles, published.releases) == (2, ("07-2020.02",))


def test_what_the_timestamp_leads_to_survives_a_power_cut(life: Life, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every served file and every directory above it was synced when the timestamp was: a rename alone may survive its content."""
    synced: set[int] = set()
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.add(os.fstat(descriptor).st_ino))

    class Watched(DyingWrites):
        def replace(self, path: Path, data: bytes) -> None:
            place = life.directory
            found = {path: path.stat().st_ino for path in (*place.glob("repo/**/*"), *place.glob("chain/**/*"))}
            missing = {path for path, inode in found.items() if inode not in synced}
            assert {path for path in missing if "2.0" in str(path) or ".02" in str(path)} == set()
            super().replace(path, data)

    life.propose(life.release(2))
    life.sign()
    life.publish(Watched())


def new_release(life: Life) -> None:
    life.propose(life.release(2))


def new_root_and_release(life: Life) -> None:
    life.policy = with_role(life.policy, "root", ("root-1", "root-2", "root-4"), 2)
    life.propose(life.release(2))


def other_timestamp_key(life: Life) -> None:
    life.policy = with_role(life.policy, "timestamp", ("timestamp-2",), 1)
    life.propose(life.release(2))


@pytest.mark.parametrize("change", [new_release, new_root_and_release, other_timestamp_key])
def test_killed_at_any_write_the_old_release_stays_valid(tmp_path: Path, change: Callable[[Life], None]) -> None:
    """And running again finishes. Where the online keys change, cars wait for one write: between the root and the timestamp."""
    original = Life(tmp_path / "original")
    original.whole()
    original.whole(1)
    change(original)
    original.sign()
    total, waited, number = None, 0, 0
    while total is None or number < total:
        life = Life(tmp_path / str(number), original.policy)
        life.signers = original.signers
        shutil.copytree(original.directory, life.directory)
        known, writes = Car(life), DyingWrites(number)
        known.follow()
        try:
            life.publish(writes)
        except KilledError:
            seen = []
            for car in (known, Car(life)):
                try:
                    seen.append(car.versions())
                except UntrustedError:
                    waited += 1
                    assert change is other_timestamp_key
            assert all(versions == seen[0] for versions in seen)
            assert all(versions in (RELEASE_1, RELEASE_2) for versions in seen)
            life.now += timedelta(hours=1)
            life.publish()
        else:
            total = number
        assert known.versions() == Car(life).versions() == RELEASE_2
        assert not list((life.directory / "staged").iterdir())
        number += 1
    print(f"{change.__name__}: {total} writes")
    assert total >= 12
    assert waited == (2 if change is other_timestamp_key else 0)


def test_nothing_is_published_without_all_signatures(life: Life) -> None:
    life.propose(life.release(2))
    before = files(life.directory)
    with pytest.raises(RepositoryError, match=r"2\.targets\.json: 0 of 2 signatures that root 1 demands") as caught:
        life.publish()
    assert "1.powertrain.07-2020.02.json: 0 of 2" in str(caught.value)
    assert files(life.directory) == before
    life.sign("pt-2")
    with pytest.raises(RepositoryError, match="1 of 2"):
        life.publish()
    life.sign("targets-1")
    life.publish()


def test_dry_run_writes_nothing(life: Life) -> None:
    life.propose(life.release(2))
    life.sign()
    before = files(life.directory)
    planned = life.publish(dry_run=True)
    assert files(life.directory) == before
    assert life.publish() == planned


def test_a_bundle_that_is_not_the_one_that_was_signed(life: Life) -> None:
    life.propose(life.release(2))
    life.sign()
    path = life.directory / "staged/targets/BDC-1/2.0/full.bundle"
    path.write_bytes(path.read_bytes()[::-1])
    before = files(life.directory)
    with pytest.raises(RepositoryError, match=r"full\.bundle: found .* signed are"):
        life.publish()
    assert files(life.directory) == before


def test_a_domain_signs_for_its_own_hardware_only(life: Life) -> None:
    life.propose(life.release(2))
    body, powertrain = (life.directory / f"staged/1.{domain}.07-2020.02.json" for domain in ("body", "powertrain"))
    path, theirs = next(iter(json.loads(powertrain.read_bytes())["signed"]["targets"].items()))
    content = json.loads(body.read_bytes())
    content["signed"]["targets"][path] = theirs
    body.write_text(json.dumps(content))
    life.sign()
    before = files(life.directory)
    with pytest.raises(RepositoryError, match=rf"1\.body\.07-2020\.02\.json: lists '{path}', which is not delegated"):
        life.publish()
    assert files(life.directory) == before


def test_what_is_served_never_changes(life: Life) -> None:
    life.propose(life.release(2))
    life.sign()
    path = life.directory / "repo/targets/BDC-1/2.0/full.bundle"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"other")
    with pytest.raises(RepositoryError, match="exists with other content"):
        life.publish()
    assert Car(life).versions() == RELEASE_1
    path.write_bytes((life.directory / "staged/targets/BDC-1/2.0/full.bundle").read_bytes())
    life.publish()


def test_a_release_without_a_chain_is_not_signed(life: Life) -> None:
    life.propose(life.release(2))
    life.sign()
    before = files(life.directory)

    def refuse(*_: object) -> None:
        raise SupplyChainError("step 'diff': found nothing")

    with pytest.raises(SupplyChainError):
        publish(life.directory, life.online, refuse)
    assert files(life.directory) == before


def test_demo_keys_are_refused(tmp_path: Path) -> None:
    life = Life(tmp_path, replace(POLICY, demo=True))
    life.propose()
    life.sign()
    with pytest.raises(RepositoryError, match="demo keys"):
        life.publish()
    life.publish(allow_demo=True)
    life.propose(life.release(1))
    life.sign()
    with pytest.raises(RepositoryError, match="demo keys"):
        life.publish()
    life.publish(allow_demo=True)


def test_one_demo_key_among_the_domains_is_refused(life: Life) -> None:
    life.signers["body"].public_key.unrecognized_fields[DEMO_MARKER] = True
    life.propose(life.release(2))
    life.sign()
    with pytest.raises(RepositoryError, match="demo keys"):
        life.publish()


def test_another_first_root_than_the_trusted_one(tmp_path: Path) -> None:
    life, other = Life(tmp_path / "a"), Life(tmp_path / "b")
    other.whole()
    life.propose()
    life.sign()
    anchor = (other.directory / "repo/metadata/1.root.json").read_bytes()
    with pytest.raises(RepositoryError, match="differs from the root that is trusted"):
        publish(life.directory, life.online, lambda *_: None, anchor=anchor)


def test_a_root_that_does_not_follow(life: Life) -> None:
    life.policy = with_role(life.policy, "root", ("root-4", "root-5"), 2)
    life.propose()
    life.sign("root-1", "root-2")
    with pytest.raises(RepositoryError, match=r"2\.root\.json: 1 of 2 signatures that root 1 demands"):
        life.publish()
    life.sign("root-4")
    life.sign()
    life.publish()
    assert Car(life).versions() == RELEASE_1


def test_expired_roles_are_named(life: Life) -> None:
    life.now += timedelta(days=101)
    life.propose()
    life.policy = with_role(life.policy, "root", ("root-1", "root-2", "root-4"), 2)
    life.propose()
    life.sign()
    with pytest.raises(RepositoryError, match=r"targets\.json version 1: expired") as caught:
        life.publish()
    assert "--renew" in caught.value.hint


def test_publishing_again_changes_nothing(life: Life) -> None:
    before = files(life.directory)
    assert life.publish() == Published((), 0, ())
    assert files(life.directory) == before


def test_nothing_to_publish(tmp_path: Path) -> None:
    life = Life(tmp_path)
    life.directory.mkdir(exist_ok=True)
    with pytest.raises(RepositoryError, match="nothing to publish, expected a root"):
        life.publish()


def test_refresh_renews_the_timestamp_and_leaves_proposals_alone(life: Life) -> None:
    car = Car(life)
    car.follow()
    life.propose(life.release(2))
    staged = files(life.directory / "staged")
    life.now += timedelta(days=7)
    assert renew_online(life.directory, life.online, snapshot_is_due=lambda _: False) == ("timestamp.json",)
    assert renew_online(life.directory, life.online, snapshot_is_due=lambda _: True) == (
        "2.snapshot.json",
        "timestamp.json",
    )
    assert files(life.directory / "staged") == staged
    trusted = car.follow(life.now + timedelta(days=7, hours=23))
    assert (trusted.timestamp.version, trusted.snapshot.version) == (3, 2)
    life.sign()
    life.publish()
    assert car.versions() == RELEASE_2


def test_refresh_needs_a_release_whose_time_is_not_over(life: Life, tmp_path: Path) -> None:
    empty = Life(tmp_path / "empty")
    empty.whole()
    with pytest.raises(RepositoryError, match="nothing published"):
        renew_online(empty.directory, empty.online, snapshot_is_due=lambda _: True)
    life.now += timedelta(days=60)
    before = files(life.directory)
    with pytest.raises(RepositoryError, match="expired"):
        renew_online(life.directory, life.online, snapshot_is_due=lambda _: True)
    assert files(life.directory) == before


def test_refresh_does_not_go_over_an_interrupted_publication(life: Life) -> None:
    other_timestamp_key(life)
    life.sign()
    writes = DyingWrites()
    writes.replace = lambda *_: (_ for _ in ()).throw(KilledError)  # type: ignore[method-assign, assignment]
    with pytest.raises(KilledError):
        life.publish(writes)
    with pytest.raises(RepositoryError, match="was interrupted"):
        renew_online(life.directory, life.online, snapshot_is_due=lambda _: True)
    life.publish()


def test_two_at_once_don_t_mix(life: Life) -> None:
    with (
        locked(life.directory),
        pytest.raises(TemporaryError, match="another process"),
        locked(life.directory, wait_s=0),
    ):
        pass


def test_a_wrong_online_key_is_noticed_before_anything_is_written(life: Life) -> None:
    life.propose(life.release(2))
    life.sign()
    before = files(life.directory)
    del life.signers["timestamp"]
    with pytest.raises((RepositoryError, KeyMaterialError)):
        life.publish()
    assert files(life.directory) == before


def test_extra_bytes_in_a_staged_file(life: Life) -> None:
    life.propose(life.release(2))
    life.sign()
    path = life.directory / "staged/2.targets.json"
    document = json.loads(path.read_bytes())
    document["signed"]["expires"] = "2099-01-01T00:00:00Z"
    path.write_text(json.dumps(document))
    with pytest.raises(RepositoryError, match=r"2\.targets\.json: 0 of 2"):
        life.publish()


def test_what_a_writer_left_that_was_killed_inside_a_write_is_swept_up(life: Life) -> None:
    metadata = life.directory / "repo/metadata"
    for name in (".2.snapshot.json.a1b2c3d4", ".timestamp.json.x_y_z_0a"):
        (metadata / name).write_bytes(b"half of")
    renew_online(life.directory, life.online, snapshot_is_due=lambda _: False)
    assert not list(metadata.glob(".*"))
    (metadata / ".2.targets.json.a1b2c3d4").write_bytes(b"half of")
    life.propose(life.release(2))
    life.sign()
    assert publish(life.directory, life.online, lambda *_: None, dry_run=True)
    assert list(metadata.glob(".*"))
    life.publish()
    assert not list(metadata.glob(".*"))


def test_killed_while_a_release_is_retired(tmp_path: Path) -> None:
    original = Life(tmp_path / "original")
    for release in (None, 1, 2):
        original.whole(release)
    original.propose(retired=["07-2020.01"])
    original.sign()
    number, is_over = 0, False
    while not is_over:
        life = Life(tmp_path / str(number), original.policy)
        life.signers = original.signers
        shutil.copytree(original.directory, life.directory)
        try:
            life.publish(DyingWrites(number))
            is_over = True
        except KilledError:
            assert Car(life).versions() == RELEASE_2
            life.publish()
        assert Car(life).versions() == RELEASE_2
        assert [path.name for path in (life.directory / "chain").iterdir()] == ["07-2020.02"]
        assert (life.directory / "retired/chain/07-2020.01/root.layout").exists()
        assert not list((life.directory / "staged").iterdir())
        number += 1
    assert number >= 5
