"""Releases of a whole car, one after the other, without images: for measuring metadata. Real keys, names and lengths as in the field."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from securesystemslib.signer import CryptoSigner

from packager.model.policy import KeyPolicy, RolePolicy
from packager.repo.ceremony import prepare_root
from packager.repo.contents import Chain, Contents
from packager.repo.repository import Authority
from packager.repo.signing import sign
from packager.vehicle.errors import UntrustedError
from packager.vehicle.head import SignedHead
from packager.vehicle.identity import Digest, ImageId
from packager.vehicle.metadata_store import MemoryStorage, MetadataStorage, NotFoundError, initialise, refresh
from packager.vehicle.targets import BundleTarget, ImageTarget

STARTED_AT: Final = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
DOMAINS: Final = ("body", "chassis-safety", "infotainment", "powertrain", "telematics")
CHAIN_NAMES: Final = (
    "root.layout",
    *(f"{step}.0123abcd.link" for step in ("bundle", "collect", "diff", "publish", "self-check")),
)
POLICY: Final = KeyPolicy(
    demo=True,
    root=RolePolicy(("root-1", "root-2", "root-3"), 2, 365),
    targets=RolePolicy(("targets-1", "targets-2", "targets-3"), 2, 365),
    snapshot=RolePolicy(("snapshot",), 1, 30),
    timestamp=RolePolicy(("timestamp",), 1, 14),
    domains={domain: RolePolicy((domain,), 1, 365) for domain in DOMAINS},
    layout=RolePolicy(("owner",), 1, 365),
    steps={},
)


def make_authority(policy: KeyPolicy = POLICY) -> Authority:
    """Return new Ed25519 keys for a policy, and its root."""
    roles = (policy.root, policy.targets, policy.snapshot, policy.timestamp, policy.layout, *policy.domains.values())
    signers = {name: CryptoSigner.generate_ed25519() for role in roles for name in role.keys}
    keys = {name: signer.public_key for name, signer in signers.items()}
    root = sign("root", prepare_root(policy, keys, STARTED_AT), policy.root, signers)
    return Authority(policy, keys, signers, root)


@dataclass(frozen=True)
class Series:
    """Releases of one car line.

    Attributes:
        hardware: Hardware ids per domain.
        olds: Old images that each release has bundles from.
    """

    hardware: Mapping[str, tuple[str, ...]]
    olds: int = 5

    @classmethod
    def of(cls, hardware_ids: int = 100, olds: int = 5) -> "Series":
        return cls(
            {
                domain: tuple(f"HW-{number:05}" for number in range(first, hardware_ids, len(DOMAINS)))
                for first, domain in enumerate(DOMAINS)
            },
            olds,
        )

    @property
    def hardware_ids(self) -> list[str]:
        return sorted(hardware_id for hardware_ids in self.hardware.values() for hardware_id in hardware_ids)

    def issued_at(self, number: int) -> datetime:
        """Return when a release is published: one a day, so that nothing expires."""
        return STARTED_AT + timedelta(days=number)

    def release(self, number: int, authority: Authority) -> Contents:
        """Return the contents of release `number`, from 1."""
        targets = {
            domain: [target for hardware_id in hardware_ids for target in self._targets(hardware_id, number)]
            for domain, hardware_ids in self.hardware.items()
        }
        files = {name: f"{name} {number}".encode() for name in CHAIN_NAMES}
        return Contents(f"07-2020.{number:02}", self.hardware, targets, Chain(files, [authority.keys["owner"]]))

    def _targets(self, hardware_id: str, number: int) -> list[ImageTarget | BundleTarget]:
        version = f"7.0.{number:02}"
        image = ImageTarget(hardware_id, version, _image(hardware_id, number), 100 + number, (hardware_id,), 1_234_567)
        olds = [None, *(_image(hardware_id, number - age).digest for age in range(1, self.olds + 1))]
        return [image, *(_bundle(hardware_id, version, old) for old in olds)]


def _image(hardware_id: str, number: int) -> ImageId:
    return ImageId(10_485_760, Digest.of(f"{hardware_id} {number}".encode()))


def _bundle(hardware_id: str, version: str, old: Digest | None) -> BundleTarget:
    name = f"{hardware_id} {version} {old}".encode()
    head = SignedHead(12_345, Digest.of(b"head " + name))
    return BundleTarget(hardware_id, version, 1_234_567, Digest.of(name), old, head)


def car_reads(served: "Served", storage: MetadataStorage, series: Series, now: datetime) -> int:
    """Let a car with every ECU of the series look for updates, as `packager-vehicle update` does; return what it read, in bytes."""
    served.read.clear()
    trusted = refresh(storage, served, now)
    for hardware_id in series.hardware_ids:
        found = trusted.delegations.of_hardware(hardware_id)
        assert len(found) == series.olds + 2
    return served.read_bytes


def fresh_car(authority: Authority) -> MemoryStorage:
    """Return the storage of a car that knows nothing but the root."""
    storage = MemoryStorage()
    initialise(storage, authority.root)
    return storage


@dataclass
class Served:
    """Serves metadata from memory and counts what is read; a `packager.vehicle.metadata_store.Fetcher`."""

    files: dict[str, bytes]
    read: dict[str, int] = field(default_factory=dict)

    @property
    def read_bytes(self) -> int:
        return sum(self.read.values())

    def fetch(self, path: str, max_bytes: int) -> bytes:
        if path not in self.files:
            raise NotFoundError(f"{path}: not found")
        if len(self.files[path]) > max_bytes:
            raise UntrustedError(f"{path}: longer than {max_bytes} bytes")
        self.read[path] = self.read.get(path, 0) + len(self.files[path])
        return self.files[path]
