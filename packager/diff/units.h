/* Functions of units.c that _match.c lists. */
#ifndef OTA_UNITS_H
#define OTA_UNITS_H

PyObject *ota_sparse_units(PyObject *module, PyObject *arguments);
extern const char ota_sparse_units_doc[];

#endif
