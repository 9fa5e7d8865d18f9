/* Moments: F = H^T Y, the generalised co-occurrence of features and classes.
 *
 * Decisions. F is class-major (N, D), so that a class is one contiguous row of sums. Every cell has one owner, who adds
 * its terms to what F already holds, in ascending order of the examples. So the bits depend neither on the number of
 * threads nor on how a stream of examples was cut into calls. For labels the examples are sorted by class (a counting
 * sort of their numbers), so that the sums of a class stay in the first-level cache while H is read once, at memory
 * speed, whatever N is. Sums are double; float inputs are widened in registers, which is why one body serves both sizes
 * of real: `size` is a constant wherever these helpers are inlined.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "parallel.h"
#include "saffu.h"

SAFFU_INLINE double real_at(const void *x, int size, int64_t i) {
    return size == 4 ? (double)((const float *)x)[i] : ((const double *)x)[i];
}

SAFFU_INLINE int64_t index_at(const void *x, int size, int64_t i) {
    return size == 4 ? ((const int32_t *)x)[i] : ((const int64_t *)x)[i];
}

SAFFU_INLINE const void *real_from(const void *x, int size, int64_t i) { return (const char *)x + i * size; }

/* ---- examples by class ------------------------------------------------------------------------------------------- */

/* labels (n) -> start (n_classes + 1), order (n): the examples of class c are order[start[c] .. start[c + 1]). */
static int sort_by_class(const int32_t *labels, int64_t n, int64_t n_classes, int64_t *start, int64_t *order) {
    memset(start, 0, (size_t)(n_classes + 1) * sizeof *start);
    for (int64_t m = 0; m < n; m++) {
        if (labels[m] < 0 || labels[m] >= n_classes) return SAFFU_OUT_OF_RANGE;
        start[labels[m] + 1]++;
    }
    for (int64_t c = 0; c < n_classes; c++) start[c + 1] += start[c];
    for (int64_t m = 0; m < n; m++) order[start[labels[m]]++] = m;
    for (int64_t c = n_classes; c > 0; c--) start[c] = start[c - 1]; /* a cursor stopped where the next class begins */
    start[0] = 0;
    return SAFFU_OK;
}

/* Allocate and fill both; NULL in *start when memory or a label was refused. */
static int new_order(const int32_t *labels, int64_t n, int64_t n_classes, int64_t **start, int64_t **order) {
    *start = malloc((size_t)(n_classes + 1) * sizeof **start);
    *order = malloc((size_t)(n + 1) * sizeof **order);
    int status = *start && *order ? sort_by_class(labels, n, n_classes, *start, *order) : SAFFU_NO_MEMORY;
    if (status != SAFFU_OK) {
        free(*start);
        free(*order);
    }
    return status;
}

/* mass[c] += the weights of the examples of class c. */
SAFFU_INLINE void add_mass(const int64_t *order, int64_t from, int64_t to, const double *weights, double *mass) {
    double total = *mass;
    for (int64_t i = from; i < to; i++) total += weights ? weights[order[i]] : 1.0;
    *mass = total;
}

/* ---- dense features, labels -------------------------------------------------------------------------------------- */

enum { LINE = 64, AHEAD = 4 };

/* sums[j] += sum over four examples of weight h_j, one after the other; prefetches four later examples. */
SAFFU_INLINE void add_four(const void *const h[4], const double w[4], const void *const later[4], int size,
                           int weighted, int64_t n_columns, double *restrict sums) {
    const int64_t wide = LINE / size;
    int64_t j = 0;
    for (; j + wide <= n_columns; j += wide) {
        for (int k = 0; k < 4; k++) SAFFU_PREFETCH(real_from(later[k], size, j));
        for (int64_t l = j; l < j + wide; l++) {
            double sum = sums[l];
            for (int k = 0; k < 4; k++) sum += weighted ? w[k] * real_at(h[k], size, l) : real_at(h[k], size, l);
            sums[l] = sum;
        }
    }
    for (; j < n_columns; j++) {
        double sum = sums[j];
        for (int k = 0; k < 4; k++) sum += weighted ? w[k] * real_at(h[k], size, j) : real_at(h[k], size, j);
        sums[j] = sum;
    }
}

/* sums (n_columns) += sum over i in [from, to) of weight h; H points at the first of the columns, n examples in all. */
SAFFU_INLINE void add_examples(const void *H, int size, const int64_t *order, int64_t from, int64_t to, int64_t n,
                               int64_t stride, int64_t n_columns, const double *weights, int weighted,
                               double *restrict sums) {
    int64_t i = from;
    for (; i + 4 <= to; i += 4) {
        const void *h[4], *later[4];
        double w[4];
        for (int k = 0; k < 4; k++) {
            h[k] = real_from(H, size, order[i + k] * stride);
            later[k] = real_from(H, size, order[saffu_min(i + k + AHEAD, n - 1)] * stride);
            w[k] = weighted ? weights[order[i + k]] : 1.0;
        }
        add_four(h, w, later, size, weighted, n_columns, sums);
    }
    for (; i < to; i++) {
        const void *h = real_from(H, size, order[i] * stride);
        double w = weighted ? weights[order[i]] : 1.0;
        for (int64_t j = 0; j < n_columns; j++)
            sums[j] += weighted ? w * real_at(h, size, j) : real_at(h, size, j);
    }
}

/* Columns a task: whole rows, unless there are too few classes, or too unequal ones, to keep the team busy. */
static int64_t columns_per_task(const int64_t *start, int64_t n_classes, int64_t n_features, int team) {
    int64_t largest = 0, widest = 2048;
    for (int64_t c = 0; c < n_classes; c++) largest = saffu_max(largest, start[c + 1] - start[c]);
    if (team > 1 && largest * 4 * team > start[n_classes]) widest = saffu_max(64, n_features / (4 * team) / 64 * 64);
    return saffu_min(widest, saffu_max(n_features, 1));
}

SAFFU_SIMD int saffu_moments_labels(const void *H, int h_size, const int32_t *labels, const double *weights, int64_t n,
                                    int64_t n_features, int64_t n_classes, int add, double *F, double *mass,
                                    int n_threads) {
    int64_t *start, *order;
    int status = new_order(labels, n, n_classes, &start, &order);
    if (status != SAFFU_OK) return status;
    int team = saffu_team(n_threads, n * n_features);
    int64_t width = columns_per_task(start, n_classes, n_features, team);
    int64_t n_blocks = saffu_max(1, (n_features + width - 1) / width);
    SAFFU_OMP(parallel for num_threads(team) schedule(dynamic, 1))
    for (int64_t task = 0; task < n_classes * n_blocks; task++) {
        int64_t c = task / n_blocks, first = task % n_blocks * width;
        int64_t n_columns = saffu_min(width, n_features - first);
        double *sums = F + c * n_features + first;
        const void *columns = real_from(H, h_size, first);
        if (!add) memset(sums, 0, (size_t)n_columns * sizeof *sums);
        if (first == 0) {
            if (!add) mass[c] = 0.0;
            add_mass(order, start[c], start[c + 1], weights, mass + c);
        }
        if (h_size == 4 && !weights)
            add_examples(columns, 4, order, start[c], start[c + 1], n, n_features, n_columns, weights, 0, sums);
        else if (h_size == 4)
            add_examples(columns, 4, order, start[c], start[c + 1], n, n_features, n_columns, weights, 1, sums);
        else if (!weights)
            add_examples(columns, 8, order, start[c], start[c + 1], n, n_features, n_columns, weights, 0, sums);
        else
            add_examples(columns, 8, order, start[c], start[c + 1], n, n_features, n_columns, weights, 1, sums);
    }
    free(start);
    free(order);
    return SAFFU_OK;
}

/* ---- dense features, soft targets -------------------------------------------------------------------------------- */

enum { TILE_N = 4, TILE_D = 16, BLOCK_N = 32, BLOCK_D = 256, BLOCK_M = 64 };

/* y_mc (BLOCK_M, BLOCK_N) = weighted targets of a block, zero beyond the last class. */
SAFFU_INLINE void pack_targets(const void *Y, int y_size, const double *weights, int64_t m, int64_t n_rows, int64_t c,
                               int64_t n_columns, int64_t n_classes, double *restrict y_mc) {
    for (int64_t r = 0; r < n_rows; r++) {
        double w = weights ? weights[m + r] : 1.0;
        for (int64_t l = 0; l < BLOCK_N; l++)
            y_mc[r * BLOCK_N + l] = l < n_columns ? w * real_at(Y, y_size, (m + r) * n_classes + c + l) : 0.0;
    }
}

/* F (n_c <= 4 classes, n_d <= 16 features) += y_mc^T h over n_rows examples: 64 sums held in registers. */
SAFFU_INLINE void add_tile(const void *h, int h_size, int64_t stride, const double *y_mc, int64_t n_rows, int64_t n_c,
                           int64_t n_d, double *F) {
    double sum[TILE_N][TILE_D] = {{0}};
    for (int64_t a = 0; a < n_c; a++)
        for (int64_t b = 0; b < n_d; b++) sum[a][b] = F[a * stride + b];
    if (n_d == TILE_D) {
        for (int64_t m = 0; m < n_rows; m++)
            for (int a = 0; a < TILE_N; a++)
                for (int b = 0; b < TILE_D; b++)
                    sum[a][b] += y_mc[m * BLOCK_N + a] * real_at(h, h_size, m * stride + b);
    } else {
        for (int64_t m = 0; m < n_rows; m++)
            for (int a = 0; a < TILE_N; a++)
                for (int64_t b = 0; b < n_d; b++)
                    sum[a][b] += y_mc[m * BLOCK_N + a] * real_at(h, h_size, m * stride + b);
    }
    for (int64_t a = 0; a < n_c; a++)
        for (int64_t b = 0; b < n_d; b++) F[a * stride + b] = sum[a][b];
}

/* All tiles of one block of examples, classes and features. */
SAFFU_INLINE void add_block(const void *h, int h_size, int64_t stride, const double *y_mc, int64_t n_rows, int64_t n_c,
                            int64_t n_d, double *F) {
    for (int64_t j = 0; j < n_d; j += TILE_D)
        for (int64_t c = 0; c < n_c; c += TILE_N)
            add_tile(real_from(h, h_size, j), h_size, stride, y_mc + c, n_rows, saffu_min(TILE_N, n_c - c),
                     saffu_min(TILE_D, n_d - j), F + c * stride + j);
}

SAFFU_SIMD int saffu_moments_soft(const void *H, int h_size, const void *Y, int y_size, const double *weights,
                                  int64_t n, int64_t n_features, int64_t n_classes, int add, double *F, double *mass,
                                  int n_threads) {
    int64_t blocks_n = (n_classes + BLOCK_N - 1) / BLOCK_N;
    int64_t blocks_d = saffu_max(1, (n_features + BLOCK_D - 1) / BLOCK_D);
    int team = saffu_team(n_threads, n * n_features);
    (void)team;
    SAFFU_OMP(parallel for num_threads(team) schedule(dynamic, 1))
    for (int64_t task = 0; task < blocks_n * blocks_d; task++) {
        double y_mc[BLOCK_M * BLOCK_N];
        int64_t c = task / blocks_d * BLOCK_N, j = task % blocks_d * BLOCK_D;
        int64_t n_c = saffu_min(BLOCK_N, n_classes - c), n_d = saffu_min(BLOCK_D, n_features - j);
        double *block = F + c * n_features + j;
        for (int64_t a = 0; !add && a < n_c; a++) memset(block + a * n_features, 0, (size_t)n_d * sizeof *block);
        for (int64_t a = 0; !add && j == 0 && a < n_c; a++) mass[c + a] = 0.0;
        for (int64_t m = 0; m < n; m += BLOCK_M) {
            int64_t n_rows = saffu_min(BLOCK_M, n - m);
            const void *h = real_from(H, h_size, m * n_features + j);
            pack_targets(Y, y_size, weights, m, n_rows, c, n_c, n_classes, y_mc);
            for (int64_t r = 0; j == 0 && r < n_rows; r++)
                for (int64_t a = 0; a < n_c; a++) mass[c + a] += y_mc[r * BLOCK_N + a];
            if (h_size == 4) add_block(h, 4, n_features, y_mc, n_rows, n_c, n_d, block);
            else add_block(h, 8, n_features, y_mc, n_rows, n_c, n_d, block);
        }
    }
    return SAFFU_OK;
}

/* ---- sparse features --------------------------------------------------------------------------------------------- */

/* Is it a CSR matrix of n rows, with n_entries entries and columns below n_features? */
static int check_csr(const int64_t *indptr, const void *indices, int index_size, int64_t n, int64_t n_entries,
                     int64_t n_features, int n_threads) {
    int bad = indptr[0] != 0 || indptr[n] > n_entries;
    int team = saffu_team(n_threads, n + n_entries);
    (void)team;
    for (int64_t m = 0; m < n; m++) bad |= indptr[m + 1] < indptr[m];
    if (bad) return SAFFU_OUT_OF_RANGE;
    SAFFU_OMP(parallel for num_threads(team) schedule(static) reduction(| : bad))
    for (int64_t i = 0; i < indptr[n]; i++) {
        int64_t column = index_at(indices, index_size, i);
        bad |= (column < 0) | (column >= n_features);
    }
    return bad ? SAFFU_OUT_OF_RANGE : SAFFU_OK;
}

SAFFU_INLINE void add_entries(const void *indices, int index_size, const void *data, int data_size, int64_t from,
                              int64_t to, double w, double *sums) {
    for (int64_t i = from; i < to; i++)
        sums[index_at(indices, index_size, i)] += w * real_at(data, data_size, i);
}

int saffu_moments_csr_labels(const int64_t *indptr, const void *indices, int index_size, const void *data,
                             int data_size, const int32_t *labels, const double *weights, int64_t n, int64_t n_entries,
                             int64_t n_features, int64_t n_classes, int add, double *F, double *mass, int n_threads) {
    int64_t *start, *order;
    int status = check_csr(indptr, indices, index_size, n, n_entries, n_features, n_threads);
    if (status == SAFFU_OK) status = new_order(labels, n, n_classes, &start, &order);
    if (status != SAFFU_OK) return status;
    int team = saffu_team(n_threads, indptr[n]);
    (void)team;
    SAFFU_OMP(parallel for num_threads(team) schedule(dynamic, 1))
    for (int64_t c = 0; c < n_classes; c++) {
        double *sums = F + c * n_features;
        if (!add) memset(sums, 0, (size_t)n_features * sizeof *sums);
        if (!add) mass[c] = 0.0;
        add_mass(order, start[c], start[c + 1], weights, mass + c);
        for (int64_t i = start[c]; i < start[c + 1]; i++) {
            int64_t m = order[i], from = indptr[m], to = indptr[m + 1];
            double w = weights ? weights[m] : 1.0;
            if (index_size == 4 && data_size == 4) add_entries(indices, 4, data, 4, from, to, w, sums);
            else if (index_size == 4) add_entries(indices, 4, data, 8, from, to, w, sums);
            else if (data_size == 4) add_entries(indices, 8, data, 4, from, to, w, sums);
            else add_entries(indices, 8, data, 8, from, to, w, sums);
        }
    }
    free(start);
    free(order);
    return SAFFU_OK;
}

enum { LANES = 8 };

/* sums (n_features, LANES) += h^T y of one example. */
SAFFU_INLINE void add_outer(const void *indices, int index_size, const void *data, int data_size, int64_t from,
                            int64_t to, const double y[LANES], double *restrict sums) {
    for (int64_t i = from; i < to; i++) {
        double h = real_at(data, data_size, i), *cell = sums + index_at(indices, index_size, i) * LANES;
        for (int l = 0; l < LANES; l++) cell[l] += h * y[l];
    }
}

/* Copy the classes c .. c + n_c of F (class-major) into sums (feature-major), or back. */
static void transpose_in(const double *F, int64_t n_features, int64_t c, int64_t n_c, double *sums) {
    for (int64_t j = 0; j < n_features; j++)
        for (int64_t l = 0; l < n_c; l++) sums[j * LANES + l] = F[(c + l) * n_features + j];
}

static void transpose_out(const double *sums, int64_t n_features, int64_t c, int64_t n_c, double *F) {
    for (int64_t l = 0; l < n_c; l++)
        for (int64_t j = 0; j < n_features; j++) F[(c + l) * n_features + j] = sums[j * LANES + l];
}

SAFFU_SIMD int saffu_moments_csr_soft(const int64_t *indptr, const void *indices, int index_size, const void *data,
                                      int data_size, const void *Y, int y_size, const double *weights, int64_t n,
                                      int64_t n_entries, int64_t n_features, int64_t n_classes, int add, double *F,
                                      double *mass, int n_threads) {
    int status = check_csr(indptr, indices, index_size, n, n_entries, n_features, n_threads);
    if (status != SAFFU_OK) return status;
    int64_t n_blocks = (n_classes + LANES - 1) / LANES;
    int team = (int)saffu_max(1, saffu_min(saffu_team(n_threads, indptr[n]), n_blocks));
    double *scratch = malloc((size_t)(team * n_features * LANES + 1) * sizeof *scratch);
    if (!scratch) return SAFFU_NO_MEMORY;
    SAFFU_OMP(parallel for num_threads(team) schedule(dynamic, 1))
    for (int64_t block = 0; block < n_blocks; block++) {
        double *sums = scratch + saffu_thread() * n_features * LANES, total[LANES] = {0};
        int64_t c = block * LANES, n_c = saffu_min(LANES, n_classes - c);
        memset(sums, 0, (size_t)(n_features * LANES) * sizeof *sums);
        if (add) transpose_in(F, n_features, c, n_c, sums);
        for (int64_t l = 0; add && l < n_c; l++) total[l] = mass[c + l];
        for (int64_t m = 0; m < n; m++) {
            double y[LANES] = {0}, w = weights ? weights[m] : 1.0;
            for (int64_t l = 0; l < n_c; l++) {
                y[l] = w * real_at(Y, y_size, m * n_classes + c + l);
                total[l] += y[l];
            }
            if (index_size == 4 && data_size == 4)
                add_outer(indices, 4, data, 4, indptr[m], indptr[m + 1], y, sums);
            else if (index_size == 4) add_outer(indices, 4, data, 8, indptr[m], indptr[m + 1], y, sums);
            else if (data_size == 4) add_outer(indices, 8, data, 4, indptr[m], indptr[m + 1], y, sums);
            else add_outer(indices, 8, data, 8, indptr[m], indptr[m + 1], y, sums);
        }
        for (int64_t l = 0; l < n_c; l++) mass[c + l] = total[l];
        transpose_out(sums, n_features, c, n_c, F);
    }
    free(scratch);
    return SAFFU_OK;
}

/* ---- one look at the values -------------------------------------------------------------------------------------- */

enum { LOOK = 1 << 16, LOOK_LANES = 32 };

/* The least of x[from .. to), NaN if one is NaN or infinite: x - x is 0 for every finite x and NaN otherwise. */
SAFFU_INLINE double lowest_of(const void *x, int size, int64_t from, int64_t to) {
    double low[LOOK_LANES], flaw[LOOK_LANES] = {0}, least = INFINITY, flaws = 0.0;
    int64_t i = from;
    for (int l = 0; l < LOOK_LANES; l++) low[l] = INFINITY;
    for (; i + LOOK_LANES <= to; i += LOOK_LANES)
        for (int l = 0; l < LOOK_LANES; l++) {
            double value = real_at(x, size, i + l);
            low[l] = value < low[l] ? value : low[l];
            flaw[l] += value - value;
        }
    for (; i < to; i++) {
        double value = real_at(x, size, i);
        low[0] = value < low[0] ? value : low[0];
        flaw[0] += value - value;
    }
    for (int l = 0; l < LOOK_LANES; l++) {
        least = low[l] < least ? low[l] : least;
        flaws += flaw[l];
    }
    return least + flaws;
}

SAFFU_SIMD int saffu_lowest(const void *x, int size, int64_t n, double *lowest, int n_threads) {
    double least = INFINITY;
    int flawed = 0, team = saffu_team(n_threads, n);
    (void)team;
    SAFFU_OMP(parallel for num_threads(team) schedule(static) reduction(min : least) reduction(| : flawed))
    for (int64_t from = 0; from < n; from += LOOK) {
        int64_t to = saffu_min(n, from + LOOK);
        double mine = size == 4 ? lowest_of(x, 4, from, to) : lowest_of(x, 8, from, to);
        flawed |= mine != mine;
        least = mine < least ? mine : least;
    }
    *lowest = flawed ? (double)NAN : least;
    return SAFFU_OK;
}
