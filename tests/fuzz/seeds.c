/* fuzz_seeds FOLDER: write the first inputs of every target into FOLDER/<target>/. */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
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

/* A Mixtral as small as can be: config.json, no index, the tensors. */
static void hf_seeds(const char *folder)
{
    static const char config[] =
        "{\"model_type\":\"mixtral\",\"vocab_size\":4,\"max_position_embeddings\":8,\"hidden_size\":4,"
        "\"num_hidden_layers\":1,\"intermediate_size\":4,\"num_attention_heads\":2,\"num_local_experts\":1,"
        "\"num_experts_per_tok\":1,\"rope_scaling\":{\"type\":\"linear\",\"factor\":2.0}}";
    static const char *const matrices[] = {"self_attn.q_proj",
                                           "self_attn.k_proj",
                                           "self_attn.v_proj",
                                           "self_attn.o_proj",
                                           "block_sparse_moe.experts.0.w1",
                                           "block_sparse_moe.experts.0.w2",
                                           "block_sparse_moe.experts.0.w3"};
    static const float zeros[16];
    struct safetensors_writer *w;
    cadre_error e = {0};
    unsigned char *head;
    uint64_t n;
    char name[96];
    check(safetensors_writer_open_head(&w, &e), &e);
    for (int i = 0; i < 7; i++) {
        snprintf(name, sizeof name, "model.layers.0.%s.weight", matrices[i]);
        check(safetensors_put(w, name, DTYPE_F32, 2, (int64_t[]){4, 4}, &e), &e);
    }
    check(safetensors_put(w, "model.embed_tokens.weight", DTYPE_F32, 2, (int64_t[]){4, 4}, &e), &e);
    check(safetensors_put(w, "lm_head.weight", DTYPE_F32, 2, (int64_t[]){4, 4}, &e), &e);
    check(safetensors_put(w, "model.layers.0.block_sparse_moe.gate.weight", DTYPE_F32, 2, (int64_t[]){1, 4}, &e), &e);
    check(safetensors_put(w, "model.norm.weight", DTYPE_F32, 1, (int64_t[]){4}, &e), &e);
    check(safetensors_put(w, "model.layers.0.input_layernorm.weight", DTYPE_F32, 1, (int64_t[]){4}, &e), &e);
    check(safetensors_put(w, "model.layers.0.post_attention_layernorm.weight", DTYPE_F32, 1, (int64_t[]){4}, &e), &e);
    check(safetensors_writer_head(w, &head, &n, &e), &e);
    safetensors_writer_abort(w);
    FILE *f = fopen(seed(folder, "hf", "mixtral"), "wb");
    bool ok =
        f && fwrite(config, 1, sizeof config, f) == sizeof config && fputc(0, f) == 0 && fwrite(head, 1, n, f) == n;
    for (int i = 0; i < 10 && ok; i++) /* nine matrices of 64 bytes, a gate and three norms of 16 */
        ok = fwrite(zeros, 1, sizeof zeros, f) == sizeof zeros;
    if (!ok || fclose(f) != 0) {
        perror("hf/mixtral");
        exit(1);
    }
    free(head);
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
    hf_seeds(argv[1]);
    return 0;
}
