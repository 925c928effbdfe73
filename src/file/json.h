/* JSON texts from files. Before jansson sees a text its size is bounded: how deep it nests and how many values it can
 * have, because a parsed value takes up to a hundred times its text. */
#ifndef CADRE_FILE_JSON_H
#define CADRE_FILE_JSON_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

enum { JSON_DEPTH = 64, JSON_MAX_VALUES = 4000000 };

/* The object in the n bytes of `text`, which lie at byte `at` of file `path` (both for error texts). Duplicate keys,
 * more than max_values values and another kind of value than an object are errors. Free with json_decref. */
cadre_err json_parse_object(json_t **out, const char *path, uint64_t at, const char *text, size_t n, size_t max_values,
                            cadre_error *err);

#endif
