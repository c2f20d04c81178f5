/* See delta.h. */
#include "delta.h"

/* Freestanding compilers ask for these but have no <string.h>. */
void *memmove(void *to, const void *from, size_t count);

enum { MAX_VARINT_BYTES = 9, WORD = 8, LONG_RUN = 48 };

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
    const uint8_t *controls = delta->controls + delta->control;
    size_t source_left = delta->source_bytes - position;
    size_t controls_left = delta->controls_bytes - delta->control;
    uint64_t pair[2];

    if (controls_left >= 2 && controls[0] < 0x80 && controls[1] < 0x80) { /* nearly all of them */
        pair[0] = controls[0];
        pair[1] = controls[1];
        delta->control += 2;
    } else {
        int index;

        for (index = 0; index < 2; index++) {
            size_t length
                = ota_varint(delta->controls + delta->control, delta->controls_bytes - delta->control, &pair[index]);

            if (length == 0) {
                return OTA_DELTA_VARINT;
            }
            delta->control += length;
        }
    }
    if (pair[0] > source_left || pair[1] == 0 || pair[1] > source_left - pair[0]
        || pair[1] > delta->values_bytes - delta->used) {
        return OTA_DELTA_RUN;
    }
    delta->skip = (size_t)pair[0];
    delta->run = (size_t)pair[1];
    return OTA_DELTA_OK;
}

/* Eight bytes as a number, little-endian; compilers make one load or store of it. */
static uint64_t load(const uint8_t *at)
{
    return (uint64_t)at[0] | (uint64_t)at[1] << 8 | (uint64_t)at[2] << 16 | (uint64_t)at[3] << 24 | (uint64_t)at[4] << 32
           | (uint64_t)at[5] << 40 | (uint64_t)at[6] << 48 | (uint64_t)at[7] << 56;
}

static void store(uint8_t *at, uint64_t value)
{
    at[0] = (uint8_t)value;
    at[1] = (uint8_t)(value >> 8);
    at[2] = (uint8_t)(value >> 16);
    at[3] = (uint8_t)(value >> 24);
    at[4] = (uint8_t)(value >> 32);
    at[5] = (uint8_t)(value >> 40);
    at[6] = (uint8_t)(value >> 48);
    at[7] = (uint8_t)(value >> 56);
}

/* Add eight bytes modulo 256: the top bits apart, so that no carry leaves its byte. */
static uint64_t sum(uint64_t first, uint64_t second)
{
    const uint64_t low = 0x7F7F7F7F7F7F7F7FU;

    return ((first & low) + (second & low)) ^ ((first ^ second) & ~low);
}

/* Add `count` bytes modulo 256; `room` bytes may be read at both and written at `to`. Most runs are short, and the vector loop that compilers
 * make of the plain form costs more than it brings to them: those are added in one register, with zeros behind the run. */
static void add(uint8_t *to, const uint8_t *values, size_t count, size_t room)
{
    if (count == 1) {
        *to = (uint8_t)(*to + *values);
        return;
    }
    if (count > LONG_RUN || room < LONG_RUN + WORD) {
        size_t index;

        for (index = 0; index < count; index++) {
            to[index] = (uint8_t)(to[index] + values[index]);
        }
        return;
    }
    for (; count > WORD; count -= WORD) {
        store(to, sum(load(to), load(values)));
        to += WORD;
        values += WORD;
    }
    if (count > 0) {
        store(to, sum(load(to), load(values) & (~(uint64_t)0 >> (8 * (WORD - count)))));
    }
}

/* Add the values of the runs that fall into `count` bytes of the block at `bytes`. */
static enum ota_delta_fault add_values(struct ota_delta *delta, uint8_t *bytes, size_t count)
{
    size_t done = 0;

    while (done < count) {
        size_t part, room;

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
        room = delta->values_bytes - delta->used < count - done ? delta->values_bytes - delta->used : count - done;
        add(bytes + done, delta->values + delta->used, part, room);
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
