/* What callgrind counts, see check.py: `cost MODEL f32|auto|int8` (activations) opens a model on one thread, reads a
 * prompt in cost_prompt and decodes in cost_decode. `cost --write FILE` writes the model: random, with rows long enough
 * for every format. */
#include <stdio.h>
#include <string.h>

#include "engine/generate.h"
#include "model/family.h"

enum { PROMPT = 64, DECODE = 16, VOCAB = 1024 };

static cadre_err write_model(const char *path, cadre_error *err)
{
    struct spec spec = {.family = "cadre",
                        .n_layer = 2,
                        .d_model = 256,
                        .n_vocab = VOCAB,
                        .n_ctx = PROMPT + DECODE,
                        .norm_eps = (real)1e-5,
                        .n_head = 4,
                        .n_kv_head = 2,
                        .n_expert = 8,
                        .expert_ff = 256,
                        .shared_ff = 256,
                        .router = {.k = 2, .normalize = true}};
    struct model *m = NULL;
    struct gguf_writer *w = NULL;
    spec_defaults(&spec);
    TRY(model_new(&m, &spec, 1, (real)0.05, false, err));
    cadre_err rc = gguf_writer_open(&w, path, err);
    if (rc)
        goto out;
    TRY_OUT(spec_to_gguf(w, &spec, err));
    TRY_OUT(model_write(w, m, DTYPE_F32, err));
    rc = gguf_writer_commit(w, err);
    w = NULL;
out:
    gguf_writer_abort(w);
    model_free(m);
    return rc;
}

/* Symbols that callgrind can be told to begin and end at. */
__attribute__((noinline)) cadre_err cost_prompt(struct session *s, const int32_t *token, cadre_error *err);
__attribute__((noinline)) cadre_err cost_decode(struct session *s, const int32_t *token, cadre_error *err);

cadre_err cost_prompt(struct session *s, const int32_t *token, cadre_error *err)
{
    struct session_output out;
    return session_feed(s, token, PROMPT, &out, err);
}

cadre_err cost_decode(struct session *s, const int32_t *token, cadre_error *err)
{
    struct session_output out;
    for (int i = 0; i < DECODE; i++)
        TRY(session_feed(s, token + i, 1, &out, err));
    return CADRE_OK;
}

static cadre_err run(const char *path, const char *act, cadre_error *err)
{
    cadre_model *m = NULL;
    struct session *s = NULL;
    cadre_model_options mo = cadre_model_options_default();
    struct session_options so = {.n_ctx = PROMPT + DECODE};
    const cadre_generate_options o = {.act = act};
    int32_t token[PROMPT];
    for (int i = 0; i < PROMPT; i++)
        token[i] = (i * 37 + 5) % VOCAB;
    mo.threads = 1;
    TRY(generate_session_options(&o, &so, err));
    TRY(cadre_model_open(&m, path, &mo, err));
    cadre_err rc = session_new(&s, m, &so, err);
    if (rc == CADRE_OK)
        rc = cost_prompt(s, token, err);
    if (rc == CADRE_OK)
        rc = cost_decode(s, token, err);
    session_free(s);
    cadre_model_close(m);
    return rc;
}

int main(int argc, char **argv)
{
    cadre_error err = {0};
    cadre_err rc;
    if (argc == 3 && strcmp(argv[1], "--write") == 0)
        rc = write_model(argv[2], &err);
    else if (argc == 3)
        rc = run(argv[1], argv[2], &err);
    else
        rc = error_set(&err, CADRE_E_ARG, "expected MODEL f32|auto|int8, or --write FILE");
    if (rc)
        fprintf(stderr, "cost: %s\n", err.text);
    return rc != CADRE_OK;
}
