/* fuzz_seeds FOLDER: write the first inputs of every target into FOLDER/<target>/. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <string.h>
#include <sys/stat.h>

#include "file/raw.h"
#include "file/safetensors.h"
#include "text/json_samples.h"

static char path[4096];

static const char *seed(const char *folder, const char *target, const char *name)
{
    snprintf(path, sizeof path, "%s/%s", folder, target);
    mkdir(path, 0777);
    snprintf(path, sizeof path, "%s/%s/%s", folder, target, name);
    return path;
}

static void check(cadre_err rc, const cadre_error *e)
{
    if (rc != CADRE_OK) {
        fprintf(stderr, "fuzz_seeds: %s\n", e->text);
        exit(1);
    }
}

static void write_bytes(const char *name, const void *p, size_t n)
{
    FILE *f = fopen(name, "wb");
    if (!f || fwrite(p, 1, n, f) != n || fclose(f) != 0) {
        perror(name);
        exit(1);
    }
}

static void gguf_seeds(const char *folder)
{
    struct raw r;
    raw_sample(&r, 3);
    write_bytes(seed(folder, "gguf", "every-type"), r.b, r.n);
    raw_head(&r, 3, 0, 0);
    write_bytes(seed(folder, "gguf", "empty"), r.b, r.n);
    raw_head(&r, 2, 1, 1);
    raw_scalar(&r, "k", GGUF_U8, RAW_VALUE(uint8_t, 1));
    raw_tensor(&r, "t", 1, (uint64_t[]){1}, 0, 0);
    raw_align(&r, 32);
    r.n += 4;
    write_bytes(seed(folder, "gguf", "one"), r.b, r.n);
}

static void safetensors_seeds(const char *folder)
{
    struct safetensors_writer *w;
    cadre_error e = {0};
    check(safetensors_writer_open(&w, seed(folder, "safetensors", "two"), &e), &e);
    check(safetensors_put_metadata(w, "note", "a", &e), &e);
    check(safetensors_put(w, "w", DTYPE_F32, 2, (int64_t[]){2, 2}, &e), &e);
    check(safetensors_put(w, "e", DTYPE_I8, 1, (int64_t[]){0}, &e), &e);
    check(safetensors_put(w, "b", DTYPE_BF16, 1, (int64_t[]){3}, &e), &e);
    check(safetensors_write_begin(w, &e), &e);
    check(safetensors_write(w, (float[]){1, 2, 3, 4}, 16, &e), &e);
    check(safetensors_write(w, (uint16_t[]){1, 2, 3}, 6, &e), &e);
    check(safetensors_writer_commit(w, &e), &e);
}

static void tokenizer_seeds(const char *folder)
{
    static const char *const samples[][2] = {
        {"spm", SPM}, {"added", ADDED}, {"unigram", UNIGRAM}, {"wordpiece", WORDPIECE}, {"byte-level", BYTE_LEVEL}};
    for (size_t i = 0; i < sizeof samples / sizeof *samples; i++)
        write_bytes(seed(folder, "tokenizer_json", samples[i][0]), samples[i][1], strlen(samples[i][1]));
}

static void template_seeds(const char *folder)
{
    static const char *const templates[] = {
        "{%- for m in messages %}\n<|{{ m.role }}|>{{ m['content'] | trim }}{% endfor -%}\n{# c #}",
        "{% macro f(a, b=2) %}{{ a ~ b }}{{ caller() }}{% endmacro %}{% call f(n) %}x{% endcall %}",
        "{% set ns = namespace(x=[]) %}{% for a, b in {'k': 1}.items() if b %}{% set ns.x = ns.x + [a] %}{% else %}{% "
        "break %}"
        "{% endfor %}{{ ns.x | tojson(indent=2) }}",
        "{{ s.split(', ')[::-1] | join('-') }}{{ '%5.2f|%s' % (n, s) }}{{ '{:>5}'.format(n) }}{{ n ** 2 // 3 - -1 }}",
        "{% raw %}{{{% endraw %}{% filter upper %}a{% endfilter %}{% with a = 1 %}{{ a is odd and a in [1] }}{% "
        "endwith %}",
        "{{ messages | selectattr('role', 'equalto', 'user') | map(attribute='content') | list | length if n else none "
        "}}",
    };
    char name[16];
    for (size_t i = 0; i < sizeof templates / sizeof *templates; i++) {
        snprintf(name, sizeof name, "%zu", i);
        write_bytes(seed(folder, "template", name), templates[i], strlen(templates[i]));
    }
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: fuzz_seeds FOLDER\n");
        return 1;
    }
    mkdir(argv[1], 0777);
    gguf_seeds(argv[1]);
    template_seeds(argv[1]);
    safetensors_seeds(argv[1]);
    tokenizer_seeds(argv[1]);
    return 0;
}
