#include "text/regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdint.h>
#include <stdlib.h>

#include "base/checked.h"

struct regex {
    pcre2_code *code;
    bool foreign;
};

struct regex_match {
    pcre2_match_data *data;
    pcre2_match_context *own, *foreign; /* limits */
    uint32_t steps;
};

/* Of an expression that a file brings: steps of one search (and some for each byte), KiB for its stack, bytes. */
enum { FOREIGN_STEPS = 1000000, FOREIGN_STEPS_BYTE = 16, FOREIGN_KIB = 65536, FOREIGN_LENGTH = 65536 };

static cadre_err compile(struct regex **out, const char *pattern, size_t n, bool foreign, cadre_error *err)
{
    struct regex *r = calloc(1, sizeof *r);
    CHECK(err, r, CADRE_E_MEMORY, "no memory for an expression");
    r->foreign = foreign;
    int code;
    PCRE2_SIZE at;
    /* Ruby's ^ and $, which such files mean, are those of a line. */
    uint32_t options = PCRE2_UTF | (foreign ? PCRE2_UCP | PCRE2_MULTILINE : 0);
    r->code = pcre2_compile((PCRE2_SPTR)pattern, n, options, &code, &at, NULL);
    if (!r->code) {
        char why[128] = "";
        pcre2_get_error_message(code, (PCRE2_UCHAR *)why, sizeof why);
        free(r);
        return error_set(err, code == PCRE2_ERROR_HEAP_FAILED ? CADRE_E_MEMORY : CADRE_E_FORMAT,
                         "expression '%.*s', at %zu: %s", (int)min_i64((int64_t)n, 200), pattern, at, why);
    }
    /* Where no executable memory is to be had, pcre2_match interprets instead. */
    pcre2_jit_compile(r->code, PCRE2_JIT_COMPLETE);
    *out = r;
    return CADRE_OK;
}

cadre_err regex_new(struct regex **out, const char *pattern, size_t n, cadre_error *err)
{
    return compile(out, pattern, n, false, err);
}

cadre_err regex_new_foreign(struct regex **out, const char *pattern, size_t n, cadre_error *err)
{
    CHECK(err, n <= FOREIGN_LENGTH, CADRE_E_UNSUPPORTED, "an expression of %zu bytes; expected at most %d", n,
          FOREIGN_LENGTH);
    char *translated;
    TRY(regex_translate(&translated, pattern, n, err));
    cadre_err rc = compile(out, translated, PCRE2_ZERO_TERMINATED, true, err);
    free(translated);
    return rc;
}

void regex_free(struct regex *r)
{
    if (!r)
        return;
    pcre2_code_free(r->code);
    free(r);
}

cadre_err regex_match_new(struct regex_match **out, cadre_error *err)
{
    struct regex_match *m = calloc(1, sizeof *m);
    CHECK(err, m, CADRE_E_MEMORY, "no memory to match expressions");
    m->data = pcre2_match_data_create(1, NULL);
    m->own = pcre2_match_context_create(NULL);
    m->foreign = pcre2_match_context_create(NULL);
    if (!m->data || !m->own || !m->foreign) {
        regex_match_free(m);
        return error_set(err, CADRE_E_MEMORY, "no memory to match expressions");
    }
    /* Ours take linear time; a limit would only refuse long runs of blanks. */
    pcre2_set_match_limit(m->own, UINT32_MAX);
    m->steps = FOREIGN_STEPS;
    pcre2_set_heap_limit(m->foreign, FOREIGN_KIB);
    *out = m;
    return CADRE_OK;
}

void regex_match_limit(struct regex_match *m, uint32_t steps)
{
    m->steps = steps;
}

void regex_match_free(struct regex_match *m)
{
    if (!m)
        return;
    pcre2_match_data_free(m->data);
    pcre2_match_context_free(m->own);
    pcre2_match_context_free(m->foreign);
    free(m);
}

cadre_err regex_next(const struct regex *r, struct regex_match *m, const char *p, size_t n, size_t from, bool *found,
                     size_t *start, size_t *end, cadre_error *err)
{
    pcre2_match_context *limits = r->foreign ? m->foreign : m->own;
    uint64_t steps = m->steps + FOREIGN_STEPS_BYTE * (uint64_t)(n - from);
    pcre2_set_match_limit(m->foreign, steps < UINT32_MAX ? (uint32_t)steps : UINT32_MAX);
    uint32_t options = PCRE2_NO_UTF_CHECK;
    int rc = pcre2_match(r->code, (PCRE2_SPTR)p, n, from, options, m->data, limits);
    if (rc == PCRE2_ERROR_JIT_STACKLIMIT) /* very long words: the interpreter's stack is on the heap */
        rc = pcre2_match(r->code, (PCRE2_SPTR)p, n, from, options | PCRE2_NO_JIT, m->data, limits);
    *found = rc >= 0;
    if (rc == PCRE2_ERROR_NOMATCH)
        return CADRE_OK;
    CHECK(err, rc != PCRE2_ERROR_MATCHLIMIT && rc != PCRE2_ERROR_HEAPLIMIT && rc != PCRE2_ERROR_DEPTHLIMIT,
          CADRE_E_UNSUPPORTED,
          "the vocabulary's expression takes too many steps on %zu bytes of text (limit %llu): cut the text", n,
          (unsigned long long)steps);
    CHECK(err, rc >= 0, rc == PCRE2_ERROR_NOMEMORY ? CADRE_E_MEMORY : CADRE_E_UNSUPPORTED,
          "matching %zu bytes of text failed (PCRE2 error %d): cut the text", n, rc);
    const PCRE2_SIZE *range = pcre2_get_ovector_pointer(m->data);
    *start = range[0], *end = range[1];
    return CADRE_OK;
}
