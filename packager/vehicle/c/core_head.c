/* See core_head.h. Section numbers are those of FORMAT.md. */
#include "core_head.h"

#include "core_fields.h"
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
    CODERS = 4,
    CODER_RAW = 0,
    READS_OLD = 1 << OTA_COPY | 1 << OTA_DELTA_BLOCK | 1 << OTA_WINDOW | 1 << OTA_PREDICTED,
    SUPPORTED = 1 << OTA_RAW | 1 << OTA_FILL | 1 << OTA_COPY | 1 << OTA_COMPRESSED | 1 << OTA_DELTA_BLOCK, /* COMPRESSED needs a coder */
    MIN_BLOCK_LOG2 = 12,
    MAX_BLOCK_LOG2 = 22,
    MAX_HARDWARE_IDS = 16,
    SEGMENT_MEMORY_BYTES = 20,
    NUMBERED = 1,
    WINDOWED = 2,
    OUTPUT_HASHED = 4,
    SOURCE_HASHED = 8,
    ALL_LAYOUT = 15
};

/* Section 3: preamble and table. Leaves the cursor at the first section. */
static enum ota_error preamble(struct ota_fields *cursor, uint32_t *required, uint32_t *count, uint64_t *sections_bytes)
{
    const uint8_t *magic = ota_take(cursor, 4);
    uint32_t version, index, previous = 0;

    if (magic == NULL || magic[0] != 0x89 || magic[1] != 'O' || magic[2] != 'T' || magic[3] != 'A') {
        return OTA_PREAMBLE;
    }
    version = ota_take_number(cursor, 2);
    *count = ota_take_number(cursor, 2);
    if (cursor->broken) {
        return OTA_PREAMBLE;
    }
    if (version != 1) {
        return OTA_VERSION;
    }
    *required = ota_take_number(cursor, 4);
    (void)ota_take_number(cursor, 4); /* optional features, none of which is known */
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
        uint32_t id = ota_take_number(cursor, 1), flags = ota_take_number(cursor, 1);

        *sections_bytes += ota_take_number(cursor, 4);
        if (cursor->broken || id <= previous || (flags & ~(uint32_t)CRITICAL) != 0) {
            return OTA_PREAMBLE;
        }
        previous = id;
    }
    return OTA_OK;
}

enum ota_error ota_head_length(const uint8_t *data, size_t data_bytes, uint64_t *length_bytes)
{
    struct ota_fields cursor = {0};
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
    struct ota_fields cursor = {0};
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
        const uint8_t *content = ota_take(&cursor, length);

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
    struct ota_fields cursor = {0};
    uint32_t kind, block_log2, flags, window, coders, index, scratch, stated;
    const uint8_t *previous = NULL;
    uint8_t previous_bytes = 0;
    uint64_t memory;

    cursor.at = data;
    cursor.end = data + data_bytes;
    kind = ota_take_number(&cursor, 1);
    block_log2 = ota_take_number(&cursor, 1);
    flags = ota_take_number(&cursor, 1);
    window = ota_take_number(&cursor, 1);
    head->operations = (uint16_t)ota_take_number(&cursor, 2);
    coders = ota_take_number(&cursor, 2);
    if (cursor.broken) {
        return OTA_MANIFEST;
    }
    if (kind > 1 || flags > IN_PLACE || head->operations >> OPERATIONS || coders >> CODERS) {
        return OTA_UNKNOWN_MANIFEST;
    }
    manifest->is_delta = (int)kind;
    manifest->new_bytes = ota_take_bounded(&cursor, MAX_IMAGE_BYTES);
    manifest->new_sha256 = ota_take(&cursor, DIGEST);
    if (kind) {
        manifest->old_bytes = ota_take_bounded(&cursor, MAX_IMAGE_BYTES);
        manifest->old_sha256 = ota_take(&cursor, DIGEST);
    }
    head->longest_blob = (uint32_t)ota_take_bounded(&cursor, MAX_U32);
    head->longest_old_part = (uint32_t)ota_take_bounded(&cursor, MAX_U32);
    head->decoded_columns = (uint32_t)ota_take_bounded(&cursor, MAX_U32);
    head->segments = (uint32_t)ota_take_bounded(&cursor, MAX_SEGMENTS);
    scratch = (uint32_t)ota_take_bounded(&cursor, MAX_U32);
    manifest->release_counter = (uint32_t)ota_take_bounded(&cursor, MAX_U32);
    stated = ota_take_number(&cursor, 4);
    manifest->version = ota_take_name(&cursor, &manifest->version_bytes, 1);
    manifest->hardware_id_count = (uint8_t)ota_take_number(&cursor, 1);
    manifest->hardware_ids = cursor.at;
    for (index = 0; index < manifest->hardware_id_count; index++) {
        uint8_t length, at;
        const uint8_t *text = ota_take_name(&cursor, &length, 0);
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
        error = ota_segments_parse(head, sections->data[SEGMENTS], sections->bytes[SEGMENTS]);
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
