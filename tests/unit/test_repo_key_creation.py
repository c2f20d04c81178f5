"""Keys beyond the demo set: passphrases, schemes of the policy, single names, and keys that are taken in from elsewhere."""

import base64
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from packager.model.errors import ConfigError, KeyMaterialError
from packager.model.policy import KEY_SCHEMES, KeyPolicy, RolePolicy, key_names
from packager.repo import key_files
from packager.repo.ceremony import create_root
from packager.repo.key_creation import add_key, create_keys
from packager.repo.key_files import encode_private
from packager.repo.keys import (
    is_demo,
    is_here,
    key_uri,
    load_public,
    load_public_keys,
    load_signer,
    load_signers,
    private_path,
    public_path,
)
from packager.repo.schemes import PrivateKey, generate, scheme_of
from tests.unit.test_repo_keys import NOW, POLICY, tree

REAL = replace(POLICY, demo=False)


@pytest.fixture(autouse=True)
def quick_passphrases(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is slow to guess is slow to set, and hundreds of keys are made here."""
    if request.function is not test_passphrases_are_slow_to_guess:
        monkeypatch.setattr(key_files, "SCRYPT_N", 2)


def new_passphrase(name: str) -> str:
    return f"the long passphrase of {name}"


def ask(what: str) -> str:
    return new_passphrase(Path(what.removeprefix("passphrase of ")).stem)


def pem(path: Path, private: PrivateKey) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode_private(private, None))
    path.chmod(0o600)
    return f"file:{path}"


def test_keys_that_are_no_demo_are_under_a_passphrase_each(tmp_path: Path) -> None:
    create_keys(REAL, tmp_path, (), new_passphrase)
    for name in key_names(REAL):
        assert b"ENCRYPTED" in private_path(tmp_path, name).read_bytes()
        assert load_signer(tmp_path, name, ask).public_key == load_public(tmp_path, name)
        assert not is_demo(load_public(tmp_path, name))
    with pytest.raises(KeyMaterialError, match="right passphrase"):
        load_signer(tmp_path, "body", lambda _: "the long passphrase of another")
    before = tree(tmp_path)
    assert create_keys(REAL, tmp_path).created == ()  # nobody is asked about keys that are there
    assert tree(tmp_path) == before


def test_keys_that_are_no_demo_are_not_made_in_the_clear(tmp_path: Path) -> None:
    for asker in (None, lambda _: "short"):
        with pytest.raises(KeyMaterialError, match="passphrase"):
            create_keys(REAL, tmp_path, (), asker)
    assert tree(tmp_path) == {}


def test_passphrases_are_slow_to_guess(tmp_path: Path) -> None:
    """As it stands in the file: scrypt (1.3.6.1.4.1.11591.4.11) with N 16,384, r 8, p 5."""
    create_keys(REAL, tmp_path, ("body",), new_passphrase)
    lines = private_path(tmp_path, "body").read_text().splitlines()
    der = base64.b64decode("".join(lines[1:-1]))
    assert bytes.fromhex("06092b06010401da47040b") in der
    assert bytes.fromhex("02024000020108020105") in der
    assert load_signer(tmp_path, "body", ask).public_key == load_public(tmp_path, "body")


def test_lost_passphrase_still_gives_no_second_key(tmp_path: Path) -> None:
    create_keys(REAL, tmp_path, (), new_passphrase)
    private_path(tmp_path, "body").unlink()
    before = tree(tmp_path)
    assert create_keys(REAL, tmp_path, (), new_passphrase).existing == key_names(REAL)
    assert tree(tmp_path) == before


@pytest.mark.parametrize("scheme", KEY_SCHEMES)
def test_policy_chooses_the_scheme(tmp_path: Path, scheme: str) -> None:
    policy = replace(POLICY, schemes={"body": scheme})
    create_keys(policy, tmp_path, ["body", "snapshot"])
    assert scheme_of(load_public(tmp_path, "body")) == scheme
    assert scheme_of(load_public(tmp_path, "snapshot")) == "ed25519"
    load_signer(tmp_path, "body").sign(b"data")


def test_key_of_another_scheme_than_the_policy_says_is_refused(tmp_path: Path) -> None:
    create_keys(POLICY, tmp_path)
    load_public_keys(POLICY, tmp_path)
    with pytest.raises(KeyMaterialError, match="'body': found the scheme 'ed25519', expected 'ml-dsa-65'"):
        load_public_keys(replace(POLICY, schemes={"body": "ml-dsa-65"}), tmp_path)


def test_demo_keys_are_refused_by_a_policy_that_is_no_demo(tmp_path: Path) -> None:
    create_keys(POLICY, tmp_path)
    with pytest.raises(KeyMaterialError, match="found a demo key"):
        load_public_keys(REAL, tmp_path)


def test_names_make_these_keys_only_even_for_a_role_of_a_signed_root(tmp_path: Path) -> None:
    assert create_keys(POLICY, tmp_path, ["root-1"]).created == ("root-1",)
    assert set(tree(tmp_path)) == {"private/root-1.pem", "public/root-1.json"}
    create_keys(POLICY, tmp_path)
    create_root(POLICY, tmp_path, NOW)
    wider = replace(POLICY, root=RolePolicy((*POLICY.root.keys, "root-4"), 2, 365))
    with pytest.raises(KeyMaterialError, match="before key 'root-4' existed") as caught:
        create_keys(wider, tmp_path)
    assert "name it" in caught.value.hint
    assert create_keys(wider, tmp_path, ["root-4"]).created == ("root-4",)


def test_name_that_no_role_lists_is_refused(tmp_path: Path) -> None:
    for call in (
        lambda: create_keys(POLICY, tmp_path, ["nobody"]),
        lambda: add_key(POLICY, tmp_path, "nobody", pem(tmp_path / "a.pem", generate("ed25519"))),
    ):
        with pytest.raises(KeyMaterialError, match="'nobody': found no role"):
            call()


@pytest.mark.parametrize("policy", [POLICY, REAL])
def test_added_key_signs_and_is_known_by_its_uri(tmp_path: Path, policy: KeyPolicy) -> None:
    keys = tmp_path / "keys"
    uri, key = add_key(policy, keys, "root-2", pem(tmp_path / "safe" / "a.pem", generate("ecdsa-sha2-nistp384")))
    assert uri == key_uri(keys, "root-2") == f"file:{tmp_path / 'safe' / 'a.pem'}"
    assert is_demo(load_public(keys, "root-2")) is policy.demo
    assert not private_path(keys, "root-2").exists()
    key.verify_signature(load_signer(keys, "root-2").sign(b"data"), b"data")
    before = tree(tmp_path)
    add_key(policy, keys, "root-2", uri)
    assert tree(tmp_path) == before
    add_key(policy, keys, "root-1", pem(tmp_path / 'with "quotes" ä.pem', generate("ed25519")))
    assert load_signer(keys, "root-1").public_key == load_public(keys, "root-1")
    assert create_keys(policy, keys, (), new_passphrase).existing == ("root-1", "root-2")


def test_relative_path_of_an_added_key_starts_where_the_caller_says(tmp_path: Path) -> None:
    pem(tmp_path / "safe" / "a.pem", generate("ed25519"))
    uri, _ = add_key(POLICY, tmp_path / "keys", "body", "file:a.pem", base=tmp_path / "safe")
    assert uri == f"file:{tmp_path / 'safe' / 'a.pem'}"


def test_added_key_in_its_usual_place_needs_no_uri(tmp_path: Path) -> None:
    add_key(POLICY, tmp_path, "body", pem(private_path(tmp_path, "body"), generate("ed25519")))
    assert set(tree(tmp_path)) == {"private/body.pem", "public/body.json"}
    load_signer(tmp_path, "body")


def test_nothing_is_replaced_by_an_added_key(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    first = generate("ed25519")
    add_key(POLICY, keys, "body", pem(tmp_path / "a.pem", first))
    for name, path, private, message in (
        ("body", "b.pem", generate("ed25519"), "found another key"),
        ("body", "c.pem", first, "found the URI"),
        ("snapshot", "a.pem", first, "found the same key"),
    ):
        uri = pem(tmp_path / path, private)
        before = tree(keys)
        with pytest.raises(KeyMaterialError, match=message):
            add_key(POLICY, keys, name, uri)
        assert tree(keys) == before


def test_added_key_must_have_the_scheme_of_the_policy(tmp_path: Path) -> None:
    uri = pem(tmp_path / "a.pem", generate("ed25519"))
    with pytest.raises(KeyMaterialError, match="expected 'ml-dsa-65' as the policy says"):
        add_key(replace(POLICY, schemes={"body": "ml-dsa-65"}), tmp_path / "keys", "body", uri)
    assert not (tmp_path / "keys").exists()


def test_uri_without_its_public_half_says_how_to_add_it(tmp_path: Path) -> None:
    (tmp_path / "uris.toml").write_text('body = "hsm:2?label=body"\n')
    with pytest.raises(KeyMaterialError, match=r"expected .*body.json, too") as caught:
        create_keys(POLICY, tmp_path)
    assert caught.value.hint.startswith("packager keys add body")


@pytest.mark.parametrize(
    ("uri", "here"), [("hsm:2?label=a", True), ("file:private/other.pem", True), ("file:/nowhere/a.pem", False)]
)
def test_what_is_here_follows_the_uri(tmp_path: Path, uri: str, here: bool) -> None:
    create_keys(POLICY, tmp_path)
    private_path(tmp_path, "root-1").rename(tmp_path / "private" / "other.pem")
    (tmp_path / "uris.toml").write_text(f'root-1 = "{uri}"\n')
    assert is_here(tmp_path, "root-1") is here
    if not uri.startswith("hsm"):
        assert ("root-1" in load_signers(tmp_path, [POLICY.root])) is here


def test_bad_uris_stop_before_anything_is_opened(tmp_path: Path) -> None:
    create_keys(POLICY, tmp_path)
    calls: list[Callable[[], object]] = [
        lambda: load_signer(tmp_path, "body"),
        lambda: create_keys(POLICY, tmp_path),
        lambda: is_here(tmp_path, "body"),
    ]
    for text, error in (("body = 7", ConfigError), ('body = "pgp:x"', KeyMaterialError)):
        (tmp_path / "uris.toml").write_text(text)
        for call in calls[:1] + calls[2:]:
            with pytest.raises(error):
                call()
    assert public_path(tmp_path, "body").exists()
