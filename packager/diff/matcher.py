"""The linear-time matcher: seeds, then the cheapest path over diagonals. Compiled; without a compiler `bsdiff` stands in."""

import struct
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Final

from packager.diff import bsdiff
from packager.diff.alignment import MIN_SEGMENT_BYTES
from packager.vehicle.segments import Segment

INTERFACE: Final = 1
"""Grows with every change of what the compiled functions take, return or do; `_match.c` states the one it was compiled for."""
PROBLEM = ""
"""Why a matcher that was compiled is not in use; empty if it is, or if no compiler was there at installation."""

try:
    from packager.diff import _match
except ImportError as import_error:
    _COMPILED = False
    if find_spec("packager.diff._match") is not None:
        PROBLEM = f"the compiled matcher can't be loaded: {import_error}"
else:
    found_interface = getattr(_match, "INTERFACE", 0)
    _COMPILED = found_interface == INTERFACE
    if not _COMPILED:
        PROBLEM = f"the compiled matcher has interface {found_interface}, expected {INTERFACE}; compile it again with make setup"

MAX_IMAGE_BYTES: Final = (1 << 32) - 2
_TRIPLE: Final = struct.Struct("=QQQ")


@dataclass(frozen=True, slots=True)
class Costs:
    """What the path through the diagonals costs, in units of about an eighth of a byte of the bundle.

    Attributes:
        mismatch: A changed byte on a diagonal.
        literal: A byte on no diagonal.
        change: Taking up another diagonal.
        leave: Leaving all diagonals.
        chain: How many old places of a seed are looked at.
        sparse: Seeds are looked for at every so many bytes on no diagonal, and more rarely by this factor on a poor one; 1 to 16.
    """

    mismatch: int = 12
    literal: int = 7
    change: int = 56
    leave: int = 8
    chain: int = 16
    sparse: int = 1


def is_compiled() -> bool:
    """Tell whether the matcher is there."""
    return _COMPILED


def segments(old: bytes, new: bytes, costs: Costs) -> list[Segment]:
    """Align `new` with `old`.

    Returns:
        Segments by ascending new offset, without overlap; bytes within may differ.
    """
    if not _COMPILED or max(len(old), len(new)) > MAX_IMAGE_BYTES:
        return bsdiff.segments(old, new)
    raw = _match.match(old, new, costs.mismatch, costs.literal, costs.change, costs.leave, costs.chain, costs.sparse)
    found = (Segment(*fields) for fields in _TRIPLE.iter_unpack(raw))
    return [segment for segment in found if segment.length_bytes >= MIN_SEGMENT_BYTES]


def learn_values(
    old: bytes, new: bytes, found: Sequence[Segment], pages: bytes, least: int
) -> tuple["array[int]", "array[int]"]:
    """Learn what aligned words of the old image become: the value that most often stands in their place, if it is another one.

    Args:
        old: The old image.
        new: The new image.
        found: An alignment.
        pages: Per page of the new image, whether its words count.
        least: How much more often than unchanged a word must become its new value.

    Returns:
        Old values, ascending, and what each becomes; none where the matcher is not compiled.
    """
    if not _COMPILED:
        return array("I"), array("I")
    triples = array("Q", (number for segment in found for number in segment))
    old_values, new_values = (array("I", raw) for raw in _match.learn_values(old, new, triples, pages, least))
    return old_values, new_values


def missed_in_pages(
    made: bytearray | memoryview, wanted: bytearray | memoryview, found: Sequence[Segment], pages: int
) -> "array[int]":
    """Count the differing bytes of each page of the new image; only where `is_compiled`.

    Args:
        made: What all segments make, one after the other.
        wanted: What it should be.
        found: The segments.
        pages: How many pages the new image has.
    """
    triples = array("Q", (number for segment in found for number in segment))
    return array("I", _match.missed_in_pages(made, wanted, triples, pages))


def sparse_units(made: bytes, wanted: bytes, cuts: "array[int]", unit: int) -> tuple[bytes, bytes]:
    """Return gaps and values of the units that differ; only where `is_compiled`. See `packager.bundle.predicted_forms.sparse_units`."""
    return _match.sparse_units(made, wanted, cuts, unit)
