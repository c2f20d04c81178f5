"""A custodian's part: is this key to sign this file, and its signature added to those that are there.

Which keys may sign is taken from the version in force and from the custodian's own policy and public keys; a root also names its own. The
last word has the publication, which counts as vehicles do.
"""

import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from securesystemslib.exceptions import Error as SignerError
from securesystemslib.signer import Key, Signer
from tuf.api.metadata import Root, Targets

from packager.model.errors import KeyMaterialError, RepositoryError, SpaceError
from packager.model.policy import KeyPolicy, RolePolicy
from packager.repo.in_force import InForce
from packager.repo.staged import StagedFile, delegated, has_signed, read_file, with_signature
from packager.vehicle.storage import write_atomically


@dataclass(frozen=True, slots=True)
class Signed:
    """What became of a signature.

    Attributes:
        was_there: The same key had signed the same bytes already; the file was left alone.
        signatures: How many the file has, valid or not.
    """

    was_there: bool
    signatures: int


def role_policy(policy: KeyPolicy, role: str) -> RolePolicy | None:
    """Return what a policy says of a role: of a top-level one, or of the domain of ``<domain>.<release id>``."""
    top = {"root": policy.root, "targets": policy.targets, "snapshot": policy.snapshot, "timestamp": policy.timestamp}
    return top.get(role) or policy.domains.get(role) or policy.domains.get(role.partition(".")[0])


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


def append_signature(path: Path, shown: StagedFile, signer: Signer) -> Signed:
    """Sign what was shown and add the signature to the file, which may have gained others meanwhile.

    Args:
        path: The file.
        shown: Its content as it was shown and confirmed.
        signer: Signs.

    Raises:
        RepositoryError: The file says something else by now.
        KeyMaterialError: The key can't sign.
        SpaceError: The directory can't be locked.
        ResourceError: The file can't be written; it is as it was.
    """
    key = signer.public_key
    if has_signed(shown, key.keyid, {key.keyid: key}):
        return Signed(True, len(shown.metadata.signatures))
    try:
        signature = signer.sign(shown.metadata.payload)
    except (SignerError, ValueError, OSError) as error:
        raise KeyMaterialError(f"{path}: key {key.keyid[:16]} can't sign: {error}") from error
    with _locked(path.parent):
        now = read_file(path)
        if now.metadata.payload != shown.metadata.payload:
            raise RepositoryError(f"{path}: was changed while it was shown", hint="look at it again, and sign again")
        write_atomically(path, with_signature(now, key.keyid, signature.signature))
    return Signed(False, len(read_file(path).metadata.signatures))


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Keep others from adding their signature at the same time, which would lose one of the two."""
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise SpaceError(f"{directory}: can't be opened: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
