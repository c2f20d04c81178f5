"""The estimate of a bundle's length knows how residuals will be coded."""

import pytest

from packager.diff import matcher, sizing
from packager.diff.prediction import NOTHING, Prediction, make_context
from packager.diff.sizing import coded_bytes
from packager.vehicle.core.segments import Segment
from packager.vehicle.instructions import InstructionSet
from tests.predicted_cases import code

pytestmark = pytest.mark.skipif(not matcher.is_compiled(), reason="the matcher is not compiled")


def changed_code() -> tuple[bytes, bytes, Prediction]:
    """Return two images whose instructions of one kind differ by one of two amounts, and the alignment without any prediction."""
    old = code(5, InstructionSet.THUMB2, 20_000)
    new = bytearray(old)
    for at in range(0, len(new), 2):
        if new[at + 1] & 0xE0 == 0x40 and at % 3:
            new[at] = (new[at] + (4 if new[at + 1] & 1 else 8)) & 0xFF
    segments = [Segment(0, 0, len(new))]
    context = make_context([NOTHING], bytes(5), old, bytes(new), segments)
    return old, bytes(new), Prediction((NOTHING,), context, segments)


def test_adaptive_residuals_are_estimated_as_such() -> None:
    old, new, prediction = changed_code()
    assert coded_bytes(prediction, old, new, adaptive=True) < coded_bytes(prediction, old, new)


@pytest.mark.parametrize(("shorter", "is_adaptive"), [(0, True), (1, False)])
def test_those_of_long_images_are_not(shorter: int, is_adaptive: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    old, new, prediction = changed_code()
    monkeypatch.setattr(sizing, "ADAPTIVE_BYTES", len(new) - shorter)
    plain, adaptive = (coded_bytes(prediction, old, new, adaptive=each) for each in (False, True))
    assert (adaptive < plain) == is_adaptive
