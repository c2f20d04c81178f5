"""Section 5 of a head: stretches that are put aside; every limit from both sides, and how they cut what is read."""

import random
import re

import pytest

from packager.vehicle.core.spills import MAX_SPILLS, NO_SPILLS, SPILL_BYTES, SpillMap, encode_spills, parse_spills
from packager.vehicle.errors import CorruptError
from packager.vehicle.identity import DIGEST_BYTES

DIGEST = bytes(range(DIGEST_BYTES))
OLD_BYTES = 1000


def parse(*stretches: tuple[int, int], old_bytes: int = OLD_BYTES) -> SpillMap:
    return parse_spills(memoryview(encode_spills(list(stretches), DIGEST)), old_bytes)


def refused(wrong: str, section: bytes, old_bytes: int = OLD_BYTES) -> None:
    with pytest.raises(CorruptError, match=re.escape(wrong)):
        parse_spills(memoryview(section), old_bytes)


def entry(old_offset: int, length_bytes: int) -> bytes:
    return old_offset.to_bytes(8, "little") + length_bytes.to_bytes(4, "little")


def test_what_was_written_comes_back() -> None:
    found = parse((0, 3), (10, 1), (500, 500))
    assert found.spills == ((0, 3, 0), (10, 1, 3), (500, 500, 4))
    assert (found.digest, len(found), found.spilled_bytes) == (DIGEST, 3, 504)
    assert (len(NO_SPILLS), NO_SPILLS.spilled_bytes) == (0, 0)


@pytest.mark.parametrize("length_bytes", [*range(DIGEST_BYTES), DIGEST_BYTES + 1, DIGEST_BYTES + SPILL_BYTES - 1])
def test_every_truncation(length_bytes: int) -> None:
    refused("spills", (DIGEST + entry(0, 1))[:length_bytes])


def test_at_least_one_entry_and_no_more_than_the_cap() -> None:
    assert len(parse((0, 1))) == 1
    refused("0 bytes of entries, expected 1 to 65536", DIGEST)
    most = [(2 * number, 1) for number in range(MAX_SPILLS)]
    assert len(parse(*most, old_bytes=2 * MAX_SPILLS - 1)) == MAX_SPILLS
    refused("expected 1 to 65536", encode_spills([*most, (2 * MAX_SPILLS, 1)], DIGEST), 1 << 20)


@pytest.mark.parametrize(
    ("first", "second", "is_right"),
    [
        ((0, 3), (4, 1), True),
        ((0, 3), (3, 1), False),  # they touch: one stretch would do
        ((0, 3), (2, 5), False),
        ((0, 3), (0, 3), False),
        ((5, 3), (0, 1), False),
        ((0, 3), (OLD_BYTES - 1, 1), True),
        ((0, 3), (OLD_BYTES - 1, 2), False),
        ((0, 3), (OLD_BYTES, 1), False),
        ((0, 3), (4, OLD_BYTES - 4), True),
        ((0, 3), (4, OLD_BYTES - 3), False),
        ((0, 3), (4, 0), False),
        ((0, 3), (4, (1 << 32) - 1), False),
        ((0, 3), ((1 << 64) - 1, 1), False),  # offset and length together exceed 64 bits
    ],
)
def test_entries_ascend_apart_and_lie_in_the_old_image(
    first: tuple[int, int], second: tuple[int, int], is_right: bool
) -> None:
    if is_right:
        assert len(parse(first, second)) == 2
    else:
        refused("spills: entry 1 of", DIGEST + entry(*first) + entry(*second))


def test_the_first_entry_may_start_at_the_first_byte_and_be_the_whole_old_image() -> None:
    assert parse((0, OLD_BYTES)).spilled_bytes == OLD_BYTES
    refused("entry 0 of 1001 bytes at old byte 0", DIGEST + entry(0, OLD_BYTES + 1))
    refused("entry 0 of 0 bytes", DIGEST + entry(0, 0))


def test_a_stretch_longer_than_31_bits() -> None:
    assert parse((1 << 33, (1 << 32) - 1), old_bytes=1 << 40).spilled_bytes == (1 << 32) - 1


def test_reads_are_cut_where_spilled_and_other_bytes_meet() -> None:
    found = parse((10, 5), (20, 1))
    assert [(start, end, spill is not None) for start, end, spill in found.split(0, 30)] == [
        (0, 10, False), (10, 15, True), (15, 20, False), (20, 21, True), (21, 30, False)
    ]  # fmt: skip
    assert list(found.split(12, 14)) == [(12, 14, found.spills[0])]
    assert list(found.split(15, 20)) == [(15, 20, None)]
    assert list(found.split(7, 7)) == []
    assert list(NO_SPILLS.split(0, 9)) == [(0, 9, None)]


def test_cut_reads_are_the_spilled_bytes_and_no_others() -> None:
    chance = random.Random(1)
    for _ in range(200):
        cuts = sorted(chance.sample(range(101), 2 * chance.randint(1, 8)))
        found = parse(*((start, end - start) for start, end in zip(cuts[::2], cuts[1::2], strict=True)), old_bytes=100)
        start, end = sorted((chance.randrange(101), chance.randrange(101)))
        at = start
        for first, stop, spill in found.split(start, end):
            assert first == at < stop
            inside = [s for s in found.spills if s.old_offset <= first < s.old_offset + s.length_bytes]
            assert inside == ([] if spill is None else [spill])
            at = stop
        assert at == end
