/* Embedding: rows of a table, from f32 parameters or decoded from the rows of a file. */
#include "op/op.h"

#include <assert.h>
#include <string.h>

#include "base/checked.h"
#include "op/scatter.h"

enum { DECODE_CHUNK = 256 }; /* a multiple of every format's block */

struct embed_job {
    const struct weight *table;
    const int32_t *ids;
    real *y;
};

static void decode_row(real *y, const struct weight *table, int64_t id)
{
    const struct dtype_info *type = dtype_info(table->rows_type);
    const unsigned char *row = (const unsigned char *)table->rows + id * (table->k / type->block * type->bytes);
    float chunk[DECODE_CHUNK];
    for (int64_t i = 0; i < table->k; i += DECODE_CHUNK) {
        int64_t n = min_i64(DECODE_CHUNK, table->k - i);
        type->decode(row + i / type->block * type->bytes, chunk, (size_t)n);
        for (int64_t j = 0; j < n; j++)
            y[i + j] = chunk[j];
    }
}

static void embed_rows(void *arg, int64_t from, int64_t to)
{
    const struct embed_job *job = arg;
    int64_t k = job->table->k;
    for (int64_t i = from; i < to; i++) {
        int64_t id = job->ids[i];
        assert(id >= -1 && id < job->table->n);
        if (id < 0)
            memset(job->y + i * k, 0, (size_t)k * sizeof(real));
        else if (job->table->param)
            memcpy(job->y + i * k, job->table->param->x + id * k, (size_t)k * sizeof(real));
        else
            decode_row(job->y + i * k, job->table, id);
    }
}

struct embed_saved {
    struct tensor *table, *y;
    const int32_t *ids;
};

static void embed_back(struct op_ctx *c, void *saved)
{
    struct embed_saved *s = saved;
    if (s->y->g)
        op_scatter_add(c, tensor_grad(c, s->table), s->y->g, s->ids, tensor_rows(s->y), tensor_cols(s->y));
}

struct tensor *op_embed(struct op_ctx *c, const struct weight *table, const int32_t *ids, int64_t n)
{
    struct tensor *y = op_new2(c, n, table->k);
    struct embed_job job = {table, ids, y->x};
    op_rows_run(c, n, table->k, embed_rows, &job);
    if (op_records(c, table->param && table->param->track)) {
        y->track = true;
        struct embed_saved *s = op_struct(c, sizeof *s);
        *s = (struct embed_saved){table->param, y, ids};
        tape_push(c, embed_back, s);
    }
    return y;
}
