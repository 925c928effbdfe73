#include "text/special_tokens.h"

#include <stdlib.h>

#include "text/unicode.h"

struct special_node {
    int32_t child, sibling; /* 0 = none */
    int32_t id;             /* the token that ends here, or -1 */
    unsigned char byte, flags;
    bool user_defined;
};

static bool is_special(unsigned char kind)
{
    return kind == TOKEN_CONTROL || kind == TOKEN_UNKNOWN || kind == TOKEN_USER_DEFINED;
}

/* The node for `byte` in the list that begins at *list, made if it is not there. */
static int32_t descend(struct special_tokens *s, int32_t *list, unsigned char byte)
{
    for (int32_t i = *list; i; i = s->nodes[i].sibling)
        if (s->nodes[i].byte == byte)
            return i;
    int32_t i = s->n_nodes++;
    s->nodes[i] = (struct special_node){.sibling = *list, .id = -1, .byte = byte};
    *list = i;
    return i;
}

cadre_err special_tokens_init(struct special_tokens *s, const struct text_span *tokens, const unsigned char *kinds,
                              const unsigned char *flags, int64_t n, bool normalized, cadre_error *err)
{
    *s = (struct special_tokens){.n_nodes = 1};
    uint64_t bytes = 1;
    for (int64_t i = 0; i < n; i++)
        bytes += is_special(kinds[i]) ? tokens[i].n : 0;
    CHECK(err, bytes < INT32_MAX, CADRE_E_FORMAT, "special tokens of %llu bytes in all; at most 2 GB are possible",
          (unsigned long long)bytes);
    s->nodes = malloc(bytes * sizeof *s->nodes);
    CHECK(err, s->nodes, CADRE_E_MEMORY, "no memory for special tokens of %llu bytes", (unsigned long long)bytes);
    for (int64_t i = 0; i < n; i++) {
        unsigned char flag = flags ? flags[i] : 0;
        if (!is_special(kinds[i]) || tokens[i].n == 0 || !!(flag & TOKEN_NORMALIZED) != normalized)
            continue;
        const unsigned char *p = (const unsigned char *)tokens[i].p;
        int32_t node = descend(s, &s->first[p[0]], p[0]);
        for (uint64_t k = 1; k < tokens[i].n; k++)
            node = descend(s, &s->nodes[node].child, p[k]);
        s->nodes[node].id = (int32_t)i;
        s->nodes[node].flags = flag;
        s->nodes[node].user_defined = kinds[i] == TOKEN_USER_DEFINED;
    }
    return CADRE_OK;
}

void special_tokens_free(struct special_tokens *s)
{
    free(s->nodes);
    s->nodes = NULL;
}

bool special_tokens_any(const struct special_tokens *s)
{
    return s->n_nodes > 1;
}

/* The longest token that begins at p, or NULL. */
static const struct special_node *longest(const struct special_tokens *s, const unsigned char *p, size_t n, bool all,
                                          size_t *len)
{
    const struct special_node *found = NULL;
    size_t k = 0;
    for (int32_t node = s->first[p[0]]; node;) {
        const struct special_node *at = &s->nodes[node];
        k++;
        if (at->id >= 0 && (all || at->user_defined))
            found = at, *len = k;
        if (k == n)
            break;
        for (node = at->child; node && s->nodes[node].byte != p[k];)
            node = s->nodes[node].sibling;
    }
    return found;
}

/* The character that ends at text[at], at > 0. */
static int32_t char_before(const char *text, size_t at, size_t *len)
{
    size_t begin = at - 1;
    while (begin > 0 && at - begin < 4 && ((unsigned char)text[begin] & 0xc0) == 0x80)
        begin--;
    int k;
    int32_t c = unicode_read(text + begin, at - begin, &k);
    *len = c >= 0 && begin + (size_t)k == at ? (size_t)k : 1;
    return *len == 1 && (text[at - 1] & 0x80) ? -1 : c;
}

static bool is_word_at(int32_t c)
{
    return c >= 0 && unicode_is_word(c);
}

static bool touches_word(const char *text, size_t n, size_t start, size_t end)
{
    size_t before;
    int after;
    return (start > 0 && is_word_at(char_before(text, start, &before))) ||
           (end < n && is_word_at(unicode_read(text + end, n - end, &after)));
}

/* White space at the sides that belongs to the match, as far as no earlier match has taken it. */
static void widen(struct special_match *m, unsigned char flags, const char *text, size_t n, size_t from)
{
    size_t before;
    int after, c;
    while (flags & TOKEN_TAKES_LEFT && m->start > from && (c = char_before(text, m->start, &before)) >= 0 &&
           unicode_is_space(c))
        m->start -= before;
    while (flags & TOKEN_TAKES_RIGHT && m->end < n && (c = unicode_read(text + m->end, n - m->end, &after)) >= 0 &&
           unicode_is_space(c))
        m->end += (size_t)after;
}

struct special_match special_tokens_next(const struct special_tokens *s, const char *text, size_t n, size_t from,
                                         bool all)
{
    const unsigned char *p = (const unsigned char *)text;
    for (size_t i = from, len = 0; i < n; i++) {
        if (!s->first[p[i]])
            continue;
        const struct special_node *node = longest(s, p + i, n - i, all, &len);
        if (!node || (node->flags & TOKEN_WHOLE_WORD && touches_word(text, n, i, i + len)))
            continue;
        struct special_match m = {node->id, i, i + len};
        if (node->flags & (TOKEN_TAKES_LEFT | TOKEN_TAKES_RIGHT))
            widen(&m, node->flags, text, n, from);
        return m;
    }
    return (struct special_match){-1, n, n};
}
