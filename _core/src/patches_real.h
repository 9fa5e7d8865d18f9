/* Local softmax units for one type of real: included by patches.c with REAL, EXP, FAR, ROOT, WIDTH and NAME(name)
 * defined. */

/* out (rows, 2 vectors) += sum over i of a[i, r] b[i, lanes], in ascending order of i. */
SAFFU_INLINE void NAME(add_tile)(const REAL *a, int64_t a_stride, const REAL *b, int64_t b_stride, int64_t n,
                                 NAME(Vector) sum[ROWS][2]) {
    for (int64_t i = 0; i < n; i++) {
        NAME(Vector) b0 = NAME(load_vector)(b + i * b_stride), b1 = NAME(load_vector)(b + i * b_stride + WIDTH);
        for (int r = 0; r < ROWS; r++) {
            sum[r][0] = NAME(multiply_add_one)(sum[r][0], a[i * a_stride + r], b0);
            sum[r][1] = NAME(multiply_add_one)(sum[r][1], a[i * a_stride + r], b1);
        }
    }
}

/* c_jp (n_values, BLOCK): BLOCK patches, whose first values are from[p], less their means, over d. */
SAFFU_INLINE void NAME(load_contrast)(const saffu_patches *s, int64_t n_values, const REAL *const from[BLOCK],
                                      REAL mean[BLOCK], REAL *restrict c_jp) {
    int64_t row = s->patch_width * s->channels;
    REAL weight[BLOCK], square[BLOCK] = {0}, scale = (REAL)s->scale;
    for (int p = 0; p < BLOCK; p++) mean[p] = 0;
    for (int64_t y = 0, j = 0; y < s->patch_height; y++)
        for (int64_t i = 0; i < row; i++, j++) {
            int64_t place = y * s->width * s->channels + i;
            for (int p = 0; p < BLOCK; p++) c_jp[j * BLOCK + p] = from[p][place] * scale;
            for (int p = 0; p < BLOCK; p++) mean[p] += c_jp[j * BLOCK + p];
        }
    for (int p = 0; p < BLOCK; p++) mean[p] /= (REAL)n_values;
    for (int64_t j = 0; j < n_values; j++)
        for (int p = 0; p < BLOCK; p++) {
            c_jp[j * BLOCK + p] -= mean[p];
            square[p] += c_jp[j * BLOCK + p] * c_jp[j * BLOCK + p];
        }
    for (int p = 0; p < BLOCK; p++)
        weight[p] = 1 / ((s->normalize ? ROOT(square[p] / (REAL)n_values) : 0) + (REAL)s->spread);
    for (int64_t j = 0; j < n_values; j++)
        for (int p = 0; p < BLOCK; p++) c_jp[j * BLOCK + p] *= weight[p];
}

/* z_jp (n_values, BLOCK) = M c, the rows of m_ij (n_values, stride) being the columns of M. */
SAFFU_INLINE void NAME(whiten)(const REAL *m_ij, int64_t stride, const REAL *c_ip, int64_t n_values,
                               REAL *restrict z_jp) {
    for (int64_t j = 0; j < n_values; j += ROWS)
        for (int64_t p = 0; p < BLOCK; p += 2 * WIDTH) {
            NAME(Vector) sum[ROWS][2];
            memset(sum, 0, sizeof sum);
            NAME(add_tile)(m_ij + j, stride, c_ip + p, BLOCK, n_values, sum);
            for (int r = 0; r < ROWS && j + r < n_values; r++) memcpy(z_jp + (j + r) * BLOCK + p, sum[r], sizeof sum[r]);
        }
}

/* v_jp (n_inputs, BLOCK): the inputs of BLOCK patches, whose first values are from[p]; c_jp is scratch. */
SAFFU_INLINE void NAME(load_inputs)(const saffu_patches *s, const REAL *m_ij, const REAL *const from[BLOCK],
                                    REAL *restrict c_jp, REAL *restrict v_jp) {
    int64_t n_values = values_of(s);
    REAL *rest = v_jp + 2 * n_values * BLOCK;
    NAME(load_contrast)(s, n_values, from, rest, m_ij ? c_jp : v_jp);
    if (m_ij) NAME(whiten)(m_ij, round_up(n_values, ROWS), c_jp, n_values, v_jp);
    for (int64_t j = 0; j < n_values; j++) {
        REAL *above = v_jp + j * BLOCK, *below = v_jp + (n_values + j) * BLOCK;
        for (int p = 0; p < BLOCK; p++) {
            REAL contrast = above[p];
            above[p] = contrast > 0 ? contrast : 0;
            below[p] = contrast < 0 ? -contrast : 0;
        }
    }
    for (int p = 0; p < BLOCK; p++) {
        rest[BLOCK + p] = 1 - rest[p];
        rest[2 * BLOCK + p] = 1;
    }
}

/* p_k <- softmax(p_k), n_units of it a whole number of pairs of vectors. A unit far below the likeliest gets zero: its
 * products with the inputs would be denormal, and some hundred times slower. */
SAFFU_INLINE void NAME(softmax_row)(int64_t n_units, REAL *restrict p_k) {
    REAL high[LANES], sum[LANES] = {0}, total = 0;
    for (int l = 0; l < LANES; l++) high[l] = p_k[l];
    for (int64_t k = LANES; k < n_units; k += LANES) {
        SAFFU_LANES
        for (int l = 0; l < LANES; l++) high[l] = p_k[k + l] > high[l] ? p_k[k + l] : high[l];
    }
    for (int l = 1; l < LANES; l++) high[0] = high[l] > high[0] ? high[l] : high[0];
    REAL most = high[0];
    for (int64_t k = 0; k < n_units; k += LANES) {
        REAL term[LANES];
        SAFFU_LANES
        for (int l = 0; l < LANES; l++) term[l] = p_k[k + l] - most < FAR ? 0 : EXP(p_k[k + l] - most);
        memcpy(p_k + k, term, sizeof term);
        SAFFU_LANES
        for (int l = 0; l < LANES; l++) sum[l] += term[l];
    }
    for (int l = 0; l < LANES; l++) total += sum[l];
    REAL weight = 1 / total; /* a division of each would take as long as its exponential */
    for (int64_t k = 0; k < n_units; k++) p_k[k] *= weight;
}

/* p_pk (BLOCK, n_units) = softmax(v W), n_units padded. */
SAFFU_INLINE void NAME(responsibilities)(const REAL *v_jp, const REAL *w_jk, int64_t n_inputs, int64_t n_units,
                                         int64_t n, REAL *restrict p_pk) {
    for (int64_t k = 0; k < n_units; k += 2 * WIDTH)
        for (int64_t p = 0; p < n; p += ROWS) {
            NAME(Vector) sum[ROWS][2];
            memset(sum, 0, sizeof sum);
            NAME(add_tile)(v_jp + p, BLOCK, w_jk + k, n_units, n_inputs, sum);
            for (int r = 0; r < ROWS; r++) memcpy(p_pk + (p + r) * n_units + k, sum[r], sizeof sum[r]);
        }
    for (int64_t p = 0; p < n; p++) NAME(softmax_row)(n_units, p_pk + p * n_units);
}

/* w_jk (n_inputs, padded units) from W (n_inputs, n_units); a unit more than there are is never responsible. */
static void NAME(pad_weights)(const REAL *W, int64_t n_inputs, int64_t n_units, int64_t padded, REAL *w_jk) {
    for (int64_t j = 0; j < n_inputs; j++) {
        memcpy(w_jk + j * padded, W + j * n_units, (size_t)n_units * sizeof *W);
        for (int64_t k = n_units; k < padded; k++) w_jk[j * padded + k] = j == n_inputs - 1 ? (REAL)NEVER : 0;
    }
}

/* m_ij (n_values, padded) from M (n_values, n_values), transposed. */
static const REAL *NAME(pad_whitening)(const REAL *M, int64_t n, REAL *m_ij) {
    int64_t stride = round_up(n, ROWS);
    for (int64_t i = 0; M && i < n; i++)
        for (int64_t j = 0; j < stride; j++) m_ij[i * stride + j] = j < n ? M[j * n + i] : 0;
    return M ? m_ij : NULL;
}

/* Where the patch at a place, in row-major order of the positions, begins in its image; places beyond are the last. */
SAFFU_INLINE int64_t NAME(begin)(const saffu_patches *s, int64_t place) {
    int64_t y = place / s->columns, x = place % s->columns;
    return (y * s->stride * s->width + x * s->stride) * s->channels;
}

SAFFU_INLINE int64_t NAME(cell_of)(const saffu_patches *s, int64_t place) {
    int64_t y = place / s->columns, x = place % s->columns;
    return y * s->pool_rows / s->rows * s->pool_columns + x * s->pool_columns / s->columns;
}

SAFFU_SIMD static int NAME(pool_patches)(const saffu_patches *s, const REAL *images, const REAL *M, const REAL *W,
                                         int64_t n, int64_t n_units, REAL *pooled, int n_threads) {
    int64_t n_inputs = inputs_of(s), padded = round_up(n_units, PADDING), n_places = s->rows * s->columns;
    int64_t n_cells = s->pool_rows * s->pool_columns, image_size = s->height * s->width * s->channels;
    int64_t n_values = values_of(s), shared = n_inputs * padded + n_values * round_up(n_values, ROWS);
    int64_t own = (n_inputs + n_values + padded) * BLOCK + n_cells * padded;
    int team = saffu_team(n_threads, n * n_places * n_inputs * n_units / 16);
    REAL *scratch = malloc((size_t)(shared + team * own) * sizeof *scratch);
    if (!scratch) return SAFFU_NO_MEMORY;
    NAME(pad_weights)(W, n_inputs, n_units, padded, scratch);
    const REAL *m_ij = NAME(pad_whitening)(M, n_values, scratch + n_inputs * padded);
    SAFFU_PARALLEL_FOR(team, schedule(dynamic, 1))
    for (int64_t m = 0; m < n; m++) {
        REAL *v_jp = scratch + shared + saffu_thread() * own, *c_jp = v_jp + n_inputs * BLOCK;
        REAL *p_pk = c_jp + n_values * BLOCK, *sum_ck = p_pk + BLOCK * padded;
        const REAL *from[BLOCK];
        memset(sum_ck, 0, (size_t)(n_cells * padded) * sizeof *sum_ck);
        for (int64_t first = 0; first < n_places; first += BLOCK) {
            int64_t here = saffu_min(BLOCK, n_places - first);
            for (int64_t p = 0; p < BLOCK; p++)
                from[p] = images + m * image_size + NAME(begin)(s, saffu_min(first + p, n_places - 1));
            NAME(load_inputs)(s, m_ij, from, c_jp, v_jp);
            NAME(responsibilities)(v_jp, scratch, n_inputs, padded, here, p_pk);
            for (int64_t p = 0; p < here; p++) {
                REAL *sum_k = sum_ck + NAME(cell_of)(s, first + p) * padded;
                for (int64_t k = 0; k < padded; k++) sum_k[k] += p_pk[p * padded + k];
            }
        }
        for (int64_t c = 0; c < n_cells; c++)
            memcpy(pooled + (m * n_cells + c) * n_units, sum_ck + c * padded, (size_t)n_units * sizeof *pooled);
    }
    free(scratch);
    return SAFFU_OK;
}

/* p_k <- p_k (g_k - sum_i p_i g_i): from responsibilities to the gradient by the logits. */
SAFFU_INLINE void NAME(through_softmax)(const REAL *g_k, int64_t n_units, REAL *restrict p_k) {
    REAL sum[LANES] = {0}, mean = 0;
    int64_t whole = n_units - n_units % LANES;
    for (int64_t k = 0; k < whole; k += LANES) {
        SAFFU_LANES
        for (int l = 0; l < LANES; l++) sum[l] += p_k[k + l] * g_k[k + l];
    }
    for (int64_t k = whole; k < n_units; k++) sum[k - whole] += p_k[k] * g_k[k];
    for (int l = 0; l < LANES; l++) mean += sum[l];
    for (int64_t k = 0; k < n_units; k++) p_k[k] *= g_k[k] - mean;
}

/* sum_jk (n_inputs, n_units) += sum over the patches p of v_pj t_pk. */
SAFFU_INLINE void NAME(add_moments)(const REAL *v_jp, const REAL *t_pk, int64_t n_inputs, int64_t n_units, REAL *v_pj,
                                    double *restrict sum_jk) {
    int64_t rows = round_up(n_inputs, ROWS);
    for (int64_t j = 0; j < rows; j++)
        for (int p = 0; p < BLOCK; p++) v_pj[p * rows + j] = j < n_inputs ? v_jp[j * BLOCK + p] : 0;
    for (int64_t k = 0; k < n_units; k += 2 * WIDTH)
        for (int64_t j = 0; j < rows; j += ROWS) {
            NAME(Vector) sum[ROWS][2];
            REAL out[2 * WIDTH];
            memset(sum, 0, sizeof sum);
            NAME(add_tile)(v_pj + j, rows, t_pk + k, n_units, BLOCK, sum);
            for (int r = 0; r < ROWS && j + r < n_inputs; r++) {
                memcpy(out, sum[r], sizeof out);
                for (int l = 0; l < 2 * WIDTH; l++) sum_jk[(j + r) * n_units + k + l] += (double)out[l];
            }
        }
}

SAFFU_SIMD static int NAME(patch_moments)(const saffu_patches *s, const REAL *images, const int32_t *image_of,
                                          const int32_t *place_of, const REAL *slope, const REAL *M,
                                          const REAL *W, const saffu_patch_plan *plan, int64_t n_units, int64_t begin, int64_t end,
                                          double *sums, int n_threads) {
    int64_t n_inputs = inputs_of(s), padded = round_up(n_units, PADDING), n_places = s->rows * s->columns;
    int64_t n_cells = s->pool_rows * s->pool_columns, image_size = s->height * s->width * s->channels;
    int64_t n_values = values_of(s), shared = n_inputs * padded + n_values * round_up(n_values, ROWS);
    int64_t own = (n_inputs + n_values + padded + round_up(n_inputs, ROWS)) * BLOCK;
    int team = (int)saffu_min(saffu_team(n_threads, (end - begin) * n_inputs * n_units / 16), plan->n_chunks);
    REAL *scratch = malloc((size_t)(shared + team * own) * sizeof *scratch);
    if (!scratch) return SAFFU_NO_MEMORY;
    NAME(pad_weights)(W, n_inputs, n_units, padded, scratch);
    const REAL *m_ij = NAME(pad_whitening)(M, n_values, scratch + n_inputs * padded);
    SAFFU_PARALLEL_FOR(team, schedule(dynamic, 1))
    for (int64_t chunk = 0; chunk < plan->n_chunks; chunk++) {
        REAL *v_jp = scratch + shared + saffu_thread() * own, *c_jp = v_jp + n_inputs * BLOCK;
        REAL *t_pk = c_jp + n_values * BLOCK, *v_pj = t_pk + BLOCK * padded;
        const REAL *from[BLOCK];
        int64_t to = saffu_min(chunk * plan->chunk + end, saffu_min((chunk + 1) * plan->chunk, plan->n));
        for (int64_t first = chunk * plan->chunk + begin; first < to; first += BLOCK) {
            int64_t here = saffu_min(BLOCK, to - first);
            for (int64_t p = 0; p < BLOCK; p++) {
                int64_t e = saffu_min(first + p, to - 1), m = image_of ? image_of[e] : e / n_places;
                from[p] = images + m * image_size + NAME(begin)(s, image_of ? place_of[e] : e % n_places);
            }
            NAME(load_inputs)(s, m_ij, from, c_jp, v_jp);
            NAME(responsibilities)(v_jp, scratch, n_inputs, padded, here, t_pk);
            for (int64_t p = 0; slope && p < here; p++) {
                int64_t cell = (first + p) / n_places * n_cells + NAME(cell_of)(s, (first + p) % n_places);
                NAME(through_softmax)(slope + cell * n_units, n_units, t_pk + p * padded);
            }
            memset(t_pk + here * padded, 0, (size_t)((BLOCK - here) * padded) * sizeof *t_pk);
            NAME(add_moments)(v_jp, t_pk, n_inputs, padded, v_pj, sums + chunk * n_inputs * padded);
        }
    }
    free(scratch);
    return SAFFU_OK;
}
