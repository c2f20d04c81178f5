"""What is in force: verified from the first root on, whatever state a repository is in."""

from datetime import timedelta
from pathlib import Path

import pytest

from packager.model.errors import RepositoryError
from packager.repo.in_force import InForce, read_in_force
from packager.repo.lifetimes import lifetimes
from tests.repository_life import POLICY, DyingWrites, KilledError, Life, with_role


@pytest.fixture
def life(tmp_path: Path) -> Life:
    return Life.with_a_release(tmp_path)


def test_nothing_yet(tmp_path: Path) -> None:
    assert read_in_force(tmp_path / "none") == InForce()
    assert read_in_force(tmp_path) == InForce()
    assert InForce().payloads == {}


def test_a_root_alone(tmp_path: Path) -> None:
    life = Life(tmp_path)
    life.whole()
    found = life.in_force()
    assert list(found.payloads) == ["root"]
    assert not found.is_interrupted


def test_everything_also_when_it_has_expired(life: Life) -> None:
    roles = ["root", "timestamp", "snapshot", "targets", "body.07-2020.01", "powertrain.07-2020.01"]
    found = life.in_force()
    assert list(found.payloads) == roles
    assert sorted(found.files) == sorted(roles)
    lives = lifetimes(found, POLICY, life.now + timedelta(days=1000))
    assert [life.role for life in lives] == roles
    assert all(life.is_due and life.left < timedelta() for life in lives)


def test_any_changed_byte_is_found(life: Life) -> None:
    metadata = life.directory / "repo/metadata"
    for path in sorted(metadata.iterdir()):
        good = path.read_bytes()
        for position in (0, len(good) // 2, len(good) - 1):
            path.write_bytes(good[:position] + bytes([good[position] ^ 1]) + good[position + 1 :])
            with pytest.raises(RepositoryError, match="does not hold") as caught:
                life.in_force()
            assert "backup" in caught.value.hint
        path.write_bytes(good)
    life.in_force()


@pytest.mark.parametrize("name", ["1.snapshot.json", "1.targets.json", "1.body.07-2020.01.json"])
def test_a_missing_file_is_found(life: Life, name: str) -> None:
    (life.directory / "repo/metadata" / name).unlink()
    with pytest.raises(RepositoryError, match="is missing"):
        life.in_force()


def test_the_anchor_is_what_counts(life: Life, tmp_path: Path) -> None:
    other = Life(tmp_path / "other")
    other.whole()
    anchor = (other.directory / "repo/metadata/1.root.json").read_bytes()
    with pytest.raises(RepositoryError, match="another root of version 1"):
        read_in_force(life.directory, anchor)
    assert (
        read_in_force(life.directory, (life.directory / "repo/metadata/1.root.json").read_bytes()).targets is not None
    )


def test_a_root_is_missing_in_between(life: Life) -> None:
    for number in (4, 5):
        life.policy = with_role(life.policy, "root", ("root-1", "root-2", f"root-{number}"), 2)
        life.whole()
    (life.directory / "repo/metadata/2.root.json").unlink()
    with pytest.raises(RepositoryError, match="states version 3"):
        life.in_force()


def test_an_interrupted_publication_is_recognised(life: Life) -> None:
    """The root is there and does not vouch for the timestamp: the root before does."""
    life.policy = with_role(life.policy, "timestamp", ("timestamp-2",), 1)
    life.propose()
    life.sign()
    total = len(life.publish(dry_run=True).metadata)
    with pytest.raises(KilledError):
        life.publish(DyingWrites(total - 1))
    found = life.in_force()
    assert [root.version for root in found.roots] == [1, 2]
    assert found.is_interrupted
    assert found.vouching is found.roots[0]
    assert found.targets is not None
    life.publish()
    assert not life.in_force().is_interrupted


def test_a_role_is_due_in_its_last_quarter_or_as_told(life: Life) -> None:
    def due(after: timedelta, warn_days: int | None = None) -> list[str]:
        return [life_.role for life_ in lifetimes(life.in_force(), POLICY, life.now + after, warn_days) if life_.is_due]

    assert due(timedelta(days=6, seconds=-1)) == []
    assert due(timedelta(days=6)) == ["timestamp"]
    assert due(timedelta(days=6), 1) == []
    assert due(timedelta(days=7), 1) == ["timestamp"]
    assert due(timedelta(days=30)) == ["timestamp", "snapshot"]
