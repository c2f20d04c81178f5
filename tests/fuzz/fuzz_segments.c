/* libFuzzer target of the segment map in arrays. An input is: u8 segments, u16 old, u16 new, u8 bits by which both are longer, u16 start, u16 end,
 * u16 near, u16 room, u16 gaps, u16 lengths; then the columns gaps, lengths and diagonals; column lengths are cut to what is there.
 *
 * Where a map is read, its segments must ascend inside both images. What is gathered by the planned reads must be what is joined from the whole
 * old image, and the address map must send the start of every stretch where a segment that covers it does.
 */
#include <stdlib.h>
#include <string.h>

#include "segments.h"

enum { HEADER_BYTES = 18, MAX_SEGMENTS = 255, MAX_LONGER = 45 };

struct input {
    const uint8_t *at;
    size_t left;
};

static size_t take(struct input *input, size_t bytes)
{
    size_t value = 0, index;

    for (index = 0; index < bytes; index++) {
        value |= (size_t)input->at[index] << (8 * index);
    }
    input->at += bytes;
    input->left -= bytes;
    return value;
}

static void *room_for(size_t bytes)
{
    void *memory = malloc(bytes > 0 ? bytes : 1);

    if (memory == NULL) {
        abort();
    }
    return memory;
}

static void require(int holds)
{
    if (!holds) {
        abort();
    }
}

/* A copy of exactly the next bytes, so that the sanitizer guards both ends. */
static struct ota_column column(struct input *input, size_t count)
{
    struct ota_column found;
    uint8_t *bytes;

    count = count < input->left ? count : input->left;
    bytes = room_for(count);
    memcpy(bytes, input->at, count);
    input->at += count;
    input->left -= count;
    found.at = bytes;
    found.end = bytes + count;
    return found;
}

static void check_map(const struct ota_map *map, uint64_t old_bytes, uint64_t new_bytes)
{
    uint64_t end = 0;
    size_t index;

    for (index = 0; index < map->count; index++) {
        require(map->lengths[index] > 0 && map->new_offsets[index] >= end);
        end = map->new_offsets[index] + map->lengths[index];
        require(end <= new_bytes && map->old_offsets[index] + map->lengths[index] <= old_bytes);
    }
}

/* Gather what the pieces cover by reads, and join it from the whole old image: the same must come out. */
static void check_source(const uint64_t *triples, const uint64_t *moves, const uint64_t *reads, size_t count, size_t found, uint64_t total,
                         size_t old_bytes, uint64_t room)
{
    uint8_t *old = room_for(old_bytes), *joined = room_for((size_t)total), *gathered = room_for((size_t)total);
    size_t index, next = 0;

    for (index = 0; index < old_bytes; index++) {
        old[index] = (uint8_t)(index * 31 + (index >> 8));
    }
    memset(gathered, 0, (size_t)total);
    require(ota_join(joined, (size_t)total, old, old_bytes, triples, count));
    for (index = 0; index < found; index++, reads += 4) {
        require(reads[2] == next && reads[3] > next);
        next = (size_t)reads[3];
        require(reads[3] - reads[2] == 1 || reads[1] <= room);
        require(reads[0] + reads[1] <= old_bytes);
        require(ota_scatter(gathered, (size_t)total, old + reads[0], (size_t)reads[1], reads[0], moves + 3 * reads[2],
                            (size_t)(reads[3] - reads[2])));
    }
    require(next == count && memcmp(joined, gathered, (size_t)total) == 0);
    if (total > 0) { /* one byte less is refused, not written behind */
        require(!ota_join(joined, (size_t)total - 1, old, old_bytes, triples, count));
    }
    free(old);
    free(joined);
    free(gathered);
}

static void check_cut(const struct ota_map *map, uint64_t start, uint64_t end, uint64_t near, uint64_t room, uint64_t old_bytes)
{
    uint64_t *pairs, *triples, *moves, *spare, *reads, total;
    size_t first, last, count, found, index;

    ota_map_find(map, start, end, &first, &last);
    require(first <= last && last <= map->count);
    count = last - first;
    pairs = room_for(2 * count * sizeof *pairs);
    triples = room_for(3 * count * sizeof *triples);
    moves = room_for(3 * count * sizeof *moves);
    spare = room_for(3 * count * sizeof *spare);
    total = ota_map_cut(map, start, end, first, last, pairs, triples);
    require(total <= (end > start ? end - start : 0));
    for (index = 0; index < count; index++) {
        require(pairs[2 * index + 1] > 0 && pairs[2 * index] + pairs[2 * index + 1] <= end - start);
    }
    ota_plan_moves(triples, count, moves, spare);
    found = ota_plan_reads(moves, count, near, room, NULL);
    reads = room_for(4 * found * sizeof *reads);
    require(found <= count && ota_plan_reads(moves, count, near, room, reads) == found);
    if (old_bytes <= 0xFFFF) {
        check_source(triples, moves, reads, count, found, total, (size_t)old_bytes, room);
    }
    free(pairs);
    free(triples);
    free(moves);
    free(spare);
    free(reads);
}

static void check_addresses(const struct ota_map *map)
{
    uint64_t *entries = room_for(3 * map->count * sizeof *entries), *spare = room_for(3 * map->count * sizeof *spare);
    uint64_t *starts = room_for(map->count * sizeof *starts);
    int64_t *shifts = room_for(map->count * sizeof *shifts);
    size_t found = ota_address_map(map, entries, spare, starts, shifts), index, segment;

    require(found <= map->count);
    for (index = 0; index < found; index++) {
        int is_there = 0;

        require(index == 0 || starts[index] > starts[index - 1]);
        for (segment = 0; segment < map->count; segment++) {
            is_there |= starts[index] - map->old_offsets[segment] < map->lengths[segment]
                && shifts[index] == (int64_t)(map->new_offsets[segment] - map->old_offsets[segment]);
        }
        require(is_there);
    }
    free(entries);
    free(spare);
    free(starts);
    free(shifts);
}

/* Gaps and diagonals as a value map: its numbers must ascend. */
static void check_values(const struct ota_column *gaps, const struct ota_column *changes, size_t count)
{
    struct ota_column columns[2] = {*gaps, *changes};
    uint32_t *old_values = room_for(count * sizeof *old_values), *new_values = room_for(count * sizeof *new_values);
    size_t at, index;
    uint64_t value;

    if (ota_values_read(columns, count, old_values, new_values, &at, &value) == OTA_MAP_OK) {
        require(at == count);
        for (index = 1; index < count; index++) {
            require(old_values[index - 1] < old_values[index]);
        }
    }
    free(old_values);
    free(new_values);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input input = {data, size};
    struct ota_column columns[3], kept[3];
    struct ota_stop stop;
    struct ota_map map;
    uint64_t *new_offsets, *old_offsets, old_bytes, new_bytes, start, end, near, room;
    uint32_t *lengths;
    size_t count, longer, gaps_bytes, lengths_bytes, index;

    if (size < HEADER_BYTES) {
        return 0;
    }
    count = take(&input, 1);
    old_bytes = take(&input, 2);
    new_bytes = take(&input, 2);
    longer = take(&input, 1) % (MAX_LONGER + 1);
    old_bytes <<= longer;
    new_bytes <<= longer;
    start = (uint64_t)take(&input, 2) << longer;
    end = (uint64_t)take(&input, 2) << longer;
    near = take(&input, 2);
    room = take(&input, 2);
    gaps_bytes = take(&input, 2);
    lengths_bytes = take(&input, 2);
    columns[0] = column(&input, gaps_bytes);
    columns[1] = column(&input, lengths_bytes);
    columns[2] = column(&input, input.left);
    memcpy(kept, columns, sizeof kept);
    check_values(&kept[0], &kept[2], count);
    new_offsets = room_for(count * sizeof *new_offsets);
    old_offsets = room_for(count * sizeof *old_offsets);
    lengths = room_for(count * sizeof *lengths);
    if (ota_map_read(columns, count, old_bytes, new_bytes, new_offsets, old_offsets, lengths, &stop) == OTA_MAP_OK) {
        map.new_offsets = new_offsets;
        map.old_offsets = old_offsets;
        map.lengths = lengths;
        map.count = count;
        check_map(&map, old_bytes, new_bytes);
        check_cut(&map, start, end, near, room, old_bytes);
        check_addresses(&map);
    }
    for (index = 0; index < 3; index++) {
        free((void *)(uintptr_t)kept[index].at);
    }
    free(new_offsets);
    free(old_offsets);
    free(lengths);
    return 0;
}
