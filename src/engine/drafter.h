/* Drafters: who proposes the tokens that the model then checks (speculate.h). A drafter is a file and a row. */
#ifndef CADRE_ENGINE_DRAFTER_H
#define CADRE_ENGINE_DRAFTER_H

#include "engine/sampler.h"
#include "engine/session.h"
#include "plan/draft.h"

enum { DRAFT_KINDS = 4 };

struct draft_setup {
    struct cadre_model *model; /* that checks */
    struct cadre_model *draft; /* of rows that draft with a model; else NULL */
    struct session_options so; /* of the session that checks: context, precision */
    int most;                  /* the longest draft that is asked for */
};

/* The text so far, prompt included. */
struct draft_text {
    const int32_t *token;
    int64_t n;
    const struct sampling *sampling;
};

struct draft {
    int n;
    int32_t token[DRAFT_MOST];
    int kind; /* 0 … DRAFT_KINDS - 1: drafts of a kind share one estimate of how often they are right */
    struct distribution q[DRAFT_MOST]; /* what token i was drawn from */
    bool drawn;                        /* false: nothing was drawn, q is not set: a point mass on each token */
};

struct drafter {
    const char *name;
    bool by_model; /* needs draft_setup.draft */
    cadre_err (*open)(void **self, const struct draft_setup *s, cadre_error *err);
    void (*close)(void *self);
    /* Another text begins. What is drawn depends on the seed, whatever came before. */
    void (*begin)(void *self, uint64_t seed);
    /* What drafting a token costs, in bytes as in struct draft_cost. 0: nothing worth counting, so there is always a
     * draft, and its length is chosen when it is there. */
    double (*cost)(const void *self);
    /* 1 … max tokens to follow the text, or none. Allocates nothing. */
    cadre_err (*propose)(void *self, const struct draft_text *text, int max, struct draft *out, cadre_error *err);
    /* Of the last proposal the first n tokens were right; the text goes on from there. */
    void (*accept)(void *self, int n);
    uint64_t (*bytes)(const void *self); /* memory that it holds */
};

const struct drafter *drafter_find(const char *name); /* NULL if unknown */
const struct drafter *drafter_at(int i);              /* NULL past the end */

extern const struct drafter drafter_ngram; /* draft_ngram.c: what followed the last tokens before (Saxena 2023) */
extern const struct drafter drafter_model; /* draft_model.c: a smaller model (Leviathan et al. 2023) */

#endif
