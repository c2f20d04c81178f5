"""Key files: their modes, that nothing is ever overwritten, and that an unfit key is refused before it signs."""

import json
import os
import stat
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, Root

from packager.model.errors import KeyMaterialError, RepositoryError
from packager.model.policy import KeyPolicy, RolePolicy, key_names
from packager.repo.ceremony import create_root, load_root, read_root
from packager.repo.files import write_once
from packager.repo.key_creation import create_keys
from packager.repo.keys import (
    is_demo,
    load_public,
    load_public_keys,
    load_signer,
    load_signers,
    private_path,
    public_path,
    root_path,
)

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
ONE = {"threshold": 1, "expires_days": 30}
POLICY = KeyPolicy(
    demo=True,
    root=RolePolicy(("root-1", "root-2", "root-3"), 2, 365),
    targets=RolePolicy(("targets-1", "targets-2"), 2, 90),
    snapshot=RolePolicy(("snapshot",), **ONE),
    timestamp=RolePolicy(("timestamp",), **ONE),
    domains={"body": RolePolicy(("body",), **ONE)},
    layout=RolePolicy(("layout-owner",), **ONE),
    steps={"collect": RolePolicy(("collect",), **ONE)},
)


def tree(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    create_keys(POLICY, tmp_path / "keys")
    return tmp_path / "keys"


def test_creates_every_pair_with_narrow_modes_whatever_the_umask(tmp_path: Path) -> None:
    old_umask = os.umask(0)
    try:
        created = create_keys(POLICY, tmp_path)
    finally:
        os.umask(old_umask)
    assert created.created == key_names(POLICY)
    assert created.existing == ()
    assert stat.S_IMODE((tmp_path / "private").stat().st_mode) == 0o700
    assert {path.name for path in (tmp_path / "private").iterdir()} == {f"{name}.pem" for name in key_names(POLICY)}
    for name in key_names(POLICY):
        assert stat.S_IMODE(private_path(tmp_path, name).stat().st_mode) == 0o600
        assert load_signer(tmp_path, name).public_key == load_public(tmp_path, name)


def test_private_key_is_never_open_while_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    real = os.link

    def link(source: str, target: Path) -> None:
        seen.append(stat.S_IMODE(Path(source).stat().st_mode))
        real(source, target)

    monkeypatch.setattr(os, "fchmod", lambda *_: None)  # so that only the mode at creation counts
    monkeypatch.setattr(os, "link", link)
    create_keys(POLICY, tmp_path)
    assert set(seen) == {0o600}


def test_demo_marker_stands_in_public_key_and_not_otherwise(tmp_path: Path, keys: Path) -> None:
    assert json.loads(public_path(keys, "body").read_bytes())["x-packager-demo"] is True
    assert is_demo(load_public(keys, "body"))
    create_keys(
        replace(POLICY, demo=False), tmp_path / "real", new_passphrase=lambda name: f"a long passphrase of {name}"
    )
    assert not is_demo(load_public(tmp_path / "real", "body"))


def test_second_run_changes_nothing(keys: Path) -> None:
    before = tree(keys)
    again = create_keys(POLICY, keys)
    assert again.created == ()
    assert again.existing == key_names(POLICY)
    assert tree(keys) == before


def test_a_new_domain_gets_its_key_and_the_others_stay(keys: Path) -> None:
    create_root(POLICY, keys, NOW)
    before = tree(keys)
    private_path(keys, "body").unlink()
    public_path(keys, "body").unlink()
    assert create_keys(POLICY, keys).created == ("body",)
    after = tree(keys)
    assert {name for name in before if before[name] != after[name]} == {"private/body.pem", "public/body.json"}


def test_public_key_is_restored_from_its_private_one(keys: Path) -> None:
    before = tree(keys)
    public_path(keys, "root-1").unlink()
    assert create_keys(POLICY, keys).created == ()
    assert tree(keys) == before


def test_lost_private_key_is_not_replaced(keys: Path) -> None:
    private_path(keys, "root-2").unlink()
    private_path(keys, "body").unlink()
    public_path(keys, "body").unlink()
    before = tree(keys)
    with pytest.raises(KeyMaterialError, match=r"root-2.*without its private key") as caught:
        create_keys(POLICY, keys)
    assert "restore" in caught.value.hint
    assert tree(keys) == before


def test_new_key_for_a_role_of_a_signed_root_is_refused(keys: Path) -> None:
    create_root(POLICY, keys, NOW)
    private_path(keys, "targets-1").unlink()
    public_path(keys, "targets-1").unlink()
    before = tree(keys)
    with pytest.raises(KeyMaterialError, match="before key 'targets-1' existed"):
        create_keys(POLICY, keys)
    assert tree(keys) == before


def test_open_private_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "private").mkdir()
    (tmp_path / "private").chmod(0o750)
    with pytest.raises(KeyMaterialError, match="found mode 0750, expected 0700"):
        create_keys(POLICY, tmp_path)
    assert tree(tmp_path) == {}


@pytest.mark.parametrize(
    ("mode", "accepted"), [(0o600, True), (0o400, True), (0o640, False), (0o604, False), (0o610, False)]
)
def test_private_key_open_to_others_is_refused(keys: Path, mode: int, accepted: bool) -> None:
    private_path(keys, "body").chmod(mode)
    if accepted:
        load_signer(keys, "body")
    else:
        with pytest.raises(KeyMaterialError, match=f"found mode {mode:04o}, expected 0600") as caught:
            load_signer(keys, "body")
        assert "chmod 600" in caught.value.hint


def test_missing_keys_say_how_to_make_them(tmp_path: Path) -> None:
    for call in (load_public, load_signer):
        with pytest.raises(KeyMaterialError) as caught:
            call(tmp_path, "body")
        assert caught.value.hint == "packager keys create"
        assert caught.value.exit_code == 30


def test_private_key_of_another_pair_is_refused(keys: Path) -> None:
    private_path(keys, "body").write_bytes(private_path(keys, "snapshot").read_bytes())
    with pytest.raises(KeyMaterialError, match="does not belong to"):
        load_signer(keys, "body")


def test_private_key_must_be_pkcs8_of_the_same_kind(keys: Path) -> None:
    other_kind = generate_private_key(SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    old_form = generate_private_key(SECP256R1()).private_bytes(
        Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()
    )
    for content, message in (
        (other_kind, "does not belong to"),
        (old_form, "PKCS #8"),
        (b"junk", "PKCS #8"),
        (b"x" * 20000, "more"),
    ):
        private_path(keys, "body").write_bytes(content)
        with pytest.raises(KeyMaterialError, match=message):
            load_signer(keys, "body")


@pytest.mark.parametrize(
    "change",
    [
        {"keyid": "ab" * 32},
        {"keytype": "rsa"},
        {"scheme": "ecdsa-sha2-nistp256"},
        {"keyval": {"public": "ab"}},
        {"keyval": 7},
        {"keyid": None},
    ],
)
def test_public_key_must_be_ed25519_under_its_own_id(keys: Path, change: dict[str, object]) -> None:
    path = public_path(keys, "body")
    path.write_text(json.dumps({**json.loads(path.read_bytes()), **change}))
    with pytest.raises(KeyMaterialError, match="expected"):
        load_public(keys, "body")


@pytest.mark.parametrize("content", [b'{"keyid": "a", "keyid": "a"}', b"[]", b"{", b"\xff", b'{"keyid": 1.5}'])
def test_public_key_is_strict_json(keys: Path, content: bytes) -> None:
    public_path(keys, "body").write_bytes(content)
    with pytest.raises(KeyMaterialError, match="expected"):
        load_public(keys, "body")


def test_one_key_under_two_names_is_refused(keys: Path) -> None:
    for path in (private_path, public_path):
        path(keys, "root-2").write_bytes(path(keys, "root-1").read_bytes())
    with pytest.raises(KeyMaterialError, match="'root-1' and 'root-2': found the same key"):
        load_public_keys(POLICY, keys)


@pytest.mark.parametrize(("lost", "enough"), [(1, True), (2, False)])
def test_signers_need_the_threshold(keys: Path, lost: int, enough: bool) -> None:
    for name in POLICY.root.keys[:lost]:
        private_path(keys, name).unlink()
    if enough:
        assert sorted(load_signers(keys, [POLICY.root])) == ["root-2", "root-3"]
    else:
        with pytest.raises(KeyMaterialError, match="found 1 of 3 keys, expected 2; missing: root-1, root-2"):
            load_signers(keys, [POLICY.root])


def test_write_once_leaves_what_stands_there(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_once(path, b"first", 0o600)
    with pytest.raises(FileExistsError):
        write_once(path, b"second", 0o600)
    assert tree(tmp_path) == {"file": b"first"}


def test_root_is_version_1_signed_by_all_and_says_what_the_policy_says(keys: Path) -> None:
    assert create_root(POLICY, keys, NOW)
    metadata: Metadata[Root] = Metadata.from_bytes(load_root(keys))
    root = metadata.signed
    assert len(metadata.signatures) == 3
    assert (root.version, root.consistent_snapshot, root.expires) == (1, True, NOW + timedelta(days=365))
    assert root.unrecognized_fields == {"x-packager-demo": True}
    assert (root.roles["root"].threshold, root.roles["targets"].threshold, root.roles["snapshot"].threshold) == (
        2,
        2,
        1,
    )
    assert all(is_demo(key) for key in root.keys.values())
    assert set(root.keys) == {load_public(keys, name).keyid for name in key_names(POLICY)[:7]}


def test_root_is_not_made_twice_and_not_replaced(keys: Path) -> None:
    create_root(POLICY, keys, NOW)
    before = tree(keys)
    assert not create_root(POLICY, keys, NOW + timedelta(days=1))
    stricter = KeyPolicy(
        True, RolePolicy(POLICY.root.keys, 3, 365), *[getattr(POLICY, name) for name in KeyPolicy.__slots__[2:]]
    )
    with pytest.raises(KeyMaterialError, match="differ from the policy"):
        create_root(stricter, keys, NOW)
    assert tree(keys) == before
    root_path(keys).write_bytes(before["public/root.json"].replace(b'"version":1', b'"version":2'))
    with pytest.raises(KeyMaterialError, match="signed by 0 different keys"):
        create_root(POLICY, keys, NOW)


def test_root_needs_its_threshold(keys: Path) -> None:
    for name in ("root-1", "root-3"):
        private_path(keys, name).unlink()
    with pytest.raises(KeyMaterialError, match="found 1 of 3 keys"):
        create_root(POLICY, keys, NOW)
    assert not root_path(keys).exists()


def test_same_keys_and_time_give_the_same_root(tmp_path: Path, keys: Path) -> None:
    create_root(POLICY, keys, NOW)
    first = load_root(keys)
    root_path(keys).unlink()
    create_root(POLICY, keys, NOW)
    assert load_root(keys) == first


@pytest.mark.parametrize("issued_at", [NOW.replace(tzinfo=None), NOW.replace(microsecond=1)])
def test_time_of_issue_is_whole_seconds_of_utc(keys: Path, issued_at: datetime) -> None:
    with pytest.raises(RepositoryError, match="whole seconds"):
        create_root(POLICY, keys, issued_at)


def test_missing_root_says_how_to_make_it(tmp_path: Path) -> None:
    with pytest.raises(KeyMaterialError) as caught:
        load_root(tmp_path)
    assert caught.value.hint == "packager keys create"


def test_root_with_one_key_under_two_ids_is_refused(keys: Path) -> None:
    create_root(POLICY, keys, NOW)
    metadata: Metadata[Root] = Metadata.from_bytes(load_root(keys))
    metadata.signatures.clear()
    double = type(load_public(keys, "root-1")).from_dict("ab" * 32, load_public(keys, "root-1").to_dict())
    metadata.signed.add_key(double, "root")
    signer = load_signer(keys, "root-1")
    metadata.sign(signer)
    metadata.sign(CryptoSigner(signer._private_key, double), append=True)  # type: ignore[attr-defined]
    with pytest.raises(RepositoryError, match="signed by 1 different keys"):
        read_root(metadata.to_bytes())
