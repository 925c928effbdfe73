#include "text/pre_guess.h"

#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "text/text_buffer.h"
#include "text/unicode.h"

/* What tells expressions apart: letters with and without case, marks, digits of several kinds, endings, punctuation,
 * symbols, blanks, line ends, scripts, and the odd texts that one family or another treats by itself. */
static const char *const samples[] = {
    "a",
    "b",
    "z",
    "A",
    "B",
    "Z",
    "é",
    "É",
    "ß",
    "ſ",
    "ǅ",
    "ʰ",
    "ª",
    "中",
    "国",
    "々",
    "㐀",
    "あ",
    "ア",
    "ー",
    "가",
    "ㄱ",
    "ㄅ",
    "ไ",
    "ា",
    "က",
    "क",
    "ि",
    "ا",
    "ש",
    "\xcc\x81",
    "\xe2\x83\x9d",
    "0",
    "1",
    "7",
    "٣",
    "²",
    "¼",
    "Ⅷ",
    "१",
    "'",
    "'s",
    "'S",
    "'t",
    "'re",
    "'RE",
    "'ve",
    "'ll",
    "'LL",
    "'d",
    "'D",
    "'m",
    "’",
    " ",
    " ",
    " ",
    " ",
    "  ",
    "\t",
    "\n",
    "\n",
    "\r",
    "\r\n",
    "\xc2\xa0",
    "\xe3\x80\x80",
    "\xe2\x80\xa8",
    "\xe1\xa0\x8e",
    "\xc2\x85",
    "\x0b",
    "!",
    ".",
    ",",
    "?",
    "/",
    "//",
    "(",
    ")",
    "|",
    "[",
    "`",
    "$",
    "+",
    "<",
    "=",
    "^",
    "~",
    "_",
    "-",
    "#",
    "…",
    "。",
    "，",
    "、",
    "।",
    "۔",
    "“",
    "—",
    "€",
    "×",
    "©",
    "😀",
    "\xe2\x80\x8d",
    "\xef\xb8\x8f",
    "\xef\xbb\xbf",
    "\x01",
    "Hello",
    " world",
    "camelCase",
    "1234567",
    " 2024",
    "<sentinel:12>",
    "IMGIMGABZ",
    "    ",
    "\n\n",
    ";",
    ":",
    "@",
    "\xef\xbc\x81",
    "\xef\xbd\xb1",
};
enum { N_SAMPLES = sizeof samples / sizeof *samples, PROBE_ITEMS = 16000, LONGEST_RUN = 48, CHUNK = 512, STEPS = 4000 };

/* A character of the Basic Multilingual Plane or the one above, no surrogate. */
static size_t any_character(struct rng *r, char out[4])
{
    int32_t c = (int32_t)rng_below(r, rng_below(r, 4) ? 0x3000 : 0x20000);
    return c == 0 || (c >= 0xd800 && c < 0xe000) ? 0 : (size_t)unicode_write(c, out);
}

static cadre_err make_probe(struct text_buffer *b, cadre_error *err)
{
    struct rng r;
    rng_seed(&r, 1);
    for (int i = 0; i < PROBE_ITEMS; i++) {
        char bytes[4];
        const char *s = samples[rng_below(&r, N_SAMPLES)];
        if (rng_below(&r, 8) == 0)
            TRY(text_buffer_add(b, bytes, any_character(&r, bytes), err));
        else
            TRY(text_buffer_add(b, s, strlen(s), err));
    }
    for (int n = 1; n < LONGEST_RUN; n += 1 + n / 3) {
        TRY(text_buffer_add(b, "x", 1, err));
        for (int k = 0; k < n; k++)
            TRY(text_buffer_add(b, " ", 1, err));
    }
    return CADRE_OK;
}

/* The pieces of the probe as its steps cut it; then those of another, compared as they come. */
struct pieces {
    const char *text;
    uint32_t *end;
    size_t n, capacity, at;
    bool recording, differs;
};

/* Pieces that join to the text are told apart by their ends alone. */
static cadre_err note(void *arg, const char *p, size_t n, cadre_error *err)
{
    struct pieces *s = arg;
    uint32_t end = (uint32_t)((size_t)(p - s->text) + n);
    if (!s->recording) {
        s->differs = s->at >= s->n || s->end[s->at] != end;
        s->at++;
        /* An error ends the search early; nobody sees it. */
        return s->differs ? error_set(err, CADRE_E_CANCELLED, "pieces differ") : CADRE_OK;
    }
    if (s->n == s->capacity) {
        size_t capacity = s->capacity ? 2 * s->capacity : 4096;
        uint32_t *more = realloc(s->end, capacity * sizeof *more);
        CHECK(err, more, CADRE_E_MEMORY, "no memory to compare pre-tokenizers");
        s->end = more, s->capacity = capacity;
    }
    s->end[s->n++] = end;
    return CADRE_OK;
}

static cadre_err run(struct pieces *s, const struct text_buffer *probe, const struct split_step *steps, int n,
                     cadre_error *err)
{
    cadre_err rc = CADRE_OK;
    struct pretokenizer *p = NULL;
    struct splitter *split = NULL;
    TRY_OUT(pretokenizer_new(&p, steps, n, err));
    TRY_OUT(splitter_new(&split, p, err));
    splitter_limit(split, STEPS);
    /* In short pieces, so that what a hostile expression can cost is bounded. */
    for (size_t at = 0, end; at < probe->n; at = end) {
        end = at + CHUNK < probe->n ? at + CHUNK : probe->n;
        while (end < probe->n && ((unsigned char)probe->p[end] & 0xc0) == 0x80)
            end++;
        TRY_OUT(splitter_run(split, probe->p + at, end - at, true, note, s, err));
    }
out:
    splitter_free(split);
    pretokenizer_free(p);
    return rc;
}

/* Whether the steps only cut: without that, there are no places to compare. */
static bool only_cuts(const struct split_step *steps, int n)
{
    for (int i = 0; i < n; i++)
        if (steps[i].kind != SPLIT_PATTERN || (steps[i].how == SPLIT_REMOVED && !steps[i].invert))
            return false;
    return n > 0;
}

static cadre_err compare_rows(struct pieces *s, const struct text_buffer *probe, bool ignore_merges,
                              const struct pre_row **out, cadre_error *err)
{
    const struct pre_row *row, *second_best = NULL;
    for (int i = 0; (row = pre_row_at(i)); i++) {
        struct split_step steps[PRE_MAX_SPLITS];
        if (row->flags & PRE_CHARS || strcmp(row->name, "default") == 0)
            continue;
        bool suits = !!(row->flags & PRE_IGNORE_MERGES) == ignore_merges && !(row->flags & PRE_ADD_SEP);
        if (second_best && !suits)
            continue;
        s->recording = s->differs = false;
        s->at = 0;
        cadre_err rc = run(s, probe, steps, pre_row_steps(row, steps), err);
        if (rc && !s->differs)
            return rc;
        if (s->differs || s->at != s->n)
            continue;
        second_best = second_best ? second_best : row;
        if (suits) {
            *out = row;
            return CADRE_OK;
        }
    }
    *out = second_best;
    return CADRE_OK;
}

cadre_err pre_guess(const struct pre_row **out, const struct split_step *steps, int n, bool ignore_merges,
                    cadre_error *err)
{
    *out = NULL;
    if (!only_cuts(steps, n))
        return CADRE_OK;
    struct text_buffer probe = {0};
    struct pieces s = {.recording = true};
    cadre_error why;
    cadre_err rc = CADRE_OK;
    TRY_OUT(make_probe(&probe, err));
    s.text = probe.p;
    rc = run(&s, &probe, steps, n, err);
    if (rc == CADRE_E_UNSUPPORTED) { /* takes too many steps for any of the rows */
        rc = CADRE_OK;
        goto out;
    }
    TRY_OUT(rc);
    rc = compare_rows(&s, &probe, ignore_merges, out, &why);
    if (rc)
        error_set(err, rc, "%s", why.text);
out:
    free(s.end);
    text_buffer_free(&probe);
    return rc;
}
