"""A custodian's part: is this key to sign this file, and its signature added to those that are there.

Which keys may sign is taken from the version in force and from the custodian's own policy and public keys; a root also names its own. The
last word has the publication, which counts as vehicles do.
"""

from collections.abc import Mapping
from pathlib import Path

from securesystemslib.exceptions import Error as SignerError
from securesystemslib.signer import Key, Signer
from tuf.api.metadata import Root, Targets

from packager.model.errors import KeyMaterialError, RepositoryError
from packager.model.policy import KeyPolicy
from packager.repo.files import locked
from packager.repo.in_force import InForce
from packager.repo.staged import StagedFile, delegated, has_signed, read_file, role_policy, with_signature
from packager.vehicle.storage import write_atomically


def find_allowed(
    file: StagedFile, policy: KeyPolicy, keys: Mapping[str, Key], in_force: InForce, targets: Targets | None
) -> frozenset[str]:
    """Return the ids of the keys that may sign a proposed file.

    Args:
        file: What is proposed.
        policy: The custodian's own.
        keys: Public keys by name.
        in_force: What the repository serves, as far as it is at hand.
        targets: The proposed targets role that is about to delegate; None if there is none.
    """
    mine = role_policy(policy, file.role)
    allowed = {keys[name].keyid for name in mine.keys if name in keys} if mine is not None else set()
    root, claimed = in_force.root, file.metadata.claimed
    if root is not None and file.role in root.roles:
        allowed.update(root.roles[file.role].keyids)
    if isinstance(claimed, Root):
        allowed.update(claimed.roles[Root.type].keyids)
    for delegator in (in_force.targets, targets):
        role, _ = delegated(delegator, file.role) if delegator is not None else (None, {})
        allowed.update(role.keyids if role is not None else ())
    return frozenset(allowed)


def append_signature(path: Path, shown: StagedFile, signer: Signer) -> bool:
    """Sign what was shown and add the signature to the file, which may have gained others meanwhile.

    Args:
        path: The file.
        shown: Its content as it was shown and confirmed.
        signer: Signs.

    Returns:
        False if the same key had signed these bytes already; the file was left alone.

    Raises:
        RepositoryError: The file says something else by now.
        KeyMaterialError: The key can't sign.
        SpaceError: The directory can't be locked.
        ResourceError: The file can't be written; it is as it was.
    """
    key = signer.public_key
    if has_signed(shown, key.keyid, {key.keyid: key}):
        return False
    try:
        signature = signer.sign(shown.metadata.payload)
    except (SignerError, ValueError, OSError) as error:
        raise KeyMaterialError(f"{path}: key {key.keyid[:16]} can't sign: {error}") from error
    with locked(path.parent):
        now = read_file(path)
        if now.metadata.payload != shown.metadata.payload:
            raise RepositoryError(f"{path}: was changed while it was shown", hint="look at it again, and sign again")
        for left in path.parent.glob(f".{path.name}.*"):  # of a process that was killed
            left.unlink(missing_ok=True)
        write_atomically(path, with_signature(now, key.keyid, signature.signature))
    return True
