/* Adding up rows of one type of real: included by pool.h with REAL and NAME(name) defined. */

/* Eight numbers as doubles. */
SAFFU_INLINE Doubles NAME(widened)(const REAL *x) {
    double wide[N_DOUBLES];
    for (int i = 0; i < N_DOUBLES; i++) wide[i] = x[i];
    return doubles_load(wide);
}

/* z += lambda head over the dense beginnings, two rows a pass; in bits. */
SAFFU_INLINE void NAME(add_heads)(const Row *row, const double *lambda, int64_t n_rows, double *restrict z,
                            uint8_t *restrict flag) {
    int64_t longest = 0;
    for (int64_t k = 0; k < n_rows; k++) longest = saffu_max(longest, row[k].n_head);
    for (int64_t k = 0; k < n_rows; k++) {
        const REAL *restrict head = row[k].head;
        double scale = LOG2_E * lambda[k];
        if (k + 1 < n_rows && row[k].n_head && row[k + 1].n_head) {
            int64_t shared = saffu_min(row[k].n_head, row[k + 1].n_head);
            const REAL *restrict next = row[k + 1].head;
            double next_scale = LOG2_E * lambda[k + 1];
            for (int64_t w = 0; w < shared; w++) z[w] += scale * head[w] + next_scale * next[w];
            for (int64_t w = shared; w < row[k].n_head; w++) z[w] += scale * head[w];
            for (int64_t w = shared; w < row[k + 1].n_head; w++) z[w] += next_scale * next[w];
            k++;
        } else {
            for (int64_t w = 0; w < row[k].n_head; w++) z[w] += scale * head[w];
        }
    }
    memset(flag, 1, (size_t)(longest / BLOCK));
}

/* z += lambda x over the (word, value) pairs, in bits, flagging the touched blocks */
SAFFU_INLINE void NAME(add_tail)(Row x, double lambda, double *restrict z, uint8_t *restrict flag) {
    double scale = LOG2_E * lambda;
    const REAL *restrict u = x.u;
    const int32_t *restrict word = x.word;
    for (int64_t i = 0; i < x.n_tail; i++) {
        z[word[i]] += scale * u[i];
        flag[(uint32_t)word[i] / BLOCK] = 1;
    }
}
