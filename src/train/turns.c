#include "train/turns.h"

#include <stdlib.h>
#include <string.h>

#include "base/fileio.h"
#include "text/template/template.h"

enum { MAX_TEMPLATE = 1 << 20 };
static const char key_tokens[] = "tokenizer.ggml.tokens", key_merges[] = "tokenizer.ggml.merges",
                  key_kinds[] = "tokenizer.ggml.token_type", key_end[] = "tokenizer.ggml.eot_token_id",
                  key_template[] = "tokenizer.chat_template";

/* ---- template ------------------------------------------------------------------------------------------ */

static cadre_err read_source(struct turns *t, const char *name, cadre_error *err)
{
    if (strpbrk(name, "/."))
        return file_slurp(name, MAX_TEMPLATE, &t->source, &t->source_bytes, err);
    const char *source = template_builtin(name);
    CHECK(err, source, CADRE_E_ARG, "[tokenizer] chat_template: expected a file, or one of %s; found '%s'",
          template_builtin_names(), name);
    t->source = strdup(source);
    CHECK(err, t->source, CADRE_E_MEMORY, "no memory for a chat template");
    t->source_bytes = strlen(source);
    return CADRE_OK;
}

cadre_err turns_read(struct turns *t, const struct train_config *cfg, cadre_error *err)
{
    const struct template_limits limits = template_limits_default();
    struct template *parsed = NULL;
    *t = (struct turns){0};
    if (!*cfg->chat_template)
        return CADRE_OK;
    TRY(read_source(t, cfg->chat_template, err));
    cadre_err rc = template_parse(&parsed, t->source, t->source_bytes, &limits, err);
    template_free(parsed);
    if (rc == CADRE_OK)
        return CADRE_OK;
    turns_free(t);
    return error_wrap(err, rc, "%s", cfg->chat_template);
}

void turns_free(struct turns *t)
{
    free(t->source);
    *t = (struct turns){0};
}

cadre_err turns_put_template(struct gguf_writer *w, const struct turns *t, cadre_error *err)
{
    return t->source ? gguf_put_string(w, key_template, t->source, t->source_bytes, err) : CADRE_OK;
}

/* ---- tokens -------------------------------------------------------------------------------------------- */

static bool is(const char *name, const char *p, uint64_t n)
{
    return strlen(name) == n && memcmp(name, p, n) == 0;
}

static cadre_err no_such_end(const struct train_config *cfg, cadre_error *err)
{
    return error_set(err, CADRE_E_ARG,
                     "[tokenizer] end_of_turn: the vocabulary has no token '%s'; name it among specials",
                     cfg->end_of_turn);
}

cadre_err turns_find_end(int32_t *id, const struct train_config *cfg, const struct text_span *tokens, int64_t n_tokens,
                         cadre_error *err)
{
    *id = -1;
    for (int64_t i = 0; *cfg->end_of_turn && i < n_tokens; i++)
        if (is(cfg->end_of_turn, tokens[i].p, tokens[i].n))
            *id = (int32_t)i;
    return *id < 0 && *cfg->end_of_turn ? no_such_end(cfg, err) : CADRE_OK;
}

/* A vocabulary that is being changed: tokens and kinds are copies, merges are borrowed. */
struct tables {
    struct gguf_string *tokens;
    int32_t *kinds;
    int64_t n;
    const struct gguf_string *merges;
    int64_t n_merges;
};

static cadre_err read_tables(struct tables *t, const struct gguf *from, cadre_error *err)
{
    const struct gguf_string *tokens;
    const int64_t *kinds = NULL;
    int64_t n_kinds = 0;
    bool found;
    TRY(gguf_get_strings(from, key_tokens, &tokens, &t->n, &found, err));
    CHECK(err, found, CADRE_E_FORMAT, "%s: expected a vocabulary in the model, not found", key_tokens);
    TRY(gguf_get_i64s(from, key_kinds, &kinds, &n_kinds, &found, err));
    CHECK(err, !found || n_kinds == t->n, CADRE_E_FORMAT, "%s: expected one per token (%lld), found %lld", key_kinds,
          (long long)t->n, (long long)n_kinds);
    TRY(gguf_get_strings(from, key_merges, &t->merges, &t->n_merges, &found, err));
    t->n_merges = found ? t->n_merges : 0;
    t->tokens = calloc((size_t)t->n + 1, sizeof *t->tokens);
    t->kinds = calloc((size_t)t->n + 1, sizeof *t->kinds);
    CHECK(err, t->tokens && t->kinds, CADRE_E_MEMORY, "no memory for %lld tokens", (long long)t->n);
    for (int64_t i = 0; i < t->n; i++) {
        t->tokens[i] = tokens[i];
        t->kinds[i] = n_kinds ? (int32_t)kinds[i] : TOKEN_NORMAL;
    }
    return CADRE_OK;
}

static int64_t find(const struct tables *t, const char *name)
{
    for (int64_t i = 0; i < t->n; i++)
        if (is(name, t->tokens[i].p, t->tokens[i].n))
            return i;
    return -1;
}

/* Whether merge m ("left right") gives, or has as a part, the token p. */
static bool concerns(const struct gguf_string *m, const struct gguf_string *p)
{
    const char *gap = memchr(m->p + 1, ' ', m->n ? m->n - 1 : 0);
    if (!gap)
        return false;
    uint64_t left = (uint64_t)(gap - m->p), right = m->n - left - 1;
    return (left == p->n && memcmp(m->p, p->p, left) == 0) || (right == p->n && memcmp(gap + 1, p->p, right) == 0) ||
           (left + right == p->n && memcmp(m->p, p->p, left) == 0 && memcmp(gap + 1, p->p + left, right) == 0);
}

/* The token of the last merge, which no other merge concerns; that merge goes. -1: there is no such token. */
static int64_t take_last_merge(struct tables *t)
{
    if (t->n_merges == 0)
        return -1;
    const struct gguf_string *last = &t->merges[--t->n_merges];
    const char *gap = last->n ? memchr(last->p + 1, ' ', last->n - 1) : NULL;
    uint64_t left = gap ? (uint64_t)(gap - last->p) : 0;
    for (int64_t i = t->n - 1; gap && i >= 0; i--) {
        const struct gguf_string *p = &t->tokens[i];
        if (t->kinds[i] != TOKEN_NORMAL || p->n != last->n - 1 || memcmp(p->p, last->p, left) != 0 ||
            memcmp(p->p + left, gap + 1, p->n - left) != 0)
            continue;
        for (int64_t k = 0; k < t->n_merges; k++)
            if (concerns(&t->merges[k], p))
                return -1;
        return i;
    }
    return -1;
}

static cadre_err add_specials(struct tables *t, const struct train_config *cfg, int32_t *fresh, int *n_fresh,
                              cadre_error *err)
{
    for (int i = 0; i < cfg->n_specials; i++) {
        const char *name = cfg->special[i];
        int64_t id = find(t, name);
        if (id < 0) {
            id = take_last_merge(t);
            CHECK(err, id >= 0, CADRE_E_UNSUPPORTED,
                  "[tokenizer] specials: the model's vocabulary has no '%s', and no last merge whose id it could take",
                  name);
            t->tokens[id] = (struct gguf_string){name, strlen(name)};
            fresh[(*n_fresh)++] = (int32_t)id;
        }
        t->kinds[id] = TOKEN_CONTROL;
    }
    return CADRE_OK;
}

static bool kept_out(const char *key)
{
    static const char *const own[] = {key_tokens, key_merges, key_kinds, key_end, key_template};
    for (size_t i = 0; i < sizeof own / sizeof *own; i++)
        if (strcmp(key, own[i]) == 0)
            return true;
    return strncmp(key, "tokenizer.", 10) != 0;
}

static cadre_err put_end(struct gguf_writer *w, const struct gguf *from, const struct train_config *cfg,
                         const struct tables *t, cadre_error *err)
{
    int64_t id = -1;
    bool found = false;
    if (*cfg->end_of_turn) {
        id = find(t, cfg->end_of_turn);
        if (id < 0)
            return no_such_end(cfg, err);
    } else {
        TRY(gguf_get_i64(from, key_end, &id, &found, err));
    }
    return id >= 0 ? gguf_put_u32(w, key_end, (uint32_t)id, err) : CADRE_OK;
}

static cadre_err put_template_of(struct gguf_writer *w, const struct gguf *from, const struct turns *t,
                                 cadre_error *err)
{
    struct gguf_string s;
    bool found;
    if (t->source)
        return turns_put_template(w, t, err);
    TRY(gguf_get_string(from, key_template, &s, &found, err));
    return found ? gguf_put_string(w, key_template, s.p, s.n, err) : CADRE_OK;
}

cadre_err turns_put_vocabulary(struct gguf_writer *w, const struct gguf *from, const struct train_config *cfg,
                               const struct turns *turns, int32_t *fresh, int *n_fresh, cadre_error *err)
{
    struct tables t = {0};
    cadre_err rc = CADRE_OK;
    *n_fresh = 0;
    TRY_OUT(read_tables(&t, from, err));
    TRY_OUT(add_specials(&t, cfg, fresh, n_fresh, err));
    TRY_OUT(gguf_put_all(w, from, kept_out, err));
    TRY_OUT(gguf_put_strings(w, key_tokens, t.tokens, t.n, err));
    TRY_OUT(gguf_put_i32s(w, key_kinds, t.kinds, t.n, err));
    if (gguf_has(from, key_merges))
        TRY_OUT(gguf_put_strings(w, key_merges, t.merges, t.n_merges, err));
    TRY_OUT(put_end(w, from, cfg, &t, err));
    TRY_OUT(put_template_of(w, from, turns, err));
out:
    free(t.tokens);
    free(t.kinds);
    return rc;
}
