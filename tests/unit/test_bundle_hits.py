"""Counting how often a prediction was right: on code whose references were moved exactly, it always is."""

from pathlib import Path

import pytest

from packager.bundle.anatomy import BlockAnatomy, dissect_file
from packager.bundle.hits import Hits, count_hits
from packager.diff.prediction import Mode
from packager.vehicle.core.segments import Segment
from packager.vehicle.instructions import Group, InstructionSet
from tests.predicted_bundles import behind_an_insertion, follow, labels, predicted, thumb2
from tests.predicted_cases import code
from tests.sample_bundles import Sample, delta_mixed


def dissected(sample: Sample, tmp_path: Path) -> list[BlockAnatomy]:
    path = tmp_path / "bundle"
    path.write_bytes(sample.data)
    return list(dissect_file(path, sample.head))


def hits(sample: Sample, tmp_path: Path) -> list[Hits]:
    return count_hits(sample.head, dissected(sample, tmp_path), sample.old or b"", sample.new)


@pytest.mark.parametrize("instruction_set", list(InstructionSet)[1:6])
@pytest.mark.parametrize("changed", [0, 5])
def test_exactly_moved_code_is_predicted_but_for_what_was_changed(
    instruction_set: InstructionSet, changed: int, tmp_path: Path
) -> None:
    old = code(7, instruction_set, 6000)
    mode = Mode(instruction_set, Group.CALLS | Group.CONDITIONAL, 0)
    segments = behind_an_insertion(len(old))
    new = follow(old, mode, segments, len(old) + 20)
    for number in range(changed):
        new[1000 + 800 * number] ^= 0x10
    sample = predicted("", old, bytes(new), [mode], segments, [0], block_log2=13)
    (found,) = hits(sample, tmp_path)
    assert found.predicted_bytes > 50
    assert (found.missed_bytes > 0) == (changed > 0)
    assert found.missed_bytes <= 4 * changed
    corrections = sum(block.corrections for block in dissected(sample, tmp_path))
    assert corrections == found.missed_bytes


def test_each_mode_has_its_own_counts(tmp_path: Path) -> None:
    """Two modes: with the first, all pages moved; the page of the second has nothing predicted, so that a change there is a miss."""
    with_code, without = hits(thumb2(), tmp_path)
    assert with_code.predicted_bytes > with_code.missed_bytes
    assert without.predicted_bytes == 0


def test_blocks_without_pieces_or_prediction_do_not_count(tmp_path: Path) -> None:
    assert hits(labels(), tmp_path) == [Hits(0, 0)]
    assert hits(delta_mixed(), tmp_path) == []


def test_bytes_that_stay_are_no_hits(tmp_path: Path) -> None:
    old = code(8, InstructionSet.AARCH64, 5000)
    mode = Mode(InstructionSet.AARCH64, Group.CALLS, 0)
    sample = predicted("", old, old, [mode], [Segment(0, 0, len(old))], [2])
    assert hits(sample, tmp_path) == [Hits(0, 0)]
