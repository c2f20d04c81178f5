"""Signs one payload with the keys of its role. Payloads are prepared elsewhere, and what was signed is checked elsewhere, too."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from securesystemslib.exceptions import Error as SignerError
from securesystemslib.signer import Signer
from tuf.api.exceptions import RepositoryError as TufError
from tuf.api.metadata import Metadata, Root, Snapshot, Targets, Timestamp
from tuf.api.serialization.json import JSONSerializer

from packager.model.errors import KeyMaterialError, RepositoryError
from packager.model.policy import RolePolicy

Payload = TypeVar("Payload", Root, Timestamp, Snapshot, Targets)


def expiry(policy: RolePolicy, issued_at: datetime) -> datetime:
    """Return when something of this role that was issued at `issued_at` expires.

    Raises:
        RepositoryError: `issued_at` is not in UTC or not in whole seconds; metadata could not hold it exactly.
    """
    if issued_at.tzinfo != UTC or issued_at.microsecond:
        raise RepositoryError(f"time of issue: found {issued_at.isoformat()}, expected whole seconds of UTC")
    return issued_at + timedelta(days=policy.expires_days)


def sign(role: str, payload: Payload, policy: RolePolicy, signers: Mapping[str, Signer]) -> bytes:
    """Sign `payload` with every key of the role that is at hand.

    Args:
        role: Its name, for messages.
        payload: What to sign.
        policy: Names the keys; no other is used.
        signers: By key name; may hold more.

    Returns:
        The metadata file: compact JSON, keys sorted, signatures in the order of the policy.

    Raises:
        KeyMaterialError: Fewer than the threshold are at hand, or one can't sign.
    """
    mine = [name for name in policy.keys if name in signers]
    if len(mine) < policy.threshold:
        absent = ", ".join(name for name in policy.keys if name not in signers)
        raise KeyMaterialError(
            f"role {role!r}: found {len(mine)} of its keys to sign with, expected {policy.threshold}; missing: {absent}",
            hint="packager keys create, or ask the holders",
        )
    metadata = Metadata(payload)
    for name in mine:
        try:
            metadata.sign(signers[name], append=True)
        except (SignerError, TufError, ValueError, OSError) as error:
            cause = error.__cause__  # python-tuf wraps what a signer raises
            hint = cause.hint if isinstance(cause, KeyMaterialError) else ""
            raise KeyMaterialError(f"role {role!r}: key {name!r} can't sign: {error}", hint) from error
    return metadata.to_bytes(JSONSerializer(compact=True))
