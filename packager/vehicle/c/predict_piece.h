/* A piece of an image that is being rewritten, and what all that rewrites it needs; part of predict.c, not for callers. */
#ifndef OTA_PREDICT_PIECE_H
#define OTA_PREDICT_PIECE_H

#include "predict.h"

enum { OTA_FEW_ENTRIES = 8, OTA_MAX_ROWS = 8 };

/* One piece that is being rewritten, and what the mode of the page at hand looks for in it. */
struct piece {
    const struct ota_predictors *predictors;
    enum ota_kind kind;
    uint8_t *bytes;
    size_t count;
    uint64_t at; /* address of bytes[0]: in the old image for OTA_LABEL_OLD, else in the new one */
    const struct ota_mode *mode;
    uint32_t wanted;           /* mask of the rows of its instruction set that are in its groups, */
    uint32_t masks[OTA_MAX_ROWS], wants[OTA_MAX_ROWS]; /* and what each asks for */
    int pointers;              /* whether it looks for words that are no instruction as well: */
    uint64_t below32, below64; /* for pointers of 4 and of 8 bytes to old offsets below these, */
    int values;                /* and for numbers that the value map knows */
};

static inline uint32_t load16(const uint8_t *from)
{
    return (uint32_t)from[0] | (uint32_t)from[1] << 8;
}

static inline uint32_t load32(const uint8_t *from)
{
    return load16(from) | load16(from + 2) << 16;
}

static inline void store16(uint8_t *to, uint32_t value)
{
    to[0] = (uint8_t)value;
    to[1] = (uint8_t)(value >> 8);
}

static inline void store32(uint8_t *to, uint32_t value)
{
    store16(to, value);
    store16(to + 2, value >> 16);
}

static inline uint64_t load64(const uint8_t *from)
{
    return (uint64_t)load32(from) | (uint64_t)load32(from + 4) << 32;
}

static inline uint64_t extend(uint64_t value, int bits)
{
    uint64_t sign = (uint64_t)1 << (bits - 1);

    return (value ^ sign) - sign;
}

/* Return the last of ascending numbers that is not above `limit`, or the first. Halving without a branch: which half is as good as
 * random, and a wrong guess of the processor costs more than the comparison. */
static inline size_t last_up_to(const uint64_t *numbers, size_t count, uint64_t limit)
{
    const uint64_t *first = numbers;

    while (count > 1) {
        size_t half = count / 2;

        first += (size_t)(0 - (uint64_t)(first[half] <= limit)) & half;
        count -= half;
    }
    return (size_t)(first - numbers);
}

/* Return the new offset of an old one; see ota_map. */
static inline uint64_t map_offset(const struct ota_predictors *predictors, uint64_t old_offset)
{
    const struct ota_lookup *lookup = predictors->lookup;
    const uint64_t *starts = predictors->starts;
    size_t first = 0, end = predictors->map_count;

    if (old_offset >= predictors->old_bytes || end == 0) {
        return old_offset;
    }
    if (lookup != NULL && lookup->has_parts) {
        const uint32_t *part = lookup->parts + (size_t)(old_offset >> lookup->shift);

        first = part[0] - (part[0] > 0); /* the last one before this part reaches into it */
        end = part[1];
    }
    if (end - first > 2) {
        first += last_up_to(starts + first, end - first, old_offset);
    } else { /* nearly always */
        size_t more = first + 1 < end;

        first += more & (size_t)(starts[first + more] <= old_offset);
    }
    return old_offset + (uint64_t)predictors->shifts[first];
}

/* Rewrite data from bytes[at] to bytes[end]: lists of cells in pages of a database, distances of 4 bytes from their own place, and records of one
 * length. Each returns where to go on. */
size_t ota_scan_cells(const struct piece *piece, size_t at, size_t end);
size_t ota_scan_distances(const struct piece *piece, size_t at, size_t end);
size_t ota_scan_records(const struct piece *piece, size_t at, size_t end);

#endif
