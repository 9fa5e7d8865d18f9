/* Leave-one-out scores: how likely an example is under the log weights of its class without its own share of the
 * counts.
 *
 * Decisions. Sums run in lanes, so that a logarithm is taken of sixteen entries at a time. Indices are looked at one by
 * one where they are followed, beside a logarithm that costs far more.
 */
#include <math.h>

#include "parallel.h"
#include "reals.h"
#include "saffu.h"
#include "vmath.h"

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
    SAFFU_PARALLEL_FOR(team, schedule(static) reduction(| : bad))
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
    SAFFU_PARALLEL_FOR(team, schedule(static) reduction(| : bad))
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
