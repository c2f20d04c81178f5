/* Residuals coded bit by bit, each with a probability that is mixed from what is known of its place; see adaptive.h. */
#include "adaptive.h"

enum {
    UNIT = 2,
    CHUNK = 32,    /* units that have one bit together first: whether any of them changes */
    MOST_SEEN = 60,
    RATE = 80,
    FIRST_WEIGHT = 24576, /* 65536 is 1 */
    MOST_WEIGHT = 1 << 20,
    FLAG_SETS = 1, /* sets of weights: one for chunks, then those of flags, then those of bytes */
    BYTE_SETS = 15
};

#define FRESH 0x80000000u /* a slot: 16 bits of probability, 8 of how often it was seen, 8 to tell contexts apart */

static int32_t shift_down(int64_t value, int shift)
{
    return (int32_t)(value < 0 ? ~(~value >> shift) : value >> shift);
}

/* 4096 / (1 + e to the power of -x/256), between 1 and 4095; between every 128th, of which FORMAT.md section 14 tells the formula, straight. */
static int32_t squash(int32_t x)
{
    static const int16_t steps[33]
        = {1,    2,    3,    6,    10,   16,   27,   45,   73,   120,  194,  310,  488,  747,  1101, 1546, 2047,
           2549, 2994, 3348, 3607, 3785, 3901, 3975, 4022, 4050, 4068, 4079, 4085, 4089, 4092, 4093, 4094};
    int32_t part, step;

    if (x > 2047) {
        return 4095;
    }
    if (x < -2047) {
        return 1;
    }
    part = (x + 2048) & 127;
    step = (x + 2048) >> 7;
    return (steps[step] * (128 - part) + steps[step + 1] * part + 64) >> 7;
}

int ota_adaptive_log2(uint64_t block_bytes)
{
    int log2 = OTA_ADAPTIVE_LEAST_LOG2;

    while (log2 < OTA_ADAPTIVE_MOST_LOG2 && (uint64_t)4 << log2 < block_bytes) {
        log2++;
    }
    return log2;
}

static void begin(struct ota_adaptive *work, size_t out_bytes)
{
    uint32_t slot;
    int32_t x, next = 0;
    int set, input;

    work->mask = ((uint32_t)1 << ota_adaptive_log2(out_bytes)) - 1;
    for (slot = 0; slot <= work->mask; slot++) {
        work->slots[slot] = FRESH;
    }
    for (set = 0; set < OTA_ADAPTIVE_SETS; set++) {
        for (input = 0; input < OTA_ADAPTIVE_INPUTS; input++) {
            work->weights[set][input] = FIRST_WEIGHT;
        }
    }
    for (x = -2047; x <= 2047; x++) {
        for (; next <= squash(x); next++) {
            work->stretched[next] = (int16_t)x;
        }
    }
    for (; next < 4096; next++) {
        work->stretched[next] = 2047;
    }
    work->low = 0;
    work->high = 0xFFFFFFFFu;
}

static uint32_t next_byte(struct ota_adaptive *work)
{
    if (work->left == 0) {
        work->wanted_beyond++;
        return 0;
    }
    work->left--;
    return *work->read++;
}

static void put_byte(struct ota_adaptive *work, uint8_t byte)
{
    if (work->count < work->room) {
        work->written[work->count] = byte;
    }
    work->count += work->count <= work->room;
}

/* Read or write one bit that is 1 with a probability of `one` / 4096. */
static int code(struct ota_adaptive *work, uint32_t one, int bit)
{
    uint32_t middle = work->low + ((work->high - work->low) >> 12) * one;

    if (work->written == NULL) {
        bit = work->code <= middle;
    }
    if (bit) {
        work->high = middle;
    } else {
        work->low = middle + 1;
    }
    while (((work->low ^ work->high) & 0xFF000000u) == 0) {
        if (work->written != NULL) {
            put_byte(work, (uint8_t)(work->high >> 24));
        } else {
            work->code = work->code << 8 | next_byte(work);
        }
        work->low <<= 8;
        work->high = work->high << 8 | 0xFFu;
    }
    return bit;
}

static uint32_t hash(uint32_t first, uint32_t second)
{
    uint32_t mixed = (first * 0x9E3779B1u) ^ (second * 0x85EBCA6Bu);

    mixed = (mixed ^ (mixed >> 15)) * 0x2C1B3C6Du;
    return mixed ^ (mixed >> 13);
}

/* Read or write one bit in some contexts, and learn from it. `node` tells the bits of one byte apart. */
static int mix(struct ota_adaptive *work, const uint32_t *contexts, int count, uint32_t node, int set, int bit)
{
    uint32_t *slots[OTA_ADAPTIVE_INPUTS], found[OTA_ADAPTIVE_INPUTS];
    int32_t inputs[OTA_ADAPTIVE_INPUTS], *weights = work->weights[set], one, error;
    int64_t sum = 0;
    int index;

    for (index = 0; index < count; index++) {
        uint32_t place = (contexts[index] ^ (node * 0x3D4D51CBu)) * 0x9E3779B1u;

        place ^= place >> 15;
        slots[index] = &work->slots[place & work->mask];
        found[index] = *slots[index];
        if ((found[index] & 0xFFu) != place >> 24) {
            found[index] = FRESH | place >> 24;
        }
        inputs[index] = found[index] & 0xFF00u ? work->stretched[found[index] >> 20] : 0;
        sum += (int64_t)weights[index] * inputs[index];
    }
    one = squash(sum > (int64_t)1 << 28 ? 2048 : sum < -((int64_t)1 << 28) ? -2048 : shift_down(sum, 16));
    bit = code(work, (uint32_t)one, bit);
    error = ((bit ? 4096 : 0) - one) * RATE;
    for (index = 0; index < count; index++) {
        uint32_t slot = found[index], seen = slot >> 8 & 0xFFu;
        int32_t chance = (int32_t)(slot >> 16), weight = weights[index] + shift_down((int64_t)inputs[index] * error + 0x8000, 16);

        chance += shift_down((int64_t)((bit ? 65535 : 0) - chance) * (int32_t)(655360u / (10u * seen + 13u)), 16);
        seen += seen < MOST_SEEN;
        *slots[index] = (uint32_t)chance << 16 | seen << 8 | (slot & 0xFFu);
        weights[index] = weight > MOST_WEIGHT ? MOST_WEIGHT : weight < -MOST_WEIGHT ? -MOST_WEIGHT : weight;
    }
    return bit;
}

/* The covered units of a block, one after the other. */
struct cover {
    const uint64_t *pieces;
    size_t piece_count, out_bytes;
    uint64_t at, end;
};

/* Take the next covered unit; 0 if there is none. */
static int next_unit(struct cover *cover, size_t *unit)
{
    while (cover->at == cover->end) {
        uint64_t start, length, first, last;

        if (cover->piece_count == 0) {
            return 0;
        }
        start = cover->pieces[0];
        length = cover->pieces[1];
        cover->pieces += 2;
        cover->piece_count--;
        if (length == 0 || start >= cover->out_bytes || length > cover->out_bytes - start) {
            continue;
        }
        first = start / UNIT;
        last = (start + length - 1) / UNIT + 1;
        if (last > cover->end) { /* else the piece before has it all */
            cover->at = first > cover->end ? first : cover->end;
            cover->end = last;
        }
    }
    *unit = (size_t)cover->at++;
    return 1;
}

/* What came before the unit at work. */
struct history {
    uint32_t chunks, flags, last, before_last;
    uint64_t since; /* covered units that did not change after the last one that did */
};

static uint32_t load_unit(const uint8_t *bytes, size_t at, size_t count)
{
    return (uint32_t)bytes[at] | (at + 1 < count ? (uint32_t)bytes[at + 1] << 8 : 0);
}

/* Read or write how a unit at byte `at` changes; `difference` counts while writing. */
static uint32_t code_difference(struct ota_adaptive *work, const struct history *history, uint32_t made, uint32_t before, uint32_t odd,
                                uint32_t difference)
{
    uint32_t low = 0, top = made >> 8, result = 0;
    int high;

    for (high = 0; high < 2; high++) {
        uint32_t kind = high ? (low ? 2u : 1u) : 0u, node = 1, contexts[OTA_ADAPTIVE_INPUTS];
        int bit;

        contexts[0] = hash(kind, 20);
        contexts[1] = hash(kind << 8 | top, 21);
        contexts[2] = hash(made | low << 16, 22u + (uint32_t)high);
        contexts[3] = hash((high ? low : history->last & 0xFFu) | kind << 8, 24);
        contexts[4] = hash(history->last | kind << 16, 25);
        contexts[5] = hash(high ? low | top << 8 : (history->flags & 15u) | odd << 4 | (before & 0xFF00u), 28u + (uint32_t)high);
        contexts[6] = hash(high ? low | history->before_last << 8 : (made & 0xFFu) | odd << 8, 30u + (uint32_t)high);
        for (bit = 7; bit >= 0; bit--) {
            int set = BYTE_SETS + (int)kind * 8 + bit;

            node = node << 1 | (uint32_t)mix(work, contexts, 7, node, set, (int)(difference >> (8 * high + bit) & 1u));
        }
        low = node & 0xFFu;
        result |= low << 8 * high;
    }
    return result;
}

static uint32_t distance_class(uint64_t since)
{
    uint32_t number = 0;

    while (number < 5 && since >= (uint64_t)1 << number) {
        number++;
    }
    return number + (since >= 64);
}

/* Read or write one unit. */
static void code_unit(struct ota_adaptive *work, struct history *history, uint8_t *out, size_t out_bytes, size_t at,
                      const uint8_t *wanted)
{
    uint32_t made = load_unit(out, at, out_bytes), before = at >= 2 ? load_unit(out, at - 2, out_bytes) : 0;
    uint32_t odd = (uint32_t)(at >> 1) & 1u, distance = distance_class(history->since), difference = 0;
    uint32_t contexts[5];

    if (wanted != NULL) {
        difference = (load_unit(wanted, at, out_bytes) - made) & 0xFFFFu;
    }
    contexts[0] = hash((made >> 8) << 3 | distance, 11);
    contexts[1] = hash(made, 12);
    contexts[2] = hash((before >> 8) << 3 | distance, 13);
    contexts[3] = hash(history->flags & 0xFFu, 14u | odd << 8);
    contexts[4] = hash(before, 17u | (made & 0xFF00u));
    if (!mix(work, contexts, 5, 1, FLAG_SETS + (int)(distance * 2 + odd), difference != 0)) {
        history->flags <<= 1;
        history->since++;
        return;
    }
    history->flags = history->flags << 1 | 1u;
    history->since = 0;
    difference = code_difference(work, history, made, before, odd, difference);
    history->before_last = history->last;
    history->last = difference;
    made += difference;
    out[at] = (uint8_t)made;
    if (at + 1 < out_bytes) {
        out[at + 1] = (uint8_t)(made >> 8);
    }
}

/* Read or write all units. */
static void code_units(struct ota_adaptive *work, uint8_t *out, size_t out_bytes, const uint64_t *pieces, size_t piece_count,
                       const uint8_t *wanted)
{
    struct history history = {0, 0, 0, 0, 0};
    struct cover cover;
    size_t units[CHUNK];

    cover.pieces = pieces;
    cover.piece_count = piece_count;
    cover.out_bytes = out_bytes;
    cover.at = 0;
    cover.end = 0;
    for (;;) {
        uint32_t contexts[3];
        int count = 0, index, changes = 0;

        while (count < CHUNK && next_unit(&cover, &units[count])) {
            units[count] *= UNIT;
            if (wanted != NULL && load_unit(wanted, units[count], out_bytes) != load_unit(out, units[count], out_bytes)) {
                changes = 1;
            }
            count++;
        }
        if (count == 0) {
            return;
        }
        contexts[0] = hash(history.chunks & 7u, 1);
        contexts[1] = hash(history.chunks & 0xFFu, 2);
        contexts[2] = hash(0, 3);
        changes = mix(work, contexts, 3, 1, 0, changes);
        history.chunks = history.chunks << 1 | (uint32_t)changes;
        if (!changes) {
            history.flags = 0;
            history.since += (uint64_t)count;
            continue;
        }
        for (index = 0; index < count; index++) {
            code_unit(work, &history, out, out_bytes, units[index], wanted);
        }
    }
}

enum ota_unit_fault ota_adaptive_add(struct ota_adaptive *work, uint8_t *out, size_t out_bytes, const uint64_t *pieces,
                                     size_t piece_count, const uint8_t *stream, size_t stream_bytes)
{
    int index;

    begin(work, out_bytes);
    work->written = NULL;
    work->read = stream;
    work->left = stream_bytes;
    work->wanted_beyond = 0;
    work->code = 0;
    for (index = 0; index < 4; index++) {
        work->code = work->code << 8 | next_byte(work);
    }
    code_units(work, out, out_bytes, pieces, piece_count, NULL);
    return work->left == 0 ? OTA_UNITS_OK : OTA_UNITS_LEFT_OVER;
}

static uint64_t rounded_up(uint32_t number, int bits)
{
    uint64_t rest = ((uint64_t)1 << bits) - 1;

    return ((uint64_t)number + rest) & ~rest;
}

size_t ota_adaptive_write(struct ota_adaptive *work, uint8_t *made, const uint8_t *wanted, size_t out_bytes, const uint64_t *pieces,
                          size_t piece_count, uint8_t *stream, size_t room)
{
    uint32_t end;
    int drop;

    begin(work, out_bytes);
    work->written = stream;
    work->room = room;
    work->count = 0;
    code_units(work, made, out_bytes, pieces, piece_count, wanted);
    /* A reader takes zeros for what is missing: the roundest number from low to high has the fewest bytes. */
    for (drop = 24; drop > 0 && rounded_up(work->low, drop) > work->high; drop -= 8) {
    }
    for (end = (uint32_t)rounded_up(work->low, drop); end != 0; end <<= 8) {
        put_byte(work, (uint8_t)(end >> 24));
    }
    while (work->count > 0 && work->count <= room && stream[work->count - 1] == 0) {
        work->count--;
    }
    return work->count;
}
