/* Applies the normalizers of a vocabulary to a text. Bytes that are not UTF-8 pass unchanged. */
#ifndef CADRE_TEXT_NORMALIZER_H
#define CADRE_TEXT_NORMALIZER_H

#include "text/regex.h"
#include "text/rules.h"
#include "text/text_buffer.h"

struct normalizer; /* read-only once made */

cadre_err normalizer_new(struct normalizer **out, const struct normal_step *steps, int n, cadre_error *err);
void normalizer_free(struct normalizer *z);

/* Scratch of one thread: two texts that take turns. */
struct normalizer_work { /* begins as {0} */
    struct text_buffer a, b;
};
void normalizer_work_free(struct normalizer_work *w);

/* p[0, n) normalized: *out is p itself where nothing changes it, else in the scratch, until the next call. */
cadre_err normalizer_run(const struct normalizer *z, struct normalizer_work *w, struct regex_match *m, const char *p,
                         size_t n, const char **out, size_t *n_out, cadre_error *err);

#endif
