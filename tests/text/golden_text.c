/* Holds a tokenizer to the golden suite: `golden_text FILE.gguf[.gz]… e2e.jsonl`. Beside each vocabulary lie
 * FILE.gguf.inp and .out (texts and their ids), and for some nasty-NAME.jsonl. */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <jansson.h>

#include "base/fileio.h"
#include "file/gguf.h"
#include "model/model.h"
#include "text/tokenizer.h"

static int failures;

#define REQUIRE(cond, ...)                                                                                             \
    do {                                                                                                               \
        if (!(cond)) {                                                                                                 \
            fprintf(stderr, __VA_ARGS__);                                                                              \
            exit(1);                                                                                                   \
        }                                                                                                              \
    } while (0)

static void *take(void *p)
{
    REQUIRE(p, "no memory\n");
    return p;
}

static struct tokenizer *load(const char *path)
{
    struct gguf *g = NULL;
    struct tokenizer *out = NULL;
    cadre_error err = {0};
    REQUIRE(!gguf_open(&g, path, &err), "%s\n", err.text);
    REQUIRE(!tokenizer_from_gguf(&out, g, &err), "%s: %s\n", path, err.text);
    gguf_close(g);
    return out;
}

static bool decodes_to(const struct tokenizer *t, const int32_t *ids, size_t n, const char *text, size_t n_text)
{
    char *got;
    size_t n_got;
    cadre_error err = {0};
    REQUIRE(!tokenizer_decode(t, ids, n, true, &got, &n_got, &err), "%s\n", err.text);
    bool same = n_got == n_text && memcmp(got, text, n_text) == 0;
    free(got);
    return same;
}

/* Encode and compare; `want` is ids as text, separated by blanks. */
static void check(const struct tokenizer *t, const char *what, const char *text, size_t n, unsigned flags,
                  const char *want, bool round_trip)
{
    cadre_error err = {0};
    int32_t *ids;
    size_t n_ids;
    REQUIRE(!tokenizer_encode(t, text, n, flags, &ids, &n_ids, &err), "%s: %s\n", what, err.text);
    char *got = take(malloc(12 * n_ids + 1)), *end = got;
    *end = 0;
    for (size_t i = 0; i < n_ids; i++)
        end += sprintf(end, " %d", ids[i]);
    if (want && strcmp(got, want) != 0) {
        fprintf(stderr, "%s flags %u: text '%.*s'\n   expected%s\n   found   %s\n", what, flags, (int)n, text, want,
                got);
        failures++;
    }
    if (round_trip && !decodes_to(t, ids, n_ids, text, n)) {
        fprintf(stderr, "%s flags %u: text '%.*s' is not what its tokens decode to:%s\n", what, flags, (int)n, text,
                got);
        failures++;
    }
    free(got);
    free(ids);
}

static char *slurp(const char *path, size_t *n)
{
    char *text = NULL;
    cadre_error err = {0};
    REQUIRE(!file_slurp(path, 1 << 26, &text, n, &err), "%s\n", err.text);
    return text;
}

/* NAME.gguf.inp holds texts between separators, NAME.gguf.out a line of ids for each. */
static int check_pairs(const struct tokenizer *t, const char *stem)
{
    static const char separator[] = "\n__ggml_vocab_test__\n";
    char path[4096];
    size_t n_in, n_out;
    int n = 0;
    snprintf(path, sizeof path, "%s.gguf.inp", stem);
    char *in = slurp(path, &n_in);
    snprintf(path, sizeof path, "%s.gguf.out", stem);
    char *out = slurp(path, &n_out), *line = out;
    for (char *text = in, *end; (end = strstr(text, separator)); text = end + sizeof separator - 1, n++) {
        char *eol = strchr(line, '\n');
        REQUIRE(eol, "%s has fewer lines than there are texts\n", path);
        *eol = 0;
        check(t, path, text, (size_t)(end - text), 0, line, true);
        line = eol + 1;
    }
    free(in);
    free(out);
    return n;
}

static void check_ids(const struct tokenizer *t, const char *what, const json_t *record, const char *key,
                      const char *text, size_t n, unsigned flags)
{
    const json_t *ids = json_object_get(record, key);
    size_t count = json_array_size(ids);
    char *want = take(malloc(24 * count + 1)), *end = want;
    *end = 0;
    for (size_t i = 0; i < count; i++)
        end += sprintf(end, " %lld", (long long)json_integer_value(json_array_get(ids, i)));
    bool round_trip = flags == TOKENIZE_SPECIAL && json_is_true(json_object_get(record, "roundtrip"));
    check(t, what, text, n, flags, want, round_trip);
    free(want);
}

/* Bytes that are not UTF-8: other engines replace them, so that the ids differ; they must be survived, and where the
 * vocabulary has all bytes they must come back. */
static void check_hex(const struct tokenizer *t, const char *what, const char *hex, bool all_bytes)
{
    char bytes[64];
    size_t n = strlen(hex) / 2;
    REQUIRE(n <= sizeof bytes, "%s: record too long\n", what);
    for (size_t i = 0; i < n; i++) {
        unsigned byte;
        REQUIRE(sscanf(hex + 2 * i, "%2x", &byte) == 1, "%s: not hexadecimal: %s\n", what, hex);
        bytes[i] = (char)byte;
    }
    check(t, what, bytes, n, TOKENIZE_SPECIAL, NULL, all_bytes);
}

static int check_nasty(const struct tokenizer *t, const char *stem)
{
    const char *name = strstr(stem, "ggml-vocab-");
    char path[4096];
    int n = 0;
    snprintf(path, sizeof path, "%.*snasty-%s.jsonl", (int)(name - stem), stem, name + strlen("ggml-vocab-"));
    if (access(path, R_OK) != 0)
        return 0;
    size_t size;
    char *lines = slurp(path, &size);
    bool all_bytes = !strstr(name, "deepseek"); /* trained on valid text */
    for (char *line = lines, *eol; (eol = strchr(line, '\n')); line = eol + 1, n++) {
        json_error_t why;
        json_t *record = json_loadb(line, (size_t)(eol - line), JSON_ALLOW_NUL, &why);
        REQUIRE(record, "%s: %s\n", path, why.text);
        const json_t *text = json_object_get(record, "text");
        if (text) {
            const char *p = json_string_value(text);
            size_t len = json_string_length(text);
            check_ids(t, path, record, "ids", p, len, 0);
            check_ids(t, path, record, "ids_parse_special", p, len, TOKENIZE_SPECIAL);
            check_ids(t, path, record, "ids_add_special", p, len, TOKENIZE_SPECIAL | TOKENIZE_ADD);
        } else {
            check_hex(t, path, json_string_value(json_object_get(record, "hex")), all_bytes);
        }
        json_decref(record);
    }
    free(lines);
    return n;
}

/* e2e.jsonl: prompts and their ids for models beside it; special text matched, BOS as the vocabulary says. */
static void check_prompts(const char *path)
{
    size_t size;
    char *lines = slurp(path, &size);
    const char *slash = strrchr(path, '/');
    int n = 0;
    for (char *line = lines, *eol; (eol = strchr(line, '\n')); line = eol + 1, n++) {
        char model[4096];
        json_error_t why;
        json_t *record = json_loadb(line, (size_t)(eol - line), JSON_ALLOW_NUL, &why);
        REQUIRE(record, "%s: %s\n", path, why.text);
        snprintf(model, sizeof model, "%.*s%s", slash ? (int)(slash + 1 - path) : 0, path,
                 json_string_value(json_object_get(record, "model")));
        struct tokenizer *t = load(model);
        const json_t *prompt = json_object_get(record, "prompt");
        check_ids(t, model, record, "ids", json_string_value(prompt), json_string_length(prompt),
                  TOKENIZE_SPECIAL | TOKENIZE_ADD);
        tokenizer_free(t);
        json_decref(record);
    }
    REQUIRE(n > 0, "%s: no prompts\n", path);
    printf("%s: %d prompts\n", path, n);
    free(lines);
}

/* A .gz is unpacked beside nothing else: into a temporary file, whose name goes to `plain`. */
static void unpack(const char *path, char *plain)
{
    strcpy(plain, "/tmp/cadre-vocab-XXXXXX");
    int fd = mkstemp(plain);
    REQUIRE(fd >= 0, "cannot make a temporary file\n");
    close(fd);
    char command[8192];
    snprintf(command, sizeof command, "gzip -dc '%s' > '%s'", path, plain);
    REQUIRE(system(command) == 0, "cannot unpack %s\n", path);
}

int main(int argc, char **argv)
{
    REQUIRE(argc > 1, "no vocabularies given\n");
    for (int i = 1; i < argc; i++) {
        char plain[64] = "", stem[2048];
        if (strstr(argv[i], ".jsonl")) {
            check_prompts(argv[i]);
            continue;
        }
        const char *suffix = strstr(argv[i], ".gguf");
        REQUIRE(suffix, "%s is no GGUF file\n", argv[i]);
        snprintf(stem, sizeof stem, "%.*s", (int)(suffix - argv[i]), argv[i]);
        if (strcmp(suffix, ".gguf.gz") == 0)
            unpack(argv[i], plain);
        struct tokenizer *t = load(*plain ? plain : argv[i]);
        if (*plain)
            unlink(plain);
        int pairs = check_pairs(t, stem), nasty = check_nasty(t, stem);
        REQUIRE(pairs > 0, "%s: no texts\n", stem);
        printf("%s: %d texts, %d nasty\n", stem, pairs, nasty);
        tokenizer_free(t);
    }
    return failures > 0;
}
