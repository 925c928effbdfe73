/* Codebook formats of blocks.h over simd16.h: codes from ranks. What blocks.c does for one output, for 16. */
#ifndef CADRE_KERNEL_CODEBOOKS_SIMD_H
#define CADRE_KERNEL_CODEBOOKS_SIMD_H

#include "kernel/blocks.h"
#include "kernel/tile_simd.h"
#include "kernel/words_simd.h"

/* A book as look-ups want it: VBMI has one of bytes (codebooks_vbmi.h), the other levels read the tables. */
struct book;

/* Codes of 32 numbers as a plane of 4 bits has them. half, byte: the record's fields; g: which 32 of the unit. */
typedef void expand_fn(i16 code[4], const struct book *book, const char *half, const char *byte, const char *plane,
                       int g);

INLINE i16 word_of_plane(const char *plane, int v)
{
    return i_load(plane + v * PLANE_BYTES);
}

INLINE i16 with_eighth(i16 word)
{
    i16 z = i_and(word, i_set1(0x0fffffff)), f = i_xor(z, i_shr(z, 16));
    f = i_xor(f, i_shr(f, 8));
    f = i_xor(f, i_shr(f, 4));
    return i_or(z, i_shl(f, 28));
}
INLINE i16 signs_at(i16 signs, int l)
{
    return i_and(i_shl(signs, 3 - l), i_set1((int)0x88888888));
}
/* iq1_s: a word of the upper bits of four ranks (3 each), scale and direction; iq1_m: four nibbles of upper bits and
 * direction. Directions become signs. */
INLINE i16 iq1_s_word(const char *half, int g)
{
    return i_load_u16(half + (1 + g) * STRIP * 2);
}
INLINE i16 iq1_s_signs(i16 word)
{
    return i_sra(i_shl(word, 16), 31);
}
INLINE i16 iq1_m_word(const char *byte, int g)
{
    return i_or(i_load_u8(byte + 2 * g * STRIP), i_shl(i_load_u8(byte + (2 * g + 1) * STRIP), 8));
}
INLINE i16 iq1_m_signs(i16 word) /* bits 4 l + 3 together, then repeated */
{
    i16 x = i_and(i_shr(word, 3), i_set1(0x1111));
    x = i_or(x, i_shr(x, 3));
    x = i_and(i_or(x, i_shr(x, 6)), i_set1(15));
    x = i_or(x, i_shl(x, 4));
    x = i_or(x, i_shl(x, 8));
    return i_or(x, i_shl(x, 16));
}

/* Digit of base 3 of each word, and what it is with a power that is known only at run time. */
INLINE i16 w_trit(i16 x, i16 power)
{
#ifdef __AVX512F__
    return _mm512_mulhi_epu16(_mm512_mullo_epi16(x, power), _mm512_set1_epi16(3));
#else
    __m256i three = _mm256_set1_epi16(3);
    return (i16){_mm256_mulhi_epu16(_mm256_mullo_epi16(x.lo, power.lo), three),
                 _mm256_mulhi_epu16(_mm256_mullo_epi16(x.hi, power.hi), three)};
#endif
}
INLINE i16 trit_power(int t)
{
    static const int power[10] = {1, 3, 9, 27, 81, 243, 729, 2187, 6561, 19683};
    return i_set1(power[t] << 16 | power[t]);
}
INLINE void expand_tq1_0(i16 code[4], const struct book *b, const char *half, const char *byte, const char *plane,
                         int g)
{
    (void)b, (void)byte;
    i16 digit[16], words = word_of_plane(plane, 0);
    UNROLL for (int j = 0; j < 16; j++)
    {
        int tail = j < 15 ? j - 10 : g % 5;
        const char *at = half + (1 + 2 * tail) * STRIP * 2;
        digit[j] = j < 10 ? w_trit(words, trit_power(j))
                          : w_trit(i_or(i_load_u16(at), i_shl(i_load_u16(at + STRIP * 2), 16)),
                                   trit_power(j < 15 ? g : 8 + g / 5));
    }
    UNROLL for (int l = 0; l < 4; l++) code[l] = i_or(i_or(digit[4 * l], i_shl(digit[4 * l + 1], 4)),
                                                      i_or(i_shl(digit[4 * l + 2], 8), i_shl(digit[4 * l + 3], 12)));
}

#ifndef __AVX512VBMI__

/* n vectors of entries of a table; the upper halves of their lanes are whatever follows. */
INLINE void look_up(const uint16_t *table, const i16 *rank, int n, i16 *entry)
{
#ifdef __AVX512F__
    UNROLL for (int i = 0; i < n; i++) entry[i] = _mm512_i32gather_epi32(rank[i], (const void *)table, 2);
#else
    const int *at = (const int *)(const void *)table;
    UNROLL for (int i = 0; i < n; i++) entry[i] =
        (i16){_mm256_i32gather_epi32(at, rank[i].lo, 2), _mm256_i32gather_epi32(at, rank[i].hi, 2)};
#endif
}

INLINE i16 byte_of(i16 x, int i) /* of each lane, as a number */
{
    return i == 3 ? i_shr(x, 24) : i_and(i_shr(x, 8 * i), i_set1(255));
}
INLINE i16 digits_of_8(i16 entry)
{
    return i_or(i_and(entry, i_set1(0x3333)), i_and(i_shl(entry, 14), i_set1(0x33330000)));
}
INLINE i16 digits_of_4(i16 first, i16 second)
{
    i16 two = i_or(i_and(first, i_set1(0xffff)), i_shl(second, 16));
    __m128i order = _mm_setr_epi8(0, 2, 1, 3, 4, 6, 5, 7, 8, 10, 9, 11, 12, 14, 13, 15);
#ifdef __AVX512F__
    return _mm512_shuffle_epi8(two, _mm512_broadcast_i32x4(order));
#else
    __m256i both = _mm256_broadcastsi128_si256(order);
    return (i16){_mm256_shuffle_epi8(two.lo, both), _mm256_shuffle_epi8(two.hi, both)};
#endif
}

INLINE void expand_iq2(i16 code[4], const uint16_t *table, const i16 rank[4], i16 signs)
{
    i16 entry[4];
    look_up(table, rank, 4, entry);
    UNROLL for (int l = 0; l < 4; l++) code[l] = i_or(digits_of_8(entry[l]), signs_at(signs, l));
}
INLINE void expand_iq3(i16 code[4], const uint16_t *table, const i16 rank[8], i16 signs)
{
    i16 entry[8];
    look_up(table, rank, 8, entry);
    UNROLL for (int l = 0; l < 4; l++) code[l] = i_or(digits_of_4(entry[2 * l], entry[2 * l + 1]), signs_at(signs, l));
}

/* h: of each rank the upper three bits, `apart` bits from one to the next */
INLINE void expand_iq1(i16 code[4], i16 low, i16 h, int apart, i16 signs)
{
    i16 rank[4];
    UNROLL for (int l = 0; l < 4; l++) rank[l] =
        i_or(byte_of(low, l), i_and(i_shr(i_shl(h, 8), apart * l), i_set1(0x700)));
    expand_iq2(code, iq1s_codes, rank, signs);
}
INLINE void expand_iq1_s(i16 code[4], const struct book *b, const char *half, const char *byte, const char *plane,
                         int g)
{
    (void)b, (void)byte;
    i16 h = iq1_s_word(half, g);
    expand_iq1(code, word_of_plane(plane, 0), h, 3, iq1_s_signs(h));
}
INLINE void expand_iq1_m(i16 code[4], const struct book *b, const char *half, const char *byte, const char *plane,
                         int g)
{
    (void)b, (void)half;
    i16 h = iq1_m_word(byte, g);
    expand_iq1(code, word_of_plane(plane, 0), h, 4, iq1_m_signs(h));
}
INLINE void expand_iq2_xxs(i16 code[4], const struct book *b, const char *half, const char *byte, const char *plane,
                           int g)
{
    (void)b, (void)half, (void)byte, (void)g;
    i16 low = word_of_plane(plane, 0), rank[4];
    UNROLL for (int l = 0; l < 4; l++) rank[l] = byte_of(low, l);
    expand_iq2(code, iq2xxs_codes, rank, with_eighth(word_of_plane(plane, 1)));
}
INLINE void expand_iq2_xs(i16 code[4], const struct book *b, const char *half, const char *byte, const char *plane,
                          int g)
{
    (void)b, (void)half, (void)byte, (void)g;
    i16 low = word_of_plane(plane, 0), word = word_of_plane(plane, 1), rank[4];
    UNROLL for (int l = 0; l < 4; l++) rank[l] = i_or(byte_of(low, l), i_and(i_shr(word, 20 + l), i_set1(256)));
    expand_iq2(code, iq2xs_codes, rank, with_eighth(word));
}
INLINE void expand_iq2_s(i16 code[4], const struct book *b, const char *half, const char *byte, const char *plane,
                         int g)
{
    (void)b, (void)half;
    i16 low = word_of_plane(plane, 0), upper = i_shl(i_load_u8(byte + g * STRIP), 8), rank[4];
    UNROLL for (int l = 0; l < 4; l++) rank[l] = i_or(byte_of(low, l), i_and(i_shr(upper, 2 * l), i_set1(0x300)));
    expand_iq2(code, iq2s_codes, rank, word_of_plane(plane, 1));
}
INLINE void expand_iq3_xxs(i16 code[4], const struct book *b, const char *half, const char *byte, const char *plane,
                           int g)
{
    (void)b, (void)half, (void)byte, (void)g;
    i16 rank[8];
    UNROLL for (int i = 0; i < 8; i++) rank[i] = byte_of(word_of_plane(plane, i / 4), i % 4);
    expand_iq3(code, iq3xxs_codes, rank, with_eighth(word_of_plane(plane, 2)));
}
INLINE void expand_iq3_s(i16 code[4], const struct book *b, const char *half, const char *byte, const char *plane,
                         int g)
{
    (void)b, (void)half;
    i16 ninth = i_shl(i_load_u8(byte + g * STRIP), 8), rank[8];
    UNROLL for (int i = 0; i < 8; i++) rank[i] =
        i_or(byte_of(word_of_plane(plane, i / 4), i % 4), i_and(i_shr(ninth, i), i_set1(256)));
    expand_iq3(code, iq3s_codes, rank, word_of_plane(plane, 2));
}

#endif

#endif
