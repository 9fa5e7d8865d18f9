/* Threads and SIMD variants: the only place that knows the compiler.
 *
 * SAFFU_PARALLEL_FOR(team, clauses)   put before a loop that a team of so many threads shares, or one thread in a
 *                        sequential build
 * SAFFU_PARALLEL(team, clauses)       put before a block that every thread of a team executes
 * SAFFU_OMP(directive)   another OpenMP pragma inside of such a block, or nothing in a sequential build
 * SAFFU_SIMD             put before an outermost kernel: the compiler emits AVX-512, AVX2 and baseline
 *                        variants (the OpenMP bodies inside included) and the loader picks one. Where there is no
 *                        such loader it is nothing: variants.h says what takes its place.
 *                        Helpers called from such a kernel must be SAFFU_INLINE, or they stay baseline.
 */
#ifndef SAFFU_PARALLEL_H
#define SAFFU_PARALLEL_H

#include <stdint.h>
#include <string.h>

#if defined(__GNUC__)
#pragma GCC diagnostic ignored "-Wpsabi" /* wide vectors are passed between inline functions alone */
#endif

#ifdef _OPENMP
#include <omp.h>
#define SAFFU_PRAGMA(text) _Pragma(#text)
#define SAFFU_OMP(directive) SAFFU_PRAGMA(omp directive)
#define SAFFU_PARALLEL(team, ...) SAFFU_PRAGMA(omp parallel num_threads(team) __VA_ARGS__)
#define SAFFU_PARALLEL_FOR(team, ...) SAFFU_PRAGMA(omp parallel for num_threads(team) __VA_ARGS__)
#else
#define SAFFU_OMP(directive)
#define SAFFU_PARALLEL(team, ...) (void)(team);
#define SAFFU_PARALLEL_FOR(team, ...) (void)(team);
#endif

#if defined(__GNUC__) && !defined(__clang__) && defined(__x86_64__) && defined(__gnu_linux__) && defined(__GLIBC__) && \
    !defined(SAFFU_NO_SIMD) && !defined(__SANITIZE_THREAD__) && !defined(__SANITIZE_ADDRESS__)
#define SAFFU_HAS_VARIANTS 1
#define SAFFU_SIMD __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define SAFFU_HAS_VARIANTS 0 /* of this object: there may be others, see variants.h */
#define SAFFU_SIMD
#endif

#if defined(__GNUC__)
#define SAFFU_INLINE static inline __attribute__((always_inline))
#define SAFFU_RARE __attribute__((noinline, cold)) /* kept out of the loop that calls it */
#define SAFFU_PREFETCH(address) __builtin_prefetch(address)
#define SAFFU_PREFETCH_L2(address) __builtin_prefetch(address, 0, 2) /* for a stream of lines: it spares the L1 */
#else
#define SAFFU_INLINE static inline
#define SAFFU_RARE
#define SAFFU_PREFETCH(address) ((void)0)
#define SAFFU_PREFETCH_L2(address) ((void)0)
#endif

/* Put before a loop over a constant number of lanes: gcc would unroll it into scalar code before it vectorises. */
#if defined(__GNUC__) && !defined(__clang__)
#define SAFFU_LANES _Pragma("GCC unroll 1")
#else
#define SAFFU_LANES
#endif

#if defined(_MSC_VER)
#define restrict __restrict
#endif

/* Eight partial sums that live in registers: a sum over words stays a vector whatever the optimiser thinks of
 * reordering, and is folded in one fixed order at the end. */
#if defined(__GNUC__)
typedef double Doubles __attribute__((vector_size(64), aligned(8)));
#else
typedef struct {
    double v[8];
} Doubles;
#endif
enum { N_DOUBLES = 8 };

SAFFU_INLINE Doubles doubles_load(const double *x) {
    Doubles a;
    memcpy(&a, x, sizeof a);
    return a;
}

SAFFU_INLINE Doubles doubles_zero(void) {
    Doubles a;
    memset(&a, 0, sizeof a);
    return a;
}

SAFFU_INLINE Doubles doubles_add(Doubles a, Doubles b) {
#if defined(__GNUC__)
    return a + b;
#else
    for (int i = 0; i < N_DOUBLES; i++) a.v[i] += b.v[i];
    return a;
#endif
}

SAFFU_INLINE Doubles doubles_multiply(Doubles a, Doubles b) {
#if defined(__GNUC__)
    return a * b;
#else
    for (int i = 0; i < N_DOUBLES; i++) a.v[i] *= b.v[i];
    return a;
#endif
}

/* a + x b. */
SAFFU_INLINE Doubles doubles_add_product(Doubles a, double x, Doubles b) {
#if defined(__GNUC__)
    return a + x * b;
#else
    for (int i = 0; i < N_DOUBLES; i++) a.v[i] += x * b.v[i];
    return a;
#endif
}

SAFFU_INLINE double doubles_sum(Doubles a) {
    double x[8];
    memcpy(x, &a, sizeof x);
    return ((x[0] + x[4]) + (x[1] + x[5])) + ((x[2] + x[6]) + (x[3] + x[7]));
}

/* Index of the calling thread inside a parallel region. */
SAFFU_INLINE int saffu_thread(void) {
#ifdef _OPENMP
    return omp_get_thread_num();
#else
    return 0;
#endif
}

/* The team a parallel region would get: OMP_NUM_THREADS at start, lowered or raised by whoever limits thread pools. */
SAFFU_INLINE int saffu_max_threads(void) {
#ifdef _OPENMP
    return omp_get_max_threads();
#else
    return 1;
#endif
}

/* Small work stays on one thread: starting a team costs about as much as 20,000 simple steps. */
SAFFU_INLINE int saffu_team(int n_threads, int64_t work) {
#ifdef _OPENMP
    return (n_threads > 1 && work >= 20000) ? n_threads : 1;
#else
    (void)n_threads;
    (void)work;
    return 1;
#endif
}

SAFFU_INLINE int64_t saffu_min(int64_t a, int64_t b) { return a < b ? a : b; }
SAFFU_INLINE int64_t saffu_max(int64_t a, int64_t b) { return a > b ? a : b; }

#endif
