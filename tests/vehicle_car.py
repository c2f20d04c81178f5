"""A vehicle home with a repository beside it, for tests of whole updates."""

import random
from pathlib import Path
from typing import Any

import pytest

from packager.vehicle.core.inplace import InPlaceSlot
from packager.vehicle.errors import VehicleError
from packager.vehicle.installation.home import VehicleHome, open_home
from packager.vehicle.installation.install import UpdateReport, update
from packager.vehicle.installation.state import EcuState
from packager.vehicle.profile import UpdateProfile
from packager.vehicle.trust.metadata_store import initialise
from tests.repository_simulator import BLOCK_BYTES, NOW, PROFILE, RepositorySimulator

IN_PLACE = UpdateProfile(block_bytes=BLOCK_BYTES, spare_slot=False, scratch_bytes=16 << 10)


class Car:
    """ECUs by name: their hardware, and whether they have a spare slot."""

    def __init__(self, root: Path, repository: RepositorySimulator, ecus: dict[str, tuple[str, bool]]) -> None:
        self.repository = repository
        root.mkdir(parents=True, exist_ok=True)
        entries = (
            f'[[ecu]]\nname = "{name}"\nserial = "1"\nhardware_id = "{hardware}"\n'
            "[ecu.profile]\nram_kib = 4096\nflash_kib = 1024\nblock_kib = 4\n"
            + ("" if has_spare else "spare_slot = false\nscratch_kib = 16\n")
            for name, (hardware, has_spare) in ecus.items()
        )
        (root / "vehicle.toml").write_text('vin = "TESTCAR"\nevidence = "optional"\n' + "".join(entries))
        self.home: VehicleHome = open_home(root)
        initialise(self.home.metadata, repository.files["1.root.json"])

    def put(self, ecu: str, data: bytes, slot: str = "a") -> None:
        path = self.home.root / "slots" / ecu / slot
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    def slot(self, ecu: str, slot: str = "a") -> bytes:
        return (self.home.root / "slots" / ecu / slot).read_bytes()

    def state(self, ecu: str) -> EcuState:
        return self.home.read_state().get(ecu, EcuState())

    def active(self, ecu: str) -> bytes:
        return self.slot(ecu, self.state(ecu).slot)

    def update(self, **options: Any) -> UpdateReport:
        return update(self.home, self.repository, self.repository, NOW, **options)

    def refused(self, kind: type[VehicleError], wrong: str) -> None:
        """Require that an update fails and that the car boots what it booted before."""
        before = {ecu.name: self.active(ecu.name) for ecu in self.home.configuration.ecus}
        state = self.home.read_state()
        with pytest.raises(kind, match=wrong):
            self.update()
        assert self.home.read_state() == state
        assert {ecu.name: self.active(ecu.name) for ecu in self.home.configuration.ecus} == before

    def stop_in_place(self, monkeypatch: pytest.MonkeyPatch, position: int) -> None:
        """Update, and stop when block `position` of an ECU without spare slot was written."""

        def stop(_: InPlaceSlot, found: int, output_bytes: int) -> None:
            if found == position:
                raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(InPlaceSlot, "commit", stop)
            with pytest.raises(KeyboardInterrupt):
                self.update()

    def files(self) -> list[str]:
        return sorted(str(p.relative_to(self.home.root)) for p in self.home.root.rglob("*") if p.is_file())


def image(seed: int, length_bytes: int) -> bytes:
    return random.Random(seed).randbytes(length_bytes)


def edited(old: bytes, seed: int = 0) -> bytes:
    """Return a new image whose every block differs from the old one in a few bytes."""
    new = bytearray(old)
    for at in range(50, len(new), 1000):
        new[at] ^= 1 + seed
    return bytes(new)


def damage(data: bytes, *blocks: int) -> bytes:
    """Return an image with a byte of some blocks changed that every delta of `edited` reads."""
    worn = bytearray(data)
    for block in blocks:
        worn[block * BLOCK_BYTES + 500] ^= 0x80
    return bytes(worn)


def repository_with(*hardware: str) -> RepositorySimulator:
    repository = RepositorySimulator()
    for name in hardware:
        repository.delegate(name, [f"{name}/*/*"])
    return repository


SPARE = PROFILE
