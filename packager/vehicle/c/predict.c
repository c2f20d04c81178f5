/* Rewrites the address fields of instructions and pointers; see predict.h. */
#include "instructions.h"
#include "predict_piece.h"

enum { BATCH = 128, POINTER = 0x80 };

/* The rows of an instruction set. */
struct table {
    const struct ota_instruction *rows;
    uint32_t count;
};

#define TABLE(name) {ota_##name, sizeof ota_##name / sizeof ota_##name[0]}

static const struct table tables[OTA_SETS] = {
    [OTA_THUMB2] = TABLE(thumb2), [OTA_ARM32] = TABLE(arm32), [OTA_AARCH64] = TABLE(aarch64), [OTA_RISCV] = TABLE(riscv),
};

/* Note for each part of the old image which entry of the address map is the first in it: as many as are in the parts before. */
static void index_parts(const struct ota_predictors *predictors, struct ota_lookup *lookup)
{
    size_t index, parts = (size_t)1 << lookup->parts_log2;

    lookup->shift = 0;
    while (predictors->old_bytes > 0 && (predictors->old_bytes - 1) >> lookup->shift >= parts) {
        lookup->shift++;
    }
    for (index = 0; index <= parts; index++) {
        lookup->parts[index] = 0;
    }
    for (index = 0; index < predictors->map_count; index++) {
        uint64_t part = predictors->starts[index] >> lookup->shift;

        lookup->parts[part < parts ? (size_t)part + 1 : parts]++;
    }
    for (index = 1; index <= parts; index++) {
        lookup->parts[index] += lookup->parts[index - 1];
    }
    lookup->has_parts = 1;
}

uint64_t ota_map(const struct ota_predictors *predictors, uint64_t old_offset)
{
    return map_offset(predictors, old_offset);
}

enum { SEVERAL = -1 }; /* in a slot of the lookup: numbers share it */

static inline size_t slot_of(const struct ota_lookup *lookup, uint32_t value)
{
    return (size_t)((value * 0x9E3779B1u & 0xFFFFFFFFu) >> (32 - lookup->slots_log2));
}

/* Note for each number of the value map where it is, by a hash. */
static void index_slots(const struct ota_predictors *predictors, struct ota_lookup *lookup)
{
    size_t index, slots = (size_t)1 << lookup->slots_log2;

    for (index = 0; index < slots; index++) {
        lookup->slots[index] = 0;
    }
    for (index = 0; index < predictors->value_count; index++) {
        uint32_t *slot = &lookup->slots[slot_of(lookup, predictors->old_values[index])];

        *slot = *slot == 0 ? (uint32_t)index + 1 : (uint32_t)SEVERAL;
    }
    lookup->has_slots = 1;
}

static inline uint32_t rotate_left(uint32_t word, int by)
{
    return word << by | word >> (-by & 31);
}

static inline uint32_t gather(uint32_t word, const struct ota_slice *slices, int count)
{
    uint32_t field = 0;
    int index;

    for (index = 0; index < count; index++) {
        field |= rotate_left(word & slices[index].bits, slices[index].rotation);
    }
    return field;
}

/* Put a field where `word` has zeros. */
static inline uint32_t scatter(uint32_t word, uint32_t field, const struct ota_slice *slices, int count)
{
    int index;

    for (index = 0; index < count; index++) {
        word |= rotate_left(field, -slices[index].rotation & 31) & slices[index].bits;
    }
    return word;
}

/* Thumb-2: the two bits below the sign are inverted where the sign is clear. Its own inverse. */
static uint32_t invert_by_sign(uint32_t field, int bits)
{
    return field >> (bits - 1) & 1u ? field : field ^ (3u << (bits - 3));
}

static uint64_t floor_shift(uint64_t value, int shift)
{
    return value >> 63 ? ~(~value >> shift) : value >> shift;
}

/* Rewrite a field that stands alone. */
static inline uint32_t rewrite(const struct piece *piece, const struct ota_instruction *row, uint32_t word, uint64_t address)
{
    uint64_t base = (address + row->bias) & ~((uint64_t)row->align - 1);
    uint32_t field;

    if (row->form == OTA_PAGE) {
        base = address & ~(uint64_t)0xFFF;
    }
    if (piece->kind == OTA_UNLABEL) {
        field = gather(word, row->labels, row->label_count) - (uint32_t)(base >> row->scale);
        if (row->form == OTA_SIGN_INVERTED) {
            field = invert_by_sign(field & ((1u << row->bits) - 1u), row->bits);
        }
        return scatter(word & ~row->fields, field, row->slices, row->slice_count);
    }
    field = gather(word, row->slices, row->slice_count);
    if (row->form == OTA_SIGN_INVERTED) {
        field = invert_by_sign(field, row->bits);
    }
    if (piece->kind == OTA_LABEL_OLD) {
        uint64_t offset = row->is_signed ? extend(field, row->bits) : field;

        field = (uint32_t)floor_shift(map_offset(piece->predictors, base + (offset << row->scale)), row->scale);
    } else {
        field += (uint32_t)(base >> row->scale);
    }
    return scatter(word & ~row->fields, field, row->labels, row->label_count);
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

/* AArch64 ADRP of the old image: the target is the page with the offset that a following instruction adds. Returns the end of what it changed. */
static size_t map_page(const struct piece *piece, const struct ota_instruction *row, size_t at)
{
    uint32_t word = load32(piece->bytes + at), base = word & 31u;
    uint64_t page = ((piece->at + at) & ~(uint64_t)0xFFF) + (extend(gather(word, row->slices, row->slice_count), row->bits) << 12);
    uint64_t target = page;
    size_t next = at + 4, changed = next;
    int ahead, found = 0, scale;

    for (ahead = 0; ahead < OTA_LOOK_AHEAD && next <= piece->count - 4; ahead++, next += 4) {
        uint32_t other = load32(piece->bytes + next);

        if (ends_page_search(other, base)) {
            break;
        }
        if (completes_page(other, base, &scale)) {
            uint64_t offset = (uint64_t)(other >> 10 & 0xFFFu) << scale;
            uint64_t mapped = map_offset(piece->predictors, page + offset);

            if (!found) {
                target = page + offset;
                found = 1;
            }
            if ((mapped & (((uint64_t)1 << scale) - 1)) == 0 && offset < 0x1000) {
                other = (other & ~(0xFFFu << 10)) | (uint32_t)((mapped & 0xFFFu) >> scale) << 10;
                store32(piece->bytes + next, other);
                changed = next + 4;
            }
            if ((other & 31u) == base && ((other & 0xFFC00000u) == 0x91000000u || (other & 0x04400000u) == 0x00400000u)) {
                break; /* the register holds something else now */
            }
        }
    }
    store32(piece->bytes + at,
            scatter(word & ~row->fields, (uint32_t)(map_offset(piece->predictors, target) >> 12), row->labels, row->label_count));
    return changed;
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
 * `end`): the next one may have other rules, and what both rewrite could not be undone in the same order. Returns the end of what it changed. */
static size_t rewrite_pair(const struct piece *piece, size_t at, size_t end)
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
                    target = (uint32_t)map_offset(piece->predictors, piece->at + at + extend(relative, 32));
                }
                word = (word & 0xFFFu) | (target & 0xFFFFF000u);
                low = target & 0xFFFu;
            }
            store32(piece->bytes + at, word);
            other = store ? (other & 0x01FFF07Fu) | (low >> 5) << 25 | (low & 31u) << 7 : (other & 0xFFFFFu) | low << 20;
            store32(piece->bytes + next, other);
            return next + 4;
        }
        if (opcode == 0x17u || opcode == 0x63u || opcode == 0x6Fu) {
            break;
        }
        next += 4;
    }
    return at + 4;
}

/* Whether the value map may have a number: no, if nothing has its slot. */
static inline int may_know(const struct ota_predictors *predictors, uint32_t value)
{
    const struct ota_lookup *lookup = predictors->lookup;

    return lookup == NULL || !lookup->has_slots || lookup->slots[slot_of(lookup, value)] != 0;
}

/* Rewrite a number of 4 bytes that the value map knows; returns 0 if it does not. */
static int map_value(const struct ota_predictors *predictors, uint8_t *bytes)
{
    const struct ota_lookup *lookup = predictors->lookup;
    uint32_t value = load32(bytes);
    size_t low = 0, high = predictors->value_count;

    if (lookup != NULL && lookup->has_slots) {
        uint32_t slot = lookup->slots[slot_of(lookup, value)];

        if (slot != (uint32_t)SEVERAL) { /* only the one that it names can be it, or none */
            low = slot == 0 ? high : slot - 1;
            high = low;
        }
    }
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
static size_t map_pointer(const struct piece *piece, size_t at)
{
    const struct ota_mode *mode = piece->mode;
    uint64_t address = piece->at + at, value;

    if (mode->groups & OTA_ABSOLUTE64 && (address & 7) == 0 && piece->count - at >= 8) {
        value = ((uint64_t)load32(piece->bytes + at + 4) << 32 | load32(piece->bytes + at)) - mode->base;
        if (value < piece->predictors->old_bytes) {
            value = map_offset(piece->predictors, value) + mode->base;
            store32(piece->bytes + at, (uint32_t)value);
            store32(piece->bytes + at + 4, (uint32_t)(value >> 32));
            return 8;
        }
    }
    if (mode->groups & OTA_ABSOLUTE32 && (address & 3) == 0 && piece->count - at >= 4) {
        value = (uint32_t)(load32(piece->bytes + at) - (uint32_t)mode->base);
        if (value < piece->predictors->old_bytes) {
            store32(piece->bytes + at, (uint32_t)(map_offset(piece->predictors, value) + mode->base));
            return 4;
        }
    }
    if (mode->groups & OTA_VALUES && (address & 3) == 0 && piece->count - at >= 4 && map_value(piece->predictors, piece->bytes + at)) {
        return 4;
    }
    return 0;
}

/* Places in a piece where something has to be rewritten. */
struct places {
    uint8_t hits[BATCH];        /* for each place that was looked at, which rows match there, and POINTER */
    uint64_t found[BATCH / 64]; /* a bit for each where there is anything */
};

/* Return the number of the lowest bit that is set. */
static inline size_t lowest(uint64_t bits)
{
    static const uint8_t numbers[64]
        = {0,  1,  2,  7,  3,  13, 8,  19, 4,  25, 14, 28, 9,  34, 20, 40, 5,  17, 26, 38, 15, 46, 29, 48, 10, 31, 35, 54, 21, 50, 41, 57,
           63, 6,  12, 18, 24, 27, 33, 39, 16, 37, 45, 47, 30, 53, 49, 56, 62, 11, 23, 32, 36, 44, 52, 55, 61, 22, 43, 51, 60, 42, 59, 58};

    return numbers[(bits & (0 - bits)) * 0x0218A392CD3D5DBFu >> 58];
}

/* Gather the bits of 64 places where there is anything. */
static inline uint64_t those_hit(const uint8_t *hits)
{
    const uint64_t low = 0x7F7F7F7F7F7F7F7Fu;
    uint64_t found = 0;
    int index;

    for (index = 0; index < 8; index++) {
        uint64_t some = load64(hits + 8 * index), set = (((some & low) + low) | some) >> 7 & 0x0101010101010101u;

        found |= (set * 0x0102040810204080u >> 56) << 8 * index;
    }
    return found;
}

/* Note where the bytes from `bytes` on are what `mask` and `value` ask for, at `count` places, `step` by `step`. Most places are not, so this is where
 * the time goes: each loop is such that compilers do many places at once. */
static void match(const uint8_t *bytes, size_t count, size_t step, uint32_t mask, uint32_t value, uint8_t hit, uint8_t *restrict hits)
{
    size_t index;

    if (step == 4) {
        for (index = 0; index < count; index++) {
            hits[index] |= ((load32(bytes + 4 * index) ^ value) & mask) == 0 ? hit : 0;
        }
    } else if (step == 2) {
        const uint16_t low = (uint16_t)mask, high = (uint16_t)(mask >> 16), first = (uint16_t)value, second = (uint16_t)(value >> 16);

        for (index = 0; index < count; index++) {
            uint16_t here = (uint16_t)load16(bytes + 2 * index), next = (uint16_t)load16(bytes + 2 * index + 2);

            hits[index] |= (uint16_t)(((here ^ first) & low) | ((next ^ second) & high)) == 0 ? hit : 0;
        }
    } else {
        const uint8_t low = (uint8_t)mask, high = (uint8_t)(mask >> 8), first = (uint8_t)value, second = (uint8_t)(value >> 8);

        for (index = 0; index < count; index++) {
            hits[index] |= (uint8_t)(((bytes[index] ^ first) & low) | ((bytes[index + 1] ^ second) & high)) == 0 ? hit : 0;
        }
    }
}

/* Note which of `count` words that are aligned to 4 bytes map_pointer may rewrite; `at` is where the first is. */
static void match_pointers(const struct piece *piece, size_t at, size_t count, uint8_t *restrict hits)
{
    const uint8_t *bytes = piece->bytes + at;
    const uint64_t base = piece->mode->base, below64 = piece->below64;
    const uint32_t last = piece->below32 >> 32 ? 0xFFFFFFFFu : (uint32_t)(piece->below32 - 1);
    size_t index;

    for (index = 0; index < count; index++) {
        hits[index] = piece->below32 > 0 && load32(bytes + 4 * index) - (uint32_t)base <= last ? POINTER : 0;
    }
    for (index = (piece->at + at) >> 2 & 1; below64 > 0 && index < count && piece->count - at >= 4 * index + 8; index += 2) {
        hits[index] |= load64(bytes + 4 * index) - base < below64 ? POINTER : 0;
    }
    for (index = 0; piece->values && index < count; index++) {
        hits[index] |= may_know(piece->predictors, load32(bytes + 4 * index)) ? POINTER : 0;
    }
}

/* Look for rows and pointers at `batch` places from `from` on, `step` by `step`; behind each there are 4 bytes. */
static inline void look_ahead(const struct piece *piece, size_t from, size_t batch, size_t step, struct places *places)
{
    const size_t in_word = 4 / step;
    uint8_t pointers[BATCH];
    size_t index;
    uint32_t row;

    for (index = 0; index < BATCH; index++) {
        places->hits[index] = 0;
    }
    for (row = 0; piece->wanted >> row != 0; row++) {
        if (piece->wanted >> row & 1u) {
            match(piece->bytes + from, batch, step, piece->masks[row], piece->wants[row], (uint8_t)(1u << row), places->hits);
        }
    }
    if (piece->pointers) {
        size_t first = ((size_t)(0 - (piece->at + from)) & 3) / step, words = batch > first ? (batch - first + in_word - 1) / in_word : 0;

        match_pointers(piece, from + first * step, words, pointers);
        for (index = 0; index < words; index++) {
            places->hits[first + in_word * index] |= pointers[index];
        }
    }
    for (index = 0; index < BATCH; index += 64) {
        places->found[index / 64] = those_hit(places->hits + index);
    }
}

/* Return how many places there are from `from` to before `stop`, at most a batch. */
static size_t batch_of(size_t from, size_t stop, size_t step)
{
    size_t count = (stop - from + step - 1) / step;

    return count < BATCH ? count : BATCH;
}

/* Return before which place an instruction of up to 4 bytes lies within the piece. */
static size_t last_place(const struct piece *piece, size_t end)
{
    size_t last = piece->count < 4 ? 0 : piece->count - 3;

    return last < end ? last : end;
}

/* Return the first row that is wanted and matches `word`; NULL if there is none. */
static const struct ota_instruction *find(const struct piece *piece, const struct table *table, uint32_t word, size_t left)
{
    uint32_t wanted = piece->wanted;
    const struct ota_instruction *row;

    for (row = table->rows; wanted != 0; row++, wanted >>= 1) {
        if ((wanted & 1u) && ((word ^ row->value) & row->mask) == 0 && row->width <= left) {
            return row;
        }
    }
    return NULL;
}

/* Rewrite an instruction. Returns the end of what was changed, which may lie behind it. */
static inline size_t rewrite_row(const struct piece *piece, const struct ota_instruction *row, uint32_t word, size_t at, size_t end)
{
    if (row->form == OTA_PAIR) {
        return rewrite_pair(piece, at, end);
    }
    if (row->form == OTA_PAGE && piece->kind == OTA_LABEL_OLD) {
        return map_page(piece, row, at);
    }
    if (row->width == 4) {
        store32(piece->bytes + at, rewrite(piece, row, word, piece->at + at));
    } else {
        store16(piece->bytes + at, rewrite(piece, row, word, piece->at + at));
    }
    return at + row->width;
}

/* Return the first row that was found to match at a place; NULL if there is only a pointer. */
static inline const struct ota_instruction *row_of(const struct table *table, uint8_t hit)
{
    return (hit & (POINTER - 1)) != 0 ? table->rows + lowest(hit) : NULL;
}

/* Rewrite the instruction of 4 bytes or the pointer at bytes[at]; `row` is NULL if it is no instruction. Returns where the next one starts;
 * *changed becomes the end of what was changed, if it lies behind. */
static inline size_t rewrite_word(const struct piece *piece, const struct ota_instruction *row, size_t at, size_t *changed)
{
    size_t width = 0;

    if (row != NULL) {
        size_t end = rewrite_row(piece, row, load32(piece->bytes + at), at, piece->count);

        *changed = end > *changed ? end : *changed;
    } else if (piece->pointers) {
        width = map_pointer(piece, at);
    }
    return at + (width ? width : 4);
}

/* Instructions of 4 bytes. Returns where the next one starts. */
static size_t scan_words(const struct piece *piece, size_t at, size_t end)
{
    const struct table *table = &tables[piece->mode->set];
    size_t stop = last_place(piece, end), changed = 0;

    at += (size_t)(-(piece->at + at) & 3);
    while (at < stop) {
        struct places places;
        size_t from = at, batch = batch_of(from, stop, 4), index;
        uint64_t found;

        look_ahead(piece, from, batch, 4, &places);
        for (index = 0; index < batch; index += 64) {
            for (found = places.found[index / 64]; found != 0; found &= found - 1) {
                size_t which = index + lowest(found), place = from + 4 * which;

                if (place >= at) {
                    at = rewrite_word(piece, row_of(table, places.hits[which]), place, &changed);
                }
                while (piece->pointers && at < changed && at < stop) { /* what was changed may have become a pointer */
                    at = rewrite_word(piece, find(piece, table, load32(piece->bytes + at), 4), at, &changed);
                }
            }
        }
        at = at < from + 4 * batch ? from + 4 * batch : at;
    }
    return at < end ? end : at;
}

/* Whether an instruction is one of 4 bytes, by its first half. */
static int is_long(int thumb, const uint8_t *half)
{
    return thumb ? half[1] >= 0xE8u : (half[0] & 3u) == 3u;
}

/* Whether an instruction starts at `place`, if one does at `from` and nothing between them is of interest. Behind a half that stands for a short
 * instruction one starts in any case, whether it is the whole of one or the end of one; those between it and `place` go in pairs. */
static inline int starts_at(const struct piece *piece, int thumb, size_t from, size_t place)
{
    const uint8_t *half = piece->bytes + place;
    size_t first = place;

    if (place >= 6) { /* nearly always; without a branch for each */
        int last = is_long(thumb, half - 2) & (place >= from + 2), second = is_long(thumb, half - 4) & (place >= from + 4);
        int third = is_long(thumb, half - 6) & (place >= from + 6);

        if (!(last & second & third)) {
            return second | (last ^ 1);
        }
    }
    while (first > from && is_long(thumb, piece->bytes + first - 2)) {
        first -= 2;
    }
    return ((place - first) & 2) == 0;
}

/* Rewrite the pointer at bytes[at], if there may be one, or the instruction of 2 or 4 bytes that matches `row`, if that is not NULL. Returns as
 * rewrite_word does. */
static inline size_t rewrite_half(const struct piece *piece, const struct ota_instruction *row, int pointer, size_t at, size_t end,
                                  size_t *changed)
{
    size_t width = pointer ? map_pointer(piece, at) : 0;

    if (width) {
        return at + width;
    }
    width = is_long(piece->mode->set == OTA_THUMB2, piece->bytes + at) ? 4 : 2;
    if (row != NULL) {
        uint32_t word = row->width == 4 ? load32(piece->bytes + at) : load16(piece->bytes + at);
        size_t last = rewrite_row(piece, row, word, at, end);

        *changed = last > *changed ? last : *changed;
    }
    return at + width;
}

/* Do the same at a place that was not looked at. */
static size_t visit_half(const struct piece *piece, const struct table *table, size_t at, size_t end, size_t *changed)
{
    size_t left = piece->count - at;
    uint32_t word = left >= 4 ? load32(piece->bytes + at) : load16(piece->bytes + at);

    return rewrite_half(piece, find(piece, table, word, left), piece->pointers && ((piece->at + at) & 3) == 0, at, end, changed);
}

/* Instructions of 2 or 4 bytes. Returns where the next one starts. Which half begins an instruction follows from all before it, one after the
 * other, and that is slow; so what matters is looked for at every half, and only there it is asked whether it is a beginning. */
static size_t scan_halves(const struct piece *piece, size_t at, size_t end)
{
    const struct table *table = &tables[piece->mode->set];
    int thumb = piece->mode->set == OTA_THUMB2;
    size_t stop = last_place(piece, end), changed = 0, from, place, index;

    at += (size_t)((piece->at + at) & 1);
    for (from = at; from < stop; from += 2 * BATCH) {
        struct places places;
        size_t batch = batch_of(from, stop, 2);
        uint64_t found;

        look_ahead(piece, from, batch, 2, &places);
        for (index = 0; index < batch; index += 64) {
            for (found = places.found[index / 64]; found != 0; found &= found - 1) {
                size_t which = index + lowest(found);

                place = from + 2 * which;
                if (place < at) {
                    continue;
                }
                if (!starts_at(piece, thumb, at, place)) {
                    at = place + 2;
                    continue;
                }
                at = rewrite_half(piece, row_of(table, places.hits[which]), places.hits[which] & POINTER, place, end, &changed);
                while (piece->pointers && at < changed && at < stop) { /* what was changed may have become a pointer */
                    at = visit_half(piece, table, at, end, &changed);
                }
            }
        }
    }
    if (at < stop) {
        place = at + (stop - at + 1) / 2 * 2;
        at = starts_at(piece, thumb, at, place) ? place : place + 2;
    }
    while (at < end && piece->count - at >= 2) { /* too near to the end of the piece for 4 bytes */
        at = visit_half(piece, table, at, end, &changed);
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
        return target < piece->predictors->old_bytes ? (uint32_t)map_offset(piece->predictors, target) : word;
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

/* Rewrite the pointer at bytes[at], if there is one, or the displacement behind a prefix that was found there. Returns where to go on. */
static size_t rewrite_byte(const struct piece *piece, uint8_t hit, size_t at)
{
    size_t width = hit & POINTER ? map_pointer(piece, at) : 0;

    if (!width && (hit & (POINTER - 1)) != 0) {
        size_t length = ota_x86_prefixes[lowest(hit)].length;

        if (piece->count - at >= length + 4) {
            uint8_t *field = piece->bytes + at + length;

            store32(field, exchange(piece, load32(field), piece->at + at + length + 4));
            width = length + 4;
        }
    }
    return at + (width ? width : 1);
}

static size_t scan_x86(const struct piece *piece, size_t at, size_t end)
{
    size_t stop = last_place(piece, end); /* no field fits into the last bytes */

    while (at < stop) {
        struct places places;
        size_t from = at, batch = batch_of(from, stop, 1), index;
        uint64_t found;

        look_ahead(piece, from, batch, 1, &places);
        for (index = 0; index < batch; index += 64) {
            for (found = places.found[index / 64]; found != 0; found &= found - 1) {
                size_t which = index + lowest(found), place = from + which;

                at = place < at ? at : rewrite_byte(piece, places.hits[which], place);
            }
        }
        at = at < from + batch ? from + batch : at;
    }
    return at < end ? end : at;
}

/* Return where the run of pages that have the mode of `page` ends; `end` is where that page ends. */
static size_t run_end(const struct ota_predictors *predictors, uint64_t page, size_t end, size_t count)
{
    while (end < count && page + 1 < predictors->page_count && predictors->pages[page + 1] == predictors->pages[page]) {
        end = count - end > OTA_PAGE_BYTES ? end + OTA_PAGE_BYTES : count;
        page++;
    }
    return end;
}

/* Take over the mode of a page. */
static void enter(struct piece *piece, const struct ota_mode *mode)
{
    const struct ota_predictors *predictors = piece->predictors;
    const struct table *table = &tables[mode->set];
    struct ota_lookup *lookup = predictors->lookup;
    uint32_t index;

    piece->mode = mode;
    piece->pointers = piece->kind == OTA_LABEL_OLD && mode->groups & OTA_IN_WORDS;
    piece->below32 = mode->groups & OTA_ABSOLUTE32 ? predictors->old_bytes : 0;
    piece->below64 = mode->groups & OTA_ABSOLUTE64 ? predictors->old_bytes : 0;
    piece->values = mode->groups & OTA_VALUES;
    piece->wanted = 0;
    for (index = 0; index < table->count; index++) {
        piece->wanted |= (uint32_t)((table->rows[index].group & mode->groups) != 0) << index;
        piece->masks[index] = table->rows[index].mask;
        piece->wants[index] = table->rows[index].value;
    }
    for (index = 0; mode->set == OTA_X86 && index < sizeof ota_x86_prefixes / sizeof ota_x86_prefixes[0]; index++) {
        piece->wanted |= (uint32_t)((ota_x86_prefixes[index].group & mode->groups) != 0) << index;
        piece->masks[index] = ota_x86_prefixes[index].mask;
        piece->wants[index] = ota_x86_prefixes[index].value;
    }
    if (lookup != NULL && piece->kind == OTA_LABEL_OLD) {
        if (!lookup->has_parts && mode->groups & ~OTA_VALUES) {
            index_parts(predictors, lookup);
        }
        if (!lookup->has_slots && mode->groups & OTA_VALUES) {
            index_slots(predictors, lookup);
        }
    }
}

static void label(struct piece *piece, uint8_t *bytes, size_t count, uint64_t new_at, uint64_t old_at)
{
    const struct ota_predictors *predictors = piece->predictors;
    size_t at = 0;

    piece->bytes = bytes;
    piece->count = count;
    piece->at = piece->kind == OTA_LABEL_OLD ? old_at : new_at;
    while (at < count) {
        uint64_t page = (new_at + at) >> OTA_PAGE_LOG2;
        uint64_t left = ((page + 1) << OTA_PAGE_LOG2) - (new_at + at);
        size_t end = left < count - at ? at + (size_t)left : count;
        const struct ota_mode *mode = page < predictors->page_count ? &predictors->modes[predictors->pages[page]] : NULL;

        if (mode == NULL || mode->groups == 0) {
            at = end;
            continue;
        }
        if (mode != piece->mode) {
            enter(piece, mode);
        }
        if (mode->set == OTA_THUMB2 || mode->set == OTA_RISCV) {
            at = scan_halves(piece, at, end);
        } else if (mode->set == OTA_X86) {
            at = scan_x86(piece, at, end);
        } else if (mode->set == OTA_BTREE) {
            at = ota_scan_cells(piece, at, end);
        } else if (mode->set == OTA_DISTANCES) {
            at = ota_scan_distances(piece, at, end);
        } else if (mode->set == OTA_RECORDS) {
            at = ota_scan_records(piece, at, run_end(predictors, page, end, count));
        } else {
            at = scan_words(piece, at, end);
        }
    }
}

void ota_label(const struct ota_predictors *predictors, enum ota_kind kind, uint8_t *bytes, size_t count, uint64_t new_at,
               uint64_t old_at)
{
    struct piece piece;

    piece.predictors = predictors;
    piece.kind = kind;
    piece.mode = NULL;
    label(&piece, bytes, count, new_at, old_at);
}

size_t ota_label_source(const struct ota_predictors *predictors, uint8_t *source, size_t source_bytes, const uint64_t *triples, size_t count)
{
    struct piece piece;
    size_t at = 0, index;

    piece.predictors = predictors;
    piece.kind = OTA_LABEL_OLD;
    piece.mode = NULL;
    for (index = 0; index < count && triples[1] <= source_bytes - at; index++, triples += 3) {
        label(&piece, source + at, (size_t)triples[1], triples[0], triples[2]);
        at += (size_t)triples[1];
    }
    return index;
}
