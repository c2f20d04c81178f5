/* What the targets read their input with: numbers as long as there are bytes, and copies that the sanitizer guards at both ends. */
#ifndef FUZZ_INPUT_H
#define FUZZ_INPUT_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

struct input {
    const uint8_t *at;
    size_t left;
};

static inline uint64_t number(struct input *input, size_t width)
{
    uint64_t value = 0;
    size_t index;

    for (index = 0; index < width && input->left > 0; index++, input->at++, input->left--) {
        value |= (uint64_t)*input->at << (8 * index);
    }
    return value;
}

static inline uint8_t *copy(const uint8_t *from, size_t count)
{
    uint8_t *bytes = malloc(count > 0 ? count : 1);

    if (bytes == NULL) {
        abort();
    }
    memcpy(bytes, from, count);
    return bytes;
}

/* A copy of the next bytes, which are there. */
static inline uint8_t *take_copy(struct input *input, size_t count)
{
    uint8_t *bytes = copy(input->at, count);

    input->at += count;
    input->left -= count;
    return bytes;
}

#endif
