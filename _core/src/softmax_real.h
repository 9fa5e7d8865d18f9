/* Softmax and its relatives for one type of real: included by softmax.c with REAL, EXP, LOG and NAME(name) defined. */

/* Up to 16 values from x, the rest filled. */
SAFFU_INLINE void NAME(load)(const REAL *x, int64_t n, REAL fill, REAL lane[LANES]) {
    if (n >= LANES) {
        memcpy(lane, x, LANES * sizeof(REAL));
    } else {
        SAFFU_LANES
        for (int l = 0; l < LANES; l++) lane[l] = fill;
        memcpy(lane, x, (size_t)n * sizeof(REAL));
    }
}

SAFFU_INLINE void NAME(store)(const REAL lane[LANES], int64_t n, REAL *x) {
    memcpy(x, lane, (size_t)(n < LANES ? n : LANES) * sizeof(REAL));
}

SAFFU_INLINE REAL NAME(row_max)(const REAL *x, int64_t n) {
    REAL high[LANES], lane[LANES];
    SAFFU_LANES
    for (int l = 0; l < LANES; l++) high[l] = -(REAL)INFINITY;
    for (int64_t i = 0; i < n; i += LANES) {
        NAME(load)(x + i, n - i, -(REAL)INFINITY, lane);
        SAFFU_LANES
        for (int l = 0; l < LANES; l++) high[l] = lane[l] > high[l] ? lane[l] : high[l];
    }
    for (int l = 1; l < LANES; l++) high[0] = high[l] > high[0] ? high[l] : high[0];
    return high[0];
}

/* sum exp(x - high); the terms go to p unless it is NULL. */
SAFFU_INLINE double NAME(row_exp)(const REAL *x, int64_t n, REAL high, REAL *p) {
    double sum[LANES] = {0};
    REAL lane[LANES];
    for (int64_t i = 0; i < n; i += LANES) {
        NAME(load)(x + i, n - i, -(REAL)INFINITY, lane);
        SAFFU_LANES
        for (int l = 0; l < LANES; l++) lane[l] = EXP(lane[l] - high);
        SAFFU_LANES
        for (int l = 0; l < LANES; l++) sum[l] += (double)lane[l];
        if (p) NAME(store)(lane, n - i, p + i);
    }
    return fold(sum);
}

/* log sum exp x. */
SAFFU_INLINE double NAME(row_logsumexp)(const REAL *x, int64_t n) {
    REAL high = NAME(row_max)(x, n);
    if (high == -(REAL)INFINITY || high == (REAL)INFINITY) high = 0;
    return (double)high + log(NAME(row_exp)(x, n, high, NULL));
}

SAFFU_SIMD int NAME(saffu_softmax)(const REAL *X, int64_t n_rows, int64_t n_columns, REAL *P, int n_threads) {
    int team = saffu_team(n_threads, n_rows * n_columns);
    (void)team;
    SAFFU_OMP(parallel for num_threads(team) schedule(static))
    for (int64_t m = 0; m < n_rows; m++) {
        const REAL *x = X + m * n_columns;
        REAL *p = P + m * n_columns, high = NAME(row_max)(x, n_columns);
        int nothing = high == -(REAL)INFINITY;
        double sum = NAME(row_exp)(x, n_columns, nothing ? 0 : high, p);
        REAL scale = (REAL)(1.0 / (nothing && sum == 0.0 ? (double)n_columns : sum));
        if (nothing && sum == 0.0)
            for (int64_t i = 0; i < n_columns; i++) p[i] = scale;
        else
            for (int64_t i = 0; i < n_columns; i++) p[i] *= scale;
    }
    return SAFFU_OK;
}

SAFFU_SIMD int NAME(saffu_log_softmax)(const REAL *X, int64_t n_rows, int64_t n_columns, REAL *P, int n_threads) {
    int team = saffu_team(n_threads, n_rows * n_columns);
    (void)team;
    SAFFU_OMP(parallel for num_threads(team) schedule(static))
    for (int64_t m = 0; m < n_rows; m++) {
        const REAL *x = X + m * n_columns;
        REAL *p = P + m * n_columns, high = NAME(row_max)(x, n_columns);
        int nothing = high == -(REAL)INFINITY;
        double sum = NAME(row_exp)(x, n_columns, nothing ? 0 : high, NULL);
        REAL shift = (REAL)log(nothing && sum == 0.0 ? (double)n_columns : sum);
        if (nothing && sum == 0.0)
            for (int64_t i = 0; i < n_columns; i++) p[i] = -shift;
        else
            for (int64_t i = 0; i < n_columns; i++) p[i] = (x[i] - high) - shift;
    }
    return SAFFU_OK;
}

SAFFU_SIMD int NAME(saffu_logsumexp)(const REAL *X, int64_t n_rows, int64_t n_columns, double *total, int n_threads) {
    int team = saffu_team(n_threads, n_rows * n_columns);
    (void)team;
    SAFFU_OMP(parallel for num_threads(team) schedule(static))
    for (int64_t m = 0; m < n_rows; m++) total[m] = NAME(row_logsumexp)(X + m * n_columns, n_columns);
    return SAFFU_OK;
}

SAFFU_SIMD int NAME(saffu_cross_entropy_labels)(const REAL *X, const int32_t *labels, int64_t n_rows,
                                                int64_t n_columns, double *loss, int n_threads) {
    int team = saffu_team(n_threads, n_rows * n_columns), bad = 0;
    (void)team;
    SAFFU_OMP(parallel for num_threads(team) schedule(static) reduction(| : bad))
    for (int64_t m = 0; m < n_rows; m++) {
        const REAL *x = X + m * n_columns;
        if (labels[m] < 0 || labels[m] >= n_columns) {
            bad |= 1;
            continue;
        }
        double total = NAME(row_logsumexp)(x, n_columns), target = (double)x[labels[m]];
        loss[m] = total == -(double)INFINITY ? log((double)n_columns) : total - target;
    }
    return bad ? SAFFU_OUT_OF_RANGE : SAFFU_OK;
}

/* sum_i t_i (total - x_i) over the targets t_i != 0. */
SAFFU_INLINE double NAME(row_soft_loss)(const REAL *x, const REAL *t, int64_t n, double total) {
    double sum[LANES] = {0};
    REAL x_lane[LANES], t_lane[LANES];
    for (int64_t i = 0; i < n; i += LANES) {
        NAME(load)(x + i, n - i, 0, x_lane);
        NAME(load)(t + i, n - i, 0, t_lane);
        SAFFU_LANES
        for (int l = 0; l < LANES; l++) {
            double term = (double)t_lane[l] * (total - (double)x_lane[l]);
            sum[l] += t_lane[l] == 0 ? 0.0 : term;
        }
    }
    return fold(sum);
}

/* sum_i t_i log n: every class has probability 1 / n. */
SAFFU_INLINE double NAME(uniform_loss)(const REAL *t, int64_t n) {
    double sum = 0.0;
    for (int64_t i = 0; i < n; i++) sum += (double)t[i];
    return sum * log((double)n);
}

SAFFU_SIMD int NAME(saffu_cross_entropy_soft)(const REAL *X, const REAL *T, int64_t n_rows, int64_t n_columns,
                                              double *loss, int n_threads) {
    int team = saffu_team(n_threads, n_rows * n_columns);
    (void)team;
    SAFFU_OMP(parallel for num_threads(team) schedule(static))
    for (int64_t m = 0; m < n_rows; m++) {
        const REAL *x = X + m * n_columns, *t = T + m * n_columns;
        double total = NAME(row_logsumexp)(x, n_columns);
        loss[m] = total == -(double)INFINITY ? NAME(uniform_loss)(t, n_columns)
                                             : NAME(row_soft_loss)(x, t, n_columns, total);
    }
    return SAFFU_OK;
}

/* Chunks on a fixed grid, so that no element changes sides between a vector loop and its remainder. */
SAFFU_SIMD int NAME(saffu_exp)(const REAL *x, int64_t n, REAL *y, int n_threads) {
    int team = saffu_team(n_threads, n);
    (void)team;
    SAFFU_OMP(parallel for num_threads(team) schedule(static))
    for (int64_t from = 0; from < n; from += CHUNK)
        for (int64_t i = from; i < saffu_min(n, from + CHUNK); i++) y[i] = EXP(x[i]);
    return SAFFU_OK;
}

SAFFU_SIMD int NAME(saffu_log)(const REAL *x, int64_t n, REAL *y, int n_threads) {
    int team = saffu_team(n_threads, n);
    (void)team;
    SAFFU_OMP(parallel for num_threads(team) schedule(static))
    for (int64_t from = 0; from < n; from += CHUNK)
        for (int64_t i = from; i < saffu_min(n, from + CHUNK); i++) y[i] = LOG(x[i]);
    return SAFFU_OK;
}
