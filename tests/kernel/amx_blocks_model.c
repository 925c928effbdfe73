#include "amx_blocks_model.h"

/* The level itself may be linked in too, so the modelled one has another name. */
#define CADRE_AMX_MODEL "amx_model.h"
#define kernels_init_amxblocks kernels_init_amxblocks_model
#include "kernel/k_amxblocks.c"

int64_t amx_model_products(void)
{
    return amx_products;
}

bool amx_model_released(void)
{
    return !amx.configured;
}
