/* libFuzzer target of the core: head, index, segment map and blobs. An input is: u8 chunk, u8 callback that fails (0: none), then a bundle.
 *
 * Hashes would keep a fuzzer out, so that the hasher gives every input the same digest, and this harness puts that digest wherever a digest
 * stands and the right memory into the manifest. What is left to the fuzzer is everything that is parsed after the hashes held.
 */
#include <stdlib.h>
#include <string.h>

#include "core.h"

enum { DIGEST_BYTE = 0x5A, MAX_ARENA = 1 << 20, SLOT_BYTES = 1 << 20 };

static struct {
    int synced, mismatch;
    unsigned int calls_left;
    uint64_t new_bytes, old_bytes, written;
} device;

static int due(void)
{
    return device.calls_left > 0 && --device.calls_left == 0;
}

static int read_old(void *context, uint64_t offset, uint8_t *to, size_t count)
{
    (void)context;
    if (offset > device.old_bytes || count > device.old_bytes - offset) {
        abort();
    }
    memset(to, (int)(offset & 0xFF), count);
    return due();
}

static int write_new(void *context, uint64_t offset, const uint8_t *from, size_t count)
{
    static volatile uint8_t sink;
    size_t index;

    (void)context;
    if (offset != device.written || count == 0 || count > device.new_bytes - offset) {
        abort(); /* blocks come one after the other */
    }
    for (index = 0; index < count; index++) {
        sink ^= from[index];
    }
    device.written += count;
    return due();
}

static int read_new(void *context, uint64_t offset, uint8_t *to, size_t count)
{
    (void)context;
    if (offset > device.new_bytes || count > device.new_bytes - offset) {
        abort();
    }
    memset(to, 0xEE, count);
    device.mismatch = !device.synced; /* before the update the slot holds nothing of it */
    return due();
}

static int sync_new(void *context)
{
    (void)context;
    device.synced = 1;
    return due();
}

static int accept_head(void *context, const struct ota_manifest *manifest)
{
    (void)context;
    device.new_bytes = manifest->new_bytes;
    device.old_bytes = manifest->old_bytes;
    return due();
}

static int begin(void *context)
{
    (void)context;
    return due();
}

static int update(void *context, const uint8_t *data, size_t count)
{
    (void)context;
    (void)data;
    (void)count;
    return due();
}

static int end(void *context, uint8_t digest[OTA_SHA256_BYTES])
{
    (void)context;
    memset(digest, device.mismatch ? 0 : DIGEST_BYTE, OTA_SHA256_BYTES);
    device.mismatch = 0;
    return due();
}

static uint64_t varint(const uint8_t *data, size_t length, size_t *at)
{
    uint64_t value = 0;

    *at += *at < length ? ota_varint(data + *at, length - *at, &value) : 0;
    return value;
}

static void set_digest(uint8_t *data, size_t length, size_t *at, int value)
{
    if (*at <= length && length - *at >= OTA_SHA256_BYTES) {
        memset(data + *at, value, OTA_SHA256_BYTES);
    }
    *at += OTA_SHA256_BYTES;
}

static void mend_manifest(uint8_t *data, size_t length, size_t head_bytes)
{
    uint64_t new_bytes, blob, source, decoded, segments, block, memory;
    size_t at = 8, index;

    if (length < 8) {
        return;
    }
    new_bytes = varint(data, length, &at);
    set_digest(data, length, &at, DIGEST_BYTE);
    if (data[0] == 1) {
        (void)varint(data, length, &at);
        set_digest(data, length, &at, DIGEST_BYTE);
    }
    blob = varint(data, length, &at);
    source = varint(data, length, &at);
    decoded = varint(data, length, &at);
    segments = varint(data, length, &at);
    (void)varint(data, length, &at);
    (void)varint(data, length, &at);
    block = (uint64_t)1 << (data[1] & 31);
    memory = head_bytes + 20 * segments + blob + decoded + source + (new_bytes < block ? new_bytes : block);
    for (index = 0; at < length && length - at >= 4 && index < 4; index++) {
        data[at + index] = (uint8_t)(memory >> (8 * index));
    }
}

static void mend_index(uint8_t *data, size_t length)
{
    size_t at = 2, start;

    if (length < 2 || data[1] > 4) {
        return;
    }
    while (at < length && length - at > 2) {
        start = at;
        at += 2u + data[1];
        set_digest(data, length, &at, DIGEST_BYTE);
        if (data[0] & 4) {
            set_digest(data, length, &at, DIGEST_BYTE);
        }
        if (data[0] & 8) {
            set_digest(data, length, &at, data[start] == OTA_COPY || data[start] == OTA_DELTA_BLOCK ? DIGEST_BYTE : 0);
        }
    }
}

/* Make every hash right, and return the head's length. */
static size_t mend(uint8_t *data, size_t size)
{
    uint64_t head_bytes = 0;
    size_t index, at, count;

    if (size < OTA_MIN_HEAD_BYTES || ota_head_length(data, size, &head_bytes) != OTA_OK || head_bytes > size) {
        head_bytes = size;
    }
    if (head_bytes < OTA_MIN_HEAD_BYTES) {
        return (size_t)head_bytes;
    }
    memset(data + head_bytes - OTA_SHA256_BYTES, DIGEST_BYTE, OTA_SHA256_BYTES);
    count = (size_t)(data[6] | data[7] << 8);
    at = 16 + 6 * count;
    for (index = 0; index < count && at < head_bytes; index++) {
        const uint8_t *entry = data + 16 + 6 * index;
        size_t length = entry[2] | (size_t)entry[3] << 8 | (size_t)entry[4] << 16 | (size_t)entry[5] << 24;

        if (length > head_bytes - at) {
            break;
        }
        if (entry[0] == 1) {
            mend_manifest(data + at, length, (size_t)head_bytes);
        } else if (entry[0] == 2) {
            mend_index(data + at, length);
        }
        at += length;
    }
    return (size_t)head_bytes;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct ota_hasher hasher = {begin, update, end, NULL};
    static const struct ota_callbacks callbacks = {NULL, read_old, write_new, read_new, sync_new, accept_head, &hasher};
    static const struct ota_limits limits = {SLOT_BYTES, 0};
    struct ota_signed_head signed_head;
    struct ota ota;
    uint8_t *bundle, *arena;
    uint64_t arena_bytes;
    size_t chunk, offset = 0;
    enum ota_error error;

    if (size < 2) {
        return 0;
    }
    memset(&device, 0, sizeof device);
    memset(signed_head.sha256, DIGEST_BYTE, sizeof signed_head.sha256);
    chunk = (size_t)data[0] + 1;
    device.calls_left = data[1];
    size -= 2;
    bundle = malloc(size > 0 ? size : 1);
    memcpy(bundle, data + 2, size);
    signed_head.length_bytes = mend(bundle, size);
    if (ota_arena_bytes(bundle, (size_t)signed_head.length_bytes, &arena_bytes) != OTA_OK || arena_bytes > MAX_ARENA) {
        arena_bytes = signed_head.length_bytes;
    }
    arena = malloc((size_t)arena_bytes > 0 ? (size_t)arena_bytes : 1);
    error = ota_begin(&ota, arena, (size_t)arena_bytes, &limits, &signed_head, &callbacks);
    while (error == OTA_OK && offset < size) {
        size_t count = size - offset < chunk ? size - offset : chunk;

        error = ota_feed(&ota, offset, bundle + offset, count);
        offset += count;
    }
    if (ota_finish(&ota) == OTA_OK && (device.written != device.new_bytes || !device.synced)) {
        abort();
    }
    free(arena);
    free(bundle);
    return 0;
}
