/* The number that activations, gradients and sums are made of: float. The float64 build (-DCADRE_F64) compiles
 * the same operators over double, so that central differences can check every backward to 1e-6. */
#ifndef CADRE_TENSOR_REAL_H
#define CADRE_TENSOR_REAL_H

#ifdef CADRE_F64
typedef double real;
#else
typedef float real;
#endif

#endif
