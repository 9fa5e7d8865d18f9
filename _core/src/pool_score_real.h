/* Log-probabilities with rows of one type of real: included by pool.c with REAL, EXP2 and NAME(name) defined. */

/* z += scale x over the (word, value) pairs, flagging the touched blocks. */
SAFFU_INLINE void NAME(score_tail)(const int32_t *restrict word, const REAL *restrict u, int64_t n, REAL scale,
                                   REAL *restrict z, uint8_t *restrict flag) {
    for (int64_t i = 0; i < n; i++) {
        z[word[i]] += scale * u[i];
        flag[(uint32_t)word[i] / BLOCK] = 1;
    }
}

/* The same for the windows, which are not rows of that type: few words, and many. */
SAFFU_INLINE void NAME(score_windows)(const saffu_pool *pool, Windows *v, const double *lambda, REAL *restrict sum,
                                      REAL *restrict z, uint8_t *restrict flag) {
    int64_t n_windows = pool->n_windows;
    if (n_windows) {
        const double *restrict all = all_windows(v, lambda, n_windows).u;
        for (int64_t i = 0; i < v->n_words; i++) sum[i] = (REAL)(LOG2_E * all[i]);
        NAME(score_tail)(v->word, sum, v->n_words, 1, z, flag);
    }
    for (int64_t i = 0; i < v->n_follow; i++) {
        z[v->follow_word[i]] += (REAL)(LOG2_E * lambda[n_windows] * v->follow_u[i]);
        flag[(uint32_t)v->follow_word[i] / BLOCK] = 1;
    }
}

SAFFU_INLINE double NAME(sum_block)(const REAL lane[BLOCK]) {
    double sum[BLOCK];
    for (int l = 0; l < BLOCK; l++) sum[l] = (double)lane[l];
    return sum_lanes(sum);
}

/* sum 2^p; n is a number of whole blocks. */
SAFFU_INLINE double NAME(sum_exp2)(const REAL *restrict p, int64_t n) {
    REAL lane[BLOCK] = {0};
    for (int64_t w = 0; w < n; w += BLOCK) {
        SAFFU_LANES
        for (int l = 0; l < BLOCK; l++) lane[l] += EXP2(p[w + l]);
    }
    return NAME(sum_block)(lane);
}

/* sum 2^(z + base + sum of scale_k head_k) over n words from `first` on, clearing z; the heads are at most FUSED. */
SAFFU_INLINE double NAME(mass_of_heads)(const Head *head, const int n_heads, const REAL *restrict base,
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
            REAL x = base[w + l] + z[w + l] + scale[0] * a[w + l];
            if (n_heads > 1) x += scale[1] * b[w + l];
            if (n_heads > 2) x += scale[2] * c[w + l];
            if (n_heads > 3) x += scale[3] * d[w + l];
            if (n_heads > 4) x += scale[4] * e[w + l];
            if (n_heads > 5) x += scale[5] * f[w + l];
            lane[l] += EXP2(x);
            z[w + l] = 0;
        }
    }
    return NAME(sum_block)(lane);
}

/* The same for any number of heads: those that are too many are added to z before. */
SAFFU_INLINE double NAME(mass_of_tile)(const Head *head, int64_t n_heads, const REAL *restrict base, REAL *restrict z,
                                       int64_t first, int64_t n) {
    for (; n_heads > FUSED; n_heads--) {
        const REAL *restrict start = (const REAL *)head[n_heads - 1].start;
        REAL scale = (REAL)head[n_heads - 1].scale;
        for (int64_t w = first; w < first + n; w++) z[w] += scale * start[w];
    }
    switch (n_heads) {
    case 1: return NAME(mass_of_heads)(head, 1, base, z, first, n);
    case 2: return NAME(mass_of_heads)(head, 2, base, z, first, n);
    case 3: return NAME(mass_of_heads)(head, 3, base, z, first, n);
    case 4: return NAME(mass_of_heads)(head, 4, base, z, first, n);
    case 5: return NAME(mass_of_heads)(head, 5, base, z, first, n);
    default: return NAME(mass_of_heads)(head, FUSED, base, z, first, n);
    }
}

/* sum 2^(z + base + heads) over the words of the longest head, clearing z; heads are longest first. */
SAFFU_INLINE double NAME(head_mass)(const Head *head, int64_t n_heads, const REAL *restrict base, REAL *restrict z) {
    double sum = 0.0;
    int64_t longest = n_heads ? head[0].length : 0;
    for (int64_t first = 0, n; first < longest; first += n) {
        while (head[n_heads - 1].length <= first) n_heads--;
        n = saffu_min(HEAD_TILE, head[n_heads - 1].length - first);
        sum += NAME(mass_of_tile)(head, n_heads, base, z, first, n);
    }
    return sum;
}

/* sum 2^(z + base) over some blocks, clearing z. */
SAFFU_INLINE double NAME(tail_mass)(const int32_t *restrict block, int64_t n, const REAL *restrict base,
                                    REAL *restrict z) {
    double sum = 0.0;
    for (int64_t from = 0; from < n; from += HEAD_TILE / BLOCK) {
        REAL p[HEAD_TILE];
        int64_t to = saffu_min(n, from + HEAD_TILE / BLOCK);
        for (int64_t j = from; j < to; j++) {
            REAL *restrict zb = z + (int64_t)block[j] * BLOCK, *restrict pb = p + (j - from) * BLOCK;
            const REAL *restrict gb = base + (int64_t)block[j] * BLOCK;
            SAFFU_LANES
            for (int l = 0; l < BLOCK; l++) pb[l] = zb[l] + gb[l];
            memset(zb, 0, BLOCK * sizeof *zb);
        }
        sum += NAME(sum_exp2)(p, (to - from) * BLOCK);
    }
    return sum;
}

/* May sum be used, which replaced parts of before? As is_safe, for exponentials of this type. */
SAFFU_INLINE int NAME(is_accurate)(double sum, double before) {
    if (sizeof(REAL) == sizeof(double)) return is_safe(sum, before);
    return sum > 0x1p-100 && sum < 0x1p100 && sum > 0x1p-3 * before;
}

/* log p(y) at position i. */
SAFFU_INLINE double NAME(score)(const Job *job, int64_t i, Scratch *s) {
    const saffu_pool *pool = job->pool;
    const saffu_batch *batch = job->batch;
    int64_t state = batch->states[i], n_contexts = pool->n_contexts, n_blocks = job->n_blocks;
    const double *lambda = theta_of(pool, state) + 2, *g = prior_of(pool, state).g;
    const double *beyond = pool->prior_beyond + state * (n_blocks + 1);
    const REAL *base = (const REAL *)pool->row_prior + state * n_blocks * BLOCK;
    int32_t target = batch->ids[batch->positions[i]];
    REAL *restrict z = s->row_z;
    int64_t n_heads = 0;
    double own = 0.0;
    move_windows(job, i, s);
    for (int64_t k = 0; k < n_contexts; k++) {
        int64_t c = batch->rows[i * n_contexts + k];
        if (c < 0) continue;
        int64_t tail = pool->tail_ptr[c], n_head = pool->head_ptr[c + 1] - pool->head_ptr[c];
        const REAL *head = (const REAL *)pool->head + pool->head_ptr[c];
        REAL scale = (REAL)(LOG2_E * lambda[k]);
        NAME(score_tail)(pool->tail_word + tail, (const REAL *)pool->tail_u + tail, pool->tail_ptr[c + 1] - tail, scale, z, s->flag);
        if (n_head == 0) continue;
        if (target < n_head) own += LOG2_E * lambda[k] * head[target];
        n_heads = insert_head((Head){head, n_head, LOG2_E * lambda[k]}, s->head, n_heads);
    }
    NAME(score_windows)(pool, &s->windows, lambda + n_contexts, s->row_sum, z, s->flag);
    own += g[target] + z[target];
    int64_t first = n_heads ? s->head[0].length / BLOCK : 0;
    double sum = beyond[first] + NAME(head_mass)(s->head, n_heads, base, z), before = beyond[0];
    int64_t n = collect(s->flag, first, n_blocks, s->block);
    for (int64_t j = 0; j < n; j++) sum -= beyond[s->block[j]] - beyond[s->block[j] + 1];
    sum += NAME(tail_mass)(s->block, n, base, z);
    if (!NAME(is_accurate)(sum, before)) return score_anew(job, i, target, s);
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
