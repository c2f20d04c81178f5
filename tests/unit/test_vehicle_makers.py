"""Blocks in several threads: their order, how many may be under way, and what they hold together."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from packager.vehicle.core import makers
from packager.vehicle.core.blocks import NoOldImage
from packager.vehicle.core.destination import MAX_BLOCKS_AT_ONCE
from packager.vehicle.core.head import Head
from packager.vehicle.core.index import BlockRecord
from packager.vehicle.core.makers import PIPELINE_BYTES, BlockMakers, useful_workers
from packager.vehicle.core.manifest import Op
from tests.loopback import PATIENCE_S
from tests.predicted_bundles import mixed
from tests.sample_bundles import BLOCK, RAW, Sample, delta_mixed, full_one_block, make, noise

COUNT = 60
MANY = make("many", None, noise(9, COUNT * BLOCK), [RAW] * COUNT)


class Shelf:
    """A destination that keeps what is put on it."""

    is_ordered = False

    def __init__(self) -> None:
        self.found: dict[int, bytes] = {}
        self.before_put: Callable[[int], object] = lambda _: None

    def put(self, record: BlockRecord, output: memoryview) -> None:
        self.before_put(record.block)
        self.found[record.block] = bytes(output)


def made_with(shelf: Any, sample: Sample, pool: ThreadPoolExecutor | None, workers: int) -> BlockMakers:
    return BlockMakers(sample.head, NoOldImage(), shelf, None, pool, workers)


def blob(head: Head, sample: Sample, position: int) -> memoryview:
    record = head.index[position]
    return memoryview(sample.blobs)[record.blob_offset : record.blob_offset + record.blob_bytes]


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_blocks_are_done_in_the_order_of_their_begin(workers: int) -> None:
    """Also if the first takes longest."""
    shelf, head = Shelf(), MANY.head
    done: list[int] = []
    others = threading.Event()
    shelf.before_put = lambda block: (
        others.wait(PATIENCE_S) if block == 0 and workers > 1 else block < 2 or others.set()
    )
    with ThreadPoolExecutor(workers) as pool:
        given = made_with(shelf, MANY, pool if workers > 1 else None, workers)
        for position in range(COUNT):
            done += given.make_room(BLOCK)
            done += (
                given.pass_over()
                if position % 7 == 3
                else given.make(head.index[position], blob(head, MANY, position), None)
            )
        done += given.end_all()
    assert done == [0 if position % 7 == 3 else BLOCK for position in range(COUNT)]
    assert shelf.found == {
        position: MANY.new[position * BLOCK : (position + 1) * BLOCK] for position in range(COUNT) if position % 7 != 3
    }


def test_blocks_under_way_are_bounded_by_their_number_and_by_their_blobs(monkeypatch: pytest.MonkeyPatch) -> None:
    head = MANY.head

    def most(workers: int) -> int:
        """Begin as many blocks as may be under way while none is done."""
        shelf, go_on = Shelf(), threading.Event()
        shelf.before_put = lambda _: go_on.wait(PATIENCE_S)
        with ThreadPoolExecutor(workers) as pool:
            given = made_with(shelf, MANY, pool, workers)
            most_pending = min(4 * workers, MAX_BLOCKS_AT_ONCE - 1)
            position = 0
            waiting = threading.Thread(target=lambda: list(given.make_room(BLOCK)))
            try:
                while position <= most_pending and (position + 1) * BLOCK <= makers.QUEUE_BYTES:
                    assert list(given.make_room(BLOCK)) == []
                    assert list(given.make(head.index[position], blob(head, MANY, position), None)) == []
                    position += 1
                waiting.start()
                waiting.join(0.05)
                assert waiting.is_alive(), "one more was let in"
            finally:
                go_on.set()
            waiting.join()
            list(given.end_all())
        return position

    assert most(2) == 9
    monkeypatch.setattr(makers, "QUEUE_BYTES", 3 * BLOCK)
    assert most(2) == 3


def test_what_threads_hold_together_is_bounded_and_one_may_always_go_on() -> None:
    gate = makers._MemoryGate(100)
    with gate.holding(1000):
        second = threading.Event()

        def enter() -> None:
            with gate.holding(1):
                second.set()

        thread = threading.Thread(target=enter)
        thread.start()
        assert not second.wait(0.05)
    thread.join()
    assert second.is_set()
    with gate.holding(60), gate.holding(40):
        pass


def test_buffers_of_done_blocks_are_used_again() -> None:
    head = MANY.head
    given = made_with(Shelf(), MANY, None, 1)
    first = given.buffer()
    assert len(first) == head.manifest.max_blob_bytes
    first[:] = blob(head, MANY, 0)
    assert list(given.make(head.index[0], memoryview(first), first)) == [BLOCK]
    assert given.buffer() is first
    assert given.buffer() is not first


def test_how_many_threads_are_worth_it() -> None:
    head = MANY.head
    assert useful_workers(head, 4, is_ordered=False) == 4
    assert useful_workers(head, 4, is_ordered=True) == 1
    assert useful_workers(full_one_block().head, 4, is_ordered=False) == 1
    head = mixed().head
    assert Op.PREDICTED in head.manifest.ops
    assert useful_workers(head, 4, is_ordered=False) == 4
    half = PIPELINE_BYTES // 2
    for decoded_bytes, workers in ((half - 2 * head.manifest.max_output_bytes, 2), (2 * PIPELINE_BYTES, 1)):
        manifest = replace(head.manifest, block_log2=22, max_decoded_bytes=decoded_bytes)
        manifest = replace(
            manifest, new=replace(manifest.new, length_bytes=PIPELINE_BYTES // 6 if workers == 2 else 1 << 22)
        )
        assert useful_workers(replace(head, manifest=manifest), 4, is_ordered=False) == workers
    assert useful_workers(delta_mixed().head, 1, is_ordered=False) == 1
