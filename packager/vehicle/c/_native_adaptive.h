#ifndef OTA_NATIVE_ADAPTIVE_H
#define OTA_NATIVE_ADAPTIVE_H

#include <Python.h>

PyObject *ota_py_add_adaptive(PyObject *module, PyObject *arguments);
PyObject *ota_py_write_adaptive(PyObject *module, PyObject *arguments);

#endif
