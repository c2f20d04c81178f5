"""Runs work on an executor, heaviest first, and returns the results in the order of the input, whatever finished when."""

import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
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
    """Provide `count` worker processes; if the block is left by an error or a signal, they are ended at once, and none is left."""
    # The process that tracks semaphores is started here. The other signals it ignores by itself.
    with _blocked(signal.SIGHUP):
        executor = ProcessPoolExecutor(count, multiprocessing.get_context("spawn"), _end_with_parent)
    before = set(multiprocessing.active_children())
    try:
        # Who ends a whole group of processes, as a terminal does, ends the workers through the parent.
        with _blocked(signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            for _ in range(count):
                executor.submit(int)  # nothing; one process starts for each as long as none is idle
        yield executor
    except BaseException:
        workers = set(multiprocessing.active_children()) - before
        for worker in workers:
            worker.kill()
        for worker in workers:
            worker.join()
        # Futures are left to the executor: one that was cancelled here would make its thread fail when the processes end. That thread
        # is waited for: while it closes its pipe Python must not try to wake it, as it does at its own end.
        executor.shutdown(cancel_futures=True)
        raise
    executor.shutdown()


@contextmanager
def _blocked(*signals: signal.Signals) -> Iterator[None]:
    """Hold signals back in this thread until the end of the block, and for ever in the processes that it starts."""
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _end_with_parent() -> None:
    """In a worker: watch the parent. One that is killed tells nobody, and its workers would wait for work for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None  # noqa: S101 - this runs in workers alone

    def watch() -> None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, name="parent", daemon=True).start()
