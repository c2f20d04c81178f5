"""Which forms of a block, and which bundles, are tried."""

from collections.abc import Sequence

import pytest

from packager.bundle import encoder
from packager.bundle.encoder import BOTH_TRIED_BYTES, RIVAL_LEVEL, EncodedBundle, Label, encode
from packager.bundle.forms import Means, Place
from packager.bundle.writer import CodedBlock, Identity, WrittenBundle
from packager.diff.engine import Alignment
from packager.diff.prediction import NOTHING, Prediction, make_context
from packager.vehicle.core.manifest import Op
from packager.vehicle.core.segments import Segment
from packager.vehicle.profile import DEFAULT_PROFILE, Coder

PLACE = Place(0, 0, bytes(4096), bytes(4096), [Segment(0, 0, 4096)])
MEANS = Means(DEFAULT_PROFILE.coders, 4096, RIVAL_LEVEL + 1)


def form(op: Op, length_bytes: int) -> CodedBlock:
    return CodedBlock(0, op, Coder.ZSTD, bytes(length_bytes), PLACE.output)


@pytest.mark.parametrize(
    ("rival_bytes", "full_cost", "is_made"),
    [(1049, 900, True), (1050, 900, False), (1001, 990, True), (1000, 1000, False), (999, 1001, True)],
)
def test_a_rival_that_is_nearly_as_short_when_coded_quickly_is_made(
    rival_bytes: int, full_cost: int, is_made: bool
) -> None:
    """The segments cost 996 bytes and 4 in the head, and a twentieth is allowed, but less where the full level gains less."""

    def segments(place: Place, means: Means) -> CodedBlock:
        return form(Op.DELTA, 996)

    def rival(place: Place, means: Means) -> CodedBlock:
        return form(Op.WINDOW, rival_bytes)

    assert encoder._promising(PLACE, MEANS, [rival], (segments, full_cost)) == ([rival] if is_made else [])


def test_prediction_is_kept_without_windows_where_these_do_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    """A window in one block needs memory for all of the update."""
    tried: list[Means] = []

    def fake(
        identity: Identity, old: bytes | None, new: bytes, means: Means, segments: Sequence[Segment], threads: int
    ) -> EncodedBundle:
        tried.append(means)
        memory_bytes = DEFAULT_PROFILE.ram_bytes + (means.window_bytes > 0)
        return EncodedBundle(WrittenBundle(bytes(BOTH_TRIED_BYTES + 1), 100, memory_bytes), {"predicted": 2})

    monkeypatch.setattr(encoder, "_encode", fake)
    old, new = bytes(5000), bytes(4999) + b"\1"
    prediction = Prediction((NOTHING,), make_context([NOTHING], b"\0\0", old, new, []), [])
    made = encode(old, new, Alignment((), prediction), DEFAULT_PROFILE, Label())
    assert made.written.memory_bytes == DEFAULT_PROFILE.ram_bytes
    assert [means.prediction for means in tried] == [prediction, prediction]
    assert [means.window_bytes > 0 for means in tried] == [True, False]
