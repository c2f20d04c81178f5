"""Releases of a whole car, one after the other, without images: for measuring metadata. Real keys, names and lengths as in the field."""

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Final

from securesystemslib.signer import CryptoSigner

from packager.model.policy import KeyPolicy, RolePolicy
from packager.repo.admission import role_name
from packager.repo.authority import Authority
from packager.repo.ceremony import prepare_root
from packager.repo.contents import Chain, Contents
from packager.repo.signing import sign
from packager.supplychain.chain import VerifiedChain
from packager.supplychain.intoto import ReleaseId
from packager.supplychain.sbom import SBOM_NAME
from packager.supplychain.summary import make_summary
from packager.vehicle.core.head import SignedHead
from packager.vehicle.core.targets import BundleTarget, ImageTarget, summary_path
from packager.vehicle.errors import UntrustedError
from packager.vehicle.identity import Digest, ImageId
from packager.vehicle.installation.clearance import Clearance
from packager.vehicle.trust.metadata_store import MemoryStorage, MetadataStorage, NotFoundError, initialise, refresh

STARTED_AT: Final = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
DOMAINS: Final = ("body", "chassis-safety", "infotainment", "powertrain", "telematics")
CHAIN_NAMES: Final = (
    SBOM_NAME,
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
    gate=RolePolicy(("gate",), 1, 365),
)


def make_authority(policy: KeyPolicy = POLICY) -> Authority:
    """Return new Ed25519 keys for a policy, and its root."""
    roles = [policy.root, policy.targets, policy.snapshot, policy.timestamp, policy.layout, *policy.domains.values()]
    roles += [policy.gate] if policy.gate else []
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
        """Return the contents of release `number`, from 1, approved by the release gate."""
        name = f"07-2020.{number:02}"
        targets = {
            domain: [
                target
                for hardware_id in hardware_ids
                for target in self._targets(hardware_id, number, summary_path(role_name(domain, name)))
            ]
            for domain, hardware_ids in self.hardware.items()
        }
        files = {file: f"{file} {number}".encode() for file in CHAIN_NAMES}
        contents = Contents(name, self.hardware, targets, Chain(files, [authority.keys["owner"]]))
        return replace(contents, summaries=self._summaries(contents, authority, self.issued_at(number)))

    def _targets(self, hardware_id: str, number: int, summary: str) -> list[ImageTarget | BundleTarget]:
        version = f"7.0.{number:02}"
        new = _image(hardware_id, number)
        image = ImageTarget(hardware_id, version, new, 100 + number, (hardware_id,), 1_234_567, summary)
        olds = [None, *(_image(hardware_id, number - age).digest for age in range(1, self.olds + 1))]
        return [image, *(_bundle(hardware_id, version, old) for old in olds)]

    def _summaries(self, contents: Contents, authority: Authority, issued_at: datetime) -> dict[str, bytes]:
        return {
            domain: make_summary(
                summary_path(role_name(domain, contents.release)),
                {target.path: target.image.digest for target in targets if isinstance(target, ImageTarget)},
                proven_by(contents),
                f"chain/{contents.release}",
                [authority.signers["gate"]],
                issued_at,
            )
            for domain, targets in contents.targets.items()
        }


def proven_by(contents: Contents) -> VerifiedChain:
    """Return a chain that proves the contents of a release, without links."""
    targets = [target for targets in contents.targets.values() for target in targets]
    return VerifiedChain(
        ReleaseId("OS 7.0", contents.release, Digest.of(b"")),
        {},
        {f"images/{t.path}": t.image.digest for t in targets if isinstance(t, ImageTarget)},
        {t.path: t.digest for t in targets if isinstance(t, BundleTarget)},
        {name: Digest.of(data) for name, data in contents.chain.files.items() if name != SBOM_NAME},
        {},
        datetime.max.replace(tzinfo=UTC),
    )


def _image(hardware_id: str, number: int) -> ImageId:
    return ImageId(10_485_760, Digest.of(f"{hardware_id} {number}".encode()))


def _bundle(hardware_id: str, version: str, old: Digest | None) -> BundleTarget:
    name = f"{hardware_id} {version} {old}".encode()
    head = SignedHead(12_345, Digest.of(b"head " + name))
    return BundleTarget(hardware_id, version, 1_234_567, Digest.of(name), old, head)


def car_reads(
    served: "Served", storage: MetadataStorage, series: Series, now: datetime, *, installs: bool = True
) -> int:
    """Let a car with every ECU of the series look for updates, as `packager-vehicle update` does, but for bundles.

    Returns:
        Bytes that it read of metadata, and of the release gate's summaries if there is something to install.
    """
    served.read_bytes_of.clear()
    trusted = refresh(storage, served, now)
    clearance = Clearance(trusted, served, is_required=True)
    for hardware_id in series.hardware_ids:
        found = trusted.delegations.of_hardware(hardware_id)
        assert len(found) == series.olds + 2
        if installs:
            clearance.require(next(target for target in found if isinstance(target, ImageTarget)))
    return sum(served.read_bytes_of.values())


def fresh_car(authority: Authority) -> MemoryStorage:
    """Return the storage of a car that knows nothing but the root."""
    storage = MemoryStorage()
    initialise(storage, authority.root)
    return storage


@dataclass
class Served:
    """Serves metadata and summaries from memory and counts what is read: a `Fetcher` and a `BundleSource`."""

    files: dict[str, bytes]
    summaries: Mapping[str, bytes] = field(default_factory=dict)
    read_bytes_of: dict[str, int] = field(default_factory=dict)

    def fetch(self, path: str, max_bytes: int) -> bytes:
        if path not in self.files:
            raise NotFoundError(f"{path}: not found")
        if len(self.files[path]) > max_bytes:
            raise UntrustedError(f"{path}: longer than {max_bytes} bytes")
        self.read_bytes_of[path] = len(self.files[path])
        return self.files[path]

    def read(self, path: str, offset: int, end: int) -> bytes:
        self.read_bytes_of[path] = end - offset
        return self.summaries[path][offset:end]

    def stream(self, path: str, offset: int, length_bytes: int) -> Generator[bytes, None, None]:
        raise AssertionError("a bundle is read, expected metadata alone")


def summaries_of(contents: Contents) -> dict[str, bytes]:
    """Return the release gate's summaries by target path."""
    return {summary_path(role_name(domain, contents.release)): data for domain, data in contents.summaries.items()}
