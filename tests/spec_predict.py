"""Predicted blocks for the second reader, written from FORMAT.md section 13 alone. It shares no code with the package."""

CALLS, CONDITIONAL, PAIRS, SHORT, ABSOLUTE32, ABSOLUTE64, LITERALS, VALUES = (1 << bit for bit in range(8))
PAGE = 4096
M32, M64 = (1 << 32) - 1, (1 << 64) - 1
X86, BTREE, DISTANCES, RECORDS = 5, 6, 7, 8

# mask, value, bytes, group, form, field bits from the field's bit 0 up, scale, bias of the origin, alignment of the origin
TABLES = {
    0: "",
    1: """
        D000F800 D000F000 4 CALLS       inverted 16-26,0-9,27,29,10 1 4 1
        D000F800 9000F000 4 CALLS       inverted 16-26,0-9,27,29,10 1 4 1
        D000FA00 8000F000 4 CONDITIONAL relative 16-26,0-5,29,27,10 1 4 1
        D000FB00 8000F200 4 CONDITIONAL relative 16-26,0-5,29,27,10 1 4 1
        D000FB80 8000F300 4 CONDITIONAL relative 16-26,0-5,29,27,10 1 4 1
        0000F800 00004800 2 LITERALS    unsigned 0-7                2 4 4
        0000F800 0000E000 2 SHORT       relative 0-10               1 4 1
    """,
    2: """
        8E000000 0A000000 4 CALLS       relative 0-23               2 8 1
        CE000000 8A000000 4 CALLS       relative 0-23               2 8 1
        EE000000 CA000000 4 CALLS       relative 0-23               2 8 1
        FE000000 EA000000 4 CALLS       relative 0-23               2 8 1
    """,
    3: """
        7C000000 14000000 4 CALLS       relative 0-25               2 0 1
        9F000000 90000000 4 PAIRS       page     29-30,5-23        12 0 4096
        FF000010 54000000 4 CONDITIONAL relative 5-23               2 0 1
        7E000000 34000000 4 CONDITIONAL relative 5-23               2 0 1
        7E000000 36000000 4 CONDITIONAL relative 5-18               2 0 1
        3B000000 18000000 4 LITERALS    relative 5-23               2 0 1
    """,
    4: """
        0000007F 0000006F 4 CALLS       relative 21-30,20,12-19,31  1 0 1
        0000007F 00000017 4 PAIRS       pair     12-31             12 0 1
        0000007F 00000063 4 CONDITIONAL relative 8-11,25-30,7,31    1 0 1
        0000E003 0000A001 2 SHORT       relative 3-5,11,2,7,6,9-10,8,12 1 0 1
    """,
}
PREFIXES = (
    (0x00FE, 0x00E8, 1, CALLS),
    (0xF0FF, 0x800F, 2, CONDITIONAL),
    (0xC7FF, 0x058D, 2, PAIRS),
    (0xC7FD, 0x0589, 2, PAIRS),
    (0xC7FD, 0x0539, 2, PAIRS),
    (0xC7FF, 0x05FF, 2, PAIRS),
)


def read_table(text):
    rows = []
    for line in text.strip().splitlines():
        mask, value, width, group, form, field, scale, bias, align = line.split()
        bits = []
        for part in field.split(","):
            first, _, last = part.partition("-")
            bits += range(int(first), int(last or first) + 1)
        numbers = [int(number) for number in (width, scale, bias, align)]
        rows.append((int(mask, 16), int(value, 16), globals()[group], form, bits, sorted(bits), *numbers))
    return rows


ROWS = {number: read_table(text) for number, text in TABLES.items()}


def get(word, bits):
    return sum((word >> bit & 1) << place for place, bit in enumerate(bits))


def put(word, bits, value):
    for place, bit in enumerate(bits):
        word = word & ~(1 << bit) | (value >> place & 1) << bit
    return word


def two(value, bits):
    """Two's complement."""
    value %= 1 << bits
    return value - (1 << bits) if value >> (bits - 1) else value


class Rules:
    """Section 4 of the head, and the address map."""

    def __init__(self, modes, pages, segments, old_length, new_length, values):
        self.modes, self.pages, self.old, self.new = modes, pages, old_length, new_length
        self.values = values
        self.entries, end = [], 0
        for new_offset, old_offset, length in sorted(segments, key=lambda s: (s[1], -s[2], s[0])):
            if old_offset + length > end:
                self.entries.append((max(old_offset, end), new_offset - old_offset))
                end = old_offset + length

    def everywhere_first(self):
        """For the whole old image as one stretch."""
        rules = Rules(self.modes, bytes(-(-self.old // PAGE)), [], self.old, self.new, self.values)
        rules.entries = self.entries
        return rules

    def map(self, target):
        if target >= self.old or not self.entries:
            return target
        shift = self.entries[0][1]
        low, high = 0, len(self.entries)
        while low < high:
            middle = (low + high) // 2
            if self.entries[middle][0] <= target:
                shift, low = self.entries[middle][1], middle + 1
            else:
                high = middle
        return (target + shift) & M64


def rewrite(rules, how, data, new, old=0):
    """LABEL-OLD ("old") or UNLABEL ("undo") one stretch, in place."""
    stretch = Stretch(rules, how, data, old if how == "old" else new)
    i = 0
    while i < len(data):
        page = (new + i) // PAGE
        end = min((page + 1) * PAGE - new, len(data))
        instructions, groups, base = rules.modes[rules.pages[page]] if page < len(rules.pages) else (0, 0, 0)
        if groups:
            walk = stretch.bytes if instructions == X86 else stretch.halves if instructions in (1, 4) else stretch.words
            walk = stretch.pages if instructions == BTREE else walk
            walk = stretch.distances if instructions == DISTANCES else walk
            if instructions == RECORDS:
                walk = stretch.records
                while end < len(data) and rules.pages[page : page + 1] == rules.pages[page + 1 : page + 2]:
                    page += 1
                    end = min((page + 1) * PAGE - new, len(data))
            i = walk(i, end, instructions, groups, base)
        i = max(i, end)


class Stretch:
    def __init__(self, rules, how, data, origin):
        self.rules, self.how, self.data, self.origin = rules, how, data, origin

    def u(self, at, width):
        return int.from_bytes(self.data[at : at + width], "little")

    def set(self, at, width, value):
        self.data[at : at + width] = (value % (1 << 8 * width)).to_bytes(width, "little")

    def words(self, i, end, instructions, groups, base):
        while (self.origin + i) % 4:
            i += 1
        while i < end and i + 4 <= len(self.data):
            if self.try_rows(i, end, instructions, groups, 4):
                i += 4
            else:
                i += self.pointer(i, groups, base) or 4
        return i

    def halves(self, i, end, instructions, groups, base):
        i += (self.origin + i) % 2
        while i < end and i + 2 <= len(self.data):
            step = self.pointer(i, groups, base)
            if not step:
                half = self.u(i, 2)
                step = 4 if (half >= 0xE800 if instructions == 1 else half & 3 == 3) else 2
                self.try_rows(i, end, instructions, groups, len(self.data) - i)
            i += step
        return i

    def bytes(self, i, end, instructions, groups, base):
        while i < end:
            step = self.pointer(i, groups, base)
            if not step:
                step = 1
                for mask, value, count, group in PREFIXES:
                    here = group & groups and self.u(i, 2) & mask == value
                    if here and i + count + 4 <= len(self.data):
                        self.exchange(i + count)
                        step = count + 4
                        break
            i += step
        return i

    def pages(self, i, end, instructions, groups, base):
        while i < end and groups & CALLS:
            within = (self.origin + i) % PAGE
            if within == 0:
                self.known_cells(i)
            elif self.how == "old":
                self.guessed_cells(i + within % 2, within + within % 2)
            i += PAGE - within
        return i

    def distances(self, i, end, instructions, groups, least):
        image = self.rules.old if self.how == "old" else self.rules.new

        def leads(number, place):
            distance = two(number, 32)
            return abs(distance) >= least and place < image and 0 <= place + distance < image

        while (self.origin + i) % 4:
            i += 1
        while i < end and i + 4 <= len(self.data) and groups & CALLS and self.rules.new <= 1 << 30:
            place, number = self.origin + i, self.u(i, 4)
            if self.how == "old" and leads(number, place):
                self.set(i, 4, self.rules.map(place + two(number, 32)) + (1 << 31))
            elif self.how == "undo":
                if leads(number - place - (1 << 31), place):
                    self.set(i, 4, number - place - (1 << 31))
                elif leads(number, place):
                    self.set(i, 4, number + place + (1 << 31))
            i += 4
        return i

    def records(self, i, end, instructions, groups, length):
        numbers = list(range(i, end)) if groups & CALLS else list(range(end - 1, i - 1, -1))
        if not 1 <= length <= 255 or not groups & (CALLS | CONDITIONAL):
            return end
        before, carry = list(self.data), 0
        for index, at in enumerate(numbers):
            other = numbers[index - length] if index >= length else None
            if self.how == "undo":
                total = self.data[at] + carry + (self.data[other] if other is not None else 0)
                self.data[at], carry = total % 256, total // 256
            else:
                total = before[at] - carry - (before[other] if other is not None else 0)
                self.data[at], carry = total % 256, int(total < 0)
        return end

    def cell(self, at, value=None):
        if value is not None:
            self.data[at : at + 2] = (value % 65536).to_bytes(2, "big")
        return int.from_bytes(self.data[at : at + 2], "big")

    def known_cells(self, i):
        if i + 8 > len(self.data) or self.data[i] not in (2, 5, 10, 13):
            return
        first, count = (12 if self.data[i] in (2, 5) else 8), self.cell(i + 3)
        entries = [i + first + 2 * n for n in range(count)] if first + 2 * count <= PAGE else []
        places = [PAGE]
        for at in entries:
            if at + 2 <= len(self.data):
                here = self.cell(at)
                self.cell(at, places[-1] - here)
                places.append(self.cell(at) if self.how == "undo" else here)

    def guessed_cells(self, i, within):
        if within >= PAGE or i + 2 > len(self.data) or self.cell(i) >= PAGE:
            return
        before = self.cell(i)
        for step in range(2, PAGE - within, 2):
            if i + step + 2 > len(self.data) or not within + step + 2 <= self.cell(i + step) < before:
                return
            here = self.cell(i + step)
            self.cell(i + step, before - here)
            before = here

    def pointer(self, i, groups, base):
        if self.how != "old":
            return 0
        for width, group in ((8, ABSOLUTE64), (4, ABSOLUTE32)):
            if group & groups and (self.origin + i) % width == 0 and i + width <= len(self.data):
                value = (self.u(i, width) - base) % (1 << 8 * width)
                if value < self.rules.old:
                    self.set(i, width, self.rules.map(value) + base)
                    return width
        if groups & VALUES and (self.origin + i) % 4 == 0 and i + 4 <= len(self.data):
            value = self.u(i, 4)
            if value in self.rules.values:
                self.set(i, 4, self.rules.values[value])
                return 4
        return 0

    def try_rows(self, i, end, instructions, groups, left):
        word = self.u(i, min(left, 4))
        for mask, value, group, form, field, label, width, scale, bias, align in ROWS[instructions]:
            if group & groups and width <= left and word & mask == value:
                origin = (self.origin + i + bias) // align * align
                if form == "pair":
                    self.pair(i, end, word)
                elif self.how == "undo":
                    distance = get(word, label) - (origin >> scale)
                    self.set(
                        i, width, put(word, field, invert(distance, len(field)) if form == "inverted" else distance)
                    )
                else:
                    distance = get(word, field)
                    distance = invert(distance, len(field)) if form == "inverted" else distance
                    distance = distance if form == "unsigned" else two(distance, len(field))
                    target = (origin + (distance << scale)) & M64
                    target = self.page(i, word & 31, target) if form == "page" else target
                    self.set(i, width, put(self.u(i, width), label, two(self.rules.map(target), 64) >> scale))
                return True
        return False

    def page(self, i, register, page):
        """Return the target of an ADRP, and rewrite what completes it."""
        target = None
        for j in range(i + 4, min(i + 68, len(self.data) - 3), 4):
            q = self.u(j, 4)
            if (
                q & 0x7C000000 in (0x14000000, 0x34000000)
                or q & 0xFE000000 == 0xD6000000
                or q & 0xFF000010 == 0x54000000
            ):
                break
            if q & 0x9F000000 == 0x90000000 and q % 32 == register:
                break
            adds, loads = q & 0xFFC00000 == 0x91000000, q & 0x3B000000 == 0x39000000
            if q >> 5 & 31 != register or not (adds or loads):
                continue
            scale = 0 if adds else 4 if q & 0x04800000 == 0x04800000 else q >> 30
            offset = (q >> 10 & 4095) << scale
            target = (page + offset) & M64 if target is None else target
            mapped = self.rules.map((page + offset) & M64)
            if mapped % (1 << scale) == 0 and offset < 4096:
                self.set(j, 4, put(q, range(10, 22), mapped % 4096 >> scale))
            if q % 32 == register and (adds or q & 0x04400000 == 0x00400000):
                break
        return page if target is None else target

    def pair(self, i, end, word):
        register, j = word >> 7 & 31, i + 4
        for _ in range(4):
            if j >= end or j + 4 > len(self.data):
                return
            q = self.u(j, 4)
            opcode = q % 128
            if q & 3 != 3:
                j += 2
                continue
            any_function = opcode in (0x03, 0x07, 0x23, 0x27)
            if q >> 15 & 31 == register and (any_function or (opcode in (0x13, 0x67) and q >> 12 & 7 == 0)):
                low_bits = [*range(7, 12), *range(25, 32)] if opcode in (0x23, 0x27) else range(20, 32)
                place = self.origin + i
                high, low = word & 0xFFFFF000, get(q, low_bits)
                if self.how == "undo":
                    distance = ((high | low) - place) & M32
                    high, low = (distance + 0x800) & 0xFFFFF000, distance & 0xFFF
                else:
                    target = self.rules.map((place + two(high + two(low, 12), 32)) & M64)
                    high, low = target & 0xFFFFF000, target & 0xFFF
                self.set(i, 4, word & 0xFFF | high)
                self.set(j, 4, put(q, low_bits, low))
                return
            if opcode in (0x17, 0x63, 0x6F):
                return
            j += 4

    def exchange(self, at):
        value, after, size = two(self.u(at, 4), 32), (self.origin + at + 4) & M64, self.rules.new
        if size >= 1 << 31:
            return
        if self.how == "old":
            target = (after + value) & M64
            if target < self.rules.old:
                self.set(at, 4, self.rules.map(target))
        elif after <= size and 0 <= value < size:
            self.set(at, 4, value - after)
        elif after <= size and -after <= value < 0:
            self.set(at, 4, value + size)


def invert(value, bits):
    return value if value >> (bits - 1) & 1 else value ^ 3 << (bits - 3)


def add_residuals(block, pieces, gaps, values, unit, need):
    """Section 13, residuals. Gaps: the decoded numbers."""
    covered = sorted({at // unit for first, length in pieces for at in range(first, first + length)})
    number = -1
    need(len(values) == len(gaps) * unit, "values of the gaps")
    for index, gap in enumerate(gaps):
        number += gap + 1
        need(number < len(covered), "gap leads behind the pieces")
        at = covered[number] * unit
        here = block[at : at + unit]
        total = int.from_bytes(here, "little") + int.from_bytes(values[index * unit :][:unit], "little")
        block[at : at + unit] = (total % (1 << 8 * len(here))).to_bytes(len(here), "little")
