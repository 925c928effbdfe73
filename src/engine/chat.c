/* A conversation over one session: the tokens it holds are compared with those of the conversation as it is now, and
 * the longest common prefix stays in the KV cache. Whatever a template does to earlier turns, the result is that of a
 * fresh session, since a prefix of equal tokens has equal keys and values. */
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "engine/generate.h"
#include "engine/memory.h"

enum { USUAL_CONTEXT = 4096 };

struct cadre_chat {
    struct cadre_model *m;
    struct session *session;
    struct speculation *speculation; /* NULL: none */
    const char *kv, *act;            /* borrowed from string constants */
    int32_t *held;                   /* [context] tokens of the session, from its beginning */
    size_t n_held;
};

static const char *constant(const char *given, const char *const *words)
{
    while (*words && given && strcmp(given, *words) != 0)
        words++;
    return given ? *words : NULL;
}

cadre_err cadre_chat_open(cadre_chat **out, cadre_model *m, const cadre_generate_options *g, cadre_error *err)
{
    static const char *const kv[] = {"f32", "f16", "bf16", "q8_0", NULL};
    struct session_options so = {0};
    cadre_error own = {0};
    err = err ? err : &own;
    CHECK(err, out, CADRE_E_ARG, "cadre_chat_open: out must be given");
    *out = NULL;
    CHECK(err, m && m->model && g, CADRE_E_ARG, "cadre_chat_open: a model with weights and options must be given");
    CHECK(err, m->tokenizer, CADRE_E_ARG, "chat: this model has no tokenizer");
    TRY(generate_session_options(g, &so, err));
    so.n_ctx = g->context ? g->context : min_i64(m->model->spec.n_ctx, USUAL_CONTEXT);
    so.marks = 1;
    cadre_chat *chat = calloc(1, sizeof *chat);
    CHECK(err, chat, CADRE_E_MEMORY, "no memory for a chat");
    *chat = (cadre_chat){.m = m, .kv = constant(g->kv, kv), .act = constant(g->act, act_names)};
    cadre_err rc = speculation_new(&chat->speculation, m, g, &so, err);
    if (rc == CADRE_OK)
        rc = session_new(&chat->session, m, &so, err);
    if (rc == CADRE_OK)
        rc = speculation_fits(chat->speculation, m, chat->session, err);
    if (rc == CADRE_OK) {
        chat->held = malloc((size_t)so.n_ctx * sizeof *chat->held);
        rc = chat->held ? CADRE_OK : error_set(err, CADRE_E_MEMORY, "no memory for a chat");
    }
    if (rc) {
        cadre_chat_close(chat);
        return rc;
    }
    *out = chat;
    return CADRE_OK;
}

void cadre_chat_close(cadre_chat *chat)
{
    if (!chat)
        return;
    session_free(chat->session);
    speculation_free(chat->speculation);
    free(chat->held);
    free(chat);
}

int64_t cadre_chat_context(const cadre_chat *chat)
{
    return session_context(chat->session);
}

/* The tokens at the beginning that the session holds already; at least one is always left to compute, for its logits.
 */
static size_t common_prefix(const cadre_chat *chat, const int32_t *ids, size_t n)
{
    size_t k = 0;
    while (k < chat->n_held && k + 1 < n && chat->held[k] == ids[k])
        k++;
    return k;
}

/* What the session holds now: the prompt, then the generated tokens that were fed back. */
static void remember(cadre_chat *chat, const int32_t *ids, size_t n, const cadre_generation *g)
{
    size_t fed = (size_t)session_position(chat->session), more = fed > n ? fed - n : 0;
    memcpy(chat->held, ids, (fed < n ? fed : n) * sizeof *ids);
    more = more < g->n_ids ? more : g->n_ids;
    if (more)
        memcpy(chat->held + n, g->ids, more * sizeof *ids);
    chat->n_held = (fed < n ? fed : n) + more;
}

static cadre_err reply(cadre_chat *chat, const int32_t *ids, size_t n, const cadre_generate_options *o,
                       cadre_generation *g, cadre_error *err)
{
    cadre_generate_options own = *o;
    size_t reused = common_prefix(chat, ids, n);
    own.ids = ids;
    own.n_ids = n;
    own.context = session_context(chat->session);
    own.kv = chat->kv;
    own.act = chat->act;
    CHECK(err, (int64_t)n <= own.context, CADRE_E_MEMORY,
          "context: the conversation takes %zu tokens of the %lld there is room for; shorten it, or give the chat more "
          "context (the model's limit is %lld)",
          n, (long long)own.context, (long long)chat->m->model->spec.n_ctx);
    /* Now, so that it holds also if generation fails before its first token. */
    reused = (size_t)session_rewind(chat->session, (int64_t)reused);
    cadre_err rc = generate_over(chat->session, chat->speculation, reused, chat->m, NULL, &own, g, err);
    remember(chat, ids, n, g);
    return rc;
}

/* Messages to tokens; *ids is freed with free(). */
static cadre_err encode(cadre_chat *chat, const char *messages, const char *tools, const cadre_chat_options *o,
                        int32_t **ids, size_t *n_ids, cadre_error *err)
{
    char *text;
    size_t n;
    bool add;
    TRY(chat_render(chat->m, messages, tools, o, &text, &n, &add, err));
    unsigned flags = TOKENIZE_SPECIAL | (add ? TOKENIZE_ADD : 0);
    cadre_err rc = tokenizer_encode(chat->m->tokenizer, text, n, flags, ids, n_ids, err);
    free(text);
    return rc;
}

cadre_err cadre_chat_tokens(cadre_chat *chat, const char *messages, const char *tools, const cadre_chat_options *o,
                            int64_t *n, cadre_error *err)
{
    int32_t *ids = NULL;
    size_t n_ids = 0;
    CHECK(err, chat && messages && o && n, CADRE_E_ARG,
          "cadre_chat_tokens: a chat, messages, options and n must be given");
    TRY(encode(chat, messages, tools, o, &ids, &n_ids, err));
    free(ids);
    *n = (int64_t)n_ids;
    return CADRE_OK;
}

cadre_err cadre_chat_reply(cadre_chat *chat, const char *messages, const char *tools, const cadre_chat_options *o,
                           const cadre_generate_options *generate, cadre_generation *result, cadre_error *err)
{
    cadre_generation unwanted = {0}, *g = result ? result : &unwanted;
    cadre_error own = {0};
    size_t n_ids = 0;
    int32_t *ids = NULL;
    err = err ? err : &own;
    *g = (cadre_generation){0};
    CHECK(err, chat && messages && o && generate && !generate->ids, CADRE_E_ARG,
          "cadre_chat_reply: a chat, messages and options without ids must be given");
    TRY(encode(chat, messages, tools, o, &ids, &n_ids, err));
    cadre_err rc = reply(chat, ids, n_ids, generate, g, err);
    free(ids);
    if (!result)
        cadre_generation_free(g);
    return rc;
}
