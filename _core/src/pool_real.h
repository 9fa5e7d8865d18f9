/* Rows of logits for one type of real: included by pool.c with REAL and NAME(name) defined. */

/* row = z + g - log Z in nats, clearing z; returns Z. Most blocks are touched as a rule, so all are walked, a tile at a
 * time: bits beside their exponentials first, then the change of base and log Z. */
SAFFU_INLINE double NAME(write_logits)(Prior prior, int64_t n_words, double *restrict z, REAL *restrict row) {
    Doubles low = doubles_zero(), high = doubles_zero();
    for (int64_t first = 0; first < n_words; first += TILE) {
        const double *restrict g = prior.g + first;
        double p[TILE], *restrict zt = z + first;
        int64_t n = saffu_min(TILE, n_words - first), n_padded = (n + BLOCK - 1) / BLOCK * BLOCK;
        for (int64_t w = 0; w < n_padded; w++) p[w] = zt[w] + g[w];
        for (int64_t w = 0; w < n; w++) row[first + w] = (REAL)p[w];
        for (int64_t w = 0; w < n_padded; w++) p[w] = vexp2_bounded(p[w]);
        for (int64_t w = 0; w < n_padded; w += BLOCK) {
            low = doubles_add(low, doubles_load(p + w));
            high = doubles_add(high, doubles_load(p + w + N_DOUBLES));
        }
        memset(zt, 0, (size_t)n_padded * sizeof *zt);
    }
    double sum = doubles_sum(doubles_add(low, high));
    REAL shift = (REAL)vlog(sum);
    for (int64_t w = 0; w < n_words; w++) row[w] = (REAL)LN_2 * row[w] - shift;
    return sum;
}

SAFFU_RARE static void NAME(write_logits_anew)(const Job *job, int64_t i, Scratch *s, REAL *row) {
    double log_sum = normalise_anew(job, i, s);
    for (int64_t w = 0; w < job->pool->vocab_size; w++) row[w] = (REAL)(LN_2 * s->z[w] - log_sum);
    clear_words(job, s);
}

SAFFU_SIMD static void NAME(logits_chunk)(const Job *job, int64_t from, int64_t to, Scratch *s, void *out) {
    int64_t n_words = job->pool->vocab_size;
    for (int64_t i = from; i < to; i++) {
        add_rows(job, i, s);
        REAL *row = (REAL *)out + i * n_words;
        double sum = NAME(write_logits)(prior_of(job->pool, job->batch->states[i]), n_words, s->z, row);
        if (!is_safe(sum, 0.0)) NAME(write_logits_anew)(job, i, s, row);
    }
}
