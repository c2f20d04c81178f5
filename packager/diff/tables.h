/* Functions of tables.c that _match.c lists. */
#ifndef OTA_TABLES_H
#define OTA_TABLES_H

PyObject *ota_count_distances(PyObject *module, PyObject *arguments);
PyObject *ota_measure_records(PyObject *module, PyObject *arguments);
extern const char ota_count_distances_doc[], ota_measure_records_doc[];

#endif
