/* The codes of 32 numbers in a block of the file, one byte each, for the rows of BLOCK_FORMATS. Inline, so that a
 * level's packing of a format is one loop. */
#ifndef CADRE_KERNEL_BLOCK_CODES_H
#define CADRE_KERNEL_BLOCK_CODES_H

#include <string.h>

#include "kernel/blocks.h"

/* numbers j and j + 16 in byte j */
static inline void low_high(const unsigned char *p, uint8_t code[GRID_BLOCK])
{
    uint64_t x[2], mask = UINT64_C(0x0f0f0f0f0f0f0f0f);
    memcpy(x, p, sizeof x);
    uint64_t y[4] = {x[0] & mask, x[1] & mask, x[0] >> 4 & mask, x[1] >> 4 & mask};
    memcpy(code, y, sizeof y);
}

/* Eight bits at a time become bytes of 0 or 16: bit i stays in byte i, and carries over its byte's bit 7. */
static inline void fifth_bits(const unsigned char *high, uint8_t code[GRID_BLOCK])
{
    uint64_t ones = UINT64_C(0x0101010101010101);
    for (int i = 0; i < 4; i++) {
        uint64_t x, bits = high[i] * ones & UINT64_C(0x8040201008040201);
        memcpy(&x, code + 8 * i, sizeof x);
        x |= ((bits + 0x7f * ones) >> 7 & ones) << 4;
        memcpy(code + 8 * i, &x, sizeof x);
    }
}

/* Where the codes of numbers 32 g … lie, of formats that have them as whole nibbles or bytes; packing reads them there
 * too. */
#define PLACE(name, at)                                                                                                \
    static inline const unsigned char *place_##name(const unsigned char *p, int g)                                     \
    {                                                                                                                  \
        (void)g;                                                                                                       \
        return p + (at);                                                                                               \
    }
PLACE(after_1, 1) /* mxfp4 */
PLACE(after_2, 2) /* q4_0, iq4_nl */
PLACE(q4_1, 4)
PLACE(q5_0, 6)
PLACE(q5_1, 8)
PLACE(iq4_xs, 8 + 16 * g)
PLACE(q8_0, 2)
PLACE(f8, 4 + 32 * g)
/* … and where 32 single bits of them lie, bit i for number i */
PLACE(fifth_q5_0, 2)
PLACE(fifth_q5_1, 4)
PLACE(q1_0, 2 + 4 * g)

static inline void codes_after_1(const unsigned char *p, int g, uint8_t code[GRID_BLOCK])
{
    low_high(place_after_1(p, g), code);
}
static inline void codes_after_2(const unsigned char *p, int g, uint8_t code[GRID_BLOCK])
{
    low_high(place_after_2(p, g), code);
}
static inline void codes_q4_1(const unsigned char *p, int g, uint8_t code[GRID_BLOCK])
{
    low_high(place_q4_1(p, g), code);
}
static inline void codes_q5_0(const unsigned char *p, int g, uint8_t code[GRID_BLOCK])
{
    low_high(place_q5_0(p, g), code);
    fifth_bits(place_fifth_q5_0(p, g), code);
}
static inline void codes_q5_1(const unsigned char *p, int g, uint8_t code[GRID_BLOCK])
{
    low_high(place_q5_1(p, g), code);
    fifth_bits(place_fifth_q5_1(p, g), code);
}
static inline void codes_q8_0(const unsigned char *p, int g, uint8_t code[GRID_BLOCK])
{
    memcpy(code, place_q8_0(p, g), GRID_BLOCK);
}
static inline void codes_iq4_xs(const unsigned char *p, int g, uint8_t code[GRID_BLOCK])
{
    low_high(place_iq4_xs(p, g), code);
}

/* Formats that have codes, or their lower or upper bits, at the same place of 32 bytes: those of number 32 g + j from
 * bit `shift` of byte j on. Places in super-blocks: format/k_quants.c. */
struct bit_place {
    const unsigned char *p;
    int shift;
};
#define BIT_PLACE(name, at, shift)                                                                                     \
    static inline struct bit_place bits_##name(const unsigned char *p, int g)                                          \
    {                                                                                                                  \
        return (struct bit_place){p + (at), shift};                                                                    \
    }
BIT_PLACE(q2_k, 16 + g / 4 * 32, g % 4 * 2)
BIT_PLACE(q3_k, 32 + g / 4 * 32, g % 4 * 2)
BIT_PLACE(third_q3_k, 0, g)
BIT_PLACE(q4_k, 16 + g / 2 * 32, g % 2 * 4)
BIT_PLACE(q5_k, 48 + g / 2 * 32, g % 2 * 4)
BIT_PLACE(fifth_q5_k, 16, g)
BIT_PLACE(q6_k, g / 4 * 64 + g % 2 * 32, g % 4 / 2 * 4)
BIT_PLACE(upper_q6_k, 128 + g / 4 * 32, g % 4 * 2)
BIT_PLACE(tq2_0, g / 4 * 32, g % 4 * 2)

static inline void take_bits(struct bit_place from, int bits, uint8_t code[GRID_BLOCK])
{
    for (int j = 0; j < GRID_BLOCK; j++)
        code[j] = from.p[j] >> from.shift & ((1 << bits) - 1);
}
static inline void add_bits(struct bit_place from, int bits, int to, uint8_t code[GRID_BLOCK])
{
    for (int j = 0; j < GRID_BLOCK; j++)
        code[j] |= (uint8_t)((from.p[j] >> from.shift & ((1 << bits) - 1)) << to);
}
static inline void codes_q2_k(const unsigned char *p, int g, uint8_t code[GRID_BLOCK])
{
    take_bits(bits_q2_k(p, g), 2, code);
}
static inline void codes_q3_k(const unsigned char *p, int g, uint8_t code[GRID_BLOCK])
{
    take_bits(bits_q3_k(p, g), 2, code);
    add_bits(bits_third_q3_k(p, g), 1, 2, code);
}
static inline void codes_q4_k(const unsigned char *p, int g, uint8_t code[GRID_BLOCK])
{
    take_bits(bits_q4_k(p, g), 4, code);
}
static inline void codes_q5_k(const unsigned char *p, int g, uint8_t code[GRID_BLOCK])
{
    take_bits(bits_q5_k(p, g), 4, code);
    add_bits(bits_fifth_q5_k(p, g), 1, 4, code);
}
static inline void codes_q6_k(const unsigned char *p, int g, uint8_t code[GRID_BLOCK])
{
    take_bits(bits_q6_k(p, g), 4, code);
    add_bits(bits_upper_q6_k(p, g), 2, 4, code);
}
static inline void codes_tq2_0(const unsigned char *p, int g, uint8_t code[GRID_BLOCK])
{
    take_bits(bits_tq2_0(p, g), 2, code);
}

/* Places in smaller blocks: format/fp4.c, format/ternary.c. */
static inline void codes_nvfp4(const unsigned char *p, int g, uint8_t code[GRID_BLOCK])
{
    uint64_t mask = UINT64_C(0x0f0f0f0f0f0f0f0f), x[2]; /* eight bytes a group of 16: numbers j and j + 8 */
    memcpy(x, p + 4 + 16 * g, sizeof x);
    uint64_t y[4] = {x[0] & mask, x[0] >> 4 & mask, x[1] & mask, x[1] >> 4 & mask};
    memcpy(code, y, sizeof y);
}
static inline void codes_q1_0(const unsigned char *p, int g, uint8_t code[GRID_BLOCK])
{
    memset(code, 0, GRID_BLOCK);
    fifth_bits(place_q1_0(p, g), code);
    for (int j = 0; j < GRID_BLOCK; j++)
        code[j] >>= 4;
}
static inline void codes_q2_0(const unsigned char *p, int g, uint8_t code[GRID_BLOCK])
{
    for (int j = 0; j < 8; j++) {
        uint32_t x = p[2 + 8 * g + j]; /* two bits to a byte each */
        x = (x | x << 12) & 0x000f000f;
        x = (x | x << 6) & 0x03030303;
        memcpy(code + 4 * j, &x, sizeof x);
    }
}
static inline void codes_f8(const unsigned char *p, int g, uint8_t code[GRID_BLOCK])
{
    memcpy(code, place_f8(p, g), GRID_BLOCK);
}

/* ---- codebook formats: a block laid out as strips want it, and back (blocks.h) */

/* Eight signs: number 2 i + p in bit 4 i of word p. */
static inline uint32_t spread_signs(uint32_t s)
{
    s = (s & 0x55) | (s & 0xaa) << 15;
    s = (s | s << 4) & 0x05050505;
    return (s | s << 2) & 0x11111111;
}
/* The word of signs of 32 numbers from one byte (or seven bits) each eight. */
static inline uint32_t signs_word(uint32_t s0, uint32_t s1, uint32_t s2, uint32_t s3)
{
    return spread_signs(s0) | spread_signs(s1) << 1 | spread_signs(s2) << 2 | spread_signs(s3) << 3;
}
static inline uint32_t signs_of_sevens(uint32_t x)
{
    return signs_word(x & 127, x >> 7 & 127, x >> 14 & 127, x >> 21 & 127);
}

static inline void codes_iq1_s(const unsigned char *p, struct laid_block *to)
{
    to->half[0] = (uint16_t)le16(p);
    for (int g = 0; g < 8; g++) {
        to->half[1 + g] = (uint16_t)le16(p + 34 + 2 * g);
        to->word[g][0] = le32(p + 2 + 4 * g);
    }
}
static inline void codes_iq1_m(const unsigned char *p, struct laid_block *to)
{
    for (int i = 0; i < 4; i++)
        to->half[i] = (uint16_t)le16(p + 48 + 2 * i);
    memcpy(to->byte, p + 32, 16);
    for (int g = 0; g < 8; g++)
        to->word[g][0] = le32(p + 4 * g);
}
static inline void codes_iq2_xxs(const unsigned char *p, struct laid_block *to)
{
    to->half[0] = (uint16_t)le16(p);
    for (int g = 0; g < 8; g++) {
        uint32_t word = le32(p + 6 + 8 * g);
        to->word[g][0] = le32(p + 2 + 8 * g);
        to->word[g][1] = signs_of_sevens(word) | (word & 0xf0000000);
    }
}
static inline void codes_iq2_xs(const unsigned char *p, struct laid_block *to)
{
    to->half[0] = (uint16_t)le16(p);
    memcpy(to->byte, p + 66, 8);
    for (int g = 0; g < 8; g++) {
        uint32_t q[4], low = 0, ninth = 0;
        for (int l = 0; l < 4; l++) {
            q[l] = le16(p + 2 + 8 * g + 2 * l);
            low |= (q[l] & 255) << 8 * l;
            ninth |= (q[l] >> 8 & 1) << (28 + l);
        }
        to->word[g][0] = low;
        to->word[g][1] = signs_word(q[0] >> 9, q[1] >> 9, q[2] >> 9, q[3] >> 9) | ninth;
    }
}
static inline void codes_iq2_s(const unsigned char *p, struct laid_block *to)
{
    to->half[0] = (uint16_t)le16(p);
    memcpy(to->byte, p + 66, 16);
    for (int g = 0; g < 8; g++) {
        const unsigned char *s = p + 34 + 4 * g;
        to->word[g][0] = le32(p + 2 + 4 * g);
        to->word[g][1] = signs_word(s[0], s[1], s[2], s[3]);
    }
}
static inline void codes_iq3_xxs(const unsigned char *p, struct laid_block *to)
{
    to->half[0] = (uint16_t)le16(p);
    for (int g = 0; g < 8; g++) {
        uint32_t word = le32(p + 66 + 4 * g);
        to->word[g][0] = le32(p + 2 + 8 * g);
        to->word[g][1] = le32(p + 6 + 8 * g);
        to->word[g][2] = signs_of_sevens(word) | (word & 0xf0000000);
    }
}
static inline void codes_iq3_s(const unsigned char *p, struct laid_block *to)
{
    to->half[0] = (uint16_t)le16(p);
    memcpy(to->byte, p + 66, 8);
    memcpy(to->byte + 8, p + 106, 4);
    for (int g = 0; g < 8; g++) {
        const unsigned char *s = p + 74 + 4 * g;
        to->word[g][0] = le32(p + 2 + 8 * g);
        to->word[g][1] = le32(p + 6 + 8 * g);
        to->word[g][2] = signs_word(s[0], s[1], s[2], s[3]);
    }
}

/* The digits of a run of bytes as files have them (format/ternary.c): the t-th of all bytes, then the next. */
static inline void trits_of_bytes(const unsigned char *p, int bytes, int digits, uint8_t *digit)
{
    static const uint8_t power[5] = {1, 3, 9, 27, 81};
    for (int t = 0; t < digits; t++)
        for (int j = 0; j < bytes; j++)
            *digit++ = (uint8_t)((uint8_t)(p[j] * power[t]) * 3 >> 8);
}
static inline uint32_t trits_word(uint32_t n)
{
    return (n * 65536 + 59048) / 59049;
}
static inline void codes_tq1_0(const unsigned char *p, struct laid_block *to)
{
    uint8_t digit[8][16][2];
    trits_of_bytes(p, 32, 5, digit[0][0]);
    trits_of_bytes(p + 32, 16, 5, digit[5][0]);
    trits_of_bytes(p + 48, 4, 4, digit[7][8]);
    to->half[0] = (uint16_t)le16(p + 52);
    for (int g = 0; g < 8; g++) {
        uint32_t n[2] = {0, 0};
        for (int j = 0; j < 10; j++)
            for (int odd = 0; odd < 2; odd++)
                n[odd] = 3 * n[odd] + digit[g][j][odd];
        to->word[g][0] = trits_word(n[0]) | trits_word(n[1]) << 16;
    }
    uint32_t n[5][2] = {{0}};
    for (int g = 0; g < 8; g++)
        for (int i = 0; i < 5; i++)
            for (int odd = 0; odd < 2; odd++)
                n[i][odd] = 3 * n[i][odd] + digit[g][10 + i][odd];
    for (int i = 0; i < 5; i++)
        for (int odd = 0; odd < 2; odd++) {
            uint32_t last = i < 3 ? digit[5 + i][15][odd] : 0;
            to->half[1 + 2 * i + odd] = (uint16_t)trits_word(9 * n[i][odd] + 3u * digit[i][15][odd] + last);
        }
}

#endif
