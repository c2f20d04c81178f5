/* Reading the head of a bundle: FORMAT.md sections 3 to 5 and 8, for readers with the coder RAW alone.
 *
 * Nothing is copied and nothing allocated: a parsed head is a view of the bytes. Callers pass bytes whose hash was compared with a signed
 * one; the parser bounds everything all the same. Integrators include core.h.
 */
#ifndef OTA_CORE_HEAD_H
#define OTA_CORE_HEAD_H

#include <stddef.h>
#include <stdint.h>

#define OTA_MIN_HEAD_BYTES ((uint32_t)48)
#define OTA_MAX_HEAD_BYTES ((uint32_t)1 << 24)

/* Why a bundle was refused. The upper bits are the class, see ota_error_class. Numbers are stable. */
enum ota_error {
    OTA_OK = 0,

    /* The bytes are not the signed ones, or break a rule of the format: fetch them again. */
    OTA_HEAD_HASH = 0x10,
    OTA_HEAD_OWN_HASH,
    OTA_PREAMBLE,
    OTA_SECTIONS,
    OTA_MANIFEST,
    OTA_MEMORY,
    OTA_INDEX,
    OTA_SEGMENTS,
    OTA_BLOB_HASH,
    OTA_OLD_PART_LENGTH,
    OTA_COLUMNS,
    OTA_DELTA,
    OTA_BLOCK_HASH,
    OTA_CUT_SHORT,
    OTA_TRAILING,
    OTA_IMAGE_HASH,

    /* For another reader, ECU or old image: another bundle is needed. */
    OTA_HEAD_LENGTH = 0x20,
    OTA_VERSION,
    OTA_FEATURE,
    OTA_UNKNOWN_SECTION,
    OTA_UNKNOWN_MANIFEST,
    OTA_UNKNOWN_LAYOUT,
    OTA_CODER,
    OTA_SLOT,
    OTA_BLOCK_SIZE,
    OTA_ARENA,
    OTA_OLD_IMAGE,
    OTA_NOT_ACCEPTED,

    /* A callback failed: try again later. */
    OTA_READ_OLD = 0x30,
    OTA_READ_NEW,
    OTA_WRITE_NEW,
    OTA_SYNC_NEW,
    OTA_HASHER,

    /* A mistake of the caller. */
    OTA_ARGUMENT = 0x40,
    OTA_GAP,
    OTA_ENDED
};

enum { OTA_RAW = 0, OTA_FILL = 1, OTA_COPY = 2, OTA_COMPRESSED = 3, OTA_DELTA_BLOCK = 4, OTA_WINDOW = 5, OTA_PREDICTED = 6 };

/* What an authentic manifest says. Pointers lead into the arena. Names are not terminated by a zero. */
struct ota_manifest {
    int is_delta;
    uint64_t new_bytes;
    const uint8_t *new_sha256;
    uint64_t old_bytes;        /* 0 in a full bundle */
    const uint8_t *old_sha256; /* NULL in a full bundle */
    uint32_t block_bytes;
    uint32_t blocks;
    uint32_t release_counter;
    const uint8_t *version;
    uint8_t version_bytes;     /* 0: none */
    const uint8_t *hardware_ids; /* one after the other: one byte of length, then the name */
    uint8_t hardware_id_count;
};

/* Limits of the ECU; zero means none. */
struct ota_limits {
    uint64_t slot_bytes;  /* longest image, old or new */
    uint32_t block_bytes; /* the one block size that it takes */
};

/* One record of the index. */
struct ota_record {
    uint8_t operation;
    uint32_t blob_bytes;
    const uint8_t *blob_sha256, *block_sha256, *old_sha256; /* old_sha256: NULL where implied */
};

/* A parsed head. */
struct ota_head {
    struct ota_manifest manifest;
    uint32_t longest_blob, longest_old_part, decoded_columns, segments;
    uint16_t operations;
    uint8_t layout, length_width, record_bytes, implied; /* implied: the whole old image is the only block's old part */
    const uint8_t *records;
    const uint8_t *gaps, *lengths, *diagonals, *segments_end;
    uint32_t length_bytes;
    uint64_t bundle_bytes;
};

/* Where a walk through the segment map is. The columns are decoded on the way, so that a map costs no memory. */
struct ota_walk {
    const uint8_t *gaps, *lengths, *diagonals;
    uint32_t left; /* segments not yet begun */
    uint64_t new_offset, old_offset, length_bytes; /* the segment at work; length 0 before the first */
    int64_t diagonal;
};

/* A segment's part within a block. */
struct ota_piece {
    uint64_t new_offset, old_offset;
    uint32_t length_bytes;
};

/* The sections of a head by id, 1 to 4; NULL where missing. */
struct ota_sections {
    const uint8_t *data[5];
    uint32_t bytes[5];
    uint32_t required_features;
};

/* Read preamble and section table; `length_bytes` becomes what the head's length must be. */
enum ota_error ota_head_length(const uint8_t *data, size_t data_bytes, uint64_t *length_bytes);

/* Split a head into its sections. The caller then compares its own hash: the last 32 bytes, over all before. */
enum ota_error ota_head_split(struct ota_sections *sections, const uint8_t *data, size_t data_bytes);

/* Parse the sections and check them against the limits of the ECU. */
enum ota_error ota_head_parse(struct ota_head *head, const struct ota_sections *sections, size_t head_bytes, const struct ota_limits *limits);

/* Check a whole segment map, so that later walks can trust it. `data` is NULL where the section is missing. */
enum ota_error ota_segments_parse(struct ota_head *head, const uint8_t *data, uint32_t data_bytes);

/* Bytes of arena that applying takes: head, longest blob, longest block, and the old image where it is hashed as a whole. */
uint64_t ota_head_arena_bytes(const struct ota_head *head);

/* Read the record at a position of the install order, below the number of blocks. */
void ota_head_record(const struct ota_head *head, uint32_t position, struct ota_record *record);

/* First byte and length of a block. */
uint64_t ota_block_start(const struct ota_head *head, uint32_t block);
uint32_t ota_block_length(const struct ota_head *head, uint32_t block);

/* Walk the map: each call gives the first piece at or after `from` and before `end`, and returns 1, or 0 if there is none. `from` grows. */
void ota_walk_begin(struct ota_walk *walk, const struct ota_head *head);
int ota_walk_next(struct ota_walk *walk, const struct ota_head *head, uint64_t from, uint64_t end, struct ota_piece *piece);

/* Read three raw columns that are the rest of a blob or section, of `most` bytes together. */
enum ota_error ota_read_columns(const uint8_t *data, size_t data_bytes, uint32_t most, const uint8_t *columns[3], size_t column_bytes[3]);

#endif
