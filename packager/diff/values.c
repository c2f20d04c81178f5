/* Learns what numbers of the old image become in the new one, for fields that are no addresses: type ids, offsets of strings, operands. */
#define Py_LIMITED_API 0x030B0000
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "values.h"

enum { PAGE_LOG2 = 12, DIGIT = 11, DIGITS = 6, BUCKETS = 1 << DIGIT };

const char ota_missed_in_pages_doc[] = "missed_in_pages(made, wanted, segments, pages, /)\n--\n\n"
                                       "Return for each page how many bytes of segments differ, as 32-bit integers. Made and wanted are the\n"
                                       "bytes of all segments, one after the other.";

const char ota_learn_values_doc[] = "learn_values(old, new, segments, pages, least, /)\n--\n\n"
                                    "Return old and new values. Segments are triples of 64-bit integers; pages tell which ones count.";

/* Pairs of words at the same place of a segment: the old one in the upper half. */
struct pairs {
    uint64_t *items;
    size_t count;
};

static uint32_t load32(const uint8_t *from)
{
    return (uint32_t)from[0] | (uint32_t)from[1] << 8 | (uint32_t)from[2] << 16 | (uint32_t)from[3] << 24;
}

/* Count the pairs, and note them if there is room for them. */
static void collect(const Py_buffer *old, const Py_buffer *new, const Py_buffer *segments, const Py_buffer *pages, struct pairs *pairs)
{
    const uint8_t *triple = segments->buf, *counts = pages->buf;
    size_t index, total = (size_t)segments->len / 24;

    pairs->count = 0;
    for (index = 0; index < total; index++, triple += 24) {
        uint64_t at[3], skip;

        memcpy(at, triple, sizeof at);
        if (at[2] > (uint64_t)new->len || at[0] > (uint64_t)new->len - at[2] || at[2] > (uint64_t)old->len
            || at[1] > (uint64_t)old->len - at[2]) {
            continue;
        }
        for (skip = (0 - at[1]) & 3; skip + 4 <= at[2]; skip += 4) {
            uint64_t page = (at[0] + skip) >> PAGE_LOG2;

            if (page < (uint64_t)pages->len && counts[page]) {
                if (pairs->items != NULL) {
                    pairs->items[pairs->count] = (uint64_t)load32((const uint8_t *)old->buf + at[1] + skip) << 32
                                                 | load32((const uint8_t *)new->buf + at[0] + skip);
                }
                pairs->count++;
            }
        }
    }
}

/* Sort by digits from the least on; `other` has as much room. An even number of passes ends where it began. */
static void sort(uint64_t *items, uint64_t *other, size_t count)
{
    size_t starts[BUCKETS], index;
    int pass;

    for (pass = 0; pass < DIGITS; pass++) {
        int shift = pass * DIGIT;
        size_t sum = 0;
        uint64_t *swap;

        memset(starts, 0, sizeof starts);
        for (index = 0; index < count; index++) {
            starts[items[index] >> shift & (BUCKETS - 1)]++;
        }
        for (index = 0; index < BUCKETS; index++) {
            size_t here = starts[index];

            starts[index] = sum;
            sum += here;
        }
        for (index = 0; index < count; index++) {
            other[starts[items[index] >> shift & (BUCKETS - 1)]++] = items[index];
        }
        swap = items;
        items = other;
        other = swap;
    }
}

/* Keep, of each old value, the new one that occurs most (the least of equals), if it occurs `least` times more than the value unchanged.
 * Returns how many; they are written over the pairs. */
static size_t keep_majorities(uint64_t *items, size_t count, size_t least)
{
    size_t index = 0, kept = 0;

    while (index < count) {
        uint64_t value = items[index] >> 32, best = 0;
        size_t most = 0, unchanged = 0;

        while (index < count && items[index] >> 32 == value) {
            uint64_t pair = items[index];
            size_t start = index;

            while (index < count && items[index] == pair) {
                index++;
            }
            if ((pair & 0xFFFFFFFFu) == value) {
                unchanged = index - start;
            } else if (index - start > most) {
                most = index - start;
                best = pair;
            }
        }
        if (most >= unchanged + least) {
            items[kept++] = best;
        }
    }
    return kept;
}

static PyObject *as_columns(const uint64_t *items, size_t count)
{
    uint32_t *columns = malloc(count ? 2 * count * sizeof *columns : 1);
    PyObject *result;
    size_t index;

    if (columns == NULL) {
        return PyErr_NoMemory();
    }
    for (index = 0; index < count; index++) {
        columns[index] = (uint32_t)(items[index] >> 32);
        columns[count + index] = (uint32_t)items[index];
    }
    result = Py_BuildValue("y#y#", (const char *)columns, (Py_ssize_t)(count * sizeof *columns), (const char *)(columns + count),
                           (Py_ssize_t)(count * sizeof *columns));
    free(columns);
    return result;
}

PyObject *ota_learn_values(PyObject *module, PyObject *arguments)
{
    Py_buffer old, new, segments, pages;
    struct pairs pairs = {NULL, 0};
    PyObject *result;
    unsigned int least;
    int failed = 0;

    (void)module;
    if (!PyArg_ParseTuple(arguments, "y*y*y*y*I:learn_values", &old, &new, &segments, &pages, &least)) {
        return NULL;
    }
    Py_BEGIN_ALLOW_THREADS
    collect(&old, &new, &segments, &pages, &pairs);
    if (pairs.count > 0) {
        pairs.items = malloc(2 * pairs.count * sizeof *pairs.items);
        failed = pairs.items == NULL;
    }
    if (pairs.items != NULL) {
        collect(&old, &new, &segments, &pages, &pairs);
        sort(pairs.items, pairs.items + pairs.count, pairs.count);
        pairs.count = keep_majorities(pairs.items, pairs.count, least);
    }
    Py_END_ALLOW_THREADS
    result = failed ? PyErr_NoMemory() : as_columns(pairs.items, pairs.count);
    free(pairs.items);
    PyBuffer_Release(&old);
    PyBuffer_Release(&new);
    PyBuffer_Release(&segments);
    PyBuffer_Release(&pages);
    return result;
}

/* Count differing bytes per page; the segments that fit are counted. */
static void count_missed(const Py_buffer *made, const Py_buffer *wanted, const Py_buffer *segments, uint32_t *missed, size_t pages)
{
    const uint8_t *triple = segments->buf, *first = made->buf, *second = wanted->buf;
    size_t left = (size_t)(made->len < wanted->len ? made->len : wanted->len), total = (size_t)segments->len / 24, index;

    for (index = 0; index < total; index++, triple += 24) {
        uint64_t at[3], count;

        memcpy(at, triple, sizeof at);
        for (count = 0; count < at[2] && left > 0; count++, left--, first++, second++) {
            uint64_t page = (at[0] + count) >> PAGE_LOG2;

            if (page < pages) {
                missed[page] += *first != *second;
            }
        }
    }
}

PyObject *ota_missed_in_pages(PyObject *module, PyObject *arguments)
{
    Py_buffer made, wanted, segments;
    PyObject *result = NULL;
    unsigned int pages;
    uint32_t *missed;

    (void)module;
    if (!PyArg_ParseTuple(arguments, "y*y*y*I:missed_in_pages", &made, &wanted, &segments, &pages)) {
        return NULL;
    }
    missed = calloc(pages ? pages : 1, sizeof *missed);
    if (missed == NULL) {
        PyErr_NoMemory();
    } else {
        Py_BEGIN_ALLOW_THREADS
        count_missed(&made, &wanted, &segments, missed, pages);
        Py_END_ALLOW_THREADS
        result = PyBytes_FromStringAndSize((const char *)missed, (Py_ssize_t)(pages * sizeof *missed));
    }
    free(missed);
    PyBuffer_Release(&made);
    PyBuffer_Release(&wanted);
    PyBuffer_Release(&segments);
    return result;
}
