"""A repository's life in memory and a directory: all keys at hand, small releases with real files, cars that follow."""

import copy
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self

from securesystemslib.signer import CryptoSigner, Signer
from tuf.api.metadata import Metadata, Root, Targets

from packager.model.policy import KeyPolicy, RolePolicy
from packager.repo.contents import Chain, Contents
from packager.repo.in_force import InForce, read_in_force
from packager.repo.online import Online
from packager.repo.proposal import propose
from packager.repo.publication import Published, publish
from packager.repo.serving import FetchFromDirectory
from packager.repo.staged import STAGED, StagedFile, demands, parse_file, read_staged, unsigned_file, with_signature
from packager.repo.staging_area import stage
from packager.repo.writes import Writes
from packager.vehicle.core.head import MIN_HEAD_BYTES, SignedHead
from packager.vehicle.core.targets import BundleTarget, ImageTarget
from packager.vehicle.identity import Digest, ImageId
from packager.vehicle.trust.metadata_store import MemoryStorage, TrustedMetadata, refresh

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
HARDWARE = {"body": ("BDC-1",), "powertrain": ("DME-1",)}
POLICY = KeyPolicy(
    demo=False,
    root=RolePolicy(("root-1", "root-2", "root-3"), 2, 400),
    targets=RolePolicy(("targets-1", "targets-2", "targets-3"), 2, 100),
    snapshot=RolePolicy(("snapshot",), 1, 40),
    timestamp=RolePolicy(("timestamp",), 1, 8),
    domains={"body": RolePolicy(("body",), 1, 60), "powertrain": RolePolicy(("pt-1", "pt-2"), 2, 60)},
    layout=RolePolicy(("owner",), 1, 90),
    steps={},
)


def with_role(policy: KeyPolicy, name: str, keys: Iterable[str], threshold: int) -> KeyPolicy:
    """Return a policy with other keys of one role, top-level or of a domain."""
    if name in policy.domains:
        changed = replace(policy.domains[name], keys=tuple(keys), threshold=threshold)
        return replace(policy, domains={**policy.domains, name: changed})
    return replace(policy, **{name: replace(getattr(policy, name), keys=tuple(keys), threshold=threshold)})


class Life:
    """A repository with all of its keys."""

    def __init__(self, place: Path, policy: KeyPolicy = POLICY) -> None:
        self.directory = place / "repository"
        self.place = place
        self.policy = policy
        self.now = NOW
        self.signers: dict[str, Signer] = {}
        self.chains: list[str] = []

    @classmethod
    def with_a_release(cls, place: Path) -> Self:
        """Return a repository whose root and first release are in force."""
        life = cls(place)
        life.whole()
        life.whole(1)
        return life

    def signer(self, name: str) -> Signer:
        return self.signers.setdefault(name, CryptoSigner.generate_ed25519())

    @property
    def keys(self) -> dict[str, object]:
        names = {key for role in self.policy.roles().values() for key in role.keys}
        return {name: self.signer(name).public_key for name in sorted(names)}

    @property
    def names(self) -> dict[str, str]:
        return {signer.public_key.keyid: name for name, signer in self.signers.items()}

    @property
    def online(self) -> Online:
        self.keys  # noqa: B018 - makes those that are missing
        return Online(self.policy, self.signers, self.now)

    def in_force(self) -> InForce:
        return read_in_force(self.directory)

    def release(self, number: int, domains: Iterable[str] = HARDWARE) -> tuple[Path, Contents]:
        """Build release `number` into a directory of its own."""
        name = f"07-2020.{number:02}"
        directory = self.place / f"release-{number}"
        targets: dict[str, list[ImageTarget | BundleTarget]] = {}
        for domain in domains:
            for hardware_id in HARDWARE[domain]:
                version = f"{number}.0"
                data = f"bundle of {hardware_id} {version}".encode() * 10
                image = ImageTarget(hardware_id, version, ImageId.of(data), number, (hardware_id,))
                head = SignedHead(MIN_HEAD_BYTES, Digest.of(data[:MIN_HEAD_BYTES]))
                bundle = BundleTarget(hardware_id, version, len(data), Digest.of(data), None, head)
                path = directory / "repo/targets" / bundle.path
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
                targets[domain] = [image, bundle]
        files = {"root.layout": f"layout {number}".encode(), "diff.0123abcd.link": b"link"}
        (directory / "chain" / name).mkdir(parents=True, exist_ok=True)
        for file, data in files.items():
            (directory / "chain" / name / file).write_bytes(data)
        return directory, Contents(name, HARDWARE, targets, Chain(files, [self.signer("owner").public_key]))

    def propose(self, release: tuple[Path, Contents] | None = None, **options: Any) -> Mapping[str, Root | Targets]:
        """Propose and stage; returns what was proposed."""
        directory, contents = release or (None, None)
        proposed = propose(self.policy, self.keys, self.in_force(), self.now, contents, **options)
        files = {role: unsigned_file(role, payload) for role, payload in proposed.items()}
        stage(self.directory, files, directory, contents)
        return proposed

    def sign(self, *but: str) -> None:
        """Sign everything staged with all keys that may, but those named."""
        staged, in_force = read_staged(self.directory), self.in_force()
        for file in staged.values():
            for demand in demands(file, staged, in_force):
                for key_id in demand.role.keyids:
                    name = self.names[key_id]
                    if name not in but:
                        self.sign_with(self.directory / STAGED / file.name, name)

    def sign_with(self, path: Path, name: str) -> StagedFile:
        file = parse_file(path.name, path.read_bytes())
        signature = self.signer(name).sign(file.metadata.payload)
        path.write_bytes(with_signature(file, signature.keyid, signature.signature))
        return parse_file(path.name, path.read_bytes())

    def publish(self, writes: Writes | None = None, **options: bool) -> Published:
        return publish(
            self.directory, self.online, lambda release, *_: self.chains.append(release), writes=writes, **options
        )

    def whole(self, release: int | None = None, **options: Any) -> Published:
        """Propose, sign and publish."""
        self.propose(None if release is None else self.release(release), **options)
        self.sign()
        return self.publish()

    def forge(self, role: str, version: int, name: str) -> bytes:
        """Sign what is in force under another version, as who stole the key `name` would."""
        payload = copy.deepcopy(self.in_force().payloads[role])
        payload.version = version
        metadata = Metadata(payload)
        metadata.sign(self.signers[name])
        return metadata.to_bytes()


class Car:
    """A car that follows a repository."""

    def __init__(self, life: Life) -> None:
        self.life = life
        self.storage = MemoryStorage()
        self.storage.files["root.json"] = (life.directory / "repo/metadata/1.root.json").read_bytes()

    def follow(self, now: datetime | None = None) -> TrustedMetadata:
        fetcher = FetchFromDirectory(self.life.directory / "repo/metadata")
        return refresh(self.storage, fetcher, now or self.life.now + timedelta(seconds=1))

    def versions(self) -> list[str]:
        """Follow, and return the versions of the images that are offered, each of whose bundles is there."""
        trusted = self.follow()
        offered = trusted.delegations.everything()
        for target in offered:
            if isinstance(target, BundleTarget):
                path = self.life.directory / "repo/targets" / target.path
                assert ImageId.of(path.read_bytes()) == target.file
        return sorted(f"{t.hardware_id} {t.version}" for t in offered if isinstance(t, ImageTarget))


class KilledError(Exception):
    """The process that published is no more."""


class DyingWrites(Writes):
    """Dies before one write; counts them."""

    def __init__(self, dies_at: int | None = None) -> None:
        self.count = 0
        self.dies_at = dies_at

    def _step(self) -> None:
        if self.count == self.dies_at:
            raise KilledError
        self.count += 1

    def add(self, path: Path, data: bytes) -> None:
        self._step()
        super().add(path, data)

    def move(self, source: Path, path: Path) -> None:
        self._step()
        super().move(source, path)

    def replace(self, path: Path, data: bytes) -> None:
        self._step()
        super().replace(path, data)

    def remove(self, path: Path) -> None:
        self._step()
        super().remove(path)
