/* `encode_lines TOKENIZER [add] <TEXTS`: reads texts, each as a line "N" (bytes) and the bytes with a line end after
 * them, and prints the ids of each on a line. TOKENIZER is a GGUF file or a tokenizer.json. Special text is matched, as
 * other tokenizers do; `add`: with the tokens around a text. Texts whose tokens do not decode to them are counted. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "file/gguf.h"
#include "model/model.h"
#include "text/tokenizer.h"

static void must(cadre_err rc, const cadre_error *err)
{
    if (rc) {
        fprintf(stderr, "%s\n", err->text);
        exit(1);
    }
}

static struct tokenizer *open_tokenizer(const char *path)
{
    struct tokenizer *t;
    cadre_error err = {0};
    if (tokenizer_json_is(path)) {
        must(tokenizer_from_json(&t, path, 0, &err), &err);
        return t;
    }
    struct gguf *g;
    must(gguf_open(&g, path, &err), &err);
    must(tokenizer_from_gguf(&t, g, &err), &err);
    gguf_close(g);
    return t;
}

static bool comes_back(const struct tokenizer *t, const int32_t *ids, size_t n_ids, const char *text, size_t n)
{
    char *back;
    size_t n_back;
    cadre_error err = {0};
    must(tokenizer_decode(t, ids, n_ids, true, &back, &n_back, &err), &err);
    bool same = n == n_back && memcmp(text, back, n) == 0;
    free(back);
    return same;
}

int main(int argc, char **argv)
{
    if (argc < 2)
        return 2;
    struct tokenizer *t = open_tokenizer(argv[1]);
    unsigned flags = TOKENIZE_SPECIAL | (argc > 2 && strcmp(argv[2], "add") == 0 ? TOKENIZE_ADD : 0);
    unsigned long n, changed = 0;
    while (scanf("%lu", &n) == 1 && n < 1ul << 30) {
        char *text = malloc(n + 1);
        if (!text || getchar() != '\n' || fread(text, 1, n, stdin) != n)
            return 2;
        int32_t *ids;
        size_t n_ids;
        cadre_error err = {0};
        must(tokenizer_encode(t, text, n, flags, &ids, &n_ids, &err), &err);
        for (size_t i = 0; i < n_ids; i++)
            printf("%s%d", i ? "," : "", ids[i]);
        putchar('\n');
        changed += !comes_back(t, ids, n_ids, text, n);
        free(ids);
        free(text);
    }
    fprintf(stderr, "%lu\n", changed);
    tokenizer_free(t);
    return 0;
}
