/* See delta.h. */
#include "delta.h"

/* Freestanding compilers ask for these but have no <string.h>. */
void *memmove(void *to, const void *from, size_t count);

enum { MAX_VARINT_BYTES = 9 };

size_t ota_varint(const uint8_t *data, size_t data_bytes, uint64_t *value)
{
    uint64_t result = 0;
    size_t index;

    for (index = 0; index < data_bytes && index < MAX_VARINT_BYTES; index++) {
        result |= (uint64_t)(data[index] & 0x7F) << (7 * index);
        if (data[index] < 0x80) {
            if (data[index] == 0 && index > 0) {
                return 0;
            }
            *value = result;
            return index + 1;
        }
    }
    return 0;
}

void ota_delta_begin(struct ota_delta *delta, uint8_t *out, size_t out_bytes, const uint8_t *source, size_t source_bytes)
{
    static const struct ota_delta none = {0};

    *delta = none;
    delta->out = out;
    delta->out_bytes = out_bytes;
    delta->source = source;
    delta->source_bytes = source_bytes;
}

/* Read the next control pair, whose bytes must lie behind the `position` bytes of source that are done. */
static enum ota_delta_fault next_control(struct ota_delta *delta, size_t position)
{
    size_t source_left = delta->source_bytes - position;
    uint64_t pair[2];
    int index;

    for (index = 0; index < 2; index++) {
        size_t length = ota_varint(delta->controls + delta->control, delta->controls_bytes - delta->control, &pair[index]);

        if (length == 0) {
            return OTA_DELTA_VARINT;
        }
        delta->control += length;
    }
    if (pair[0] > source_left || pair[1] == 0 || pair[1] > source_left - pair[0]
        || pair[1] > delta->values_bytes - delta->used) {
        return OTA_DELTA_RUN;
    }
    delta->skip = (size_t)pair[0];
    delta->run = (size_t)pair[1];
    return OTA_DELTA_OK;
}

/* Add the values of the runs that fall into `count` bytes of the block at `bytes`. */
static enum ota_delta_fault add_values(struct ota_delta *delta, uint8_t *bytes, size_t count)
{
    size_t done = 0;

    while (done < count) {
        const uint8_t *values;
        uint8_t *changed;
        size_t part, index;

        if (delta->skip == 0 && delta->run == 0) {
            enum ota_delta_fault fault;

            if (delta->control == delta->controls_bytes) {
                break;
            }
            fault = next_control(delta, delta->taken + done);
            if (fault != OTA_DELTA_OK) {
                return fault;
            }
        }
        part = delta->skip < count - done ? delta->skip : count - done;
        delta->skip -= part;
        done += part;
        part = delta->run < count - done ? delta->run : count - done;
        values = delta->values + delta->used;
        changed = bytes + done;
        for (index = 0; index < part; index++) {
            changed[index] = (uint8_t)(changed[index] + values[index]);
        }
        delta->run -= part;
        delta->used += part;
        done += part;
    }
    return OTA_DELTA_OK;
}

/* memmove that also takes the null pointers of empty ranges. */
static void copy(uint8_t *to, const uint8_t *from, size_t count)
{
    if (count > 0 && to != from) {
        memmove(to, from, count);
    }
}

enum ota_delta_fault ota_delta_piece(struct ota_delta *delta, uint64_t start, uint64_t piece_bytes)
{
    enum ota_delta_fault fault;
    size_t gap, count;

    if (start < delta->at || start > delta->out_bytes || piece_bytes > delta->out_bytes - start
        || piece_bytes > delta->source_bytes - delta->taken
        || start - delta->at > delta->literals_bytes - delta->literal) {
        return OTA_DELTA_PIECE;
    }
    gap = (size_t)start - delta->at;
    count = (size_t)piece_bytes;
    if (gap > 0) {
        copy(delta->out + delta->at, delta->literals + delta->literal, gap);
        delta->literal += gap;
        delta->at += gap;
    }
    if (count > 0) {
        copy(delta->out + delta->at, delta->source + delta->taken, count);
        fault = add_values(delta, delta->out + delta->at, count);
        if (fault != OTA_DELTA_OK) {
            return fault;
        }
        delta->taken += count;
        delta->at += count;
    }
    return OTA_DELTA_OK;
}

enum ota_delta_fault ota_delta_end(struct ota_delta *delta)
{
    size_t gap = delta->out_bytes - delta->at;

    if (delta->taken != delta->source_bytes || gap != delta->literals_bytes - delta->literal
        || delta->control != delta->controls_bytes || delta->used != delta->values_bytes) {
        return OTA_DELTA_LEFT_OVER;
    }
    if (gap > 0) {
        copy(delta->out + delta->at, delta->literals + delta->literal, gap);
    }
    return OTA_DELTA_OK;
}
