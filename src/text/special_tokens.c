#include "text/special_tokens.h"

#include <stdlib.h>

struct special_node {
    int32_t child, sibling; /* 0 = none */
    int32_t id;             /* the token that ends here, or -1 */
    unsigned char byte;
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
                              int64_t n, cadre_error *err)
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
        if (!is_special(kinds[i]) || tokens[i].n == 0)
            continue;
        const unsigned char *p = (const unsigned char *)tokens[i].p;
        int32_t node = descend(s, &s->first[p[0]], p[0]);
        for (uint64_t k = 1; k < tokens[i].n; k++)
            node = descend(s, &s->nodes[node].child, p[k]);
        s->nodes[node].id = (int32_t)i;
        s->nodes[node].user_defined = kinds[i] == TOKEN_USER_DEFINED;
    }
    return CADRE_OK;
}

void special_tokens_free(struct special_tokens *s)
{
    free(s->nodes);
    s->nodes = NULL;
}

/* The longest token that begins at p, or -1. */
static int32_t longest(const struct special_tokens *s, const unsigned char *p, size_t n, bool all, size_t *len)
{
    int32_t id = -1;
    size_t k = 0;
    for (int32_t node = s->first[p[0]]; node;) {
        const struct special_node *at = &s->nodes[node];
        k++;
        if (at->id >= 0 && (all || at->user_defined))
            id = at->id, *len = k;
        if (k == n)
            break;
        for (node = at->child; node && s->nodes[node].byte != p[k];)
            node = s->nodes[node].sibling;
    }
    return id;
}

int32_t special_tokens_next(const struct special_tokens *s, const char *text, size_t n, size_t from, bool all,
                            size_t *at, size_t *len)
{
    const unsigned char *p = (const unsigned char *)text;
    for (size_t i = from; i < n; i++) {
        if (!s->first[p[i]])
            continue;
        int32_t id = longest(s, p + i, n - i, all, len);
        if (id >= 0) {
            *at = i;
            return id;
        }
    }
    *at = n;
    return -1;
}
