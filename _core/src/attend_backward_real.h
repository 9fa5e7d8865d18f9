/* Back through attention for one type of real: included by attend.c with REAL and NAME(name) defined. */

/* sums[k + i, j ..] += sum_m S[m, k + i] L[m, j ..], i < n_k <= AT_ONCE, one or two vectors of j. */
SAFFU_INLINE void NAME(add_weight_tile)(const REAL *S, const REAL *L, int64_t n_rows, int64_t n_positions,
                                        int64_t stride, int n_k, int n_vectors, double *sums) {
    NAME(Vector) sum[AT_ONCE][2];
    memset(sum, 0, sizeof sum);
    for (int64_t m = 0; m < n_rows; m++) {
        for (int v = 0; v < n_vectors; v++) {
            NAME(Vector) l = NAME(load_vector)(L + m * stride + v * NAME(WIDTH));
            for (int i = 0; i < n_k; i++) sum[i][v] = NAME(multiply_add_one)(sum[i][v], S[m * n_positions + i], l);
        }
    }
    for (int i = 0; i < n_k; i++) {
        REAL part[2 * NAME(WIDTH)];
        memcpy(part, sum[i], sizeof part);
        for (int64_t l = 0; l < n_vectors * NAME(WIDTH); l++) sums[i * stride + l] += (double)part[l];
    }
}

/* sums (K + 1, stride) += S^T L and, in the last row, the sum of L, over the rows of a block. */
SAFFU_INLINE void NAME(add_weight_block)(const REAL *S, const REAL *L, int64_t n_rows, int64_t n_positions,
                                         int64_t stride, double *sums) {
    for (int64_t j = 0; j < stride;) {
        int n_vectors = stride - j >= 2 * NAME(WIDTH) ? 2 : 1;
        int64_t k = 0;
        for (; k + AT_ONCE <= n_positions; k += AT_ONCE) {
            double *to = sums + k * stride + j;
            if (n_vectors == 2) NAME(add_weight_tile)(S + k, L + j, n_rows, n_positions, stride, AT_ONCE, 2, to);
            else NAME(add_weight_tile)(S + k, L + j, n_rows, n_positions, stride, AT_ONCE, 1, to);
        }
        for (; k < n_positions; k++) {
            double *to = sums + k * stride + j;
            if (n_vectors == 2) NAME(add_weight_tile)(S + k, L + j, n_rows, n_positions, stride, 1, 2, to);
            else NAME(add_weight_tile)(S + k, L + j, n_rows, n_positions, stride, 1, 1, to);
        }
        j += n_vectors * NAME(WIDTH);
    }
    for (int64_t j = 0; j < stride; j += LANES) {
        REAL sum[LANES] = {0};
        for (int64_t m = 0; m < n_rows; m++) {
            SAFFU_LANES
            for (int l = 0; l < LANES; l++) sum[l] += L[m * stride + j + l];
        }
        for (int l = 0; l < LANES; l++) sums[n_positions * stride + j + l] += (double)sum[l];
    }
}

/* block (n_rows, stride) = gradient by the logits of n_rows <= LANES rows, and dS if it is wanted. */
SAFFU_INLINE void NAME(back_group)(const NAME(Shared) *w, const NAME(Group) *g, int64_t from, int64_t n_rows,
                                   const REAL *dZ, const REAL *A, REAL *block, REAL *dS) {
    int64_t n_positions = w->view->n_positions, spare = LANES * (n_positions + 1);
    memset(block, 0, (size_t)(n_rows * w->stride) * sizeof *block);
    for (int64_t r = 0; r < n_rows; r++)
        NAME(dots)(NAME(wide)(w, g, spare, dZ + (from + r) * w->d), g->x + r * (n_positions + 1), g->length[r],
                   w->width, block + r * w->stride);
    NAME(to_lanes)(A + from * n_positions, n_rows, n_positions, n_positions, g->lanes);
    NAME(to_lanes)(block, n_rows, n_positions, w->stride, g->more_lanes);
    NAME(back_softmax_lanes)(g->lanes, n_positions, g->more_lanes);
    NAME(from_lanes)(g->more_lanes, n_rows, n_positions, w->stride, block);
    if (!dS) return;
    NAME(weigh_lanes)(w, g->more_lanes, g->lanes);
    for (int64_t l = 0; l < n_rows; l++)
        for (int64_t k = g->length[l]; k < n_positions; k++) g->lanes[k * LANES + l] = 0;
    NAME(from_lanes)(g->lanes, n_rows, n_positions, n_positions, dS + from * n_positions);
}

/* Columns [from, to) of dX, for all rows. */
SAFFU_INLINE void NAME(add_embeddings)(const saffu_view *view, const REAL *X, const REAL *dZ, const REAL *A,
                                       const REAL *dS, int64_t d, int64_t from, int64_t to, REAL *dX) {
    enum { TILE = 16 * LANES };
    int64_t n_positions = view->n_positions;
    for (int64_t m = 0; m < view->n; m++) {
        if (view->length[m] == 0) continue;
        int64_t head = view->ids[view->head[m]];
        for (int64_t t = from; t < to; t += TILE) {
            int64_t width = saffu_min(TILE, to - t);
            for (int64_t k = 0; m + 1 < view->n && k < view->length[m + 1]; k++) {
                int64_t place = id_at(view, m + 1, k) * d + t;
                NAME(fetch)(X + place, width);
                NAME(fetch)(dX + place, width);
            }
            const REAL *restrict dz = dZ + m * d + t, *restrict x_head = X + head * d + t;
            REAL own[TILE];
            memset(own, 0, (size_t)width * sizeof *own);
            for (int64_t k = 0; k < view->length[m]; k++) {
                int64_t id = id_at(view, m, k);
                const REAL *restrict x = X + id * d + t;
                REAL *restrict dx = dX + id * d + t, a = A[m * n_positions + k], ds = dS[m * n_positions + k];
                /* One product to a statement: there is one way to contract it, in a vector and beside one. */
                for (int64_t j = 0; j < width; j++) {
                    REAL sum = dx[j] + a * dz[j];
                    dx[j] = sum + ds * x_head[j];
                    own[j] += ds * x[j];
                }
            }
            REAL *restrict dx = dX + head * d + t;
            for (int64_t j = 0; j < width; j++) dx[j] += own[j];
        }
    }
}

SAFFU_SIMD static int NAME(attend_back)(const saffu_view *view, const REAL *X, const REAL *W, const REAL *S,
                                        const REAL *A, const REAL *dZ, int64_t n_types, int64_t d, int64_t from,
                                        int64_t to, double *sums, REAL *dS, int n_threads) {
    int64_t n = view->n, k = view->n_positions;
    saffu_attend_plan plan = saffu_plan_attend(n, k);
    int team = saffu_team(n_threads, saffu_min(n, plan.n_chunks * (to - from)) * k * d / 4), bad = 0;
    NAME(Shared) work = {.view = view, .X = X, .n_types = n_types, .d = d};
    int status = NAME(new_shared)(&work, W, 1, NULL, 1, team);
    if (status != SAFFU_OK) return status;
    SAFFU_PARALLEL_FOR(team, schedule(dynamic, 1) reduction(| : bad))
    for (int64_t c = 0; c < plan.n_chunks; c++) {
        NAME(Group) g = NAME(own_group)(&work, saffu_thread());
        int64_t end = saffu_min(n, c * plan.chunk + saffu_min(to, plan.chunk));
        for (int64_t first = c * plan.chunk + from; first < end; first += ROWS_OF_BLOCK) {
            int64_t n_rows = saffu_min(ROWS_OF_BLOCK, end - first);
            for (int64_t r = 0; r < n_rows; r += LANES) {
                int64_t group = saffu_min(LANES, n_rows - r);
                bad |= NAME(find_group)(&work, &g, first + r, group, 1);
                NAME(back_group)(&work, &g, first + r, group, dZ, A, g.block + r * work.stride, dS);
            }
            NAME(add_weight_block)(S + first * k, g.block, n_rows, k, work.stride, sums + c * plan.size);
        }
    }
    NAME(free_shared)(&work);
    return bad ? SAFFU_OUT_OF_RANGE : SAFFU_OK;
}

static int NAME(fold_weights)(const saffu_view *view, double *sums, REAL *dW, REAL *dbias) {
    int64_t k = view->n_positions, stride = whole_lanes(saffu_max(k, 1));
    saffu_attend_plan plan = saffu_plan_attend(view->n, k);
    for (int64_t c = 1; c < plan.n_chunks; c++)
        for (int64_t i = 0; i < plan.size; i++) sums[i] += sums[c * plan.size + i];
    for (int64_t i = 0; i < k; i++)
        for (int64_t j = 0; j < k; j++) dW[i * k + j] = (REAL)sums[i * stride + j];
    for (int64_t j = 0; j < k; j++) dbias[j] = (REAL)sums[k * stride + j];
    return SAFFU_OK;
}

SAFFU_SIMD static int NAME(attend_back_embeddings)(const saffu_view *view, const REAL *X, const REAL *dZ, const REAL *A,
                                                   const REAL *dS, int64_t d, REAL *dX, int n_threads) {
    int team = saffu_team(n_threads, view->n * view->n_positions * d / 4);
    int64_t width = saffu_max(LANES, whole_lanes((d + team - 1) / team));
    SAFFU_PARALLEL_FOR(team, schedule(static))
    for (int64_t from = 0; from < d; from += width)
        NAME(add_embeddings)(view, X, dZ, A, dS, d, from, saffu_min(d, from + width), dX);
    return SAFFU_OK;
}
