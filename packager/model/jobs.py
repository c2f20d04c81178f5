"""What a build has to do: images that were collected, one job per bundle, and what was measured of each."""

from dataclasses import dataclass
from pathlib import Path

from packager.model.release import EcuRelease, ImageSource
from packager.vehicle.core.targets import bundle_path
from packager.vehicle.identity import ImageId


@dataclass(frozen=True, slots=True)
class CollectedImage:
    """An image whose bytes were read and identified.

    Attributes:
        hardware_id: The hardware that it is for.
        source: Its version and file.
        image: Its identity.
    """

    hardware_id: str
    source: ImageSource
    image: ImageId


@dataclass(frozen=True, slots=True)
class Job:
    """One bundle to be made.

    Attributes:
        ecu: The ECU that it is for.
        new: The image of this release.
        old: The image that it starts from; None for the full bundle.
    """

    ecu: EcuRelease
    new: CollectedImage
    old: CollectedImage | None

    @property
    def path(self) -> str:
        """Target path of the bundle."""
        old = None if self.old is None else self.old.image.digest
        return bundle_path(self.ecu.hardware_id, self.ecu.new.version, old)

    @property
    def title(self) -> str:
        """For people, for example ``DME 1.0 -> 1.1``."""
        return f"{self.ecu.name} {'full' if self.old is None else self.old.source.version} -> {self.new.source.version}"

    @property
    def weight_bytes(self) -> int:
        """How much work it is: bytes of both images."""
        return self.new.image.length_bytes + (0 if self.old is None else self.old.image.length_bytes)


@dataclass(frozen=True, slots=True)
class Plan:
    """All jobs of a release.

    Attributes:
        images: All images, new and old, by hardware id and version as in the release.
        jobs: One per ECU and old image that differs, and one full bundle per ECU.
        notes: Old images that need no bundle, and why.
    """

    images: tuple[CollectedImage, ...]
    jobs: tuple[Job, ...]
    notes: tuple[str, ...]

    @property
    def disk_bytes(self) -> int:
        """Most disk space that the build can need: every bundle as large as its image, twice while it is checked."""
        return sum(job.new.image.length_bytes + (64 << 10) for job in self.jobs) * 2


@dataclass(frozen=True, slots=True)
class Measured:
    """What a piece of work took: seconds on the wall and peak resident memory of its process."""

    seconds: float = 0.0
    peak_bytes: int = 0

    def __add__(self, other: "Measured") -> "Measured":
        return Measured(self.seconds + other.seconds, max(self.peak_bytes, other.peak_bytes))


@dataclass(frozen=True, slots=True)
class BuiltBundle:
    """A bundle that was made.

    Attributes:
        job: What it was made for.
        file: Where it lies.
        bundle: Length and digest of the whole file.
        head: Length and digest of its head.
        memory_bytes: What applying it needs on the ECU.
        blocks_by_form: Number of blocks per form.
        measured: What making and checking it took.
    """

    job: Job
    file: Path
    bundle: ImageId
    head: ImageId
    memory_bytes: int
    blocks_by_form: tuple[tuple[str, int], ...]
    measured: Measured
