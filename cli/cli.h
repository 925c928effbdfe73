/* What every verb shares: options in a table (which also prints --help), errors, JSON, progress, Ctrl-C. Verbs use the
 * public header only. */
#ifndef CADRE_CLI_CLI_H
#define CADRE_CLI_CLI_H

#include <cadre.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

enum { EXIT_DONE = 0, EXIT_FAILED = 1, EXIT_USAGE = 2 };

enum option_kind {
    OPTION_FLAG,  /* bool */
    OPTION_TEXT,  /* const char * */
    OPTION_WORD,  /* const char *: one of the words that `arg` lists, "f32|f16" */
    OPTION_TEXTS, /* struct texts: one or more values, up to the next option */
    OPTION_INT,   /* int64_t */
    OPTION_REAL,  /* double */
    OPTION_SIZE,  /* uint64_t, with K M G */
};

struct texts {
    const char **at;
    int n;
};

struct option_row {
    const char *name; /* "--prompt" */
    char letter;      /* 'p' or 0 */
    enum option_kind kind;
    void *value;
    const char *arg; /* what stands in --help for the value */
    const char *help;
    double min, max; /* numbers; both 0: any */
};

/* Which of the common options a verb has: those that can act on it. */
enum {
    HAS_MACHINE = 1 /* --threads, --isa */,
    HAS_MEMORY = 2 /* --mem, --mla */,
    HAS_JSON = 4,
    HAS_TALK = 8 /* --verbose, --quiet */
};

struct verb {
    const char *name, *usage, *summary;
    unsigned has; /* HAS_… */
    int (*run)(const struct verb *v, int argc, char **argv);
};

/* Values of the common options. */
struct common {
    int64_t threads;
    const char *isa, *mla;
    uint64_t memory;
    bool json, verbose, quiet;
};

const struct verb *cli_verb_at(int i); /* NULL past the end */

/* Parse the words after the verb. Words that belong to no option go to `model` (at most one; NULL: none allowed).
 * Returns -1 to go on, or an exit status: after --help, or after a message about wrong usage. */
int cli_parse(const struct verb *v, const struct option_row *rows, int n_rows, struct common *common,
              const char **model, int argc, char **argv);

/* One clear message on standard error; returns EXIT_FAILED. what: the file or question it is about, or NULL. */
int cli_fail(const cadre_error *err);
int cli_fail_at(const char *what, const cadre_error *err);
/* Whether all of standard output was written: EXIT_FAILED after a message if not (after none, if its reader left). */
int cli_end_output(int status);
int cli_usage(const struct verb *v, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* The model that ships with cadre, found from where the program lies; NULL if it is not there. */
const char *cli_default_model(void);
/* path, or the default model; NULL after a message. */
const char *cli_model_path(const char *path);
/* cli_parse for a verb that makes another file of a model: *out, which a row fills, is needed, and *model is a path. */
int cli_parse_rewrite(const struct verb *v, const struct option_row *rows, int n_rows, struct common *common,
                      const char **model, const char *const *out, int argc, char **argv);
/* Opens MODEL or the default one. Returns 0, or the exit status after a message. */
int cli_open_model(cadre_model **out, const char *path, const struct common *common, bool tokenizer_only);

/* --draft and what goes with it. */
struct draft_words {
    const char *draft; /* none, ngram or a model; NULL: not given */
    int64_t max, min;  /* 0: not given */
};
#define DRAFT_ROWS(words)                                                                                              \
    {"--draft", 0, OPTION_TEXT, &(words).draft, "none|ngram|MODEL", "draft tokens and check several at once (none)",   \
     0,         0},                                                                                                    \
        {"--draft-max", 0, OPTION_INT, &(words).max, "N", "the longest draft (8)", 1, 32},                             \
    {                                                                                                                  \
        "--draft-min", 0, OPTION_INT, &(words).min, "N", "at least so many, whatever they cost (0)", 1, 32             \
    }
/* -1 to go on, or an exit status after a message. */
int cli_check_draft(const struct verb *v, const struct draft_words *d);
/* Into o; o->draft_model is the caller's to close. Returns 0, or the exit status after a message. */
int cli_open_draft(cadre_generate_options *o, const struct draft_words *d, const struct common *common);
/* NULL where nothing was drafted. */
json_t *cli_json_draft(const cadre_draft_stats *d);
void cli_print_draft(const cadre_draft_stats *d); /* a line on standard error, or nothing */

/* "1,2,3" → ids; -1 to go on, or an exit status after a message that names the option. */
int cli_ids(const struct verb *v, const char *option, const char *text, int32_t **ids, size_t *n);
/* A whole file, or standard input for "-"; 0-terminated; NULL after a message. Free it. */
char *cli_read_text(const char *path, size_t *n);

/* Text that may hold bytes that are not UTF-8, as a JSON string (those bytes become U+FFFD). */
json_t *cli_json_text(const char *p, size_t n);
json_t *cli_json_ids(const int32_t *ids, size_t n);
/* Finite numbers, else null. */
json_t *cli_json_number(double x);
int cli_print_json(json_t *j); /* one line on standard output; takes j; EXIT_DONE or EXIT_FAILED */

/* "1.5 GiB", "33.2 M" in one of a few static buffers. */
const char *cli_bytes(double n);
const char *cli_count(double n);

/* Put `text` in place of the terminal line that the cursor is on, cut to the terminal's width. */
void cli_rewrite_line(FILE *f, const char *text);
/* A progress line on standard error, only when that is a terminal and not quiet. done == total ends it. */
void cli_progress(bool quiet, const char *what, double done, double total);

/* Ctrl-C sets a flag that long work asks for; a second one ends the program at once. */
void cli_catch_interrupt(void);
bool cli_interrupted(void *unused);

uint64_t cli_peak_rss(void);

extern const struct verb verb_run, verb_chat, verb_train, verb_compare, verb_eval, verb_inspect, verb_tokenize,
    verb_bench, verb_quantize, verb_convert, verb_pack, verb_doctor;

#endif
