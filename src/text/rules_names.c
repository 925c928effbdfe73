#include "text/rules_names.h"

#include <stdio.h>
#include <string.h>

#include "text/regex_chars.h"

static const struct text_span mark = {"\xe2\x96\x81", 3}, blank = {" ", 1};

static void add_normal(struct named_rules *r, struct normal_step step)
{
    r->normal[r->rules.n_normalize++] = step;
}

static void add_split(struct named_rules *r, const char *expression, enum split_how how)
{
    r->split[r->rules.n_split++] =
        (struct split_step){.pattern = {expression, strlen(expression)}, .regex = true, .own = true, .how = how};
}

static void write_blanks_as_marks(struct named_rules *r)
{
    add_normal(r, (struct normal_step){.kind = NORMAL_REPLACE, .pattern = blank, .content = mark});
    r->rules.decode.blank = mark;
    r->rules.decode.byte_tokens = true;
}

static cadre_err gpt2(struct named_rules *r, const struct tokenizer_tables *t, cadre_error *err)
{
    const struct pre_row *row;
    TRY(pre_row_get(&row, t->pre, err));
    r->rules.n_split = pre_row_steps(row, r->split);
    r->rules.ignore_merges = row->flags & PRE_IGNORE_MERGES;
    if (row->flags & PRE_CHARS) {
        r->rules.model = MODEL_BPE_CHARS;
        r->rules.byte_fallback = r->rules.fuse_unknown = true;
        write_blanks_as_marks(r);
    } else {
        r->rules.model = MODEL_BPE_BYTES;
        r->rules.decode.byte_alphabet = true;
    }
    return CADRE_OK;
}

static cadre_err gemma4(struct named_rules *r, const struct tokenizer_tables *t, cadre_error *err)
{
    struct tokenizer_tables named = *t;
    named.pre = "gemma4";
    return gpt2(r, &named, err);
}

static cadre_err llama(struct named_rules *r, const struct tokenizer_tables *t, cadre_error *err)
{
    (void)err;
    r->rules.model = MODEL_BPE_SCORES;
    r->rules.byte_fallback = true;
    if (t->add_space_prefix)
        add_normal(r, (struct normal_step){.kind = NORMAL_PREPEND, .content = blank});
    write_blanks_as_marks(r);
    r->rules.decode.strip_left = t->add_space_prefix;
    return CADRE_OK;
}

static cadre_err t5(struct named_rules *r, const struct tokenizer_tables *t, cadre_error *err)
{
    (void)err;
    r->rules.model = MODEL_UNIGRAM;
    if (t->charsmap.n > 0)
        add_normal(r, (struct normal_step){.kind = NORMAL_CHARSMAP, .content = t->charsmap});
    if (t->remove_extra_whitespaces)
        add_normal(r, (struct normal_step){.kind = NORMAL_COLLAPSE});
    bool prefix = t->add_space_prefix || t->remove_extra_whitespaces;
    if (prefix)
        add_normal(r, (struct normal_step){.kind = NORMAL_PREPEND, .content = blank});
    write_blanks_as_marks(r);
    r->rules.decode.strip_left = prefix;
    return CADRE_OK;
}

/* Tokens that begin a word are written with "▁" in front, where BERT's own files write "##" before the others. */
static cadre_err bert(struct named_rules *r, const struct tokenizer_tables *t, cadre_error *err)
{
    (void)err;
    r->rules.model = MODEL_WORDPIECE;
    add_normal(r, (struct normal_step){.kind = NORMAL_CLEAN});
    add_normal(r, (struct normal_step){.kind = NORMAL_SPACE_IDEOGRAPHS});
    if (!t->keep_accents) {
        add_normal(r, (struct normal_step){.kind = NORMAL_NFD});
        add_normal(r, (struct normal_step){.kind = NORMAL_DROP_MARKS, .nonspacing = true});
    }
    if (!t->keep_case)
        add_normal(r, (struct normal_step){.kind = NORMAL_LOWERCASE});
    add_split(r, "[" REGEX_SPACE "]+", SPLIT_REMOVED);
    add_split(r, "[" REGEX_PUNCTUATION "]", SPLIT_ISOLATED);
    r->split[r->rules.n_split++] =
        (struct split_step){.kind = SPLIT_MARK_BLANKS, .content = mark, .prepend = PREPEND_ALWAYS};
    r->rules.decode.blank = mark;
    r->rules.decode.strip_left = 1;
    return CADRE_OK;
}

static const struct model_row {
    const char *name;
    cadre_err (*rules)(struct named_rules *, const struct tokenizer_tables *, cadre_error *);
    bool add_bos, add_eos, add_sep, add_space_prefix;
    int32_t bos, eos, unk, sep, pad, mask; /* where a file does not name them */
} models[] = {
    {"gpt2", gpt2, false, false, false, false, -1, -1, -1, -1, -1, -1},
    {"llama", llama, true, false, false, true, 1, 2, 0, -1, -1, -1},
    {"t5", t5, false, true, false, false, -1, 1, 2, -1, 0, -1},
    {"bert", bert, true, false, true, false, 101, -1, 100, 102, 0, 103},
    {"gemma4", gemma4, true, false, false, false, -1, -1, -1, -1, -1, -1},
};
enum { N_MODELS = sizeof models / sizeof *models };

static const struct model_row *model_row(const char *name)
{
    for (int i = 0; name && i < N_MODELS; i++)
        if (strcmp(models[i].name, name) == 0)
            return &models[i];
    return NULL;
}

void tokenizer_set_defaults(struct tokenizer_tables *t)
{
    static const struct model_row none = {.bos = -1, .eos = -1, .unk = -1, .sep = -1, .pad = -1, .mask = -1};
    const struct model_row *row = model_row(t->model);
    row = row ? row : &none;
    t->bos = row->bos, t->eos = row->eos, t->unk = row->unk;
    t->sep = row->sep, t->pad = row->pad, t->mask = row->mask;
    t->eot = t->eom = -1;
    int32_t *const ids[] = {&t->bos, &t->eos, &t->unk, &t->sep, &t->pad, &t->mask};
    for (size_t i = 0; i < sizeof ids / sizeof *ids; i++)
        if (*ids[i] >= t->n_tokens)
            *ids[i] = -1;
    t->add_bos = row->add_bos, t->add_eos = row->add_eos, t->add_sep = row->add_sep;
    t->add_space_prefix = row->add_space_prefix;
    const struct pre_row *pre = row->rules == gpt2 ? pre_row_find(t->pre) : NULL;
    if (pre) {
        t->add_bos = pre->flags & PRE_ADD_BOS;
        t->add_sep = pre->flags & PRE_ADD_SEP;
    }
}

cadre_err rules_of_names(struct named_rules *r, const struct tokenizer_tables *t, cadre_error *err)
{
    *r = (struct named_rules){0};
    const struct model_row *row = model_row(t->model);
    if (!row) {
        char known[256] = "";
        for (int i = 0; i < N_MODELS; i++)
            snprintf(known + strlen(known), sizeof known - strlen(known), " %s", models[i].name);
        return error_set(err, CADRE_E_UNSUPPORTED, "tokenizer model '%.60s' is not supported; known are:%s", t->model,
                         known);
    }
    TRY(row->rules(r, t, err));
    r->rules.normalize = r->normal;
    r->rules.split = r->split;
    r->rules.before = r->before;
    r->rules.after = r->after;
    if (t->add_bos)
        r->before[r->rules.n_before++] = t->bos;
    if (t->add_eos)
        r->after[r->rules.n_after++] = t->eos;
    if (t->add_sep)
        r->after[r->rules.n_after++] = t->sep;
    return CADRE_OK;
}
