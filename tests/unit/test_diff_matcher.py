"""The linear-time matcher: sound segments, few of them whatever the data, and the same every time."""

import importlib.util
import random
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import packager.diff
from packager.diff import bsdiff, matcher
from packager.diff.alignment import MIN_SEGMENT_BYTES
from packager.diff.matcher import LEAST_PART_BYTES, PART_BYTES, Costs, Index
from packager.vehicle.core.segments import Segment
from tests import needs
from tests.perf.matcher_costs import can_measure, measure

pytestmark = needs.MATCHER
COSTS = Costs()


def segments(old: bytes, new: bytes, costs: Costs, threads: int = 1) -> list[Segment]:
    with ThreadPoolExecutor(threads) as pool:
        return Index(old, pool).segments(new, costs)


def check(found: Sequence[Segment], old: bytes, new: bytes) -> None:
    """Segments ascend without overlap, lie in both images, and are worth their place."""
    end = 0
    for new_offset, old_offset, length_bytes in found:
        assert new_offset >= end
        assert length_bytes >= MIN_SEGMENT_BYTES
        assert 0 <= old_offset <= len(old) - length_bytes
        end = new_offset + length_bytes
    assert end <= len(new)


def covered(found: Sequence[Segment]) -> int:
    return sum(segment.length_bytes for segment in found)


def equal(found: Sequence[Segment], old: bytes, new: bytes) -> int:
    return sum(
        old[segment.old_offset + at] == new[segment.new_offset + at]
        for segment in found
        for at in range(segment.length_bytes)
    )


def noise(seed: int, count: int) -> bytes:
    return random.Random(seed).randbytes(count)


@pytest.mark.parametrize("old_bytes", [0, 1, 7, 8, 9, 23, 24, 25, 40])
@pytest.mark.parametrize("kind", ["noise", "fill"])
def test_tiny_images(old_bytes: int, kind: str) -> None:
    data = noise(1, 40) if kind == "noise" else b"\xff" * 40
    for new_bytes in range(41):
        old, new = data[:old_bytes], data[:new_bytes]
        found = segments(old, new, COSTS)
        check(found, old, new)
        if old == new and old_bytes >= 24:
            assert found == [Segment(0, 0, old_bytes)]


small = st.one_of(
    st.binary(max_size=300),
    st.lists(st.sampled_from(b"ab"), max_size=300).map(bytes),
    st.lists(st.sampled_from([noise(n, 40) for n in range(4)]), max_size=8).map(b"".join),
)


@given(
    small,
    small,
    st.integers(0, 40),
    st.sampled_from([COSTS, Costs(chain=1), Costs(0, 0, 0, 0, 64), Costs(99, 0, 1, 0)]),
)
@example(b"", b"", 0, COSTS)
def test_segments_are_sound_and_the_same_every_time(old: bytes, new: bytes, cut: int, costs: Costs) -> None:
    new += old[cut:]
    found = segments(old, new, costs)
    check(found, old, new)
    assert segments(old, new, costs) == found


def test_one_image_is_one_segment() -> None:
    data = noise(2, 100_000)
    assert segments(data, data, COSTS) == [Segment(0, 0, len(data))]


def test_unrelated_images_have_next_to_nothing_in_common() -> None:
    assert len(segments(noise(3, 300_000), noise(4, 300_000), COSTS)) <= 3


@pytest.mark.parametrize("inserted", [1, 4, 5000])
def test_an_insertion_is_two_segments(inserted: int) -> None:
    old = noise(5, 200_000)
    new = old[:77_000] + noise(6, inserted) + old[77_000:]
    for first, second in ((old, new), (new, old)):
        found = segments(first, second, COSTS)
        check(found, first, second)
        assert len(found) == 2
        assert equal(found, first, second) >= len(old)


@pytest.mark.parametrize("period", [9, 40])
def test_changed_bytes_stay_in_one_segment(period: int) -> None:
    """A seed does not survive every 9th byte changed; the diagonal goes on all the same."""
    old = noise(7, 200_000)
    new = bytearray(old)
    for at in range(1000, len(new), period):
        new[at] ^= 0x20
    assert len(segments(old, bytes(new), COSTS)) == 1


def test_moved_pieces_are_all_found() -> None:
    pieces = [noise(100 + number, 3000 + number) for number in range(100)]
    old = b"".join(pieces)
    random.Random(8).shuffle(pieces)
    new = b"".join(pieces)
    found = segments(old, new, COSTS)
    check(found, old, new)
    assert len(found) <= 110
    assert covered(found) == equal(found, old, new) == len(new)


@pytest.mark.parametrize("fill", [0x00, 0xFF])
def test_fill_of_another_length(fill: int) -> None:
    """A flash that is more or less full: the code is followed, and the fill costs next to no segments."""
    code = noise(9, 100_000)
    old = code + bytes((fill,)) * 400_000
    for kept, filled in ((100_000, 300_000), (90_000, 399_000)):
        new = code[:kept] + bytes((fill,)) * filled
        found = segments(old, new, COSTS)
        check(found, old, new)
        assert len(found) <= 4
        assert equal(found, old, new) >= len(new) - 8


def test_islands_in_fill() -> None:
    """Records of 50 bytes in pages of fill, all of them moved and changed: at most about a segment for each."""
    old = b"".join(noise(number, 50) + bytes(950) for number in range(300))
    new = b"".join(noise(number + 7, 50) + bytes(950) for number in range(300))
    found = segments(old, new, COSTS)
    check(found, old, new)
    assert len(found) <= 620


@pytest.mark.parametrize("period", [2, 3, 7, 8, 9, 64, 255, 4096])
def test_periodic_data_is_a_handful_of_segments(period: int) -> None:
    old = noise(period, period) * (300_000 // period)
    for new in (old[1:], old[:1000] + b"x" + old[1000:], old + old[5:]):
        found = segments(old, new, COSTS)
        check(found, old, new)
        assert len(found) <= 6
        assert equal(found, old, new) >= len(new) - 5000


def test_two_letters_are_not_cut_to_pieces() -> None:
    """Where every seed occurs everywhere, segments still are worth their change of diagonal."""
    chance = random.Random(10)
    old, new = (bytes(chance.choices(b"ab", k=100_000)) for _ in range(2))
    found = segments(old, new, COSTS)
    check(found, old, new)
    assert len(found) <= len(new) // 16


def test_lines_whose_seeds_all_occur_often_follow_their_neighbours() -> None:
    """A linker's map: each object has lines of the same kinds, their lengths change, and other objects lend every seed of theirs."""
    draw = random.Random(5)
    names = [
        f"out/driver/source/{draw.randrange(16):x}_{draw.choice(('usb', 'i2c', 'spi', 'adc'))}.o" for _ in range(600)
    ]
    kinds = [".group", ".text", ".debug_info", ".debug_macro", ".debug_str", ".comment"]
    lengths = {(number, kind): draw.randrange(16) for number in range(len(names)) for kind in kinds}

    def line(number: int, name: str, kind: str, change: int) -> str:
        length = (lengths[number, kind] + (change if number % 5 == 0 and kind == ".text" else 0)) % 16
        return f" {kind:14} 0x0000000000000000 {length:#10x} /home/builder/toolchain/library/{name}\n"

    def lines(change: int) -> bytes:
        named = enumerate(names)
        return "".join(line(number, name, kind, change) for number, name in named for kind in kinds).encode()

    old, new = lines(0), b"a line more\n" + lines(7)
    assert len(segments(old, new, Costs(mismatch=16, change=80))) <= 5


def test_without_a_compiler_bsdiff_stands_in(monkeypatch: pytest.MonkeyPatch) -> None:
    old = noise(11, 5000)
    new = old[:2000] + b"inserted" + old[2000:]
    monkeypatch.setattr(matcher, "_COMPILED", False)
    assert not matcher.is_compiled()
    assert segments(old, new, COSTS) == bsdiff.segments(old, new)


@pytest.mark.parametrize("found", [matcher.INTERFACE - 1, matcher.INTERFACE + 1, None])
def test_a_stale_one_is_noticed(monkeypatch: pytest.MonkeyPatch, found: int | None) -> None:
    stale = SimpleNamespace() if found is None else SimpleNamespace(INTERFACE=found)
    monkeypatch.setattr(packager.diff, "_match", stale)
    spec = importlib.util.spec_from_file_location("chosen", matcher.__file__)
    assert spec is not None
    assert spec.loader is not None
    chosen = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "chosen", chosen)
    spec.loader.exec_module(chosen)
    assert not chosen.is_compiled()
    assert f"the compiled matcher has interface {found or 0}, expected {matcher.INTERFACE}" in chosen.PROBLEM
    assert (matcher.is_compiled(), matcher.PROBLEM) == (True, "")


@pytest.mark.parametrize("sparse", [0, 17])
def test_refuses_looks_for_seeds_too_often_or_too_rarely(sparse: int) -> None:
    with pytest.raises(ValueError, match=f"found sparse {sparse}, expected 1 to 16"):
        segments(bytes(64), bytes(64), Costs(sparse=sparse))


@pytest.mark.parametrize("sparse", [1, 16])
def test_finds_a_long_match_however_rarely_it_looks(sparse: int) -> None:
    image = random.Random(5).randbytes(4096)
    found = segments(image, image[1024:], Costs(sparse=sparse))
    assert [tuple(segment) for segment in found] == [(0, 1024, 3072)]


def test_threads_change_nothing() -> None:
    old = noise(21, 3 * PART_BYTES)
    new = old[5000 : 2 * PART_BYTES] + noise(22, 777) + old[: PART_BYTES + 12345]
    found = segments(old, new, COSTS)
    assert covered(found) > len(new) - 1000
    assert all(segments(old, new, COSTS, threads) == found for threads in (2, 3))


def test_one_index_serves_all() -> None:
    old = noise(23, 50_000)
    new = old[:20_000] + noise(24, 100) + old[10_000:]
    coarse = Costs(mismatch=24, change=160)
    with ThreadPoolExecutor(2) as pool, ThreadPoolExecutor(2) as callers:
        index = Index(old, pool)
        found = list(callers.map(index.segments, (new, old), (coarse, COSTS)))
    assert found == [segments(old, new, coarse), segments(old, old, COSTS)]


@pytest.mark.parametrize(
    "more", [-1, 0, 1, PART_BYTES - 1, LEAST_PART_BYTES - 2 * PART_BYTES, 2 * LEAST_PART_BYTES + 3 - 2 * PART_BYTES]
)
def test_a_part_that_follows_the_old_image_goes_on_where_the_one_before_ends(more: int) -> None:
    old = noise(25, 2 * PART_BYTES + more)
    assert segments(old, old, COSTS) == [Segment(0, 0, len(old))]


def test_an_index_must_be_filled_first() -> None:
    index = packager.diff._match.make_index(bytes(100))
    packager.diff._match.fill(index, True)
    with pytest.raises(ValueError, match="both of its tables"):
        packager.diff._match.match(index, bytes(100), 0, 100, (12, 7, 56, 8, 16, 1))


@pytest.mark.parametrize(("first", "end"), [(0, 1001), (900, 899), (0, 127), (1001, 1001)])
def test_a_part_is_within_the_image(first: int, end: int) -> None:
    index = packager.diff._match.make_index(bytes(1000))
    for is_long in (False, True):
        packager.diff._match.fill(index, is_long)
    packager.diff._match.match(index, bytes(1000), 0, 128, (12, 7, 56, 8, 16, 1))
    with pytest.raises(ValueError, match=f"found the part from {first} to {end}"):
        packager.diff._match.match(index, bytes(1000), first, end, (12, 7, 56, 8, 16, 1))


@pytest.mark.parametrize("triple", [(0, 0, 101), (90, 0, 11), (0, 95, 6), (1 << 63, 0, 1 << 63)])
def test_segments_that_leave_the_images_are_refused(triple: tuple[int, int, int]) -> None:
    index = packager.diff._match.make_index(bytes(100))
    for is_long in (False, True):
        packager.diff._match.fill(index, is_long)
    raw = b"".join(number.to_bytes(8, sys.byteorder) for number in triple)
    with pytest.raises(ValueError, match="within both images"):
        packager.diff._match.finish(index, bytes(100), raw, (12, 7, 56, 8, 16, 1))


MIB = 1 << 20


@pytest.mark.parametrize("old_bytes", [n * MIB + more for n in (1, 2, 3, 5, 8, 13, 16, 33, 64) for more in (-1, 0, 1)])
def test_tables_take_at_most_eight_bytes_per_byte_of_the_old_image(old_bytes: int) -> None:
    taken = packager.diff._match.index_bytes(old_bytes)
    assert taken <= 7.6 * old_bytes + 512
    if old_bytes < 64 * MIB:
        assert taken > 7.5 * old_bytes


@pytest.mark.parametrize("old_bytes", [64 * MIB, 200 * MIB + 1, 1 << 30, (1 << 32) - 2])
def test_tables_of_longer_images_take_no_more(old_bytes: int) -> None:
    assert 3.7 * 64 * MIB < packager.diff._match.index_bytes(old_bytes) < 512 * MIB


@pytest.mark.skipif(not can_measure(), reason="the system does not say what a process needed at its peak")
@pytest.mark.parametrize(("mib", "threads"), [(2, 1), (4, 2)])
def test_memory_at_its_peak_is_below_eight_bytes_per_byte_of_the_old_image(mib: int, threads: int) -> None:
    costs = measure(mib, threads)
    assert costs.segments > 300 * mib
    assert 7 * costs.old_bytes < costs.peak_bytes < 8 * costs.old_bytes


def test_places_beyond_the_densely_indexed_ones_are_found() -> None:
    """From 64 MiB on only some places have an entry."""
    code = noise(26, 5000)
    old = bytes(64 * MIB) + code
    assert segments(old, noise(27, 100) + code, COSTS) == [Segment(100, 64 * MIB, 5000)]
