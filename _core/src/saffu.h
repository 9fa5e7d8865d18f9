/* The whole C API of saffu. Read this first.
 *
 * Conventions: no Python, no globals, no printing. Inputs are const, arrays are contiguous and row-major; the order of
 * arguments is inputs, shape, outputs, n_threads; sizes are int64_t. Every kernel returns a status, 0 or one
 * of the negative codes below, and gives the same bits for every n_threads: rows have one owner, and floating-point
 * sums over examples use a fixed grid of chunks folded in order. A shape in a comment reads name (rows, columns).
 */
#ifndef SAFFU_H
#define SAFFU_H

#include <stdint.h>

enum {
    SAFFU_OK = 0,
    SAFFU_NO_MEMORY = -1,    /* a scratch buffer could not be allocated */
    SAFFU_OUT_OF_RANGE = -2, /* an id is not below its bound */
};

/* ---- count.c: what occurs together ---------------------------------------------------------------------------- */

/* The first stage of counting: sort the usable positions of a stream by context.
 *
 * A position t is usable if contexts[t] >= 0 and t + min(distances) is in the same document. Contexts below 0 mean
 * "none". Documents are the half-open ranges between consecutive starts; the last one ends at n.
 *
 * contexts (n), targets (n), distances (n_distances, ascending, >= 1), documents (n_documents, ascending)
 * -> row_ptr (n_rows + 1), bucket (n): bucket[row_ptr[c] .. row_ptr[c + 1]) holds, in ascending order of t,
 *      the target targets[t + distances[0]]   if n_distances = 1  (the rows can then be read without a gather)
 *      t, or ~t where t + max(distances) leaves the document, otherwise.
 * Traffic: 2 reads of the stream, one scattered write of 4 bytes a position. */
int saffu_bucket(const int32_t *contexts, const int32_t *targets, const int64_t *distances, const int64_t *documents,
                 int64_t n, int64_t n_distances, int64_t n_documents, int64_t n_rows, int64_t *row_ptr,
                 int32_t *bucket, int n_threads);

/* The second stage: count[c, w] = #{(t, k) : contexts[t] = c, targets[t + k] = w, k in distances, one document}.
 *
 * segment (n_rows + 1): where each row may write, segment[c + 1] - segment[c] >= min(pairs of row c, n_cols).
 * -> indptr (n_rows + 1), indices and counts (segment[n_rows]), of which the first indptr[n_rows] are used:
 *    a CSR matrix with ascending columns.
 * One random read-modify-write of a 4-byte counter a pair, in a scratch of n_cols counters a thread. */
int saffu_count_rows(const int64_t *row_ptr, const int32_t *bucket, const int32_t *targets, const int64_t *distances,
                     const int64_t *documents, const int64_t *segment, int64_t n, int64_t n_distances,
                     int64_t n_documents, int64_t n_rows, int64_t n_cols, int64_t *indptr, int32_t *indices,
                     int64_t *counts, int n_threads);

/* entry[i] = the place of column cols[i] in row rows[i] of a CSR matrix, or -1 if absent (or rows[i] < 0).
 * A binary search each: about log2(row length) dependent reads. */
int saffu_find(const int64_t *indptr, const int32_t *indices, const int32_t *rows, const int32_t *cols, int64_t n,
               int32_t *entry, int n_threads);

#endif
