/* What the packager does in C (limited API 3.11, abi3): aligns a new image with an old one in linear time.
 *
 * Every byte of the new image belongs to a diagonal (a constant distance to the old image) or to none. Mismatches, bytes on no diagonal and
 * changes of diagonal have costs; the cheapest path through the few diagonals that seeds suggest is found by dynamic programming (Viterbi),
 * so that a good alignment goes on through changed bytes. Seeds are hashes of 8 and of 24 bytes of the old image. In text and records whose
 * seeds all occur often, landmarks lead to the right place: longer stretches, at places that the bytes there choose.
 *
 * Memory: tables of 7.6 bytes per byte of an old image of up to 64 MiB; beyond, seeds are taken further apart, and tables stay below 512 MiB. Paths
 * that lead nowhere are given back, and the others are settled every `SETTLE` bytes.
 *
 * One index of an old image serves any number of walks, at the same time, too: with other costs, or through other parts of the new image.
 * What threads do is up to the caller: its two tables can be filled at once, and parts be walked at once; the interpreter is left to others.
 */
#if defined(__linux__)
#define _DEFAULT_SOURCE /* madvise */
#include <sys/mman.h>
#endif
#define Py_LIMITED_API 0x030B0000
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "calls.h"
#include "pointers.h"
#include "tables.h"
#include "units.h"
#include "values.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum {
    INTERFACE = 7, /* of the functions below; as matcher.py says, and to be changed with it */
    SEED = 8,
    LONG_SEED = 24,
    LANDMARK = 96,      /* so many bytes differ where lines of text and records repeat each other for longer than a long seed */
    LANDMARK_LOG2 = 5,  /* one place in so many, as log2, begins a landmark: its first bytes tell, in both images alike */
    ACTIVE = 14,        /* diagonals followed at once, among them none */
    CANDIDATES = 64,    /* at most this many old places per seed */
    RUN_STRIDE = 64,    /* seeds inside a run of one byte are kept this far apart */
    GOOD_RUN = 16,      /* equal bytes on a diagonal after which it is a good one */
    OFTEN = 4,          /* other diagonals are looked for every so many bytes on a poor one, */
    RARELY = 128,       /* and so many on a good one */
    LOOK_LONGER = 64,   /* equal bytes that are compared to choose between diagonals */
    MAX_SPARSE = 16,
    PATIENCE = 512,     /* bytes without a seed after which steps grow */
    POLISH = 64,        /* how far a border between segments is moved */
    BATCH = 32,         /* places that are indexed together, so that their waits for memory overlap */
    LANES = 8,          /* seeds that are looked up together, for the same reason */
    SETTLE = 1 << 20,
    COLLECT = 1 << 11,  /* nodes that may be superfluous, besides as many as are not */
    HEADS_SHARE = 3,    /* entries of the table of short seeds, in tenths of the places, */
    LONG_SHARE = 6,     /* and of that of long ones, together with that of landmarks */
    LEAST_ENTRIES = 64,
    MAPPED_FROM = 4 << 20, /* bytes of tables that are given back to the system at once */
    ALIGNED = 4,        /* bytes; instructions and what they lead to stand at multiples of it, or of half */
    NUMBER_BITS = 26,   /* of an entry; the others are the tag */
    MAX_INDEXED = 1 << NUMBER_BITS
};
#define NOWHERE 0xFFFFFFFFu
#define NUMBER_MASK (((uint32_t)1 << NUMBER_BITS) - 1)
#define NO_DIAGONAL INT64_MAX
#define MULTIPLIER 0x9E3779B97F4A7C15u
#if defined(__GNUC__)
#define FETCH(address) __builtin_prefetch(address)
#else
#define FETCH(address) ((void)(address))
#endif

struct costs {
    unsigned int mismatch, literal, change, leave, chain, sparse;
};

/* Where a diagonal was entered, and from which path. */
struct node {
    int64_t diagonal;
    uint32_t start;
    int32_t parent;
};

struct active {
    int64_t diagonal;
    int32_t node;
    uint32_t cost, run;
};

struct segment {
    uint64_t new_offset, old_offset, length;
};

/* Old places where a seed of the new image occurs. */
struct finding {
    uint32_t at, places[CANDIDATES + 2];
    int count;
};

/* Where seeds stand in the old image. */
struct index {
    Py_buffer old;
    uint32_t stride, places, head_count, long_head_count, landmark_count;
    int filled;
    size_t table_bytes;
    uint32_t *heads, *long_heads, *previous, *landmarks;
};

struct matcher {
    const uint8_t *old, *new;
    uint32_t old_bytes, new_bytes, stride, head_count, long_head_count, landmark_count, misses, next_look;
    int count;
    struct costs costs;
    const uint32_t *heads, *long_heads, *previous, *landmarks;
    int left_last; /* the newest node leaves all diagonals, and no path goes on from it yet */
    struct node *nodes;
    size_t node_count, node_room, collect_at;
    struct segment *segments;
    size_t segment_count, segment_room;
    struct active active[ACTIVE];
    struct finding findings[LANES]; /* of the place that was looked up last, and of some that may be next */
};

static uint64_t load64(const uint8_t *from)
{
    uint64_t value;

    memcpy(&value, from, sizeof value);
    return value;
}

static uint64_t hash_short(uint64_t value)
{
    return value * MULTIPLIER;
}

static uint64_t hash_long(const uint8_t *from)
{
    return ((load64(from) * MULTIPLIER) ^ (load64(from + 8) * 0xC2B2AE3D27D4EB4Fu) ^ (load64(from + 16) * 0x165667B19E3779F9u)) * MULTIPLIER;
}

/* Return which of `count` entries of a table a hash has; tables need no power of two, so that they fit the memory exactly. */
static uint32_t entry_of(uint64_t hash, uint32_t count)
{
    return (uint32_t)(((hash >> 32) * count) >> 32);
}

/* Return the bits of a hash that stand above a place's number: where they differ, the place itself need not be looked at. */
static uint32_t tag_of(uint64_t hash)
{
    return (uint32_t)hash & ~NUMBER_MASK;
}

static int is_run(uint64_t value)
{
    return ((value << 8) | (value >> 56)) == value;
}

/* Make room for one more of `size` bytes; returns -1 without memory. */
static int grow(void **items, size_t count, size_t *room, size_t size)
{
    if (count == *room) {
        size_t wanted = *room ? 2 * *room : 4096;
        void *larger = realloc(*items, wanted * size);

        if (larger == NULL) {
            return -1;
        }
        *items = larger;
        *room = wanted;
    }
    return 0;
}

static int32_t add_node(struct matcher *matcher, int64_t diagonal, uint32_t start, int32_t parent)
{
    struct node *node;

    if (grow((void **)&matcher->nodes, matcher->node_count, &matcher->node_room, sizeof *matcher->nodes) < 0) {
        return -1;
    }
    node = &matcher->nodes[matcher->node_count];
    node->diagonal = diagonal;
    node->start = start;
    node->parent = parent;
    return (int32_t)matcher->node_count++;
}

static int add_segment(struct matcher *matcher, uint64_t new_offset, uint64_t old_offset, uint64_t length)
{
    struct segment *last = matcher->segment_count ? &matcher->segments[matcher->segment_count - 1] : NULL;

    if (last != NULL && last->new_offset + last->length == new_offset && last->old_offset + last->length == old_offset) {
        last->length += length;
        return 0;
    }
    if (grow((void **)&matcher->segments, matcher->segment_count, &matcher->segment_room, sizeof *matcher->segments) < 0) {
        return -1;
    }
    last = &matcher->segments[matcher->segment_count++];
    last->new_offset = new_offset;
    last->old_offset = old_offset;
    last->length = length;
    return 0;
}

/* Allocate tables that are read all over: on large pages, where the system has them, they are read in half the time. */
static void *allocate_tables(size_t bytes)
{
#if defined(__linux__)
    if (bytes >= MAPPED_FROM) {
        void *tables = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

        if (tables == MAP_FAILED) {
            return NULL;
        }
#if defined(MADV_HUGEPAGE)
        (void)madvise(tables, bytes, MADV_HUGEPAGE);
#endif
        return tables;
    }
#endif
    return malloc(bytes);
}

static void free_tables(void *tables, size_t bytes)
{
#if defined(__linux__)
    if (bytes >= MAPPED_FROM && tables != NULL) {
        (void)munmap(tables, bytes);
        return;
    }
#endif
    (void)bytes;
    free(tables);
}

/* Set how large the tables are: never more than 7.6 bytes per byte of the old image, but for a constant. */
static void size_tables(struct index *index, uint32_t old_bytes)
{
    index->stride = 1 + old_bytes / MAX_INDEXED;
    index->places = old_bytes / index->stride;
    index->head_count = index->places / 10 * HEADS_SHARE + LEAST_ENTRIES;
    index->landmark_count = (index->places >> LANDMARK_LOG2) + 1;
    index->long_head_count = index->places / 10 * LONG_SHARE + LEAST_ENTRIES - index->landmark_count;
    index->table_bytes = sizeof(uint32_t) * ((size_t)index->places + index->head_count + index->long_head_count + index->landmark_count);
}

static int make_tables(struct index *index)
{
    size_tables(index, (uint32_t)index->old.len);
    index->heads = allocate_tables(index->table_bytes);
    if (index->heads == NULL) {
        return -1;
    }
    index->long_heads = index->heads + index->head_count;
    index->previous = index->long_heads + index->long_head_count;
    index->landmarks = index->previous + index->places;
    return 0;
}

/* Both tables are filled from the end of the image, so that the first place of a seed is found first: from it a diagonal through periodic
 * data lasts longest. An entry is the number of a place with the tag of its seed. */
static void fill_heads(struct index *index)
{
    const uint8_t *old = index->old.buf;
    uint32_t old_bytes = (uint32_t)index->old.len, number;

    memset(index->heads, 0xFF, sizeof(uint32_t) * index->head_count);
    for (number = index->places; number > 0;) {
        uint32_t *heads[BATCH], entries[BATCH];
        int count, done;

        for (count = 0; count < BATCH && number > 0; count++) {
            uint32_t at = --number * index->stride;
            uint64_t value, hash;

            heads[count] = NULL;
            entries[count] = number;
            if ((uint64_t)at + SEED > old_bytes) {
                continue;
            }
            value = load64(old + at);
            if (!is_run(value) || at % RUN_STRIDE == 0) {
                hash = hash_short(value);
                heads[count] = &index->heads[entry_of(hash, index->head_count)];
                entries[count] |= tag_of(hash);
                FETCH(heads[count]);
            }
        }
        for (done = 0; done < count; done++) {
            uint32_t *previous = &index->previous[entries[done] & NUMBER_MASK];

            *previous = NOWHERE;
            if (heads[done] != NULL) {
                *previous = *heads[done];
                *heads[done] = entries[done];
            }
        }
    }
}

/* Return by how much a place of a long seed is preferred to others with the same entry: most of what is looked for stands at instructions. */
static uint32_t rank(uint32_t number)
{
    number |= ALIGNED;
    return number & (0 - number);
}

static void fill_long_heads(struct index *index)
{
    const uint8_t *old = index->old.buf;
    uint32_t old_bytes = (uint32_t)index->old.len, number;

    memset(index->long_heads, 0xFF, sizeof(uint32_t) * index->long_head_count);
    for (number = index->places; number > 0;) {
        uint32_t *heads[BATCH], entries[BATCH];
        int count, done;

        for (count = 0; count < BATCH && number > 0;) {
            uint32_t at = --number * index->stride;

            if ((uint64_t)at + LONG_SEED <= old_bytes) {
                uint64_t hash = hash_long(old + at);

                heads[count] = &index->long_heads[entry_of(hash, index->long_head_count)];
                entries[count] = tag_of(hash) | number;
                FETCH(heads[count++]);
            }
        }
        for (done = 0; done < count; done++) {
            if (*heads[done] == NOWHERE || rank(entries[done]) >= rank(*heads[done])) {
                *heads[done] = entries[done];
            }
        }
    }
}

static int is_landmark(const uint8_t *from)
{
    uint64_t value = load64(from);

    return hash_short(value) >> (64 - LANDMARK_LOG2) == 0 && !is_run(value);
}

static uint64_t hash_landmark(const uint8_t *from)
{
    uint64_t hash = 0;
    int at;

    for (at = 0; at < LANDMARK; at += SEED) {
        hash = (hash ^ load64(from + at)) * MULTIPLIER;
        hash ^= hash >> 32;
    }
    return hash * MULTIPLIER;
}

/* Of landmarks with one entry the first in the image stays. */
static void fill_landmarks(struct index *index)
{
    const uint8_t *old = index->old.buf;
    uint32_t at;

    memset(index->landmarks, 0xFF, sizeof(uint32_t) * index->landmark_count);
    if (index->old.len < LANDMARK) {
        return;
    }
    for (at = (uint32_t)index->old.len - LANDMARK + 1; at-- > 0;) {
        if (is_landmark(old + at)) {
            index->landmarks[entry_of(hash_landmark(old + at), index->landmark_count)] = at;
        }
    }
}

static void add_place(const struct matcher *matcher, struct finding *finding, uint32_t entry, size_t bytes)
{
    uint32_t place = (entry & NUMBER_MASK) * matcher->stride;

    if (memcmp(matcher->old + place, matcher->new + finding->at, bytes) == 0) {
        finding->places[finding->count++] = place;
    }
}

/* Collect old places where the seed at `at` occurs; the one with the long seed comes first. The seeds at some multiples of `interval` behind
 * it are looked up in step with it, because nearly all time is waits for memory, which then overlap. */
static void look_up(struct matcher *matcher, uint32_t at, uint32_t interval)
{
    const uint32_t *long_entries[LANES];
    uint32_t entries[LANES], tags[LANES], long_tags[LANES];
    unsigned int tries;
    int lane, lanes;

    for (lanes = 0; lanes < LANES && (uint64_t)at + SEED <= matcher->new_bytes; lanes++, at += interval) {
        struct finding *finding = &matcher->findings[lanes];
        const uint8_t *new = matcher->new + at;
        uint64_t hash = hash_short(load64(new));

        finding->at = at;
        finding->count = 0;
        tags[lanes] = tag_of(hash);
        entries[lanes] = entry_of(hash, matcher->head_count);
        FETCH(&matcher->heads[entries[lanes]]);
        long_entries[lanes] = NULL;
        if ((uint64_t)at + LONG_SEED <= matcher->new_bytes) {
            hash = hash_long(new);
            long_tags[lanes] = tag_of(hash);
            long_entries[lanes] = &matcher->long_heads[entry_of(hash, matcher->long_head_count)];
            FETCH(long_entries[lanes]);
        }
        if ((uint64_t)at + SEED <= matcher->old_bytes && memcmp(matcher->old + at, new, SEED) == 0) {
            finding->places[finding->count++] = at; /* the same place: fill and tables that did not move */
        }
    }
    for (lane = 0; lane < lanes; lane++) {
        entries[lane] = matcher->heads[entries[lane]];
        if (long_entries[lane] != NULL && *long_entries[lane] != NOWHERE && (*long_entries[lane] & ~NUMBER_MASK) == long_tags[lane]) {
            add_place(matcher, &matcher->findings[lane], *long_entries[lane], LONG_SEED);
        }
    }
    for (tries = matcher->costs.chain; tries > 0; tries--) {
        int live = 0;

        for (lane = 0; lane < lanes; lane++) {
            uint32_t entry = entries[lane];

            if (entry != NOWHERE && matcher->findings[lane].count < CANDIDATES) {
                entries[lane] = matcher->previous[entry & NUMBER_MASK];
                live = 1;
                if ((entry & ~NUMBER_MASK) == tags[lane]) {
                    add_place(matcher, &matcher->findings[lane], entry, SEED);
                }
            }
        }
        if (!live) {
            break;
        }
    }
}

static const struct finding *find_seeds(struct matcher *matcher, uint32_t at, uint32_t interval)
{
    int lane;

    for (lane = 0; lane < LANES; lane++) {
        if (matcher->findings[lane].at == at) {
            return &matcher->findings[lane];
        }
    }
    look_up(matcher, at, interval);
    return matcher->findings;
}

static uint32_t equal_bytes(const struct matcher *matcher, int64_t old_at, uint32_t new_at)
{
    uint32_t count = 0;

    if (old_at < 0) {
        return 0;
    }
    while (count < LOOK_LONGER && new_at + count < matcher->new_bytes && (uint64_t)old_at + count < matcher->old_bytes
           && matcher->old[old_at + count] == matcher->new[new_at + count]) {
        count++;
    }
    return count;
}

/* Return the slot that a new diagonal may have: a free one, or that of the worst unless it is as good; -1 for none. */
static int choose_slot(struct matcher *matcher, int best, uint32_t cost, int64_t old_at, uint32_t at)
{
    struct active *active = matcher->active;
    int worst = -1, slot;

    if (matcher->count < ACTIVE) {
        return matcher->count++;
    }
    for (slot = 1; slot < matcher->count; slot++) {
        if (slot != best
            && (worst < 0 || active[slot].cost > active[worst].cost
                || (active[slot].cost == active[worst].cost && active[slot].run < active[worst].run))) {
            worst = slot;
        }
    }
    if (worst < 0 || active[worst].cost < cost
        || equal_bytes(matcher, active[worst].diagonal + at, at) >= equal_bytes(matcher, old_at, at)) {
        return -1;
    }
    return worst;
}

/* Let the seeds at `at` open diagonals. */
static int enter_seeds(struct matcher *matcher, int best, uint32_t at, uint32_t interval)
{
    const struct finding *found = find_seeds(matcher, at, interval);
    uint32_t cost = matcher->active[best].cost + matcher->costs.change;
    int32_t parent = matcher->active[best].node;
    int index, slot;

    for (index = 0; index < found->count; index++) {
        int64_t diagonal = (int64_t)found->places[index] - at;

        for (slot = 1; slot < matcher->count && matcher->active[slot].diagonal != diagonal; slot++) {
        }
        if (slot < matcher->count) {
            if (matcher->active[slot].cost <= cost) {
                continue;
            }
        } else {
            slot = choose_slot(matcher, best, cost, found->places[index], at);
            if (slot < 0) {
                continue;
            }
        }
        matcher->active[slot].diagonal = diagonal;
        matcher->active[slot].cost = cost;
        matcher->active[slot].run = 0;
        matcher->active[slot].node = add_node(matcher, diagonal, at, parent);
        matcher->left_last = matcher->left_last && best != 0;
        if (matcher->active[slot].node < 0) {
            return -1;
        }
    }
    if (found->count > 0) {
        matcher->misses = 0;
    } else if (++matcher->misses > PATIENCE && best == 0) {
        matcher->next_look = at + 1 + (matcher->misses / PATIENCE);
    }
    return 0;
}

/* Let the landmark at `at`, if there is one, open its diagonal, in place of the worst one. */
static int enter_landmark(struct matcher *matcher, int best, uint32_t at)
{
    uint32_t place = matcher->landmarks[entry_of(hash_landmark(matcher->new + at), matcher->landmark_count)];
    uint32_t cost = matcher->active[best].cost + matcher->costs.change;
    int64_t diagonal = (int64_t)place - at;
    int slot, other;

    if (place == NOWHERE || memcmp(matcher->old + place, matcher->new + at, LANDMARK) != 0) {
        return 0;
    }
    for (slot = 1; slot < matcher->count && matcher->active[slot].diagonal != diagonal; slot++) {
    }
    if (slot == ACTIVE) {
        for (slot = best == 1 ? 2 : 1, other = slot + 1; other < ACTIVE; other++) {
            if (other != best && matcher->active[other].cost > matcher->active[slot].cost) {
                slot = other;
            }
        }
    } else if (slot == matcher->count) {
        matcher->count++;
    } else if (matcher->active[slot].cost <= cost) {
        return 0;
    }
    matcher->active[slot].diagonal = diagonal;
    matcher->active[slot].cost = cost;
    matcher->active[slot].run = 0;
    matcher->active[slot].node = add_node(matcher, diagonal, at, matcher->active[best].node);
    matcher->left_last = matcher->left_last && best != 0;
    return matcher->active[slot].node < 0 ? -1 : 0;
}

static int cheapest(const struct matcher *matcher)
{
    int best = 0, slot;

    for (slot = 1; slot < matcher->count; slot++) {
        if (matcher->active[slot].cost < matcher->active[best].cost) {
            best = slot;
        }
    }
    return best;
}

/* Drop diagonals that can't become the cheapest again; returns where the cheapest stands now. */
static int prune(struct matcher *matcher, int best)
{
    uint32_t limit = matcher->active[best].cost + matcher->costs.change + matcher->costs.change / 2;
    int slot = 1;

    while (slot < matcher->count) {
        if (matcher->active[slot].cost > limit) {
            matcher->active[slot] = matcher->active[--matcher->count];
            if (best == matcher->count) {
                best = slot;
            }
        } else {
            slot++;
        }
    }
    return best;
}

/* Write the segments of the cheapest path up to `at`, and go on from there with what is active. */
static int settle(struct matcher *matcher, uint32_t at)
{
    int best = cheapest(matcher), slot;
    int32_t node, next = -1;
    uint32_t end = at;

    /* Turn the list of parents around, so that the path can be written from its start. */
    for (node = matcher->active[best].node; node >= 0;) {
        int32_t parent = matcher->nodes[node].parent;

        matcher->nodes[node].parent = next;
        next = node;
        node = parent;
    }
    for (node = next; node >= 0; node = matcher->nodes[node].parent) {
        const struct node *here = &matcher->nodes[node];

        end = here->parent >= 0 ? matcher->nodes[here->parent].start : at;
        if (here->diagonal != NO_DIAGONAL && end > here->start
            && add_segment(matcher, here->start, (uint64_t)(here->diagonal + here->start), end - here->start) < 0) {
            return -1;
        }
    }
    matcher->node_count = 0;
    matcher->left_last = 0;
    node = add_node(matcher, matcher->active[best].diagonal, at, -1);
    for (slot = 0; slot < matcher->count; slot++) {
        struct active *active = &matcher->active[slot];

        active->cost = slot == best ? 0 : slot == 0 ? matcher->costs.leave : matcher->costs.change;
        active->node = slot == best ? node : add_node(matcher, active->diagonal, at, node);
        if (active->node < 0) {
            return -1;
        }
    }
    return 0;
}

static void advance(struct matcher *matcher, uint32_t at)
{
    int slot;

    matcher->active[0].cost += matcher->costs.literal;
    for (slot = 1; slot < matcher->count; slot++) {
        struct active *active = &matcher->active[slot];
        int64_t place = active->diagonal + at;

        if (place < 0 || place >= matcher->old_bytes) {
            active->cost += 1u << 20; /* pruned next */
            active->run = 0;
        } else if (matcher->old[place] == matcher->new[at]) {
            active->run++;
        } else {
            active->cost += matcher->costs.mismatch;
            active->run = 0;
        }
    }
}

/* Let the path that is on no diagonal come from the best one, where that is cheaper. */
static int leave(struct matcher *matcher, int best, uint32_t at)
{
    struct active *none = &matcher->active[0];

    none->cost = matcher->active[best].cost + matcher->costs.leave;
    if (matcher->left_last) {
        matcher->nodes[none->node].start = at;
        matcher->nodes[none->node].parent = matcher->active[best].node;
        return 0;
    }
    none->node = add_node(matcher, NO_DIAGONAL, at, matcher->active[best].node);
    matcher->left_last = 1;
    return none->node < 0 ? -1 : 0;
}

/* Go on over bytes that are equal on all diagonals, up to where seeds are looked for next: only the cost of leaving changes there.
 * Moves *place to where that ends; returns -1 without memory. */
static int skip_equal(struct matcher *matcher, int best, uint32_t *place)
{
    uint32_t at = *place, end = (at | (RARELY - 1)) + 1, limit = matcher->active[best].cost + matcher->costs.leave;
    uint32_t cost = matcher->active[0].cost, left = NOWHERE;
    int slot, step;

    for (; at + SEED <= end && (uint64_t)at + SEED <= matcher->new_bytes; at += SEED) {
        uint64_t wanted = load64(matcher->new + at);

        for (slot = 1; slot < matcher->count; slot++) {
            int64_t old_at = matcher->active[slot].diagonal + at;

            if (old_at < 0 || old_at + SEED > matcher->old_bytes || load64(matcher->old + old_at) != wanted) {
                break;
            }
        }
        if (slot < matcher->count) {
            break;
        }
        for (slot = 1; slot < matcher->count; slot++) {
            matcher->active[slot].run += SEED;
        }
        for (step = 0; step < SEED; step++) {
            if (cost > limit) {
                cost = limit;
                left = at + (uint32_t)step;
            }
            cost += matcher->costs.literal;
        }
    }
    *place = at;
    if (left != NOWHERE && leave(matcher, best, left) < 0) {
        return -1;
    }
    matcher->active[0].cost = cost;
    return 0;
}

/* Give back the nodes that no path goes through any more: of all that were made, a tenth and less are left. */
static int collect_nodes(struct matcher *matcher)
{
    int32_t *moved = calloc(matcher->node_count, sizeof *moved), node, kept = 0;
    int slot;

    if (moved == NULL) {
        return -1;
    }
    for (slot = 0; slot < matcher->count; slot++) {
        for (node = matcher->active[slot].node; node >= 0 && !moved[node]; node = matcher->nodes[node].parent) {
            moved[node] = 1;
        }
    }
    for (node = 0; node < (int32_t)matcher->node_count; node++) {
        if (moved[node]) {
            matcher->nodes[kept] = matcher->nodes[node];
            moved[node] = kept++;
        }
    }
    for (node = 0; node < kept; node++) {
        int32_t *parent = &matcher->nodes[node].parent;

        *parent = *parent < 0 ? -1 : moved[*parent];
    }
    for (slot = 0; slot < matcher->count; slot++) {
        matcher->active[slot].node = moved[matcher->active[slot].node];
    }
    free(moved);
    matcher->node_count = (size_t)kept;
    matcher->collect_at = 2 * (size_t)kept + COLLECT;
    return 0;
}

/* Walk through the new image from byte `at` to before byte `end`, which is a multiple of `RARELY` or the end of the image. */
static int walk(struct matcher *matcher, uint32_t at, uint32_t end)
{
    uint32_t sparse = matcher->costs.sparse;
    int lane;

    matcher->active[0].diagonal = NO_DIAGONAL;
    matcher->active[0].node = add_node(matcher, NO_DIAGONAL, at, -1);
    matcher->count = 1;
    matcher->collect_at = COLLECT;
    for (lane = 0; lane < LANES; lane++) {
        matcher->findings[lane].at = NOWHERE;
    }
    if (matcher->active[0].node < 0) {
        return -1;
    }
    while (at < end) {
        int best = prune(matcher, cheapest(matcher));
        struct active *active = matcher->active;
        uint32_t interval = best == 0 ? sparse : active[best].run < GOOD_RUN ? OFTEN * sparse : RARELY, next = at;

        if (matcher->node_count >= matcher->collect_at && collect_nodes(matcher) < 0) {
            return -1;
        }
        if (active[0].cost > active[best].cost + matcher->costs.leave && leave(matcher, best, at) < 0) {
            return -1;
        }
        if (at % interval == 0 && at >= matcher->next_look && (uint64_t)at + SEED <= matcher->new_bytes
            && enter_seeds(matcher, best, at, interval) < 0) {
            return -1;
        }
        if ((uint64_t)at + LANDMARK <= matcher->new_bytes && is_landmark(matcher->new + at) && enter_landmark(matcher, best, at) < 0) {
            return -1;
        }
        if (interval == RARELY && skip_equal(matcher, best, &next) < 0) {
            return -1;
        }
        if (next == at) {
            advance(matcher, at);
            next++;
        }
        at = next;
        if (at % SETTLE == 0 && at < end && settle(matcher, at) < 0) {
            return -1;
        }
    }
    return settle(matcher, end);
}

/* Extend a segment backwards over bytes that belong to none, as far as that pays. */
static void extend_back(const struct matcher *matcher, struct segment *segment, uint64_t limit)
{
    int64_t score = 0, best = 0;
    uint64_t count = 0, kept = 0;

    while (segment->new_offset > limit + count && segment->old_offset > count && score > best - 200) {
        count++;
        score += matcher->costs.literal;
        if (matcher->old[segment->old_offset - count] != matcher->new[segment->new_offset - count]) {
            score -= matcher->costs.mismatch;
        }
        if (score > best) {
            best = score;
            kept = count;
        }
    }
    segment->new_offset -= kept;
    segment->old_offset -= kept;
    segment->length += kept;
}

/* Move the border between two segments that touch to where most bytes are equal. */
static void move_border(const struct matcher *matcher, struct segment *first, struct segment *second)
{
    uint64_t first_end = first->old_offset + first->length, border = second->new_offset, count, kept = 0;
    int score = 0, best = 0;

    for (count = 1; count < POLISH && count < first->length && count <= second->old_offset; count++) {
        uint8_t wanted = matcher->new[border - count];

        score += (matcher->old[second->old_offset - count] == wanted) - (matcher->old[first_end - count] == wanted);
        if (score > best) {
            best = score;
            kept = count;
        }
    }
    if (kept > 0) {
        first->length -= kept;
        second->new_offset -= kept;
        second->old_offset -= kept;
        second->length += kept;
        return;
    }
    score = 0;
    for (count = 1; count < POLISH && count < second->length && first_end + count <= matcher->old_bytes; count++) {
        uint8_t wanted = matcher->new[border + count - 1];

        score += (matcher->old[first_end + count - 1] == wanted) - (matcher->old[second->old_offset + count - 1] == wanted);
        if (score > best) {
            best = score;
            kept = count;
        }
    }
    first->length += kept;
    second->new_offset += kept;
    second->old_offset += kept;
    second->length -= kept;
}

static void polish(struct matcher *matcher)
{
    size_t index;

    for (index = 0; index < matcher->segment_count; index++) {
        struct segment *segment = &matcher->segments[index], *before = index ? segment - 1 : NULL;
        uint64_t limit = before != NULL ? before->new_offset + before->length : 0;

        extend_back(matcher, segment, limit);
        if (before != NULL && segment->new_offset == limit) {
            move_border(matcher, before, segment);
        }
    }
}

static const char INDEX_NAME[] = "packager.diff._match.index";

static void free_index(PyObject *capsule)
{
    struct index *index = PyCapsule_GetPointer(capsule, INDEX_NAME);

    if (index != NULL) {
        free_tables(index->heads, index->table_bytes);
        PyBuffer_Release(&index->old);
        free(index);
    }
}

static PyObject *make_index(PyObject *module, PyObject *arguments)
{
    struct index *index = calloc(1, sizeof *index);
    PyObject *capsule;

    (void)module;
    if (index == NULL) {
        return PyErr_NoMemory();
    }
    if (!PyArg_ParseTuple(arguments, "y*:make_index", &index->old)) {
        free(index);
        return NULL;
    }
    capsule = PyCapsule_New(index, INDEX_NAME, free_index);
    if (capsule == NULL) {
        PyBuffer_Release(&index->old);
        free(index);
        return NULL;
    }
    if (index->old.len >= (Py_ssize_t)NOWHERE) {
        PyErr_SetString(PyExc_ValueError, "make_index: images of 4 GiB and more are not supported");
    } else if (make_tables(index) < 0) {
        PyErr_NoMemory();
    } else {
        return capsule;
    }
    Py_DECREF(capsule);
    return NULL;
}

static PyObject *index_bytes(PyObject *module, PyObject *arguments)
{
    struct index index;
    unsigned int old_bytes;

    (void)module;
    if (!PyArg_ParseTuple(arguments, "I:index_bytes", &old_bytes)) {
        return NULL;
    }
    size_tables(&index, old_bytes);
    return PyLong_FromSize_t(index.table_bytes);
}

static PyObject *fill(PyObject *module, PyObject *arguments)
{
    PyObject *capsule;
    struct index *index;
    int is_long;

    (void)module;
    if (!PyArg_ParseTuple(arguments, "Op:fill", &capsule, &is_long)) {
        return NULL;
    }
    index = PyCapsule_GetPointer(capsule, INDEX_NAME);
    if (index == NULL) {
        return NULL;
    }
    Py_BEGIN_ALLOW_THREADS
    if (is_long) {
        fill_long_heads(index);
        fill_landmarks(index);
    } else {
        fill_heads(index);
    }
    Py_END_ALLOW_THREADS
    index->filled |= is_long ? 2 : 1;
    return Py_NewRef(Py_None);
}

/* Put images, index and costs into a matcher; returns -1 with an error set. */
static int prepare(struct matcher *matcher, PyObject *capsule, const Py_buffer *new, const struct costs *costs)
{
    const struct index *index = PyCapsule_GetPointer(capsule, INDEX_NAME);

    memset(matcher, 0, sizeof *matcher);
    if (index == NULL) {
        return -1;
    }
    if (index->filled != 3) {
        PyErr_SetString(PyExc_ValueError, "index: both of its tables must be filled first");
        return -1;
    }
    if (costs->sparse < 1 || costs->sparse > MAX_SPARSE) {
        PyErr_Format(PyExc_ValueError, "match: found sparse %u, expected 1 to %d", costs->sparse, (int)MAX_SPARSE);
        return -1;
    }
    if (new->len >= (Py_ssize_t)NOWHERE) {
        PyErr_SetString(PyExc_ValueError, "match: images of 4 GiB and more are not supported");
        return -1;
    }
    matcher->old = index->old.buf;
    matcher->old_bytes = (uint32_t)index->old.len;
    matcher->new = new->buf;
    matcher->new_bytes = (uint32_t)new->len;
    matcher->costs = *costs;
    matcher->stride = index->stride;
    matcher->head_count = index->head_count;
    matcher->long_head_count = index->long_head_count;
    matcher->heads = index->heads;
    matcher->long_heads = index->long_heads;
    matcher->previous = index->previous;
    matcher->landmark_count = index->landmark_count;
    matcher->landmarks = index->landmarks;
    return 0;
}

static PyObject *as_triples(const struct matcher *matcher)
{
    return PyBytes_FromStringAndSize((const char *)matcher->segments, (Py_ssize_t)(matcher->segment_count * sizeof *matcher->segments));
}

static PyObject *match(PyObject *module, PyObject *arguments)
{
    struct matcher matcher;
    struct costs costs;
    Py_buffer new;
    PyObject *capsule, *result = NULL;
    unsigned int first, end;

    (void)module;
    if (!PyArg_ParseTuple(arguments, "Oy*II(IIIIII):match", &capsule, &new, &first, &end, &costs.mismatch, &costs.literal, &costs.change,
                          &costs.leave, &costs.chain, &costs.sparse)) {
        return NULL;
    }
    if (prepare(&matcher, capsule, &new, &costs) == 0) {
        if (end > matcher.new_bytes || first > end || (end < matcher.new_bytes && end % RARELY != 0)) {
            PyErr_Format(PyExc_ValueError, "match: found the part from %u to %u, expected one within the image that ends at a multiple of %d",
                         first, end, (int)RARELY);
        } else {
            int failed;

            Py_BEGIN_ALLOW_THREADS
            failed = walk(&matcher, first, end) < 0;
            Py_END_ALLOW_THREADS
            result = failed ? PyErr_NoMemory() : as_triples(&matcher);
        }
    }
    free(matcher.nodes);
    free(matcher.segments);
    PyBuffer_Release(&new);
    return result;
}

static PyObject *finish(PyObject *module, PyObject *arguments)
{
    struct matcher matcher;
    struct costs costs;
    Py_buffer new, found;
    PyObject *capsule, *result = NULL;

    (void)module;
    if (!PyArg_ParseTuple(arguments, "Oy*y*(IIIIII):finish", &capsule, &new, &found, &costs.mismatch, &costs.literal, &costs.change,
                          &costs.leave, &costs.chain, &costs.sparse)) {
        return NULL;
    }
    if (prepare(&matcher, capsule, &new, &costs) == 0) {
        const uint8_t *triple = found.buf;
        size_t count = (size_t)found.len / sizeof(struct segment), index;
        uint64_t done = 0;
        int failed = 0, bad = 0;

        Py_BEGIN_ALLOW_THREADS
        for (index = 0; index < count && !failed && !bad; index++, triple += sizeof(struct segment)) {
            struct segment segment;

            memcpy(&segment, triple, sizeof segment);
            bad = segment.new_offset < done || segment.length > matcher.new_bytes || segment.new_offset > matcher.new_bytes - segment.length
                  || segment.length > matcher.old_bytes || segment.old_offset > matcher.old_bytes - segment.length;
            failed = !bad && add_segment(&matcher, segment.new_offset, segment.old_offset, segment.length) < 0;
            done = segment.new_offset + segment.length;
        }
        if (!failed && !bad) {
            polish(&matcher);
        }
        Py_END_ALLOW_THREADS
        if (bad) {
            PyErr_SetString(PyExc_ValueError, "finish: expected ascending segments within both images");
        } else {
            result = failed ? PyErr_NoMemory() : as_triples(&matcher);
        }
    }
    free(matcher.segments);
    PyBuffer_Release(&new);
    PyBuffer_Release(&found);
    return result;
}

PyDoc_STRVAR(make_index_doc, "make_index(old, /)\n--\n\nReturn an empty index of an old image.");

PyDoc_STRVAR(index_bytes_doc, "index_bytes(old_bytes, /)\n--\n\nReturn how many bytes the tables of an image of this length take.");

PyDoc_STRVAR(fill_doc, "fill(index, is_long, /)\n--\n\nFill the index's table of short or of long seeds; both may be filled at once.");

PyDoc_STRVAR(match_doc, "match(index, new, first, end, costs, /)\n--\n\n"
                        "Align bytes `first` to before `end` of the new image. Return segments as triples of 64-bit integers: new offset,\n"
                        "old offset, length. Costs are those of `packager.diff.matcher.Costs`, in its order.");

PyDoc_STRVAR(finish_doc, "finish(index, new, segments, costs, /)\n--\n\n"
                         "Join the segments of all parts, move borders to where most bytes are equal, and return them.");

static PyMethodDef methods[] = {
    {"make_index", make_index, METH_VARARGS, make_index_doc},
    {"index_bytes", index_bytes, METH_VARARGS, index_bytes_doc},
    {"fill", fill, METH_VARARGS, fill_doc},
    {"match", match, METH_VARARGS, match_doc},
    {"finish", finish, METH_VARARGS, finish_doc},
    {"sparse_units", ota_sparse_units, METH_VARARGS, ota_sparse_units_doc},
    {"missed_in_pages", ota_missed_in_pages, METH_VARARGS, ota_missed_in_pages_doc},
    {"count_distances", ota_count_distances, METH_VARARGS, ota_count_distances_doc},
    {"measure_records", ota_measure_records, METH_VARARGS, ota_measure_records_doc},
    {"count_calls", ota_count_calls, METH_VARARGS, ota_count_calls_doc},
    {"changed_words", ota_changed_words, METH_VARARGS, ota_changed_words_doc},
    {"learn_values", ota_learn_values, METH_VARARGS, ota_learn_values_doc},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "packager.diff._match", "The linear-time matcher.", -1, methods, NULL, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__match(void)
{
    PyObject *module = PyModule_Create(&definition);

    if (module != NULL && PyModule_AddIntConstant(module, "INTERFACE", INTERFACE) < 0) {
        Py_DECREF(module);
        return NULL;
    }
    return module;
}
