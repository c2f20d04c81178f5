"""What a repository's commands look at first: the state in force, or what is left of it."""

from pathlib import Path

import pytest

from packager.model.errors import RepositoryError
from packager.pipeline.repository import Place
from tests.repository_life import DyingWrites, KilledError, Life


def place_of(life: Life) -> Place:
    return Place(life.directory, life.policy, life.keys, life.now)


def test_a_lost_timestamp_is_no_new_beginning(tmp_path: Path) -> None:
    """Signed anew, it would have version 1, which no car takes after version 2."""
    life = Life(tmp_path)
    life.whole()
    assert place_of(life).in_force().timestamp is None
    life.whole(1)
    assert place_of(life).in_force().timestamp is not None
    (life.directory / "repo/metadata/timestamp.json").unlink()
    with pytest.raises(RepositoryError, match=r"timestamp\.json: is missing, expected it beside the snapshots"):
        place_of(life).in_force()


def test_a_first_publication_that_was_killed_has_no_timestamp_yet(tmp_path: Path) -> None:
    life = Life(tmp_path)
    life.whole()
    life.propose(life.release(1))
    life.sign()

    class Dying(DyingWrites):
        def replace(self, path: Path, data: bytes) -> None:
            raise KilledError

    with pytest.raises(KilledError):
        life.publish(Dying())
    assert list((life.directory / "repo/metadata").glob("*.snapshot.json"))
    assert place_of(life).in_force().timestamp is None
    life.publish()
    assert place_of(life).in_force().timestamp is not None
