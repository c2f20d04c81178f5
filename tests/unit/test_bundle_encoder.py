"""Which forms of a block are made at the full level."""

import pytest

from packager.bundle import encoder
from packager.bundle.encoder import RIVAL_LEVEL
from packager.bundle.forms import Means, Place
from packager.bundle.writer import CodedBlock
from packager.vehicle.manifest import Op
from packager.vehicle.profile import DEFAULT_PROFILE, Coder
from packager.vehicle.segments import Segment

PLACE = Place(0, 0, bytes(4096), bytes(4096), [Segment(0, 0, 4096)])
MEANS = Means(DEFAULT_PROFILE.coders, 4096, RIVAL_LEVEL + 1)


def form(op: Op, length_bytes: int) -> CodedBlock:
    return CodedBlock(0, op, Coder.ZSTD, bytes(length_bytes), PLACE.output)


@pytest.mark.parametrize(("rival_bytes", "is_made"), [(1049, True), (1050, False)])
def test_a_rival_that_is_nearly_as_short_when_coded_quickly_is_made(
    rival_bytes: int, is_made: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The segments cost 996 bytes and 4 in the head, and a twentieth is allowed."""
    monkeypatch.setattr(encoder, "_segments_form", lambda place, means: form(Op.DELTA, 996))

    def rival(place: Place, means: Means) -> CodedBlock:
        return form(Op.WINDOW, rival_bytes)

    assert encoder._promising(PLACE, MEANS, [rival]) == ([rival] if is_made else [])
