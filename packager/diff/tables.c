/* Measures what pages look like tables: words that lead into the image from their own place, and bytes that repeat after a record. */
#define Py_LIMITED_API 0x030B0000
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdint.h>
#include <string.h>

#include "tables.h"

enum { PAGE_BYTES = 1 << 12, MAX_LENGTH = 64 };

const char ota_count_distances_doc[] = "count_distances(image, wanted, least, /)\n--\n\n"
                                       "Return a 16-bit integer for each page, zero if it is not wanted: how many words lead at least so far\n"
                                       "into the image.";
const char ota_measure_records_doc[] = "measure_records(image, wanted, /)\n--\n\n"
                                       "Return two 16-bit integers for each page, zeros if it is not wanted: the length of records, and how many\n"
                                       "bytes repeat after one; the length is more by 256 if the numbers are big-endian.";

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
            fields[0] = (uint16_t)length;
            fields[1] = (uint16_t)count;
        }
    }
    length = fields[0];
    fields[0] += count_equal_differences(page, length, 1) > count_equal_differences(page, length, 0) ? 256 : 0;
}

/* Return numbers for each page that is wanted, zeros for others and for one that is not whole: the length of records and how many bytes repeat
 * after one, or, with a least distance, how many words lead at least so far into the image. */
static PyObject *measure_pages(const Py_buffer *image, const Py_buffer *wanted, unsigned int least)
{
    size_t width = least ? 1 : 2, page;
    uint16_t *fields = PyMem_Calloc((size_t)wanted->len * width + 1, sizeof *fields);
    PyObject *result;

    if (fields == NULL) {
        return PyErr_NoMemory();
    }
    Py_BEGIN_ALLOW_THREADS
    for (page = 0; page < (size_t)wanted->len && (page + 1) * PAGE_BYTES <= (size_t)image->len; page++) {
        if (((const uint8_t *)wanted->buf)[page]) {
            const uint8_t *bytes = (const uint8_t *)image->buf + page * PAGE_BYTES;

            if (least) {
                fields[page] = count_distances(bytes, (int64_t)(page * PAGE_BYTES), least, image->len);
            } else {
                find_length(bytes, fields + width * page);
            }
        }
    }
    Py_END_ALLOW_THREADS
    result = PyBytes_FromStringAndSize((const char *)fields, (Py_ssize_t)((size_t)wanted->len * width * sizeof *fields));
    PyMem_Free(fields);
    return result;
}

PyObject *ota_measure_records(PyObject *module, PyObject *arguments)
{
    Py_buffer image, wanted;
    PyObject *result;

    (void)module;
    if (!PyArg_ParseTuple(arguments, "y*y*:measure_records", &image, &wanted)) {
        return NULL;
    }
    result = measure_pages(&image, &wanted, 0);
    PyBuffer_Release(&image);
    PyBuffer_Release(&wanted);
    return result;
}

PyObject *ota_count_distances(PyObject *module, PyObject *arguments)
{
    Py_buffer image, wanted;
    PyObject *result;
    unsigned int least;

    (void)module;
    if (!PyArg_ParseTuple(arguments, "y*y*I:count_distances", &image, &wanted, &least)) {
        return NULL;
    }
    result = measure_pages(&image, &wanted, least ? least : 1);
    PyBuffer_Release(&image);
    PyBuffer_Release(&wanted);
    return result;
}
