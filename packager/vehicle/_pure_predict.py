"""Prediction of addresses in pure Python: the executable specification of `predict.c`, and what runs where no compiler was.

Both follow FORMAT.md section 13 to the letter; property tests hold them equal on valid and on hostile input.
"""

from collections.abc import Sequence
from typing import Final

from packager.vehicle._pure_fields import (
    completes_pair,
    ends_page_search,
    extend,
    find,
    gather,
    invert_by_sign,
    page_scale,
    scatter,
    signed,
)
from packager.vehicle._pure_stretch import LONG, PAGE_BYTES, PAGE_LOG2, WORD, Context, Kind, Stretch
from packager.vehicle._pure_tables import scan_cells, scan_distances, scan_records
from packager.vehicle.errors import CorruptError
from packager.vehicle.instructions import (
    STEP_BYTES,
    TABLES,
    X86_PREFIXES,
    Form,
    Group,
    Instruction,
    InstructionSet,
)

PAGE_LOOK_AHEAD: Final = 16
PAIR_LOOK_AHEAD: Final = 4


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
    piece = _Instructions(context, kind, data, old_at if kind == Kind.LABEL_OLD else new_at)
    at = 0
    while at < len(data):
        place = (new_at + at) & LONG
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
            at = scan_cells(piece, groups, at, end)
        elif instruction_set == InstructionSet.DISTANCES:
            at = scan_distances(piece, groups, context.bases[mode], at, end)
        elif instruction_set == InstructionSet.RECORDS:
            while end < len(data) and page + 1 < len(context.pages) and context.pages[page + 1] == mode:
                end = min(end + PAGE_BYTES, len(data))
                page += 1
            at = scan_records(piece, groups, context.bases[mode], at, end)
        elif STEP_BYTES[InstructionSet(instruction_set)] == 2:
            at = piece.scan_halves(instruction_set, groups, context.bases[mode], at, end)
        else:
            at = piece.scan_words(instruction_set, groups, context.bases[mode], at, end)


class _Instructions(Stretch):
    """A stretch of instructions, of any set."""

    def scan_words(self, instruction_set: int, groups: int, base: int, at: int, end: int) -> int:
        rows = TABLES[InstructionSet(instruction_set)]
        at += -(self.at + at) & 3
        while at < end and len(self.data) - at >= 4:
            word = self.load(at, 4)
            row = find(rows, groups, word, 4)
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
            row = find(rows, groups, word, left)
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
            field = (gather(word, row.label_slices) - (base >> row.scale)) & ((1 << row.bits) - 1)
            if row.form is Form.SIGN_INVERTED:
                field = invert_by_sign(field, row.bits)
            return scatter(word, field, row.slices)
        field = gather(word, row.slices)
        if row.form is Form.SIGN_INVERTED:
            field = invert_by_sign(field, row.bits)
        if self.kind == Kind.LABEL_OLD:
            offset = extend(field, row.bits) if row.is_signed else field
            field = signed(self.context.map((base + (offset << row.scale)) & LONG)) >> row.scale
        else:
            field += base >> row.scale
        return scatter(word, field & LONG, row.label_slices)

    def _map_page(self, row: Instruction, at: int) -> None:
        """AArch64 ADRP of the old image: the target is the page with the offset that a following instruction adds."""
        word = self.load(at, 4)
        base = word & 31
        page = (((self.at + at) & ~0xFFF) + (extend(gather(word, row.slices), row.bits) << 12)) & LONG
        target = None
        following = at + 4
        for _ in range(PAGE_LOOK_AHEAD):
            if following + 4 > len(self.data):
                break
            other = self.load(following, 4)
            if ends_page_search(other, base):
                break
            scale = page_scale(other, base)
            if scale is not None:
                offset = (other >> 10 & 0xFFF) << scale
                mapped = self.context.map((page + offset) & LONG)
                target = page + offset if target is None else target
                if not mapped & ((1 << scale) - 1) and offset < 0x1000:
                    other = other & ~(0xFFF << 10) | ((mapped & 0xFFF) >> scale) << 10
                    self.store(following, 4, other)
                is_load = other & 0x04400000 == 0x00400000
                if other & 31 == base and (other & 0xFFC00000 == 0x91000000 or is_load):
                    break
            following += 4
        mapped = self.context.map((page if target is None else target) & LONG)
        self.store(at, 4, scatter(word, mapped >> 12, row.label_slices))

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
            if completes_pair(other, base, is_store=is_store):
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
            relative = ((high | low) - address) & WORD
            return (relative + 0x800) & 0xFFFFF000, relative & 0xFFF
        relative = (high + extend(low, 12)) & WORD
        target = address + relative
        if self.kind == Kind.LABEL_OLD:
            target = self.context.map((address + extend(relative, 32)) & LONG)
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
        size, after = self.context.new_bytes, after & LONG
        value = extend(word, 32)
        target = after + value
        if size >> 31:
            return word
        if self.kind == Kind.LABEL_OLD:
            target &= LONG
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
