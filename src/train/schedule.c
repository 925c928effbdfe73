#include "train/schedule.h"

#include <math.h>
#include <string.h>

static double cosine(const struct train_config *c, double t)
{
    (void)c;
    return 0.5 * (1 + cos(M_PI * t));
}

static double constant(const struct train_config *c, double t)
{
    (void)c;
    (void)t;
    return 1;
}

/* Warm-up, stable, decay: the rate stays until the last decay_share of the run, then falls as 1 - √u (Hägele et al.
 * 2024, the best shape found there) or 1 - u. A stable checkpoint can be continued, and decayed, for any length. */
static double wsd(const struct train_config *c, double t)
{
    double u = fmax(0, (t - (1 - c->decay_share)) / c->decay_share);
    return 1 - (strcmp(c->decay_shape, "sqrt") == 0 ? sqrt(u) : u);
}

static const struct schedule rows[] = {
    {"cosine", true, false, cosine},
    {"wsd", true, true, wsd},
    {"constant", false, false, constant},
};

const struct schedule *schedule_find(const char *name)
{
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (strcmp(rows[i].name, name) == 0)
            return &rows[i];
    return NULL;
}

const char *schedule_names(void)
{
    return "cosine, wsd or constant";
}

double learning_rate(const struct train_config *c, int64_t tokens)
{
    const struct schedule *s = schedule_find(c->schedule);
    if (tokens + c->batch_tokens < c->warmup_tokens)
        return c->lr * (double)(tokens + c->batch_tokens) / (double)c->warmup_tokens;
    double span = (double)(c->tokens - c->warmup_tokens);
    double t = span > 0 ? fmin(1, fmax(0, (double)(tokens - c->warmup_tokens) / span)) : 0;
    return c->lr_final + (c->lr - c->lr_final) * s->left(c, t);
}
