/* Moments: F = H^T Y, the generalised co-occurrence of features and classes.
 *
 * Decisions. F is class-major (N, D), so that a class is one contiguous row of sums. Every cell has one owner, who adds
 * its terms to what F already holds, in ascending order of the examples. So the bits depend neither on the number of
 * threads nor on how a stream of examples was cut into calls. For labels the examples are sorted by class (a counting
 * sort of their numbers), so that the sums of a class stay in the first-level cache. If all sums fit the second level,
 * that is done chunk by chunk, and H is read as a stream; otherwise once for all examples, and H is read by rows,
 * fetched some rows ahead. Either way H is read once. Sums are double; float inputs are widened in registers, which is
 * why one body serves both sizes of real: `size` is a constant wherever these helpers are inlined.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "class_order.h"
#include "parallel.h"
#include "reals.h"
#include "saffu.h"

/* ---- dense features, labels -------------------------------------------------------------------------------------- */

enum { LINE = 64, SPAN = 32, AHEAD = 16, CACHED = 1 << 19, CHUNK_BYTES = 3 << 17 };

/* sums[j] += sum over R examples of weight h_j, one after the other; fetches R later examples. */
SAFFU_INLINE void add_rows(int R, const void *const *h, const double *w, const void *const *later, int size,
                           int weighted, int64_t n_columns, double *restrict sums) {
    for (int64_t first = 0; first < n_columns; first += SPAN) {
        int64_t to = saffu_min(first + SPAN, n_columns);
        for (int64_t j = first; j < to; j += LINE / size)
            for (int k = 0; k < R; k++) SAFFU_PREFETCH_L2(real_from(later[k], size, j));
        for (int64_t j = first; j < to; j++) {
            double sum = sums[j];
            for (int k = 0; k < R; k++) sum += weighted ? w[k] * real_at(h[k], size, j) : real_at(h[k], size, j);
            sums[j] = sum;
        }
    }
}

typedef struct {
    const void *H; /* at the first of the columns */
    int64_t stride, n_columns;
    const double *weights;
    const Order *order;
} Columns;

/* sums (n_columns) += sum of weight h over the places [from, to) of the order, R at a time; returns where it ended. */
SAFFU_INLINE int64_t add_groups(int R, const Columns *x, int64_t from, int64_t to, int size, int weighted,
                                double *restrict sums) {
    const int32_t *order = x->order->order;
    int64_t last = x->order->n - 1;
    int stream = x->order->n_chunks > 1;
    int64_t ahead = stream ? x->order->chunk : AHEAD;
    for (; from + R <= to; from += R) {
        const void *h[4], *later[4];
        double w[4];
        for (int k = 0; k < R; k++) {
            int64_t m = order[from + k], next = saffu_min(from + k + ahead, last);
            next = stream ? next : order[next];
            h[k] = real_from(x->H, size, m * x->stride);
            later[k] = real_from(x->H, size, next * x->stride);
            w[k] = weighted ? x->weights[m] : 1.0;
        }
        add_rows(R, h, w, later, size, weighted, x->n_columns, sums);
    }
    return from;
}

SAFFU_INLINE void add_class(const Columns *x, int64_t chunk, int64_t c, int size, int weighted, double *sums) {
    const int64_t *start = x->order->start + chunk * (x->order->n_classes + 1) + c;
    int64_t from = add_groups(4, x, start[0], start[1], size, weighted, sums);
    add_groups(1, x, from, start[1], size, weighted, sums);
}

/* The sums of classes [c, c_end), rows of F from this column on, over all chunks. */
SAFFU_INLINE void add_classes(const Columns *x, int64_t c, int64_t c_end, int size, double *F) {
    for (int64_t chunk = 0; chunk < x->order->n_chunks; chunk++)
        for (int64_t i = c; i < c_end; i++) {
            if (x->weights) add_class(x, chunk, i, size, 1, F + i * x->stride);
            else add_class(x, chunk, i, size, 0, F + i * x->stride);
        }
}

/* mass[c] += the weights of the examples of class c. */
static void add_mass(const Order *o, int64_t c, int64_t c_end, const double *weights, double *mass) {
    for (int64_t chunk = 0; chunk < o->n_chunks; chunk++)
        for (int64_t i = c; i < c_end; i++) {
            const int64_t *start = o->start + chunk * (o->n_classes + 1) + i;
            double sum = mass[i]; /* written once: the next class may be another thread's */
            for (int64_t j = start[0]; j < start[1]; j++) sum += weights ? weights[o->order[j]] : 1.0;
            mass[i] = sum;
        }
}

/* Columns a task: whole rows, unless there are too few classes, or too unequal ones, to keep the team busy. */
static int64_t columns_per_task(const Order *o, int64_t n_features, int stream, int team) {
    int64_t largest = 0, widest = 2048;
    for (int64_t c = 0; c < o->n_classes; c++) largest = saffu_max(largest, o->start[c + 1] - o->start[c]);
    if (stream) widest = saffu_max(64, (n_features + team - 1) / team);
    else if (team > 1 && largest * 4 * team > o->n) widest = saffu_max(64, n_features / (4 * team) / 64 * 64);
    return saffu_max(1, saffu_min(widest, n_features));
}

/* Classes a task: all of a stream, unless its features are too few for the team; otherwise one, or so many that their
 * sums fill some cache lines of their own. */
static int64_t classes_per_task(int64_t n_classes, int64_t n_features, int64_t n_blocks, int stream, int team) {
    int64_t per_thread = saffu_max(1, n_classes / (4 * team));
    if (stream) return saffu_max(1, n_blocks >= team ? n_classes : per_thread);
    return saffu_min(saffu_max(1, 64 / saffu_max(n_features, 1)), per_thread);
}

SAFFU_SIMD int saffu_moments_labels(const void *H, int h_size, const int32_t *labels, const double *weights, int64_t n,
                                    int64_t n_features, int64_t n_classes, int64_t stride, int add, double *F,
                                    double *mass, int n_threads) {
    Order order;
    int stream = n_classes * n_features * (int64_t)sizeof *F <= CACHED;
    int64_t chunk = stream ? saffu_max(16, CHUNK_BYTES / (h_size * saffu_max(n_features, 1))) : saffu_max(n, 1);
    int status = new_order(labels, n, chunk, n_classes, n_threads, &order);
    if (status != SAFFU_OK) return status;
    int team = saffu_team(n_threads, n * n_features);
    int64_t width = columns_per_task(&order, n_features, stream, team);
    int64_t n_blocks = saffu_max(1, (n_features + width - 1) / width);
    int64_t most = classes_per_task(n_classes, n_features, n_blocks, stream, team);
    int64_t n_tasks = (n_classes + most - 1) / most * n_blocks;
    SAFFU_PARALLEL_FOR(team, schedule(dynamic, 1))
    for (int64_t task = 0; task < n_tasks; task++) {
        int64_t c = task / n_blocks * most, first = task % n_blocks * width, depth = saffu_min(most, n_classes - c);
        Columns x = {real_from(H, h_size, first), stride, saffu_min(width, n_features - first), weights, &order};
        for (int64_t i = c; !add && i < c + depth; i++)
            memset(F + i * stride + first, 0, (size_t)x.n_columns * sizeof *F);
        if (mass && !add && first == 0) memset(mass + c, 0, (size_t)depth * sizeof *mass);
        if (mass && first == 0) add_mass(&order, c, c + depth, weights, mass);
        if (h_size == 4) add_classes(&x, c, c + depth, 4, F + first);
        else add_classes(&x, c, c + depth, 8, F + first);
    }
    free_order(&order);
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

/* F (n_c <= 4 classes, n_d <= 16 features) += y_mc^T h over n_rows examples, whose h have 16 entries: 64 sums held in
 * registers. They are vectors by name: compilers that are left to find them keep a half in memory. */
SAFFU_INLINE void add_tile(const void *h, int h_size, int64_t h_stride, const double *y_mc, int64_t n_rows, int64_t n_c,
                           int64_t n_d, int64_t stride, double *F) {
    double sums[TILE_N][TILE_D] = {{0}};
    Doubles sum[TILE_N][TILE_D / N_DOUBLES];
    for (int64_t a = 0; a < n_c; a++) memcpy(sums[a], F + a * stride, (size_t)n_d * sizeof *F);
    memcpy(sum, sums, sizeof sum);
    for (int64_t m = 0; m < n_rows; m++) {
        const double *y = y_mc + m * BLOCK_N;
        Doubles low = doubles_at(h, h_size, m * h_stride), high = doubles_at(h, h_size, m * h_stride + N_DOUBLES);
        for (int a = 0; a < TILE_N; a++) {
            sum[a][0] = doubles_add_product(sum[a][0], y[a], low);
            sum[a][1] = doubles_add_product(sum[a][1], y[a], high);
        }
    }
    memcpy(sums, sum, sizeof sum);
    for (int64_t a = 0; a < n_c; a++) memcpy(F + a * stride, sums[a], (size_t)n_d * sizeof *F);
}

/* The last features of some examples, fewer than a tile holds, with zeros beside them. */
SAFFU_INLINE void pad_features(const void *h, int h_size, int64_t stride, int64_t n_rows, int64_t n_d,
                               double *restrict padded) {
    for (int64_t m = 0; m < n_rows; m++)
        for (int64_t b = 0; b < TILE_D; b++)
            padded[m * TILE_D + b] = b < n_d ? real_at(h, h_size, m * stride + b) : 0.0;
}

/* All tiles of one block of examples, classes and features. */
SAFFU_INLINE void add_block(const void *h, int h_size, int64_t stride, const double *y_mc, int64_t n_rows, int64_t n_c,
                            int64_t n_d, double *F) {
    int64_t whole = n_d / TILE_D * TILE_D;
    for (int64_t j = 0; j < whole; j += TILE_D)
        for (int64_t c = 0; c < n_c; c += TILE_N)
            add_tile(real_from(h, h_size, j), h_size, stride, y_mc + c, n_rows, saffu_min(TILE_N, n_c - c), TILE_D,
                     stride, F + c * stride + j);
    if (whole == n_d) return;
    double padded[BLOCK_M * TILE_D];
    pad_features(real_from(h, h_size, whole), h_size, stride, n_rows, n_d - whole, padded);
    for (int64_t c = 0; c < n_c; c += TILE_N)
        add_tile(padded, sizeof *padded, TILE_D, y_mc + c, n_rows, saffu_min(TILE_N, n_c - c), n_d - whole, stride,
                 F + c * stride + whole);
}

/* Features a task: no more than fit the cache beside the sums, and so few that every thread has some tasks. */
static int64_t features_per_task(int64_t n_features, int64_t blocks_n, int team) {
    int64_t width = BLOCK_D;
    while (team > 1 && width > TILE_D && blocks_n * ((n_features + width - 1) / width) < 4 * team) width /= 2;
    return width;
}

SAFFU_SIMD int saffu_moments_soft(const void *H, int h_size, const void *Y, int y_size, const double *weights,
                                  int64_t n, int64_t n_features, int64_t n_classes, int add, double *F, double *mass,
                                  int n_threads) {
    int64_t blocks_n = (n_classes + BLOCK_N - 1) / BLOCK_N;
    int team = saffu_team(n_threads, n * n_features);
    int64_t width = features_per_task(n_features, blocks_n, team);
    int64_t blocks_d = saffu_max(1, (n_features + width - 1) / width);
    SAFFU_PARALLEL_FOR(team, schedule(dynamic, 1))
    for (int64_t task = 0; task < blocks_n * blocks_d; task++) {
        double y_mc[BLOCK_M * BLOCK_N];
        int64_t c = task / blocks_d * BLOCK_N, j = task % blocks_d * width;
        int64_t n_c = saffu_min(BLOCK_N, n_classes - c), n_d = saffu_min(width, n_features - j);
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

SAFFU_INLINE void add_entries(const void *indices, int index_size, const void *data, int data_size, int64_t from,
                              int64_t to, double w, double *sums) {
    for (int64_t i = from; i < to; i++)
        sums[integer_at(indices, index_size, i)] += w * real_at(data, data_size, i);
}

int saffu_moments_csr_labels(const int64_t *indptr, const void *indices, int index_size, const void *data,
                             int data_size, const int32_t *labels, const double *weights, int64_t n,
                             int64_t n_features, int64_t n_classes, int add, double *F, double *mass, int n_threads) {
    Order order;
    int status = new_order(labels, n, saffu_max(n, 1), n_classes, n_threads, &order);
    if (status != SAFFU_OK) return status;
    int team = saffu_team(n_threads, indptr[n] - indptr[0]);
    SAFFU_PARALLEL_FOR(team, schedule(dynamic, 1))
    for (int64_t c = 0; c < n_classes; c++) {
        double *sums = F + c * n_features;
        if (!add) memset(sums, 0, (size_t)n_features * sizeof *sums);
        if (!add) mass[c] = 0.0;
        add_mass(&order, c, c + 1, weights, mass);
        for (int64_t i = order.start[c]; i < order.start[c + 1]; i++) {
            int64_t m = order.order[i], from = indptr[m], to = indptr[m + 1];
            double w = weights ? weights[m] : 1.0;
            if (index_size == 4 && data_size == 4) add_entries(indices, 4, data, 4, from, to, w, sums);
            else if (index_size == 4) add_entries(indices, 4, data, 8, from, to, w, sums);
            else if (data_size == 4) add_entries(indices, 8, data, 4, from, to, w, sums);
            else add_entries(indices, 8, data, 8, from, to, w, sums);
        }
    }
    free_order(&order);
    return SAFFU_OK;
}

enum { CLASSES_AT_ONCE = 8 };

/* sums (n_features, CLASSES_AT_ONCE) += h^T y of one example. */
SAFFU_INLINE void add_outer(const void *indices, int index_size, const void *data, int data_size, int64_t from,
                            int64_t to, const double y[CLASSES_AT_ONCE], double *restrict sums) {
    for (int64_t i = from; i < to; i++) {
        double h = real_at(data, data_size, i), *cell = sums + integer_at(indices, index_size, i) * CLASSES_AT_ONCE;
        for (int l = 0; l < CLASSES_AT_ONCE; l++) cell[l] += h * y[l];
    }
}

/* Copy the classes c .. c + n_c of F (class-major) into sums (feature-major), or back. */
static void transpose_in(const double *F, int64_t n_features, int64_t c, int64_t n_c, double *sums) {
    for (int64_t j = 0; j < n_features; j++)
        for (int64_t l = 0; l < n_c; l++) sums[j * CLASSES_AT_ONCE + l] = F[(c + l) * n_features + j];
}

static void transpose_out(const double *sums, int64_t n_features, int64_t c, int64_t n_c, double *F) {
    for (int64_t l = 0; l < n_c; l++)
        for (int64_t j = 0; j < n_features; j++) F[(c + l) * n_features + j] = sums[j * CLASSES_AT_ONCE + l];
}

SAFFU_SIMD int saffu_moments_csr_soft(const int64_t *indptr, const void *indices, int index_size, const void *data,
                                      int data_size, const void *Y, int y_size, int64_t y_stride,
                                      const double *weights, int64_t n, int64_t n_features, int64_t n_classes,
                                      int add, double *F, double *mass, int n_threads) {
    int64_t n_blocks = (n_classes + CLASSES_AT_ONCE - 1) / CLASSES_AT_ONCE;
    int team = (int)saffu_max(1, saffu_min(saffu_team(n_threads, indptr[n] - indptr[0]), n_blocks));
    double *scratch = malloc((size_t)(team * n_features * CLASSES_AT_ONCE + 1) * sizeof *scratch);
    if (!scratch) return SAFFU_NO_MEMORY;
    SAFFU_PARALLEL_FOR(team, schedule(dynamic, 1))
    for (int64_t block = 0; block < n_blocks; block++) {
        double *sums = scratch + saffu_thread() * n_features * CLASSES_AT_ONCE, total[CLASSES_AT_ONCE] = {0};
        int64_t c = block * CLASSES_AT_ONCE, n_c = saffu_min(CLASSES_AT_ONCE, n_classes - c);
        memset(sums, 0, (size_t)(n_features * CLASSES_AT_ONCE) * sizeof *sums);
        if (add) transpose_in(F, n_features, c, n_c, sums);
        for (int64_t l = 0; add && l < n_c; l++) total[l] = mass[c + l];
        for (int64_t m = 0; m < n; m++) {
            double y[CLASSES_AT_ONCE] = {0}, w = weights ? weights[m] : 1.0;
            for (int64_t l = 0; l < n_c; l++) {
                y[l] = w * real_at(Y, y_size, m * y_stride + c + l);
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
    double least = *lowest;
    int flawed = least != least, team = saffu_team(n_threads, n);
    SAFFU_PARALLEL_FOR(team, schedule(static) reduction(min : least) reduction(| : flawed))
    for (int64_t from = 0; from < n; from += LOOK) {
        int64_t to = saffu_min(n, from + LOOK);
        double mine = size == 4 ? lowest_of(x, 4, from, to) : lowest_of(x, 8, from, to);
        flawed |= mine != mine;
        least = mine < least ? mine : least;
    }
    *lowest = flawed ? (double)NAN : least;
    return SAFFU_OK;
}
