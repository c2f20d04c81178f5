"""Detection: what an image is made of is counted, never read from headers of the image."""

import random

import pytest

import packager.diff
from packager.diff import matcher
from packager.diff.detection import has_cell_lists
from packager.diff.engine import align
from packager.diff.prediction import CELLS
from packager.vehicle._pure_fields import extend, gather, invert_by_sign
from packager.vehicle.core.segments import Segment
from packager.vehicle.instructions import TABLES, Form, Instruction, InstructionSet
from tests import needs
from tests.predicted_cases import code
from tests.sample_bundles import noise


def pages(count: int, others: int) -> bytes:
    """Return pages of a database, and after them others of which nothing is known."""
    return code(5, InstructionSet.BTREE, count * 4096) + noise(6, others * 4096)


@pytest.mark.parametrize(("others", "found"), [(0, True), (10, True), (90, False)])
def test_a_database_is_found_where_a_quarter_of_the_pages_is_of_one(others: int, found: bool) -> None:
    assert has_cell_lists(pages(10, others)) == found


def test_a_short_image_is_no_database() -> None:
    assert not has_cell_lists(b"")
    assert not has_cell_lists(pages(1, 0)[:4095])


def test_machine_code_is_no_database() -> None:
    for instruction_set in list(InstructionSet)[1:6]:
        assert not has_cell_lists(code(7, instruction_set, 100_000))


def test_cells_are_predicted_where_one_was_inserted() -> None:
    old = pages(20, 0)
    new = bytearray(old)
    for page in range(0, len(new), 4096):
        if new[page] == 13 and old[page + 3 : page + 5] != bytes(2):
            for entry in range(page + 10, page + 50, 2):
                place = int.from_bytes(new[entry : entry + 2], "big") - 5
                new[entry : entry + 2] = place.to_bytes(2, "big")
    prediction = align(old, bytes(new)).prediction
    assert prediction is not None
    assert CELLS in prediction.modes
    assert not prediction.follows_addresses


def target_of(row: Instruction, word: int, address: int) -> int:
    """Return where an instruction at `address` leads."""
    base = address & ~0xFFF if row.form is Form.PAGE else (address + row.bias) & ~(row.align - 1)
    field = gather(word, row.slices)
    if row.form is Form.SIGN_INVERTED:
        field = invert_by_sign(field, row.bits)
    return base + ((extend(field, row.bits) if row.is_signed else field) << row.scale)


ROWS = [row for rows in TABLES.values() for row in rows if row.form is not Form.PAIR and row.width_bytes == 4]


@needs.MATCHER
@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.name} {row.value:x}")
@pytest.mark.parametrize("step", [2, 4])
def test_calls_into_the_image_are_counted_as_the_tables_say(row: Instruction, step: int) -> None:
    chance = random.Random(1)
    start, image_bytes = 1 << 12, 1 << row.bits + row.scale - 2
    words = [
        chance.getrandbits(32) & ~row.mask | row.value if chance.random() < 0.8 else chance.getrandbits(32)
        for _ in range(2000)
    ]
    sample = b"".join(word.to_bytes(4, "little") for word in words) + b"end"
    counted = 0
    for at in range(0, len(sample) - 3, step):
        word = int.from_bytes(sample[at : at + 4], "little")
        if not (word ^ row.value) & row.mask:
            counted += 0 <= target_of(row, word, start + at) < image_bytes
    assert counted > 10
    assert matcher.count_calls(row, sample, start, image_bytes, step) == counted


@needs.MATCHER
@pytest.mark.parametrize("width", [4, 8])
@pytest.mark.parametrize(("changes", "step"), [(0, 1), (19, 1), (20, 2), (95, 9)])
def test_words_that_changed_are_sampled_at_even_steps(width: int, changes: int, step: int) -> None:
    """Ten are wanted; words count that lie whole in a segment, at a multiple of their length in both images."""
    old = noise(8, 3000)
    new = bytearray(width + len(old))
    new[width:] = old
    places = [width * (5 + 2 * number) for number in range(changes)]
    for place in places:
        new[width + place + number_of_byte(place, width)] ^= 0x55
    found = [Segment(width + 1, 1, 2001), Segment(2101 + width, 2100, 900)]
    sampled = matcher.changed_words(old, bytes(new), found, width, 10)
    words = [(old[at : at + width], new[width + at : width + at + width]) for at in places[::step]]
    assert sampled == [(int.from_bytes(before, "little"), int.from_bytes(after, "little")) for before, after in words]


def number_of_byte(place: int, width: int) -> int:
    return place // width % width


@needs.MATCHER
@pytest.mark.parametrize(("width", "most"), [(2, 1), (4, 0), (16, 1)])
def test_other_words_are_refused(width: int, most: int) -> None:
    assert matcher.changed_words(bytes(64), bytes(64), [Segment(0, 0, 64)], 4, 1) == []
    with pytest.raises(ValueError, match="expected words of 4 or 8 bytes"):
        matcher.changed_words(bytes(64), bytes(64), [Segment(0, 0, 64)], width, most)


@needs.MATCHER
@pytest.mark.parametrize("segment", [(0, 0, 65), (60, 0, 8), (0, 60, 8)])
def test_words_outside_the_images_do_not_count(segment: tuple[int, int, int]) -> None:
    assert len(matcher.changed_words(bytes(64), b"x" * 64, [Segment(0, 0, 64)], 4, 99)) == 16
    assert matcher.changed_words(bytes(64), b"x" * 64, [Segment(*segment)], 4, 99) == []


@needs.MATCHER
@pytest.mark.parametrize(("step", "form", "at"), [(0, 0, 0), (4, 3, 0), (4, 0, 32)])
def test_what_is_no_field_of_an_instruction_is_refused(step: int, form: int, at: int) -> None:
    row = (0xFC000000, 0x94000000, form, 2, 0, 1, 1, 26)
    assert packager.diff._match.count_calls(bytes(64), 0, 64, 4, (*row[:2], 0, *row[3:]), bytes((0, 26, 0))) == 0
    with pytest.raises(ValueError, match="expected a step of at least 1, and a relative field"):
        packager.diff._match.count_calls(bytes(64), 0, 64, step, row, bytes((at, 26, 0)))
