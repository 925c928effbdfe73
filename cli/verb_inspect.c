#include <stdio.h>
#include <string.h>

#include "cli.h"

static bool print_tensor(void *user, const cadre_tensor_info *t)
{
    char shape[96];
    int at = 0;
    for (int i = 0; i < t->n_dims; i++)
        at += snprintf(shape + at, sizeof shape - (size_t)at, "%s%lld", i ? " x " : "", (long long)t->dim[i]);
    printf("  %-44s %-6s %-22s %s\n", t->name, t->type, shape, cli_bytes((double)t->bytes));
    (void)user;
    return true;
}

static bool add_tensor(void *user, const cadre_tensor_info *t)
{
    json_t *shape = json_array();
    for (int i = 0; i < t->n_dims; i++)
        json_array_append_new(shape, json_integer(t->dim[i]));
    json_array_append_new(user, json_pack("{s:o, s:s, s:o, s:I}", "name", cli_json_text(t->name, strlen(t->name)),
                                          "type", t->type, "shape", shape, "bytes", (json_int_t)t->bytes));
    return true;
}

/* Bytes of tensors by the part of the model they belong to. */
struct parts {
    uint64_t embedding, attention, experts, shared, router, other;
};

static bool add_part(void *user, const cadre_tensor_info *t)
{
    struct parts *p = user;
    uint64_t *at = strstr(t->name, "token_embd.") || strncmp(t->name, "output.", 7) == 0                 ? &p->embedding
                   : strstr(t->name, "gate_inp.") || strstr(t->name, "exp_probs")                        ? &p->router
                   : strstr(t->name, "_exps")                                                            ? &p->experts
                   : strstr(t->name, "shexp")                                                            ? &p->shared
                   : strstr(t->name, "attn") || strstr(t->name, "ssm_") || strstr(t->name, "shortconv.") ? &p->attention
                                                                                                         : &p->other;
    *at += t->bytes;
    return true;
}

static void print_model(const cadre_model_info *m, const struct parts *p)
{
    printf("%s, family %s\n", m->name[0] ? m->name : "unnamed", m->family);
    printf("  parameters    %s, active for a token %s\n", cli_count((double)m->parameters),
           cli_count((double)m->active_parameters));
    printf("  shape         %lld layers of width %lld, %lld heads (%lld kv) of %lld,\n                context %lld\n",
           (long long)m->layers, (long long)m->width, (long long)m->heads, (long long)m->kv_heads,
           (long long)m->head_dim, (long long)m->context);
    if (m->recurrent_layers)
        printf("  recurrent     %lld of the layers; the others attend\n", (long long)m->recurrent_layers);
    if (m->experts)
        printf("  experts       %lld a layer, %lld used, width %lld, shared width %lld,\n                router %s\n",
               (long long)m->experts, (long long)m->experts_used, (long long)m->expert_width,
               (long long)m->shared_width, m->router);
    else
        printf("  experts       none: a dense model\n");
    printf("  tokenizer     %s, %lld tokens\n", m->tokenizer[0] ? m->tokenizer : "none", (long long)m->vocabulary);
    printf("  bytes         %s: embedding %s, attention %s, experts %s,\n                shared %s, routers %s, other "
           "%s\n",
           cli_bytes((double)m->bytes), cli_bytes((double)p->embedding), cli_bytes((double)p->attention),
           cli_bytes((double)p->experts), cli_bytes((double)p->shared), cli_bytes((double)p->router),
           cli_bytes((double)p->other));
    if (m->packed)
        printf("  layout        packed: matrices in strips of 16 rows, mapped when opened\n");
}

static json_t *model_json(const cadre_model_info *m)
{
    return json_pack("{s:s, s:o, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:s, s:o, s:I, s:s}", "family",
                     m->family, "name", cli_json_text(m->name, strlen(m->name)), "parameters",
                     (json_int_t)m->parameters, "active_parameters", (json_int_t)m->active_parameters, "layers",
                     (json_int_t)m->layers, "recurrent_layers", (json_int_t)m->recurrent_layers, "width",
                     (json_int_t)m->width, "context", (json_int_t)m->context, "vocabulary", (json_int_t)m->vocabulary,
                     "experts", (json_int_t)m->experts, "experts_used", (json_int_t)m->experts_used, "expert_width",
                     (json_int_t)m->expert_width, "shared_width", (json_int_t)m->shared_width, "router", m->router,
                     "tokenizer", cli_json_text(m->tokenizer, strlen(m->tokenizer)), "bytes", (json_int_t)m->bytes,
                     "layout", m->packed ? "packed" : "rows");
}

static int run(const struct verb *v, int argc, char **argv)
{
    const char *model = NULL;
    struct common c = {0};
    bool tensors = false;
    const struct option_row rows[] = {
        {"--tensors", 0, OPTION_FLAG, &tensors, NULL, "list every tensor", 0, 0},
    };
    int status = cli_parse(v, rows, sizeof rows / sizeof *rows, &c, &model, argc, argv);
    if (status >= 0)
        return status;
    model = cli_model_path(model);
    if (!model)
        return EXIT_FAILED;
    cadre_model_info info;
    cadre_error err = {0};
    struct parts parts = {0};
    if (cadre_inspect(model, &info, &err) || cadre_inspect_tensors(model, add_part, &parts, &err))
        return cli_fail(&err);
    if (c.json) {
        json_t *j = model_json(&info), *list = json_array();
        if (tensors && cadre_inspect_tensors(model, add_tensor, list, &err))
            return cli_fail(&err);
        if (tensors)
            json_object_set(j, "tensors", list);
        json_decref(list);
        return cli_print_json(j);
    }
    print_model(&info, &parts);
    return tensors && cadre_inspect_tensors(model, print_tensor, NULL, &err) ? cli_fail(&err) : EXIT_DONE;
}

const struct verb verb_inspect = {"inspect", "[MODEL] [--tensors] [--json]", "what is in a model file", HAS_JSON, run};
