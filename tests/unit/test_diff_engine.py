"""Rivals: from effort 9 on other alignments of the same images compete, and no bundle is longer than at the usual effort."""

import pytest

from packager.bundle.encoder import Label, encode
from packager.diff import bsdiff
from packager.diff.engine import DEFAULT_EFFORT, MAX_EFFORT, RIVALS_FROM, Alignment, Engine, align, dump, load
from packager.vehicle.instructions import InstructionSet
from packager.vehicle.profile import DEFAULT_PROFILE
from tests import needs
from tests.predicted_bundles import firmware
from tests.sample_bundles import noise


def length(old: bytes, new: bytes, alignment: Alignment) -> int:
    return len(encode(old, new, alignment, DEFAULT_PROFILE, Label()).written.data)


@needs.MATCHER
def test_the_highest_effort_has_the_usual_alignment_and_that_of_bsdiff_as_rivals() -> None:
    old, new = firmware("thumb2")
    assert align(old, new, effort=RIVALS_FROM - 1).rivals == ()
    usual, other = align(old, new, effort=RIVALS_FROM).rivals
    assert usual == align(old, new, effort=DEFAULT_EFFORT)
    assert other.segments == bsdiff.segments(old, new)
    assert other.prediction is not None
    assert any(mode.instruction_set is InstructionSet.THUMB2 for mode in other.prediction.modes)


@needs.MATCHER
def test_without_predictors_bsdiff_alone_is_a_rival() -> None:
    old, new = firmware("thumb2")
    (rival,) = align(old, new, effort=MAX_EFFORT, predicts=False).rivals
    assert rival == align(old, new, Engine.BSDIFF, effort=MAX_EFFORT)


@pytest.mark.parametrize("is_first", [True, False])
def test_the_smallest_bundle_wins(*, is_first: bool) -> None:
    old = noise(1, 20_000)
    new = old[:9000] + noise(2, 10) + old[9000:]
    good, bad = Alignment(bsdiff.segments(old, new)), Alignment(())
    both = Alignment(good.segments, rivals=(bad,)) if is_first else Alignment(bad.segments, rivals=(good,))
    assert length(old, new, both) == length(old, new, good) < length(old, new, bad)


@needs.MATCHER
@pytest.mark.parametrize("kind", ["thumb2", "noise"])
def test_rivals_survive_a_file(kind: str) -> None:
    old, new = firmware("thumb2") if kind == "thumb2" else (noise(3, 9000), noise(4, 9000))
    alignment = align(old, new, effort=MAX_EFFORT)
    assert load(dump(alignment), old, new) == alignment
    assert dump(load(dump(alignment), old, new)) == dump(alignment)
