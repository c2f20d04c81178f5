"""Finds out what can be predicted: instruction set, pointers and their base, page by page. All choices are made by counting equal bytes.

`packager.diff.candidates` aligns the images with what is found here.
"""

from array import array
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Final, TypeAlias

from packager.diff import matcher
from packager.diff.detection import ALWAYS, find_base, has_cell_lists, likely_sets
from packager.vehicle import kernel
from packager.vehicle._pure_stretch import Context, Kind
from packager.vehicle.core.predictors import address_map, page_count
from packager.vehicle.core.segments import Segment
from packager.vehicle.instructions import TABLES, X86_PREFIXES, Group, InstructionSet

SAMPLE_BYTES: Final = 1 << 21
SAMPLE_WINDOW_BYTES: Final = 1 << 15
"""Instruction set and groups are chosen on about this many bytes in all, in windows of this length."""
MIN_GAIN_BYTES: Final = 24
"""Fewer bytes gained than this are not worth the bytes of a mode."""
LIKELY_SETS: Final = 2
LEAST_SHARE: Final = 32
"""A group must predict at least this part of what the groups before it do."""
REMATCHED_BYTES: Final = 4 << 20
"""Up to this size the modes that may pay are tried with alignments of their own."""
PAGE_GAIN_BYTES: Final = 4
WHOLE_PAYS_FROM: Final = 4
"""The whole new image becomes labels at once if the pieces are at least this part of it: pieces are many."""
_POINTERS: Final = Group.ABSOLUTE32 | Group.ABSOLUTE64


@dataclass(frozen=True, slots=True)
class Mode:
    """One mode of pages: see `packager.vehicle.core.predictors`."""

    instruction_set: InstructionSet
    groups: Group
    base: int


WITHIN_IMAGE: Final = (InstructionSet.BTREE, InstructionSet.RECORDS)
"""What is predicted without the address map."""
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


def likely_modes(old: bytes, new: bytes, segments: Sequence[Segment]) -> list[Mode]:
    """Return modes that may pay, the likeliest first: of a sample, they predict most bytes.

    Before the images are aligned in label space that says little of images that differ much; so several are tried where that is cheap.
    """
    if has_cell_lists(new):
        return [CELLS]
    sample = _sample(segments)
    pages = bytes(page_count(len(new)))

    def equal(mode: Mode) -> int:
        return count_equal(make_context([mode], pages, old, new, segments), old, new, sample)

    nothing = equal(NOTHING)
    pointers = []
    for width, group in ((4, Group.ABSOLUTE32), (8, Group.ABSOLUTE64)):
        base = find_base(old, new, segments, sample, width)
        if base is not None:
            pointers.append(Mode(InstructionSet.NONE, group, base))
    pointers.sort(key=lambda mode: -equal(mode))
    codes = []
    for instruction_set in likely_sets(new)[:LIKELY_SETS]:
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
                if richer_equal > count + max(MIN_GAIN_BYTES // 2, (count - nothing) // LEAST_SHARE):
                    mode, count = richer, richer_equal
        codes.append((count, mode))
    if len(new) > REMATCHED_BYTES:
        codes = [item for item in codes if item[0] >= nothing + MIN_GAIN_BYTES]
        codes.sort(key=lambda item: -item[0])
    found = [
        Mode(code.instruction_set, code.groups | pointer.groups, pointer.base)
        for _, code in codes
        for pointer in pointers[:1]
    ]
    found += [code for _, code in codes[: 1 if pointers else LIKELY_SETS]]
    return [*found, *pointers[:1]]


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


def count_equal(context: Context, old: bytes, new: bytes, pieces: Sequence[Segment]) -> int:
    """Count the bytes of the pieces that are predicted."""
    made, wanted = label_pieces(context, old, new, pieces)
    return len(made) - _differing(made, wanted)


def label_pieces(context: Context, old: bytes, new: bytes, pieces: Sequence[Segment]) -> tuple[memoryview, memoryview]:
    """Return the pieces of both images in label space, one after the other."""
    made = bytearray().join(old[piece.old_offset : piece.old_offset + piece.length_bytes] for piece in pieces)
    triples = array("Q")
    for new_offset, old_offset, length_bytes in pieces:
        triples.extend((new_offset, length_bytes, old_offset))
    kernel.label_source(context, made, triples)
    if len(made) * WHOLE_PAYS_FROM > len(new):
        labelled = bytearray(new)
        kernel.label_block(context, Kind.LABEL, labelled, 0)
        wanted = bytearray().join(
            labelled[piece.new_offset : piece.new_offset + piece.length_bytes] for piece in pieces
        )
        return memoryview(made), memoryview(wanted)
    wanted = bytearray()
    for piece in pieces:
        part = bytearray(new[piece.new_offset : piece.new_offset + piece.length_bytes])
        kernel.label_block(context, Kind.LABEL, part, piece.new_offset)
        wanted += part
    return memoryview(made), memoryview(wanted)


def _differing(first: memoryview, second: memoryview) -> int:
    if first == second:
        return 0
    difference = int.from_bytes(first, "little") ^ int.from_bytes(second, "little")
    return len(first) - difference.to_bytes(len(first), "little").count(0)


def with_pages(
    old: bytes,
    new: bytes,
    segments: Sequence[Segment],
    modes: Sequence[Mode],
    pool: Executor,
    values: Values = NO_VALUES,
) -> Prediction:
    """Give each page the best of some modes, and leave out those that no page has."""
    return with_chosen(old, new, segments, modes, choose_pages(old, new, segments, modes, pool, values), values)


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
    count = page_count(len(new))

    def missed_with(mode: Mode) -> "array[int]":
        return missed_in_pages(make_context([mode], bytes(count), old, new, segments, values), old, new, segments)

    missed = list(pool.map(missed_with, modes))
    return bytes(
        min(range(len(modes)), key=lambda number: counts[number] + (PAGE_GAIN_BYTES if number else 0))
        for counts in zip(*missed, strict=True)
    )


def missed_in_pages(context: Context, old: bytes, new: bytes, segments: Sequence[Segment]) -> "array[int]":
    """Count, for each page, the bytes of segments that are not predicted."""
    made, wanted = label_pieces(context, old, new, segments)
    return matcher.missed_in_pages(made, wanted, segments, page_count(len(new)))
