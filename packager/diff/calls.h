/* What _match.c lists of calls.c. */
#ifndef OTA_CALLS_H
#define OTA_CALLS_H

PyObject *ota_count_calls(PyObject *module, PyObject *arguments);
extern const char ota_count_calls_doc[];

#endif
