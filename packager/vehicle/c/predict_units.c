/* Adds corrections to the units of a block; see predict.h. */
#include "delta.h"
#include "predict.h"

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
