"""A custodian's signature: added to those that are there, never in their place, and only under what was shown."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from packager.model.errors import RepositoryError
from packager.repo.custody import append_signature, find_allowed
from packager.repo.staged import demands, read_file, read_staged
from packager.vehicle.errors import ResourceError
from tests.repository_life import Life, with_role


@pytest.fixture
def life(tmp_path: Path) -> Life:
    life = Life(tmp_path)
    life.propose()
    return life


@pytest.fixture
def path(life: Life) -> Path:
    return life.directory / "staged/1.root.json"


def signed_by(life: Life, path: Path) -> list[str]:
    return [life.names[entry["keyid"]] for entry in json.loads(path.read_bytes())["signatures"]]


def test_signatures_add_up_also_those_that_came_meanwhile(life: Life, path: Path) -> None:
    shown = read_file(path)  # all three look at the file before anyone has signed
    assert append_signature(path, shown, life.signer("root-1"))
    assert append_signature(path, shown, life.signer("root-2"))
    assert append_signature(path, shown, life.signer("root-3"))
    assert signed_by(life, path) == ["root-1", "root-2", "root-3"]


def test_at_the_same_moment(life: Life, path: Path) -> None:
    life.policy = with_role(life.policy, "root", [f"root-{number}" for number in range(1, 9)], 5)
    life.propose()
    shown = read_file(path)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: append_signature(path, shown, life.signer(f"root-{number}")), range(1, 9)))
    assert sorted(signed_by(life, path)) == [f"root-{number}" for number in range(1, 9)]


def test_again_is_nothing_and_a_broken_signature_is_replaced(life: Life, path: Path) -> None:
    append_signature(path, read_file(path), life.signer("root-1"))
    append_signature(path, read_file(path), life.signer("root-2"))
    good = path.read_bytes()
    assert not append_signature(path, read_file(path), life.signer("root-1"))
    assert path.read_bytes() == good
    document = json.loads(good)
    document["signatures"][0]["sig"] = "00" * 64
    path.write_text(json.dumps(document))
    assert append_signature(path, read_file(path), life.signer("root-1"))
    (demand,) = demands(read_file(path), read_staged(life.directory), life.in_force())
    assert {life.names[key_id] for key_id in demand.signed} == {"root-1", "root-2"}


def test_a_file_that_changed_while_it_was_shown(life: Life, path: Path) -> None:
    shown = read_file(path)
    life.policy = with_role(life.policy, "root", ("root-1", "root-2", "root-4"), 1)
    life.propose()
    before = path.read_bytes()
    with pytest.raises(RepositoryError, match="changed while it was shown"):
        append_signature(path, shown, life.signer("root-1"))
    assert path.read_bytes() == before


def test_a_full_disk_leaves_the_file_as_it_was(life: Life, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    append_signature(path, read_file(path), life.signer("root-1"))
    before = path.read_bytes()

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(ResourceError, match="No space left"):
        append_signature(path, read_file(path), life.signer("root-2"))
    assert path.read_bytes() == before
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_who_may_sign_a_root_are_the_holders_of_old_and_new(life: Life, path: Path) -> None:
    life.sign()
    life.publish()
    old = life.policy
    life.policy = with_role(old, "root", ("root-3", "root-4", "root-5"), 2)
    life.propose()
    file = read_file(life.directory / "staged/2.root.json")
    allowed = find_allowed(file, old, life.keys, life.in_force(), None)  # a custodian whose policy is not up to date
    assert {life.names[key_id] for key_id in allowed} == {f"root-{number}" for number in range(1, 6)}


def test_who_may_sign_a_domain(life: Life) -> None:
    life.sign()
    life.publish()
    life.propose(life.release(1))
    for role, expected in (("powertrain.07-2020.01", {"pt-1", "pt-2"}), ("body.07-2020.01", {"body"})):
        file = read_staged(life.directory)[role]
        allowed = find_allowed(file, life.policy, life.keys, life.in_force(), None)
        assert {life.names[key_id] for key_id in allowed} == expected
