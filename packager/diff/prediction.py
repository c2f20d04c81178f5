"""Finds out what can be predicted: instruction set, pointers and their base, page by page. All choices are made by counting equal bytes.

`packager.diff.candidates` aligns the images with what is found here.
"""

import functools
import operator
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from itertools import chain, islice, product
from typing import Final, TypeAlias

from packager.diff import matcher
from packager.diff.detection import ALWAYS, find_base
from packager.vehicle import kernel
from packager.vehicle._pure_stretch import PAGE_LOG2, Context, Kind
from packager.vehicle.core.predictors import address_map, page_count
from packager.vehicle.core.segments import Segment
from packager.vehicle.instructions import TABLES, X86_PREFIXES, Group, InstructionSet

SAMPLE_BYTES: Final = 1 << 21
SAMPLE_WINDOW_BYTES: Final = 1 << 15
"""Instruction set and groups are chosen on about this many bytes in all, in windows of this length."""
MIN_GAIN_BYTES: Final = 24
"""Fewer bytes gained than this are not worth the bytes of a mode."""
LIKELY_SETS: Final = 2
LEAST_SHARE: Final = 64
LEAST_SHARE_OF_LONG: Final = 32
"""A group must predict at least this part of what the groups before it do; more in long images, whose modes are not tried."""
REMATCHED_BYTES: Final = 4 << 20
"""Up to this size the modes that may pay are tried with alignments of their own."""
PAGE_GAIN_BYTES: Final = 4
WHOLE_PAYS_FROM: Final = 4
"""The whole new image becomes labels at once if the pieces are at least this part of it: pieces are many."""
PART_BYTES: Final = 4 << 20
"""Images are labelled and measured in parts of this length."""
_POINTERS: Final = Group.ABSOLUTE32 | Group.ABSOLUTE64


@dataclass(frozen=True, slots=True)
class Mode:
    """One mode of pages: see `packager.vehicle.core.predictors`."""

    instruction_set: InstructionSet
    groups: Group
    base: int


WITHIN_IMAGE: Final = (InstructionSet.BTREE, InstructionSet.RECORDS)
"""What is predicted without the address map."""
ONLY_32_BITS: Final = (InstructionSet.THUMB2, InstructionSet.ARM32)
TABLE_SETS: Final = (InstructionSet.DISTANCES, InstructionSet.RECORDS)
NOTHING: Final = Mode(InstructionSet.NONE, Group(0), 0)
CELLS: Final = Mode(InstructionSet.BTREE, Group.CALLS, 0)
Values: TypeAlias = tuple["array[int]", "array[int]"]
"""A value map: old values, ascending, and what each becomes."""
NO_VALUES: Final[Values] = (array("I"), array("I"))


@dataclass(frozen=True, slots=True)
class Prediction:
    """What is predicted of a new image.

    Attributes:
        modes: The modes.
        context: They and the address map, as the vehicle will have them.
        segments: The alignment in label space; the bundle must carry all of it.
    """

    modes: tuple[Mode, ...]
    context: Context
    segments: Sequence[Segment]

    @property
    def follows_addresses(self) -> bool:
        """Whether anything is predicted through the address map, so that it must hold also what no block reads."""
        return any(mode.groups & ~Group.VALUES and mode.instruction_set not in WITHIN_IMAGE for mode in self.modes)


def make_context(
    modes: Sequence[Mode],
    pages: bytes,
    old: bytes,
    new: bytes,
    segments: Sequence[Segment],
    values: Values = NO_VALUES,
) -> Context:
    """Return modes, pages, address map and value map as the vehicle will have them."""
    starts, shifts = address_map(segments)
    return Context(
        sets=bytes(mode.instruction_set for mode in modes),
        groups=bytes(int(mode.groups) for mode in modes),
        bases=array("Q", (mode.base for mode in modes)),
        pages=pages,
        starts=starts,
        shifts=shifts,
        old_bytes=len(old),
        new_bytes=len(new),
        old_values=values[0],
        new_values=values[1],
    )


def likely_modes(
    old: bytes, new: bytes, segments: Sequence[Segment], sets: Sequence[InstructionSet], pool: Executor
) -> list[Mode]:
    """Return modes that may pay, the likeliest first: of a sample, they predict most bytes.

    Before the images are aligned in label space that says little of images that differ much; so several are tried where that is cheap.

    Args:
        old: The old image.
        new: The new image.
        segments: An alignment.
        sets: Instruction sets, the likeliest first.
        pool: Where bytes are counted.
    """
    is_long = len(new) > REMATCHED_BYTES
    least_share = LEAST_SHARE_OF_LONG if is_long else LEAST_SHARE
    sample = _sample(segments)
    pages = bytes(page_count(len(new)))
    covered = sum(piece.length_bytes for piece in sample)

    def missed(mode: Mode) -> "array[int]":
        return missed_in_part(make_context([mode], pages, old, new, segments), old, new, Part(0, len(new), sample))

    def equal(mode: Mode, *, by_page: bool = not is_long) -> int:
        """By page: those that lose by the mode will go without it."""
        return covered - sum(map(min, missed(mode), missed_by_nothing) if by_page else missed(mode))

    def pointers_of(width: int, group: Group) -> tuple[int, Mode] | None:
        base = find_base(old, new, segments, sample, width)
        mode = None if base is None else Mode(InstructionSet.NONE, group, base)
        return None if mode is None else (equal(mode), mode)

    def code_of(instruction_set: InstructionSet) -> tuple[int, Mode]:
        groups = _groups_of(instruction_set)
        mode = Mode(instruction_set, Group(0), 0)
        for group in groups:
            if group in ALWAYS:
                mode = Mode(instruction_set, mode.groups | group, 0)
        count = equal(mode)
        for group in groups:
            richer = Mode(instruction_set, mode.groups | group, 0)
            if group not in ALWAYS:
                richer_equal = equal(richer)
                if richer_equal > count + max(MIN_GAIN_BYTES // 2, (count - nothing) // least_share):
                    mode, count = richer, richer_equal
        return equal(mode, by_page=True), mode

    missed_by_nothing = missed(NOTHING)
    found_pointers = [pool.submit(pointers_of, *each) for each in ((4, Group.ABSOLUTE32), (8, Group.ABSOLUTE64))]
    nothing = covered - sum(missed_by_nothing)
    found_codes = [pool.submit(code_of, instruction_set) for instruction_set in sets[:LIKELY_SETS]]
    codes = [found.result() for found in found_codes]
    both = [pair for found in found_pointers if (pair := found.result()) is not None]
    pointers = [mode for _, mode in sorted(both, key=lambda pair: -pair[0])]
    if is_long:
        codes = [item for item in codes if item[0] >= nothing + MIN_GAIN_BYTES]
        codes.sort(key=lambda item: -item[0])
    made = [
        Mode(code.instruction_set, code.groups | pointer.groups, pointer.base)
        for _, code in codes
        for pointer in pointers[:1]
    ]
    made += [code for _, code in codes[: 1 if pointers else LIKELY_SETS]]
    return [*made, *pointers[:1]]


def guessed_modes(
    old: bytes, new: bytes, segments: Sequence[Segment], sets: Sequence[InstructionSet], pool: Executor
) -> list[Mode]:
    """Return the likeliest modes without counting what others predict; the arguments are those of `likely_modes`."""
    sample = _sample(segments)
    widths = ((8, Group.ABSOLUTE64), (4, Group.ABSOLUTE32))
    bases = pool.map(lambda pair: find_base(old, new, segments, sample, pair[0]), widths)
    found = {group: base for (_, group), base in zip(widths, bases, strict=True) if base is not None}

    def with_pointers(instruction_set: InstructionSet, groups: Group) -> Mode:
        # The lower halves of long pointers look like short ones; in code of 32 bits long ones are chance.
        likely = [group for group in found if group is Group.ABSOLUTE32 or instruction_set not in ONLY_32_BITS]
        return Mode(instruction_set, groups | (likely or [Group(0)])[0], found[likely[0]] if likely else 0)

    modes = []
    for instruction_set in sets[:LIKELY_SETS]:
        groups = [group for group in _groups_of(instruction_set) if group in ALWAYS]
        modes.append(with_pointers(instruction_set, functools.reduce(operator.or_, groups, Group(0))))
    return modes or ([with_pointers(InstructionSet.NONE, Group(0))] if found else [])


def _groups_of(instruction_set: InstructionSet) -> list[Group]:
    rows = X86_PREFIXES if instruction_set is InstructionSet.X86 else TABLES[instruction_set]
    return [group for group in Group if any(row.group is group for row in rows)]


def _sample(segments: Sequence[Segment]) -> list[Segment]:
    """Return the segments within evenly spread windows of the new image, about `SAMPLE_BYTES` in all."""
    total = sum(segment.length_bytes for segment in segments)
    period = max(total // SAMPLE_BYTES, 1) * SAMPLE_WINDOW_BYTES
    chosen: list[Segment] = []
    for new_offset, old_offset, length_bytes in segments:
        at = 0
        while at < length_bytes:
            phase = (new_offset + at) % period
            if phase < SAMPLE_WINDOW_BYTES:
                step = min(SAMPLE_WINDOW_BYTES - phase, length_bytes - at)
                chosen.append(Segment(new_offset + at, old_offset + at, step))
            else:
                step = period - phase
            at += step
    return chosen


@dataclass(frozen=True, slots=True)
class Part:
    """A part of the new image: its first byte and the one after its last, and the pieces of segments within."""

    first: int
    last: int
    pieces: Sequence[Segment]


def parts_of(segments: Sequence[Segment], new_bytes: int) -> list[Part]:
    """Cut an image into parts that are labelled alone, so that threads can share the work; a short one is a single part."""
    starts = [segment.new_offset for segment in segments]
    parts: list[Part] = []
    for first in range(0, max(new_bytes, 1), PART_BYTES):
        last = min(first + PART_BYTES, new_bytes)
        pieces = list(segments[max(bisect_right(starts, first) - 1, 0) : bisect_left(starts, last)])
        if pieces and pieces[0].new_offset < first:
            new_offset, old_offset, length_bytes = pieces[0]
            skip = first - new_offset
            pieces[:1] = [Segment(first, old_offset + skip, length_bytes - skip)] if length_bytes > skip else []
        if pieces:
            piece = pieces[-1]
            pieces[-1] = piece._replace(length_bytes=min(piece.length_bytes, last - piece.new_offset))
        parts.append(Part(first, last, pieces))
    return parts


def label_source(context: Context, old: bytes, pieces: Sequence[Segment]) -> bytearray:
    """Return the old bytes of pieces in label space, one after the other."""
    made = bytearray().join([old[piece.old_offset : piece.old_offset + piece.length_bytes] for piece in pieces])
    triples = array("Q", chain.from_iterable(pieces))
    triples[1::3], triples[2::3] = triples[2::3], triples[1::3]
    kernel.label_source(context, made, triples)
    return made


def label_new(context: Context, new: bytes, first: int, last: int) -> bytearray:
    """Return a stretch of the new image in label space."""
    labelled = bytearray(new[first:last])
    kernel.label_block(context, Kind.LABEL, labelled, first)
    return labelled


def missed_in_part(context: Context, old: bytes, new: bytes, part: Part) -> "array[int]":
    """Count, for each page of the new image from the part's first on, the bytes of its pieces that are not predicted."""
    made = label_source(context, old, part.pieces)
    spans = [(piece.new_offset, piece.new_offset + piece.length_bytes) for piece in part.pieces]
    if len(made) * WHOLE_PAYS_FROM > part.last - part.first:
        labelled, base = label_new(context, new, part.first, part.last), part.first
        wanted = bytearray().join([labelled[first - base : last - base] for first, last in spans])
    else:
        wanted = bytearray().join([label_new(context, new, first, last) for first, last in spans])
    return count_missed(made, wanted, part)


def count_missed(made: bytearray, wanted: bytearray, part: Part) -> "array[int]":
    """Count, for each page from the part's first on, the bytes of its pieces that differ."""
    return matcher.missed_in_pages(made, wanted, part.pieces, page_count(part.last))[part.first >> PAGE_LOG2 :]


def missed_in_pages(
    contexts: Sequence[Context], old: bytes, new: bytes, segments: Sequence[Segment], pool: Executor
) -> list["array[int]"]:
    """Count, with each context and for each page of the new image, the bytes of segments that are not predicted."""
    parts = parts_of(segments, len(new))
    counts = pool.map(lambda task: missed_in_part(task[0], old, new, task[1]), product(contexts, parts))
    return [array("I", chain.from_iterable(islice(counts, len(parts)))) for _ in contexts]


def with_pages(
    old: bytes,
    new: bytes,
    segments: Sequence[Segment],
    modes: Sequence[Mode],
    pool: Executor,
    values: Values = NO_VALUES,
) -> Prediction:
    """Give each page the best of some modes, and leave out those that no page has."""
    is_given = len(modes) == 1
    chosen = bytes(page_count(len(new))) if is_given else choose_pages(old, new, segments, modes, pool, values)
    return with_chosen(old, new, segments, modes, chosen, values)


def with_chosen(
    old: bytes,
    new: bytes,
    segments: Sequence[Segment],
    modes: Sequence[Mode],
    chosen: bytes,
    values: Values = NO_VALUES,
) -> Prediction:
    """Give each page its mode, and leave out those that no page has."""
    used = sorted(set(chosen))
    pages = chosen.translate(bytes(used.index(number) if number in used else 0 for number in range(256)))
    made = tuple(modes[number] for number in used)
    if not any(mode.groups & Group.VALUES for mode in made):
        values = NO_VALUES
    return Prediction(made, make_context(made, pages, old, new, segments, values), segments)


def choose_pages(
    old: bytes,
    new: bytes,
    segments: Sequence[Segment],
    modes: Sequence[Mode],
    pool: Executor,
    values: Values = NO_VALUES,
) -> bytes:
    """Return for each page which of the modes predicts most of it; the first one unless another is clearly better."""
    pages = bytes(page_count(len(new)))
    contexts = [make_context([mode], pages, old, new, segments, values) for mode in modes]
    missed = missed_in_pages(contexts, old, new, segments, pool)
    return bytes(
        min(range(len(modes)), key=lambda number: counts[number] + (PAGE_GAIN_BYTES if number else 0))
        for counts in zip(*missed, strict=True)
    )
