#include "tensor/assemble.h"

#include <string.h>

#include "base/checked.h"
#include "tensor/format/format.h"

static int64_t div_up(int64_t n, int64_t by)
{
    return n / by + (n % by != 0);
}

/* A part must have a · b numbers of `size` bytes. */
static cadre_err check_part(const struct part *p, const char *name, int64_t a, int64_t b, uint64_t size,
                            cadre_error *err)
{
    uint64_t want;
    CHECK(err, mul_ok((uint64_t)a, (uint64_t)b, &want) && mul_ok(want, size, &want), CADRE_E_FORMAT,
          "%s: a shape of %lld by %lld is too large", name, (long long)a, (long long)b);
    CHECK(err, p->bytes == want, CADRE_E_FORMAT, "%s: expected %lld by %lld numbers in %llu bytes, found %llu bytes",
          name, (long long)a, (long long)b, (unsigned long long)want, (unsigned long long)p->bytes);
    return CADRE_OK;
}

static cadre_err check_shape(int64_t n, int64_t k, cadre_error *err)
{
    CHECK(err, n > 0 && k > 0, CADRE_E_FORMAT,
          "a matrix to assemble: expected at least one row and column, found %lld "
          "by %lld",
          (long long)n, (long long)k);
    return CADRE_OK;
}

static cadre_err check_room(uint64_t bytes, enum dtype type, int64_t n, int64_t k, cadre_error *err)
{
    uint64_t row, want;
    CHECK(err, dtype_size(type, (uint64_t)k, &row) && mul_ok(row, (uint64_t)n, &want) && want == bytes, CADRE_E_ARG,
          "rows of %s, %lld by %lld, do not fit the %llu bytes that are given for them", dtype_info(type)->name,
          (long long)n, (long long)k, (unsigned long long)bytes);
    return CADRE_OK;
}

static void put_f32(unsigned char *dst, float x)
{
    memcpy(dst, &x, sizeof x);
}

static float get_f32(const struct part *p, int64_t i)
{
    uint32_t bits = le32((const unsigned char *)p->data + 4 * i);
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* Blocks fit when rows are whole ones and none crosses the border of a group of scales. */
static bool blocks_fit(enum dtype type, int64_t k, int64_t group)
{
    int64_t block = dtype_info(type)->block;
    return k % block == 0 && (group % block == 0 || group >= k);
}

/* ---- FP8 */

enum dtype fp8_type(const struct fp8_parts *p)
{
    if (p->scale.bytes == 0)
        return p->element;
    if (p->element == DTYPE_F8_E4M3 && blocks_fit(DTYPE_F8_E4M3_B128, p->k, p->scale_k))
        return DTYPE_F8_E4M3_B128;
    enum dtype small = p->element == DTYPE_F8_E4M3 ? DTYPE_F8_E4M3_B32 : DTYPE_F8_E5M2_B32;
    return blocks_fit(small, p->k, p->scale_k) ? small : DTYPE_F32;
}

static cadre_err check_fp8(uint64_t dst_bytes, const struct fp8_parts *p, cadre_error *err)
{
    TRY(check_shape(p->n, p->k, err));
    CHECK(err, p->element == DTYPE_F8_E4M3 || p->element == DTYPE_F8_E5M2, CADRE_E_ARG,
          "FP8 numbers: expected f8_e4m3 or f8_e5m2, found %s", dtype_info(p->element)->name);
    TRY(check_part(&p->weight, "FP8 weight", p->n, p->k, 1, err));
    if (p->scale.bytes) {
        CHECK(err, p->scale_n > 0 && p->scale_k > 0, CADRE_E_FORMAT,
              "FP8 scales: expected one for at least 1 by 1 numbers, found %lld by %lld", (long long)p->scale_n,
              (long long)p->scale_k);
        TRY(check_part(&p->scale, "FP8 scale", div_up(p->n, p->scale_n), div_up(p->k, p->scale_k), 4, err));
    }
    return check_room(dst_bytes, fp8_type(p), p->n, p->k, err);
}

cadre_err fp8_assemble(void *dst, uint64_t dst_bytes, const struct fp8_parts *p, cadre_error *err)
{
    TRY(check_fp8(dst_bytes, p, err));
    enum dtype type = fp8_type(p);
    if (type == p->element) {
        memcpy(dst, p->weight.data, p->weight.bytes);
        return CADRE_OK;
    }
    const struct dtype_info *element = dtype_info(p->element);
    int64_t block = dtype_info(type)->block, scales = div_up(p->k, p->scale_k);
    const unsigned char *from = p->weight.data;
    unsigned char *to = dst;
    for (int64_t i = 0; i < p->n; i++)
        for (int64_t j = 0; j < p->k; j += block, from += block, to += dtype_info(type)->bytes) {
            float scale = get_f32(&p->scale, i / p->scale_n * scales + j / p->scale_k), x;
            if (type == DTYPE_F32) {
                element->decode(from, &x, 1);
                put_f32(to, x * scale);
            } else {
                put_f32(to, scale);
                memcpy(to + 4, from, (size_t)block);
            }
        }
    return CADRE_OK;
}

/* ---- GPTQ and AWQ */

static int64_t group_size(const struct int4_parts *p)
{
    return p->group == -1 ? p->k : p->group;
}

static int64_t group_count(const struct int4_parts *p)
{
    return div_up(p->k, group_size(p));
}

static cadre_err check_g_idx(const struct int4_parts *p, cadre_error *err)
{
    int64_t groups = group_count(p);
    if (p->g_idx.bytes == 0)
        return CADRE_OK;
    CHECK(err, p->kind != INT4_AWQ, CADRE_E_FORMAT, "g_idx: AWQ has none");
    TRY(check_part(&p->g_idx, "g_idx", p->k, 1, 4, err));
    for (int64_t j = 0; j < p->k; j++) {
        int64_t g = (int32_t)le32((const unsigned char *)p->g_idx.data + 4 * j);
        CHECK(err, g >= 0 && g < groups, CADRE_E_FORMAT, "g_idx[%lld]: expected a group from 0 to %lld, found %lld",
              (long long)j, (long long)(groups - 1), (long long)g);
    }
    return CADRE_OK;
}

static cadre_err check_int4(const struct int4_parts *p, cadre_error *err)
{
    bool awq = p->kind == INT4_AWQ;
    TRY(check_shape(p->n, p->k, err));
    CHECK(err, p->group == -1 || p->group > 0, CADRE_E_FORMAT, "group size: expected -1 or at least 1, found %lld",
          (long long)p->group);
    CHECK(err, p->n % 8 == 0 && (awq || p->k % 8 == 0), CADRE_E_FORMAT,
          "four-bit words: expected dimensions in multiples of 8, found %lld outputs, %lld inputs", (long long)p->n,
          (long long)p->k);
    TRY(check_part(&p->qweight, "qweight", awq ? p->k : p->k / 8, awq ? p->n / 8 : p->n, 4, err));
    TRY(check_part(&p->qzeros, "qzeros", group_count(p), p->n / 8, 4, err));
    TRY(check_part(&p->scales, "scales", group_count(p), p->n, 2, err));
    return check_g_idx(p, err);
}

static int64_t group_of(const struct int4_parts *p, int64_t j)
{
    return p->g_idx.bytes ? (int32_t)le32((const unsigned char *)p->g_idx.data + 4 * j) : j / group_size(p);
}

static bool groups_in_order(const struct int4_parts *p)
{
    for (int64_t j = 0; j < p->k; j++)
        if (group_of(p, j) != j / group_size(p))
            return false;
    return true;
}

cadre_err int4_type(enum dtype *type, const struct int4_parts *p, cadre_error *err)
{
    TRY(check_int4(p, err));
    *type = DTYPE_F32;
    if (groups_in_order(p)) {
        if (blocks_fit(DTYPE_INT4_B128, p->k, group_size(p)))
            *type = DTYPE_INT4_B128;
        else if (blocks_fit(DTYPE_INT4_B32, p->k, group_size(p)))
            *type = DTYPE_INT4_B32;
    }
    return CADRE_OK;
}

/* Where AWQ keeps column i of eight: bits 4 · place. */
static const uint8_t awq_place[8] = {0, 4, 1, 5, 2, 6, 3, 7};

static uint32_t nibble(const struct part *p, int64_t word, int64_t place)
{
    return le32((const unsigned char *)p->data + 4 * word) >> 4 * place & 15;
}

static uint32_t int4_number(const struct int4_parts *p, int64_t i, int64_t j)
{
    if (p->kind == INT4_AWQ)
        return nibble(&p->qweight, j * (p->n / 8) + i / 8, awq_place[i % 8]);
    return nibble(&p->qweight, j / 8 * p->n + i, j % 8);
}

static uint32_t int4_zero(const struct int4_parts *p, int64_t i, int64_t group)
{
    uint32_t z = nibble(&p->qzeros, group * (p->n / 8) + i / 8, p->kind == INT4_AWQ ? awq_place[i % 8] : i % 8);
    return p->kind == INT4_GPTQ ? (z + 1) & 15 : z;
}

static const unsigned char *int4_scale(const struct int4_parts *p, int64_t i, int64_t group)
{
    return (const unsigned char *)p->scales.data + 2 * (group * p->n + i);
}

static void int4_row_f32(unsigned char *to, const struct int4_parts *p, int64_t i)
{
    for (int64_t j = 0; j < p->k; j++) {
        int64_t g = group_of(p, j);
        put_f32(to + 4 * j,
                (float)((int)int4_number(p, i, j) - (int)int4_zero(p, i, g)) * half_at(int4_scale(p, i, g)));
    }
}

static void int4_row_blocks(unsigned char *to, const struct int4_parts *p, int64_t i, int64_t block)
{
    for (int64_t j = 0; j < p->k; j += block, to += 3 + block / 2) {
        int64_t g = j / group_size(p);
        memcpy(to, int4_scale(p, i, g), 2);
        to[2] = (unsigned char)int4_zero(p, i, g);
        for (int64_t q = 0; q < block / 2; q++)
            to[3 + q] = (unsigned char)(int4_number(p, i, j + 2 * q) | int4_number(p, i, j + 2 * q + 1) << 4);
    }
}

cadre_err int4_assemble(void *dst, uint64_t dst_bytes, const struct int4_parts *p, cadre_error *err)
{
    enum dtype type;
    uint64_t row_bytes = 0;
    TRY(int4_type(&type, p, err));
    TRY(check_room(dst_bytes, type, p->n, p->k, err));
    dtype_size(type, (uint64_t)p->k, &row_bytes);
    for (int64_t i = 0; i < p->n; i++) {
        unsigned char *to = (unsigned char *)dst + (uint64_t)i * row_bytes;
        if (type == DTYPE_F32)
            int4_row_f32(to, p, i);
        else
            int4_row_blocks(to, p, i, dtype_info(type)->block);
    }
    return CADRE_OK;
}

/* ---- MXFP4 */

enum { MX_BLOCK = 32, MX_BYTES = 16 };

static cadre_err check_mxfp4(uint64_t dst_bytes, const struct mxfp4_parts *p, cadre_error *err)
{
    TRY(check_shape(p->n, p->k, err));
    CHECK(err, p->k % MX_BLOCK == 0, CADRE_E_FORMAT, "MXFP4 rows: expected a multiple of 32 numbers, found %lld",
          (long long)p->k);
    CHECK(err,
          p->rows > 0 && p->first >= 0 && p->first < p->rows && p->step > 0 &&
              p->n - 1 <= (p->rows - 1 - p->first) / p->step,
          CADRE_E_FORMAT, "MXFP4 rows: expected %lld rows from row %lld, %lld apart, found %lld rows", (long long)p->n,
          (long long)p->first, (long long)p->step, (long long)p->rows);
    TRY(check_part(&p->blocks, "MXFP4 blocks", p->rows, p->k / MX_BLOCK, MX_BYTES, err));
    TRY(check_part(&p->scales, "MXFP4 scales", p->rows, p->k / MX_BLOCK, 1, err));
    return check_room(dst_bytes, DTYPE_MXFP4, p->n, p->k, err);
}

cadre_err mxfp4_assemble(void *dst, uint64_t dst_bytes, const struct mxfp4_parts *p, cadre_error *err)
{
    TRY(check_mxfp4(dst_bytes, p, err));
    int64_t blocks = p->k / MX_BLOCK;
    unsigned char *to = dst;
    for (int64_t i = 0; i < p->n; i++) {
        int64_t at = (p->first + i * p->step) * blocks;
        const unsigned char *from = (const unsigned char *)p->blocks.data + MX_BYTES * at;
        for (int64_t b = 0; b < blocks; b++, from += MX_BYTES, to += 1 + MX_BYTES) {
            to[0] = ((const unsigned char *)p->scales.data)[at + b];
            for (int j = 0; j < MX_BYTES; j++) { /* numbers j and j + 16 */
                int shift = j % 2 * 4;
                to[1 + j] = (unsigned char)((from[j / 2] >> shift & 15) | (from[8 + j / 2] >> shift & 15) << 4);
            }
        }
    }
    return CADRE_OK;
}
