#include "train/vocabulary.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <xxhash.h>

#include "base/checked.h"
#include "base/fileio.h"
#include "model/model.h"
#include "text/bpe_train.h"
#include "train/turns.h"

static const char source_key[] = "vocabulary.source", source_model[] = "model";

enum { SLICES = 64 }; /* pieces that the sample of one text is taken in, spread evenly over it */

struct sample {
    const char *text[TRAIN_MAX_TEXTS * SLICES];
    size_t length[TRAIN_MAX_TEXTS * SLICES];
    int n;
    void *map[TRAIN_MAX_TEXTS];
    size_t map_bytes[TRAIN_MAX_TEXTS];
    int n_maps;
};

static void sample_close(struct sample *s)
{
    for (int i = 0; i < s->n_maps; i++)
        munmap(s->map[i], s->map_bytes[i]);
}

static size_t next_line(const char *p, size_t n, size_t at)
{
    const char *nl = at < n ? memchr(p + at, '\n', n - at) : NULL;
    return nl ? (size_t)(nl - p) + 1 : n;
}

/* About `want` bytes of a text in SLICES whole-line slices; all of it if it is not longer. */
static void sample_text(struct sample *s, const char *p, size_t n, size_t want)
{
    if (want >= n) {
        s->text[s->n] = p;
        s->length[s->n++] = n;
        return;
    }
    for (size_t i = 0; i < SLICES; i++) {
        size_t from = i ? next_line(p, n, n / SLICES * i) : 0, to = next_line(p, n, n / SLICES * i + want / SLICES);
        if (to > from) {
            s->text[s->n] = p + from;
            s->length[s->n++] = to - from;
        }
    }
}

static cadre_err sample_open(struct sample *s, const struct train_config *cfg, const struct turns *turns,
                             const struct vocabulary_texts *texts, uint64_t *hash, cadre_error *err)
{
    XXH3_state_t *state = XXH3_createState();
    CHECK(err, state, CADRE_E_MEMORY, "no memory to hash the texts");
    XXH3_64bits_reset(state);
    XXH3_64bits_update(state, cfg->pre, strlen(cfg->pre));
    XXH3_64bits_update(state, &cfg->vocab, sizeof cfg->vocab);
    XXH3_64bits_update(state, cfg->specials, strlen(cfg->specials));
    XXH3_64bits_update(state, cfg->end_of_turn, strlen(cfg->end_of_turn));
    if (turns->source)
        XXH3_64bits_update(state, turns->source, turns->source_bytes);
    cadre_err rc = CADRE_OK;
    for (int i = 0; i < texts->n && rc == CADRE_OK; i++) {
        int fd;
        uint64_t size;
        if (conversations_is_file(texts->path[i]))
            continue;
        rc = file_open(texts->path[i], &fd, &size, err);
        if (rc)
            break;
        void *p = size ? mmap(NULL, size, PROT_READ, MAP_PRIVATE, fd, 0) : MAP_FAILED;
        file_close(fd);
        if (p == MAP_FAILED) {
            rc = error_set(err, CADRE_E_IO, "%s: cannot be mapped (%llu bytes)", texts->path[i],
                           (unsigned long long)size);
            break;
        }
        s->map[s->n_maps] = p;
        s->map_bytes[s->n_maps++] = size;
        int first = s->n;
        sample_text(s, p, size, (size_t)(texts->weight[i] * (double)cfg->tokenizer_bytes));
        for (int j = first; j < s->n; j++)
            XXH3_64bits_update(state, s->text[j], s->length[j]);
    }
    *hash = XXH3_64bits_digest(state);
    XXH3_freeState(state);
    CHECK(
        err, rc || s->n > 0, CADRE_E_ARG,
        "a vocabulary is trained on plain texts, and conversations (.jsonl) alone were given; add texts, or start from "
        "a model (--init)");
    return rc;
}

static cadre_err train_and_write(const char *path, const char *source, const struct sample *s,
                                 const struct train_config *cfg, const struct turns *turns, struct pool *pool,
                                 const struct data_progress *progress, cadre_error *err)
{
    const char *specials[TRAIN_MAX_SPECIALS + 1] = {TRAIN_END_OF_TEXT};
    for (int i = 0; i < cfg->n_specials; i++)
        specials[i + 1] = cfg->special[i];
    struct bpe_options options = {
        .vocab = cfg->vocab, .pre = cfg->pre, .specials = specials, .n_specials = cfg->n_specials + 1};
    struct bpe_result result = {0};
    struct gguf_writer *w = NULL;
    if (progress && !progress->tell(progress->user, "the vocabulary", 0, 1))
        return error_set(err, CADRE_E_CANCELLED, "stopped before the vocabulary was trained");
    TRY(bpe_train(&result, s->text, s->length, s->n, &options, pool, err));
    cadre_err rc = CADRE_OK;
    result.tables.eos = 0;
    result.tables.bos = 0;
    TRY_OUT(turns_find_end(&result.tables.eot, cfg, result.tables.tokens, result.tables.n_tokens, err));
    TRY_OUT(gguf_writer_open(&w, path, err));
    TRY_OUT(gguf_put_string(w, "general.architecture", cfg->spec.family, strlen(cfg->spec.family), err));
    TRY_OUT(gguf_put_string(w, source_key, source, strlen(source), err));
    TRY_OUT(tokenizer_to_gguf(w, &result.tables, err));
    TRY_OUT(turns_put_template(w, turns, err));
    TRY_OUT(gguf_write_begin(w, err));
    rc = gguf_writer_commit(w, err);
    w = NULL;
out:
    gguf_writer_abort(w);
    bpe_result_free(&result);
    return rc;
}

static cadre_err copy_from_model(const char *path, struct vocabulary *v, const struct gguf *from,
                                 const struct train_config *cfg, const struct turns *turns, cadre_error *err)
{
    struct gguf_writer *w = NULL;
    cadre_err rc = CADRE_OK;
    TRY_OUT(gguf_writer_open(&w, path, err));
    TRY_OUT(gguf_put_string(w, "general.architecture", cfg->spec.family, strlen(cfg->spec.family), err));
    TRY_OUT(gguf_put_string(w, source_key, source_model, strlen(source_model), err));
    TRY_OUT(turns_put_vocabulary(w, from, cfg, turns, v->fresh, &v->n_fresh, err));
    TRY_OUT(gguf_write_begin(w, err));
    rc = gguf_writer_commit(w, err);
    w = NULL;
out:
    gguf_writer_abort(w);
    return rc;
}

static bool made_from(const char *path, const char *source)
{
    struct gguf *g = NULL;
    struct gguf_string s;
    bool found = false;
    if (access(path, R_OK) != 0 || gguf_open(&g, path, NULL))
        return false;
    bool same = !gguf_get_string(g, source_key, &s, &found, NULL) && found && s.n == strlen(source) &&
                memcmp(s.p, source, s.n) == 0;
    gguf_close(g);
    return same;
}

static cadre_err train_on_texts(const char *path, const struct train_config *cfg, const struct turns *turns,
                                const struct vocabulary_texts *texts, struct pool *pool,
                                const struct data_progress *progress, cadre_error *err)
{
    struct sample *s = calloc(1, sizeof *s);
    char source[24];
    uint64_t hash = 0;
    CHECK(err, s, CADRE_E_MEMORY, "no memory for a sample of the texts");
    cadre_err rc = sample_open(s, cfg, turns, texts, &hash, err);
    if (rc == CADRE_OK) {
        snprintf(source, sizeof source, "%016" PRIx64, hash);
        if (!made_from(path, source))
            rc = train_and_write(path, source, s, cfg, turns, pool, progress, err);
    }
    sample_close(s);
    free(s);
    return rc;
}

cadre_err vocabulary_open(struct vocabulary *v, const char *path, const struct train_config *cfg,
                          const struct vocabulary_texts *texts, const struct gguf *from, bool resumed,
                          struct pool *pool, const struct data_progress *progress, cadre_error *err)
{
    char *bytes = NULL;
    size_t n;
    struct turns turns;
    *v = (struct vocabulary){0};
    TRY(turns_read(&turns, cfg, err));
    cadre_err rc = CADRE_OK;
    if (from)
        rc = copy_from_model(path, v, from, cfg, &turns, err);
    else if (!resumed || !made_from(path, source_model))
        rc = train_on_texts(path, cfg, &turns, texts, pool, progress, err);
    turns_free(&turns);
    TRY(rc);
    TRY(file_slurp(path, 1 << 28, &bytes, &n, err));
    v->hash = XXH3_64bits(bytes, n);
    free(bytes);
    rc = gguf_open(&v->file, path, err);
    if (rc == CADRE_OK)
        rc = tokenizer_from_gguf(&v->tokenizer, v->file, err);
    if (rc == CADRE_OK && tokenizer_size(v->tokenizer) > cfg->vocab)
        rc = error_set(err, CADRE_E_ARG, "%s: %lld tokens, but [tokenizer] vocab is %lld", path,
                       (long long)tokenizer_size(v->tokenizer), (long long)cfg->vocab);
    if (rc)
        vocabulary_close(v);
    return rc;
}

void vocabulary_close(struct vocabulary *v)
{
    tokenizer_free(v->tokenizer);
    gguf_close(v->file);
    *v = (struct vocabulary){0};
}
