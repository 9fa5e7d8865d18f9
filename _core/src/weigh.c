/* Discounted counts -> sparse log weights, over a whole table at once.
 *
 * Decisions. Rows are short as a rule: what has to be looked at before it is followed, parents and signs, is looked at
 * for many rows together, just before they are weighed. Discounts are selected, not gathered. A row is summed before
 * its entries are weighed, a second time from cache.
 */
#include "parallel.h"
#include "saffu.h"
#include "vmath.h"

enum { WEIGHED_AT_ONCE = 256 };

/* n less its discount, one of (1, 2, 3+): chosen without a gather. */
SAFFU_INLINE double discounted(int64_t n, double d1, double d2, double d3) {
    double d = n >= 3 ? d3 : d2;
    d = n == 1 ? d1 : d;
    return n == 0 ? 0.0 : (double)n - d;
}

/* One row of counts that are not negative; a status. They are summed as integers, and as doubles that tell whether
 * those wrapped around. */
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
    SAFFU_PARALLEL_FOR(team, schedule(dynamic, 1) reduction(min : status))
    for (int64_t c = 0; c < n_rows; c += WEIGHED_AT_ONCE) {
        int done = weigh_rows(indptr + c, counts, parent, lower, discounts, saffu_min(WEIGHED_AT_ONCE, n_rows - c),
                              n_lower, total + c, mass + c, u, p);
        status = done < status ? done : status;
    }
    return status;
}
