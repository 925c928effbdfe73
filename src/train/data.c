#include "train/data.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <xxhash.h>

#include "base/checked.h"
#include "base/fileio.h"

/* A token file: this header, then n ids. */
struct header {
    char magic[8];
    uint32_t version, width;
    uint64_t n, vocab_hash, text_hash, text_bytes;
    uint64_t marked, reserved;
};
static const char magic[8] = "cadretok";
enum { VERSION = 1, PIECE = 1 << 20 };

static uint64_t mix(uint64_t x)
{
    x ^= x >> 30;
    x *= 0xbf58476d1ce4e5b9u;
    x ^= x >> 27;
    x *= 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

cadre_err domain_name(char out[TRAIN_NAME], const char *path, cadre_error *err)
{
    const char *base = strrchr(path, '/'), *start = base ? base + 1 : path, *end = strchr(start, '.');
    size_t n = end ? (size_t)(end - start) : strlen(start);
    if (n == 5 && strncmp(start, "train", 5) == 0 && base) {
        end = base;
        for (start = base; start > path && start[-1] != '/';)
            start--;
        n = (size_t)(end - start);
    }
    CHECK(err, n > 0 && n < TRAIN_NAME, CADRE_E_ARG, "%s: expected a domain name of 1 to %d characters", path,
          TRAIN_NAME - 1);
    memcpy(out, start, n);
    out[n] = 0;
    return CADRE_OK;
}

cadre_err domain_of(char out[TRAIN_NAME], const char *text, const char **path, cadre_error *err)
{
    const char *sign = strchr(text, '=');
    size_t n = sign ? (size_t)(sign - text) : 0;
    *path = text;
    if (n == 0 || memchr(text, '/', n)) /* a path that happens to have a sign in it */
        return domain_name(out, text, err);
    CHECK(err, n < TRAIN_NAME && sign[1], CADRE_E_ARG, "%s: expected DOMAIN=FILE, the name of 1 to %d characters", text,
          TRAIN_NAME - 1);
    memcpy(out, text, n);
    out[n] = 0;
    *path = sign + 1;
    return CADRE_OK;
}

/* A text mapped for reading. */
struct text {
    char *p;
    size_t n;
};

static cadre_err text_map(struct text *t, const char *path, cadre_error *err)
{
    int fd;
    uint64_t size;
    *t = (struct text){0};
    TRY(file_open(path, &fd, &size, err));
    cadre_err rc = CADRE_OK;
    CHECK_OUT(err, size > 0, CADRE_E_FORMAT, "%s: expected text, found an empty file", path);
    t->p = mmap(NULL, size, PROT_READ, MAP_PRIVATE, fd, 0);
    CHECK_OUT(err, t->p != MAP_FAILED, CADRE_E_IO, "%s: cannot be mapped: %s", path, strerror(errno));
    t->n = size;
out:
    file_close(fd);
    return rc;
}

/* Text is cut into pieces of about 1 MiB after a line end, so that where is a function of the text alone. */
static size_t piece_end(const struct text *t, size_t start)
{
    if (t->n - start <= PIECE)
        return t->n;
    const char *nl = memchr(t->p + start + PIECE, '\n', t->n - start - PIECE);
    return nl ? (size_t)(nl - t->p) + 1 : t->n;
}

struct piece {
    size_t start, end;
    int32_t *ids;
    size_t n;
    cadre_err rc;
    cadre_error err;
};

struct encode_job {
    const struct text *text;
    const char *what; /* its path */
    const struct token_maker *by;
    bool conversations;
    struct piece *pieces;
};

/* Conversations: the error names the line. */
static void encode_lines(const struct encode_job *j, struct piece *p)
{
    uint32_t *ids;
    size_t bad = 0, line = 1;
    const char *text = j->text->p;
    p->rc = conversations_encode(j->by->chat, text + p->start, p->end - p->start, &ids, &p->n, &bad, &p->err);
    p->ids = (int32_t *)ids;
    if (p->rc == CADRE_OK)
        return;
    for (const char *at = text; (at = memchr(at, '\n', (size_t)(text + p->start + bad - at))); at++)
        line++;
    error_wrap(&p->err, p->rc, "%s: line %zu", j->what, line);
}

static void encode_piece(void *arg, int64_t item, int worker)
{
    (void)worker;
    struct encode_job *j = arg;
    struct piece *p = &j->pieces[item];
    if (j->conversations)
        encode_lines(j, p);
    else
        p->rc = tokenizer_encode(j->by->tokenizer, j->text->p + p->start, p->end - p->start, TOKENIZE_SPECIAL, &p->ids,
                                 &p->n, &p->err);
}

/* Plain text in a marked file: the first token of each document, also over the pieces that a text is encoded in. */
static void mark_documents(const struct tokenizer *t, struct piece *p, bool *begins)
{
    for (size_t i = 0; i < p->n; i++) {
        int32_t id = p->ids[i];
        p->ids[i] |= *begins ? ID_BEGINS : 0;
        *begins = id == tokenizer_eos(t);
    }
}

static cadre_err write_ids(struct atomic_file *out, const struct piece *p, int width, cadre_error *err)
{
    if (width == 4)
        return atomic_file_write(out, p->ids, p->n * 4, err);
    uint16_t buffer[4096];
    for (size_t i = 0; i < p->n; i += 4096) {
        size_t n = p->n - i < 4096 ? p->n - i : 4096;
        for (size_t j = 0; j < n; j++)
            buffer[j] = (uint16_t)p->ids[i + j];
        TRY(atomic_file_write(out, buffer, n * 2, err));
    }
    return CADRE_OK;
}

/* Encode batches of pieces on all threads and write them in order. */
static cadre_err encode_text(struct atomic_file *out, const struct text *text, const struct token_maker *by,
                             const struct header *h, struct pool *pool, const struct data_progress *progress,
                             const char *what, uint64_t *n_ids, cadre_error *err)
{
    enum { BATCH = 16 };
    struct piece pieces[BATCH];
    struct encode_job job = {text, what, by, conversations_is_file(what), pieces};
    cadre_err rc = CADRE_OK;
    bool begins = true;
    *n_ids = 0;
    for (size_t at = 0; at < text->n && rc == CADRE_OK;) {
        int n = 0;
        for (; n < BATCH && at < text->n; n++) {
            pieces[n] = (struct piece){.start = at, .end = piece_end(text, at)};
            at = pieces[n].end;
        }
        pool_run(pool, n, encode_piece, &job);
        for (int i = 0; i < n; i++) {
            if (rc == CADRE_OK && pieces[i].rc != CADRE_OK) {
                rc = pieces[i].rc;
                if (err)
                    *err = pieces[i].err;
            }
            if (rc == CADRE_OK && h->marked && !job.conversations)
                mark_documents(by->tokenizer, &pieces[i], &begins);
            if (rc == CADRE_OK)
                rc = write_ids(out, &pieces[i], (int)h->width, err);
            *n_ids += pieces[i].n;
            free(pieces[i].ids);
        }
        if (rc == CADRE_OK && progress && !progress->tell(progress->user, what, (int64_t)at, (int64_t)text->n))
            rc = error_set(err, CADRE_E_CANCELLED, "stopped while tokenizing %s", what);
    }
    return rc;
}

static bool up_to_date(const char *path, uint64_t vocab_hash, uint64_t text_hash)
{
    int fd;
    uint64_t size;
    struct header h;
    if (file_open(path, &fd, &size, NULL))
        return false;
    bool ok = !file_read_at(fd, path, 0, &h, sizeof h, NULL) && memcmp(h.magic, magic, 8) == 0 &&
              h.version == VERSION && h.vocab_hash == vocab_hash && h.text_hash == text_hash;
    file_close(fd);
    return ok;
}

/* One text: of its bytes. Several: of their lengths too, because where one ends decides what is a token. Conversations
 * are told from plain text of the same bytes. */
static cadre_err hash_texts(const char *const *texts, int n_texts, struct header *h, cadre_error *err)
{
    XXH3_state_t *state = XXH3_createState();
    CHECK(err, state, CADRE_E_MEMORY, "no memory to hash the texts");
    XXH3_64bits_reset(state);
    cadre_err rc = CADRE_OK;
    for (int i = 0; i < n_texts && rc == CADRE_OK; i++) {
        struct text text;
        rc = text_map(&text, texts[i], err);
        if (rc)
            break;
        uint64_t length = text.n;
        if (n_texts > 1)
            XXH3_64bits_update(state, &length, sizeof length);
        XXH3_64bits_update(state, text.p, text.n);
        if (conversations_is_file(texts[i]))
            XXH3_64bits_update(state, magic, sizeof magic);
        h->text_bytes += text.n;
        munmap(text.p, text.n);
    }
    h->text_hash = XXH3_64bits_digest(state);
    XXH3_freeState(state);
    return rc;
}

cadre_err token_file_make(const char *token_path, const char *const *texts, int n_texts, const struct token_maker *by,
                          struct pool *pool, const struct data_progress *progress, cadre_error *err)
{
    struct atomic_file out = {0};
    struct header h = {.version = VERSION, .vocab_hash = by->vocab_hash};
    cadre_err rc = CADRE_OK;
    memcpy(h.magic, magic, 8);
    for (int i = 0; i < n_texts; i++)
        h.marked |= conversations_is_file(texts[i]);
    h.width = tokenizer_size(by->tokenizer) <= 65536 && !h.marked ? 2 : 4;
    TRY(hash_texts(texts, n_texts, &h, err));
    if (up_to_date(token_path, by->vocab_hash, h.text_hash))
        return CADRE_OK;
    TRY(atomic_file_open(&out, token_path, err));
    TRY_OUT(atomic_file_write(&out, &h, sizeof h, err));
    for (int i = 0; i < n_texts; i++) {
        struct text text;
        uint64_t n = 0;
        TRY_OUT(text_map(&text, texts[i], err));
        rc = encode_text(&out, &text, by, &h, pool, progress, texts[i], &n, err);
        munmap(text.p, text.n);
        TRY_OUT(rc);
        h.n += n;
    }
    CHECK_OUT(err, fseek(out.f, 0, SEEK_SET) == 0, CADRE_E_IO, "%s: %s", token_path, strerror(errno));
    TRY_OUT(atomic_file_write(&out, &h, sizeof h, err));
    TRY_OUT(atomic_file_commit(&out, err));
out:
    atomic_file_abort(&out);
    return rc;
}

cadre_err token_file_open(struct token_file *f, const char *path, int64_t n_vocab, cadre_error *err)
{
    int fd;
    uint64_t size, need = 0;
    struct header h;
    *f = (struct token_file){0};
    TRY(file_open(path, &fd, &size, err));
    cadre_err rc = CADRE_OK;
    TRY_OUT(file_read_at(fd, path, 0, &h, sizeof h, err));
    CHECK_OUT(err, memcmp(h.magic, magic, 8) == 0 && h.version == VERSION, CADRE_E_FORMAT,
              "%s: not a token file of version %d; delete it and it is made anew", path, VERSION);
    CHECK_OUT(err,
              (h.width == 4 || (h.width == 2 && !h.marked)) && mul_ok(h.n, h.width, &need) &&
                  add_ok(need, sizeof h, &need) && need == size,
              CADRE_E_FORMAT,
              "%s: expected %llu tokens of %u bytes, found a file of %llu bytes; delete it and it is made anew", path,
              (unsigned long long)h.n, h.width, (unsigned long long)size);
    f->map = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);
    if (f->map == MAP_FAILED) {
        f->map = NULL;
        rc = error_set(err, CADRE_E_IO, "%s: cannot be mapped: %s", path, strerror(errno));
        goto out;
    }
    f->map_bytes = size;
    f->ids = (const char *)f->map + sizeof h;
    f->width = (int)h.width;
    f->n = (int64_t)h.n;
    f->marked = h.marked != 0;
    f->stamp = mix(h.text_hash ^ mix(h.vocab_hash));
    for (int64_t i = 0; i < f->n; i++)
        CHECK_OUT(err, (uint32_t)token_at(f, i) < (uint64_t)n_vocab, CADRE_E_FORMAT,
                  "%s: token %lld is %d, the vocabulary has %lld; delete the file and it is made anew", path,
                  (long long)i, token_at(f, i), (long long)n_vocab);
out:
    file_close(fd);
    if (rc)
        token_file_close(f);
    return rc;
}

void token_file_close(struct token_file *f)
{
    if (f->map)
        munmap(f->map, f->map_bytes);
    *f = (struct token_file){0};
}

/* ---- order --------------------------------------------------------------------------------------------- */

uint64_t permute(uint64_t i, uint64_t n, uint64_t key)
{
    int half = 1;
    while (half < 32 && (1ull << (2 * half)) < n)
        half++;
    uint64_t mask = (1ull << half) - 1;
    do {
        uint64_t left = i >> half, right = i & mask;
        for (uint64_t round = 0; round < 4; round++) {
            uint64_t next = left ^ (mix(right ^ mix(key + round)) & mask);
            left = right;
            right = next;
        }
        i = left << half | right;
    } while (i >= n);
    return i;
}

static bool begins_at(const struct token_file *f, int64_t i)
{
    return i >= f->n || token_flags(f, i) & ID_BEGINS;
}

/* Where the window that begins at `from` stops being learnt: behind the last conversation that fits whole, or, of one
 * that is longer than a window, behind its sequence + 1 tokens. */
static int64_t window_end(const struct token_file *f, int64_t from, int64_t sequence)
{
    int64_t most = min_i64(f->n, from + sequence + 1);
    for (int64_t i = most; i > from; i--)
        if (begins_at(f, i))
            return i;
    return most;
}

static bool learns(const struct token_file *f, int64_t from, int64_t to)
{
    while (from < to && token_flags(f, from) & ID_READ_ONLY)
        from++;
    return from < to;
}

/* The windows of a marked file; those without anything to learn are left out. A conversation that was cut goes on with
 * the token that was the last target. Those that touch the held-out part belong to it. */
static cadre_err pack_windows(struct domain *d, int64_t sequence, cadre_error *err)
{
    const struct token_file *f = &d->file;
    int64_t capacity = 0, n = 0;
    for (int64_t from = 0; from + 1 < f->n;) {
        int64_t end = window_end(f, from, sequence), next = begins_at(f, end) ? end : end - 1;
        if (n == capacity) {
            capacity = 2 * capacity + 1024;
            int64_t *p = realloc(d->start, (size_t)capacity * sizeof *p);
            CHECK(err, p, CADRE_E_MEMORY, "domain %s: no memory for %lld windows", d->name, (long long)capacity);
            d->start = p;
        }
        if (learns(f, from + 1, end)) {
            d->n_windows += end <= d->n_train;
            d->start[n++] = from;
        }
        from = next;
    }
    d->n_heldout = n - d->n_windows;
    return CADRE_OK;
}

static cadre_err cut_windows(struct domain *d, int64_t sequence, cadre_error *err)
{
    if (d->file.marked)
        return pack_windows(d, sequence, err);
    d->n_windows = (d->n_train - 1) / sequence;
    d->n_heldout = max_i64(0, (d->file.n - d->n_train - 1) / sequence);
    return CADRE_OK;
}

cadre_err sampler_init(struct sampler *s, struct domain *domains, int n_domains, int64_t sequence, double heldout,
                       uint64_t seed, cadre_error *err)
{
    *s = (struct sampler){.domains = domains, .n_domains = n_domains, .sequence = sequence, .seed = seed};
    rng_seed(&s->rng, seed);
    for (int i = 0; i < n_domains; i++) {
        struct domain *d = &domains[i];
        d->n_train = d->weight > 0 ? d->file.n - (int64_t)(heldout * (double)d->file.n) : 0;
        d->n_windows = d->n_heldout = 0;
        TRY(cut_windows(d, sequence, err));
        CHECK(err, d->n_windows > 0 || d->weight <= 0, CADRE_E_ARG,
              "domain %s: expected more than %lld tokens to train on, found %lld", d->name, (long long)sequence,
              (long long)d->n_train);
    }
    return CADRE_OK;
}

void sampler_close(struct sampler *s)
{
    for (int i = 0; i < s->n_domains; i++) {
        free(s->domains[i].start);
        s->domains[i].start = NULL;
    }
}

static int pick_domain(struct sampler *s)
{
    double u = rng_uniform(&s->rng), sum = 0;
    int last = 0;
    for (int i = 0; i < s->n_domains; i++) {
        if (s->domains[i].weight <= 0)
            continue;
        last = i;
        sum += s->domains[i].weight;
        if (u < sum)
            return i;
    }
    return last; /* the weights' sum may round to just below 1 */
}

static void read_plain(const struct token_file *f, int64_t start, int64_t sequence, int32_t *token, int32_t *target)
{
    for (int64_t j = 0; j < sequence; j++) {
        token[j] = token_at(f, start + j);
        target[j] = token_at(f, start + j + 1);
    }
}

/* Behind the window's end comes what follows in the file (from its beginning again at the file's end): any text would
 * do, no token before it sees it, and experts see no text that is unlike the rest. */
static void read_marked(const struct token_file *f, int64_t start, int64_t sequence, int32_t *token, int32_t *target)
{
    int64_t end = window_end(f, start, sequence);
    for (int64_t j = 0; j < sequence; j++) {
        int64_t next = start + j + 1;
        bool learnt = next < end && !(token_flags(f, next % f->n) & ID_READ_ONLY);
        token[j] = token_at(f, (start + j) % f->n);
        target[j] = learnt ? token_at(f, next) : -1;
    }
}

static void read_window(const struct domain *d, int64_t start, int64_t sequence, int32_t *token, int32_t *target)
{
    if (d->start)
        read_marked(&d->file, start, sequence, token, target);
    else
        read_plain(&d->file, start, sequence, token, target);
}

void sampler_next(struct sampler *s, int64_t n, int32_t *token, int32_t *target)
{
    for (int64_t i = 0; i < n; i++) {
        int which = pick_domain(s);
        const struct domain *d = &s->domains[which];
        int64_t taken = s->taken[which]++;
        uint64_t epoch = (uint64_t)(taken / d->n_windows), at = (uint64_t)(taken % d->n_windows);
        uint64_t window = permute(at, (uint64_t)d->n_windows, mix(s->seed ^ mix((uint64_t)which)) + 4 * epoch);
        int64_t start = d->start ? d->start[window] : (int64_t)window * s->sequence;
        read_window(d, start, s->sequence, token + i * s->sequence, target + i * s->sequence);
    }
}

void sampler_heldout(const struct sampler *s, int domain, int64_t i, int32_t *token, int32_t *target)
{
    const struct domain *d = &s->domains[domain];
    int64_t start = d->start ? d->start[d->n_windows + i] : d->n_train + i * s->sequence;
    read_window(d, start, s->sequence, token, target);
}
