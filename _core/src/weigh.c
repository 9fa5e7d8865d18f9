/* Dense log weights, and their leave-one-out scores.
 *
 * Decisions. With S_i the column sums of F, the explicit solution is naive Bayes: U_ji = log F_ji - shift_i,
 * where shift_i = ((K - 1) / K) log S_i, or log S_i when the prior is kept apart (K infinite). A row of a class-major F
 * is summed and turned while it is in cache: one read and one write. Columns of a feature-major F are summed in a first
 * stream over F and turned in a second; narrow blocks of columns that stay in cache were slower, because they defeat
 * prefetching. The smoothing is added on the way. A negative or non-finite entry is noticed by the summing pass, from
 * its sign bit or its sum. A class whose sum exceeds the largest real is done again in double with scaled sums, so that
 * every table of finite counts has its weights. Sums are double, in lanes of a fixed number, folded in order.
 */
#include <float.h>
#include <math.h>
#include <stdlib.h>

#include "parallel.h"
#include "saffu.h"
#include "vmath.h"

#define SCALE 0x1p-64 /* 2^63 of the largest doubles add up to a double in these units */
#define LN_2 0.6931471805599453

enum { LANES = 16, NARROW = 64, WIDE = 4096, ROWS_AT_ONCE = 256 };

SAFFU_INLINE int is_count(double x) { return x >= 0.0 && x < (double)INFINITY; }

/* log(a + b), where the sum may exceed the largest double. */
static double log_of_sum(double a, double b) {
    return a + b < (double)INFINITY ? log(a + b) : log(0.5 * a + 0.5 * b) + LN_2;
}

/* ((K - 1) / K) log S, and nothing where S is 0: an empty class has weights -inf, not NaN. */
SAFFU_INLINE double shift_of(double sum, double exponent) { return sum > 0.0 ? exponent * log(sum) : 0.0; }

#define REAL float
#define LARGEST ((double)FLT_MAX)
#define BITS uint32_t
#define BITS_OF bits_of_f32
#define LOG vlogf
#define NAME(name) name##_f32
#include "weigh_real.h"
#undef REAL
#undef LARGEST
#undef BITS
#undef BITS_OF
#undef LOG
#undef NAME

#define REAL double
#define LARGEST DBL_MAX
#define BITS uint64_t
#define BITS_OF bits_of
#define LOG vlog
#define NAME(name) name##_f64
#include "weigh_real.h"
#undef REAL
#undef LARGEST
#undef BITS
#undef BITS_OF
#undef LOG
#undef NAME

/* ---- leave one out ----------------------------------------------------------------------------------------------- */

SAFFU_INLINE double real_at(const void *x, int size, int64_t i) {
    return size == 4 ? (double)((const float *)x)[i] : ((const double *)x)[i];
}

/* h log(F - a h + s), 0 where h is 0; rounding may take F - a h just below 0. */
SAFFU_INLINE double term(double h, double count, double amount, double smoothing) {
    double left = count - amount * h;
    left = left > 0.0 ? left : 0.0;
    double value = h * vlog(left + smoothing);
    return h == 0.0 ? 0.0 : value;
}

SAFFU_INLINE double whole_row(double scores, double norm, double sum, double amount, double smoothing, int64_t d) {
    double left = sum - amount * norm;
    left = left > 0.0 ? left : 0.0;
    return norm == 0.0 ? 0.0 : scores - norm * log(left + smoothing * (double)d);
}

SAFFU_INLINE double dense_score(const void *h, int size, const double *count, double sum, double amount,
                                double smoothing, int64_t n_features) {
    double score[LANES] = {0}, norm[LANES] = {0};
    int64_t j = 0;
    for (; j + LANES <= n_features; j += LANES)
        for (int l = 0; l < LANES; l++) {
            double value = real_at(h, size, j + l);
            score[l] += term(value, count[j + l], amount, smoothing);
            norm[l] += value;
        }
    for (; j < n_features; j++) {
        double value = real_at(h, size, j);
        score[0] += term(value, count[j], amount, smoothing);
        norm[0] += value;
    }
    for (int l = 1; l < LANES; l++) {
        score[0] += score[l];
        norm[0] += norm[l];
    }
    return whole_row(score[0], norm[0], sum, amount, smoothing, n_features);
}

SAFFU_SIMD int saffu_leave_one_out(const void *H, int h_size, const int32_t *rows, const int32_t *classes,
                                   const double *amounts, const double *F, const double *S, double smoothing,
                                   int64_t n, int64_t n_rows, int64_t n_features, int64_t n_classes, double *scores,
                                   int n_threads) {
    int team = saffu_team(n_threads, n * n_features * 4), bad = 0;
    (void)team;
    SAFFU_OMP(parallel for num_threads(team) schedule(static) reduction(| : bad))
    for (int64_t e = 0; e < n; e++) {
        int64_t m = rows[e], c = classes[e];
        if (m < 0 || m >= n_rows || c < 0 || c >= n_classes) {
            bad |= 1;
            continue;
        }
        const double *count = F + c * n_features;
        const void *h = (const char *)H + m * n_features * h_size;
        scores[e] = h_size == 4 ? dense_score(h, 4, count, S[c], amounts[e], smoothing, n_features)
                                : dense_score(h, 8, count, S[c], amounts[e], smoothing, n_features);
    }
    return bad ? SAFFU_OUT_OF_RANGE : SAFFU_OK;
}

SAFFU_SIMD int saffu_leave_one_out_csr(const int64_t *indptr, const int32_t *indices, const double *data,
                                       const int32_t *rows, const int32_t *classes, const double *amounts,
                                       const double *F, const double *S, double smoothing, int64_t n, int64_t n_rows,
                                       int64_t n_features, int64_t n_classes, double *scores, int n_threads) {
    int team = saffu_team(n_threads, n * 1000), bad = 0;
    (void)team;
    SAFFU_OMP(parallel for num_threads(team) schedule(static) reduction(| : bad))
    for (int64_t e = 0; e < n; e++) {
        int64_t m = rows[e], c = classes[e];
        if (m < 0 || m >= n_rows || c < 0 || c >= n_classes) {
            bad |= 1;
            continue;
        }
        const double *count = F + c * n_features;
        double score = 0.0, norm = 0.0;
        for (int64_t i = indptr[m]; i < indptr[m + 1]; i++) {
            if (indices[i] < 0 || indices[i] >= n_features) {
                bad |= 1;
                continue;
            }
            score += term(data[i], count[indices[i]], amounts[e], smoothing);
            norm += data[i];
        }
        scores[e] = whole_row(score, norm, S[c], amounts[e], smoothing, n_features);
    }
    return bad ? SAFFU_OUT_OF_RANGE : SAFFU_OK;
}

/* ---- sparse: discounted counts -> log weights, over a whole table at once ---------------------------------------- */

/* n less its discount, one of (1, 2, 3+): chosen without a gather. */
SAFFU_INLINE double discounted(int64_t n, double d1, double d2, double d3) {
    double d = n >= 3 ? d3 : d2;
    d = n == 1 ? d1 : d;
    return n == 0 ? 0.0 : (double)n - d;
}

/* One row of counts that are not negative; a status. They are summed as integers, and as doubles that tell whether those
 * wrapped around. */
SAFFU_INLINE int weigh_row(const int64_t *restrict counts, const int32_t *restrict parent, const double *restrict lower,
                           const double *discount, int64_t n, double *total, double *mass, double *restrict u,
                           double *restrict p) {
    const double d1 = discount[0], d2 = discount[1], d3 = discount[2];
    uint64_t n_c = 0;
    double kept = 0.0;
    for (int64_t i = 0; i < n; i++) {
        n_c += (uint64_t)counts[i];
        kept += discounted(counts[i], d1, d2, d3);
    }
    if (!(kept < 0x1p62)) return SAFFU_NOT_A_COUNT;
    double sum = (double)(int64_t)n_c, m_c = sum - kept;
    if (kept > 0.0 && !(m_c > 0.0)) return SAFFU_NOT_FINITE;
    *total = sum;
    *mass = m_c;
    /* Two loops, so that m_c q is added wherever it is not divided by: there is one way to contract it. */
    for (int64_t i = 0; i < n; i++) {
        double q = lower[parent[i]], d = discounted(counts[i], d1, d2, d3);
        u[i] = q;
        p[i] = n_c ? (d + m_c * q) / sum : q;
    }
    for (int64_t i = 0; i < n; i++) {
        double d = discounted(counts[i], d1, d2, d3);
        u[i] = d > 0.0 ? vlog(1.0 + d / (m_c * u[i])) : 0.0;
    }
    return SAFFU_OK;
}

/* Is a parent of n entries not below n_lower, or a count negative? Rows may be too short for vectors: all are looked at
 * together, just before they are weighed. */
SAFFU_INLINE int entries_fit(const int64_t *restrict counts, const int32_t *restrict parent, int64_t n,
                             int64_t n_lower) {
    uint64_t signs = 0;
    uint32_t high = 0;
    for (int64_t i = 0; i < n; i++) signs |= (uint64_t)counts[i];
    for (int64_t i = 0; i < n; i++) high = (uint32_t)parent[i] > high ? (uint32_t)parent[i] : high;
    if (n > 0 && (int64_t)high >= n_lower) return SAFFU_OUT_OF_RANGE;
    return signs >> 63 ? SAFFU_NOT_A_COUNT : SAFFU_OK;
}

SAFFU_SIMD static int weigh_rows(const int64_t *indptr, const int64_t *counts, const int32_t *parent,
                                 const double *lower, const double *discounts, int64_t n_rows, int64_t n_lower,
                                 double *total, double *mass, double *u, double *p) {
    int status = entries_fit(counts + indptr[0], parent + indptr[0], indptr[n_rows] - indptr[0], n_lower);
    for (int64_t c = 0; status == SAFFU_OK && c < n_rows; c++) {
        int64_t from = indptr[c];
        status = weigh_row(counts + from, parent + from, lower, discounts, indptr[c + 1] - from, total + c, mass + c,
                           u + from, p + from);
    }
    return status;
}

int saffu_weigh(const int64_t *indptr, const int64_t *counts, const int32_t *parent, const double *lower,
                const double *discounts, int64_t n_rows, int64_t n_lower, double *total, double *mass, double *u,
                double *p, int n_threads) {
    int team = saffu_team(n_threads, indptr[n_rows] - indptr[0]), status = SAFFU_OK;
    (void)team;
    SAFFU_OMP(parallel for num_threads(team) schedule(dynamic, 1) reduction(min : status))
    for (int64_t c = 0; c < n_rows; c += ROWS_AT_ONCE) {
        int done = weigh_rows(indptr + c, counts, parent, lower, discounts, saffu_min(ROWS_AT_ONCE, n_rows - c),
                              n_lower, total + c, mass + c, u, p);
        status = done < status ? done : status;
    }
    return status;
}
