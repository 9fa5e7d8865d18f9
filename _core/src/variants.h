/* The choice between SIMD variants of the kernels by function pointers, where no loader makes it.
 *
 * gcc on Linux with glibc puts all variants of a kernel behind one name, of which the loader picks one (SAFFU_SIMD in
 * parallel.h). Elsewhere every file of kernels is compiled once for each variant, with names that end with _v4, _v3
 * and _baseline; the bindings call NAME through the pointer NAME_chosen, which saffu_choose_variant sets.
 *
 * Decisions. The pointers are the only state of the core: they are set once, by the import, before any kernel runs.
 * The names are macros of the build, made from saffu.h, so a new kernel needs nothing here.
 */
#ifndef SAFFU_VARIANTS_H
#define SAFFU_VARIANTS_H

#include "parallel.h"

enum { SAFFU_BASELINE, SAFFU_V3, SAFFU_V4 }; /* x86-64, x86-64-v3 (AVX2, FMA), x86-64-v4 (AVX-512) */

#ifdef SAFFU_POINTERS
#define SAFFU_CHOOSES_VARIANT 1

/* Use the best variant that this processor and its system have, but none above `most`; returns which. No kernel may be
 * running. */
int saffu_choose_variant(int most);
#else
#define SAFFU_CHOOSES_VARIANT 0

SAFFU_INLINE int saffu_choose_variant(int most) { return most; }
#endif

#endif
