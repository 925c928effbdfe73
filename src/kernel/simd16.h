/* Sixteen floats as one value: a zmm register, or two ymm registers where there is no AVX-512. The row and product
 * loops (rows_simd.h, gemm_simd.h) are written once over it and compiled once per level. Only static inline functions:
 * code of one level must never be linked into another.
 *
 * A predicate is a lane mask; `n` arguments mean the first n lanes (n >= 16: all). */
#ifndef CADRE_KERNEL_SIMD16_H
#define CADRE_KERNEL_SIMD16_H

#include <immintrin.h>
#include <stdint.h>

#define INLINE static inline __attribute__((always_inline, unused))

#ifdef __AVX512F__

typedef __m512 v16;
typedef __m512i i16;
typedef __mmask16 m16;

INLINE m16 v_first(int64_t n)
{
    return n >= 16 ? 0xffff : (m16)((1u << n) - 1);
}
INLINE v16 v_load(const float *p)
{
    return _mm512_loadu_ps(p);
}
INLINE v16 v_load_n(const float *p, int64_t n) /* zeros beyond n, which are not read */
{
    return _mm512_maskz_loadu_ps(v_first(n), p);
}
INLINE void v_store(float *p, v16 x)
{
    _mm512_storeu_ps(p, x);
}
INLINE void v_store_n(float *p, v16 x, int64_t n)
{
    _mm512_mask_storeu_ps(p, v_first(n), x);
}
INLINE v16 v_set1(float x)
{
    return _mm512_set1_ps(x);
}
INLINE v16 v_add(v16 a, v16 b)
{
    return _mm512_add_ps(a, b);
}
INLINE v16 v_sub(v16 a, v16 b)
{
    return _mm512_sub_ps(a, b);
}
INLINE v16 v_mul(v16 a, v16 b)
{
    return _mm512_mul_ps(a, b);
}
INLINE v16 v_div(v16 a, v16 b)
{
    return _mm512_div_ps(a, b);
}
INLINE v16 v_sqrt(v16 a)
{
    return _mm512_sqrt_ps(a);
}
INLINE v16 v_fma(v16 a, v16 b, v16 c)
{
    return _mm512_fmadd_ps(a, b, c);
}
INLINE v16 v_max(v16 a, v16 b) /* a > b ? a : b */
{
    return _mm512_max_ps(a, b);
}
INLINE m16 v_less(v16 a, v16 b)
{
    return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ);
}
INLINE m16 v_nan(v16 a)
{
    return _mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q);
}
INLINE v16 v_select(m16 m, v16 yes, v16 no)
{
    return _mm512_mask_blend_ps(m, no, yes);
}
INLINE v16 v_keep(m16 m, v16 x) /* zeros elsewhere */
{
    return _mm512_maskz_mov_ps(m, x);
}
INLINE i16 v_bits(v16 x)
{
    return _mm512_castps_si512(x);
}
INLINE v16 v_from_bits(i16 x)
{
    return _mm512_castsi512_ps(x);
}
INLINE i16 i_set1(int x)
{
    return _mm512_set1_epi32(x);
}
INLINE i16 i_add(i16 a, i16 b)
{
    return _mm512_add_epi32(a, b);
}
INLINE i16 i_and(i16 a, i16 b)
{
    return _mm512_and_si512(a, b);
}
INLINE i16 i_or(i16 a, i16 b)
{
    return _mm512_or_si512(a, b);
}
INLINE i16 i_xor(i16 a, i16 b)
{
    return _mm512_xor_si512(a, b);
}
INLINE i16 i_shl(i16 a, int n)
{
    return _mm512_slli_epi32(a, (unsigned)n);
}
INLINE i16 i_shr(i16 a, int n)
{
    return _mm512_srli_epi32(a, (unsigned)n);
}
INLINE i16 i_bytes(i16 a, __m128i order) /* byte order[i] of each quarter becomes its byte i */
{
    return _mm512_shuffle_epi8(a, _mm512_broadcast_i32x4(order));
}
INLINE i16 i_pairs(i16 a, i16 b) /* 16-bit sums of two unsigned bytes of a by two signed ones of b */
{
    return _mm512_maddubs_epi16(a, b);
}
INLINE i16 i_narrow(i16 a, i16 b) /* 16-bit numbers of up to 8 bits: those of a, then b, in each quarter */
{
    return _mm512_packus_epi16(a, b);
}
INLINE i16 i_quarters(const void *p0, const void *p1, const void *p2, const void *p3)
{
    i16 x = _mm512_castsi128_si512(_mm_loadu_si128(p0));
    x = _mm512_inserti32x4(x, _mm_loadu_si128(p1), 1);
    x = _mm512_inserti32x4(x, _mm_loadu_si128(p2), 2);
    return _mm512_inserti32x4(x, _mm_loadu_si128(p3), 3);
}
INLINE i16 i_load(const void *p)
{
    return _mm512_loadu_si512(p);
}
INLINE void i_store(void *p, i16 x)
{
    _mm512_storeu_si512(p, x);
}
INLINE i16 i_select(m16 m, i16 yes, i16 no)
{
    return _mm512_mask_blend_epi32(m, no, yes);
}
INLINE void i_store_u16(uint16_t *p, i16 x) /* the low halves */
{
    _mm256_storeu_si256((__m256i *)p, _mm512_cvtepi32_epi16(x));
}
INLINE v16 v_load_f16(const void *p)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256(p));
}
INLINE void v_store_f16(uint16_t *p, v16 x)
{
    _mm256_storeu_si256((__m256i *)p, _mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT));
}
INLINE void v_store_i8(void *p, v16 x) /* integers from -128 to 127, after truncation */
{
    _mm_storeu_si128(p, _mm512_cvtepi32_epi8(_mm512_cvttps_epi32(x)));
}
INLINE v16 v_load_bf16(const void *p)
{
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256(p)), 16));
}
INLINE v16 v_load_i8(const void *p)
{
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(p)));
}
INLINE __m256 v_low(v16 x)
{
    return _mm512_castps512_ps256(x);
}
INLINE __m256 v_high(v16 x)
{
    return _mm512_extractf32x8_ps(x, 1);
}
/* Four values from each of the addresses p[j + 4 q], q = 0 … 3, into quarter q. */
INLINE v16 v_gather4(const float *const p[16], int j, int64_t at)
{
    return v_from_bits(i_quarters(p[j] + at, p[j + 4] + at, p[j + 8] + at, p[j + 12] + at));
}
INLINE __m128 v_quarter(v16 x, int q)
{
    switch (q) {
    case 0:
        return _mm512_castps512_ps128(x);
    case 1:
        return _mm512_extractf32x4_ps(x, 1);
    case 2:
        return _mm512_extractf32x4_ps(x, 2);
    default:
        return _mm512_extractf32x4_ps(x, 3);
    }
}
/* Transposes the 4 × 4 matrices that lie in quarter q of x[0], …, x[3]. */
INLINE void v_transpose4(v16 x[4])
{
    v16 a = _mm512_unpacklo_ps(x[0], x[1]), b = _mm512_unpackhi_ps(x[0], x[1]);
    v16 c = _mm512_unpacklo_ps(x[2], x[3]), d = _mm512_unpackhi_ps(x[2], x[3]);
    x[0] = _mm512_shuffle_ps(a, c, 0x44);
    x[1] = _mm512_shuffle_ps(a, c, 0xee);
    x[2] = _mm512_shuffle_ps(b, d, 0x44);
    x[3] = _mm512_shuffle_ps(b, d, 0xee);
}

#else /* AVX2: every operation on both halves */

typedef struct {
    __m256 lo, hi;
} v16;
typedef struct {
    __m256i lo, hi;
} i16;
typedef v16 m16; /* all bits of a chosen lane are set */

INLINE m16 v_first(int64_t n)
{
    __m256i count = _mm256_set1_epi32(n >= 16 ? 16 : (int)n);
    return (m16){_mm256_castsi256_ps(_mm256_cmpgt_epi32(count, _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7))),
                 _mm256_castsi256_ps(_mm256_cmpgt_epi32(count, _mm256_setr_epi32(8, 9, 10, 11, 12, 13, 14, 15)))};
}
INLINE v16 v_load(const float *p)
{
    return (v16){_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)};
}
INLINE v16 v_load_n(const float *p, int64_t n) /* zeros beyond n, which are not read */
{
    m16 m = v_first(n);
    return (v16){_mm256_maskload_ps(p, _mm256_castps_si256(m.lo)),
                 _mm256_maskload_ps(p + 8, _mm256_castps_si256(m.hi))};
}
INLINE void v_store(float *p, v16 x)
{
    _mm256_storeu_ps(p, x.lo);
    _mm256_storeu_ps(p + 8, x.hi);
}
INLINE void v_store_n(float *p, v16 x, int64_t n)
{
    m16 m = v_first(n);
    _mm256_maskstore_ps(p, _mm256_castps_si256(m.lo), x.lo);
    _mm256_maskstore_ps(p + 8, _mm256_castps_si256(m.hi), x.hi);
}
INLINE v16 v_set1(float x)
{
    return (v16){_mm256_set1_ps(x), _mm256_set1_ps(x)};
}
INLINE v16 v_add(v16 a, v16 b)
{
    return (v16){_mm256_add_ps(a.lo, b.lo), _mm256_add_ps(a.hi, b.hi)};
}
INLINE v16 v_sub(v16 a, v16 b)
{
    return (v16){_mm256_sub_ps(a.lo, b.lo), _mm256_sub_ps(a.hi, b.hi)};
}
INLINE v16 v_mul(v16 a, v16 b)
{
    return (v16){_mm256_mul_ps(a.lo, b.lo), _mm256_mul_ps(a.hi, b.hi)};
}
INLINE v16 v_div(v16 a, v16 b)
{
    return (v16){_mm256_div_ps(a.lo, b.lo), _mm256_div_ps(a.hi, b.hi)};
}
INLINE v16 v_sqrt(v16 a)
{
    return (v16){_mm256_sqrt_ps(a.lo), _mm256_sqrt_ps(a.hi)};
}
INLINE v16 v_fma(v16 a, v16 b, v16 c)
{
    return (v16){_mm256_fmadd_ps(a.lo, b.lo, c.lo), _mm256_fmadd_ps(a.hi, b.hi, c.hi)};
}
INLINE v16 v_max(v16 a, v16 b) /* a > b ? a : b */
{
    return (v16){_mm256_max_ps(a.lo, b.lo), _mm256_max_ps(a.hi, b.hi)};
}
INLINE m16 v_less(v16 a, v16 b)
{
    return (m16){_mm256_cmp_ps(a.lo, b.lo, _CMP_LT_OQ), _mm256_cmp_ps(a.hi, b.hi, _CMP_LT_OQ)};
}
INLINE m16 v_nan(v16 a)
{
    return (m16){_mm256_cmp_ps(a.lo, a.lo, _CMP_UNORD_Q), _mm256_cmp_ps(a.hi, a.hi, _CMP_UNORD_Q)};
}
INLINE v16 v_select(m16 m, v16 yes, v16 no)
{
    return (v16){_mm256_blendv_ps(no.lo, yes.lo, m.lo), _mm256_blendv_ps(no.hi, yes.hi, m.hi)};
}
INLINE v16 v_keep(m16 m, v16 x) /* zeros elsewhere */
{
    return (v16){_mm256_and_ps(m.lo, x.lo), _mm256_and_ps(m.hi, x.hi)};
}
INLINE i16 v_bits(v16 x)
{
    return (i16){_mm256_castps_si256(x.lo), _mm256_castps_si256(x.hi)};
}
INLINE v16 v_from_bits(i16 x)
{
    return (v16){_mm256_castsi256_ps(x.lo), _mm256_castsi256_ps(x.hi)};
}
INLINE i16 i_set1(int x)
{
    return (i16){_mm256_set1_epi32(x), _mm256_set1_epi32(x)};
}
INLINE i16 i_add(i16 a, i16 b)
{
    return (i16){_mm256_add_epi32(a.lo, b.lo), _mm256_add_epi32(a.hi, b.hi)};
}
INLINE i16 i_and(i16 a, i16 b)
{
    return (i16){_mm256_and_si256(a.lo, b.lo), _mm256_and_si256(a.hi, b.hi)};
}
INLINE i16 i_or(i16 a, i16 b)
{
    return (i16){_mm256_or_si256(a.lo, b.lo), _mm256_or_si256(a.hi, b.hi)};
}
INLINE i16 i_xor(i16 a, i16 b)
{
    return (i16){_mm256_xor_si256(a.lo, b.lo), _mm256_xor_si256(a.hi, b.hi)};
}
INLINE i16 i_shl(i16 a, int n)
{
    return (i16){_mm256_slli_epi32(a.lo, n), _mm256_slli_epi32(a.hi, n)};
}
INLINE i16 i_shr(i16 a, int n)
{
    return (i16){_mm256_srli_epi32(a.lo, n), _mm256_srli_epi32(a.hi, n)};
}
INLINE i16 i_bytes(i16 a, __m128i order) /* byte order[i] of each quarter becomes its byte i */
{
    __m256i o = _mm256_broadcastsi128_si256(order);
    return (i16){_mm256_shuffle_epi8(a.lo, o), _mm256_shuffle_epi8(a.hi, o)};
}
INLINE i16 i_pairs(i16 a, i16 b) /* 16-bit sums of two unsigned bytes of a by two signed ones of b */
{
    return (i16){_mm256_maddubs_epi16(a.lo, b.lo), _mm256_maddubs_epi16(a.hi, b.hi)};
}
INLINE i16 i_narrow(i16 a, i16 b) /* 16-bit numbers of up to 8 bits: those of a, then b, in each quarter */
{
    return (i16){_mm256_packus_epi16(a.lo, b.lo), _mm256_packus_epi16(a.hi, b.hi)};
}
INLINE i16 i_quarters(const void *p0, const void *p1, const void *p2, const void *p3)
{
    return (i16){_mm256_loadu2_m128i(p1, p0), _mm256_loadu2_m128i(p3, p2)};
}
INLINE i16 i_load(const void *p)
{
    return (i16){_mm256_loadu_si256(p), _mm256_loadu_si256((const __m256i *)p + 1)};
}
INLINE void i_store(void *p, i16 x)
{
    _mm256_storeu_si256(p, x.lo);
    _mm256_storeu_si256((__m256i *)p + 1, x.hi);
}
INLINE i16 i_select(m16 m, i16 yes, i16 no)
{
    return v_bits(v_select(m, v_from_bits(yes), v_from_bits(no)));
}
INLINE void i_store_u16(uint16_t *p, i16 x) /* the low halves; the high ones are 0 */
{
    __m256i mixed = _mm256_packus_epi32(x.lo, x.hi);
    _mm256_storeu_si256((__m256i *)p, _mm256_permute4x64_epi64(mixed, 0xd8));
}
INLINE v16 v_load_f16(const void *p)
{
    return (v16){_mm256_cvtph_ps(_mm_loadu_si128(p)), _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p + 1))};
}
INLINE void v_store_f16(uint16_t *p, v16 x)
{
    _mm_storeu_si128((__m128i *)p, _mm256_cvtps_ph(x.lo, _MM_FROUND_TO_NEAREST_INT));
    _mm_storeu_si128((__m128i *)p + 1, _mm256_cvtps_ph(x.hi, _MM_FROUND_TO_NEAREST_INT));
}
INLINE void v_store_i8(void *p, v16 x) /* integers from -128 to 127, after truncation */
{
    __m256i words = _mm256_packs_epi32(_mm256_cvttps_epi32(x.lo), _mm256_cvttps_epi32(x.hi));
    words = _mm256_permute4x64_epi64(words, 0xd8);
    _mm_storeu_si128(p, _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1)));
}
INLINE v16 v_load_bf16(const void *p)
{
    __m256i lo = _mm256_cvtepu16_epi32(_mm_loadu_si128(p)),
            hi = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)p + 1));
    return (v16){_mm256_castsi256_ps(_mm256_slli_epi32(lo, 16)), _mm256_castsi256_ps(_mm256_slli_epi32(hi, 16))};
}
INLINE v16 v_load_i8(const void *p)
{
    __m128i x = _mm_loadu_si128(p);
    return (v16){_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(x)),
                 _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_srli_si128(x, 8)))};
}
INLINE __m256 v_low(v16 x)
{
    return x.lo;
}
INLINE __m256 v_high(v16 x)
{
    return x.hi;
}
/* Four values from each of the addresses p[j + 4 q], q = 0 … 3, into quarter q. */
INLINE v16 v_gather4(const float *const p[16], int j, int64_t at)
{
    return v_from_bits(i_quarters(p[j] + at, p[j + 4] + at, p[j + 8] + at, p[j + 12] + at));
}
INLINE __m128 v_quarter(v16 x, int q)
{
    __m256 half = q < 2 ? x.lo : x.hi;
    return q % 2 ? _mm256_extractf128_ps(half, 1) : _mm256_castps256_ps128(half);
}
INLINE __m256 v_half_unpack(__m256 a, __m256 b, int high)
{
    return high ? _mm256_unpackhi_ps(a, b) : _mm256_unpacklo_ps(a, b);
}
/* Transposes the 4 × 4 matrices that lie in quarter q of x[0], …, x[3]. */
INLINE void v_transpose4(v16 x[4])
{
    v16 t[4];
    for (int i = 0; i < 4; i++)
        t[i] = (v16){v_half_unpack(x[i / 2 * 2].lo, x[i / 2 * 2 + 1].lo, i % 2),
                     v_half_unpack(x[i / 2 * 2].hi, x[i / 2 * 2 + 1].hi, i % 2)};
    for (int i = 0; i < 2; i++) { /* t[0], t[2]: columns 0 and 1 of the upper and lower rows; t[1], t[3]: 2 and 3 */
        x[2 * i] = (v16){_mm256_shuffle_ps(t[i].lo, t[i + 2].lo, 0x44), _mm256_shuffle_ps(t[i].hi, t[i + 2].hi, 0x44)};
        x[2 * i + 1] =
            (v16){_mm256_shuffle_ps(t[i].lo, t[i + 2].lo, 0xee), _mm256_shuffle_ps(t[i].hi, t[i + 2].hi, 0xee)};
    }
}

#endif

/* The tree of kernel.h: 0+8 …, 0+4 …, (0+2, 1+3), 0+1. */
INLINE float v_sum(v16 x)
{
    __m256 h = _mm256_add_ps(v_low(x), v_high(x));
    __m128 q = _mm_add_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));
    q = _mm_add_ps(q, _mm_movehl_ps(q, q));
    return _mm_cvtss_f32(_mm_add_ss(q, _mm_movehdup_ps(q)));
}
INLINE float v_largest(v16 x) /* the same tree; the upper element wins only if it is larger */
{
    __m256 h = _mm256_max_ps(v_high(x), v_low(x));
    __m128 q = _mm_max_ps(_mm256_extractf128_ps(h, 1), _mm256_castps256_ps128(h));
    q = _mm_max_ps(_mm_movehl_ps(q, q), q);
    return _mm_cvtss_f32(_mm_max_ss(_mm_movehdup_ps(q), q));
}

/* bf16 of x in the low halves: round to nearest even, NaN quiet (as f32_to_bf16). */
INLINE i16 v_bf16(v16 x)
{
    i16 u = v_bits(x), odd = i_and(i_shr(u, 16), i_set1(1));
    i16 rounded = i_shr(i_add(u, i_add(odd, i_set1(0x7fff))), 16);
    return i_select(v_nan(x), i_or(i_shr(u, 16), i_set1(64)), rounded);
}

/* bf16 pairs: low in the low halves, high in the high ones. */
INLINE i16 v_bf16_pair(v16 low, v16 high)
{
#if defined(__AVX512BF16__) && defined(__AVX512BW__)
    static const uint16_t order[32] = {0, 16, 1, 17, 2,  18, 3,  19, 4,  20, 5,  21, 6,  22, 7,  23,
                                       8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
    return _mm512_permutexvar_epi16(_mm512_loadu_si512(order), (__m512i)_mm512_cvtne2ps_pbh(high, low));
#else
    return i_or(v_bf16(low), i_shl(v_bf16(high), 16));
#endif
}

INLINE void v_store_bf16(uint16_t *p, v16 x)
{
#if defined(__AVX512BF16__)
    _mm256_storeu_si256((__m256i *)p, (__m256i)_mm512_cvtneps_pbh(x));
#else
    i_store_u16(p, v_bf16(x));
#endif
}

/* The last piece of a row: `left` may be below 16. */
INLINE v16 v_get(const float *p, int64_t left)
{
    return left >= 16 ? v_load(p) : v_load_n(p, left);
}
INLINE void v_put(float *p, v16 x, int64_t left)
{
    if (left >= 16)
        v_store(p, x);
    else
        v_store_n(p, x, left);
}

#endif
