"""The root ceremony: signs version 1 of the TUF root, which everything else is trusted through."""

import os
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

from securesystemslib.signer import SecretsHandler
from tuf.api.metadata import Key, Role, Root

from packager.model.errors import KeyMaterialError, RepositoryError
from packager.model.policy import KeyPolicy, RolePolicy
from packager.repo.files import write_once
from packager.repo.keys import DEMO_MARKER, load_public_keys, load_signers, root_path
from packager.repo.signing import expiry, sign
from packager.vehicle.errors import UntrustedError
from packager.vehicle.trust import workflow


def create_root(
    policy: KeyPolicy, directory: Path, issued_at: datetime, secrets_handler: SecretsHandler | None = None
) -> bool:
    """Sign version 1 of the root with every root key at hand and write it to ``public/root.json``.

    Args:
        policy: Roles of the root.
        directory: Of the keys.
        issued_at: UTC, whole seconds; the root expires ``expires_days`` later.
        secrets_handler: Asks for passphrases and PINs.

    Returns:
        False if a root stands there already and says what the policy says; it is left alone.

    Raises:
        KeyMaterialError: A key is missing or unfit; fewer root keys than the threshold are at hand; a root stands there that says
            something else; or it can't be written.
        RepositoryError: `issued_at` is not in whole seconds of UTC.
    """
    wanted = prepare_root(policy, load_public_keys(policy, directory), issued_at)
    path = root_path(directory)
    if os.path.lexists(path):
        try:
            found = read_root(load_root(directory))
        except RepositoryError as error:
            raise KeyMaterialError(f"{path}: {error}", hint=error.hint) from error
        if (found.keys, found.roles) != (wanted.keys, wanted.roles):
            raise KeyMaterialError(
                f"{path}: its keys or thresholds differ from the policy's, and it is never overwritten",
                hint=f"restore the policy or the keys; for a new demo set, delete private/ and public/ in {directory}",
            )
        return False
    data = sign("root", wanted, policy.root, load_signers(directory, [policy.root], secrets_handler))
    read_root(data)
    try:
        write_once(path, data, 0o644)
    except OSError as error:
        raise KeyMaterialError(f"{path}: can't be written: {error}") from error
    return True


def prepare_root(policy: KeyPolicy, keys: Mapping[str, Key], issued_at: datetime) -> Root:
    """Return version 1 of the root, unsigned.

    Args:
        policy: Its roles.
        keys: Public keys by name.
        issued_at: UTC, whole seconds.

    Raises:
        RepositoryError: `issued_at` is not in whole seconds of UTC.
    """

    def role(of: RolePolicy) -> Role:
        return Role([keys[name].keyid for name in of.keys], of.threshold)

    roles = {"root": policy.root, "targets": policy.targets, "snapshot": policy.snapshot, "timestamp": policy.timestamp}
    return Root(
        version=1,
        expires=expiry(policy.root, issued_at),
        keys={keys[name].keyid: keys[name] for of in roles.values() for name in of.keys},
        roles={name: role(of) for name, of in roles.items()},
        consistent_snapshot=True,
        unrecognized_fields={DEMO_MARKER: True} if policy.demo else {},
    )


def load_root(directory: Path) -> bytes:
    """Read the bytes of the signed root.

    Raises:
        KeyMaterialError: It is missing or can't be read.
    """
    path = root_path(directory)
    try:
        with path.open("rb") as file:
            return file.read(workflow.MAX_ROOT_BYTES + 1)
    except OSError as error:
        raise KeyMaterialError(
            f"{path}: {error.strerror or error}; expected the signed root", hint="packager keys create"
        ) from error


def read_root(data: bytes) -> Root:
    """Verify a root as a vehicle does: strict form, signed by its own threshold of different keys.

    Raises:
        RepositoryError: It does not hold.
    """
    try:
        return workflow.read_root(data)
    except UntrustedError as error:
        raise RepositoryError(str(error), hint="the root was changed after it was signed; restore it") from error
