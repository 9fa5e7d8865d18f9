/* Rows of one type of real: included by pool_derivatives.c with REAL and NAME(name) defined. */

/* sum_w x(w) y(w) */
SAFFU_INLINE double NAME(dot_row)(Row x, const double *restrict y) {
    const REAL *restrict head = x.head, *restrict u = x.u;
    const int32_t *restrict word = x.word;
    Doubles low = doubles_zero(), high = doubles_zero();
    double even = 0.0, odd = 0.0;
    int64_t i = 0;
    for (int64_t w = 0; w < x.n_head; w += BLOCK) {
        low = doubles_add(low, doubles_multiply(NAME(widened)(head + w), doubles_load(y + w)));
        high = doubles_add(
            high, doubles_multiply(NAME(widened)(head + w + N_DOUBLES), doubles_load(y + w + N_DOUBLES)));
    }
    for (; i + 1 < x.n_tail; i += 2) {
        even += u[i] * y[word[i]];
        odd += u[i + 1] * y[word[i + 1]];
    }
    if (i < x.n_tail) even += u[i] * y[word[i]];
    return doubles_sum(doubles_add(low, high)) + (even + odd);
}

/* y = x p; undone by clear_row */
SAFFU_INLINE void NAME(multiply_row)(Row x, const double *restrict p, double *restrict y) {
    const REAL *restrict head = x.head, *restrict u = x.u;
    for (int64_t w = 0; w < x.n_head; w++) y[w] = head[w] * p[w];
    for (int64_t i = 0; i < x.n_tail; i++) y[x.word[i]] = u[i] * p[x.word[i]];
}

SAFFU_INLINE double NAME(word_of_row)(Row x, int32_t target) {
    const REAL *restrict head = x.head, *restrict u = x.u;
    if (target < x.n_head) return head[target];
    double found = 0.0;
    for (int64_t i = 0; i < x.n_tail; i++) found = x.word[i] == target ? u[i] : found;
    return found;
}

/* sum_w x(w) p(w) {1, x_0(w), x_1(w)} */
SAFFU_INLINE void NAME(dot_dense)(Row x, const double *p, const double *x0, const double *x1, double *sum) {
    const REAL *restrict head = x.head, *restrict u = x.u;
    Doubles lane[3] = {doubles_zero(), doubles_zero(), doubles_zero()};
    double tail[3] = {0.0, 0.0, 0.0};
    for (int64_t w = 0; w < x.n_head; w += N_DOUBLES) {
        Doubles y = doubles_multiply(NAME(widened)(head + w), doubles_load(p + w));
        lane[0] = doubles_add(lane[0], y);
        lane[1] = doubles_add(lane[1], doubles_multiply(y, doubles_load(x0 + w)));
        lane[2] = doubles_add(lane[2], doubles_multiply(y, doubles_load(x1 + w)));
    }
    for (int64_t i = 0; i < x.n_tail; i++) {
        double y = u[i] * p[x.word[i]];
        tail[0] += y;
        tail[1] += y * x0[x.word[i]];
        tail[2] += y * x1[x.word[i]];
    }
    for (int m = 0; m < 3; m++) sum[m] = doubles_sum(lane[m]) + tail[m];
}
