/* Discounted counts -> sparse log weights, over a whole table at once.
 *
 * Decisions. Rows are short as a rule: what has to be looked at before it is followed, parents and signs, is looked at
 * for many rows together, just before they are weighed. Discounts are selected, not gathered. A row is summed before
 * its entries are weighed, a second time from cache. Entries of adjacent short rows are weighed together, each beside
 * the sums of its row: vectors would hardly ever be full of one such row.
 */
#include "parallel.h"
#include "saffu.h"
#include "vmath.h"

enum { WEIGHED_AT_ONCE = 256, SHORT = 48, RUN = 1024 }; /* rows; entries of a short row, and of rows weighed together */

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

/* Entries of short rows that are weighed together: what is left of each count, and the sums of its row. */
typedef struct {
    double left[RUN], total[RUN], mass[RUN];
} Run;

/* The sums of n_rows adjacent rows, n entries, beside each of them; a status. */
SAFFU_INLINE int sum_rows(const int64_t *indptr, const int64_t *restrict counts, const double *discount, int64_t n_rows,
                          double *total, double *mass, Run *restrict run) {
    const double d1 = discount[0], d2 = discount[1], d3 = discount[2];
    const int64_t first = indptr[0], n = indptr[n_rows] - first;
    int status = SAFFU_OK;
    for (int64_t i = 0; i < n; i++) run->left[i] = discounted(counts[first + i], d1, d2, d3);
    for (int64_t c = 0; c < n_rows; c++) {
        uint64_t n_c = 0;
        double kept = 0.0;
        for (int64_t i = indptr[c]; i < indptr[c + 1]; i++) {
            n_c += (uint64_t)counts[i];
            kept += run->left[i - first];
        }
        double sum = (double)(int64_t)n_c, m_c = sum - kept;
        if (!(kept < 0x1p62)) status = SAFFU_NOT_A_COUNT;
        else if (kept > 0.0 && !(m_c > 0.0) && status == SAFFU_OK) status = SAFFU_NOT_FINITE;
        total[c] = sum;
        mass[c] = m_c;
        for (int64_t i = indptr[c]; i < indptr[c + 1]; i++) {
            run->total[i - first] = sum;
            run->mass[i - first] = m_c;
        }
    }
    return status;
}

/* The n entries of a run. */
SAFFU_INLINE void weigh_run(const Run *restrict run, const int32_t *restrict parent, const double *restrict lower,
                            int64_t n, double *restrict u, double *restrict p) {
    for (int64_t i = 0; i < n; i++) {
        double q = lower[parent[i]], sum = run->total[i];
        u[i] = q;
        p[i] = sum > 0.0 ? (run->left[i] + run->mass[i] * q) / sum : q;
    }
    for (int64_t i = 0; i < n; i++)
        u[i] = run->left[i] > 0.0 ? vlog(1.0 + run->left[i] / (run->mass[i] * u[i])) : 0.0;
}

/* The end of the short rows from c on that are weighed together. */
SAFFU_INLINE int64_t end_of_run(const int64_t *indptr, int64_t c, int64_t n_rows) {
    int64_t end = c;
    while (end < n_rows && indptr[end + 1] - indptr[end] <= SHORT && indptr[end + 1] - indptr[c] <= RUN) end++;
    return end;
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
    Run run;
    for (int64_t c = 0; status == SAFFU_OK && c < n_rows;) {
        int64_t from = indptr[c], end = end_of_run(indptr, c, n_rows);
        if (end > c + 1) {
            status = sum_rows(indptr + c, counts, discounts, end - c, total + c, mass + c, &run);
            if (status == SAFFU_OK) weigh_run(&run, parent + from, lower, indptr[end] - from, u + from, p + from);
            c = end;
        } else {
            status = weigh_row(counts + from, parent + from, lower, discounts, indptr[c + 1] - from, total + c,
                               mass + c, u + from, p + from);
            c++;
        }
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
