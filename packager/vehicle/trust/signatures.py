"""Counts signatures: how many *different keys* of a role signed a payload. A key id is a label; the key's content is what counts.

One key listed under two ids, in two encodings or with two schemes counts once (TAP 12; python-tuf 7.0.1 counts it twice, as go-tuf did).
A malformed or weak key and a malformed signature count for nothing and harm no other.
"""

import re
from collections.abc import Mapping
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key
from securesystemslib.exceptions import UnverifiedSignatureError
from securesystemslib.signer import Key, Signature, SSlibKey
from tuf.api.metadata import Role, T

from packager.vehicle.errors import UntrustedError
from packager.vehicle.trust.metadata_json import UnverifiedMetadata

_HEXADECIMAL: Final = re.compile(r"(?:[0-9a-f]{2})+")
_PEM_START: Final = "-----BEGIN "
MIN_RSA_BITS: Final = 2048


def verify_signatures(metadata: UnverifiedMetadata[T], role: Role, keys: Mapping[str, Key], by: str) -> T:
    """Return the content of metadata that enough different keys of a role signed.

    Args:
        metadata: What was signed.
        role: Key ids and threshold, out of verified metadata.
        keys: Keys by id, out of the same metadata.
        by: Who delegates, for error messages.

    Raises:
        UntrustedError: Fewer than the threshold (TUF 5.3.4, 5.4.2, 5.5.3, 5.6.3).
    """
    signers = set()
    for key_id in role.keyids:
        key, signature = keys.get(key_id), metadata.signatures.get(key_id)
        if key is None or signature is None:
            continue
        identity = key_identity(key)
        if identity is not None and identity not in signers and _holds(key, signature, metadata.payload):
            signers.add(identity)
    if len(signers) < role.threshold:
        raise UntrustedError(
            f"{metadata.what}: signed by {len(signers)} different keys that {by} trusts for it, expected {role.threshold}"
        )
    return metadata.claimed


def key_identity(key: Key) -> bytes | None:
    """Return the content of a public key in the one form that all its encodings share; None if it is malformed or too weak to count.

    PGP keys count for nothing: their parser raises whatever a malformed one causes.
    """
    public = key.keyval.get("public") if isinstance(key, SSlibKey) else None
    if not isinstance(public, str):
        return None
    try:
        if not public.startswith(_PEM_START):
            return key.keytype.encode() + b"\0" + bytes.fromhex(public)
        content = load_pem_public_key(public.encode())
        if isinstance(content, RSAPublicKey) and content.key_size < MIN_RSA_BITS:
            return None
        return content.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except (ValueError, UnsupportedAlgorithm):
        return None


def _holds(key: Key, signature: Signature, payload: bytes) -> bool:
    text: object = signature.signature  # python-tuf takes any JSON value
    if not isinstance(text, str) or not _HEXADECIMAL.fullmatch(text):
        return False
    try:
        key.verify_signature(signature, payload)
    except UnverifiedSignatureError:
        return False
    return True
