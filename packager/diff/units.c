/* Writes residuals: the gaps between the units of a block that differ, and what is added to them. */
#define Py_LIMITED_API 0x030B0000
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "units.h"

const char ota_sparse_units_doc[] = "sparse_units(made, wanted, cuts, unit, /)\n--\n\n"
                                    "Return gaps and values. Cuts are pairs of 64-bit integers inside the blocks, ascending.";

/* Bytes that grow. */
struct column {
    uint8_t *bytes;
    size_t count, room;
};

/* Make room for `more` bytes; returns -1 without memory. */
static int reserve(struct column *column, size_t more)
{
    if (column->room - column->count < more) {
        size_t wanted = 2 * column->room + more + 64;
        uint8_t *larger = realloc(column->bytes, wanted);

        if (larger == NULL) {
            return -1;
        }
        column->bytes = larger;
        column->room = wanted;
    }
    return 0;
}

static int append_varint(struct column *column, uint64_t value)
{
    if (reserve(column, 10) < 0) {
        return -1;
    }
    for (; value >= 0x80; value >>= 7) {
        column->bytes[column->count++] = (uint8_t)(value | 0x80);
    }
    column->bytes[column->count++] = (uint8_t)value;
    return 0;
}

/* Append what is added to a unit, little-endian, modulo its size; bytes behind the end are zero. */
static int append_difference(struct column *column, const uint8_t *made, const uint8_t *wanted, size_t left, size_t unit)
{
    size_t index;
    int borrow = 0;

    if (reserve(column, unit) < 0) {
        return -1;
    }
    for (index = 0; index < unit; index++) {
        int difference = index < left ? (int)wanted[index] - (int)made[index] - borrow : -borrow;

        borrow = difference < 0;
        column->bytes[column->count++] = (uint8_t)difference;
    }
    return 0;
}

/* Write gaps and values for the covered units that differ; see packager.bundle.predicted_forms.sparse_units. */
static int write_units(const Py_buffer *made, const Py_buffer *wanted, const uint64_t *cuts, size_t count, size_t unit,
                       struct column *gaps, struct column *values)
{
    const uint8_t *old = made->buf, *new = wanted->buf;
    size_t bytes = (size_t)wanted->len, index;
    uint64_t done = 0, waiting = 0;

    for (index = 0; index < count; index++) {
        uint64_t start = cuts[2 * index], length = cuts[2 * index + 1], number, last;

        if (length == 0) {
            continue;
        }
        number = start / unit > done ? start / unit : done;
        last = (start + length - 1) / unit + 1;
        for (; number < last; number++) {
            size_t at = (size_t)number * unit, left = bytes - at;

            if (memcmp(old + at, new + at, left < unit ? left : unit) == 0) {
                waiting++;
                continue;
            }
            if (append_varint(gaps, waiting) < 0 || append_difference(values, old + at, new + at, left, unit) < 0) {
                return -1;
            }
            waiting = 0;
        }
        done = last > done ? last : done;
    }
    return 0;
}

PyObject *ota_sparse_units(PyObject *module, PyObject *arguments)
{
    struct column gaps = {NULL, 0, 0}, values = {NULL, 0, 0};
    Py_buffer made, wanted, cuts;
    PyObject *result = NULL;
    int unit, failed;

    (void)module;
    if (!PyArg_ParseTuple(arguments, "y*y*y*i:sparse_units", &made, &wanted, &cuts, &unit)) {
        return NULL;
    }
    if (made.len != wanted.len || unit < 1 || unit > 8) {
        PyErr_SetString(PyExc_ValueError, "sparse_units: expected two blocks of one length, and a unit of 1 to 8 bytes");
    } else {
        Py_BEGIN_ALLOW_THREADS
        failed = write_units(&made, &wanted, cuts.buf, (size_t)cuts.len / (2 * sizeof(uint64_t)), (size_t)unit, &gaps, &values);
        Py_END_ALLOW_THREADS
        result = failed ? PyErr_NoMemory()
                        : Py_BuildValue("y#y#", gaps.bytes ? (const char *)gaps.bytes : "", (Py_ssize_t)gaps.count,
                                        values.bytes ? (const char *)values.bytes : "", (Py_ssize_t)values.count);
    }
    free(gaps.bytes);
    free(values.bytes);
    PyBuffer_Release(&made);
    PyBuffer_Release(&wanted);
    PyBuffer_Release(&cuts);
    return result;
}
