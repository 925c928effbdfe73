/* Chat templates of a model: found in its file on first use, parsed once, given messages and tools. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/runtime.h"
#include "model/source.h"
#include "text/template/template.h"

struct chat_template {
    struct chat_template *next;
    struct template *parsed; /* NULL: the model has none of this name */
    char name[];             /* "" is the default one */
};

cadre_chat_options cadre_chat_options_default(void)
{
    return (cadre_chat_options){.add_generation_prompt = true, .now = -1};
}

void chat_templates_free(struct chat_template *list)
{
    while (list) {
        struct chat_template *next = list->next;
        template_free(list->parsed);
        free(list);
        list = next;
    }
}

/* ---- finding ------------------------------------------------------------------------------------------- */

static cadre_err read_source(const char *path, const char *name, struct template **out, cadre_error *err)
{
    const struct template_limits limits = template_limits_default();
    struct gguf *g;
    struct gguf_string s;
    char key[256];
    bool found;
    snprintf(key, sizeof key, "tokenizer.chat_template%s%s", *name ? "." : "", name);
    TRY(model_source_open(&g, path, err));
    cadre_err rc = gguf_get_string(g, key, &s, &found, err);
    if (rc == CADRE_OK && found)
        rc = template_parse(out, s.p, s.n, &limits, err);
    gguf_close(g);
    return rc ? error_wrap(err, rc, "%s: %s", path, key) : CADRE_OK;
}

/* *out is NULL if the model has none of that name. */
static cadre_err find_template(struct cadre_model *m, const char *name, const struct template **out, cadre_error *err)
{
    size_t n = strlen(name);
    struct chat_template *t = m->templates;
    while (t && strcmp(t->name, name) != 0)
        t = t->next;
    if (!t) {
        struct template *parsed = NULL;
        TRY(read_source(m->path, name, &parsed, err));
        t = malloc(sizeof *t + n + 1);
        if (!t) {
            template_free(parsed);
            return error_set(err, CADRE_E_MEMORY, "no memory for a chat template");
        }
        *t = (struct chat_template){m->templates, parsed};
        memcpy(t->name, name, n + 1);
        m->templates = t;
    }
    *out = t->parsed;
    return CADRE_OK;
}

/* The model's own template for these options, or none. */
static cadre_err choose_template(struct cadre_model *m, const char *name, bool tools, const struct template **out,
                                 cadre_error *err)
{
    *out = NULL;
    if (name)
        return find_template(m, name, out, err);
    if (tools)
        TRY(find_template(m, "tool_use", out, err));
    if (!*out)
        TRY(find_template(m, "", out, err));
    return *out ? CADRE_OK : find_template(m, "default", out, err);
}

bool cadre_chat_has_template(cadre_model *m, const char *name)
{
    const struct template *t;
    cadre_error err = {0};
    /* One that is there and broken counts: using it says what is wrong. */
    return m && (choose_template(m, name, false, &t, &err) != CADRE_OK || t != NULL);
}

/* ---- rendering ----------------------------------------------------------------------------------------- */

static cadre_err read_json(const char *text, const char *what, bool array, json_t **out, cadre_error *err)
{
    json_error_t e;
    *out = json_loads(text, JSON_ALLOW_NUL, &e);
    CHECK(err, *out, CADRE_E_FORMAT, "%s: expected JSON, found at line %d, column %d: %s", what, e.line, e.column,
          e.text);
    if (array ? json_is_array(*out) : json_is_object(*out))
        return CADRE_OK;
    json_decref(*out);
    *out = NULL;
    return error_set(err, CADRE_E_FORMAT, "%s: expected a JSON %s", what, array ? "array" : "object");
}

static cadre_err put(json_t *variables, const char *key, json_t *value, cadre_error *err)
{
    CHECK(err, json_object_set_new(variables, key, value) == 0, CADRE_E_MEMORY, "%s: no memory, or not UTF-8", key);
    return CADRE_OK;
}

static json_t *token_text(const struct cadre_model *m, const char *given, bool bos)
{
    const char *p = "";
    size_t n = 0;
    if (given)
        return json_string(given);
    if (m && m->tokenizer) {
        int32_t id = bos ? tokenizer_bos(m->tokenizer) : tokenizer_eos(m->tokenizer);
        n = id >= 0 ? tokenizer_piece(m->tokenizer, id, true, &p) : 0;
    }
    return json_stringn(p, n);
}

static cadre_err make_variables(const struct cadre_model *m, const char *messages, const char *tools,
                                const cadre_chat_options *o, json_t *v, cadre_error *err)
{
    json_t *j;
    TRY(read_json(messages, "messages", true, &j, err));
    TRY(put(v, "messages", j, err));
    if (tools)
        TRY(read_json(tools, "tools", true, &j, err));
    TRY(put(v, "tools", tools ? j : json_null(), err));
    TRY(put(v, "documents", json_null(), err));
    TRY(put(v, "add_generation_prompt", json_boolean(o->add_generation_prompt), err));
    TRY(put(v, "bos_token", token_text(m, o->bos, true), err));
    TRY(put(v, "eos_token", token_text(m, o->eos, false), err));
    if (!o->extra)
        return CADRE_OK;
    TRY(read_json(o->extra, "extra variables", false, &j, err));
    int failed = json_object_update(v, j);
    json_decref(j);
    CHECK(err, !failed, CADRE_E_MEMORY, "no memory for the template's variables");
    return CADRE_OK;
}

static cadre_err run(const struct template *t, const json_t *v, const cadre_chat_options *o, char **text, size_t *n,
                     cadre_error *err)
{
    struct template_limits limits = template_limits_default();
    CHECK(err, o->max_steps >= 0 && o->max_bytes >= 0, CADRE_E_ARG,
          "limits of the chat template: expected at least 0 (the usual ones), found %lld steps and %lld bytes",
          (long long)o->max_steps, (long long)o->max_bytes);
    limits.steps = o->max_steps ? o->max_steps : limits.steps;
    limits.output = o->max_bytes ? (size_t)o->max_bytes : limits.output;
    return template_render(t, v, o->now, &limits, text, n, err);
}

static cadre_err missing(const struct cadre_model *m, const char *name, cadre_error *err)
{
    if (!name)
        return error_set(err, CADRE_E_UNSUPPORTED,
                         "%s has no chat template (tokenizer.chat_template): a base model, perhaps; give a template's "
                         "text, or one of the built-in formats: %s",
                         m ? m->path : "the model", template_builtin_names());
    return error_set(err, CADRE_E_ARG, "chat template '%s': expected one of the model's, or %s", name,
                     template_builtin_names());
}

cadre_err chat_render(struct cadre_model *m, const char *messages, const char *tools, const cadre_chat_options *o,
                      char **text, size_t *n, bool *add, cadre_error *err)
{
    const struct template_limits limits = template_limits_default();
    const struct template *t = NULL;
    struct template *own = NULL;
    json_t *v = json_object();
    cadre_err rc = v ? CADRE_OK : error_set(err, CADRE_E_MEMORY, "no memory for a chat template");
    const char *source = o->jinja;
    *add = false;
    if (rc == CADRE_OK && !source && m)
        rc = choose_template(m, o->name, tools != NULL, &t, err);
    if (rc == CADRE_OK && !source && !t && o->name) {
        source = template_builtin(o->name);
        *add = source != NULL;
    }
    if (rc == CADRE_OK && source) {
        rc = template_parse(&own, source, strlen(source), &limits, err);
        t = own;
    }
    if (rc == CADRE_OK && !t)
        rc = missing(m, o->name, err);
    if (rc == CADRE_OK)
        rc = make_variables(m, messages, tools, o, v, err);
    if (rc == CADRE_OK)
        rc = run(t, v, o, text, n, err);
    template_free(own);
    json_decref(v);
    return rc;
}

cadre_err cadre_chat_render(cadre_model *m, const char *messages, const char *tools, const cadre_chat_options *o,
                            char **text, size_t *n, cadre_error *err)
{
    bool add;
    CHECK(err, text && n, CADRE_E_ARG, "cadre_chat_render: text and n must be given");
    *text = NULL;
    *n = 0;
    CHECK(err, messages && o && (m || o->jinja || o->name), CADRE_E_ARG,
          "cadre_chat_render: messages, options, and a model or a template must be given");
    return chat_render(m, messages, tools, o, text, n, &add, err);
}
