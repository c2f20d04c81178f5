/* Functions of _native_predict.c that _native.c lists. */
#ifndef OTA_NATIVE_PREDICT_H
#define OTA_NATIVE_PREDICT_H

PyObject *ota_py_label_source(PyObject *module, PyObject *arguments);
PyObject *ota_py_label_block(PyObject *module, PyObject *arguments);
PyObject *ota_py_add_units(PyObject *module, PyObject *arguments);

#endif
