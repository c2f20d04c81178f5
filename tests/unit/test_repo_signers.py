"""Key URIs: what opens, what is refused before it opens, who is asked for a secret, and that no signature leaves that does not hold."""

import logging
import subprocess
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from securesystemslib.signer import AWSSigner, HSMSigner, Key, SecretsHandler, Signature, Signer, SSlibKey

from packager.model.errors import KeyMaterialError
from packager.model.policy import KEY_SCHEMES
from packager.repo.key_files import MIN_PASSPHRASE_CHARACTERS, encode_private
from packager.repo.schemes import PrivateKey, generate, public_half, scheme_of
from packager.repo.signers import import_public, open_signer, path_of
from tests import needs

PASSPHRASE = "correct horse battery staple"


def write(path: Path, private: PrivateKey, passphrase: str | None = None) -> SSlibKey:
    path.write_bytes(encode_private(private, passphrase))
    path.chmod(0o600)
    return public_half(private)


class Asked:
    """Answers every question and keeps them."""

    def __init__(self, answer: str) -> None:
        self.answer = answer
        self.questions: list[str] = []

    def __call__(self, what: str) -> str:
        self.questions.append(what)
        return self.answer


@pytest.mark.parametrize("scheme", KEY_SCHEMES)
def test_every_scheme_signs_from_a_file_with_and_without_passphrase(tmp_path: Path, scheme: str) -> None:
    private = generate(scheme)
    for passphrase in (None, PASSPHRASE):
        path = tmp_path / f"{passphrase}.pem"
        write(path, private, passphrase)
        public = public_half(private, scheme)
        assert scheme_of(public) == scheme
        ask = Asked(PASSPHRASE)
        signer = open_signer(f"file:{path}", public, ask)
        public.verify_signature(signer.sign(b"data"), b"data")
        assert ask.questions == ([f"passphrase of {path}"] if passphrase else [])


def test_relative_path_starts_at_the_base(tmp_path: Path) -> None:
    public = write(tmp_path / "a.pem", generate("ed25519"))
    assert open_signer("file:a.pem", public, base=tmp_path).public_key == public
    with pytest.raises(KeyMaterialError, match="No such file"):
        open_signer("file:b.pem", public, base=tmp_path)


def test_wrong_or_missing_passphrase_is_refused_and_never_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    public = write(tmp_path / "a.pem", generate("ed25519"), PASSPHRASE)
    uri = f"file:{tmp_path / 'a.pem'}"
    caplog.set_level(logging.DEBUG)
    with pytest.raises(KeyMaterialError, match="right passphrase") as caught:
        open_signer(uri, public, Asked("not the passphrase at all"))
    with pytest.raises(KeyMaterialError, match="expected a way to ask for it"):
        open_signer(uri, public)
    open_signer(uri, public, Asked(PASSPHRASE)).sign(b"data")
    said = str(caught.value) + repr(caught.value.__cause__) + caplog.text + "".join(capfd.readouterr())
    assert "not the passphrase at all" not in said
    assert PASSPHRASE not in said


@needs.commands("openssl")
def test_keys_of_other_tools_are_read(tmp_path: Path) -> None:
    """As the README says: scrypt, and the way out of the old form that the hint names."""
    private = generate("ecdsa-sha2-nistp384")
    write(tmp_path / "a.pem", private)
    for arguments, passphrase in (
        (("pkcs8", "-topk8", "-scrypt", "-passout", f"pass:{PASSPHRASE}"), True),
        (("ec", "-no_public"), False),
    ):
        command = ("openssl", *arguments, "-in", "a.pem", "-out", "b.pem")
        subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
        (tmp_path / "b.pem").chmod(0o600)
        if passphrase:
            _, key = import_public("file:b.pem", Asked(PASSPHRASE), base=tmp_path)
            assert key == public_half(private)
        else:
            with pytest.raises(KeyMaterialError, match="PKCS #8") as caught:
                import_public("file:b.pem", base=tmp_path)
            assert caught.value.hint.startswith("openssl pkcs8 -topk8")


@pytest.mark.parametrize("length", [MIN_PASSPHRASE_CHARACTERS - 1, MIN_PASSPHRASE_CHARACTERS])
def test_passphrase_has_a_least_length(length: int) -> None:
    private = generate("ed25519")
    if length < MIN_PASSPHRASE_CHARACTERS:
        with pytest.raises(KeyMaterialError, match="at least 16"):
            encode_private(private, "x" * length)
    else:
        assert b"ENCRYPTED" in encode_private(private, "x" * length)


def test_the_private_key_of_another_pair_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "a.pem", generate("ed25519"))
    for other in ("ed25519", "ml-dsa-65"):
        with pytest.raises(KeyMaterialError, match="does not belong to"):
            open_signer("file:a.pem", public_half(generate(other)), base=tmp_path)


def test_kinds_that_are_not_accepted_are_refused(tmp_path: Path) -> None:
    from cryptography.hazmat.primitives.asymmetric import ec, ed448, rsa

    for private in (
        ec.generate_private_key(ec.SECP521R1()),
        ed448.Ed448PrivateKey.generate(),
        rsa.generate_private_key(65537, 2048),
    ):
        path = tmp_path / "a.pem"
        path.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        path.chmod(0o600)
        with pytest.raises(KeyMaterialError, match="accepted kind"):
            import_public("file:a.pem", base=tmp_path)


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "file",
        "file:",
        "file:a\x00",
        "/keys/a.pem",
        "file2:a.pem",
        "gnupg:0123",
        "hsm:2?pin=1234",
        "hsm:2?label=a&label=b",
        "hsm:2?label=a&pin=1234",
        "hsm:x",
        "hsm:-1",
        "hsm:2?label",
        "awskms:",
    ],
)
def test_uri_that_is_malformed_or_of_an_unknown_scheme_is_refused(uri: str) -> None:
    with pytest.raises(KeyMaterialError, match=r"key URI: found .*expected"):
        open_signer(uri, public_half(generate("ed25519")))
    with pytest.raises(KeyMaterialError, match=r"key URI: found .*expected"):
        import_public(uri)


def test_only_files_have_a_path() -> None:
    assert path_of("file:private/a.pem") == "private/a.pem"
    assert path_of("hsm:2?label=a") is None


@pytest.mark.parametrize(
    ("uri", "module", "scheme", "extra"),
    [
        ("hsm:2?label=a", "hsm", "ecdsa-sha2-nistp384", "hsm"),
        ("awskms:alias/root", "aws", "ecdsa-sha2-nistp384", "aws"),
        ("gcpkms:projects/p/k", "gcp", "ecdsa-sha2-nistp256", "gcp"),
        ("azurekms://v.vault.azure.net/keys/k/1", "azure", "ecdsa-sha2-nistp256", "azure"),
        ("hv:root/1", "vault", "ed25519", "vault"),
    ],
)
def test_missing_library_names_the_extra(
    monkeypatch: pytest.MonkeyPatch, uri: str, module: str, scheme: str, extra: str
) -> None:
    flag = {"hsm": "PKCS11_IMPORT_ERROR"}.get(module, f"{module.upper()}_IMPORT_ERROR")
    monkeypatch.setattr(f"securesystemslib.signer._{module}_signer.{flag}", "it is not there")
    for call in (lambda: open_signer(uri, public_half(generate(scheme)), Asked("")), lambda: import_public(uri)):
        with pytest.raises(KeyMaterialError, match=f"expected the extra '{extra}'") as caught:
            call()
        assert caught.value.hint == f"pip install 'delta-packager[{extra}]'"


def test_hsm_without_a_library_path_says_which_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pkcs11")
    monkeypatch.delenv("PYKCS11LIB", raising=False)
    signer = open_signer("hsm:2?label=a", public_half(generate("ecdsa-sha2-nistp384")), Asked("1234"))
    with pytest.raises(KeyMaterialError, match="PYKCS11LIB") as caught:
        signer.sign(b"data")
    assert "PYKCS11LIB" in caught.value.hint


class Service(Signer):
    """Stands in for a key service."""

    def __init__(self, private: PrivateKey, ask: SecretsHandler | None) -> None:
        self.private, self.ask = private, ask

    @property
    def public_key(self) -> Key:
        return public_half(self.private)

    @classmethod
    def from_priv_key_uri(cls, priv_key_uri: str, public_key: Key, secrets_handler: Any = None) -> Signer:
        raise AssertionError("it was made already")

    def sign(self, payload: bytes) -> Signature:
        if self.ask is not None:
            self.ask("pin")
        if payload == b"fail":
            raise ConnectionError("no route")
        from securesystemslib.signer import CryptoSigner

        return Signature(self.public_key.keyid, CryptoSigner(self.private).sign(payload).signature)


def test_service_that_fails_or_signs_with_another_key_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    right, wrong = generate("ecdsa-sha2-nistp256"), generate("ecdsa-sha2-nistp256")
    for private in (right, wrong):
        monkeypatch.setattr(
            AWSSigner, "from_priv_key_uri", lambda uri, key, ask, private=private: Service(private, None)
        )
        signer = open_signer("awskms:a", public_half(right))
        with pytest.raises(KeyMaterialError, match="awskms:a: ConnectionError: no route"):
            signer.sign(b"fail")
        if private is right:
            public_half(right).verify_signature(signer.sign(b"data"), b"data")
        else:
            with pytest.raises(KeyMaterialError, match="awskms:a: found a key that is not the private half"):
                signer.sign(b"data")


def test_pin_is_asked_once_per_token_and_says_of_which(monkeypatch: pytest.MonkeyPatch) -> None:
    private = generate("ecdsa-sha2-nistp384")
    monkeypatch.setattr(HSMSigner, "from_priv_key_uri", lambda uri, key, ask: Service(private, ask))
    ask = Asked("1234")
    signer = open_signer("hsm:2?label=root-1", public_half(private), ask)
    signer.sign(b"one")
    signer.sign(b"two")
    assert ask.questions == ["PIN of hsm:2?label=root-1"]
