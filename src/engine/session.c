#include "engine/session.h"

#include <assert.h>
#include <stdlib.h>

#include "base/checked.h"

struct session {
    struct cadre_model *m;
    struct session_options opt;
    struct kv_cache *kv;
    struct arena arena;
    struct routing *routing; /* [n_layer] or NULL */
    int64_t position;
    int32_t positions[SESSION_CHUNK], want[SESSION_CHUNK];
};

/* The forward pass of a chunk, for the logits of its last n_logits tokens; over a measuring arena it plans, and reads
 * neither tokens nor cache. */
static struct tensor *forward(struct session *s, struct arena *arena, const int32_t *token, int64_t n, int64_t n_logits,
                              cadre_error *err)
{
    static const int32_t slot = 0;
    int64_t row_start[2] = {0, n};
    struct op_ctx c = {.k = &s->m->kernels, .pool = s->m->pool, .arena = arena, .act = s->opt.act};
    if (arena->measuring) {
        c.dry = true;
        c.plan = &s->arena;
    }
    for (int64_t i = 0; i < n_logits; i++)
        s->want[i] = (int32_t)(n - n_logits + i);
    struct moe_hooks hooks = {.filter = s->opt.filter};
    struct batch b = {.n_tok = n,
                      .n_seq = 1,
                      .token = token,
                      .position = s->positions,
                      .row_start = row_start,
                      .kv = s->kv,
                      .slot = &slot,
                      .want = s->opt.all_logits ? NULL : s->want,
                      .n_want = n_logits,
                      .hooks = &hooks,
                      .routing = s->routing};
    return model_forward(&c, s->m->model, &b, err);
}

static cadre_err plan(struct session *s, cadre_error *err)
{
    struct arena measure;
    int64_t n = min_i64(SESSION_CHUNK, s->opt.n_ctx);
    int32_t *token = calloc((size_t)n, sizeof *token);
    CHECK(err, token, CADRE_E_MEMORY, "no memory for a prompt");
    arena_init_measuring(&measure);
    cadre_err rc = arena_init(&s->arena, OP_PLAN_BYTES, err); /* the builders' structs */
    int64_t n_logits = s->opt.all_logits ? n : min_i64(n, s->opt.last_logits > 1 ? s->opt.last_logits : 1);
    if (rc == CADRE_OK && !forward(s, &measure, token, n, n_logits, err))
        rc = err ? err->code : CADRE_E_ARG;
    free(token);
    arena_destroy(&s->arena);
    TRY(rc);
    TRY(runtime_fits(s->m, measure.peak + kv_bytes(s->kv), "KV cache and working memory", err));
    return arena_init(&s->arena, measure.peak, err);
}

const char *const act_names[ACT_COUNT + 1] = {[ACT_F32] = "f32", [ACT_GRID] = "auto", [ACT_INT8] = "int8"};

cadre_err act_parse(const char *name, enum act *act, cadre_error *err)
{
    for (*act = 0; name && *act < ACT_COUNT && strcmp(name, act_names[*act]) != 0;)
        ++*act;
    CHECK(err, *act < ACT_COUNT, CADRE_E_ARG, "act: expected f32, auto or int8, found '%s'", name);
    return CADRE_OK;
}

cadre_err session_new(struct session **out, struct cadre_model *m, const struct session_options *o, cadre_error *err)
{
    const struct spec *spec = &m->model->spec;
    *out = NULL;
    CHECK(err, o->n_ctx >= 1 && o->n_ctx <= spec->n_ctx, CADRE_E_ARG,
          "context: expected 1 to %lld positions (what the model was made for), found %lld", (long long)spec->n_ctx,
          (long long)o->n_ctx);
    const struct router *router = spec->n_expert ? spec->router.kind : NULL;
    CHECK(err, !router || !(router->train_only || router->whole_sequence), CADRE_E_UNSUPPORTED,
          "router %s decides for a token by looking at others, some of which come later; it is for training, not for "
          "generation",
          router ? router->name : "");
    struct session *s = calloc(1, sizeof *s);
    CHECK(err, s, CADRE_E_MEMORY, "no memory for a session");
    s->m = m;
    s->opt = *o;
    struct kv_width width[MODEL_MAX_LAYERS];
    struct kv_layout layout = model_kv_layout(m->model, width, 1, o->n_ctx, o->kv);
    layout.marks = o->marks;
    cadre_err rc = kv_new(&s->kv, &layout, err);
    if (rc == CADRE_OK && o->routing) {
        s->routing = calloc((size_t)spec->n_layer, sizeof *s->routing);
        if (!s->routing)
            rc = error_set(err, CADRE_E_MEMORY, "no memory for a session");
    }
    if (rc == CADRE_OK)
        rc = plan(s, err);
    if (rc) {
        session_free(s);
        return rc;
    }
    *out = s;
    return CADRE_OK;
}

void session_free(struct session *s)
{
    if (!s)
        return;
    arena_destroy(&s->arena);
    kv_free(s->kv);
    free(s->routing);
    free(s);
}

int64_t session_position(const struct session *s)
{
    return s->position;
}

int64_t session_context(const struct session *s)
{
    return s->opt.n_ctx;
}

bool session_has_states(const struct session *s)
{
    return kv_has_states(s->kv);
}

uint64_t session_kv_bytes(const struct session *s, int64_t position)
{
    const struct spec *spec = &s->m->model->spec;
    uint64_t sum = 0;
    for (int64_t i = 0; i < spec->n_layer; i++) {
        int64_t window = spec_layer(spec, i).window;
        sum += kv_layer_bytes(s->kv, i, window > 0 ? min_i64(window, position + 1) : position + 1);
    }
    return sum;
}

int64_t session_rewind(struct session *s, int64_t position)
{
    assert(position >= 0 && position <= s->position);
    return s->position = kv_rewind(s->kv, 0, position);
}

void session_mark(struct session *s, int mark)
{
    if (mark < s->opt.marks)
        kv_mark(s->kv, 0, mark);
}

uint64_t session_bytes(const struct session *s)
{
    return s->arena.size + kv_bytes(s->kv);
}

static cadre_err feed(struct session *s, const int32_t *token, int64_t n, int64_t n_logits, struct session_output *out,
                      cadre_error *err)
{
    CHECK(err, n >= 1 && n <= SESSION_CHUNK && s->position + n <= s->opt.n_ctx, CADRE_E_ARG,
          "context: %lld tokens at position %lld do not fit into %lld positions", (long long)n, (long long)s->position,
          (long long)s->opt.n_ctx);
    for (int64_t i = 0; i < n; i++) {
        CHECK(err, token[i] >= 0 && token[i] < s->m->model->spec.n_vocab, CADRE_E_ARG,
              "token %lld: expected an id from 0 to %lld, found %d", (long long)(s->position + i),
              (long long)s->m->model->spec.n_vocab - 1, token[i]);
        s->positions[i] = (int32_t)(s->position + i);
    }
    arena_reset(&s->arena, 0);
    struct tensor *logits = forward(s, &s->arena, token, n, n_logits, err);
    if (!logits)
        return err ? err->code : CADRE_E_ARG;
    *out = (struct session_output){.first = s->position, .n = n, .logits = logits->x, .routing = s->routing};
    s->position += n;
    return CADRE_OK;
}

cadre_err session_feed(struct session *s, const int32_t *token, int64_t n, struct session_output *out, cadre_error *err)
{
    return feed(s, token, n, s->opt.all_logits ? n : 1, out, err);
}

cadre_err session_feed_last(struct session *s, const int32_t *token, int64_t n, int64_t n_logits,
                            struct session_output *out, cadre_error *err)
{
    assert(!s->opt.all_logits && n_logits >= 1 && n_logits <= n && (n_logits == 1 || n_logits <= s->opt.last_logits));
    return feed(s, token, n, n_logits, out, err);
}
