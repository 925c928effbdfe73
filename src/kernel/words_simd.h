/* What block formats need beside simd16.h: vectors of 32 words of 16 bits, and of 16 integers. */
#ifndef CADRE_KERNEL_WORDS_SIMD_H
#define CADRE_KERNEL_WORDS_SIMD_H

#include <string.h>

#include "kernel/simd16.h"

/* ---- 32 words of 16 bits: number p of 16 pairs in word 2 · lane + p */

#ifdef __AVX512F__

INLINE i16 w_add(i16 a, i16 b)
{
    return _mm512_add_epi16(a, b);
}
INLINE i16 w_dot(i16 sum, i16 a, i16 b) /* sum += a0 b0 + a1 b1 */
{
#ifdef __AVX512VNNI__
    /* As the intrinsic; around that gcc 12 copies every sum of a tile twice. */
    __asm__("vpdpwssd %2, %1, %0" : "+v"(sum) : "v"(a), "v"(b));
    return sum;
#else
    return _mm512_add_epi32(sum, _mm512_madd_epi16(a, b));
#endif
}
INLINE i16 w_low_bytes(i16 x)
{
    return _mm512_srai_epi16(_mm512_slli_epi16(x, 8), 8);
}
INLINE i16 w_high_bytes(i16 x)
{
    return _mm512_srai_epi16(x, 8);
}
/* A table is looked up by the low five bits of a word: a code's neighbour bits do no harm when it repeats. */
INLINE i16 w_table(const int8_t value[16])
{
    int16_t word[32];
    for (int i = 0; i < 32; i++)
        word[i] = value[i % 16];
    return i_load(word);
}
INLINE i16 w_codes(i16 x, int bits, int i, i16 table)
{
    (void)bits;
    return _mm512_permutexvar_epi16(_mm512_srli_epi16(x, (unsigned)(bits * i)), table);
}
INLINE i16 i_srl(i16 x, int n)
{
    return _mm512_srl_epi32(x, _mm_cvtsi32_si128(n));
}
INLINE i16 i_sra(i16 x, int n)
{
    return _mm512_srai_epi32(x, (unsigned)n);
}
INLINE i16 i_load_u8(const void *p)
{
    return _mm512_cvtepu8_epi32(_mm_loadu_si128(p));
}
INLINE i16 i_load_u16(const void *p)
{
    return _mm512_cvtepu16_epi32(_mm256_loadu_si256(p));
}
INLINE v16 v_from_int(i16 x)
{
    return _mm512_cvtepi32_ps(x);
}
INLINE int i_largest(i16 x)
{
    return _mm512_reduce_max_epi32(x);
}
INLINE int i_total(i16 x)
{
    return _mm512_reduce_add_epi32(x);
}
INLINE i16 v_round(v16 x)
{
    return _mm512_cvtps_epi32(x);
}
INLINE void i_store_words(int16_t *p, i16 x)
{
    _mm256_storeu_si256((__m256i *)(void *)p, _mm512_cvtepi32_epi16(x));
}

#else

INLINE i16 w_add(i16 a, i16 b)
{
    return (i16){_mm256_add_epi16(a.lo, b.lo), _mm256_add_epi16(a.hi, b.hi)};
}
INLINE i16 w_dot(i16 sum, i16 a, i16 b)
{
    return (i16){_mm256_add_epi32(sum.lo, _mm256_madd_epi16(a.lo, b.lo)),
                 _mm256_add_epi32(sum.hi, _mm256_madd_epi16(a.hi, b.hi))};
}
INLINE i16 w_low_bytes(i16 x)
{
    return (i16){_mm256_srai_epi16(_mm256_slli_epi16(x.lo, 8), 8), _mm256_srai_epi16(_mm256_slli_epi16(x.hi, 8), 8)};
}
INLINE i16 w_high_bytes(i16 x)
{
    return (i16){_mm256_srai_epi16(x.lo, 8), _mm256_srai_epi16(x.hi, 8)};
}
/* Bytes are looked up, raised by 128 so that the upper byte of a word can stay 0. */
INLINE i16 w_table(const int8_t value[16])
{
    uint8_t byte[32];
    for (int i = 0; i < 32; i++)
        byte[i] = (uint8_t)(value[i % 16] + 128);
    return (i16){_mm256_loadu_si256((const __m256i *)(const void *)byte),
                 _mm256_loadu_si256((const __m256i *)(const void *)byte)};
}
INLINE __m256i half_codes(__m256i x, int bits, int i, __m256i table)
{
    __m256i code = _mm256_and_si256(_mm256_srli_epi16(x, bits * i), _mm256_set1_epi16((short)((1 << bits) - 1)));
    code = _mm256_or_si256(code, _mm256_set1_epi16((short)0x8000)); /* looks up 0 for the upper byte */
    return _mm256_sub_epi16(_mm256_shuffle_epi8(table, code), _mm256_set1_epi16(128));
}
INLINE i16 w_codes(i16 x, int bits, int i, i16 table)
{
    return (i16){half_codes(x.lo, bits, i, table.lo), half_codes(x.hi, bits, i, table.hi)};
}
INLINE i16 i_srl(i16 x, int n)
{
    __m128i count = _mm_cvtsi32_si128(n);
    return (i16){_mm256_srl_epi32(x.lo, count), _mm256_srl_epi32(x.hi, count)};
}
INLINE i16 i_sra(i16 x, int n)
{
    return (i16){_mm256_srai_epi32(x.lo, n), _mm256_srai_epi32(x.hi, n)};
}
INLINE i16 i_load_u8(const void *p)
{
    __m128i x = _mm_loadu_si128(p);
    return (i16){_mm256_cvtepu8_epi32(x), _mm256_cvtepu8_epi32(_mm_srli_si128(x, 8))};
}
INLINE i16 i_load_u16(const void *p)
{
    return (i16){_mm256_cvtepu16_epi32(_mm_loadu_si128(p)),
                 _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)p + 1))};
}
INLINE v16 v_from_int(i16 x)
{
    return (v16){_mm256_cvtepi32_ps(x.lo), _mm256_cvtepi32_ps(x.hi)};
}
INLINE int i_largest(i16 x)
{
    __m256i h = _mm256_max_epi32(x.lo, x.hi);
    __m128i q = _mm_max_epi32(_mm256_castsi256_si128(h), _mm256_extracti128_si256(h, 1));
    q = _mm_max_epi32(q, _mm_shuffle_epi32(q, 0x4e));
    return _mm_cvtsi128_si32(_mm_max_epi32(q, _mm_shuffle_epi32(q, 0xb1)));
}
INLINE int i_total(i16 x)
{
    __m256i h = _mm256_add_epi32(x.lo, x.hi);
    __m128i q = _mm_add_epi32(_mm256_castsi256_si128(h), _mm256_extracti128_si256(h, 1));
    q = _mm_add_epi32(q, _mm_shuffle_epi32(q, 0x4e));
    return _mm_cvtsi128_si32(_mm_add_epi32(q, _mm_shuffle_epi32(q, 0xb1)));
}
INLINE void i_store_words(int16_t *p, i16 x)
{
    __m256i mixed = _mm256_packs_epi32(x.lo, x.hi);
    _mm256_storeu_si256((__m256i *)(void *)p, _mm256_permute4x64_epi64(mixed, 0xd8));
}
INLINE i16 v_round(v16 x)
{
    return (i16){_mm256_cvtps_epi32(x.lo), _mm256_cvtps_epi32(x.hi)};
}

#endif

INLINE i16 i_all(const void *p) /* four bytes, two words or an integer for all lanes */
{
    int x;
    memcpy(&x, p, sizeof x);
    return i_set1(x);
}

/* ---- 64 bytes: where VPDPBUSD multiplies them */

#if defined(__AVX512F__) && defined(__AVX512VNNI__)

#define BYTE_PRODUCTS

INLINE i16 b_dot(i16 sum, i16 a, i16 b) /* sum += Σ of four unsigned bytes of a by signed ones of b */
{
    __asm__("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(a), "v"(b));
    return sum;
}
INLINE i16 b_table(const int8_t value[16]) /* of values + 128 */
{
    __m128i x = _mm_xor_si128(_mm_loadu_si128((const __m128i *)(const void *)value), _mm_set1_epi8(-128));
    return _mm512_broadcast_i32x4(x);
}
INLINE i16 b_codes(i16 x, int high, i16 table) /* of the low or high nibbles */
{
    return _mm512_shuffle_epi8(table, _mm512_and_si512(high ? _mm512_srli_epi16(x, 4) : x, _mm512_set1_epi8(15)));
}
INLINE i16 b_join(i16 a, i16 b) /* values of words + 128: those of a and b side by side */
{
    i16 x = _mm512_or_si512(_mm512_and_si512(a, _mm512_set1_epi16(255)), _mm512_slli_epi16(b, 8));
    return _mm512_xor_si512(x, _mm512_set1_epi8(-128));
}

#endif

#endif
