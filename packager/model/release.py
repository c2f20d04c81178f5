"""What a release is: the new images of a car line's ECUs, the old images in the field, and what each ECU can do."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from packager.vehicle.profile import UpdateProfile

DEFAULT_REPAIR_PERCENT: Final = 25
_UNSAFE: Final = re.compile(r"[^A-Za-z0-9._+~-]")


@dataclass(frozen=True, slots=True)
class ImageSource:
    """An image of an ECU, by version and file."""

    version: str
    path: Path


@dataclass(frozen=True, slots=True)
class Speeds:
    """How fast an ECU takes an update in: its bus and its flash, in bytes per second."""

    bus_bytes_per_s: int
    flash_bytes_per_s: int


@dataclass(frozen=True, slots=True)
class EcuRelease:
    """The part of a release that concerns one ECU.

    Attributes:
        name: Its short name in the car, for example ``DME``.
        role: What it does, for people.
        hardware_id: Its type; target paths start with it.
        supplier: Who delivers its images.
        domain: The delegated role that signs its targets.
        release_counter: Grows with every release of its image.
        new: The image of this release.
        old: Images in the field, newest first.
        profile: Limits of the ECU.
        speeds: Of its bus and flash.
        byte_share_percent: Its share of the release's byte budget per car.
        time_share_percent: Its share of the release's time budget per car.
        repair_percent: Share of the image that a car may fetch from the full bundle to repair damaged blocks; 0 for none.
    """

    name: str
    role: str
    hardware_id: str
    supplier: str
    domain: str
    release_counter: int
    new: ImageSource
    old: tuple[ImageSource, ...]
    profile: UpdateProfile
    speeds: Speeds
    byte_share_percent: int
    time_share_percent: int
    repair_percent: int = DEFAULT_REPAIR_PERCENT


@dataclass(frozen=True, slots=True)
class Release:
    """A release of one car line.

    Attributes:
        name: For people, for example ``OS 7.0``.
        version: For people, for example ``07/2020.45``.
        car_line: The cars that it is for.
        fleet_cars: How many there are.
        budget_bytes: Most bytes that one car may download.
        budget_s: Most seconds that the installation in one car may take.
        ecus: By name.
    """

    name: str
    version: str
    car_line: str
    fleet_cars: int
    budget_bytes: int
    budget_s: int
    ecus: tuple[EcuRelease, ...]

    @property
    def id(self) -> str:
        """Its version as one component of a path, for example ``07-2020.45``; names its roles and its chain in the repository."""
        return _UNSAFE.sub("-", self.version)
