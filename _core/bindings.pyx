# saffu._core: one def per kernel. No arithmetic here: allocate, release the GIL, call, raise from the status.
# Callers in the package saffu have validated values (ids in range, documents ascending); shapes and dtypes are
# checked again here by the typed memoryviews, so that a wrong call is an exception and never a wild read.
from libc.stdint cimport int32_t, int64_t

import numpy as np

cimport cython

cimport kernels as k


cdef int check(int status) except -1:
    """The one table from status codes to exceptions."""
    if status == k.SAFFU_OK:
        return 0
    if status == k.SAFFU_NO_MEMORY:
        raise MemoryError("a scratch buffer of the compiled core could not be allocated")
    if status == k.SAFFU_OUT_OF_RANGE:
        raise ValueError("an id is out of range")
    if status == k.SAFFU_NOT_A_COUNT:
        raise ValueError("counts must be finite and not negative")
    if status == k.SAFFU_NOT_FINITE:
        raise ValueError("a weight would be infinite: its counts, probabilities, discounts or exponent are out of proportion")
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


def max_threads():
    """Threads that OpenMP would use for the calling thread; 1 in a sequential build."""
    return k.saffu_max_threads()


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
    if not all(0 <= d <= n_d for d, n_d in zip(discounts, (1, 2, 3))):
        raise ValueError(f"discounts must lie between 0 and 1, 2 and 3, got {list(discounts)}")
    total, mass, u, p = np.zeros(n_rows), np.zeros(n_rows), np.empty(n), np.empty(n)
    cdef double[::1] total_ = total, mass_ = mass, u_ = u, p_ = p
    if n:
        with nogil:
            status = k.saffu_weigh(&indptr[0], &counts[0], &parent[0], &lower[0], &discounts[0], n_rows, &total_[0],
                                   &mass_[0], &u_[0], &p_[0], n_threads)
        check(status)
    return total, mass, u, p


ctypedef fused real:
    float
    double

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
    n_head, n_tail = head_ptr[n_rows], tail_ptr[n_rows]
    head, tail_word, tail_u = np.empty(n_head), np.empty(n_tail, np.int32), np.empty(n_tail)
    cdef double[::1] head_ = head, tail_u_ = tail_u
    cdef int32_t[::1] tail_word_ = tail_word
    with nogil:
        status = k.saffu_pack(&indptr[0], &words[0], &u[0], &head_ptr_[0], &tail_ptr_[0], n_rows, &head_[0],
                              &tail_word_[0], &tail_u_[0], n_threads)
    check(status)
    return head_ptr, head, tail_ptr, tail_word, tail_u


@cython.final
@cython.auto_pickle(False)
cdef class Batch:
    """Positions to score: views of the arrays of saffu_batch, kept alive."""

    cdef k.saffu_batch c
    cdef int64_t n_contexts
    cdef object kept

    def __init__(self, const int32_t[::1] ids, const int64_t[::1] positions, const int64_t[::1] begins,
                 const int32_t[:, ::1] rows, const int32_t[::1] states, const double[:, ::1] target_u=None,
                 const int32_t[::1] previous=None):
        cdef int64_t n = positions.shape[0]
        same_length(begins.shape[0], n, "begins and positions")
        same_length(rows.shape[0], n, "rows and positions")
        same_length(states.shape[0], n, "states and positions")
        self.kept = (ids, positions, begins, rows, states, target_u, previous)
        self.c.n, self.c.n_ids, self.n_contexts = n, ids.shape[0], rows.shape[1]
        self.c.ids, self.c.positions, self.c.begins = &ids[0], &positions[0], &begins[0]
        self.c.rows, self.c.states = &rows[0, 0], &states[0]
        self.c.target_u = NULL
        if target_u is not None:
            same_length(target_u.shape[0], n, "target_u and positions")
            same_length(target_u.shape[1], rows.shape[1], "columns of target_u and rows")
            self.c.target_u = &target_u[0, 0]
        self.c.previous = NULL
        if previous is not None:
            same_length(previous.shape[0], ids.shape[0], "previous and ids")
            self.c.previous = &previous[0]


@cython.final
@cython.auto_pickle(False)
cdef class Pool:
    """A pooled model: views of the arrays of saffu_pool, kept alive."""

    cdef k.saffu_pool c
    cdef object kept, prior, moments

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
        n_blocks = log_prior.shape[1] // BLOCK
        self.prior = np.empty((theta.shape[0], log_prior.shape[1]))
        self.moments = np.empty((theta.shape[0], n_blocks + 1, k.SAFFU_MOMENTS))
        cdef double[:, ::1] prior_ = self.prior
        cdef double[:, :, ::1] moments_ = self.moments
        cdef int status
        with nogil:
            status = k.saffu_pool_prior(&self.c, &prior_[0, 0], &moments_[0, 0, 0])
        check(status)
        self.c.prior, self.c.prior_moments = &prior_[0, 0], &moments_[0, 0, 0]

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

    def logits(self, Batch batch, real[:, ::1] out, int n_threads):
        """Log-probabilities of every word, nats, into out (n, vocab_size)."""
        cdef int status
        self.fits(batch)
        same_length(out.shape[0], batch.c.n, "rows of out and positions")
        same_length(out.shape[1], self.c.vocab_size, "columns of out and words")
        with nogil:
            status = k.saffu_pool_logits(&self.c, &batch.c, &out[0, 0], sizeof(real), n_threads)
        check(status)

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


# ---- moments.c, weigh.c (dense), softmax.c -----------------------------------------------------------------------

ctypedef fused real_target:
    float
    double

ctypedef fused index:
    int32_t
    int64_t


cdef const double *optional(const double[::1] weights, Py_ssize_t n) except? NULL:
    """The weights as a pointer, NULL for None."""
    if weights is None:
        return NULL
    same_length(weights.shape[0], n, "sample_weight and the examples")
    return &weights[0]


cdef int same_shape(double[:, ::1] F, double[::1] mass, Py_ssize_t n_features) except -1:
    same_length(F.shape[1], n_features, "the rows of F and of the features")
    same_length(F.shape[0], mass.shape[0], "F and mass")
    return 0


def moments_labels(const real[:, ::1] H, const int32_t[::1] labels, const double[::1] weights, double[:, ::1] F,
                   double[::1] mass, bint add, int n_threads):
    """F (N, D) and mass (N) from dense features and labels, in place."""
    cdef int64_t n = H.shape[0], n_features = H.shape[1], n_classes = F.shape[0]
    cdef const double *w = optional(weights, n)
    cdef int status
    same_length(n, labels.shape[0], "features and labels")
    same_shape(F, mass, n_features)
    with nogil:
        status = k.saffu_moments_labels(&H[0, 0], sizeof(real), &labels[0], w, n, n_features, n_classes, add,
                                        &F[0, 0], &mass[0], n_threads)
    check(status)


def moments_soft(const real[:, ::1] H, const real_target[:, ::1] Y, const double[::1] weights, double[:, ::1] F,
                 double[::1] mass, bint add, int n_threads):
    """F (N, D) and mass (N) from dense features and soft targets, in place."""
    cdef int64_t n = H.shape[0], n_features = H.shape[1], n_classes = F.shape[0]
    cdef const double *w = optional(weights, n)
    cdef int status
    same_length(n, Y.shape[0], "features and targets")
    same_length(n_classes, Y.shape[1], "F and the columns of the targets")
    same_shape(F, mass, n_features)
    with nogil:
        status = k.saffu_moments_soft(&H[0, 0], sizeof(real), &Y[0, 0], sizeof(real_target), w, n, n_features,
                                      n_classes, add, &F[0, 0], &mass[0], n_threads)
    check(status)


def moments_csr_labels(const int64_t[::1] indptr, const index[::1] indices, const real[::1] data,
                       const int32_t[::1] labels, const double[::1] weights, double[:, ::1] F, double[::1] mass,
                       bint add, int n_threads):
    """F (N, D) and mass (N) from CSR features and labels, in place."""
    cdef int64_t n = labels.shape[0], n_features = F.shape[1], n_classes = F.shape[0], n_entries = data.shape[0]
    cdef const double *w = optional(weights, n)
    cdef int status
    same_length(n + 1, indptr.shape[0], "labels and rows (and one)")
    same_length(n_entries, indices.shape[0], "data and indices")
    same_shape(F, mass, n_features)
    with nogil:
        status = k.saffu_moments_csr_labels(&indptr[0], &indices[0], sizeof(index), &data[0], sizeof(real),
                                            &labels[0], w, n, n_entries, n_features, n_classes, add, &F[0, 0],
                                            &mass[0], n_threads)
    check(status)


def moments_csr_soft(const int64_t[::1] indptr, const index[::1] indices, const real[::1] data,
                     const real_target[:, ::1] Y, const double[::1] weights, double[:, ::1] F, double[::1] mass,
                     bint add, int n_threads):
    """F (N, D) and mass (N) from CSR features and soft targets, in place."""
    cdef int64_t n = Y.shape[0], n_features = F.shape[1], n_classes = F.shape[0], n_entries = data.shape[0]
    cdef const double *w = optional(weights, n)
    cdef int status
    same_length(n + 1, indptr.shape[0], "targets and rows (and one)")
    same_length(n_entries, indices.shape[0], "data and indices")
    same_length(n_classes, Y.shape[1], "F and the columns of the targets")
    same_shape(F, mass, n_features)
    with nogil:
        status = k.saffu_moments_csr_soft(&indptr[0], &indices[0], sizeof(index), &data[0], sizeof(real), &Y[0, 0],
                                          sizeof(real_target), w, n, n_entries, n_features, n_classes, add,
                                          &F[0, 0], &mass[0], n_threads)
    check(status)


def lowest(const real[::1] x, int n_threads):
    """The least entry; NaN if one is NaN or infinite, inf if there is none."""
    cdef double result = 0.0
    cdef int64_t n = x.shape[0]
    cdef int status
    with nogil:
        status = k.saffu_lowest(&x[0], sizeof(real), n, &result, n_threads)
    check(status)
    return result


def log_weights(const real[:, ::1] F, bint by_class, double smoothing, double exponent, int n_threads):
    """U like F, and S (N) float64: log(F + smoothing) - exponent log S; classes are rows if by_class, else columns."""
    cdef int64_t n_rows = F.shape[0], n_columns = F.shape[1]
    cdef int status
    U = np.empty((n_rows, n_columns), np.float32 if real is float else np.float64)
    S = np.zeros(n_rows if by_class else n_columns)
    cdef real[:, ::1] U_ = U
    cdef double[::1] S_ = S
    with nogil:
        if real is float:
            if by_class:
                status = k.saffu_log_weights_by_class_f32(&F[0, 0], smoothing, exponent, n_rows, n_columns, &U_[0, 0],
                                                          &S_[0], n_threads)
            else:
                status = k.saffu_log_weights_by_feature_f32(&F[0, 0], smoothing, exponent, n_rows, n_columns,
                                                            &U_[0, 0], &S_[0], n_threads)
        else:
            if by_class:
                status = k.saffu_log_weights_by_class_f64(&F[0, 0], smoothing, exponent, n_rows, n_columns, &U_[0, 0],
                                                          &S_[0], n_threads)
            else:
                status = k.saffu_log_weights_by_feature_f64(&F[0, 0], smoothing, exponent, n_rows, n_columns,
                                                            &U_[0, 0], &S_[0], n_threads)
    check(status)
    return U, S


def leave_one_out(const real[:, ::1] H, const int32_t[::1] rows, const int32_t[::1] classes,
                  const double[::1] amounts, const double[:, ::1] F, const double[::1] S, double smoothing,
                  int n_threads):
    """Scores of dense rows for their classes, each without its own share of the counts."""
    cdef int64_t n = rows.shape[0]
    cdef int status
    same_length(n, classes.shape[0], "rows and classes")
    same_length(n, amounts.shape[0], "rows and amounts")
    same_length(F.shape[0], S.shape[0], "F and S")
    same_length(F.shape[1], H.shape[1], "the rows of F and of the features")
    scores = np.zeros(n)
    cdef double[::1] scores_ = scores
    with nogil:
        status = k.saffu_leave_one_out(&H[0, 0], sizeof(real), &rows[0], &classes[0], &amounts[0], &F[0, 0], &S[0],
                                       smoothing, n, H.shape[0], H.shape[1], F.shape[0], &scores_[0], n_threads)
    check(status)
    return scores


def leave_one_out_csr(const int64_t[::1] indptr, const int32_t[::1] indices, const double[::1] data,
                      const int32_t[::1] rows, const int32_t[::1] classes, const double[::1] amounts,
                      const double[:, ::1] F, const double[::1] S, double smoothing, int n_threads):
    """Scores of CSR rows (a valid indptr, int32 indices) for their classes, each without its own share."""
    cdef int64_t n = rows.shape[0], n_rows = indptr.shape[0] - 1
    cdef int status
    same_length(n, classes.shape[0], "rows and classes")
    same_length(n, amounts.shape[0], "rows and amounts")
    same_length(F.shape[0], S.shape[0], "F and S")
    same_length(indices.shape[0], data.shape[0], "indices and data")
    if n_rows < 0 or indptr[0] < 0 or indptr[n_rows] > data.shape[0] or (np.diff(indptr) < 0).any():
        raise ValueError("indptr does not fit indices and data")
    scores = np.zeros(n)
    cdef double[::1] scores_ = scores
    with nogil:
        status = k.saffu_leave_one_out_csr(&indptr[0], &indices[0], &data[0], &rows[0], &classes[0], &amounts[0],
                                           &F[0, 0], &S[0], smoothing, n, n_rows, F.shape[1], F.shape[0],
                                           &scores_[0], n_threads)
    check(status)
    return scores


cdef int64_t csr_rows(const int64_t[::1] indptr, const int32_t[::1] indices, Py_ssize_t n_entries) except -1:
    """The number of rows of a CSR matrix whose parts fit together."""
    cdef int64_t n_rows = indptr.shape[0] - 1
    same_length(indices.shape[0], n_entries, "indices and data")
    if n_rows < 0 or indptr[0] < 0 or indptr[n_rows] > n_entries or (np.diff(indptr) < 0).any():
        raise ValueError("indptr does not fit indices and data")
    return n_rows


cdef int64_t row_stride(Py_ssize_t rows, Py_ssize_t columns, Py_ssize_t size, int64_t n_columns) except -1:
    """Bytes between rows as a number of entries; entries of a row must be adjacent."""
    if (columns != size and n_columns > 1) or rows % size or rows < 0:
        raise ValueError("the entries of a row must be adjacent")
    return rows // size


def product(const int64_t[::1] indptr, const int32_t[::1] indices, const real[::1] data, const real[:, :] B,
            const real[::1] bias, int n_threads, out=None):
    """Z = H B + bias for a CSR matrix H (a valid indptr); the rows of B may be apart. bias and out may be None."""
    cdef int64_t n_rows = csr_rows(indptr, indices, data.shape[0]), n_inner = B.shape[0], n_columns = B.shape[1]
    cdef int64_t stride = row_stride(B.strides[0], B.strides[1], sizeof(real), n_columns)
    cdef const real *b = NULL
    cdef int status = 0
    if bias is not None:
        same_length(bias.shape[0], n_columns, "bias and the columns of B")
        b = &bias[0]
    Z = np.empty((n_rows, n_columns), np.float32 if real is float else np.float64) if out is None else out
    cdef real[:, ::1] Z_ = Z
    same_length(Z_.shape[0], n_rows, "the rows of out and of H")
    same_length(Z_.shape[1], n_columns, "the columns of out and of B")
    with nogil:
        if real is float:
            status = k.saffu_product_f32(&indptr[0], &indices[0], &data[0], &B[0, 0], stride, b, n_rows, n_inner,
                                         n_columns, &Z_[0, 0], n_threads)
        else:
            status = k.saffu_product_f64(&indptr[0], &indices[0], &data[0], &B[0, 0], stride, b, n_rows, n_inner,
                                         n_columns, &Z_[0, 0], n_threads)
    check(status)
    return Z


def product_double(const int64_t[::1] indptr, const int32_t[::1] indices, const real[::1] data, const real[:, :] B,
                   double[:, :] F, int n_threads):
    """F = H B in float64, in place, for a CSR matrix H (a valid indptr); the rows of B and of F may be apart."""
    cdef int64_t n_rows = csr_rows(indptr, indices, data.shape[0]), n_inner = B.shape[0], n_columns = B.shape[1]
    cdef int64_t stride = row_stride(B.strides[0], B.strides[1], sizeof(real), n_columns)
    cdef int64_t f_stride = row_stride(F.strides[0], F.strides[1], sizeof(double), n_columns)
    cdef int status = 0
    same_length(F.shape[0], n_rows, "the rows of F and of H")
    same_length(F.shape[1], n_columns, "the columns of F and of B")
    with nogil:
        if real is float:
            status = k.saffu_product_double_f32(&indptr[0], &indices[0], &data[0], &B[0, 0], stride, n_rows, n_inner,
                                                n_columns, &F[0, 0], f_stride, n_threads)
        else:
            status = k.saffu_product_double_f64(&indptr[0], &indices[0], &data[0], &B[0, 0], stride, n_rows, n_inner,
                                                n_columns, &F[0, 0], f_stride, n_threads)
    check(status)


def compress(const real[:, ::1] X, int n_threads):
    """indptr, indices and data: the CSR form of a dense matrix."""
    cdef int64_t n_rows = X.shape[0], n_columns = X.shape[1]
    cdef int status = 0
    indptr = np.zeros(n_rows + 1, np.int64)
    cdef int64_t[::1] indptr_ = indptr
    with nogil:
        if real is float:
            status = k.saffu_compress_count_f32(&X[0, 0], n_rows, n_columns, &indptr_[0] + 1, n_threads)
        else:
            status = k.saffu_compress_count_f64(&X[0, 0], n_rows, n_columns, &indptr_[0] + 1, n_threads)
    check(status)
    np.cumsum(indptr, out=indptr)
    indices, data = np.empty(indptr[n_rows], np.int32), np.empty(indptr[n_rows], np.asarray(X).dtype)
    cdef int32_t[::1] indices_ = indices
    cdef real[::1] data_ = data
    with nogil:
        if real is float:
            status = k.saffu_compress_f32(&X[0, 0], &indptr_[0], n_rows, n_columns, &indices_[0], &data_[0], n_threads)
        else:
            status = k.saffu_compress_f64(&X[0, 0], &indptr_[0], n_rows, n_columns, &indices_[0], &data_[0], n_threads)
    check(status)
    return indptr, indices, data


def take_rows(const int64_t[::1] begins, const int64_t[::1] indptr, const int32_t[::1] indices, const real[::1] data,
              int n_threads):
    """indices and data of the rows of a CSR matrix that begin at begins; their ends are given by the new indptr."""
    cdef int64_t n_rows = begins.shape[0], n_entries = data.shape[0]
    cdef int status
    same_length(n_rows + 1, indptr.shape[0], "begins and indptr (less one)")
    same_length(n_entries, indices.shape[0], "indices and data")
    if indptr[0] != 0 or (np.diff(indptr) < 0).any():
        raise ValueError("indptr must ascend from 0")
    taken_indices = np.empty(indptr[n_rows], np.int32)
    taken_data = np.empty(indptr[n_rows], np.float32 if real is float else np.float64)
    cdef int32_t[::1] taken_indices_ = taken_indices
    cdef real[::1] taken_data_ = taken_data
    with nogil:
        if real is float:
            status = k.saffu_take_rows_f32(&begins[0], &indptr[0], &indices[0], &data[0], n_rows, n_entries,
                                           &taken_indices_[0], &taken_data_[0], n_threads)
        else:
            status = k.saffu_take_rows_f64(&begins[0], &indptr[0], &indices[0], &data[0], n_rows, n_entries,
                                           &taken_indices_[0], &taken_data_[0], n_threads)
    check(status)
    return taken_indices, taken_data


def softmax(const real[:, ::1] X, bint log, int n_threads):
    """Softmax of each row, or its logarithm."""
    cdef int64_t n_rows = X.shape[0], n_columns = X.shape[1]
    cdef int status
    P = np.empty((n_rows, n_columns), np.float32 if real is float else np.float64)
    cdef real[:, ::1] P_ = P
    with nogil:
        if real is float:
            if log:
                status = k.saffu_log_softmax_f32(&X[0, 0], n_rows, n_columns, &P_[0, 0], n_threads)
            else:
                status = k.saffu_softmax_f32(&X[0, 0], n_rows, n_columns, &P_[0, 0], n_threads)
        else:
            if log:
                status = k.saffu_log_softmax_f64(&X[0, 0], n_rows, n_columns, &P_[0, 0], n_threads)
            else:
                status = k.saffu_softmax_f64(&X[0, 0], n_rows, n_columns, &P_[0, 0], n_threads)
    check(status)
    return P


def logsumexp(const real[:, ::1] X, int n_threads):
    """Log of the sum of the exponentials of each row, float64."""
    cdef int64_t n_rows = X.shape[0], n_columns = X.shape[1]
    cdef int status
    total = np.empty(n_rows)
    cdef double[::1] total_ = total
    with nogil:
        if real is float:
            status = k.saffu_logsumexp_f32(&X[0, 0], n_rows, n_columns, &total_[0], n_threads)
        else:
            status = k.saffu_logsumexp_f64(&X[0, 0], n_rows, n_columns, &total_[0], n_threads)
    check(status)
    return total


def cross_entropy_labels(const real[:, ::1] X, const int32_t[::1] labels, int n_threads):
    """Minus the log-probability of each row's label, float64."""
    cdef int64_t n_rows = X.shape[0], n_columns = X.shape[1]
    cdef int status
    same_length(n_rows, labels.shape[0], "rows and labels")
    loss = np.empty(n_rows)
    cdef double[::1] loss_ = loss
    with nogil:
        if real is float:
            status = k.saffu_cross_entropy_labels_f32(&X[0, 0], &labels[0], n_rows, n_columns, &loss_[0], n_threads)
        else:
            status = k.saffu_cross_entropy_labels_f64(&X[0, 0], &labels[0], n_rows, n_columns, &loss_[0], n_threads)
    check(status)
    return loss


def cross_entropy_soft(const real[:, ::1] X, const real[:, ::1] T, int n_threads):
    """Cross-entropy of each row's softmax with its targets, float64."""
    cdef int64_t n_rows = X.shape[0], n_columns = X.shape[1]
    cdef int status
    same_length(n_rows, T.shape[0], "rows and targets")
    same_length(n_columns, T.shape[1], "columns and targets")
    loss = np.empty(n_rows)
    cdef double[::1] loss_ = loss
    with nogil:
        if real is float:
            status = k.saffu_cross_entropy_soft_f32(&X[0, 0], &T[0, 0], n_rows, n_columns, &loss_[0], n_threads)
        else:
            status = k.saffu_cross_entropy_soft_f64(&X[0, 0], &T[0, 0], n_rows, n_columns, &loss_[0], n_threads)
    check(status)
    return loss


def cross_entropy_backward(real[:, ::1] X, const int32_t[::1] labels, const double[::1] scale, int n_threads):
    """Minus the log-probability of each row's label, float64; X becomes the gradient of their scaled sum, in place."""
    cdef int64_t n_rows = X.shape[0], n_columns = X.shape[1]
    cdef int status
    cdef const double *scale_ = NULL
    same_length(n_rows, labels.shape[0], "rows and labels")
    if scale is not None:
        same_length(n_rows, scale.shape[0], "rows and scale")
        scale_ = &scale[0]
    loss = np.empty(n_rows)
    cdef double[::1] loss_ = loss
    with nogil:
        if real is float:
            status = k.saffu_cross_entropy_backward_f32(&X[0, 0], &labels[0], scale_, n_rows, n_columns, &loss_[0],
                                                        &X[0, 0], n_threads)
        else:
            status = k.saffu_cross_entropy_backward_f64(&X[0, 0], &labels[0], scale_, n_rows, n_columns, &loss_[0],
                                                        &X[0, 0], n_threads)
    check(status)
    return loss


def log_sums(const real[:, ::1] X, const int32_t[::1] words, const int64_t[::1] begins, real[:, ::1] Z,
             int n_threads):
    """Logs of the sums of exponentials over the columns of each cell, into Z (n_rows, n_cells)."""
    cdef int64_t n_rows = X.shape[0], n_columns = X.shape[1], n_cells = begins.shape[0] - 1, i
    cdef int status
    same_length(n_rows, Z.shape[0], "rows of X and Z")
    same_length(n_cells, Z.shape[1], "cells and columns of Z")
    if begins[0] != 0 or begins[n_cells] != words.shape[0]:
        raise ValueError("begins must go from 0 to the number of words")
    for i in range(n_cells):
        if begins[i + 1] < begins[i]:
            raise ValueError("begins must be ascending")
    for i in range(words.shape[0]):
        if words[i] < 0 or words[i] >= n_columns:
            raise ValueError("words must be columns of X")
    with nogil:
        if real is float:
            status = k.saffu_log_sums_f32(&X[0, 0], &words[0], &begins[0], n_rows, n_columns, n_cells, &Z[0, 0],
                                          n_threads)
        else:
            status = k.saffu_log_sums_f64(&X[0, 0], &words[0], &begins[0], n_rows, n_columns, n_cells, &Z[0, 0],
                                          n_threads)
    check(status)


def softmax_backward(const real[:, ::1] P, real[:, ::1] dP, int n_threads):
    """Turn dP, the gradient by P = softmax(X), into the gradient by X, in place."""
    cdef int64_t n_rows = P.shape[0], n_columns = P.shape[1]
    cdef int status
    same_length(n_rows, dP.shape[0], "rows and gradients")
    same_length(n_columns, dP.shape[1], "columns and gradients")
    with nogil:
        if real is float:
            status = k.saffu_softmax_backward_f32(&P[0, 0], &dP[0, 0], n_rows, n_columns, &dP[0, 0], n_threads)
        else:
            status = k.saffu_softmax_backward_f64(&P[0, 0], &dP[0, 0], n_rows, n_columns, &dP[0, 0], n_threads)
    check(status)


def mixture(const real[:, ::1] X, const real[:, ::1] T, const int32_t[::1] labels, int n_threads):
    """Log-probability of each row's label, float64, under a mixture over hidden states."""
    cdef int64_t n_rows = X.shape[0], n_columns = X.shape[1], n_classes = T.shape[0]
    cdef int status
    same_length(n_rows, labels.shape[0], "rows and labels")
    same_length(n_columns, T.shape[1], "hidden states of X and T")
    log_prob = np.empty(n_rows)
    scratch = np.empty((n_rows, n_columns), np.float32 if real is float else np.float64)
    cdef double[::1] log_prob_ = log_prob
    cdef real[:, ::1] scratch_ = scratch
    with nogil:
        if real is float:
            status = k.saffu_mixture_f32(&X[0, 0], &T[0, 0], &labels[0], NULL, n_rows, n_columns, n_classes,
                                         &log_prob_[0], &scratch_[0, 0], NULL, n_threads)
        else:
            status = k.saffu_mixture_f64(&X[0, 0], &T[0, 0], &labels[0], NULL, n_rows, n_columns, n_classes,
                                         &log_prob_[0], &scratch_[0, 0], NULL, n_threads)
    check(status)
    return log_prob


def mixture_backward(real[:, ::1] X, const real[:, ::1] T, const int32_t[::1] labels, const double[::1] scale,
                     int n_threads):
    """(log_prob, R): as ``mixture``, and the scaled posterior of the states; X becomes its gradient, in place."""
    cdef int64_t n_rows = X.shape[0], n_columns = X.shape[1], n_classes = T.shape[0]
    cdef int status
    same_length(n_rows, labels.shape[0], "rows and labels")
    same_length(n_rows, scale.shape[0], "rows and scale")
    same_length(n_columns, T.shape[1], "hidden states of X and T")
    log_prob = np.empty(n_rows)
    R = np.empty((n_rows, n_columns), np.float32 if real is float else np.float64)
    cdef double[::1] log_prob_ = log_prob
    cdef real[:, ::1] R_ = R
    with nogil:
        if real is float:
            status = k.saffu_mixture_f32(&X[0, 0], &T[0, 0], &labels[0], &scale[0], n_rows, n_columns, n_classes,
                                         &log_prob_[0], &R_[0, 0], &X[0, 0], n_threads)
        else:
            status = k.saffu_mixture_f64(&X[0, 0], &T[0, 0], &labels[0], &scale[0], n_rows, n_columns, n_classes,
                                         &log_prob_[0], &R_[0, 0], &X[0, 0], n_threads)
    check(status)
    return log_prob, R


def exp(const real[::1] x, int n_threads):
    """Exponential, element by element."""
    cdef int64_t n = x.shape[0]
    cdef int status
    y = np.empty(n, np.float32 if real is float else np.float64)
    cdef real[::1] y_ = y
    with nogil:
        if real is float:
            status = k.saffu_exp_f32(&x[0], n, &y_[0], n_threads)
        else:
            status = k.saffu_exp_f64(&x[0], n, &y_[0], n_threads)
    check(status)
    return y


def log(const real[::1] x, int n_threads):
    """Natural logarithm, element by element."""
    cdef int64_t n = x.shape[0]
    cdef int status
    y = np.empty(n, np.float32 if real is float else np.float64)
    cdef real[::1] y_ = y
    with nogil:
        if real is float:
            status = k.saffu_log_f32(&x[0], n, &y_[0], n_threads)
        else:
            status = k.saffu_log_f64(&x[0], n, &y_[0], n_threads)
    check(status)
    return y


# ---- attend.c ----------------------------------------------------------------------------------------------------


@cython.final
@cython.auto_pickle(False)
cdef class View:
    """Windows of a stream: views of the arrays of saffu_view, kept alive."""

    cdef k.saffu_view c
    cdef object kept

    def __init__(self, const int32_t[::1] ids, const int64_t[::1] first, const int32_t[::1] length,
                 const int64_t[::1] head, int64_t step, int64_t n_positions):
        cdef int64_t n = first.shape[0]
        same_length(n, length.shape[0], "first and length")
        same_length(n, head.shape[0], "first and head")
        if step * step != 1 or n_positions < 0:
            raise ValueError("step must be 1 or -1, and n_positions not negative")
        self.kept = (ids, first, length, head)
        self.c.n, self.c.n_ids, self.c.n_positions, self.c.step = n, ids.shape[0], n_positions, step
        self.c.ids, self.c.first, self.c.length, self.c.head = &ids[0], &first[0], &length[0], &head[0]


cdef int table_size(Py_ssize_t n_rows, Py_ssize_t n_columns, Py_ssize_t n_types) except -1:
    """Cached ids of a square table."""
    same_length(n_rows, n_columns, "the sides of the table of comparisons")
    if n_rows > n_types:
        raise ValueError("the table of comparisons is larger than the vocabulary")
    return 0


cdef int positions_fit(View view, Py_ssize_t n_rows, Py_ssize_t n_columns, str name) except -1:
    same_length(n_rows, view.c.n, f"the rows of {name} and windows")
    same_length(n_columns, view.c.n_positions, f"the columns of {name} and positions")
    return 0


def compare_all(const real[:, ::1] X, int n_threads):
    """X X^T: the table of comparisons."""
    cdef int64_t n = X.shape[0], d = X.shape[1]
    cdef int status
    C = np.empty((n, n), np.float32 if real is float else np.float64)
    cdef real[:, ::1] C_ = C
    with nogil:
        if real is float:
            status = k.saffu_compare_all_f32(&X[0, 0], n, d, &C_[0, 0], n_threads)
        else:
            status = k.saffu_compare_all_f64(&X[0, 0], n, d, &C_[0, 0], n_threads)
    check(status)
    return C


def comparisons(View view, const real[:, ::1] X, const real[:, ::1] cache, int n_threads):
    """S (n, K): the comparisons of each window; cache may be None."""
    cdef int64_t n_types = X.shape[0], d = X.shape[1], n_cached = 0
    cdef const real *table = NULL
    cdef int status
    if cache is not None:
        table_size(cache.shape[0], cache.shape[1], n_types)
        table, n_cached = &cache[0, 0], cache.shape[0]
    S = np.empty((view.c.n, view.c.n_positions), np.float32 if real is float else np.float64)
    cdef real[:, ::1] S_ = S
    with nogil:
        if real is float:
            status = k.saffu_comparisons_f32(&view.c, &X[0, 0], table, n_types, d, n_cached, &S_[0, 0], n_threads)
        else:
            status = k.saffu_comparisons_f64(&view.c, &X[0, 0], table, n_types, d, n_cached, &S_[0, 0], n_threads)
    check(status)
    return S


def attend(View view, const real[:, ::1] X, const real[:, ::1] cache, const real[:, ::1] W, const real[::1] bias,
           const real[:, ::1] given, int n_threads):
    """(Z, A, S) of each window; cache, bias and given may be None. Comparisons that are given are not returned."""
    cdef int64_t n = view.c.n, n_positions = view.c.n_positions, n_types = X.shape[0], d = X.shape[1], n_cached = 0
    cdef const real *table = NULL
    cdef const real *b = NULL
    cdef int status, with_s = given is not None
    same_length(W.shape[0], n_positions, "the rows of W and positions")
    same_length(W.shape[1], n_positions, "the columns of W and positions")
    if cache is not None:
        table_size(cache.shape[0], cache.shape[1], n_types)
        table, n_cached = &cache[0, 0], cache.shape[0]
    if bias is not None:
        same_length(bias.shape[0], n_positions, "bias and positions")
        b = &bias[0]
    dtype = np.float32 if real is float else np.float64
    Z, A = np.empty((n, d), dtype), np.empty((n, n_positions), dtype)
    S = np.empty((n, n_positions), dtype) if given is None else None
    cdef real[:, ::1] Z_ = Z, A_ = A
    cdef real *s
    cdef real[:, ::1] S_
    if given is None:
        S_ = S
        s = &S_[0, 0]
    else:
        positions_fit(view, given.shape[0], given.shape[1], "the comparisons")
        s = <real *>&given[0, 0]  # only read
    with nogil:
        if real is float:
            status = k.saffu_attend_f32(&view.c, &X[0, 0], table, &W[0, 0], b, n_types, d, n_cached, with_s, s,
                                        &A_[0, 0], &Z_[0, 0], n_threads)
        else:
            status = k.saffu_attend_f64(&view.c, &X[0, 0], table, &W[0, 0], b, n_types, d, n_cached, with_s, s,
                                        &A_[0, 0], &Z_[0, 0], n_threads)
    check(status)
    return Z, A, S


def attend_backward(View view, const real[:, ::1] X, const real[:, ::1] W, const real[:, ::1] S,
                    const real[:, ::1] A, const real[:, ::1] dZ, bint by_comparisons, real[:, ::1] dX, int n_threads):
    """(dW, dbias, dS or None); dX, where it is not None, is added to in place."""
    cdef int64_t n = view.c.n, n_positions = view.c.n_positions, n_types = X.shape[0], d = X.shape[1]
    cdef real *dx = NULL
    cdef real *ds = NULL
    cdef int status
    same_length(W.shape[0], n_positions, "the rows of W and positions")
    same_length(W.shape[1], n_positions, "the columns of W and positions")
    positions_fit(view, S.shape[0], S.shape[1], "S")
    positions_fit(view, A.shape[0], A.shape[1], "A")
    same_length(dZ.shape[0], n, "the rows of dZ and windows")
    same_length(dZ.shape[1], d, "the columns of dZ and X")
    dtype = np.float32 if real is float else np.float64
    dW, dbias = np.empty((n_positions, n_positions), dtype), np.empty(n_positions, dtype)
    dS = np.empty((n, n_positions), dtype) if by_comparisons or dX is not None else None
    cdef real[:, ::1] dW_ = dW, dS_
    cdef real[::1] dbias_ = dbias
    if dS is not None:
        dS_ = dS
        ds = &dS_[0, 0]
    if dX is not None:
        same_length(dX.shape[0], n_types, "the rows of dX and X")
        same_length(dX.shape[1], d, "the columns of dX and X")
        dx = &dX[0, 0]
    with nogil:
        if real is float:
            status = k.saffu_attend_backward_f32(&view.c, &X[0, 0], &W[0, 0], &S[0, 0], &A[0, 0], &dZ[0, 0], n_types,
                                                 d, &dW_[0, 0], &dbias_[0], ds, dx, n_threads)
        else:
            status = k.saffu_attend_backward_f64(&view.c, &X[0, 0], &W[0, 0], &S[0, 0], &A[0, 0], &dZ[0, 0], n_types,
                                                 d, &dW_[0, 0], &dbias_[0], ds, dx, n_threads)
    check(status)
    return dW, dbias, dS


# ---- adam.c ------------------------------------------------------------------------------------------------------


def adam(const real[::1] gradient, real[::1] x, real[::1] first, real[::1] second, double learning_rate, double beta1,
         double beta2, double epsilon, int64_t step, int n_threads):
    """One step of Adam: x and its two moments change in place."""
    cdef int64_t n = x.shape[0]
    cdef int status
    same_length(n, gradient.shape[0], "x and its gradient")
    same_length(n, first.shape[0], "x and its first moment")
    same_length(n, second.shape[0], "x and its second moment")
    if step < 1 or not (0 <= beta1 < 1 and 0 <= beta2 < 1 and epsilon > 0):
        raise ValueError(f"step must be at least 1, beta1 and beta2 within [0, 1) and epsilon positive, "
                         f"got {step}, {beta1}, {beta2} and {epsilon}")
    with nogil:
        if real is float:
            status = k.saffu_adam_f32(&gradient[0], learning_rate, beta1, beta2, epsilon, step, n, &x[0], &first[0],
                                      &second[0], n_threads)
        else:
            status = k.saffu_adam_f64(&gradient[0], learning_rate, beta1, beta2, epsilon, step, n, &x[0], &first[0],
                                      &second[0], n_threads)
    check(status)
