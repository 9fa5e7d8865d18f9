/* Dot products and sums of rows for one type of real: included by attend.c with REAL, EXP and NAME(name) defined. */

/* The last vector of u (d) without the lanes that whole vectors cover before it. */
SAFFU_INLINE NAME(Vector) NAME(tail)(const REAL *u, int64_t d) {
    REAL lane[NAME(WIDTH)];
    int64_t covered = NAME(WIDTH) - d % NAME(WIDTH);
    for (int64_t l = 0; l < NAME(WIDTH); l++) lane[l] = l < covered ? 0 : u[d - NAME(WIDTH) + l];
    return NAME(load_vector)(lane);
}

/* part[i] = u . x[i] with a sum for each lane, i < n <= AT_ONCE. */
SAFFU_INLINE void NAME(part_dots)(const REAL *u, NAME(Vector) tail, const REAL *const *x, int64_t d, int n,
                                  NAME(Vector) *part) {
    NAME(Vector) sum[AT_ONCE];
    int64_t j = 0;
    memset(sum, 0, sizeof sum);
    for (; j + NAME(WIDTH) <= d; j += NAME(WIDTH)) {
        NAME(Vector) u_j = NAME(load_vector)(u + j);
        for (int i = 0; i < n; i++) sum[i] = NAME(multiply_add)(sum[i], u_j, NAME(load_vector)(x[i] + j));
    }
    if (j < d)
        for (int i = 0; i < n; i++)
            sum[i] = NAME(multiply_add)(sum[i], tail, NAME(load_vector)(x[i] + d - NAME(WIDTH)));
    for (int i = 0; i < n; i++) part[i] = sum[i];
}

/* out[k] = u . x[k], k < n, and 0 up to a whole number of lanes; d >= WIDTH. */
SAFFU_INLINE void NAME(dots)(const REAL *u, const REAL *const *x, int64_t n, int64_t d, REAL *out) {
    NAME(Vector) part[NAME(FOLD)], tail = NAME(load_vector)(u);
    int64_t k = 0;
    if (d % NAME(WIDTH)) tail = NAME(tail)(u, d);
    for (; k < n; k += NAME(FOLD)) {
        int64_t left = saffu_min(NAME(FOLD), n - k), i = 0;
        if (left < NAME(FOLD)) memset(part, 0, sizeof part);
        for (; i + AT_ONCE <= left; i += AT_ONCE) NAME(part_dots)(u, tail, x + k + i, d, AT_ONCE, part + i);
        for (; i < left; i++) NAME(part_dots)(u, tail, x + k + i, d, 1, part + i);
        NAME(fold_vectors)(part, out + k);
    }
    for (; k < whole_lanes(n); k++) out[k] = 0;
}

/* The column of vector v of a tile that begins in column first; the last of all is moved back to end with the row. */
SAFFU_INLINE int64_t NAME(column_of)(int v, int n_vectors, int64_t first, int64_t last) {
    return v == n_vectors - 1 ? last : first + v * NAME(WIDTH);
}

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
                even[v] = NAME(multiply_add_one)(even[v], a[k],
                                                 NAME(load_vector)(x + NAME(column_of)(v, n_vectors, first, last)));
            for (int v = 0; v < n_vectors; v++)
                odd[v] = NAME(multiply_add_one)(odd[v], a[k + 1],
                                                NAME(load_vector)(y + NAME(column_of)(v, n_vectors, first, last)));
        }
        for (int v = 0; v < n_vectors; v++) even[v] = NAME(multiply_add_one)(even[v], 1, odd[v]);
    }
    for (; k < n; k++)
        for (int v = 0; v < n_vectors; v++)
            even[v] = NAME(multiply_add_one)(even[v], a[k],
                                             NAME(load_vector)(rows[k] + NAME(column_of)(v, n_vectors, first, last)));
    for (int v = 0; v < n_vectors; v++)
        memcpy(out + NAME(column_of)(v, n_vectors, first, last), even + v, sizeof *even);
}

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
