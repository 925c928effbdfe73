/* A model of a few thousand parameters with a byte-pair vocabulary of its own, as a GGUF file: what tests of whole runs
 * work on. Random weights, large enough that no two tokens score alike. */
#ifndef CADRE_TESTS_TINY_H
#define CADRE_TESTS_TINY_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/attention.h"
#include "model/family.h"
#include "model/model.h"
#include "text/bpe_train.h"

enum { TINY_VOCAB = 300, TINY_CTX = 320, TINY_LAYERS = 2, TINY_EXPERTS = 6, TINY_USED = 2 };

struct tiny_options {
    enum dtype type; /* of the matrices; 0 is f32 */
    uint64_t seed;
    int32_t eos; /* 0: <|endoftext|> */
    bool dense, no_tokenizer;
    bool recurrent;  /* the first layer carries a state */
    const char *pre; /* NULL: "gpt-2" */
};

static inline struct spec tiny_spec(const struct tiny_options *o)
{
    struct spec s = {.family = "cadre",
                     .n_layer = TINY_LAYERS,
                     .d_model = 64,
                     .n_vocab = TINY_VOCAB,
                     .n_ctx = TINY_CTX,
                     .norm_eps = (real)1e-5,
                     .n_head = 2,
                     .n_kv_head = 1,
                     .head_dim = 32,
                     .v_dim = 32,
                     .dense_ff = o->dense ? 64 : 0,
                     .n_expert = o->dense ? 0 : TINY_EXPERTS,
                     .expert_ff = o->dense ? 0 : 32,
                     .shared_ff = o->dense ? 0 : 32,
                     .router = {.k = o->dense ? 0 : TINY_USED, .normalize = !o->dense}};
    if (o->recurrent) {
        s.recurrent = &attention_delta_net;
        s.recurrent_period = 2;
        s.delta = (struct delta_spec){.k_heads = 1, .v_heads = 2, .k_dim = 32, .inner = 64, .taps = 3};
    }
    spec_defaults(&s);
    return s;
}

static inline cadre_err tiny_vocabulary(struct bpe_result *out, const struct tiny_options *o, cadre_error *err)
{
    static const char *const specials[] = {"<|endoftext|>"};
    static const char text[] = "The router sends each token to its experts, and the experts answer. "
                               "A token that the router sends to other experts gets another answer. "
                               "Wörter, слова, 言葉: the tokens of other tongues are bytes too.\n";
    struct bpe_options b = {
        .vocab = TINY_VOCAB, .pre = o->pre ? o->pre : "gpt-2", .specials = specials, .n_specials = 1};
    const char *texts[] = {text};
    size_t lengths[] = {sizeof text - 1};
    TRY(bpe_train(out, texts, lengths, 1, &b, NULL, err));
    out->tables.eos = o->eos;
    return CADRE_OK;
}

static inline cadre_err tiny_write(const char *path, const struct tiny_options *o, cadre_error *err)
{
    struct spec spec = tiny_spec(o);
    struct model *m = NULL;
    struct gguf_writer *w = NULL;
    struct bpe_result vocabulary = {0};
    cadre_err rc = model_new(&m, &spec, o->seed, (real)0.5, false, err);
    if (rc)
        goto out;
    TRY_OUT(tiny_vocabulary(&vocabulary, o, err));
    TRY_OUT(gguf_writer_open(&w, path, err));
    TRY_OUT(spec_to_gguf(w, &spec, err));
    TRY_OUT(gguf_put_string(w, "general.name", "tiny", 4, err));
    if (!o->no_tokenizer)
        TRY_OUT(tokenizer_to_gguf(w, &vocabulary.tables, err));
    TRY_OUT(model_write(w, m, o->type, err));
    rc = gguf_writer_commit(w, err);
    w = NULL;
out:
    gguf_writer_abort(w);
    bpe_result_free(&vocabulary);
    model_free(m);
    return rc;
}

#endif
