"""The key directory of a policy: makes, reads and guards its keys. A key has a name, a public half here and a private half at a URI.

Knows which keys there are, not what is signed with them. `schemes` knows kinds of keys, `signers` opens URIs.
"""

import os
import stat
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from securesystemslib.signer import Key, SecretsHandler, Signer, SSlibKey

from packager.config.uris import read_uris
from packager.model.errors import KeyMaterialError
from packager.model.policy import DEFAULT_SCHEME, KeyPolicy, RolePolicy, key_names
from packager.model.strict_json import dump_json, parse_json
from packager.repo.files import write_once
from packager.repo.key_files import encode_private, is_encrypted, read_key_file
from packager.repo.schemes import check_public, generate, public_half, scheme_of
from packager.repo.signers import import_public, open_signer, path_of
from packager.vehicle.signatures import key_identity

DEMO_MARKER: Final = "x-packager-demo"
ROOT_NAME: Final = "root.json"
URIS_NAME: Final = "uris.toml"
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


def key_uri(directory: Path, name: str) -> str:
    """Return where the private half of `name` lies: as ``uris.toml`` of the directory says, else ``file:private/<name>.pem``.

    Raises:
        ConfigError: ``uris.toml`` can't be read or says something else than URIs.
    """
    return read_uris(directory / URIS_NAME).get(name, default_uri(name))


def default_uri(name: str) -> str:
    """Return where the private half of `name` lies if nothing else is said, relative to the key directory."""
    return f"file:private/{name}.pem"


def is_here(directory: Path, name: str) -> bool:
    """Tell whether this machine can be asked to sign with `name`: its file is here, or it has a URI of a token or a service.

    Raises:
        ConfigError, KeyMaterialError: Its URI is unfit.
    """
    path = path_of(key_uri(directory, name))
    return path is None or os.path.lexists(directory / path)


def is_demo(key: Key) -> bool:
    """Tell whether a public key is marked as one for demonstration."""
    return DEMO_MARKER in key.unrecognized_fields


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
    unknown = [name for name in names if name not in key_names(policy)]
    if unknown:
        raise KeyMaterialError(f"key {unknown[0]!r}: found no role of the policy that lists it, expected one")
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
            write_once(public_path(directory, name), encode_public(half, demo=policy.demo), _PUBLIC_MODE)
    except OSError as error:
        raise KeyMaterialError(f"{directory}: can't write keys: {error}") from error
    return CreatedKeys(tuple(missing), tuple(name for name in wanted if name not in missing))


def load_public(directory: Path, name: str) -> SSlibKey:
    """Read one public key.

    Raises:
        KeyMaterialError: It is missing, weak, of a kind that is not accepted, or its key id is not the one that follows from it.
    """
    path = public_path(directory, name)
    data = read_key_file(path, f"the public key {name!r}", _MAKE)
    fields = parse_json(data, f"public key {name!r}", KeyMaterialError)
    try:
        return check_public(Key.from_dict(fields.pop("keyid"), fields))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise KeyMaterialError(f"{path}: {error!r}; expected a public key of an accepted kind", hint=_MAKE) from error


def load_public_keys(policy: KeyPolicy, directory: Path) -> dict[str, SSlibKey]:
    """Read every public key of a policy, by name.

    Raises:
        KeyMaterialError: As `load_public`; two names hold the same key, which would meet a threshold of two alone; a key has another
            scheme than the policy says; or it is marked as a demo key and the policy is not one for demonstration.
    """
    keys = {name: load_public(directory, name) for name in key_names(policy)}
    names: dict[bytes | None, str] = {}
    for name, key in keys.items():
        check_fit(policy, name, key)
        first = names.setdefault(key_identity(key), name)
        if first != name:
            raise KeyMaterialError(f"keys {first!r} and {name!r}: found the same key, expected different ones")
    return keys


def check_fit(policy: KeyPolicy, name: str, key: SSlibKey) -> None:
    """Check that a key is what the policy wants under its name.

    Raises:
        KeyMaterialError: It has another scheme, or is marked as a demo key and the policy is not one for demonstration.
    """
    wanted = policy.schemes.get(name, scheme_of(key))
    if scheme_of(key) != wanted:
        raise KeyMaterialError(
            f"key {name!r}: found the scheme {scheme_of(key)!r}, expected {wanted!r} as the policy says"
        )
    if is_demo(key) and not policy.demo:
        raise KeyMaterialError(
            f"key {name!r}: found a demo key, expected none under a policy with demo = false",
            hint="make new keys: a demo key can't become a real one",
        )


def load_signer(directory: Path, name: str, secrets_handler: SecretsHandler | None = None) -> Signer:
    """Open one private key, to sign with.

    Args:
        directory: Of the keys.
        name: Of the key.
        secrets_handler: Asks for a passphrase or a PIN, as for `open_signer`.

    Raises:
        KeyMaterialError: It is missing, can't be opened (see `open_signer`), or is not the private half of the public key.
        ConfigError: As `key_uri`.
    """
    return open_signer(key_uri(directory, name), load_public(directory, name), secrets_handler, base=directory)


def load_signers(
    directory: Path, roles: Iterable[RolePolicy], secrets_handler: SecretsHandler | None = None
) -> dict[str, Signer]:
    """Open the private keys of `roles` that are on this machine, by name.

    Raises:
        KeyMaterialError: As `load_signer`, or fewer than the threshold of a role are here.
        ConfigError: As `key_uri`.
    """
    signers: dict[str, Signer] = {}
    for role in roles:
        here = [name for name in role.keys if is_here(directory, name)]
        if len(here) < role.threshold:
            absent = ", ".join(name for name in role.keys if name not in here)
            raise KeyMaterialError(
                f"{directory / 'private'}: found {len(here)} of {len(role.keys)} keys, expected {role.threshold}; missing: {absent}",
                hint=_MAKE,
            )
        for name in here:
            if name not in signers:
                signers[name] = load_signer(directory, name, secrets_handler)
    return signers


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


def encode_public(key: SSlibKey, *, demo: bool) -> bytes:
    """Return the file of a public key."""
    marker: Mapping[str, Any] = {DEMO_MARKER: True} if demo else {}
    return dump_json({**key.to_dict(), "keyid": key.keyid, **marker}) + b"\n"
