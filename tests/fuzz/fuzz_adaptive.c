/* libFuzzer target of adaptive.c. An input is: u8 pieces, u16 start and u8 length of each, u16 length of the block, the block, then a stream.
 *
 * What was read from the stream is written again, from the block as it was, and must give the same block when it is read.
 */
#include "adaptive.h"
#include "input.h"

enum { MAX_PIECES = 32 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input input = {data, size};
    struct ota_adaptive *work = malloc(sizeof *work);
    uint64_t pieces[2 * MAX_PIECES];
    size_t count = (size_t)number(&input, 1) % (MAX_PIECES + 1), index, bytes, room, length;
    uint8_t *before, *out, *stream, *written;

    for (index = 0; index < count; index++) {
        pieces[2 * index] = number(&input, 2);
        pieces[2 * index + 1] = number(&input, 1);
        if (pieces[2 * index + 1] == 255) {
            pieces[2 * index + 1] = UINT64_MAX - pieces[2 * index]; /* no piece of a head, but nothing must happen */
        }
    }
    bytes = (size_t)number(&input, 2);
    bytes = bytes < input.left ? bytes : input.left;
    before = copy(input.at, bytes);
    out = copy(input.at, bytes);
    stream = copy(input.at + bytes, input.left - bytes);
    room = 3 * bytes + 64;
    written = malloc(room);
    if (work == NULL || written == NULL) {
        abort();
    }
    work->slots = malloc(sizeof(uint32_t) << ota_adaptive_log2(bytes));
    if (work->slots == NULL) {
        abort();
    }
    (void)ota_adaptive_add(work, out, bytes, pieces, count, stream, input.left - bytes);
    free(stream);
    stream = copy(before, bytes);
    length = ota_adaptive_write(work, stream, out, bytes, pieces, count, written, room);
    if (length > room || memcmp(stream, out, bytes) != 0
        || ota_adaptive_add(work, before, bytes, pieces, count, written, length) != OTA_UNITS_OK || memcmp(before, out, bytes) != 0) {
        abort();
    }
    free(work->slots);
    free(work);
    free(before);
    free(out);
    free(stream);
    free(written);
    return 0;
}
