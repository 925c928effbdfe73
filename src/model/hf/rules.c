/* The tensor names that most decoders of transformers share, and the expansion of patterns. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/hf/bind.h"

#define L "model.layers.*."

static const struct hf_tensor common[] = {
    {"model.embed_tokens.weight", "token_embd.weight", HF_COPY, 0},
    {"model.norm.weight", "output_norm.weight", HF_COPY, 0},
    {"lm_head.weight", "output.weight", HF_COPY, HF_OUTPUT},
    {L "input_layernorm.weight", "blk.*.attn_norm.weight", HF_COPY, 0},
    {L "self_attn.q_proj.weight", "blk.*.attn_q.weight", HF_COPY, 0},
    {L "self_attn.k_proj.weight", "blk.*.attn_k.weight", HF_COPY, 0},
    {L "self_attn.v_proj.weight", "blk.*.attn_v.weight", HF_COPY, 0},
    {L "self_attn.o_proj.weight", "blk.*.attn_output.weight", HF_COPY, 0},
    {L "self_attn.q_proj.bias", "blk.*.attn_q.bias", HF_COPY, 0},
    {L "self_attn.k_proj.bias", "blk.*.attn_k.bias", HF_COPY, 0},
    {L "self_attn.v_proj.bias", "blk.*.attn_v.bias", HF_COPY, 0},
    {L "self_attn.o_proj.bias", "blk.*.attn_output.bias", HF_COPY, 0},
    {L "self_attn.q_norm.weight", "blk.*.attn_q_norm.weight", HF_COPY, 0},
    {L "self_attn.k_norm.weight", "blk.*.attn_k_norm.weight", HF_COPY, 0},
    {L "post_attention_layernorm.weight", "blk.*.ffn_norm.weight", HF_COPY, 0},
    {L "mlp.gate_proj.weight", "blk.*.ffn_gate.weight", HF_COPY, 0},
    {L "mlp.up_proj.weight", "blk.*.ffn_up.weight", HF_COPY, 0},
    {L "mlp.down_proj.weight", "blk.*.ffn_down.weight", HF_COPY, 0},
    {L "mlp.gate.weight", "blk.*.ffn_gate_inp.weight", HF_COPY, HF_F32},
    {L "mlp.gate.e_score_correction_bias", "blk.*.exp_probs_b.bias", HF_COPY, 0},
    {L "mlp.experts.#.gate_proj.weight", "blk.*.ffn_gate_exps.weight", HF_COPY, 0},
    {L "mlp.experts.#.up_proj.weight", "blk.*.ffn_up_exps.weight", HF_COPY, 0},
    {L "mlp.experts.#.down_proj.weight", "blk.*.ffn_down_exps.weight", HF_COPY, 0},
    {L "mlp.shared_experts.gate_proj.weight", "blk.*.ffn_gate_shexp.weight", HF_COPY, 0},
    {L "mlp.shared_experts.up_proj.weight", "blk.*.ffn_up_shexp.weight", HF_COPY, 0},
    {L "mlp.shared_experts.down_proj.weight", "blk.*.ffn_down_shexp.weight", HF_COPY, 0},
};
enum { N_COMMON = sizeof common / sizeof *common };

static int own_rules(const struct hf_family *f)
{
    int n = 0;
    while (f->tensors && f->tensors[n].gguf)
        n++;
    return n;
}

static bool replaced(const struct hf_family *f, int n_own, const struct hf_tensor *r)
{
    for (int i = 0; i < n_own; i++)
        if (strcmp(f->tensors[i].gguf, r->gguf) == 0 || strcmp(f->tensors[i].hf, r->hf) == 0)
            return true;
    return false;
}

const struct hf_tensor *hf_rule_at(const struct hf_family *f, int i)
{
    int own = own_rules(f);
    if (i < own)
        return &f->tensors[i];
    i -= own;
    for (int k = 0; k < N_COMMON; k++)
        if (!replaced(f, own, &common[k]) && i-- == 0)
            return &common[k];
    return NULL;
}

bool hf_rule_is_of(const struct hf_family *f, const struct hf_tensor *r, int64_t layer)
{
    if (layer < 0 || !strchr(r->gguf, '*'))
        return layer < 0 && !strchr(r->gguf, '*');
    return layer % hf_blocks(f) == 0 || strchr(r->hf, '%');
}

/* What stands for numbers in a name. */
struct numbers {
    int64_t layer, block, expert; /* '*', '%', '#' */
};

static bool expand(char out[256], const char *pattern, struct numbers at)
{
    int n = 0;
    for (const char *p = pattern; *p; p++) {
        char one[2] = {*p, 0}, number[24];
        bool is_number = strchr("*%#", *p) != NULL;
        snprintf(number, sizeof number, "%lld", (long long)(*p == '*' ? at.layer : *p == '%' ? at.block : at.expert));
        n += snprintf(out + n, (size_t)(256 - n), "%s", is_number ? number : one);
        if (n >= 256)
            return false;
    }
    return true;
}

bool hf_name_there(char out[256], const struct hf_family *f, const struct hf_tensor *r, int64_t layer, int64_t expert)
{
    int64_t blocks = hf_blocks(f);
    char inside[256];
    bool is = f->prefix && strncmp(r->hf, "model.", 6) == 0;
    if (is && snprintf(inside, sizeof inside, "%s%s", f->prefix, r->hf + 6) >= (int)sizeof inside)
        return false;
    return expand(out, is ? inside : r->hf, (struct numbers){layer / blocks, layer % blocks, expert});
}

bool hf_name_here(char out[256], const struct hf_tensor *r, int64_t layer)
{
    return expand(out, r->gguf, (struct numbers){.layer = layer});
}

bool hf_name_of(const struct hf_family *f, const char *gguf, char out[256])
{
    long layer = strncmp(gguf, "blk.", 4) == 0 ? strtol(gguf + 4, NULL, 10) : -1;
    for (int i = 0; hf_rule_at(f, i); i++) {
        char name[256];
        const struct hf_tensor *r = hf_rule_at(f, i);
        if (hf_rule_is_of(f, r, layer) && hf_name_here(name, r, layer) && strcmp(name, gguf) == 0)
            return hf_name_there(out, f, r, layer, 0);
    }
    return false;
}
