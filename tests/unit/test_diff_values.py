"""The value map is learnt from numbers that change alike, and only where that makes the bundle shorter."""

import random
import struct
from array import array
from concurrent.futures import ThreadPoolExecutor

import pytest

from packager.bundle.encoder import Label, encode
from packager.diff import matcher
from packager.diff.engine import align, dump, load
from packager.diff.prediction import NOTHING, Mode, Prediction, make_context
from packager.diff.sizing import measure
from packager.vehicle.core.segments import Segment
from packager.vehicle.instructions import Group, InstructionSet
from packager.vehicle.profile import DEFAULT_PROFILE
from tests import needs

pytestmark = needs.MATCHER


def words(numbers: list[int]) -> bytes:
    return struct.pack(f"<{len(numbers)}I", *numbers)


def learn(old: list[int], new: list[int], *, least: int = 2, pages: bytes = b"\1") -> dict[int, int]:
    segments = [Segment(0, 0, 4 * len(old))]
    known, becomes = matcher.learn_values(words(old), words(new), segments, pages, least)
    return dict(zip(known, becomes, strict=True))


def test_a_number_becomes_what_it_most_often_became() -> None:
    assert learn([7, 7, 7, 7], [9, 9, 9, 8]) == {7: 9}
    assert learn([7, 7, 7, 7], [9, 9, 8, 8]) == {7: 8}
    assert learn([7] * 5, [9, 9, 9, 7, 7]) == {}
    assert learn([7] * 5, [9, 9, 9, 9, 7]) == {7: 9}
    assert learn([7, 8], [9, 9]) == {}
    assert learn([7, 8], [9, 10], least=1) == {7: 9, 8: 10}


def test_only_aligned_words_of_pages_that_count_are_learnt_from() -> None:
    old, new = [7] * 2048, [9] * 1024 + [5] * 1024
    assert learn(old, new, pages=b"\1\0") == {7: 9}
    assert learn(old, new, pages=b"\0\1") == {7: 5}
    assert learn(old, new, pages=b"\1") == {7: 9}
    assert learn(old, new, pages=b"") == {}
    segments = [Segment(1, 1, 4), Segment(7, 6, 6)]  # no whole aligned word; one
    found = matcher.learn_values(b"\0" * 12, b"\0" * 9 + b"\1\0\0\0", segments, b"\1", 1)
    assert [list(column) for column in found] == [[0], [1]]


def test_segments_that_leave_an_image_are_not_read() -> None:
    wild = [Segment(0, 4, 8), Segment(4, 0, 8), Segment((1 << 64) - 4, 0, 8), Segment(0, (1 << 64) - 4, 8)]
    assert matcher.learn_values(b"\0" * 8, b"\1" * 8, wild, b"\1", 1) == (array("I"), array("I"))


def test_missed_bytes_are_counted_by_page() -> None:
    segments = [Segment(4090, 0, 10), Segment(8192, 0, 2)]
    assert list(matcher.missed_in_pages(bytes(12), b"\1" * 11 + b"\0", segments, 3)) == [6, 4, 1]
    assert list(matcher.missed_in_pages(bytes(12), b"\1" * 12, segments, 1)) == [6]


def type_table(insertions: list[int], count: int = 6000) -> bytes:
    """Return records that name each other by number, as types in a kernel do, with some types more."""
    chance = random.Random(8)
    targets = [[chance.randrange(count) for _ in range(4)] for _ in range(count)]
    flags = [chance.randrange(16) for _ in range(count)]
    number = [place + sum(at <= place for at in insertions) for place in range(count)]
    made = b""
    for place in range(count):
        if place in insertions:
            made += words([1 << 24, count, count, 0, 1])
        made += words([flags[place], *(number[target] for target in targets[place])])
    return made


def test_inserted_types_cost_little() -> None:
    old, new = type_table([]), type_table([50, 700, 2100, 4000])
    alignment = align(old, new)
    assert alignment.prediction is not None
    assert any(mode.groups & Group.VALUES for mode in alignment.prediction.modes)
    made = encode(old, new, alignment, DEFAULT_PROFILE, Label())
    without = encode(old, new, type(alignment)(alignment.segments), DEFAULT_PROFILE, Label())
    assert len(made.written.data) * 2 < len(without.written.data)


def test_it_comes_back_from_the_cache() -> None:
    old, new = type_table([]), type_table([50, 700])
    alignment = align(old, new)
    assert dump(load(dump(alignment), old, new)) == dump(alignment)
    assert encode(old, new, load(dump(alignment), old, new), DEFAULT_PROFILE, Label()) == encode(
        old, new, alignment, DEFAULT_PROFILE, Label()
    )


def test_of_several_costs_the_shortest_result_is_kept() -> None:
    """Words in another order, as in a table of strings: a segment for each costs more in the map than the word as a literal."""
    chance = random.Random(3)
    words = ["".join(chance.choice("aehn") for _ in range(chance.randint(10, 13))) for _ in range(3000)]
    old, new = ("\0".join(chance.choice(words) for _ in range(8000)).encode() for _ in range(2))
    tried, quick = (align(old, new, effort=effort) for effort in (5, 4))
    assert tried.prediction is not None
    assert quick.prediction is not None
    assert len(tried.prediction.segments) * 4 < len(quick.segments) * 3
    with ThreadPoolExecutor(1) as pool:
        first, second = (measure(found.prediction, old, new, pool) for found in (tried, quick))
    assert first.coded_bytes < second.coded_bytes


@pytest.mark.parametrize("groups", [Group(0), Group.VALUES, Group.CALLS, Group.VALUES | Group.ABSOLUTE64])
def test_only_addresses_need_the_whole_map(groups: Group) -> None:
    context = make_context([NOTHING], b"", b"", b"", [])
    prediction = Prediction((NOTHING, Mode(InstructionSet.THUMB2, groups, 0)), context, [])
    assert prediction.follows_addresses == bool(groups & ~Group.VALUES)
