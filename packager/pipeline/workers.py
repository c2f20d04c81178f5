"""Runs work on an executor, heaviest first, and returns the results in the order of the input, whatever finished when."""

import multiprocessing
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def run(
    executor: Executor,
    work: Callable[[Item], Result],
    items: Sequence[Item],
    weight: Callable[[Item], int],
    on_done: Callable[[int], None],
) -> list[Result]:
    """Apply `work` to every item.

    Args:
        executor: Where it runs.
        work: A picklable function.
        items: Its arguments.
        weight: How heavy an item is; heavy ones start first.
        on_done: Told the weight of each item that is done.

    Raises:
        Exception: What the first failing item raised; whoever owns the executor ends the others.
    """
    order = sorted(range(len(items)), key=lambda index: (-weight(items[index]), index))
    futures = {executor.submit(work, items[index]): index for index in order}
    results: dict[int, Result] = {}
    for future in as_completed(futures):
        index = futures[future]
        results[index] = future.result()
        on_done(weight(items[index]))
    return [results[index] for index in range(len(items))]


@contextmanager
def processes(count: int) -> Iterator[Executor]:
    """Provide `count` worker processes; if the block is left by an error or Ctrl-C, they are stopped at once."""
    executor = ProcessPoolExecutor(count, multiprocessing.get_context("spawn"))
    before = set(multiprocessing.active_children())
    try:
        _start(executor, count)
        yield executor
    except BaseException:
        # Futures are left to the executor: one that was cancelled here would make its thread fail when the processes end.
        executor.shutdown(wait=False, cancel_futures=True)
        for process in set(multiprocessing.active_children()) - before:
            process.terminate()
        raise
    executor.shutdown()


def _start(executor: Executor, count: int) -> None:
    """Start all workers with SIGINT blocked: they inherit that, so Ctrl-C reaches the parent alone, and only when all have started."""
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        for _ in range(count):
            executor.submit(int)  # nothing; one process starts for each as long as none is idle
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
