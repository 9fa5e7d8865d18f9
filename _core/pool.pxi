# Bindings of pool.c: the pooled sparse softmax.
#
# What a kernel follows without looking is copied when an object is made, and checked there: whoever made it may change
# his arrays afterwards. The stream of a batch alone, which may be much longer than its positions, is kept as it came;
# it is taken anew, and checked as far as it is read, whenever the batch is scored.


@cython.final
@cython.auto_pickle(False)
cdef class Batch:
    """Positions to score, with what each sees: copies of all but the stream, ids and previous."""

    cdef object ids, previous
    cdef const int64_t[::1] positions, begins
    cdef const int32_t[:, ::1] rows
    cdef const int32_t[::1] states
    cdef const double[:, ::1] target_u
    cdef int64_t n, n_contexts
    cdef int64_t bounds[3]  # its highest position, row and state

    def __cinit__(self, const int32_t[::1] ids not None, const int64_t[::1] positions not None,
                  const int64_t[::1] begins not None, const int32_t[:, ::1] rows not None,
                  const int32_t[::1] states not None, const double[:, ::1] target_u=None,
                  const int32_t[::1] previous=None):
        cdef k.saffu_batch c
        cdef int status
        self.ids, self.previous = ids.base, None if previous is None else previous.base
        self.positions, self.begins = np.array(positions.base), np.array(begins.base)
        self.rows, self.states = np.array(rows.base), np.array(states.base)
        self.n, self.n_contexts = self.positions.shape[0], self.rows.shape[1]
        same_length(self.begins.shape[0], self.n, "begins and positions")
        same_length(self.rows.shape[0], self.n, "rows and positions")
        same_length(self.states.shape[0], self.n, "states and positions")
        if target_u is not None:
            self.target_u = np.array(target_u.base)
            same_length(self.target_u.shape[0], self.n, "target_u and positions")
            same_length(self.target_u.shape[1], self.n_contexts, "columns of target_u and rows")
        else:
            self.target_u = None
        if previous is not None:
            same_length(previous.shape[0], ids.shape[0], "previous and ids")
        c.n = self.n
        c.positions, c.begins, c.rows, c.states = (
            &self.positions[0], &self.begins[0], &self.rows[0, 0], &self.states[0]
        )
        status = k.saffu_batch_bounds(&c, self.n_contexts, self.bounds)
        if status == k.SAFFU_OUT_OF_RANGE:
            raise ValueError("begins must be between 0 and the position, rows at least -1 and states at least 0")
        check(status)

    cdef int point(self, k.saffu_batch *c, const int32_t[::1] ids, const int32_t[::1] previous) except -1:
        """The batch for the kernels, on its stream as it is now."""
        c.n, c.n_ids, c.chunk = self.n, ids.shape[0], k.saffu_pool_chunk(self.n)
        aligned(<size_t>&ids[0], 4)
        c.ids, c.positions, c.begins = &ids[0], &self.positions[0], &self.begins[0]
        c.rows, c.states = &self.rows[0, 0], &self.states[0]
        c.target_u = NULL
        c.previous = NULL
        if self.target_u is not None:
            c.target_u = &self.target_u[0, 0]
        if previous is not None:
            same_length(previous.shape[0], c.n_ids, "previous and ids")
            aligned(<size_t>&previous[0], 4)
            c.previous = &previous[0]
        return 0


cdef enum:
    LOG_PROB
    DISTRIBUTION
    LOGITS
    DERIVATIVES


@cython.final
@cython.auto_pickle(False)
cdef class Pool:
    """A pooled model: packed rows, and copies of the other arrays of saffu_pool."""

    cdef k.saffu_pool c
    cdef Packed packed
    cdef const double[:, ::1] log_prior, theta
    cdef const double[::1] unigram, window_mass
    cdef const int64_t[::1] window
    cdef double[:, ::1] prior, beyond
    cdef unsigned char[:, ::1] mass  # its bytes
    cdef double[:, :, ::1] moments

    def __cinit__(self, packed, const double[:, ::1] log_prior not None, const double[::1] unigram not None,
                  const double[:, ::1] theta not None, n_contexts, const int64_t[::1] window not None,
                  const double[::1] window_mass not None, induction, double induction_mass, n_threads=1):
        cdef int64_t n_blocks = -(-unigram.shape[0] // BLOCK)
        cdef int n_team = team(n_threads), status
        self.packed = packed if isinstance(packed, Packed) else Packed(*packed)
        self.log_prior, self.unigram, self.theta = np.array(log_prior), np.array(unigram), np.array(theta)
        self.window, self.window_mass = np.array(window), np.array(window_mass)
        self.c.vocab_size = whole(unigram.shape[0], "the number of words", 1, MOST - k.SAFFU_BLOCK)
        same_length(log_prior.shape[0], 2, "log_prior and (p, p_cont)")
        same_length(log_prior.shape[1], n_blocks * BLOCK, "log_prior and whole blocks of words")
        same_length(window.shape[0], window_mass.shape[0], "window and window_mass")
        within(&self.window[0], 8, window.shape[0], 1, MOST, "window", 1)
        if self.packed.longest_head > n_blocks * BLOCK or self.packed.last_word >= self.c.vocab_size:
            last = max(self.packed.longest_head - BLOCK, self.packed.last_word)
            raise ValueError(f"packed rows must hold words below {self.c.vocab_size}, got {last}")
        self.c.n_states, self.c.n_contexts = theta.shape[0], whole(n_contexts, "n_contexts", 0, MOST)
        self.c.n_windows, self.c.induction = window.shape[0], whole(induction, "induction", 0, MOST)
        self.c.n_features = self.c.n_contexts + self.c.n_windows + 1
        self.c.induction_mass = induction_mass
        same_length(theta.shape[1], 2 + self.c.n_features, "columns of theta and features")
        self.c.head_ptr, self.c.tail_ptr = &self.packed.head_ptr[0], &self.packed.tail_ptr[0]
        self.c.head, self.c.tail_word = &self.packed.head[0], &self.packed.tail_word[0]
        self.c.tail_u, self.c.row_size = &self.packed.tail_u[0], self.packed.size
        self.c.log_prior, self.c.unigram, self.c.theta = &self.log_prior[0, 0], &self.unigram[0], &self.theta[0, 0]
        self.c.window, self.c.window_mass = &self.window[0], &self.window_mass[0]
        self.prior = np.empty((theta.shape[0], log_prior.shape[1]))
        self.moments = np.empty((theta.shape[0], n_blocks + 1, k.SAFFU_MOMENTS))
        self.beyond = np.empty((theta.shape[0], n_blocks + 1))
        self.mass = np.empty((theta.shape[0], log_prior.shape[1] * self.packed.size), np.uint8)
        with nogil:
            status = k.saffu_pool_prior(&self.c, &self.prior[0, 0], &self.moments[0, 0, 0], &self.beyond[0, 0],
                                        &self.mass[0, 0], n_team)
        check(status)
        self.c.prior, self.c.prior_moments = &self.prior[0, 0], &self.moments[0, 0, 0]
        self.c.prior_beyond, self.c.prior_mass = &self.beyond[0, 0], &self.mass[0, 0]

    cdef int fits(self, Batch batch, const k.saffu_batch *c, bint targets) except -1:
        """What the batch refers to is there: rows, states, places of the stream and the words in them."""
        cdef int status
        same_length(batch.n_contexts, self.c.n_contexts, "columns of rows and contexts")
        if batch.bounds[0] >= c.n_ids + (not targets):
            raise ValueError(f"positions must be below the number of ids, got {batch.bounds[0]} of {c.n_ids}")
        if batch.bounds[1] >= self.packed.n_rows:
            raise ValueError(f"rows must be below {self.packed.n_rows}, got {batch.bounds[1]}")
        if batch.bounds[2] >= self.c.n_states:
            raise ValueError(f"states must be below {self.c.n_states}, got {batch.bounds[2]}")
        with nogil:
            status = k.saffu_batch_check(&self.c, c, targets)
        if status == k.SAFFU_OUT_OF_RANGE:
            raise ValueError(f"ids must be between 0 and {self.c.vocab_size - 1}, and previous places come before")
        return check(status)

    cdef int score(self, Batch batch, int kind, char *out, int64_t size, double *gradient, double *hessian,
                   n_threads) except -1:
        """Score a batch in blocks of whole chunks: out has so many bytes for each position."""
        cdef const int32_t[::1] ids = batch.ids, previous = batch.previous
        cdef k.saffu_batch c, part
        cdef int n_team = team(n_threads), status
        cdef bint rows = kind == DISTRIBUTION or kind == LOGITS
        batch.point(&c, ids, previous)
        self.fits(batch, &c, not rows)
        apart(out, size * c.n, c.ids, 4 * c.n_ids, "out and ids")
        apart(out, size * c.n, c.previous, 0 if c.previous == NULL else 4 * c.n_ids, "out and previous")
        cdef int64_t item = size // self.c.vocab_size
        cdef int64_t grain = c.chunk, cost = 4096 + (4 * self.c.vocab_size if rows else 0)
        # Teams take chunks as they go: blocks of a few for each leave nobody waiting.
        cdef Blocks b = blocks(c.n, cost, 2 * n_team * grain)
        while more(&b):
            part = c
            part.n, part.positions, part.begins = b.end - b.begin, c.positions + b.begin, c.begins + b.begin
            part.rows, part.states = c.rows + b.begin * self.c.n_contexts, c.states + b.begin
            if c.target_u != NULL:
                part.target_u = c.target_u + b.begin * self.c.n_contexts
            with nogil:
                if kind == LOG_PROB:
                    status = k.saffu_pool_log_prob(&self.c, &part, <double *>(out + b.begin * size), n_team)
                elif kind == DISTRIBUTION:
                    status = k.saffu_pool_distribution(&self.c, &part, <double *>(out + b.begin * size), n_team)
                elif kind == LOGITS:
                    status = k.saffu_pool_logits(&self.c, &part, item, out + b.begin * size, n_team)
                else:
                    status = k.saffu_pool_derivatives(&self.c, &part, <double *>(out + b.begin * size), gradient,
                                                      hessian, n_team)
            check(status)
        return 0

    def log_prob(self, Batch batch not None, n_threads):
        """(n,) log-probabilities of the targets, nats."""
        out = np.empty(batch.n)
        cdef double[::1] out_ = out
        self.score(batch, LOG_PROB, <char *>&out_[0], 8, NULL, NULL, n_threads)
        return out

    def distribution(self, Batch batch not None, n_threads):
        """(n, vocab_size) distributions of the next word."""
        out = np.empty((batch.n, self.c.vocab_size))
        cdef double[:, ::1] out_ = out
        self.score(batch, DISTRIBUTION, <char *>&out_[0, 0], 8 * self.c.vocab_size, NULL, NULL, n_threads)
        return out

    def logits(self, Batch batch not None, real[:, ::1] out not None, n_threads):
        """Log-probabilities of every word, nats, into out (n, vocab_size)."""
        same_length(out.shape[0], batch.n, "rows of out and positions")
        same_length(out.shape[1], self.c.vocab_size, "columns of out and words")
        aligned(<size_t>&out[0, 0], sizeof(real))
        self.score(batch, LOGITS, <char *>&out[0, 0], sizeof(real) * self.c.vocab_size, NULL, NULL, n_threads)

    def derivatives(self, Batch batch not None, bint second, n_threads):
        """(log_prob, gradient, hessian or None), summed over the batch."""
        if batch.target_u is None:
            raise ValueError("derivatives need target_u")
        shape = (self.c.n_states, 2 + self.c.n_features)
        log_prob, gradient = np.empty(batch.n), np.zeros(shape)
        hessian = np.zeros((*shape, shape[1])) if second else None
        cdef double[::1] log_prob_ = log_prob
        cdef double[:, ::1] gradient_ = gradient
        cdef double[:, :, ::1] hessian_
        cdef double *hessian_start = NULL
        if second:
            hessian_ = hessian
            hessian_start = &hessian_[0, 0, 0]
        self.score(batch, DERIVATIVES, <char *>&log_prob_[0], 8, &gradient_[0, 0], hessian_start, n_threads)
        return log_prob, gradient, hessian
