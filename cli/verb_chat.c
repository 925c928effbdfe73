/* cadre chat: a conversation, at a terminal or from a pipe. */
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli.h"
#include "line_input.h"

struct chat {
    cadre_model *model;
    cadre_chat *chat;
    cadre_chat_options o;
    cadre_generate_options g;
    json_t *messages;
    struct line_input *input;
    char *template_text; /* owns what came from a file */
    const char *overflow;
    bool json, quiet, stats, quit;
    bool begun; /* something of the reply has been printed */
    int status;
};

/* ---- Ctrl-C -------------------------------------------------------------------------------------------- */

static volatile sig_atomic_t stopped;

static void on_interrupt(int sig)
{
    (void)sig;
    stopped = 1;
}

static bool is_stopped(void)
{
    return stopped != 0;
}

static bool cancelled(void *user)
{
    (void)user;
    return stopped != 0;
}

/* ---- messages ------------------------------------------------------------------------------------------ */

static void say(const struct chat *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void say(const struct chat *c, const char *fmt, ...)
{
    va_list ap;
    if (c->quiet)
        return;
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fputc('\n', stderr);
}

static const char *role_of(const struct chat *c, size_t i)
{
    const char *role = json_string_value(json_object_get(json_array_get(c->messages, i), "role"));
    return role ? role : "";
}

static bool has_system(const struct chat *c)
{
    return strcmp(role_of(c, 0), "system") == 0;
}

static void add_message(struct chat *c, const char *role, json_t *content)
{
    json_array_append_new(c->messages, json_pack("{s:s, s:o}", "role", role, "content", content));
}

/* Drop messages from the end until (and with, if `with`) the last one of the user; false if there is none. */
static bool drop_from_last_user(struct chat *c, bool with)
{
    size_t n = json_array_size(c->messages), i = n;
    while (i > 0 && strcmp(role_of(c, i - 1), "user") != 0)
        i--;
    if (i == 0)
        return false;
    for (size_t k = n; k > i - with; k--)
        json_array_remove(c->messages, k - 1);
    return true;
}

/* ---- replies ------------------------------------------------------------------------------------------- */

static bool print_text(void *user, const char *text, size_t n)
{
    struct chat *c = user;
    /* The plain format ends in "Assistant:"; what follows begins with a blank that is no part of the reply. */
    while (!c->begun && n && (*text == ' ' || *text == '\n'))
        text++, n--;
    c->begun = c->begun || n;
    return fwrite(text, 1, n, stdout) == n && fflush(stdout) == 0;
}

static int print_reply(const cadre_generation *g, const char *content, size_t n)
{
    return cli_print_json(
        json_pack("{s:s, s:o, s:o, s:I, s:I, s:I, s:o, s:o, s:s, s:o*}", "role", "assistant", "content",
                  cli_json_text(content, n), "ids", cli_json_ids(g->ids, g->n_ids), "prompt_tokens",
                  (json_int_t)g->n_prompt, "reused_tokens", (json_int_t)g->n_reused, "tokens", (json_int_t)g->n_ids,
                  "prompt_tokens_per_s", cli_json_number(g->prompt_tokens_per_s), "tokens_per_s",
                  cli_json_number(g->tokens_per_s), "stopped_by", g->stopped_by, "draft", cli_json_draft(&g->draft)));
}

/* --overflow drop: without the oldest turn while there is no room for a reply. What was dropped is said. */
static cadre_err make_room(struct chat *c, cadre_error *err)
{
    int64_t room = cadre_chat_context(c->chat), tokens = 0,
            reply = room / 4 < c->g.max_tokens ? room / 4 : c->g.max_tokens;
    size_t dropped = 0;
    for (;;) {
        char *text = json_dumps(c->messages, JSON_COMPACT);
        cadre_err rc = cadre_chat_tokens(c->chat, text, NULL, &c->o, &tokens, err);
        free(text);
        size_t first = has_system(c);
        if (rc || tokens + reply <= room || json_array_size(c->messages) <= first + 1) {
            if (dropped)
                say(c,
                    "cadre: context of %lld tokens: the %zu oldest messages are dropped, the model no longer sees them",
                    (long long)room, dropped);
            return rc;
        }
        do { /* a whole turn, so that the conversation begins with the user again */
            json_array_remove(c->messages, first);
            dropped++;
        } while (json_array_size(c->messages) > first + 1 && strcmp(role_of(c, first), "user") != 0);
    }
}

static void tell_end(const struct chat *c, const cadre_generation *g)
{
    if (strcmp(g->stopped_by, "context") == 0)
        say(c,
            "cadre: the context of %lld tokens is full, so the reply ends here; /undo or /reset, or start with a "
            "larger "
            "--ctx or --overflow drop",
            (long long)cadre_chat_context(c->chat));
    else if (strcmp(g->stopped_by, "length") == 0)
        say(c, "cadre: the reply was cut at %lld tokens (-n)", (long long)c->g.max_tokens);
    if (!c->stats)
        return;
    fprintf(stderr,
            "prompt: %zu tokens, %zu of them kept, %.1f tokens/s; reply: %zu tokens, %.1f tokens/s; stopped by %s\n",
            g->n_prompt, g->n_reused, g->prompt_tokens_per_s, g->n_ids, g->tokens_per_s, g->stopped_by);
    cli_print_draft(&g->draft);
}

/* A reply to the messages as they are; on failure they stay so. */
static void reply(struct chat *c)
{
    cadre_error err = {0};
    cadre_generation g = {0};
    c->begun = c->o.name == NULL || strcmp(c->o.name, "plain") != 0;
    bool trim = !c->begun;
    stopped = 0;
    cadre_err rc = strcmp(c->overflow, "drop") == 0 ? make_room(c, &err) : CADRE_OK;
    char *text = rc ? NULL : json_dumps(c->messages, JSON_COMPACT);
    if (!rc)
        rc = text ? cadre_chat_reply(c->chat, text, NULL, &c->o, &c->g, &g, &err) : CADRE_E_MEMORY;
    free(text);
    if (!c->json && g.n_ids)
        putchar('\n');
    fflush(stdout);
    c->status = EXIT_DONE;
    if (rc && rc != CADRE_E_CANCELLED) {
        c->status = cli_fail(&err);
    } else if (g.stopped_by) {
        const char *p = g.text;
        size_t n = g.text_bytes;
        for (; trim && n && (*p == ' ' || *p == '\n'); n--)
            p++;
        add_message(c, "assistant", cli_json_text(p, n));
        if (c->json)
            c->status = print_reply(&g, p, n);
        if (rc == CADRE_E_CANCELLED)
            say(c, "(stopped)");
        tell_end(c, &g);
    }
    stopped = 0;
    cadre_generation_free(&g);
}

static void ask(struct chat *c, const char *text, size_t n)
{
    size_t before = json_array_size(c->messages);
    add_message(c, "user", cli_json_text(text, n));
    reply(c);
    if (c->status != EXIT_DONE && json_array_size(c->messages) == before + 1)
        json_array_remove(c->messages, before); /* so that it can be asked again */
    c->g.seed++;
}

/* ---- commands ------------------------------------------------------------------------------------------ */

static void fail(struct chat *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void fail(struct chat *c, const char *fmt, ...)
{
    va_list ap;
    fputs("cadre: ", stderr);
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fputc('\n', stderr);
    c->status = EXIT_FAILED;
}

static void do_reset(struct chat *c, const char *arg)
{
    (void)arg;
    while (json_array_size(c->messages) > has_system(c))
        json_array_remove(c->messages, json_array_size(c->messages) - 1);
    say(c, "(a new conversation)");
}

static void set_system(struct chat *c, const char *text)
{
    if (has_system(c))
        json_array_remove(c->messages, 0);
    if (*text)
        json_array_insert_new(c->messages, 0,
                              json_pack("{s:s, s:o}", "role", "system", "content", cli_json_text(text, strlen(text))));
}

static void do_system(struct chat *c, const char *arg)
{
    if (*arg) {
        set_system(c, strcmp(arg, "none") == 0 ? "" : arg);
        say(c, "(system message %s)", has_system(c) ? "set" : "removed");
    } else {
        say(c, "system: %s",
            has_system(c) ? json_string_value(json_object_get(json_array_get(c->messages, 0), "content")) : "(none)");
    }
}

static void do_undo(struct chat *c, const char *arg)
{
    (void)arg;
    if (drop_from_last_user(c, true))
        say(c, "(the last question and its reply are forgotten)");
    else
        fail(c, "/undo: nothing has been said yet");
}

static void do_retry(struct chat *c, const char *arg)
{
    (void)arg;
    if (!drop_from_last_user(c, false)) {
        fail(c, "/retry: nothing has been asked yet");
        return;
    }
    c->g.seed++; /* another choice of words, unless sampling is greedy */
    reply(c);
}

static void do_save(struct chat *c, const char *arg)
{
    if (!*arg)
        fail(c, "/save: expected the name of a file");
    else if (json_dump_file(c->messages, arg, JSON_INDENT(1)) != 0)
        fail(c, "%s: %s", arg, strerror(errno));
    else
        say(c, "(%zu messages saved to %s)", json_array_size(c->messages), arg);
}

/* A JSON array of {"role": text, "content": …}. */
static bool load(struct chat *c, const char *path)
{
    json_error_t e;
    json_t *j = json_load_file(path, 0, &e);
    bool ok = json_is_array(j);
    for (size_t i = 0; ok && i < json_array_size(j); i++)
        ok = json_is_string(json_object_get(json_array_get(j, i), "role"));
    if (!j)
        fail(c, "%s: %s%s", path, e.text, e.line > 0 ? "" : " (expected a JSON array of messages)");
    else if (!ok)
        fail(c, "%s: expected a JSON array of {\"role\": …, \"content\": …}", path);
    if (!ok) {
        json_decref(j);
        return false;
    }
    json_decref(c->messages);
    c->messages = j;
    return true;
}

static void do_load(struct chat *c, const char *arg)
{
    if (!*arg)
        fail(c, "/load: expected the name of a file");
    else if (load(c, arg))
        say(c, "(%zu messages)", json_array_size(c->messages));
}

static void do_quit(struct chat *c, const char *arg)
{
    (void)arg;
    c->quit = true;
}

static void do_help(struct chat *c, const char *arg);

static const struct command {
    const char *name, *arg, *help;
    void (*run)(struct chat *c, const char *arg);
} commands[] = {
    {"/help", "", "this text", do_help},
    {"/reset", "", "forget the conversation; the system message stays", do_reset},
    {"/system", "[TEXT]", "show, set or (none) remove the system message", do_system},
    {"/undo", "", "forget the last question and its reply", do_undo},
    {"/retry", "", "another reply to the last question", do_retry},
    {"/save", "FILE", "write the conversation as JSON", do_save},
    {"/load", "FILE", "go on with a saved conversation", do_load},
    {"/quit", "", "end (also Ctrl-D, or Ctrl-C twice)", do_quit},
};

static void do_help(struct chat *c, const char *arg)
{
    (void)c, (void)arg;
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
        fprintf(stderr, "  %-8s%-7s %s\n", commands[i].name, commands[i].arg, commands[i].help);
    fputs("A line that ends in \\ goes on in the next. \"\"\" begins and ends several lines.\n"
          "// at the beginning stands for a message that begins with /.\n"
          "Ctrl-C stops a reply.\n",
          stderr);
}

static void run_command(struct chat *c, char *text)
{
    size_t n = strcspn(text, " \t\n");
    char *arg = text + n + strspn(text + n, " \t\n");
    for (size_t end = strlen(arg); end > 0 && strchr(" \t\n", arg[end - 1]); end--)
        arg[end - 1] = 0;
    c->status = EXIT_DONE;
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
        if (strlen(commands[i].name) == n && memcmp(commands[i].name, text, n) == 0) {
            if (*arg && !*commands[i].arg)
                fail(c, "%s: unexpected '%s'", commands[i].name, arg);
            else
                commands[i].run(c, arg);
            return;
        }
    fail(c, "unknown command %.*s; /help lists them", (int)(n < 60 ? n : 60), text);
}

/* ---- the conversation ---------------------------------------------------------------------------------- */

static void take(struct chat *c, char *text, size_t n)
{
    bool blank = strspn(text, " \t\n") == n;
    if (blank)
        return;
    if (text[0] == '/' && text[1] != '/')
        run_command(c, text);
    else if (text[0] == '/')
        ask(c, text + 1, n - 1);
    else
        ask(c, text, n);
}

/* Until the end of input. At a terminal failures are told and the talk goes on; from a pipe the first one ends it. */
static int converse(struct chat *c)
{
    int interrupts = 0;
    bool terminal = line_input_is_terminal(c->input);
    while (!c->quit && (terminal || c->status == EXIT_DONE)) {
        char *text;
        size_t n;
        enum input_result r = line_input_read(c->input, &text, &n);
        if (r == INPUT_INTERRUPTED) {
            stopped = 0;
            interrupts = line_input_typed(c->input) ? 1 : interrupts + 1;
            if (!terminal || interrupts == 2)
                break;
            fputs("\n(Ctrl-C again or Ctrl-D to quit)\n", stderr);
            continue;
        }
        if (r == INPUT_END || r == INPUT_FAILED) {
            if (terminal)
                putchar('\n');
            if (r == INPUT_FAILED)
                fail(c, "no memory for a message");
            break;
        }
        interrupts = 0;
        take(c, text, n);
    }
    return terminal ? EXIT_DONE : c->status;
}

/* --template: a name, or a file. */
static int choose_template(struct chat *c, const char *name, const char *path)
{
    size_t n;
    if (!name && !cadre_chat_has_template(c->model, NULL)) {
        c->o.name = "plain";
        say(c,
            "cadre: %s has no chat template, so it is probably a base model: it goes on with a text and was not\n"
            "trained to answer. The conversation is written as a plain transcript (User: … Assistant: …);\n"
            "--template names another format.",
            path);
    } else if (name && strpbrk(name, "/.")) {
        c->o.jinja = c->template_text = cli_read_text(name, &n);
        if (!c->template_text)
            return EXIT_FAILED;
    } else {
        c->o.name = name;
    }
    if (c->o.name && strcmp(c->o.name, "plain") == 0 && !c->g.stop)
        c->g.stop = "\nUser:";
    return EXIT_DONE;
}

static int talk(struct chat *c, const char *prompt)
{
    struct sigaction a = {.sa_handler = on_interrupt}; /* without SA_RESTART: reading ends */
    sigaction(SIGINT, &a, NULL);
    if (prompt) {
        ask(c, prompt, strlen(prompt));
        return c->status;
    }
    c->input = line_input_open("> ", is_stopped);
    if (!c->input) {
        fail(c, "no memory for the line editor");
        return c->status;
    }
    if (line_input_is_terminal(c->input))
        say(c, "/help lists commands; Ctrl-C stops a reply, Ctrl-D ends.");
    int status = converse(c);
    line_input_close(c->input);
    return status;
}

/* Refuse a wrong template or wrong messages before anything is typed. */
static cadre_err check_template(struct chat *c, cadre_error *err)
{
    char *text;
    size_t n;
    cadre_err rc =
        cadre_chat_render(c->model, "[{\"role\": \"user\", \"content\": \"\"}]", NULL, &c->o, &text, &n, err);
    cadre_free(text);
    return rc == CADRE_E_ARG && !c->o.name ? CADRE_OK : rc; /* a template may refuse an empty question */
}

static int run_chat(struct chat *c, const struct common *common, const struct draft_words *draft, const char *path,
                    const char *name, const char *loaded, const char *system, const char *prompt)
{
    cadre_error err = {0};
    int status = cli_open_model(&c->model, path, common, false);
    if (status == 0)
        status = cli_open_draft(&c->g, draft, common);
    if (status)
        return status;
    status = choose_template(c, name, cli_model_path(path));
    if (status)
        return status;
    if (check_template(c, &err) || cadre_chat_open(&c->chat, c->model, &c->g, &err))
        return cli_fail(&err);
    if (loaded && !load(c, loaded))
        return EXIT_FAILED;
    if (system)
        set_system(c, system);
    return talk(c, prompt);
}

static int run(const struct verb *v, int argc, char **argv)
{
    struct chat c = {.o = cadre_chat_options_default(), .g = cadre_generate_options_default(), .overflow = "stop"};
    struct common common = {0};
    struct draft_words draft = {0};
    const char *model = NULL, *name = NULL, *loaded = NULL, *system = NULL, *prompt = NULL;
    int64_t top_k = 0, seed = 0;
    c.g.temperature = 0.8;
    c.g.top_p = 0.95;
    c.g.max_tokens = 1024;
    const struct option_row rows[] = {
        {"--system", 0, OPTION_TEXT, &system, "TEXT", "system message", 0, 0},
        {"--prompt", 'p', OPTION_TEXT, &prompt, "TEXT", "one question: print its reply and end", 0, 0},
        {"--load", 0, OPTION_TEXT, &loaded, "FILE", "go on with a saved conversation", 0, 0},
        {"--template", 0, OPTION_TEXT, &name, "NAME|FILE", "one of the model's, plain, chatml, llama3, …, a file", 0,
         0},
        {"--template-vars", 0, OPTION_TEXT, &c.o.extra, "JSON", "more variables for the template, as an object", 0, 0},
        {"--overflow", 0, OPTION_WORD, &c.overflow, "stop|drop", "full context: stop, or drop the oldest turns (stop)",
         0, 0},
        {"--n", 'n', OPTION_INT, &c.g.max_tokens, "N", "tokens of a reply at most (1024)", 1, 1e9},
        {"--temp", 0, OPTION_REAL, &c.g.temperature, "T", "temperature; 0 is greedy (0.8)", 0, 1000},
        {"--top-k", 0, OPTION_INT, &top_k, "K", "choose among the K likeliest; 0: off (0)", 0, 1e9},
        {"--top-p", 0, OPTION_REAL, &c.g.top_p, "P", "… the likeliest that make up P; 1: off (0.95)", 1e-9, 1},
        {"--min-p", 0, OPTION_REAL, &c.g.min_p, "P", "… those at least P times as likely as the best (0)", 0, 1},
        {"--seed", 0, OPTION_INT, &seed, "N", "the same seed gives the same replies (0)", 0, 9e15},
        {"--stop", 0, OPTION_TEXT, &c.g.stop, "TEXT", "end a reply before this text", 0, 0},
        {"--ctx", 0, OPTION_INT, &c.g.context, "N", "positions of KV cache (the model's, at most 4096)", 1, 1e9},
        {"--kv", 0, OPTION_WORD, &c.g.kv, "f32|f16|bf16|q8_0", "number format of the KV cache (f32)", 0, 0},
        {"--act", 0, OPTION_WORD, &c.g.act, "f32|auto|int8", "activations of products with block weights (f32)", 0, 0},
        DRAFT_ROWS(draft),
        {"--stats", 0, OPTION_FLAG, &c.stats, NULL, "tokens and speed of each reply on standard error", 0, 0},
    };
    int status = cli_parse(v, rows, sizeof rows / sizeof *rows, &common, &model, argc, argv);
    if (status < 0 && c.g.stop && !*c.g.stop)
        status = cli_usage(v, "--stop: expected a text, found an empty one");
    if (status < 0)
        status = cli_check_draft(v, &draft);
    if (status >= 0)
        return status;
    c.g.top_k = (int)(top_k < INT32_MAX ? top_k : INT32_MAX);
    c.g.seed = (uint64_t)seed;
    c.g.hide_special = true;
    c.g.on_text = common.json ? NULL : print_text;
    c.g.cancel = cancelled;
    c.g.user = &c;
    c.json = common.json;
    c.quiet = common.quiet;
    c.messages = json_array();
    status = run_chat(&c, &common, &draft, model, name, loaded, system, prompt);
    json_decref(c.messages);
    free(c.template_text);
    cadre_chat_close(c.chat);
    cadre_model_close(c.g.draft_model);
    cadre_model_close(c.model);
    return status;
}

const struct verb verb_chat = {"chat", "[MODEL] [options]", "talk with a model; /help there lists the commands",
                               HAS_MACHINE | HAS_MEMORY | HAS_JSON | HAS_TALK, run};
