/* Moments of the features of one position for one type of real: included by pool_derivatives.c with REAL, EXP2 and
 * NAME(name) defined.
 */

/* ---- the panel --------------------------------------------------------------------------------------------------- */

/* Enter n pairs into a row of the panel; a word without a column gets the next one. Returns the number of columns.
 * Not inline: there is nothing here that vectors could do, and registers are few where it is called. */
static int64_t NAME(enter)(const int32_t *restrict words, const REAL *restrict u, int64_t n,
                                      int64_t n_columns, Panel *panel, REAL *restrict row) {
    int32_t *restrict place = panel->place, *restrict word = panel->word;
    const int32_t first = panel->first;
    for (int64_t i = 0; i < n; i++) {
        int32_t w = words[i], found = place[w] - first;
        int64_t j = found < 0 ? n_columns : found;
        word[n_columns] = w; /* overwritten by the next new word if this one is not */
        n_columns += found < 0;
        place[w] = first + (int32_t)j;
        row[j] = u[i];
    }
    return n_columns;
}

/* The words of the document windows are the first columns, in their order: nothing has to be looked up. */
SAFFU_INLINE int64_t NAME(enter_windows)(const Row *window, int64_t n_windows, Panel *panel, REAL *x) {
    if (n_windows == 0) return 0;
    int64_t n = window->n_tail;
    for (int64_t l = 0; l < n_windows; l++) {
        const double *restrict u = window[l].u;
        REAL *restrict of_l = x + l * panel->stride;
        for (int64_t j = 0; j < n; j++) of_l[j] = (REAL)u[j];
    }
    for (int64_t j = 0; j < n; j++) panel->place[window->word[j]] = panel->first + (int32_t)j;
    memcpy(panel->word, window->word, (size_t)n * sizeof *panel->word);
    return n;
}

/* The pairs of the induction window; those of the columns before are zero. */
SAFFU_INLINE int64_t NAME(enter_followers)(Row follow, int64_t n, Panel *panel, REAL *row) {
    const double *restrict u = follow.u;
    REAL *restrict narrow = panel->x; /* the first row, which is filled last */
    for (int64_t i = 0; i < follow.n_tail; i++) narrow[i] = (REAL)u[i];
    memset(row, 0, (size_t)n * sizeof *row);
    return NAME(enter)(follow.word, narrow, follow.n_tail, n, panel, row);
}

/* row[j] = head[word[j]] for the columns from `from` to `to` whose words are within the head; they hold zero. */
SAFFU_INLINE void NAME(gather_head)(const REAL *restrict head, int32_t n_head, const int32_t *restrict word,
                                    int64_t from, int64_t to, REAL *restrict row) {
    for (int64_t j = from; j < to; j++) {
        int32_t inside = word[j] < n_head;
        row[j] += (REAL)inside * head[word[j] & -inside]; /* no branch: it could not be guessed */
    }
}

/* The same for columns whose words ascend. */
SAFFU_INLINE void NAME(gather_ascending)(const REAL *restrict head, int32_t n_head, const int32_t *restrict word,
                                         int64_t from, int64_t to, REAL *restrict row) {
    int64_t low = from;
    while (low < to) {
        int64_t middle = low + (to - low) / 2;
        if (word[middle] < n_head)
            low = middle + 1;
        else
            to = middle;
    }
    for (int64_t j = from; j < low; j++) row[j] = head[word[j]];
}

/* What row k has for the words that came with other rows: zero, or a number of its dense beginning. */
SAFFU_INLINE void NAME(complete_row)(const Job *job, Row row, int64_t n_entered, const Panel *panel, REAL *of_k) {
    memset(of_k + n_entered, 0, (size_t)(panel->n_padded - n_entered) * sizeof *of_k);
    if (row.n_head == 0) return;
    int64_t from = panel->n_unordered;
    NAME(gather_head)(row.head, (int32_t)row.n_head, panel->word, 0, from, of_k);
    for (int64_t l = 0; l < job->pool->n_contexts; from = panel->n_entered[l++])
        NAME(gather_ascending)(row.head, (int32_t)row.n_head, panel->word, from, panel->n_entered[l], of_k);
}

/* A column for every word of a pair of the position, and for its target. */
SAFFU_INLINE void NAME(enter_rows)(const Job *job, const Scratch *s, Panel *panel) {
    int64_t n_contexts = job->pool->n_contexts, n_windows = job->pool->n_windows, stride = panel->stride;
    int64_t last = n_contexts + n_windows, n;
    REAL *of_rows = (REAL *)panel->x + N_DENSE * stride, zero = 0;
    n = NAME(enter_windows)(s->row + n_contexts, n_windows, panel, of_rows + n_contexts * stride);
    for (int64_t k = n_contexts; k < last; k++) panel->n_entered[k] = n;
    n = NAME(enter_followers)(s->row[last], n, panel, of_rows + last * stride);
    panel->n_entered[last] = n;
    n = NAME(enter)(&panel->target, &zero, 1, n, panel, panel->x); /* into a row that is overwritten */
    panel->target_column = panel->place[panel->target] - panel->first;
    panel->n_unordered = n;
    for (int64_t k = 0; k < n_contexts; k++) {
        Row row = s->row[k];
        REAL *of_k = of_rows + k * stride;
        memset(of_k, 0, is_empty(row) ? 0 : (size_t)n * sizeof *of_k);
        n = NAME(enter)(row.word, row.u, row.n_tail, n, panel, of_k);
        panel->n_entered[k] = n;
    }
    panel->n = n;
}

/* The features of all columns; pairs (n_blocks * BLOCK, 2) are the log-priors of each word. */
SAFFU_INLINE void NAME(fill_panel)(const Job *job, const REAL *restrict pairs, const Scratch *s, Panel *panel) {
    int64_t stride = panel->stride;
    REAL *x = panel->x, *restrict x0 = x + stride, *restrict x1 = x + 2 * stride;
    const int32_t *restrict word = panel->word;
    NAME(enter_rows)(job, s, panel);
    int64_t n_padded = panel->n_padded = (panel->n + COLUMNS - 1) / COLUMNS * COLUMNS;
    for (int64_t j = panel->n; j < n_padded; j++) panel->word[j] = panel->target; /* any word: its p will be zero */
    for (int64_t k = 0; k < job->pool->n_features; k++)
        if (!is_empty(s->row[k]))
            NAME(complete_row)(job, s->row[k], panel->n_entered[k], panel, x + (N_DENSE + k) * stride);
    for (int64_t j = 0; j < n_padded; j++) {
        x0[j] = pairs[2 * (int64_t)word[j]];
        x1[j] = pairs[2 * (int64_t)word[j] + 1];
    }
    for (int64_t j = 0; j < n_padded; j++) x[j] = 1;
}

/* ---- sums over the words of a tile ------------------------------------------------------------------------------- */

/* sums[number[i], number[j]] += sum_w p(w) x_i(w) x_j(w), j <= i, over n words; rows come in fours. */
SAFFU_INLINE void NAME(add_products)(const REAL *const *x, const int32_t *number, int64_t n_rows,
                                     const REAL *restrict p, int64_t n, double *sums, int64_t stride) {
    for (int64_t i = 0; i < n_rows; i += 4)
        for (int64_t j = 0; j <= i; j += 4) {
            NAME(Vector) sum[16], y[4], c[4], zero;
            memset(&zero, 0, sizeof zero);
            memset(sum, 0, sizeof sum);
            for (int64_t w = 0; w < n; w += NAME(WIDTH)) {
                for (int k = 0; k < 4; k++)
                    y[k] = NAME(multiply_add)(zero, NAME(load_vector)(p + w), NAME(load_vector)(x[i + k] + w));
                for (int l = 0; l < 4; l++) c[l] = NAME(load_vector)(x[j + l] + w);
                for (int k = 0; k < 4; k++)
                    for (int l = 0; l < 4; l++) sum[4 * k + l] = NAME(multiply_add)(sum[4 * k + l], y[k], c[l]);
            }
            REAL folded[16];
            for (int k = 0; k < 16; k += NAME(FOLD)) NAME(fold_vectors)(sum + k, folded + k);
            for (int64_t k = 0; k < saffu_min(4, n_rows - i); k++)
                for (int64_t l = 0; l < 4 && j + l <= i + k; l++)
                    sums[number[i + k] * stride + number[j + l]] += (double)folded[4 * k + l];
        }
}

/* sums[number[i], 0] += sum_w p(w) x_i(w): the first moments alone. */
SAFFU_INLINE void NAME(add_means)(const REAL *const *x, const int32_t *number, int64_t n_rows, const REAL *restrict p,
                                  int64_t n, double *sums, int64_t stride) {
    for (int64_t i = 0; i < n_rows; i += 4) {
        NAME(Vector) sum[NAME(FOLD)];
        memset(sum, 0, sizeof sum);
        for (int64_t w = 0; w < n; w += NAME(WIDTH))
            for (int k = 0; k < 4; k++)
                sum[k] = NAME(multiply_add)(sum[k], NAME(load_vector)(p + w), NAME(load_vector)(x[i + k] + w));
        REAL folded[NAME(FOLD)];
        NAME(fold_vectors)(sum, folded);
        for (int64_t k = 0; k < saffu_min(4, n_rows - i); k++) sums[number[i + k] * stride] += (double)folded[k];
    }
}

/* Moments of the first n_rows features of a tile of n words, a number of whole vectors. */
SAFFU_INLINE void NAME(add_tile)(const REAL *p, int64_t n_rows, int64_t n, int second, Panel *panel) {
    const REAL **x = (const REAL **)panel->tile;
    for (int64_t i = n_rows; i % 4; i++) x[i] = panel->zeros; /* whole fours */
    if (second)
        NAME(add_products)(x, panel->number, n_rows, p, n, panel->sums, panel->n_rows);
    else
        NAME(add_means)(x, panel->number, n_rows, p, n, panel->sums, panel->n_rows);
}

/* z(w) = sum_i theta_i x_i(w) over words [from, n) of a tile, n_at_once vectors together; returns where it ended. */
SAFFU_INLINE int64_t NAME(combine_some)(const Panel *panel, int64_t n_rows, int64_t from, int64_t n, int n_at_once,
                                        REAL *z) {
    const REAL *const *x = (const REAL *const *)panel->tile, *theta = panel->theta;
    for (; from + n_at_once * NAME(WIDTH) <= n; from += n_at_once * NAME(WIDTH)) {
        NAME(Vector) sum[N_VECTORS];
        memset(sum, 0, sizeof sum);
        for (int64_t i = 1; i < n_rows; i++)
            for (int v = 0; v < n_at_once; v++)
                sum[v] = NAME(multiply_add_one)(sum[v], theta[panel->number[i]],
                                                NAME(load_vector)(x[i] + from + v * NAME(WIDTH)));
        for (int v = 0; v < n_at_once; v++) memcpy(z + from + v * NAME(WIDTH), sum + v, sizeof *sum);
    }
    return from;
}

SAFFU_INLINE void NAME(combine)(const Panel *panel, int64_t n_rows, int64_t n, REAL *z) {
    NAME(combine_some)(panel, n_rows, NAME(combine_some)(panel, n_rows, 0, n, N_VECTORS, z), n, 1, z);
}

/* ---- all words of a position ------------------------------------------------------------------------------------- */

/* Rows of a tile: the dense ones, then those of features. */
SAFFU_INLINE void NAME(set_tile)(Panel *panel, int64_t i, int64_t number, const REAL *x) {
    panel->tile[i] = x;
    panel->number[i] = (int32_t)number;
}

/* The words below the longest dense beginning that have no column. */
SAFFU_INLINE void NAME(sum_dense)(const Job *job, const REAL *log_prior, int second, const Scratch *s, Panel *panel) {
    int64_t to;
    REAL p[TILE];
    for (int64_t from = 0; from < panel->longest; from = to) {
        int64_t n_rows = N_DENSE;
        to = saffu_min(from + TILE, panel->longest);
        NAME(set_tile)(panel, 0, 0, panel->ones);
        for (int64_t m = 0; m < 2; m++) NAME(set_tile)(panel, 1 + m, 1 + m, log_prior + m * job->n_blocks * BLOCK + from);
        for (int64_t k = 0; k < job->pool->n_contexts; k++) {
            if (s->row[k].n_head <= from) continue;
            to = saffu_min(to, s->row[k].n_head);
            NAME(set_tile)(panel, n_rows++, N_DENSE + k, (const REAL *)s->row[k].head + from);
        }
        const int32_t *restrict place = panel->place + from, first = panel->first;
        NAME(combine)(panel, n_rows, to - from, p);
        for (int64_t w = 0; w < to - from; w++) {
            REAL y = EXP2(p[w]);
            p[w] = place[w] < first ? y : 0;
        }
        NAME(add_tile)(p, n_rows, to - from, second, panel);
    }
}

/* The words that have a column, less what the prior alone gives those from `longest` on. */
SAFFU_INLINE void NAME(sum_columns)(int second, const Scratch *s, Panel *panel) {
    int64_t to, target = panel->target_column;
    REAL p[TILE], q[TILE];
    for (int64_t from = 0; from < panel->n_padded; from = to) {
        const REAL *x = (const REAL *)panel->x + from;
        int64_t n_rows = 0;
        to = saffu_min(from + TILE, panel->n_padded);
        for (int64_t r = 0; r < panel->n_rows; r++)
            if (r < N_DENSE || !is_empty(s->row[r - N_DENSE])) NAME(set_tile)(panel, n_rows++, r, x + r * panel->stride);
        const int32_t *restrict word = panel->word + from, longest = (int32_t)panel->longest;
        int64_t n = to - from;
        NAME(combine)(panel, N_DENSE, n, q);
        NAME(combine)(panel, n_rows, n, p);
        for (int64_t w = 0; w < n; w++) {
            REAL y = EXP2(q[w]);
            p[w] = EXP2(p[w]);
            q[w] = word[w] < longest ? 0 : -y;
        }
        if (target >= from && target < to) p[target - from] = 0; /* its own term is kept apart */
        for (int64_t w = saffu_max(panel->n - from, 0); w < n; w++) p[w] = q[w] = 0;
        NAME(add_tile)(p, n_rows, n, second, panel);
        NAME(add_tile)(q, N_DENSE, n, second, panel);
    }
}

/* Add to panel->sums the moments of all words but the target and those that the prior alone has something to give. */
SAFFU_INLINE void NAME(sum_position)(const Job *job, const double *theta, const void *log_prior, int second,
                                     const Scratch *s, Panel *panel) {
    REAL *in_bits = panel->theta;
    for (int64_t r = 1; r < panel->n_rows; r++) in_bits[r] = (REAL)(LOG2_E * theta[r - 1]);
    NAME(fill_panel)(job, (const REAL *)log_prior + 2 * job->n_blocks * BLOCK, s, panel);
    NAME(sum_dense)(job, log_prior, second, s, panel);
    NAME(sum_columns)(second, s, panel);
}
