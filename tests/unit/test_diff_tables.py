"""Tables are found by how their pages look, and stay only where less is left to code."""

import random
import struct
from itertools import accumulate

import pytest

from packager.bundle.encoder import Label, encode
from packager.diff import matcher
from packager.diff.engine import Alignment, align, dump, load
from packager.diff.realignment import clusters, join, near, old_range, overlapping
from packager.vehicle.core.segments import Segment
from packager.vehicle.instructions import Group, InstructionSet
from packager.vehicle.profile import DEFAULT_PROFILE
from tests import needs
from tests.sample_bundles import noise

pytestmark = needs.MATCHER

FUNCTIONS = 4000


def image_with(make_table: "type[Distances | Records]", inserted: bool) -> bytes:
    """Return functions and a table that names them; with some bytes more in front of every fourth."""
    chance = random.Random(9)
    lengths = [chance.randrange(20, 200, 4) for _ in range(FUNCTIONS)]
    grown = [chance.choice((4, 8, 12)) if inserted and number % 4 == 0 else 0 for number in range(FUNCTIONS)]
    starts = [0, *accumulate(length + more for length, more in zip(lengths, grown, strict=True))]
    functions = noise(9, sum(lengths))
    at, code = 0, bytearray()
    for number, length in enumerate(lengths):
        code += bytes(grown[number]) + functions[at : at + length]
        at += length
    return bytes(code) + make_table.of([start + more for start, more in zip(starts, grown, strict=False)], starts[-1])


class Distances:
    @staticmethod
    def of(starts: list[int], at: int) -> bytes:
        """Return, for each function, how far away it is, and a flag."""
        return b"".join(struct.pack("<iI", start - at - 8 * index, index % 7) for index, start in enumerate(starts))


class Records:
    @staticmethod
    def of(starts: list[int], at: int) -> bytes:
        """Return, for each function, a number, a flag and its offset, big-endian, in 9 bytes."""
        return b"".join(struct.pack(">IBI", 3 * index, 0, start) for index, start in enumerate(starts)) + bytes(at % 4)


@pytest.mark.parametrize(
    ("table", "instruction_set", "groups"),
    [(Distances, InstructionSet.DISTANCES, Group.CALLS), (Records, InstructionSet.RECORDS, Group.CONDITIONAL)],
)
def test_tables_of_what_moved_cost_little(
    table: type[Distances] | type[Records], instruction_set: InstructionSet, groups: Group
) -> None:
    old, new = image_with(table, inserted=False), image_with(table, inserted=True)
    alignment = align(old, new)
    assert alignment.prediction is not None
    used = [mode for mode in alignment.prediction.modes if mode.instruction_set is instruction_set]
    assert [mode.groups for mode in used] == [groups]
    assert alignment.prediction.follows_addresses == (instruction_set is InstructionSet.DISTANCES)
    made = encode(old, new, alignment, DEFAULT_PROFILE, Label())
    without = encode(old, new, Alignment(alignment.segments), DEFAULT_PROFILE, Label())
    assert len(made.written.data) * 3 < len(without.written.data) * 2
    assert encode(old, new, load(dump(alignment), old, new), DEFAULT_PROFILE, Label()) == made


def test_noise_has_no_tables() -> None:
    old = noise(1, 40_000)
    new = old[:5000] + noise(2, 20_000) + old[25_000:]
    prediction = align(old, new).prediction
    assert prediction is not None
    assert all(mode.instruction_set is InstructionSet.NONE for mode in prediction.modes)


def measure(page: bytes, *, least: int = 4096, image_bytes: int = 8192, wanted: bytes = b"\1\0") -> list[int]:
    """Return for each page how many words lead into the image, the length of records, and how many bytes repeat after one."""
    image = page + bytes(image_bytes - len(page))
    distances, records = matcher.count_distances(image, wanted, least), matcher.measure_records(image, wanted)
    return [number for fields in zip(distances, records[::2], records[1::2], strict=True) for number in fields]


@pytest.mark.parametrize(
    ("distance", "counted"),
    [(4096, True), (4095, False), (8191, True), (8192, False), (-4096, False)],
)
def test_distances_into_the_image_are_counted(distance: int, counted: bool) -> None:
    assert measure(struct.pack("<i", distance) + bytes(4092))[0] == counted
    behind = bytes(4096) + struct.pack("<i", distance) + bytes(4092)
    assert measure(behind, wanted=b"\0\1")[3] == (distance in (-4096, 4095 - 4096))


def test_records_are_measured() -> None:
    little = b"".join(struct.pack("<IHI", 1000 * at, 7, 77 * at) for at in range(500))[:4096]
    big = b"".join(struct.pack(">IHI", 1000 * at, 7, 77 * at) for at in range(500))[:4096]
    assert measure(little)[1] == 10
    assert measure(big)[1] == 10 + 256
    assert measure(noise(3, 4096))[2] < 200
    assert measure(bytes(4096))[2] == 4094


def test_only_whole_pages_that_are_wanted_are_measured() -> None:
    assert measure(noise(3, 4096), wanted=b"\0\1")[:3] == [0, 0, 0]
    assert len(measure(b"", image_bytes=4095, wanted=b"\1")) == 3
    assert measure(b"", image_bytes=4095, wanted=b"\1") == [0, 0, 0]
    assert measure(b"", image_bytes=0, wanted=b"") == []
    assert measure(b"", image_bytes=0, wanted=b"\1\1") == [0] * 6


def test_only_chosen_pages_and_those_near_them_are_aligned_again() -> None:
    chosen = [number in (10, 12, 40) for number in range(64)]
    assert list(near(chosen, 0, 64 << 12, 2)) == [(8 << 12, 15 << 12), (38 << 12, 43 << 12)]
    assert list(near(chosen, 0, 64 << 12, 0)) == [(10 << 12, 11 << 12), (12 << 12, 13 << 12), (40 << 12, 41 << 12)]
    assert list(near(chosen, 9 << 12, (41 << 12) + 5, 8)) == [(9 << 12, 21 << 12), (32 << 12, (41 << 12) + 5)]
    assert not list(near([0] * 64, 0, 64 << 12, 8))


def test_pages_that_lie_close_together_are_one_stretch() -> None:
    chosen = [0] * 200
    for number in (3, 67, 132):
        chosen[number] = 1
    assert list(clusters(chosen, 200 << 12, 10)) == [(3 << 12, 68 << 12), (132 << 12, 133 << 12)]
    assert list(clusters(chosen, (132 << 12) + 5, 10))[1] == (132 << 12, (132 << 12) + 5)
    assert list(clusters(chosen, 200 << 12, 2)) == [(3 << 12, 68 << 12)]
    assert not list(clusters([0, 0], 8192, 1))


def test_two_alignments_are_joined_by_pages() -> None:
    first = [Segment(0, 100, 5000), Segment(6000, 6100, 6000)]
    second = [Segment(4000, 4100, 1000), Segment(5000, 0, 4000)]
    assert join(first, second, [False, False, False], 12_000) == first
    assert join(first, second, [True, True, True], 12_000) == second
    assert join(first, second, [False, True, False], 12_000) == [
        Segment(0, 100, 5000),
        Segment(5000, 0, 3192),
        Segment(8192, 8292, 3808),
    ]


def test_a_stray_segment_does_not_widen_the_old_range() -> None:
    """One in twenty of the bytes on each side does not count."""
    near = [Segment(at * 100, (5 << 20) + at * 100, 100) for at in range(100)]
    margin = 1 << 18
    first, last = (5 << 20) - margin & ~4095, (5 << 20) + 9500 + margin
    assert old_range(near, 10 << 20) == (first, last)
    made = old_range([*near, Segment(10_000, 0, 8), Segment(10_008, 9 << 20, 8)], 10 << 20)
    assert made[0] == first
    assert last <= made[1] <= last + 100
    assert (
        old_range([*near, Segment(10_000, (5 << 20) - 30_000, 600)], 10 << 20)[0] == (5 << 20) - 30_000 - margin & ~4095
    )
    assert old_range(near, (5 << 20) + 9000)[1] == (5 << 20) + 9000


def test_strays_all_over_the_image_do_not_make_all_of_it_the_old_range(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond some times as many old bytes as are followed, the densest stretch is enough."""
    margin = 1 << 18
    near = [Segment(at * 100, (5 << 20) + at * 100, 100) for at in range(70)]
    far = [Segment(7000 + at * 100, at % 10 * (10 << 20) // 9, 100) for at in range(30)]
    assert old_range([*near, *far], 10 << 20) == (901_120, 9_582_919)
    monkeypatch.setattr("packager.diff.realignment.WIDE_BYTES", 1 << 19)
    assert old_range([*near, *far], 10 << 20) == ((5 << 20) - margin, (5 << 20) + 7000 + margin)


def test_stretches_whose_old_ranges_overlap_share_an_index(monkeypatch: pytest.MonkeyPatch) -> None:
    """Up to a length, and only those that overlap."""
    monkeypatch.setattr("packager.diff.realignment.WIDEST_TOGETHER", 100)
    ranges = {(0, 1): (60, 90), (1, 2): (0, 50), (2, 3): (40, 60), (3, 4): (85, 170), (4, 5): (160, 170)}
    assert list(overlapping(ranges)) == [(0, 60, [(1, 2), (2, 3)]), (60, 90, [(0, 1)]), (85, 170, [(3, 4), (4, 5)])]
    assert not list(overlapping({}))
