"""Proposals: exactly what has to be signed, for every rotation, revocation and renewal; and that cars follow."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from packager.model.errors import RepositoryError
from packager.vehicle.errors import UntrustedError
from tests.repository_life import POLICY, Car, Life, with_role

RELEASE_1 = ["BDC-1 1.0", "DME-1 1.0"]
BODY_1, POWERTRAIN_1 = "body.07-2020.01", "powertrain.07-2020.01"


@pytest.fixture
def life(tmp_path: Path) -> Life:
    return Life.with_a_release(tmp_path)


def test_nothing_is_proposed_when_all_is_as_wanted(life: Life) -> None:
    assert life.propose() == {}
    life.now += timedelta(days=1)
    assert life.propose() == {}
    assert life.propose(is_renewed=True) == {}


def test_a_repository_begins_with_its_root(tmp_path: Path) -> None:
    life = Life(tmp_path)
    proposed = life.propose()
    assert [(role, payload.version) for role, payload in proposed.items()] == [("root", 1)]


def test_root_and_first_release_may_be_proposed_together(tmp_path: Path) -> None:
    life = Life(tmp_path)
    assert list(life.propose(life.release(1))) == ["root", "targets", BODY_1, POWERTRAIN_1]
    life.sign()
    assert life.publish().metadata[-2:] == ("1.root.json", "timestamp.json")
    assert Car(life).versions() == RELEASE_1


def test_a_new_release_adds_its_roles_alone(life: Life) -> None:
    assert list(life.propose(life.release(2, ["body"]))) == ["targets", "body.07-2020.02"]
    life.sign()
    life.publish()
    assert Car(life).versions() == ["BDC-1 2.0", "DME-1 1.0"]


@pytest.mark.parametrize(
    ("role", "keys", "threshold", "proposed"),
    [
        ("root", ("root-1", "root-2", "root-4"), 2, ["root"]),
        ("root", ("root-4", "root-5", "root-6"), 2, ["root"]),
        ("root", tuple(f"root-{number}" for number in range(1, 9)), 5, ["root"]),
        ("snapshot", ("snapshot-2",), 1, ["root"]),
        ("timestamp", ("timestamp-2",), 1, ["root"]),
        # Signed by all three, of whom two are enough: a lost key costs no signature of targets.
        ("targets", ("targets-1", "targets-2", "targets-4"), 2, ["root"]),
        ("targets", ("targets-1", "targets-4", "targets-5"), 2, ["root", "targets"]),
        ("targets", tuple(f"targets-{number}" for number in range(1, 9)), 5, ["root", "targets"]),
        ("body", ("body-2",), 1, ["targets", BODY_1]),
        ("body", ("body", "body-2"), 1, ["targets"]),
        ("powertrain", ("pt-1", "pt-3"), 2, ["targets", POWERTRAIN_1]),
        ("powertrain", ("pt-1", "pt-2", "pt-3"), 3, ["targets", POWERTRAIN_1]),
    ],
)
def test_every_role_is_rotated(
    life: Life, role: str, keys: tuple[str, ...], threshold: int, proposed: list[str]
) -> None:
    car = Car(life)
    car.versions()
    life.policy = with_role(life.policy, role, keys, threshold)
    assert list(life.propose()) == proposed
    life.sign()
    life.publish()
    assert car.versions() == Car(life).versions() == RELEASE_1
    assert life.propose() == {}
    life.now += timedelta(days=1)
    life.whole(2)
    assert car.versions() == ["BDC-1 2.0", "DME-1 2.0"]


def test_five_of_eight_is_five_of_eight(life: Life) -> None:
    life.policy = with_role(life.policy, "root", [f"root-{number}" for number in range(1, 9)], 5)
    life.propose()
    life.sign("root-1", "root-2", "root-6", "root-7")  # four of the new ones, one of the old ones
    with pytest.raises(RepositoryError, match=r"2\.root\.json: 1 of 2 .* that root 1 demands") as caught:
        life.publish()
    assert "4 of 5 signatures that root 2 demands" in str(caught.value)
    life.sign("root-1", "root-6", "root-7")
    life.publish()
    assert Car(life).follow().root.roles["root"].threshold == 5


def test_one_of_three_root_holders_lost_a_key(life: Life) -> None:
    """Both that are left sign for the old root; with the new holder there are enough for the new one."""
    life.policy = with_role(life.policy, "root", ("root-1", "root-3", "root-4"), 2)
    life.propose()
    life.sign("root-2")
    life.publish()
    assert Car(life).follow().root.version == 2


@pytest.mark.parametrize("role", ["timestamp", "snapshot"])
def test_a_stolen_online_key_that_raised_versions_to_a_thousand(life: Life, role: str) -> None:
    """Fast-forward: the car holds a version that the repository will not reach; a new key makes it forget (TUF 5.3.11)."""
    car = Car(life)
    car.follow()
    metadata = life.directory / "repo/metadata"
    if role == "timestamp":
        car.storage.files["timestamp.json"] = life.forge("timestamp", 1000, "timestamp")
    else:
        car.storage.files["snapshot.json"] = life.forge("snapshot", 1000, "snapshot")
    life.now += timedelta(days=1)
    if role == "timestamp":
        life.whole(2)
        with pytest.raises(UntrustedError, match="version 1000 was trusted"):
            car.follow()
    life.policy = with_role(life.policy, role, (f"{role}-2",), 1)
    life.whole(3)
    assert car.versions() == ["BDC-1 3.0", "DME-1 3.0"]
    assert car.follow().timestamp.version < 10
    # and what the thief signs counts for nothing
    (metadata / "timestamp.json").write_bytes(
        life.forge("timestamp", 2000, "timestamp" if role == "timestamp" else "snapshot")
    )
    with pytest.raises(UntrustedError, match="signed by 0 different keys"):
        car.follow()


def test_a_stolen_domain_key_is_worth_nothing_after_its_revocation(life: Life) -> None:
    life.policy = with_role(life.policy, "body", ("body-2",), 1)
    life.whole()
    role = Car(life).follow().targets.delegations
    assert role is not None
    assert role.roles is not None
    stolen = life.signers["body"].public_key.keyid
    assert stolen not in role.keys
    assert all(stolen not in delegated.keyids for delegated in role.roles.values())


def test_renewal_is_of_what_is_due(life: Life) -> None:
    life.now += timedelta(days=45)  # of 60 days for domains, the last quarter
    assert list(life.propose(is_renewed=True)) == [BODY_1, POWERTRAIN_1]
    life.now -= timedelta(seconds=1)
    assert life.propose(is_renewed=True) == {}
    assert list(life.propose(is_renewed=True, warn_days=100)) == ["targets", BODY_1, POWERTRAIN_1]
    life.sign()
    life.publish()
    renewed = life.in_force()
    assert renewed.roles[BODY_1].version == 2
    assert renewed.roles[BODY_1].expires == life.now + timedelta(days=60)
    assert Car(life).versions() == RELEASE_1


def test_what_no_car_reads_is_not_renewed(life: Life) -> None:
    life.now += timedelta(days=1)
    life.whole(2)
    life.now += timedelta(days=50)
    assert list(life.propose(is_renewed=True)) == ["body.07-2020.02", "powertrain.07-2020.02"]


def test_everything_has_expired(life: Life) -> None:
    """All of it signed anew, in one go; a car that was away meanwhile follows."""
    car = Car(life)
    car.follow()
    life.now += timedelta(days=1000)
    with pytest.raises(UntrustedError, match="expired"):
        car.follow()
    assert list(life.propose(is_renewed=True)) == ["root", "targets", BODY_1, POWERTRAIN_1]
    life.sign()
    life.publish()
    assert car.versions() == Car(life).versions() == RELEASE_1


def test_a_car_that_slept_through_many_rotations(life: Life) -> None:
    car = Car(life)
    car.follow()
    for number in range(4, 9):
        life.now += timedelta(days=30)
        life.policy = with_role(life.policy, "root", [f"root-{number - back}" for back in range(3)], 2)
        life.policy = with_role(life.policy, "timestamp", [f"timestamp-{number}"], 1)
        life.whole(is_renewed=True, warn_days=100)
    assert car.follow().root.version == 6
    assert car.versions() == RELEASE_1


def test_a_domain_that_the_policy_gave_up_keeps_its_role(life: Life) -> None:
    life.policy = replace(life.policy, domains={"body": POLICY.domains["body"]})
    assert life.propose() == {}


def test_signatures_are_not_thrown_away(life: Life) -> None:
    life.propose(life.release(2))
    life.sign("targets-2")
    staged = {path.name: path.read_bytes() for path in (life.directory / "staged").glob("*.json")}
    life.now += timedelta(hours=1)
    life.propose(life.release(2))  # the same but for its life time
    assert {path.name: path.read_bytes() for path in (life.directory / "staged").glob("*.json")} == staged
    with pytest.raises(RepositoryError, match="has signatures that would be lost"):
        life.propose(life.release(3))
    assert {path.name: path.read_bytes() for path in (life.directory / "staged").glob("*.json")} == staged


def test_a_release_that_no_car_reads_is_retired(life: Life) -> None:
    car = Car(life)
    car.follow()
    life.whole(2)
    before = len(life.in_force().files["targets"])
    assert set(life.propose(retired=["07-2020.01"])) == {"targets"}
    life.sign()
    life.publish()
    in_force = life.in_force()
    assert len(in_force.files["targets"]) < before
    assert set(in_force.roles) == {"targets", "body.07-2020.02", "powertrain.07-2020.02"}
    assert not any(path.startswith("chain/07-2020.01") for path in in_force.roles["targets"].targets)
    assert in_force.snapshot is not None
    assert f"{BODY_1}.json" in in_force.snapshot.meta, "clients refuse a snapshot that forgets a role"
    assert (life.directory / "retired/chain/07-2020.01/root.layout").read_bytes() == b"layout 1"
    assert not (life.directory / "chain/07-2020.01").exists()
    assert car.versions() == ["BDC-1 2.0", "DME-1 2.0"]
    assert life.propose() == {}
    life.whole(3)
    assert car.versions() == ["BDC-1 3.0", "DME-1 3.0"]


def test_what_a_car_reads_is_not_retired(life: Life) -> None:
    life.whole(2)
    life.propose(life.release(3, ["body"]))
    life.sign()
    life.publish()
    for release in ("07-2020.02", "07-2020.03"):
        with pytest.raises(RepositoryError, match=rf"'{release}': cars read its role"):
            life.propose(retired=[release])
    with pytest.raises(
        RepositoryError, match=r"is not in force, expected one of 07-2020\.01, 07-2020\.02, 07-2020\.03"
    ):
        life.propose(retired=["07-2020.04"])


def test_the_id_of_a_retired_release_is_not_given_again(life: Life) -> None:
    life.whole(2)
    life.whole(retired=["07-2020.01"])
    directory, contents = life.release(3)
    with pytest.raises(RepositoryError, match=r"'07-2020\.01': was in force and is retired"):
        life.propose((directory, replace(contents, release="07-2020.01")))
