/* What _match.c lists of pointers.c. */
#ifndef OTA_POINTERS_H
#define OTA_POINTERS_H

PyObject *ota_changed_words(PyObject *module, PyObject *arguments);
extern const char ota_changed_words_doc[];

#endif
