"""The client protocol of the TUF conformance suite, over HTTP: commands, options, exit codes, requests and stored files."""

from datetime import timedelta

import pytest
from tuf.api.metadata import Delegations, MetaFile, SuccinctRoles, Targets

from tests.repository_simulator import LATER, signers, under_another_id
from tests.tuf_client import TARGET, Client, serve


def test_refresh_asks_for_exactly_what_it_needs_and_stores_unversioned_names(client: Client) -> None:
    assert client.refresh() == 0
    assert client.requests == ["2.root.json", "timestamp.json", "1.snapshot.json", "1.targets.json"]
    assert client.stored() == {"root.json": 1, "snapshot.json": 1, "targets.json": 1, "timestamp.json": 1}
    assert client.refresh() == 0
    assert client.requests == ["2.root.json", "timestamp.json"]


def test_without_hashes_and_lengths_stored_files_are_known_by_their_version(client: Client) -> None:
    repository = client.repository
    repository.snapshot.meta["targets.json"] = MetaFile(1)
    repository.snapshot.version = 2
    repository.files["2.snapshot.json"] = repository.sign(repository.snapshot, repository.signers["snapshot"])
    repository.timestamp.snapshot_meta = MetaFile(2)
    repository.timestamp.version = 2
    repository.publish_timestamp()
    assert client.refresh() == 0
    assert client.requests == ["2.root.json", "timestamp.json", "2.snapshot.json", "1.targets.json"]
    assert client.refresh() == 0
    assert client.requests == ["2.root.json", "timestamp.json"]


def test_what_held_before_a_failure_is_stored(client: Client) -> None:
    assert client.refresh() == 0
    client.repository.publish()
    del client.repository.files["2.snapshot.json"]
    assert client.refresh() == 1
    assert client.requests[-1] == "2.snapshot.json"
    assert client.stored() == {"root.json": 1, "snapshot.json": 1, "targets.json": 1, "timestamp.json": 2}


def test_a_known_timestamp_version_with_other_content_is_passed_over(client: Client) -> None:
    assert client.refresh() == 0
    client.repository.timestamp.snapshot_meta = MetaFile(100)
    client.repository.publish_timestamp()
    assert client.refresh() == 0
    assert client.requests == ["2.root.json", "timestamp.json"]


def test_time_is_that_of_the_clock(client: Client) -> None:
    assert client.refresh(LATER - timedelta(seconds=1)) == 0
    assert client.refresh(LATER) == 1
    assert "expired" in client.error


@pytest.mark.parametrize("hashes", [["sha256"], ["sha512"], ["sha256", "sha512"]])
def test_download_by_any_of_the_hashes_once(client: Client, hashes: list[str]) -> None:
    serve(client.repository, "targets", "path/to/file.txt", TARGET, hashes)
    client.repository.publish()
    assert client.download("path/to/file.txt") == 0
    assert [path.read_bytes() for path in client.targets.iterdir()] == [TARGET]
    assert client.download("path/to/file.txt") == 0
    assert not any(path.startswith("/targets") for path in client.requests)


@pytest.mark.parametrize("algorithm", ["md5", "sha1", "unknown-hash"])
def test_a_weak_or_unknown_hash_alone_is_refused_but_harms_none_beside_it(client: Client, algorithm: str) -> None:
    serve(client.repository, "targets", "file.txt", TARGET)
    target = client.repository.targets.targets["file.txt"]
    target.hashes[algorithm] = "00" * 16
    client.repository.publish()
    assert client.download("file.txt") == 0
    (client.targets / "file.txt").unlink()
    del target.hashes["sha256"]
    client.repository.publish()
    assert client.download("file.txt") == 1
    assert not list(client.targets.iterdir())


def test_every_listed_hash_counts(client: Client) -> None:
    serve(client.repository, "targets", "file.txt", TARGET, ["sha256", "sha512"])
    client.repository.targets.targets["file.txt"].hashes["sha512"] = "00" * 64
    client.repository.publish()
    assert client.download("file.txt") == 1
    assert not list(client.targets.iterdir())


def test_a_substituted_target_leaves_nothing(client: Client) -> None:
    serve(client.repository, "targets", "file.txt", TARGET)
    client.repository.publish()
    for path in client.repository.contents:
        client.repository.contents[path] = b"x" * len(TARGET)
    assert client.download("file.txt") == 1
    assert not list(client.targets.iterdir())


def test_a_target_that_nobody_lists_is_1_after_the_refresh(client: Client) -> None:
    assert client.download("nonexistent artifact") == 1
    assert client.requests == ["2.root.json", "timestamp.json", "1.snapshot.json", "1.targets.json"]


def test_targets_are_got_in_order_up_to_the_first_failure_also_if_options_stand_on_both_sides(client: Client) -> None:
    for name in ("a", "b", "c"):
        serve(client.repository, "targets", name, name.encode())
    client.repository.publish()
    places = ["--target-dir", str(client.targets), f"--target-base-url={client.url}/targets"]
    metadata = ["--metadata-url", f"{client.url}/metadata", "--metadata-dir", str(client.metadata)]
    names = ["--target-name", "none", "--target-name", "c"]
    assert client("--target-name", "a", "--target-name", "b", "download", *names, *places, *metadata) == 1
    assert sorted(path.name for path in client.targets.iterdir()) == ["a", "b"]


@pytest.mark.parametrize("is_consistent", [False, True])
def test_consistent_snapshot(client: Client, is_consistent: bool) -> None:
    repository = client.repository
    repository.root.consistent_snapshot = is_consistent
    repository.root.version = 2
    repository.publish_root()
    serve(repository, "targets", "a/b", TARGET)
    repository.publish()
    if not is_consistent:
        repository.contents = {"a/b": TARGET}
        for name in ("snapshot", "targets"):
            repository.files[f"{name}.json"] = repository.files.pop(f"2.{name}.json")
    assert client.download("a/b") == 0
    version = "2." if is_consistent else ""
    assert client.requests[2:5] == ["timestamp.json", f"{version}snapshot.json", f"{version}targets.json"]


@pytest.mark.parametrize("role", ["?", "#", "/delegated", "../delegated", "..", "ä"])
def test_unusual_role_names_are_quoted_in_requests_and_files(client: Client, role: str) -> None:
    client.repository.delegate(role, ["*"])
    serve(client.repository, role, "file.txt", TARGET)
    client.repository.publish()
    assert client.download("file.txt") == 0
    assert len(client.stored()) == 5
    assert not (client.metadata.parent / "delegated.json").exists()


def test_a_target_path_does_not_leave_its_places(client: Client) -> None:
    serve(client.repository, "targets", "../../escaped 100%.txt", TARGET)
    client.repository.publish()
    client.download("../../escaped 100%.txt")
    assert not list(client.metadata.parent.parent.glob("escaped*"))
    assert all(path.parent == client.targets for path in client.targets.rglob("*"))


def test_succinct_bins(client: Client) -> None:
    repository = client.repository
    key = signers(1)
    bins = SuccinctRoles([key[0].public_key.keyid], 1, 2, "bin")
    repository.targets.delegations = Delegations({key[0].public_key.keyid: key[0].public_key}, None, bins)
    for name in bins.get_roles():
        repository.delegated[name] = Targets(version=1, expires=LATER)
        repository.signers[name] = key
    serve(repository, "bin-3", "bar", TARGET)
    repository.publish()
    assert client.download("bar") == 0
    assert [path for path in client.requests if "bin" in path and "targets/" not in path] == ["2.bin-3.json"]


def test_a_cached_role_is_verified_by_each_delegator(client: Client) -> None:
    repository = client.repository
    keys_a, keys_b = signers(1), signers(1)
    for team, keys in (("a", keys_a), ("b", keys_b)):
        repository.delegate(f"parent-{team}", [f"team-{team}/*"])
        repository.delegate("release", [f"team-{team}/*"], by=f"parent-{team}", with_signers=keys)
        serve(repository, "release", f"team-{team}/file", team.encode())
    repository.signers["release"] = keys_a
    repository.publish()
    assert client.download("team-a/file", "team-b/file") == 1
    assert [path.read_bytes() for path in client.targets.iterdir()] == [b"a"]


def test_one_key_under_two_ids_counts_once_here_too(client: Client) -> None:
    repository = client.repository
    key = repository.signers["timestamp"][0]
    twin = under_another_id(key)
    repository.root.keys[twin.public_key.keyid] = twin.public_key
    repository.root.roles["timestamp"].keyids.append(twin.public_key.keyid)
    repository.root.roles["timestamp"].threshold = 2
    repository.root.version = 2
    repository.publish_root()
    repository.signers["timestamp"] = [key, twin]
    repository.publish()
    assert client.refresh() == 1
    assert client.stored() == {"root.json": 2}


@pytest.mark.parametrize(
    "arguments",
    [
        ["refresh", "--metadata-dir", "x"],
        ["init", "--metadata-dir", "x", "missing.json"],
        ["download"],
        ["download", "--metadata-dir", "x", "--metadata-url", "ftp://x"],
        ["update", "--metadata-dir", "x"],
        ["refresh", "--metadata-dir", "x", "--home", "y"],
        ["refresh", "--metadata-dir"],
    ],
)
def test_wrong_use_is_1(client: Client, arguments: list[str]) -> None:
    assert client(*arguments) == 1
    assert "error:" in client.error
