/* Token files and the order in which they are read. */
#include "train_test.h"

#include <math.h>

#include "text/bpe_train.h"
#include "train/data.h"

/* ---- order ---- */

static void permute_is_a_permutation(void **state)
{
    (void)state;
    for (uint64_t n = 1; n <= 300; n++)
        for (uint64_t key = 0; key < 12; key++) {
            bool seen[300] = {false};
            for (uint64_t i = 0; i < n; i++) {
                uint64_t j = permute(i, n, key * 0x123456789abcdefu);
                assert_true(j < n && !seen[j]);
                seen[j] = true;
            }
        }
}

static void permutations_differ_by_key(void **state)
{
    (void)state;
    int fixed = 0, equal = 0;
    for (uint64_t i = 0; i < 1000; i++) {
        fixed += permute(i, 1000, 1) == i;
        equal += permute(i, 1000, 1) == permute(i, 1000, 2);
    }
    assert_true(fixed < 20 && equal < 20); /* about 1 each by chance */
}

/* Domains whose token i is i itself, so that a window tells where it comes from; domain d counts from 20000 d. */
enum { SEQUENCE = 8, DOMAINS = 3, STRIDE = 20000 };
struct fake {
    uint16_t ids[DOMAINS][STRIDE];
    struct domain domains[DOMAINS];
    struct sampler sampler;
};

static void fake_open(struct fake *f, const double weight[DOMAINS], const int64_t size[DOMAINS], double heldout,
                      uint64_t seed)
{
    cadre_error e = {0};
    for (int d = 0; d < DOMAINS; d++) {
        for (int i = 0; i < STRIDE; i++)
            f->ids[d][i] = (uint16_t)(d * STRIDE + i);
        f->domains[d] = (struct domain){.weight = weight[d], .file = {.ids = f->ids[d], .width = 2, .n = size[d]}};
        snprintf(f->domains[d].name, TRAIN_NAME, "d%d", d);
    }
    assert_ok(sampler_init(&f->sampler, f->domains, DOMAINS, SEQUENCE, heldout, seed, &e), e);
}

static void windows_are_mixed_by_weight(void **state)
{
    (void)state;
    static struct fake f;
    static const double weight[DOMAINS] = {0.5, 0.3, 0.2};
    static const int64_t size[DOMAINS] = {20000, 1000, 100};
    fake_open(&f, weight, size, 0.1, 3);
    int64_t count[DOMAINS] = {0}, n = 20000;
    for (int64_t i = 0; i < n; i++) {
        int32_t token[SEQUENCE], target[SEQUENCE];
        sampler_next(&f.sampler, 1, token, target);
        int d = token[0] / STRIDE;
        count[d]++;
        assert_int_equal(token[0] % STRIDE % SEQUENCE, 0);
        for (int j = 0; j < SEQUENCE; j++) {
            assert_int_equal(token[j], token[0] + j);
            assert_int_equal(target[j], token[j] + 1);
            assert_true(target[j] % STRIDE < f.domains[d].n_train); /* nothing of the held-out part */
        }
    }
    for (int d = 0; d < DOMAINS; d++) { /* four deviations of a binomial count */
        double deviation = sqrt((double)n * weight[d] * (1 - weight[d]));
        assert_true(fabs((double)count[d] - (double)n * weight[d]) < 4 * deviation);
    }
}

static void every_window_comes_once_an_epoch(void **state)
{
    (void)state;
    static struct fake f;
    static const double weight[DOMAINS] = {0, 1, 0};
    static const int64_t size[DOMAINS] = {5, 1001, 0}; /* domains of weight 0 need hold nothing */
    fake_open(&f, weight, size, 0, 4);
    int64_t n = f.domains[1].n_windows;
    assert_int_equal(n, 125);
    int first[125];
    for (int epoch = 0; epoch < 4; epoch++) {
        bool seen[125] = {false};
        int same = 0;
        for (int64_t i = 0; i < n; i++) {
            int32_t token[SEQUENCE], target[SEQUENCE];
            sampler_next(&f.sampler, 1, token, target);
            int window = (token[0] - STRIDE) / SEQUENCE;
            assert_true(window >= 0 && window < n && !seen[window]);
            seen[window] = true;
            if (epoch == 0)
                first[i] = window;
            same += first[i] == window;
        }
        assert_true(epoch == 0 || same < 10); /* another order each time */
    }
}

static void order_goes_on_from_its_state(void **state)
{
    (void)state;
    static struct fake f, g, h;
    static const double weight[DOMAINS] = {0.4, 0.4, 0.2};
    static const int64_t size[DOMAINS] = {300, 500, 100};
    int32_t a[64 * SEQUENCE], b[64 * SEQUENCE], c[64 * SEQUENCE], unused[64 * SEQUENCE];
    fake_open(&f, weight, size, 0.05, 5);
    sampler_next(&f.sampler, 37, a, unused);
    fake_open(&g, weight, size, 0.05, 5);
    g.sampler.rng = f.sampler.rng; /* all that a checkpoint holds */
    memcpy(g.sampler.taken, f.sampler.taken, sizeof g.sampler.taken);
    sampler_next(&f.sampler, 64, a, unused);
    for (int i = 0; i < 64; i += 16) /* how many windows a call asks for changes nothing */
        sampler_next(&g.sampler, 16, b + i * SEQUENCE, unused + i * SEQUENCE);
    assert_memory_equal(a, b, sizeof a);
    fake_open(&h, weight, size, 0.05, 6);
    sampler_next(&h.sampler, 37, c, unused);
    sampler_next(&h.sampler, 64, c, unused);
    assert_memory_not_equal(a, c, sizeof a); /* another seed, another order */
}

static void domains_without_weight_are_held_out(void **state)
{
    (void)state;
    static struct fake f;
    static const double weight[DOMAINS] = {1, 0, 0};
    static const int64_t size[DOMAINS] = {400, 81, 3};
    int32_t token[SEQUENCE], target[SEQUENCE];
    fake_open(&f, weight, size, 0.1, 3);
    assert_true(f.domains[1].n_windows == 0 && f.domains[2].n_windows == 0);
    assert_true(f.domains[1].n_heldout == 10 && f.domains[2].n_heldout == 0);
    sampler_heldout(&f.sampler, 1, 9, token, target);
    assert_int_equal(token[0], STRIDE + 72);
    assert_int_equal(target[SEQUENCE - 1], STRIDE + 80);
}

static void short_domains_are_refused(void **state)
{
    (void)state;
    static struct fake f;
    cadre_error e = {0};
    static const double weight[DOMAINS] = {1, 0, 0};
    static const int64_t size[DOMAINS] = {9, 9, 9};
    fake_open(&f, weight, size, 0, 1); /* 8 tokens and the one after */
    f.domains[0].file.n = 8;
    assert_fails(sampler_init(&f.sampler, f.domains, DOMAINS, SEQUENCE, 0, 1, &e), CADRE_E_ARG, &e,
                 "domain d0: expected more than 8 tokens to train on, found 8");
}

/* ---- names ---- */

static void domains_are_named_after_files(void **state)
{
    (void)state;
    static const char *const rows[][2] = {
        {"prose.txt", "prose"},      {"/a/b/code.c.txt", "code"}, {"/a/prose/train.txt", "prose"},
        {"prose/train", "prose"},    {"train.txt", "train"},      {"/a/trainer.txt", "trainer"},
        {"../x/y.tar/data", "data"},
    };
    char name[TRAIN_NAME];
    cadre_error e = {0};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        assert_ok(domain_name(name, rows[i][0], &e), e);
        assert_string_equal(name, rows[i][1]);
    }
    assert_fails(domain_name(name, "/a/.txt", &e), CADRE_E_ARG, &e, "/a/.txt");
    assert_fails(domain_name(name, "/train.txt", &e), CADRE_E_ARG, &e, "/train.txt");
    char longer[100] = "";
    memset(longer, 'x', 64);
    assert_fails(domain_name(name, longer, &e), CADRE_E_ARG, &e, "1 to 63 characters");
}

/* ---- token files ---- */

static struct tokenizer *make_tokenizer(int64_t vocab)
{
    static const char *const specials[] = {"<|endoftext|>"};
    struct bpe_options o = {.vocab = vocab, .pre = "gpt-2", .specials = specials, .n_specials = 1};
    struct bpe_result r = {0};
    struct tokenizer *t;
    cadre_error e = {0};
    char *text = make_text(20000, 9);
    const char *texts[] = {text};
    size_t n = 20000;
    assert_ok(bpe_train(&r, texts, &n, 1, &o, NULL, &e), e);
    assert_ok(tokenizer_new(&t, &r.tables, &e), e);
    bpe_result_free(&r);
    free(text);
    return t;
}

struct tokens {
    struct tokenizer *t;
    const char *path;
    int told;
    bool refuse;
};

static bool count_telling(void *user, const char *what, int64_t done, int64_t total)
{
    struct tokens *k = user;
    assert_non_null(strstr(what, "prose.txt"));
    assert_true(done > 0 && done <= total);
    k->told++;
    return !k->refuse;
}

static cadre_err make(const struct scratch *s, struct tokens *k, uint64_t vocab_hash, struct pool *pool, cadre_error *e)
{
    struct data_progress p = {count_telling, k};
    k->told = 0;
    return token_file_make(k->path, (const char *const[]){s->prose}, 1, &(struct token_maker){k->t, NULL, vocab_hash},
                           pool, &p, e);
}

/* The file holds the ids of the whole text, in order, whatever the pieces it was encoded in. */
static void assert_holds_text(const struct scratch *s, const struct tokens *k, int width)
{
    struct token_file f;
    cadre_error e = {0};
    size_t n, at = 0;
    char *text = slurp(s->prose, &n);
    assert_ok(token_file_open(&f, k->path, tokenizer_size(k->t), &e), e);
    assert_int_equal(f.width, width);
    for (int64_t i = 0; i < f.n; i++) {
        const char *piece;
        size_t bytes = tokenizer_piece(k->t, token_at(&f, i), true, &piece);
        assert_true(bytes > 0 && at + bytes <= n && memcmp(text + at, piece, bytes) == 0);
        at += bytes;
    }
    assert_int_equal(at, n);
    token_file_close(&f);
    free(text);
}

static void token_files_are_made_once(void **state)
{
    struct scratch *s = *state;
    struct tokens k = {.t = make_tokenizer(300), .path = at(s, "prose.tokens", "")};
    struct pool *pool;
    struct token_file f;
    cadre_error e = {0};
    assert_ok(pool_new(&pool, 2, &e), e);
    write_random_text(s->prose, 5 << 19, 1); /* three pieces */
    FILE *more = fopen(s->prose, "a");
    fputs("<|endoftext|>the end", more);
    fclose(more);
    assert_ok(make(s, &k, 11, pool, &e), e);
    assert_true(k.told > 0);
    assert_holds_text(s, &k, 2);
    assert_ok(token_file_open(&f, k.path, 300, &e), e);
    uint64_t stamp = f.stamp;
    int64_t n = f.n;
    int ends = 0;
    for (int64_t i = 0; i < f.n; i++)
        ends += token_at(&f, i) == 0;
    assert_int_equal(ends, 1); /* the special text became its token */
    token_file_close(&f);

    assert_ok(make(s, &k, 11, pool, &e), e);
    assert_int_equal(k.told, 0); /* kept */
    assert_ok(make(s, &k, 12, pool, &e), e);
    assert_true(k.told > 0); /* another vocabulary */
    assert_ok(token_file_open(&f, k.path, 300, &e), e);
    assert_true(f.stamp != stamp && f.n == n);
    token_file_close(&f);

    char c[2]; /* one byte of the text changes, its length does not */
    FILE *text = fopen(s->prose, "r+");
    fseek(text, 1000, SEEK_SET);
    assert_int_equal(fread(c, 1, 1, text), 1);
    fseek(text, 1000, SEEK_SET);
    fputc(c[0] == 'x' ? 'y' : 'x', text);
    fclose(text);
    assert_ok(make(s, &k, 12, NULL, &e), e);
    assert_true(k.told > 0);
    assert_holds_text(s, &k, 2);

    k.refuse = true;
    assert_fails(make(s, &k, 13, pool, &e), CADRE_E_CANCELLED, &e, "prose.txt");
    assert_holds_text(s, &k, 2); /* the old file is whole */
    pool_free(pool);
    tokenizer_free(k.t);
}

static void patch(const char *path, long offset, const void *bytes, size_t n)
{
    FILE *f = fopen(path, "r+b");
    assert_non_null(f);
    assert_int_equal(fseek(f, offset, SEEK_SET), 0);
    assert_int_equal(fwrite(bytes, 1, n, f), n);
    fclose(f);
}

static void damaged_token_files_are_refused(void **state)
{
    struct scratch *s = *state;
    struct tokens k = {.t = make_tokenizer(300), .path = at(s, "prose.tokens", "")};
    struct token_file f;
    cadre_error e = {0};
    size_t n;
    assert_ok(make(s, &k, 11, NULL, &e), e);
    char *good = slurp(k.path, &n);
    uint64_t many = UINT64_MAX / 2 + 30;
    uint32_t width = 3;
    uint16_t id = 300;

    write_text(k.path, good, n - 1);
    assert_fails(token_file_open(&f, k.path, 300, &e), CADRE_E_FORMAT, &e, "delete it and it is made anew");
    write_text(k.path, good, 20);
    assert_fails(token_file_open(&f, k.path, 300, &e), CADRE_E_IO, &e, k.path);
    write_text(k.path, good, n);
    patch(k.path, 0, "GGUF", 4);
    assert_fails(token_file_open(&f, k.path, 300, &e), CADRE_E_FORMAT, &e, "not a token file");
    write_text(k.path, good, n);
    patch(k.path, 12, &width, sizeof width);
    assert_fails(token_file_open(&f, k.path, 300, &e), CADRE_E_FORMAT, &e, "tokens of 3 bytes");
    write_text(k.path, good, n);
    patch(k.path, 16, &many, sizeof many); /* a product that wraps around */
    assert_fails(token_file_open(&f, k.path, 300, &e), CADRE_E_FORMAT, &e, "expected");
    write_text(k.path, good, n);
    patch(k.path, (long)n - 2, &id, sizeof id);
    assert_fails(token_file_open(&f, k.path, 300, &e), CADRE_E_FORMAT, &e, "is 300, the vocabulary has 300");
    assert_null(f.map);
    write_text(k.path, good, n);
    assert_ok(token_file_open(&f, k.path, 300, &e), e);
    token_file_close(&f);
    free(good);
    tokenizer_free(k.t);
}

static void texts_are_checked(void **state)
{
    struct scratch *s = *state;
    struct tokens k = {.t = make_tokenizer(300), .path = at(s, "prose.tokens", "")};
    cadre_error e = {0};
    write_text(s->prose, "", 0);
    assert_fails(make(s, &k, 1, NULL, &e), CADRE_E_FORMAT, &e, "found an empty file");
    remove(s->prose);
    assert_fails(make(s, &k, 1, NULL, &e), CADRE_E_IO, &e, s->prose);
    assert_int_not_equal(access(k.path, F_OK), 0);
    tokenizer_free(k.t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(permute_is_a_permutation),
        cmocka_unit_test(permutations_differ_by_key),
        cmocka_unit_test(windows_are_mixed_by_weight),
        cmocka_unit_test(every_window_comes_once_an_epoch),
        cmocka_unit_test(order_goes_on_from_its_state),
        cmocka_unit_test(domains_without_weight_are_held_out),
        cmocka_unit_test(short_domains_are_refused),
        cmocka_unit_test(domains_are_named_after_files),
        cmocka_unit_test_setup_teardown(token_files_are_made_once, scratch_open, scratch_close),
        cmocka_unit_test_setup_teardown(damaged_token_files_are_refused, scratch_open, scratch_close),
        cmocka_unit_test_setup_teardown(texts_are_checked, scratch_open, scratch_close),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
