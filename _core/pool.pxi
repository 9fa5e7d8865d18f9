# Bindings of pool.c: the pooled sparse softmax.

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
