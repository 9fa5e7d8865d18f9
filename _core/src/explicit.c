/* Sparse explicit weights: discounted counts -> log weights, over a whole table at once. */
#include "parallel.h"
#include "saffu.h"
#include "vmath.h"

SAFFU_INLINE double discounted(int64_t n, const double *discount) {
    return n == 0 ? 0.0 : (double)n - discount[n < 3 ? n - 1 : 2];
}

SAFFU_SIMD static void weigh_row(const int64_t *restrict counts, const int32_t *restrict parent,
                                 const double *restrict lower, const double *discount, int64_t n, double *total,
                                 double *mass, double *restrict u, double *restrict p) {
    int64_t n_c = 0;
    double kept = 0.0;
    for (int64_t i = 0; i < n; i++) {
        n_c += counts[i];
        kept += discounted(counts[i], discount);
    }
    double m_c = (double)n_c - kept;
    *total = (double)n_c;
    *mass = m_c;
    for (int64_t i = 0; i < n; i++) {
        double q = lower[parent[i]], d = discounted(counts[i], discount);
        u[i] = d > 0.0 ? vlog(1.0 + d / (m_c * q)) : 0.0;
        p[i] = n_c ? (d + m_c * q) / (double)n_c : q;
    }
}

int saffu_weigh(const int64_t *indptr, const int64_t *counts, const int32_t *parent, const double *lower,
                const double *discounts, int64_t n_rows, double *total, double *mass, double *u, double *p,
                int n_threads) {
    int team = saffu_team(n_threads, indptr[n_rows]);
    (void)team;
    SAFFU_OMP(parallel for num_threads(team) schedule(dynamic, 256))
    for (int64_t c = 0; c < n_rows; c++) {
        int64_t from = indptr[c];
        weigh_row(counts + from, parent + from, lower, discounts, indptr[c + 1] - from, total + c, mass + c, u + from,
                  p + from);
    }
    return SAFFU_OK;
}
