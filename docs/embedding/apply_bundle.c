/* Applies a bundle to an old image, with files in place of flash: apply_bundle BUNDLE HEAD_BYTES HEAD_SHA256 NEW [OLD].
 *
 * HEAD_BYTES and HEAD_SHA256 are the signed identity; in a car they come from verified metadata, never from the bundle. Start it again
 * after a cut: what NEW holds already is not read from the bundle again.
 */
#include <stdio.h>
#include <stdlib.h>

#include "core.h"

static uint8_t arena[256 * 1024];
static FILE *old_image, *slot;

static int read_old(void *context, uint64_t offset, uint8_t *to, size_t count)
{
    (void)context;
    return fseek(old_image, (long)offset, SEEK_SET) != 0 || fread(to, 1, count, old_image) != count;
}

static int write_new(void *context, uint64_t offset, const uint8_t *from, size_t count)
{
    (void)context;
    return fseek(slot, (long)offset, SEEK_SET) != 0 || fwrite(from, 1, count, slot) != count;
}

static int read_new(void *context, uint64_t offset, uint8_t *to, size_t count)
{
    (void)context;
    for (size_t done = fseek(slot, (long)offset, SEEK_SET) == 0 ? fread(to, 1, count, slot) : 0; done < count; done++) {
        to[done] = 0xFF; /* a file that is still short reads like erased flash */
    }
    return ferror(slot);
}

int main(int count, char **arguments)
{
    uint8_t digest[OTA_SHA256_BYTES], chunk[1024];
    struct ota_callbacks callbacks = {.read_old = read_old, .write_new = write_new, .read_new = read_new};
    struct ota_limits limits = {.slot_bytes = 64 * 1024 * 1024};
    struct ota_signed_head signed_head = {.sha256 = digest};
    static struct ota ota;
    enum ota_error error = OTA_OK;
    size_t got = 1;
    FILE *bundle = count >= 5 ? fopen(arguments[1], "rb") : NULL;

    for (int index = 0; bundle != NULL && index < OTA_SHA256_BYTES; index++) {
        unsigned int byte = 0;
        sscanf(arguments[3] + 2 * index, "%2x", &byte);
        digest[index] = (uint8_t)byte;
    }
    old_image = count > 5 ? fopen(arguments[5], "rb") : NULL;
    slot = bundle == NULL ? NULL : (slot = fopen(arguments[4], "r+b")) != NULL ? slot : fopen(arguments[4], "w+b");
    if (slot == NULL || (count > 5 && old_image == NULL)) {
        fprintf(stderr, "usage: apply_bundle BUNDLE HEAD_BYTES HEAD_SHA256 NEW [OLD]\n");
        return 2;
    }
    signed_head.length_bytes = strtoull(arguments[2], NULL, 10);
    error = ota_begin(&ota, arena, sizeof arena, &limits, &signed_head, &callbacks);
    while (error == OTA_OK && got > 0) {
        uint64_t offset = ota_next_offset(&ota); /* where a download goes on with "Range: bytes=N-" */
        got = fseek(bundle, (long)offset, SEEK_SET) == 0 ? fread(chunk, 1, sizeof chunk, bundle) : 0;
        error = ota_feed(&ota, offset, chunk, got);
    }
    error = error == OTA_OK ? ota_finish(&ota) : error;
    fprintf(stderr, "%s (arena: %llu bytes)\n", ota_error_text(error), (unsigned long long)ota_arena_needed(&ota));
    return error == OTA_OK && fclose(slot) == 0 ? 0 : 60; /* only now may NEW be activated */
}
