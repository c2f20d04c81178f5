/* Rewrites the address fields of instructions and pointers; see predict.h. */
#include "predict.h"

#include "delta.h"
#include "instructions.h"

/* One piece that is being rewritten. */
struct piece {
    const struct ota_predictors *predictors;
    enum ota_kind kind;
    uint8_t *bytes;
    size_t count;
    uint64_t at; /* address of bytes[0]: in the old image for OTA_LABEL_OLD, else in the new one */
};

static uint32_t load16(const uint8_t *from)
{
    return (uint32_t)from[0] | (uint32_t)from[1] << 8;
}

static uint32_t load32(const uint8_t *from)
{
    return load16(from) | load16(from + 2) << 16;
}

static void store16(uint8_t *to, uint32_t value)
{
    to[0] = (uint8_t)value;
    to[1] = (uint8_t)(value >> 8);
}

static void store32(uint8_t *to, uint32_t value)
{
    store16(to, value);
    store16(to + 2, value >> 16);
}

/* Return the last of ascending numbers that is not above `limit`, or the first. Halving without a branch: which half is as good as
 * random, and a wrong guess of the processor costs more than the comparison. */
static size_t last_up_to(const uint64_t *numbers, size_t count, uint64_t limit)
{
    const uint64_t *first = numbers;

    while (count > 1) {
        size_t half = count / 2;

        first += (size_t)(0 - (uint64_t)(first[half] <= limit)) & half;
        count -= half;
    }
    return (size_t)(first - numbers);
}

uint64_t ota_map(const struct ota_predictors *predictors, uint64_t old_offset)
{
    if (old_offset >= predictors->old_bytes || predictors->map_count == 0) {
        return old_offset;
    }
    return old_offset + (uint64_t)predictors->shifts[last_up_to(predictors->starts, predictors->map_count, old_offset)];
}

static uint32_t gather(uint32_t word, const struct ota_slice *slices, int count)
{
    uint32_t field = 0;
    int index;

    for (index = 0; index < count; index++) {
        field |= (word >> slices[index].at & ((1u << slices[index].width) - 1u)) << slices[index].field;
    }
    return field;
}

static uint32_t scatter(uint32_t word, uint32_t field, const struct ota_slice *slices, int count)
{
    int index;

    for (index = 0; index < count; index++) {
        uint32_t mask = (1u << slices[index].width) - 1u;

        word = (word & ~(mask << slices[index].at)) | (field >> slices[index].field & mask) << slices[index].at;
    }
    return word;
}

/* Thumb-2: the two bits below the sign are inverted where the sign is clear. Its own inverse. */
static uint32_t invert_by_sign(uint32_t field, int bits)
{
    return field >> (bits - 1) & 1u ? field : field ^ (3u << (bits - 3));
}

static uint64_t extend(uint64_t value, int bits)
{
    uint64_t sign = (uint64_t)1 << (bits - 1);

    return (value ^ sign) - sign;
}

static uint64_t floor_shift(uint64_t value, int shift)
{
    return value >> 63 ? ~(~value >> shift) : value >> shift;
}

/* Rewrite a field that stands alone. */
static uint32_t rewrite(const struct piece *piece, const struct ota_instruction *row, uint32_t word, uint64_t address)
{
    uint64_t base = (address + row->bias) & ~((uint64_t)row->align - 1);
    uint32_t field;

    if (row->form == OTA_PAGE) {
        base = address & ~(uint64_t)0xFFF;
    }
    if (piece->kind == OTA_UNLABEL) {
        field = gather(word, row->labels, row->label_count) - (uint32_t)floor_shift(base, row->scale);
        if (row->form == OTA_SIGN_INVERTED) {
            field = invert_by_sign(field & ((1u << row->bits) - 1u), row->bits);
        }
        return scatter(word, field, row->slices, row->slice_count);
    }
    field = gather(word, row->slices, row->slice_count);
    if (row->form == OTA_SIGN_INVERTED) {
        field = invert_by_sign(field, row->bits);
    }
    if (piece->kind == OTA_LABEL_OLD) {
        uint64_t offset = row->is_signed ? extend(field, row->bits) : field;

        field = (uint32_t)floor_shift(ota_map(piece->predictors, base + (offset << row->scale)), row->scale);
    } else {
        field += (uint32_t)floor_shift(base, row->scale);
    }
    return scatter(word, field, row->labels, row->label_count);
}

/* AArch64: whether `word` adds an unsigned offset in the page that register `base` points to; *scale is that of the offset. */
static int completes_page(uint32_t word, uint32_t base, int *scale)
{
    if ((word >> 5 & 31u) != base) {
        return 0;
    }
    if ((word & 0xFFC00000u) == 0x91000000u) { /* ADD immediate, 64 bits */
        *scale = 0;
        return 1;
    }
    if ((word & 0x3B000000u) == 0x39000000u) { /* load or store, unsigned immediate */
        *scale = (word & 0x04800000u) == 0x04800000u ? 4 : (int)(word >> 30);
        return 1;
    }
    return 0;
}

static int ends_page_search(uint32_t word, uint32_t base)
{
    return (word & 0x7C000000u) == 0x14000000u || (word & 0xFE000000u) == 0xD6000000u || (word & 0xFF000010u) == 0x54000000u
           || (word & 0x7C000000u) == 0x34000000u || ((word & 0x9F000000u) == 0x90000000u && (word & 31u) == base);
}

/* AArch64 ADRP of the old image: the target is the page with the offset that a following instruction adds. */
static void map_page(const struct piece *piece, const struct ota_instruction *row, size_t at)
{
    uint32_t word = load32(piece->bytes + at), base = word & 31u;
    uint64_t page = ((piece->at + at) & ~(uint64_t)0xFFF) + (extend(gather(word, row->slices, row->slice_count), row->bits) << 12);
    uint64_t target = page;
    size_t next = at + 4;
    int ahead, found = 0, scale;

    for (ahead = 0; ahead < OTA_LOOK_AHEAD && next <= piece->count - 4; ahead++, next += 4) {
        uint32_t other = load32(piece->bytes + next);

        if (ends_page_search(other, base)) {
            break;
        }
        if (completes_page(other, base, &scale)) {
            uint64_t offset = (uint64_t)(other >> 10 & 0xFFFu) << scale;
            uint64_t mapped = ota_map(piece->predictors, page + offset);

            if (!found) {
                target = page + offset;
                found = 1;
            }
            if ((mapped & (((uint64_t)1 << scale) - 1)) == 0 && offset < 0x1000) {
                other = (other & ~(0xFFFu << 10)) | (uint32_t)((mapped & 0xFFFu) >> scale) << 10;
                store32(piece->bytes + next, other);
            }
            if ((other & 31u) == base && ((other & 0xFFC00000u) == 0x91000000u || (other & 0x04400000u) == 0x00400000u)) {
                break; /* the register holds something else now */
            }
        }
    }
    store32(piece->bytes + at,
            scatter(word, (uint32_t)(ota_map(piece->predictors, target) >> 12), row->labels, row->label_count));
}

/* RISC-V: whether `word` adds a signed offset to register `base`. *store tells stores, whose offset is split. */
static int completes_pair(uint32_t word, uint32_t base, int *store)
{
    uint32_t opcode = word & 0x7Fu, function = word >> 12 & 7u;

    *store = opcode == 0x23u || opcode == 0x27u;
    return (word >> 15 & 31u) == base
           && (*store || opcode == 0x03u || opcode == 0x07u || ((opcode == 0x13u || opcode == 0x67u) && function == 0));
}

/* RISC-V AUIPC and the instruction that completes it, which is found by bits that no rewriting touches. It starts in the same page (before
 * `end`): the next one may have other rules, and what both rewrite could not be undone in the same order. */
static void rewrite_pair(const struct piece *piece, size_t at, size_t end)
{
    uint32_t word = load32(piece->bytes + at), base = word >> 7 & 31u, address = (uint32_t)(piece->at + at);
    size_t next = at + 4;
    int ahead;

    for (ahead = 0; ahead < OTA_PAIR_LOOK_AHEAD && next < end && next <= piece->count - 4; ahead++) {
        uint32_t other = load32(piece->bytes + next), opcode = other & 0x7Fu, low;
        int store;

        if ((other & 3u) != 3u) {
            next += 2;
            continue;
        }
        if (completes_pair(other, base, &store)) {
            low = store ? (other >> 25) << 5 | (other >> 7 & 31u) : other >> 20;
            if (piece->kind == OTA_UNLABEL) {
                uint32_t relative = ((word & 0xFFFFF000u) | low) - address;

                word = (word & 0xFFFu) | ((relative + 0x800u) & 0xFFFFF000u);
                low = relative & 0xFFFu;
            } else {
                uint32_t relative = (word & 0xFFFFF000u) + (uint32_t)extend(low, 12), target = address + relative;

                if (piece->kind == OTA_LABEL_OLD) {
                    target = (uint32_t)ota_map(piece->predictors, piece->at + at + extend(relative, 32));
                }
                word = (word & 0xFFFu) | (target & 0xFFFFF000u);
                low = target & 0xFFFu;
            }
            store32(piece->bytes + at, word);
            other = store ? (other & 0x01FFF07Fu) | (low >> 5) << 25 | (low & 31u) << 7 : (other & 0xFFFFFu) | low << 20;
            store32(piece->bytes + next, other);
            return;
        }
        if (opcode == 0x17u || opcode == 0x63u || opcode == 0x6Fu) {
            return;
        }
        next += 4;
    }
}

/* Rewrite a number of 4 bytes that the value map knows; returns 0 if it does not. */
static int map_value(const struct ota_predictors *predictors, uint8_t *bytes)
{
    uint32_t value = load32(bytes);
    size_t low = 0, high = predictors->value_count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (predictors->old_values[middle] < value) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    if (low == predictors->value_count || predictors->old_values[low] != value) {
        return 0;
    }
    store32(bytes, predictors->new_values[low]);
    return 1;
}

/* Rewrite an absolute pointer or a known number of the old image at bytes[at]; returns its width or 0 if there is none. */
static size_t map_pointer(const struct piece *piece, const struct ota_mode *mode, size_t at)
{
    uint64_t address = piece->at + at, value;

    if (mode->groups & OTA_ABSOLUTE64 && (address & 7) == 0 && piece->count - at >= 8) {
        value = ((uint64_t)load32(piece->bytes + at + 4) << 32 | load32(piece->bytes + at)) - mode->base;
        if (value < piece->predictors->old_bytes) {
            value = ota_map(piece->predictors, value) + mode->base;
            store32(piece->bytes + at, (uint32_t)value);
            store32(piece->bytes + at + 4, (uint32_t)(value >> 32));
            return 8;
        }
    }
    if (mode->groups & OTA_ABSOLUTE32 && (address & 3) == 0 && piece->count - at >= 4) {
        value = (uint32_t)(load32(piece->bytes + at) - (uint32_t)mode->base);
        if (value < piece->predictors->old_bytes) {
            store32(piece->bytes + at, (uint32_t)(ota_map(piece->predictors, value) + mode->base));
            return 4;
        }
    }
    if (mode->groups & OTA_VALUES && (address & 3) == 0 && piece->count - at >= 4 && map_value(piece->predictors, piece->bytes + at)) {
        return 4;
    }
    return 0;
}

static const struct ota_instruction *find(const struct ota_instruction *rows, uint32_t possible, uint32_t groups, uint32_t word,
                                          size_t left)
{
    for (; possible != 0; possible >>= 1, rows++) {
        if ((possible & 1u) && (rows->group & groups) && rows->width <= left && ((word ^ rows->value) & rows->mask) == 0) {
            return rows;
        }
    }
    return NULL;
}

static void rewrite_row(const struct piece *piece, const struct ota_instruction *row, uint32_t word, size_t at, size_t end)
{
    if (row->form == OTA_PAIR) {
        rewrite_pair(piece, at, end);
    } else if (row->form == OTA_PAGE && piece->kind == OTA_LABEL_OLD) {
        map_page(piece, row, at);
    } else if (row->width == 4) {
        store32(piece->bytes + at, rewrite(piece, row, word, piece->at + at));
    } else {
        store16(piece->bytes + at, rewrite(piece, row, word, piece->at + at));
    }
}

/* Instructions of 4 bytes. Returns where the next one starts. */
static size_t scan_words(const struct piece *piece, const struct ota_mode *mode, size_t at, size_t end)
{
    const struct ota_instruction *rows = mode->set == OTA_ARM32 ? ota_arm32 : ota_aarch64;
    const uint8_t *candidates = mode->set == OTA_ARM32 ? ota_arm32_candidates : ota_aarch64_candidates;
    int pointers = piece->kind == OTA_LABEL_OLD && mode->groups & OTA_IN_WORDS;

    at += (size_t)(-(piece->at + at) & 3);
    while (at < end && piece->count - at >= 4) {
        uint32_t word = load32(piece->bytes + at);
        uint32_t possible = mode->set == OTA_NONE ? 0 : candidates[word >> 24];
        const struct ota_instruction *row = possible ? find(rows, possible, mode->groups, word, 4) : NULL;
        size_t width = 4;

        if (row != NULL) {
            rewrite_row(piece, row, word, at, end);
        } else if (pointers) {
            width = map_pointer(piece, mode, at);
            width = width ? width : 4;
        }
        at += width;
    }
    return at < end ? end : at;
}

/* Instructions of 2 or 4 bytes. Returns where the next one starts. */
static size_t scan_halves(const struct piece *piece, const struct ota_mode *mode, size_t at, size_t end)
{
    int thumb = mode->set == OTA_THUMB2;
    const struct ota_instruction *rows = thumb ? ota_thumb2 : ota_riscv;
    const uint8_t *candidates = thumb ? ota_thumb2_candidates : ota_riscv_candidates;
    int pointers = piece->kind == OTA_LABEL_OLD && mode->groups & OTA_IN_WORDS;

    at += (size_t)((piece->at + at) & 1);
    while (at < end && piece->count - at >= 2) {
        size_t left = piece->count - at, width = pointers ? map_pointer(piece, mode, at) : 0;
        uint32_t half, possible;

        if (width) {
            at += width;
            continue;
        }
        half = load16(piece->bytes + at);
        width = thumb ? (half >= 0xE800u ? 4 : 2) : ((half & 3u) == 3u ? 4 : 2);
        possible = candidates[thumb ? half >> 8 : half & 0xFFu];
        if (possible) {
            uint32_t word = left >= 4 ? load32(piece->bytes + at) : half;
            const struct ota_instruction *row = find(rows, possible, mode->groups, word, left);

            if (row != NULL) {
                rewrite_row(piece, row, word, at, end);
            }
        }
        at += width;
    }
    return at < end ? end : at;
}

/* x86: a 32-bit displacement that leads into the image becomes the target; those that the targets displace take their place, so that the
 * exchange can be undone (as in the LZX filter, MS-PATCH 2.3). */
static uint32_t exchange(const struct piece *piece, uint32_t word, uint64_t after)
{
    uint64_t size = piece->predictors->new_bytes, value = extend(word, 32), target = after + value;

    if (size >> 31) {
        return word;
    }
    if (piece->kind == OTA_LABEL_OLD) {
        return target < piece->predictors->old_bytes ? (uint32_t)ota_map(piece->predictors, target) : word;
    }
    if (after > size) {
        return word;
    }
    if (piece->kind == OTA_LABEL) {
        if (target < size) {
            return (uint32_t)target;
        }
        return value < size && value >= size - after ? (uint32_t)(value - size) : word;
    }
    if (value < size) {
        return (uint32_t)(value - after);
    }
    return value >> 63 && 0 - value <= after ? (uint32_t)(value + size) : word;
}

static size_t scan_x86(const struct piece *piece, const struct ota_mode *mode, size_t at, size_t end)
{
    enum { PREFIXES = sizeof ota_x86_prefixes / sizeof ota_x86_prefixes[0] };
    int pointers = piece->kind == OTA_LABEL_OLD && mode->groups & OTA_IN_WORDS;

    while (at < end) {
        size_t left = piece->count - at, width = pointers ? map_pointer(piece, mode, at) : 0;
        uint32_t start;
        int index;

        if (width) {
            at += width;
            continue;
        }
        start = left >= 2 ? load16(piece->bytes + at) : piece->bytes[at];
        width = 1;
        for (index = 0; index < PREFIXES; index++) {
            const struct ota_prefix *prefix = &ota_x86_prefixes[index];

            if (((start ^ prefix->value) & prefix->mask) == 0 && prefix->group & mode->groups && left >= prefix->length + 4u) {
                uint8_t *field = piece->bytes + at + prefix->length;

                store32(field, exchange(piece, load32(field), piece->at + at + prefix->length + 4));
                width = prefix->length + 4u;
                break;
            }
        }
        at += width;
    }
    return at;
}

static uint32_t load_place(const uint8_t *from)
{
    return (uint32_t)from[0] << 8 | (uint32_t)from[1];
}

static void store_place(uint8_t *to, uint32_t value)
{
    to[0] = (uint8_t)(value >> 8);
    to[1] = (uint8_t)value;
}

/* Where the cells of the b-tree page at bytes[at] are: each place becomes the distance from the one before. The header, which tells how many
 * there are, is not touched. */
static void rewrite_cells(const struct piece *piece, size_t at)
{
    const uint8_t *header = piece->bytes + at;
    size_t start, count, left = piece->count - at, entry;
    uint32_t before = OTA_PAGE_BYTES;

    if (left < 8 || (header[0] != 2 && header[0] != 5 && header[0] != 10 && header[0] != 13)) {
        return;
    }
    start = header[0] < 10 ? 12 : 8;
    count = load_place(header + 3);
    if (start + 2 * count > OTA_PAGE_BYTES) {
        return;
    }
    for (entry = start; entry < start + 2 * count && left - 1 > entry; entry += 2) {
        uint32_t found = load_place(header + entry), distance = (before - found) & 0xFFFFu;

        store_place(piece->bytes + at + entry, distance);
        before = piece->kind == OTA_UNLABEL ? distance : found;
    }
}

/* Those of an old page whose header is not in the stretch: numbers that descend, and lead behind themselves. */
static void guess_cells(const struct piece *piece, size_t at, size_t offset)
{
    uint32_t before;

    at += offset & 1;
    offset += offset & 1;
    if (offset >= OTA_PAGE_BYTES || at > piece->count || piece->count - at < 2) {
        return;
    }
    before = load_place(piece->bytes + at);
    while (before < OTA_PAGE_BYTES && offset + 4 <= OTA_PAGE_BYTES && piece->count - at >= 4) {
        uint32_t found;

        at += 2;
        offset += 2;
        found = load_place(piece->bytes + at);
        if (found < offset + 2 || found >= before) {
            return;
        }
        store_place(piece->bytes + at, before - found);
        before = found;
    }
}

/* Pages of a database. Returns where the next one starts. */
static size_t scan_cells(const struct piece *piece, const struct ota_mode *mode, size_t at, size_t end)
{
    while (at < end && mode->groups & OTA_CALLS) {
        size_t offset = (size_t)((piece->at + at) & (OTA_PAGE_BYTES - 1));

        if (offset == 0) {
            rewrite_cells(piece, at);
        } else if (piece->kind == OTA_LABEL_OLD) {
            guess_cells(piece, at, offset);
        }
        at += OTA_PAGE_BYTES - offset;
    }
    return at < end ? end : at;
}

void ota_label(const struct ota_predictors *predictors, enum ota_kind kind, uint8_t *bytes, size_t count, uint64_t new_at,
               uint64_t old_at)
{
    struct piece piece;
    size_t at = 0;

    piece.predictors = predictors;
    piece.kind = kind;
    piece.bytes = bytes;
    piece.count = count;
    piece.at = kind == OTA_LABEL_OLD ? old_at : new_at;
    while (at < count) {
        uint64_t page = (new_at + at) >> OTA_PAGE_LOG2;
        uint64_t left = ((page + 1) << OTA_PAGE_LOG2) - (new_at + at);
        size_t end = left < count - at ? at + (size_t)left : count;
        const struct ota_mode *mode = page < predictors->page_count ? &predictors->modes[predictors->pages[page]] : NULL;

        if (mode == NULL || mode->groups == 0) {
            at = end;
        } else if (mode->set == OTA_THUMB2 || mode->set == OTA_RISCV) {
            at = scan_halves(&piece, mode, at, end);
        } else if (mode->set == OTA_X86) {
            at = scan_x86(&piece, mode, at, end);
        } else if (mode->set == OTA_BTREE) {
            at = scan_cells(&piece, mode, at, end);
        } else {
            at = scan_words(&piece, mode, at, end);
        }
    }
}

/* The covered units of a block, from unit `at` to before unit `end`, then those of the pieces that follow. */
struct units {
    const uint64_t *pieces;
    size_t piece_count, unit, out_bytes;
    uint64_t at, end;
};

/* Go to the next piece that has a unit of its own; 0 if there is none. */
static int next_piece(struct units *units)
{
    while (units->at == units->end) {
        uint64_t start, length, first, last;

        if (units->piece_count == 0) {
            return 0;
        }
        start = units->pieces[0];
        length = units->pieces[1];
        units->pieces += 2;
        units->piece_count--;
        if (length == 0 || start >= units->out_bytes || length > units->out_bytes - start) {
            continue;
        }
        first = start / units->unit;
        last = (start + length - 1) / units->unit + 1;
        if (last > units->end) { /* else the piece before has it all */
            units->at = first > units->end ? first : units->end;
            units->end = last;
        }
    }
    return 1;
}

enum ota_unit_fault ota_add_units(uint8_t *out, size_t out_bytes, const uint64_t *pieces, size_t piece_count, const uint8_t *gaps,
                                  size_t gaps_bytes, const uint8_t *values, size_t values_bytes, size_t unit)
{
    struct units units;
    size_t read = 0, used = 0;

    units.pieces = pieces;
    units.piece_count = piece_count;
    units.unit = unit;
    units.out_bytes = out_bytes;
    units.at = 0;
    units.end = 0;
    while (read < gaps_bytes) {
        uint64_t gap;
        size_t length = ota_varint(gaps + read, gaps_bytes - read, &gap), place, index;
        unsigned carry = 0;

        if (length == 0 || values_bytes - used < unit) {
            return OTA_UNITS_BAD;
        }
        read += length;
        for (;;) {
            if (!next_piece(&units)) {
                return OTA_UNITS_BAD;
            }
            if (gap < units.end - units.at) {
                break;
            }
            gap -= units.end - units.at;
            units.at = units.end;
        }
        units.at += gap;
        place = (size_t)units.at * unit;
        for (index = 0; index < unit && place + index < out_bytes; index++) {
            carry += (unsigned)out[place + index] + values[used + index];
            out[place + index] = (uint8_t)carry;
            carry >>= 8;
        }
        used += unit;
        units.at++;
    }
    return used == values_bytes ? OTA_UNITS_OK : OTA_UNITS_LEFT_OVER;
}
