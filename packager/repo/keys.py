"""The key directory of a policy: a key has a name, a public half in ``public/`` and a private half that lies at a URI.

Reads keys and checks that they fit the policy. `key_creation` makes them, `schemes` knows their kinds, `signers` opens URIs; what is
signed with them is known elsewhere.
"""

import os
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from securesystemslib.signer import Key, SecretsHandler, Signer, SSlibKey

from packager.config.uris import read_uris
from packager.model.errors import KeyMaterialError
from packager.model.policy import KeyPolicy, RolePolicy, key_names
from packager.model.strict_json import parse_json
from packager.repo.key_files import read_key_file
from packager.repo.schemes import check_public, scheme_of
from packager.repo.signers import open_signer, path_of
from packager.vehicle.trust.signatures import key_identity

DEMO_MARKER: Final = "x-packager-demo"
ROOT_NAME: Final = "root.json"
URIS_NAME: Final = "uris.toml"
_MAKE: Final = "packager keys create"
_PRIVATE_DIR_MODE: Final = 0o700
_PRIVATE_MODE: Final = 0o600
_PUBLIC_MODE: Final = 0o644
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


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
    for name, key in keys.items():
        check_fit(policy, name, key)
    check_different(keys)
    return keys


def check_different(keys: Mapping[str, SSlibKey]) -> None:
    """Check that keys differ in content, whatever their ids and schemes say.

    Args:
        keys: By name.

    Raises:
        KeyMaterialError: Two are the same.
    """
    names: dict[bytes | None, str] = {}
    for name, key in keys.items():
        first = names.setdefault(key_identity(key), name)
        if first != name:
            raise KeyMaterialError(f"keys {first!r} and {name!r}: found the same key, expected different ones")


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
                hint="restore them, or say where they lie (packager keys add NAME --uri URI); for a new policy: packager keys create",
            )
        for name in here:
            if name not in signers:
                signers[name] = load_signer(directory, name, secrets_handler)
    return signers
