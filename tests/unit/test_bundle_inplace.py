"""The order of blocks that overwrite what others read, and what it costs to break a circle."""

from dataclasses import replace

import pytest

from packager.bundle.encoder import Label, encode
from packager.bundle.inplace import JOINED_GAP_BYTES, arrange, join, without
from packager.diff.engine import NO_ALIGNMENT, Alignment
from packager.model.errors import BudgetError
from packager.vehicle.core.segments import Segment
from packager.vehicle.core.spills import MAX_SPILLS
from packager.vehicle.profile import UpdateProfile, grid_block_bytes
from tests.in_place_bundles import IN_PLACE, one_block, shifted_down, shifted_up, swapped, swapped_with_little_scratch
from tests.sample_bundles import BLOCK, noise

BYTES = 100
OLD, NEW = noise(1, 4 * BYTES), noise(2, 4 * BYTES)
DEAR = dict.fromkeys(range(4), 10000)


def order(reads: list[list[tuple[int, int]]], spill_bytes: int = 0, old: bytes = OLD, new: bytes = NEW) -> object:
    found = arrange(old, new, BYTES, reads, spill_bytes, DEAR.__getitem__, ())
    return found.order, found.spills, sorted(found.recoded)


def test_without_conflicts_blocks_stay_in_block_order() -> None:
    assert order([[(0, 100)], [(100, 200)], [(200, 300)], []]) == ((0, 1, 2, 3), (), [])


def test_a_block_comes_before_the_one_that_destroys_what_it_reads() -> None:
    assert order([[], [(0, 100)], [(100, 200)], [(200, 300)]]) == ((3, 2, 1, 0), (), [])


def test_unchanged_bytes_are_not_destroyed() -> None:
    assert order([[], [(0, 100)], [(100, 200)], []], new=OLD) == ((0, 1, 2, 3), (), [])
    assert order([[], [(0, 50)], [], []], new=OLD[:50] + NEW[50:]) == ((0, 1, 2, 3), (), [])


def test_old_bytes_after_the_new_image_are_never_destroyed() -> None:
    assert order([[(350, 400)], [(399, 400)]], new=NEW[: 2 * BYTES]) == ((0, 1), (), [])


def test_a_circle_is_broken_by_putting_the_fewest_bytes_aside() -> None:
    reads = [[(150, 170)], [(0, 30)], [], []]
    assert order(reads, 20) == ((2, 3, 1, 0), ((150, 20),), [])
    assert order(reads, 19) == ((2, 3, 1, 0), (), [0])


def test_a_block_that_is_hardly_longer_without_the_old_image_is_cheaper_than_a_spill() -> None:
    reads = [[(150, 170)], [(0, 30)], [], []]
    found = arrange(OLD, NEW, BYTES, reads, 1000, {0: 5, 1: 500}.__getitem__, ())
    assert (found.spills, found.recoded) == ((), {0})
    found = arrange(OLD, NEW, BYTES, reads, 1000, {0: 12, 1: 500}.__getitem__, ())
    assert (found.spills, found.recoded) == (((150, 20),), set())


def test_a_block_that_can_do_without_some_old_bytes_does_so_where_there_is_no_room_to_put_them_aside() -> None:
    reads = [[(0, 10), (150, 170)], [(0, 30)], [], []]
    found = arrange(OLD, NEW, BYTES, reads, 19, DEAR.__getitem__, {0, 1})
    assert (found.spills, found.recoded, found.left_out) == ((), set(), {0: [(150, 170)]})
    found = arrange(OLD, NEW, BYTES, reads, 19, {0: 19, 1: 99}.__getitem__, {0, 1})
    assert (found.recoded, found.left_out) == ({0}, {})
    found = arrange(OLD, NEW, BYTES, reads, 19, {0: 20, 1: 99}.__getitem__, {0, 1})
    assert (found.recoded, found.left_out) == (set(), {0: [(150, 170)]})


def test_pieces_are_cut_around_what_is_left_out() -> None:
    pieces = [Segment(0, 100, 50), Segment(60, 200, 20)]
    assert without(pieces, []) == pieces
    assert without(pieces, [(110, 130)]) == [Segment(0, 100, 10), Segment(30, 130, 20), Segment(60, 200, 20)]
    assert without(pieces, [(107, 140), (0, 90)]) == [Segment(40, 140, 10), Segment(60, 200, 20)]
    assert without(pieces, [(90, 155), (195, 300)]) == []


def test_near_ranges_become_one() -> None:
    assert join([(50, 60), (0, 10)], 0) == [(0, 10), (50, 60)]
    assert join([(0, 10), (10 + JOINED_GAP_BYTES, 99)], JOINED_GAP_BYTES) == [(0, 99)]
    assert join([(0, 10), (11 + JOINED_GAP_BYTES, 99)], JOINED_GAP_BYTES) == [(0, 10), (43, 99)]
    assert join([(0, 90), (10, 20)], 0) == [(0, 90)]
    assert MAX_SPILLS >= 1


def test_bundles_state_order_and_scratch() -> None:
    up, down = shifted_up().head, shifted_down().head
    assert [up.index[at].block for at in range(len(up.index))] == [5, 4, 3, 2, 1, 0]
    assert [down.index[at].block for at in range(len(down.index))] == [0, 1, 2, 3, 4]
    for head in (up, down):
        assert (head.manifest.scratch_bytes, len(head.spills)) == (BLOCK, 0)
    spilled = swapped().head
    assert spilled.manifest.scratch_bytes == BLOCK + spilled.spills.spilled_bytes
    assert len(spilled.spills) >= 1
    assert len(swapped_with_little_scratch().head.spills) == 0
    assert len(swapped_with_little_scratch().data) > len(swapped().data)
    assert one_block().head.manifest.scratch_bytes == len(one_block().new)


@pytest.mark.parametrize("length_bytes", [1000, 3 * BLOCK])
def test_scratch_for_the_longest_block_from_both_sides(length_bytes: int) -> None:
    old, new = noise(5, length_bytes), noise(6, length_bytes)
    least = min(length_bytes, BLOCK)
    encode(old, new, NO_ALIGNMENT, replace(IN_PLACE, scratch_bytes=least), Label())
    with pytest.raises(BudgetError, match=f"{least - 1} bytes of scratch, expected at least {least}") as caught:
        encode(old, new, NO_ALIGNMENT, replace(IN_PLACE, scratch_bytes=least - 1), Label())
    assert caught.value.exit_code == 20
    assert "scratch_kib" in caught.value.hint


def test_a_full_bundle_needs_no_scratch_and_is_the_same_for_both_kinds_of_ecu() -> None:
    new = noise(7, 5 * BLOCK)
    profile = replace(IN_PLACE, scratch_bytes=0)
    assert encode(None, new, NO_ALIGNMENT, profile, Label()) == encode(
        None, new, NO_ALIGNMENT, replace(profile, spare_slot=True), Label()
    )


def test_blocks_leave_half_of_the_scratch_for_spills() -> None:
    profile = UpdateProfile(spare_slot=False, scratch_bytes=64 << 10)
    assert grid_block_bytes(1 << 20, profile) == 32 << 10
    assert grid_block_bytes(1 << 20, replace(profile, scratch_bytes=(64 << 10) - 1)) == 16 << 10
    assert grid_block_bytes(1 << 20, replace(profile, scratch_bytes=100)) == 4096
    assert grid_block_bytes(1 << 20, replace(profile, block_bytes=1 << 16)) == 1 << 16
    assert grid_block_bytes(1 << 20, replace(profile, spare_slot=True)) == 1 << 20


def test_the_same_inputs_give_the_same_bytes() -> None:
    segments = [Segment(0, 3 * BLOCK, 3 * BLOCK), Segment(3 * BLOCK, 0, 3 * BLOCK)]
    made = [encode(swapped().old, swapped().new, Alignment(segments), IN_PLACE, Label()).written.data for _ in range(2)]
    assert made[0] == made[1] == swapped().data
