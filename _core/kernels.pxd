# The C API of _core/src/saffu.h restated for Cython; extern only.
from libc.stdint cimport int32_t, int64_t, uint64_t

cdef extern from "saffu.h" nogil:
    enum:
        SAFFU_OK
        SAFFU_NO_MEMORY
        SAFFU_OUT_OF_RANGE
        SAFFU_NOT_A_COUNT
        SAFFU_NOT_FINITE
        SAFFU_TOO_LARGE

    int saffu_outside(const void *x, int size, int64_t n, int64_t low, int64_t high, int64_t *place, int n_threads)
    int saffu_descent(const void *x, int size, int64_t n, int strict, int64_t *place, int n_threads)
    int saffu_unsorted(const int64_t *indptr, const int32_t *indices, int64_t n_rows, int64_t *place, int n_threads)

    ctypedef struct saffu_stream:
        const int32_t *contexts
        const int32_t *targets
        const int64_t *distances
        const int64_t *documents
        int64_t n, n_distances, n_documents, n_rows, n_cols
        int keep_positions, first_table

    ctypedef struct saffu_counters:
        int team
        int64_t stride
        int32_t *counter
        int32_t *seen
        uint64_t *bits
        uint64_t *words
        int64_t capacity
        int32_t *indices
        int32_t *places
        int64_t *counts

    ctypedef struct saffu_apart:
        int64_t n
        int64_t *rows
        int64_t *before
        int64_t *segment
        int64_t *length
        int32_t *indices
        int32_t *places
        int64_t *counts

    ctypedef struct saffu_counted:
        int64_t *indptr
        int32_t *indices
        int32_t *places
        int64_t *counts
        int64_t *place_ptr

    enum:
        SAFFU_MAX_PAIRS
    int64_t saffu_bucket_parts(const saffu_stream *stream, int n_threads)
    int saffu_bucket_count(const saffu_stream *stream, int64_t first, int64_t to, int64_t n_parts, int64_t *cursors)
    int saffu_bucket_rows(const saffu_stream *stream, int64_t n_parts, int64_t *cursors, int64_t *row_ptr,
                          int n_threads)
    int saffu_bucket_place(const saffu_stream *stream, int64_t first, int64_t to, int64_t n_parts, int64_t *cursors,
                           int32_t *bucket)
    int64_t saffu_long_row(const saffu_stream *stream, int64_t n_positions, int64_t n_pairs, int64_t capacity, int team)
    int64_t saffu_team_row(const saffu_stream *stream, int64_t n_positions, int64_t n_pairs, int team)
    int64_t saffu_longer_rows(const saffu_stream *stream, const int64_t *row_ptr, int64_t long_row, int64_t *n_most,
                              int64_t *rows, int n_threads)
    int saffu_count_apart(const saffu_stream *stream, const int64_t *row_ptr, const int32_t *bucket, int64_t first,
                          int64_t to, int64_t team_row, const saffu_counters *all, saffu_apart *apart)
    int saffu_count_long(const saffu_stream *stream, const int32_t *bucket, int64_t first, int64_t to,
                         const saffu_counters *all, int64_t *totals)
    int saffu_emit_long(int64_t n_cols, int keep_positions, int64_t *totals, int64_t *length, int32_t *indices,
                        int64_t *counts, int n_threads)
    int saffu_place_long(const saffu_stream *stream, const int32_t *bucket, int64_t first, int64_t to,
                         const saffu_counters *all, int64_t *free, int32_t *places)
    int saffu_count_rows(const saffu_stream *stream, const int64_t *row_ptr, const int32_t *bucket,
                         const saffu_apart *apart, int64_t first, int64_t to, const saffu_counters *all,
                         const saffu_counted *out)
    ctypedef struct saffu_table:
        const int64_t *indptr
        const int32_t *indices
        const int64_t *counts
        const int64_t *rows
        int64_t n_rows
    int saffu_merge(const saffu_table *a, const saffu_table *b, int64_t begin, int64_t end, int64_t *indptr,
                    int32_t *indices, int64_t *counts, int64_t *a_places, int64_t *b_places, int n_threads)

    int saffu_find(const int64_t *indptr, const int32_t *indices, const int32_t *rows, const int32_t *cols,
                   int64_t n_rows, int64_t n_entries, int64_t n, int32_t *entry, int n_threads)
    int saffu_weigh(const int64_t *indptr, const int64_t *counts, const int32_t *parent, const double *lower,
                    const double *discounts, int64_t n_rows, int64_t n_lower, double *total, double *mass, double *u,
                    double *p, int n_threads)

    enum:
        SAFFU_BLOCK
        SAFFU_MOMENTS
    int saffu_pack_sizes(const int64_t *indptr, const int32_t *words, int size, int64_t n_rows, int64_t *head_ptr,
                         int64_t *tail_ptr, int n_threads)
    int saffu_pack(const int64_t *indptr, const int32_t *words, const void *u, int size, const int64_t *head_ptr,
                   const int64_t *tail_ptr, int64_t n_rows, void *head, int32_t *tail_word, void *tail_u,
                   int n_threads)

    ctypedef struct saffu_pool:
        int64_t vocab_size, n_states, n_contexts, n_windows, n_features
        const int64_t *head_ptr
        const int64_t *tail_ptr
        int64_t row_size
        const void *head
        const void *tail_u
        const int32_t *tail_word
        const double *log_prior
        const double *unigram
        const double *theta
        const int64_t *window
        const double *window_mass
        int64_t induction
        double induction_mass
        const double *prior
        const double *prior_moments
        const double *prior_beyond
        const void *prior_mass

    ctypedef struct saffu_batch:
        int64_t n, n_ids
        const int32_t *ids
        const int64_t *positions
        const int64_t *begins
        const int32_t *rows
        const int32_t *states
        const double *target_u
        const int32_t *previous
        int64_t chunk

    int64_t saffu_pool_chunk(int64_t n)
    int saffu_batch_bounds(const saffu_batch *batch, int64_t n_contexts, int64_t *bounds)
    int saffu_batch_check(const saffu_pool *pool, const saffu_batch *batch, int targets)
    int saffu_pool_prior(const saffu_pool *pool, double *prior, double *moments, double *beyond, void *mass,
                         int n_threads)
    int saffu_pool_log_prob(const saffu_pool *pool, const saffu_batch *batch, double *log_prob, int n_threads)
    int saffu_pool_distribution(const saffu_pool *pool, const saffu_batch *batch, double *distribution, int n_threads)
    int saffu_pool_logits(const saffu_pool *pool, const saffu_batch *batch, int size, void *logits, int n_threads)
    int saffu_pool_derivatives(const saffu_pool *pool, const saffu_batch *batch, double *log_prob, double *gradient,
                               double *hessian, int n_threads)

    int saffu_moments_labels(const void *H, int h_size, const int32_t *labels, const double *weights, int64_t n,
                             int64_t n_features, int64_t n_classes, int64_t stride, int add, double *F, double *mass,
                             int n_threads)
    int saffu_moments_soft(const void *H, int h_size, const void *Y, int y_size, const double *weights, int64_t n,
                           int64_t n_features, int64_t n_classes, int add, double *F, double *mass, int n_threads)
    int saffu_moments_csr_labels(const int64_t *indptr, const void *indices, int index_size, const void *data,
                                 int data_size, const int32_t *labels, const double *weights, int64_t n,
                                 int64_t n_features, int64_t n_classes, int add, double *F, double *mass,
                                 int n_threads)
    int saffu_moments_csr_soft(const int64_t *indptr, const void *indices, int index_size, const void *data,
                               int data_size, const void *Y, int y_size, int64_t y_stride, const double *weights,
                               int64_t n, int64_t n_features, int64_t n_classes, int add, double *F, double *mass,
                               int n_threads)
    int saffu_lowest(const void *x, int size, int64_t n, double *lowest, int n_threads)
    int saffu_log_weights_by_class(const void *F, double smoothing, double exponent, int size, int64_t n_classes,
                                   int64_t n_features, void *U, double *S, int n_threads)
    int saffu_sums_by_feature(const void *F, double smoothing, int size, int64_t n_features, int64_t n_classes,
                              double *S, int n_threads)
    int saffu_large_by_feature(const void *F, double smoothing, double exponent, int size, int64_t n_features,
                               int64_t n_classes, double *S, double *shift, int *large)
    int saffu_logs_by_feature(const void *F, const double *S, const double *shift, double smoothing, double exponent,
                              int size, int64_t n_features, int64_t n_classes, void *U, int n_threads)
    int saffu_leave_one_out(const void *H, int h_size, const int32_t *rows, const int32_t *classes,
                            const double *amounts, const double *F, const double *S, double smoothing, int64_t n,
                            int64_t n_rows, int64_t n_features, int64_t n_classes, double *scores, int n_threads)
    int saffu_leave_one_out_csr(const int64_t *indptr, const int32_t *indices, const double *data,
                                const int32_t *rows, const int32_t *classes, const double *amounts, const double *F,
                                const double *S, double smoothing, int64_t n, int64_t n_rows, int64_t n_features,
                                int64_t n_classes, double *scores, int n_threads)
    int64_t saffu_copy_size(int size, int64_t n_entries, int64_t n_inner, int64_t n_columns)
    int saffu_copy(const void *B, int size, int64_t n_inner, int64_t n_columns, int64_t b_stride, void *copy)
    int saffu_product(const int64_t *indptr, const int32_t *indices, const void *data, const void *B,
                      const void *copy, const void *bias, int size, int64_t n_rows, int64_t n_inner,
                      int64_t n_columns, int64_t b_stride, void *Z, int n_threads)
    int saffu_product_double(const int64_t *indptr, const int32_t *indices, const void *data, const void *B,
                             const void *copy, int size, int64_t n_rows, int64_t n_inner, int64_t n_columns,
                             int64_t b_stride, int64_t f_stride, double *F, int n_threads)
    enum:
        SAFFU_N_CODES
        SAFFU_MAX_NGRAM
    ctypedef struct saffu_texts:
        const unsigned char *bytes
        const int64_t *offsets
        const unsigned char *classes
        int tokenizer
        int64_t n
        uint64_t mask
    ctypedef struct saffu_known:
        const uint64_t *hashes
        const int32_t *first
        int64_t n
        int bits
    int saffu_count_tokens(const saffu_texts *texts, int64_t first, int64_t to, int64_t *counts, int n_threads)
    int saffu_hash_ngrams(const saffu_texts *texts, const int64_t *indptr, int64_t first, int64_t to, uint64_t *hashes,
                          int n_threads)
    int saffu_match_ngrams(const uint64_t *hashes, const int64_t *indptr, const saffu_known *known, int64_t first,
                           int64_t to, int32_t *scratch, int32_t *indices, float *counts, int64_t *lengths,
                           int n_threads)

    int saffu_compress_count(const void *X, int size, int64_t n_rows, int64_t n_columns, int64_t *counts,
                             int n_threads)
    int saffu_compress(const void *X, const int64_t *indptr, int size, int64_t n_rows, int64_t n_columns,
                       int32_t *indices, void *data, int n_threads)
    int saffu_take_rows(const int64_t *begins, const int64_t *indptr, const int32_t *indices, const void *data,
                        int size, int64_t n_rows, int64_t n_entries, int32_t *taken_indices, void *taken_data,
                        int n_threads)
    int saffu_softmax(const void *X, int size, int64_t n_rows, int64_t n_columns, void *P, int n_threads)
    int saffu_log_softmax(const void *X, int size, int64_t n_rows, int64_t n_columns, void *P, int n_threads)
    int saffu_logsumexp(const void *X, int size, int64_t n_rows, int64_t n_columns, double *total, int n_threads)
    int saffu_cross_entropy_labels(const void *X, const int32_t *labels, int size, int64_t n_rows, int64_t n_columns,
                                   double *loss, int n_threads)
    int saffu_cross_entropy_soft(const void *X, const void *T, int size, int64_t n_rows, int64_t n_columns,
                                 double *loss, int n_threads)
    int saffu_exp(const void *x, int size, int64_t n, void *y, int n_threads)
    int saffu_log(const void *x, int size, int64_t n, void *y, int n_threads)
    int saffu_cross_entropy_backward(const void *X, const int32_t *labels, const double *scale, int size,
                                     int64_t n_rows, int64_t n_columns, double *loss, void *dX, int n_threads)
    int saffu_log_sums(const void *X, const int32_t *words, const int64_t *begins, int size, int64_t n_rows,
                       int64_t n_columns, int64_t n_cells, void *Z, int n_threads)
    int saffu_softmax_backward(const void *P, const void *dP, int size, int64_t n_rows, int64_t n_columns, void *dX,
                               int n_threads)
    int saffu_mixture(const void *X, const void *T, const int32_t *labels, const double *scale, int size,
                      int64_t n_rows, int64_t n_columns, int64_t n_classes, double *log_prob, void *R, void *dX,
                      int n_threads)
    ctypedef struct saffu_view:
        int64_t n, n_ids, n_positions
        const int32_t *ids
        const int64_t *first
        const int32_t *length
        const int64_t *head
        int64_t step

    ctypedef struct saffu_attend_plan:
        int64_t chunk, n_chunks, size
    saffu_attend_plan saffu_plan_attend(int64_t n, int64_t n_positions)
    int saffu_compare_all(const void *X, int size, int64_t n, int64_t d, int64_t first, int64_t to, void *C,
                          int n_threads)
    int saffu_comparisons(const saffu_view *view, const void *X, const void *cache, int size, int64_t n_types,
                          int64_t d, int64_t n_cached, void *S, int n_threads)
    int saffu_attend(const saffu_view *view, const void *X, const void *cache, const void *W, const void *bias,
                     int size, int64_t n_types, int64_t d, int64_t n_cached, int given, void *S, void *A, void *Z,
                     int n_threads)
    int saffu_attend_backward(const saffu_view *view, const void *X, const void *W, const void *S, const void *A,
                              const void *dZ, int size, int64_t n_types, int64_t d, int64_t first, int64_t to,
                              double *sums, void *dS, int n_threads)
    int saffu_attend_weights(const saffu_view *view, int size, double *sums, void *dW, void *dbias)
    int saffu_attend_embeddings(const saffu_view *view, const void *X, const void *dZ, const void *A, const void *dS,
                                int size, int64_t d, void *dX, int n_threads)
    ctypedef struct saffu_patches:
        int64_t height, width, channels
        int64_t patch_height, patch_width, stride
        int64_t rows, columns
        int64_t pool_rows, pool_columns
        double scale, spread
        int normalize

    ctypedef struct saffu_patch_plan:
        int64_t n, chunk, n_chunks
        int64_t n_inputs, padded
    int saffu_pool_patches(const saffu_patches *patches, const void *images, const void *M, const void *W, int size,
                           int64_t n, int64_t n_units, void *pooled, int n_threads)
    saffu_patch_plan saffu_plan_patches(const saffu_patches *patches, int64_t n, int64_t n_units)
    int saffu_patch_moments(const saffu_patches *patches, const void *images, const int32_t *image_of,
                            const int32_t *place_of, const void *slope, const void *M, const void *W,
                            const saffu_patch_plan *plan, int size, int64_t n_units, int64_t begin, int64_t end,
                            double *sums, int n_threads)

    ctypedef struct saffu_regression_plan:
        int64_t n, chunk, n_chunks
        int64_t n_features, n_classes, padded
    saffu_regression_plan saffu_plan_regression(int64_t n, int64_t n_features, int64_t n_classes)
    int saffu_regression_gradients(const float *A, const float *W, const float *bias, const int32_t *targets,
                                   const saffu_regression_plan *plan, int64_t begin, int64_t end, double *losses,
                                   float *dA, double *sums, int n_threads)

    int saffu_panel_product(const void *A, const void *panels, int size, int64_t n_rows, int64_t n_inner,
                            int64_t n_columns, void *Z, int n_threads)
    int saffu_adam_without_momentum(const void *gradient, double scale, double learning_rate, double beta2,
                                    double epsilon, int64_t step, int size, int64_t n, void *x, void *second,
                                    int n_threads)

    int saffu_lstm_step(const void *R, const void *C_before, int size, int64_t n_rows, int64_t n_cells, void *G, void *C,
                        void *tanh_C, void *M, int n_threads)
    int saffu_lstm_step_backward(const void *C_before, const void *tanh_C, const void *dM, int size, int64_t n_rows,
                                 int64_t n_cells, void *G, void *dC, int n_threads)

    int saffu_adam(const void *gradient, double learning_rate, double beta1, double beta2, double epsilon, int64_t step,
                   int size, int64_t n, void *x, void *first, void *second, int n_threads)

cdef extern from *:
    """
    #include "parallel.h"
    #include <time.h>
    static double saffu_seconds(void) {
        struct timespec now;
        timespec_get(&now, TIME_UTC);
        return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
    }
    #if defined(_OPENMP)
    #define SAFFU_HAS_OPENMP 1
    #else
    #define SAFFU_HAS_OPENMP 0
    #endif
    #if defined(__clang__)
    #define SAFFU_COMPILER "clang " __clang_version__
    #elif defined(__GNUC__)
    #define SAFFU_COMPILER "gcc " __VERSION__
    #elif defined(_MSC_VER)
    #define SAFFU_COMPILER "msvc"
    #else
    #define SAFFU_COMPILER "unknown"
    #endif
    """
    double saffu_seconds() nogil
    int saffu_max_threads()
    int saffu_team(int n_threads, int64_t work) nogil
    const int SAFFU_HAS_OPENMP
    const int SAFFU_HAS_VARIANTS
    const char *SAFFU_COMPILER

cdef extern from "variants.h":
    const int SAFFU_CHOOSES_VARIANT
    int saffu_choose_variant(int most)
