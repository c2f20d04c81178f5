/* See core_fields.h. */
#include "core_fields.h"

#include "delta.h"

enum { MAX_NAME_BYTES = 64 };

const uint8_t *ota_take(struct ota_fields *cursor, uint64_t count)
{
    const uint8_t *taken = cursor->at;

    if (cursor->broken || count > (uint64_t)(cursor->end - cursor->at)) {
        cursor->broken = 1;
        return NULL;
    }
    cursor->at += (size_t)count;
    return taken;
}

uint32_t ota_take_number(struct ota_fields *cursor, unsigned int width)
{
    const uint8_t *bytes = ota_take(cursor, width);
    uint32_t value = 0;
    unsigned int index;

    for (index = 0; bytes != NULL && index < width; index++) {
        value |= (uint32_t)bytes[index] << (8 * index);
    }
    return value;
}

uint64_t ota_take_varint(struct ota_fields *cursor)
{
    uint64_t value = 0;
    size_t length = cursor->broken ? 0 : ota_varint(cursor->at, (size_t)(cursor->end - cursor->at), &value);

    if (length == 0) {
        cursor->broken = 1;
        return 0;
    }
    cursor->at += length;
    return value;
}

uint64_t ota_take_bounded(struct ota_fields *cursor, uint64_t most)
{
    uint64_t value = ota_take_varint(cursor);

    if (value > most) {
        cursor->broken = 1;
        return 0;
    }
    return value;
}

static int is_alphanumeric(uint8_t byte)
{
    return (byte >= '0' && byte <= '9') || (byte >= 'A' && byte <= 'Z') || (byte >= 'a' && byte <= 'z');
}

const uint8_t *ota_take_name(struct ota_fields *cursor, uint8_t *length, int may_be_empty)
{
    const uint8_t *text;
    unsigned int index;

    *length = (uint8_t)ota_take_number(cursor, 1);
    text = ota_take(cursor, *length);
    if (text == NULL || *length > MAX_NAME_BYTES || (*length == 0 && !may_be_empty)) {
        cursor->broken = 1;
        *length = 0;
        return NULL;
    }
    for (index = 0; index < *length; index++) {
        uint8_t byte = text[index];
        int mark = byte == '.' || byte == '_' || byte == '+' || byte == '~' || byte == '-';

        if (!is_alphanumeric(byte) && !(mark && index > 0)) {
            cursor->broken = 1;
        }
    }
    return text;
}
