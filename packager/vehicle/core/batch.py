"""Applies many bundles at once, over all cores: for the workshop bench, where the images of many ECUs lie on one disk.

Each task stands alone: one that fails leaves the others be. Run the same tasks again to go on after a stop: every one starts from
what its slot holds already; images of one block are made anew.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from packager.vehicle.core.applier import Applier, Progress
from packager.vehicle.core.blocks import OldImage
from packager.vehicle.core.head import SignedHead, read_head
from packager.vehicle.core.pull import apply_file, usable_cores
from packager.vehicle.errors import IncompatibleError, ResourceError, StateError, VehicleError
from packager.vehicle.identity import ImageId
from packager.vehicle.profile import UpdateProfile
from packager.vehicle.storage import FileOnDisk


@dataclass(frozen=True, slots=True)
class Task:
    """One bundle to apply to a spare slot.

    Attributes:
        name: For progress and outcome.
        bundle: The bundle's file.
        signed: What signed metadata says of its head.
        profile: Limits of the ECU.
        old: The old image's file; None for a full bundle.
        slot: Where the new image goes; made, or cut to its length.
    """

    name: str
    bundle: Path
    signed: SignedHead
    profile: UpdateProfile
    old: Path | None
    slot: Path


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a task ended: exactly one of `image` and `error` is there.

    Attributes:
        name: The task's.
        image: What its slot holds, verified.
        error: Why it failed or did not start.
        seconds: How long it took.
    """

    name: str
    image: ImageId | None
    error: VehicleError | None
    seconds: float


def apply_many(
    tasks: Sequence[Task],
    workers: int | None = None,
    *,
    on_progress: Callable[[str, Progress], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
    clock_s: Callable[[], float] = time.monotonic,
) -> list[Outcome]:
    """Apply bundles side by side, the longest first; with fewer tasks than workers several work at one bundle.

    Args:
        tasks: No two with the same slot.
        workers: Threads in all; None for one per core.
        on_progress: Told a task's name and how far it is, by one thread at a time but not always the same.
        cancelled: Asked before each block, by several threads; True stops all tasks in order.
        clock_s: Measures durations.

    Returns:
        One outcome per task, in the order of the tasks.
    """
    workers = workers or usable_cores()
    lock = threading.Lock()
    stopped = threading.Event()

    def is_cancelled() -> bool:
        return stopped.is_set() or (cancelled is not None and cancelled())

    def tell(name: str, progress: Progress) -> None:
        if on_progress is not None:
            with lock:
                on_progress(name, progress)

    def run(task: Task) -> Outcome:
        start_s = clock_s()
        try:
            image, error = _apply(task, per_task, tell, is_cancelled), None
        except VehicleError as failure:
            image, error = None, failure
        return Outcome(task.name, image, error, clock_s() - start_s)

    at_once = max(min(workers, len(tasks)), 1)
    per_task = workers // at_once
    with ThreadPoolExecutor(at_once, "batch") as pool:
        futures = {id(task): pool.submit(run, task) for task in sorted(tasks, key=_weight, reverse=True)}
        try:
            return [futures[id(task)].result() for task in tasks]
        except BaseException:  # interrupted, or a bug: the others end in order
            stopped.set()
            raise


def _is_one_file(old: Path, slot: Path) -> bool:
    try:
        return old.samefile(slot)
    except OSError:  # one of them is not there
        return False


def _weight(task: Task) -> int:
    """Return about how long a task takes: the last one to end is what one waits for."""
    weight = 0
    for path in (task.bundle, task.old):
        with contextlib.suppress(OSError):
            weight += 0 if path is None else path.stat().st_size
    return weight


def _apply(
    task: Task,
    workers: int,
    tell: Callable[[str, Progress], None],
    cancelled: Callable[[], bool],
) -> ImageId:
    with contextlib.ExitStack() as stack:
        try:
            bundle = stack.enter_context(task.bundle.open("rb"))
            data = bundle.read(task.signed.length_bytes)
        except OSError as error:
            raise ResourceError(f"{task.bundle}: can't be read: {error.strerror}") from error
        head = read_head(data, task.signed, task.profile)
        if head.manifest.in_place:
            raise IncompatibleError(f"{task.bundle}: is installed in place, expected one for a spare slot")
        if task.old is not None and _is_one_file(task.old, task.slot):  # before the slot is cut to its new length
            raise StateError(f"{task.slot}: is the old image, too, expected a slot of its own")
        old: OldImage | None = None if task.old is None else stack.enter_context(FileOnDisk.open(task.old))
        slot = stack.enter_context(FileOnDisk.open(task.slot, head.manifest.new.length_bytes))
        applier = stack.enter_context(
            Applier(
                head,
                old,
                slot,
                workers=workers,
                on_progress=lambda progress: tell(task.name, progress),
                cancelled=cancelled,
            )
        )
        return apply_file(applier, bundle).image
