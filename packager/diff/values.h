/* Functions of values.c that _match.c lists. */
#ifndef OTA_VALUES_H
#define OTA_VALUES_H

PyObject *ota_learn_values(PyObject *module, PyObject *arguments);
PyObject *ota_missed_in_pages(PyObject *module, PyObject *arguments);
extern const char ota_missed_in_pages_doc[];
extern const char ota_learn_values_doc[];

#endif
