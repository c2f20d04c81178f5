"""Opens private keys by URI: files, PKCS #11 tokens and key services. Knows nothing of what is signed.

========================  ==========================================================  ==========
``file:PATH``             PKCS #8 in PEM form, with or without a passphrase
``hsm:ID?label=TOKEN``    PKCS #11 token, library in ``PYKCS11LIB``; P-256 and P-384  extra hsm
``awskms:KEY``            AWS KMS                                                     extra aws
``gcpkms:KEY``            Google Cloud KMS                                            extra gcp
``azurekms://HOST/PATH``  Azure Key Vault; P-256 and P-384                            extra azure
``hv:NAME/VERSION``       HashiCorp Vault, Ed25519                                    extra vault
========================  ==========================================================  ==========
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

from securesystemslib.exceptions import KeyMismatchError, UnsupportedLibraryError
from securesystemslib.signer import (
    AWSSigner,
    AzureSigner,
    CryptoSigner,
    GCPSigner,
    HSMSigner,
    Key,
    SecretsHandler,
    Signature,
    Signer,
    SSlibKey,
    VaultSigner,
)

from packager.model.errors import KeyMaterialError
from packager.repo.key_files import read_private
from packager.repo.schemes import canonical, check_public, public_half

FILE: Final = "file"
_RESTORE: Final = "restore the file, or say where the key lies; see keys/README.md"
_HSM: Final = "hsm"
_VERSIONED: Final = frozenset({"azurekms", "hv"})
"""Their clients look up the newest version of a key and no other."""
_HSM_URI: Final = "hsm:ID?label=TOKEN, ID a number (2 is the signature slot of a PIV card)"


@dataclass(frozen=True, slots=True)
class _Service:
    """How to reach one kind of token or service: the signer, the extra that installs it, and what to look at if it fails."""

    signer: type[Signer]
    extra: str
    hint: str


_SERVICES: Final[Mapping[str, _Service]] = {
    _HSM: _Service(
        HSMSigner,
        "hsm",
        "check the token, its PIN, and PYKCS11LIB, the path of its PKCS #11 library; see keys/README.md",
    ),
    "awskms": _Service(AWSSigner, "aws", "check awskms:KEY_ID, the region and the credentials of AWS"),
    "gcpkms": _Service(
        GCPSigner, "gcp", "check gcpkms:projects/.../cryptoKeyVersions/N and the credentials of Google Cloud"
    ),
    "azurekms": _Service(
        AzureSigner, "azure", "check azurekms://VAULT.vault.azure.net/keys/NAME/VERSION and the login to Azure"
    ),
    "hv": _Service(VaultSigner, "vault", "check hv:NAME/VERSION, VAULT_ADDR and VAULT_TOKEN"),
}


class _ServiceSigner(Signer):
    """Signs with a key of a token or a service, and hands over no signature that its public half does not verify.

    What is behind the URI is outside this program's sight: another token under the same label, another version of a key. Its errors are of
    any class (securesystemslib says so), and are turned into one.
    """

    def __init__(self, uri: str, public_key: SSlibKey, signer: Signer) -> None:
        self._uri = uri
        self._public_key = public_key
        self._signer = signer

    @classmethod
    def from_priv_key_uri(
        cls, priv_key_uri: str, public_key: Key, secrets_handler: SecretsHandler | None = None
    ) -> Signer:
        return open_signer(priv_key_uri, check_public(public_key), secrets_handler)

    @property
    def public_key(self) -> SSlibKey:
        return self._public_key

    def sign(self, payload: bytes) -> Signature:
        try:
            signature = self._signer.sign(payload)
        except Exception as error:
            raise _failed(self._uri, error) from error
        try:
            self._public_key.verify_signature(signature, payload)
        except Exception as error:
            raise KeyMaterialError(
                f"{self._uri}: found a key that is not the private half of {self._public_key.keyid}",
                hint="check the token or the version of the key behind the URI",
            ) from error
        return signature


def open_signer(
    uri: str, public_key: SSlibKey, secrets_handler: SecretsHandler | None = None, *, base: Path = Path()
) -> Signer:
    """Open the private half of a key.

    Args:
        uri: Where it lies, see above. Holds no secret.
        public_key: Its public half.
        secrets_handler: Is told what is wanted, for example ``PIN of hsm:2?label=root-1``, and returns it. Called once for a file with a
            passphrase, and once for a token, when it signs for the first time.
        base: Where relative paths of ``file:`` start.

    Raises:
        KeyMaterialError: The URI is malformed or of an unknown scheme; what it needs is not installed; the key can't be read or reached, or
            is not the private half. A token that is missing is noticed when it signs.
    """
    scheme, rest = _split(uri)
    if scheme == FILE:
        private = read_private(base / rest, f"the private key of {public_key.keyid[:16]}", secrets_handler, _RESTORE)
        try:
            return CryptoSigner(private, public_key)
        except (KeyMismatchError, ValueError) as error:
            raise KeyMaterialError(
                f"{base / rest}: does not belong to the public key {public_key.keyid}",
                hint="restore the pair from one backup",
            ) from error
    try:
        signer = _SERVICES[scheme].signer.from_priv_key_uri(uri, public_key, _ask_once(uri, secrets_handler))
    except Exception as error:
        raise _failed(uri, error) from error
    return _ServiceSigner(uri, public_key, signer)


def import_public(
    uri: str, secrets_handler: SecretsHandler | None = None, *, base: Path = Path()
) -> tuple[str, SSlibKey]:
    """Read the public half of a key that lies elsewhere.

    Args:
        uri: Where its private half lies. The version may be left out of ``azurekms:`` and ``hv:``: the newest is taken.
        secrets_handler: As for `open_signer`.
        base: Where relative paths of ``file:`` start.

    Returns:
        The URI to keep, with token and version filled in, and the key.

    Raises:
        KeyMaterialError: As `open_signer`; the key is of a kind that is not accepted; another version than the newest was named.
    """
    scheme, rest = _split(uri)
    if scheme == FILE:
        return uri, public_half(read_private(base / rest, "a private key", secrets_handler))
    ask = _ask_once(uri, secrets_handler)
    try:
        found_uri, key = _import(scheme, rest, ask)
        public_key = check_public(canonical(key))
    except Exception as error:
        raise _failed(uri, error) from error
    if scheme in _VERSIONED and rest.count("/") == found_uri.partition(":")[2].count("/") and uri != found_uri:
        raise KeyMaterialError(
            f"{uri}: found {found_uri} as the newest version, expected that one",
            hint="name it, or leave the version out",
        )
    return found_uri, public_key


def path_of(uri: str) -> str | None:
    """Return the path of a ``file:`` URI, None for any other.

    Raises:
        KeyMaterialError: The URI is malformed or of an unknown scheme.
    """
    scheme, rest = _split(uri)
    return rest if scheme == FILE else None


def _split(uri: str) -> tuple[str, str]:
    scheme, colon, rest = uri.partition(":")
    if not colon or scheme not in {FILE, *_SERVICES}:
        raise KeyMaterialError(
            f"key URI: found {uri!r}, expected {', '.join(f'{known}:...' for known in (FILE, *_SERVICES))}",
            hint="file:PATH is a PEM file",
        )
    if scheme == _HSM:
        _parse_hsm(uri)
    elif not rest or not rest.isprintable():
        raise KeyMaterialError(f"key URI: found {uri!r}, expected {scheme}: followed by a name")
    return scheme, rest


def _parse_hsm(uri: str) -> tuple[int | None, str | None]:
    parts = urlsplit(uri)
    try:
        query = parse_qsl(parts.query, strict_parsing=True) if parts.query else []
    except ValueError:
        query = [("?", "")]
    if [name for name, _ in query] not in ([], ["label"]) or not re.fullmatch(r"[0-9]{0,9}", parts.path):
        raise KeyMaterialError(
            f"key URI: found {uri!r}, expected {_HSM_URI}", hint="a PIN is asked for, never given in a URI"
        )
    return int(parts.path) if parts.path else None, query[0][1] if query else None


def _import(scheme: str, rest: str, ask: SecretsHandler | None) -> tuple[str, Any]:
    if scheme == _HSM:
        keyid, label = _parse_hsm(f"{scheme}:{rest}")
        return HSMSigner.import_(keyid, label, ask)
    if scheme == "azurekms":  # ://VAULT.vault.azure.net/keys/NAME/VERSION
        parts = urlsplit(rest)
        return AzureSigner.import_(parts.netloc.split(".")[0], parts.path.split("/")[2])
    if scheme == "hv":
        return VaultSigner.import_(rest.split("/")[0])
    return AWSSigner.import_(rest) if scheme == "awskms" else GCPSigner.import_(rest)


def _ask_once(uri: str, ask: SecretsHandler | None) -> SecretsHandler | None:
    """Return a handler that asks once per URI: a signer asks anew for every signature."""
    if ask is None:
        return None
    answers: list[str] = []

    def answer(secret: str) -> str:
        if not answers:
            answers.append(ask(f"{secret.upper() if secret == HSMSigner.SECRETS_HANDLER_MSG else secret} of {uri}"))
        return answers[0]

    return answer


def _failed(uri: str, error: Exception) -> KeyMaterialError:
    """Return the error for whatever a token, a service or its library raised."""
    if isinstance(error, KeyMaterialError):
        return error
    service = _SERVICES[uri.partition(":")[0]]
    if isinstance(error, UnsupportedLibraryError):
        return KeyMaterialError(
            f"{uri}: found no library for this kind of key, expected the extra {service.extra!r}",
            hint=f"pip install 'delta-packager[{service.extra}]'",
        )
    return KeyMaterialError(f"{uri}: {type(error).__name__}: {error}; expected a key that can be used", service.hint)
