/* A group of windows for one type of real: what it reads, its comparisons and its attention. Included by attend.c with
 * REAL, EXP and NAME(name) defined. */

/* ---- scratch ----------------------------------------------------------------------------------------------------- */

/* What a thread needs. Rows go in groups of LANES: ids of their windows, pointers to the embeddings that they read, the
 * head's after those of the window, and copies of narrow ones; their comparisons, a row after the other; their entries,
 * each row in a lane; for a block of groups the gradients by its logits. */
typedef struct {
    REAL *s, *few, *narrow, *lanes, *more_lanes, *block;
    const REAL **x, **missing;
    int32_t *ids, *places;
    int32_t length[LANES]; /* tokens that each row of the group sees, 0 beyond the last */
} NAME(Group);

/* The parts of a call that all threads read, and what each thread needs. */
typedef struct {
    const saffu_view *view;
    const REAL *X, *cache;
    int64_t n_types, d, n_cached;
    int64_t width, stride; /* d and n_positions as the vectors see them */
    REAL *reals, *weights, *bias;
    const REAL **pointers;
    int32_t *ids;
    int64_t n_reals, n_narrow, n_pointers;
} NAME(Shared);

static void NAME(free_shared)(NAME(Shared) *w) {
    free(w->reals);
    free(w->pointers);
    free(w->ids);
}

/* W (K, K) or its transpose, and the bias or zeros, with zeros up to whole lanes. W may be NULL. */
static int NAME(new_shared)(NAME(Shared) *w, const REAL *W, int transposed, const REAL *bias, int block, int team) {
    int64_t k = w->view->n_positions, stride = whole_lanes(saffu_max(k, 1));
    w->stride = stride;
    w->width = saffu_max(w->d, NAME(WIDTH));
    w->n_narrow = w->d < NAME(WIDTH) ? (LANES * (k + 1) + 1) * NAME(WIDTH) : 0;
    w->n_pointers = LANES * (k + 1) + k;
    w->n_reals = (3 * LANES + 2 + (block ? ROWS_OF_BLOCK : 0)) * stride + w->n_narrow;
    w->reals = calloc((size_t)((k + 1) * stride + team * w->n_reals), sizeof *w->reals);
    w->pointers = malloc((size_t)(team * w->n_pointers) * sizeof *w->pointers);
    w->ids = malloc((size_t)(team * (LANES + 1) * k + 1) * sizeof *w->ids);
    if (!w->reals || !w->pointers || !w->ids) {
        NAME(free_shared)(w);
        return SAFFU_NO_MEMORY;
    }
    w->weights = w->reals + team * w->n_reals;
    w->bias = w->weights + k * stride;
    for (int64_t i = 0; W && i < k; i++)
        for (int64_t j = 0; j < k; j++) w->weights[i * stride + j] = transposed ? W[j * k + i] : W[i * k + j];
    if (bias) memcpy(w->bias, bias, (size_t)k * sizeof *bias);
    return SAFFU_OK;
}

SAFFU_INLINE NAME(Group) NAME(own_group)(const NAME(Shared) *w, int thread) {
    NAME(Group) g;
    int64_t k = w->view->n_positions;
    g.s = w->reals + thread * w->n_reals; /* with a row to spare: vectors write beyond the last */
    g.few = g.s + (LANES + 1) * w->stride;
    g.lanes = g.few + w->stride;
    g.more_lanes = g.lanes + LANES * w->stride;
    g.narrow = g.more_lanes + LANES * w->stride;
    g.block = g.narrow + w->n_narrow;
    g.x = w->pointers + thread * w->n_pointers;
    g.missing = g.x + LANES * (k + 1);
    g.ids = w->ids + thread * (LANES + 1) * k;
    g.places = g.ids + LANES * k;
    return g;
}

/* ---- comparisons of a group -------------------------------------------------------------------------------------- */

/* A vector of d entries as one of w->width: itself, or a copy in the given place of g->narrow. */
SAFFU_INLINE const REAL *NAME(wide)(const NAME(Shared) *w, const NAME(Group) *g, int64_t place, const REAL *x) {
    if (w->d >= NAME(WIDTH)) return x;
    REAL *copy = g->narrow + place * NAME(WIDTH);
    for (int64_t j = 0; j < w->d; j++) copy[j] = x[j];
    return copy;
}

/* Fetch x (n). */
SAFFU_INLINE void NAME(fetch)(const REAL *x, int64_t n) {
    const int64_t line = NAME(WIDTH);
    int64_t j = 0;
    for (; j + 4 * line <= n; j += 4 * line) {
        SAFFU_PREFETCH_L2(x + j);
        SAFFU_PREFETCH_L2(x + j + line);
        SAFFU_PREFETCH_L2(x + j + 2 * line);
        SAFFU_PREFETCH_L2(x + j + 3 * line);
    }
    for (; j < n; j += line) SAFFU_PREFETCH_L2(x + j);
}

/* Embeddings of a row of n tokens found, and fetched but for those that the row before reads too: windows that slide
 * share all but one. */
SAFFU_INLINE void NAME(find_others)(const NAME(Shared) *w, const NAME(Group) *g, int64_t r, int64_t n) {
    int64_t n_positions = w->view->n_positions, step = w->view->step, n_before = g->length[r - 1];
    const int32_t *ids = g->ids + r * n_positions;
    const REAL **x = g->x + r * (n_positions + 1), *const *before = x - (n_positions + 1);
    for (int64_t k = 0; k < n; k++) {
        x[k] = w->X + ids[k] * w->d;
        int is_shared = k + step >= 0 && k + step < n_before && x[k] == before[k + step];
        if (!is_shared) NAME(fetch)(x[k], w->d);
    }
}

/* Embeddings of row r of a group, window m of n > 0 tokens, or comparisons with its head in the table, found and
 * fetched; if an id is bad, not 0. Embeddings are left where all comparisons are in the table and nothing else is
 * wanted. */
SAFFU_INLINE int NAME(find_row)(const NAME(Shared) *w, const NAME(Group) *g, int64_t m, int64_t r, int64_t n,
                                int embeddings) {
    int64_t n_positions = w->view->n_positions, head = w->view->ids[w->view->head[m]];
    const REAL **x = g->x + r * (n_positions + 1);
    int32_t *ids = g->ids + r * n_positions;
    int64_t high = saffu_max(copy_ids(w->view, m, n, ids), (uint32_t)head);
    if (high >= w->n_types) return 1;
    if (head < w->n_cached) {
        const REAL *table = w->cache + head * w->n_cached;
        for (int64_t k = 0; k < n; k++) SAFFU_PREFETCH(table + saffu_min(ids[k], w->n_cached - 1));
        if (!embeddings && high < w->n_cached) return 0;
    }
    if (embeddings && r > 0 && w->d > 4 * NAME(WIDTH)) /* of short ones to ask costs more than to fetch again */
        NAME(find_others)(w, g, r, n);
    else
        for (int64_t k = 0; k < n; k++) {
            int64_t id = ids[k];
            x[k] = NAME(wide)(w, g, r * (n_positions + 1) + k, w->X + id * w->d);
            if (embeddings || head >= w->n_cached || id >= w->n_cached) NAME(fetch)(x[k], w->d);
        }
    x[n_positions] = NAME(wide)(w, g, r * (n_positions + 1) + n_positions, w->X + head * w->d);
    return 0;
}

/* Windows [from, from + n_rows) found, n_rows <= LANES; if one is bad, not 0, and it is empty. */
SAFFU_INLINE int NAME(find_group)(const NAME(Shared) *w, NAME(Group) *g, int64_t from, int64_t n_rows, int embeddings) {
    int any_bad = 0;
    for (int64_t r = 0; r < LANES; r++) {
        prefetch_ids(w->view, from + r + WINDOWS_AHEAD);
        int64_t n = r < n_rows ? window_length(w->view, from + r) : 0;
        int bad = n < 0 || (n > 0 && NAME(find_row)(w, g, from + r, r, n, embeddings));
        g->length[r] = bad ? 0 : (int32_t)n;
        any_bad |= bad;
    }
    return any_bad;
}

/* s (n) of row r from a table; comparisons that it lacks are computed. */
SAFFU_INLINE void NAME(look_up)(const NAME(Shared) *w, const NAME(Group) *g, int64_t r, const REAL *table, REAL *s) {
    int64_t n = g->length[r], n_positions = w->view->n_positions, n_missing = 0;
    const int32_t *ids = g->ids + r * n_positions;
    const REAL *const *x = g->x + r * (n_positions + 1);
    if (w->n_cached == w->n_types) {
        for (int64_t k = 0; k < n; k++) s[k] = table[ids[k]];
        return;
    }
    for (int64_t k = 0; k < n; k++) {
        g->places[n_missing] = (int32_t)k;
        s[k] = table[ids[k] < w->n_cached ? ids[k] : 0];
        n_missing += ids[k] >= w->n_cached;
    }
    if (n_missing == 0) return;
    for (int64_t i = 0; i < n_missing; i++) g->missing[i] = x[g->places[i]];
    NAME(dots)(x[n_positions], g->missing, n_missing, w->width, g->few);
    for (int64_t i = 0; i < n_missing; i++) s[g->places[i]] = g->few[i];
}

/* g->s (n_rows, K) = comparisons, 0 beyond the windows, and the same in S. */
SAFFU_INLINE void NAME(compare_group)(const NAME(Shared) *w, const NAME(Group) *g, int64_t from, int64_t n_rows,
                                      REAL *S) {
    int64_t n_positions = w->view->n_positions;
    for (int64_t r = 0; r < n_rows; r++) {
        int64_t n = g->length[r], m = from + r;
        const REAL *const *x = g->x + r * (n_positions + 1);
        REAL *s = g->s + r * n_positions; /* in order: a row ends with zeros of its last vector, in the next */
        if (n > 0) {
            int64_t head = w->view->ids[w->view->head[m]];
            if (head < w->n_cached) NAME(look_up)(w, g, r, w->cache + head * w->n_cached, s);
            else NAME(dots)(x[n_positions], x, n, w->width, s);
        }
        for (int64_t k = n; k < n_positions; k++) s[k] = 0;
    }
    memcpy(S + from * n_positions, g->s, (size_t)(n_rows * n_positions) * sizeof *S);
}

/* S of windows [from, to) where the table holds all types; if one is bad, not 0, and its comparisons are. No window
 * waits for another: the reads of several are under way at a time without being asked for ahead. */
SAFFU_INLINE int NAME(read_table)(const NAME(Shared) *w, int64_t from, int64_t to, int step, REAL *S) {
    const saffu_view *view = w->view;
    int64_t n_positions = view->n_positions;
    int any_bad = 0;
    for (int64_t m = from; m < to; m++) {
        prefetch_ids(view, m + WINDOWS_AHEAD);
        int64_t n = window_length(view, m);
        REAL *s = S + m * n_positions;
        if (n > 0) {
            const int32_t *ids = view->ids + view->first[m];
            int32_t head = view->ids[view->head[m]];
            uint32_t high = (uint32_t)head;
            for (int64_t k = 0; k < n; k++) high = (uint32_t)ids[step * k] > high ? (uint32_t)ids[step * k] : high;
            if (high >= w->n_types) n = -1;
            const REAL *table = w->cache + (n > 0 ? head * w->n_types : 0);
            for (int64_t k = 0; k < n; k++) s[k] = table[ids[step * k]];
        }
        any_bad |= n < 0;
        for (int64_t k = saffu_max(n, 0); k < n_positions; k++) s[k] = 0;
    }
    return any_bad;
}

/* ---- a group of rows, one to a lane ------------------------------------------------------------------------------ */

/* lanes[k, l] = Y[l, k] for n_rows <= LANES rows of n entries, stride apart; 0 in the lanes beyond. */
SAFFU_INLINE void NAME(to_lanes)(const REAL *Y, int64_t n_rows, int64_t n, int64_t stride, REAL *lanes) {
    if (n_rows < LANES) memset(lanes, 0, (size_t)(n * LANES) * sizeof *lanes);
    for (int64_t l = 0; l < n_rows; l++)
        for (int64_t k = 0; k < n; k++) lanes[k * LANES + l] = Y[l * stride + k];
}

/* And back. */
SAFFU_INLINE void NAME(from_lanes)(const REAL *lanes, int64_t n_rows, int64_t n, int64_t stride, REAL *Y) {
    for (int64_t l = 0; l < n_rows; l++)
        for (int64_t k = 0; k < n; k++) Y[l * stride + k] = lanes[k * LANES + l];
}

/* out[j] = bias[j] + sum_k weights[k, j] s[k], in all lanes; j goes on to a multiple of AT_ONCE. */
SAFFU_INLINE void NAME(weigh_lanes)(const NAME(Shared) *w, const REAL *s, REAL *out) {
    enum { PARTS = LANES / NAME(WIDTH) };
    int64_t n_positions = w->view->n_positions;
    for (int64_t j = 0; j < n_positions; j += AT_ONCE) {
        NAME(Vector) sum[AT_ONCE][PARTS];
        for (int i = 0; i < AT_ONCE; i++) {
            REAL start[NAME(WIDTH)];
            for (int l = 0; l < NAME(WIDTH); l++) start[l] = w->bias[j + i];
            for (int p = 0; p < PARTS; p++) sum[i][p] = NAME(load_vector)(start);
        }
        for (int64_t k = 0; k < n_positions; k++) {
            const REAL *weight = w->weights + k * w->stride + j;
            for (int p = 0; p < PARTS; p++) {
                NAME(Vector) s_k = NAME(load_vector)(s + k * LANES + p * NAME(WIDTH));
                for (int i = 0; i < AT_ONCE; i++) sum[i][p] = NAME(multiply_add_one)(sum[i][p], weight[i], s_k);
            }
        }
        for (int i = 0; i < AT_ONCE; i++) memcpy(out + (j + i) * LANES, sum[i], sizeof sum[i]);
    }
}

/* Each lane l of a <- softmax of its first length[l] entries, 0 beyond; rows without a greatest finite entry as in
 * softmax.c: nothing but -inf is uniform, +inf and NaN make the row NaN. */
SAFFU_INLINE void NAME(softmax_lanes)(REAL *a, int64_t n_positions, const int32_t *length) {
    REAL high[LANES], sum[LANES];
    for (int l = 0; l < LANES; l++) high[l] = -(REAL)INFINITY;
    for (int32_t k = 0; k < n_positions; k++) {
        SAFFU_LANES
        for (int l = 0; l < LANES; l++) {
            REAL logit = k < length[l] ? a[k * LANES + l] : -(REAL)INFINITY;
            high[l] = logit > high[l] ? logit : high[l];
            a[k * LANES + l] = logit;
        }
    }
    SAFFU_LANES
    for (int l = 0; l < LANES; l++) {
        high[l] = high[l] == -(REAL)INFINITY ? 0 : high[l];
        sum[l] = 0;
    }
    for (int64_t k = 0; k < n_positions; k++) {
        SAFFU_LANES
        for (int l = 0; l < LANES; l++) {
            a[k * LANES + l] = EXP(a[k * LANES + l] - high[l]);
            sum[l] += a[k * LANES + l];
        }
    }
    for (int l = 0; l < LANES; l++) {
        if (sum[l] != 0) continue;
        for (int64_t k = 0; k < length[l]; k++) a[k * LANES + l] = 1;
        sum[l] = (REAL)saffu_max(length[l], 1);
    }
    SAFFU_LANES
    for (int l = 0; l < LANES; l++) sum[l] = 1 / sum[l];
    for (int64_t k = 0; k < n_positions; k++) {
        SAFFU_LANES
        for (int l = 0; l < LANES; l++) a[k * LANES + l] *= sum[l];
    }
}

/* Each lane of dl <- gradient by the logits, a (da - a . da), from dl = da. */
SAFFU_INLINE void NAME(back_softmax_lanes)(const REAL *a, int64_t n_positions, REAL *dl) {
    REAL mean[LANES] = {0};
    for (int64_t k = 0; k < n_positions; k++) {
        SAFFU_LANES
        for (int l = 0; l < LANES; l++) mean[l] += a[k * LANES + l] * dl[k * LANES + l];
    }
    for (int64_t k = 0; k < n_positions; k++) {
        SAFFU_LANES
        for (int l = 0; l < LANES; l++) dl[k * LANES + l] = a[k * LANES + l] * (dl[k * LANES + l] - mean[l]);
    }
}

/* A and Z of n_rows <= LANES rows from their S. */
SAFFU_INLINE void NAME(attend_group)(const NAME(Shared) *w, const NAME(Group) *g, int64_t from, int64_t n_rows,
                                     const REAL *S, REAL *A, REAL *Z) {
    int64_t n_positions = w->view->n_positions;
    NAME(to_lanes)(S + from * n_positions, n_rows, n_positions, n_positions, g->lanes);
    for (int64_t l = 0; l < n_rows; l++)
        for (int64_t k = g->length[l]; k < n_positions; k++) g->lanes[k * LANES + l] = 0;
    NAME(weigh_lanes)(w, g->lanes, g->more_lanes);
    NAME(softmax_lanes)(g->more_lanes, n_positions, g->length);
    NAME(from_lanes)(g->more_lanes, n_rows, n_positions, n_positions, A + from * n_positions);
    for (int64_t r = 0; r < n_rows; r++) {
        int64_t m = from + r;
        REAL *z = w->d < NAME(WIDTH) ? g->few : Z + m * w->d;
        NAME(sum_rows)(A + m * n_positions, g->x + r * (n_positions + 1), g->length[r], w->width, z);
        if (w->d < NAME(WIDTH)) memcpy(Z + m * w->d, z, (size_t)w->d * sizeof *z);
    }
}
