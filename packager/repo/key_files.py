"""Reads and writes key files: who may read them, how long they are, and private keys as PKCS #8, in the clear or under a passphrase."""

import os
import stat
from pathlib import Path
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from securesystemslib.signer import SecretsHandler

from packager.model.errors import KeyMaterialError
from packager.repo.schemes import PrivateKey, public_half

MAX_KEY_BYTES: Final = 1 << 14
MIN_PASSPHRASE_CHARACTERS: Final = 16

SCRYPT_N: Final = 1 << 14
"""16 MiB per guess; OpenSSL's reader grants no more than 32."""
_SCRYPT_P: Final = 5
"""With that memory, what OWASP asks of scrypt: 0.15 s per guess."""

_CLEAR: Final = b"-----BEGIN PRIVATE KEY-----"
_ENCRYPTED: Final = b"-----BEGIN ENCRYPTED PRIVATE KEY-----"
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


def read_key_file(path: Path, what: str, hint: str, *, secret: bool = False) -> bytes:
    """Read a key file.

    Args:
        path: Where.
        what: What should be there, for the message.
        hint: What to do if it is not.
        secret: Whether only its owner may be able to read it.

    Raises:
        KeyMaterialError: It can't be read, is too long, or is open to others.
    """
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            if secret and status.st_mode & _OTHERS:
                raise KeyMaterialError(
                    f"{path}: found mode {stat.S_IMODE(status.st_mode):04o}, expected 0600: a private key is for its owner alone",
                    hint=f"chmod 600 {path}, and replace the key if others could have read it",
                )
            data = file.read(MAX_KEY_BYTES + 1)
    except OSError as error:
        raise KeyMaterialError(f"{path}: {error.strerror or error}; expected {what}", hint=hint) from error
    if len(data) > MAX_KEY_BYTES:
        raise KeyMaterialError(f"{path}: found more than {MAX_KEY_BYTES} bytes, expected a key")
    return data


def is_encrypted(path: Path) -> bool:
    """Tell whether a private key is under a passphrase.

    Raises:
        KeyMaterialError: It can't be read, is too long, or is open to others.
    """
    return read_key_file(path, "a private key", "", secret=True).startswith(_ENCRYPTED)


def read_private(path: Path, what: str, ask: SecretsHandler | None, hint: str = "") -> PrivateKey:
    """Read a private key.

    Args:
        path: A PKCS #8 file in PEM form, mode 0600.
        what: Its name, for messages.
        ask: Gives the passphrase; called only if there is one.
        hint: What to do if the file is missing.

    Raises:
        KeyMaterialError: It can't be read, is open to others, is no such key; the passphrase is wrong or can't be asked for.
    """
    data = read_key_file(path, what, hint, secret=True)
    passphrase = None
    if data.startswith(_ENCRYPTED):
        if ask is None:
            raise KeyMaterialError(f"{path}: found a key under a passphrase, expected a way to ask for it")
        passphrase = ask(f"passphrase of {path}").encode()
    elif not data.startswith(_CLEAR):
        raise KeyMaterialError(
            f"{path}: expected a private key as PKCS #8 in PEM form, the first line {_CLEAR.decode()!r}",
            hint=f"openssl pkcs8 -topk8 -in {path} rewrites other forms",
        )
    try:
        private = load_pem_private_key(data, passphrase)
        if not isinstance(private, PrivateKey):
            raise TypeError(f"found {type(private).__name__}")
        public_half(private)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        wanted = (
            "a private key of an accepted kind" if passphrase is None else "an accepted key and its right passphrase"
        )
        raise KeyMaterialError(f"{path}: {error}; expected {wanted}") from error
    return private


def encode_private(private: PrivateKey, passphrase: str | None) -> bytes:
    """Return a private key as PKCS #8 in PEM form.

    Args:
        private: The key.
        passphrase: Encrypts it, by way of scrypt; None leaves it in the clear. `cryptography` reads that form but writes PBKDF2 with
            2,048 rounds alone.

    Raises:
        KeyMaterialError: The passphrase is too short.
    """
    if passphrase is not None and len(passphrase) < MIN_PASSPHRASE_CHARACTERS:
        raise KeyMaterialError(
            f"passphrase: found {len(passphrase)} characters, expected at least {MIN_PASSPHRASE_CHARACTERS}",
            hint="five or six words are easy to remember and hard to guess",
        )
    if passphrase is None:
        return private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    from Crypto.IO import PEM, PKCS8  # here: it takes a fifth of a second, and whoever signs needs it not

    clear = private.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    algorithm, key, parameters = PKCS8.unwrap(clear)
    wrapped = PKCS8.wrap(
        key,
        algorithm,
        passphrase.encode(),
        "scryptAndAES256-CBC",
        {"iteration_count": SCRYPT_N, "block_size": 8, "parallelization": _SCRYPT_P},
        parameters,  # type: ignore[arg-type] # its type says less than it takes: what `unwrap` gave
    )
    return (PEM.encode(wrapped, "ENCRYPTED PRIVATE KEY") + "\n").encode()
