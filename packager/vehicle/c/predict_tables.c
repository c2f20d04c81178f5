/* Rewrites data that is no code: lists of cells, distances, records; the twin of _pure_tables.py, see predict.h. */
#include "predict_piece.h"

static uint32_t load_place(const uint8_t *from)
{
    return (uint32_t)from[0] << 8 | (uint32_t)from[1];
}

static void store_place(uint8_t *to, uint32_t value)
{
    to[0] = (uint8_t)(value >> 8);
    to[1] = (uint8_t)value;
}

/* Where the cells of the b-tree page at bytes[at] are: each place becomes the distance from the one before. The header, which tells how many
 * there are, is not touched. */
static void rewrite_cells(const struct piece *piece, size_t at)
{
    const uint8_t *header = piece->bytes + at;
    size_t start, count, left = piece->count - at, entry;
    uint32_t before = OTA_PAGE_BYTES;

    if (left < 8 || (header[0] != 2 && header[0] != 5 && header[0] != 10 && header[0] != 13)) {
        return;
    }
    start = header[0] < 10 ? 12 : 8;
    count = load_place(header + 3);
    if (start + 2 * count > OTA_PAGE_BYTES) {
        return;
    }
    for (entry = start; entry < start + 2 * count && left - 1 > entry; entry += 2) {
        uint32_t found = load_place(header + entry), distance = (before - found) & 0xFFFFu;

        store_place(piece->bytes + at + entry, distance);
        before = piece->kind == OTA_UNLABEL ? distance : found;
    }
}

/* Those of an old page whose header is not in the stretch: numbers that descend, and lead behind themselves. */
static void guess_cells(const struct piece *piece, size_t at, size_t offset)
{
    uint32_t before;

    at += offset & 1;
    offset += offset & 1;
    if (offset >= OTA_PAGE_BYTES || at > piece->count || piece->count - at < 2) {
        return;
    }
    before = load_place(piece->bytes + at);
    while (before < OTA_PAGE_BYTES && offset + 4 <= OTA_PAGE_BYTES && piece->count - at >= 4) {
        uint32_t found;

        at += 2;
        offset += 2;
        found = load_place(piece->bytes + at);
        if (found < offset + 2 || found >= before) {
            return;
        }
        store_place(piece->bytes + at, before - found);
        before = found;
    }
}

/* Pages of a database. Returns where the next one starts. */
size_t ota_scan_cells(const struct piece *piece, size_t at, size_t end)
{
    while (at < end && piece->mode->groups & OTA_CALLS) {
        size_t offset = (size_t)((piece->at + at) & (OTA_PAGE_BYTES - 1));

        if (offset == 0) {
            rewrite_cells(piece, at);
        } else if (piece->kind == OTA_LABEL_OLD) {
            guess_cells(piece, at, offset);
        }
        at += OTA_PAGE_BYTES - offset;
    }
    return at < end ? end : at;
}

/* Whether `word` is a distance from `place` to another place of the image, and not a short one: those are taken for lengths and flags. */
static int is_far(uint32_t word, uint64_t place, uint64_t least, uint64_t image_bytes)
{
    uint64_t distance = extend(word, 32), back = 0 - distance;

    if (place >= image_bytes) {
        return 0;
    }
    return distance >> 63 ? back >= least && back <= place : distance >= least && distance < image_bytes - place;
}

/* Distances of 4 bytes from their own place. Targets stand in the upper half of the numbers, where no distance is in so short an image; what
 * was there takes the distance's place: doing it twice is doing nothing. */
size_t ota_scan_distances(const struct piece *piece, size_t at, size_t end)
{
    const struct ota_mode *mode = piece->mode;
    const struct ota_predictors *predictors = piece->predictors;
    const uint32_t upper = (uint32_t)1 << 31;

    if (!(mode->groups & OTA_CALLS) || predictors->new_bytes > (uint64_t)1 << 30) {
        return end;
    }
    for (at += (size_t)(-(piece->at + at) & 3); at < end && piece->count - at >= 4; at += 4) {
        uint64_t place = piece->at + at;
        uint32_t word = load32(piece->bytes + at), back = word - (uint32_t)place - upper;

        if (piece->kind == OTA_LABEL_OLD) {
            if (is_far(word, place, mode->base, predictors->old_bytes)) {
                store32(piece->bytes + at, (uint32_t)map_offset(predictors, place + extend(word, 32)) + upper);
            }
        } else if (is_far(word, place, mode->base, predictors->new_bytes)) {
            store32(piece->bytes + at, word + (uint32_t)place + upper);
        } else if (is_far(back, place, mode->base, predictors->new_bytes)) {
            store32(piece->bytes + at, back);
        }
    }
    return at < end ? end : at;
}

static uint32_t reversed(uint32_t word)
{
    return word >> 24 | (word >> 8 & 0xFF00u) | (word << 8 & 0xFF0000u) | word << 24;
}

/* Records of one length: all bytes from `at` to `end` are one number, from which the same is subtracted, moved by a record. Little-endian the
 * record before is subtracted, big-endian the one behind. Four bytes at a time, from the lowest on. */
size_t ota_scan_records(const struct piece *piece, size_t at, size_t end)
{
    enum { KEPT = OTA_MAX_RECORD_BYTES + 1 };
    const struct ota_mode *mode = piece->mode;
    uint8_t kept[KEPT + 4] = {0}; /* the last bytes of the number, from which the next ones differ; the first four stand behind it again */
    const int big = !(mode->groups & OTA_CALLS);
    size_t done, width;
    uint32_t carry = 0;

    if (mode->base == 0 || mode->base > OTA_MAX_RECORD_BYTES || !(mode->groups & (OTA_CALLS | OTA_CONDITIONAL))) {
        return end;
    }
    for (done = 0; done < end - at; done += width) {
        uint8_t *place, *now = kept + done % KEPT;
        const uint8_t *before = kept + (done - (size_t)mode->base) % KEPT;
        uint64_t sum;

        width = mode->base < 4 || end - at - done < 4 ? 1 : 4;
        place = piece->bytes + (big ? end - done - width : at + done);
        if (width == 1) {
            sum = piece->kind == OTA_UNLABEL ? (uint64_t)*place + *before + carry : (uint64_t)*place - *before - carry;
            *now = piece->kind == OTA_UNLABEL ? (uint8_t)sum : *place;
            *place = (uint8_t)sum;
            carry = (uint32_t)(sum >> 8) & 1u;
        } else {
            uint32_t word = big ? reversed(load32(place)) : load32(place);

            sum = piece->kind == OTA_UNLABEL ? (uint64_t)word + load32(before) + carry : (uint64_t)word - load32(before) - carry;
            store32(now, piece->kind == OTA_UNLABEL ? (uint32_t)sum : word);
            if (now == kept) {
                store32(kept + KEPT, load32(kept));
            }
            store32(place, big ? reversed((uint32_t)sum) : (uint32_t)sum);
            carry = (uint32_t)(sum >> 32) & 1u;
        }
    }
    return end;
}
