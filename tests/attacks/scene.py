"""One car that runs the real client on a real directory, and one repository that turns hostile."""

import contextlib
import copy
import json
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from securesystemslib.formats import encode_canonical
from securesystemslib.signer import CryptoSigner

from packager.vehicle.errors import VehicleError
from packager.vehicle.identity import Digest
from packager.vehicle.installation.home import open_home
from packager.vehicle.installation.install import UpdateReport, update
from packager.vehicle.transport.fetch import BundleSource
from packager.vehicle.trust.metadata_store import Fetcher
from tests.repository_simulator import BLOCK_BYTES, NOW, MadeBundle, RepositorySimulator, listed, make_bundle
from tests.sample_bundles import Sample
from tests.vehicle_car import Car, edited, image

LENGTH = 3 * BLOCK_BYTES + 50
OLD = image(1, LENGTH)
NEW = edited(OLD)
NEWEST = edited(NEW, 3)
EVIL = image(666, LENGTH)
OLD_DSC, NEW_DSC = image(2, LENGTH), edited(image(2, LENGTH))

DELEGATED = [f"metadata/{name}.json" for name in ("timestamp", "snapshot", "targets", "body")]
"""What a car has stored when metadata is verified down to the domain."""
SLOT, JOURNAL, HEAD = "slots/BDC/b", "state/BDC.journal", "state/BDC.head"
"""What an update of the BDC that fails half way may have changed: the slot that is not active, where it stopped, and the verified head."""


class Scene:
    """A car with release 1 in its control unit BDC, and a repository that publishes release 2.

    Attributes:
        repository: Honest until a test changes it.
        car: Its home lies in a directory of its own.
        root: The directory around it, to see what escapes.
    """

    def __init__(self, root: Path, *, threshold: int = 1, body_threshold: int = 1) -> None:
        self.root = root
        self.repository = RepositorySimulator(threshold)
        self.repository.delegate("body", ["bdc/*/*"], threshold=body_threshold)
        self.repository.delegate("chassis", ["dsc/*/*"])
        self.repository.release("body", "bdc", "2", 2, NEW, OLD)
        self.repository.publish()
        self.car = Car(root / "car", self.repository, {"BDC": ("bdc", True)})
        self.car.put("BDC", OLD)
        with self.car.home.lock():
            pass

    def files(self) -> dict[str, bytes]:
        """Return every file of the home, and the names of whatever lies beside it."""
        home = self.car.home.root
        found = {str(p.relative_to(home)): p.read_bytes() for p in sorted(home.rglob("*")) if p.is_file()}
        beside = sorted(str(p) for p in self.root.rglob("*") if not p.is_relative_to(home) or p.is_symlink())
        return {**found, "(beside)": repr(beside).encode()}

    def update(
        self, now: datetime = NOW, *, metadata: Fetcher | None = None, bundles: BundleSource | None = None
    ) -> UpdateReport:
        """Update as a process that has just been started."""
        home = open_home(self.car.home.root)
        return update(home, metadata or self.repository, bundles or self.repository, now)

    def refused(
        self,
        kind: type[VehicleError],
        wrong: str,
        *,
        now: datetime = NOW,
        may_change: Iterable[str] = (),
        metadata: Fetcher | None = None,
        bundles: BundleSource | None = None,
    ) -> None:
        """Require that an update fails in this very way and that no byte of the home changed."""
        found = self.refused_in_any_way(wrong, now=now, may_change=may_change, metadata=metadata, bundles=bundles)
        assert isinstance(found, kind), repr(found)

    def refused_in_any_way(
        self,
        wrong: str,
        *,
        now: datetime = NOW,
        may_change: Iterable[str] = (),
        metadata: Fetcher | None = None,
        bundles: BundleSource | None = None,
    ) -> VehicleError:
        """Require that an update fails with a typed error and that no byte of the home changed; return the error."""
        before = self.files()
        with pytest.raises(VehicleError, match=wrong) as caught:
            self.update(now, metadata=metadata, bundles=bundles)
        after = self.files()
        changed = {name for name in {*before, *after} if before.get(name) != after.get(name)}
        kept = set(may_change)
        if "metadata/timestamp.json" in kept:
            kept.add("state/clock.json")  # the time is remembered with the metadata that proves it
        assert changed <= kept, f"changed on disk: {sorted(changed)}"
        return caught.value

    def accepted(self, wanted: bytes = NEW, now: datetime = NOW) -> UpdateReport:
        """Require that an update succeeds and that the active slot holds the wanted image afterwards."""
        report = self.update(now)
        assert self.car.active("BDC") == wanted
        return report

    def accepted_or_refused(self) -> None:
        """Update, whatever comes of it, and require that the control unit has an honest image."""
        with contextlib.suppress(VehicleError):
            self.update()
        assert self.car.active("BDC") in (OLD, NEW, NEWEST)

    def recovers(self) -> None:
        """Require that the next honest release, published in place of anything hostile, is accepted."""
        self.repository.files.pop(f"{self.repository.root.version + 1}.root.json", None)
        self.publish_alone("3", 3, NEWEST, OLD, NEW)
        self.accepted(NEWEST)

    def publish_alone(self, version: str, counter: int, new: bytes, *olds: bytes, full: bool = True) -> None:
        """Publish a release of the BDC's image in place of all that its domain offered."""
        self.repository.delegated["body"].targets.clear()
        self.repository.release("body", "bdc", version, counter, new, *olds, full=full)
        self.repository.publish()

    # Hostile states

    def offer_evil(self, role: str = "body", version: str = "9", counter: int = 9, hardware_id: str = "bdc") -> None:
        """Let a role offer another image, so that a success of the attack shows. Files that are served already stay as they are."""
        served = dict(self.repository.contents)
        self.repository.release(role, hardware_id, version, counter, EVIL, OLD, NEW)
        self.repository.contents.update(served)

    def offer_bundle(self, sample: Sample, *, image: bytes | None = None, alone: bool = True) -> None:
        """Let `body` offer a bundle that a hostile builder made, for version 9, and publish.

        Args:
            sample: The bundle.
            image: The image that signed metadata promises; None for the bundle's own new image.
            alone: Whether no other bundle leads there.
        """
        new = sample.new if image is None else image
        signed = replace(
            make_bundle("bdc", "9", 9, sample.old, new).target,
            length_bytes=len(sample.data),
            digest=Digest.of(sample.data),
            head=sample.signed,
        )
        self.repository.add_image("body", "bdc", "9", 9, new)
        if not alone:
            self.repository.add_bundle("body", make_bundle("bdc", "9", 9, None, new))
        self.repository.add_bundle("body", MadeBundle(sample.data, sample.head_bytes, signed))
        self.repository.publish()

    def asked_for(self, role: str) -> bool:
        """Tell whether the car asked for any version of a role."""
        return any(path.split(".", 1)[-1] == f"{role}.json" for path in self.repository.requests)

    def snapshot_of_everything(self) -> tuple[dict[str, bytes], dict[str, bytes]]:
        """Return what is served now, to be served again later."""
        return dict(self.repository.files), dict(self.repository.contents)

    def serve(self, state: tuple[dict[str, bytes], dict[str, bytes]]) -> None:
        """Serve exactly this from now on."""
        self.repository.files, self.repository.contents = dict(state[0]), dict(state[1])

    def replace_role(self, name: str, data: bytes) -> None:
        """Publish `data` as a targets role, vouched for by snapshot and timestamp: what a thief of the online keys can do."""
        repository = self.repository
        role = repository.targets if name == "targets" else repository.delegated[name]
        repository.files[f"{role.version}.{name}.json"] = data
        repository.snapshot.meta[f"{name}.json"] = listed(role.version, data)
        self.publish_online()

    def replace_snapshot(self, data: bytes) -> None:
        """Publish `data` as the snapshot, vouched for by the timestamp."""
        repository = self.repository
        repository.files[f"{repository.snapshot.version}.snapshot.json"] = data
        repository.timestamp.snapshot_meta = listed(repository.snapshot.version, data)
        repository.timestamp.version += 1
        repository.publish_timestamp()

    def publish_online(self) -> None:
        """Publish the next snapshot and timestamp."""
        self.repository.snapshot.version += 1
        self.repository.timestamp.version += 1
        self.repository.publish_snapshot()

    def current(self, name: str) -> str:
        """Return the file name of the newest version of a role."""
        repository = self.repository
        role: Any = {
            "root": repository.root,
            "timestamp": None,
            "snapshot": repository.snapshot,
            "targets": repository.targets,
        }.get(name, repository.delegated.get(name))
        return "timestamp.json" if role is None else f"{role.version}.{name}.json"

    def replace(self, name: str, data: bytes) -> None:
        """Publish `data` in the place of any role; a root becomes the next one."""
        if name == "root":
            self.repository.files[f"{self.repository.root.version + 1}.root.json"] = data
        elif name == "timestamp":
            self.repository.files["timestamp.json"] = data
        elif name == "snapshot":
            self.replace_snapshot(data)
        else:
            self.replace_role(name, data)

    def next_version(self, name: str) -> dict[str, Any]:
        """Return what the holders of a role's keys would sign next, as plain JSON; `replace` puts it in its place."""
        repository = self.repository
        signed = copy.deepcopy(
            {
                "root": repository.root,
                "timestamp": repository.timestamp,
                "snapshot": repository.snapshot,
                "targets": repository.targets,
                **repository.delegated,
            }[name]
        )
        if name in ("root", "timestamp"):
            signed.version += 1
        elif name == "snapshot":
            repository.snapshot.version += 1
            signed.version += 1
        else:
            role = repository.targets if name == "targets" else repository.delegated[name]
            role.version += 1
            signed.version += 1
        return signed.to_dict()


def sign(signed: dict[str, Any], signers: Iterable[CryptoSigner]) -> bytes:
    """Sign any JSON, sound or not."""
    payload = str(encode_canonical(signed)).encode()
    return envelope(signed, [signer.sign(payload).to_dict() for signer in signers])


def envelope(signed: dict[str, Any], signatures: list[dict[str, Any]]) -> bytes:
    return json.dumps({"signatures": signatures, "signed": signed}).encode()


def edit(data: bytes, change: Callable[[dict[str, Any]], Any]) -> bytes:
    """Change a published file without signing it again."""
    document = json.loads(data)
    change(document)
    return json.dumps(document).encode()
