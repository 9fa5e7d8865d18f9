# The C API of _core/src/saffu.h restated for Cython; extern only.
from libc.stdint cimport int32_t, int64_t

cdef extern from "saffu.h" nogil:
    enum:
        SAFFU_OK
        SAFFU_NO_MEMORY
        SAFFU_OUT_OF_RANGE

    int saffu_bucket(const int32_t *contexts, const int32_t *targets, const int64_t *distances,
                     const int64_t *documents, int64_t n, int64_t n_distances, int64_t n_documents, int64_t n_rows,
                     int64_t *row_ptr, int32_t *bucket, int n_threads)
    int saffu_count_rows(const int64_t *row_ptr, const int32_t *bucket, const int32_t *targets,
                         const int64_t *distances, const int64_t *documents, const int64_t *segment, int64_t n,
                         int64_t n_distances, int64_t n_documents, int64_t n_rows, int64_t n_cols, int64_t *indptr,
                         int32_t *indices, int64_t *counts, int n_threads)
    int saffu_find(const int64_t *indptr, const int32_t *indices, const int32_t *rows, const int32_t *cols,
                   int64_t n, int32_t *entry, int n_threads)
    int saffu_weigh(const int64_t *indptr, const int64_t *counts, const int32_t *parent, const double *lower,
                    const double *discounts, int64_t n_rows, double *total, double *mass, double *u, double *p,
                    int n_threads)

    enum:
        SAFFU_BLOCK
    int saffu_pack_sizes(const int64_t *indptr, const int32_t *words, int64_t n_rows, int64_t *head_ptr,
                         int64_t *tail_ptr, int n_threads)
    int saffu_pack(const int64_t *indptr, const int32_t *words, const double *u, const int64_t *head_ptr,
                   const int64_t *tail_ptr, int64_t n_rows, double *head, int32_t *tail_word, double *tail_u,
                   int n_threads)

    ctypedef struct saffu_pool:
        int64_t vocab_size, n_states, n_contexts, n_windows, n_features
        const int64_t *head_ptr
        const int64_t *tail_ptr
        const double *head
        const int32_t *tail_word
        const double *tail_u
        const double *log_prior
        const double *unigram
        const double *theta
        const int64_t *window
        const double *window_mass
        int64_t induction
        double induction_mass

    ctypedef struct saffu_batch:
        int64_t n, n_ids
        const int32_t *ids
        const int64_t *positions
        const int64_t *begins
        const int32_t *rows
        const int32_t *states
        const double *target_u

    int saffu_pool_log_prob(const saffu_pool *pool, const saffu_batch *batch, double *log_prob, int n_threads)
    int saffu_pool_distribution(const saffu_pool *pool, const saffu_batch *batch, double *distribution, int n_threads)
    int saffu_pool_derivatives(const saffu_pool *pool, const saffu_batch *batch, double *log_prob, double *gradient,
                               double *hessian, int n_threads)

cdef extern from *:
    """
    #include "parallel.h"
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
    const int SAFFU_HAS_OPENMP
    const int SAFFU_HAS_VARIANTS
    const char *SAFFU_COMPILER
