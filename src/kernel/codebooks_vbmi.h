/* Codebook formats where VPERMI2B looks up the bytes of entries (VBMI). A book is taken apart once a product: the bytes
 * of even numbers' digits, and those of odd ones'. Ranks lie as the planes have them, byte l of lane `output`; before
 * they are looked up each quarter of a vector is transposed, so that bytes unpacked to 32 bits are a vector of outputs.
 */
#ifndef CADRE_KERNEL_CODEBOOKS_VBMI_H
#define CADRE_KERNEL_CODEBOOKS_VBMI_H

#include "kernel/codebooks_simd.h"

enum { MOST_ENTRIES = 2048, PAGE = 128 /* bytes that VPERMI2B takes */ };

struct book {
    _Alignas(64) uint8_t byte[2][MOST_ENTRIES]; /* even, odd */
};

/* Base-4 digits 0, 4, 2, 6 | 1, 5, 3, 7 of eight: masked with 0x33 a byte is two nibbles, shifted by 2 the other two.
 * Base-8 digits are nibbles 0, 2 | 1, 3 already. */
INLINE void book_bytes(uint8_t *to, __m512i digits)
{
    _mm256_storeu_si256((__m256i *)(void *)to, _mm512_cvtepi16_epi8(digits));
}
INLINE void open_book(struct book *b, const uint16_t *table, int n, int digits)
{
    for (int i = 0; i < n; i += 32) {
        __m512i x = _mm512_loadu_si512(table + i), part[2] = {x, _mm512_srli_epi16(x, digits == 8 ? 2 : 8)};
        for (int p = 0; p < 2; p++) {
            if (digits == 8)
                part[p] = _mm512_or_si512(_mm512_and_si512(part[p], _mm512_set1_epi16(0x33)),
                                          _mm512_and_si512(_mm512_srli_epi16(part[p], 6), _mm512_set1_epi16(0xcc)));
            book_bytes(b->byte[p] + i, part[p]);
        }
    }
}

/* Entries of 64 ranks: bits 0 … 7 in low, the others in upper. */
INLINE void look_up_bytes(const struct book *b, int n, __m512i low, __m512i upper, __m512i out[2])
{
    __mmask64 bit[4] = {_mm512_movepi8_mask(low)};
    for (int i = 1; i < 4 && PAGE << i < n; i++)
        bit[i] = _mm512_test_epi8_mask(upper, _mm512_set1_epi8((char)(1 << (i - 1))));
    UNROLL for (int p = 0; p < 2; p++)
    {
        __m512i page[MOST_ENTRIES / PAGE];
        UNROLL for (int i = 0; i < n / PAGE; i++) page[i] = _mm512_permutex2var_epi8(
            _mm512_load_si512(b->byte[p] + PAGE * i), low, _mm512_load_si512(b->byte[p] + PAGE * i + 64));
        UNROLL for (int level = 0; level < 4; level++) UNROLL for (int i = 0; i < n / PAGE >> (level + 1); i++)
            page[i] = _mm512_mask_blend_epi8(bit[level], page[2 * i], page[2 * i + 1]);
        out[p] = page[0];
    }
}

/* Byte j of each 32 bits: those from bit first + step j on. */
INLINE __m512i bit_fields(__m512i x, int first, int step)
{
    uint64_t at = 0;
    for (int j = 0; j < 8; j++)
        at |= (uint64_t)(j / 4 * 32 + first + step * (j % 4)) << 8 * j;
    return _mm512_multishift_epi64_epi8(_mm512_set1_epi64((long long)at), x);
}

/* ranks and 8 numbers each */
INLINE void book_iq2(i16 code[4], const struct book *b, int n, __m512i low, __m512i upper, i16 signs)
{
    __m512i order = _mm512_broadcast_i32x4(_mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15)), out[2];
    look_up_bytes(b, n, _mm512_shuffle_epi8(low, order), _mm512_shuffle_epi8(upper, order), out);
    __m512i even = _mm512_srli_epi16(out[0], 2), odd = _mm512_srli_epi16(out[1], 2);
    __m512i e[2] = {_mm512_unpacklo_epi8(out[0], even), _mm512_unpackhi_epi8(out[0], even)};
    __m512i o[2] = {_mm512_unpacklo_epi8(out[1], odd), _mm512_unpackhi_epi8(out[1], odd)};
    UNROLL for (int l = 0; l < 4; l++)
    {
        __m512i x = l % 2 ? _mm512_unpackhi_epi16(e[l / 2], o[l / 2]) : _mm512_unpacklo_epi16(e[l / 2], o[l / 2]);
        code[l] = i_or(i_and(x, i_set1(0x33333333)), signs_at(signs, l));
    }
}
/* ranks and 4 numbers each: four of them in low[0], four in low[1] */
INLINE void book_iq3(i16 code[4], const struct book *b, int n, const __m512i low[2], const __m512i upper[2], i16 signs)
{
    __m512i order = _mm512_broadcast_i32x4(_mm_setr_epi8(0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15));
    UNROLL for (int w = 0; w < 2; w++)
    {
        __m512i out[2];
        look_up_bytes(b, n, _mm512_shuffle_epi8(low[w], order), _mm512_shuffle_epi8(upper[w], order), out);
        code[2 * w] = i_or(_mm512_unpacklo_epi16(out[0], out[1]), signs_at(signs, 2 * w));
        code[2 * w + 1] = i_or(_mm512_unpackhi_epi16(out[0], out[1]), signs_at(signs, 2 * w + 1));
    }
}

INLINE void expand_iq1_s(i16 code[4], const struct book *b, const char *half, const char *byte, const char *plane,
                         int g)
{
    (void)byte;
    i16 h = iq1_s_word(half, g);
    book_iq2(code, b, 2048, word_of_plane(plane, 0), bit_fields(h, 0, 3), iq1_s_signs(h));
}
INLINE void expand_iq1_m(i16 code[4], const struct book *b, const char *half, const char *byte, const char *plane,
                         int g)
{
    (void)half;
    i16 h = iq1_m_word(byte, g);
    book_iq2(code, b, 2048, word_of_plane(plane, 0), i_and(bit_fields(h, 0, 4), i_set1(0x07070707)), iq1_m_signs(h));
}
INLINE void expand_iq2_xxs(i16 code[4], const struct book *b, const char *half, const char *byte, const char *plane,
                           int g)
{
    (void)half, (void)byte, (void)g;
    book_iq2(code, b, 256, word_of_plane(plane, 0), i_set1(0), with_eighth(word_of_plane(plane, 1)));
}
INLINE void expand_iq2_xs(i16 code[4], const struct book *b, const char *half, const char *byte, const char *plane,
                          int g)
{
    (void)half, (void)byte, (void)g;
    i16 word = word_of_plane(plane, 1);
    book_iq2(code, b, 512, word_of_plane(plane, 0), bit_fields(word, 28, 1), with_eighth(word));
}
INLINE void expand_iq2_s(i16 code[4], const struct book *b, const char *half, const char *byte, const char *plane,
                         int g)
{
    (void)half;
    book_iq2(code, b, 1024, word_of_plane(plane, 0), bit_fields(i_load_u8(byte + g * STRIP), 0, 2),
             word_of_plane(plane, 1));
}
INLINE void expand_iq3_xxs(i16 code[4], const struct book *b, const char *half, const char *byte, const char *plane,
                           int g)
{
    (void)half, (void)byte, (void)g;
    i16 low[2] = {word_of_plane(plane, 0), word_of_plane(plane, 1)}, upper[2] = {i_set1(0), i_set1(0)};
    book_iq3(code, b, 256, low, upper, with_eighth(word_of_plane(plane, 2)));
}
INLINE void expand_iq3_s(i16 code[4], const struct book *b, const char *half, const char *byte, const char *plane,
                         int g)
{
    (void)half;
    i16 ninth = i_load_u8(byte + g * STRIP);
    i16 low[2] = {word_of_plane(plane, 0), word_of_plane(plane, 1)};
    i16 upper[2] = {bit_fields(ninth, 0, 1), bit_fields(ninth, 4, 1)};
    book_iq3(code, b, 512, low, upper, word_of_plane(plane, 2));
}

#endif
