/* The description of a training run: model, data and schedule in one plain text file (INI), every key in one table
 * (config.c) with its type, range and default. Unknown keys and values out of range are errors that name the line. */
#ifndef CADRE_TRAIN_CONFIG_H
#define CADRE_TRAIN_CONFIG_H

#include <stdint.h>

#include "base/error.h"
#include "model/spec.h"

enum { TRAIN_MAX_DOMAINS = 64, TRAIN_MAX_TEXTS = 256, TRAIN_NAME = 64, TRAIN_TEXT = 1024, TRAIN_MAX_SPECIALS = 16 };

#define TRAIN_END_OF_TEXT "<|endoftext|>" /* between documents, and in every vocabulary that is trained */

struct domain_weight {
    char name[TRAIN_NAME];
    double weight;
};

struct train_config {
    char name[TRAIN_NAME]; /* of the model, for people */
    struct spec spec;      /* filled from [model]; checked */

    /* [tokenizer] */
    int64_t vocab;
    char pre[TRAIN_NAME];
    int64_t tokenizer_bytes; /* text that the vocabulary is trained on, taken evenly from the domains by weight */
    char specials[TRAIN_TEXT], special[TRAIN_MAX_SPECIALS][TRAIN_NAME]; /* control tokens: as given, one by one */
    int n_specials;
    char end_of_turn[TRAIN_NAME];   /* the token that ends a turn; "": none */
    char chat_template[TRAIN_TEXT]; /* a built-in one's name or, with a '/' or '.', a file; "": none */

    /* [data] */
    struct domain_weight domains[TRAIN_MAX_DOMAINS];
    int n_domains;
    double heldout; /* share of each domain's tokens, from its end, that is never trained on */

    /* [train] */
    int64_t tokens, sequence, batch_tokens, micro_tokens, warmup_tokens;
    double lr, lr_final; /* schedule: from lr to lr_final */
    double decay_share;  /* of the run, at its end (wsd) */
    char schedule[TRAIN_NAME], decay_shape[TRAIN_NAME];
    bool recompute;
    double momentum, beta1, beta2, eps, weight_decay, clip, init_std;
    char optimizer[TRAIN_NAME], precision[TRAIN_NAME], balance[TRAIN_NAME], file_type[TRAIN_NAME];
    double balance_weight, router_loss_weight, z_weight, bias_rate;
    double diversify_share, diversify_mask; /* train/diversify.h */
    int64_t seed, log_steps, eval_steps, eval_tokens;
    double checkpoint_minutes;

    uint64_t hash; /* of the text: a checkpoint belongs to one description */
};

cadre_err train_config_read(struct train_config *cfg, const char *path, cadre_error *err);
cadre_err train_config_parse(struct train_config *cfg, const char *name, const char *text, cadre_error *err);

#endif
