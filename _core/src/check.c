/* What comes in as a place, an id or a count: is it where the kernels may look? One cheap pass over it.
 *
 * Decisions. A pass only tells good from bad, without a branch on an entry, so that it runs at the speed of memory; the
 * first bad entry is looked for when there is one. A batch refers to a stream that may be much longer than what it
 * reads: only the tokens that its windows reach are looked at, each once for positions in ascending order.
 */
#include "parallel.h"
#include "reals.h"
#include "saffu.h"

enum { LOOKED_AT_ONCE = 1 << 13 };

/* ---- ranges ------------------------------------------------------------------------------------------------------ */

/* As unsigned numbers, what is below low lies above all that is in [low, high]. */
SAFFU_INLINE int any_outside_32(const int32_t *x, int64_t from, int64_t to, int32_t low, uint32_t width) {
    uint32_t high = 0;
    for (int64_t i = from; i < to; i++) {
        uint32_t distance = (uint32_t)x[i] - (uint32_t)low;
        high = distance > high ? distance : high;
    }
    return high > width;
}

SAFFU_INLINE int any_outside_64(const int64_t *x, int64_t from, int64_t to, int64_t low, int64_t high) {
    int bad = 0;
    for (int64_t i = from; i < to; i++) bad |= (x[i] < low) | (x[i] > high);
    return bad;
}

SAFFU_SIMD int saffu_outside(const void *x, int size, int64_t n, int64_t low, int64_t high, int64_t *place,
                             int n_threads) {
    int team = saffu_team(n_threads, n / 8);
    int64_t first = INT64_MAX, least = size == 4 ? saffu_max(low, INT32_MIN) : low;
    int64_t most = size == 4 ? saffu_min(high, INT32_MAX) : high;
    if (most < least) first = n > 0 ? 0 : INT64_MAX; /* nothing is in an empty range */
    SAFFU_PARALLEL_FOR(team, schedule(static) reduction(min : first))
    for (int64_t from = 0; from < (most < least ? 0 : n); from += LOOKED_AT_ONCE) {
        int64_t to = saffu_min(n, from + LOOKED_AT_ONCE);
        int bad = size == 4 ? any_outside_32(x, from, to, (int32_t)least, (uint32_t)(most - least))
                            : any_outside_64(x, from, to, least, most);
        for (int64_t i = from; bad && i < to; i++) {
            int64_t value = integer_at(x, size, i);
            if (value >= low && value <= high) continue;
            first = saffu_min(first, i);
            break;
        }
    }
    *place = first;
    return first == INT64_MAX ? SAFFU_OK : SAFFU_OUT_OF_RANGE;
}

SAFFU_SIMD int saffu_descent(const void *x, int size, int64_t n, int strict, int64_t *place, int n_threads) {
    int team = saffu_team(n_threads, n / 8);
    int64_t first = INT64_MAX;
    SAFFU_PARALLEL_FOR(team, schedule(static) reduction(min : first))
    for (int64_t from = 1; from < n; from += LOOKED_AT_ONCE) {
        int64_t to = saffu_min(n, from + LOOKED_AT_ONCE);
        int bad = 0;
        if (size == 4) {
            const int32_t *y = x;
            for (int64_t i = from; i < to; i++) bad |= (y[i] < y[i - 1]) | (strict & (y[i] == y[i - 1]));
        } else {
            const int64_t *y = x;
            for (int64_t i = from; i < to; i++) bad |= (y[i] < y[i - 1]) | (strict & (y[i] == y[i - 1]));
        }
        for (int64_t i = from; bad && i < to; i++) {
            int64_t before = integer_at(x, size, i - 1), value = integer_at(x, size, i);
            if (value > before || (value == before && !strict)) continue;
            first = saffu_min(first, i);
            break;
        }
    }
    *place = first;
    return first == INT64_MAX ? SAFFU_OK : SAFFU_OUT_OF_RANGE;
}

int saffu_unsorted(const int64_t *indptr, const int32_t *indices, int64_t n_rows, int64_t *place, int n_threads) {
    int team = saffu_team(n_threads, (indptr[n_rows] - indptr[0]) / 8 + n_rows);
    int64_t first = INT64_MAX;
    SAFFU_PARALLEL_FOR(team, schedule(dynamic, 256) reduction(min : first))
    for (int64_t c = 0; c < n_rows; c++) {
        int bad = 0;
        for (int64_t i = indptr[c] + 1; i < indptr[c + 1]; i++) bad |= indices[i] <= indices[i - 1];
        for (int64_t i = indptr[c] + 1; bad && i < indptr[c + 1]; i++) {
            if (indices[i] > indices[i - 1]) continue;
            first = saffu_min(first, i);
            break;
        }
    }
    *place = first;
    return first == INT64_MAX ? SAFFU_OK : SAFFU_OUT_OF_RANGE;
}

/* ---- the positions of a pooled model ----------------------------------------------------------------------------- */

int saffu_batch_bounds(const saffu_batch *batch, int64_t n_contexts, int64_t *bounds) {
    int64_t position = -1;
    int32_t row = -1, least_row = -1, state = -1, least_state = 0;
    int bad = 0;
    for (int64_t i = 0; i < batch->n; i++) {
        int64_t t = batch->positions[i];
        bad |= (batch->begins[i] < 0) | (batch->begins[i] > t);
        position = saffu_max(position, t);
    }
    for (int64_t i = 0; i < batch->n; i++) {
        state = batch->states[i] > state ? batch->states[i] : state;
        least_state = batch->states[i] < least_state ? batch->states[i] : least_state;
    }
    for (int64_t i = 0; i < batch->n * n_contexts; i++) {
        row = batch->rows[i] > row ? batch->rows[i] : row;
        least_row = batch->rows[i] < least_row ? batch->rows[i] : least_row;
    }
    bounds[0] = position;
    bounds[1] = row;
    bounds[2] = state;
    return bad || least_row < -1 || least_state < 0 ? SAFFU_OUT_OF_RANGE : SAFFU_OK;
}

/* Tokens [from, to): ids below the vocabulary's size, and links that lead back. */
static int tokens_fit(const saffu_batch *batch, int64_t from, int64_t to, int64_t vocab_size) {
    int bad = from < to && any_outside_32(batch->ids, from, to, 0, (uint32_t)(vocab_size - 1));
    for (int64_t s = from; batch->previous && s < to; s++) bad |= batch->previous[s] >= s;
    return !bad;
}

int saffu_batch_check(const saffu_pool *pool, const saffu_batch *batch, int targets) {
    int64_t reach = saffu_max(pool->induction, 0), from = 0, to = 0;
    for (int64_t l = 0; l < pool->n_windows; l++) reach = saffu_max(reach, pool->window[l]);
    if (!batch->previous) /* it will be found from all ids */
        return tokens_fit(batch, 0, batch->n_ids, pool->vocab_size) ? SAFFU_OK : SAFFU_OUT_OF_RANGE;
    for (int64_t i = 0; i < batch->n; i++) { /* [from, to) is known to be good */
        int64_t t = batch->positions[i], first = saffu_max(batch->begins[i], t - reach), end = t + (targets != 0);
        if (first < from || first > to) from = to = first;
        if (!tokens_fit(batch, to, end, pool->vocab_size)) return SAFFU_OUT_OF_RANGE;
        to = saffu_max(to, end);
    }
    return SAFFU_OK;
}
