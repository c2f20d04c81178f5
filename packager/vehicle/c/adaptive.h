/* Adaptive residuals of predicted blocks: FORMAT.md section 14, the compiled twin of _pure_adaptive.py.
 *
 * Freestanding C99: no allocation, no library. All input may be hostile; nothing outside the given ranges is read or written.
 */
#ifndef OTA_ADAPTIVE_H
#define OTA_ADAPTIVE_H

#include <stddef.h>
#include <stdint.h>

#include "predict.h"

enum { OTA_ADAPTIVE_SETS = 39, OTA_ADAPTIVE_INPUTS = 7, OTA_ADAPTIVE_LEAST_LOG2 = 12, OTA_ADAPTIVE_MOST_LOG2 = 16 };

/* What is learnt while a block is read or written. `slots` is the caller's, of 2 to the power of ota_adaptive_log2(). */
struct ota_adaptive {
    uint32_t *slots;
    uint32_t mask;
    int32_t weights[OTA_ADAPTIVE_SETS][OTA_ADAPTIVE_INPUTS];
    int16_t stretched[4096];
    uint32_t low, high, code;
    const uint8_t *read;
    size_t left;
    uint64_t wanted_beyond; /* bytes read behind the end, which are zeros */
    uint8_t *written;       /* NULL while reading */
    size_t room, count;
};

/* log2 of the number of slots for blocks of this length. */
int ota_adaptive_log2(uint64_t block_bytes);

/* Read a stream and change the units of a block that the pieces cover; see ota_add_units for the pieces. */
enum ota_unit_fault ota_adaptive_add(struct ota_adaptive *work, uint8_t *out, size_t out_bytes, const uint64_t *pieces,
                                     size_t piece_count, const uint8_t *stream, size_t stream_bytes);

/* Write the stream that turns `made` into `wanted`, and do so. Returns its length, or `room` + 1 if it is longer than `room` bytes. */
size_t ota_adaptive_write(struct ota_adaptive *work, uint8_t *made, const uint8_t *wanted, size_t out_bytes, const uint64_t *pieces,
                          size_t piece_count, uint8_t *stream, size_t room);

#endif
