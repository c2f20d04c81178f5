"""The work on one bundle, as functions of files that run in worker processes: align, pack, check.

Each reads its inputs, compares them with the identities that the step before recorded, and writes one file. Results depend on the
inputs alone; only `Measured` does not.
"""

import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from packager.bundle.check import rebuild
from packager.bundle.encoder import Label, encode
from packager.bundle.loose import self_signed
from packager.diff import engine
from packager.diff.budget import effort_within
from packager.diff.engine import NO_ALIGNMENT, Alignment
from packager.model.errors import ImageError
from packager.model.jobs import BuiltBundle, CollectedImage, Job, Measured
from packager.vehicle.core.head import SignedHead
from packager.vehicle.errors import VehicleError
from packager.vehicle.identity import ImageId
from packager.vehicle.profile import Coder

THREADS_PER_JOB: Final = 1
"""Jobs run in as many processes as there are cores: more threads would only stand in their way, and take memory."""
_STATUS: Final = Path("/proc/self/status")
_CLEAR_REFS: Final = Path("/proc/self/clear_refs")


@dataclass(frozen=True, slots=True)
class AlignmentFile:
    """The alignment of one job in a file.

    Attributes:
        job: The job.
        file: Where it lies.
        identity: Length and digest of that file.
        measured: What aligning took.
    """

    job: Job
    file: Path
    identity: ImageId
    measured: Measured


def effort_of(job: Job, most: int, budget_s: float | None) -> int:
    """Return the effort for a job: at most `most`, and less if it is expected to take more processor seconds than the budget."""
    lengths = [image.image.length_bytes for image in (job.new, job.old) if image is not None]
    return effort_within(most, budget_s, max(lengths), job.ecu.profile.coders)


def align(job: Job, directory: Path, efforts: Mapping[str, int]) -> AlignmentFile:
    """Align the new image of a delta job with its old one.

    Raises:
        ImageError: An image changed since it was collected.
    """
    assert job.old is not None  # noqa: S101 - only delta jobs are aligned
    done = _measure()
    profile = job.ecu.profile
    predicts = profile.predictors and profile.spare_slot
    adaptive = Coder.ADAPTIVE in profile.coders
    images = load(job.old), load(job.new)
    data = engine.dump(
        engine.align(*images, effort=efforts[job.path], predicts=predicts, adaptive=adaptive, threads=THREADS_PER_JOB)
    )
    return AlignmentFile(job, *_write(directory, job, ".segments", data), done())


def pack(item: tuple[Job, AlignmentFile | None], directory: Path, efforts: Mapping[str, int]) -> BuiltBundle:
    """Encode a job's bundle; only delta jobs have an alignment.

    Raises:
        ImageError: An image or the alignment changed since the step before.
        BudgetError: No form fits the memory of the ECU.
    """
    done = _measure()
    job, file_of_alignment = item
    new = load(job.new)
    old = None if job.old is None else load(job.old)
    alignment = NO_ALIGNMENT
    if old is not None and file_of_alignment is not None:
        alignment = _read_alignment(file_of_alignment, old, new)
    label = Label(job.ecu.release_counter, job.new.source.version, (job.ecu.hardware_id,))
    encoded = encode(old, new, alignment, job.ecu.profile, label, engine.level_of(efforts[job.path]), THREADS_PER_JOB)
    file, bundle = _write(directory, job, ".bundle", encoded.written.data)
    head = ImageId.of(encoded.written.data[: encoded.written.head_bytes])
    forms = tuple(encoded.blocks_by_form.items())
    measured = done() if file_of_alignment is None else file_of_alignment.measured + done()
    return BuiltBundle(job, file, bundle, head, encoded.written.memory_bytes, forms, measured)


def check(built: BuiltBundle, directory: Path) -> tuple[BuiltBundle, ImageId]:
    """Rebuild the new image from a bundle with the vehicle's own code.

    Returns:
        The bundle with its measurements brought up to date, and what was rebuilt.

    Raises:
        ImageError: The bundle does not make its image; nothing of the release may be signed.
    """
    done = _measure()
    job = built.job
    signed = SignedHead(built.head.length_bytes, built.head.digest)
    try:
        if self_signed(built.file) != signed:
            raise ImageError(f"{job.title}: its bundle changed since it was written")
        old = None if job.old is None else job.old.source.path
        rebuilt = rebuild(built.file, signed, job.ecu.profile, old, directory).image
    except VehicleError as error:
        raise ImageError(f"{job.title}: the self-check failed: {error}") from error
    if rebuilt != job.new.image:
        raise ImageError(f"{job.title}: the self-check made {rebuilt}, expected {job.new.image}")
    return replace(built, measured=built.measured + done()), rebuilt


def load(image: CollectedImage) -> bytes:
    """Read an image again.

    Raises:
        ImageError: It is not what was collected.
    """
    try:
        data = image.source.path.read_bytes()
    except OSError as error:
        raise ImageError(f"{image.source.path}: can't be read: {error.strerror}") from error
    if ImageId.of(data) != image.image:
        raise ImageError(f"{image.source.path}: changed during the build, expected {image.image}")
    return data


def _read_alignment(file: AlignmentFile, old: bytes, new: bytes) -> Alignment:
    data = file.file.read_bytes()
    if ImageId.of(data) != file.identity:
        raise ImageError(f"{file.job.title}: its alignment changed during the build, expected {file.identity}")
    return engine.load(data, old, new)


def _write(directory: Path, job: Job, suffix: str, data: bytes) -> tuple[Path, ImageId]:
    file = (directory / job.path).with_suffix(suffix)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)
    return file, ImageId.of(data)


def _measure() -> Callable[[], Measured]:
    """Start to measure time and peak memory of this process; the function that is returned tells both."""
    started = time.perf_counter()
    with contextlib.suppress(OSError):
        _CLEAR_REFS.write_text("5")  # Linux: sets the peak back to the present, so that one worker can serve many jobs

    def done() -> Measured:
        return Measured(time.perf_counter() - started, _peak_bytes())

    return done


def _peak_bytes() -> int:
    try:
        line = next(line for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        return 0
    return int(line.split()[1]) << 10
