"""The bsdiff4 engine: alignments are sound, bounded in time and memory, and blind to nothing that matters."""

import random

import bsdiff4.core
import pytest

from packager.diff import bsdiff
from packager.vehicle.core.segments import Segment

RANDOM = random.Random(7)
CODE = RANDOM.randbytes(200_000)


def rebuild_matching(old: bytes, new: bytes, segments: list[Segment]) -> int:
    """Check order, bounds and overlap; return how many bytes of `new` the segments predict exactly."""
    at = exact = 0
    for new_offset, old_offset, length in segments:
        assert new_offset >= at
        assert length > 0
        assert old_offset >= 0
        assert old_offset + length <= len(old)
        assert new_offset + length <= len(new)
        pairs = zip(old[old_offset : old_offset + length], new[new_offset : new_offset + length], strict=True)
        exact += sum(first == second for first, second in pairs)
        at = new_offset + length
    return exact


def test_an_insertion_shifts_everything_behind_it() -> None:
    new = CODE[:5000] + b"inserted" + CODE[5000:]
    segments = bsdiff.segments(CODE, new)
    assert rebuild_matching(CODE, new, segments) >= len(CODE)
    assert len(segments) == 2


def test_changed_bytes_stay_inside_one_segment() -> None:
    new = bytearray(CODE)
    for position in range(1000, 150_000, 1000):
        new[position] ^= 0x55
    assert bsdiff.segments(CODE, bytes(new)) == [Segment(0, 0, len(CODE))]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"", b"x"),
        (b"x", b"y"),
        (b"abc" * 5, b""),
        (CODE[:100], CODE[100:200]),
        (CODE, CODE),
        (b"\xff" * 50_000, b"\xff" * 70_000),
        (CODE[:4096] + b"\xff" * 100_000, CODE[:4095] + b"\xff" * 100_000 + b"!"),
    ],
)
def test_segments_are_sound(old: bytes, new: bytes) -> None:
    rebuild_matching(old, new, bsdiff.segments(old, new))


@pytest.mark.parametrize(
    "old",
    [bytes(1 << 20), b"\xff" * (1 << 20), b"abcdefghijklm" * 80_000, bytes(range(256)) * 4096, b"\0\0\0\1" * 262_144],
)
def test_fill_and_periodic_data_never_reach_the_sort_whole(old: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    new = bytearray(old)
    for position in RANDOM.sample(range(len(old)), 7):
        new[position] ^= 0x5A
    seen: list[int] = []
    diff = bsdiff4.core.diff

    def spy(first: bytes, second: bytes) -> object:
        seen.append(len(first))
        return diff(first, second)

    monkeypatch.setattr(bsdiff4.core, "diff", spy)
    segments = bsdiff.segments(old, bytes(new))
    rebuild_matching(old, bytes(new), segments)
    assert sum(seen) < 1 << 18, "bsdiff's sort takes minutes on data like this"


def test_windows_bound_what_one_sort_sees(monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = RANDOM.randbytes(6 << 20), RANDOM.randbytes(3 << 20)
    seen: list[tuple[int, int]] = []

    def spy(first: bytes, second: bytes) -> tuple[bytes, bytes, bytes]:
        seen.append((len(first), len(second)))
        return b"", b"", b""

    monkeypatch.setattr(bsdiff4.core, "diff", spy)
    bsdiff.segments(old, new)
    assert seen
    assert max(first for first, _ in seen) <= 4 * bsdiff.NEW_WINDOW_BYTES
    assert max(second for _, second in seen) <= bsdiff.NEW_WINDOW_BYTES
