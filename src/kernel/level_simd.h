/* The table of a level that is built from rows_simd.h and gemm_simd.h: LEVEL and LEVEL_INIT name it. */
void LEVEL_INIT(struct kernels *k)
{
    k->isa = LEVEL;
    k->gemm_f32 = gemm_f32;
    k->gemm_bf16 = gemm_bf16;
    k->gemm_w[DTYPE_F16] = gemm_f16w;
    k->gemm_w[DTYPE_BF16] = gemm_bf16w;
    set_blocks(k);
    k->pack_f32 = pack_f32;
    k->pack_bf16 = pack_bf16;
    k->rows_f32 = rows_f32;
    k->rows_bf16 = rows_bf16;
    k->sum = sum;
    k->dot = dot;
    k->max = max;
    k->axpy = axpy;
    k->exp = exp_row;
    k->exp_sum = exp_sum;
    k->sigmoid = sigmoid_row;
    k->tanh = tanh_row;
    k->swiglu = swiglu;
    k->swiglu_back = swiglu_back;
    k->adamw = adamw;
    k->attn.span_add = span_add;
    k->attn.softmax_back = softmax_back;
    cache_kernels_simd(k->attn.cache);
    k->delta = (struct delta_kernels){.step = delta_step};
}
