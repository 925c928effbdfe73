/* The files of a model's directory. A name in it is a plain file name; what it names is a regular file there or, in the
 * layout of the Hub's cache, a link "../../blobs/HASH" to a regular file beside the snapshots:
 *
 *     models--ORG--NAME/snapshots/REVISION/model.safetensors -> ../../blobs/5f3e…
 *
 * Nothing else is opened: no path, no "..", no other link, whatever a file of the directory says. */
#ifndef CADRE_FILE_FOLDER_H
#define CADRE_FILE_FOLDER_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

bool folder_is(const char *path); /* a directory */

/* Open for reading. With `found`, a file that is not there is no error. The paths of error texts are DIR/NAME. */
cadre_err folder_open(const char *dir, const char *name, int *fd, uint64_t *size, bool *found, cadre_error *err);
/* Its bytes, malloc'd, with a 0 behind them; NULL if it is not there and `found` is given. */
cadre_err folder_slurp(const char *dir, const char *name, size_t max, char **out, size_t *n, bool *found,
                       cadre_error *err);
/* The same as a JSON object. */
cadre_err folder_json(const char *dir, const char *name, size_t max, size_t max_values, json_t **out, bool *found,
                      cadre_error *err);

#endif
