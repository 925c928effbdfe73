/* Training: count words, then merge the most frequent pair of neighbours until the vocabulary is full.
 *
 *     pair ──▶ count, and a list of the words in which it may occur
 *     heap ──▶ pairs by count; entries are brought up to date when they come to the top
 *
 * A merge rewrites only the words on the pair's list. Counts of other pairs can then only fall, except of pairs with
 * the new token: those are pushed, so that no heap entry is ever below its pair's count. All counts are integers and
 * ties go to the lower ids, hence the order in which words were counted does not matter.
 *
 * Two pairs never make the same text: inside of an occurrence of it, as long as no merge crosses its ends, the merges
 * are those of the text alone, whatever stands around. So every merge gives a new token, but for the texts of special
 * tokens, which are left unmerged. */
#include "text/bpe_train.h"

#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "text/byte_alphabet.h"
#include "text/corpus.h"
#include "text/text_index.h"

struct text_block { /* texts of tokens and merges, one by one */
    struct text_block *next;
    char text[];
};

struct owned { /* what bpe_result.memory points to */
    struct text_span *tokens, *merges;
    int32_t *kinds;
    size_t merges_capacity;
    char *pre;
    struct text_block *blocks;
};

struct occurrence {
    uint32_t word, next; /* next 0: the last */
};

enum { UNMERGED = -1, NEVER = -2 };

struct pair {
    int32_t left, right;
    int64_t count, before; /* now, and when this step began */
    int64_t step;          /* that touched it last */
    uint32_t occurrences;
    int32_t id; /* what it becomes, or UNMERGED, or NEVER: its text is that of a special token */
};

struct candidate {
    int64_t count;
    int32_t left, right;
    uint32_t pair;
};

struct trained_word {
    uint64_t start; /* of its symbols */
    uint32_t n;
    int64_t count;
};

struct trainer {
    const struct bpe_options *options;
    struct owned *own;
    int64_t n_tokens, n_merges;
    struct text_index texts;
    struct trained_word *words;
    uint64_t n_words;
    int32_t *symbols;
    struct pair *pairs;
    size_t n_pairs, pairs_capacity;
    uint32_t *slots; /* pair + 1, or 0; open addressing */
    uint64_t n_slots;
    struct occurrence *occurrences; /* entry 0 is unused */
    size_t n_occurrences, occurrences_capacity;
    struct candidate *heap;
    size_t n_heap, heap_capacity;
    uint32_t *touched;
    size_t n_touched, touched_capacity;
    int64_t step;
};

/* Room for one more element of an array; doubles. `array` is the address of the pointer, of whatever type. */
static cadre_err make_room(void *array, size_t n, size_t *capacity, size_t element, cadre_error *err)
{
    if (n < *capacity)
        return CADRE_OK;
    void *p;
    memcpy(&p, array, sizeof p);
    size_t bigger = *capacity ? 2 * *capacity : 1024;
    p = realloc(p, bigger * element);
    CHECK(err, p, CADRE_E_MEMORY, "no memory to train a vocabulary (%zu elements of %zu bytes)", bigger, element);
    memcpy(array, &p, sizeof p);
    *capacity = bigger;
    return CADRE_OK;
}

#define MAKE_ROOM(t, array, err) make_room(&(t)->array, (t)->n_##array, &(t)->array##_capacity, sizeof *(t)->array, err)

/* ---- the heap: most frequent first, then lower ids ---- */

static bool comes_before(const struct candidate *a, const struct candidate *b)
{
    if (a->count != b->count)
        return a->count > b->count;
    return a->left != b->left ? a->left < b->left : a->right < b->right;
}

static cadre_err push(struct trainer *t, uint32_t pair, cadre_error *err)
{
    TRY(MAKE_ROOM(t, heap, err));
    const struct pair *p = &t->pairs[pair];
    struct candidate c = {p->count, p->left, p->right, pair};
    size_t i = t->n_heap++;
    for (; i > 0 && comes_before(&c, &t->heap[(i - 1) / 2]); i = (i - 1) / 2)
        t->heap[i] = t->heap[(i - 1) / 2];
    t->heap[i] = c;
    return CADRE_OK;
}

static struct candidate pop(struct trainer *t)
{
    struct candidate top = t->heap[0], c = t->heap[--t->n_heap];
    size_t i = 0;
    for (size_t child; (child = 2 * i + 1) < t->n_heap; i = child) {
        if (child + 1 < t->n_heap && comes_before(&t->heap[child + 1], &t->heap[child]))
            child++;
        if (!comes_before(&t->heap[child], &c))
            break;
        t->heap[i] = t->heap[child];
    }
    t->heap[i] = c;
    return top;
}

/* The most frequent pair that may be merged; *found false if there is none. */
static cadre_err best_pair(struct trainer *t, uint32_t *pair, bool *found, cadre_error *err)
{
    while (t->n_heap > 0) {
        struct candidate c = pop(t);
        const struct pair *p = &t->pairs[c.pair];
        if (p->id == NEVER || p->count == 0)
            continue;
        if (p->count == c.count) {
            *pair = c.pair;
            *found = true;
            return CADRE_OK;
        }
        if (p->count < c.count)
            TRY(push(t, c.pair, err));
    }
    *found = false;
    return CADRE_OK;
}

/* ---- pairs ---- */

static uint32_t *pair_slot(const struct trainer *t, int32_t left, int32_t right)
{
    uint64_t key = ((uint64_t)(uint32_t)left << 32 | (uint32_t)right) * 0x9e3779b97f4a7c15u;
    for (uint64_t i = (key >> 32) & (t->n_slots - 1);; i = (i + 1) & (t->n_slots - 1)) {
        uint32_t pair = t->slots[i];
        if (!pair || (t->pairs[pair - 1].left == left && t->pairs[pair - 1].right == right))
            return &t->slots[i];
    }
}

static cadre_err grow_slots(struct trainer *t, cadre_error *err)
{
    uint64_t n = t->n_slots ? 2 * t->n_slots : 1 << 12;
    uint32_t *slots = calloc(n, sizeof *slots);
    CHECK(err, slots && t->n_pairs < UINT32_MAX / 4, CADRE_E_MEMORY, "no memory for %zu pairs of tokens", t->n_pairs);
    free(t->slots);
    t->slots = slots;
    t->n_slots = n;
    for (size_t i = 0; i < t->n_pairs; i++)
        *pair_slot(t, t->pairs[i].left, t->pairs[i].right) = (uint32_t)i + 1;
    return CADRE_OK;
}

/* Change a pair's count; the pair is made if it is new. */
static cadre_err add_count(struct trainer *t, int32_t left, int32_t right, int64_t by, uint32_t *pair, cadre_error *err)
{
    if (2 * t->n_pairs >= t->n_slots)
        TRY(grow_slots(t, err));
    uint32_t *slot = pair_slot(t, left, right);
    if (!*slot) {
        TRY(MAKE_ROOM(t, pairs, err));
        t->pairs[t->n_pairs++] = (struct pair){.left = left, .right = right, .step = -1, .id = UNMERGED};
        *slot = (uint32_t)t->n_pairs;
    }
    *pair = *slot - 1;
    struct pair *p = &t->pairs[*pair];
    if (p->step != t->step) {
        TRY(MAKE_ROOM(t, touched, err));
        t->touched[t->n_touched++] = *pair;
        p->step = t->step;
        p->before = p->count;
    }
    p->count += by;
    return CADRE_OK;
}

static cadre_err add_occurrence(struct trainer *t, uint32_t pair, uint32_t word, cadre_error *err)
{
    struct pair *p = &t->pairs[pair];
    if (p->occurrences && t->occurrences[p->occurrences].word == word)
        return CADRE_OK;
    TRY(MAKE_ROOM(t, occurrences, err));
    CHECK(err, t->n_occurrences < UINT32_MAX, CADRE_E_MEMORY,
          "the texts have too many different words: use fewer texts");
    t->occurrences[t->n_occurrences] = (struct occurrence){word, p->occurrences};
    p->occurrences = (uint32_t)t->n_occurrences++;
    return CADRE_OK;
}

/* Add (sign +1) or take away (-1) the pairs of a word; with +1, pairs that hold `fresh` (-1: all) get the word on
 * their list; the others have it. */
static cadre_err count_pairs(struct trainer *t, uint32_t word, int sign, int32_t fresh, cadre_error *err)
{
    const struct trained_word *w = &t->words[word];
    const int32_t *s = t->symbols + w->start;
    for (uint32_t i = 0; i + 1 < w->n; i++) {
        uint32_t pair;
        TRY(add_count(t, s[i], s[i + 1], sign * w->count, &pair, err));
        if (sign > 0 && (fresh < 0 || s[i] == fresh || s[i + 1] == fresh))
            TRY(add_occurrence(t, pair, word, err));
    }
    return CADRE_OK;
}

/* Pairs that rose in this step become candidates. */
static cadre_err push_risen(struct trainer *t, cadre_error *err)
{
    for (size_t i = 0; i < t->n_touched; i++)
        if (t->pairs[t->touched[i]].count > t->pairs[t->touched[i]].before)
            TRY(push(t, t->touched[i], err));
    t->n_touched = 0;
    t->step++;
    return CADRE_OK;
}

static cadre_err merge_in_word(struct trainer *t, uint32_t word, int32_t left, int32_t right, int32_t id,
                               cadre_error *err)
{
    struct trained_word *w = &t->words[word];
    int32_t *s = t->symbols + w->start;
    uint32_t i = 0;
    while (i + 1 < w->n && (s[i] != left || s[i + 1] != right))
        i++;
    if (i + 1 >= w->n)
        return CADRE_OK; /* an earlier merge has taken the pair apart */
    TRY(count_pairs(t, word, -1, -1, err));
    uint32_t n = i;
    while (i < w->n) {
        bool here = i + 1 < w->n && s[i] == left && s[i + 1] == right;
        s[n++] = here ? id : s[i];
        i += here ? 2 : 1;
    }
    w->n = n;
    return count_pairs(t, word, 1, id, err);
}

static cadre_err merge_everywhere(struct trainer *t, uint32_t pair, cadre_error *err)
{
    const struct pair p = t->pairs[pair];
    t->pairs[pair].occurrences = 0;
    for (uint32_t at = p.occurrences; at; at = t->occurrences[at].next)
        TRY(merge_in_word(t, t->occurrences[at].word, p.left, p.right, p.id, err));
    return push_risen(t, err);
}

/* ---- tokens ---- */

/* Memory for a text of n bytes, owned by the result; NULL if there is none. */
static char *new_text(struct owned *own, size_t n)
{
    struct text_block *b = malloc(sizeof *b + n + 1);
    if (!b)
        return NULL;
    b->next = own->blocks;
    own->blocks = b;
    return b->text;
}

/* left, separator, right. */
static cadre_err join(struct trainer *t, int32_t left, const char *separator, int32_t right, struct text_span *out,
                      cadre_error *err)
{
    const struct text_span *l = &t->own->tokens[left], *r = &t->own->tokens[right];
    size_t n_separator = strlen(separator);
    char *text = new_text(t->own, l->n + n_separator + r->n);
    CHECK(err, text, CADRE_E_MEMORY, "no memory for the text of a token");
    memcpy(text, l->p, l->n);
    memcpy(text + l->n, separator, n_separator);
    memcpy(text + l->n + n_separator, r->p, r->n);
    *out = (struct text_span){text, l->n + n_separator + r->n};
    return CADRE_OK;
}

static cadre_err add_token(struct trainer *t, const char *p, size_t n, enum token_kind kind, cadre_error *err)
{
    char *text = new_text(t->own, n);
    CHECK(err, text, CADRE_E_MEMORY, "no memory for the text of a token");
    memcpy(text, p, n);
    t->own->tokens[t->n_tokens] = (struct text_span){text, n};
    t->own->kinds[t->n_tokens] = kind;
    CHECK(err, text_index_add(&t->texts, t->own->tokens, (int32_t)t->n_tokens), CADRE_E_ARG,
          "the token '%.*s' is there already: special tokens must differ from each other and from single bytes",
          (int)min_i64((int64_t)n, 80), p);
    t->n_tokens++;
    return CADRE_OK;
}

static cadre_err add_base_tokens(struct trainer *t, cadre_error *err)
{
    for (int i = 0; i < t->options->n_specials; i++)
        TRY(add_token(t, t->options->specials[i], strlen(t->options->specials[i]), TOKEN_CONTROL, err));
    for (int b = 0; b < 256; b++) {
        char letter[2];
        size_t n = byte_to_alphabet((unsigned char)b, letter);
        TRY(add_token(t, letter, n, TOKEN_NORMAL, err));
    }
    return CADRE_OK;
}

/* Decide what the pair becomes, and record the merge. */
static cadre_err name_pair(struct trainer *t, struct pair *p, cadre_error *err)
{
    struct text_span joined;
    struct owned *own = t->own;
    TRY(join(t, p->left, "", p->right, &joined, err));
    if (text_index_find(&t->texts, own->tokens, joined.p, joined.n) >= 0) {
        p->id = NEVER;
        return CADRE_OK;
    }
    p->id = (int32_t)t->n_tokens++;
    own->tokens[p->id] = joined;
    own->kinds[p->id] = TOKEN_NORMAL;
    text_index_add(&t->texts, own->tokens, p->id);
    TRY(make_room(&own->merges, (size_t)t->n_merges, &own->merges_capacity, sizeof *own->merges, err));
    TRY(join(t, p->left, " ", p->right, &own->merges[t->n_merges], err));
    t->n_merges++;
    return CADRE_OK;
}

/* ---- the whole ---- */

static cadre_err report(const struct bpe_options *o, int64_t done, int64_t total, cadre_error *err)
{
    bool go_on = !o->progress || o->progress(o->user, done, total);
    CHECK(err, go_on, CADRE_E_CANCELLED, "training of the vocabulary was stopped by the caller");
    return CADRE_OK;
}

static cadre_err load_words(struct trainer *t, const struct word_count *count, cadre_error *err)
{
    uint64_t n_symbols = 0;
    for (uint64_t i = 0; i < count->size; i++)
        n_symbols += count->slots[i].p ? count->slots[i].n : 0;
    t->words = malloc((count->used + 1) * sizeof *t->words);
    t->symbols = malloc((n_symbols + 1) * sizeof *t->symbols);
    CHECK(err, t->words && t->symbols, CADRE_E_MEMORY, "no memory for %llu different words",
          (unsigned long long)count->used);
    int32_t *end = t->symbols;
    for (uint64_t i = 0; i < count->size; i++) {
        const struct word *w = &count->slots[i];
        if (!w->p)
            continue;
        t->words[t->n_words++] = (struct trained_word){(uint64_t)(end - t->symbols), w->n, w->count};
        for (uint32_t k = 0; k < w->n; k++)
            *end++ = t->options->n_specials + (unsigned char)w->p[k];
    }
    return CADRE_OK;
}

static cadre_err count_words(struct word_count *out, const struct corpus *c, const struct bpe_options *o,
                             struct pool *pool, int64_t total, cadre_error *err)
{
    enum { ROUND = 32 }; /* chunks between two reports */
    int n = pool ? pool_threads(pool) : 1;
    cadre_err rc = CADRE_OK;
    struct pretokenizer *pre = NULL;
    const struct pre_row *row;
    struct split_step steps[PRE_MAX_SPLITS];
    struct corpus_worker *workers = calloc((size_t)n, sizeof *workers);
    CHECK_OUT(err, workers, CADRE_E_MEMORY, "no memory for %d workers", n);
    TRY_OUT(pre_row_get(&row, o->pre, err));
    TRY_OUT(pretokenizer_new(&pre, steps, pre_row_steps(row, steps), err));
    for (int i = 0; i < n; i++)
        TRY_OUT(splitter_new(&workers[i].splitter, pre, err));
    for (int64_t at = 0; at < c->n_chunks; at += ROUND) {
        TRY_OUT(report(o, at, total, err));
        TRY_OUT(corpus_count(c, at, min_i64(at + ROUND, c->n_chunks), workers, pool, err));
    }
    for (int i = 0; i < n; i++)
        TRY_OUT(word_count_merge(out, &workers[i].words, err));
out:
    for (int i = 0; workers && i < n; i++) {
        word_count_free(&workers[i].words);
        splitter_free(workers[i].splitter);
    }
    free(workers);
    pretokenizer_free(pre);
    return rc;
}

static cadre_err merge_until_full(struct trainer *t, int64_t done, int64_t total, cadre_error *err)
{
    t->n_occurrences = 1;
    TRY(make_room(&t->occurrences, 0, &t->occurrences_capacity, sizeof *t->occurrences, err));
    for (uint64_t i = 0; i < t->n_words; i++)
        TRY(count_pairs(t, (uint32_t)i, 1, -1, err));
    TRY(push_risen(t, err));
    int64_t first = t->n_tokens;
    while (t->n_tokens < t->options->vocab) {
        uint32_t pair;
        bool found;
        if (t->step % 64 == 0)
            TRY(report(t->options, done + t->n_tokens - first, total, err));
        TRY(best_pair(t, &pair, &found, err));
        CHECK(
            err, found, CADRE_E_ARG,
            "the texts give a vocabulary of %lld tokens at most, %lld were asked for: give more text, or ask for fewer",
            (long long)t->n_tokens, (long long)t->options->vocab);
        TRY(name_pair(t, &t->pairs[pair], err));
        if (t->pairs[pair].id != NEVER)
            TRY(merge_everywhere(t, pair, err));
    }
    return report(t->options, total, total, err);
}

static cadre_err check_options(const char *const *texts, const size_t *lengths, int n_texts,
                               const struct bpe_options *o, cadre_error *err)
{
    CHECK(err, o && o->n_specials >= 0 && (o->specials || o->n_specials == 0), CADRE_E_ARG,
          "options of a vocabulary to train are missing, or its special tokens");
    CHECK(err, o->vocab >= (int64_t)o->n_specials + 256 && o->vocab < INT32_MAX, CADRE_E_ARG,
          "a vocabulary of %lld tokens was asked for; %d special tokens and 256 bytes need %lld at least",
          (long long)o->vocab, o->n_specials, (long long)o->n_specials + 256);
    for (int i = 0; i < o->n_specials; i++)
        CHECK(err, o->specials[i] && *o->specials[i], CADRE_E_ARG, "special token %d is empty", i);
    CHECK(err, n_texts >= 0 && (n_texts == 0 || (texts && lengths)), CADRE_E_ARG, "no texts to train a vocabulary on");
    for (int i = 0; i < n_texts; i++)
        CHECK(err, texts[i] || lengths[i] == 0, CADRE_E_ARG, "text %d of %d is missing", i, n_texts);
    return CADRE_OK;
}

static void trainer_free(struct trainer *t)
{
    text_index_free(&t->texts);
    free(t->words);
    free(t->symbols);
    free(t->pairs);
    free(t->slots);
    free(t->occurrences);
    free(t->heap);
    free(t->touched);
}

static cadre_err new_owned(struct bpe_result *out, const struct bpe_options *o, cadre_error *err)
{
    struct owned *own = out->memory = calloc(1, sizeof *own);
    CHECK(err, own, CADRE_E_MEMORY, "no memory for a vocabulary");
    own->tokens = calloc((size_t)o->vocab, sizeof *own->tokens);
    own->kinds = calloc((size_t)o->vocab, sizeof *own->kinds);
    own->pre = strdup(o->pre ? o->pre : "default");
    CHECK(err, own->tokens && own->kinds && own->pre, CADRE_E_MEMORY, "no memory for %lld tokens", (long long)o->vocab);
    return CADRE_OK;
}

cadre_err bpe_train(struct bpe_result *out, const char *const *texts, const size_t *lengths, int n_texts,
                    const struct bpe_options *options, struct pool *pool, cadre_error *err)
{
    TRY(check_options(texts, lengths, n_texts, options, err));
    cadre_err rc = CADRE_OK;
    struct bpe_result result = {0};
    struct corpus corpus = {0};
    struct word_count count = {0};
    struct trainer t = {.options = options};
    TRY_OUT(new_owned(&result, options, err));
    t.own = result.memory;
    TRY_OUT(text_index_init(&t.texts, options->vocab, err));
    TRY_OUT(add_base_tokens(&t, err));
    TRY_OUT(corpus_init(&corpus, texts, lengths, n_texts, err));
    int64_t total = corpus.n_chunks + options->vocab - t.n_tokens;
    TRY_OUT(count_words(&count, &corpus, options, pool, total, err));
    TRY_OUT(load_words(&t, &count, err));
    word_count_free(&count);
    TRY_OUT(merge_until_full(&t, corpus.n_chunks, total, err));
    result.tables = (struct tokenizer_tables){.model = "gpt2",
                                              .pre = t.own->pre,
                                              .tokens = t.own->tokens,
                                              .kinds = t.own->kinds,
                                              .n_tokens = t.n_tokens,
                                              .merges = t.own->merges,
                                              .n_merges = t.n_merges,
                                              .bos = -1,
                                              .eos = -1,
                                              .eot = -1,
                                              .eom = -1,
                                              .sep = -1,
                                              .mask = -1,
                                              .unk = -1,
                                              .pad = -1};
    *out = result;
    result.memory = NULL;
out:
    trainer_free(&t);
    word_count_free(&count);
    corpus_free(&corpus);
    bpe_result_free(&result);
    return rc;
}

void bpe_result_free(struct bpe_result *r)
{
    struct owned *own = r ? r->memory : NULL;
    if (!own)
        return;
    for (struct text_block *b = own->blocks, *next; b; b = next) {
        next = b->next;
        free(b);
    }
    free(own->tokens);
    free(own->merges);
    free(own->kinds);
    free(own->pre);
    free(own);
    *r = (struct bpe_result){0};
}
