/* Drives the C core for the tests: reads requests from standard input until it ends, answers each on standard output.
 *
 * Everything has its exact size on the heap, so that AddressSanitizer sees the first byte out of place. What a callback must never be
 * asked for ends the process.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core.h"

enum { APPLY, FLIPS, TRUNCATIONS, CUTS, FAILURES };

#define NO_OLD 0xFFFFFFFFu

struct request {
    uint32_t mode, head_bytes, old_bytes, bundle_bytes, slot_bytes, arena_bytes, chunk, slot_limit, block_limit, hasher;
    uint8_t sha256[OTA_SHA256_BYTES];
};

struct answer {
    uint32_t error, blocks_done, tried, wrong;
    uint64_t next_offset, arena_needed;
};

struct device {
    uint8_t *old, *slot, *expected;
    uint32_t old_bytes, slot_bytes;
    int check;            /* whether every write must be what is expected */
    uint32_t calls_left;  /* the callback after so many fails; 0: none */
    uint32_t wrong_writes;
    struct ota_sha256 hash;
};

static void must(int condition, const char *what)
{
    if (!condition) {
        fprintf(stderr, "harness: %s\n", what);
        abort();
    }
}

static int due(struct device *device)
{
    return device->calls_left > 0 && --device->calls_left == 0;
}

static int read_old(void *context, uint64_t offset, uint8_t *to, size_t count)
{
    struct device *device = context;

    must(device->old != NULL && offset <= device->old_bytes && count <= device->old_bytes - offset, "read outside the old image");
    memcpy(to, device->old + offset, count);
    return due(device);
}

static int write_new(void *context, uint64_t offset, const uint8_t *from, size_t count)
{
    struct device *device = context;

    must(offset <= device->slot_bytes && count <= device->slot_bytes - offset, "write outside the slot");
    if (due(device)) {
        return 1;
    }
    device->wrong_writes += device->check && memcmp(device->expected + offset, from, count) != 0;
    memcpy(device->slot + offset, from, count);
    return 0;
}

static int read_new(void *context, uint64_t offset, uint8_t *to, size_t count)
{
    struct device *device = context;

    must(offset <= device->slot_bytes && count <= device->slot_bytes - offset, "read outside the slot");
    memcpy(to, device->slot + offset, count);
    return due(device);
}

static int sync_new(void *context)
{
    return due(context);
}

static int accept_head(void *context, const struct ota_manifest *manifest)
{
    struct device *device = context;

    return due(device) || manifest->new_bytes != device->slot_bytes
           || (manifest->is_delta && device->old != NULL && manifest->old_bytes > device->old_bytes);
}

static int hasher_begin(void *context)
{
    struct device *device = context;

    ota_sha256_begin(&device->hash);
    return due(device);
}

static int hasher_update(void *context, const uint8_t *data, size_t count)
{
    struct device *device = context;

    ota_sha256_update(&device->hash, data, count);
    return due(device);
}

static int hasher_end(void *context, uint8_t digest[OTA_SHA256_BYTES])
{
    struct device *device = context;

    ota_sha256_end(&device->hash, digest);
    return due(device);
}

/* Feed `bundle_bytes` bytes from where the applier wants them, in chunks, and finish. */
static enum ota_error apply(const struct request *request, const uint8_t *bundle, uint32_t bundle_bytes, struct device *device,
                            struct answer *answer)
{
    struct ota_hasher hasher = {hasher_begin, hasher_update, hasher_end, NULL};
    struct ota_callbacks callbacks = {NULL, read_old, write_new, read_new, sync_new, accept_head, NULL};
    struct ota_limits limits = {request->slot_limit, request->block_limit};
    struct ota_signed_head signed_head = {.length_bytes = request->head_bytes};
    struct ota *ota = malloc(sizeof *ota);
    uint8_t *arena = malloc(request->arena_bytes);
    uint64_t offset = 0;
    enum ota_error error;

    must(ota != NULL && arena != NULL, "out of memory");
    memcpy(signed_head.sha256, request->sha256, sizeof signed_head.sha256);
    hasher.context = callbacks.context = device;
    callbacks.hasher = request->hasher ? &hasher : NULL;
    callbacks.read_old = device->old == NULL ? NULL : read_old;
    error = ota_begin(ota, arena, request->arena_bytes, &limits, &signed_head, &callbacks);
    while (error == OTA_OK && offset < bundle_bytes) {
        uint32_t left = bundle_bytes - (uint32_t)offset, count = left < request->chunk ? left : request->chunk;
        uint8_t *piece = malloc(count);

        must(piece != NULL, "out of memory");
        memcpy(piece, bundle + offset, count);
        error = ota_feed(ota, offset, piece, count);
        free(piece);
        offset += count;
        if (error == OTA_OK && offset < ota_next_offset(ota) && ota_next_offset(ota) <= bundle_bytes) {
            offset = ota_next_offset(ota);
        }
    }
    if (error == OTA_OK) {
        error = ota_finish(ota);
    }
    must(error == OTA_OK || ota_finish(ota) == error, "an error did not stick");
    must(error == OTA_OK || ota_feed(ota, 0, bundle, 1) == error, "an error did not stick");
    must(error != OTA_OK || ota_feed(ota, 0, bundle, 1) == OTA_ENDED, "fed after the end");
    answer->error = error;
    answer->blocks_done = ota_blocks_done(ota);
    answer->next_offset = ota_next_offset(ota);
    answer->arena_needed = ota_arena_needed(ota);
    free(arena);
    free(ota);
    return error;
}

/* Every byte of the bundle changed in three ways: refused as corrupt, and what was written is right. */
static void flips(struct request *request, uint8_t *bundle, struct device *device, struct answer *answer)
{
    static const uint8_t masks[] = {0x01, 0x80, 0xFF};
    struct answer ignored;
    uint32_t at, mask;

    for (at = 0; at < request->bundle_bytes; at++) {
        for (mask = 0; mask < sizeof masks; mask++) {
            memset(device->slot, 0xEE, device->slot_bytes);
            bundle[at] ^= masks[mask];
            answer->tried++;
            answer->wrong += ota_error_class(apply(request, bundle, request->bundle_bytes, device, &ignored)) != OTA_CLASS_CORRUPT;
            bundle[at] ^= masks[mask];
        }
    }
}

static void truncations(struct request *request, uint8_t *bundle, struct device *device, struct answer *answer)
{
    struct answer ignored;
    uint32_t count;

    for (count = 0; count < request->bundle_bytes; count++) {
        memset(device->slot, 0xEE, device->slot_bytes);
        answer->tried++;
        answer->wrong += apply(request, bundle, count, device, &ignored) != OTA_CUT_SHORT;
    }
}

/* After a cut at every byte the update goes on with what the slot holds; the blobs of finished blocks are not wanted again: they are lost. */
static void cuts(struct request *request, uint8_t *bundle, struct device *device, struct answer *answer)
{
    struct answer first, head_only, second;
    uint8_t *rest = malloc(request->bundle_bytes);
    uint32_t count;

    must(rest != NULL, "out of memory");
    for (count = request->head_bytes; count < request->bundle_bytes; count++) {
        memset(device->slot, 0xEE, device->slot_bytes);
        apply(request, bundle, count, device, &first);
        apply(request, bundle, request->head_bytes, device, &head_only);
        memcpy(rest, bundle, request->bundle_bytes);
        memset(rest + request->head_bytes, 0, (size_t)head_only.next_offset - request->head_bytes);
        answer->tried++;
        answer->wrong += head_only.blocks_done < first.blocks_done
                         || apply(request, rest, request->bundle_bytes, device, &second) != OTA_OK
                         || memcmp(device->slot, device->expected, device->slot_bytes) != 0;
    }
    free(rest);
}

/* Each callback fails in turn: the right error, no write of wrong bytes, and a new start completes the image. */
static void failures(struct request *request, uint8_t *bundle, struct device *device, struct answer *answer)
{
    struct answer ignored;
    uint32_t call = 0;
    enum ota_error error;

    do {
        memset(device->slot, 0xEE, device->slot_bytes);
        device->calls_left = ++call;
        error = apply(request, bundle, request->bundle_bytes, device, &ignored);
        answer->tried++;
        if (error != OTA_OK) {
            device->calls_left = 0;
            answer->wrong += ota_error_class(error) != OTA_CLASS_RESOURCE && error != OTA_NOT_ACCEPTED;
            answer->wrong += apply(request, bundle, request->bundle_bytes, device, &ignored) != OTA_OK;
        }
    } while (error != OTA_OK);
    device->calls_left = 0;
}

static uint8_t *read_bytes(uint32_t count)
{
    uint8_t *bytes = malloc(count > 0 ? count : 1);

    must(bytes != NULL && fread(bytes, 1, count, stdin) == count, "request cut short");
    return bytes;
}

int main(void)
{
    struct request request;

    while (fread(&request, sizeof request, 1, stdin) == 1) {
        struct device device = {0};
        struct answer answer = {0};
        uint8_t *bundle = read_bytes(request.bundle_bytes);

        device.old_bytes = request.old_bytes == NO_OLD ? 0 : request.old_bytes;
        device.old = request.old_bytes == NO_OLD ? NULL : read_bytes(request.old_bytes);
        device.slot_bytes = request.slot_bytes;
        device.slot = read_bytes(request.slot_bytes);
        device.expected = read_bytes(request.slot_bytes);
        device.check = request.mode != APPLY;
        switch (request.mode) {
        case FLIPS: flips(&request, bundle, &device, &answer); break;
        case TRUNCATIONS: truncations(&request, bundle, &device, &answer); break;
        case CUTS: cuts(&request, bundle, &device, &answer); break;
        case FAILURES: failures(&request, bundle, &device, &answer); break;
        default: apply(&request, bundle, request.bundle_bytes, &device, &answer); break;
        }
        answer.wrong += device.wrong_writes;
        fwrite(&answer, sizeof answer, 1, stdout);
        fwrite(device.slot, 1, device.slot_bytes, stdout);
        fflush(stdout);
        free(bundle);
        free(device.old);
        free(device.slot);
        free(device.expected);
    }
    return 0;
}
