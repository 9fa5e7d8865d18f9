/* Dense log weights for one type of real: included by weigh.c with REAL, BITS, BITS_OF, LOG and NAME(name)
 * defined. */

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

/* Each row of F is a class. */
SAFFU_SIMD int NAME(saffu_log_weights_by_class)(const REAL *F, double smoothing, double exponent, int64_t n_classes,
                                                int64_t n_features, REAL *U, double *S, int n_threads) {
    int team = saffu_team(n_threads, n_classes * n_features), bad = 0;
    (void)team;
    SAFFU_OMP(parallel for num_threads(team) schedule(static) reduction(| : bad))
    for (int64_t c = 0; c < n_classes; c++) {
        const REAL *x = F + c * n_features;
        BITS signs = 0;
        S[c] = NAME(sum_row)(x, n_features, smoothing, &signs);
        bad |= NAME(any_negative)(x, n_features, signs) || !(S[c] < (double)INFINITY);
        NAME(log_row)(x, n_features, smoothing, shift_of(S[c], exponent), U + c * n_features);
    }
    return bad ? SAFFU_NOT_A_COUNT : SAFFU_OK;
}

/* S (n_columns) = sums of x + smoothing over the rows of a block of columns, four rows at a time. */
SAFFU_INLINE int NAME(sum_columns)(const REAL *F, double smoothing, int64_t n_rows, int64_t n_columns, int64_t stride,
                                   double *restrict S) {
    BITS signs = 0;
    int bad = 0;
    int64_t d = 0;
    for (int64_t i = 0; i < n_columns; i++) S[i] = 0.0;
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
    for (int64_t i = 0; i < n_columns; i++) bad |= !(S[i] < (double)INFINITY);
    for (d = 0; d < n_rows && !bad; d++) bad |= NAME(any_negative)(F + d * stride, n_columns, signs);
    return bad;
}

SAFFU_INLINE void NAME(log_columns)(const REAL *restrict x, int64_t n, double smoothing, const REAL *restrict shift,
                                    REAL *restrict u) {
    for (int64_t i = 0; i < n; i++) u[i] = LOG((REAL)(x[i] + smoothing)) - shift[i];
}

/* Each column of F is a class. */
SAFFU_SIMD int NAME(saffu_log_weights_by_feature)(const REAL *F, double smoothing, double exponent, int64_t n_features,
                                                  int64_t n_classes, REAL *U, double *S, int n_threads) {
    int team = saffu_team(n_threads, n_classes * n_features), bad = 0;
    int64_t width = saffu_max(NARROW, saffu_min(WIDE, n_classes / team / NARROW * NARROW));
    REAL *shift = malloc((size_t)(n_classes + 1) * sizeof *shift);
    if (!shift) return SAFFU_NO_MEMORY;
    SAFFU_OMP(parallel for num_threads(team) schedule(static) reduction(| : bad))
    for (int64_t first = 0; first < n_classes; first += width)
        bad |= NAME(sum_columns)(F + first, smoothing, n_features, saffu_min(width, n_classes - first), n_classes,
                                 S + first);
    for (int64_t i = 0; i < n_classes; i++) shift[i] = (REAL)shift_of(S[i], exponent);
    SAFFU_OMP(parallel for num_threads(team) schedule(static))
    for (int64_t d = 0; d < n_features; d++)
        NAME(log_columns)(F + d * n_classes, n_classes, smoothing, shift, U + d * n_classes);
    free(shift);
    return bad ? SAFFU_NOT_A_COUNT : SAFFU_OK;
}
