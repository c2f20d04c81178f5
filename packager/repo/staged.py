"""Proposed metadata on its way from hand to hand: read strictly, who has to sign it, who did. Nothing in it is trusted.

A file's name is ``<version>.<role>.json``, as it will be published. A repository's proposals lie in ``DIR/staged``.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

from securesystemslib.signer import Key
from tuf.api.metadata import DelegatedRole, Metadata, Role, Root, Targets
from tuf.api.serialization.json import JSONSerializer

from packager.model.errors import RepositoryError
from packager.model.policy import KeyPolicy, RolePolicy
from packager.repo.admission import split_role_name
from packager.repo.in_force import InForce
from packager.vehicle.errors import UntrustedError
from packager.vehicle.identity import Digest
from packager.vehicle.table import is_name
from packager.vehicle.trust import workflow
from packager.vehicle.trust.metadata_json import UnverifiedMetadata, parse_json, parse_metadata
from packager.vehicle.trust.signatures import verify_signatures

STAGED: Final = Path("staged")
_ONLINE: Final = ("snapshot", "timestamp")


@dataclass(frozen=True, slots=True)
class StagedFile:
    """One proposed metadata file.

    Attributes:
        role: Its role.
        data: The file.
        metadata: What it says.
    """

    role: str
    data: bytes
    metadata: UnverifiedMetadata[Root] | UnverifiedMetadata[Targets]

    @property
    def version(self) -> int:
        """The version that it states."""
        return self.metadata.claimed.version

    @property
    def name(self) -> str:
        """The file's name."""
        return f"{self.version}.{self.role}.json"

    @property
    def digest(self) -> Digest:
        """SHA-256 of the bytes that signatures cover."""
        return Digest.of(self.metadata.payload)


@dataclass(frozen=True, slots=True)
class Demand:
    """One threshold that a proposed file must meet.

    Attributes:
        by: Who demands it.
        role: Key ids and threshold.
        keys: Keys by id.
        signed: The key ids of which a valid signature is there.
    """

    by: str
    role: Role
    keys: Mapping[str, Key]
    signed: tuple[str, ...]

    @property
    def missing(self) -> tuple[str, ...]:
        """The key ids that have not signed."""
        return tuple(key_id for key_id in self.role.keyids if key_id not in self.signed)

    @property
    def lacking(self) -> int:
        """How many more signatures are needed."""
        return max(self.role.threshold - len(self.signed), 0)


def unsigned_file(role: str, payload: Root | Targets) -> StagedFile:
    """Return a proposal that nobody signed yet."""
    metadata: Metadata[Any] = Metadata(payload)
    return parse_file(f"{payload.version}.{role}.json", metadata.to_bytes(JSONSerializer(compact=True)))


def role_policy(policy: KeyPolicy, role: str) -> RolePolicy | None:
    """Return what a policy says of a role: of a top-level one, or of the domain of ``<domain>.<release id>``."""
    top = {"root": policy.root, "targets": policy.targets, "snapshot": policy.snapshot, "timestamp": policy.timestamp}
    return top.get(role) or policy.domains.get(split_role_name(role)[0])


def read_file(path: Path) -> StagedFile:
    """Read one proposed file.

    Raises:
        RepositoryError: It is missing, or not strict metadata of a role that is signed by hand.
    """
    try:
        with path.open("rb") as file:
            data = file.read(workflow.MAX_TARGETS_BYTES + 1)
    except OSError as error:
        raise RepositoryError(
            f"{path}: {error.strerror}; expected proposed metadata", hint="packager repo propose makes it"
        ) from error
    return parse_file(path.name, data)


def parse_file(name: str, data: bytes) -> StagedFile:
    """Read the content of one proposed file under its name.

    Raises:
        RepositoryError: As `read_file`; or the name differs from what the file says.
    """
    version, _, rest = name.partition(".")
    role = rest.removesuffix(".json")
    if not (version.isascii() and version.isdecimal() and rest.endswith(".json") and is_name(role)):
        raise RepositoryError(f"{name}: expected a file name of the form <version>.<role>.json")
    if role in _ONLINE:
        raise RepositoryError(f"{name}: {role} is made when it is published and never proposed", hint="remove the file")
    metadata: UnverifiedMetadata[Root] | UnverifiedMetadata[Targets]
    try:
        if role == Root.type:
            metadata = parse_metadata(data, Root, name, max_bytes=workflow.MAX_ROOT_BYTES)
        else:
            metadata = parse_metadata(data, Targets, name, max_bytes=workflow.MAX_TARGETS_BYTES)
    except UntrustedError as error:
        raise RepositoryError(str(error), hint="get the file again from whom you have it") from error
    if str(metadata.claimed.version) != version:
        raise RepositoryError(f"{name}: states version {metadata.claimed.version}, expected the one of its name")
    return StagedFile(role, data, metadata)


def read_staged(directory: Path) -> dict[str, StagedFile]:
    """Read all proposals of ``DIR/staged`` by role: root first, then targets, then the others by name.

    Raises:
        RepositoryError: As `read_file`; or two files are of one role.
    """
    staged: dict[str, StagedFile] = {}
    for path in sorted((directory / STAGED).glob("*.json")):
        file = read_file(path)
        if file.role in staged:
            raise RepositoryError(
                f"{path}: role {file.role!r} is proposed twice, as {staged[file.role].name}",
                hint="remove one of the two",
            )
        staged[file.role] = file
    first = (Root.type, Targets.type)
    return {role: staged[role] for role in (*first, *sorted(set(staged) - set(first))) if role in staged}


def demands(file: StagedFile, staged: Mapping[str, StagedFile], in_force: InForce) -> list[Demand]:
    """Return every threshold that a proposed file must meet, and who has signed: a root's by the old root and by itself.

    Empty if nobody delegates to its role.
    """
    new_root, new_targets = staged.get(Root.type), staged.get(Targets.type)
    root = new_root.metadata.claimed if new_root else in_force.root
    targets = new_targets.metadata.claimed if new_targets else in_force.targets
    found: list[tuple[str, Role | None, Mapping[str, Key]]] = []
    if file.role == Root.type:
        claimed = file.metadata.claimed
        assert isinstance(claimed, Root)  # noqa: S101 - parsed as such
        if in_force.root is not None and in_force.root.version < claimed.version:
            found.append((f"root {in_force.root.version}", in_force.root.roles[Root.type], in_force.root.keys))
        found.append((f"root {claimed.version}", claimed.roles[Root.type], claimed.keys))
    elif file.role == Targets.type:
        if isinstance(root, Root):
            found.append((f"root {root.version}", root.roles[Targets.type], root.keys))
    elif isinstance(targets, Targets):
        role, keys = delegated(targets, file.role)
        found.append((f"targets {targets.version}", role, keys))
    return [Demand(by, role, keys, valid_signers(file, role, keys)) for by, role, keys in found if role is not None]


def delegated(targets: Targets, name: str) -> tuple[DelegatedRole | None, Mapping[str, Key]]:
    """Return a delegated role, None if there is no such delegation, and the keys that its key ids mean."""
    if targets.delegations is None:
        return None, {}
    return (targets.delegations.roles or {}).get(name), targets.delegations.keys


def valid_signers(file: StagedFile, role: Role, keys: Mapping[str, Key]) -> tuple[str, ...]:
    """Return which keys of a role have signed; each judged by the vehicle's code, alone."""
    return tuple(key_id for key_id in role.keyids if has_signed(file, key_id, keys))


def has_signed(file: StagedFile, key_id: str, keys: Mapping[str, Key]) -> bool:
    """Tell whether a valid signature of one key is there."""
    try:
        verify_signatures(cast("UnverifiedMetadata[Any]", file.metadata), Role([key_id], 1), keys, "")
    except UntrustedError:
        return False
    return True


def with_signature(file: StagedFile, key_id: str, signature: str) -> bytes:
    """Return the file with one signature more; all others stay, an older one of the same key is replaced.

    Args:
        file: What was signed.
        key_id: Of the key.
        signature: Hexadecimal.
    """
    document = parse_json(file.data, file.name)
    others = [entry for entry in document["signatures"] if entry["keyid"] != key_id]
    document["signatures"] = [*others, {"keyid": key_id, "sig": signature}]
    return json.dumps(document, separators=(",", ":"), sort_keys=True).encode()


def label(key_id: str, names: Mapping[str, str]) -> str:
    """Return how a key is shown: its name, or the start of its id."""
    return names.get(key_id, f"key {key_id[:16]}")


def labels(key_ids: Sequence[str], names: Mapping[str, str]) -> str:
    """Return several keys as shown."""
    return ", ".join(label(key_id, names) for key_id in key_ids)
