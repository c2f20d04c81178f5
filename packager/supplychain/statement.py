"""Signs and reads in-toto Statements: claims about finished files, in DSSE envelopes, which any tool of the field can verify.

Links and layouts say how a release was made and are judged together (`chain`); a statement stands alone.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import Error as SignerError
from securesystemslib.signer import Key, Signer

from packager.model.errors import KeyMaterialError, SupplyChainError
from packager.model.strict_json import dump_json
from packager.supplychain.envelope import PAYLOAD_TYPE, open_envelope
from packager.vehicle.identity import SHA256, Digest
from packager.vehicle.trust.summary import STATEMENT_TYPE


@dataclass(frozen=True, slots=True)
class VerifiedStatement:
    """A statement with signatures that hold.

    Attributes:
        subjects: Digests of what it is about, by name.
        predicate: What it says of them.
    """

    subjects: Mapping[str, Digest]
    predicate: Mapping[str, Any]


def resource(digest: Digest, **fields: str) -> dict[str, Any]:
    """Return an in-toto ResourceDescriptor; `fields` are its ``name`` or ``uri``."""
    return {**fields, "digest": {digest.algorithm: digest.hex}}


def sign_statement(
    subjects: Mapping[str, Digest], predicate_type: str, predicate: Mapping[str, Any], signers: Sequence[Signer]
) -> bytes:
    """Make a signed statement. The same claim gives the same payload everywhere.

    Args:
        subjects: Digests of what it is about, by name.
        predicate_type: URI of the kind of claim.
        predicate: The claim.
        signers: All of them sign.

    Raises:
        KeyMaterialError: One can't sign.
    """
    statement = {
        "_type": STATEMENT_TYPE,
        "subject": [resource(digest, name=name) for name, digest in sorted(subjects.items())],
        "predicateType": predicate_type,
        "predicate": predicate,
    }
    envelope = Envelope(dump_json(statement), PAYLOAD_TYPE, {})
    try:
        for signer in signers:
            envelope.sign(signer)
    except (SignerError, ValueError, OSError) as error:
        raise KeyMaterialError(f"{predicate_type}: can't be signed: {error}") from error
    return json.dumps(envelope.to_dict(), sort_keys=True).encode()


def verify_statement(
    data: bytes, what: str, predicate_type: str, keys: Sequence[Key], threshold: int
) -> VerifiedStatement:
    """Verify a statement by itself.

    Args:
        data: The file.
        what: Names it in messages.
        predicate_type: The kind of claim that it must be.
        keys: Who may sign it.
        threshold: How many of them must have.

    Raises:
        SupplyChainError: It does not hold.
    """
    payload, _ = open_envelope(data, what, keys, threshold)
    if (payload.get("_type"), payload.get("predicateType")) != (STATEMENT_TYPE, predicate_type):
        raise SupplyChainError(
            f"{what}: found a {payload.get('_type')} of {payload.get('predicateType')}, expected {predicate_type}"
        )
    try:
        subjects = {str(item["name"]): read_digest(item) for item in payload["subject"]}
        if len(subjects) != len(payload["subject"]) or not isinstance(payload["predicate"], dict):
            raise ValueError("a subject twice, or a predicate that is no object")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise SupplyChainError(f"{what}: {error!r}; expected subjects with {SHA256} and a predicate") from error
    return VerifiedStatement(subjects, payload["predicate"])


def read_digest(descriptor: Mapping[str, Any]) -> Digest:
    """Read the digest of a ResourceDescriptor.

    Raises:
        KeyError, TypeError, ValueError, AttributeError: It has none, or another one beside it.
    """
    if set(descriptor["digest"]) != {SHA256}:
        raise ValueError(f"found digests {sorted(descriptor['digest'])}, expected {SHA256} alone")
    return Digest.from_hex(descriptor["digest"][SHA256])
