"""A TUF repository in memory that can publish anything, hostile states included. It is a `Fetcher` and a `BundleSource`."""

import copy
import functools
import hashlib
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from securesystemslib.signer import CryptoSigner, Key
from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    Metadata,
    MetaFile,
    Role,
    Root,
    Signed,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)

from packager.bundle.encoder import Label, encode
from packager.diff.engine import Alignment
from packager.vehicle.core.head import SignedHead
from packager.vehicle.core.segments import Segment
from packager.vehicle.core.targets import BundleTarget, ImageTarget
from packager.vehicle.errors import TemporaryError, UntrustedError
from packager.vehicle.identity import Digest, ImageId
from packager.vehicle.profile import UpdateProfile
from packager.vehicle.transport.speed import Speed
from packager.vehicle.trust.metadata_store import NotFoundError

NOW = datetime(2026, 7, 1, 12, 0, 0, tzinfo=UTC)
LATER = NOW + timedelta(days=30)
TOP_LEVEL = ("root", "targets", "snapshot", "timestamp")
BLOCK_BYTES = 4096
PROFILE = UpdateProfile(block_bytes=BLOCK_BYTES)


@dataclass(frozen=True)
class MadeBundle:
    data: bytes
    head_bytes: int
    target: BundleTarget


def signers(count: int) -> list[CryptoSigner]:
    return [CryptoSigner.generate_ed25519() for _ in range(count)]


def under_another_id(signer: CryptoSigner, key_id: str = "f" * 64) -> CryptoSigner:
    """Return a signer with the same key, labelled differently."""
    key = Key.from_dict(key_id, signer.public_key.to_dict())
    return CryptoSigner(signer._private_key, key)


@functools.lru_cache(maxsize=200)  # tests make few different ones, thousands of times
def make_bundle(
    hardware_id: str,
    version: str,
    counter: int,
    old: bytes | None,
    new: bytes,
    *,
    hardware_ids: tuple[str, ...] = (),
    profile: UpdateProfile = PROFILE,
) -> MadeBundle:
    segments = [] if old is None else [Segment(0, 0, min(len(old), len(new)))]
    label = Label(counter, version, hardware_ids or (hardware_id,))
    written = encode(old, new, Alignment(segments), profile, label).written
    target = BundleTarget(
        hardware_id=hardware_id,
        version=version,
        length_bytes=len(written.data),
        digest=Digest.of(written.data),
        old=None if old is None else Digest.of(old),
        head=SignedHead(written.head_bytes, Digest.of(written.data[: written.head_bytes])),
    )
    return MadeBundle(written.data, written.head_bytes, target)


class RepositorySimulator:
    """Roles are plain objects to be changed at will; `publish` signs them all and makes the files.

    Attributes:
        signers: Who signs each role.
        root, targets, snapshot, timestamp, delegated: The roles.
        files: Published metadata by path.
        contents: Published targets by path.
        requests: Metadata paths asked for.
        streams: Targets asked for, with the offset.
        reads: Parts of targets asked for, with first and end byte.
        chunk_bytes: Pieces of a stream.
    """

    def __init__(self, threshold: int = 1) -> None:
        self.signers = {name: signers(threshold if name in ("root", "targets") else 1) for name in TOP_LEVEL}
        self.root = Root(version=1, expires=LATER + timedelta(days=365), consistent_snapshot=True)
        self.root.keys = {s.public_key.keyid: s.public_key for group in self.signers.values() for s in group}
        self.root.roles = {name: self.role(name, threshold) for name in TOP_LEVEL}
        self.timestamp = Timestamp(version=1, expires=LATER)
        self.snapshot = Snapshot(version=1, expires=LATER)
        self.targets = Targets(version=1, expires=LATER)
        self.delegated: dict[str, Targets] = {}
        self.files: dict[str, bytes] = {}
        self.contents: dict[str, bytes] = {}
        self.requests: list[str] = []
        self.streams: list[tuple[str, int]] = []
        self.reads: list[tuple[str, int, int]] = []
        self.streamed_bytes = 0
        self.serves_ranges = True
        self.chunk_bytes = 1000
        self.cut_stream_at: int | None = None
        self.speed = Speed()
        self.publish_root()

    # Building

    def role(self, name: str, threshold: int = 1) -> Role:
        group = self.signers[name]
        return Role([s.public_key.keyid for s in group], threshold if len(group) >= threshold else 1)

    def delegate(
        self,
        name: str,
        paths: Iterable[str],
        *,
        terminating: bool = True,
        by: str = "targets",
        threshold: int = 1,
        with_signers: list[CryptoSigner] | None = None,
    ) -> Targets:
        """Delegate `paths` to the role `name`, made if it is new, from the role `by`."""
        if name not in self.delegated:
            self.delegated[name] = Targets(version=1, expires=LATER)
            self.signers[name] = with_signers or signers(threshold)
        group = with_signers or self.signers[name]
        delegator = self.targets if by == "targets" else self.delegated[by]
        if delegator.delegations is None:
            delegator.delegations = Delegations({}, {})
        roles = delegator.delegations.roles
        assert roles is not None
        ids = [s.public_key.keyid for s in group]
        roles[name] = DelegatedRole(name, ids, threshold, terminating, list(paths))
        delegator.delegations.keys.update({s.public_key.keyid: s.public_key for s in group})
        return self.delegated[name]

    def add_target(self, role: str, path: str, data: bytes, custom: dict[str, Any] | None = None) -> None:
        fields = {} if custom is None else {"custom": custom}
        owner = self.targets if role == "targets" else self.delegated[role]
        owner.targets[path] = TargetFile(len(data), {"sha256": hashlib.sha256(data).hexdigest()}, path, fields)

    def add_image(
        self,
        role: str,
        hardware_id: str,
        version: str,
        counter: int,
        data: bytes,
        hardware_ids: tuple[str, ...] = (),
        max_repair_bytes: int | None = None,
    ) -> ImageTarget:
        image = ImageTarget(
            hardware_id, version, ImageId.of(data), counter, hardware_ids or (hardware_id,), max_repair_bytes
        )
        self.add_target(role, image.path, data, image.custom)
        return image

    def add_bundle(self, role: str, bundle: MadeBundle) -> MadeBundle:
        self.add_target(role, bundle.target.path, bundle.data, bundle.target.custom)
        self.contents[bundle.target.path] = bundle.data
        return bundle

    def release(
        self,
        role: str,
        hardware_id: str,
        version: str,
        counter: int,
        new: bytes,
        *olds: bytes,
        full: bool = True,
        profile: UpdateProfile = PROFILE,
        max_repair_bytes: int | None = None,
    ) -> list[MadeBundle]:
        """Offer a new image with its bundles."""
        self.add_image(role, hardware_id, version, counter, new, max_repair_bytes=max_repair_bytes)
        sources: list[bytes | None] = [*olds, *([None] if full else [])]
        made = [make_bundle(hardware_id, version, counter, old, new, profile=profile) for old in sources]
        return [self.add_bundle(role, bundle) for bundle in made]

    # Publishing

    def sign(self, signed: Signed, group: Iterable[CryptoSigner]) -> bytes:
        metadata = Metadata(copy.deepcopy(signed))
        for signer in group:
            metadata.sign(signer, append=True)
        return metadata.to_bytes()

    def publish_root(self, group: Iterable[CryptoSigner] | None = None) -> bytes:
        data = self.sign(self.root, self.signers["root"] if group is None else group)
        self.files[f"{self.root.version}.root.json"] = data
        return data

    def rotate(
        self, name: str, *, sign_with: Callable[[list[CryptoSigner], list[CryptoSigner]], Any] | None = None
    ) -> None:
        """Give a top-level role new keys, with the next root; by default old and new root keys sign it."""
        old = self.signers[name]
        threshold = self.root.roles[name].threshold
        self.signers[name] = signers(len(old))
        for signer in old:
            self.root.keys.pop(signer.public_key.keyid, None)
        self.root.keys.update({s.public_key.keyid: s.public_key for s in self.signers[name]})
        self.root.roles[name] = self.role(name, threshold)
        self.root.version += 1
        new = self.signers["root"]
        if name != "root":
            self.publish_root(new)
        else:
            self.publish_root([*old, *new] if sign_with is None else sign_with(old, new))

    def publish(self, *, bump: bool = True) -> None:
        """Sign every role but root; by default each with its next version."""
        roles = {"targets": self.targets, **self.delegated}
        if self.files.get("timestamp.json") and bump:
            for role in (*roles.values(), self.snapshot, self.timestamp):
                role.version += 1
        self.snapshot.meta = {}
        for name, role in roles.items():
            self.publish_role(name, role)
        self.publish_snapshot()

    def publish_role(self, name: str, role: Targets) -> bytes:
        data = self.sign(role, self.signers[name])
        self.files[f"{role.version}.{name}.json"] = data
        self.snapshot.meta[f"{name}.json"] = listed(role.version, data)
        return data

    def publish_snapshot(self) -> None:
        data = self.sign(self.snapshot, self.signers["snapshot"])
        self.files[f"{self.snapshot.version}.snapshot.json"] = data
        self.timestamp.snapshot_meta = listed(self.snapshot.version, data)
        self.publish_timestamp()

    def publish_timestamp(self) -> None:
        self.files["timestamp.json"] = self.sign(self.timestamp, self.signers["timestamp"])

    def write(self, root: Path) -> None:
        """Write everything as files, for a real server."""
        for folder, files in (("metadata", self.files), ("targets", self.contents)):
            for path, data in files.items():
                (root / folder / path).parent.mkdir(parents=True, exist_ok=True)
                (root / folder / path).write_bytes(data)

    # Serving

    def fetch(self, path: str, max_bytes: int) -> bytes:
        self.requests.append(path)
        if path not in self.files:
            raise NotFoundError(f"{path}: not found")
        if len(self.files[path]) > max_bytes:
            raise UntrustedError(f"{path}: longer than {max_bytes} bytes")
        return self.files[path]

    def read(self, path: str, offset: int, end: int) -> bytes:
        self.reads.append((path, offset, end))
        if path not in self.contents:
            raise NotFoundError(f"{path}: not found")
        data = self.contents[path][offset:end]
        if len(data) != end - offset:
            raise TemporaryError(f"{path}: ended at byte {offset + len(data)}, expected {end}")
        return data

    def stream(self, path: str, offset: int, end: int) -> Generator[bytes, None, None]:
        self.streams.append((path, offset))
        if path not in self.contents:
            raise NotFoundError(f"{path}: not found")
        data = self.contents[path][:end]
        while offset < end:
            if self.cut_stream_at is not None and offset >= self.cut_stream_at:
                raise TemporaryError(f"{path}: broke off at byte {offset}")
            chunk = data[offset : offset + self.chunk_bytes]
            if not chunk:
                raise TemporaryError(f"{path}: ended at byte {offset}, expected {end}")
            offset += len(chunk)
            self.streamed_bytes += len(chunk)
            yield chunk


def listed(version: int, data: bytes) -> MetaFile:
    return MetaFile(version, len(data), {"sha256": hashlib.sha256(data).hexdigest()})


def with_target(bundle: MadeBundle, **changes: Any) -> MadeBundle:
    """Return a bundle whose signed description differs from what it is."""
    return MadeBundle(bundle.data, bundle.head_bytes, replace(bundle.target, **changes))
