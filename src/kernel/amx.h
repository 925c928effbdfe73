/* What the files of the AMX level share: its instructions and the shapes of its tiles. With CADRE_AMX_MODEL the
 * instructions come from a model in C, the header that it names, so that these files are tested where there is no AMX.
 */
#ifndef CADRE_KERNEL_AMX_H
#define CADRE_KERNEL_AMX_H

#include <stdint.h>

#ifdef CADRE_AMX_MODEL
#include CADRE_AMX_MODEL
#else
#include <immintrin.h>
#endif

enum {
    TILE_COUNT = 8,
    TILE_HEIGHT = 16, /* rows of a tile, at most */
    TILE_WIDTH = 64   /* bytes of a row, at most */
};

/* What LDTILECFG reads. */
struct tile_config {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
};

/* The compilers do not know that a tile is loaded from memory: all that is to be loaded must be written before this. */
static inline void tile_memory(void)
{
    __asm__ volatile("" : : : "memory");
}

/* Shapes of the eight tiles; one without rows does not exist. */
static inline void tile_shapes(const int rows[TILE_COUNT], const int row_bytes[TILE_COUNT])
{
    struct tile_config config = {.palette = 1};
    for (int i = 0; i < TILE_COUNT; i++) {
        config.rows[i] = (uint8_t)rows[i];
        config.row_bytes[i] = (uint16_t)(rows[i] ? row_bytes[i] : 0);
    }
    __asm__ volatile("" : : "m"(config) : "memory"); /* gcc 12 takes it that only 8 of the 64 bytes are read */
    _tile_loadconfig(&config);
}

#endif
