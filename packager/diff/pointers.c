/* Samples aligned words that another version of the image changed: pointers are among them. */
#define Py_LIMITED_API 0x030B0000
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "pointers.h"

const char ota_changed_words_doc[] = "changed_words(old, new, segments, width, most, /)\n--\n\n"
                                     "Return pairs of 64-bit integers: every n-th aligned word of 4 or 8 bytes of the old image that differs in\n"
                                     "the new one, and what it became; fewer than twice as many as `most`. Segments are triples of 64-bit integers.";

static uint64_t load(const uint8_t *from, unsigned int width)
{
    uint64_t value = 0;

    while (width > 0) {
        value = value << 8 | from[--width];
    }
    return value;
}

/* Count the words that differ, and note every `step`-th if there is room for them. */
static size_t collect(const Py_buffer *old, const Py_buffer *new, const Py_buffer *segments, unsigned int width, size_t step, uint64_t *pairs)
{
    const uint8_t *triple = segments->buf;
    size_t count = 0, index, total = (size_t)segments->len / 24;

    for (index = 0; index < total; index++, triple += 24) {
        const uint8_t *before, *after;
        uint64_t at[3], skip;

        memcpy(at, triple, sizeof at);
        if (at[2] > (uint64_t)new->len || at[0] > (uint64_t)new->len - at[2] || at[2] > (uint64_t)old->len
            || at[1] > (uint64_t)old->len - at[2] || (at[0] - at[1]) % width != 0) {
            continue;
        }
        before = (const uint8_t *)old->buf + at[1];
        after = (const uint8_t *)new->buf + at[0];
        for (skip = (0 - at[1]) % width; skip + width <= at[2]; skip += width) {
            if (memcmp(before + skip, after + skip, width) != 0) {
                if (pairs != NULL && count % step == 0) {
                    *pairs++ = load(before + skip, width);
                    *pairs++ = load(after + skip, width);
                }
                count++;
            }
        }
    }
    return count;
}

PyObject *ota_changed_words(PyObject *module, PyObject *arguments)
{
    Py_buffer old, new, segments;
    PyObject *result = NULL;
    uint64_t *pairs = NULL;
    unsigned int width, most;
    size_t count, step, sampled;

    (void)module;
    if (!PyArg_ParseTuple(arguments, "y*y*y*II:changed_words", &old, &new, &segments, &width, &most)) {
        return NULL;
    }
    if ((width != 4 && width != 8) || most < 1) {
        PyErr_SetString(PyExc_ValueError, "changed_words: expected words of 4 or 8 bytes, and at least one of them");
    } else {
        Py_BEGIN_ALLOW_THREADS
        count = collect(&old, &new, &segments, width, 1, NULL);
        step = count / most > 1 ? count / most : 1;
        sampled = (count + step - 1) / step;
        pairs = malloc((2 * sampled + 1) * sizeof *pairs);
        if (pairs != NULL) {
            (void)collect(&old, &new, &segments, width, step, pairs);
        }
        Py_END_ALLOW_THREADS
        result = pairs == NULL ? PyErr_NoMemory()
                               : PyBytes_FromStringAndSize((const char *)pairs, (Py_ssize_t)(2 * sampled * sizeof *pairs));
    }
    free(pairs);
    PyBuffer_Release(&old);
    PyBuffer_Release(&new);
    PyBuffer_Release(&segments);
    return result;
}
