/* Counts what may be calls: words whose bits are those of an instruction, and that lead into the image. */
#define Py_LIMITED_API 0x030B0000
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdint.h>

#include "calls.h"

enum { RELATIVE, SIGN_INVERTED, PAGE, WORD_BYTES = 4 };

const char ota_count_calls_doc[] = "count_calls(sample, start, image_bytes, step, row, slices, /)\n--\n\n"
                                   "Count the words at every `step` bytes of a sample, which stands `start` bytes into an image, that are the\n"
                                   "instruction `row` and lead into the image. Row: mask, value, form, scale, bias, align, is_signed, bits;\n"
                                   "slices: three bytes each, at, width, field. See `packager.vehicle.instructions`.";

struct row {
    unsigned int mask, value, form, scale, bias, align, is_signed, bits;
    const uint8_t *slices;
    size_t slice_count;
};

static uint32_t load32(const uint8_t *from)
{
    return (uint32_t)from[0] | (uint32_t)from[1] << 8 | (uint32_t)from[2] << 16 | (uint32_t)from[3] << 24;
}

/* Where an instruction at `address` leads. */
static int64_t target_of(const struct row *row, uint32_t word, int64_t address)
{
    int64_t base = row->form == PAGE ? address & ~(int64_t)0xFFF : (address + row->bias) & ~((int64_t)row->align - 1);
    uint32_t field = 0;
    int64_t value;
    size_t index;

    for (index = 0; index < row->slice_count; index++) {
        const uint8_t *slice = row->slices + 3 * index;

        field |= (word >> slice[0] & (((uint32_t)1 << slice[1]) - 1)) << slice[2];
    }
    if (row->form == SIGN_INVERTED && !(field >> (row->bits - 1) & 1)) {
        field ^= (uint32_t)3 << (row->bits - 3);
    }
    value = field;
    if (row->is_signed && field >> (row->bits - 1) & 1) {
        value -= (int64_t)1 << row->bits;
    }
    return base + value * ((int64_t)1 << row->scale);
}

static long count(const Py_buffer *sample, int64_t start, int64_t image_bytes, size_t step, const struct row *row)
{
    const uint8_t *bytes = sample->buf;
    size_t at;
    long hits = 0;

    for (at = 0; at + WORD_BYTES <= (size_t)sample->len; at += step) {
        uint32_t word = load32(bytes + at);

        if (!((word ^ row->value) & row->mask)) {
            int64_t target = target_of(row, word, start + (int64_t)at);

            hits += target >= 0 && target < image_bytes;
        }
    }
    return hits;
}

static int is_sound(const struct row *row)
{
    size_t index;

    for (index = 0; index < row->slice_count; index++) {
        const uint8_t *slice = row->slices + 3 * index;

        if (slice[0] > 31 || slice[1] > 31 || slice[2] > 31) {
            return 0;
        }
    }
    return row->form <= PAGE && row->scale <= 31 && row->bits >= 3 && row->bits <= 31;
}

PyObject *ota_count_calls(PyObject *module, PyObject *arguments)
{
    Py_buffer sample, slices;
    PyObject *result = NULL;
    struct row row;
    long long start, image_bytes;
    unsigned int step;

    (void)module;
    if (!PyArg_ParseTuple(arguments, "y*LLI(IIIIIIII)y*:count_calls", &sample, &start, &image_bytes, &step, &row.mask, &row.value, &row.form,
                          &row.scale, &row.bias, &row.align, &row.is_signed, &row.bits, &slices)) {
        return NULL;
    }
    row.slices = slices.buf;
    row.slice_count = (size_t)slices.len / 3;
    if (step < 1 || !is_sound(&row)) {
        PyErr_SetString(PyExc_ValueError, "count_calls: expected a step of at least 1, and a relative field of 3 to 31 bits");
    } else {
        result = PyLong_FromLong(count(&sample, start, image_bytes, step, &row));
    }
    PyBuffer_Release(&sample);
    PyBuffer_Release(&slices);
    return result;
}
