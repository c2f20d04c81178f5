/* Functions of _native_segments.c that _native.c lists. */
#ifndef OTA_NATIVE_SEGMENTS_H
#define OTA_NATIVE_SEGMENTS_H

PyObject *ota_py_read_segments(PyObject *module, PyObject *arguments);
PyObject *ota_py_read_values(PyObject *module, PyObject *arguments);
PyObject *ota_py_cut_pieces(PyObject *module, PyObject *arguments);
PyObject *ota_py_plan_reads(PyObject *module, PyObject *arguments);
PyObject *ota_py_join_pieces(PyObject *module, PyObject *arguments);
PyObject *ota_py_scatter(PyObject *module, PyObject *arguments);
PyObject *ota_py_address_map(PyObject *module, PyObject *arguments);

#endif
