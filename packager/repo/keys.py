"""Makes, reads and guards keys: Ed25519, private ones as PKCS #8 files, public ones with their key id and demo marker.

Knows files and keys, not what is signed with them.
"""

import os
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from securesystemslib.exceptions import KeyMismatchError
from securesystemslib.signer import CryptoSigner, Key, Signer, SSlibKey

from packager.model.errors import KeyMaterialError
from packager.model.policy import KeyPolicy, RolePolicy
from packager.model.strict_json import dump_json, parse_json
from packager.repo.files import write_once

DEMO_MARKER: Final = "x-packager-demo"
ROOT_NAME: Final = "root.json"
MAX_KEY_BYTES: Final = 1 << 14
_MAKE: Final = "make keys"
_PRIVATE_DIR_MODE: Final = 0o700
_PRIVATE_MODE: Final = 0o600
_PUBLIC_MODE: Final = 0o644
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


@dataclass(frozen=True, slots=True)
class CreatedKeys:
    """What a key ceremony did.

    Attributes:
        created: Names of new keys.
        existing: Names of keys that stood there and were left alone.
    """

    created: tuple[str, ...]
    existing: tuple[str, ...]


def private_path(directory: Path, name: str) -> Path:
    """Return where the private key `name` lies."""
    return directory / "private" / f"{name}.pem"


def public_path(directory: Path, name: str) -> Path:
    """Return where the public key `name` lies."""
    return directory / "public" / f"{name}.json"


def root_path(directory: Path) -> Path:
    """Return where the first signed root lies."""
    return directory / "public" / ROOT_NAME


def key_names(policy: KeyPolicy) -> tuple[str, ...]:
    """Return the name of every key of a policy, each once."""
    roles = (policy.root, policy.targets, policy.snapshot, policy.timestamp, *policy.domains.values(), policy.layout)
    return tuple(dict.fromkeys(key for role in (*roles, *policy.steps.values()) for key in role.keys))


def is_demo(key: Key) -> bool:
    """Tell whether a public key is marked as one for demonstration."""
    return DEMO_MARKER in key.unrecognized_fields


def create_keys(policy: KeyPolicy, directory: Path) -> CreatedKeys:
    """Create the key pairs of a policy that are missing. Nothing that exists is overwritten.

    A pair of which nothing exists is made, so that a policy can gain a domain or a step. A private key without its public one gets it back:
    it follows from the private one. The other way round is refused: the key has a holder elsewhere or was lost, and another key under the
    same name would be a silent change of identity. So is a new key for a role that a signed root already lists: the root does not know it.

    Args:
        policy: Names the keys.
        directory: Gets ``private/`` (mode 0700) and ``public/``.

    Raises:
        KeyMaterialError: As above; a key that exists is damaged or open to others; nothing was created then. Or a file can't be written.
    """
    existing, missing, without_public = [], [], []
    for name in key_names(policy):
        if os.path.lexists(private_path(directory, name)):
            if os.path.lexists(public_path(directory, name)):
                load_signer(directory, name)
            else:
                without_public.append((name, _load_private(directory, name)))
            existing.append(name)
        elif os.path.lexists(public_path(directory, name)):
            raise KeyMaterialError(
                f"key {name!r}: found {public_path(directory, name)} without its private key",
                hint=f"restore {private_path(directory, name)}; for a new demo set, delete private/ and public/ in {directory}",
            )
        else:
            missing.append(name)
    listed = [name for name in missing if name in _root_keys(policy)]
    if listed and os.path.lexists(root_path(directory)):
        raise KeyMaterialError(
            f"{root_path(directory)}: was signed before key {listed[0]!r} existed, so it can't list it",
            hint=f"restore the key; for a new demo set, delete private/ and public/ in {directory}",
        )
    pairs = [(name, Ed25519PrivateKey.generate()) for name in missing]
    try:
        _make_directories(directory)
        for name, private in pairs:
            write_once(private_path(directory, name), CryptoSigner(private).private_bytes, _PRIVATE_MODE)
        for name, private in (*pairs, *without_public):
            write_once(public_path(directory, name), _write_public(private, demo=policy.demo), _PUBLIC_MODE)
    except OSError as error:
        raise KeyMaterialError(f"{directory}: can't write keys: {error}") from error
    return CreatedKeys(tuple(missing), tuple(existing))


def load_public(directory: Path, name: str) -> SSlibKey:
    """Read one public key.

    Raises:
        KeyMaterialError: It is missing, not Ed25519, or its key id is not the one that follows from it. A free choice of key ids would
            let one key count twice towards a threshold (TAP 12).
    """
    path = public_path(directory, name)
    fields = parse_json(_read(path, name), f"public key {name!r}", KeyMaterialError)
    try:
        keyid = fields.pop("keyid")
        key = Key.from_dict(keyid, fields)
        genuine = SSlibKey.from_crypto(Ed25519PublicKey.from_public_bytes(bytes.fromhex(key.keyval["public"])))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise KeyMaterialError(f"{path}: {error!r}; expected an Ed25519 public key", hint=_MAKE) from error
    if not isinstance(key, SSlibKey) or key.keyid != genuine.keyid:
        raise KeyMaterialError(
            f"{path}: found key id {keyid!r}, expected {genuine.keyid!r}, which follows from the key"
        )
    return key


def load_public_keys(policy: KeyPolicy, directory: Path) -> dict[str, SSlibKey]:
    """Read every public key of a policy, by name.

    Raises:
        KeyMaterialError: As `load_public`, or two names hold the same key, which would meet a threshold of two alone.
    """
    keys = {name: load_public(directory, name) for name in key_names(policy)}
    names: dict[str, str] = {}
    for name, key in keys.items():
        first = names.setdefault(key.keyval["public"].lower(), name)
        if first != name:
            raise KeyMaterialError(f"keys {first!r} and {name!r}: found the same key, expected different ones")
    return keys


def load_signer(directory: Path, name: str) -> Signer:
    """Read one private key, to sign with.

    Raises:
        KeyMaterialError: It is missing, open to other users, not Ed25519, or not the private half of the public key.
    """
    public = load_public(directory, name)
    private = _load_private(directory, name)
    try:
        return CryptoSigner(private, public)
    except KeyMismatchError as error:
        raise KeyMaterialError(
            f"{private_path(directory, name)}: does not belong to {public_path(directory, name)}",
            hint="restore the pair from one backup",
        ) from error


def load_signers(directory: Path, roles: Iterable[RolePolicy]) -> dict[str, Signer]:
    """Read the private keys of `roles` that are on this machine, by name.

    Raises:
        KeyMaterialError: As `load_signer`, or fewer than the threshold of a role are here.
    """
    signers: dict[str, Signer] = {}
    for role in roles:
        here = [name for name in role.keys if os.path.lexists(private_path(directory, name))]
        if len(here) < role.threshold:
            absent = ", ".join(name for name in role.keys if name not in here)
            raise KeyMaterialError(
                f"{directory / 'private'}: found {len(here)} of {len(role.keys)} keys, expected {role.threshold}; missing: {absent}",
                hint=_MAKE,
            )
        signers |= {name: load_signer(directory, name) for name in here if name not in signers}
    return signers


def _root_keys(policy: KeyPolicy) -> frozenset[str]:
    return frozenset(
        key for role in (policy.root, policy.targets, policy.snapshot, policy.timestamp) for key in role.keys
    )


def _make_directories(directory: Path) -> None:
    (directory / "public").mkdir(parents=True, exist_ok=True)
    private = directory / "private"
    private.mkdir(mode=_PRIVATE_DIR_MODE, exist_ok=True)
    if private.stat().st_mode & _OTHERS:
        raise KeyMaterialError(
            f"{private}: found mode {stat.S_IMODE(private.stat().st_mode):04o}, expected 0700",
            hint=f"chmod 700 {private}",
        )


def _load_private(directory: Path, name: str) -> Ed25519PrivateKey:
    path = private_path(directory, name)
    try:
        private = load_pem_private_key(_read(path, name, secret=True), None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:  # TypeError: it is encrypted
        raise KeyMaterialError(f"{path}: found no readable key, expected PKCS #8 PEM without a passphrase") from error
    if not isinstance(private, Ed25519PrivateKey):
        raise KeyMaterialError(f"{path}: found {type(private).__name__}, expected an Ed25519 private key")
    return private


def _read(path: Path, name: str, *, secret: bool = False) -> bytes:
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
        kind = "private" if secret else "public"
        raise KeyMaterialError(
            f"{path}: {error.strerror or error}; expected the {kind} key {name!r}", hint=_MAKE
        ) from error
    if len(data) > MAX_KEY_BYTES:
        raise KeyMaterialError(f"{path}: found more than {MAX_KEY_BYTES} bytes, expected a key")
    return data


def _write_public(private: Ed25519PrivateKey, *, demo: bool) -> bytes:
    key = SSlibKey.from_crypto(private.public_key())
    marker: Mapping[str, Any] = {DEMO_MARKER: True} if demo else {}
    return dump_json({**key.to_dict(), "keyid": key.keyid, **marker}) + b"\n"
