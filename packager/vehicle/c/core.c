/* See core.h. Section numbers are those of FORMAT.md. */
#include "core.h"

/* Freestanding compilers ask for these but have no <string.h>. */
int memcmp(const void *first, const void *second, size_t count);
void *memcpy(void *to, const void *from, size_t count);
void *memset(void *to, int value, size_t count);

enum { HEAD, BLOBS, FINISHED }; /* phases */

static enum ota_error fail(struct ota *ota, enum ota_error error)
{
    ota->error = error;
    return error;
}

static int hash_begin(struct ota *ota)
{
    const struct ota_hasher *hasher = ota->callbacks.hasher;

    if (hasher != NULL) {
        return hasher->begin(hasher->context);
    }
    ota_sha256_begin(&ota->hash);
    return 0;
}

static int hash_update(struct ota *ota, const uint8_t *data, size_t count)
{
    const struct ota_hasher *hasher = ota->callbacks.hasher;

    if (hasher != NULL) {
        return hasher->update(hasher->context, data, count);
    }
    ota_sha256_update(&ota->hash, data, count);
    return 0;
}

/* End the hash and compare; `mismatch` says what another digest means. */
static enum ota_error hash_end(struct ota *ota, const uint8_t *expected, enum ota_error mismatch)
{
    const struct ota_hasher *hasher = ota->callbacks.hasher;
    uint8_t digest[OTA_SHA256_BYTES];

    memset(digest, 0, sizeof digest);
    if (hasher != NULL) {
        if (hasher->end(hasher->context, digest) != 0) {
            return OTA_HASHER;
        }
    } else {
        ota_sha256_end(&ota->hash, digest);
    }
    return memcmp(digest, expected, sizeof digest) == 0 ? OTA_OK : mismatch;
}

static enum ota_error check_hash(struct ota *ota, const uint8_t *data, size_t count, const uint8_t *expected, enum ota_error mismatch)
{
    if (hash_begin(ota) != 0 || hash_update(ota, data, count) != 0) {
        return OTA_HASHER;
    }
    return hash_end(ota, expected, mismatch);
}

enum ota_error ota_begin(struct ota *ota, uint8_t *arena, size_t arena_bytes, const struct ota_limits *limits,
                         const struct ota_signed_head *signed_head, const struct ota_callbacks *callbacks)
{
    memset(ota, 0, sizeof *ota);
    if (arena == NULL || limits == NULL || signed_head == NULL || callbacks == NULL || callbacks->write_new == NULL
        || callbacks->read_new == NULL) {
        return fail(ota, OTA_ARGUMENT);
    }
    ota->arena = arena;
    ota->arena_bytes = arena_bytes;
    ota->limits = *limits;
    ota->signed_head = *signed_head;
    ota->callbacks = *callbacks;
    if (signed_head->length_bytes < OTA_MIN_HEAD_BYTES || signed_head->length_bytes > OTA_MAX_HEAD_BYTES) {
        return fail(ota, OTA_HEAD_LENGTH);
    }
    if (signed_head->length_bytes > arena_bytes) {
        ota->arena_needed = signed_head->length_bytes;
        return fail(ota, OTA_ARENA);
    }
    return OTA_OK;
}

/* Section 3, order of checks. */
static enum ota_error read_head(struct ota *ota)
{
    struct ota_sections sections;
    size_t length = (size_t)ota->signed_head.length_bytes, content = length - OTA_SHA256_BYTES;
    enum ota_error error = check_hash(ota, ota->arena, length, ota->signed_head.sha256, OTA_HEAD_HASH);

    if (error == OTA_OK) {
        error = ota_head_split(&sections, ota->arena, length);
    }
    if (error == OTA_OK) {
        error = check_hash(ota, ota->arena, content, ota->arena + content, OTA_HEAD_OWN_HASH);
    }
    if (error == OTA_OK) {
        error = ota_head_parse(&ota->head, &sections, length, &ota->limits);
    }
    if (error != OTA_OK) {
        return error;
    }
    ota->arena_needed = ota_head_arena_bytes(&ota->head);
    if (ota->arena_needed > ota->arena_bytes) {
        return OTA_ARENA;
    }
    if ((ota->head.manifest.is_delta && ota->callbacks.read_old == NULL)) {
        return OTA_ARGUMENT;
    }
    if (ota->callbacks.accept != NULL && ota->callbacks.accept(ota->callbacks.context, &ota->head.manifest) != 0) {
        return OTA_NOT_ACCEPTED;
    }
    ota->blob = ota->arena + length;
    ota->block = ota->blob + ota->head.longest_blob;
    ota->whole_old = ota->arena + (size_t)(ota->arena_needed - (ota->head.implied ? ota->head.manifest.old_bytes : 0));
    ota_walk_begin(&ota->walk, &ota->head);
    return OTA_OK;
}

/* Pass over the blocks that the slot holds already. Trusts hashes alone. */
static enum ota_error resume(struct ota *ota)
{
    while (ota->position < ota->head.manifest.blocks) {
        uint32_t length = ota_block_length(&ota->head, ota->position);
        enum ota_error error;

        ota_head_record(&ota->head, ota->position, &ota->record);
        if (ota->callbacks.read_new(ota->callbacks.context, ota_block_start(&ota->head, ota->position), ota->block, length) != 0) {
            return OTA_READ_NEW;
        }
        error = check_hash(ota, ota->block, length, ota->record.block_sha256, OTA_BLOCK_HASH);
        if (error != OTA_OK) {
            return error == OTA_BLOCK_HASH ? OTA_OK : error;
        }
        ota->next_offset += ota->record.blob_bytes;
        ota->position++;
    }
    return OTA_OK;
}

/* Bring the pieces of a block together at `to`, from the old image, or from its copy where it was hashed as a whole. */
static enum ota_error gather(struct ota *ota, uint8_t *to)
{
    uint64_t from = ota_block_start(&ota->head, ota->position), end = from + ota_block_length(&ota->head, ota->position);
    struct ota_walk walk = ota->walk;
    struct ota_piece piece;

    while (ota_walk_next(&walk, &ota->head, from, end, &piece)) {
        if (ota->head.implied) {
            memcpy(to, ota->whole_old + (size_t)piece.old_offset, piece.length_bytes);
        } else if (ota->callbacks.read_old(ota->callbacks.context, piece.old_offset, to, piece.length_bytes) != 0) {
            return OTA_READ_OLD;
        }
        to += piece.length_bytes;
        from = piece.new_offset + piece.length_bytes;
    }
    return OTA_OK;
}

static uint32_t pieces_bytes(const struct ota *ota)
{
    uint64_t from = ota_block_start(&ota->head, ota->position), end = from + ota_block_length(&ota->head, ota->position);
    struct ota_walk walk = ota->walk;
    struct ota_piece piece;
    uint32_t total = 0;

    while (ota_walk_next(&walk, &ota->head, from, end, &piece)) {
        total += piece.length_bytes;
        from = piece.new_offset + piece.length_bytes;
    }
    return total;
}

/* Section 6, step 2: the old part, hashed, at the end of the block's place, from where the delta kernel can go forward in place. */
static enum ota_error read_old_part(struct ota *ota, uint32_t *old_part_bytes)
{
    uint32_t length = ota_block_length(&ota->head, ota->position);
    uint8_t *to;
    enum ota_error error;

    *old_part_bytes = pieces_bytes(ota); /* pieces do not overlap in the block, so that it holds them */
    if (*old_part_bytes > ota->head.longest_old_part) {
        return OTA_OLD_PART_LENGTH;
    }
    to = ota->block + (length - *old_part_bytes);
    if (ota->head.implied) {
        size_t whole = (size_t)ota->head.manifest.old_bytes;

        if (ota->callbacks.read_old(ota->callbacks.context, 0, ota->whole_old, whole) != 0) {
            return OTA_READ_OLD;
        }
        error = check_hash(ota, ota->whole_old, whole, ota->head.manifest.old_sha256, OTA_OLD_IMAGE);
        return error == OTA_OK ? gather(ota, to) : error;
    }
    error = gather(ota, to);
    return error == OTA_OK ? check_hash(ota, to, *old_part_bytes, ota->record.old_sha256, OTA_OLD_IMAGE) : error;
}

/* Section 7. Reached only with an authentic blob and old part. */
static enum ota_error make_delta(struct ota *ota, uint32_t old_part_bytes)
{
    uint64_t start = ota_block_start(&ota->head, ota->position), from = start;
    uint32_t length = ota_block_length(&ota->head, ota->position);
    const uint8_t *columns[3];
    size_t column_bytes[3];
    struct ota_delta delta;
    struct ota_walk walk = ota->walk;
    struct ota_piece piece;
    enum ota_error error
        = ota_read_columns(ota->blob, ota->record.blob_bytes, ota->head.decoded_columns, columns, column_bytes);

    if (error != OTA_OK) {
        return error;
    }
    ota_delta_begin(&delta, ota->block, length, ota->block + (length - old_part_bytes), old_part_bytes);
    delta.literals = columns[0];
    delta.literals_bytes = column_bytes[0];
    delta.controls = columns[1];
    delta.controls_bytes = column_bytes[1];
    delta.values = columns[2];
    delta.values_bytes = column_bytes[2];
    while (ota_walk_next(&walk, &ota->head, from, start + length, &piece)) {
        if (ota_delta_piece(&delta, piece.new_offset - start, piece.length_bytes) != OTA_DELTA_OK) {
            return OTA_DELTA;
        }
        from = piece.new_offset + piece.length_bytes;
    }
    ota->walk = walk;
    return ota_delta_end(&delta) == OTA_DELTA_OK ? OTA_OK : OTA_DELTA;
}

/* Section 6: the order is the security property. */
static enum ota_error make_block(struct ota *ota)
{
    const struct ota_record *record = &ota->record;
    uint32_t length = ota_block_length(&ota->head, ota->position), old_part_bytes = 0;
    const uint8_t *out = ota->block;
    enum ota_error error = check_hash(ota, ota->blob, record->blob_bytes, record->blob_sha256, OTA_BLOB_HASH);

    if (error == OTA_OK && (record->operation == OTA_COPY || record->operation == OTA_DELTA_BLOCK)) {
        error = read_old_part(ota, &old_part_bytes);
    }
    if (error != OTA_OK) {
        return error;
    }
    if (record->operation == OTA_RAW) {
        out = ota->blob;
    } else if (record->operation == OTA_FILL) {
        memset(ota->block, ota->blob[0], length);
    } else if (record->operation == OTA_DELTA_BLOCK) {
        error = make_delta(ota, old_part_bytes);
    } else if (old_part_bytes != length) {
        error = OTA_BLOCK_HASH;
    }
    if (error == OTA_OK) {
        error = check_hash(ota, out, length, record->block_sha256, OTA_BLOCK_HASH);
    }
    if (error == OTA_OK
        && ota->callbacks.write_new(ota->callbacks.context, ota_block_start(&ota->head, ota->position), out, length) != 0) {
        error = OTA_WRITE_NEW;
    }
    return error;
}

/* Make every block whose blob is complete; some blobs are empty. */
static enum ota_error advance(struct ota *ota)
{
    while (ota->position < ota->head.manifest.blocks) {
        enum ota_error error;

        ota_head_record(&ota->head, ota->position, &ota->record);
        if (ota->held < ota->record.blob_bytes) {
            break;
        }
        error = make_block(ota);
        if (error != OTA_OK) {
            return error;
        }
        ota->held = 0;
        ota->position++;
    }
    return OTA_OK;
}

static enum ota_error complete(struct ota *ota)
{
    enum ota_error error = OTA_OK;

    if (ota->phase == HEAD) {
        error = read_head(ota);
        if (error == OTA_OK) {
            ota->phase = BLOBS;
            ota->held = 0;
            error = resume(ota);
        }
    }
    return error == OTA_OK ? advance(ota) : error;
}

enum ota_error ota_feed(struct ota *ota, uint64_t offset, const uint8_t *data, size_t count)
{
    if (ota->error != OTA_OK) {
        return ota->error;
    }
    if (ota->phase == FINISHED || offset > ota->next_offset) {
        return fail(ota, ota->phase == FINISHED ? OTA_ENDED : OTA_GAP);
    }
    while (count > ota->next_offset - offset) {
        size_t known = (size_t)(ota->next_offset - offset), part;
        uint32_t wanted = (ota->phase == HEAD ? (uint32_t)ota->signed_head.length_bytes : ota->record.blob_bytes) - ota->held;
        uint8_t *to = ota->phase == HEAD ? ota->arena : ota->blob;
        enum ota_error error = OTA_OK;

        if (ota->phase == BLOBS && ota->position == ota->head.manifest.blocks) {
            return fail(ota, OTA_TRAILING);
        }
        data += known;
        count -= known;
        part = count < wanted ? count : wanted;
        memcpy(to + ota->held, data, part);
        ota->held += (uint32_t)part;
        data += part;
        count -= part;
        ota->next_offset += part;
        offset = ota->next_offset;
        if (part == wanted) {
            error = complete(ota);
        }
        if (error != OTA_OK) {
            return fail(ota, error);
        }
    }
    return OTA_OK;
}

enum ota_error ota_finish(struct ota *ota)
{
    const struct ota_callbacks *callbacks = &ota->callbacks;
    uint32_t block;
    enum ota_error error;

    if (ota->error != OTA_OK) {
        return ota->error;
    }
    if (ota->phase != BLOBS || ota->position < ota->head.manifest.blocks) {
        return fail(ota, ota->phase == FINISHED ? OTA_ENDED : OTA_CUT_SHORT);
    }
    if (callbacks->sync_new != NULL && callbacks->sync_new(callbacks->context) != 0) {
        return fail(ota, OTA_SYNC_NEW);
    }
    if (hash_begin(ota) != 0) {
        return fail(ota, OTA_HASHER);
    }
    for (block = 0; block < ota->head.manifest.blocks; block++) {
        uint32_t length = ota_block_length(&ota->head, block);

        if (callbacks->read_new(callbacks->context, ota_block_start(&ota->head, block), ota->block, length) != 0) {
            return fail(ota, OTA_READ_NEW);
        }
        if (hash_update(ota, ota->block, length) != 0) {
            return fail(ota, OTA_HASHER);
        }
    }
    error = hash_end(ota, ota->head.manifest.new_sha256, OTA_IMAGE_HASH);
    if (error != OTA_OK) {
        return fail(ota, error);
    }
    ota->phase = FINISHED;
    return OTA_OK;
}

uint64_t ota_next_offset(const struct ota *ota)
{
    return ota->next_offset;
}

uint32_t ota_blocks_done(const struct ota *ota)
{
    return ota->position;
}

const struct ota_manifest *ota_authentic_manifest(const struct ota *ota)
{
    return ota->phase == HEAD ? NULL : &ota->head.manifest;
}

uint64_t ota_arena_needed(const struct ota *ota)
{
    return ota->arena_needed;
}

enum ota_error ota_arena_bytes(const uint8_t *head, size_t head_bytes, uint64_t *arena_bytes)
{
    static const struct ota_limits none = {0, 0};
    struct ota_sections sections;
    struct ota_head parsed;
    enum ota_error error = ota_head_split(&sections, head, head_bytes);

    if (error == OTA_OK) {
        error = ota_head_parse(&parsed, &sections, head_bytes, &none);
    }
    *arena_bytes = error == OTA_OK ? ota_head_arena_bytes(&parsed) : 0;
    return error;
}

enum ota_error_class ota_error_class(enum ota_error error)
{
    return (enum ota_error_class)((unsigned int)error >> 4);
}

const char *ota_error_text(enum ota_error error)
{
    switch (error) {
    case OTA_OK: return "no error";
    case OTA_HEAD_HASH: return "head: not the signed bytes";
    case OTA_HEAD_OWN_HASH: return "head: its own hash does not match";
    case OTA_PREAMBLE: return "preamble: not a bundle, or its section table is malformed";
    case OTA_SECTIONS: return "head: a section is missing, not wanted, not critical or of another length";
    case OTA_MANIFEST: return "manifest: malformed, or fields contradict each other";
    case OTA_MEMORY: return "manifest: the memory that it states is not what follows from its caps";
    case OTA_INDEX: return "index: a record breaks the manifest's caps, or the layout its rules";
    case OTA_SEGMENTS: return "segment map: malformed, or a segment leaves an image";
    case OTA_BLOB_HASH: return "blob: not the signed bytes";
    case OTA_OLD_PART_LENGTH: return "block: reads more old bytes than its cap";
    case OTA_COLUMNS: return "block: its columns are malformed or beyond their cap";
    case OTA_DELTA: return "block: its delta is malformed";
    case OTA_BLOCK_HASH: return "block: the result is not the signed one";
    case OTA_CUT_SHORT: return "bundle: ended too early";
    case OTA_TRAILING: return "bundle: bytes after the last blob";
    case OTA_IMAGE_HASH: return "new image: what was read back is not the signed one";
    case OTA_HEAD_LENGTH: return "head: its signed length is outside 48 bytes to 16 MiB";
    case OTA_VERSION: return "preamble: another version of the format";
    case OTA_FEATURE: return "preamble: a required feature is unknown to this reader";
    case OTA_UNKNOWN_SECTION: return "head: a critical section is unknown to this reader";
    case OTA_UNKNOWN_MANIFEST: return "manifest: a kind, flag, operation or coder is unknown";
    case OTA_UNKNOWN_LAYOUT: return "index: its layout is unknown";
    case OTA_CODER: return "manifest: needs a decompressor, which this reader has not";
    case OTA_SLOT: return "image: longer than a slot";
    case OTA_BLOCK_SIZE: return "manifest: another block size than the ECU takes";
    case OTA_ARENA: return "arena: too small for this bundle";
    case OTA_OLD_IMAGE: return "old image: another one, or damaged";
    case OTA_NOT_ACCEPTED: return "manifest: refused by the caller";
    case OTA_READ_OLD: return "old image: can't be read";
    case OTA_READ_NEW: return "slot: can't be read";
    case OTA_WRITE_NEW: return "slot: can't be written";
    case OTA_SYNC_NEW: return "slot: can't be synced";
    case OTA_HASHER: return "hasher: failed";
    case OTA_ARGUMENT: return "caller: an argument or callback is missing";
    case OTA_GAP: return "caller: bytes of the bundle were left out";
    case OTA_ENDED: return "caller: the applier has ended";
    }
    return "unknown error";
}
