"""Signs one payload with the keys of its role, and checks the result the way a client will. Payloads are prepared elsewhere."""

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
from packager.model.strict_json import parse_json

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
            hint="make keys, or ask the holders",
        )
    metadata = Metadata(payload)
    for name in mine:
        try:
            metadata.sign(signers[name], append=True)
        except (SignerError, TufError, ValueError, OSError) as error:
            raise KeyMaterialError(f"role {role!r}: key {name!r} can't sign: {error}") from error
    return metadata.to_bytes(JSONSerializer(compact=True))


def verify(role: str, data: bytes, delegator: Root | Targets | None, kind: type[Payload]) -> Payload:
    """Verify a metadata file with the keys and threshold that its delegator gives it, and return its payload.

    Args:
        role: Its name.
        data: The file.
        delegator: Verified payload that names the role's keys; None for a root, which names its own.
        kind: Expected type of the payload.

    Raises:
        RepositoryError: It is not metadata of this kind, or too few of the role's keys signed it.
    """
    parse_json(data, f"role {role!r}", RepositoryError)
    try:
        metadata: Metadata[Payload] = Metadata.from_bytes(data)
        payload = metadata.signed
        if not isinstance(payload, kind):
            raise RepositoryError(f"role {role!r}: found metadata of type {payload.type!r}, expected {kind.type!r}")
        if delegator is None and isinstance(payload, Root):
            delegator = payload
        if delegator is None:
            raise RepositoryError(f"role {role!r}: found no delegator, expected one for all but the root")
        delegator.verify_delegate(role, metadata.signed_bytes, metadata.signatures)
    except (SignerError, TufError, ValueError) as error:
        raise RepositoryError(
            f"role {role!r}: {error!r}",
            hint="it was changed after signing, or signed by other keys than root.json and its delegations name",
        ) from error
    return payload
