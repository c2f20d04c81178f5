"""Strict reading of signed JSON: bytes in, typed but unverified TUF metadata out.

Two parsers that read the same bytes differently are how a signature gets to cover something else than what is used, so everything with
more than one reading is refused: duplicate keys, floats, NaN, names that are not NFC, integers beyond 63 bits. Nesting is bounded before
the recursive parser sees the bytes. Verifying signatures is the business of `signatures`; the rules of the roles that of `trust`.
"""

import json
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Generic, NoReturn

from securesystemslib.formats import encode_canonical
from securesystemslib.signer import Signature
from tuf.api.metadata import Metadata, MetaFile, Role, Root, Snapshot, T, TargetFile, Targets, Timestamp

from packager.vehicle.errors import UntrustedError
from packager.vehicle.identity import SHA256, Digest
from packager.vehicle.trust.policy import STRICT, TrustPolicy

MAX_DEPTH: Final = 16
"""TUF metadata needs eight levels, custom fields a few more."""
MAX_INTEGER: Final = (1 << 63) - 1
_MAX_INTEGER_CHARACTERS: Final = len(str(-MAX_INTEGER))
_STRING: Final = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*(?:"|\\?\Z)', re.DOTALL)
_BRACKET: Final = re.compile(rb"[\[\]{}]")


@dataclass(frozen=True, slots=True)
class UnverifiedMetadata(Generic[T]):
    """Well-formed metadata that nobody vouches for yet; `signatures.verify_signatures` turns it into a `T` that can be used.

    Attributes:
        what: Its name in errors.
        claimed: The content.
        payload: The bytes that signatures cover: the canonical form of what stood in the file.
        signatures: By key id.
    """

    what: str
    claimed: T
    payload: bytes
    signatures: Mapping[str, Signature]


def parse_json(data: bytes, what: str) -> Any:
    """Parse JSON that has one reading only.

    Raises:
        UntrustedError: Not UTF-8, not JSON, nested deeper than `MAX_DEPTH`, or any of the ambiguities above.
    """
    _check_depth(data, what)

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        for key, value in pairs:
            _check_text(key, what)
            _check_text(value, what)
        table = dict(pairs)
        if len(table) != len(pairs):
            raise UntrustedError(f"{what}: an object names one key twice among {sorted(table)[:5]}; expected each once")
        return table

    def integer(text: str) -> int:
        if len(text) > _MAX_INTEGER_CHARACTERS or abs(int(text)) > MAX_INTEGER:
            raise UntrustedError(f"{what}: found an integer of {len(text)} characters, expected at most 63 bits")
        return int(text)

    def refuse(text: str) -> NoReturn:
        raise UntrustedError(f"{what}: found the number {text[:20]}, expected integers only")

    try:
        document = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=unique,
            parse_int=integer,
            parse_float=refuse,
            parse_constant=refuse,
        )
    except UnicodeDecodeError as error:
        raise UntrustedError(f"{what}: not UTF-8 at byte {error.start}") from error
    except json.JSONDecodeError as error:
        raise UntrustedError(f"{what}: not JSON: {error}") from error
    _check_text(document, what)
    return document


def parse_metadata(
    data: bytes, kind: type[T], what: str, *, max_bytes: int, policy: TrustPolicy = STRICT
) -> UnverifiedMetadata[T]:
    """Parse one metadata file.

    Args:
        data: The whole file.
        kind: The class that it must be; a snapshot served as timestamp is refused.
        what: Name for error messages.
        max_bytes: The longest that is read at all.
        policy: What a repository may leave open.

    Raises:
        UntrustedError: Too long, not strict JSON, not metadata of this kind, or a field of the wrong type.
    """
    if len(data) > max_bytes:
        raise UntrustedError(f"{what}: found {len(data)} bytes, expected at most {max_bytes}")
    document = parse_json(data, what)
    if not isinstance(document, dict) or set(document) != {"signed", "signatures"}:
        raise UntrustedError(f"{what}: expected an object of exactly 'signed' and 'signatures'")
    try:
        payload = str(encode_canonical(document["signed"])).encode()  # before python-tuf takes the document apart
        metadata = Metadata[T].from_dict(document)
        if not isinstance(metadata.signed, kind):
            raise TypeError(f"found type {metadata.signed.type!r}, expected {kind.type!r}")
        _check_types(metadata.signed, policy)
        if str(encode_canonical(metadata.signed.to_dict())).encode() != payload:
            raise TypeError("what was read differs from what was signed; expected the canonical form of every field")
    except Exception as error:  # python-tuf raises whatever a wrong shape causes
        raise UntrustedError(f"{what}: not {kind.type} metadata: {type(error).__name__}: {error}") from error
    return UnverifiedMetadata(what, metadata.signed, payload, metadata.signatures)


def digest_of(hashes: Mapping[str, str] | None, what: str) -> Digest:
    """Read the hashes of a file: SHA-256 and nothing else, because a hash that is not checked must not look as if it were.

    Raises:
        UntrustedError: SHA-256 is missing or malformed, or another algorithm stands beside it.
    """
    if hashes is None or set(hashes) != {SHA256}:
        raise UntrustedError(f"{what}: found hashes {sorted(hashes or ())}, expected {SHA256} alone")
    try:
        return Digest.from_hex(hashes[SHA256])
    except ValueError as error:
        raise UntrustedError(f"{what}: {error}") from error


def _check_depth(data: bytes, what: str) -> None:
    depth = 0
    for match in _BRACKET.finditer(_STRING.sub(b"", data)):
        depth += 1 if match[0] in b"[{" else -1
        if depth > MAX_DEPTH:
            raise UntrustedError(f"{what}: nested deeper than {MAX_DEPTH} levels")


def _check_text(text: object, what: str) -> None:
    """Check text, also in lists of any depth; what stands in objects was checked when they were read."""
    if isinstance(text, list):
        for entry in text:
            _check_text(entry, what)
        return
    if not isinstance(text, str) or text.isascii():
        return
    if not unicodedata.is_normalized("NFC", text) or any("\ud800" <= character <= "\udfff" for character in text):
        raise UntrustedError(f"{what}: found the text {text[:40]!a}, expected Unicode in its composed form (NFC)")


def _check_types(signed: Root | Timestamp | Snapshot | Targets, policy: TrustPolicy) -> None:
    """Check what python-tuf leaves to chance: ``true`` where an integer is due, other types in lists and flags."""
    _require(int, "version", signed.version)
    if isinstance(signed, Root):
        if policy.requires_consistent_snapshot or signed.consistent_snapshot is not None:
            _require(bool, "consistent_snapshot", signed.consistent_snapshot)
        for role in signed.roles.values():
            _check_role(role)
    elif isinstance(signed, Timestamp):
        _check_meta(signed.snapshot_meta)
    elif isinstance(signed, Snapshot):
        for meta in signed.meta.values():
            _check_meta(meta)
    else:
        _check_targets(signed, policy)


def _check_targets(signed: Targets, policy: TrustPolicy) -> None:
    for target in signed.targets.values():
        _check_target(target)
    if signed.delegations is None:
        return
    for role in (signed.delegations.roles or {}).values():
        _check_role(role)
        _require(bool, "terminating", role.terminating)
        _require(str, "name", role.name)
        for patterns in (role.paths, role.path_hash_prefixes):
            if patterns is not None:
                _require(list, "paths", patterns)
    succinct = signed.delegations.succinct_roles
    if succinct is not None:
        if not policy.allows_succinct_roles:
            raise TypeError("succinct roles are unknown to this reader; expected delegations by path")
        _check_role(succinct)
        _require(int, "bit_length", succinct.bit_length)


def _check_role(role: Role) -> None:
    _require(int, "threshold", role.threshold)
    _require(list, "keyids", role.keyids)
    for key_id in role.keyids:
        _require(str, "keyid", key_id)


def _check_meta(meta: MetaFile) -> None:
    _require(int, "version", meta.version)
    if meta.length is not None:
        _require(int, "length", meta.length)


def _check_target(target: TargetFile) -> None:
    _require(int, "length", target.length)
    if target.custom is not None:
        _require(dict, "custom", target.custom)


def _require(kind: type, name: str, value: object) -> None:
    if type(value) is not kind:
        raise TypeError(f"{name}: found {value!r}, expected {kind.__name__}")
