/* Regular expressions (PCRE2, compiled to machine code where that is allowed). */
#ifndef CADRE_TEXT_REGEX_H
#define CADRE_TEXT_REGEX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

struct regex; /* read-only once made: shared by threads */

/* An expression of ours: written for PCRE2, takes time linear in the text. */
cadre_err regex_new(struct regex **out, const char *pattern, size_t n, cadre_error *err);
/* An expression from a file, written for the engine of Hugging Face's tokenizers (Oniguruma): what is written or meant
 * otherwise there is translated, and the work of one search is bounded. */
cadre_err regex_new_foreign(struct regex **out, const char *pattern, size_t n, cadre_error *err);
void regex_free(struct regex *r);

/* The translation alone: malloc'd, 0-terminated. */
cadre_err regex_translate(char **out, const char *pattern, size_t n, cadre_error *err);

/* What one thread needs to search. */
struct regex_match;
cadre_err regex_match_new(struct regex_match **out, cadre_error *err);
void regex_match_free(struct regex_match *m);
/* How many steps a search with a foreign expression may take, besides 16 for each byte that is left. */
void regex_match_limit(struct regex_match *m, uint32_t steps);

/* The first match in p[from, n), which must be UTF-8; what lies before `from` is seen by look-behind. *found is false
 * if there is none. A match may be empty. */
cadre_err regex_next(const struct regex *r, struct regex_match *m, const char *p, size_t n, size_t from, bool *found,
                     size_t *start, size_t *end, cadre_error *err);

#endif
