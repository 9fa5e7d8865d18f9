/* Attention for one type of real: included by attend.c with REAL, INTEGER, EXP, FROM_ALL and NAME(name) defined. */

/* ---- vectors ----------------------------------------------------------------------------------------------------- */

#include "vectors.h"
enum { NAME(FOLD) = 32 / sizeof(REAL) };

/* a + b c. */
SAFFU_INLINE NAME(Vector) NAME(multiply_add)(NAME(Vector) a, NAME(Vector) b, NAME(Vector) c) {
#if defined(__GNUC__)
    return a + b * c;
#else
    for (int l = 0; l < NAME(WIDTH); l++) a.v[l] += b.v[l] * c.v[l];
    return a;
#endif
}

/* out[i] = the sum of part[i], i < FOLD: halves are added to halves until one lane is left. */
#if defined(__GNUC__) && !defined(__clang__)
typedef REAL NAME(Half) __attribute__((vector_size(32), aligned(sizeof(REAL))));
typedef INTEGER NAME(Places) __attribute__((vector_size(32)));

/* The sums of pairs of half blocks, those of a beside those of b; lanes hold blocks of the given size. */
#define PAIR(a, b, block)                                        \
    (__builtin_shuffle(a, b, (NAME(Places))FROM_ALL(block, 0)) + \
     __builtin_shuffle(a, b, (NAME(Places))FROM_ALL(block, (block) / 2)))

SAFFU_INLINE void NAME(fold)(const NAME(Vector) *part, REAL *out) {
    NAME(Half) v[NAME(FOLD)];
    for (int i = 0; i < NAME(FOLD); i++) {
        NAME(Half) low, high;
        memcpy(&low, (const REAL *)(part + i), sizeof low);
        memcpy(&high, (const REAL *)(part + i) + NAME(FOLD), sizeof high);
        v[i] = low + high;
    }
    if (NAME(FOLD) == 8) {
        for (int i = 0; i < 4; i++) v[i] = PAIR(v[i], v[(i + 4) % NAME(FOLD)], 8);
    }
    for (int i = 0; i < 2; i++) v[i] = PAIR(v[i], v[i + 2], 4);
    v[0] = PAIR(v[0], v[1], 2);
    memcpy(out, v, sizeof *v);
}
#undef PAIR
#else
SAFFU_INLINE void NAME(fold)(const NAME(Vector) *part, REAL *out) {
    for (int i = 0; i < NAME(FOLD); i++) {
        REAL v[NAME(WIDTH)];
        memcpy(v, part + i, sizeof v);
        for (int half = NAME(FOLD); half > 0; half /= 2)
            for (int l = 0; l < half; l++) v[l] += v[l + half];
        out[i] = v[0];
    }
}
#endif

/* The last vector of u (d) without the lanes that whole vectors cover before it. */
SAFFU_INLINE NAME(Vector) NAME(tail)(const REAL *u, int64_t d) {
    REAL lane[NAME(WIDTH)];
    int64_t covered = NAME(WIDTH) - d % NAME(WIDTH);
    for (int64_t l = 0; l < NAME(WIDTH); l++) lane[l] = l < covered ? 0 : u[d - NAME(WIDTH) + l];
    return NAME(load)(lane);
}

/* part[i] = u . x[i] with a sum for each lane, i < n <= AT_ONCE. */
SAFFU_INLINE void NAME(part_dots)(const REAL *u, NAME(Vector) tail, const REAL *const *x, int64_t d, int n,
                                  NAME(Vector) *part) {
    NAME(Vector) sum[AT_ONCE];
    int64_t j = 0;
    memset(sum, 0, sizeof sum);
    for (; j + NAME(WIDTH) <= d; j += NAME(WIDTH)) {
        NAME(Vector) u_j = NAME(load)(u + j);
        for (int i = 0; i < n; i++) sum[i] = NAME(multiply_add)(sum[i], u_j, NAME(load)(x[i] + j));
    }
    if (j < d)
        for (int i = 0; i < n; i++) sum[i] = NAME(multiply_add)(sum[i], tail, NAME(load)(x[i] + d - NAME(WIDTH)));
    for (int i = 0; i < n; i++) part[i] = sum[i];
}

/* out[k] = u . x[k], k < n, and 0 up to a whole number of lanes; d >= WIDTH. */
SAFFU_INLINE void NAME(dots)(const REAL *u, const REAL *const *x, int64_t n, int64_t d, REAL *out) {
    NAME(Vector) part[NAME(FOLD)], tail = NAME(load)(u);
    int64_t k = 0;
    if (d % NAME(WIDTH)) tail = NAME(tail)(u, d);
    for (; k < n; k += NAME(FOLD)) {
        int64_t left = saffu_min(NAME(FOLD), n - k), i = 0;
        if (left < NAME(FOLD)) memset(part, 0, sizeof part);
        for (; i + AT_ONCE <= left; i += AT_ONCE) NAME(part_dots)(u, tail, x + k + i, d, AT_ONCE, part + i);
        for (; i < left; i++) NAME(part_dots)(u, tail, x + k + i, d, 1, part + i);
        NAME(fold)(part, out + k);
    }
    for (; k < whole_lanes(n); k++) out[k] = 0;
}

/* Vector v of a tile that begins in column first; the last of all is moved back to end with the row. */
#define PLACE(v) ((v) == n_vectors - 1 ? last : first + (v) * NAME(WIDTH))

/* out (n_vectors) = sum_k a[k] rows[k], even and odd k apart where few vectors leave additions waiting. */
SAFFU_INLINE void NAME(sum_tile)(const REAL *a, const REAL *const *rows, int64_t n, int64_t first, int64_t last,
                                 int n_vectors, REAL *out) {
    NAME(Vector) even[N_VECTORS], odd[N_VECTORS];
    int64_t k = 0;
    memset(even, 0, sizeof even);
    if (n_vectors <= N_VECTORS / 2) {
        memset(odd, 0, sizeof odd);
        for (; k + 2 <= n; k += 2) {
            const REAL *x = rows[k], *y = rows[k + 1];
            for (int v = 0; v < n_vectors; v++)
                even[v] = NAME(multiply_add_one)(even[v], a[k], NAME(load)(x + PLACE(v)));
            for (int v = 0; v < n_vectors; v++)
                odd[v] = NAME(multiply_add_one)(odd[v], a[k + 1], NAME(load)(y + PLACE(v)));
        }
        for (int v = 0; v < n_vectors; v++) even[v] = NAME(multiply_add_one)(even[v], 1, odd[v]);
    }
    for (; k < n; k++)
        for (int v = 0; v < n_vectors; v++)
            even[v] = NAME(multiply_add_one)(even[v], a[k], NAME(load)(rows[k] + PLACE(v)));
    for (int v = 0; v < n_vectors; v++) memcpy(out + PLACE(v), even + v, sizeof *even);
}
#undef PLACE

/* out (d) = sum_k a[k] rows[k], k < n; d >= WIDTH. */
SAFFU_INLINE void NAME(sum_rows)(const REAL *a, const REAL *const *rows, int64_t n, int64_t d, REAL *out) {
    for (int64_t t = 0; t < d; t += N_VECTORS * NAME(WIDTH)) {
        int64_t n_vectors = saffu_min(N_VECTORS, (d - t + NAME(WIDTH) - 1) / NAME(WIDTH));
        int64_t last = saffu_min(t + (n_vectors - 1) * NAME(WIDTH), d - NAME(WIDTH));
        switch (n_vectors) {
        case 1: NAME(sum_tile)(a, rows, n, t, last, 1, out); break;
        case 2: NAME(sum_tile)(a, rows, n, t, last, 2, out); break;
        case 3: NAME(sum_tile)(a, rows, n, t, last, 3, out); break;
        default: NAME(sum_tile)(a, rows, n, t, last, 4, out); break;
        }
    }
}

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
} NAME(Work);

static void NAME(free_work)(NAME(Work) *w) {
    free(w->reals);
    free(w->pointers);
    free(w->ids);
}

/* W (K, K) or its transpose, and the bias or zeros, with zeros up to whole lanes. W may be NULL. */
static int NAME(new_work)(NAME(Work) *w, const REAL *W, int transposed, const REAL *bias, int block, int team) {
    int64_t k = w->view->n_positions, stride = whole_lanes(saffu_max(k, 1));
    w->stride = stride;
    w->width = saffu_max(w->d, NAME(WIDTH));
    w->n_narrow = w->d < NAME(WIDTH) ? (LANES * (k + 1) + 1) * NAME(WIDTH) : 0;
    w->n_pointers = LANES * (k + 1) + k;
    w->n_reals = (3 * LANES + 2 + (block ? ROWS : 0)) * stride + w->n_narrow;
    w->reals = calloc((size_t)((k + 1) * stride + team * w->n_reals), sizeof *w->reals);
    w->pointers = malloc((size_t)(team * w->n_pointers) * sizeof *w->pointers);
    w->ids = malloc((size_t)(team * (LANES + 1) * k + 1) * sizeof *w->ids);
    if (!w->reals || !w->pointers || !w->ids) {
        NAME(free_work)(w);
        return SAFFU_NO_MEMORY;
    }
    w->weights = w->reals + team * w->n_reals;
    w->bias = w->weights + k * stride;
    for (int64_t i = 0; W && i < k; i++)
        for (int64_t j = 0; j < k; j++) w->weights[i * stride + j] = transposed ? W[j * k + i] : W[i * k + j];
    if (bias) memcpy(w->bias, bias, (size_t)k * sizeof *bias);
    return SAFFU_OK;
}

SAFFU_INLINE NAME(Group) NAME(own_group)(const NAME(Work) *w, int thread) {
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
SAFFU_INLINE const REAL *NAME(wide)(const NAME(Work) *w, const NAME(Group) *g, int64_t place, const REAL *x) {
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

/* Embeddings of row r of a group, window m of n > 0 tokens, or comparisons with its head in the table, found and
 * fetched; if an id is bad, not 0. Embeddings are left where all comparisons are in the table and nothing else is wanted. */
SAFFU_INLINE int NAME(find_row)(const NAME(Work) *w, const NAME(Group) *g, int64_t m, int64_t r, int64_t n,
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
    for (int64_t k = 0; k < n; k++) {
        int64_t id = ids[k];
        x[k] = NAME(wide)(w, g, r * (n_positions + 1) + k, w->X + id * w->d);
        if (embeddings || head >= w->n_cached || id >= w->n_cached) NAME(fetch)(x[k], w->d);
    }
    x[n_positions] = NAME(wide)(w, g, r * (n_positions + 1) + n_positions, w->X + head * w->d);
    return 0;
}

/* Windows [from, from + n_rows) found, n_rows <= LANES; if one is bad, not 0, and it is empty. */
SAFFU_INLINE int NAME(find_group)(const NAME(Work) *w, NAME(Group) *g, int64_t from, int64_t n_rows, int embeddings) {
    int any_bad = 0;
    for (int64_t r = 0; r < LANES; r++) {
        prefetch_ids(w->view, from + r + AHEAD);
        int64_t n = r < n_rows ? window_length(w->view, from + r) : 0;
        int bad = n < 0 || (n > 0 && NAME(find_row)(w, g, from + r, r, n, embeddings));
        g->length[r] = bad ? 0 : (int32_t)n;
        any_bad |= bad;
    }
    return any_bad;
}

/* s (n) of row r from a table; comparisons that it lacks are computed. */
SAFFU_INLINE void NAME(look_up)(const NAME(Work) *w, const NAME(Group) *g, int64_t r, const REAL *table, REAL *s) {
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
SAFFU_INLINE void NAME(compare_group)(const NAME(Work) *w, const NAME(Group) *g, int64_t from, int64_t n_rows,
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

/* S of windows [from, to) where the table holds all types; if one is bad, not 0, and its comparisons are. No window waits
 * for another: the reads of several are under way at a time without being asked for ahead. */
SAFFU_INLINE int NAME(read_table)(const NAME(Work) *w, int64_t from, int64_t to, int step, REAL *S) {
    const saffu_view *view = w->view;
    int64_t n_positions = view->n_positions;
    int any_bad = 0;
    for (int64_t m = from; m < to; m++) {
        prefetch_ids(view, m + AHEAD);
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
SAFFU_INLINE void NAME(weigh_lanes)(const NAME(Work) *w, const REAL *s, REAL *out) {
    enum { PARTS = LANES / NAME(WIDTH) };
    int64_t n_positions = w->view->n_positions;
    for (int64_t j = 0; j < n_positions; j += AT_ONCE) {
        NAME(Vector) sum[AT_ONCE][PARTS];
        for (int i = 0; i < AT_ONCE; i++) {
            REAL start[NAME(WIDTH)];
            for (int l = 0; l < NAME(WIDTH); l++) start[l] = w->bias[j + i];
            for (int p = 0; p < PARTS; p++) sum[i][p] = NAME(load)(start);
        }
        for (int64_t k = 0; k < n_positions; k++) {
            const REAL *weight = w->weights + k * w->stride + j;
            for (int p = 0; p < PARTS; p++) {
                NAME(Vector) s_k = NAME(load)(s + k * LANES + p * NAME(WIDTH));
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
SAFFU_INLINE void NAME(attend_group)(const NAME(Work) *w, const NAME(Group) *g, int64_t from, int64_t n_rows,
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

/* ---- kernels ----------------------------------------------------------------------------------------------------- */

SAFFU_SIMD int NAME(saffu_compare_all)(const REAL *X, int64_t n, int64_t d, int64_t from, int64_t to, REAL *C,
                                       int n_threads) {
    int team = saffu_team(n_threads, (to - from) * (n - from) * d / 8);
    const saffu_view view = {.n_positions = NAME(FOLD)};
    NAME(Work) work = {.view = &view, .X = X, .n_types = n, .d = d};
    int status = NAME(new_work)(&work, NULL, 0, NULL, 0, team);
    if (status != SAFFU_OK) return status;
    SAFFU_PARALLEL_FOR(team, schedule(dynamic, 4))
    for (int64_t j = from; j < to; j += NAME(FOLD)) {
        NAME(Group) g = NAME(own_group)(&work, saffu_thread());
        int64_t width = saffu_min(NAME(FOLD), n - j);
        for (int64_t l = 0; l < width; l++) g.x[l] = NAME(wide)(&work, &g, l, X + (j + l) * d);
        /* x_i . x_j has the bits of x_j . x_i: the table is filled from its lower half. */
        for (int64_t i = j; i < n; i++) {
            NAME(dots)(NAME(wide)(&work, &g, NAME(FOLD), X + i * d), g.x, width, work.width, g.s);
            memcpy(C + i * n + j, g.s, (size_t)width * sizeof *C);
            for (int64_t l = 0; l < width; l++) C[(j + l) * n + i] = g.s[l];
        }
    }
    NAME(free_work)(&work);
    return SAFFU_OK;
}

SAFFU_SIMD int NAME(saffu_comparisons)(const saffu_view *view, const REAL *X, const REAL *cache, int64_t n_types,
                                       int64_t d, int64_t n_cached, REAL *S, int n_threads) {
    int64_t n = view->n, n_positions = view->n_positions;
    int team = saffu_team(n_threads, n * n_positions * d / 8), bad = 0;
    NAME(Work) work = {.view = view, .X = X, .cache = cache, .n_types = n_types, .d = d, .n_cached = n_cached};
    int status = NAME(new_work)(&work, NULL, 0, NULL, 0, team);
    if (status != SAFFU_OK) return status;
    SAFFU_PARALLEL_FOR(team, schedule(dynamic, 1) reduction(| : bad))
    for (int64_t from = 0; from < n; from += ROWS) {
        int64_t to = saffu_min(n, from + ROWS);
        if (n_cached == n_types) {
            bad |= view->step < 0 ? NAME(read_table)(&work, from, to, -1, S) : NAME(read_table)(&work, from, to, 1, S);
            continue;
        }
        NAME(Group) g = NAME(own_group)(&work, saffu_thread());
        for (int64_t m = from; m < to; m += LANES) {
            int64_t group = saffu_min(LANES, n - m);
            bad |= NAME(find_group)(&work, &g, m, group, 0);
            NAME(compare_group)(&work, &g, m, group, S);
        }
    }
    NAME(free_work)(&work);
    return bad ? SAFFU_OUT_OF_RANGE : SAFFU_OK;
}

SAFFU_SIMD int NAME(saffu_attend)(const saffu_view *view, const REAL *X, const REAL *cache, const REAL *W,
                                  const REAL *bias, int64_t n_types, int64_t d, int64_t n_cached, int given, REAL *S,
                                  REAL *A, REAL *Z, int n_threads) {
    int64_t n = view->n, n_positions = view->n_positions;
    int team = saffu_team(n_threads, n * n_positions * d / 4), bad = 0;
    NAME(Work) work = {.view = view, .X = X, .cache = cache, .n_types = n_types, .d = d, .n_cached = n_cached};
    int status = NAME(new_work)(&work, W, 0, bias, 0, team);
    if (status != SAFFU_OK) return status;
    SAFFU_PARALLEL_FOR(team, schedule(dynamic, 1) reduction(| : bad))
    for (int64_t from = 0; from < n; from += ROWS) {
        NAME(Group) g = NAME(own_group)(&work, saffu_thread());
        for (int64_t m = from; m < saffu_min(n, from + ROWS); m += LANES) {
            int64_t group = saffu_min(LANES, n - m);
            bad |= NAME(find_group)(&work, &g, m, group, 1);
            if (!given) NAME(compare_group)(&work, &g, m, group, S);
            NAME(attend_group)(&work, &g, m, group, S, A, Z);
        }
    }
    NAME(free_work)(&work);
    return bad ? SAFFU_OUT_OF_RANGE : SAFFU_OK;
}

/* ---- backward ---------------------------------------------------------------------------------------------------- */

/* sums[k + i, j ..] += sum_m S[m, k + i] L[m, j ..], i < n_k <= AT_ONCE, one or two vectors of j. */
SAFFU_INLINE void NAME(add_outer)(const REAL *S, const REAL *L, int64_t n_rows, int64_t n_positions, int64_t stride,
                                  int n_k, int n_vectors, double *sums) {
    NAME(Vector) sum[AT_ONCE][2];
    memset(sum, 0, sizeof sum);
    for (int64_t m = 0; m < n_rows; m++) {
        for (int v = 0; v < n_vectors; v++) {
            NAME(Vector) l = NAME(load)(L + m * stride + v * NAME(WIDTH));
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
SAFFU_INLINE void NAME(add_block)(const REAL *S, const REAL *L, int64_t n_rows, int64_t n_positions, int64_t stride,
                                  double *sums) {
    for (int64_t j = 0; j < stride;) {
        int n_vectors = stride - j >= 2 * NAME(WIDTH) ? 2 : 1;
        int64_t k = 0;
        for (; k + AT_ONCE <= n_positions; k += AT_ONCE) {
            double *to = sums + k * stride + j;
            if (n_vectors == 2) NAME(add_outer)(S + k, L + j, n_rows, n_positions, stride, AT_ONCE, 2, to);
            else NAME(add_outer)(S + k, L + j, n_rows, n_positions, stride, AT_ONCE, 1, to);
        }
        for (; k < n_positions; k++) {
            double *to = sums + k * stride + j;
            if (n_vectors == 2) NAME(add_outer)(S + k, L + j, n_rows, n_positions, stride, 1, 2, to);
            else NAME(add_outer)(S + k, L + j, n_rows, n_positions, stride, 1, 1, to);
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
SAFFU_INLINE void NAME(back_group)(const NAME(Work) *w, const NAME(Group) *g, int64_t from, int64_t n_rows,
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

SAFFU_SIMD int NAME(saffu_attend_backward)(const saffu_view *view, const REAL *X, const REAL *W, const REAL *S,
                                           const REAL *A, const REAL *dZ, int64_t n_types, int64_t d, int64_t from,
                                           int64_t to, double *sums, REAL *dS, int n_threads) {
    int64_t n = view->n, k = view->n_positions;
    saffu_attend_plan plan = saffu_plan_attend(n, k);
    int team = saffu_team(n_threads, saffu_min(n, plan.n_chunks * (to - from)) * k * d / 4), bad = 0;
    NAME(Work) work = {.view = view, .X = X, .n_types = n_types, .d = d};
    int status = NAME(new_work)(&work, W, 1, NULL, 1, team);
    if (status != SAFFU_OK) return status;
    SAFFU_PARALLEL_FOR(team, schedule(dynamic, 1) reduction(| : bad))
    for (int64_t c = 0; c < plan.n_chunks; c++) {
        NAME(Group) g = NAME(own_group)(&work, saffu_thread());
        int64_t end = saffu_min(n, c * plan.chunk + saffu_min(to, plan.chunk));
        for (int64_t first = c * plan.chunk + from; first < end; first += ROWS) {
            int64_t n_rows = saffu_min(ROWS, end - first);
            for (int64_t r = 0; r < n_rows; r += LANES) {
                int64_t group = saffu_min(LANES, n_rows - r);
                bad |= NAME(find_group)(&work, &g, first + r, group, 1);
                NAME(back_group)(&work, &g, first + r, group, dZ, A, g.block + r * work.stride, dS);
            }
            NAME(add_block)(S + first * k, g.block, n_rows, k, work.stride, sums + c * plan.size);
        }
    }
    NAME(free_work)(&work);
    return bad ? SAFFU_OUT_OF_RANGE : SAFFU_OK;
}

int NAME(saffu_attend_weights)(const saffu_view *view, double *sums, REAL *dW, REAL *dbias) {
    int64_t k = view->n_positions, stride = whole_lanes(saffu_max(k, 1));
    saffu_attend_plan plan = saffu_plan_attend(view->n, k);
    for (int64_t c = 1; c < plan.n_chunks; c++)
        for (int64_t i = 0; i < plan.size; i++) sums[i] += sums[c * plan.size + i];
    for (int64_t i = 0; i < k; i++)
        for (int64_t j = 0; j < k; j++) dW[i * k + j] = (REAL)sums[i * stride + j];
    for (int64_t j = 0; j < k; j++) dbias[j] = (REAL)sums[k * stride + j];
    return SAFFU_OK;
}

SAFFU_SIMD int NAME(saffu_attend_embeddings)(const saffu_view *view, const REAL *X, const REAL *dZ, const REAL *A,
                                             const REAL *dS, int64_t d, REAL *dX, int n_threads) {
    int team = saffu_team(n_threads, view->n * view->n_positions * d / 4);
    int64_t width = saffu_max(LANES, whole_lanes((d + team - 1) / team));
    SAFFU_PARALLEL_FOR(team, schedule(static))
    for (int64_t from = 0; from < d; from += width)
        NAME(add_embeddings)(view, X, dZ, A, dS, d, from, saffu_min(d, from + width), dX);
    return SAFFU_OK;
}
