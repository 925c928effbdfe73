#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cli.h"
#include "plots.h"

struct view {
    bool json, quiet, terminal;
    double loss; /* running mean, for the eye */
    time_t last; /* when a step was printed */
};

static bool show_prepare(void *user, const char *what, int64_t done, int64_t total)
{
    struct view *v = user;
    cli_progress(v->quiet, what, (double)done, (double)total);
    return !cli_interrupted(NULL);
}

static void print_json(const cadre_train_progress *p)
{
    char *text = cadre_train_progress_json(p);
    if (text)
        puts(text);
    fflush(stdout);
    cadre_free(text);
}

static void print_eval(const cadre_train_progress *p)
{
    printf("held-out bits per byte after %s tokens:", cli_count((double)p->tokens));
    for (int i = 0; i < p->n_domains; i++)
        if (isfinite(p->domain_bits[i]))
            printf(" %s %.3f", p->domain_names[i], p->domain_bits[i]);
    printf("\n");
}

/* A line that rewrites itself on a terminal; elsewhere a line every ten seconds. */
static void print_step(struct view *v, const cadre_train_progress *p)
{
    double left = (double)(p->tokens_total - p->tokens) / p->tokens_per_s;
    time_t now = time(NULL);
    if (!v->terminal && now < v->last + 10 && p->tokens < p->tokens_total)
        return;
    v->last = now;
    char line[256];
    snprintf(line, sizeof line,
             "step %lld  %s of %s tokens  loss %.4f  %s tokens/s  %d:%02d left  load %.2f  entropy %.2f  lr %.2e",
             (long long)p->step, cli_count((double)p->tokens), cli_count((double)p->tokens_total), v->loss,
             cli_count(p->tokens_per_s), (int)(left / 3600), (int)(left / 60) % 60, p->load_max_mean, p->router_entropy,
             p->lr);
    if (v->terminal)
        cli_rewrite_line(stdout, line);
    else
        puts(line);
    fflush(stdout);
}

static bool show_progress(void *user, const cadre_train_progress *p)
{
    struct view *v = user;
    if (!p->n_domains)
        v->loss = v->loss > 0 ? 0.9 * v->loss + 0.1 * p->loss : p->loss;
    if (v->json) {
        print_json(p);
    } else if (!v->quiet) {
        if (p->n_domains) {
            printf("%s", v->terminal ? "\n" : "");
            print_eval(p);
        } else {
            print_step(v, p);
        }
    }
    return !cli_interrupted(NULL);
}

static int plot(const char *folder, const char *out)
{
    char log[4096];
    const char *slash = strrchr(out, '/');
    snprintf(log, sizeof log, "%s.log.jsonl", out);
    return plot_run(folder, log, slash ? slash + 1 : out);
}

static int run(const struct verb *v, int argc, char **argv)
{
    cadre_train_options o = cadre_train_options_default();
    struct common c = {0};
    struct texts data = {0};
    const char *plots = NULL;
    const struct option_row rows[] = {
        {"--config", 0, OPTION_TEXT, &o.config, "FILE", "description of model, data and schedule", 0, 0},
        {"--data", 0, OPTION_TEXTS, &data, "FILE…", "text or conversations (.jsonl): FILE or DOMAIN=FILE", 0, 0},
        {"--init", 0, OPTION_TEXT, &o.init, "MODEL", "start from its vocabulary and weights (GGUF)", 0, 0},
        {"--out", 'o', OPTION_TEXT, &o.out, "MODEL", "the model to make; checkpoint, log beside it", 0, 0},
        {"--resume", 0, OPTION_FLAG, &o.resume, NULL, "go on from the checkpoint", 0, 0},
        {"--plots", 0, OPTION_TEXT, &plots, "FOLDER", "at the end: loss, held-out text, expert load as SVG", 0, 0},
        {"--tokens", 0, OPTION_INT, &o.tokens, "N", "tokens to train on in all (as described)", 1, 1e15},
    };
    int status = cli_parse(v, rows, sizeof rows / sizeof *rows, &c, NULL, argc, argv);
    if (status >= 0)
        return status;
    if (!o.config || !data.n || !o.out)
        return cli_usage(v, "--config, --data and --out are needed");
    cadre_error err = {0};
    struct view view = {.json = c.json, .quiet = c.quiet, .terminal = isatty(STDOUT_FILENO)};
    if (c.verbose)
        fprintf(stderr, "training %s as %s describes, from %d files\n", o.out, o.config, data.n);
    o.data = data.at;
    o.n_data = data.n;
    o.threads = (int)c.threads;
    o.isa = c.isa;
    o.on_progress = show_progress;
    o.on_prepare = show_prepare;
    o.user = &view;
    if (cadre_train(&o, &err))
        return cli_fail(&err);
    return plots ? plot(plots, o.out) : EXIT_DONE;
}

const struct verb verb_train = {"train", "--config FILE --data FILE… --out MODEL [--resume] [options]",
                                "train a model from text", HAS_MACHINE | HAS_JSON | HAS_TALK, run};
