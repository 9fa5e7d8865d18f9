/* exp and log as branch-free polynomials that a compiler can vectorise inside a loop.
 *
 * Relative error over the whole normal range (tested):
 *     vexp, vlog    (double)  at most 5e-16
 *     vexpf, vlogf  (float)   at most 3e-7
 * Edges, chosen by selects and tested: exp(-inf) = 0, exp(+inf) = inf, log(0) = -inf, log(x < 0) = NaN,
 * log(inf) = inf, NaN stays NaN. exp is 0 below -708 (float: -87) and inf above 709 (88);
 * log treats denormals as zero. No relaxed floating-point flag is needed or assumed.
 *
 * exp(x) = 2^n exp(r), n = round(x / ln 2), |r| <= ln 2 / 2, exp(r) = 1 + r + r^2 P(r).
 * log(x) = e ln 2 + log(m), m in [sqrt(1/2), sqrt(2)).
 * The coefficients interpolate at Chebyshev nodes and were computed with 60 digits.
 */
#ifndef SAFFU_VMATH_H
#define SAFFU_VMATH_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "parallel.h"

SAFFU_INLINE uint64_t bits_of(double x) {
    uint64_t u;
    memcpy(&u, &x, sizeof u);
    return u;
}

SAFFU_INLINE double double_of(uint64_t u) {
    double x;
    memcpy(&x, &u, sizeof x);
    return x;
}

SAFFU_INLINE uint32_t bits_of_f32(float x) {
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    return u;
}

SAFFU_INLINE float float_of(uint32_t u) {
    float x;
    memcpy(&x, &u, sizeof x);
    return x;
}

/* exp of a number that is not NaN, without the edges: below -708 it gives 3e-308, above 709 8e307. */
SAFFU_INLINE double vexp_bounded(double x) {
    const double round_magic = 0x1.8p52; /* adding it leaves round(x / ln 2) in the low bits */
    double clamped = x < -708.0 ? -708.0 : x;
    clamped = clamped > 709.0 ? 709.0 : clamped;
    double shifted = clamped * 1.4426950408889634 + round_magic;
    double n = shifted - round_magic;
    double r = clamped - n * 0x1.62e42fefa38p-1;
    r -= n * 0x1.ef35793c7673p-45;
    double p = 2.5100385495510319e-8;
    p = p * r + 2.7620088445409748e-7;
    p = p * r + 2.7557268459997065e-6;
    p = p * r + 2.4801521295954375e-5;
    p = p * r + 0.00019841269863053617;
    p = p * r + 0.0013888888917213717;
    p = p * r + 0.0083333333333300618;
    p = p * r + 0.041666666666624128;
    p = p * r + 0.16666666666666667;
    p = p * r + 0.5;
    p = p * r * r + r + 1.0;
    return double_of(bits_of(p) + (bits_of(shifted) << 52));
}

/* 2^x of a number that is not NaN to 3e-14, clamped to [-1021, 1022]: a third fewer steps than vexp.
 * 2^x = 2^n 2^f, n = round(x), 2^f = 1 + f Q(f). */
SAFFU_INLINE double vexp2_bounded(double x) {
    const double round_magic = 0x1.8p52;
    double clamped = x < -1021.0 ? -1021.0 : x;
    clamped = clamped > 1022.0 ? 1022.0 : clamped;
    double shifted = clamped + round_magic;
    double f = clamped - (shifted - round_magic);
    double q = 1.0203122065960858e-7;
    q = q * f + 1.3255226470378597e-6;
    q = q * f + 1.525268684250813e-5;
    q = q * f + 0.00015403455846485035;
    q = q * f + 0.0013333558179047027;
    q = q * f + 0.0096181291594087755;
    q = q * f + 0.055504108664760414;
    q = q * f + 0.24022650695812973;
    q = q * f + 0.69314718055994531;
    return double_of(bits_of(q * f + 1.0) + (bits_of(shifted) << 52));
}

/* The same for float to 3e-7 (8e-9 on average), clamped to [-126, 126]. Its bits are clamped, which takes one step for
 * each bound: as signed numbers positive floats are in order, as unsigned ones negative floats come last and in reverse.
 * Of NaN, those with a sign pass for -126. */
SAFFU_INLINE float vexp2f_bounded(float x) {
    const float round_magic = 0x1.8p23f;
    int32_t positive = (int32_t)bits_of_f32(x);
    positive = positive > 0x42fc0000 ? 0x42fc0000 : positive; /* 126 */
    uint32_t any = (uint32_t)positive;
    any = any > 0xc2fc0000U ? 0xc2fc0000U : any; /* -126 */
    float clamped = float_of(any);
    float shifted = clamped + round_magic;
    float f = clamped - (shifted - round_magic);
    float q = 0.00133813021f;
    q = q * f + 0.00966636837f;
    q = q * f + 0.0555038117f;
    q = q * f + 0.240223497f;
    q = q * f + 0.693147182f;
    return float_of(bits_of_f32(q * f + 1.0f) + (bits_of_f32(shifted) << 23));
}

SAFFU_INLINE double vexp(double x) {
    double y = vexp_bounded(x);
    y = x < -708.0 ? 0.0 : y;
    y = x > 709.0 ? (double)INFINITY : y;
    return x != x ? x : y;
}

SAFFU_INLINE double vlog(double x) {
    uint64_t u = bits_of(x);
    uint64_t offset = u - 0x3fe6a09e667f3bcdULL; /* bits of sqrt(1/2) */
    double e = double_of(0x4330000000000000ULL | ((offset + (2048ULL << 52)) >> 52)) - (0x1p52 + 2048.0);
    double f = double_of(u - (offset & 0xfff0000000000000ULL)) - 1.0;
    /* log(1 + f) = f - f^2 / 2 + s (f^2 / 2 + z Q(z)),  s = f / (2 + f),  z = s^2 */
    double s = f / (2.0 + f);
    double z = s * s;
    double q = 0.13086907887965027;
    q = q * z + 0.13268746195596595;
    q = q * z + 0.15386240708969664;
    q = q * z + 0.18181795621632782;
    q = q * z + 0.22222222391887066;
    q = q * z + 0.28571428570802848;
    q = q * z + 0.40000000000000878;
    q = q * z + 0.66666666666666666;
    double half_square = 0.5 * f * f;
    double y = e * 0x1.62e42fefa38p-1 + (f - (half_square - (s * (half_square + z * q) + e * 0x1.ef35793c7673p-45)));
    y = x < 0x1p-1022 ? -(double)INFINITY : y;
    y = x < 0.0 ? (double)NAN : y;
    y = x > 0x1.fffffffffffffp1023 ? x : y;
    return x != x ? x : y;
}

SAFFU_INLINE float vexpf(float x) {
    const float round_magic = 0x1.8p23f;
    float clamped = x < -87.0f ? -87.0f : x;
    clamped = clamped > 88.0f ? 88.0f : clamped;
    float shifted = clamped * 1.44269504f + round_magic;
    float n = shifted - round_magic;
    float r = clamped - n * 0x1.62e4p-1f;
    r -= n * 0x1.7f7d1cp-20f;
    float p = 0.0013926183587713f;
    p = p * r + 0.0083631790527226f;
    p = p * r + 0.0416665546172046f;
    p = p * r + 0.1666657698969879f;
    p = p * r + 0.5f;
    p = p * r * r + r + 1.0f;
    float y = float_of(bits_of_f32(p) + (bits_of_f32(shifted) << 23));
    y = x < -87.0f ? 0.0f : y;
    y = x > 88.0f ? (float)INFINITY : y;
    return x != x ? x : y;
}

SAFFU_INLINE float vlogf(float x) {
    uint32_t u = bits_of_f32(x);
    uint32_t offset = u - 0x3f3504f3U; /* bits of sqrt(1/2) */
    float e = (float)((int32_t)offset >> 23);
    float f = float_of(u - (offset & 0xff800000U)) - 1.0f;
    /* log(1 + f) = f - f^2 / 2 + f^3 R(f) */
    float r = 0.0697158481f;
    r = r * f - 0.1148006837f;
    r = r * f + 0.1168558029f;
    r = r * f - 0.1242565463f;
    r = r * f + 0.1424903961f;
    r = r * f - 0.1666780306f;
    r = r * f + 0.2000071625f;
    r = r * f - 0.2499999696f;
    r = r * f + 0.3333333118f;
    float square = f * f;
    float y = e * 0x1.62e4p-1f + (f - (0.5f * square - (r * f * square + e * 0x1.7f7d1cp-20f)));
    y = x < 0x1p-126f ? -INFINITY : y;
    y = x < 0.0f ? NAN : y;
    y = x > 0x1.fffffep127f ? x : y;
    return x != x ? x : y;
}

#endif
