#include "file/json.h"

#include <stdbool.h>
#include <string.h>

#include "file/names.h"

/* Every value but the first follows a comma, a colon or an opening bracket. */
static cadre_err check_extent(const char *path, uint64_t at, const char *text, size_t n, size_t max_values,
                              cadre_error *err)
{
    size_t values = 1;
    int depth = 0;
    bool in_string = false;
    for (size_t i = 0; i < n; i++) {
        char c = text[i];
        if (in_string) {
            if (c == '\\')
                i++;
            else if (c == '"')
                in_string = false;
            continue;
        }
        in_string = c == '"';
        depth += (c == '{' || c == '[') - (c == '}' || c == ']');
        values += c == '{' || c == '[' || c == ',' || c == ':';
        CHECK(err, depth <= JSON_DEPTH && values <= max_values, CADRE_E_FORMAT,
              "%s: at byte %llu: expected JSON of at most %d levels and %zu values", path,
              (unsigned long long)at + (unsigned long long)i, JSON_DEPTH, max_values);
    }
    return CADRE_OK;
}

cadre_err json_parse_object(json_t **out, const char *path, uint64_t at, const char *text, size_t n, size_t max_values,
                            cadre_error *err)
{
    json_error_t json;
    *out = NULL;
    TRY(check_extent(path, at, text, n, max_values, err));
    json_t *j = json_loadb(text, n, JSON_REJECT_DUPLICATES, &json);
    if (!j && (json_error_code(&json) == json_error_out_of_memory || !json.text[0])) /* most often no text */
        return error_set(err, CADRE_E_MEMORY, "%s: no memory to parse %zu bytes of JSON", path, n);
    CHECK(err, j, CADRE_E_FORMAT, "%s: at byte %llu: expected JSON: %s", path,
          (unsigned long long)at + (unsigned long long)json.position, shown(json.text, strlen(json.text)).s);
    if (!json_is_object(j)) {
        json_decref(j);
        return error_set(err, CADRE_E_FORMAT, "%s: at byte %llu: expected a JSON object", path, (unsigned long long)at);
    }
    *out = j;
    return CADRE_OK;
}
