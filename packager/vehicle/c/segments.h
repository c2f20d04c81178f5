/* The segment map in arrays: reading its columns, cutting it to a block, planning reads of the old image, turning it around.
 *
 * FORMAT.md sections 8 and 13; the compiled twin of _pure_segments.py. Freestanding C99: no allocation, no library beyond memcpy. All
 * input may be hostile; nothing outside the given ranges is read or written. (core_segments.c walks the columns without arrays, for
 * devices without the memory.)
 */
#ifndef OTA_SEGMENTS_H
#define OTA_SEGMENTS_H

#include <stddef.h>
#include <stdint.h>

/* Longest image for which the sums below hold. */
#define OTA_MAX_IMAGE_BYTES ((uint64_t)1 << 61)

enum ota_map_fault {
    OTA_MAP_OK,
    OTA_MAP_VARINT,    /* a varint is cut short, longer than nine bytes or not in its shortest form */
    OTA_MAP_LENGTH,    /* a segment is empty or longer than 2**32 - 1 bytes */
    OTA_MAP_NEW,       /* it ends behind the new image */
    OTA_MAP_OLD,       /* it leaves the old image */
    OTA_MAP_LEFT_OVER  /* bytes of a column are left over */
};

/* Three columns, one entry a segment: ascending new offsets without overlap. */
struct ota_map {
    const uint64_t *new_offsets, *old_offsets;
    const uint32_t *lengths;
    size_t count;
};

struct ota_column {
    const uint8_t *at, *end;
};

/* Where reading stopped, for messages. */
struct ota_stop {
    size_t segment;
    uint64_t new_offset, length_bytes;
    int64_t old_offset;
};

/* Read `count` segments. columns: gaps, lengths, changes of diagonal. Both images at most OTA_MAX_IMAGE_BYTES long. */
enum ota_map_fault ota_map_read(struct ota_column columns[3], size_t count, uint64_t old_bytes, uint64_t new_bytes,
                                uint64_t *new_offsets, uint64_t *old_offsets, uint32_t *lengths, struct ota_stop *stop);

/* Read the value map: `count` varints of each column (gaps, changes). Where it stops, *at is which number, *value its last value. */
enum ota_map_fault ota_values_read(struct ota_column columns[2], size_t count, uint32_t *old_values, uint32_t *new_values, size_t *at,
                                   uint64_t *value);

/* Find the segments that have new bytes of `start` to `end`: from *first, before *last. */
void ota_map_find(const struct ota_map *map, uint64_t start, uint64_t end, size_t *first, size_t *last);

/* Cut what ota_map_find found at both ends. pairs: offset in the block, length; triples: new offset, length, old offset, of each
 * piece. Returns the length of all. */
uint64_t ota_map_cut(const struct ota_map *map, uint64_t start, uint64_t end, size_t first, size_t last, uint64_t *pairs,
                     uint64_t *triples);

/* List what goes where, by ascending old offset. moves: old offset, length, offset in the source (where the pieces stand one after the
 * other), of each piece; spare: as long. */
void ota_plan_moves(const uint64_t *triples, size_t count, uint64_t *moves, uint64_t *spare);

/* Join moves to reads: a move goes with those before if at most `near` bytes lie between and the read stays within `room` bytes; one
 * that is longer than half of `room` is read alone. reads, NULL to count only: old offset, length, first move, move behind the last. */
size_t ota_plan_reads(const uint64_t *moves, size_t count, uint64_t near, uint64_t room, uint64_t *reads);

/* Do moves out of a buffer that holds old bytes from `low` on. Returns 0, having stopped, if one leaves the source or the buffer. */
int ota_scatter(uint8_t *source, size_t source_bytes, const uint8_t *buffer, size_t buffer_bytes, uint64_t low,
                const uint64_t *moves, size_t count);

/* Copy pieces, one after the other, out of the whole old image. Returns 0, having stopped, if one leaves the source or the image. */
int ota_join(uint8_t *source, size_t source_bytes, const uint8_t *old, size_t old_bytes, const uint64_t *triples, size_t count);

/* Turn the map around. entries, spare: room for three numbers a segment each; starts, shifts: one a segment.
 * Returns how many starts there are. */
size_t ota_address_map(const struct ota_map *map, uint64_t *entries, uint64_t *spare, uint64_t *starts, int64_t *shifts);

#endif
