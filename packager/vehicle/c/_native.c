/* The compiled kernel of packager.vehicle: a thin CPython shell (limited API 3.11, abi3) around the freestanding delta.c.
 *
 * Behaves as _pure.py does, which is the specification; property tests hold both equal.
 */
#define Py_LIMITED_API 0x030B0000
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <string.h>

#include "_native_adaptive.h"
#include "_native_predict.h"
#include "_native_segments.h"
#include "delta.h"

enum {
    BUFFERS = 5,
    OUT = 0,
    SOURCE = 1,
    LITERALS = 2,
    CONTROLS = 3,
    VALUES = 4,
    INTERFACE = 3, /* of the functions below; as kernel.py says, and to be changed with it */
    RELEASE_BYTES = 16 * 1024 /* smaller blocks take less time than handing the interpreter over */
};

/* Offset and length of each piece, flat; borrowed from a buffer of 64-bit integers or copied from a sequence. */
struct pieces {
    Py_buffer view; /* view.obj is NULL where the numbers were copied */
    uint64_t *copied;
    const uint64_t *numbers;
    Py_ssize_t count;
};

static void raise_corrupt(const char *format, unsigned long long first, unsigned long long second)
{
    PyObject *module = PyImport_ImportModule("packager.vehicle.errors");
    PyObject *class = module == NULL ? NULL : PyObject_GetAttrString(module, "CorruptError");

    if (class != NULL) {
        PyErr_Format(class, format, first, second);
    }
    Py_XDECREF(class);
    Py_XDECREF(module);
}

static int copy_pieces(PyObject *sequence, struct pieces *pieces)
{
    Py_ssize_t index;

    pieces->count = PySequence_Size(sequence);
    if (pieces->count < 0) {
        return -1;
    }
    pieces->copied = PyMem_Calloc((size_t)pieces->count + 1, sizeof(uint64_t));
    if (pieces->copied == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    pieces->numbers = pieces->copied;
    for (index = 0; index < pieces->count; index++) {
        PyObject *item = PySequence_GetItem(sequence, index);
        unsigned long long number;

        if (item == NULL) {
            return -1;
        }
        number = PyLong_AsUnsignedLongLong(item);
        Py_DECREF(item);
        if (PyErr_Occurred()) {
            if (PyErr_ExceptionMatches(PyExc_OverflowError)) {
                PyErr_Clear();
                raise_corrupt("delta block: number %llu of the pieces is outside 0 to 2**64 - 1", (unsigned long long)index, 0);
            }
            return -1;
        }
        pieces->copied[index] = number;
    }
    return 0;
}

static int read_pieces(PyObject *object, struct pieces *pieces)
{
    if (PyObject_CheckBuffer(object)) {
        if (PyObject_GetBuffer(object, &pieces->view, PyBUF_FORMAT | PyBUF_ND) < 0) {
            return -1;
        }
        if (pieces->view.ndim == 1 && pieces->view.itemsize == (Py_ssize_t)sizeof(uint64_t) && pieces->view.format != NULL
            && (uintptr_t)pieces->view.buf % sizeof(uint64_t) == 0
            && (strcmp(pieces->view.format, "Q") == 0 || strcmp(pieces->view.format, "L") == 0)) {
            pieces->numbers = pieces->view.buf;
            pieces->count = pieces->view.len / (Py_ssize_t)sizeof(uint64_t);
            return 0;
        }
        PyBuffer_Release(&pieces->view);
        pieces->view.obj = NULL;
    }
    return copy_pieces(object, pieces);
}

static int overlap(const Py_buffer *first, const Py_buffer *second)
{
    uintptr_t a = (uintptr_t)first->buf, b = (uintptr_t)second->buf;

    return first->len > 0 && second->len > 0 && a < b + (size_t)second->len && b < a + (size_t)first->len;
}

/* Whether the source lies at the end of the block, where the decoder can take it from. */
static int is_tail(const Py_buffer *out, const Py_buffer *source)
{
    return source->len <= out->len && (const char *)source->buf + source->len == (const char *)out->buf + out->len;
}

static enum ota_delta_fault decode(struct ota_delta *delta, const struct pieces *pieces)
{
    enum ota_delta_fault fault = OTA_DELTA_OK;
    Py_ssize_t index;

    for (index = 0; index < pieces->count && fault == OTA_DELTA_OK; index += 2) {
        fault = ota_delta_piece(delta, pieces->numbers[index], pieces->numbers[index + 1]);
    }
    return fault == OTA_DELTA_OK ? ota_delta_end(delta) : fault;
}

static void raise_fault(enum ota_delta_fault fault, const struct ota_delta *delta)
{
    unsigned long long at = delta->at, taken = delta->taken;

    switch (fault) {
    case OTA_DELTA_VARINT:
        raise_corrupt("delta block: varint before byte %llu of the controls is cut short, too long or not in its shortest form",
                      (unsigned long long)delta->control, 0);
        break;
    case OTA_DELTA_RUN:
        raise_corrupt("delta block: run after source byte %llu, value %llu is empty or leaves the source or the values", taken,
                      (unsigned long long)delta->used);
        break;
    case OTA_DELTA_PIECE:
        raise_corrupt("delta block: piece after byte %llu (source byte %llu) leaves the block or its columns", at, taken);
        break;
    default:
        raise_corrupt("delta block: source, literals, controls or values left over or short at byte %llu of %llu", at,
                      (unsigned long long)delta->out_bytes);
        break;
    }
}

static PyObject *apply_views(Py_buffer *views, const struct pieces *pieces)
{
    enum ota_delta_fault fault;
    struct ota_delta delta;
    void *apart = NULL;

    if (pieces->count % 2 != 0) {
        PyErr_SetString(PyExc_IndexError, "pieces: found an odd number of integers, expected pairs of offset and length");
        return NULL;
    }
    ota_delta_begin(&delta, views[OUT].buf, (size_t)views[OUT].len, views[SOURCE].buf, (size_t)views[SOURCE].len);
    if (overlap(&views[OUT], &views[SOURCE]) && !is_tail(&views[OUT], &views[SOURCE])) {
        apart = PyMem_Malloc(delta.source_bytes);
        if (apart == NULL) {
            return PyErr_NoMemory();
        }
        memcpy(apart, views[SOURCE].buf, delta.source_bytes);
        delta.source = apart;
    }
    delta.literals = views[LITERALS].buf;
    delta.literals_bytes = (size_t)views[LITERALS].len;
    delta.controls = views[CONTROLS].buf;
    delta.controls_bytes = (size_t)views[CONTROLS].len;
    delta.values = views[VALUES].buf;
    delta.values_bytes = (size_t)views[VALUES].len;
    if (views[OUT].len < RELEASE_BYTES) {
        fault = decode(&delta, pieces);
    } else {
        Py_BEGIN_ALLOW_THREADS
        fault = decode(&delta, pieces);
        Py_END_ALLOW_THREADS
    }
    PyMem_Free(apart);
    if (fault != OTA_DELTA_OK) {
        raise_fault(fault, &delta);
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *apply_delta(PyObject *module, PyObject *arguments)
{
    Py_buffer views[BUFFERS];
    struct pieces pieces;
    PyObject *object, *result = NULL;
    int index;

    (void)module;
    memset(views, 0, sizeof views);
    memset(&pieces, 0, sizeof pieces);
    if (!PyArg_ParseTuple(arguments, "w*y*Oy*y*y*:apply_delta", &views[OUT], &views[SOURCE], &object, &views[LITERALS],
                          &views[CONTROLS], &views[VALUES])) {
        return NULL;
    }
    if (read_pieces(object, &pieces) == 0) {
        result = apply_views(views, &pieces);
    }
    PyMem_Free(pieces.copied);
    if (pieces.view.obj != NULL) {
        PyBuffer_Release(&pieces.view);
    }
    for (index = 0; index < BUFFERS; index++) {
        PyBuffer_Release(&views[index]);
    }
    return result;
}

PyDoc_STRVAR(apply_delta_doc, "apply_delta(out, source, pieces, literals, controls, values, /)\n--\n\n"
                              "Make one block from its source, residuals and literals. See packager.vehicle._pure.apply_delta.");

PyDoc_STRVAR(segments_doc, "See the function of the same name in packager.vehicle._pure_segments.");
PyDoc_STRVAR(adaptive_doc, "See the function of the same name in packager.vehicle._pure_adaptive.");
PyDoc_STRVAR(predict_doc, "See the function of the same name in packager.vehicle._pure_predict.");

static PyMethodDef methods[] = {
    {"add_adaptive", ota_py_add_adaptive, METH_VARARGS, adaptive_doc},
    {"add_units", ota_py_add_units, METH_VARARGS, predict_doc},
    {"address_map", ota_py_address_map, METH_VARARGS, segments_doc},
    {"apply_delta", apply_delta, METH_VARARGS, apply_delta_doc},
    {"cut_pieces", ota_py_cut_pieces, METH_VARARGS, segments_doc},
    {"join_pieces", ota_py_join_pieces, METH_VARARGS, segments_doc},
    {"label_block", ota_py_label_block, METH_VARARGS, predict_doc},
    {"label_source", ota_py_label_source, METH_VARARGS, predict_doc},
    {"plan_reads", ota_py_plan_reads, METH_VARARGS, segments_doc},
    {"read_segments", ota_py_read_segments, METH_VARARGS, segments_doc},
    {"read_values", ota_py_read_values, METH_VARARGS, segments_doc},
    {"scatter", ota_py_scatter, METH_VARARGS, segments_doc},
    {"write_adaptive", ota_py_write_adaptive, METH_VARARGS, adaptive_doc},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "packager.vehicle._native", "The compiled decoding kernel.", -1, methods, NULL, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__native(void)
{
    PyObject *module = PyModule_Create(&definition);

    if (module != NULL
        && (PyModule_AddStringConstant(module, "NAME", "C") < 0 || PyModule_AddIntConstant(module, "INTERFACE", INTERFACE) < 0)) {
        Py_DECREF(module);
        return NULL;
    }
    return module;
}
