/* The training loop: batches → forward → losses → backward → optimizer, with checkpoints from which it goes on bit for
 * bit. Files of a run, beside the model OUT that it makes:
 *     OUT.vocab      the vocabulary, a GGUF without tensors
 *     OUT.tokens/    one memory-mapped token file a domain
 *     OUT.ckpt       the state: weights, optimizer, random numbers, data position, router biases
 *     OUT.log.jsonl  one JSON object a logged step */
#ifndef CADRE_TRAIN_TRAINER_H
#define CADRE_TRAIN_TRAINER_H

#include "base/cpu.h"
#include "train/config.h"
#include "train/data.h"

struct train_progress {
    int64_t step, tokens, tokens_total;
    double loss; /* nats per token, this step */
    double lr, grad_norm;
    double tokens_per_s;   /* this step */
    double load_max_mean;  /* max / mean tokens per expert, the worst layer, this step */
    double load_entropy;   /* of the load in nats, mean over layers */
    double router_entropy; /* of the routing distribution of single tokens in nats, mean over layers */
    const char *event;     /* "step", "eval", "checkpoint", "resumed", "stopped" */
    int n_domains;         /* eval: held-out bits per byte by domain */
    const char *const *domain_names;
    const double *domain_bits;
};

struct train_options {
    const char *config_path;
    const char *const *data; /* text files, one or more a domain */
    int n_data;
    const char *out;
    bool resume;
    int64_t tokens; /* 0: as the config says */
    int n_threads;
    enum isa isa;
    /* Called after every logged step; false stops after writing a checkpoint. */
    bool (*on_progress)(void *user, const struct train_progress *p);
    bool (*on_prepare)(void *user, const char *what, int64_t done, int64_t total);
    void *user;
};

/* CADRE_E_CANCELLED when stopped (a checkpoint is there), CADRE_E_DIVERGED when the loss is not a number or runs away.
 */
cadre_err train_run(const struct train_options *o, cadre_error *err);

#endif
