"""Makes the keys of a policy, and takes in public halves of keys that lie elsewhere. Nothing that exists is ever overwritten."""

import json
import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from securesystemslib.signer import SecretsHandler, SSlibKey

from packager.model.errors import KeyMaterialError
from packager.model.policy import DEFAULT_SCHEME, KeyPolicy, key_names
from packager.model.strict_json import dump_json
from packager.repo.files import write_once
from packager.repo.key_files import encode_private, is_encrypted
from packager.repo.keys import (
    DEMO_MARKER,
    URIS_NAME,
    check_different,
    check_fit,
    default_uri,
    key_uri,
    load_public,
    load_signer,
    private_path,
    public_path,
    root_path,
)
from packager.repo.schemes import generate, public_half
from packager.repo.signers import import_public, path_of
from packager.vehicle.storage import write_atomically

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


def create_keys(
    policy: KeyPolicy,
    directory: Path,
    names: Sequence[str] = (),
    new_passphrase: SecretsHandler | None = None,
) -> CreatedKeys:
    """Create the key pairs of a policy that are missing. Nothing that exists is overwritten.

    A pair of which nothing exists is made, so that a policy can gain a domain or a step. A private key without its public one gets it back:
    it follows from the private one. The other way round, the key has a holder elsewhere or was lost, and another key under the same name
    would be a silent change of identity: it is left alone, and refused in a demo set, whose keys are all here.

    Args:
        policy: Names the keys and their schemes.
        directory: Gets ``private/`` (mode 0700) and ``public/``.
        names: Makes these only; empty for all of the policy. A signed root does not know a new key of a top-level role, so that it is made
            only if it is named: then the next root is to list it.
        new_passphrase: Is told a key's name and returns the passphrase to protect it with; must be given unless the policy is a demo.

    Raises:
        KeyMaterialError: As above; a key that exists is damaged or open to others; a passphrase is too short; a name is not one of the
            policy; nothing was created then. Or a file can't be written.
        ConfigError: As `key_uri`.
    """
    _check_names(policy, names)
    wanted = names or key_names(policy)
    missing = [name for name in wanted if not _exists(policy, directory, name)]
    without_public = [
        name for name in wanted if name not in missing and not os.path.lexists(public_path(directory, name))
    ]
    listed = [name for name in missing if name in _root_keys(policy)]
    if listed and not names and os.path.lexists(root_path(directory)):
        raise KeyMaterialError(
            f"{root_path(directory)}: was signed before key {listed[0]!r} existed, so it can't list it",
            hint=f"restore the key, or name it to make it for the next root; "
            f"for a new demo set, delete private/ and public/ in {directory}",
        )
    private: dict[str, bytes] = {}
    public = {name: import_public(key_uri(directory, name), base=directory)[1] for name in without_public}
    for name in missing:
        key, scheme = generate(policy.schemes.get(name, DEFAULT_SCHEME)), policy.schemes.get(name)
        private[name] = encode_private(key, _choose_passphrase(policy, name, new_passphrase))
        public[name] = public_half(key, scheme)
    try:
        _make_directories(directory)
        for name, data in private.items():
            write_once(private_path(directory, name), data, _PRIVATE_MODE)
        for name, half in public.items():
            write_once(public_path(directory, name), _encode_public(half, demo=policy.demo), _PUBLIC_MODE)
    except OSError as error:
        raise KeyMaterialError(f"{directory}: can't write keys: {error}") from error
    return CreatedKeys(tuple(missing), tuple(name for name in wanted if name not in missing))


def add_key(
    policy: KeyPolicy,
    directory: Path,
    name: str,
    uri: str,
    secrets_handler: SecretsHandler | None = None,
    *,
    base: Path = Path(),
) -> tuple[str, SSlibKey]:
    """Take in a key that exists: its public half is written to ``public/``, where its private half lies to ``uris.toml``.

    Args:
        policy: Names the key.
        directory: Of the keys.
        name: Of the key.
        uri: Where its private half lies.
        secrets_handler: As for `open_signer`.
        base: Where a relative path of ``file:`` starts.

    Returns:
        The URI that was kept, and the key. Adding the same again changes nothing.

    Raises:
        KeyMaterialError: The policy does not list the name or wants another scheme; the key can't be read, is of a kind that is not
            accepted, is known under another name; or another key or URI stands under the name. Nothing was written then. Or a file can't
            be written.
        ConfigError: ``uris.toml`` can't be read.
    """
    _check_names(policy, [name])
    uri, key = import_public(uri, secrets_handler, base=base)
    path = path_of(uri)
    if path is not None:
        uri = f"file:{(base / path).absolute()}"
    check_fit(policy, name, key)
    others = [other for other in key_names(policy) if other != name and os.path.lexists(public_path(directory, other))]
    check_different({**{other: load_public(directory, other) for other in others}, name: key})
    has_public = os.path.lexists(public_path(directory, name))
    if has_public and load_public(directory, name).keyid != key.keyid:
        raise KeyMaterialError(
            f"{public_path(directory, name)}: found another key than the one at {uri}, expected the same or none",
            hint="a new key gets a new name in policy.toml",
        )
    kept = key_uri(directory, name)
    if kept not in {default_uri(name), uri}:
        raise KeyMaterialError(
            f"key {name!r}: found the URI {kept!r}, expected {uri!r} or none", hint=f"edit {directory / URIS_NAME}"
        )
    try:
        (directory / "public").mkdir(parents=True, exist_ok=True)
        if not has_public:
            write_once(public_path(directory, name), _encode_public(key, demo=policy.demo), _PUBLIC_MODE)
        if kept != uri and uri != f"file:{private_path(directory, name).absolute()}":
            _keep_uri(directory / URIS_NAME, name, uri)
    except OSError as error:
        raise KeyMaterialError(f"{directory}: can't write keys: {error}") from error
    return uri, key


def _keep_uri(path: Path, name: str, uri: str) -> None:
    text = (
        path.read_text(encoding="utf-8")
        if path.exists()
        else "# Where private keys lie, as seen from this machine. Holds no secret.\n"
    )
    text += "" if text.endswith("\n") else "\n"
    # A JSON string is a TOML string, too, for text without control characters.
    write_atomically(path, f"{text}{json.dumps(name)} = {json.dumps(uri, ensure_ascii=False)}\n".encode())


def _check_names(policy: KeyPolicy, names: Sequence[str]) -> None:
    for name in names:
        if name not in key_names(policy):
            raise KeyMaterialError(
                f"key {name!r}: found no role that lists it, expected one", hint="name it in policy.toml first"
            )


def _exists(policy: KeyPolicy, directory: Path, name: str) -> bool:
    """Tell whether a key exists here or elsewhere, after a look at what is here.

    Raises:
        KeyMaterialError: What is here is damaged, or something is missing that can't be made.
    """
    has_public = os.path.lexists(public_path(directory, name))
    if key_uri(directory, name) != default_uri(name):
        if not has_public:
            raise KeyMaterialError(
                f"key {name!r}: found the URI of its private half, expected {public_path(directory, name)}, too",
                hint=f"packager keys add {name} --uri URI",
            )
        return True
    path = private_path(directory, name)
    if os.path.lexists(path):
        if has_public and not is_encrypted(path):
            load_signer(directory, name)
        return True
    if has_public and policy.demo:
        raise KeyMaterialError(
            f"key {name!r}: found {public_path(directory, name)} without its private key",
            hint=f"restore {path}; for a new demo set, delete private/ and public/ in {directory}",
        )
    return has_public


def _choose_passphrase(policy: KeyPolicy, name: str, new_passphrase: SecretsHandler | None) -> str | None:
    if policy.demo:
        return None
    if new_passphrase is None:
        raise KeyMaterialError(
            f"key {name!r}: found no way to ask for a passphrase, expected one: it is not a demo key"
        )
    return new_passphrase(name)


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


def _encode_public(key: SSlibKey, *, demo: bool) -> bytes:
    """Return the file of a public key."""
    marker: Mapping[str, Any] = {DEMO_MARKER: True} if demo else {}
    return dump_json({**key.to_dict(), "keyid": key.keyid, **marker}) + b"\n"
