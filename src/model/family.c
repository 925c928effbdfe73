#include "model/family.h"

#include <stdio.h>
#include <string.h>

#include "file/names.h"
#include "model/keys.h"
#include "model/kept.h"

static const struct family *const table[] = {
    &family_llama,        &family_qwen2moe,   &family_qwen3,        &family_qwen3moe,      &family_olmoe,
    &family_deepseek,     &family_deepseek2,  &family_gpt_oss,      &family_glm4moe,       &family_phimoe,
    &family_granite,      &family_granitemoe, &family_bailingmoe,   &family_bailingmoe2,   &family_ernie4_5_moe,
    &family_hunyuan_moe,  &family_minimax_m2, &family_qwen3next,    &family_qwen35,        &family_qwen35moe,
    &family_lfm2,         &family_lfm2moe,    &family_dots1,        &family_dbrx,          &family_arctic,
    &family_smallthinker, &family_pangu_moe,  &family_phimoe_mixer, &family_longcat_flash, &family_cadre,
};
enum { N_FAMILIES = sizeof table / sizeof *table };

const struct family *family_at(int i)
{
    return i >= 0 && i < N_FAMILIES ? table[i] : NULL;
}

const struct family *family_find(const char *name)
{
    for (int i = 0; i < N_FAMILIES; i++)
        if (strcmp(table[i]->name, name) == 0)
            return table[i];
    return NULL;
}

static cadre_err require_family(const char *name, const struct family **out, cadre_error *err)
{
    *out = family_find(name);
    if (*out)
        return CADRE_OK;
    char known[1024] = "";
    for (int i = 0, n = 0; i < N_FAMILIES && n < (int)sizeof known; i++)
        n += snprintf(known + n, sizeof known - (size_t)n, "%s%s", i ? ", " : "", table[i]->name);
    return error_set(err, CADRE_E_UNSUPPORTED, "unsupported architecture '%s' (known: %s)", shown(name, strlen(name)).s,
                     known);
}

const char *family_tensor_name(const struct family *f, const char *name)
{
    for (const struct tensor_alias *a = f->aliases; a && a->name; a++)
        if (strcmp(a->name, name) == 0)
            return a->file;
    return name;
}

/* What no key says but a tensor that is there. */
static cadre_err read_shapes(struct spec *s, const struct gguf *g, cadre_error *err)
{
    const struct gguf_tensor *t = gguf_tensor_find(g, "token_embd.weight");
    CHECK(err, t, CADRE_E_FORMAT, "tensor 'token_embd.weight': expected in every model, not found");
    s->n_vocab = t->dim[1];
    s->tied = !gguf_tensor_find(g, "output.weight");
    return CADRE_OK;
}

static void read_options(struct spec *s, const struct family *f, const struct gguf *g)
{
    struct tensor_walk w = tensor_walk(s);
    for (w.all = true; tensor_next(&w);)
        if (w.def->option && kept_exists(g, f, &w))
            *(bool *)((char *)s + w.def->option) = true;
}

/* Widths that older files leave out: those of the active experts make feed_forward_length together, the shared one has
 * all of it. */
static void read_widths(struct spec *s, const struct family *f)
{
    if (s->n_expert <= 0)
        return;
    if (f->experts_in_ff && s->expert_ff == 0)
        s->expert_ff = s->dense_ff;
    if (f->widths_from_ff && s->expert_ff == 0 && s->router.k > 0)
        s->expert_ff = s->dense_ff / s->router.k;
    if (f->widths_from_ff && f->keys & KEYS(KEY_SHARED_FF) && s->shared_ff == 0)
        s->shared_ff = s->dense_ff;
}

/* The layers that predict tokens beyond the next one come last. */
static cadre_err leave_out(struct spec *s, cadre_error *err)
{
    CHECK(err, s->n_nextn >= 0 && s->n_nextn < s->n_layer, CADRE_E_FORMAT,
          "nextn_predict_layers: expected 0 to %lld (one layer less than block_count), found %lld",
          (long long)s->n_layer - 1, (long long)s->n_nextn);
    s->n_layer -= s->n_nextn;
    return CADRE_OK;
}

cadre_err spec_from_gguf(struct spec *s, const struct gguf *g, cadre_error *err)
{
    struct gguf_string name;
    bool found;
    const struct family *f;
    TRY(gguf_get_string(g, "general.architecture", &name, &found, err));
    CHECK(err, found, CADRE_E_FORMAT, "general.architecture: expected in every model, not found");
    TRY(require_family(name.p, &f, err));
    *s = f->facts;
    snprintf(s->family, sizeof s->family, "%s", f->name);
    TRY(keys_all_known(f, g, err));
    TRY(keys_read(f, s, g, err));
    TRY(read_shapes(s, g, err));
    if (s->n_nextn != 0)
        TRY(leave_out(s, err));
    read_widths(s, f);
    if (f->read)
        TRY(f->read(g, s, err));
    spec_defaults(s);
    TRY(keys_implied(f, s, g, err));
    TRY(spec_check(s, err)); /* from here on the walk over its tensors is safe */
    read_options(s, f, g);
    return spec_check(s, err);
}

cadre_err spec_can_write(const struct spec *s, cadre_error *err)
{
    const struct family *f;
    TRY(require_family(s->family, &f, err));
    TRY(spec_check(s, err));
    TRY(keys_express(f, s, err));
    return f->can_write ? f->can_write(s, err) : CADRE_OK;
}

cadre_err spec_to_gguf(struct gguf_writer *w, const struct spec *s, cadre_error *err)
{
    TRY(spec_can_write(s, err));
    const struct family *f = family_find(s->family);
    TRY(gguf_put_string(w, "general.architecture", f->name, strlen(f->name), err));
    TRY(keys_write(f, s, w, err));
    return f->write ? f->write(w, s, err) : CADRE_OK;
}
