/* Applies bundles on ECUs and gateways without Python: FORMAT.md, version 1, for bundles with the coder RAW alone (operations RAW, FILL,
 * COPY and DELTA). Other bundles are refused by their feature bits, before anything is written.
 *
 * Freestanding C99: no allocation, no library beyond memcpy, memmove, memset and memcmp. Memory is an arena that the caller owns; how much
 * is needed follows exactly from the head. Link core*.c, delta.c and sha256.c. An applier is used by one thread at a time;
 * several appliers share nothing. docs/embedding/README.md has the whole story and a program.
 *
 * Order of checks: hash of the head before one byte of it is parsed; caps of the manifest; then for every block the hash of its blob, the
 * hash of its old part, decoding to the exact length, the hash of the block, and only then the write; in the end length and
 * hash of the whole image, read back.
 */
#ifndef OTA_CORE_H
#define OTA_CORE_H

#include "core_head.h"
#include "delta.h"
#include "sha256.h"

enum ota_error_class { OTA_CLASS_OK = 0, OTA_CLASS_CORRUPT = 1, OTA_CLASS_INCOMPATIBLE = 2, OTA_CLASS_RESOURCE = 3, OTA_CLASS_CALLER = 4 };

/* What signed metadata says of the bundle's head. Nothing else makes a bundle authentic. */
struct ota_signed_head {
    uint64_t length_bytes;
    uint8_t sha256[OTA_SHA256_BYTES];
};

/* Another SHA-256, such as a hardware engine. One hash at a time is in the making. Each returns 0, or another value for a failure. */
struct ota_hasher {
    int (*begin)(void *context);
    int (*update)(void *context, const uint8_t *data, size_t count);
    int (*end)(void *context, uint8_t digest[OTA_SHA256_BYTES]);
    void *context;
};

/* What the applier asks of its caller. Each returns 0, or another value for a failure. No callback may call the applier. */
struct ota_callbacks {
    void *context;
    /* Fill `to` from byte `offset` of the old image on. May be NULL for full bundles. Offsets are within the signed length. */
    int (*read_old)(void *context, uint64_t offset, uint8_t *to, size_t count);
    /* Write a finished block to the new image's slot, which must not be where the old image is. Called once per block, by ascending offset. */
    int (*write_new)(void *context, uint64_t offset, const uint8_t *from, size_t count);
    /* Read back what the slot holds, or held before this update. */
    int (*read_new)(void *context, uint64_t offset, uint8_t *to, size_t count);
    /* Make everything written so far durable; called before the read-back. May be NULL. */
    int (*sync_new)(void *context);
    /* Compare the manifest with signed metadata (new and old image, hardware ids, release counter); another value than 0 refuses it. May be NULL. */
    int (*accept)(void *context, const struct ota_manifest *manifest);
    /* NULL uses sha256.c. */
    const struct ota_hasher *hasher;
};

/* An applier. Fields are private; read them through the functions below. */
struct ota {
    uint8_t *arena;
    size_t arena_bytes;
    uint64_t arena_needed;
    struct ota_signed_head signed_head;
    struct ota_limits limits;
    struct ota_callbacks callbacks;
    struct ota_sha256 hash;
    struct ota_head head;
    struct ota_record record;
    struct ota_walk walk;
    uint8_t *blob, *block, *whole_old; /* parts of the arena behind the head */
    uint64_t next_offset;
    uint32_t held;                     /* bytes of the head or blob at work that are in the arena */
    uint32_t position;                 /* blocks that are done */
    uint8_t phase;
    enum ota_error error;
};

/* Begin. `arena` needs no alignment. Limits, identity and callbacks are copied, the hasher is not. */
enum ota_error ota_begin(struct ota *ota, uint8_t *arena, size_t arena_bytes, const struct ota_limits *limits,
                         const struct ota_signed_head *signed_head, const struct ota_callbacks *callbacks);

/* Take `count` bytes of the bundle that start at its byte `offset`, cut as the caller likes. Bytes before ota_next_offset were taken before and
 * are passed over; a gap is an error of the caller. After an error every later call returns the same error. */
enum ota_error ota_feed(struct ota *ota, uint64_t offset, const uint8_t *data, size_t count);

/* Read the whole image back and give the verdict. Only after OTA_OK may the image be activated. */
enum ota_error ota_finish(struct ota *ota);

/* Byte of the bundle that is wanted next. After a power cut begin anew: once the head was fed, blocks that the slot already holds were
 * recognised by their hash, and this leads behind their blobs, which need not be downloaded again. */
uint64_t ota_next_offset(const struct ota *ota);

/* Blocks that are done. */
uint32_t ota_blocks_done(const struct ota *ota);

/* The authentic manifest, or NULL before the head was fed. */
const struct ota_manifest *ota_authentic_manifest(const struct ota *ota);

/* After OTA_ARENA: bytes of arena that the bundle takes; exact if the head fitted, otherwise the head's length alone, which is a lower bound. */
uint64_t ota_arena_needed(const struct ota *ota);

/* Bytes of arena that a bundle takes, from its head, authentic or not: for sizing, at build time. */
enum ota_error ota_arena_bytes(const uint8_t *head, size_t head_bytes, uint64_t *arena_bytes);

/* Whose fault an error is, and a text for logs in English. */
enum ota_error_class ota_error_class(enum ota_error error);
const char *ota_error_text(enum ota_error error);

#endif
