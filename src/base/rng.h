/* Random numbers with a state that is saved in checkpoints: xoshiro256** seeded by splitmix64
 * (Blackman and Vigna 2018). The same seed gives the same words on every machine;
 * rng_normal goes through the C library's log. */
#ifndef CADRE_BASE_RNG_H
#define CADRE_BASE_RNG_H

#include <stdint.h>

struct rng {
    uint64_t s[4];
};

void rng_seed(struct rng *r, uint64_t seed);
uint64_t rng_u64(struct rng *r);
double rng_uniform(struct rng *r);                 /* [0, 1), 53 bits */
uint64_t rng_below(struct rng *r, uint64_t bound); /* [0, bound), unbiased; bound > 0 */
double rng_normal(struct rng *r);                  /* mean 0, variance 1 */

#endif
