"""Literals that may refer to the old image: it is searched thoroughly, but a long one quickly for little."""

import random
from collections.abc import Callable

import pytest

from packager.bundle.forms import Means
from packager.bundle.predicted_forms import FEW_LITERALS, HURRIED_LEVEL, LONG_WINDOW_BYTES, _literal_column
from packager.diff import lzma, zstd
from packager.vehicle.core.predicted import LITERALS_KNOW_OLD
from packager.vehicle.profile import Coder

LEVEL = 19
WINDOW = random.Random(1).randbytes(LONG_WINDOW_BYTES)


def means(old: bytes, *coders: Coder) -> Means:
    return Means(frozenset({Coder.RAW, *coders}), 0, LEVEL, labelled_old=old)


@pytest.mark.parametrize(
    ("old_bytes", "literal_bytes", "hurried"),
    [
        (LONG_WINDOW_BYTES, 100, False),
        (LONG_WINDOW_BYTES + 1, 100, True),
        (LONG_WINDOW_BYTES + FEW_LITERALS, LONG_WINDOW_BYTES // FEW_LITERALS, True),
        (LONG_WINDOW_BYTES + FEW_LITERALS, LONG_WINDOW_BYTES // FEW_LITERALS + 1, False),
    ],
)
def test_a_long_old_image_is_not_sorted_for_few_literals(
    monkeypatch: pytest.MonkeyPatch, old_bytes: int, literal_bytes: int, *, hurried: bool
) -> None:
    levels, finders = [], []
    usual_zstd: Callable[..., bytes] = zstd.compress
    usual_lzma: Callable[..., bytes | None] = lzma.compress_behind

    def compress(data: bytes, level: int, window: bytes = b"") -> bytes:
        levels.extend([level] if window else [])
        return usual_zstd(data, level, window)

    def compress_behind(data: bytes, window: bytes, *, hurried: bool) -> bytes | None:
        finders.append(hurried)
        return usual_lzma(data, window, hurried=hurried)

    monkeypatch.setattr(zstd, "compress", compress)
    monkeypatch.setattr(lzma, "compress_behind", compress_behind)
    old = WINDOW + bytes(old_bytes - len(WINDOW))
    literals = (b"a word " + old[5000:5040]) * (literal_bytes // 47 + 1)
    _, known = _literal_column(literals[:literal_bytes], b"", means(old, Coder.ZSTD, Coder.LZMA))
    assert known == LITERALS_KNOW_OLD
    assert levels == [HURRIED_LEVEL if hurried else LEVEL]
    assert finders == [hurried]
