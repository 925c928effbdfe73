/* Conversations as training text: what is learnt of them, how windows are filled, what the loss is, what is refused. */
#include "train_test.h"

#include <math.h>

#include "model/model.h"
#include "train/conversations.h"
#include "train/data.h"

#define TURNS                                                                                                          \
    "[tokenizer]\nspecials = <|im_start|> <|im_end|>\nend_of_turn = <|im_end|>\nchat_template = chatml\n[train]\n"

#define USER(text) "{\"role\": \"user\", \"content\": \"" text "\"}"
#define ASSISTANT(text) "{\"role\": \"assistant\", \"content\": \"" text "\"}"
#define TALK(messages) "{\"messages\": [" messages "]}\n"

enum { SEQUENCE = 32, TALK_SEQUENCE = 64 };

/* A model with turns in its vocabulary, and what is needed to read conversations with it. */
struct talker {
    const struct scratch *s;
    struct gguf *g;
    struct tokenizer *t;
    struct conversations *c;
    char init[PATH_BYTES], talk[PATH_BYTES];
    int32_t start, end; /* of turns */
};

static void talker_open(struct talker *k, const struct scratch *s)
{
    cadre_error e = {0};
    struct run r = {.out = "base.gguf"};
    write_config(s->config, 2, TURNS);
    assert_ok(run_training(s, &r, &e), e);
    *k = (struct talker){.s = s, .start = 1, .end = 2};
    snprintf(k->init, sizeof k->init, "%s/base.gguf", s->dir);
    snprintf(k->talk, sizeof k->talk, "%s/talk.jsonl", s->dir);
    assert_ok(gguf_open(&k->g, k->init, &e), e);
    assert_ok(tokenizer_from_gguf(&k->t, k->g, &e), e);
    assert_ok(conversations_open(&k->c, k->g, k->t, &e), e);
}

static void talker_close(struct talker *k)
{
    conversations_close(k->c);
    tokenizer_free(k->t);
    gguf_close(k->g);
}

/* The text of those ids that are learnt, or of those that are not. */
static char *text_of(const struct talker *k, const uint32_t *ids, size_t n, bool learnt)
{
    int32_t *some = calloc(n + 1, sizeof *some);
    size_t m = 0, bytes;
    char *text;
    cadre_error e = {0};
    for (size_t i = 0; i < n; i++)
        if (!(ids[i] & ID_READ_ONLY) == learnt)
            some[m++] = (int32_t)(ids[i] & ID_BITS);
    assert_ok(tokenizer_decode(k->t, some, m, true, &text, &bytes, &e), e);
    free(some);
    return text;
}

static void replies_are_learnt(void **state)
{
    struct talker k;
    cadre_error e = {0};
    talker_open(&k, *state);
    static const char text[] = TALK(
        "{\"role\": \"system\", \"content\": \"Be brief.\"}, " USER("A router?") ", " ASSISTANT("It sends tokens.") //
        ", " USER("Far?") ", " ASSISTANT("Not far."))                                                               //
        "  \n" TALK(USER("here") ", " ASSISTANT("to"));
    uint32_t *ids;
    size_t n, bad, begins = 0;
    assert_ok(conversations_encode(k.c, text, sizeof text - 1, &ids, &n, &bad, &e), e);
    char *learnt = text_of(&k, ids, n, true), *read = text_of(&k, ids, n, false);
    assert_string_equal(learnt, "It sends tokens.<|im_end|>Not far.<|im_end|>to<|im_end|>");
    assert_string_equal(read, "<|im_start|>system\nBe brief.<|im_end|>\n"
                              "<|im_start|>user\nA router?<|im_end|>\n<|im_start|>assistant\n\n"
                              "<|im_start|>user\nFar?<|im_end|>\n<|im_start|>assistant\n\n<|endoftext|>"
                              "<|im_start|>user\nhere<|im_end|>\n<|im_start|>assistant\n\n<|endoftext|>");
    for (size_t i = 0; i < n; i++)
        if (ids[i] & ID_BEGINS) {
            assert_true(i == 0 || ids[i - 1] == (ID_READ_ONLY | 0));
            assert_int_equal(ids[i] & ID_BITS, k.start);
            begins++;
        }
    assert_int_equal(begins, 2);
    free(learnt);
    free(read);
    free(ids);
    talker_close(&k);
}

/* ---- what is refused ---- */

static cadre_err train_talk(const struct talker *k, const char *out, int threads, struct run *r, cadre_error *e)
{
    const char *data[] = {k->talk};
    char to[PATH_BYTES];
    snprintf(to, sizeof to, "%s/%s", k->s->dir, out);
    cadre_train_options o = cadre_train_options_default();
    o.config = k->s->config, o.data = data, o.n_data = 1, o.out = to, o.threads = threads;
    o.init = r->resume ? NULL : k->init;
    o.resume = r->resume;
    o.on_progress = run_progress, o.user = r;
    return cadre_train(&o, e);
}

#define TALK_TRAIN                                                                                                     \
    "[model]\nlayers = 2\nwidth = 32\nheads = 2\ncontext = 64\nexperts = 4\nexperts_used = 2\nexpert_ff = 16\n"        \
    "shared_ff = 16\nrouter_bias = true\n[tokenizer]\nvocab = 300\n[data]\ntalk = 1\n"                                 \
    "[train]\nsequence = 64\nfile_type = f32\n"

static void write_talk_config(const struct talker *k, const char *more)
{
    char text[2048];
    int n = snprintf(text, sizeof text, TALK_TRAIN "%s", more);
    write_text(k->s->config, text, (size_t)n);
}

static void wrong_lines_are_named(void **state)
{
    struct talker k;
    talker_open(&k, *state);
    static const struct {
        const char *text, *named;
    } rows[] = {
        {TALK(USER("a") ", " ASSISTANT("b")) "{\"messages\": [\n",
         "talk.jsonl: line 2: expected JSON, found at column"},
        {"\n\n[]\n", "talk.jsonl: line 3: expected an object {\"messages\""},
        {TALK(USER("a") ", " ASSISTANT("b")) TALK("{\"role\": 1}"),
         "line 2: message 1: expected an object with a \"role\""},
        {TALK(USER("a") ", {\"role\": \"assistant\"}"), "line 1: message 2: expected a \"content\""},
        {TALK(USER("a")), "line 1: no message has the role assistant"},
        {TALK(""), "line 1: no message has the role assistant"},
        {TALK(USER("a") ", 7"), "line 1: message 2: expected an object"},
    };
    write_talk_config(&k, "tokens = 64\nbatch_tokens = 64\nmicro_tokens = 64\nlr = 1e-3\n");
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        cadre_error e = {0};
        struct run r = {0};
        write_text(k.talk, rows[i].text, strlen(rows[i].text));
        assert_fails(train_talk(&k, "wrong.gguf", 1, &r, &e), CADRE_E_FORMAT, &e, rows[i].named);
    }
    talker_close(&k);
}

static void lines_are_counted_over_pieces(void **state)
{
    struct talker k;
    cadre_error e = {0};
    struct run r = {0};
    static const char good[] = TALK(USER("a") ", " ASSISTANT("b"));
    enum { LINES = 30000 }; /* two pieces of 1 MiB and the beginning of a third */
    talker_open(&k, *state);
    FILE *f = fopen(k.talk, "wb");
    for (int i = 0; i < LINES; i++)
        fputs(good, f);
    fputs("{}\n", f);
    fclose(f);
    assert_true(LINES * (sizeof good - 1) > 2 << 20);
    write_talk_config(&k, "tokens = 64\nbatch_tokens = 64\nmicro_tokens = 64\nlr = 1e-3\n");
    assert_fails(train_talk(&k, "wrong.gguf", 2, &r, &e), CADRE_E_FORMAT, &e, "talk.jsonl: line 30001: expected");
    talker_close(&k);
}

static void templates_that_rewrite_are_refused(void **state)
{
    struct talker k;
    cadre_error e = {0};
    struct run r = {0};
    talker_open(&k, *state);
    /* What the assistant said before the last message is left out. */
    static const char source[] = "{% for m in messages %}{% if m.role == 'user' or loop.last %}{{ m.content }}\n"
                                 "{% endif %}{% endfor %}";
    static const char talk[] = TALK(USER("a") ", " ASSISTANT("b") ", " USER("c") ", " ASSISTANT("d"));
    write_text(at(k.s, "rewrites", ".jinja"), source, sizeof source - 1);
    write_text(k.talk, talk, sizeof talk - 1);
    write_talk_config(&k, "tokens = 64\nbatch_tokens = 64\nmicro_tokens = 64\nlr = 1e-3\n"
                          "[tokenizer]\nchat_template = rewrites.jinja\n");
    assert_fails(train_talk(&k, "wrong.gguf", 1, &r, &e), CADRE_E_UNSUPPORTED, &e,
                 "line 1: message 2: the chat template");
    talker_close(&k);
}

static void templates_and_vocabularies_are_needed(void **state)
{
    struct scratch *s = *state;
    struct talker k;
    cadre_error e = {0};
    struct run r = {.out = "plain.gguf"};
    static const char talk[] = TALK(USER("a") ", " ASSISTANT("b"));
    talker_open(&k, s);
    write_text(k.talk, talk, sizeof talk - 1);
    write_config(s->config, 1, "");
    assert_ok(run_training(s, &r, &e), e);
    snprintf(k.init, sizeof k.init, "%s/plain.gguf", s->dir);
    write_talk_config(&k, "tokens = 64\nbatch_tokens = 64\nmicro_tokens = 64\nlr = 1e-3\n");
    r = (struct run){0};
    assert_fails(train_talk(&k, "wrong.gguf", 1, &r, &e), CADRE_E_ARG, &e, "name one as [tokenizer] chat_template");
    const char *data[] = {k.talk};
    cadre_train_options o = cadre_train_options_default();
    o.config = s->config, o.data = data, o.n_data = 1, o.out = at(s, "none.gguf", ""), o.threads = 1;
    assert_fails(cadre_train(&o, &e), CADRE_E_ARG, &e, "a vocabulary is trained on plain texts");
    talker_close(&k);
}

/* ---- windows ---- */

/* A marked file of conversations of the given lengths; ids count up, the first half of each is read only. */
enum { MAX_IDS = 4096 };
struct marked {
    uint32_t ids[MAX_IDS];
    int owner[MAX_IDS];
    struct domain d;
    struct sampler s;
};

static void marked_open(struct marked *m, const int *length, int n, double heldout)
{
    cadre_error e = {0};
    int64_t at = 0;
    for (int c = 0; c < n; c++)
        for (int i = 0; i < length[c]; i++, at++) {
            m->owner[at] = c;
            m->ids[at] = (uint32_t)at | (i == 0 ? ID_BEGINS : 0) | (i < length[c] / 2 ? ID_READ_ONLY : 0);
        }
    m->d = (struct domain){.weight = 1, .file = {.ids = m->ids, .width = 4, .n = at, .marked = true}};
    strcpy(m->d.name, "talk");
    assert_ok(sampler_init(&m->s, &m->d, 1, SEQUENCE, heldout, 5, &e), e);
}

static void windows_hold_whole_conversations(void **state)
{
    (void)state;
    static struct marked m;
    static const int length[] = {10, 12, 11, 9, 33, 31, 2, 40, 75, 8, 8, 16, 17, 20};
    enum { N = sizeof length / sizeof *length };
    marked_open(&m, length, N, 0);
    int times[MAX_IDS] = {0};
    assert_int_equal(m.d.n_heldout, 0);
    for (int64_t w = 0; w < m.d.n_windows; w++) {
        int32_t token[SEQUENCE], target[SEQUENCE];
        sampler_next(&m.s, 1, token, target);
        /* A window begins with a conversation, or goes on with one that is longer than a window. */
        int64_t first = token[0];
        assert_true(m.ids[first] & ID_BEGINS || length[m.owner[first]] > SEQUENCE + 1);
        for (int64_t j = 0; j < SEQUENCE; j++) {
            assert_int_equal(token[j], (first + j) % m.d.file.n);
            if (target[j] < 0)
                continue;
            assert_int_equal(target[j], first + j + 1);
            assert_false(m.ids[target[j]] & ID_READ_ONLY);
            /* All that leads to what is learnt is in the window, if it can be. */
            int c = m.owner[target[j]];
            int64_t begin = target[j];
            while (begin > 0 && m.owner[begin - 1] == c)
                begin--;
            assert_true(begin >= first || length[c] > SEQUENCE + 1);
            times[target[j]]++;
        }
    }
    for (int64_t i = 0; i < m.d.file.n; i++)
        assert_int_equal(times[i], !(m.ids[i] & ID_READ_ONLY)); /* once an epoch */
    sampler_close(&m.s);
}

static void heldout_conversations_are_not_trained(void **state)
{
    (void)state;
    static struct marked m;
    int length[60];
    for (int i = 0; i < 60; i++)
        length[i] = 7 + i * 13 % 11;
    marked_open(&m, length, 60, 0.25);
    assert_true(m.d.n_windows > 10 && m.d.n_heldout > 3);
    int32_t token[SEQUENCE], target[SEQUENCE];
    int32_t last = 0, first = MAX_IDS;
    for (int64_t w = 0; w < m.d.n_windows; w++) {
        sampler_next(&m.s, 1, token, target);
        for (int j = 0; j < SEQUENCE; j++)
            last = target[j] > last ? target[j] : last;
    }
    for (int64_t w = 0; w < m.d.n_heldout; w++) {
        sampler_heldout(&m.s, 0, w, token, target);
        for (int j = 0; j < SEQUENCE; j++)
            first = target[j] >= 0 && target[j] < first ? target[j] : first;
    }
    assert_true(last < first && last < m.d.n_train && first > m.d.file.n / 2);
    sampler_close(&m.s);
}

static void plain_text_beside_conversations(void **state)
{
    struct talker k;
    struct token_file f;
    cadre_error e = {0};
    static const char talk[] = TALK(USER("a") ", " ASSISTANT("b")), prose[] = "one<|endoftext|>two<|endoftext|>three";
    talker_open(&k, *state);
    write_text(k.talk, talk, sizeof talk - 1);
    write_text(k.s->prose, prose, sizeof prose - 1);
    struct token_maker by = {k.t, k.c, 5};
    const char *texts[] = {k.s->prose, k.talk};
    char path[PATH_BYTES];
    snprintf(path, sizeof path, "%s/mixed.tokens", k.s->dir);
    assert_ok(token_file_make(path, texts, 2, &by, NULL, NULL, &e), e);
    assert_ok(token_file_open(&f, path, 300, &e), e);
    int begins = 0, learnt = 0, plain = 0;
    for (int64_t i = 0; i < f.n; i++) {
        begins += (token_flags(&f, i) & ID_BEGINS) != 0;
        learnt += !(token_flags(&f, i) & ID_READ_ONLY);
        plain += begins < 4;
    }
    assert_true(f.marked && begins == 4); /* three documents and a conversation */
    assert_int_equal(learnt, plain + 2);  /* all of the documents, "b" and its end */
    uint64_t stamp = f.stamp;
    token_file_close(&f);
    /* The same bytes as plain text are other data. */
    char copy[PATH_BYTES];
    snprintf(copy, sizeof copy, "%s/talk.txt", k.s->dir);
    write_text(copy, talk, sizeof talk - 1);
    texts[1] = copy;
    assert_ok(token_file_make(path, texts, 2, &by, NULL, NULL, &e), e);
    assert_ok(token_file_open(&f, path, 300, &e), e);
    assert_true(!f.marked && f.width == 2 && f.stamp != stamp);
    token_file_close(&f);
    talker_close(&k);
}

/* ---- loss ---- */

/* Six conversations, none of which leaves room for another in a window, with replies of different lengths. */
static const char *const talks[] = {
    TALK(USER("The Router?") ", " ASSISTANT("sends tokens to an expert and")),
    TALK(USER("Its weight, tells how far?") ", " ASSISTANT("counts")),
    TALK(USER("Why?") ", " ASSISTANT("The router sends tokens to an Expert.")),
    TALK(USER("And its weight tells how?") ", " ASSISTANT("far")),
    TALK(USER("An Expert?") ", " ASSISTANT("and its weight tells how far it")),
    TALK(USER("it counts here") ", " ASSISTANT("the router") ", " USER("to") ", " ASSISTANT("an")),
};
enum { TALKS = sizeof talks / sizeof *talks };

static void write_talks(const struct talker *k)
{
    FILE *f = fopen(k->talk, "wb");
    for (int i = 0; i < TALKS; i++)
        fputs(talks[i], f);
    fclose(f);
}

/* Σ -log p and the number of what the assistant says in ids [n], by its definition: between "<|im_start|>assistant\n"
 * and the end of the turn, that included. */
static double loss_by_hand(const struct talker *k, struct model *m, const int32_t *ids, int64_t n, int64_t *count)
{
    static const char opening[] = "<|im_start|>assistant\n";
    struct kernels kernels;
    struct cpu cpu;
    struct arena arena;
    cadre_error e = {0};
    int32_t *head, position[256];
    size_t n_head;
    const int64_t row_start[] = {0, n};
    cpu_detect(&cpu);
    kernels_init(&kernels, &cpu, ISA_GENERIC);
    assert_ok(arena_init(&arena, 64 << 20, &e), e);
    assert_ok(tokenizer_encode(k->t, opening, sizeof opening - 1, TOKENIZE_SPECIAL, &head, &n_head, &e), e);
    for (int32_t i = 0; i < n; i++)
        position[i] = i;
    struct op_ctx c = {.k = &kernels, .arena = &arena, .precision = GEMM_F32};
    struct batch b = {.n_tok = n, .n_seq = 1, .token = ids, .position = position, .row_start = row_start};
    struct tensor *logits = model_forward(&c, m, &b, &e);
    assert_non_null(logits);
    double sum = 0;
    int64_t d = tensor_cols(logits);
    for (int64_t i = (int64_t)n_head; i < n; i++) {
        if (memcmp(ids + i - n_head, head, n_head * sizeof *head) != 0)
            continue;
        for (bool more = true; more && i < n; i++, ++*count) {
            const real *x = logits->x + (i - 1) * d;
            double z = 0;
            for (int64_t j = 0; j < d; j++)
                z += exp((double)x[j]);
            sum += log(z) - (double)x[ids[i]];
            more = ids[i] != k->end;
        }
    }
    free(head);
    arena_destroy(&arena);
    return sum;
}

/* The loss of a step of all six, in three micro-batches with unlike numbers of targets, is the mean over the targets.
 */
static void loss_is_that_of_the_replies(void **state)
{
    struct talker k;
    struct model *m;
    cadre_error e = {0};
    double sum = 0;
    int64_t count = 0;
    talker_open(&k, *state);
    write_talks(&k);
    assert_ok(model_open_params(&m, k.g, false, &e), e);
    for (int i = 0; i < TALKS; i++) {
        uint32_t *marked;
        int32_t ids[256];
        size_t n, bad;
        assert_ok(conversations_encode(k.c, talks[i], strlen(talks[i]), &marked, &n, &bad, &e), e);
        if (n <= TALK_SEQUENCE / 2 || n > TALK_SEQUENCE + 1) /* a window of its own */
            fail_msg("conversation %d has %zu tokens", i, n);
        for (size_t j = 0; j < n; j++)
            ids[j] = (int32_t)(marked[j] & ID_BITS);
        sum += loss_by_hand(&k, m, ids, (int64_t)n, &count);
        free(marked);
    }
    model_free(m);
    static const char *const micro[] = {"micro_tokens = 128\n", "micro_tokens = 384\n", "micro_tokens = 64\n"};
    double norm[3];
    for (int i = 0; i < 3; i++) {
        char more[256], out[32];
        struct run r = {0};
        snprintf(more, sizeof more,
                 "tokens = 384\nbatch_tokens = 384\nlr = 1e-3\nprecision = f32\nbalance = none\nz_weight = 0\n%s"
                 "[data]\nheldout = 0\n",
                 micro[i]);
        snprintf(out, sizeof out, "loss%d.gguf", i);
        write_talk_config(&k, more);
        assert_ok(train_talk(&k, out, 1, &r, &e), e);
        if (fabs(r.first_loss - sum / (double)count) > 1e-5)
            fail_msg("expected a loss of %.7f, the mean over %lld tokens, found %.7f", sum / (double)count,
                     (long long)count, r.first_loss);
        norm[i] = r.first_norm;
    }
    assert_true(fabs(norm[1] - norm[0]) < 1e-5 * norm[0] && fabs(norm[2] - norm[0]) < 1e-5 * norm[0]);
    talker_close(&k);
}

/* What was learnt is what a chat with the finished file hears: same template, same tokens, and it stops by itself. */
static void a_chat_hears_what_was_learnt(void **state)
{
    struct talker k;
    cadre_error e = {0};
    cadre_model *m;
    cadre_chat *chat;
    talker_open(&k, *state);
    write_talks(&k);
    write_talk_config(&k, "tokens = 57600\nbatch_tokens = 384\nmicro_tokens = 128\nlr = 1e-2\n[data]\nheldout = 0\n");
    struct run r = {0};
    assert_ok(train_talk(&k, "taught.gguf", 2, &r, &e), e);
    assert_true(r.last_loss < 0.1);
    cadre_model_options o = cadre_model_options_default();
    assert_ok(cadre_model_open(&m, at(k.s, "taught.gguf", ""), &o, &e), e);
    cadre_generate_options g = cadre_generate_options_default();
    g.temperature = 0, g.max_tokens = 40, g.hide_special = true;
    assert_ok(cadre_chat_open(&chat, m, &g, &e), e);
    static const struct {
        const char *messages, *reply;
    } rows[] = {
        {"[" USER("Why?") "]", "The router sends tokens to an Expert."},
        {"[" USER("An Expert?") "]", "and its weight tells how far it"},
        {"[" USER("it counts here") ", " ASSISTANT("the router") ", " USER("to") "]", "an"},
    };
    cadre_chat_options co = cadre_chat_options_default();
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        cadre_generation reply = {0};
        assert_ok(cadre_chat_reply(chat, rows[i].messages, NULL, &co, &g, &reply, &e), e);
        assert_string_equal(reply.text, rows[i].reply);
        cadre_generation_free(&reply);
    }
    cadre_chat_close(chat);
    cadre_model_close(m);
    talker_close(&k);
}

/* Two threads, and stopping in between, change no byte; and a model learns to answer. */
static void runs_repeat_and_learn(void **state)
{
    struct talker k;
    cadre_error e = {0};
    talker_open(&k, *state);
    write_talks(&k);
    write_talk_config(&k, "tokens = 11520\nbatch_tokens = 384\nmicro_tokens = 128\nlr = 1e-2\n[data]\nheldout = 0\n");
    struct run one = {0}, two = {.stop_at = 7};
    assert_ok(train_talk(&k, "one.gguf", 1, &one, &e), e);
    assert_true(one.last_loss < 0.5 * one.first_loss);
    assert_fails(train_talk(&k, "two.gguf", 2, &two, &e), CADRE_E_CANCELLED, &e, "--resume");
    two = (struct run){.resume = true};
    assert_ok(train_talk(&k, "two.gguf", 1, &two, &e), e);
    assert_same_file(at(k.s, "one.gguf", ""), at(k.s, "two.gguf", ""));
    assert_same_log(at(k.s, "one.gguf", ".log.jsonl"), at(k.s, "two.gguf", ".log.jsonl"));
    talker_close(&k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(replies_are_learnt, scratch_open, scratch_close),
        cmocka_unit_test_setup_teardown(wrong_lines_are_named, scratch_open, scratch_close),
        cmocka_unit_test_setup_teardown(lines_are_counted_over_pieces, scratch_open, scratch_close),
        cmocka_unit_test_setup_teardown(templates_that_rewrite_are_refused, scratch_open, scratch_close),
        cmocka_unit_test_setup_teardown(templates_and_vocabularies_are_needed, scratch_open, scratch_close),
        cmocka_unit_test(windows_hold_whole_conversations),
        cmocka_unit_test(heldout_conversations_are_not_trained),
        cmocka_unit_test_setup_teardown(plain_text_beside_conversations, scratch_open, scratch_close),
        cmocka_unit_test_setup_teardown(loss_is_that_of_the_replies, scratch_open, scratch_close),
        cmocka_unit_test_setup_teardown(a_chat_hears_what_was_learnt, scratch_open, scratch_close),
        cmocka_unit_test_setup_teardown(runs_repeat_and_learn, scratch_open, scratch_close),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
