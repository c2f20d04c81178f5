"""The linear-time matcher: seeds, then the cheapest path over diagonals. Compiled; without a compiler `bsdiff` stands in."""

import struct
from array import array
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import astuple, dataclass
from functools import partial
from importlib.util import find_spec
from itertools import chain, pairwise
from typing import Final

from packager.diff import bsdiff
from packager.diff.alignment import MIN_SEGMENT_BYTES
from packager.vehicle.core.segments import Segment
from packager.vehicle.instructions import Instruction

INTERFACE: Final = 7
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
PART_BYTES: Final = 1 << 19
"""New images are aligned in equal parts of this length or more, each alone from its start on, so that threads can share the work."""
LEAST_PART_BYTES: Final = 1 << 17
"""Short ones in two."""
CUT_BYTES: Final = 128
"""Parts end at multiples of this."""
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


class Index:
    """The seeds of an old image: serves any number of alignments, at the same time, too."""

    def __init__(self, old: bytes, pool: Executor) -> None:
        """Make it.

        Args:
            old: The old image.
            pool: Where the work is done; results do not depend on it. Nothing of it may wait for this.
        """
        self._old = old
        self._pool = pool
        self._index = None
        if _COMPILED and len(old) <= MAX_IMAGE_BYTES:
            self._index = _match.make_index(old)
            list(pool.map(partial(_match.fill, self._index), (False, True)))

    def segments(self, new: bytes, costs: Costs) -> list[Segment]:
        """Align `new` with the old image, in parts of `PART_BYTES`.

        Returns:
            Segments by ascending new offset, without overlap; bytes within may differ.
        """
        return self.start(new, costs)()

    def start(self, new: bytes, costs: Costs) -> Callable[[], list[Segment]]:
        """Start to align `new` with the old image, and return what waits for the segments."""
        index = self._index
        if index is None or len(new) > MAX_IMAGE_BYTES:
            return partial(bsdiff.segments, self._old, new)
        count = max(len(new) // PART_BYTES, min(len(new) // LEAST_PART_BYTES, 2), 1)
        cuts = [*(len(new) * number // count & ~(CUT_BYTES - 1) for number in range(count)), len(new)]
        numbers = astuple(costs)
        parts = [self._pool.submit(_match.match, index, new, start, end, numbers) for start, end in pairwise(cuts)]

        def finish() -> list[Segment]:
            raw = _match.finish(index, new, b"".join(part.result() for part in parts), numbers)
            found = (Segment(*fields) for fields in _TRIPLE.iter_unpack(raw))
            return [segment for segment in found if segment.length_bytes >= MIN_SEGMENT_BYTES]

        return finish


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
    triples = array("Q", chain.from_iterable(found))
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
    triples = array("Q", chain.from_iterable(found))
    return array("I", _match.missed_in_pages(made, wanted, triples, pages))


def count_calls(row: Instruction, sample: bytes, start: int, image_bytes: int, step: int) -> int:
    """Count the words that are an instruction and lead into the image; only where `is_compiled`.

    Args:
        row: The instruction, of 4 bytes, whose target stands in it alone.
        sample: Bytes of the image.
        start: Where they start in it.
        image_bytes: Its length.
        step: A word starts at each multiple of this.
    """
    slices = bytes(number for piece in row.slices for number in (piece.at, piece.width, piece.field))
    fields = (row.mask, row.value, row.form, row.scale, row.bias, row.align, row.is_signed, row.bits)
    return _match.count_calls(sample, start, image_bytes, step, fields, slices)


def changed_words(old: bytes, new: bytes, found: Sequence[Segment], width: int, most: int) -> list[tuple[int, int]]:
    """Sample words at the same place in a segment that differ; only where `is_compiled`.

    Args:
        old: The old image.
        new: The new image.
        found: An alignment.
        width: Of words, 4 or 8 bytes; they stand at multiples of it.
        most: Fewer than twice as many are returned, at even steps.

    Returns:
        What they were and what they became.
    """
    triples = array("Q", (number for segment in found for number in segment))
    numbers = array("Q", _match.changed_words(old, new, triples, width, most))
    return list(zip(numbers[::2], numbers[1::2], strict=True))


def count_distances(image: bytes, wanted: bytes, least: int) -> "array[int]":
    """Count the words of pages that lead into the image from their own place; only where `is_compiled`.

    Args:
        image: The image.
        wanted: Per page, whether it is measured.
        least: Which distances count.

    Returns:
        A number per page, zero if it is not wanted or not whole.
    """
    return array("H", _match.count_distances(image, wanted, least))


def measure_records(pages: bytes | memoryview, wanted: bytes) -> "array[int]":
    """Measure how much pages look like records; only where `is_compiled`.

    Args:
        pages: The pages.
        wanted: For each, whether it is measured.

    Returns:
        Two numbers per page, zeros if it is not wanted or not whole: the length of records, plus 256 if their numbers are big-endian; how
        many bytes are as those one record before.
    """
    return array("H", _match.measure_records(pages, wanted))


def sparse_units(made: bytes, wanted: bytes, cuts: "array[int]", unit: int) -> tuple[bytes, bytes]:
    """Return gaps and values of the units that differ; only where `is_compiled`. See `packager.bundle.predicted_forms.sparse_units`."""
    return _match.sparse_units(made, wanted, cuts, unit)
