/* Attention for one type of real: included by attend.c with REAL and NAME(name) defined. */

SAFFU_SIMD static int NAME(compare_all)(const REAL *X, int64_t n, int64_t d, int64_t from, int64_t to, REAL *C,
                                        int n_threads) {
    int team = saffu_team(n_threads, (to - from) * (n - from) * d / 8);
    const saffu_view view = {.n_positions = NAME(FOLD)};
    NAME(Shared) work = {.view = &view, .X = X, .n_types = n, .d = d};
    int status = NAME(new_shared)(&work, NULL, 0, NULL, 0, team);
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
    NAME(free_shared)(&work);
    return SAFFU_OK;
}

SAFFU_SIMD static int NAME(compare_windows)(const saffu_view *view, const REAL *X, const REAL *cache, int64_t n_types,
                                            int64_t d, int64_t n_cached, REAL *S, int n_threads) {
    int64_t n = view->n, n_positions = view->n_positions;
    int team = saffu_team(n_threads, n * n_positions * d / 8), bad = 0;
    NAME(Shared) work = {.view = view, .X = X, .cache = cache, .n_types = n_types, .d = d, .n_cached = n_cached};
    int status = NAME(new_shared)(&work, NULL, 0, NULL, 0, team);
    if (status != SAFFU_OK) return status;
    SAFFU_PARALLEL_FOR(team, schedule(dynamic, 1) reduction(| : bad))
    for (int64_t from = 0; from < n; from += ROWS_OF_BLOCK) {
        int64_t to = saffu_min(n, from + ROWS_OF_BLOCK);
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
    NAME(free_shared)(&work);
    return bad ? SAFFU_OUT_OF_RANGE : SAFFU_OK;
}

SAFFU_SIMD static int NAME(attend_windows)(const saffu_view *view, const REAL *X, const REAL *cache, const REAL *W,
                                           const REAL *bias, int64_t n_types, int64_t d, int64_t n_cached, int given,
                                           REAL *S, REAL *A, REAL *Z, int n_threads) {
    int64_t n = view->n, n_positions = view->n_positions;
    int team = saffu_team(n_threads, n * n_positions * d / 4), bad = 0;
    NAME(Shared) work = {.view = view, .X = X, .cache = cache, .n_types = n_types, .d = d, .n_cached = n_cached};
    int status = NAME(new_shared)(&work, W, 0, bias, 0, team);
    if (status != SAFFU_OK) return status;
    SAFFU_PARALLEL_FOR(team, schedule(dynamic, 1) reduction(| : bad))
    for (int64_t from = 0; from < n; from += ROWS_OF_BLOCK) {
        NAME(Group) g = NAME(own_group)(&work, saffu_thread());
        for (int64_t m = from; m < saffu_min(n, from + ROWS_OF_BLOCK); m += LANES) {
            int64_t group = saffu_min(LANES, n - m);
            bad |= NAME(find_group)(&work, &g, m, group, 1);
            if (!given) NAME(compare_group)(&work, &g, m, group, S);
            NAME(attend_group)(&work, &g, m, group, S, A, Z);
        }
    }
    NAME(free_shared)(&work);
    return bad ? SAFFU_OUT_OF_RANGE : SAFFU_OK;
}
