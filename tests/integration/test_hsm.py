"""A root ceremony on real PKCS #11 tokens (SoftHSM2): three custodians, P-384, threshold two; one token lost and replaced."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from securesystemslib.signer import SSlibKey
from tuf.api.metadata import Metadata, Root

from packager.cli import packager
from packager.cli.failure import run
from packager.cli.times import now
from packager.config.policy import read_policy
from packager.model.errors import KeyMaterialError
from packager.model.policy import KeyPolicy, RolePolicy
from packager.repo.ceremony import create_root, load_root, prepare_root, read_root
from packager.repo.keys import load_public, load_public_keys, load_signer, load_signers, public_path
from packager.repo.schemes import scheme_of
from packager.repo.signers import import_public, open_signer
from packager.repo.signing import sign
from packager.repo.staged import read_file
from packager.vehicle.errors import UntrustedError
from packager.vehicle.trust import workflow
from sample_images.catalogue import CATALOGUE, read_catalogue
from sample_images.obtaining import obtain
from sample_images.registry import Registry

PROJECT = Path(__file__).parents[2]
SAMPLE = PROJECT / "keys" / "policy.toml"
NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
LIBRARIES = (
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib64/softhsm/libsofthsm.so",
    "/usr/local/lib/softhsm/libsofthsm2.so",
)
LIBRARY = next((path for path in LIBRARIES if Path(path).exists()), "")
NAMES = ("root-1", "root-2", "root-3", "root-4")
PIN = "648219"
PASSPHRASE = "correct horse battery staple"

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(
        not (LIBRARY and shutil.which("softhsm2-util")), reason="needs the package softhsm2: apt-get install softhsm2"
    ),
]


@pytest.fixture(scope="module", autouse=True)
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Four tokens of one process, each with a P-384 key under id 2, and one that holds a P-521 and an Ed25519 key."""
    pkcs11 = pytest.importorskip("pkcs11", reason="needs python-pkcs11")
    directory = tmp_path_factory.mktemp("softhsm")
    (directory / "tokens").mkdir()
    configuration = directory / "softhsm2.conf"
    configuration.write_text(
        f"directories.tokendir = {directory / 'tokens'}\nobjectstore.backend = file\nlog.level = ERROR\n"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOFTHSM2_CONF", str(configuration))
        patch.setenv("PYKCS11LIB", LIBRARY)
        for label in (*NAMES, "odd"):
            command = (
                "softhsm2-util",
                "--init-token",
                "--free",
                "--label",
                label,
                "--pin",
                PIN,
                "--so-pin",
                "00000000",
            )
            subprocess.run(command, check=True, capture_output=True)
        for label in NAMES:
            make_key(pkcs11, label, 2, "secp384r1")
        make_key(pkcs11, "root-4", 3, "secp256r1")
        make_key(pkcs11, "odd", 2, "secp521r1")
        yield


def make_key(pkcs11: Any, label: str, keyid: int, curve: str) -> None:
    from pkcs11.util.ec import encode_named_curve_parameters

    with pkcs11.lib(LIBRARY).get_token(token_label=label).open(user_pin=PIN, rw=True) as session:
        parameters = {pkcs11.Attribute.EC_PARAMS: encode_named_curve_parameters(curve)}
        domain = session.create_domain_parameters(pkcs11.KeyType.EC, parameters, local=True)
        domain.generate_keypair(id=bytes([keyid]), label=label, store=True)


def pin(what: str) -> str:
    assert what.startswith("PIN of hsm:2?label=root-")
    return PIN


def uri(name: str) -> str:
    return f"hsm:2?label={name}"


@pytest.fixture
def keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Path:
    """The keys of a production policy, made with the command line: root on tokens, the others in files under a passphrase."""
    directory = tmp_path / "keys"
    directory.mkdir()
    text = SAMPLE.read_text().replace("demo = true", "demo = false")
    schemes = "".join(f'{name} = "ecdsa-sha2-nistp384"\n' for name in NAMES[:3])
    (directory / "policy.toml").write_text(f"{text}\n[schemes]\n{schemes}")
    (tmp_path / "pin").write_text(PIN)
    (tmp_path / "passphrase").write_text(PASSPHRASE)
    monkeypatch.setenv("PACKAGER_PIN_FILE", str(tmp_path / "pin"))
    monkeypatch.setenv("PACKAGER_PASSPHRASE_FILE", str(tmp_path / "passphrase"))
    for name in NAMES[:3]:
        assert run(packager, ("keys", "add", name, "--uri", uri(name), "--keys", str(directory)), "packager") == 0
    assert run(packager, ("keys", "create", "--keys", str(directory)), "packager") == 0
    capsys.readouterr()
    return directory


def signed(root: Root, keys: Mapping[str, SSlibKey], *names: str) -> bytes:
    """Each custodian in turn loads what the one before left, signs with the own token and hands it on."""
    data = Metadata(root).to_bytes()
    for name in names:
        metadata: Metadata[Root] = Metadata.from_bytes(data)
        metadata.sign(open_signer(uri(name), keys[name], pin), append=True)
        data = metadata.to_bytes()
    return data


def next_root(policy: KeyPolicy, keys: Mapping[str, SSlibKey], version: int) -> Root:
    root = prepare_root(policy, keys, NOW)
    root.version = version
    return root


def test_root_ceremony_rotation_and_loss_of_a_token(keys: Path) -> None:
    policy = read_policy(keys / "policy.toml")
    public = load_public_keys(policy, keys)
    assert {scheme_of(public[name]) for name in NAMES[:3]} == {"ecdsa-sha2-nistp384"}
    assert not any(path.name.startswith("root-") for path in (keys / "private").iterdir())

    # Version 1: two of three.
    first = prepare_root(policy, public, NOW)
    with pytest.raises(UntrustedError, match="signed by 1 different keys that it trusts for it, expected 2"):
        workflow.read_root(signed(first, public, "root-1"))
    trusted = workflow.read_root(signed(first, public, "root-1", "root-3"))

    # The third token is lost: another one takes its place. Old and new threshold are both met by the two that are left.
    _, public["root-4"] = import_public(uri("root-4"))
    rotated = replace(policy, root=RolePolicy(("root-1", "root-2", "root-4"), 2, 365))
    second = next_root(rotated, public, 2)
    with pytest.raises(UntrustedError, match="signed by 1 different keys that root version 1 trusts"):
        workflow.read_next_root(signed(second, public, "root-1", "root-4"), trusted)
    with pytest.raises(UntrustedError, match="signed by 1 different keys that it trusts"):
        workflow.read_next_root(signed(second, public, "root-1", "root-3"), trusted)
    trusted = workflow.read_next_root(signed(second, public, "root-1", "root-2"), trusted)

    # Whoever finds the lost token can't make a root with it any more, not even together with one custodian.
    third = next_root(rotated, public, 3)
    with pytest.raises(UntrustedError, match="signed by 1 different keys that root version 2 trusts"):
        workflow.read_next_root(signed(third, public, "root-1", "root-3"), trusted)
    assert workflow.read_next_root(signed(third, public, "root-2", "root-4"), trusted).version == 3


def test_ceremony_rotation_and_loss_of_a_token_with_the_commands(
    keys: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`packager repo` with nothing but tokens for the root: by name, by URI, with too few, and with the token that was lost."""
    site = tmp_path / "site"

    def repo(*words: object) -> tuple[int, str]:
        capsys.readouterr()
        code = run(packager, ["repo", *map(str, words), "--keys", str(keys)], "packager")
        shown = capsys.readouterr()
        return code, shown.out + shown.err

    def sign_as(key: str, file: str) -> tuple[int, str]:
        digest = read_file(site / "staged" / file).digest.hex
        return repo("sign", site / "staged" / file, "--key", key, "--sha256", digest)

    assert repo("init", site)[0] == 0
    assert sign_as("root-1", "1.root.json")[0] == 0
    code, shown = repo("publish", site)
    assert (code, "1 of 2 signatures" in shown) == (40, True)
    code, shown = sign_as(uri("root-3"), "1.root.json")
    assert (code, "signed by root-3; root 1 asks for 2, has 2 (root-1, root-3)" in shown) == (0, True), shown
    assert repo("publish", site)[0] == 0
    (keys / "public/root.json").write_bytes((site / "repo/metadata/1.root.json").read_bytes())
    assert repo("status", site)[0] == 0

    # The third token is lost.
    policy = (keys / "policy.toml").read_text()
    (keys / "policy.toml").write_text(policy.replace('"root-3"', '"root-4"').replace("root-3 =", "root-4 ="))
    arguments = ("keys", "add", "root-4", "--uri", uri("root-4"), "--keys", str(keys))
    assert run(packager, arguments, "packager") == 0
    code, shown = repo("propose", site)
    assert (code, "2.root.json" in shown, "1 to sign" in shown) == (0, True, True)
    for key in ("root-4", "root-1"):
        code, shown = sign_as(key, "2.root.json")
        assert (code, "ADDED root-4" in shown, "REMOVED root-3" in shown) == (0, True, True), shown
    code, shown = repo("status", site)
    assert (code, "1 more of root-2, root-3" in shown) == (0, True), shown
    code, shown = repo("publish", site)
    assert (code, "1 of 2 signatures that root 1 demands" in shown) == (40, True), shown
    assert sign_as("root-2", "2.root.json")[0] == 0
    assert repo("publish", site)[0] == 0

    # Whoever finds it can't sign the next root.
    (keys / "policy.toml").write_text(
        (keys / "policy.toml").read_text().replace("expires_days = 365", "expires_days = 300")
    )
    assert repo("propose", site, "--renew", "--warn-days", "3650")[0] == 0
    code, shown = sign_as(uri("root-3"), "3.root.json")
    assert (code, "may not sign for 'root', expected one of root-1, root-2, root-4" in shown) == (30, True), shown
    before = (site / "staged/3.root.json").read_bytes()
    (tmp_path / "pin").write_text("999999")
    code, shown = sign_as("root-1", "3.root.json")
    assert (code, "PinIncorrect" in shown, "999999" in shown) == (30, True, False), shown
    assert (site / "staged/3.root.json").read_bytes() == before
    first = workflow.read_root((site / "repo/metadata/1.root.json").read_bytes())
    assert workflow.read_next_root((site / "repo/metadata/2.root.json").read_bytes(), first).version == 2


def test_tokens_sign_through_the_key_directory_and_the_command_line(keys: Path) -> None:
    policy = read_policy(keys / "policy.toml")
    (keys / "uris.toml").write_text(
        "".join(f'{name} = "{uri(name)}"\n' for name in NAMES[:2])
    )  # the third is elsewhere
    signers = load_signers(keys, [policy.root], pin)
    assert set(signers) == {"root-1", "root-2"}
    assert create_root(policy, keys, NOW, pin)
    assert read_root(load_root(keys)).version == 1
    assert len(json.loads(load_root(keys))["signatures"]) == 2


def test_hybrid_root_of_tokens_and_a_lattice_key(keys: Path) -> None:
    text = (keys / "policy.toml").read_text()
    text = text.replace('"root-3"]\nthreshold = 2', '"root-3", "root-5"]\nthreshold = 3') + 'root-5 = "ml-dsa-65"\n'
    (keys / "policy.toml").write_text(text)
    assert run(packager, ("keys", "create", "root-5", "--keys", str(keys)), "packager") == 0
    policy = read_policy(keys / "policy.toml")

    def ask(what: str) -> str:
        return PIN if what.startswith("PIN") else PASSPHRASE

    signers = load_signers(keys, [policy.root], ask)
    root = prepare_root(policy, load_public_keys(policy, keys), NOW)
    assert workflow.read_root(sign("root", root, policy.root, signers)).version == 1
    without = {name: signer for name, signer in signers.items() if name in ("root-1", "root-2")}
    with pytest.raises(UntrustedError, match="signed by 2 different keys that it trusts for it, expected 3"):
        workflow.read_root(sign("root", root, replace(policy.root, threshold=2), without))


def test_release_is_built_with_tokens_passphrases_and_all_kinds_of_keys(
    keys: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Root and timestamp on tokens, the rest in files under a passphrase; layout and steps of other kinds than the default, too."""
    others = {
        "targets-1": "ml-dsa-44",
        "snapshot": "ecdsa-sha2-nistp256",
        "layout-owner": "ml-dsa-65",
        "diff": "rsassa-pss-sha256",
    }
    policy = (keys / "policy.toml").read_text()
    (keys / "policy.toml").write_text(policy + "".join(f'{name} = "{scheme}"\n' for name, scheme in others.items()))
    for name in (*others, "timestamp"):
        (keys / "private" / f"{name}.pem").unlink()
        public_path(keys, name).unlink()
    assert run(packager, ("keys", "add", "timestamp", "--uri", uri("root-4"), "--keys", str(keys)), "packager") == 0
    assert run(packager, ("keys", "create", "--keys", str(keys)), "packager") == 0
    create_root(read_policy(keys / "policy.toml"), keys, now(), pin)
    wanted = [image for image in read_catalogue(CATALOGUE) if image.kind.startswith("small-")]
    obtain(wanted, tmp_path / "images", Registry(tmp_path / "cache", None), lambda _: None)
    shutil.copy(PROJECT / "sample_images" / "small.toml", tmp_path)
    arguments = ("build", str(tmp_path / "small.toml"), "--out", str(tmp_path / "out"), "--keys", str(keys), "--jobs=1")
    assert run(packager, arguments, "packager") == 0, capsys.readouterr().err
    arguments = (
        "verify",
        str(tmp_path / "out"),
        "--root",
        str(keys / "public/root.json"),
        "--images",
        str(tmp_path / "images"),
    )
    assert run(packager, arguments, "packager") == 0, capsys.readouterr().err
    written = b"".join(path.read_bytes() for path in (tmp_path / "out").rglob("*.json"))
    assert PIN.encode() not in written
    assert PASSPHRASE.encode() not in written


def test_wrong_pin_missing_token_and_missing_key_are_told_apart(keys: Path) -> None:
    public = load_public(keys, "root-1")
    for place, answer, message in (
        (uri("root-1"), "999999", "PinIncorrect"),
        (uri("nobody"), PIN, "No PKCS#11 token found for label nobody"),
        ("hsm:9?label=root-1", PIN, "could not find ECDSA private key"),
        ("hsm:", PIN, "Multiple PKCS#11 tokens found"),
    ):
        with pytest.raises(KeyMaterialError, match=message) as caught:
            open_signer(place, public, lambda _, answer=answer: answer).sign(b"data")
        assert answer not in str(caught.value)
        assert str(caught.value).startswith(place)
    open_signer(uri("root-1"), public, pin).sign(b"data")
    with pytest.raises(KeyMaterialError, match=r"role 'root': key 'root-1' can't sign: .*PinIncorrect") as caught:
        create_root(read_policy(keys / "policy.toml"), keys, NOW, lambda _: "999999")
    assert "PIN" in caught.value.hint


def test_another_key_behind_the_uri_gives_no_signature(keys: Path) -> None:
    """Two tokens under one label, or the wrong one in the reader: the signature would be worth nothing, and nobody would know why."""
    (keys / "uris.toml").write_text(f'root-1 = "{uri("root-2")}"\n')
    with pytest.raises(KeyMaterialError, match="not the private half"):
        load_signer(keys, "root-1", pin).sign(b"data")
    with pytest.raises(KeyMaterialError, match="root-4"):  # P-256 where P-384 was promised
        open_signer("hsm:3?label=root-4", load_public(keys, "root-1"), lambda _: PIN).sign(b"data")


def test_curve_that_is_not_accepted_is_not_taken_in(keys: Path) -> None:
    with pytest.raises(KeyMaterialError, match=r"hsm:2\?label=odd"):
        import_public("hsm:2?label=odd")
    public_path(keys, "root-1").unlink()
    (keys / "uris.toml").unlink()
    arguments = ("keys", "add", "root-1", "--uri", "hsm:3?label=root-4", "--keys", str(keys))
    assert run(packager, arguments, "packager") == 30  # the policy wants P-384
    assert not public_path(keys, "root-1").exists()


def test_pin_is_not_in_any_file_of_the_keys(keys: Path) -> None:
    assert not [path for path in keys.rglob("*") if path.is_file() and PIN.encode() in path.read_bytes()]
    assert PIN not in json.dumps(dict(os.environ))
