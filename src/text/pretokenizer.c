/* Chains of steps that cut text. */
#include "text/pretokenizer.h"

#include <stdlib.h>
#include <string.h>

#include "text/byte_alphabet.h"
#include "text/regex.h"
#include "text/text_buffer.h"
#include "text/unicode.h"
#include "text/utf8.h"

struct step {
    struct split_step s; /* its spans point into `text` */
    char *text;
    struct regex *regex;
};

struct pretokenizer {
    int n;
    struct step *step;
};

static cadre_err own_step(struct step *to, const struct split_step *from, cadre_error *err)
{
    to->s = *from;
    to->text = malloc(from->pattern.n + from->content.n + 1);
    CHECK(err, to->text, CADRE_E_MEMORY, "no memory for a pre-tokenizer");
    if (from->pattern.n)
        memcpy(to->text, from->pattern.p, from->pattern.n);
    if (from->content.n)
        memcpy(to->text + from->pattern.n, from->content.p, from->content.n);
    to->s.pattern.p = to->text;
    to->s.content.p = to->text + from->pattern.n;
    if (to->s.kind != SPLIT_PATTERN)
        return CADRE_OK;
    CHECK(err, to->s.pattern.n > 0, CADRE_E_FORMAT, "a pre-tokenizer that splits at an empty text");
    if (!to->s.regex)
        return CADRE_OK;
    return to->s.own ? regex_new(&to->regex, to->s.pattern.p, to->s.pattern.n, err)
                     : regex_new_foreign(&to->regex, to->s.pattern.p, to->s.pattern.n, err);
}

cadre_err pretokenizer_new(struct pretokenizer **out, const struct split_step *steps, int n, cadre_error *err)
{
    struct pretokenizer *p = calloc(1, sizeof *p);
    CHECK(err, p, CADRE_E_MEMORY, "no memory for a pre-tokenizer");
    p->step = calloc((size_t)n + 1, sizeof *p->step);
    cadre_err rc = p->step ? CADRE_OK : error_set(err, CADRE_E_MEMORY, "no memory for %d steps", n);
    for (int i = 0; i < n && rc == CADRE_OK; i++, p->n++)
        rc = own_step(&p->step[i], &steps[i], err);
    if (rc) {
        pretokenizer_free(p);
        return rc;
    }
    *out = p;
    return CADRE_OK;
}

void pretokenizer_free(struct pretokenizer *p)
{
    if (!p)
        return;
    /* A step that failed half-made is beyond n, but in the zeroed array. */
    for (int i = 0; p->step && i <= p->n; i++) {
        free(p->step[i].text);
        regex_free(p->step[i].regex);
    }
    free(p->step);
    free(p);
}

struct splitter {
    const struct pretokenizer *pre;
    struct regex_match *match;
    struct text_buffer scratch;
    struct text_keep rewritten;
    word_fn *word;
    void *arg;
};

cadre_err splitter_new(struct splitter **out, const struct pretokenizer *p, cadre_error *err)
{
    struct splitter *s = calloc(1, sizeof *s);
    CHECK(err, s, CADRE_E_MEMORY, "no memory to split text");
    s->pre = p;
    cadre_err rc = regex_match_new(&s->match, err);
    if (rc) {
        splitter_free(s);
        return rc;
    }
    *out = s;
    return CADRE_OK;
}

void splitter_free(struct splitter *s)
{
    if (!s)
        return;
    regex_match_free(s->match);
    text_buffer_free(&s->scratch);
    text_keep_free(&s->rewritten);
    free(s);
}

void splitter_limit(struct splitter *s, uint32_t steps)
{
    regex_match_limit(s->match, steps);
}

static cadre_err run_step(struct splitter *s, int k, const char *p, size_t n, bool first, cadre_error *err);

/* ---- steps that rewrite a piece ---- */

static cadre_err rewritten(struct splitter *s, int k, bool first, cadre_error *err)
{
    const char *p;
    size_t n = s->scratch.n;
    TRY(text_keep_copy(&s->rewritten, s->scratch.p, n, &p, err));
    return run_step(s, k + 1, p, n, first, err);
}

static cadre_err prefix_blank(struct splitter *s, int k, const char *p, size_t n, bool first, cadre_error *err)
{
    if (*p == ' ')
        return run_step(s, k + 1, p, n, first, err);
    s->scratch.n = 0;
    TRY(text_buffer_add(&s->scratch, " ", 1, err));
    TRY(text_buffer_add(&s->scratch, p, n, err));
    return rewritten(s, k, first, err);
}

static cadre_err mark_blanks(struct splitter *s, int k, const char *p, size_t n, bool first, cadre_error *err)
{
    const struct split_step *st = &s->pre->step[k].s;
    const struct text_span mark = st->content;
    s->scratch.n = 0;
    bool marked = n > 0 && (*p == ' ' || (mark.n > 0 && n >= mark.n && memcmp(p, mark.p, mark.n) == 0));
    if (!marked && (st->prepend == PREPEND_ALWAYS || (st->prepend == PREPEND_FIRST && first)))
        TRY(text_buffer_add(&s->scratch, mark.p, mark.n, err));
    for (const char *end = p + n, *blank; p < end; p = blank + 1) {
        blank = memchr(p, ' ', (size_t)(end - p));
        TRY(text_buffer_add(&s->scratch, p, (size_t)((blank ? blank : end) - p), err));
        if (!blank)
            break;
        TRY(text_buffer_add(&s->scratch, mark.p, mark.n, err));
    }
    return rewritten(s, k, first, err);
}

static cadre_err to_alphabet(struct splitter *s, int k, const char *p, size_t n, bool first, cadre_error *err)
{
    s->scratch.n = 0;
    for (size_t i = 0; i < n; i++) {
        char letter[2];
        TRY(text_buffer_add(&s->scratch, letter, byte_to_alphabet((unsigned char)p[i], letter), err));
    }
    return rewritten(s, k, first, err);
}

/* ---- steps that cut ---- */

/* The next match at or after `from`; an empty one only cuts. */
static cadre_err next_match(struct splitter *s, const struct step *st, const char *p, size_t n, size_t from,
                            bool *found, size_t *start, size_t *end, cadre_error *err)
{
    if (st->regex)
        return regex_next(st->regex, s->match, p, n, from, found, start, end, err);
    const char *hit = memmem(p + from, n - from, st->s.pattern.p, st->s.pattern.n);
    *found = hit;
    if (hit)
        *start = (size_t)(hit - p), *end = *start + st->s.pattern.n;
    return CADRE_OK;
}

/* Pieces as they come, joined as the step wants. */
struct joiner {
    struct splitter *s;
    int k;
    const char *p;
    size_t begin, end; /* what is held back; equal: nothing */
    bool first, held_match, after_match;
};

static cadre_err release(struct joiner *j, cadre_error *err)
{
    size_t begin = j->begin, n = j->end - begin;
    j->begin = j->end;
    return n ? run_step(j->s, j->k + 1, j->p + begin, n, j->first && begin == 0, err) : CADRE_OK;
}

static cadre_err hold(struct joiner *j, size_t start, size_t end, bool match, cadre_error *err)
{
    TRY(release(j, err));
    j->begin = start, j->end = end, j->held_match = match;
    return CADRE_OK;
}

/* The piece p[start, end), which directly follows the one before. */
static cadre_err take(struct joiner *j, size_t start, size_t end, bool match, cadre_error *err)
{
    const struct split_step *st = &j->s->pre->step[j->k].s;
    match ^= st->invert;
    bool after_match = j->after_match, holds = j->end > j->begin;
    j->after_match = match;
    switch (st->how) {
    case SPLIT_REMOVED:
        if (match)
            return CADRE_OK;
        break;
    case SPLIT_WITH_PREVIOUS:
        if (match && holds && !after_match) {
            j->end = end;
            return CADRE_OK;
        }
        return hold(j, start, end, match, err);
    case SPLIT_WITH_NEXT:
        if (!match && holds && j->held_match) {
            j->end = end;
            return release(j, err);
        }
        return hold(j, start, end, match, err);
    case SPLIT_CONTIGUOUS:
        if (holds && j->held_match == match) {
            j->end = end;
            return CADRE_OK;
        }
        return hold(j, start, end, match, err);
    case SPLIT_ISOLATED:
        break;
    }
    return run_step(j->s, j->k + 1, j->p + start, end - start, j->first && start == 0, err);
}

static cadre_err cut(struct splitter *s, int k, const char *p, size_t n, bool first, cadre_error *err)
{
    const struct step *st = &s->pre->step[k];
    struct joiner j = {.s = s, .k = k, .p = p, .first = first};
    size_t at = 0, from = 0;
    while (from <= n && at < n) {
        bool found;
        size_t start, end;
        TRY(next_match(s, st, p, n, from, &found, &start, &end, err));
        if (!found)
            break;
        if (start > at)
            TRY(take(&j, at, start, false, err));
        if (end > start)
            TRY(take(&j, start, end, true, err));
        at = from = end;
        if (end == start && end < n) {
            int len;
            unicode_read(p + end, n - end, &len);
            from += (size_t)len;
        } else if (end == start) {
            break;
        }
    }
    if (at < n)
        TRY(take(&j, at, n, false, err));
    return release(&j, err);
}

static cadre_err run_step(struct splitter *s, int k, const char *p, size_t n, bool first, cadre_error *err)
{
    if (n == 0)
        return CADRE_OK;
    if (k == s->pre->n)
        return s->word(s->arg, p, n, err);
    switch (s->pre->step[k].s.kind) {
    case SPLIT_PREFIX_BLANK:
        return prefix_blank(s, k, p, n, first, err);
    case SPLIT_TO_ALPHABET:
        return to_alphabet(s, k, p, n, first, err);
    case SPLIT_MARK_BLANKS:
        return mark_blanks(s, k, p, n, first, err);
    case SPLIT_PATTERN:
        break;
    }
    return cut(s, k, p, n, first, err);
}

cadre_err splitter_run(struct splitter *s, const char *text, size_t n, bool first, word_fn *word, void *arg,
                       cadre_error *err)
{
    s->word = word, s->arg = arg;
    for (size_t at = 0; at < n;) {
        size_t valid = utf8_valid_prefix(text + at, n - at);
        TRY(run_step(s, 0, text + at, valid, first && at == 0, err));
        at += valid;
        size_t begin = at;
        while (at < n && utf8_char((const unsigned char *)text + at, n - at) <= 0)
            at++;
        if (at > begin)
            TRY(word(arg, text + begin, at - begin, err));
    }
    return CADRE_OK;
}
