/* Adam for one type of real: included by adam.c with REAL, SQRT, TINY and NAME(name) defined. */

SAFFU_SIMD static int NAME(adam)(const REAL *gradient, double learning_rate, double beta1, double beta2, double epsilon,
                                 int64_t step, int64_t n, REAL *x, REAL *first, REAL *second, int n_threads) {
    if (step < 1) return SAFFU_OUT_OF_RANGE;
    /* rate (first / c1) / (sqrt(second / c2) + e) = rate sqrt(c2) / c1 first / (sqrt(second) + sqrt(c2) e) */
    double c1 = 1.0 - pow(beta1, (double)step), root2 = sqrt(1.0 - pow(beta2, (double)step));
    REAL rate = (REAL)(learning_rate * root2 / c1), floor = (REAL)(epsilon * root2);
    REAL keep1 = (REAL)beta1, keep2 = (REAL)beta2, add1 = (REAL)(1.0 - beta1), add2 = (REAL)(1.0 - beta2);
    int team = saffu_team(n_threads, n);
    SAFFU_PARALLEL_FOR(team, schedule(static))
    for (int64_t from = 0; from < n; from += ENTRIES_OF_SPAN) {
        int64_t to = saffu_min(n, from + ENTRIES_OF_SPAN);
        REAL *restrict p = x, *restrict a = first, *restrict b = second;
        const REAL *restrict g = gradient;
        for (int64_t i = from; i < to; i++) {
            REAL m = keep1 * a[i] + add1 * g[i];
            REAL v = keep2 * b[i] + add2 * g[i] * g[i];
            m = m < TINY && m > -TINY ? 0 : m;
            a[i] = m;
            b[i] = v < TINY ? 0 : v;
            p[i] -= rate * m / (SQRT(v) + floor);
        }
    }
    return SAFFU_OK;
}

SAFFU_SIMD static int NAME(adam_without_momentum)(const REAL *gradient, double scale, double learning_rate,
                                                  double beta2, double epsilon, int64_t step, int64_t n, REAL *x,
                                                  REAL *second, int n_threads) {
    if (step < 1) return SAFFU_OUT_OF_RANGE;
    double root2 = sqrt(1.0 - pow(beta2, (double)step));
    REAL rate = (REAL)(learning_rate * root2), floor = (REAL)(epsilon * root2), factor = (REAL)scale;
    REAL keep2 = (REAL)beta2, add2 = (REAL)(1.0 - beta2);
    int team = saffu_team(n_threads, n);
    SAFFU_PARALLEL_FOR(team, schedule(static))
    for (int64_t from = 0; from < n; from += ENTRIES_OF_SPAN) {
        int64_t to = saffu_min(n, from + ENTRIES_OF_SPAN);
        REAL *restrict p = x, *restrict b = second;
        const REAL *restrict g = gradient;
        for (int64_t i = from; i < to; i++) {
            REAL m = factor * g[i];
            REAL v = keep2 * b[i] + add2 * m * m;
            b[i] = v < TINY ? 0 : v;
            p[i] -= rate * m / (SQRT(v) + floor);
        }
    }
    return SAFFU_OK;
}
