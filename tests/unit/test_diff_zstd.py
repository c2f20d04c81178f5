"""zstd frames as the vehicle reads them, and the trap of its short memory for large windows."""

import random

import pytest

from packager.diff import lzma, zstd
from packager.vehicle.core.codec import CodecLimits, decode
from packager.vehicle.profile import Coder

LIMITS = CodecLimits(frozenset(Coder), 1 << 27)


@pytest.mark.parametrize("data", [b"a", b"abc" * 100, bytes(100_000), random.Random(1).randbytes(3000)])
@pytest.mark.parametrize("window", [b"", b"abc" * 50])
def test_the_vehicle_decodes_what_is_compressed(data: bytes, window: bytes) -> None:
    coded = zstd.compress(data, 19, window)
    assert decode(Coder.ZSTD, coded, len(data), "test", LIMITS, window) == data
    assert 1 << zstd.window_log2(coded) >= min(len(data), 1024)


def test_a_moved_half_is_found_in_the_whole_window() -> None:
    old = random.Random(2).randbytes(6 << 20)
    new = old[3 << 20 :] + old[: 3 << 20]
    assert len(zstd.compress(new, 15, old)) < 5000, "only the tail of the old image was indexed"


@pytest.mark.parametrize("data", [b"word" * 1000, bytes(5000), random.Random(1).randbytes(100)])
def test_the_vehicle_decodes_lzma(data: bytes) -> None:
    coded = lzma.compress(data)
    assert decode(Coder.LZMA, coded, len(data), "test", LIMITS) == data
