/* Functions of tables.c that _match.c lists. */
#ifndef OTA_TABLES_H
#define OTA_TABLES_H

PyObject *ota_measure_tables(PyObject *module, PyObject *arguments);
extern const char ota_measure_tables_doc[];

#endif
