/* Attention for one type of real: included by attend.c with REAL, INTEGER, EXP, FROM_ALL and NAME(name) defined. */

/* ---- vectors ----------------------------------------------------------------------------------------------------- */

#if defined(__GNUC__)
typedef REAL NAME(Vector) __attribute__((vector_size(64), aligned(sizeof(REAL))));
#else
typedef struct {
    REAL v[64 / sizeof(REAL)];
} NAME(Vector);
#endif
enum { NAME(WIDTH) = 64 / sizeof(REAL), NAME(FOLD) = 32 / sizeof(REAL) };

SAFFU_INLINE NAME(Vector) NAME(load)(const REAL *x) {
    NAME(Vector) a;
    memcpy(&a, x, sizeof a);
    return a;
}

/* a + b c. */
SAFFU_INLINE NAME(Vector) NAME(multiply_add)(NAME(Vector) a, NAME(Vector) b, NAME(Vector) c) {
#if defined(__GNUC__)
    return a + b * c;
#else
    for (int l = 0; l < NAME(WIDTH); l++) a.v[l] += b.v[l] * c.v[l];
    return a;
#endif
}

/* a + x c. */
SAFFU_INLINE NAME(Vector) NAME(multiply_add_one)(NAME(Vector) a, REAL x, NAME(Vector) c) {
#if defined(__GNUC__)
    return a + x * c;
#else
    for (int l = 0; l < NAME(WIDTH); l++) a.v[l] += x * c.v[l];
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

/* out (n_vectors) = start + sum_k a[k] rows[k], even and odd k apart where few vectors leave additions waiting. */
SAFFU_INLINE void NAME(sum_tile)(const REAL *a, const REAL *const *rows, int64_t n, int64_t first, int64_t last,
                                 int n_vectors, const REAL *start, REAL *out) {
    NAME(Vector) even[N_VECTORS], odd[N_VECTORS];
    int64_t k = 0;
    memset(even, 0, sizeof even);
    if (start)
        for (int v = 0; v < n_vectors; v++) even[v] = NAME(load)(start + PLACE(v));
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

/* out (d) = start + sum_k a[k] rows[k], k < n; d >= WIDTH. */
SAFFU_INLINE void NAME(sum_rows)(const REAL *a, const REAL *const *rows, int64_t n, int64_t d, const REAL *start,
                                 REAL *out) {
    for (int64_t t = 0; t < d; t += N_VECTORS * NAME(WIDTH)) {
        int64_t n_vectors = saffu_min(N_VECTORS, (d - t + NAME(WIDTH) - 1) / NAME(WIDTH));
        int64_t last = saffu_min(t + (n_vectors - 1) * NAME(WIDTH), d - NAME(WIDTH));
        switch (n_vectors) {
        case 1: NAME(sum_tile)(a, rows, n, t, last, 1, start, out); break;
        case 2: NAME(sum_tile)(a, rows, n, t, last, 2, start, out); break;
        case 3: NAME(sum_tile)(a, rows, n, t, last, 3, start, out); break;
        default: NAME(sum_tile)(a, rows, n, t, last, 4, start, out); break;
        }
    }
}

/* ---- scratch ----------------------------------------------------------------------------------------------------- */

/* What a thread needs for a row: vectors over the positions, pointers to embeddings, copies of narrow ones. */
typedef struct {
    REAL *s, *a, *few, *narrow, *block;
    const REAL **x, **missing;
    int64_t *places;
} NAME(Row);

/* The parts of a call that all threads read, and a Row for each. */
typedef struct {
    const saffu_view *view;
    const REAL *X, *cache;
    int64_t n_types, d, n_cached;
    int64_t width, stride; /* d and n_positions as the vectors see them */
    REAL *reals, *weights, *bias;
    const REAL **rows, **pointers;
    int64_t *places, n_reals;
} NAME(Work);

static void NAME(free_work)(NAME(Work) *w) {
    free(w->reals);
    free(w->pointers);
    free(w->places);
}

/* W (K, K) or its transpose, and the bias or zeros, with zeros up to whole lanes. W may be NULL. */
static int NAME(new_work)(NAME(Work) *w, const REAL *W, int transposed, const REAL *bias, int block, int team) {
    int64_t k = w->view->n_positions, stride = whole_lanes(saffu_max(k, 1));
    w->stride = stride;
    w->width = saffu_max(w->d, NAME(WIDTH));
    w->n_reals = 3 * stride + (k + 2) * NAME(WIDTH) + (block ? ROWS * stride : 0);
    w->reals = calloc((size_t)((k + 1) * stride + team * w->n_reals), sizeof *w->reals);
    w->pointers = malloc((size_t)(k * (1 + 2 * team) + 1) * sizeof *w->pointers);
    w->places = malloc((size_t)(k * team + 1) * sizeof *w->places);
    if (!w->reals || !w->pointers || !w->places) {
        NAME(free_work)(w);
        return SAFFU_NO_MEMORY;
    }
    w->weights = w->reals + team * w->n_reals;
    w->bias = w->weights + k * stride;
    w->rows = w->pointers + 2 * k * team;
    for (int64_t i = 0; W && i < k; i++)
        for (int64_t j = 0; j < k; j++) w->weights[i * stride + j] = transposed ? W[j * k + i] : W[i * k + j];
    for (int64_t i = 0; i < k; i++) w->rows[i] = w->weights + i * stride;
    if (bias) memcpy(w->bias, bias, (size_t)k * sizeof *bias);
    return SAFFU_OK;
}

SAFFU_INLINE NAME(Row) NAME(own_row)(const NAME(Work) *w, int thread) {
    NAME(Row) row;
    int64_t k = w->view->n_positions;
    row.s = w->reals + thread * w->n_reals;
    row.a = row.s + w->stride;
    row.few = row.a + w->stride;
    row.narrow = row.few + w->stride;
    row.block = row.narrow + (k + 2) * NAME(WIDTH);
    row.x = w->pointers + 2 * k * thread;
    row.missing = row.x + k;
    row.places = w->places + k * thread;
    return row;
}

/* ---- one row ----------------------------------------------------------------------------------------------------- */

/* A vector of d entries as one of w->width: itself, or a copy in the given place of row.narrow. */
SAFFU_INLINE const REAL *NAME(wide)(const NAME(Work) *w, const NAME(Row) *row, int64_t place, const REAL *x) {
    if (w->d >= NAME(WIDTH)) return x;
    REAL *copy = row->narrow + place * NAME(WIDTH);
    for (int64_t j = 0; j < w->d; j++) copy[j] = x[j];
    return copy;
}

SAFFU_INLINE const REAL *NAME(embedding)(const NAME(Work) *w, const NAME(Row) *row, int64_t place, int64_t id) {
    return NAME(wide)(w, row, place, w->X + id * w->d);
}

SAFFU_INLINE void NAME(find_embeddings)(const NAME(Work) *w, const NAME(Row) *row, int64_t m, int64_t n) {
    for (int64_t k = 0; k < n; k++) row->x[k] = NAME(embedding)(w, row, k, id_at(w->view, m, k));
}

/* Fetch x (n) into the L2 cache, four lines of 64 bytes a step: with one line a step the loop takes twice as long. */
SAFFU_INLINE void NAME(fetch)(const REAL *x, int64_t n) {
    for (int64_t j = 0; j < n; j += 4 * NAME(WIDTH)) {
        const int64_t line = NAME(WIDTH);
        SAFFU_PREFETCH_L2(x + j);
        SAFFU_PREFETCH_L2(x + saffu_min(n - 1, j + line));
        SAFFU_PREFETCH_L2(x + saffu_min(n - 1, j + 2 * line));
        SAFFU_PREFETCH_L2(x + saffu_min(n - 1, j + 3 * line));
    }
}

/* Fetch what the next row reads, n tokens of window m, while the present one is computed. */
SAFFU_INLINE void NAME(prefetch)(const NAME(Work) *w, int64_t m, int64_t n, int embeddings) {
    if (n <= 0) return;
    int64_t head = w->view->ids[w->view->head[m]];
    const REAL *table = head < w->n_cached ? w->cache + head * w->n_cached : NULL;
    for (int64_t k = 0; k < n; k++) {
        int64_t id = id_at(w->view, m, k);
        int known = table && id < w->n_cached;
        if (known) SAFFU_PREFETCH(table + id);
        if (embeddings || !known) NAME(fetch)(w->X + id * w->d, w->d);
    }
}

/* The length of window m, if it is below end, as window_length has it. */
SAFFU_INLINE int64_t NAME(look_ahead)(const NAME(Work) *w, int64_t m, int64_t end, int embeddings) {
    prefetch_ids(w->view, m + AHEAD);
    if (m >= end) return 0;
    int64_t n = window_length(w->view, m, w->n_types);
    NAME(prefetch)(w, m, n, embeddings);
    return n;
}

/* Comparisons from the table; those that it lacks are computed. */
SAFFU_INLINE void NAME(look_up)(const NAME(Work) *w, const NAME(Row) *row, int64_t m, int64_t n, int64_t head) {
    const REAL *table = w->cache + head * w->n_cached;
    int64_t n_missing = 0;
    for (int64_t k = 0; k < n; k++) {
        int64_t id = id_at(w->view, m, k);
        row->places[n_missing] = k;
        row->s[k] = table[id < w->n_cached ? id : 0];
        n_missing += id >= w->n_cached;
    }
    for (int64_t k = n; k < whole_lanes(n); k++) row->s[k] = 0;
    if (n_missing == 0) return;
    for (int64_t i = 0; i < n_missing; i++)
        row->missing[i] = NAME(embedding)(w, row, i, id_at(w->view, m, row->places[i]));
    const REAL *x_head = NAME(embedding)(w, row, w->view->n_positions, head);
    NAME(dots)(x_head, row->missing, n_missing, w->width, row->few);
    for (int64_t i = 0; i < n_missing; i++) row->s[row->places[i]] = row->few[i];
}

/* row.s = comparisons of a window of n > 0 tokens, 0 up to whole lanes. */
SAFFU_INLINE void NAME(compare)(const NAME(Work) *w, const NAME(Row) *row, int64_t m, int64_t n, int found) {
    int64_t head = w->view->ids[w->view->head[m]];
    if (head < w->n_cached) {
        NAME(look_up)(w, row, m, n, head);
        if (found && w->d < NAME(WIDTH)) NAME(find_embeddings)(w, row, m, n); /* the copies were overwritten */
        return;
    }
    if (!found) NAME(find_embeddings)(w, row, m, n);
    NAME(dots)(NAME(embedding)(w, row, w->view->n_positions, head), row->x, n, w->width, row->s);
}

/* The sum and the maximum of 16 lanes, by halves: each in an array of its own, or they would wait for one another. */
SAFFU_INLINE REAL NAME(sum_lanes)(const REAL lane[LANES]) {
    REAL a[8], b[4];
    for (int l = 0; l < 8; l++) a[l] = lane[l] + lane[l + 8];
    for (int l = 0; l < 4; l++) b[l] = a[l] + a[l + 4];
    return (b[0] + b[2]) + (b[1] + b[3]);
}

SAFFU_INLINE REAL NAME(max_lanes)(const REAL lane[LANES]) {
    REAL a[8], b[4];
    for (int l = 0; l < 8; l++) a[l] = lane[l] > lane[l + 8] ? lane[l] : lane[l + 8];
    for (int l = 0; l < 4; l++) b[l] = a[l] > a[l + 4] ? a[l] : a[l + 4];
    b[0] = b[0] > b[2] ? b[0] : b[2];
    b[1] = b[1] > b[3] ? b[1] : b[3];
    return b[0] > b[1] ? b[0] : b[1];
}

/* a (whole lanes, n > 0 of them used) <- softmax(a): nothing but -inf is uniform, lanes beyond n become 0. */
SAFFU_INLINE void NAME(softmax_lanes)(REAL *a, int64_t n) {
    REAL high[LANES], sum[LANES];
    int32_t used = (int32_t)((n - 1) % LANES + 1); /* of the last group */
    int64_t end = whole_lanes(n), last = end - LANES;
    SAFFU_LANES
    for (int32_t l = 0; l < LANES; l++) a[last + l] = l < used ? a[last + l] : -(REAL)INFINITY;
    memcpy(high, a + last, sizeof high);
    memset(sum, 0, sizeof sum);
    for (int64_t k = 0; k < last; k += LANES) {
        SAFFU_LANES
        for (int l = 0; l < LANES; l++) high[l] = a[k + l] > high[l] ? a[k + l] : high[l];
    }
    REAL most = NAME(max_lanes)(high);
    int nothing = most == -(REAL)INFINITY;
    REAL shift = nothing ? 0 : most;
    for (int64_t k = 0; k < end; k += LANES) {
        SAFFU_LANES
        for (int l = 0; l < LANES; l++) {
            a[k + l] = EXP(a[k + l] - shift);
            sum[l] += a[k + l];
        }
    }
    REAL total = NAME(sum_lanes)(sum);
    if (nothing && total == 0) {
        for (int64_t k = 0; k < n; k++) a[k] = 1 / (REAL)n;
        return;
    }
    REAL scale = 1 / total;
    for (int64_t k = 0; k < end; k += LANES) {
        SAFFU_LANES
        for (int l = 0; l < LANES; l++) a[k + l] *= scale;
    }
}

/* The first n of x, then zeros, into row m of Y (n, K). */
SAFFU_INLINE void NAME(put)(const REAL *x, int64_t n, int64_t m, int64_t n_positions, REAL *Y) {
    REAL *y = Y + m * n_positions;
    memcpy(y, x, (size_t)n * sizeof *y);
    memset(y + n, 0, (size_t)(n_positions - n) * sizeof *y);
}

SAFFU_INLINE void NAME(attend_row)(const NAME(Work) *w, const NAME(Row) *row, int64_t m, int64_t n, int given, REAL *S,
                                   REAL *A, REAL *Z) {
    int64_t n_positions = w->view->n_positions;
    REAL *z = w->d < NAME(WIDTH) ? row->few : Z + m * w->d;
    NAME(find_embeddings)(w, row, m, n);
    if (given) memcpy(row->s, S + m * n_positions, (size_t)n * sizeof *S);
    else {
        NAME(compare)(w, row, m, n, 1);
        NAME(put)(row->s, n, m, n_positions, S);
    }
    NAME(sum_rows)(row->s, w->rows, n, whole_lanes(n), w->bias, row->a);
    NAME(softmax_lanes)(row->a, n);
    NAME(put)(row->a, n, m, n_positions, A);
    NAME(sum_rows)(row->a, row->x, n, w->width, NULL, z);
    if (w->d < NAME(WIDTH)) memcpy(Z + m * w->d, z, (size_t)w->d * sizeof *z);
}

/* ---- kernels ----------------------------------------------------------------------------------------------------- */

SAFFU_SIMD int NAME(saffu_compare_all)(const REAL *X, int64_t n, int64_t d, REAL *C, int n_threads) {
    int team = saffu_team(n_threads, n * n * d / 8);
    const saffu_view view = {.n_positions = NAME(FOLD)};
    NAME(Work) work = {.view = &view, .X = X, .n_types = n, .d = d};
    int status = NAME(new_work)(&work, NULL, 0, NULL, 0, team);
    if (status != SAFFU_OK) return status;
    SAFFU_OMP(parallel for num_threads(team) schedule(dynamic, 4))
    for (int64_t j = 0; j < n; j += NAME(FOLD)) {
        NAME(Row) row = NAME(own_row)(&work, saffu_thread());
        int64_t width = saffu_min(NAME(FOLD), n - j);
        for (int64_t l = 0; l < width; l++) row.x[l] = NAME(embedding)(&work, &row, l, j + l);
        /* x_i . x_j has the bits of x_j . x_i: the table is filled from its lower half. */
        for (int64_t i = j; i < n; i++) {
            NAME(dots)(NAME(embedding)(&work, &row, NAME(FOLD), i), row.x, width, work.width, row.s);
            memcpy(C + i * n + j, row.s, (size_t)width * sizeof *C);
            for (int64_t l = 0; l < width; l++) C[(j + l) * n + i] = row.s[l];
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
    SAFFU_OMP(parallel for num_threads(team) schedule(dynamic, 1) reduction(| : bad))
    for (int64_t from = 0; from < n; from += ROWS) {
        NAME(Row) row = NAME(own_row)(&work, saffu_thread());
        int64_t to = saffu_min(n, from + ROWS), next = window_length(view, from, n_types);
        for (int64_t m = from; m < to; m++) {
            int64_t length = next;
            bad |= length < 0;
            next = NAME(look_ahead)(&work, m + 1, to, 0);
            if (length > 0) NAME(compare)(&work, &row, m, length, 0);
            NAME(put)(row.s, saffu_max(length, 0), m, n_positions, S);
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
    SAFFU_OMP(parallel for num_threads(team) schedule(dynamic, 1) reduction(| : bad))
    for (int64_t from = 0; from < n; from += ROWS) {
        NAME(Row) row = NAME(own_row)(&work, saffu_thread());
        int64_t to = saffu_min(n, from + ROWS), next = window_length(view, from, n_types);
        for (int64_t m = from; m < to; m++) {
            int64_t length = next;
            bad |= length < 0;
            next = NAME(look_ahead)(&work, m + 1, to, 1);
            if (length > 0) {
                NAME(attend_row)(&work, &row, m, length, given, S, A, Z);
                continue;
            }
            if (!given) NAME(put)(row.s, 0, m, n_positions, S);
            NAME(put)(row.s, 0, m, n_positions, A);
            memset(Z + m * d, 0, (size_t)d * sizeof *Z);
        }
    }
    NAME(free_work)(&work);
    return bad ? SAFFU_OUT_OF_RANGE : SAFFU_OK;
}

/* ---- backward ---------------------------------------------------------------------------------------------------- */

/* l (whole lanes) = gradient by the logits, a (da - a . da), from l = da. */
SAFFU_INLINE void NAME(back_softmax)(const REAL *a, int64_t n, REAL *l) {
    REAL sum[LANES] = {0};
    for (int64_t k = 0; k < whole_lanes(n); k += LANES) {
        SAFFU_LANES
        for (int i = 0; i < LANES; i++) sum[i] += a[k + i] * l[k + i];
    }
    REAL mean = NAME(sum_lanes)(sum);
    for (int64_t k = 0; k < whole_lanes(n); k += LANES) {
        SAFFU_LANES
        for (int i = 0; i < LANES; i++) l[k + i] = a[k + i] * (l[k + i] - mean);
    }
}

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
    for (int64_t m = 0; m < n_rows; m++)
        for (int64_t j = 0; j < stride; j++) sums[n_positions * stride + j] += (double)L[m * stride + j];
}

/* row.block[r] = gradient by the logits of row m, and dS[m] if it is wanted. */
SAFFU_INLINE void NAME(back_row)(const NAME(Work) *w, const NAME(Row) *row, int64_t m, int64_t n, int64_t r,
                                 const REAL *dZ, const REAL *A, REAL *dS) {
    int64_t n_positions = w->view->n_positions;
    REAL *l = row->block + r * w->stride;
    memset(l, 0, (size_t)w->stride * sizeof *l);
    if (n > 0) {
        NAME(find_embeddings)(w, row, m, n);
        NAME(dots)(NAME(wide)(w, row, n_positions, dZ + m * w->d), row->x, n, w->width, l);
        memcpy(row->a, A + m * n_positions, (size_t)n * sizeof *A);
        for (int64_t k = n; k < whole_lanes(n); k++) row->a[k] = 0;
        NAME(back_softmax)(row->a, n, l);
        if (dS) NAME(sum_rows)(l, w->rows, n, whole_lanes(n), NULL, row->s);
    }
    if (dS) NAME(put)(row->s, saffu_max(n, 0), m, n_positions, dS);
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
                                           const REAL *A, const REAL *dZ, int64_t n_types, int64_t d, REAL *dW,
                                           REAL *dbias, REAL *dS, REAL *dX, int n_threads) {
    int64_t n = view->n, k = view->n_positions;
    int team = saffu_team(n_threads, n * k * d / 4), bad = 0;
    int64_t chunk = saffu_max(MIN_CHUNK, ((n + MAX_CHUNKS - 1) / MAX_CHUNKS + ROWS - 1) / ROWS * ROWS);
    int64_t n_chunks = (n + chunk - 1) / chunk;
    NAME(Work) work = {.view = view, .X = X, .n_types = n_types, .d = d};
    int status = NAME(new_work)(&work, W, 1, NULL, 1, team);
    if (status != SAFFU_OK) return status;
    int64_t n_sums = (k + 1) * work.stride;
    double *sums = calloc((size_t)(saffu_max(n_chunks, 1) * n_sums), sizeof *sums);
    if (!sums) {
        NAME(free_work)(&work);
        return SAFFU_NO_MEMORY;
    }
    SAFFU_OMP(parallel for num_threads(team) schedule(dynamic, 1) reduction(| : bad))
    for (int64_t c = 0; c < n_chunks; c++) {
        NAME(Row) row = NAME(own_row)(&work, saffu_thread());
        for (int64_t from = c * chunk; from < saffu_min(n, (c + 1) * chunk); from += ROWS) {
            int64_t n_rows = saffu_min(ROWS, n - from), next = window_length(view, from, n_types);
            for (int64_t r = 0; r < n_rows; r++) {
                int64_t length = next;
                bad |= length < 0;
                next = NAME(look_ahead)(&work, from + r + 1, from + n_rows, 1);
                NAME(back_row)(&work, &row, from + r, length, r, dZ, A, dS);
            }
            NAME(add_block)(S + from * k, row.block, n_rows, k, work.stride, sums + c * n_sums);
        }
    }
    for (int64_t c = 1; c < n_chunks; c++)
        for (int64_t i = 0; i < n_sums; i++) sums[i] += sums[c * n_sums + i];
    for (int64_t i = 0; i < k; i++)
        for (int64_t j = 0; j < k; j++) dW[i * k + j] = (REAL)sums[i * work.stride + j];
    for (int64_t j = 0; j < k; j++) dbias[j] = (REAL)sums[k * work.stride + j];
    if (dX && !bad) {
        int64_t width = saffu_max(LANES, whole_lanes((d + team - 1) / team));
        SAFFU_OMP(parallel for num_threads(team) schedule(static))
        for (int64_t from = 0; from < d; from += width)
            NAME(add_embeddings)(view, X, dZ, A, dS, d, from, saffu_min(d, from + width), dX);
    }
    free(sums);
    NAME(free_work)(&work);
    return bad ? SAFFU_OUT_OF_RANGE : SAFFU_OK;
}
