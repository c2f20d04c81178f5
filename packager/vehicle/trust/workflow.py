"""The rules of the TUF client workflow (specification 1.0.34, 5.3 to 5.6) as pure functions: bytes in, verified metadata out.

Every function takes what is trusted already, the bytes of a candidate and the time, and returns the verified object or raises. Nothing
here reads a clock, a file or the network: `metadata_store` does, and `packager verify` uses the same functions on a directory.
"""

from datetime import datetime
from typing import Final

from tuf.api.metadata import MetaFile, Root, Signed, Snapshot, Targets, Timestamp

from packager.vehicle.errors import UntrustedError
from packager.vehicle.identity import Digest
from packager.vehicle.trust.metadata_json import digest_of, parse_metadata
from packager.vehicle.trust.policy import STRICT, Hashes, TrustPolicy
from packager.vehicle.trust.signatures import verify_signatures

MAX_ROOT_BYTES: Final = 512_000
MAX_TIMESTAMP_BYTES: Final = 16_384
MAX_SNAPSHOT_BYTES: Final = 2_000_000
MAX_TARGETS_BYTES: Final = 5_000_000
MAX_ROOT_ROTATIONS: Final = 256


class ExpiredError(UntrustedError):
    """Metadata whose time is over: the repository was not renewed, somebody holds newer metadata back, or the clock is wrong."""


def read_root(data: bytes, policy: TrustPolicy = STRICT) -> Root:
    """Verify a root by itself: the form of the one that trust starts from. Its expiry is checked once the chain is followed.

    Raises:
        UntrustedError: Malformed, or not signed by its own threshold of keys.
    """
    candidate = parse_metadata(data, Root, "root.json", max_bytes=MAX_ROOT_BYTES, policy=policy)
    root = candidate.claimed
    verify_signatures(candidate, root.roles[Root.type], root.keys, "it")
    if policy.requires_consistent_snapshot and root.consistent_snapshot is not True:
        raise UntrustedError(
            "root.json: consistent_snapshot is false; expected true, as metadata is fetched by version"
        )
    return root


def read_next_root(data: bytes, trusted: Root, policy: TrustPolicy = STRICT) -> Root:
    """Verify the root that follows `trusted`: version plus one, signed by the thresholds of both (TUF 5.3.4, 5.3.5).

    Raises:
        UntrustedError: It does not follow.
    """
    what = f"root.json version {trusted.version + 1}"
    candidate = parse_metadata(data, Root, what, max_bytes=MAX_ROOT_BYTES, policy=policy)
    verify_signatures(candidate, trusted.roles[Root.type], trusted.keys, f"root version {trusted.version}")
    root = read_root(data, policy)
    if root.version != trusted.version + 1:
        raise UntrustedError(f"{what}: states version {root.version}; roots follow one by one")
    return root


def rotates_online_keys(old: Root, new: Root) -> bool:
    """Tell whether stored timestamp and snapshot must go, so that a fast-forward by stolen keys is undone (TUF 5.3.11)."""
    return any(_authority(old, role) != _authority(new, role) for role in (Timestamp.type, Snapshot.type))


def check_expiry(signed: Signed, what: str, now: datetime) -> None:
    """Require that metadata is still valid.

    Raises:
        ExpiredError: It is not (TUF 5.3.10, 5.4.4, 5.5.6, 5.6.5).
    """
    if signed.is_expired(now):
        raise ExpiredError(
            f"{what} version {signed.version}: expired at {signed.expires:%Y-%m-%dT%H:%M:%SZ}, the time is {now:%Y-%m-%dT%H:%M:%SZ}"
        )


def read_stored_timestamp(data: bytes, root: Root, policy: TrustPolicy = STRICT) -> Timestamp:
    """Verify the signatures of a timestamp that was trusted before; it may have expired, but still guards against rollback.

    Raises:
        UntrustedError: The root does not vouch for it (any more).
    """
    candidate = parse_metadata(data, Timestamp, "timestamp.json", max_bytes=MAX_TIMESTAMP_BYTES, policy=policy)
    timestamp = verify_signatures(candidate, root.roles[Timestamp.type], root.keys, "root")
    if policy.requires_length_and_hash:
        _signed_file(timestamp.snapshot_meta, "snapshot.json", "timestamp.json")
    return timestamp


def read_timestamp(
    data: bytes, root: Root, trusted: Timestamp | None, now: datetime, policy: TrustPolicy = STRICT
) -> Timestamp:
    """Verify a timestamp (TUF 5.4).

    Args:
        data: The candidate.
        root: The verified root.
        trusted: The last trusted one, None if there is none.
        now: The time.
        policy: What a repository may leave open; one that keeps a known version returns `trusted` itself for it.

    Raises:
        ExpiredError: Its time is over.
        UntrustedError: Signatures, a version that goes back, or the same version with other content.
    """
    timestamp = read_stored_timestamp(data, root, policy)
    if trusted is not None and policy.keeps_same_version and timestamp.version == trusted.version:
        timestamp = trusted
    elif trusted is not None:
        _check_version("timestamp.json", timestamp, trusted)
        found, known = timestamp.snapshot_meta.version, trusted.snapshot_meta.version
        if found < known:
            raise UntrustedError(
                f"timestamp.json: lists snapshot version {found}, but version {known} was trusted before"
            )
    check_expiry(timestamp, "timestamp.json", now)
    return timestamp


def read_stored_snapshot(data: bytes, root: Root, policy: TrustPolicy = STRICT) -> Snapshot:
    """Verify the signatures of a snapshot that was trusted before; it guards against rollback of what it lists.

    Raises:
        UntrustedError: The root does not vouch for it (any more).
    """
    candidate = parse_metadata(data, Snapshot, "snapshot.json", max_bytes=MAX_SNAPSHOT_BYTES, policy=policy)
    return verify_signatures(candidate, root.roles[Snapshot.type], root.keys, "root")


def read_snapshot(
    data: bytes,
    root: Root,
    timestamp: Timestamp,
    trusted: Snapshot | None,
    now: datetime,
    policy: TrustPolicy = STRICT,
) -> Snapshot:
    """Verify a snapshot against the timestamp, the root and the last trusted one (TUF 5.5).

    Raises:
        ExpiredError: Its time is over.
        UntrustedError: Another length, hash or version than the timestamp says, signatures, or a role that goes back, vanished or
            has other content under the same version.
    """
    _check_file(data, timestamp.snapshot_meta, "snapshot.json", "timestamp.json", policy)
    snapshot = read_stored_snapshot(data, root, policy)
    _check_listed_version("snapshot.json", snapshot, timestamp.snapshot_meta)
    if trusted is not None:
        _check_version("snapshot.json", snapshot, trusted)
        for name, known in trusted.meta.items():
            found = snapshot.meta.get(name)
            if found is None:
                raise UntrustedError(
                    f"snapshot.json: {name} is missing, but was listed with version {known.version} before"
                )
            if found.version < known.version:
                raise UntrustedError(
                    f"snapshot.json: lists {name} version {found.version}, but version {known.version} was trusted before"
                )
            if found.version == known.version and _differ(found, known):
                raise UntrustedError(
                    f"snapshot.json: {name} version {found.version} was trusted before with other content"
                )
    check_expiry(snapshot, "snapshot.json", now)
    return snapshot


def read_targets(data: bytes, root: Root, snapshot: Snapshot, now: datetime, policy: TrustPolicy = STRICT) -> Targets:
    """Verify the top-level targets role (TUF 5.6).

    Raises:
        ExpiredError: Its time is over.
        UntrustedError: Another length, hash or version than the snapshot says, or signatures.
    """
    return _read_listed_targets(data, Targets.type, root, snapshot, now, policy)


def read_delegated(
    data: bytes, name: str, delegator: Targets, snapshot: Snapshot, now: datetime, policy: TrustPolicy = STRICT
) -> Targets:
    """Verify the delegated role `name` with the keys of this very delegator (TUF 5.6.7).

    Raises:
        ExpiredError: Its time is over.
        UntrustedError: Not delegated, another length, hash or version than the snapshot says, or signatures.
    """
    return _read_listed_targets(data, name, delegator, snapshot, now, policy)


def listed_file(snapshot: Snapshot, role: str) -> tuple[int, int, Digest]:
    """Return version, length and digest that the snapshot lists for a role; both of the latter are required (CVE-2026-6967).

    Raises:
        UntrustedError: The role, its length or its hash is missing, or it is longer than any role may be.
    """
    meta = listed_role(snapshot, role)
    length_bytes, digest = _signed_file(meta, f"{role}.json", "snapshot.json")
    role_length_bytes(snapshot, role)
    return meta.version, length_bytes, digest


def listed_role(snapshot: Snapshot, role: str) -> MetaFile:
    """Return what the snapshot lists for a role.

    Raises:
        UntrustedError: Nothing.
    """
    meta = snapshot.meta.get(f"{role}.json")
    if meta is None:
        raise UntrustedError(f"snapshot.json: {role}.json is missing; expected its version, length and hash")
    return meta


def role_length_bytes(snapshot: Snapshot, role: str, policy: TrustPolicy = STRICT) -> int:
    """Return the length that the snapshot lists for a role; the longest that is allowed if the policy lets it be left out.

    Raises:
        UntrustedError: It is missing, or longer than any role may be.
    """
    return _length_bytes(listed_role(snapshot, role), f"{role}.json", "snapshot.json", MAX_TARGETS_BYTES, policy)


def snapshot_length_bytes(timestamp: Timestamp, policy: TrustPolicy = STRICT) -> int:
    """Return the length of the snapshot that the timestamp lists; the longest that is allowed if the policy lets it be left out.

    Raises:
        UntrustedError: It is missing, or longer than a snapshot may be.
    """
    return _length_bytes(timestamp.snapshot_meta, "snapshot.json", "timestamp.json", MAX_SNAPSHOT_BYTES, policy)


def _read_listed_targets(
    data: bytes, name: str, delegator: Root | Targets, snapshot: Snapshot, now: datetime, policy: TrustPolicy
) -> Targets:
    what = f"{name}.json"
    meta = listed_role(snapshot, name)
    _check_file(data, meta, what, "snapshot.json", policy)
    candidate = parse_metadata(data, Targets, what, max_bytes=MAX_TARGETS_BYTES, policy=policy)
    try:
        role = delegator.get_delegated_role(name)
    except ValueError as error:
        raise UntrustedError(f"{what}: nobody delegates to it: {error}") from error
    keys = (
        delegator.keys if isinstance(delegator, Root) else delegator.delegations.keys if delegator.delegations else {}
    )
    targets = verify_signatures(candidate, role, keys, "its delegator")
    _check_listed_version(what, targets, meta)
    check_expiry(targets, what, now)
    return targets


def _authority(root: Root, role: str) -> tuple[int, frozenset[str], tuple[str, ...]]:
    entry = root.roles[role]
    contents = sorted(str(root.keys[key_id].to_dict()) for key_id in entry.keyids if key_id in root.keys)
    return entry.threshold, frozenset(entry.keyids), tuple(contents)


def _signed_file(meta: MetaFile, name: str, by: str) -> tuple[int, Digest]:
    if meta.length is None:
        raise UntrustedError(f"{by}: the length of {name} is missing")
    return meta.length, digest_of(meta.hashes, f"{by}: {name}")


def _length_bytes(meta: MetaFile, name: str, by: str, limit: int, policy: TrustPolicy) -> int:
    if policy.requires_length_and_hash:
        _signed_file(meta, name, by)
    length_bytes = limit if meta.length is None else meta.length
    if length_bytes > limit:
        raise UntrustedError(f"{by}: {name} of {length_bytes} bytes, expected at most {limit}")
    return length_bytes


def _check_file(data: bytes, meta: MetaFile, name: str, by: str, policy: TrustPolicy) -> None:
    if not policy.requires_length_and_hash:
        if meta.length is not None and len(data) != meta.length:
            raise UntrustedError(f"{name}: found {len(data)} bytes; {by} lists {meta.length}")
        if meta.hashes is not None:
            hashes = Hashes(meta.hashes, name, policy)
            hashes.update(data)
            hashes.check()
        return
    length_bytes, digest = _signed_file(meta, name, by)
    found = Digest.of(data)
    if len(data) != length_bytes or found != digest:
        raise UntrustedError(
            f"{name}: found {len(data)} bytes, {found}; {by} lists {length_bytes} bytes, {digest}, for version {meta.version}"
        )


def _differ(found: MetaFile, known: MetaFile) -> bool:
    """Tell whether two entries of one version are about different files; what only one of them states says nothing."""
    pairs = ((found.length, known.length), (found.hashes, known.hashes))
    return any(a is not None and b is not None and a != b for a, b in pairs)


def _check_listed_version(name: str, signed: Signed, meta: MetaFile) -> None:
    if signed.version != meta.version:
        raise UntrustedError(f"{name}: states version {signed.version}, but is listed as version {meta.version}")


def _check_version(name: str, found: Timestamp | Snapshot, trusted: Timestamp | Snapshot) -> None:
    if found.version < trusted.version:
        raise UntrustedError(f"{name}: version {found.version}, but version {trusted.version} was trusted before")
    if found.version == trusted.version and found != trusted:
        raise UntrustedError(f"{name}: version {found.version} was trusted before with other content")
