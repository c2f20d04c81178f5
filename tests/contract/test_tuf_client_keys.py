"""Signatures, keys and thresholds as a TUF client counts them (specification 5.3.4, 5.3.5, 5.4.2, 5.5.3, 5.6.3)."""

import json
from pathlib import Path

import pytest
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, MetaFile

from tests.repository_simulator import signers
from tests.tuf_client import Client, next_root, stored


@pytest.mark.parametrize("is_empty", [False, True])
def test_a_bad_signature_beside_enough_good_ones_harms_nothing(client: Client, is_empty: bool) -> None:
    repository = client.repository
    first, second = repository.signers["timestamp"][0], signers(1)[0]
    repository.root.add_key(second.public_key, "timestamp")
    next_root(repository)
    repository.signers["timestamp"] = [first, second]
    repository.publish()
    metadata = Metadata.from_bytes(repository.files["timestamp.json"])
    old = Metadata.from_bytes(repository.files["1.targets.json"])
    bad = next(iter(old.signatures.values())).signature
    metadata.signatures[first.public_key.keyid].signature = "" if is_empty else bad
    repository.files["timestamp.json"] = metadata.to_bytes()
    assert client.refresh() == 0
    assert client.stored() == stored(2, 2, 2, 2)


@pytest.mark.parametrize(
    ("signer", "bad_bytes"),
    [
        (CryptoSigner.generate_rsa(scheme="rsassa-pss-sha256"), 384),
        (CryptoSigner.generate_rsa(scheme="rsa-pkcs1v15-sha256"), 384),
        (CryptoSigner.generate_ecdsa(), 70),
        (CryptoSigner.generate_ed25519(), 64),
    ],
    ids=lambda value: value.public_key.scheme if isinstance(value, CryptoSigner) else "",
)
def test_keys_of_every_kind_count_and_their_bad_signatures_do_not(
    client: Client, signer: CryptoSigner, bad_bytes: int
) -> None:
    repository = client.repository
    repository.root.add_key(signer.public_key, "root")
    repository.root.roles["root"].threshold = 2
    repository.signers["root"].append(signer)
    next_root(repository)
    assert client.refresh() == 0
    repository.root.version = 3
    metadata = Metadata.from_bytes(repository.publish_root())
    metadata.signatures[signer.public_key.keyid].signature = "5a" * bad_bytes
    repository.files["3.root.json"] = metadata.to_bytes()
    assert client.refresh() == 1
    assert client.stored()["root.json"] == 2


ROOT_CHAINS: dict[str, tuple[list[tuple[str, int, str]], bool]] = {
    # keys, threshold, signed by: of each version after another
    "another key": ([("a", 1, "a"), ("b", 1, "ba"), ("b", 1, "b")], True),
    "signatures of strangers": ([("a", 1, "xay"), ("b", 1, "xbay"), ("b", 1, "xby")], True),
    "any three of five": ([("abcde", 3, "ace"), ("abcde", 3, "aeb"), ("abcde", 3, "abd")], True),
    "one of five is another": ([("abcde", 3, "ace"), ("abdef", 3, "aeb")], True),
    "in two steps": ([("abcde", 3, "ace"), ("abdef", 3, "acef"), ("abdef", 3, "aef")], True),
    "all are others": ([("abcde", 3, "ace"), ("fghij", 3, "acefgh"), ("fghij", 3, "fgh")], True),
    "a higher threshold": ([("abc", 1, "a"), ("abc", 2, "ab")], True),
    "a lower threshold": ([("abc", 2, "ab"), ("abc", 1, "ab"), ("abc", 1, "a")], True),
    "one key more and both needed": ([("a", 1, "a"), ("ab", 2, "ab")], True),
    "without the old key": ([("a", 1, "a"), ("b", 1, "bxy")], False),
    "without the new key": ([("a", 1, "a"), ("b", 1, "axy")], False),
    "two of three new keys": ([("abcde", 3, "ace"), ("abdef", 3, "ace")], False),
    "two of three old keys": ([("abcde", 3, "ace"), ("abdef", 3, "aef")], False),
    "below the higher threshold": ([("abc", 1, "a"), ("abc", 2, "b")], False),
    "below the old threshold": ([("abc", 2, "ab"), ("abc", 1, "a")], False),
}


@pytest.mark.parametrize(("chain", "holds"), ROOT_CHAINS.values(), ids=ROOT_CHAINS)
def test_roots_follow_by_the_thresholds_of_both(
    client: Client, tmp_path: Path, chain: list[tuple[str, int, str]], holds: bool
) -> None:
    repository = client.repository
    keys = dict(zip("abcdefghijxy", signers(12), strict=True))
    for version, (names, threshold, signed_by) in enumerate(chain, start=1):
        repository.root.version = version
        repository.root.roles["root"].keyids = []
        repository.root.roles["root"].threshold = threshold
        for name in names:
            repository.root.add_key(keys[name].public_key, "root")
        repository.publish_root([keys[name] for name in signed_by])
    client.root.write_bytes(repository.files["1.root.json"])
    client.metadata = tmp_path / "another"
    assert client.init() == 0
    assert client.refresh() == (0 if holds else 1)
    newest = len(chain) if holds else len(chain) - 1
    assert (client.metadata / "root.json").read_bytes() == repository.files[f"{newest}.root.json"]


@pytest.mark.parametrize("name", ["timestamp", "snapshot", "targets"])
@pytest.mark.parametrize(
    ("keys", "threshold", "signed_by", "holds"),
    [
        ("b", 1, "b", True),
        ("a", 1, "xay", True),
        ("b", 1, "axy", False),
        ("abdef", 3, "ace", False),
        ("abdef", 3, "ae", False),
        ("ab", 3, "ab", False),
        ("abcde", 3, "ace", True),
        ("abcde", 3, "eda", True),
    ],
)
def test_a_role_needs_the_threshold_that_the_root_states(
    client: Client, name: str, keys: str, threshold: int, signed_by: str, holds: bool
) -> None:
    repository = client.repository
    known = dict(zip("abcdefxy", signers(8), strict=True))
    repository.root.roles[name].keyids = []
    repository.root.roles[name].threshold = threshold
    for key in keys:
        repository.root.add_key(known[key].public_key, name)
    next_root(repository)
    repository.signers[name] = [known[key] for key in signed_by]
    repository.publish()
    assert client.refresh() == (0 if holds else 1)
    assert client.stored().get(f"{name}.json") == (2 if holds else None)


@pytest.mark.parametrize("is_listed_often", [False, True])
def test_one_signature_many_times_is_not_many(client: Client, is_listed_often: bool) -> None:
    repository = client.repository
    key = repository.signers["snapshot"][0].public_key
    if is_listed_often:
        repository.root.roles["snapshot"].keyids = [key.keyid] * 3
        repository.root.roles["snapshot"].threshold = 2
        next_root(repository)
    repository.publish()
    metadata = json.loads(repository.files["2.snapshot.json"])
    metadata["signatures"] *= 3
    repository.files["2.snapshot.json"] = json.dumps(metadata).encode()
    repository.timestamp.snapshot_meta = MetaFile(2)
    repository.publish_timestamp()
    assert client.refresh() == 1
    assert "snapshot.json" not in client.stored()
