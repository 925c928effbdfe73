#include "line_input.h"

#include <errno.h>
#include <histedit.h>
#include <locale.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <wchar.h>

enum { HISTORY_LINES = 500, PASTE_MS = 20 };

struct line_input {
    EditLine *editor; /* NULL: not a terminal */
    History *history;
    const char *prompt;
    bool continued; /* the line being read goes on with a message */
    bool typed;     /* since the message began */
    bool (*interrupted)(void);
    char *line; /* of getline, where there is no editor */
    size_t line_room;
    char *text; /* the message so far */
    size_t n, room;
};

static char *prompt_of(EditLine *e)
{
    static char more[] = "… ";
    struct line_input *in = NULL;
    el_get(e, EL_CLIENTDATA, &in);
    return in->continued ? more : (char *)(size_t)in->prompt;
}

/* One character from the terminal. libedit's own reading starts again after a signal; this one ends when asked. */
static int read_char(EditLine *e, wchar_t *out)
{
    struct line_input *in = NULL;
    mbstate_t state = {0};
    el_get(e, EL_CLIENTDATA, &in);
    for (;;) {
        char byte;
        ssize_t got = read(STDIN_FILENO, &byte, 1);
        if (got == 0)
            return 0;
        if (got < 0 && errno == EINTR && !in->interrupted())
            continue;
        if (got < 0)
            return -1;
        size_t n = mbrtowc(out, &byte, 1, &state);
        if (n == (size_t)-1)
            *out = L'\xfffd';
        in->typed = true;
        if (n != (size_t)-2)
            return 1;
    }
}

struct line_input *line_input_open(const char *prompt, bool (*interrupted)(void))
{
    struct line_input *in = calloc(1, sizeof *in);
    HistEvent event;
    if (!in)
        return NULL;
    in->prompt = prompt;
    in->interrupted = interrupted;
    if (!isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO))
        return in;
    if (!setlocale(LC_CTYPE, "") || MB_CUR_MAX == 1)
        setlocale(LC_CTYPE, "C.UTF-8");
    in->editor = el_init("cadre", stdin, stdout, stderr);
    in->history = history_init();
    if (!in->editor || !in->history) {
        line_input_close(in);
        return NULL;
    }
    history(in->history, &event, H_SETSIZE, HISTORY_LINES);
    history(in->history, &event, H_SETUNIQUE, 1);
    el_set(in->editor, EL_CLIENTDATA, in);
    el_set(in->editor, EL_PROMPT, prompt_of);
    el_set(in->editor, EL_EDITOR, "emacs");
    el_set(in->editor, EL_SIGNAL, 0);
    el_set(in->editor, EL_HIST, history, in->history);
    el_set(in->editor, EL_GETCFN, read_char);
    el_set(in->editor, EL_BIND, "^R", "em-inc-search-prev", NULL);
    el_source(in->editor, NULL); /* ~/.editrc, as other programs with libedit */
    return in;
}

void line_input_close(struct line_input *in)
{
    if (!in)
        return;
    if (in->editor)
        el_end(in->editor);
    if (in->history)
        history_end(in->history);
    free(in->line);
    free(in->text);
    free(in);
}

bool line_input_typed(const struct line_input *in)
{
    return in->typed;
}

bool line_input_is_terminal(const struct line_input *in)
{
    return in->editor != NULL;
}

/* A line without its end; -1 at the end of input, -2 after an interrupt. */
static ssize_t read_line(struct line_input *in, const char **line)
{
    int count = 0;
    ssize_t n;
    errno = 0;
    if (in->editor) {
        *line = el_gets(in->editor, &count);
        n = *line ? count : -1;
    } else {
        n = getline(&in->line, &in->line_room, stdin);
        *line = in->line;
    }
    if (n <= 0) {
        if (in->interrupted())
            return -2;
        return -1;
    }
    return n - ((*line)[n - 1] == '\n');
}

static bool append(struct line_input *in, const char *p, size_t n)
{
    if (in->n + n + 2 > in->room) {
        size_t room = 2 * (in->n + n) + 64;
        char *more = realloc(in->text, room);
        if (!more)
            return false;
        in->text = more;
        in->room = room;
    }
    memcpy(in->text + in->n, p, n);
    in->n += n;
    in->text[in->n] = 0;
    return true;
}

/* Whether more text is waiting already: the rest of something pasted. */
static bool more_waits(const struct line_input *in)
{
    struct pollfd p = {.fd = STDIN_FILENO, .events = POLLIN};
    return in->editor && poll(&p, 1, PASTE_MS) == 1;
}

static const char mark[] = "\"\"\"";
enum { MARK = sizeof mark - 1 };

enum input_result line_input_read(struct line_input *in, char **text, size_t *n)
{
    bool block = false, more = true, empty_start = false;
    in->n = 0;
    in->continued = in->typed = false;
    while (more) {
        const char *line;
        ssize_t length = read_line(in, &line);
        if (length == -2)
            return INPUT_INTERRUPTED;
        if (length < 0 && !in->continued)
            return INPUT_END;
        if (length < 0)
            break; /* the end of input ends the message too */
        size_t len = (size_t)length;
        if (in->continued && !empty_start && !append(in, "\n", 1))
            return INPUT_FAILED;
        if (!block && !in->continued && len >= MARK && memcmp(line, mark, MARK) == 0) {
            block = true;
            line += MARK;
            len -= MARK;
        }
        const char *end = block ? memmem(line, len, mark, MARK) : NULL;
        bool backslash = !block && len && line[len - 1] == '\\';
        if (!append(in, line, end ? (size_t)(end - line) : len - backslash))
            return INPUT_FAILED;
        more = block ? !end : backslash || more_waits(in);
        /* Nothing stands behind the opening mark: the text begins on the next line. */
        empty_start = block && !in->continued && len == 0;
        in->continued = true;
        block = block && !end;
    }
    if (in->editor && in->n) {
        HistEvent event;
        history(in->history, &event, H_ENTER, in->text);
    }
    *text = in->text ? in->text : "";
    *n = in->n;
    return in->text || append(in, "", 0) ? (*text = in->text, INPUT_MESSAGE) : INPUT_FAILED;
}
