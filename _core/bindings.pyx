# saffu._core: one def per kernel. No arithmetic here: allocate, release the GIL, call, raise from the status.
# Callers in the package saffu have validated values (ids in range, documents ascending); shapes and dtypes are
# checked again here by the typed memoryviews, so that a wrong call is an exception and never a wild read.
from libc.stdint cimport int32_t, int64_t

import numpy as np

cimport kernels as k


cdef int check(int status) except -1:
    """The one table from status codes to exceptions."""
    if status == k.SAFFU_OK:
        return 0
    if status == k.SAFFU_NO_MEMORY:
        raise MemoryError("a scratch buffer of the compiled core could not be allocated")
    if status == k.SAFFU_OUT_OF_RANGE:
        raise ValueError("an id is out of range")
    raise RuntimeError(f"unknown status {status} from the compiled core")


cdef int same_length(Py_ssize_t a, Py_ssize_t b, str names) except -1:
    if a != b:
        raise ValueError(f"{names} must have equal lengths, got {a} and {b}")
    return 0


def config():
    """How the core was built."""
    return {
        "compiler": (<bytes>k.SAFFU_COMPILER).decode(),
        "openmp": bool(k.SAFFU_HAS_OPENMP),
        "simd_variants": ["x86-64-v4", "x86-64-v3", "baseline"] if k.SAFFU_HAS_VARIANTS else ["baseline"],
    }


# ---- count.c -----------------------------------------------------------------------------------------------------


def count(const int32_t[::1] contexts, const int32_t[::1] targets, const int64_t[::1] distances,
          const int64_t[::1] documents, int64_t n_rows, int64_t n_cols, int n_threads):
    """CSR counts (indptr, indices, counts) of the pairs (contexts[t], targets[t + k]), k in distances."""
    cdef int64_t n = contexts.shape[0], n_distances = distances.shape[0], n_documents = documents.shape[0]
    cdef int status
    same_length(n, targets.shape[0], "contexts and targets")
    indptr = np.zeros(n_rows + 1, np.int64)
    if n == 0 or n_rows == 0 or n_distances == 0 or n_documents == 0:
        return indptr, np.empty(0, np.int32), np.empty(0, np.int64)
    row_ptr = np.empty(n_rows + 1, np.int64)
    bucket = np.empty(n, np.int32)
    cdef int64_t[::1] row_ptr_ = row_ptr, indptr_ = indptr
    cdef int32_t[::1] bucket_ = bucket
    with nogil:
        status = k.saffu_bucket(&contexts[0], &targets[0], &distances[0], &documents[0], n, n_distances, n_documents,
                                n_rows, &row_ptr_[0], &bucket_[0], n_threads)
    check(status)
    segment = np.zeros(n_rows + 1, np.int64)
    np.cumsum(np.minimum(np.diff(row_ptr) * n_distances, n_cols), out=segment[1:])
    # Room for the worst case; pages that no row writes are never touched, and the rest is given back by resize.
    indices = np.empty(max(segment[n_rows], 1), np.int32)
    counts = np.empty(max(segment[n_rows], 1), np.int64)
    cdef int64_t[::1] segment_ = segment, counts_ = counts
    cdef int32_t[::1] indices_ = indices
    with nogil:
        status = k.saffu_count_rows(&row_ptr_[0], &bucket_[0], &targets[0], &distances[0], &documents[0],
                                    &segment_[0], n, n_distances, n_documents, n_rows, n_cols, &indptr_[0],
                                    &indices_[0], &counts_[0], n_threads)
    check(status)
    counts_ = None
    indices_ = None
    indices.resize(indptr[n_rows], refcheck=False)
    counts.resize(indptr[n_rows], refcheck=False)
    return indptr, indices, counts


def find(const int64_t[::1] indptr, const int32_t[::1] indices, const int32_t[::1] rows, const int32_t[::1] cols,
         int n_threads):
    """Place of each (rows[i], cols[i]) in a CSR matrix, int32, or -1."""
    cdef int64_t n = rows.shape[0]
    same_length(n, cols.shape[0], "rows and cols")
    entry = np.full(n, -1, np.int32)
    cdef int32_t[::1] entry_ = entry
    cdef int status
    if n and indices.shape[0]:
        with nogil:
            status = k.saffu_find(&indptr[0], &indices[0], &rows[0], &cols[0], n, &entry_[0], n_threads)
        check(status)
    return entry


# ---- explicit.c --------------------------------------------------------------------------------------------------


def weigh(const int64_t[::1] indptr, const int64_t[::1] counts, const int32_t[::1] parent, const double[::1] lower,
          const double[::1] discounts, int n_threads):
    """(total, mass, u, p) of a whole CSR table of counts."""
    cdef int64_t n_rows = indptr.shape[0] - 1, n = counts.shape[0]
    cdef int status
    same_length(n, parent.shape[0], "counts and parent")
    same_length(discounts.shape[0], 3, "discounts and (1, 2, 3+)")
    total, mass, u, p = np.zeros(n_rows), np.zeros(n_rows), np.empty(n), np.empty(n)
    cdef double[::1] total_ = total, mass_ = mass, u_ = u, p_ = p
    if n:
        with nogil:
            status = k.saffu_weigh(&indptr[0], &counts[0], &parent[0], &lower[0], &discounts[0], n_rows, &total_[0],
                                   &mass_[0], &u_[0], &p_[0], n_threads)
        check(status)
    return total, mass, u, p


# ---- pool.c ------------------------------------------------------------------------------------------------------

BLOCK = k.SAFFU_BLOCK


def pack(const int64_t[::1] indptr, const int32_t[::1] words, const double[::1] u, int n_threads):
    """Packed rows (head_ptr, head, tail_ptr, tail_word, tail_u) of a CSR matrix."""
    cdef int64_t n_rows = indptr.shape[0] - 1
    cdef int status
    same_length(words.shape[0], u.shape[0], "words and u")
    head_ptr, tail_ptr = np.zeros(n_rows + 1, np.int64), np.zeros(n_rows + 1, np.int64)
    cdef int64_t[::1] head_ptr_ = head_ptr, tail_ptr_ = tail_ptr
    with nogil:
        status = k.saffu_pack_sizes(&indptr[0], &words[0], n_rows, &head_ptr_[0], &tail_ptr_[0], n_threads)
    check(status)
    head, tail_word, tail_u = np.empty(head_ptr[n_rows]), np.empty(tail_ptr[n_rows], np.int32), np.empty(tail_ptr[n_rows])
    cdef double[::1] head_ = head, tail_u_ = tail_u
    cdef int32_t[::1] tail_word_ = tail_word
    with nogil:
        status = k.saffu_pack(&indptr[0], &words[0], &u[0], &head_ptr_[0], &tail_ptr_[0], n_rows, &head_[0],
                              &tail_word_[0], &tail_u_[0], n_threads)
    check(status)
    return head_ptr, head, tail_ptr, tail_word, tail_u


cdef class Batch:
    """Positions to score: views of the arrays of saffu_batch, kept alive."""

    cdef k.saffu_batch c
    cdef int64_t n_contexts
    cdef object kept

    def __init__(self, const int32_t[::1] ids, const int64_t[::1] positions, const int64_t[::1] begins,
                 const int32_t[:, ::1] rows, const int32_t[::1] states, const double[:, ::1] target_u=None):
        cdef int64_t n = positions.shape[0]
        same_length(begins.shape[0], n, "begins and positions")
        same_length(rows.shape[0], n, "rows and positions")
        same_length(states.shape[0], n, "states and positions")
        self.kept = (ids, positions, begins, rows, states, target_u)
        self.c.n, self.c.n_ids, self.n_contexts = n, ids.shape[0], rows.shape[1]
        self.c.ids, self.c.positions, self.c.begins = &ids[0], &positions[0], &begins[0]
        self.c.rows, self.c.states = &rows[0, 0], &states[0]
        self.c.target_u = NULL
        if target_u is not None:
            same_length(target_u.shape[0], n, "target_u and positions")
            same_length(target_u.shape[1], rows.shape[1], "columns of target_u and rows")
            self.c.target_u = &target_u[0, 0]


cdef class Pool:
    """A pooled model: views of the arrays of saffu_pool, kept alive."""

    cdef k.saffu_pool c
    cdef object kept

    def __init__(self, packed, const double[:, ::1] log_prior, const double[::1] unigram, const double[:, ::1] theta,
                 int64_t n_contexts, const int64_t[::1] window, const double[::1] window_mass, int64_t induction,
                 double induction_mass):
        cdef const int64_t[::1] head_ptr = packed[0], tail_ptr = packed[2]
        cdef const double[::1] head = packed[1], tail_u = packed[4]
        cdef const int32_t[::1] tail_word = packed[3]
        cdef int64_t vocab_size = unigram.shape[0]
        same_length(log_prior.shape[0], 2, "log_prior and (p, p_cont)")
        same_length(log_prior.shape[1], -(-vocab_size // BLOCK) * BLOCK, "log_prior and whole blocks of words")
        same_length(window.shape[0], window_mass.shape[0], "window and window_mass")
        self.kept = (packed, log_prior, unigram, theta, window, window_mass)
        self.c.vocab_size, self.c.n_states, self.c.n_contexts = vocab_size, theta.shape[0], n_contexts
        self.c.n_features = n_contexts + window.shape[0] + 1
        same_length(theta.shape[1], 2 + self.c.n_features, "columns of theta and features")
        self.c.n_windows, self.c.induction, self.c.induction_mass = window.shape[0], induction, induction_mass
        self.c.head_ptr, self.c.tail_ptr, self.c.head = &head_ptr[0], &tail_ptr[0], &head[0]
        self.c.tail_word, self.c.tail_u = &tail_word[0], &tail_u[0]
        self.c.log_prior, self.c.unigram, self.c.theta = &log_prior[0, 0], &unigram[0], &theta[0, 0]
        self.c.window, self.c.window_mass = &window[0], &window_mass[0]

    cdef int fits(self, Batch batch) except -1:
        return same_length(batch.n_contexts, self.c.n_contexts, "columns of rows and contexts")

    def log_prob(self, Batch batch, int n_threads):
        """(n,) log-probabilities of the targets, nats."""
        cdef int status
        self.fits(batch)
        out = np.empty(batch.c.n)
        cdef double[::1] out_ = out
        with nogil:
            status = k.saffu_pool_log_prob(&self.c, &batch.c, &out_[0], n_threads)
        check(status)
        return out

    def distribution(self, Batch batch, int n_threads):
        """(n, vocab_size) distributions of the next word."""
        cdef int status
        self.fits(batch)
        out = np.empty((batch.c.n, self.c.vocab_size))
        cdef double[:, ::1] out_ = out
        with nogil:
            status = k.saffu_pool_distribution(&self.c, &batch.c, &out_[0, 0], n_threads)
        check(status)
        return out

    def derivatives(self, Batch batch, bint second, int n_threads):
        """(log_prob, gradient, hessian or None), summed over the batch."""
        cdef int status
        self.fits(batch)
        if batch.c.target_u == NULL:
            raise ValueError("derivatives need target_u")
        shape = (self.c.n_states, 2 + self.c.n_features)
        log_prob, gradient = np.empty(batch.c.n), np.empty(shape)
        hessian = np.empty((*shape, shape[1])) if second else None
        cdef double[::1] log_prob_ = log_prob
        cdef double[:, ::1] gradient_ = gradient
        cdef double[:, :, ::1] hessian_
        cdef double *hessian_start = NULL
        if second:
            hessian_ = hessian
            hessian_start = &hessian_[0, 0, 0]
        with nogil:
            status = k.saffu_pool_derivatives(&self.c, &batch.c, &log_prob_[0], &gradient_[0, 0], hessian_start,
                                              n_threads)
        check(status)
        return log_prob, gradient, hessian
