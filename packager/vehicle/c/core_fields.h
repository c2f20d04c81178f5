/* Bounded reading of the fields of FORMAT.md section 2, for core_head.c and core_segments.c. */
#ifndef OTA_CORE_FIELDS_H
#define OTA_CORE_FIELDS_H

#include <stddef.h>
#include <stdint.h>

/* Reads fields in order; the first one that does not fit makes it broken, and everything after reads as zero. */
struct ota_fields {
    const uint8_t *at, *end;
    int broken;
};

/* Return the next `count` bytes, or NULL. */
const uint8_t *ota_take(struct ota_fields *cursor, uint64_t count);

/* Read a little-endian number of `width` bytes, at most 4. */
uint32_t ota_take_number(struct ota_fields *cursor, unsigned int width);

/* Read a varint. */
uint64_t ota_take_varint(struct ota_fields *cursor);

/* Read a varint that must be at most `most`. */
uint64_t ota_take_bounded(struct ota_fields *cursor, uint64_t most);

/* Read a name; NULL for what is none. */
const uint8_t *ota_take_name(struct ota_fields *cursor, uint8_t *length, int may_be_empty);

#endif
