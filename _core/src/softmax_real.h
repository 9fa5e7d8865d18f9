/* Softmax and its relatives for one type of real: included by softmax.c with REAL, EXP, LOG and NAME(name) defined. */

/* Up to 16 values from x, the rest filled. */
SAFFU_INLINE void NAME(load_lanes)(const REAL *x, int64_t n, REAL fill, REAL lane[LANES]) {
    if (n >= LANES) {
        memcpy(lane, x, LANES * sizeof(REAL));
    } else {
        SAFFU_LANES
        for (int l = 0; l < LANES; l++) lane[l] = fill;
        memcpy(lane, x, (size_t)n * sizeof(REAL));
    }
}

SAFFU_INLINE void NAME(store_lanes)(const REAL lane[LANES], int64_t n, REAL *x) {
    memcpy(x, lane, (size_t)(n < LANES ? n : LANES) * sizeof(REAL));
}

/* The greatest entry; which one that is, if there is a NaN among them, does not matter. */
SAFFU_INLINE REAL NAME(row_max)(const REAL *x, int64_t n) {
    REAL high[LANES], lane[LANES];
    int64_t whole = n - n % LANES;
    NAME(load_lanes)(x + whole, n - whole, -(REAL)INFINITY, lane);
    SAFFU_LANES
    for (int l = 0; l < LANES; l++) high[l] = lane[l];
    for (int64_t i = 0; i < whole; i += LANES) {
        SAFFU_LANES
        for (int l = 0; l < LANES; l++) high[l] = x[i + l] > high[l] ? x[i + l] : high[l];
    }
    for (int l = 1; l < LANES; l++) high[0] = high[l] > high[0] ? high[l] : high[0];
    return high[0];
}

/* sum exp(x - high); the terms go to p unless it is NULL. Whole lanes apart from the rest: their sums stay in
 * registers.
 */
SAFFU_INLINE double NAME(row_exp)(const REAL *x, int64_t n, REAL high, REAL *p) {
    double sum[LANES] = {0};
    REAL lane[LANES], rest[LANES];
    int64_t whole = n - n % LANES;
    NAME(load_lanes)(x + whole, n - whole, -(REAL)INFINITY, rest);
    for (int64_t i = 0; i < whole; i += LANES) {
        SAFFU_LANES
        for (int l = 0; l < LANES; l++) lane[l] = EXP(x[i + l] - high);
        if (p) memcpy(p + i, lane, sizeof lane);
        SAFFU_LANES
        for (int l = 0; l < LANES; l++) sum[l] += (double)lane[l];
    }
    for (int l = 0; l < LANES; l++) {
        rest[l] = EXP(rest[l] - high);
        sum[l] += (double)rest[l];
    }
    if (p) NAME(store_lanes)(rest, n - whole, p + whole);
    return sum_lanes(sum);
}

/* What is taken off a row before its exponentials: its greatest entry, or 0 if that is not finite. So the sum of the
 * exponentials tells the kinds of rows apart: 0 if all is -inf, inf if an entry is +inf, NaN if one is NaN. */
SAFFU_INLINE REAL NAME(shift_of)(REAL high) { return high - high == 0 ? high : 0; }

/* log sum exp x. */
SAFFU_INLINE double NAME(row_logsumexp)(const REAL *x, int64_t n) {
    REAL shift = NAME(shift_of)(NAME(row_max)(x, n));
    return (double)shift + log(NAME(row_exp)(x, n, shift, NULL));
}

/* The one rule for rows without a greatest finite entry, whose exponentials p have the sum 0, inf or NaN: nothing but
 * -inf has equal terms, 1 each; +inf and NaN make the sum NaN, and so all that is divided by it. */
SAFFU_RARE static double NAME(rare_terms)(double sum, int64_t n, REAL *p) {
    if (sum != 0.0) return (double)NAN;
    for (int64_t i = 0; p && i < n; i++) p[i] = 1;
    return (double)n;
}

/* The terms p of a softmax and their sum. */
SAFFU_INLINE double NAME(row_terms)(const REAL *x, int64_t n, REAL shift, REAL *p) {
    double sum = NAME(row_exp)(x, n, shift, p);
    return sum > 0.0 && sum < (double)INFINITY ? sum : NAME(rare_terms)(sum, n, p);
}

SAFFU_SIMD static int NAME(softmax_rows)(const REAL *X, int64_t n_rows, int64_t n_columns, REAL *P, int n_threads) {
    int team = saffu_team(n_threads, n_rows * n_columns);
    SAFFU_PARALLEL_FOR(team, schedule(static))
    for (int64_t m = 0; m < n_rows; m++) {
        const REAL *x = X + m * n_columns;
        REAL *p = P + m * n_columns;
        double sum = NAME(row_terms)(x, n_columns, NAME(shift_of)(NAME(row_max)(x, n_columns)), p);
        REAL scale = (REAL)(1.0 / sum);
        for (int64_t i = 0; i < n_columns; i++) p[i] *= scale;
    }
    return SAFFU_OK;
}

SAFFU_SIMD static int NAME(log_softmax_rows)(const REAL *X, int64_t n_rows, int64_t n_columns, REAL *P, int n_threads) {
    int team = saffu_team(n_threads, n_rows * n_columns);
    SAFFU_PARALLEL_FOR(team, schedule(static))
    for (int64_t m = 0; m < n_rows; m++) {
        const REAL *x = X + m * n_columns;
        REAL *p = P + m * n_columns, high = NAME(row_max)(x, n_columns), shift = NAME(shift_of)(high);
        REAL log_sum = (REAL)log(NAME(row_terms)(x, n_columns, shift, NULL));
        if (high == -(REAL)INFINITY)
            for (int64_t i = 0; i < n_columns; i++) p[i] = -log_sum;
        else
            for (int64_t i = 0; i < n_columns; i++) p[i] = (x[i] - shift) - log_sum;
    }
    return SAFFU_OK;
}

SAFFU_SIMD static int NAME(logsumexp_rows)(const REAL *X, int64_t n_rows, int64_t n_columns, double *total,
                                           int n_threads) {
    int team = saffu_team(n_threads, n_rows * n_columns);
    SAFFU_PARALLEL_FOR(team, schedule(static))
    for (int64_t m = 0; m < n_rows; m++) total[m] = NAME(row_logsumexp)(X + m * n_columns, n_columns);
    return SAFFU_OK;
}

SAFFU_SIMD static int NAME(losses_of_labels)(const REAL *X, const int32_t *labels, int64_t n_rows, int64_t n_columns,
                                             double *loss, int n_threads) {
    int team = saffu_team(n_threads, n_rows * n_columns), bad = 0;
    SAFFU_PARALLEL_FOR(team, schedule(static) reduction(| : bad))
    for (int64_t m = 0; m < n_rows; m++) {
        const REAL *x = X + m * n_columns;
        if (labels[m] < 0 || labels[m] >= n_columns) {
            bad |= 1;
            continue;
        }
        double total = NAME(row_logsumexp)(x, n_columns), target = (double)x[labels[m]];
        loss[m] = total - target;
        if (total - total != 0) loss[m] = total == -(double)INFINITY ? log((double)n_columns) : (double)NAN;
    }
    return bad ? SAFFU_OUT_OF_RANGE : SAFFU_OK;
}

SAFFU_SIMD static int NAME(gradients_of_labels)(const REAL *X, const int32_t *labels, const double *scale,
                                                int64_t n_rows, int64_t n_columns, double *loss, REAL *dX,
                                                int n_threads) {
    int team = saffu_team(n_threads, n_rows * n_columns), bad = 0;
    SAFFU_PARALLEL_FOR(team, schedule(static) reduction(| : bad))
    for (int64_t m = 0; m < n_rows; m++) {
        const REAL *x = X + m * n_columns;
        REAL *d = dX + m * n_columns;
        if (labels[m] < 0 || labels[m] >= n_columns) {
            bad |= 1;
            continue;
        }
        REAL high = NAME(row_max)(x, n_columns), shift = NAME(shift_of)(high);
        REAL target = high == -(REAL)INFINITY ? 0 : x[labels[m]]; /* before x is lost: it may be d */
        double weight = scale ? scale[m] : 1.0, sum = NAME(row_terms)(x, n_columns, shift, d);
        REAL factor = (REAL)(weight / sum);
        for (int64_t i = 0; i < n_columns; i++) d[i] *= factor;
        loss[m] = log(sum) - ((double)target - (double)shift);
        d[labels[m]] -= (REAL)weight;
    }
    return bad ? SAFFU_OUT_OF_RANGE : SAFFU_OK;
}

/* sum_i t_i (total - x_i) over the targets t_i != 0; NaN if the total is NaN or infinite. */
SAFFU_INLINE double NAME(row_soft_loss)(const REAL *x, const REAL *t, int64_t n, double total) {
    double sum[LANES] = {0};
    REAL x_lane[LANES], t_lane[LANES];
    for (int64_t i = 0; i < n; i += LANES) {
        NAME(load_lanes)(x + i, n - i, 0, x_lane);
        NAME(load_lanes)(t + i, n - i, 0, t_lane);
        SAFFU_LANES
        for (int l = 0; l < LANES; l++) {
            double term = (double)t_lane[l] * (total - (double)x_lane[l]);
            sum[l] += t_lane[l] == 0 ? 0.0 : term;
        }
    }
    return total - total == 0 ? sum_lanes(sum) : (double)NAN;
}

/* sum_i t_i log n: every class has probability 1 / n. */
SAFFU_INLINE double NAME(uniform_loss)(const REAL *t, int64_t n) {
    double sum = 0.0;
    for (int64_t i = 0; i < n; i++) sum += (double)t[i];
    return sum * log((double)n);
}

SAFFU_SIMD static int NAME(losses_of_targets)(const REAL *X, const REAL *T, int64_t n_rows, int64_t n_columns,
                                              double *loss, int n_threads) {
    int team = saffu_team(n_threads, n_rows * n_columns);
    SAFFU_PARALLEL_FOR(team, schedule(static))
    for (int64_t m = 0; m < n_rows; m++) {
        const REAL *x = X + m * n_columns, *t = T + m * n_columns;
        double total = NAME(row_logsumexp)(x, n_columns);
        loss[m] = total == -(double)INFINITY ? NAME(uniform_loss)(t, n_columns)
                                             : NAME(row_soft_loss)(x, t, n_columns, total);
    }
    return SAFFU_OK;
}

/* sum_i a_i b_i. */
SAFFU_INLINE double NAME(row_dot)(const REAL *a, const REAL *b, int64_t n) {
    double sum[LANES] = {0};
    REAL a_lane[LANES], b_lane[LANES];
    for (int64_t i = 0; i < n; i += LANES) {
        NAME(load_lanes)(a + i, n - i, 0, a_lane);
        NAME(load_lanes)(b + i, n - i, 0, b_lane);
        SAFFU_LANES
        for (int l = 0; l < LANES; l++) sum[l] += (double)a_lane[l] * (double)b_lane[l];
    }
    return sum_lanes(sum);
}

/* z_i = p_i (d_i - shift); group by group, as z may be d. */
SAFFU_INLINE void NAME(row_backward)(const REAL *p, const REAL *d, int64_t n, REAL shift, REAL *z) {
    REAL p_lane[LANES], d_lane[LANES];
    for (int64_t i = 0; i < n; i += LANES) {
        NAME(load_lanes)(p + i, n - i, 0, p_lane);
        NAME(load_lanes)(d + i, n - i, 0, d_lane);
        SAFFU_LANES
        for (int l = 0; l < LANES; l++) d_lane[l] = p_lane[l] * (d_lane[l] - shift);
        NAME(store_lanes)(d_lane, n - i, z + i);
    }
}

SAFFU_SIMD static int NAME(softmax_gradients)(const REAL *P, const REAL *dP, int64_t n_rows, int64_t n_columns,
                                              REAL *dX, int n_threads) {
    int team = saffu_team(n_threads, n_rows * n_columns);
    SAFFU_PARALLEL_FOR(team, schedule(static))
    for (int64_t m = 0; m < n_rows; m++) {
        const REAL *p = P + m * n_columns, *d = dP + m * n_columns;
        NAME(row_backward)(p, d, n_columns, (REAL)NAME(row_dot)(p, d, n_columns), dX + m * n_columns);
    }
    return SAFFU_OK;
}

/* j_k = x_k + t_k; the greatest of them. */
SAFFU_INLINE REAL NAME(row_joint)(const REAL *x, const REAL *t, int64_t n, REAL *j) {
    REAL high[LANES], lane[LANES], t_lane[LANES];
    SAFFU_LANES
    for (int l = 0; l < LANES; l++) high[l] = -(REAL)INFINITY;
    for (int64_t i = 0; i < n; i += LANES) {
        NAME(load_lanes)(x + i, n - i, -(REAL)INFINITY, lane);
        NAME(load_lanes)(t + i, n - i, 0, t_lane);
        SAFFU_LANES
        for (int l = 0; l < LANES; l++) lane[l] += t_lane[l];
        SAFFU_LANES
        for (int l = 0; l < LANES; l++) high[l] = lane[l] > high[l] ? lane[l] : high[l];
        NAME(store_lanes)(lane, n - i, j + i);
    }
    for (int l = 1; l < LANES; l++) high[0] = high[l] > high[0] ? high[l] : high[0];
    return high[0];
}

/* The same for a row X that may be nothing but -inf: then j = t. */
SAFFU_RARE static REAL NAME(row_alone)(const REAL *x, const REAL *t, int64_t n, REAL *j) {
    REAL high = -(REAL)INFINITY;
    int nothing = 1;
    for (int64_t i = 0; i < n; i++) nothing &= x[i] == -(REAL)INFINITY;
    for (int64_t i = 0; i < n; i++) {
        j[i] = nothing ? t[i] : x[i] + t[i];
        high = j[i] > high ? j[i] : high;
    }
    return high;
}

/* r_k = r_scale r_k;  d_k = d_scale d_k - r_k. */
SAFFU_INLINE void NAME(row_difference)(int64_t n, REAL d_scale, REAL r_scale, REAL *d, REAL *r) {
    REAL d_lane[LANES], r_lane[LANES];
    for (int64_t i = 0; i < n; i += LANES) {
        NAME(load_lanes)(d + i, n - i, 0, d_lane);
        NAME(load_lanes)(r + i, n - i, 0, r_lane);
        SAFFU_LANES
        for (int l = 0; l < LANES; l++) {
            r_lane[l] *= r_scale;
            d_lane[l] = d_scale * d_lane[l] - r_lane[l];
        }
        NAME(store_lanes)(d_lane, n - i, d + i);
        NAME(store_lanes)(r_lane, n - i, r + i);
    }
}

/* r, the logs of joint probabilities, becomes their terms, d those of x; their sums, and the log of the ratio of these.
 * */
SAFFU_INLINE double NAME(mixture_row)(const REAL *x, int64_t n, REAL x_high, REAL j_high, REAL *r, REAL *d,
                                      double *total, double *joint) {
    *total = NAME(row_exp)(x, n, x_high, d); /* the last use of x, which may be d */
    *joint = NAME(row_exp)(r, n, j_high, r);
    return ((double)j_high - (double)x_high) + log(*joint / *total);
}

/* The same for a row without a greatest finite entry, of x or of the joint probabilities. */
SAFFU_RARE static double NAME(rare_mixture)(const REAL *x, const REAL *t, int64_t n, REAL x_high, REAL *r, REAL *d,
                                            double *total, double *joint) {
    REAL x_shift = NAME(shift_of)(x_high);
    REAL j_high = x_high == -(REAL)INFINITY ? NAME(row_alone)(x, t, n, r) : NAME(row_joint)(x, t, n, r);
    REAL j_shift = NAME(shift_of)(j_high);
    *total = NAME(row_terms)(x, n, x_shift, d);
    *joint = NAME(row_terms)(r, n, j_shift, r);
    double log_prob = ((double)j_shift - (double)x_shift) + log(*joint / *total);
    return j_high == -(REAL)INFINITY ? log_prob - (double)INFINITY : log_prob;
}

SAFFU_SIMD static int NAME(mixture_rows)(const REAL *X, const REAL *T, const int32_t *labels, const double *scale,
                                         int64_t n_rows, int64_t n_columns, int64_t n_classes, double *log_prob,
                                         REAL *R, REAL *dX, int n_threads) {
    int team = saffu_team(n_threads, n_rows * n_columns), bad = 0;
    SAFFU_PARALLEL_FOR(team, schedule(static) reduction(| : bad))
    for (int64_t m = 0; m < n_rows; m++) {
        const REAL *x = X + m * n_columns;
        REAL *r = R + m * n_columns, *d = dX ? dX + m * n_columns : NULL;
        double total, joint;
        if (labels[m] < 0 || labels[m] >= n_classes) {
            bad |= 1;
            continue;
        }
        const REAL *t = T + labels[m] * n_columns;
        REAL x_high = NAME(row_max)(x, n_columns), j_high = NAME(row_joint)(x, t, n_columns, r);
        /* Both are finite, so that the greatest term of each sum is 1. */
        if (x_high - x_high == 0 && j_high - j_high == 0)
            log_prob[m] = NAME(mixture_row)(x, n_columns, x_high, j_high, r, d, &total, &joint);
        else
            log_prob[m] = NAME(rare_mixture)(x, t, n_columns, x_high, r, d, &total, &joint);
        if (d) NAME(row_difference)(n_columns, (REAL)(scale[m] / total), (REAL)(scale[m] / joint), d, r);
    }
    return bad ? SAFFU_OUT_OF_RANGE : SAFFU_OK;
}

/* Chunks on a fixed grid, so that no element changes sides between a vector loop and its remainder. */
SAFFU_SIMD static int NAME(exp_all)(const REAL *x, int64_t n, REAL *y, int n_threads) {
    int team = saffu_team(n_threads, n);
    SAFFU_PARALLEL_FOR(team, schedule(static))
    for (int64_t from = 0; from < n; from += SPAN_OF_EXP)
        for (int64_t i = from; i < saffu_min(n, from + SPAN_OF_EXP); i++) y[i] = EXP(x[i]);
    return SAFFU_OK;
}

SAFFU_SIMD static int NAME(log_all)(const REAL *x, int64_t n, REAL *y, int n_threads) {
    int team = saffu_team(n_threads, n);
    SAFFU_PARALLEL_FOR(team, schedule(static))
    for (int64_t from = 0; from < n; from += SPAN_OF_EXP)
        for (int64_t i = from; i < saffu_min(n, from + SPAN_OF_EXP); i++) y[i] = LOG(x[i]);
    return SAFFU_OK;
}

SAFFU_SIMD static int NAME(log_sums_rows)(const REAL *X, const int32_t *words, const int64_t *begins, int64_t n_rows,
                                          int64_t n_columns, int64_t n_cells, REAL *Z, int n_threads) {
    int team = saffu_team(n_threads, n_rows * n_columns);
    int64_t longest = 1;
    for (int64_t c = 0; c < n_cells; c++) longest = saffu_max(longest, begins[c + 1] - begins[c]);
    REAL *scratch = malloc((size_t)(team * longest) * sizeof *scratch);
    if (!scratch) return SAFFU_NO_MEMORY;
    SAFFU_PARALLEL_FOR(team, schedule(static))
    for (int64_t m = 0; m < n_rows; m++) {
        const REAL *restrict x = X + m * n_columns;
        REAL *restrict z = Z + m * n_cells, *restrict own = scratch + saffu_thread() * longest;
        for (int64_t c = 0; c < n_cells; c++) {
            const int32_t *restrict word = words + begins[c];
            int64_t n = begins[c + 1] - begins[c];
            if (n == 1) {
                z[c] = x[*word];
                continue;
            }
            for (int64_t i = 0; i < n; i++) own[i] = x[word[i]];
            z[c] = (REAL)NAME(row_logsumexp)(own, n);
        }
    }
    free(scratch);
    return SAFFU_OK;
}
