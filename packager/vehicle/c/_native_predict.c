/* The CPython face of predict.c (limited API); _native.c lists the functions. Behaves as _pure_predict.py does. */
#define Py_LIMITED_API 0x030B0000
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <string.h>

#include "_native_predict.h"
#include "delta.h"
#include "predict.h"

enum { MAX_MODES = 256, MOST_LOOKUP_LOG2 = 16 /* 256 KiB */, LOOKUP_FACTOR = 4 };
enum { SETS, GROUPS, BASES, PAGES, STARTS, SHIFTS, OLD_VALUES, NEW_VALUES, FIELDS };

/* A `Context`, with the buffers that it holds. */
struct context {
    Py_buffer views[FIELDS];
    struct ota_mode modes[MAX_MODES];
    struct ota_predictors predictors;
};

static int read_number(PyObject *object, const char *name, uint64_t *number)
{
    PyObject *value = PyObject_GetAttrString(object, name);

    if (value == NULL) {
        return -1;
    }
    *number = PyLong_AsUnsignedLongLong(value);
    Py_DECREF(value);
    return PyErr_Occurred() ? -1 : 0;
}

static void release(struct context *context)
{
    int index;

    for (index = 0; index < FIELDS; index++) {
        PyBuffer_Release(&context->views[index]);
    }
}

static int check(struct context *context)
{
    struct ota_predictors *predictors = &context->predictors;
    size_t index;

    predictors->modes = context->modes;
    predictors->mode_count = (size_t)context->views[SETS].len;
    predictors->pages = context->views[PAGES].buf;
    predictors->page_count = (size_t)context->views[PAGES].len;
    predictors->starts = context->views[STARTS].buf;
    predictors->shifts = context->views[SHIFTS].buf;
    predictors->map_count = (size_t)context->views[STARTS].len / sizeof(uint64_t);
    predictors->old_values = context->views[OLD_VALUES].buf;
    predictors->new_values = context->views[NEW_VALUES].buf;
    predictors->value_count = (size_t)context->views[OLD_VALUES].len / sizeof(uint32_t);
    if (predictors->mode_count > MAX_MODES || context->views[GROUPS].len != context->views[SETS].len
        || (size_t)context->views[BASES].len != predictors->mode_count * sizeof(uint64_t)
        || context->views[STARTS].len != context->views[SHIFTS].len || context->views[OLD_VALUES].len != context->views[NEW_VALUES].len) {
        PyErr_SetString(PyExc_ValueError, "context: its modes, its address map or its value map are of different lengths");
        return -1;
    }
    for (index = 0; index < predictors->mode_count; index++) {
        context->modes[index].set = ((const uint8_t *)context->views[SETS].buf)[index];
        if (context->modes[index].set >= OTA_SETS) {
            PyErr_SetString(PyExc_ValueError, "context: a mode has an instruction set that does not exist");
            return -1;
        }
        context->modes[index].groups = ((const uint8_t *)context->views[GROUPS].buf)[index];
        memcpy(&context->modes[index].base, (const uint8_t *)context->views[BASES].buf + index * sizeof(uint64_t), sizeof(uint64_t));
    }
    for (index = 0; index < predictors->page_count; index++) {
        if (predictors->pages[index] >= predictors->mode_count) {
            PyErr_SetString(PyExc_IndexError, "context: a page has a mode that does not exist");
            return -1;
        }
    }
    return 0;
}

static int read_context(PyObject *object, struct context *context)
{
    static const char *const names[FIELDS] = {"sets", "groups", "bases", "pages", "starts", "shifts", "old_values", "new_values"};
    int index;

    memset(context, 0, sizeof *context);
    for (index = 0; index < FIELDS; index++) {
        PyObject *value = PyObject_GetAttrString(object, names[index]);
        int result = value == NULL ? -1 : PyObject_GetBuffer(value, &context->views[index], PyBUF_SIMPLE);

        Py_XDECREF(value);
        if (result < 0) {
            release(context);
            return -1;
        }
    }
    if (read_number(object, "old_bytes", &context->predictors.old_bytes) < 0
        || read_number(object, "new_bytes", &context->predictors.new_bytes) < 0 || check(context) < 0) {
        release(context);
        return -1;
    }
    return 0;
}

static void raise_corrupt(const char *message)
{
    PyObject *module = PyImport_ImportModule("packager.vehicle.errors");
    PyObject *class = module == NULL ? NULL : PyObject_GetAttrString(module, "CorruptError");

    if (class != NULL) {
        PyErr_SetString(class, message);
    }
    Py_XDECREF(class);
    Py_XDECREF(module);
}

/* Return the log2 of how many numbers make looking up one of `count` fast. */
static int lookup_log2(size_t count)
{
    int log2 = 1;

    while (log2 < MOST_LOOKUP_LOG2 && (size_t)1 << log2 < LOOKUP_FACTOR * count) {
        log2++;
    }
    return log2;
}

/* Give predictors the memory of a lookup, to be freed; without memory there is none. */
static uint32_t *give_lookup(struct ota_predictors *predictors, struct ota_lookup *lookup)
{
    memset(lookup, 0, sizeof *lookup);
    lookup->parts_log2 = lookup_log2(predictors->map_count);
    lookup->slots_log2 = lookup_log2(predictors->value_count);
    lookup->parts = PyMem_Malloc((((size_t)1 << lookup->parts_log2) + 1 + ((size_t)1 << lookup->slots_log2)) * sizeof(uint32_t));
    if (lookup->parts != NULL) {
        lookup->slots = lookup->parts + ((size_t)1 << lookup->parts_log2) + 1;
        predictors->lookup = lookup;
    }
    return lookup->parts;
}

PyObject *ota_py_label_source(PyObject *module, PyObject *arguments)
{
    PyObject *object, *result = NULL;
    Py_buffer source, pieces;
    struct context context;
    struct ota_lookup lookup;

    (void)module;
    if (!PyArg_ParseTuple(arguments, "Ow*y*:label_source", &object, &source, &pieces)) {
        return NULL;
    }
    if (read_context(object, &context) == 0) {
        size_t count = (size_t)pieces.len / (3 * sizeof(uint64_t)), done = 0;
        uint32_t *memory = give_lookup(&context.predictors, &lookup);

        Py_BEGIN_ALLOW_THREADS /* once for all pieces: there may be thousands, and each time another thread may take the interpreter */
        done = ota_label_source(&context.predictors, source.buf, (size_t)source.len, pieces.buf, count);
        Py_END_ALLOW_THREADS
        PyMem_Free(memory);
        if (done < count) {
            raise_corrupt("predicted block: a piece leaves the source");
        }
        release(&context);
        result = done == count ? Py_NewRef(Py_None) : NULL;
    }
    PyBuffer_Release(&source);
    PyBuffer_Release(&pieces);
    return result;
}

PyObject *ota_py_label_block(PyObject *module, PyObject *arguments)
{
    PyObject *object, *result = NULL;
    struct context context;
    Py_buffer block;
    int kind;
    unsigned long long new_at;

    (void)module;
    if (!PyArg_ParseTuple(arguments, "Oiw*K:label_block", &object, &kind, &block, &new_at)) {
        return NULL;
    }
    if (kind != OTA_LABEL && kind != OTA_UNLABEL) {
        PyErr_SetString(PyExc_ValueError, "kind: expected LABEL or UNLABEL");
    } else if (read_context(object, &context) == 0) {
        Py_BEGIN_ALLOW_THREADS
        ota_label(&context.predictors, (enum ota_kind)kind, block.buf, (size_t)block.len, new_at, 0);
        Py_END_ALLOW_THREADS
        release(&context);
        result = Py_NewRef(Py_None);
    }
    PyBuffer_Release(&block);
    return result;
}

PyObject *ota_py_add_units(PyObject *module, PyObject *arguments)
{
    Py_buffer out, pieces, gaps, values;
    enum ota_unit_fault fault;
    int unit;

    (void)module;
    if (!PyArg_ParseTuple(arguments, "w*y*y*y*i:add_units", &out, &pieces, &gaps, &values, &unit)) {
        return NULL;
    }
    if (unit != 1 && unit != 2 && unit != 4) {
        PyErr_SetString(PyExc_ValueError, "unit: expected 1, 2 or 4");
        fault = OTA_UNITS_BAD;
    } else {
        Py_BEGIN_ALLOW_THREADS
        fault = ota_add_units(out.buf, (size_t)out.len, pieces.buf, (size_t)pieces.len / (2 * sizeof(uint64_t)), gaps.buf,
                              (size_t)gaps.len, values.buf, (size_t)values.len, (size_t)unit);
        Py_END_ALLOW_THREADS
        if (fault == OTA_UNITS_BAD) {
            raise_corrupt("predicted block: a gap is malformed, or leads behind the pieces or the values");
        } else if (fault == OTA_UNITS_LEFT_OVER) {
            raise_corrupt("predicted block: values are left over");
        }
    }
    PyBuffer_Release(&out);
    PyBuffer_Release(&pieces);
    PyBuffer_Release(&gaps);
    PyBuffer_Release(&values);
    return PyErr_Occurred() ? NULL : Py_NewRef(Py_None);
}
