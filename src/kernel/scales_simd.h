/* Scales of 16 outputs from the header fields of a record, by the names of the formats' rows (blocks.h). What blocks.c
 * does for one output. */
#ifndef CADRE_KERNEL_SCALES_SIMD_H
#define CADRE_KERNEL_SCALES_SIMD_H

#include "kernel/codebooks_simd.h"

struct scales {
    v16 scale, min;
};
typedef struct scales scales_fn(const char *half, const char *byte, const char *plane, int g);

INLINE i16 byte_at(const char *byte, int i)
{
    return i_load_u8(byte + i * STRIP);
}
INLINE i16 bits_at32(i16 x, int shift, int mask)
{
    return i_and(i_srl(x, shift), i_set1(mask));
}
INLINE struct scales scales_half(const char *half, const char *byte, const char *plane, int g)
{
    (void)byte, (void)g, (void)plane;
    return (struct scales){v_load_f16(half), v_set1(0)};
}
INLINE struct scales scales_half_min(const char *half, const char *byte, const char *plane, int g)
{
    (void)byte, (void)g, (void)plane;
    v16 m = v_load_f16(half + STRIP * 2);
    return (struct scales){v_load_f16(half), v_from_bits(i_xor(v_bits(m), i_set1((int)0x80000000u)))};
}
INLINE struct scales scales_f32(const char *half, const char *byte, const char *plane, int g)
{
    (void)byte, (void)plane, (void)g;
    i16 bits = i_or(i_load_u16(half), i_shl(i_load_u16(half + STRIP * 2), 16));
    return (struct scales){v_from_bits(bits), v_set1(0)};
}
INLINE struct scales scales_e8m0(const char *half, const char *byte, const char *plane, int g)
{
    (void)half, (void)g, (void)plane;
    i16 e = byte_at(byte, 0), one = i_set1(1);
    v16 usual = v_from_bits(i_shl(i_add(e, i_set1(-1)), 23)); /* e8m0_half */
    v16 zero = v_from_bits(i_set1(0x00200000)), first = v_from_bits(i_set1(0x00400000));
    v16 ef = v_from_int(e);
    v16 least = v_select(v_less(ef, v_from_int(one)), zero, first);
    return (struct scales){v_select(v_less(ef, v_set1(2)), least, usual), v_set1(0)};
}
/* Integers times the halves of the super-block */
INLINE struct scales scaled(const char *half, i16 scale)
{
    return (struct scales){v_mul(v_load_f16(half), v_from_int(scale)), v_set1(0)};
}
INLINE struct scales scaled_min(const char *half, i16 scale, i16 min)
{
    return (struct scales){v_mul(v_load_f16(half), v_from_int(scale)),
                           v_mul(v_load_f16(half + STRIP * 2), v_from_int(min))};
}
INLINE struct scales scales_q2_k(const char *half, const char *byte, const char *plane, int g)
{
    (void)plane;
    i16 x = byte_at(byte, g);
    return scaled_min(half, i_and(x, i_set1(15)), i_shr(x, 4));
}
INLINE struct scales scales_q3_k(const char *half, const char *byte, const char *plane, int g)
{
    (void)plane;
    i16 low = bits_at32(byte_at(byte, g % 8), g / 8 * 4, 15);
    i16 high = i_shl(bits_at32(byte_at(byte, 8 + g % 4), g / 4 * 2, 3), 4);
    return scaled(half, i_add(i_or(low, high), i_set1(-32)));
}
INLINE struct scales scales_q4_k(const char *half, const char *byte, const char *plane, int g)
{
    (void)plane;
    if (g < 4)
        return scaled_min(half, i_and(byte_at(byte, g), i_set1(63)), i_and(byte_at(byte, g + 4), i_set1(63)));
    i16 low = byte_at(byte, g + 4), s = byte_at(byte, g - 4), m = byte_at(byte, g);
    return scaled_min(half, i_or(i_and(low, i_set1(15)), i_shl(i_shr(s, 6), 4)),
                      i_or(i_shr(low, 4), i_shl(i_shr(m, 6), 4)));
}
INLINE struct scales scales_q6_k(const char *half, const char *byte, const char *plane, int g)
{
    (void)plane;
    return (struct scales){v_mul(v_load_f16(half), v_load_i8(byte + g * STRIP)), v_set1(0)};
}
INLINE struct scales scales_iq4_xs(const char *half, const char *byte, const char *plane, int g)
{
    (void)plane;
    i16 low = bits_at32(byte_at(byte, g / 2), g % 2 * 4, 15);
    i16 high = i_shl(bits_at32(i_load_u16(half + STRIP * 2), 2 * g, 3), 4);
    return scaled(half, i_add(i_or(low, high), i_set1(-32)));
}
INLINE struct scales scales_ue4m3(const char *half, const char *byte, const char *plane, int g)
{
    (void)half, (void)plane;
    i16 x = byte_at(byte, g), e = bits_at32(x, 3, 15), m = i_and(x, i_set1(7));
    m16 small = v_less(v_from_int(e), v_set1(1));
    m = i_select(small, m, i_or(m, i_set1(8)));
    v16 power = v_from_bits(i_shl(i_add(i_select(small, i_set1(1), e), i_set1(116)), 23));
    m16 none = v_less(v_set1(126), v_select(v_less(v_from_int(x), v_set1(128)), v_from_int(x), v_set1(0))); /* 127 */
    return (struct scales){v_select(none, v_set1(0), v_mul(v_from_int(m), power)), v_set1(0)};
}
/* d (1/2 + s) · factor */
INLINE struct scales scales_iq(const char *half, i16 s, float factor)
{
    v16 d = v_mul(v_load_f16(half), v_add(v_set1(0.5f), v_from_int(s)));
    return (struct scales){v_mul(d, v_set1(factor)), v_set1(0)};
}
/* d (2 s + 1) / 8 */
INLINE struct scales scales_iq1(v16 d, i16 s)
{
    v16 scale = v_mul(d, v_from_int(i_or(i_shl(s, 1), i_set1(1))));
    return (struct scales){v_mul(scale, v_set1(0.125f)), v_set1(0)};
}
INLINE struct scales scales_iq1_s(const char *half, const char *byte, const char *plane, int g)
{
    (void)byte, (void)plane;
    return scales_iq1(v_load_f16(half), bits_at32(iq1_s_word(half, g), 12, 7));
}
INLINE struct scales scales_iq1_m(const char *half, const char *byte, const char *plane, int g)
{
    (void)byte, (void)plane;
    i16 d = i_set1(0);
    UNROLL for (int i = 0; i < 4; i++) d = i_or(d, i_shl(i_shr(i_load_u16(half + i * STRIP * 2), 12), 4 * i));
    uint16_t bits[STRIP];
    i_store_u16(bits, d);
    return scales_iq1(v_load_f16(bits), bits_at32(i_load_u16(half + g / 4 * STRIP * 2), g % 4 * 3, 7));
}
INLINE struct scales scales_iq2_xxs(const char *half, const char *byte, const char *plane, int g)
{
    (void)byte, (void)g;
    return scales_iq(half, i_shr(i_load(plane + PLANE_BYTES), 28), 0.25f);
}
INLINE struct scales scales_iq2_xs(const char *half, const char *byte, const char *plane, int g)
{
    (void)plane;
    return scales_iq(half, bits_at32(byte_at(byte, g / 2), g % 2 * 4, 15), 0.25f);
}
INLINE struct scales scales_iq2_s(const char *half, const char *byte, const char *plane, int g)
{
    (void)plane;
    return scales_iq(half, bits_at32(byte_at(byte, 8 + g / 2), g % 2 * 4, 15), 0.25f);
}
INLINE struct scales scales_iq3_xxs(const char *half, const char *byte, const char *plane, int g)
{
    (void)byte, (void)g;
    return scales_iq(half, i_shr(i_load(plane + 2 * PLANE_BYTES), 28), 0.5f);
}
INLINE struct scales scales_iq3_s(const char *half, const char *byte, const char *plane, int g)
{
    (void)plane;
    return scales_iq(half, bits_at32(byte_at(byte, 8 + g / 2), g % 2 * 4, 15), 2);
}

#endif
