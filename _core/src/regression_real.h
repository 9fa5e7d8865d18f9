/* Softmax regression for one type of real: included by regression.c with REAL, EXP, FAR, WIDTH and NAME(name) defined. */

/* sum (rows, pairs) += sum over i of a[i a_step + r a_stride + v a_pair] b[i b_stride + v b_pair, lanes], in ascending
 * order of i: all but the strides of rows are to be constants. The two of a pair share either b or a. */
SAFFU_INLINE void NAME(add_products)(const REAL *a, int64_t a_step, int64_t a_stride, int a_pair, const REAL *b,
                                     int64_t b_stride, int b_pair, int64_t n, int rows, int pair,
                                     NAME(Vector) sum[ROWS][2]) {
    for (int64_t i = 0; i < n; i++) {
        NAME(Vector) b_v[2];
        for (int v = 0; v < pair; v++) b_v[v] = NAME(load_vector)(b + i * b_stride + v * b_pair);
        for (int r = 0; r < rows; r++)
            for (int v = 0; v < pair; v++)
                sum[r][v] = NAME(multiply_add_one)(sum[r][v], a[i * a_step + r * a_stride + v * a_pair], b_v[v]);
    }
}

/* z_mk (BLOCK, padded), some vectors of some of its rows: rows of A times W, and the bias. */
SAFFU_INLINE void NAME(add_logits)(const REAL *A, const REAL *w_jk, int64_t n_features, int64_t padded, int rows,
                                   int n_vectors, REAL *restrict z_mk) {
    NAME(Vector) sum[ROWS][2];
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < n_vectors; v++) sum[r][v] = NAME(load_vector)(w_jk + n_features * padded + v * WIDTH);
    NAME(add_products)(A, 1, n_features, 0, w_jk, padded, WIDTH, n_features, rows, n_vectors, sum);
    for (int r = 0; r < rows; r++) memcpy(z_mk + r * padded, sum[r], (size_t)n_vectors * sizeof **sum);
}

/* The same for all n rows of a block. */
SAFFU_INLINE void NAME(all_logits)(const REAL *A, const REAL *w_jk, int64_t n, int64_t n_features, int64_t padded,
                                   int n_vectors, REAL *restrict z_mk) {
    int64_t m = 0;
    for (; m + ROWS <= n; m += ROWS)
        NAME(add_logits)(A + m * n_features, w_jk, n_features, padded, ROWS, n_vectors, z_mk + m * padded);
    for (; m < n; m++)
        NAME(add_logits)(A + m * n_features, w_jk, n_features, padded, 1, n_vectors, z_mk + m * padded);
}

/* z_k <- softmax(z_k) less one for the target; returns the cross-entropy. */
SAFFU_INLINE double NAME(error_row)(int64_t padded, int32_t target, REAL *restrict z_k) {
    REAL high[LANES], sum[LANES] = {0}, total = 0, at_target = z_k[target];
    for (int l = 0; l < LANES; l++) high[l] = z_k[l];
    for (int64_t k = LANES; k < padded; k += LANES) {
        SAFFU_LANES
        for (int l = 0; l < LANES; l++) high[l] = z_k[k + l] > high[l] ? z_k[k + l] : high[l];
    }
    for (int l = 1; l < LANES; l++) high[0] = high[l] > high[0] ? high[l] : high[0];
    REAL most = high[0];
    for (int64_t k = 0; k < padded; k += LANES) {
        REAL term[LANES];
        SAFFU_LANES
        for (int l = 0; l < LANES; l++) term[l] = z_k[k + l] - most < FAR ? 0 : EXP(z_k[k + l] - most);
        memcpy(z_k + k, term, sizeof term);
        SAFFU_LANES
        for (int l = 0; l < LANES; l++) sum[l] += term[l];
    }
    for (int l = 0; l < LANES; l++) total += sum[l];
    for (int64_t k = 0; k < padded; k++) z_k[k] /= total;
    z_k[target] -= 1;
    return log((double)total) + (double)(most - at_target);
}

/* sum_k, a vector of it, += z. */
SAFFU_INLINE void NAME(add_vector)(const NAME(Vector) *z, double *restrict sum_k) {
    for (int l = 0; l < WIDTH; l += N_DOUBLES) {
        Doubles more = doubles_add(doubles_load(sum_k + l), doubles_at(z, sizeof(REAL), l));
        memcpy(sum_k + l, &more, sizeof more);
    }
}

/* sum_jk += sum over the n rows m of A_mj e_mk: two vectors of each of some rows, or with `apart` set one vector each of
 * those rows and of the next ROWS. */
SAFFU_INLINE void NAME(add_moments)(const REAL *A, const REAL *e_mk, int64_t n, int64_t n_features, int64_t padded,
                                    int rows, int pair, int apart, double *restrict sum_jk) {
    NAME(Vector) sum[ROWS][2];
    memset(sum, 0, sizeof sum);
    NAME(add_products)(A, n_features, 1, apart ? ROWS : 0, e_mk, padded, apart ? 0 : WIDTH, n, rows, pair, sum);
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < pair; v++)
            NAME(add_vector)(sum[r] + v, sum_jk + (r + v * (apart ? ROWS : 0)) * padded + v * (apart ? 0 : WIDTH));
}

/* The same for all features and classes: 16 vectors of sums at a time. */
SAFFU_INLINE void NAME(all_moments)(const REAL *A, const REAL *e_mk, int64_t n, int64_t n_features, int64_t padded,
                                    double *restrict sum_jk) {
    int64_t paired = padded - padded % (2 * WIDTH), j = 0;
    for (; j + 2 * ROWS <= n_features; j += 2 * ROWS) {
        for (int64_t k = 0; k < paired; k += 2 * WIDTH)
            for (int64_t i = j; i < j + 2 * ROWS; i += ROWS)
                NAME(add_moments)(A + i, e_mk + k, n, n_features, padded, ROWS, 2, 0, sum_jk + i * padded + k);
        if (paired < padded)
            NAME(add_moments)(A + j, e_mk + paired, n, n_features, padded, ROWS, 2, 1, sum_jk + j * padded + paired);
    }
    for (; j < n_features; j++)
        for (int64_t k = 0; k < padded; k += WIDTH)
            NAME(add_moments)(A + j, e_mk + k, n, n_features, padded, 1, 1, 0, sum_jk + j * padded + k);
}

/* ROWS rows of dA from m on, of n, = e W': two vectors from column j on. */
SAFFU_INLINE void NAME(put_slopes)(const REAL *e_mk, const REAL *v_kj, int64_t m, int64_t n, int64_t j, int64_t wide,
                                   const saffu_regression_plan *plan, REAL *dA) {
    NAME(Vector) sum[ROWS][2];
    int64_t padded = plan->padded, d = plan->n_features;
    memset(sum, 0, sizeof sum);
    NAME(add_products)(e_mk + m * padded, 1, padded, 0, v_kj + j, wide, WIDTH, plan->n_classes, ROWS, 2, sum);
    for (int r = 0; r < ROWS && m + r < n; r++)
        memcpy(dA + (m + r) * d + j, sum[r], (size_t)saffu_min(d - j, 2 * WIDTH) * sizeof(REAL));
}

/* A block of n rows: their losses, and their shares of the sums; dA may be NULL. */
SAFFU_INLINE void NAME(regress_block)(const saffu_regression_plan *plan, const REAL *A, const REAL *w_jk,
                                      const REAL *v_kj, const int32_t *targets, int64_t n, double *losses, REAL *dA,
                                      REAL *restrict z_mk, double *restrict sum_jk) {
    int64_t d = plan->n_features, padded = plan->padded, wide = round_up(d, 2 * WIDTH), k = 0;
    for (; k + 2 * WIDTH <= padded; k += 2 * WIDTH) NAME(all_logits)(A, w_jk + k, n, d, padded, 2, z_mk + k);
    if (k < padded) NAME(all_logits)(A, w_jk + k, n, d, padded, 1, z_mk + k);
    for (int64_t m = 0; m < n; m++) losses[m] = NAME(error_row)(padded, targets[m], z_mk + m * padded);
    for (int64_t m = 0; m < n; m++)
        for (int64_t i = 0; i < padded; i++) sum_jk[d * padded + i] += (double)z_mk[m * padded + i];
    NAME(all_moments)(A, z_mk, n, d, padded, sum_jk);
    for (int64_t m = 0; dA && m < n; m += ROWS)
        for (int64_t j = 0; j < d; j += 2 * WIDTH)
            NAME(put_slopes)(z_mk, v_kj, m, n, j, wide, plan, dA);
}

/* w_jk (n_features + 1, padded): W, and the bias as its last row; a class more than there are is never likely. */
static void NAME(pad_classes)(const REAL *W, const REAL *bias, const saffu_regression_plan *plan, REAL *w_jk) {
    int64_t n = plan->n_classes;
    for (int64_t j = 0; j <= plan->n_features; j++, w_jk += plan->padded) {
        memcpy(w_jk, j < plan->n_features ? W + j * n : bias, (size_t)n * sizeof *W);
        for (int64_t k = n; k < plan->padded; k++) w_jk[k] = j < plan->n_features ? 0 : (REAL)NEVER;
    }
}

SAFFU_SIMD static int NAME(regression_gradients)(const REAL *A, const REAL *W, const REAL *bias,
                                                 const int32_t *targets, const saffu_regression_plan *plan,
                                                 int64_t from, int64_t to, double *losses, REAL *dA, double *sums,
                                                 int n_threads) {
    int64_t d = plan->n_features, padded = plan->padded, wide = round_up(d, 2 * WIDTH);
    int64_t sums_size = (d + 1) * padded, shared = sums_size + (dA ? plan->n_classes * wide : 0);
    int team = (int)saffu_min(saffu_team(n_threads, (to - from) * d * padded / 16), plan->n_chunks);
    REAL *scratch = malloc((size_t)(shared + team * BLOCK * padded) * sizeof *scratch), *v_kj = scratch + sums_size;
    if (!scratch) return SAFFU_NO_MEMORY;
    NAME(pad_classes)(W, bias, plan, scratch);
    for (int64_t k = 0; dA && k < plan->n_classes; k++)
        for (int64_t j = 0; j < wide; j++) v_kj[k * wide + j] = j < d ? W[j * plan->n_classes + k] : 0;
    SAFFU_PARALLEL_FOR(team, schedule(dynamic, 1))
    for (int64_t chunk = 0; chunk < plan->n_chunks; chunk++) {
        int64_t end = saffu_min(chunk * plan->chunk + to, saffu_min((chunk + 1) * plan->chunk, plan->n));
        for (int64_t m = chunk * plan->chunk + from; m < end; m += BLOCK)
            NAME(regress_block)(plan, A + m * d, scratch, v_kj, targets + m, saffu_min(BLOCK, end - m), losses + m,
                                dA ? dA + m * d : NULL, scratch + shared + saffu_thread() * BLOCK * padded,
                                sums + chunk * sums_size);
    }
    free(scratch);
    return SAFFU_OK;
}
