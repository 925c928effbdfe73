/* The AMX level's block products over the model of its instructions (amx_model.h), and what they leave behind. */
#ifndef CADRE_TESTS_KERNEL_AMX_BLOCKS_MODEL_H
#define CADRE_TESTS_KERNEL_AMX_BLOCKS_MODEL_H

#include "kernel/kernel.h"

/* Overwrites what kernels_init_amxblocks does; needs a processor with AVX-512 VNNI and VBMI. */
void kernels_init_amxblocks_model(struct kernels *k);
/* Products of tiles that this thread has made, and whether it has released its tiles. */
int64_t amx_model_products(void);
bool amx_model_released(void);

#endif
