/* Log-probabilities with rows of one type of real: included by pool.c with REAL, EXP2 and NAME(name) defined. */

/* z += scale x over the (word, value) pairs. */
SAFFU_INLINE void NAME(add_pairs)(const int32_t *restrict word, const REAL *restrict u, int64_t n, REAL scale,
                                  REAL *restrict z) {
    for (int64_t i = 0; i < n; i++) z[word[i]] += scale * u[i];
}

/* The same for the document windows, whose words they share, and the induction window: they are not of that type. */
SAFFU_INLINE void NAME(add_windows)(int64_t n_windows, const double *lambda, Windows *v, REAL *restrict sum,
                                    REAL *restrict z) {
    if (n_windows) {
        const double *restrict all = all_windows(v, lambda, n_windows).u;
        for (int64_t i = 0; i < v->n_words; i++) sum[i] = (REAL)(LOG2_E * all[i]);
        NAME(add_pairs)(v->word, sum, v->n_words, 1, z);
    }
    for (int64_t i = 0; i < v->n_follow; i++)
        z[v->follow_word[i]] += (REAL)(LOG2_E * lambda[n_windows] * v->follow_u[i]);
}

SAFFU_INLINE double NAME(sum_block)(const REAL lane[BLOCK]) {
    double sum[BLOCK];
    for (int l = 0; l < BLOCK; l++) sum[l] = (double)lane[l];
    return sum_lanes(sum);
}

/* sum mass 2^(z + sum of scale_k head_k) over n words from `first` on, clearing z; the heads are at most FUSED. */
SAFFU_INLINE double NAME(mass_of_heads)(const Head *head, const int n_heads, const REAL *restrict mass,
                                        REAL *restrict z, int64_t first, int64_t n) {
    const REAL *start[FUSED];
    REAL scale[FUSED], lane[BLOCK] = {0};
    for (int k = 0; k < FUSED; k++) {
        const Head *h = head + (k < n_heads ? k : 0);
        start[k] = (const REAL *)h->start;
        scale[k] = (REAL)h->scale;
    }
    const REAL *restrict a = start[0], *restrict b = start[1], *restrict c = start[2], *restrict d = start[3];
    const REAL *restrict e = start[4], *restrict f = start[5];
    for (int64_t w = first; w < first + n; w += BLOCK) {
        SAFFU_LANES
        for (int l = 0; l < BLOCK; l++) {
            REAL x = z[w + l] + scale[0] * a[w + l];
            if (n_heads > 1) x += scale[1] * b[w + l];
            if (n_heads > 2) x += scale[2] * c[w + l];
            if (n_heads > 3) x += scale[3] * d[w + l];
            if (n_heads > 4) x += scale[4] * e[w + l];
            if (n_heads > 5) x += scale[5] * f[w + l];
            lane[l] += mass[w + l] * EXP2(x);
            z[w + l] = 0;
        }
    }
    return NAME(sum_block)(lane);
}

/* The same for any number of heads: those that are too many are added to z before. */
SAFFU_INLINE double NAME(mass_of_tile)(const Head *head, int64_t n_heads, const REAL *restrict mass, REAL *restrict z,
                                       int64_t first, int64_t n) {
    for (; n_heads > FUSED; n_heads--) {
        const REAL *restrict start = (const REAL *)head[n_heads - 1].start;
        REAL scale = (REAL)head[n_heads - 1].scale;
        for (int64_t w = first; w < first + n; w++) z[w] += scale * start[w];
    }
    switch (n_heads) {
    case 1: return NAME(mass_of_heads)(head, 1, mass, z, first, n);
    case 2: return NAME(mass_of_heads)(head, 2, mass, z, first, n);
    case 3: return NAME(mass_of_heads)(head, 3, mass, z, first, n);
    case 4: return NAME(mass_of_heads)(head, 4, mass, z, first, n);
    case 5: return NAME(mass_of_heads)(head, 5, mass, z, first, n);
    default: return NAME(mass_of_heads)(head, FUSED, mass, z, first, n);
    }
}

/* sum mass 2^(z + heads) over the words of the longest head, clearing z; heads are longest first. */
SAFFU_INLINE double NAME(head_mass)(const Head *head, int64_t n_heads, const REAL *restrict mass, REAL *restrict z) {
    double sum = 0.0;
    int64_t longest = n_heads ? head[0].length : 0;
    for (int64_t first = 0, n; first < longest; first += n) {
        while (head[n_heads - 1].length <= first) n_heads--;
        n = saffu_min(HEAD_TILE, head[n_heads - 1].length - first);
        sum += NAME(mass_of_tile)(head, n_heads, mass, z, first, n);
    }
    return sum;
}

/* sum mass (2^z - 1) over some words, clearing z: a word that comes again counts no more, as 2^0 - 1 is 0. */
SAFFU_INLINE double NAME(mass_of_words)(const int32_t *restrict word, int64_t n, const REAL *restrict mass,
                                        REAL *restrict z) {
    double sum = 0.0;
    for (int64_t from = 0; from < n; from += GATHERED) {
        REAL x[GATHERED], m[GATHERED], lane[BLOCK] = {0};
        int64_t n_here = saffu_min(GATHERED, n - from), n_padded = (n_here + BLOCK - 1) / BLOCK * BLOCK;
        for (int64_t i = 0; i < n_here; i++) {
            int32_t w = word[from + i];
            x[i] = z[w];
            m[i] = mass[w];
            z[w] = 0;
        }
        for (int64_t i = n_here; i < n_padded; i++) x[i] = m[i] = 0;
        for (int64_t i = 0; i < n_padded; i += BLOCK) {
            SAFFU_LANES
            for (int l = 0; l < BLOCK; l++) lane[l] += m[i + l] * (EXP2(x[i + l]) - 1);
        }
        sum += NAME(sum_block)(lane);
    }
    return sum;
}

/* May sum be used, which replaced parts of before? As is_safe, for exponentials of this type. */
SAFFU_INLINE int NAME(is_accurate)(double sum, double before) {
    if (sizeof(REAL) == sizeof(double)) return is_safe(sum, before);
    return sum > 0x1p-60 && sum < 0x1p60 && sum > 0x1p-3 * before;
}

/* Add the rows of position i to z, but for their dense beginnings, which are listed, longest first, as are the words of
 * the rest; returns what the beginnings add to the target's logit, bits. */
SAFFU_INLINE double NAME(add_tails)(const Job *job, int64_t i, int32_t target, Scratch *s, int64_t *n_heads) {
    const saffu_pool *pool = job->pool;
    const double *lambda = theta_of(pool, job->batch->states[i]) + 2;
    int64_t n_contexts = pool->n_contexts;
    double own = 0.0;
    *n_heads = 0;
    for (int64_t k = 0; k < n_contexts; k++) {
        int64_t c = job->batch->rows[i * n_contexts + k];
        s->list[k] = (List){NULL, 0};
        if (c < 0) continue;
        int64_t first = pool->head_ptr[c], tail = pool->tail_ptr[c], n_head = pool->head_ptr[c + 1] - first;
        const REAL *head = (const REAL *)pool->head + first, *u = (const REAL *)pool->tail_u + tail;
        double scale = LOG2_E * lambda[k];
        s->list[k] = (List){pool->tail_word + tail, pool->tail_ptr[c + 1] - tail};
        NAME(add_pairs)(s->list[k].word, u, s->list[k].n, (REAL)scale, s->row_z);
        if (target < n_head) own += scale * (double)head[target];
        if (n_head) *n_heads = insert_head((Head){head, n_head, scale}, s->head, *n_heads);
    }
    NAME(add_windows)(pool->n_windows, lambda + n_contexts, &s->windows, s->row_sum, s->row_z);
    s->list[n_contexts] = (List){s->windows.word, pool->n_windows ? s->windows.n_words : 0};
    s->list[n_contexts + 1] = (List){s->windows.follow_word, s->windows.n_follow};
    return own;
}

/* log p(y) at position i. Z is the mass of the prior beyond the longest dense beginning, and what the words before that
 * and those of pairs have instead. */
SAFFU_INLINE double NAME(score)(const Job *job, int64_t i, Scratch *s) {
    const saffu_pool *pool = job->pool;
    int64_t state = job->batch->states[i], n_words = job->n_blocks * BLOCK, n_heads;
    const double *beyond = pool->prior_beyond + state * (job->n_blocks + 1);
    const REAL *mass = (const REAL *)pool->prior_mass + state * n_words;
    int32_t target = job->batch->ids[job->batch->positions[i]];
    REAL *z = s->row_z;
    move_windows(job, i, s);
    double own = NAME(add_tails)(job, i, target, s, &n_heads);
    own += prior_of(pool, state).g[target] + (double)z[target];
    int64_t longest = n_heads ? s->head[0].length : 0;
    double sum = beyond[longest / BLOCK] + NAME(head_mass)(s->head, n_heads, mass, z);
    for (int64_t k = 0; k < pool->n_contexts + 2; k++) {
        int64_t first = k < pool->n_contexts ? first_from(s->list[k], longest) : 0; /* those of windows do not ascend */
        sum += NAME(mass_of_words)(s->list[k].word + first, s->list[k].n - first, mass, z);
    }
    if (!NAME(is_accurate)(sum, beyond[0])) return score_anew(job, i, target, s);
    double log_prob = LN_2 * own - vlog(sum);
    return log_prob > 0.0 ? 0.0 : log_prob;
}

SAFFU_SIMD static void NAME(score_chunk)(const Job *job, int64_t from, int64_t to, Scratch *s, void *out) {
    for (int64_t i = from; i < to; i++) {
        if (i + 2 < to) fetch_offsets(job, i + 2);
        if (i + 1 < to) fetch_rows(job, i + 1);
        ((double *)out)[i] = NAME(score)(job, i, s);
    }
}
