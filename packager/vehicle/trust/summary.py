"""Verifies what the release gate says of a release's supply chain: a SLSA verification summary, the only evidence that a car reads.

The gate verified layout and links, which may run to megabytes and need rules that a car has no use for, and lists the images that they
prove. Its keys stand in the top-level targets role, so they are as trustworthy as that role's threshold. The summary itself is a target
of the domain's role. So whoever holds the keys of a domain still can't get an image installed that did not pass the gate, and the gate
alone can't either.
"""

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from securesystemslib.exceptions import Error as SignerError
from securesystemslib.exceptions import UnverifiedSignatureError
from securesystemslib.signer import Key, Signature
from tuf.api.metadata import Targets

from packager.vehicle.errors import UntrustedError
from packager.vehicle.identity import SHA256, Digest
from packager.vehicle.trust.metadata_json import parse_json
from packager.vehicle.trust.signatures import key_identity

GATE: Final = "gate"
"""Field of the top-level targets role: the gate's keys and threshold."""
MAX_SUMMARY_BYTES: Final = 1 << 18
"""A thousand images make 200 KB."""
MAX_GATE_KEYS: Final = 16
PAYLOAD_TYPE: Final = "application/vnd.in-toto+json"
STATEMENT_TYPE: Final = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE: Final = "https://slsa.dev/verification_summary/v1"
PASSED: Final = "PASSED"
CHAIN_LEVEL: Final = "DELTA_PACKAGER_CHAIN_V1"
"""All steps by their functionaries, each from what the one before made, and every bundle rebuilt its image."""
RESOURCE_PREFIX: Final = "urn:delta-packager:"


@dataclass(frozen=True, slots=True)
class Gate:
    """Who may vouch for a supply chain.

    Attributes:
        keys: Different ones.
        threshold: How many of them must sign.
    """

    keys: tuple[Key, ...]
    threshold: int


def read_gate(targets: Targets) -> Gate | None:
    """Read the gate out of the verified top-level targets role; None if it names none.

    Raises:
        UntrustedError: It is malformed, or names a key twice.
    """
    fields = targets.unrecognized_fields.get(GATE)
    if fields is None:
        return None
    try:
        entries = [dict(entry) for entry in fields["keys"]]
        keys = tuple(Key.from_dict(entry.pop("keyid"), entry) for entry in entries)
        threshold = fields["threshold"]
    except (SignerError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise UntrustedError(f"targets.json: gate: {error!r}; expected keys and threshold") from error
    identities = {key_identity(key) for key in keys}
    if None in identities or len(identities) != len(keys) or len(keys) > MAX_GATE_KEYS:
        raise UntrustedError(f"targets.json: gate: expected at most {MAX_GATE_KEYS} different, well-formed keys")
    if type(threshold) is not int or not 1 <= threshold <= len(keys):
        raise UntrustedError(f"targets.json: gate: found threshold {threshold!r} of {len(keys)} keys")
    return Gate(keys, threshold)


def verify_summary(data: bytes, path: str, gate: Gate) -> Mapping[str, Digest]:
    """Verify a summary and return the digests of the images that it vouches for, by target path.

    Args:
        data: The file, of the length and hash that signed metadata says.
        path: Its target path; the summary must be about this very one.
        gate: Who may sign it.

    Raises:
        UntrustedError: Too few of the gate's keys signed, it is malformed, or it says something else than that all holds.
    """
    if len(data) > MAX_SUMMARY_BYTES:
        raise UntrustedError(f"{path}: found {len(data)} bytes, expected at most {MAX_SUMMARY_BYTES}")
    statement = parse_json(_open(data, path, gate), path)
    try:
        kind = (statement["_type"], statement["predicateType"])
        predicate = statement["predicate"]
        said = (predicate["resourceUri"], predicate["verificationResult"])
        levels = predicate["verifiedLevels"]
        images = {item["name"]: _digest(item["digest"]) for item in statement["subject"]}
        if len(images) != len(statement["subject"]) or not all(isinstance(name, str) for name in images):
            raise ValueError("expected names that are different texts")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UntrustedError(f"{path}: {error!r}; expected a verification summary") from error
    if kind != (STATEMENT_TYPE, PREDICATE_TYPE):
        raise UntrustedError(f"{path}: found a statement {kind}, expected {PREDICATE_TYPE}")
    if said != (RESOURCE_PREFIX + path, PASSED) or not isinstance(levels, list) or CHAIN_LEVEL not in levels:
        raise UntrustedError(
            f"{path}: says {said[1]!r} of {said[0]!r} with levels {levels!r}, "
            f"expected {PASSED} of {RESOURCE_PREFIX + path} with {CHAIN_LEVEL}"
        )
    return images


def _open(data: bytes, path: str, gate: Gate) -> bytes:
    """Return the payload of a DSSE envelope that enough different keys of the gate signed."""
    envelope = parse_json(data, path)
    try:
        kind = envelope["payloadType"]
        payload = _decode(envelope["payload"])
        signatures = [(entry["keyid"], _decode(entry["sig"]).hex()) for entry in envelope["signatures"]]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UntrustedError(f"{path}: {error!r}; expected a DSSE envelope") from error
    if kind != PAYLOAD_TYPE:
        raise UntrustedError(f"{path}: found payload type {kind!r}, expected {PAYLOAD_TYPE!r}")
    signed = b"DSSEv1 %d %b %d %b" % (len(kind), kind.encode(), len(payload), payload)
    # A signature counts for the key that it verifies with, not for the key id that it names.
    holding = sum(
        any(_holds(key, text, signed) for key_id, text in signatures if key_id == key.keyid) for key in gate.keys
    )
    if holding < gate.threshold:
        raise UntrustedError(
            f"{path}: signed by {holding} different keys of the release gate, expected {gate.threshold}"
        )
    return payload


def _holds(key: Key, signature: str, signed: bytes) -> bool:
    try:
        key.verify_signature(Signature(key.keyid, signature), signed)
    except UnverifiedSignatureError:
        return False
    return True


def _decode(text: Any) -> bytes:
    try:
        return base64.b64decode(text.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError) as error:
        raise ValueError(f"not base64: {error}") from error


def _digest(hashes: Mapping[str, Any]) -> Digest:
    if set(hashes) != {SHA256}:
        raise ValueError(f"found digests {sorted(hashes)}, expected {SHA256} alone")
    return Digest.from_hex(hashes[SHA256])
