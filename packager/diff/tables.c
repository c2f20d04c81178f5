/* Measures what pages look like tables: words that lead into the image from their own place, and bytes that repeat after a record. */
#define Py_LIMITED_API 0x030B0000
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdint.h>
#include <string.h>

#include "tables.h"

enum { PAGE_BYTES = 1 << 12, MAX_LENGTH = 64, FIELDS = 3 };

const char ota_measure_tables_doc[] = "measure_tables(image, wanted, least, /)\n--\n\n"
                                      "Return three 16-bit integers for each page that is wanted, zeros for others: how many words lead at\n"
                                      "least so far into the image, the length of records, and how many bytes repeat after one; the length is\n"
                                      "more by 256 if the numbers are big-endian.";

static uint32_t load32(const uint8_t *from)
{
    return (uint32_t)from[0] | (uint32_t)from[1] << 8 | (uint32_t)from[2] << 16 | (uint32_t)from[3] << 24;
}

static uint16_t count_distances(const uint8_t *page, int64_t place, int64_t least, int64_t image_bytes)
{
    uint16_t count = 0;
    size_t at;

    for (at = 0; at < PAGE_BYTES; at += 4) {
        int64_t distance = (int64_t)load32(page + at);

        distance = distance >= (int64_t)1 << 31 ? distance - ((int64_t)1 << 32) : distance;
        count += (distance >= least || distance <= -least) && place + (int64_t)at + distance >= 0
                 && place + (int64_t)at + distance < image_bytes;
    }
    return count;
}

/* Count the bytes that equal those one record before. */
static int count_equal(const uint8_t *page, size_t length)
{
    int count = 0;
    size_t at;

    for (at = length; at < PAGE_BYTES; at++) {
        count += page[at] == page[at - length];
    }
    return count;
}

/* The same of the differences between records. */
static int count_equal_differences(const uint8_t *page, size_t length, int is_big)
{
    uint8_t labels[PAGE_BYTES];
    int borrow = 0;
    size_t index;

    for (index = 0; index < PAGE_BYTES; index++) {
        size_t at = is_big ? PAGE_BYTES - 1 - index : index;
        int before = index < length ? 0 : is_big ? page[at + length] : page[at - length], difference = page[at] - before - borrow;

        labels[index] = (uint8_t)difference;
        borrow = difference < 0;
    }
    return count_equal(labels, length);
}

/* A longer record is taken only if more repeats by as many bytes. */
static void find_length(const uint8_t *page, uint16_t *fields)
{
    int best = -PAGE_BYTES;
    size_t length;

    for (length = 2; length <= MAX_LENGTH; length++) {
        int count = count_equal(page, length);

        if (count - (int)length > best) {
            best = count - (int)length;
            fields[1] = (uint16_t)length;
            fields[2] = (uint16_t)count;
        }
    }
    length = fields[1];
    fields[1] += count_equal_differences(page, length, 1) > count_equal_differences(page, length, 0) ? 256 : 0;
}

PyObject *ota_measure_tables(PyObject *module, PyObject *arguments)
{
    Py_buffer image, wanted;
    PyObject *result;
    unsigned int least;
    uint16_t *fields;
    size_t page;

    (void)module;
    if (!PyArg_ParseTuple(arguments, "y*y*I:measure_tables", &image, &wanted, &least)) {
        return NULL;
    }
    fields = PyMem_Calloc((size_t)wanted.len * FIELDS + 1, sizeof *fields);
    if (fields == NULL) {
        PyBuffer_Release(&image);
        PyBuffer_Release(&wanted);
        return PyErr_NoMemory();
    }
    Py_BEGIN_ALLOW_THREADS
    for (page = 0; page < (size_t)wanted.len && (page + 1) * PAGE_BYTES <= (size_t)image.len; page++) {
        if (((const uint8_t *)wanted.buf)[page]) {
            const uint8_t *bytes = (const uint8_t *)image.buf + page * PAGE_BYTES;

            fields[FIELDS * page] = count_distances(bytes, (int64_t)(page * PAGE_BYTES), least, image.len);
            find_length(bytes, fields + FIELDS * page);
        }
    }
    Py_END_ALLOW_THREADS
    result = PyBytes_FromStringAndSize((const char *)fields, (Py_ssize_t)((size_t)wanted.len * FIELDS * sizeof *fields));
    PyMem_Free(fields);
    PyBuffer_Release(&image);
    PyBuffer_Release(&wanted);
    return result;
}
