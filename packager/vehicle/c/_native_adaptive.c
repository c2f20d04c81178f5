/* The CPython face of adaptive.c (limited API); _native.c lists the functions. Behaves as _pure_adaptive.py does. */
#define Py_LIMITED_API 0x030B0000
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdlib.h>
#include <string.h>

#include "_native_adaptive.h"
#include "adaptive.h"

static struct ota_adaptive *make_work(size_t block_bytes)
{
    struct ota_adaptive *work = malloc(sizeof *work);

    if (work != NULL) {
        work->slots = malloc(sizeof(uint32_t) << ota_adaptive_log2(block_bytes));
        if (work->slots == NULL) {
            free(work);
            work = NULL;
        }
    }
    return work;
}

static void free_work(struct ota_adaptive *work)
{
    if (work != NULL) {
        free(work->slots);
        free(work);
    }
}

static void raise_left_over(void)
{
    PyObject *module = PyImport_ImportModule("packager.vehicle.errors");
    PyObject *class = module == NULL ? NULL : PyObject_GetAttrString(module, "CorruptError");

    if (class != NULL) {
        PyErr_SetString(class, "predicted block: bytes of residuals are left over");
    }
    Py_XDECREF(class);
    Py_XDECREF(module);
}

PyObject *ota_py_add_adaptive(PyObject *module, PyObject *arguments)
{
    Py_buffer out, pieces, stream;
    struct ota_adaptive *work;

    (void)module;
    if (!PyArg_ParseTuple(arguments, "w*y*y*:add_adaptive", &out, &pieces, &stream)) {
        return NULL;
    }
    work = make_work((size_t)out.len);
    if (work == NULL) {
        PyErr_NoMemory();
    } else {
        enum ota_unit_fault fault;

        Py_BEGIN_ALLOW_THREADS
        fault = ota_adaptive_add(work, out.buf, (size_t)out.len, pieces.buf, (size_t)pieces.len / (2 * sizeof(uint64_t)), stream.buf,
                                 (size_t)stream.len);
        Py_END_ALLOW_THREADS
        if (fault != OTA_UNITS_OK) {
            raise_left_over();
        }
    }
    free_work(work);
    PyBuffer_Release(&out);
    PyBuffer_Release(&pieces);
    PyBuffer_Release(&stream);
    return PyErr_Occurred() ? NULL : Py_NewRef(Py_None);
}

PyObject *ota_py_write_adaptive(PyObject *module, PyObject *arguments)
{
    Py_buffer made, wanted, pieces;
    PyObject *result = NULL;

    (void)module;
    if (!PyArg_ParseTuple(arguments, "y*y*y*:write_adaptive", &made, &wanted, &pieces)) {
        return NULL;
    }
    if (made.len != wanted.len) {
        PyErr_SetString(PyExc_ValueError, "write_adaptive: expected two blocks of one length");
    } else {
        size_t bytes = (size_t)made.len, room = 3 * bytes + 64, length = 0;
        struct ota_adaptive *work = make_work(bytes);
        uint8_t *copy = malloc(bytes + 1), *stream = malloc(room);

        if (work != NULL && copy != NULL && stream != NULL) {
            memcpy(copy, made.buf, bytes);
            Py_BEGIN_ALLOW_THREADS
            length = ota_adaptive_write(work, copy, wanted.buf, bytes, pieces.buf, (size_t)pieces.len / (2 * sizeof(uint64_t)), stream,
                                        room);
            Py_END_ALLOW_THREADS
            result = PyBytes_FromStringAndSize((const char *)stream, (Py_ssize_t)length); /* a bit costs 12 bits at most: it fits */
        } else {
            PyErr_NoMemory();
        }
        free_work(work);
        free(copy);
        free(stream);
    }
    PyBuffer_Release(&made);
    PyBuffer_Release(&wanted);
    PyBuffer_Release(&pieces);
    return result;
}
