/* Which SIMD variant of the kernels this processor gets. Read variants.h first. */
#include "variants.h"

#ifdef SAFFU_KERNELS
#include <cpuid.h>

#include "saffu.h"

#define DECLARE(name) extern __typeof__(name) *name##_chosen, name##_baseline, name##_v3, name##_v4;
SAFFU_KERNELS(DECLARE)

/* The instructions of x86-64-v3 that are enabled by no system: LZCNT, MOVBE and F16C. */
static int has_rest_of_v3(void) {
    const unsigned int movbe = 1u << 22, f16c = 1u << 29, lzcnt = 1u << 5;
    unsigned int a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & movbe) || !(c & f16c)) return 0;
    return __get_cpuid(0x80000001, &a, &b, &c, &d) && (c & lzcnt);
}

/* The compiler's own function also asks whether the system keeps the wide registers. */
static int best_variant(void) {
    __builtin_cpu_init();
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma") || !__builtin_cpu_supports("bmi") ||
        !__builtin_cpu_supports("bmi2") || !__builtin_cpu_supports("popcnt") || !has_rest_of_v3())
        return SAFFU_BASELINE;
    if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512bw") ||
        !__builtin_cpu_supports("avx512cd") || !__builtin_cpu_supports("avx512dq") ||
        !__builtin_cpu_supports("avx512vl"))
        return SAFFU_V3;
    return SAFFU_V4;
}

int saffu_choose_variant(int most) {
    const int best = best_variant(), variant = best < most ? best : most;
#define CHOOSE(name) \
    name##_chosen = variant == SAFFU_V4 ? name##_v4 : variant == SAFFU_V3 ? name##_v3 : name##_baseline;
    SAFFU_KERNELS(CHOOSE)
    return variant;
}
#endif
