/* The way back from strips to rows, for every layout at once: instead of an inverse for each format, the packer is
 * asked where it puts things. Bit b of 16 rows gets the number b + 1; rows that hold bit j of every number are packed,
 * for each j, and what then lies in one bit of the strip, over all j, is the number of the bit that came there. */
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "base/checked.h"
#include "base/rng.h"
#include "kernel/packed.h"

enum { RUN_BITS = 32 };

/* Bits that stay together. */
struct run {
    uint32_t to, from, n;
};

struct strip_map {
    size_t row_bytes;
    int64_t n_runs;
    struct run run[]; /* in order of `to` */
};

static size_t bytes_of_rows(enum dtype type, int64_t k)
{
    return (size_t)STRIP * (size_t)(k / dtype_info(type)->block) * dtype_info(type)->bytes;
}

static void random_bytes(unsigned char *p, size_t n, uint64_t seed)
{
    struct rng rng;
    rng_seed(&rng, seed);
    for (size_t i = 0; i < n; i++)
        p[i] = (unsigned char)(rng_u64(&rng) >> 56);
}

uint64_t packed_stamp(enum dtype type)
{
    enum { K = 2 * PIECE_K };
    size_t strip = packed_strip_bytes(type, K), n = bytes_of_rows(type, K);
    unsigned char *rows = malloc(n + strip);
    uint64_t stamp = 0;
    if (rows && strip) {
        random_bytes(rows, n, 1);
        packed_fill(NULL, rows + n, type, rows, STRIP, K);
        stamp = XXH3_64bits(rows + n, strip);
    }
    free(rows);
    return stamp;
}

static unsigned bit_at(const unsigned char *p, size_t i)
{
    return p[i / 8] >> i % 8 & 1u;
}

/* from[b]: the bit of the strip that bit b of the rows became; false if one came nowhere. */
static bool ask_packer(enum dtype type, int64_t k, size_t bits, size_t strip, uint32_t *from, unsigned char *rows,
                       unsigned char *packed)
{
    int digits = 0;
    while ((uint64_t)bits >> digits)
        digits++;
    for (int j = 0; j < digits; j++) {
        memset(rows, 0, bits / 8);
        for (size_t b = 0; b < bits; b++)
            rows[b / 8] |= (unsigned char)(((b + 1) >> j & 1) << b % 8);
        packed_fill(NULL, packed + (size_t)j * strip, type, rows, STRIP, k);
    }
    memset(from, 0xff, bits * sizeof *from);
    for (size_t s = 0; s < 8 * strip; s++) {
        size_t number = 0;
        for (int j = 0; j < digits; j++)
            number |= (size_t)bit_at(packed + (size_t)j * strip, s) << j;
        if (number >= 1 && number <= bits)
            from[number - 1] = (uint32_t)s;
    }
    for (size_t b = 0; b < bits; b++)
        if (from[b] == UINT32_MAX)
            return false;
    return true;
}

static struct strip_map *join_runs(const uint32_t *from, size_t bits)
{
    struct strip_map *m = malloc(sizeof *m + bits * sizeof *m->run);
    if (!m)
        return NULL;
    m->row_bytes = bits / 8 / STRIP;
    m->n_runs = 0;
    for (size_t b = 0; b < bits; b++) {
        struct run *last = m->n_runs ? &m->run[m->n_runs - 1] : NULL;
        if (last && last->n < RUN_BITS && from[b] == last->from + last->n && b % (8 * m->row_bytes))
            last->n++;
        else
            m->run[m->n_runs++] = (struct run){(uint32_t)b, from[b], 1};
    }
    struct strip_map *fit = realloc(m, sizeof *m + (size_t)m->n_runs * sizeof *m->run);
    return fit ? fit : m;
}

/* Whether rows come back as they were. */
static bool goes_back(const struct strip_map *m, enum dtype type, int64_t k, unsigned char *rows, unsigned char *packed)
{
    size_t n = STRIP * m->row_bytes;
    unsigned char *again = malloc(n + STRIP_SLACK);
    random_bytes(rows, n, 2);
    packed_fill(NULL, packed, type, rows, STRIP, k);
    if (again)
        strip_map_rows(m, again, packed, STRIP);
    bool same = again && memcmp(again, rows, n) == 0;
    free(again);
    return same;
}

struct strip_map *strip_map_new(enum dtype type, int64_t k)
{
    size_t strip = packed_strip_bytes(type, k), bits = strip ? 8 * bytes_of_rows(type, k) : 0;
    struct strip_map *m = NULL;
    if (bits == 0 || strip > UINT32_MAX / 8)
        return NULL;
    unsigned char *rows = malloc(bits / 8 + STRIP_SLACK), *packed = malloc(32 * strip + STRIP_SLACK);
    uint32_t *from = malloc(bits * sizeof *from);
    if (rows && packed && from && ask_packer(type, k, bits, strip, from, rows, packed))
        m = join_runs(from, bits);
    if (m && !goes_back(m, type, k, rows, packed)) {
        free(m);
        m = NULL;
    }
    free(rows);
    free(packed);
    free(from);
    return m;
}

void strip_map_rows(const struct strip_map *m, unsigned char *rows, const unsigned char *strip, int64_t n)
{
    size_t bits = 8 * (size_t)n * m->row_bytes;
    memset(rows, 0, bits / 8 + STRIP_SLACK);
    for (int64_t i = 0; i < m->n_runs && m->run[i].to < bits; i++) {
        struct run r = m->run[i];
        uint64_t x, y;
        memcpy(&x, strip + r.from / 8, sizeof x);
        memcpy(&y, rows + r.to / 8, sizeof y);
        y |= (x >> r.from % 8 & ((UINT64_C(1) << r.n) - 1)) << r.to % 8;
        memcpy(rows + r.to / 8, &y, sizeof y);
    }
}
