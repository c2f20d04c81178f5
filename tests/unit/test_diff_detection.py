"""Detection: what an image is made of is counted, never read from headers of the image."""

import pytest

from packager.diff.detection import has_cell_lists
from packager.diff.engine import align
from packager.diff.prediction import CELLS
from packager.vehicle.instructions import InstructionSet
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
