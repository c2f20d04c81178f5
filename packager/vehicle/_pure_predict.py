"""Prediction of addresses in pure Python: the executable specification of `predict.c`, and what runs where no compiler was.

Both follow FORMAT.md section 13 to the letter; property tests hold them equal on valid and on hostile input.
"""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final, Literal

from packager.vehicle.errors import CorruptError
from packager.vehicle.instructions import (
    STEP_BYTES,
    TABLES,
    X86_PREFIXES,
    Form,
    Group,
    Instruction,
    InstructionSet,
    Slice,
)

PAGE_LOG2: Final = 12
PAGE_LOOK_AHEAD: Final = 16
PAIR_LOOK_AHEAD: Final = 4
PAGE_BYTES: Final = 1 << PAGE_LOG2
INNER_PAGES: Final = (2, 5)
LEAF_PAGES: Final = (10, 13)
"""First byte of a b-tree page of an index and of a table (SQLite file format, 1.6)."""
MAX_DISTANCES_BYTES: Final = 1 << 30
"""In longer images distances and targets could not be told apart."""
MAX_RECORD_BYTES: Final = 255
_UPPER: Final = 1 << 31
_WORD: Final = (1 << 32) - 1
_LONG: Final = (1 << 64) - 1


class Kind(IntEnum):
    """What `label` does."""

    LABEL = 0
    UNLABEL = 1
    LABEL_OLD = 2


@dataclass(frozen=True, slots=True)
class Context:
    """What the rules need to know; see `packager.vehicle.predictors`."""

    sets: bytes
    groups: bytes
    bases: "array[int]"
    pages: bytes
    starts: "array[int]"
    shifts: "array[int]"
    old_bytes: int
    new_bytes: int
    old_values: "array[int]" = field(default_factory=lambda: array("I"))
    new_values: "array[int]" = field(default_factory=lambda: array("I"))

    def map(self, old_offset: int) -> int:
        """Return the new offset of an old one, both modulo 2**64."""
        if old_offset >= self.old_bytes or not len(self.starts):
            return old_offset
        index = max(bisect_right(self.starts, old_offset) - 1, 0)
        return (old_offset + self.shifts[index]) & _LONG

    def value(self, old_value: int) -> int | None:
        """Return what a number of the old image becomes; None if the value map does not know it."""
        index = bisect_left(self.old_values, old_value)
        known = index < len(self.old_values) and self.old_values[index] == old_value
        return self.new_values[index] if known else None


def label_source(context: Context, source: bytearray | memoryview, pieces: Sequence[int], /) -> None:
    """Turn old bytes into the labels that they will have in the new image.

    Args:
        context: Modes, pages and address map.
        source: Old bytes of the pieces, one after the other; rewritten in place.
        pieces: Offset in the new image, length and offset in the old image of each piece, flat.

    Raises:
        CorruptError: The pieces are longer than the source.
    """
    view = memoryview(source)
    at = 0
    for index in range(0, len(pieces), 3):
        new_at, length_bytes, old_at = pieces[index : index + 3]
        if length_bytes > len(view) - at:
            raise CorruptError(f"predicted block: piece of {length_bytes} bytes leaves the source")
        _label(context, Kind.LABEL_OLD, view[at : at + length_bytes], new_at, old_at)
        at += length_bytes


def label_block(context: Context, kind: int, block: bytearray | memoryview, new_at: int, /) -> None:
    """Turn a block of the new image into labels (`Kind.LABEL`), or back (`Kind.UNLABEL`), in place.

    Args:
        context: Modes, pages and address map.
        kind: Which way.
        block: The bytes.
        new_at: Where they stand in the new image.
    """
    _label(context, kind, memoryview(block), new_at, 0)


def _label(context: Context, kind: int, data: memoryview, new_at: int, old_at: int) -> None:
    piece = _Piece(context, kind, data, old_at if kind == Kind.LABEL_OLD else new_at)
    at = 0
    while at < len(data):
        place = (new_at + at) & _LONG
        page = place >> PAGE_LOG2
        end = min(at + ((page + 1) << PAGE_LOG2) - place, len(data))
        mode = context.pages[page] if page < len(context.pages) else None
        groups = 0 if mode is None else context.groups[mode]
        if mode is None or not groups:
            at = end
            continue
        instruction_set = context.sets[mode]
        if instruction_set == InstructionSet.X86:
            at = piece.scan_x86(groups, context.bases[mode], at, end)
        elif instruction_set == InstructionSet.BTREE:
            at = piece.scan_cells(groups, at, end)
        elif instruction_set == InstructionSet.DISTANCES:
            at = piece.scan_distances(groups, context.bases[mode], at, end)
        elif instruction_set == InstructionSet.RECORDS:
            while end < len(data) and page + 1 < len(context.pages) and context.pages[page + 1] == mode:
                end = min(end + PAGE_BYTES, len(data))
                page += 1
            at = piece.scan_records(groups, context.bases[mode], at, end)
        elif STEP_BYTES[InstructionSet(instruction_set)] == 2:
            at = piece.scan_halves(instruction_set, groups, context.bases[mode], at, end)
        else:
            at = piece.scan_words(instruction_set, groups, context.bases[mode], at, end)


class _Piece:
    """A stretch that is being rewritten; `at` is the address of its first byte in its own image."""

    def __init__(self, context: Context, kind: int, data: memoryview, at: int) -> None:
        self.context = context
        self.kind = kind
        self.data = data
        self.at = at

    def load(self, at: int, width: int) -> int:
        return int.from_bytes(self.data[at : at + width], "little")

    def store(self, at: int, width: int, value: int) -> None:
        self.data[at : at + width] = (value & ((1 << 8 * width) - 1)).to_bytes(width, "little")

    def scan_words(self, instruction_set: int, groups: int, base: int, at: int, end: int) -> int:
        rows = TABLES[InstructionSet(instruction_set)]
        at += -(self.at + at) & 3
        while at < end and len(self.data) - at >= 4:
            word = self.load(at, 4)
            row = _find(rows, groups, word, 4)
            width = 0
            if row is not None:
                self._rewrite_row(row, word, at, end)
            elif self.kind == Kind.LABEL_OLD:
                width = self._map_pointer(groups, base, at)
            at += width or 4
        return max(at, end)

    def scan_halves(self, instruction_set: int, groups: int, base: int, at: int, end: int) -> int:
        rows = TABLES[InstructionSet(instruction_set)]
        thumb = instruction_set == InstructionSet.THUMB2
        at += (self.at + at) & 1
        while at < end and len(self.data) - at >= 2:
            width = self._map_pointer(groups, base, at) if self.kind == Kind.LABEL_OLD else 0
            if width:
                at += width
                continue
            left = len(self.data) - at
            half = self.load(at, 2)
            word = self.load(at, 4) if left >= 4 else half
            row = _find(rows, groups, word, left)
            if row is not None:
                self._rewrite_row(row, word, at, end)
            is_long = half >= 0xE800 if thumb else half & 3 == 3
            at += 4 if is_long else 2
        return max(at, end)

    def scan_x86(self, groups: int, base: int, at: int, end: int) -> int:
        while at < end:
            left = len(self.data) - at
            width = self._map_pointer(groups, base, at) if self.kind == Kind.LABEL_OLD else 0
            if not width:
                start = self.load(at, min(left, 2))
                width = 1
                for prefix in X86_PREFIXES:
                    matches = not (start ^ prefix.value) & prefix.mask and prefix.group & groups
                    if matches and left >= prefix.length_bytes + 4:
                        field = at + prefix.length_bytes
                        self.store(field, 4, self._exchange(self.load(field, 4), self.at + field + 4))
                        width = prefix.length_bytes + 4
                        break
            at += width
        return at

    def scan_cells(self, groups: int, at: int, end: int) -> int:
        """Rewrite where the cells of b-tree pages are: each place becomes the distance from the one before."""
        while at < end and groups & Group.CALLS:
            offset = (self.at + at) % PAGE_BYTES
            if not offset:
                self._rewrite_cells(at)
            elif self.kind == Kind.LABEL_OLD:
                self._guess_cells(at, offset)
            at += PAGE_BYTES - offset
        return max(at, end)

    def _rewrite_cells(self, at: int) -> None:
        """Rewrite those of the page that starts at `at`; its header tells how many there are, and is not touched."""
        if len(self.data) - at < 8 or self.data[at] not in INNER_PAGES + LEAF_PAGES:
            return
        start = 12 if self.data[at] in INNER_PAGES else 8
        count = self._load_place(at + 3)
        if start + 2 * count > PAGE_BYTES:
            return
        before = PAGE_BYTES
        for entry in range(at + start, min(at + start + 2 * count, len(self.data) - 1), 2):
            found = self._load_place(entry)
            self._store_place(entry, before - found)
            before = before - found & 0xFFFF if self.kind == Kind.UNLABEL else found

    def _guess_cells(self, at: int, offset: int) -> None:
        """Rewrite those of an old page whose header is not in the stretch: numbers that descend, and lead behind themselves."""
        at, offset = at + offset % 2, offset + offset % 2
        if offset >= PAGE_BYTES or len(self.data) - at < 2:
            return
        before = self._load_place(at)
        while before < PAGE_BYTES and offset + 4 <= PAGE_BYTES and len(self.data) - at >= 4:
            at, offset = at + 2, offset + 2
            found = self._load_place(at)
            if not offset + 2 <= found < before:
                return
            self._store_place(at, before - found)
            before = found

    def _load_place(self, at: int) -> int:
        return int.from_bytes(self.data[at : at + 2], "big")

    def _store_place(self, at: int, value: int) -> None:
        self.data[at : at + 2] = (value & 0xFFFF).to_bytes(2, "big")

    def scan_distances(self, groups: int, least: int, at: int, end: int) -> int:
        """Rewrite distances of 4 bytes from their own place.

        Targets stand in the upper half of the numbers, where no distance is in so short an image; what was there takes the distance's
        place: doing it twice is doing nothing.
        """
        context = self.context
        if not groups & Group.CALLS or context.new_bytes > MAX_DISTANCES_BYTES:
            return end
        at += -(self.at + at) & 3
        while at < end and len(self.data) - at >= 4:
            place, word = (self.at + at) & _LONG, self.load(at, 4)
            back = (word - place - _UPPER) & _WORD
            if self.kind == Kind.LABEL_OLD:
                if _is_far(word, place, least, context.old_bytes):
                    self.store(at, 4, context.map((place + _extend(word, 32)) & _LONG) + _UPPER)
            elif _is_far(word, place, least, context.new_bytes):
                self.store(at, 4, word + place + _UPPER)
            elif _is_far(back, place, least, context.new_bytes):
                self.store(at, 4, back)
            at += 4
        return max(at, end)

    def scan_records(self, groups: int, record_bytes: int, at: int, end: int) -> int:
        """Rewrite records of one length: all bytes are one number, from which the same is subtracted, moved by a record.

        Little-endian the record before is subtracted, big-endian the one behind.
        """
        if 0 < record_bytes <= MAX_RECORD_BYTES and groups & (Group.CALLS | Group.CONDITIONAL):
            order: Literal["little", "big"] = "little" if groups & Group.CALLS else "big"
            bits = 8 * (end - at)
            number = int.from_bytes(self.data[at:end], order)
            if self.kind == Kind.UNLABEL:
                shift = 8 * record_bytes
                while shift < bits:  # 1 / (1 - x) = (1 + x) (1 + x^2) (1 + x^4) ...
                    number = (number + (number << shift)) & ((1 << bits) - 1)
                    shift *= 2
            else:
                number = (number - (number << 8 * record_bytes)) & ((1 << bits) - 1)
            self.data[at:end] = number.to_bytes(end - at, order)
        return end

    def _rewrite_row(self, row: Instruction, word: int, at: int, end: int) -> None:
        if row.form is Form.PAIR:
            self._rewrite_pair(at, end)
        elif row.form is Form.PAGE and self.kind == Kind.LABEL_OLD:
            self._map_page(row, at)
        else:
            self.store(at, row.width_bytes, self._rewrite(row, word, self.at + at))

    def _rewrite(self, row: Instruction, word: int, address: int) -> int:
        base = address & ~0xFFF if row.form is Form.PAGE else (address + row.bias) & ~(row.align - 1)
        if self.kind == Kind.UNLABEL:
            field = (_gather(word, row.label_slices) - (base >> row.scale)) & ((1 << row.bits) - 1)
            if row.form is Form.SIGN_INVERTED:
                field = _invert_by_sign(field, row.bits)
            return _scatter(word, field, row.slices)
        field = _gather(word, row.slices)
        if row.form is Form.SIGN_INVERTED:
            field = _invert_by_sign(field, row.bits)
        if self.kind == Kind.LABEL_OLD:
            offset = _extend(field, row.bits) if row.is_signed else field
            field = _signed(self.context.map((base + (offset << row.scale)) & _LONG)) >> row.scale
        else:
            field += base >> row.scale
        return _scatter(word, field & _LONG, row.label_slices)

    def _map_page(self, row: Instruction, at: int) -> None:
        """AArch64 ADRP of the old image: the target is the page with the offset that a following instruction adds."""
        word = self.load(at, 4)
        base = word & 31
        page = (((self.at + at) & ~0xFFF) + (_extend(_gather(word, row.slices), row.bits) << 12)) & _LONG
        target = None
        following = at + 4
        for _ in range(PAGE_LOOK_AHEAD):
            if following + 4 > len(self.data):
                break
            other = self.load(following, 4)
            if _ends_page_search(other, base):
                break
            scale = _page_scale(other, base)
            if scale is not None:
                offset = (other >> 10 & 0xFFF) << scale
                mapped = self.context.map((page + offset) & _LONG)
                target = page + offset if target is None else target
                if not mapped & ((1 << scale) - 1) and offset < 0x1000:
                    other = other & ~(0xFFF << 10) | ((mapped & 0xFFF) >> scale) << 10
                    self.store(following, 4, other)
                is_load = other & 0x04400000 == 0x00400000
                if other & 31 == base and (other & 0xFFC00000 == 0x91000000 or is_load):
                    break
            following += 4
        mapped = self.context.map((page if target is None else target) & _LONG)
        self.store(at, 4, _scatter(word, mapped >> 12, row.label_slices))

    def _rewrite_pair(self, at: int, end: int) -> None:
        """RISC-V AUIPC and the instruction that completes it, which is found by bits that no rewriting touches.

        It starts in the same page: the next one may have other rules, and what both rewrite could not be undone in the same order.
        """
        word = self.load(at, 4)
        base = word >> 7 & 31
        following = at + 4
        for _ in range(PAIR_LOOK_AHEAD):
            if following >= end or following + 4 > len(self.data):
                return
            other = self.load(following, 4)
            if other & 3 != 3:
                following += 2
                continue
            is_store = other & 0x7F in (0x23, 0x27)
            if _completes_pair(other, base, is_store=is_store):
                low = other >> 25 << 5 | other >> 7 & 31 if is_store else other >> 20
                high, low = self._convert_pair(word & 0xFFFFF000, low, self.at + at)
                self.store(at, 4, word & 0xFFF | high)
                kept = other & 0x01FFF07F if is_store else other & 0xFFFFF
                self.store(following, 4, kept | ((low >> 5) << 25 | (low & 31) << 7 if is_store else low << 20))
                return
            if other & 0x7F in (0x17, 0x63, 0x6F):
                return
            following += 4

    def _convert_pair(self, high: int, low: int, address: int) -> tuple[int, int]:
        if self.kind == Kind.UNLABEL:
            relative = ((high | low) - address) & _WORD
            return (relative + 0x800) & 0xFFFFF000, relative & 0xFFF
        relative = (high + _extend(low, 12)) & _WORD
        target = address + relative
        if self.kind == Kind.LABEL_OLD:
            target = self.context.map((address + _extend(relative, 32)) & _LONG)
        return target & 0xFFFFF000, target & 0xFFF

    def _map_pointer(self, groups: int, base: int, at: int) -> int:
        """Rewrite an absolute pointer or a known number of the old image; return its width, 0 if there is none."""
        left = len(self.data) - at
        for width, group in ((8, Group.ABSOLUTE64), (4, Group.ABSOLUTE32)):
            if groups & group and not (self.at + at) % width and left >= width:
                value = (self.load(at, width) - base) & ((1 << 8 * width) - 1)
                if value < self.context.old_bytes:
                    self.store(at, width, self.context.map(value) + base)
                    return width
        if groups & Group.VALUES and not (self.at + at) % 4 and left >= 4:
            known = self.context.value(self.load(at, 4))
            if known is not None:
                self.store(at, 4, known)
                return 4
        return 0

    def _exchange(self, word: int, after: int) -> int:
        """x86: exchange displacements and targets so that it can be undone (as in the LZX filter, MS-PATCH 2.3)."""
        size, after = self.context.new_bytes, after & _LONG
        value = _extend(word, 32)
        target = after + value
        if size >> 31:
            return word
        if self.kind == Kind.LABEL_OLD:
            target &= _LONG
            return self.context.map(target) if target < self.context.old_bytes else word
        if after > size:
            return word
        if self.kind == Kind.UNLABEL:
            if 0 <= value < size:
                return value - after
            return value + size if -after <= value < 0 else word
        if 0 <= target < size:
            return target
        return value - size if size - after <= value < size else word


def _is_far(word: int, place: int, least: int, image_bytes: int) -> bool:
    """Tell whether a word is a distance to another place of the image, and not a short one: those are taken for lengths and flags."""
    distance = _extend(word, 32)
    return abs(distance) >= least and place < image_bytes and 0 <= place + distance < image_bytes


def target_of(row: Instruction, word: int, address: int) -> int:
    """Return where an instruction at `address` leads, for tools."""
    base = address & ~0xFFF if row.form is Form.PAGE else (address + row.bias) & ~(row.align - 1)
    field = _gather(word, row.slices)
    if row.form is Form.SIGN_INVERTED:
        field = _invert_by_sign(field, row.bits)
    return base + ((_extend(field, row.bits) if row.is_signed else field) << row.scale)


def _find(rows: tuple[Instruction, ...], groups: int, word: int, left: int) -> Instruction | None:
    for row in rows:
        if row.group & groups and row.width_bytes <= left and not (word ^ row.value) & row.mask:
            return row
    return None


def _gather(word: int, slices: tuple[Slice, ...]) -> int:
    return sum((word >> piece.at & ((1 << piece.width) - 1)) << piece.field for piece in slices)


def _scatter(word: int, field: int, slices: tuple[Slice, ...]) -> int:
    for piece in slices:
        mask = (1 << piece.width) - 1
        word = word & ~(mask << piece.at) | (field >> piece.field & mask) << piece.at
    return word


def _invert_by_sign(field: int, bits: int) -> int:
    return field if field >> (bits - 1) & 1 else field ^ 3 << (bits - 3)


def _extend(value: int, bits: int) -> int:
    sign = 1 << (bits - 1)
    return (value ^ sign) - sign


def _signed(value: int) -> int:
    return _extend(value, 64)


def _page_scale(word: int, base: int) -> int | None:
    """Return log2 of the unit of the offset that `word` adds to the page in register `base`; None if it is no such instruction."""
    if word >> 5 & 31 != base:
        return None
    if word & 0xFFC00000 == 0x91000000:
        return 0
    if word & 0x3B000000 == 0x39000000:
        return 4 if word & 0x04800000 == 0x04800000 else word >> 30
    return None


def _ends_page_search(word: int, base: int) -> bool:
    is_branch = word & 0x7C000000 in (0x14000000, 0x34000000) or word & 0xFE000000 == 0xD6000000
    is_next_page = word & 0x9F000000 == 0x90000000 and word & 31 == base
    return is_branch or word & 0xFF000010 == 0x54000000 or is_next_page


def _completes_pair(word: int, base: int, *, is_store: bool) -> bool:
    opcode, function = word & 0x7F, word >> 12 & 7
    adds = opcode in (0x03, 0x07) or (opcode in (0x13, 0x67) and not function)
    return word >> 15 & 31 == base and (is_store or adds)
