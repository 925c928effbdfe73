#include "text/charsmap.h"

#include <string.h>

static uint32_t read_u32(const char *p)
{
    const unsigned char *u = (const unsigned char *)p;
    return (uint32_t)u[0] | (uint32_t)u[1] << 8 | (uint32_t)u[2] << 16 | (uint32_t)u[3] << 24;
}

cadre_err charsmap_init(struct charsmap *m, struct text_span bytes, cadre_error *err)
{
    CHECK(err, bytes.n >= 4, CADRE_E_FORMAT, "precompiled_charsmap: %llu bytes; expected at least 4",
          (unsigned long long)bytes.n);
    uint32_t size = read_u32(bytes.p);
    CHECK(err, size % 4 == 0 && size > 0 && size <= bytes.n - 4, CADRE_E_FORMAT,
          "precompiled_charsmap: a trie of %u bytes; expected a multiple of 4 in %llu bytes", size,
          (unsigned long long)bytes.n - 4);
    *m = (struct charsmap){bytes.p + 4, size / 4, bytes.p + 4 + size, bytes.n - 4 - size};
    CHECK(err, m->n_texts > 0 && m->texts[m->n_texts - 1] == 0, CADRE_E_FORMAT,
          "precompiled_charsmap: the replacements do not end in a 0 byte");
    return CADRE_OK;
}

static uint32_t offset_of(uint32_t unit)
{
    return unit >> 10 << ((unit & 1u << 9) >> 6);
}

size_t charsmap_find(const struct charsmap *m, const char *p, size_t n, bool longest, struct text_span *text)
{
    size_t found = 0;
    uint32_t node = offset_of(read_u32(m->units));
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)p[i];
        node ^= c;
        if (c == 0 || node >= m->n_units)
            break;
        uint32_t unit = read_u32(m->units + 4 * (size_t)node);
        if ((unit & (1u << 31 | 0xff)) != c)
            break;
        node ^= offset_of(unit);
        if (!(unit >> 8 & 1))
            continue;
        if (node >= m->n_units)
            break;
        uint32_t at = read_u32(m->units + 4 * (size_t)node) & 0x7fffffff;
        if (at >= m->n_texts)
            break;
        found = i + 1;
        *text = (struct text_span){m->texts + at, strlen(m->texts + at)};
        if (!longest)
            break;
    }
    return found;
}
