"""The estimate of a bundle's length knows how residuals will be coded."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from packager.diff import sizing
from packager.diff.prediction import NOTHING, Part, Prediction, make_context, parts_of
from packager.diff.sizing import measure
from packager.vehicle.core.segments import Segment
from packager.vehicle.instructions import InstructionSet
from tests import needs
from tests.predicted_cases import code

pytestmark = needs.MATCHER


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


def coded_bytes(prediction: Prediction, old: bytes, new: bytes, *, adaptive: bool = False) -> int:
    with ThreadPoolExecutor(1) as pool:
        return measure(prediction, old, new, pool, adaptive=adaptive).coded_bytes


def test_adaptive_residuals_are_estimated_as_such() -> None:
    old, new, prediction = changed_code()
    assert coded_bytes(prediction, old, new, adaptive=True) < coded_bytes(prediction, old, new)


@pytest.mark.parametrize(("shorter", "is_adaptive"), [(0, True), (1, False)])
def test_those_of_long_images_are_not(shorter: int, is_adaptive: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    old, new, prediction = changed_code()
    monkeypatch.setattr(sizing, "ADAPTIVE_BYTES", len(new) - shorter)
    plain, adaptive = (coded_bytes(prediction, old, new, adaptive=each) for each in (False, True))
    assert (adaptive < plain) == is_adaptive


def test_long_images_are_measured_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is missed does not depend on where an image is cut, and the estimate hardly does."""
    old, new, prediction = changed_code()
    with ThreadPoolExecutor(2) as pool:
        whole = measure(prediction, old, new, pool)
        monkeypatch.setattr("packager.diff.prediction.PART_BYTES", 8192)
        in_parts = measure(prediction, old, new, pool)
    assert in_parts.missed == whole.missed
    assert sum(whole.missed) == sum(first != second for first, second in zip(old, new, strict=True))
    assert whole.coded_bytes <= in_parts.coded_bytes < whole.coded_bytes * 1.5


def test_parts_hold_all_pieces_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("packager.diff.prediction.PART_BYTES", 100)
    segments = [Segment(10, 5, 40), Segment(60, 0, 40), Segment(120, 300, 210), Segment(340, 7, 60)]
    parts = parts_of(segments, 401)
    assert [(part.first, part.last) for part in parts] == [(0, 100), (100, 200), (200, 300), (300, 400), (400, 401)]
    assert [list(part.pieces) for part in parts] == [
        [Segment(10, 5, 40), Segment(60, 0, 40)],
        [Segment(120, 300, 80)],
        [Segment(200, 380, 100)],
        [Segment(300, 480, 30), Segment(340, 7, 60)],
        [],
    ]
    assert parts_of([], 0) == [Part(0, 0, [])]
