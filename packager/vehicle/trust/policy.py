"""What a repository may leave open: `STRICT` for vehicles, `PLAIN` for any repository that follows the TUF specification.

Both count different keys instead of key ids and read JSON that has one reading only. This module only says what differs, and how the
hashes that a signed list names are checked.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from packager.vehicle.errors import UntrustedError
from packager.vehicle.identity import SHA256


@dataclass(frozen=True, slots=True)
class TrustPolicy:
    """How much is required beyond signatures, versions and expiry.

    Attributes:
        requires_consistent_snapshot: Metadata and targets are fetched by version and hash.
        requires_length_and_hash: Timestamp and snapshot list length and hash of every file (CVE-2026-6967).
        requires_safe_names: Names of delegated roles are safe as paths; else they are quoted.
        allows_succinct_roles: Hash bins as in TAP 15.
        keeps_same_version: A timestamp of the version that is trusted already is passed over, as the specification wants (5.4.3),
            instead of refused if its content differs.
        stores_each: Every file is stored once it holds (TUF 5.4.5, 5.5.7, 5.6.6), not only when all of a refresh do.
        hash_algorithms: Those that count. The strict reader wants its one alone, because a hash that is not checked must not look as if
            it were; else every known hash is checked, unknown ones are passed over, and one must be known. MD5 and SHA-1 never are.
    """

    requires_consistent_snapshot: bool
    requires_length_and_hash: bool
    requires_safe_names: bool
    allows_succinct_roles: bool
    keeps_same_version: bool
    stores_each: bool
    hash_algorithms: frozenset[str]

    @property
    def is_strict(self) -> bool:
        """Whether this is the policy of vehicles."""
        return self == STRICT


STRICT: Final = TrustPolicy(
    requires_consistent_snapshot=True,
    requires_length_and_hash=True,
    requires_safe_names=True,
    allows_succinct_roles=False,
    keeps_same_version=False,
    stores_each=False,
    hash_algorithms=frozenset({SHA256}),
)
PLAIN: Final = TrustPolicy(
    requires_consistent_snapshot=False,
    requires_length_and_hash=False,
    requires_safe_names=False,
    allows_succinct_roles=True,
    keeps_same_version=True,
    stores_each=True,
    hash_algorithms=frozenset({SHA256, "sha384", "sha512"}),
)


class _Hasher(Protocol):
    def update(self, data: bytes, /) -> None: ...
    def hexdigest(self) -> str: ...


class Hashes:
    """Checks bytes against all hashes of a signed list that count.

    Args:
        listed: Hexadecimal digests by algorithm.
        what: Whose they are, for errors.
        policy: Which count.

    Raises:
        UntrustedError: None that counts is listed, one is malformed, or, for the strict policy, another one is.
    """

    def __init__(self, listed: Mapping[str, str] | None, what: str, policy: TrustPolicy) -> None:
        self._what = what
        found = listed or {}
        self.expected = {name: found[name] for name in sorted(found) if name in policy.hash_algorithms}
        is_other_listed = policy.is_strict and len(found) != len(self.expected)
        if not self.expected or is_other_listed:
            wanted = " or ".join(sorted(policy.hash_algorithms))
            raise UntrustedError(
                f"{what}: found hashes {sorted(found)}, expected {wanted}{' alone' if policy.is_strict else ''}"
            )
        self._hashers: dict[str, _Hasher] = {name: hashlib.new(name) for name in self.expected}

    def update(self, data: bytes) -> None:
        """Take in the next bytes."""
        for hasher in self._hashers.values():
            hasher.update(data)

    def check(self) -> None:
        """Require that the bytes so far are those that were signed.

        Raises:
            UntrustedError: A hash differs (Uptane 5.4.2.4: every listed one counts).
        """
        for name, hasher in self._hashers.items():
            if hasher.hexdigest() != self.expected[name]:
                raise UntrustedError(
                    f"{self._what}: found {name} {hasher.hexdigest()}, the signed list names {self.expected[name]}"
                )
