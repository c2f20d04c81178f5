/* The CPython face of segments.c (limited API); _native.c lists the functions. Behaves as _pure_segments.py does. */
#define Py_LIMITED_API 0x030B0000
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <string.h>

#include "_native_segments.h"
#include "segments.h"

enum { COLUMNS = 3, MAX_RESULTS = 3, READ_WORDS = 4, TRIPLE_BYTES = 3 * sizeof(uint64_t) };

/* An array.array in the making, with its memory. */
struct made {
    PyObject *object;
    Py_buffer view;
};

/* Make an array of `count` zeros of one of the codes Q, q and I. */
static int make(struct made *made, const char *code, size_t count)
{
    PyObject *module = PyImport_ImportModule("array");
    PyObject *one = module == NULL ? NULL : PyObject_CallMethod(module, "array", "s(i)", code, 0);

    made->object = one == NULL ? NULL : PySequence_Repeat(one, (Py_ssize_t)count);
    Py_XDECREF(one);
    Py_XDECREF(module);
    return made->object == NULL ? -1 : PyObject_GetBuffer(made->object, &made->view, PyBUF_WRITABLE);
}

/* Let go of them; a result holds its own. */
static void finish(struct made *made, int count)
{
    int index;

    for (index = 0; index < count; index++) {
        PyBuffer_Release(&made[index].view);
        Py_XDECREF(made[index].object);
    }
}

static void raise_corrupt(PyObject *message)
{
    PyObject *module = PyImport_ImportModule("packager.vehicle.errors");
    PyObject *class = module == NULL ? NULL : PyObject_GetAttrString(module, "CorruptError");

    if (class != NULL && message != NULL) {
        PyErr_SetObject(class, message);
    }
    Py_XDECREF(message);
    Py_XDECREF(class);
    Py_XDECREF(module);
}

static void raise_stop(enum ota_map_fault fault, const struct ota_stop *stop, unsigned long long old_bytes, unsigned long long new_bytes)
{
    unsigned long long segment = stop->segment, length = stop->length_bytes, end = stop->new_offset + stop->length_bytes;
    long long old_offset = stop->old_offset;

    switch (fault) {
    case OTA_MAP_VARINT:
        raise_corrupt(PyUnicode_FromFormat(
            "segment map: a varint of segment %llu is truncated, longer than 9 bytes or not in its shortest form", segment));
        break;
    case OTA_MAP_LENGTH:
        raise_corrupt(PyUnicode_FromFormat("segment map: segment %llu is %llu bytes long, expected 1 to 2**32 - 1", segment, length));
        break;
    case OTA_MAP_NEW:
        raise_corrupt(PyUnicode_FromFormat("segment map: segment %llu ends at new byte %llu, but the image has %llu", segment, end,
                                           new_bytes));
        break;
    case OTA_MAP_OLD:
        raise_corrupt(PyUnicode_FromFormat("segment map: segment %llu reads old bytes %lld to %lld, but the image has %llu", segment,
                                           old_offset, old_offset + (long long)length, old_bytes));
        break;
    default:
        raise_corrupt(PyUnicode_FromString("segment map: bytes of a column are left over, expected none"));
        break;
    }
}

PyObject *ota_py_read_segments(PyObject *module, PyObject *arguments)
{
    Py_buffer views[COLUMNS];
    struct ota_column columns[COLUMNS];
    struct made made[MAX_RESULTS];
    struct ota_stop stop;
    enum ota_map_fault fault;
    unsigned long long old_bytes, new_bytes;
    PyObject *result = NULL;
    Py_ssize_t count;
    int index;

    (void)module;
    memset(made, 0, sizeof made);
    memset(&stop, 0, sizeof stop);
    if (!PyArg_ParseTuple(arguments, "y*y*y*nKK:read_segments", &views[0], &views[1], &views[2], &count, &old_bytes, &new_bytes)) {
        return NULL;
    }
    for (index = 0; index < COLUMNS; index++) {
        columns[index].at = views[index].buf;
        columns[index].end = columns[index].at + views[index].len;
    }
    if (count < 0 || old_bytes > OTA_MAX_IMAGE_BYTES || new_bytes > OTA_MAX_IMAGE_BYTES) {
        PyErr_SetString(PyExc_ValueError, "read_segments: expected a count of at least 0, and images of at most 2**61 bytes");
    } else if (make(&made[0], "Q", (size_t)count) == 0 && make(&made[1], "Q", (size_t)count) == 0
               && make(&made[2], "I", (size_t)count) == 0) {
        Py_BEGIN_ALLOW_THREADS
        fault = ota_map_read(columns, (size_t)count, old_bytes, new_bytes, made[0].view.buf, made[1].view.buf, made[2].view.buf, &stop);
        Py_END_ALLOW_THREADS
        if (fault == OTA_MAP_OK) {
            result = Py_BuildValue("OOO", made[0].object, made[1].object, made[2].object);
        } else {
            raise_stop(fault, &stop, old_bytes, new_bytes);
        }
    }
    finish(made, MAX_RESULTS);
    for (index = 0; index < COLUMNS; index++) {
        PyBuffer_Release(&views[index]);
    }
    return result;
}

PyObject *ota_py_read_values(PyObject *module, PyObject *arguments)
{
    Py_buffer views[2];
    struct ota_column columns[2];
    struct made made[2];
    PyObject *result = NULL;
    Py_ssize_t count;
    size_t at;
    uint64_t value;
    int index;

    (void)module;
    memset(made, 0, sizeof made);
    if (!PyArg_ParseTuple(arguments, "y*y*n:read_values", &views[0], &views[1], &count)) {
        return NULL;
    }
    for (index = 0; index < 2; index++) {
        columns[index].at = views[index].buf;
        columns[index].end = columns[index].at + views[index].len;
    }
    if (count < 0) {
        PyErr_SetString(PyExc_ValueError, "read_values: expected a count of at least 0");
    } else if (make(&made[0], "I", (size_t)count) == 0 && make(&made[1], "I", (size_t)count) == 0) {
        enum ota_map_fault fault = ota_values_read(columns, (size_t)count, made[0].view.buf, made[1].view.buf, &at, &value);

        if (fault == OTA_MAP_OK) {
            result = Py_BuildValue("OO", made[0].object, made[1].object);
        } else if (fault == OTA_MAP_LEFT_OVER) {
            raise_corrupt(PyUnicode_FromString("value map: bytes of a column are left over, expected none"));
        } else {
            raise_corrupt(fault == OTA_MAP_LENGTH
                              ? PyUnicode_FromFormat("value map: number %llu, expected at most 2**32 - 1", (unsigned long long)value)
                              : PyUnicode_FromFormat("value map: a varint of entry %zd is cut short, longer than 9 bytes or not in its "
                                                     "shortest form",
                                                     (Py_ssize_t)at));
        }
    }
    finish(made, 2);
    PyBuffer_Release(&views[0]);
    PyBuffer_Release(&views[1]);
    return result;
}

/* Take a map out of its three arrays. */
static int see(struct ota_map *map, const Py_buffer *views)
{
    map->new_offsets = views[0].buf;
    map->old_offsets = views[1].buf;
    map->lengths = views[2].buf;
    map->count = (size_t)views[2].len / sizeof(uint32_t);
    if (views[0].len != views[1].len || (size_t)views[0].len != map->count * sizeof(uint64_t)
        || (size_t)views[2].len % sizeof(uint32_t) != 0
        || (map->count > 0 /* an empty array has any address */
            && (((uintptr_t)views[0].buf | (uintptr_t)views[1].buf) % sizeof(uint64_t) != 0
                || (uintptr_t)views[2].buf % sizeof(uint32_t) != 0))) {
        PyErr_SetString(PyExc_ValueError, "segment map: expected arrays of the types Q, Q and I, of one length");
        return -1;
    }
    return 0;
}

PyObject *ota_py_cut_pieces(PyObject *module, PyObject *arguments)
{
    Py_buffer views[COLUMNS];
    struct made made[2];
    struct ota_map map;
    unsigned long long start, end;
    PyObject *result = NULL;
    size_t first, last;
    int index;

    (void)module;
    memset(made, 0, sizeof made);
    if (!PyArg_ParseTuple(arguments, "y*y*y*KK:cut_pieces", &views[0], &views[1], &views[2], &start, &end)) {
        return NULL;
    }
    if (see(&map, views) == 0) {
        ota_map_find(&map, start, end, &first, &last);
        if (make(&made[0], "Q", 2 * (last - first)) == 0 && make(&made[1], "Q", 3 * (last - first)) == 0) {
            unsigned long long total = ota_map_cut(&map, start, end, first, last, made[0].view.buf, made[1].view.buf);

            result = Py_BuildValue("OOK", made[0].object, made[1].object, total);
        }
    }
    finish(made, 2);
    for (index = 0; index < COLUMNS; index++) {
        PyBuffer_Release(&views[index]);
    }
    return result;
}

static int is_triples(const Py_buffer *view)
{
    if ((size_t)view->len % TRIPLE_BYTES != 0 || (view->len > 0 && (uintptr_t)view->buf % sizeof(uint64_t) != 0)) {
        PyErr_SetString(PyExc_ValueError, "pieces: expected an array of the type Q, three numbers each");
        return 0;
    }
    return 1;
}

PyObject *ota_py_plan_reads(PyObject *module, PyObject *arguments)
{
    struct made made[2];
    unsigned long long near, room;
    PyObject *result = NULL;
    Py_buffer triples;
    uint64_t *spare;
    size_t count;

    (void)module;
    memset(made, 0, sizeof made);
    if (!PyArg_ParseTuple(arguments, "y*KK:plan_reads", &triples, &near, &room)) {
        return NULL;
    }
    if (is_triples(&triples)) {
        count = (size_t)triples.len / TRIPLE_BYTES;
        spare = PyMem_Malloc((size_t)triples.len + 1);
        if (spare == NULL) {
            PyErr_NoMemory();
        } else if (make(&made[0], "Q", 3 * count) == 0) {
            Py_BEGIN_ALLOW_THREADS /* half a millisecond for ten thousand */
            ota_plan_moves(triples.buf, count, made[0].view.buf, spare);
            Py_END_ALLOW_THREADS
            if (make(&made[1], "Q", READ_WORDS * ota_plan_reads(made[0].view.buf, count, near, room, NULL)) == 0) {
                ota_plan_reads(made[0].view.buf, count, near, room, made[1].view.buf);
                result = Py_BuildValue("OO", made[1].object, made[0].object);
            }
        }
        PyMem_Free(spare);
    }
    finish(made, 2);
    PyBuffer_Release(&triples);
    return result;
}

PyObject *ota_py_scatter(PyObject *module, PyObject *arguments)
{
    Py_buffer source, buffer, moves;
    unsigned long long low;
    Py_ssize_t first, last;

    (void)module;
    if (!PyArg_ParseTuple(arguments, "w*y*Ky*nn:scatter", &source, &buffer, &low, &moves, &first, &last)) {
        return NULL;
    }
    if (is_triples(&moves)) {
        if (first < 0 || first > last || (size_t)last > (size_t)moves.len / TRIPLE_BYTES) {
            PyErr_SetString(PyExc_IndexError, "scatter: the moves asked for are not there");
        } else if (!ota_scatter(source.buf, (size_t)source.len, buffer.buf, (size_t)buffer.len, low,
                                (const uint64_t *)moves.buf + 3 * first, (size_t)(last - first))) {
            PyErr_SetString(PyExc_IndexError, "scatter: a move leaves the source or the buffer");
        }
    }
    PyBuffer_Release(&source);
    PyBuffer_Release(&buffer);
    PyBuffer_Release(&moves);
    return PyErr_Occurred() ? NULL : Py_NewRef(Py_None);
}

PyObject *ota_py_join_pieces(PyObject *module, PyObject *arguments)
{
    Py_buffer source, old, triples;

    (void)module;
    if (!PyArg_ParseTuple(arguments, "w*y*y*:join_pieces", &source, &old, &triples)) {
        return NULL;
    }
    if (is_triples(&triples)
        && !ota_join(source.buf, (size_t)source.len, old.buf, (size_t)old.len, triples.buf, (size_t)triples.len / TRIPLE_BYTES)) {
        PyErr_SetString(PyExc_IndexError, "join_pieces: a piece leaves the source or the old image");
    }
    PyBuffer_Release(&source);
    PyBuffer_Release(&old);
    PyBuffer_Release(&triples);
    return PyErr_Occurred() ? NULL : Py_NewRef(Py_None);
}

static PyObject *copied(const char *code, const void *numbers, size_t count)
{
    struct made made = {0};

    if (make(&made, code, count) == 0) {
        memcpy(made.view.buf, numbers, (size_t)made.view.len);
        PyBuffer_Release(&made.view);
        return made.object;
    }
    Py_XDECREF(made.object);
    return NULL;
}

PyObject *ota_py_address_map(PyObject *module, PyObject *arguments)
{
    Py_buffer views[COLUMNS];
    struct ota_map map;
    uint64_t *entries;
    PyObject *result = NULL;
    int index;

    (void)module;
    if (!PyArg_ParseTuple(arguments, "y*y*y*:address_map", &views[0], &views[1], &views[2])) {
        return NULL;
    }
    if (see(&map, views) == 0) {
        entries = PyMem_Calloc(8 * map.count + 1, sizeof *entries); /* entries, spare ones, starts and shifts */
        if (entries == NULL) {
            PyErr_NoMemory();
        } else {
            uint64_t *starts = entries + 6 * map.count;
            int64_t *shifts = (int64_t *)(starts + map.count);
            size_t found;

            Py_BEGIN_ALLOW_THREADS
            found = ota_address_map(&map, entries, entries + 3 * map.count, starts, shifts);
            Py_END_ALLOW_THREADS
            result = Py_BuildValue("NN", copied("Q", starts, found), copied("q", shifts, found));
        }
        PyMem_Free(entries);
    }
    for (index = 0; index < COLUMNS; index++) {
        PyBuffer_Release(&views[index]);
    }
    return result;
}
