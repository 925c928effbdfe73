/* The number formats' decoders and encoders, one file a group; dtype.c makes rows of them. A decoder takes whole
 * blocks, n numbers in all, and returns the bits that the format's definition gives: a product, then a difference, each
 * rounded to f32. */
#ifndef CADRE_TENSOR_FORMAT_FORMAT_H
#define CADRE_TENSOR_FORMAT_FORMAT_H

#include "tensor/dtype.h"

typedef void decode_fn(const void *src, float *dst, size_t n);
typedef void encode_fn(const float *src, void *dst, size_t n);

decode_fn q4_0_decode, q4_1_decode, q5_0_decode, q5_1_decode, q8_0_decode;         /* legacy.c */
decode_fn q2_k_decode, q3_k_decode, q4_k_decode, q5_k_decode, q6_k_decode;         /* k_quants.c */
decode_fn iq1_s_decode, iq1_m_decode, iq2_xxs_decode, iq2_xs_decode, iq2_s_decode; /* iq.c */
decode_fn iq3_xxs_decode, iq3_s_decode, iq4_nl_decode, iq4_xs_decode;              /* iq.c */
decode_fn tq1_0_decode, tq2_0_decode, q1_0_decode, q2_0_decode;                    /* ternary.c */
decode_fn mxfp4_decode, nvfp4_decode;                                              /* fp4.c */
decode_fn f8_e4m3_decode, f8_e5m2_decode;                                          /* fp8.c */
decode_fn f8_e4m3_b32_decode, f8_e4m3_b128_decode, f8_e5m2_b32_decode;             /* fp8.c */
decode_fn int4_b32_decode, int4_b128_decode;                                       /* int4.c */

encode_fn q4_0_encode, q4_1_encode, q5_0_encode, q5_1_encode, q8_0_encode; /* legacy.c */
encode_fn q4_k_encode, q5_k_encode, q6_k_encode;                           /* k_encode.c */
encode_fn mxfp4_encode;                                                    /* fp4.c */

/* What codes of single numbers stand for: iq4_nl and iq4_xs; twice the four-bit floats, integers; one bit. */
extern const int8_t iq4_values[16], fp4_values[16], q1_values[2];
extern const int8_t trit_values[16]; /* digits of base 3: -1, 0, 1 */
/* The same for digits of codebooks of groups (iq_tables.h); bit 3 of the code is the sign. */
extern const int8_t iq1_values[16], iq2_values[16], iq3_xxs_values[16], iq3_s_values[16];
extern const uint16_t iq1s_codes[2048 + 1], iq2xxs_codes[256 + 1], iq2xs_codes[512 + 1], iq2s_codes[1024 + 1];
extern const uint16_t iq3xxs_codes[256 + 1], iq3s_codes[512 + 1];

static inline uint32_t le16(const unsigned char *p)
{
    return (uint32_t)(p[0] | p[1] << 8);
}

static inline uint32_t le32(const unsigned char *p)
{
    return le16(p) | le16(p + 2) << 16;
}

static inline float half_at(const unsigned char *p)
{
    return f16_to_f32((uint16_t)le16(p));
}

#endif
