"""Pairs of images that are hard to install in place, and their bundles; made by the packager's encoder from bytes of a fixed seed."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

from packager.bundle.encoder import Label, encode
from packager.diff.engine import Alignment
from packager.vehicle.core.head import Head, read_head
from packager.vehicle.core.segments import Segment
from packager.vehicle.profile import UpdateProfile
from tests.sample_bundles import BLOCK, noise, sign

IN_PLACE = UpdateProfile(spare_slot=False, block_bytes=BLOCK, scratch_bytes=16 * BLOCK)


@dataclass(frozen=True)
class InPlaceSample:
    """An in-place bundle with both of its images."""

    name: str
    old: bytes
    new: bytes
    data: bytes
    head_bytes: int

    @property
    def head(self) -> Head:
        return read_head(self.data[: self.head_bytes], sign(self.data[: self.head_bytes]), IN_PLACE)


def in_place(
    name: str, old: bytes, new: bytes, segments: list[Segment], scratch_bytes: int = IN_PLACE.scratch_bytes
) -> InPlaceSample:
    """Encode a bundle for an ECU without a spare slot."""
    written = encode(old, new, Alignment(segments), replace(IN_PLACE, scratch_bytes=scratch_bytes), Label()).written
    return InPlaceSample(name, old, new, written.data, written.head_bytes)


def _touched(data: bytes) -> bytes:
    """Change a byte here and there, so that no block is a mere copy."""
    new = bytearray(data)
    for at in range(700, len(new), 1900):
        new[at] ^= 0x55
    return bytes(new)


@cache
def shifted_up() -> InPlaceSample:
    """Longer: everything moves to higher addresses, so the last block must come first."""
    old = noise(41, 5 * BLOCK + 300)
    new = noise(42, 500) + _touched(old)
    return in_place("shifted up", old, new, [Segment(500, 0, len(old))])


@cache
def shifted_down() -> InPlaceSample:
    """Shorter: everything moves to lower addresses."""
    old = noise(43, 6 * BLOCK)
    new = _touched(old[BLOCK + 900 :])
    return in_place("shifted down", old, new, [Segment(0, BLOCK + 900, len(new))])


@cache
def swapped() -> InPlaceSample:
    """The halves change places: every block waits for another one, so bytes are put aside."""
    old = noise(44, 6 * BLOCK)
    new = _touched(old[3 * BLOCK :] + old[: 3 * BLOCK])
    return in_place("swapped", old, new, [Segment(0, 3 * BLOCK, 3 * BLOCK), Segment(3 * BLOCK, 0, 3 * BLOCK)])


@cache
def swapped_with_little_scratch() -> InPlaceSample:
    """The same with room for the block being written alone: circles are broken by blocks that do without the old image."""
    full = swapped()
    segments = [Segment(0, 3 * BLOCK, 3 * BLOCK), Segment(3 * BLOCK, 0, 3 * BLOCK)]
    return in_place("swapped, little scratch", full.old, full.new, segments, BLOCK)


@cache
def one_block() -> InPlaceSample:
    """The only block reads all of the longer old image, itself included."""
    old = noise(45, 3000)
    return in_place("one block", old, old[1000:] + b"tail", [Segment(0, 1000, 2000)])


@cache
def mostly_unchanged() -> InPlaceSample:
    """Unchanged blocks between changed ones, fill and a new end."""
    old = noise(46, 6 * BLOCK)
    new = old[: 2 * BLOCK] + _touched(old[2 * BLOCK : 3 * BLOCK]) + b"\xff" * BLOCK + old[4 * BLOCK :] + noise(47, 900)
    return in_place("mostly unchanged", old, new, [Segment(0, 0, 6 * BLOCK)])


@cache
def unchanged_then_swapped() -> InPlaceSample:
    """The first blocks lie in their places already, so that the journal moves on before anything is written."""
    old = noise(48, 6 * BLOCK)
    new = old[: 2 * BLOCK] + _touched(old[4 * BLOCK :] + old[2 * BLOCK : 4 * BLOCK])
    segments = [
        Segment(0, 0, 2 * BLOCK),
        Segment(2 * BLOCK, 4 * BLOCK, 2 * BLOCK),
        Segment(4 * BLOCK, 2 * BLOCK, 2 * BLOCK),
    ]
    return in_place("unchanged, then swapped", old, new, segments)


SAMPLES: list[Callable[[], InPlaceSample]] = [
    shifted_up,
    shifted_down,
    swapped,
    swapped_with_little_scratch,
    one_block,
    mostly_unchanged,
    unchanged_then_swapped,
]
