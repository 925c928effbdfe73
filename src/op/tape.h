/* Tensors, the operator context and the tape.
 *
 * Operators are eager: a call computes its output at once. With a tape the call also records how to go back; without
 * one the same call is inference and keeps nothing. Outputs, gradients and what a backward needs live in the
 * context's arena; nothing else is allocated. A *dry* run (measuring arena, no arithmetic, no reads of data)
 * over the same builder plans the arena exactly: every size depends on shapes alone. What even a dry run has to read
 * (tensors, tape nodes, saved structs) is taken with op_struct: it is counted in the measuring arena, and lies in a
 * small real arena, `plan`.
 *
 * Operators cannot fail: shapes are checked when a model is built or loaded, and the arena is planned; a wrong shape
 * is a bug of ours and asserts. */
#ifndef CADRE_OP_TAPE_H
#define CADRE_OP_TAPE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/pool.h"
#include "kernel/gemm.h"
#include "kernel/kernel.h"
#include "tensor/real.h"

enum { TENSOR_MAX_DIMS = 4 };

/* Row-major, contiguous. x: values. g: gradient of the loss, the same shape; for tensors made by operators it is
 * allocated and zeroed on first use in the backward pass, for parameters it belongs to the trainer and is added to
 * (in a dry run x is not touched and g only has to be non-null where track is set). */
struct tensor {
    real *x;
    real *g;             /* read it through tensor_grad */
    struct tensor *base; /* NULL, or the tensor that this one is a view of: they share x and g */
    int n_dims;
    int64_t dim[TENSOR_MAX_DIMS];
    bool track; /* a gradient is wanted: a parameter being trained, or made from one under a tape */
};

static inline int64_t tensor_cols(const struct tensor *t)
{
    return t->dim[t->n_dims - 1];
}

static inline int64_t tensor_count(const struct tensor *t)
{
    int64_t n = 1;
    for (int i = 0; i < t->n_dims; i++)
        n *= t->dim[i];
    return n;
}

static inline int64_t tensor_rows(const struct tensor *t) /* product of all dims but the last */
{
    int64_t n = 1;
    for (int i = 0; i + 1 < t->n_dims; i++)
        n *= t->dim[i];
    return n;
}

/* A weight matrix, or a stack of n_expert of them, y = W x with W[n, k].
 * Training: `param` holds f32 values and gradient, [n_expert * n, k] (transposed: each matrix [k, n]). Inference:
 * `packed` holds n_expert (at least one) matrices in strips, and `rows`, where an operator looks up single rows
 * (embeddings), the rows as in the file. */
struct weight {
    int64_t n_expert; /* 0: a plain matrix */
    int64_t n, k;
    struct tensor *param;
    bool transposed;
    const struct packed *packed;
    const void *rows;
    enum dtype rows_type;
};

struct op_ctx;
typedef void op_back(struct op_ctx *c, void *saved);

struct tape_node {
    struct tape_node *previous;
    op_back *back;
    void *saved;
};

struct tape {
    struct tape_node *last;
};

struct op_ctx {
    const struct kernels *k;
    struct pool *pool; /* NULL: one thread */
    struct arena *arena;
    struct tape *tape; /* NULL: inference */
    enum gemm_precision precision;
    enum act act; /* inference; lossy but for ACT_F32, the default: activations that meet weights in blocks */
    bool dry;
    struct arena *plan; /* dry run: real memory for structs; given back by its owner as a whole */
};

/* Address space for `plan`, far above what the structs of any model take; only what is touched costs memory. */
#define OP_PLAN_BYTES ((size_t)256 << 20)

/* Memory that is also readable in a dry run: for structs and other small things, never for values. */
void *op_struct(struct op_ctx *c, size_t size);

/* A new tensor in the arena, values undefined. track is set by the operator. */
struct tensor *op_new(struct op_ctx *c, int n_dims, const int64_t *dim);
struct tensor *op_new2(struct op_ctx *c, int64_t rows, int64_t cols);
/* A tensor over memory of the caller (inputs); not tracked. */
struct tensor *op_wrap(struct op_ctx *c, real *x, int64_t rows, int64_t cols);

/* True when an operator whose inputs' tracks are or-ed into `track` has to record itself. */
static inline bool op_records(const struct op_ctx *c, bool track)
{
    return c->tape && track;
}

/* Record a backward; `saved` lives in the arena. */
void tape_push(struct op_ctx *c, op_back *back, void *saved);

/* The gradient array of t, allocated and zeroed on first use. In a dry run it only counts. */
real *tensor_grad(struct op_ctx *c, struct tensor *t);
/* The same for a caller that writes every element: on first use the array is not zeroed and *accumulate is false. */
real *tensor_grad_write(struct op_ctx *c, struct tensor *t, bool *accumulate);
/* y passes its gradient on to t unchanged: if t has none yet it takes over y's array, which y no longer needs once its
 * backward runs. False: t has one, and y's has to be added. */
bool tensor_grad_take(struct tensor *t, struct tensor *y);

/* Go back from a scalar: d loss / d loss = scale, then every recorded backward in reverse. Empties the tape. */
void tape_backward(struct op_ctx *c, struct tensor *loss, real scale);

/* Every recorded backward in reverse, for who has set the gradients to begin with. Empties the tape. */
void tape_unwind(struct op_ctx *c);

/* ---- for those who write operators; both do no arithmetic in a dry run */

/* fn over the rows in pieces of bounded size, on whichever thread is free. */
typedef void op_rows_fn(void *arg, int64_t from, int64_t to);
void op_rows_run(struct op_ctx *c, int64_t rows, int64_t cols, op_rows_fn *fn, void *arg);

/* out[cols] += the sum over all rows, in an order that shape alone decides: chunks of 256 rows, then a tree over the
 * chunks. fn adds rows from … to, ascending, to sum[cols]. Scratch comes from the arena and is given back. */
typedef void op_cols_fn(void *arg, int64_t from, int64_t to, real *sum);
void op_cols_run(struct op_ctx *c, int64_t rows, int64_t cols, op_cols_fn *fn, void *arg, real *out);

#endif
