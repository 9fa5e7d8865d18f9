/* Dense log weights for one type of real: included by log_weights.c with REAL, LARGEST, BITS, BITS_OF, LOG and
 * NAME(name) defined. */

/* Sum of x + smoothing over a row; the sign bits of all entries go into *signs. */
SAFFU_INLINE double NAME(sum_row)(const REAL *x, int64_t n, double smoothing, BITS *signs) {
    double sum[LANES] = {0};
    BITS sign[LANES] = {0};
    int64_t j = 0;
    for (; j + LANES <= n; j += LANES) {
        SAFFU_LANES
        for (int l = 0; l < LANES; l++) sum[l] += (double)x[j + l] + smoothing;
        SAFFU_LANES
        for (int l = 0; l < LANES; l++) sign[l] |= BITS_OF(x[j + l]);
    }
    for (; j < n; j++) {
        sum[0] += (double)x[j] + smoothing;
        sign[0] |= BITS_OF(x[j]);
    }
    for (int l = 0; l < LANES; l++) *signs |= sign[l];
    for (int l = 1; l < LANES; l++) sum[0] += sum[l];
    return sum[0];
}

/* A sign bit was seen: is an entry negative, or was it only -0.0? */
static int NAME(any_negative)(const REAL *x, int64_t n, BITS signs) {
    int negative = 0;
    if (signs >> (8 * sizeof(REAL) - 1))
        for (int64_t j = 0; j < n; j++) negative |= x[j] < 0;
    return negative;
}

SAFFU_INLINE void NAME(log_row)(const REAL *restrict x, int64_t n, double smoothing, double shift, REAL *restrict u) {
    for (int64_t j = 0; j < n; j++) u[j] = LOG((REAL)(x[j] + smoothing)) - (REAL)shift;
}

/* The n entries x, stride apart, of a class whose sum, or one of whose entries, exceeds the largest REAL: its shift in
 * nats, and S, which may be infinite. The result is 1 if an entry is not a finite number. */
SAFFU_RARE static int NAME(large_class)(const REAL *x, int64_t n, int64_t stride, double smoothing, double exponent,
                                        double *S, double *shift) {
    double sum = 0.0;
    int bad = 0;
    for (int64_t j = 0; j < n; j++) {
        sum += SCALE * (double)x[j * stride] + SCALE * smoothing;
        bad |= !(x[j * stride] - x[j * stride] == 0);
    }
    *S = sum / SCALE;
    *shift = exponent * (log(sum) - log(SCALE));
    return bad;
}

SAFFU_RARE static void NAME(large_row)(const REAL *x, int64_t n, double smoothing, double shift, REAL *u) {
    for (int64_t j = 0; j < n; j++) u[j] = (REAL)(log_of_sum((double)x[j], smoothing) - shift);
}

/* Each row of F is a class. */
SAFFU_SIMD static int NAME(log_weights_by_class)(const REAL *F, double smoothing, double exponent, int64_t n_classes,
                                                int64_t n_features, REAL *U, double *S, int n_threads) {
    int team = saffu_team(n_threads, n_classes * n_features), bad = !is_count(smoothing);
    if (!(fabs(exponent) < LARGEST / 1024)) return SAFFU_NOT_FINITE; /* no logarithm of a double exceeds 746 */
    SAFFU_PARALLEL_FOR(team, schedule(static) reduction(| : bad))
    for (int64_t c = 0; c < n_classes; c++) {
        const REAL *x = F + c * n_features;
        REAL *u = U + c * n_features;
        BITS signs = 0;
        S[c] = NAME(sum_row)(x, n_features, smoothing, &signs);
        bad |= NAME(any_negative)(x, n_features, signs);
        double shift = shift_of(S[c], exponent);
        if (S[c] < LARGEST) {
            NAME(log_row)(x, n_features, smoothing, shift, u);
        } else {
            bad |= NAME(large_class)(x, n_features, 1, smoothing, exponent, S + c, &shift);
            NAME(large_row)(x, n_features, smoothing, shift, u);
        }
    }
    return bad ? SAFFU_NOT_A_COUNT : SAFFU_OK;
}

/* S (n_columns) += sums of x + smoothing over the rows of a block of columns, four rows at a time; the sign bits of all
 * entries are the result. */
SAFFU_INLINE BITS NAME(sum_columns)(const REAL *F, double smoothing, int64_t n_rows, int64_t n_columns, int64_t stride,
                                    double *restrict S) {
    BITS signs = 0;
    int64_t d = 0;
    for (; d + 4 <= n_rows; d += 4) {
        const REAL *x = F + d * stride;
        for (int64_t i = 0; i < n_columns; i++) {
            REAL a = x[i], b = x[i + stride], c = x[i + 2 * stride], e = x[i + 3 * stride];
            S[i] += (((double)a + (double)b) + ((double)c + (double)e)) + 4.0 * smoothing;
            signs |= (BITS_OF(a) | BITS_OF(b)) | (BITS_OF(c) | BITS_OF(e));
        }
    }
    for (; d < n_rows; d++)
        for (int64_t i = 0; i < n_columns; i++) {
            S[i] += (double)F[d * stride + i] + smoothing;
            signs |= BITS_OF(F[d * stride + i]);
        }
    return signs;
}

SAFFU_SIMD static int NAME(sums_by_feature)(const REAL *F, double smoothing, int64_t n_features, int64_t n_classes,
                                           double *S, int n_threads) {
    int team = saffu_team(n_threads, n_classes * n_features), bad = 0;
    int64_t width = saffu_max(NARROW, saffu_min(WIDE, n_classes / team / NARROW * NARROW));
    SAFFU_PARALLEL_FOR(team, schedule(static) reduction(| : bad))
    for (int64_t first = 0; first < n_classes; first += width) {
        int64_t n = saffu_min(width, n_classes - first);
        BITS signs = NAME(sum_columns)(F + first, smoothing, n_features, n, n_classes, S + first);
        for (int64_t d = 0; d < n_features && !bad; d++)
            bad |= NAME(any_negative)(F + d * n_classes + first, n, signs);
    }
    return bad ? SAFFU_NOT_A_COUNT : SAFFU_OK;
}

static int NAME(large_by_feature)(const REAL *F, double smoothing, double exponent, int64_t n_features,
                                 int64_t n_classes, double *S, double *shift, int *large) {
    int bad = !is_count(smoothing), any = 0;
    if (!(fabs(exponent) < LARGEST / 1024)) return SAFFU_NOT_FINITE; /* no logarithm of a double exceeds 746 */
    for (int64_t i = 0; i < n_classes; i++) any |= !(S[i] < LARGEST);
    *large = any;
    for (int64_t i = 0; any && shift && i < n_classes; i++) {
        shift[i] = shift_of(S[i], exponent);
        if (!(S[i] < LARGEST))
            bad |= NAME(large_class)(F + i, n_features, n_classes, smoothing, exponent, S + i, shift + i);
    }
    return bad ? SAFFU_NOT_A_COUNT : SAFFU_OK;
}

SAFFU_INLINE void NAME(log_columns)(const REAL *restrict x, int64_t n, double smoothing, const REAL *restrict shift,
                                    REAL *restrict u) {
    for (int64_t i = 0; i < n; i++) u[i] = LOG((REAL)(x[i] + smoothing)) - shift[i];
}

/* The same in double, where the sum of a class exceeds the largest REAL. */
SAFFU_RARE static void NAME(large_columns)(const REAL *x, int64_t n, double smoothing, const double *shift, REAL *u) {
    for (int64_t i = 0; i < n; i++) u[i] = (REAL)(log_of_sum((double)x[i], smoothing) - shift[i]);
}

/* shift_of every sum; vlog takes a denormal for 0, so these are done one by one. */
SAFFU_INLINE void NAME(shifts)(const double *restrict S, int64_t n, double exponent, REAL *restrict shift) {
    int64_t n_denormal = 0;
    for (int64_t i = 0; i < n; i++) {
        shift[i] = (REAL)(S[i] > 0.0 ? exponent * vlog(S[i]) : 0.0);
        n_denormal += S[i] < DBL_MIN;
    }
    for (int64_t i = 0; n_denormal > 0 && i < n; i++)
        if (S[i] < DBL_MIN) shift[i] = (REAL)shift_of(S[i], exponent);
}

SAFFU_SIMD static int NAME(logs_by_feature)(const REAL *F, const double *S, const double *shift, double smoothing,
                                           double exponent, int64_t n_features, int64_t n_classes, REAL *U,
                                           int n_threads) {
    int team = saffu_team(n_threads, n_classes * n_features);
    REAL *rounded = malloc((size_t)(n_classes + 1) * sizeof *rounded);
    if (!rounded) return SAFFU_NO_MEMORY;
    NAME(shifts)(S, n_classes, exponent, rounded);
    SAFFU_PARALLEL_FOR(team, schedule(static))
    for (int64_t d = 0; d < n_features; d++) {
        const REAL *x = F + d * n_classes;
        REAL *u = U + d * n_classes;
        if (shift) NAME(large_columns)(x, n_classes, smoothing, shift, u);
        else NAME(log_columns)(x, n_classes, smoothing, rounded, u);
    }
    free(rounded);
    return SAFFU_OK;
}
