"""Many bundles at once: each task stands alone, and a stopped batch goes on where it was."""

from pathlib import Path

import pytest

from packager.vehicle.core.applier import Progress
from packager.vehicle.core.batch import Task, apply_many
from packager.vehicle.errors import CancelledError, CorruptError, IncompatibleError, ResourceError
from tests.sample_bundles import PROFILE, Sample, full_mixed, samples


def task_of(directory: Path, sample: Sample) -> Task:
    bundle, old = directory / f"{sample.name}.bundle", directory / f"{sample.name}.old"
    bundle.write_bytes(sample.data)
    if sample.old is not None:
        old.write_bytes(sample.old)
    return Task(
        sample.name,
        bundle,
        sample.signed,
        PROFILE,
        None if sample.old is None else old,
        directory / f"{sample.name}.slot",
    )


@pytest.mark.parametrize("workers", [None, 1, 2, 40])
def test_all_bundles_are_applied_and_told_in_the_order_of_the_tasks(tmp_path: Path, workers: int | None) -> None:
    tasks = [task_of(tmp_path, sample) for sample in samples()]
    told: dict[str, Progress] = {}
    outcomes = apply_many(tasks, workers, on_progress=told.__setitem__, clock_s=lambda: 0.0)
    assert [outcome.name for outcome in outcomes] == [task.name for task in tasks]
    for task, sample, outcome in zip(tasks, samples(), outcomes, strict=True):
        assert (outcome.image, outcome.error) == (sample.head.manifest.new, None)
        assert task.slot.read_bytes() == sample.new
        assert told[task.name].blocks_done == len(sample.head.index)


def test_no_tasks() -> None:
    assert apply_many([]) == []


def test_a_task_that_fails_leaves_the_others_be(tmp_path: Path) -> None:
    tasks = [task_of(tmp_path, sample) for sample in samples()]
    wrong = bytearray(tasks[0].bundle.read_bytes())
    wrong[-1] ^= 1
    tasks[0].bundle.write_bytes(wrong)
    tasks[1].bundle.unlink()
    tasks[2].bundle.write_bytes(b"short")
    with_old = next(index for index, task in enumerate(tasks) if task.old is not None and index > 2)
    (old := tasks[with_old].old) and old.write_bytes(b"another image")
    errors = {outcome.name: outcome.error for outcome in apply_many(tasks, 2)}
    assert isinstance(errors.pop(tasks[0].name), CorruptError)
    assert isinstance(errors.pop(tasks[1].name), ResourceError)
    assert isinstance(errors.pop(tasks[2].name), CorruptError)
    assert isinstance(errors.pop(tasks[with_old].name), IncompatibleError)
    assert set(errors.values()) == {None}


def test_cancelled_stops_all_and_the_same_tasks_go_on(tmp_path: Path) -> None:
    task = task_of(tmp_path, full_mixed())
    asked = iter([False, False, True])
    (outcome,) = apply_many([task], 1, cancelled=lambda: next(asked))
    assert isinstance(outcome.error, CancelledError)
    seen: list[int] = []
    (outcome,) = apply_many([task], 1, on_progress=lambda _, progress: seen.append(progress.blocks_done))
    assert outcome.image == full_mixed().head.manifest.new
    assert seen == [3, 4, 5]


def test_a_bug_in_the_callers_function_ends_all(tmp_path: Path) -> None:
    tasks = [task_of(tmp_path, sample) for sample in samples()]

    def wrong(name: str, progress: Progress) -> None:
        raise ZeroDivisionError(name)

    with pytest.raises(ZeroDivisionError):
        apply_many(tasks, 2, on_progress=wrong)
