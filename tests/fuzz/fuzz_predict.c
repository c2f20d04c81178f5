/* libFuzzer target of predict.c. An input is: u8 what, u8 modes, u8 pages, u8 entries of the address map, u8 log2 of both image lengths in
 * fours, u8 log2 of the unit; then per mode u8 set, u8 groups, u64 base; u8 per page; per entry u16 distance to the one before, u64 shift; u64
 * place in the new image, u64 place in the old one, u8 values, u16 distance to the one before and u32 new value of each; what is left are the bytes to rewrite. If `what` is odd, what follows the six bytes is for
 * units instead: u8 pieces, u16 start and u8 length of each, u8 length of the gaps, gaps, then a block and as many bytes of values.
 *
 * Only the documented preconditions hold: known sets, pages with modes that are there, ascending starts. Labels must be undone exactly, and a
 * lookup must change nothing.
 */
#include "predict.h"
#include "input.h"

enum { MAX_MODES = 16, MAX_PAGES = 64, MAX_ENTRIES = 64, MAX_PIECES = 32, MAX_VALUES = 16, PARTS_LOG2 = 5, SLOTS_LOG2 = 4 };

static void add_units(struct input *input, size_t unit)
{
    uint64_t pieces[2 * MAX_PIECES];
    size_t count = (size_t)number(input, 1) % (MAX_PIECES + 1), index, gaps_bytes, out_bytes, values_bytes;
    uint8_t *gaps, *out, *values;

    for (index = 0; index < count; index++) {
        pieces[2 * index] = number(input, 2);
        pieces[2 * index + 1] = number(input, 1);
        if (pieces[2 * index + 1] == 255) {
            pieces[2 * index + 1] = UINT64_MAX - pieces[2 * index]; /* no piece of a head, but nothing must happen */
        }
    }
    gaps_bytes = (size_t)number(input, 1);
    gaps_bytes = gaps_bytes < input->left ? gaps_bytes : input->left;
    gaps = take_copy(input, gaps_bytes);
    out_bytes = input->left / 2;
    out = take_copy(input, out_bytes);
    values_bytes = input->left;
    values = take_copy(input, values_bytes);
    (void)ota_add_units(out, out_bytes, pieces, count, gaps, gaps_bytes, values, values_bytes, unit);
    free(gaps);
    free(out);
    free(values);
}

static void label(const struct ota_predictors *predictors, struct input *input, uint64_t new_at, uint64_t old_at)
{
    uint32_t parts[(1 << PARTS_LOG2) + 1], slots[1 << SLOTS_LOG2];
    struct ota_lookup lookup = {parts, slots, PARTS_LOG2, SLOTS_LOG2, 0, 0, 0};
    struct ota_predictors faster = *predictors;
    size_t count = input->left;
    uint8_t *wanted = take_copy(input, count), *bytes = malloc(count > 0 ? count : 1);

    if (bytes == NULL) {
        abort();
    }
    memcpy(bytes, wanted, count);
    ota_label(predictors, OTA_LABEL, bytes, count, new_at, old_at);
    ota_label(predictors, OTA_UNLABEL, bytes, count, new_at, old_at);
    if (memcmp(bytes, wanted, count) != 0) {
        abort(); /* a label was not undone */
    }
    ota_label(predictors, OTA_UNLABEL, bytes, count, new_at, old_at);
    memcpy(bytes, wanted, count);
    faster.lookup = &lookup;
    ota_label(&faster, OTA_LABEL_OLD, bytes, count, new_at, old_at);
    ota_label(predictors, OTA_LABEL_OLD, wanted, count, new_at, old_at);
    if (memcmp(bytes, wanted, count) != 0) {
        abort(); /* found elsewhere */
    }
    free(bytes);
    free(wanted);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input input = {data, size};
    struct ota_predictors predictors;
    struct ota_mode modes[MAX_MODES];
    uint8_t pages[MAX_PAGES];
    uint32_t old_values[MAX_VALUES], new_values[MAX_VALUES], value = 0;
    uint64_t starts[MAX_ENTRIES], new_at, old_at, start = 0;
    int64_t shifts[MAX_ENTRIES];
    size_t index;
    int what = (int)number(&input, 1), sizes, unit;

    memset(&predictors, 0, sizeof predictors);
    predictors.mode_count = 1 + (size_t)number(&input, 1) % MAX_MODES;
    predictors.page_count = (size_t)number(&input, 1) % (MAX_PAGES + 1);
    predictors.map_count = (size_t)number(&input, 1) % (MAX_ENTRIES + 1);
    sizes = (int)number(&input, 1);
    unit = (int)number(&input, 1) % 3;
    predictors.old_bytes = ((uint64_t)1 << (sizes & 15) * 4) + (uint64_t)what;
    predictors.new_bytes = ((uint64_t)1 << (sizes >> 4) * 4) - 1 + (uint64_t)what;
    if (what & 1) {
        add_units(&input, (size_t)1 << unit);
        return 0;
    }
    for (index = 0; index < predictors.mode_count; index++) {
        modes[index].set = (uint8_t)(number(&input, 1) % OTA_SETS);
        modes[index].groups = (uint8_t)number(&input, 1);
        modes[index].base = number(&input, 8);
    }
    for (index = 0; index < predictors.page_count; index++) {
        pages[index] = (uint8_t)(number(&input, 1) % predictors.mode_count);
    }
    for (index = 0; index < predictors.map_count; index++) {
        start += number(&input, 2);
        starts[index] = start++;
        shifts[index] = (int64_t)number(&input, 8);
    }
    predictors.modes = modes;
    predictors.pages = pages;
    predictors.starts = starts;
    predictors.shifts = shifts;
    new_at = number(&input, 8);
    old_at = number(&input, 8);
    predictors.value_count = (size_t)number(&input, 1) % (MAX_VALUES + 1);
    for (index = 0; index < predictors.value_count; index++) {
        value += (uint32_t)number(&input, 2);
        old_values[index] = value++;
        new_values[index] = (uint32_t)number(&input, 4);
    }
    predictors.old_values = old_values;
    predictors.new_values = new_values;
    label(&predictors, &input, new_at, old_at);
    return 0;
}
