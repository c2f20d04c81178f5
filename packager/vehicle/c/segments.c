/* See segments.h. */
#include "segments.h"

#include "delta.h"

/* Freestanding compilers ask for this but have no <string.h>. */
void *memcpy(void *to, const void *from, size_t count);

#define MAX_SEGMENT_BYTES ((uint64_t)0xFFFFFFFF)

enum { GAPS = 0, LENGTHS = 1, DIAGONALS = 2, COLUMNS = 3, WORDS = 3, READ_WORDS = 4 };

static int take(struct ota_column *column, uint64_t *value)
{
    size_t length;

    if (column->at < column->end && *column->at < 0x80) { /* most numbers have one byte */
        *value = *column->at++;
        return 1;
    }
    length = ota_varint(column->at, (size_t)(column->end - column->at), value);
    column->at += length;
    return length > 0;
}

enum ota_map_fault ota_map_read(struct ota_column columns[3], size_t count, uint64_t old_bytes, uint64_t new_bytes,
                                uint64_t *new_offsets, uint64_t *old_offsets, uint32_t *lengths, struct ota_stop *stop)
{
    uint64_t new_offset = 0, gap, length, zigzag;
    int64_t diagonal = 0;
    size_t index;

    for (index = 0; index < count; index++) {
        stop->segment = index;
        if (!take(&columns[GAPS], &gap) || !take(&columns[LENGTHS], &length) || !take(&columns[DIAGONALS], &zigzag)) {
            return OTA_MAP_VARINT;
        }
        new_offset += gap; /* below 2**61 + 2**63 */
        diagonal += zigzag & 1 ? -(int64_t)(zigzag >> 1) - 1 : (int64_t)(zigzag >> 1);
        stop->new_offset = new_offset;
        stop->length_bytes = length;
        if (length < 1 || length > MAX_SEGMENT_BYTES) {
            return OTA_MAP_LENGTH;
        }
        if (new_offset + length > new_bytes) {
            return OTA_MAP_NEW;
        }
        /* The diagonal was within the images before and moved by at most 2**62, so that the sum holds. */
        stop->old_offset = (int64_t)new_offset + diagonal;
        if (stop->old_offset < 0 || (uint64_t)stop->old_offset + length > old_bytes) {
            return OTA_MAP_OLD;
        }
        new_offsets[index] = new_offset;
        old_offsets[index] = (uint64_t)stop->old_offset;
        lengths[index] = (uint32_t)length;
        new_offset += length;
    }
    for (index = 0; index < COLUMNS; index++) {
        if (columns[index].at != columns[index].end) {
            return OTA_MAP_LEFT_OVER;
        }
    }
    return OTA_MAP_OK;
}

enum ota_map_fault ota_values_read(struct ota_column columns[2], size_t count, uint32_t *old_values, uint32_t *new_values, size_t *at,
                                   uint64_t *value)
{
    uint64_t change = 0, gap, zigzag;

    *value = ~(uint64_t)0; /* one before the first number */
    for (*at = 0; *at < count; ++*at) {
        if (!take(&columns[0], &gap) || !take(&columns[1], &zigzag)) {
            return OTA_MAP_VARINT;
        }
        *value += gap + 1; /* below 2**32 + 2**63 */
        change += zigzag & 1 ? ~(zigzag >> 1) : zigzag >> 1;
        if (*value > 0xFFFFFFFFu) {
            return OTA_MAP_LENGTH;
        }
        old_values[*at] = (uint32_t)*value;
        new_values[*at] = (uint32_t)(*value + change);
    }
    return columns[0].at == columns[0].end && columns[1].at == columns[1].end ? OTA_MAP_OK : OTA_MAP_LEFT_OVER;
}

/* Return how many of the ascending numbers are below `limit`. */
static size_t below(const uint64_t *numbers, size_t count, uint64_t limit)
{
    size_t low = 0, high = count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (numbers[middle] < limit) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

void ota_map_find(const struct ota_map *map, uint64_t start, uint64_t end, size_t *first, size_t *last)
{
    size_t at = below(map->new_offsets, map->count, start);

    if (start >= end) {
        *first = *last = 0;
        return;
    }
    *last = below(map->new_offsets, map->count, end);
    if (at > 0 && map->new_offsets[at - 1] + map->lengths[at - 1] > start) {
        at--;
    }
    *first = at;
}

uint64_t ota_map_cut(const struct ota_map *map, uint64_t start, uint64_t end, size_t first, size_t last, uint64_t *pairs,
                     uint64_t *triples)
{
    uint64_t total = 0;
    size_t index;

    for (index = first; index < last; index++, pairs += 2, triples += WORDS) {
        uint64_t from = map->new_offsets[index], to = from + map->lengths[index], cut = from < start ? start - from : 0;

        from += cut;
        to = to > end ? end : to;
        pairs[0] = from - start;
        pairs[1] = to - from;
        triples[0] = from;
        triples[1] = to - from;
        triples[2] = map->old_offsets[index] + cut;
        total += to - from;
    }
    return total;
}

static int is_before(const uint64_t *a, const uint64_t *b)
{
    if (a[0] != b[0]) {
        return a[0] < b[0];
    }
    if (a[1] != b[1]) {
        return a[1] > b[1];
    }
    return a[2] < b[2];
}

static void put(uint64_t *to, const uint64_t *from)
{
    to[0] = from[0];
    to[1] = from[1];
    to[2] = from[2];
}

/* Sort triples of numbers: the first ascending, then the second descending, then the third ascending. Runs that are in order cost one
 * comparison: most maps nearly are. */
static void sort(uint64_t *entries, uint64_t *spare, size_t count)
{
    size_t width, low;

    for (width = 1; width < count; width *= 2) {
        for (low = 0; low + width < count; low += 2 * width) {
            size_t middle = low + width, high = count - middle < width ? count : middle + width, a = 0, b = middle, at = low;
            size_t kept = middle - low;

            if (!is_before(entries + WORDS * middle, entries + WORDS * (middle - 1))) {
                continue;
            }
            memcpy(spare, entries + WORDS * low, kept * WORDS * sizeof *spare);
            while (a < kept && b < high) {
                const uint64_t *next = is_before(entries + WORDS * b, spare + WORDS * a) ? entries + WORDS * b++ : spare + WORDS * a++;

                put(entries + WORDS * at++, next);
            }
            memcpy(entries + WORDS * at, spare + WORDS * a, (kept - a) * WORDS * sizeof *spare);
        }
    }
}

void ota_plan_moves(const uint64_t *triples, size_t count, uint64_t *moves, uint64_t *spare)
{
    uint64_t at = 0;
    size_t index;

    for (index = 0; index < count; index++) {
        moves[WORDS * index] = triples[WORDS * index + 2];
        moves[WORDS * index + 1] = triples[WORDS * index + 1];
        moves[WORDS * index + 2] = at;
        at += triples[WORDS * index + 1];
    }
    sort(moves, spare, count);
}

size_t ota_plan_reads(const uint64_t *moves, size_t count, uint64_t near, uint64_t room, uint64_t *reads)
{
    size_t index = 0, found = 0;

    while (index < count) {
        size_t first = index;
        uint64_t low = moves[WORDS * first], length = moves[WORDS * first + 1];

        for (index++; moves[WORDS * first + 1] <= room / 2 && index < count; index++) {
            uint64_t ahead = moves[WORDS * index] - low, to = ahead + moves[WORDS * index + 1];

            if ((ahead > length && ahead - length > near) || moves[WORDS * index + 1] > room / 2 || to < ahead || to > room) {
                break;
            }
            length = to > length ? to : length;
        }
        if (reads != NULL) {
            reads[READ_WORDS * found] = low;
            reads[READ_WORDS * found + 1] = length;
            reads[READ_WORDS * found + 2] = first;
            reads[READ_WORDS * found + 3] = index;
        }
        found++;
    }
    return found;
}

int ota_scatter(uint8_t *source, size_t source_bytes, const uint8_t *buffer, size_t buffer_bytes, uint64_t low,
                const uint64_t *moves, size_t count)
{
    size_t index;

    for (index = 0; index < count; index++, moves += WORDS) {
        uint64_t from = moves[0] - low, length = moves[1], to = moves[2];

        if (moves[0] < low || from > buffer_bytes || length > buffer_bytes - from || to > source_bytes || length > source_bytes - to) {
            return 0;
        }
        memcpy(source + to, buffer + from, (size_t)length);
    }
    return 1;
}

int ota_join(uint8_t *source, size_t source_bytes, const uint8_t *old, size_t old_bytes, const uint64_t *triples, size_t count)
{
    size_t index, at = 0;

    for (index = 0; index < count; index++, triples += WORDS) {
        uint64_t length = triples[1], from = triples[2];

        if (from > old_bytes || length > old_bytes - from || length > source_bytes - at) {
            return 0;
        }
        memcpy(source + at, old + from, (size_t)length);
        at += (size_t)length;
    }
    return 1;
}

size_t ota_address_map(const struct ota_map *map, uint64_t *entries, uint64_t *spare, uint64_t *starts, int64_t *shifts)
{
    uint64_t end = 0;
    size_t index, found = 0;

    for (index = 0; index < map->count; index++) {
        entries[WORDS * index] = map->old_offsets[index];
        entries[WORDS * index + 1] = map->lengths[index];
        entries[WORDS * index + 2] = map->new_offsets[index];
    }
    sort(entries, spare, map->count);
    for (index = 0; index < map->count; index++) {
        const uint64_t *entry = entries + WORDS * index;

        if (entry[0] + entry[1] > end) {
            starts[found] = entry[0] > end ? entry[0] : end;
            shifts[found++] = (int64_t)(entry[2] - entry[0]);
            end = entry[0] + entry[1];
        }
    }
    return found;
}
