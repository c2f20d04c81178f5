"""The workflow of a TUF client (specification 5.3 to 5.6) as the conformance suite sees it: exit codes, requests and stored files.

The strict rules of a vehicle stand in `tests/unit` and `tests/attacks`; here is what any TUF client does.
"""

import json
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from tuf.api.metadata import MetaFile

from tests.needs import commands
from tests.repository_simulator import LATER, NOW, TOP_LEVEL, listed, signers
from tests.tuf_client import TARGET, Client, next_root, publish_unhashed, role, serve, stored

DAY = timedelta(days=1)


# What does not hold


@pytest.mark.parametrize("flaw", ["no version", "a signature of other content"])
def test_a_first_root_that_does_not_hold_is_no_start(client: Client, tmp_path: Path, flaw: str) -> None:
    root = json.loads(client.root.read_bytes())
    if flaw == "no version":
        del root["signed"]["version"]
    else:
        other = json.loads(client.repository.files["timestamp.json"])
        root["signatures"][0]["sig"] = other["signatures"][0]["sig"]
    client.root.write_text(json.dumps(root))
    client.metadata = tmp_path / "another"
    assert client.init() == 1
    assert client.refresh() == 1
    assert client.requests == []


BEFORE = {
    "root": stored(),
    "timestamp": stored(2),
    "snapshot": stored(2, 2),
    "targets": stored(2, 2, 2),
}


@pytest.mark.parametrize("name", TOP_LEVEL)
def test_a_role_signed_by_others_is_refused_and_what_is_before_it_kept(client: Client, name: str) -> None:
    repository = client.repository
    repository.signers[name] = signers(1)
    next_root(repository)
    repository.publish()
    assert client.refresh() == 1
    assert client.stored() == BEFORE[name]


@pytest.mark.parametrize("name", ["root", "snapshot", "targets"])
def test_a_file_of_another_version_than_its_name_says_is_refused(client: Client, name: str) -> None:
    repository = client.repository
    next_root(repository)
    repository.publish()
    repository.snapshot.meta["targets.json"] = MetaFile(2)
    publish_unhashed(repository)
    other = role(repository, name)
    other.version = 3
    repository.files[f"2.{name}.json"] = repository.sign(other, repository.signers[name])
    assert client.refresh() == 1
    assert client.stored() == BEFORE[name]


@pytest.mark.parametrize(
    ("missing", "expected"),
    [
        ("timestamp.json", stored(1, 1, 1, 1)),
        ("2.snapshot.json", stored(1, 2, 1, 1)),
        ("2.targets.json", stored(1, 2, 2, 1)),
    ],
)
def test_a_role_that_is_not_there_fails_the_refresh(client: Client, missing: str, expected: dict[str, int]) -> None:
    assert client.refresh() == 0
    client.repository.publish()
    del client.repository.files[missing]
    assert client.refresh() == 1
    assert client.requests[-1] == missing
    assert client.stored() == expected


def test_a_role_of_another_hash_than_listed_is_refused(client: Client) -> None:
    repository = client.repository
    assert client.refresh() == 0
    repository.publish()
    repository.snapshot.meta["targets.json"] = listed(2, b"another")
    repository.publish_snapshot()
    assert client.refresh() == 1
    assert client.stored() == stored(1, 2, 2, 1)


def test_a_snapshot_is_no_timestamp_whoever_signs_it(client: Client) -> None:
    repository = client.repository
    repository.snapshot.meta = {"snapshot.json": MetaFile(1)}
    signed = repository.sign(repository.snapshot, repository.signers["timestamp"])
    repository.files["timestamp.json"] = signed
    assert client.refresh() == 1
    assert client.stored() == stored()


# What holds


def test_files_are_stored_byte_by_byte(client: Client) -> None:
    data = client.repository.files["timestamp.json"] + b" \n"
    client.repository.files["timestamp.json"] = data
    assert client.refresh() == 0
    assert (client.metadata / "timestamp.json").read_bytes() == data


def test_fields_that_nobody_knows_are_signed_and_harm_nothing(client: Client) -> None:
    repository = client.repository
    key = repository.signers["snapshot"][0].public_key
    key.unrecognized_fields = {"keyid_hash_algorithms": ["md5"], "owner": {"a": 1}}
    repository.root.keys[key.keyid] = key
    repository.root.roles["snapshot"].unrecognized_fields["note"] = "value"
    repository.root.unrecognized_fields["note"] = ["value"]
    next_root(repository)
    repository.publish()
    assert client.refresh() == 0
    assert client.stored() == stored(2, 2, 2, 2)


def test_a_repository_in_the_manner_of_online_signing_services(client: Client) -> None:
    """Versions without hashes, a short specification version, entries of those who have not signed yet, fields of its own."""
    repository = client.repository
    two = signers(2)
    repository.delegate("delegated", ["delegated/*", "delegated/*/*"], with_signers=two)
    serve(repository, "delegated", "delegated/artifact", TARGET)
    for signed in (repository.targets, repository.delegated["delegated"], repository.snapshot, repository.timestamp):
        signed.unrecognized_fields["x-signing-period"] = 60
        signed.spec_version = "1.0"
    repository.signers["delegated"] = two[:1]
    repository.publish()
    metadata = json.loads(repository.files["2.delegated.json"])
    metadata["signatures"].append({"keyid": two[1].public_key.keyid, "sig": ""})
    repository.files["2.delegated.json"] = json.dumps(metadata, indent=1).encode()
    repository.snapshot.meta = {"targets.json": MetaFile(2), "delegated.json": MetaFile(2)}
    publish_unhashed(repository)
    assert client.download("delegated/artifact") == 0
    assert [path.read_bytes() for path in client.targets.iterdir()] == [TARGET]


# Going back


@pytest.mark.parametrize("is_hashed", [False, True])
@pytest.mark.parametrize("name", ["timestamp", "snapshot", "targets"])
def test_an_older_version_is_refused(client: Client, name: str, is_hashed: bool) -> None:
    repository = client.repository
    publish = repository.publish_snapshot if is_hashed else lambda: publish_unhashed(repository)
    repository.publish()
    if not is_hashed:
        repository.snapshot.meta["targets.json"] = MetaFile(2)
        publish()
    assert client.refresh() == 0
    before = client.stored()
    repository.snapshot.version = repository.timestamp.version = 3
    role(repository, name).version = 1
    if name == "targets":
        repository.publish_role("targets", repository.targets)
        if not is_hashed:
            repository.snapshot.meta["targets.json"] = MetaFile(1)
    publish()
    assert client.refresh() == 1
    expected = {**before, "timestamp.json": 3} if name == "targets" else before
    assert client.stored() == expected


def test_a_role_does_not_vanish_from_the_snapshot(client: Client) -> None:
    repository = client.repository
    repository.delegate("delegated", ["path/*"])
    repository.publish()
    assert client.refresh() == 0
    repository.publish()
    del repository.snapshot.meta["delegated.json"]
    repository.publish_snapshot()
    assert client.refresh() == 1
    assert client.stored()["snapshot.json"] == 2


@pytest.mark.parametrize("name", ["timestamp", "snapshot", "targets"])
def test_new_keys_undo_versions_that_a_thief_ran_up(client: Client, name: str) -> None:
    repository = client.repository
    repository.delegate("delegated", ["path/*"])
    role(repository, name).version = 99
    repository.publish()
    assert client.refresh() == 0
    assert client.stored()[f"{name}.json"] == 100
    if name in ("timestamp", "snapshot"):
        repository.rotate("timestamp")
    if name in ("snapshot", "targets"):
        repository.rotate("snapshot")
    if name == "targets":
        del repository.delegated["delegated"]
        assert repository.targets.delegations is not None
        repository.targets.delegations.roles = {}
    role(repository, name).version = 0
    repository.publish()
    assert client.refresh() == 0
    assert client.stored()[f"{name}.json"] == 1


# Time


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("root", stored(2, 1, 1, 1)),
        ("timestamp", stored(2, 1, 1, 1)),
        ("snapshot", stored(2, 2, 1, 1)),
        ("targets", stored(2, 2, 2, 1)),
    ],
)
def test_a_new_role_that_has_expired_is_refused(client: Client, name: str, expected: dict[str, int]) -> None:
    repository = client.repository
    assert client.refresh() == 0
    role(repository, name).expires = NOW - DAY
    next_root(repository)
    repository.publish()
    assert client.refresh() == 1
    assert client.stored() == expected


@pytest.mark.parametrize("name", ["root", "timestamp"])
def test_a_stored_role_that_has_expired_is_followed_by_a_newer_one(client: Client, name: str) -> None:
    repository = client.repository
    role(repository, name).expires = NOW + 7 * DAY
    next_root(repository)
    repository.publish()
    assert client.refresh() == 0
    assert client.refresh(NOW + 18 * DAY) == 1
    role(repository, name).expires = NOW + 21 * DAY
    next_root(repository)
    repository.publish()
    assert client.refresh(NOW + 18 * DAY) == 0
    assert client.stored() == stored(3, 3, 3, 3)


def test_a_delegated_role_that_has_expired_is_not_used(client: Client) -> None:
    repository = client.repository
    repository.delegate("delegated", ["path/*"]).expires = NOW - DAY
    serve(repository, "delegated", "path/file", TARGET)
    repository.publish()
    assert client.refresh() == 0
    assert client.download("path/file") == 1
    assert not list(client.targets.glob("*"))
    assert client.stored() == stored(1, 2, 2, 2)


def test_a_stored_delegated_role_ends_with_its_time_and_goes_on_with_a_newer_one(client: Client) -> None:
    repository = client.repository
    role_expires, later = NOW + 7 * DAY, NOW + 18 * DAY
    repository.delegate("delegated", ["path/*"]).expires = role_expires
    for name in ("first", "second"):
        serve(repository, "delegated", f"path/{name}", name.encode())
    repository.publish()
    assert client.download("path/first") == 0
    assert client.download("path/second", now=later) == 1
    assert [path.read_bytes() for path in client.targets.iterdir()] == [b"first"]
    repository.delegated["delegated"].expires = NOW + 21 * DAY
    repository.publish()
    assert client.download("path/second", now=later) == 0
    assert sorted(path.read_bytes() for path in client.targets.iterdir()) == [b"first", b"second"]


@pytest.mark.system
@commands("faketime")
@pytest.mark.parametrize(("time", "code"), [(LATER - DAY, 0), (LATER + DAY, 1)])
def test_a_process_takes_the_time_that_its_system_tells(client: Client, time: datetime, code: int) -> None:
    program = ["faketime", str(time), sys.executable, "-m", "packager.vehicle.cli", "refresh"]
    places = ["--metadata-dir", str(client.metadata), "--metadata-url", f"{client.url}/metadata/"]
    result = subprocess.run([*program, *places], capture_output=True, text=True, check=False)
    assert result.returncode == code, result.stderr
    assert ("expired" in result.stderr) == bool(code)
