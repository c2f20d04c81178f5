/* Predicted blocks: FORMAT.md section 13, the compiled twin of _pure_predict.py.
 *
 * Freestanding C99: no allocation, no library. All input may be hostile; nothing outside the given ranges is
 * read or written.
 */
#ifndef OTA_PREDICT_H
#define OTA_PREDICT_H

#include <stddef.h>
#include <stdint.h>

enum { OTA_PAGE_LOG2 = 12, OTA_PAGE_BYTES = 1 << OTA_PAGE_LOG2, OTA_MAX_SLICES = 8, OTA_MAX_LABELS = 4, OTA_LOOK_AHEAD = 16, OTA_PAIR_LOOK_AHEAD = 4,
       OTA_MAX_RECORD_BYTES = 255 };

enum ota_set { OTA_NONE, OTA_THUMB2, OTA_ARM32, OTA_AARCH64, OTA_RISCV, OTA_X86, OTA_BTREE, OTA_DISTANCES, OTA_RECORDS, OTA_SETS };

enum {
    OTA_CALLS = 1,
    OTA_CONDITIONAL = 2,
    OTA_PAIRS = 4,
    OTA_SHORT = 8,
    OTA_ABSOLUTE32 = 16,
    OTA_ABSOLUTE64 = 32,
    OTA_LITERALS = 64,
    OTA_VALUES = 128,
    OTA_IN_WORDS = OTA_ABSOLUTE32 | OTA_ABSOLUTE64 | OTA_VALUES /* what is looked for in words of the old image that are no instruction */
};

enum ota_form { OTA_RELATIVE, OTA_SIGN_INVERTED, OTA_PAGE, OTA_PAIR };

enum ota_kind {
    OTA_LABEL,     /* new image: relative fields become targets */
    OTA_UNLABEL,   /* the inverse */
    OTA_LABEL_OLD  /* old image: fields become the targets that they will have in the new image */
};

/* Some bits of an instruction, and by how much it must be rotated to the left so that they are those of the field. */
struct ota_slice {
    uint32_t bits;
    uint8_t rotation;
};

struct ota_instruction {
    uint32_t mask, value, fields; /* fields: the bits of all slices, which are those of all labels */
    uint8_t width, group, form, scale, bias, align, is_signed, bits, slice_count, label_count;
    struct ota_slice slices[OTA_MAX_SLICES], labels[OTA_MAX_LABELS];
};

struct ota_prefix {
    uint32_t mask, value;
    uint8_t length, group;
};

/* What is predicted in a page. */
struct ota_mode {
    uint8_t set, groups;
    uint64_t base; /* address of the image's first byte, for absolute pointers; the least distance; the length of a record */
};

/* Memory in which OTA_LABEL_OLD notes where in the address map and in the value map to look; without it searches both by halving, which takes
 * many times as long. Filled when it is first needed; to be emptied (has_parts, has_slots) for other predictors. */
struct ota_lookup {
    uint32_t *parts; /* (1 << parts_log2) + 1 numbers; the faster, the more there are, up to four for each entry of the address map */
    uint32_t *slots; /* 1 << slots_log2 numbers, 1 to 32 as log2; the same, up to four for each entry of the value map */
    int parts_log2, slots_log2, shift, has_parts, has_slots;
};

/* Section 4 of a head, and the address map that follows from its section 3. */
struct ota_predictors {
    const struct ota_mode *modes;
    size_t mode_count;
    const uint8_t *pages; /* mode of each page of the new image; every one is below mode_count */
    size_t page_count;
    const uint64_t *starts; /* old offsets, ascending */
    const int64_t *shifts;  /* what is added to an old offset from that start on */
    size_t map_count;
    const uint32_t *old_values; /* value map: numbers of the old image, ascending, */
    const uint32_t *new_values; /* and what they become */
    size_t value_count;
    uint64_t old_bytes, new_bytes;
    struct ota_lookup *lookup; /* or NULL */
};

/* Rewrite the fields of `count` bytes.
 *
 * new_at: where the bytes stand, or will stand, in the new image. old_at: where they stand in the old one (OTA_LABEL_OLD only).
 */
void ota_label(const struct ota_predictors *predictors, enum ota_kind kind, uint8_t *bytes, size_t count, uint64_t new_at,
               uint64_t old_at);

/* Rewrite the old bytes of `count` pieces, which stand one after the other (OTA_LABEL_OLD).
 *
 * triples: offset in the new image, length and offset in the old image of each.
 * Returns how many were rewritten: fewer, if one does not fit into what is left of the source.
 */
size_t ota_label_source(const struct ota_predictors *predictors, uint8_t *source, size_t source_bytes, const uint64_t *triples, size_t count);

/* Return the new offset of an old one: the last segment that starts at or before it decides; outside the image nothing changes. */
uint64_t ota_map(const struct ota_predictors *predictors, uint64_t old_offset);

enum ota_unit_fault { OTA_UNITS_OK, OTA_UNITS_BAD, OTA_UNITS_LEFT_OVER };

/* Add values to the units of a block that the pieces cover.
 *
 * pieces: `piece_count` pairs of offset in the block and length, ascending and without overlap, inside the block.
 * gaps: varints, each the number of covered units to leave alone before the next value.
 * values: `unit` bytes for each gap.
 */
enum ota_unit_fault ota_add_units(uint8_t *out, size_t out_bytes, const uint64_t *pieces, size_t piece_count, const uint8_t *gaps,
                                  size_t gaps_bytes, const uint8_t *values, size_t values_bytes, size_t unit);

#endif
