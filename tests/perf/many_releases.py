"""A repository of many releases of a whole car, made and checked with the commands of a release office, each a process of its own."""

import hashlib
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from packager.config.policy import read_policy
from packager.repo.admission import split_role_name
from packager.repo.in_force import METADATA
from packager.repo.staged import read_staged
from packager.vehicle.core.targets import summary_path
from tests.release_series import Served

PROJECT: Final = Path(__file__).parents[2]
IMAGE_BYTES: Final = 4096
CHANGED_BYTES: Final = 16
_ECU: Final = """
[[ecu]]
name = "ECU-{number:05}"
role = "control unit"
hardware_id = "HW-{number:05}"
supplier = "Supplier"
domain = "{domain}"
release_counter = {release}
version = "7.0.{release:02}"
image = "images/{number}-{release}.bin"
bus_kib_per_s = 500
flash_kib_per_s = 300
byte_share_percent = 1
time_share_percent = 1
profile = {{ ram_kib = 512, flash_kib = 128, spare_slot = true, coders = ["zstd"] }}
"""
_OLD: Final = '[[ecu.old]]\nversion = "7.0.{release:02}"\nimage = "images/{number}-{release}.bin"\n'


@dataclass(frozen=True)
class Spent:
    """What the runs of one command took: seconds of the clock and of all cores together."""

    wall_s: list[float] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)


class Office:
    """A directory with keys, images, and the repository ``site``.

    Attributes:
        place: The directory.
        spent: What the commands took, by command.
    """

    def __init__(self, place: Path, hardware_ids: int, releases: int, olds: int) -> None:
        self.place = place
        self.spent: dict[str, Spent] = {}
        self._hardware_ids = hardware_ids
        self._olds = olds
        (place / "keys").mkdir(parents=True)
        shutil.copy(PROJECT / "keys/policy.toml", place / "keys")
        self._policy = read_policy(place / "keys/policy.toml")
        self._make_images(releases + olds)
        self.run("keys", "create")
        self.run("repo", "init", "site")
        self.run("repo", "publish", "site", "--allow-demo-keys")
        self.spent.clear()

    def _make_images(self, versions: int) -> None:
        (self.place / "images").mkdir()
        made = random.Random(1)
        for number in range(self._hardware_ids):
            image = bytearray(made.randbytes(IMAGE_BYTES))
            for version in range(1, versions + 1):
                offset = made.randrange(IMAGE_BYTES - CHANGED_BYTES)
                image[offset : offset + CHANGED_BYTES] = made.randbytes(CHANGED_BYTES)
                (self.place / f"images/{number}-{version}.bin").write_bytes(image)

    def release(self, number: int) -> None:
        """Build release `number`, from 1, and publish it: approved by the gate, proposed, and signed by all who must."""
        version = number + self._olds
        domains = sorted(self._policy.domains)
        text = f'release = {{ name = "OS 7", version = "07/2020.{number:02}", car_line = "X", fleet_cars = 900000 }}\n'
        text += "budget = { mib_per_car = 1000, seconds_per_car = 100000 }\n"
        for ecu in range(self._hardware_ids):
            text += _ECU.format(number=ecu, release=version, domain=domains[ecu % len(domains)])
            for age in range(1, self._olds + 1):
                text += _OLD.format(number=ecu, release=version - age)
        (self.place / f"{number}.toml").write_text(text)
        built = f"release-{number}"
        self.run("build", f"{number}.toml", "--unsigned", "--effort", "1", "--out", built)
        self.run("chain", "approve", built)
        self.run("repo", "propose", "site", built)
        for role, file in read_staged(self.place / "site").items():
            policy = self._policy.targets if role == "targets" else self._policy.domains[split_role_name(role)[0]]
            for key in policy.keys[: policy.threshold]:
                sha256 = hashlib.sha256(file.metadata.payload).hexdigest()
                self.run("repo", "sign", f"site/staged/{file.name}", "--key", key, "--sha256", sha256)
        self.run("repo", "publish", "site", "--allow-demo-keys")
        shutil.rmtree(self.place / built)

    def verify(self) -> None:
        """Verify the repository with every bundle of what cars read."""
        self.run("verify", "site", "--root", "keys/public/root.json", "--images", "images")

    def run(self, *words: str) -> None:
        """Run a command and note what it took under its first words."""
        name = " ".join(words[:2] if words[0] in ("repo", "chain", "keys") else words[:1])
        before, start_s = os.times(), time.perf_counter()
        done = subprocess.run(
            (Path(sys.executable).parent / "packager", *words),
            cwd=self.place,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            sys.exit(f"packager {' '.join(words)}: exit code {done.returncode}\n{done.stderr[-2000:]}")
        after, spent = os.times(), self.spent.setdefault(name, Spent())
        spent.wall_s.append(time.perf_counter() - start_s)
        spent.cpu_s.append(after.children_user + after.children_system - before.children_user - before.children_system)

    def served(self) -> Served:
        """Return what cars see."""
        metadata, targets = self.place / "site" / METADATA, self.place / "site/repo/targets"
        files = {path.name: path.read_bytes() for path in metadata.iterdir()}
        summaries: Mapping[str, bytes] = {
            summary_path(path.stem): path.read_bytes() for path in (targets / "summary").iterdir()
        }
        return Served(files, summaries)
