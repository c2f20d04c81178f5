/* The segment map and raw columns: FORMAT.md section 8. See core_head.h. */
#include "core_fields.h"
#include "core_head.h"

/* Freestanding compilers ask for these but have no <string.h>. */
void *memset(void *to, int value, size_t count);

#define MAX_SEGMENT_BYTES ((uint32_t)0xFFFFFFFF)

enum { CODER_RAW = 0, COLUMNS = 3 };

enum ota_error ota_read_columns(const uint8_t *data, size_t data_bytes, uint32_t most, const uint8_t *columns[3], size_t column_bytes[3])
{
    struct ota_fields cursor = {0};
    int index;

    cursor.at = data;
    cursor.end = data + data_bytes;
    for (index = 0; index < COLUMNS; index++) {
        uint64_t tag = ota_take_varint(&cursor), length = tag >> 2;

        columns[index] = length <= most && (tag & 3) == CODER_RAW ? ota_take(&cursor, length) : NULL;
        if (columns[index] == NULL) {
            return OTA_COLUMNS;
        }
        column_bytes[index] = (size_t)length;
        most -= (uint32_t)length;
    }
    return cursor.at == cursor.end ? OTA_OK : OTA_COLUMNS;
}

/* Begin the next segment. Returns 0 if it breaks a rule, which only the first walk finds. */
static int next_segment(struct ota_walk *walk, const struct ota_head *head)
{
    struct ota_fields gaps = {0}, lengths = {0}, diagonals = {0};
    uint64_t zigzag, length;

    gaps.at = walk->gaps;
    gaps.end = head->lengths; /* a tag lies between the columns; whether it was taken for a number shows at the end of the map */
    lengths.at = walk->lengths;
    lengths.end = head->diagonals;
    diagonals.at = walk->diagonals;
    diagonals.end = head->segments_end;
    walk->new_offset += walk->length_bytes;
    walk->new_offset += ota_take_varint(&gaps);
    length = ota_take_varint(&lengths);
    zigzag = ota_take_varint(&diagonals);
    if (gaps.broken || lengths.broken || diagonals.broken) {
        return 0;
    }
    walk->diagonal += zigzag & 1 ? -(int64_t)(zigzag >> 1) - 1 : (int64_t)(zigzag >> 1);
    if (length < 1 || length > MAX_SEGMENT_BYTES || walk->new_offset + length > head->manifest.new_bytes) {
        return 0;
    }
    /* The new offset is within the image and the diagonal below 2^40 + 2^62, so that the sums hold. */
    if (walk->diagonal < -(int64_t)walk->new_offset
        || walk->diagonal > (int64_t)head->manifest.old_bytes - (int64_t)(walk->new_offset + length)) {
        return 0;
    }
    walk->old_offset = (uint64_t)((int64_t)walk->new_offset + walk->diagonal);
    walk->length_bytes = length;
    walk->gaps = gaps.at;
    walk->lengths = lengths.at;
    walk->diagonals = diagonals.at;
    walk->left--;
    return 1;
}

enum ota_error ota_segments_parse(struct ota_head *head, const uint8_t *data, uint32_t data_bytes)
{
    struct ota_fields cursor = {0};
    const uint8_t *columns[COLUMNS];
    size_t column_bytes[COLUMNS];
    struct ota_walk walk;

    if ((data == NULL) != (head->segments == 0)) {
        return OTA_SECTIONS;
    }
    if (data == NULL) {
        return OTA_OK;
    }
    cursor.at = data;
    cursor.end = data + data_bytes;
    if (ota_take_varint(&cursor) != head->segments || cursor.broken
        || ota_read_columns(cursor.at, (size_t)(cursor.end - cursor.at), head->decoded_columns, columns, column_bytes) != OTA_OK) {
        return OTA_SEGMENTS;
    }
    head->gaps = columns[0];
    head->lengths = columns[1];
    head->diagonals = columns[2];
    head->segments_end = cursor.end;
    ota_walk_begin(&walk, head);
    while (walk.left > 0) {
        if (!next_segment(&walk, head)) {
            return OTA_SEGMENTS;
        }
    }
    return walk.gaps == columns[0] + column_bytes[0] && walk.lengths == columns[1] + column_bytes[1] && walk.diagonals == cursor.end
               ? OTA_OK
               : OTA_SEGMENTS;
}

void ota_walk_begin(struct ota_walk *walk, const struct ota_head *head)
{
    memset(walk, 0, sizeof *walk);
    walk->gaps = head->gaps;
    walk->lengths = head->lengths;
    walk->diagonals = head->diagonals;
    walk->left = head->segments;
}

int ota_walk_next(struct ota_walk *walk, const struct ota_head *head, uint64_t from, uint64_t end, struct ota_piece *piece)
{
    uint64_t last;

    while (walk->new_offset + walk->length_bytes <= from) {
        if (walk->left == 0 || !next_segment(walk, head)) {
            return 0;
        }
    }
    if (from >= end || walk->new_offset >= end) {
        return 0;
    }
    piece->new_offset = walk->new_offset > from ? walk->new_offset : from;
    last = walk->new_offset + walk->length_bytes < end ? walk->new_offset + walk->length_bytes : end;
    piece->old_offset = walk->old_offset + (piece->new_offset - walk->new_offset);
    piece->length_bytes = (uint32_t)(last - piece->new_offset);
    return 1;
}
