/* The parts of a tokenizer.json that say how text is treated: normalizer, pre_tokenizer, post_processor, decoder. */
#ifndef CADRE_TEXT_JSON_STEPS_H
#define CADRE_TEXT_JSON_STEPS_H

#include <jansson.h>

#include "text/rules.h"
#include "text/text_buffer.h"

enum { JSON_MAX_STEPS = 64, JSON_MAX_AROUND = 16 };

struct json_steps {
    struct normal_step normal[JSON_MAX_STEPS];
    struct split_step split[JSON_MAX_STEPS];
    int n_normal, n_split;
    bool bytes;   /* tokens are written in GPT-2's alphabet */
    bool letters; /* … and some step looks at its letters, so that the model has to as well */
    struct decode_rules decode;
    int32_t before[JSON_MAX_AROUND], after[JSON_MAX_AROUND];
    int n_before, n_after;
    struct text_keep keep; /* texts that are not in the file as they are */
};

/* Each part may be NULL or null. Texts are borrowed from them. */
cadre_err json_steps_read(struct json_steps *s, const json_t *root, cadre_error *err);

/* Members of an object with the type checked: absent or null gives the default; another type is an error. */
cadre_err json_get_bool(const json_t *o, const char *key, bool otherwise, bool *out, cadre_error *err);
cadre_err json_get_text(const json_t *o, const char *key, const char *otherwise, struct text_span *out,
                        cadre_error *err);
cadre_err json_get_id(const json_t *o, const char *key, int64_t *out, cadre_error *err); /* absent: -1 */
bool json_is_given(const json_t *o);                                                     /* neither NULL nor null */

#endif
