"""Finds instruction sets and bases of pointers in raw images, without headers or symbols: by where calls and pointers lead."""

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Final

from packager.diff import matcher
from packager.vehicle._pure_stretch import PAGE_BYTES
from packager.vehicle._pure_tables import INNER_PAGES, LEAF_PAGES
from packager.vehicle.core.predictors import address_map, fits_section
from packager.vehicle.core.segments import Segment
from packager.vehicle.instructions import STEP_BYTES, TABLES, Form, Group, InstructionSet

DENSITY_SAMPLES: Final = 16
DENSITY_BYTES: Final = 1 << 13
"""Calls are counted in this many samples of this length."""
CELL_SAMPLES: Final = 64
CELL_PAGES_SHARE: Final = 4
ALWAYS: Final = Group.CALLS | Group.PAIRS
"""What every instruction set gains from most."""
POINTER_SAMPLE: Final = 2000
MIN_POINTER_HITS: Final = 6
MAX_VOTES: Final = 256
"""Most ranges that one word votes for."""


def likely_sets(image: bytes) -> list[InstructionSet]:
    """Return the instruction sets by how much more often their calls lead into the image than chance would have it, the likeliest first."""
    step = max(len(image) // DENSITY_SAMPLES, DENSITY_BYTES) & ~7
    samples = [(start, image[start : start + DENSITY_BYTES]) for start in range(0, len(image), step)]
    scores = []
    for instruction_set in TABLES:
        if instruction_set is not InstructionSet.X86 and not TABLES[instruction_set]:
            continue
        hits = sum(_count_calls(instruction_set, at, data, len(image)) for at, data in samples)
        places = sum(len(data) for _, data in samples) / STEP_BYTES[instruction_set]
        scores.append((hits / (_chance(instruction_set, len(image)) * places + 2), instruction_set))
    return [found for score, found in sorted(scores, reverse=True) if score > 1]


def has_cell_lists(image: bytes) -> bool:
    """Tell whether an image is made of b-tree pages: in one of `CELL_PAGES_SHARE` of a sample all cells lie within their page."""
    step = max(len(image) // CELL_SAMPLES, PAGE_BYTES) // PAGE_BYTES * PAGE_BYTES
    pages = [image[at : at + PAGE_BYTES] for at in range(0, len(image) - PAGE_BYTES + 1, step)]
    return sum(map(_has_cell_list, pages)) * CELL_PAGES_SHARE > len(pages)


def _has_cell_list(page: bytes) -> bool:
    if page[0] not in INNER_PAGES + LEAF_PAGES:
        return False
    start = 12 if page[0] in INNER_PAGES else 8
    end = start + 2 * int.from_bytes(page[3:5], "big")
    cells = (int.from_bytes(page[at : at + 2], "big") for at in range(start, end, 2))
    return start < end <= PAGE_BYTES and all(end <= cell < PAGE_BYTES for cell in cells)


def _count_calls(instruction_set: InstructionSet, start: int, data: bytes, image_bytes: int) -> int:
    """Count the calls in a sample whose target is in the image."""
    if instruction_set is InstructionSet.X86:
        hits = 0
        for match in re.finditer(rb"[\xe8\xe9](?=(....))", data, re.DOTALL):
            hits += 0 <= start + match.start() + 5 + int.from_bytes(match[1], "little", signed=True) < image_bytes
        return hits
    rows = [row for row in TABLES[instruction_set] if row.group in ALWAYS and row.form is not Form.PAIR]
    return sum(matcher.count_calls(row, data, start, image_bytes, STEP_BYTES[instruction_set]) for row in rows)


def _chance(instruction_set: InstructionSet, image_bytes: int) -> float:
    """Return how probable a call into the image is in random bytes."""
    if instruction_set is InstructionSet.X86:
        return 2 / 256 * image_bytes / 2**32
    rows = [row for row in TABLES[instruction_set] if row.group in ALWAYS and row.form is not Form.PAIR]
    return sum(
        min(image_bytes / float(1 << row.bits + row.scale), 1.0) / float(1 << row.mask.bit_count()) for row in rows
    )


def find_base(
    old: bytes, new: bytes, segments: Sequence[Segment], sampled: Sequence[Segment], width: int
) -> int | None:
    """Find the address of an image's first byte by voting.

    A word that changed by `d` can point to any old byte that moved by `d`; so it votes for the bases that put its target there.
    The base with most votes wins, the roundest of equals.

    Args:
        old: The old image.
        new: The new image.
        segments: The alignment.
        sampled: Those parts of it whose words vote.
        width: Of pointers, 4 or 8 bytes.
    """
    sample = matcher.changed_words(old, new, sampled, width, POINTER_SAMPLE)
    starts, shifts = address_map(segments)
    ranges: dict[int, list[tuple[int, int]]] = {}
    for index, shift in enumerate(shifts):
        end = starts[index + 1] if index + 1 < len(starts) else len(old)
        ranges.setdefault(shift, []).append((starts[index], end))
    events: list[tuple[int, int]] = []
    for before, after in sample:
        for start, end in ranges.get(after - before, ())[:MAX_VOTES]:
            events += [(before - end + 1, 1), (before - start + 1, -1)]
    events.sort()
    votes, stretches = 0, []
    for (at, vote), (end, _) in pairwise(events):
        votes += vote
        if end > max(at, 0):
            stretches.append((votes, max(at, 0), end))
    most = max((votes for votes, _, _ in stretches), default=0)
    if most < max(MIN_POINTER_HITS, len(sample) // 128):
        return None
    likely = [stretch for stretch in stretches if stretch[0] * 32 >= most * 31]
    base = max((_roundness(first, end), votes, -first) for votes, first, end in likely)[0][1]
    return base if fits_section(base) else None


def _roundness(first: int, end: int) -> tuple[int, int]:
    """Return the highest power of two of which some number from `first` to before `end` is a multiple, as log2, and that number."""
    for log2 in range(64, 0, -1):
        number = -(-first >> log2) << log2
        if number < end:
            return log2, number
    return 0, first
