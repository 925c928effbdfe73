#include "train/conversations.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "text/template/template.h"

struct conversations {
    struct template *template;
    const struct tokenizer *t;
};

bool conversations_is_file(const char *path)
{
    static const char suffix[] = ".jsonl";
    size_t n = strlen(path), m = sizeof suffix - 1;
    return n > m && strcmp(path + n - m, suffix) == 0;
}

cadre_err conversations_open(struct conversations **out, const struct gguf *vocabulary, const struct tokenizer *t,
                             cadre_error *err)
{
    static const char key[] = "tokenizer.chat_template";
    const struct template_limits limits = template_limits_default();
    struct gguf_string s;
    bool found;
    *out = NULL;
    TRY(gguf_get_string(vocabulary, key, &s, &found, err));
    CHECK(err, found, CADRE_E_ARG,
          "conversations need a chat template: name one as [tokenizer] chat_template, or start from a model that has "
          "one (%s)",
          template_builtin_names());
    struct conversations *c = calloc(1, sizeof *c);
    CHECK(err, c, CADRE_E_MEMORY, "no memory for conversations");
    c->t = t;
    cadre_err rc = template_parse(&c->template, s.p, s.n, &limits, err);
    if (rc) {
        conversations_close(c);
        return rc;
    }
    *out = c;
    return CADRE_OK;
}

void conversations_close(struct conversations *c)
{
    if (c)
        template_free(c->template);
    free(c);
}

/* ---- one conversation ---------------------------------------------------------------------------------- */

struct ids {
    uint32_t *p;
    size_t n, capacity;
};

struct line {
    const struct conversations *c;
    json_t *root, *messages; /* messages is borrowed from root */
    struct ids *out;
    cadre_error *err;
};

static json_t *token_text(const struct tokenizer *t, int32_t id)
{
    const char *p = "";
    size_t n = id >= 0 ? tokenizer_piece(t, id, true, &p) : 0;
    return json_stringn(p, n);
}

/* The first `count` messages as text. *text is freed with free(). */
static cadre_err render(const struct line *l, size_t count, bool prompt, char **text, size_t *n)
{
    const struct template_limits limits = template_limits_default();
    const struct tokenizer *t = l->c->t;
    json_t *some = json_array(), *tools = json_object_get(l->root, "tools");
    for (size_t i = 0; i < count; i++)
        json_array_append(some, json_array_get(l->messages, i));
    json_t *v = json_pack("{s:o, s:O?, s:n, s:b, s:o, s:o}", "messages", some, "tools", tools, "documents",
                          "add_generation_prompt", prompt, "bos_token", token_text(t, tokenizer_bos(t)), "eos_token",
                          token_text(t, tokenizer_eos(t)));
    CHECK(l->err, v, CADRE_E_MEMORY, "no memory for a conversation");
    /* A fixed clock: what is learnt does not depend on the day. */
    cadre_err rc = template_render(l->c->template, v, 0, &limits, text, n, l->err);
    json_decref(v);
    return rc;
}

static cadre_err append(const struct line *l, const int32_t *ids, size_t n, uint32_t flags)
{
    struct ids *o = l->out;
    if (o->n + n > o->capacity) {
        size_t capacity = 2 * (o->n + n) + 1024;
        uint32_t *p = realloc(o->p, capacity * sizeof *p);
        CHECK(l->err, p, CADRE_E_MEMORY, "no memory for %zu tokens", capacity);
        o->p = p, o->capacity = capacity;
    }
    for (size_t i = 0; i < n; i++)
        o->p[o->n++] = (uint32_t)ids[i] | flags;
    return CADRE_OK;
}

/* A piece of the conversation; of what is learnt, the tokens up to the end of the turn. */
static cadre_err add_piece(const struct line *l, const char *text, size_t n, bool learnt)
{
    int32_t *ids;
    size_t n_ids, n_learnt = 0;
    TRY(tokenizer_encode(l->c->t, text, n, TOKENIZE_SPECIAL, &ids, &n_ids, l->err));
    if (learnt) {
        for (n_learnt = n_ids; n_learnt > 0 && !tokenizer_is_end(l->c->t, ids[n_learnt - 1]);)
            n_learnt--;
        n_learnt = n_learnt ? n_learnt : n_ids; /* a template without ends: all of it */
    }
    cadre_err rc = append(l, ids, n_learnt, 0);
    if (rc == CADRE_OK)
        rc = append(l, ids + n_learnt, n_ids - n_learnt, ID_READ_ONLY);
    free(ids);
    return rc;
}

static bool begins_with(const char *text, size_t n, const char *start, size_t m)
{
    return m <= n && memcmp(text, start, m) == 0;
}

/* Message k, an assistant's, within the whole text: [*from, *to). */
static cadre_err place_reply(const struct line *l, size_t k, const char *whole, size_t n, size_t *from, size_t *to)
{
    char *before = NULL, *with = NULL;
    size_t n_before = 0, n_with = 0;
    cadre_err rc = render(l, k, true, &before, &n_before);
    if (rc == CADRE_OK)
        rc = render(l, k + 1, false, &with, &n_with);
    if (rc == CADRE_OK && (!begins_with(whole, n, before, n_before) || !begins_with(whole, n, with, n_with) ||
                           n_before < *to || n_with < n_before))
        rc = error_set(l->err, CADRE_E_UNSUPPORTED,
                       "message %zu: the chat template writes it in another way when more follows, so what the "
                       "assistant says cannot be told from the rest; use a template that only appends",
                       k + 1);
    *from = n_before;
    *to = n_with;
    free(before);
    free(with);
    return rc;
}

static bool is_reply(const struct line *l, size_t k)
{
    return strcmp(json_string_value(json_object_get(json_array_get(l->messages, k), "role")), "assistant") == 0;
}

static cadre_err add_pieces(const struct line *l, const char *whole, size_t n)
{
    size_t at = 0, from = 0, to = 0;
    for (size_t k = 0; k < json_array_size(l->messages); k++) {
        if (!is_reply(l, k))
            continue;
        TRY(place_reply(l, k, whole, n, &from, &to));
        TRY(add_piece(l, whole + at, from - at, false));
        TRY(add_piece(l, whole + from, to - from, true));
        at = to;
    }
    return add_piece(l, whole + at, n - at, false);
}

static cadre_err add_conversation(const struct line *l)
{
    char *whole;
    size_t n, first = l->out->n;
    int32_t eos = tokenizer_eos(l->c->t);
    TRY(render(l, json_array_size(l->messages), false, &whole, &n));
    cadre_err rc = add_pieces(l, whole, n);
    free(whole);
    if (rc == CADRE_OK && l->out->n > first && eos >= 0 && (l->out->p[l->out->n - 1] & ID_BITS) != (uint32_t)eos)
        rc = append(l, &eos, 1, ID_READ_ONLY);
    if (rc == CADRE_OK && l->out->n > first)
        l->out->p[first] |= ID_BEGINS;
    return rc;
}

/* ---- lines --------------------------------------------------------------------------------------------- */

static cadre_err check_messages(const struct line *l)
{
    bool reply = false;
    CHECK(l->err, json_is_array(l->messages), CADRE_E_FORMAT,
          "expected an object {\"messages\": [{\"role\": …, \"content\": …}, …]}");
    for (size_t k = 0; k < json_array_size(l->messages); k++) {
        const json_t *m = json_array_get(l->messages, k);
        CHECK(l->err, json_is_string(json_object_get(m, "role")), CADRE_E_FORMAT,
              "message %zu: expected an object with a \"role\"", k + 1);
        CHECK(l->err, json_object_get(m, "content"), CADRE_E_FORMAT, "message %zu: expected a \"content\"", k + 1);
        reply |= is_reply(l, k);
    }
    CHECK(l->err, reply, CADRE_E_FORMAT, "no message has the role assistant, so there is nothing to learn");
    return CADRE_OK;
}

static cadre_err add_line(struct line *l, const char *text, size_t n)
{
    json_error_t e;
    l->root = json_loadb(text, n, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &e);
    CHECK(l->err, l->root, CADRE_E_FORMAT, "expected JSON, found at column %d: %s", e.column, e.text);
    l->messages = json_object_get(l->root, "messages");
    cadre_err rc = check_messages(l);
    if (rc == CADRE_OK)
        rc = add_conversation(l);
    json_decref(l->root);
    return rc;
}

cadre_err conversations_encode(const struct conversations *c, const char *text, size_t n, uint32_t **ids, size_t *n_ids,
                               size_t *bad, cadre_error *err)
{
    struct ids out = {0};
    struct line l = {.c = c, .out = &out, .err = err};
    cadre_err rc = CADRE_OK;
    *ids = NULL;
    *n_ids = 0;
    for (size_t at = 0; at < n && rc == CADRE_OK;) {
        const char *nl = memchr(text + at, '\n', n - at);
        size_t end = nl ? (size_t)(nl - text) : n, blanks = 0;
        while (blanks < end - at && strchr(" \t\r", text[at + blanks]) && text[at + blanks])
            blanks++;
        *bad = at;
        if (blanks < end - at)
            rc = add_line(&l, text + at, end - at);
        at = end + 1;
    }
    if (rc) {
        free(out.p);
        return rc;
    }
    *ids = out.p;
    *n_ids = out.n;
    return CADRE_OK;
}
