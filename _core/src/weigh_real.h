/* Dense log weights for one type of real: included by weigh.c with REAL, LOG and NAME(name) defined. */

/* Sum of x + smoothing over a row; NaN in *low where an entry is NaN or negative. */
SAFFU_INLINE double NAME(sum_row)(const REAL *x, int64_t n, double smoothing, double *low) {
    double sum[LANES] = {0};
    REAL least[LANES];
    int64_t j = 0;
    for (int l = 0; l < LANES; l++) least[l] = 0;
    for (; j + LANES <= n; j += LANES)
        for (int l = 0; l < LANES; l++) {
            sum[l] += (double)x[j + l] + smoothing;
            least[l] = x[j + l] < least[l] ? x[j + l] : least[l];
        }
    for (; j < n; j++) {
        sum[0] += (double)x[j] + smoothing;
        least[0] = x[j] < least[0] ? x[j] : least[0];
    }
    for (int l = 0; l < LANES; l++) *low = (double)least[l] < *low ? (double)least[l] : *low;
    for (int l = 1; l < LANES; l++) sum[0] += sum[l];
    return sum[0];
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
        double low = 0.0;
        S[c] = NAME(sum_row)(F + c * n_features, n_features, smoothing, &low);
        bad |= low < 0.0 || !(S[c] < (double)INFINITY);
        NAME(log_row)(F + c * n_features, n_features, smoothing, shift_of(S[c], exponent), U + c * n_features);
    }
    return bad ? SAFFU_NOT_A_COUNT : SAFFU_OK;
}

/* Each column of F is a class: sum a block of columns over all rows, then turn it. shift (n_columns) is scratch. */
SAFFU_INLINE int NAME(turn_columns)(const REAL *F, double smoothing, double exponent, int64_t n_rows,
                                    int64_t n_columns, int64_t stride, REAL *U, double *restrict S,
                                    REAL *restrict shift) {
    REAL low = 0;
    int bad = 0;
    for (int64_t i = 0; i < n_columns; i++) {
        S[i] = 0.0;
        shift[i] = 0;
    }
    for (int64_t d = 0; d < n_rows; d++) { /* until the sums are known, shift holds the least entry */
        const REAL *x = F + d * stride;
        for (int64_t i = 0; i < n_columns; i++) {
            S[i] += (double)x[i] + smoothing;
            shift[i] = x[i] < shift[i] ? x[i] : shift[i];
        }
    }
    for (int64_t i = 0; i < n_columns; i++) {
        low = shift[i] < low ? shift[i] : low;
        bad |= !(S[i] < (double)INFINITY);
        shift[i] = (REAL)shift_of(S[i], exponent);
    }
    for (int64_t d = 0; d < n_rows; d++) {
        const REAL *restrict x = F + d * stride;
        REAL *restrict u = U + d * stride;
        for (int64_t i = 0; i < n_columns; i++) u[i] = LOG((REAL)(x[i] + smoothing)) - shift[i];
    }
    return bad || low < 0;
}

SAFFU_SIMD int NAME(saffu_log_weights_by_feature)(const REAL *F, double smoothing, double exponent, int64_t n_features,
                                                  int64_t n_classes, REAL *U, double *S, int n_threads) {
    int team = saffu_team(n_threads, n_classes * n_features), bad = 0;
    int64_t width = saffu_max(block_columns(n_features, n_classes, sizeof(REAL)), 1);
    (void)team;
    REAL *shift = malloc((size_t)(n_classes + 1) * sizeof *shift);
    if (!shift) return SAFFU_NO_MEMORY;
    SAFFU_OMP(parallel for num_threads(team) schedule(static) reduction(| : bad))
    for (int64_t first = 0; first < n_classes; first += width)
        bad |= NAME(turn_columns)(F + first, smoothing, exponent, n_features, saffu_min(width, n_classes - first),
                                  n_classes, U + first, S + first, shift + first);
    free(shift);
    return bad ? SAFFU_NOT_A_COUNT : SAFFU_OK;
}
