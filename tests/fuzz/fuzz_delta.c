/* libFuzzer target of the delta kernel. An input is: u16 block, u16 source, u8 pieces, u16 literals, u16 controls; the pieces as two u16 each; then
 * the source, the literals, the controls, and what is left as values; lengths are cut to what is there.
 *
 * A block that is made must come out the same where its source is the tail of the block.
 */
#include <stdlib.h>
#include <string.h>

#include "delta.h"

enum { HEADER_BYTES = 9, MAX_BLOCK = 1 << 14 };

struct input {
    const uint8_t *at;
    size_t left;
};

static size_t u16(struct input *input)
{
    size_t value = input->left >= 2 ? (size_t)(input->at[0] | input->at[1] << 8) : 0;

    input->at += input->left >= 2 ? 2 : 0;
    input->left -= input->left >= 2 ? 2 : 0;
    return value;
}

/* A copy of exactly the next bytes, so that the sanitizer guards both ends. */
static uint8_t *copy(struct input *input, size_t *count)
{
    uint8_t *bytes;

    *count = *count < input->left ? *count : input->left;
    bytes = malloc(*count > 0 ? *count : 1);
    if (bytes == NULL) {
        abort();
    }
    memcpy(bytes, input->at, *count);
    input->at += *count;
    input->left -= *count;
    return bytes;
}

static enum ota_delta_fault run(struct ota_delta *delta, const uint16_t *pieces, size_t count)
{
    enum ota_delta_fault fault = OTA_DELTA_OK;
    size_t index;

    for (index = 0; index < count && fault == OTA_DELTA_OK; index++) {
        fault = ota_delta_piece(delta, pieces[2 * index], pieces[2 * index + 1]);
    }
    return fault == OTA_DELTA_OK ? ota_delta_end(delta) : fault;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input input = {data, size};
    struct ota_delta delta, again;
    size_t out_bytes, source_bytes, literals_bytes, controls_bytes, values_bytes, count, index;
    uint8_t *out, *source, *literals, *controls, *values;
    uint16_t pieces[2 * 256];

    if (size < HEADER_BYTES) {
        return 0;
    }
    out_bytes = u16(&input) % MAX_BLOCK;
    source_bytes = u16(&input) % MAX_BLOCK;
    count = *input.at++;
    input.left--;
    literals_bytes = u16(&input);
    controls_bytes = u16(&input);
    for (index = 0; index < 2 * count; index++) {
        pieces[index] = (uint16_t)u16(&input);
    }
    source = copy(&input, &source_bytes);
    literals = copy(&input, &literals_bytes);
    controls = copy(&input, &controls_bytes);
    values_bytes = input.left;
    values = copy(&input, &values_bytes);
    out = malloc(out_bytes > 0 ? out_bytes : 1);
    ota_delta_begin(&delta, out, out_bytes, source, source_bytes);
    delta.literals = literals;
    delta.literals_bytes = literals_bytes;
    delta.controls = controls;
    delta.controls_bytes = controls_bytes;
    delta.values = values;
    delta.values_bytes = values_bytes;
    again = delta;
    if (run(&delta, pieces, count) == OTA_DELTA_OK) {
        uint8_t *both = malloc(out_bytes > 0 ? out_bytes : 1);

        memcpy(both + (out_bytes - source_bytes), source, source_bytes);
        again.out = both;
        again.source = both + (out_bytes - source_bytes);
        if (run(&again, pieces, count) != OTA_DELTA_OK || memcmp(both, out, out_bytes) != 0) {
            abort();
        }
        free(both);
    }
    free(out);
    free(source);
    free(literals);
    free(controls);
    free(values);
    return 0;
}
