/* Rotary position embedding (Su et al. 2021): pair i of a head, (a, b), turns by the angle position · inv_freq[i]:
 *
 *     a' = scale (a cos - b sin)     b' = scale (a sin + b cos)
 *
 * The backward is the rotation by the negative angle. Cosines and sines are computed once per call for all heads, and
 * once per position where the positions are fewer than the rows (many sequences side by side), in double and then
 * rounded: an angle may be 10⁵ radians, of which a float has lost the fraction. sincos is libm's, the same library
 * under every compiler, so the bytes do not depend on who compiled this. */
#include "op/op.h"

#include <assert.h>
#include <math.h>
#include <string.h>

struct turn {
    struct tensor *x, *y;
    real *cos, *sin; /* [angles, n_rot / 2], times scale */
    int32_t *angle;  /* [n] each row's row of them */
    int64_t head_dim, n_rot, first;
    int64_t step, partner; /* pair j is (j * step, j * step + partner) */
};

struct angles { /* to fill the tables of a turn */
    const struct turn *turn;
    const int32_t *position; /* of each row of the tables; NULL: it is the row's number */
    const struct rope *rope;
};

static void angle_rows(void *arg, int64_t from, int64_t to)
{
    const struct angles *s = arg;
    int64_t pairs = s->rope->n_rot / 2;
    for (int64_t i = from; i < to; i++)
        for (int64_t j = 0; j < pairs; j++) {
            double sine, cosine, position = (double)(s->position ? s->position[i] : i);
            sincos(position * (double)s->rope->inv_freq[j], &sine, &cosine);
            s->turn->cos[i * pairs + j] = (real)(cosine * (double)s->rope->scale);
            s->turn->sin[i * pairs + j] = (real)(sine * (double)s->rope->scale);
        }
}

/* Fills the tables and says which row of them each row of x takes. */
static void angles_fill(struct op_ctx *c, const struct turn *t, int64_t n, const int32_t *position,
                        const struct rope *rope)
{
    if (c->dry || n == 0)
        return;
    int32_t first = position[0], last = position[0];
    for (int64_t i = 1; i < n; i++) {
        first = position[i] < first ? position[i] : first;
        last = position[i] > last ? position[i] : last;
    }
    bool shared = first >= 0 && last < n;
    for (int64_t i = 0; i < n; i++)
        t->angle[i] = shared ? position[i] : (int32_t)i;
    struct angles s = {t, shared ? NULL : position, rope};
    op_rows_run(c, shared ? last + 1 : n, rope->n_rot / 2 * 16, angle_rows, &s); /* a sincos weighs 16 products */
}

static void turn_rows(void *arg, int64_t from, int64_t to)
{
    const struct turn *t = arg;
    int64_t cols = tensor_cols(t->x), pairs = t->n_rot / 2, step = t->step, partner = t->partner;
    for (int64_t i = from; i < to; i++) {
        const real *restrict c = t->cos + t->angle[i] * pairs, *restrict s = t->sin + t->angle[i] * pairs;
        for (int64_t h = i * cols; h < (i + 1) * cols; h += t->head_dim) {
            const real *restrict x = t->x->x + h + t->first;
            real *restrict y = t->y->x + h + t->first;
            for (int64_t j = 0; j < pairs; j++) {
                real a = x[j * step], b = x[j * step + partner];
                y[j * step] = a * c[j] - b * s[j];
                y[j * step + partner] = a * s[j] + b * c[j];
            }
            memcpy(t->y->x + h, t->x->x + h, (size_t)t->first * sizeof *y);
            memcpy(y + t->n_rot, x + t->n_rot, (size_t)(t->head_dim - t->first - t->n_rot) * sizeof *y);
        }
    }
}

struct turn_gradient {
    const struct turn *turn;
    const real *dy;
    real *dx;
};

static void turn_back_rows(void *arg, int64_t from, int64_t to)
{
    const struct turn_gradient *g = arg;
    const struct turn *t = g->turn;
    int64_t cols = tensor_cols(t->x), pairs = t->n_rot / 2, step = t->step, partner = t->partner;
    for (int64_t i = from; i < to; i++) {
        const real *restrict c = t->cos + t->angle[i] * pairs, *restrict s = t->sin + t->angle[i] * pairs;
        for (int64_t h = i * cols; h < (i + 1) * cols; h += t->head_dim) {
            const real *restrict dy = g->dy + h + t->first;
            real *restrict dx = g->dx + h + t->first;
            for (int64_t j = 0; j < pairs; j++) {
                real a = dy[j * step], b = dy[j * step + partner];
                dx[j * step] += a * c[j] + b * s[j];
                dx[j * step + partner] += b * c[j] - a * s[j];
            }
            for (int64_t d = -t->first; d < 0; d++)
                dx[d] += dy[d];
            for (int64_t d = t->n_rot; d < t->head_dim - t->first; d++)
                dx[d] += dy[d];
        }
    }
}

static void turn_back(struct op_ctx *c, void *saved)
{
    struct turn *t = saved;
    if (!t->y->g)
        return;
    struct turn_gradient g = {t, t->y->g, tensor_grad(c, t->x)};
    op_rows_run(c, tensor_rows(t->x), tensor_cols(t->x), turn_back_rows, &g);
}

struct tensor *op_rope(struct op_ctx *c, struct tensor *x, int64_t head_dim, const int32_t *position,
                       const struct rope *rope)
{
    int64_t n = tensor_rows(x), pairs = rope->n_rot / 2;
    assert(tensor_cols(x) % head_dim == 0 && rope->n_rot % 2 == 0 && rope->first + rope->n_rot <= head_dim);
    struct turn t = {
        .x = x, .y = op_new2(c, n, tensor_cols(x)), .head_dim = head_dim, .n_rot = rope->n_rot, .first = rope->first};
    t.step = rope->pairs ? 2 : 1;
    t.partner = rope->pairs ? 1 : pairs;
    t.y->track = op_records(c, x->track);
    size_t mark = arena_mark(c->arena);
    t.cos = arena_alloc(c->arena, (size_t)(n * pairs) * sizeof(real));
    t.sin = arena_alloc(c->arena, (size_t)(n * pairs) * sizeof(real));
    t.angle = arena_alloc(c->arena, (size_t)n * sizeof *t.angle);
    angles_fill(c, &t, n, position, rope);
    op_rows_run(c, n, tensor_cols(x), turn_rows, &t);
    if (!t.y->track) {
        arena_reset(c->arena, mark);
        return t.y;
    }
    struct turn *saved = op_struct(c, sizeof *saved);
    *saved = t;
    tape_push(c, turn_back, saved);
    return t.y;
}
