/* See core_head.h. Section numbers are those of FORMAT.md. */
#include "core_head.h"

#include "delta.h"
#include "sha256.h"

/* Freestanding compilers ask for these but have no <string.h>. */
void *memset(void *to, int value, size_t count);

#define MAX_IMAGE_BYTES ((uint64_t)1 << 40)
#define MAX_WHOLE_OLD_BYTES ((uint32_t)1 << 22)
#define MAX_SEGMENTS ((uint32_t)1 << 22)
#define MAX_U32 ((uint32_t)0xFFFFFFFF)

enum {
    DIGEST = OTA_SHA256_BYTES,
    PREAMBLE_BYTES = 16,
    SECTION_ENTRY_BYTES = 6,
    MAX_SECTIONS = 16,
    KNOWN_SECTIONS = 4,
    CRITICAL = 1,
    MANIFEST = 1,
    INDEX = 2,
    SEGMENTS = 3,
    PREDICTORS = 4,
    IN_PLACE = 1,
    OPERATIONS = 7,
    CODERS = 3,
    CODER_RAW = 0,
    READS_OLD = 1 << OTA_COPY | 1 << OTA_DELTA_BLOCK | 1 << OTA_WINDOW | 1 << OTA_PREDICTED,
    SUPPORTED = 1 << OTA_RAW | 1 << OTA_FILL | 1 << OTA_COPY | 1 << OTA_COMPRESSED | 1 << OTA_DELTA_BLOCK, /* COMPRESSED needs a coder */
    MIN_BLOCK_LOG2 = 12,
    MAX_BLOCK_LOG2 = 22,
    MAX_HARDWARE_IDS = 16,
    MAX_NAME_BYTES = 64,
    SEGMENT_MEMORY_BYTES = 20,
    NUMBERED = 1,
    WINDOWED = 2,
    OUTPUT_HASHED = 4,
    SOURCE_HASHED = 8,
    ALL_LAYOUT = 15,
    COLUMNS = 3
};

/* Reads fields in order; the first one that does not fit makes it broken, and everything after reads as zero. */
struct cursor {
    const uint8_t *at, *end;
    int broken;
};

static const uint8_t *take(struct cursor *cursor, uint64_t count)
{
    const uint8_t *taken = cursor->at;

    if (cursor->broken || count > (uint64_t)(cursor->end - cursor->at)) {
        cursor->broken = 1;
        return NULL;
    }
    cursor->at += (size_t)count;
    return taken;
}

static uint32_t number(struct cursor *cursor, unsigned int width)
{
    const uint8_t *bytes = take(cursor, width);
    uint32_t value = 0;
    unsigned int index;

    for (index = 0; bytes != NULL && index < width; index++) {
        value |= (uint32_t)bytes[index] << (8 * index);
    }
    return value;
}

static uint64_t varint(struct cursor *cursor)
{
    uint64_t value = 0;
    size_t length = cursor->broken ? 0 : ota_varint(cursor->at, (size_t)(cursor->end - cursor->at), &value);

    if (length == 0) {
        cursor->broken = 1;
        return 0;
    }
    cursor->at += length;
    return value;
}

/* Read a varint that must be at most `most`. */
static uint64_t bounded(struct cursor *cursor, uint64_t most)
{
    uint64_t value = varint(cursor);

    if (value > most) {
        cursor->broken = 1;
        return 0;
    }
    return value;
}

static int is_alphanumeric(uint8_t byte)
{
    return (byte >= '0' && byte <= '9') || (byte >= 'A' && byte <= 'Z') || (byte >= 'a' && byte <= 'z');
}

static const uint8_t *name(struct cursor *cursor, uint8_t *length, int may_be_empty)
{
    const uint8_t *text;
    unsigned int index;

    *length = (uint8_t)number(cursor, 1);
    text = take(cursor, *length);
    if (text == NULL || *length > MAX_NAME_BYTES || (*length == 0 && !may_be_empty)) {
        cursor->broken = 1;
        *length = 0;
        return NULL;
    }
    for (index = 0; index < *length; index++) {
        uint8_t byte = text[index];
        int mark = byte == '.' || byte == '_' || byte == '+' || byte == '~' || byte == '-';

        if (!is_alphanumeric(byte) && !(mark && index > 0)) {
            cursor->broken = 1;
        }
    }
    return text;
}

/* Section 3: preamble and table. Leaves the cursor at the first section. */
static enum ota_error preamble(struct cursor *cursor, uint32_t *required, uint32_t *count, uint64_t *sections_bytes)
{
    const uint8_t *magic = take(cursor, 4);
    uint32_t version, index, previous = 0;

    if (magic == NULL || magic[0] != 0x89 || magic[1] != 'O' || magic[2] != 'T' || magic[3] != 'A') {
        return OTA_PREAMBLE;
    }
    version = number(cursor, 2);
    *count = number(cursor, 2);
    if (cursor->broken) {
        return OTA_PREAMBLE;
    }
    if (version != 1) {
        return OTA_VERSION;
    }
    *required = number(cursor, 4);
    (void)number(cursor, 4); /* optional features, none of which is known */
    if (cursor->broken) {
        return OTA_PREAMBLE;
    }
    if (*required != 0) {
        return OTA_FEATURE;
    }
    if (*count < 1 || *count > MAX_SECTIONS) {
        return OTA_PREAMBLE;
    }
    *sections_bytes = 0;
    for (index = 0; index < *count; index++) {
        uint32_t id = number(cursor, 1), flags = number(cursor, 1);

        *sections_bytes += number(cursor, 4);
        if (cursor->broken || id <= previous || (flags & ~(uint32_t)CRITICAL) != 0) {
            return OTA_PREAMBLE;
        }
        previous = id;
    }
    return OTA_OK;
}

enum ota_error ota_head_length(const uint8_t *data, size_t data_bytes, uint64_t *length_bytes)
{
    struct cursor cursor = {0};
    uint32_t required, count;
    enum ota_error error;

    cursor.at = data;
    cursor.end = data + data_bytes;
    error = preamble(&cursor, &required, &count, length_bytes);
    *length_bytes += (uint64_t)PREAMBLE_BYTES + SECTION_ENTRY_BYTES * count + DIGEST;
    if (error == OTA_OK && *length_bytes > OTA_MAX_HEAD_BYTES) {
        return OTA_PREAMBLE;
    }
    return error;
}

enum ota_error ota_head_split(struct ota_sections *sections, const uint8_t *data, size_t data_bytes)
{
    struct cursor cursor = {0};
    uint32_t count, index;
    uint64_t sections_bytes;
    enum ota_error error;

    memset(sections, 0, sizeof *sections);
    if (data_bytes < OTA_MIN_HEAD_BYTES) {
        return OTA_PREAMBLE;
    }
    cursor.at = data;
    cursor.end = data + (data_bytes - DIGEST);
    error = preamble(&cursor, &sections->required_features, &count, &sections_bytes);
    if (error != OTA_OK) {
        return error;
    }
    for (index = 0; index < count; index++) {
        const uint8_t *entry = data + PREAMBLE_BYTES + (size_t)SECTION_ENTRY_BYTES * index;
        uint32_t length = (uint32_t)entry[2] | (uint32_t)entry[3] << 8 | (uint32_t)entry[4] << 16 | (uint32_t)entry[5] << 24;
        const uint8_t *content = take(&cursor, length);

        if (content == NULL || (entry[0] <= KNOWN_SECTIONS && !(entry[1] & CRITICAL))) {
            return OTA_SECTIONS;
        }
        if (entry[0] <= KNOWN_SECTIONS) {
            sections->data[entry[0]] = content;
            sections->bytes[entry[0]] = length;
        } else if (entry[1] & CRITICAL) {
            return OTA_UNKNOWN_SECTION;
        }
    }
    return cursor.at == cursor.end ? OTA_OK : OTA_SECTIONS;
}

static uint32_t longest_block(const struct ota_manifest *manifest)
{
    return manifest->new_bytes < manifest->block_bytes ? (uint32_t)manifest->new_bytes : manifest->block_bytes;
}

/* Section 4. What the fields say of each other, the limits of the ECU, then what this reader can do: in the order of the text. */
static enum ota_error parse_manifest(struct ota_head *head, const uint8_t *data, uint32_t data_bytes, const struct ota_limits *limits)
{
    struct ota_manifest *manifest = &head->manifest;
    struct cursor cursor = {0};
    uint32_t kind, block_log2, flags, window, coders, index, scratch, stated;
    const uint8_t *previous = NULL;
    uint8_t previous_bytes = 0;
    uint64_t memory;

    cursor.at = data;
    cursor.end = data + data_bytes;
    kind = number(&cursor, 1);
    block_log2 = number(&cursor, 1);
    flags = number(&cursor, 1);
    window = number(&cursor, 1);
    head->operations = (uint16_t)number(&cursor, 2);
    coders = number(&cursor, 2);
    if (cursor.broken) {
        return OTA_MANIFEST;
    }
    if (kind > 1 || flags > IN_PLACE || head->operations >> OPERATIONS || coders >> CODERS) {
        return OTA_UNKNOWN_MANIFEST;
    }
    manifest->is_delta = (int)kind;
    manifest->new_bytes = bounded(&cursor, MAX_IMAGE_BYTES);
    manifest->new_sha256 = take(&cursor, DIGEST);
    if (kind) {
        manifest->old_bytes = bounded(&cursor, MAX_IMAGE_BYTES);
        manifest->old_sha256 = take(&cursor, DIGEST);
    }
    head->longest_blob = (uint32_t)bounded(&cursor, MAX_U32);
    head->longest_old_part = (uint32_t)bounded(&cursor, MAX_U32);
    head->decoded_columns = (uint32_t)bounded(&cursor, MAX_U32);
    head->segments = (uint32_t)bounded(&cursor, MAX_SEGMENTS);
    scratch = (uint32_t)bounded(&cursor, MAX_U32);
    manifest->release_counter = (uint32_t)bounded(&cursor, MAX_U32);
    stated = number(&cursor, 4);
    manifest->version = name(&cursor, &manifest->version_bytes, 1);
    manifest->hardware_id_count = (uint8_t)number(&cursor, 1);
    manifest->hardware_ids = cursor.at;
    for (index = 0; index < manifest->hardware_id_count; index++) {
        uint8_t length, at;
        const uint8_t *text = name(&cursor, &length, 0);
        int ascends = previous == NULL;

        for (at = 0; text != NULL && !ascends && at < length; at++) {
            ascends = at >= previous_bytes || text[at] > previous[at];
            if (!ascends && text[at] < previous[at]) {
                break;
            }
        }
        if (!ascends) {
            cursor.broken = 1;
        }
        previous = text;
        previous_bytes = length;
    }
    if (cursor.broken || cursor.at != cursor.end || manifest->hardware_id_count > MAX_HARDWARE_IDS || block_log2 < MIN_BLOCK_LOG2
        || block_log2 > MAX_BLOCK_LOG2 || manifest->new_bytes == 0 || (kind && manifest->old_bytes == 0)
        || (!kind && ((head->operations & READS_OLD) || head->segments || head->longest_old_part || flags))
        || !(coders & 1 << CODER_RAW) || (scratch && !flags)) {
        return OTA_MANIFEST;
    }
    if (coders != 1 << CODER_RAW) {
        return OTA_CODER;
    }
    if (window != 0) {
        return OTA_MANIFEST;
    }
    manifest->block_bytes = (uint32_t)1 << block_log2;
    manifest->blocks = (uint32_t)((manifest->new_bytes + manifest->block_bytes - 1) >> block_log2);
    memory = (uint64_t)head->length_bytes + (uint64_t)SEGMENT_MEMORY_BYTES * head->segments + head->longest_blob
             + head->decoded_columns + head->longest_old_part + longest_block(manifest);
    if (memory != stated) {
        return OTA_MEMORY;
    }
    if (limits->slot_bytes && (manifest->new_bytes > limits->slot_bytes || manifest->old_bytes > limits->slot_bytes)) {
        return OTA_SLOT;
    }
    if (limits->block_bytes && manifest->block_bytes != limits->block_bytes) {
        return OTA_BLOCK_SIZE;
    }
    /* The preamble asked for no feature, so that the manifest may need none. */
    return flags || (head->operations & ~SUPPORTED) ? OTA_MANIFEST : OTA_OK;
}

static enum ota_error check_record(const struct ota_head *head, uint32_t position, uint8_t coder)
{
    struct ota_record record;
    uint32_t exact;
    unsigned int index;
    uint8_t any = 0;

    ota_head_record(head, position, &record);
    exact = record.operation == OTA_RAW ? ota_block_length(head, position) : record.operation == OTA_FILL;
    if (record.operation >= OPERATIONS || !(head->operations >> record.operation & 1) || coder != CODER_RAW
        || record.operation == OTA_COMPRESSED || record.blob_bytes > head->longest_blob
        || (record.operation != OTA_DELTA_BLOCK && record.blob_bytes != exact)) {
        return OTA_INDEX;
    }
    if (head->layout & SOURCE_HASHED) {
        for (index = 0; index < DIGEST; index++) {
            any |= record.old_sha256[index];
        }
        if ((any != 0) != (record.operation == OTA_COPY || record.operation == OTA_DELTA_BLOCK)) {
            return OTA_INDEX;
        }
    }
    return OTA_OK;
}

/* Section 5. */
static enum ota_error parse_index(struct ota_head *head, const uint8_t *data, uint32_t data_bytes)
{
    const struct ota_manifest *manifest = &head->manifest;
    int reads_old = (head->operations & READS_OLD) != 0;
    uint32_t position, longest = 0;
    uint8_t width = 1;
    uint16_t operations = 0;

    if (data_bytes < 2) {
        return OTA_INDEX;
    }
    head->layout = data[0];
    head->length_width = data[1];
    if (head->layout & ~ALL_LAYOUT) {
        return OTA_UNKNOWN_LAYOUT;
    }
    while (width < 4 && head->longest_blob >> (8 * width)) {
        width++;
    }
    head->implied = (uint8_t)(reads_old && !(head->layout & SOURCE_HASHED));
    if (head->length_width != width || (head->layout & (NUMBERED | WINDOWED))
        || ((head->layout & OUTPUT_HASHED) != 0) != (manifest->blocks > 1) || ((head->layout & SOURCE_HASHED) && !reads_old)
        || (head->implied
            && (manifest->blocks > 1 || manifest->old_bytes > MAX_WHOLE_OLD_BYTES || head->longest_old_part < manifest->old_bytes))) {
        return OTA_INDEX;
    }
    head->record_bytes = (uint8_t)(2 + width + DIGEST + (head->layout & OUTPUT_HASHED ? DIGEST : 0)
                                   + (head->layout & SOURCE_HASHED ? DIGEST : 0));
    if (data_bytes - 2 != (uint64_t)manifest->blocks * head->record_bytes) {
        return OTA_INDEX;
    }
    head->records = data + 2;
    head->bundle_bytes = head->length_bytes;
    for (position = 0; position < manifest->blocks; position++) {
        struct ota_record record;
        enum ota_error error = check_record(head, position, head->records[(size_t)position * head->record_bytes + 1]);

        if (error != OTA_OK) {
            return error;
        }
        ota_head_record(head, position, &record);
        head->bundle_bytes += record.blob_bytes;
        longest = record.blob_bytes > longest ? record.blob_bytes : longest;
        operations |= (uint16_t)(1 << record.operation);
    }
    return longest == head->longest_blob && operations == head->operations ? OTA_OK : OTA_INDEX;
}

enum ota_error ota_read_columns(const uint8_t *data, size_t data_bytes, uint32_t most, const uint8_t *columns[3], size_t column_bytes[3])
{
    struct cursor cursor = {0};
    int index;

    cursor.at = data;
    cursor.end = data + data_bytes;
    for (index = 0; index < COLUMNS; index++) {
        uint64_t tag = varint(&cursor), length = tag >> 2;

        columns[index] = length <= most && (tag & 3) == CODER_RAW ? take(&cursor, length) : NULL;
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
    struct cursor gaps = {0}, lengths = {0}, diagonals = {0};
    uint64_t zigzag, length;

    gaps.at = walk->gaps;
    gaps.end = head->lengths; /* a tag lies between the columns; whether it was taken for a number shows at the end of the map */
    lengths.at = walk->lengths;
    lengths.end = head->diagonals;
    diagonals.at = walk->diagonals;
    diagonals.end = head->segments_end;
    walk->new_offset += walk->length_bytes;
    walk->new_offset += varint(&gaps);
    length = varint(&lengths);
    zigzag = varint(&diagonals);
    if (gaps.broken || lengths.broken || diagonals.broken) {
        return 0;
    }
    walk->diagonal += zigzag & 1 ? -(int64_t)(zigzag >> 1) - 1 : (int64_t)(zigzag >> 1);
    if (length < 1 || length > MAX_U32 || walk->new_offset + length > head->manifest.new_bytes) {
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

/* Section 8, segment map. Checked as a whole before the first block, so that later walks can trust it. */
static enum ota_error parse_segments(struct ota_head *head, const uint8_t *data, uint32_t data_bytes)
{
    struct cursor cursor = {0};
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
    if (varint(&cursor) != head->segments || cursor.broken
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

enum ota_error ota_head_parse(struct ota_head *head, const struct ota_sections *sections, size_t head_bytes, const struct ota_limits *limits)
{
    enum ota_error error;

    memset(head, 0, sizeof *head);
    head->length_bytes = (uint32_t)head_bytes;
    if (sections->data[MANIFEST] == NULL || sections->data[INDEX] == NULL) {
        return OTA_SECTIONS;
    }
    error = parse_manifest(head, sections->data[MANIFEST], sections->bytes[MANIFEST], limits);
    if (error == OTA_OK) {
        error = parse_index(head, sections->data[INDEX], sections->bytes[INDEX]);
    }
    if (error == OTA_OK) {
        error = parse_segments(head, sections->data[SEGMENTS], sections->bytes[SEGMENTS]);
    }
    if (error == OTA_OK && sections->bytes[PREDICTORS] > 0) {
        error = OTA_SECTIONS;
    }
    return error;
}

uint64_t ota_head_arena_bytes(const struct ota_head *head)
{
    return (uint64_t)head->length_bytes + head->longest_blob + longest_block(&head->manifest)
           + (head->implied ? head->manifest.old_bytes : 0);
}

void ota_head_record(const struct ota_head *head, uint32_t position, struct ota_record *record)
{
    const uint8_t *at = head->records + (size_t)position * head->record_bytes;
    unsigned int index;

    record->operation = at[0];
    record->blob_bytes = 0;
    for (index = 0; index < head->length_width; index++) {
        record->blob_bytes |= (uint32_t)at[2 + index] << (8 * index);
    }
    at += 2 + head->length_width;
    record->blob_sha256 = at;
    at += DIGEST;
    record->block_sha256 = head->manifest.new_sha256;
    if (head->layout & OUTPUT_HASHED) {
        record->block_sha256 = at;
        at += DIGEST;
    }
    record->old_sha256 = head->layout & SOURCE_HASHED ? at : NULL;
}

uint64_t ota_block_start(const struct ota_head *head, uint32_t block)
{
    return (uint64_t)block * head->manifest.block_bytes;
}

uint32_t ota_block_length(const struct ota_head *head, uint32_t block)
{
    uint64_t left = head->manifest.new_bytes - ota_block_start(head, block);

    return left < head->manifest.block_bytes ? (uint32_t)left : head->manifest.block_bytes;
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
