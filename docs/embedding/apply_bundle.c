/* Applies a bundle, with files in place of flash. HEAD_BYTES and HEAD_SHA256 (64 hex digits) are the bundle's signed identity: they come from
 * verified metadata, never from the bundle. NEW must be there, at first empty; OLD is for a delta. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "core.h"

struct flash { FILE *new_image, *old_image; };

static size_t read_at(FILE *file, uint64_t offset, uint8_t *to, size_t count)
{
    return file != NULL && fseek(file, (long)offset, SEEK_SET) == 0 ? fread(to, 1, count, file) : 0;
}

static int read_old(void *context, uint64_t offset, uint8_t *to, size_t count)
{
    return read_at(((struct flash *)context)->old_image, offset, to, count) != count;
}

static int read_new(void *context, uint64_t offset, uint8_t *to, size_t count)
{
    memset(to, 0xFF, count); /* a file that is still short reads like erased flash */
    return read_at(((struct flash *)context)->new_image, offset, to, count), 0; /* what could not be read has another hash */
}

static int write_new(void *context, uint64_t offset, const uint8_t *from, size_t count)
{
    FILE *file = ((struct flash *)context)->new_image;
    return fseek(file, (long)offset, SEEK_SET) != 0 || fwrite(from, 1, count, file) != count;
}

int main(int count, char **arguments)
{
    static uint8_t arena[256 * 1024], chunk[1024];
    static struct ota ota;
    FILE *bundle = count > 4 ? fopen(arguments[1], "rb") : NULL;
    struct flash flash = {bundle ? fopen(arguments[4], "r+b") : NULL, count > 5 ? fopen(arguments[5], "rb") : NULL};
    if (flash.new_image == NULL || strlen(arguments[3]) != 2 * OTA_SHA256_BYTES)
        return puts("usage: apply_bundle BUNDLE HEAD_BYTES HEAD_SHA256 NEW [OLD]; BUNDLE and NEW must be there"), 2;
    struct ota_callbacks callbacks = {.context = &flash, .read_old = read_old, .write_new = write_new, .read_new = read_new};
    struct ota_signed_head signed_head = {.length_bytes = strtoull(arguments[2], NULL, 10)};
    for (size_t i = 0; i < OTA_SHA256_BYTES; i++)
        sscanf(arguments[3] + 2 * i, "%2hhx", &signed_head.sha256[i]); /* what is no digit leaves a hash that nothing has */
    ota_begin(&ota, arena, sizeof arena, &(struct ota_limits){.slot_bytes = 64 << 20}, &signed_head, &callbacks);
    for (size_t got; (got = read_at(bundle, ota_next_offset(&ota), chunk, sizeof chunk)) > 0 && /* "Range: bytes=N-" */
                     ota_feed(&ota, ota_next_offset(&ota), chunk, got) == OTA_OK;) {}
    enum ota_error error = ota_finish(&ota); /* an error before is final, and comes again */
    printf("%s (arena: %llu bytes)\n", ota_error_text(error), (unsigned long long)ota_arena_needed(&ota));
    return error == OTA_OK && fclose(flash.new_image) == 0 ? 0 : 60; /* only now may NEW be activated */
}
