#include "train/trainer.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/checked.h"
#include "base/clock.h"
#include "base/fileio.h"
#include "engine/roof.h"
#include "model/experts.h"
#include "model/family.h"
#include "moe/balance.h"
#include "train/checkpoint.h"
#include "train/conversations.h"
#include "train/diversify.h"
#include "train/experiment.h"
#include "train/log.h"
#include "train/optimizer.h"
#include "train/schedule.h"
#include "train/start.h"
#include "train/vocabulary.h"

/* Ways to keep experts evenly used: which terms of moe/balance.h are on. */
struct balance_rule {
    const char *name;
    bool loss, whole_batch, bias;
};
static const struct balance_rule balance_rules[] = {
    {"none", false, false, false},
    {"switch", true, false, false}, /* each micro-batch on its own */
    {"global", true, true, false},  /* counts of all micro-batches of the step so far */
    {"bias", false, false, true},   /* no loss: the selection bias moves after each step */
};

struct trainer {
    const cadre_train_options *opt;
    int n_threads;
    enum isa isa;
    struct train_config cfg;
    const struct balance_rule *balance;
    const struct optimizer *optimizer;
    struct kernels kernels;
    struct pool *pool;
    struct vocabulary vocab;
    struct conversations *chat; /* NULL: no text holds any */
    struct domain domains[TRAIN_MAX_DOMAINS];
    int n_domains;
    const char *text[TRAIN_MAX_TEXTS]; /* paths, of each the domain and the size */
    int text_domain[TRAIN_MAX_TEXTS];
    uint64_t text_bytes[TRAIN_MAX_TEXTS];
    struct gguf *init; /* NULL: weights are new */
    struct sampler sampler;
    struct model *model;
    real *state_memory;
    size_t state_bytes;
    real **state; /* [n_params * OPTIMIZER_MAX_STATES] */
    struct arena arena;
    struct run_state run;
    int64_t saved_step; /* of the last checkpoint */
    struct train_log log;
    char *ckpt_path, *vocab_path, *tokens_dir, *log_path;

    int32_t *token, *target; /* [batch_tokens] the windows of a step */
    int64_t n_learnt;        /* targets of the step that are not -1 */

    /* One micro-batch of whole sequences. */
    int32_t *position;
    int64_t *row_start;
    struct routing *routing;        /* [n_layer] */
    int64_t *count;                 /* [n_layer, n_expert] tokens per expert, this step */
    struct route_training training; /* of the present micro-batch */
    double router_entropy;          /* of the last micro-batch looked at */
    struct rng *random;             /* measurement: tokens come from it, not from texts */
    uint64_t memory;                /* planned in all */
};

/* ---- set-up -------------------------------------------------------------------------------------------- */

static cadre_err make_paths(struct trainer *t, cadre_error *err)
{
    const char *out = t->opt->out, *shared = t->opt->shared;
    bool ok = asprintf(&t->ckpt_path, "%s.ckpt", out) >= 0 && asprintf(&t->log_path, "%s.log.jsonl", out) >= 0 &&
              asprintf(&t->vocab_path, "%s%s", shared ? shared : out, shared ? "/vocab" : ".vocab") >= 0 &&
              asprintf(&t->tokens_dir, "%s%s", shared ? shared : out, shared ? "/tokens" : ".tokens") >= 0;
    CHECK(err, ok, CADRE_E_MEMORY, "%s: no memory for its name", out);
    CHECK(err, mkdir(t->tokens_dir, 0777) == 0 || errno == EEXIST, CADRE_E_IO, "%s: cannot be made: %s", t->tokens_dir,
          strerror(errno));
    CHECK(err, t->opt->resume || access(t->ckpt_path, F_OK) != 0, CADRE_E_ARG,
          "%s: there is a checkpoint already; go on from it with --resume, or delete it", t->ckpt_path);
    CHECK(err, !t->opt->resume || access(t->ckpt_path, R_OK) == 0, CADRE_E_IO, "%s: no checkpoint to resume from: %s",
          t->ckpt_path, strerror(errno));
    return CADRE_OK;
}

static int find_domain(const struct trainer *t, const char *name)
{
    for (int i = 0; i < t->n_domains; i++)
        if (strcmp(t->domains[i].name, name) == 0)
            return i;
    return -1;
}

/* The texts of the run by domain: names from the files, or given with them. */
static cadre_err make_texts(struct trainer *t, cadre_error *err)
{
    const cadre_train_options *o = t->opt;
    CHECK(err, o->n_data > 0 && o->n_data <= TRAIN_MAX_TEXTS, CADRE_E_ARG,
          "data: expected 1 to %d text files, found %d", TRAIN_MAX_TEXTS, o->n_data);
    for (int i = 0; i < o->n_data; i++) {
        char name[TRAIN_NAME];
        int fd, d;
        TRY(domain_of(name, o->data[i], &t->text[i], err));
        d = find_domain(t, name);
        if (d < 0) {
            CHECK(err, t->n_domains < TRAIN_MAX_DOMAINS, CADRE_E_ARG, "data: expected at most %d domains",
                  TRAIN_MAX_DOMAINS);
            d = t->n_domains++;
            strcpy(t->domains[d].name, name);
        }
        t->text_domain[i] = d;
        TRY(file_open(t->text[i], &fd, &t->text_bytes[i], err));
        file_close(fd);
    }
    return CADRE_OK;
}

/* Weights from [data]; without any every byte counts the same. */
static cadre_err make_domains(struct trainer *t, cadre_error *err)
{
    const cadre_train_options *o = t->opt;
    double sum = 0;
    for (int i = 0; i < t->n_domains; i++)
        t->domains[i].weight = t->cfg.n_domains ? -1 : 0;
    for (int i = 0; i < o->n_data && !t->cfg.n_domains; i++)
        t->domains[t->text_domain[i]].weight += (double)t->text_bytes[i];
    for (int i = 0; i < t->cfg.n_domains; i++) {
        int d = find_domain(t, t->cfg.domains[i].name);
        CHECK(err, d >= 0, CADRE_E_ARG, "%s: [data] %s: no text file of that domain was given", o->config,
              t->cfg.domains[i].name);
        t->domains[d].weight = t->cfg.domains[i].weight;
    }
    for (int i = 0; i < t->n_domains; i++) {
        CHECK(err, t->domains[i].weight >= 0, CADRE_E_ARG, "%s: [data] gives domain %s no weight", o->config,
              t->domains[i].name);
        sum += t->domains[i].weight;
    }
    CHECK(err, sum > 0, CADRE_E_ARG, "%s: [data]: all weights are 0", o->config);
    for (int i = 0; i < t->n_domains; i++)
        t->domains[i].weight /= sum;
    return CADRE_OK;
}

/* A text's share of the vocabulary's sample: its domain's weight by bytes. */
static double text_weight(const struct trainer *t, int i)
{
    double all = 0;
    for (int j = 0; j < t->opt->n_data; j++)
        if (t->text_domain[j] == t->text_domain[i])
            all += (double)t->text_bytes[j];
    return t->domains[t->text_domain[i]].weight * ((double)t->text_bytes[i] / fmax(1, all));
}

static cadre_err make_token_file(struct trainer *t, int d, const struct data_progress *tell, cadre_error *err)
{
    const char *texts[TRAIN_MAX_TEXTS];
    char *path;
    int n = 0;
    for (int i = 0; i < t->opt->n_data; i++)
        if (t->text_domain[i] == d)
            texts[n++] = t->text[i];
    CHECK(err, asprintf(&path, "%s/%s.tokens", t->tokens_dir, t->domains[d].name) >= 0, CADRE_E_MEMORY,
          "no memory for a file name");
    struct token_maker by = {t->vocab.tokenizer, t->chat, t->vocab.hash};
    cadre_err rc = token_file_make(path, texts, n, &by, t->pool, tell, err);
    if (rc == CADRE_OK)
        rc = token_file_open(&t->domains[d].file, path, t->cfg.vocab, err);
    free(path);
    return rc;
}

static cadre_err make_data(struct trainer *t, cadre_error *err)
{
    const cadre_train_options *o = t->opt;
    struct data_progress progress = {o->on_prepare, o->user}, *tell = o->on_prepare ? &progress : NULL;
    double weights[TRAIN_MAX_TEXTS];
    TRY(make_texts(t, err));
    TRY(make_domains(t, err));
    for (int i = 0; i < o->n_data; i++)
        weights[i] = text_weight(t, i);
    struct vocabulary_texts texts = {t->text, weights, o->n_data};
    TRY(vocabulary_open(&t->vocab, t->vocab_path, &t->cfg, &texts, t->init, o->resume, t->pool, tell, err));
    for (int i = 0; i < o->n_data && !t->chat; i++)
        if (conversations_is_file(t->text[i]))
            TRY(conversations_open(&t->chat, t->vocab.file, t->vocab.tokenizer, err));
    for (int i = 0; i < t->n_domains; i++)
        TRY(make_token_file(t, i, tell, err));
    return sampler_init(&t->sampler, t->domains, t->n_domains, t->cfg.sequence, t->cfg.heldout, (uint64_t)t->cfg.seed,
                        err);
}

static int n_states(const struct trainer *t, int64_t param)
{
    const struct optimizer_rule *rule = optimizer_rule_of(t->optimizer, &t->model->params[param]);
    return rule ? rule->n_states : 0;
}

static cadre_err make_state(struct trainer *t, cadre_error *err)
{
    size_t n = 0, n_params = (size_t)t->model->n_params;
    for (int64_t i = 0; i < t->model->n_params; i++)
        n += (size_t)tensor_count(&t->model->params[i].t) * (size_t)n_states(t, i);
    t->state_bytes = n * sizeof(real);
    t->state = calloc(n_params * OPTIMIZER_MAX_STATES, sizeof *t->state);
    CHECK(err, t->state, CADRE_E_MEMORY, "no memory for the optimizer");
    real *p = mmap(NULL, t->state_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(err, p != MAP_FAILED, CADRE_E_MEMORY, "no memory for %zu bytes of optimizer state", t->state_bytes);
    t->state_memory = p;
    for (int64_t i = 0; i < t->model->n_params; i++)
        for (int j = 0; j < n_states(t, i); j++) {
            t->state[i * OPTIMIZER_MAX_STATES + j] = p;
            p += tensor_count(&t->model->params[i].t);
        }
    return CADRE_OK;
}

static cadre_err make_batch(struct trainer *t, cadre_error *err)
{
    int64_t n = t->cfg.micro_tokens, seq = t->cfg.sequence, n_seq = n / seq;
    const struct spec *s = &t->cfg.spec;
    t->token = calloc((size_t)t->cfg.batch_tokens, sizeof *t->token);
    t->target = calloc((size_t)t->cfg.batch_tokens, sizeof *t->target);
    t->position = calloc((size_t)n, sizeof *t->position);
    t->row_start = calloc((size_t)n_seq + 1, sizeof *t->row_start);
    t->routing = calloc((size_t)s->n_layer, sizeof *t->routing);
    t->count = calloc((size_t)s->n_layer * (size_t)max_i64(s->router.n_expert, 1), sizeof *t->count);
    CHECK(err, t->token && t->target && t->position && t->row_start && t->routing && t->count, CADRE_E_MEMORY,
          "no memory for a batch of %lld tokens", (long long)t->cfg.batch_tokens);
    for (int64_t i = 0; i < n; i++)
        t->position[i] = (int32_t)(i % seq);
    for (int64_t i = 0; i <= n_seq; i++)
        t->row_start[i] = i * seq;
    return CADRE_OK;
}

/* ---- one micro-batch ----------------------------------------------------------------------------------- */

/* n_seq windows of the step, from token `at` on. */
static struct batch whole_sequences(struct trainer *t, int64_t at, int64_t n_seq)
{
    return (struct batch){.n_tok = n_seq * t->cfg.sequence,
                          .n_seq = n_seq,
                          .token = t->token + at,
                          .position = t->position,
                          .row_start = t->row_start,
                          .routing = t->routing,
                          .recompute = t->cfg.recompute};
}

static struct op_ctx context(struct trainer *t, struct arena *arena, struct tape *tape)
{
    return (struct op_ctx){.k = &t->kernels,
                           .pool = t->pool,
                           .arena = arena,
                           .tape = tape,
                           .precision = strcmp(t->cfg.precision, "bf16") == 0 ? GEMM_BF16 : GEMM_F32,
                           .dry = arena->measuring,
                           .plan = arena->measuring ? &t->arena : NULL};
}

/* The balance terms of one decision, weighted; count: of the whole step so far. */
static struct tensor *balance_terms(struct trainer *t, struct op_ctx *c, const struct router_config *router,
                                    const struct routing *r, const int64_t *count, struct tensor *loss)
{
    if (t->balance->loss && t->cfg.balance_weight > 0) {
        struct tensor *b = balance_switch(c, router, r, t->balance->whole_batch ? count : NULL);
        loss = op_add(c, loss, op_scale(c, b, (real)t->cfg.balance_weight));
    }
    if (t->cfg.z_weight > 0)
        loss = op_add(c, loss, op_scale(c, balance_z(c, r), (real)t->cfg.z_weight));
    if (router->kind->loss && t->cfg.router_loss_weight > 0)
        loss = op_add(c, loss, op_scale(c, router->kind->loss(c, router, r), (real)t->cfg.router_loss_weight));
    return loss;
}

/* Count the layer's decisions and add their balance terms to the loss. */
static struct tensor *add_balance(struct trainer *t, struct op_ctx *c, int64_t layer, struct tensor *loss)
{
    const struct router_config *router = &t->model->layers[layer].moe.router;
    int64_t *count = t->count + layer * t->cfg.spec.router.n_expert;
    if (!c->dry)
        balance_count(&t->routing[layer], router->n_expert, count);
    for (const struct routing *r = &t->routing[layer]; r; r = r->next)
        loss = balance_terms(t, c, router, r, count, loss);
    return loss;
}

/* Entropy in nats of single tokens' routing distributions, mean over tokens and MoE layers. */
static double routing_entropy(const struct trainer *t, int64_t n_tok)
{
    double sum = 0;
    int64_t n = 0;
    for (int64_t l = 0; l < t->cfg.spec.n_layer; l++) {
        if (!spec_layer_is_moe(&t->cfg.spec, l))
            continue;
        const struct tensor *score = t->routing[l].score;
        int64_t n_expert = tensor_cols(score);
        for (int64_t i = 0; i < n_tok; i += 8, n++) { /* every eighth token is enough for a progress line */
            const real *s = score->x + i * n_expert;
            double total = 0;
            for (int64_t e = 0; e < n_expert; e++)
                total += s[e];
            for (int64_t e = 0; e < n_expert; e++)
                if (s[e] > 0)
                    sum -= s[e] / total * log(s[e] / total);
        }
    }
    return n ? sum / (double)n : 0;
}

static int64_t count_learnt(const int32_t *target, int64_t n)
{
    int64_t learnt = 0;
    for (int64_t i = 0; i < n; i++)
        learnt += target[i] >= 0;
    return learnt;
}

/* Forward and backward of micro-batch i of the step; gradients are added up. A step's loss is the mean over all of its
 * targets, however they are spread: with n_i of N targets in micro-batch i of M its own mean L_i enters as
 *
 *     L = Σ_i n_i / N L_i = Σ_i 1/M (M n_i / N) L_i
 *
 * while balance terms, which concern every token, enter with 1/M. *loss_out: (M n_i / N) L_i. */
static cadre_err micro_step(struct trainer *t, struct arena *arena, int64_t i, double *loss_out, cadre_error *err)
{
    int64_t n = t->cfg.micro_tokens, n_micro = t->cfg.batch_tokens / n;
    const int32_t *target = t->target + i * n;
    double share = t->n_learnt ? (double)(count_learnt(target, n) * n_micro) / (double)t->n_learnt : 0;
    struct tape tape = {0};
    struct op_ctx c = context(t, arena, &tape);
    struct batch b = whole_sequences(t, i * n, n / t->cfg.sequence);
    b.training = &t->training;
    size_t mark = arena_mark(arena);
    struct tensor *x = model_hidden(&c, t->model, &b, err);
    if (!x)
        return err ? err->code : CADRE_E_ARG;
    struct tensor *loss = op_scale(&c, model_loss(&c, t->model, x, target), (real)share), *total = loss;
    for (int64_t l = 0; l < t->cfg.spec.n_layer; l++)
        if (spec_layer_is_moe(&t->cfg.spec, l) && !t->training.one_expert)
            total = add_balance(t, &c, l, total);
    if (!c.dry) {
        *loss_out = (double)loss->x[0];
        t->router_entropy = routing_entropy(t, b.n_tok);
    }
    tape_backward(&c, total, (real)(1.0 / (double)n_micro));
    arena_reset(arena, mark);
    return CADRE_OK;
}

/* What evaluation adds up. */
struct tally {
    double nats; /* -log p of the targets */
    int64_t targets, tokens;
    int64_t experts, slices; /* chosen, in all MoE layers */
};

/* Experts that compute after all cutting and dropping: those that the layer dispatches to. */
static void tally_decisions(const struct trainer *t, struct tally *sum)
{
    const struct spec *s = &t->cfg.spec;
    for (int64_t l = 0; l < s->n_layer; l++)
        for (const struct routing *r = spec_layer_is_moe(s, l) ? &t->routing[l] : NULL; r; r = r->next)
            for (int64_t i = 0, n = tensor_rows(r->score) * r->k; i < n; i++) {
                int slices = r->id[i] < 0 ? 0 : spec_slices_of(s, r->id[i]);
                sum->experts += slices > 0;
                sum->slices += slices;
            }
}

/* n_seq sequences are in token/target. */
static cadre_err micro_eval(struct trainer *t, struct arena *arena, int64_t n_seq, struct tally *sum, cadre_error *err)
{
    struct op_ctx c = context(t, arena, NULL);
    struct batch b = whole_sequences(t, 0, n_seq);
    size_t mark = arena_mark(arena);
    struct tensor *x = model_hidden(&c, t->model, &b, err);
    if (!x)
        return err ? err->code : CADRE_E_ARG;
    struct tensor *loss = model_loss(&c, t->model, x, t->target);
    if (!c.dry) {
        int64_t targets = count_learnt(t->target, b.n_tok);
        sum->nats += (double)loss->x[0] * (double)targets;
        sum->targets += targets;
        sum->tokens += b.n_tok;
        tally_decisions(t, sum);
    }
    arena_reset(arena, mark);
    return CADRE_OK;
}

/* The same builders over a measuring arena give the working memory to the byte. While planning, t->arena holds the
 * builders' structs. */
static cadre_err plan_memory(struct trainer *t, cadre_error *err)
{
    struct arena measure;
    double unused = 0;
    arena_init_measuring(&measure);
    TRY(arena_init(&t->arena, OP_PLAN_BYTES, err));
    TRY(micro_step(t, &measure, 0, &unused, err));
    TRY(micro_eval(t, &measure, t->cfg.micro_tokens / t->cfg.sequence, &(struct tally){0}, err));
    struct op_ctx c = context(t, &measure, NULL);
    struct optimizer_step s = {.cfg = &t->cfg};
    optimizer_run(t->optimizer, &c, &s, t->model, t->state);
    arena_destroy(&t->arena);
    t->memory = t->model->bytes + t->state_bytes + measure.peak;
    return arena_init(&t->arena, measure.peak, err);
}

/* ---- steps --------------------------------------------------------------------------------------------- */

static void zero_gradients(struct trainer *t)
{
    for (int64_t i = 0; i < t->model->n_params; i++)
        if (t->model->params[i].t.g)
            memset(t->model->params[i].t.g, 0, (size_t)tensor_count(&t->model->params[i].t) * sizeof(real));
}

static void update_biases(struct trainer *t)
{
    for (int64_t l = 0; l < t->cfg.spec.n_layer; l++) {
        struct moe_layer *moe = &t->model->layers[l].moe;
        if (spec_layer_is_moe(&t->cfg.spec, l) && moe->bias)
            balance_update_bias(moe->bias->x, t->count + l * moe->router.n_expert, moe->router.n_expert,
                                (real)t->cfg.bias_rate);
    }
}

static const char *what_is_kept(const struct trainer *t)
{
    return t->ckpt_path && access(t->ckpt_path, F_OK) == 0 ? "the last good checkpoint is kept"
                                                           : "no checkpoint had been written yet";
}

static cadre_err check_progress(struct trainer *t, double loss, double norm, cadre_error *err)
{
    struct run_state *r = &t->run;
    CHECK(err, isfinite(loss) && isfinite(norm), CADRE_E_DIVERGED,
          "step %lld: loss %g, gradient norm %g: training diverged; %s (%s). Lower [train] lr or set clip",
          (long long)r->step + 1, loss, norm, what_is_kept(t), t->ckpt_path);
    r->loss_mean = r->step == 0 ? loss : 0.98 * r->loss_mean + 0.02 * loss;
    r->loss_best = r->step == 0 || r->loss_mean < r->loss_best ? r->loss_mean : r->loss_best;
    CHECK(err, r->loss_mean < r->loss_best + 1.5, CADRE_E_DIVERGED,
          "step %lld: the running loss rose from %g to %g: training diverged; %s (%s). Lower [train] lr or "
          "lengthen warmup_tokens",
          (long long)r->step + 1, r->loss_best, r->loss_mean, what_is_kept(t), t->ckpt_path);
    return CADRE_OK;
}

/* Among the steps that are logged, the first after each hundredth of the run. */
static bool load_due(const struct trainer *t)
{
    const struct train_config *c = &t->cfg;
    int64_t before = max_i64(0, t->run.step - c->log_steps) * c->batch_tokens;
    return t->run.step % c->log_steps == 0 && (int64_t)(100 * ((double)t->run.tokens / (double)c->tokens)) !=
                                                  (int64_t)(100 * ((double)before / (double)c->tokens));
}

/* The windows of a step. */
static void next_batch(struct trainer *t)
{
    const struct train_config *c = &t->cfg;
    if (!t->random)
        sampler_next(&t->sampler, c->batch_tokens / c->sequence, t->token, t->target);
    for (int64_t i = 0; t->random && i < c->batch_tokens; i++) {
        t->token[i] = (int32_t)rng_below(t->random, (uint64_t)c->vocab);
        t->target[i] = (int32_t)rng_below(t->random, (uint64_t)c->vocab);
    }
    t->n_learnt = count_learnt(t->target, c->batch_tokens);
}

/* Where the run is, for the routers of micro-batch i of the next step. */
static struct route_training training_at(const struct trainer *t, int64_t i)
{
    const struct train_config *c = &t->cfg;
    double progress = (double)t->run.tokens / (double)c->tokens;
    return (struct route_training){
        .progress = progress < 1 ? progress : 1,
        /* Below 2^10 lies the layer, which routers add. */
        .seed = (uint64_t)c->seed * 0x9e3779b97f4a7c15u ^ ((uint64_t)(t->run.step << 12 | i) << 10),
        .one_expert = progress < c->diversify_share,
    };
}

/* The step that is the first without it makes many experts of the one. */
static void end_single_expert(struct trainer *t)
{
    const struct train_config *c = &t->cfg;
    double share = c->diversify_share * (double)c->tokens;
    if (share > 0 && (double)t->run.tokens >= share && (double)(t->run.tokens - c->batch_tokens) < share)
        diversify_experts(t->model, c->diversify_mask, (uint64_t)c->seed + 1);
}

static cadre_err train_step(struct trainer *t, cadre_train_progress *p, cadre_error *err)
{
    const struct train_config *c = &t->cfg;
    int64_t n_micro = c->batch_tokens / c->micro_tokens;
    double loss = 0, start = clock_now();
    end_single_expert(t);
    zero_gradients(t);
    memset(t->count, 0, (size_t)c->spec.n_layer * (size_t)max_i64(c->spec.router.n_expert, 1) * sizeof *t->count);
    next_batch(t);
    for (int64_t i = 0; i < n_micro; i++) {
        double micro_loss = 0;
        t->training = training_at(t, i);
        TRY(micro_step(t, &t->arena, i, &micro_loss, err));
        loss += micro_loss / (double)n_micro;
    }
    double norm = gradient_norm(&t->kernels, t->pool, t->model);
    TRY(check_progress(t, loss, norm, err));
    double lr = learning_rate(c, t->run.tokens);
    struct optimizer_step s = {.cfg = c,
                               .step = t->run.step + 1,
                               .lr = (real)lr,
                               .grad_scale = (real)(c->clip > 0 && norm > c->clip ? c->clip / norm : 1)};
    struct op_ctx ctx = context(t, &t->arena, NULL);
    optimizer_run(t->optimizer, &ctx, &s, t->model, t->state);
    if (t->balance->bias)
        update_biases(t);
    t->run.step++;
    t->run.tokens += c->batch_tokens;
    *p = (cadre_train_progress){.event = "step",
                                .step = t->run.step,
                                .tokens = t->run.tokens,
                                .tokens_total = c->tokens,
                                .loss = loss,
                                .lr = lr,
                                .grad_norm = norm,
                                .tokens_per_s = (double)c->batch_tokens / (clock_now() - start),
                                .router_entropy = t->router_entropy,
                                .memory = t->memory};
    if (c->spec.router.n_expert && load_due(t)) {
        p->load = t->count;
        p->n_layers = c->spec.n_layer;
        p->n_experts = c->spec.router.n_expert;
    }
    int64_t n_moe = 0;
    for (int64_t l = 0; l < c->spec.n_layer; l++) {
        if (!spec_layer_is_moe(&c->spec, l))
            continue;
        const int64_t *count = t->count + l * c->spec.router.n_expert;
        /* of those that compute: which of equal light experts is taken makes no difference */
        int ffn = c->spec.router.n_expert - c->spec.router.n_light;
        p->load_max_mean = fmax(p->load_max_mean, balance_max_over_mean(count, ffn));
        p->load_entropy += balance_entropy(count, ffn);
        n_moe++;
    }
    if (n_moe)
        p->load_entropy /= (double)n_moe;
    return CADRE_OK;
}

static int64_t moe_layers(const struct spec *s)
{
    int64_t n = 0;
    for (int64_t l = 0; l < s->n_layer; l++)
        n += spec_layer_is_moe(s, l);
    return n;
}

/* Bytes of text of the targets; control tokens have none. */
static int64_t target_bytes(const struct trainer *t, int64_t n)
{
    int64_t bytes = 0;
    const char *piece;
    for (int64_t i = 0; i < n; i++)
        bytes += (int64_t)tokenizer_piece(t->vocab.tokenizer, t->target[i], false, &piece); /* -1: 0 */
    return bytes;
}

/* Bits per byte on the held-out end of each domain; NaN for a domain whose held-out part is shorter than a sequence.
 * bits: [n_domains] */
static cadre_err evaluate(struct trainer *t, double *bits, cadre_train_progress *p, cadre_error *err)
{
    struct tally sum = {0};
    int64_t all_bytes = 0;
    int64_t seq = t->cfg.sequence, most = t->cfg.micro_tokens / seq;
    for (int d = 0; d < t->n_domains; d++) {
        int64_t bytes = 0, done = 0, n_windows = t->domains[d].n_heldout;
        double before = sum.nats;
        for (int64_t at = 0, n; at < n_windows && done < t->cfg.eval_tokens; at += n, done += n * seq) {
            n = min_i64(most, n_windows - at);
            for (int64_t i = 0; i < n; i++)
                sampler_heldout(&t->sampler, d, at + i, t->token + i * seq, t->target + i * seq);
            bytes += target_bytes(t, n * seq);
            TRY(micro_eval(t, &t->arena, n, &sum, err));
        }
        bits[d] = bytes ? (sum.nats - before) / M_LN2 / (double)bytes : NAN;
        all_bytes += bytes;
    }
    struct variant_cost cost = variant_cost(&t->cfg);
    double tokens = sum.tokens ? (double)sum.tokens : NAN;
    p->bits_per_byte = all_bytes ? sum.nats / M_LN2 / (double)all_bytes : NAN;
    p->loss = sum.targets ? sum.nats / (double)sum.targets : NAN;
    p->active_experts = (double)sum.experts / tokens / (double)moe_layers(&t->cfg.spec);
    p->active_flops = cost.fixed_flops + cost.slice_flops * (double)sum.slices / tokens;
    return CADRE_OK;
}

static cadre_err save_checkpoint(struct trainer *t, cadre_error *err)
{
    TRY(checkpoint_write(t->ckpt_path, &t->cfg, t->model, t->optimizer, t->state, &t->sampler, &t->run, err));
    t->saved_step = t->run.step;
    return CADRE_OK;
}

static cadre_err tell(struct trainer *t, const cadre_train_progress *p, cadre_error *err)
{
    TRY(train_log_add(&t->log, p, err));
    if (t->opt->on_progress && !t->opt->on_progress(t->opt->user, p)) {
        TRY(save_checkpoint(t, err));
        return error_set(err, CADRE_E_CANCELLED, "stopped after step %lld; go on with --resume",
                         (long long)t->run.step);
    }
    return CADRE_OK;
}

static cadre_err tell_evaluation(struct trainer *t, cadre_error *err)
{
    double bits[TRAIN_MAX_DOMAINS];
    const char *names[TRAIN_MAX_DOMAINS];
    for (int i = 0; i < t->n_domains; i++)
        names[i] = t->domains[i].name;
    cadre_train_progress p = {.event = "eval",
                              .step = t->run.step,
                              .tokens = t->run.tokens,
                              .tokens_total = t->cfg.tokens,
                              .memory = t->memory,
                              .n_domains = t->n_domains,
                              .domain_names = names,
                              .domain_bits = bits};
    TRY(evaluate(t, bits, &p, err));
    return tell(t, &p, err);
}

static bool evaluation_due(const struct trainer *t)
{
    const struct train_config *c = &t->cfg;
    bool last = t->run.tokens >= c->tokens;
    return t->run.step > t->log.last_eval && (last || (c->eval_steps && t->run.step % c->eval_steps == 0));
}

static cadre_err train_loop(struct trainer *t, cadre_error *err)
{
    const struct train_config *c = &t->cfg;
    double saved = clock_now();
    for (;;) {
        if (evaluation_due(t)) /* also one that the run was stopped before */
            TRY(tell_evaluation(t, err));
        bool last = t->run.tokens >= c->tokens;
        if (t->run.step > t->saved_step && (last || clock_now() - saved >= 60 * c->checkpoint_minutes)) {
            TRY(save_checkpoint(t, err));
            saved = clock_now();
        }
        if (last)
            return CADRE_OK;
        cadre_train_progress p;
        TRY(train_step(t, &p, err));
        if (t->run.tokens >= c->tokens || t->run.step % c->log_steps == 0)
            TRY(tell(t, &p, err));
    }
}

/* ---- the finished model -------------------------------------------------------------------------------- */

static bool not_tokenizer(const char *key)
{
    return strncmp(key, "tokenizer.", 10) != 0;
}

static cadre_err write_model(struct trainer *t, cadre_error *err)
{
    struct gguf_writer *w;
    TRY(gguf_writer_open(&w, t->opt->out, err));
    cadre_err rc = CADRE_OK;
    TRY_OUT(spec_to_gguf(w, &t->cfg.spec, err));
    TRY_OUT(gguf_put_string(w, "general.name", t->cfg.name, strlen(t->cfg.name), err));
    TRY_OUT(gguf_put_u64(w, "training.tokens", (uint64_t)t->run.tokens, err));
    TRY_OUT(gguf_put_all(w, t->vocab.file, not_tokenizer, err));
    TRY_OUT(model_write(w, t->model, dtype_by_name(t->cfg.file_type), err));
    return gguf_writer_commit(w, err);
out:
    gguf_writer_abort(w);
    return rc;
}

/* What the description asks for, as far as it can be told without texts. */
static cadre_err open_description(struct trainer *t, cadre_error *err)
{
    const cadre_train_options *o = t->opt;
    TRY(train_config_read(&t->cfg, o->config, err));
    if (o->tokens > 0)
        t->cfg.tokens = o->tokens;
    for (size_t i = 0; i < sizeof balance_rules / sizeof *balance_rules; i++)
        if (strcmp(balance_rules[i].name, t->cfg.balance) == 0)
            t->balance = &balance_rules[i];
    CHECK(err, t->balance, CADRE_E_ARG, "%s: [train] balance: expected none, switch, global or bias, found '%s'",
          o->config, t->cfg.balance);
    t->optimizer = optimizer_find(t->cfg.optimizer);
    cadre_err rc = spec_can_write(&t->cfg.spec, err); /* better now than after the training */
    if (rc)
        return error_wrap(err, rc, "%s: [model]", o->config);
    return CADRE_OK;
}

static cadre_err open_machine(struct trainer *t, cadre_error *err)
{
    struct cpu cpu;
    cpu_detect(&cpu);
    kernels_init(&t->kernels, &cpu, t->isa);
    return pool_new(&t->pool, t->n_threads, err);
}

static cadre_err open_model(struct trainer *t, cadre_error *err)
{
    TRY(model_new(&t->model, &t->cfg.spec, (uint64_t)t->cfg.seed, (real)t->cfg.init_std, true, err));
    TRY(make_state(t, err));
    TRY(make_batch(t, err));
    return plan_memory(t, err);
}

static cadre_err open_trainer(struct trainer *t, cadre_error *err)
{
    TRY(open_description(t, err));
    if (t->opt->init) {
        CHECK(err, !t->opt->resume, CADRE_E_ARG,
              "%s: a resumed run has its weights in the checkpoint; leave --init out, or --resume", t->opt->init);
        TRY(gguf_open(&t->init, t->opt->init, err));
    }
    TRY(make_paths(t, err));
    TRY(open_machine(t, err));
    TRY(make_data(t, err));
    TRY(open_model(t, err));
    if (t->init)
        TRY(start_from(t->model, t->init, t->opt->init, err));
    start_tokens(t->model, t->vocab.fresh, t->vocab.n_fresh);
    if (t->opt->resume)
        TRY(checkpoint_read(t->ckpt_path, &t->cfg, t->model, t->optimizer, t->state, &t->sampler, &t->run, err));
    t->saved_step = t->run.step;
    return train_log_open(&t->log, t->log_path, t->run.step, err);
}

static void close_trainer(struct trainer *t)
{
    train_log_close(&t->log);
    arena_destroy(&t->arena);
    free(t->token);
    free(t->target);
    free(t->position);
    free(t->row_start);
    free(t->routing);
    free(t->count);
    if (t->state_memory)
        munmap(t->state_memory, t->state_bytes);
    free(t->state);
    model_free(t->model);
    sampler_close(&t->sampler);
    for (int i = 0; i < t->n_domains; i++)
        token_file_close(&t->domains[i].file);
    conversations_close(t->chat);
    vocabulary_close(&t->vocab);
    gguf_close(t->init);
    pool_free(t->pool);
    free(t->ckpt_path);
    free(t->vocab_path);
    free(t->tokens_dir);
    free(t->log_path);
}

cadre_err train_run(const cadre_train_options *o, int n_threads, enum isa isa, cadre_error *err)
{
    cadre_error own = {0}; /* a failing forward reports through it even when the caller wants no text */
    err = err ? err : &own;
    struct trainer *t = calloc(1, sizeof *t);
    CHECK(err, t, CADRE_E_MEMORY, "no memory for the trainer");
    t->opt = o;
    t->n_threads = n_threads;
    t->isa = isa;
    cadre_err rc = open_trainer(t, err);
    if (rc == CADRE_OK)
        rc = train_loop(t, err);
    if (rc == CADRE_OK)
        rc = write_model(t, err);
    close_trainer(t);
    free(t);
    return rc;
}

cadre_train_options cadre_train_options_default(void)
{
    return (cadre_train_options){0};
}

cadre_err cadre_train(const cadre_train_options *o, cadre_error *err)
{
    struct cpu cpu;
    enum isa isa;
    CHECK(err, o && o->config && o->out, CADRE_E_ARG,
          "training needs a description (config) and a model to make (out)");
    cpu_detect(&cpu);
    TRY(isa_choose(o->isa, &cpu, &isa, err));
    return train_run(o, o->threads > 0 ? o->threads : cpu.cores, isa, err);
}

/* ---- measurement --------------------------------------------------------------------------------------- */

enum { MAX_REPEATS = 100 };

cadre_train_bench_options cadre_train_bench_options_default(void)
{
    return (cadre_train_bench_options){.repeats = 5};
}

static uint64_t resident_bytes(void)
{
    unsigned long long pages = 0;
    FILE *f = fopen("/proc/self/statm", "re");
    if (f && fscanf(f, "%*u %llu", &pages) != 1)
        pages = 0;
    if (f)
        fclose(f);
    return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

static cadre_err bench_steps(struct trainer *t, const cadre_train_bench_options *o, cadre_train_bench_result *out,
                             cadre_error *err)
{
    double speed[MAX_REPEATS];
    struct rng rng;
    rng_seed(&rng, (uint64_t)t->cfg.seed);
    t->random = &rng;
    TRY(roof_products(&t->kernels, t->pool, GEMM_F32, &out->roof_f32, err));
    TRY(roof_products(&t->kernels, t->pool, GEMM_BF16, &out->roof_bf16, err));
    for (int i = -1; i < o->repeats; i++) {
        cadre_train_progress p;
        CHECK(err, !o->cancel || !o->cancel(o->user), CADRE_E_CANCELLED, "stopped by the caller before the last step");
        TRY(train_step(t, &p, err));
        if (i >= 0)
            speed[i] = p.tokens_per_s;
    }
    out->tokens_per_s = spread_of(speed, o->repeats);
    out->flops_per_token = variant_cost(&t->cfg).flops;
    out->bf16 = context(t, &t->arena, NULL).precision == GEMM_BF16;
    out->bf16_native = t->kernels.bf16_native;
    out->utilisation = out->tokens_per_s.median * out->flops_per_token / (out->bf16 ? out->roof_bf16 : out->roof_f32);
    out->kernels = isa_name(t->kernels.isa);
    out->memory_planned = t->memory;
    out->memory_resident = resident_bytes();
    return CADRE_OK;
}

cadre_err cadre_train_bench(const cadre_train_bench_options *o, cadre_train_bench_result *out, cadre_error *err)
{
    cadre_error own = {0};
    struct cpu cpu;
    err = err ? err : &own;
    CHECK(err, o && o->config && out, CADRE_E_ARG, "measuring training needs a description (config) and out");
    CHECK(err, o->repeats >= 1 && o->repeats <= MAX_REPEATS, CADRE_E_ARG, "repeats: expected 1 to %d steps, found %d",
          MAX_REPEATS, o->repeats);
    cadre_train_options train = {.config = o->config};
    struct trainer *t = calloc(1, sizeof *t);
    CHECK(err, t, CADRE_E_MEMORY, "no memory for the trainer");
    *out = (cadre_train_bench_result){0};
    cpu_detect(&cpu);
    t->opt = &train;
    t->n_threads = o->threads > 0 ? o->threads : cpu.cores;
    cadre_err rc = isa_choose(o->isa, &cpu, &t->isa, err);
    if (rc == CADRE_OK)
        rc = open_description(t, err);
    if (rc == CADRE_OK)
        rc = open_machine(t, err);
    if (rc == CADRE_OK)
        rc = open_model(t, err);
    if (rc == CADRE_OK)
        rc = bench_steps(t, o, out, err);
    close_trainer(t);
    free(t);
    return rc;
}
