# Bindings of softmax.c: rows of logits, and exp and log element by element.


cdef int labels_fit(const int32_t[::1] labels, int64_t n_rows, int64_t n_classes, int n_threads) except -1:
    same_length(n_rows, labels.shape[0], "rows and labels")
    return within(&labels[0], 4, n_rows, 0, n_classes - 1, "labels", n_threads)


def softmax(const real[:, ::1] X not None, bint log, n_threads):
    """Softmax of each row, or its logarithm."""
    cdef int n_team = team(n_threads), status
    cdef int64_t n_rows = X.shape[0], n_columns = X.shape[1], n
    aligned(<size_t>&X[0, 0], sizeof(real))
    P = np.empty((n_rows, n_columns), dtype_of(sizeof(real)))
    cdef real[:, ::1] P_ = P
    cdef Blocks b = blocks(n_rows, 2 * n_columns)
    while more(&b):
        n = b.end - b.begin
        with nogil:
            if log:
                status = k.saffu_log_softmax(&X[b.begin, 0], sizeof(real), n, n_columns, &P_[b.begin, 0], n_team)
            else:
                status = k.saffu_softmax(&X[b.begin, 0], sizeof(real), n, n_columns, &P_[b.begin, 0], n_team)
        check(status)
    return P


def logsumexp(const real[:, ::1] X not None, n_threads):
    """Log of the sum of the exponentials of each row, float64."""
    cdef int n_team = team(n_threads), status
    cdef int64_t n_rows = X.shape[0], n_columns = X.shape[1], n
    aligned(<size_t>&X[0, 0], sizeof(real))
    total = np.empty(n_rows)
    cdef double[::1] total_ = total
    cdef Blocks b = blocks(n_rows, 2 * n_columns)
    while more(&b):
        n = b.end - b.begin
        with nogil:
            status = k.saffu_logsumexp(&X[b.begin, 0], sizeof(real), n, n_columns, &total_[b.begin], n_team)
        check(status)
    return total


def cross_entropy_labels(const real[:, ::1] X not None, const int32_t[::1] labels not None, n_threads):
    """Minus the log-probability of each row's label, float64."""
    cdef int n_team = team(n_threads), status
    cdef int64_t n_rows = X.shape[0], n_columns = X.shape[1], n
    aligned(<size_t>&X[0, 0], sizeof(real))
    labels_fit(labels, n_rows, n_columns, n_team)
    loss = np.empty(n_rows)
    cdef double[::1] loss_ = loss
    cdef Blocks b = blocks(n_rows, 2 * n_columns)
    while more(&b):
        n = b.end - b.begin
        with nogil:
            status = k.saffu_cross_entropy_labels(&X[b.begin, 0], &labels[b.begin], sizeof(real), n, n_columns,
                                                  &loss_[b.begin], n_team)
        check(status)
    return loss


def cross_entropy_soft(const real[:, ::1] X not None, const real[:, ::1] T not None, n_threads):
    """Cross-entropy of each row's softmax with its targets, float64."""
    cdef int n_team = team(n_threads), status
    cdef int64_t n_rows = X.shape[0], n_columns = X.shape[1], n
    same_length(n_rows, T.shape[0], "rows and targets")
    same_length(n_columns, T.shape[1], "columns and targets")
    aligned(<size_t>&X[0, 0] | <size_t>&T[0, 0], sizeof(real))
    loss = np.empty(n_rows)
    cdef double[::1] loss_ = loss
    cdef Blocks b = blocks(n_rows, 2 * n_columns)
    while more(&b):
        n = b.end - b.begin
        with nogil:
            status = k.saffu_cross_entropy_soft(&X[b.begin, 0], &T[b.begin, 0], sizeof(real), n, n_columns,
                                                &loss_[b.begin], n_team)
        check(status)
    return loss


def cross_entropy_backward(real[:, ::1] X not None, const int32_t[::1] labels not None, const double[::1] scale,
                           n_threads):
    """Minus the log-probability of each row's label, float64; X becomes the gradient of their scaled sum, in place."""
    cdef int n_team = team(n_threads), status
    cdef int64_t n_rows = X.shape[0], n_columns = X.shape[1], n
    aligned(<size_t>&X[0, 0], sizeof(real))
    cdef int64_t n_bytes = n_rows * n_columns * sizeof(real)
    labels_fit(labels, n_rows, n_columns, n_team)
    apart(&X[0, 0], n_bytes, &labels[0], 4 * n_rows, "X and labels")
    if scale is not None:
        same_length(n_rows, scale.shape[0], "rows and scale")
        aligned(<size_t>&scale[0], 8)
        apart(&X[0, 0], n_bytes, &scale[0], 8 * n_rows, "X and scale")
    loss = np.empty(n_rows)
    cdef double[::1] loss_ = loss
    cdef const double *scale_ = NULL
    if scale is not None:
        scale_ = &scale[0]
    cdef Blocks b = blocks(n_rows, 2 * n_columns)
    while more(&b):
        n = b.end - b.begin
        with nogil:
            status = k.saffu_cross_entropy_backward(&X[b.begin, 0], &labels[b.begin], from_row(scale_, b.begin),
                                                    sizeof(real), n, n_columns, &loss_[b.begin], &X[b.begin, 0], n_team)
        check(status)
    return loss


def log_sums(const real[:, ::1] X not None, const int32_t[::1] words not None, const int64_t[::1] begins not None,
             real[:, ::1] Z not None, n_threads):
    """Logs of the sums of exponentials over the columns of each cell, into Z (n_rows, n_cells)."""
    cdef int n_team = team(n_threads), status
    cdef int64_t n_rows = X.shape[0], n_columns = X.shape[1], n_words = words.shape[0], n, z_bytes
    cdef int64_t n_cells = csr_rows(&begins[0], 8, begins.shape[0], n_words, n_words, n_team, "begins")
    same_length(n_rows, Z.shape[0], "rows of X and Z")
    same_length(n_cells, Z.shape[1], "cells and columns of Z")
    same_length(begins[n_cells], n_words, "cells and words")
    aligned(<size_t>&X[0, 0] | <size_t>&Z[0, 0], sizeof(real))
    within(&words[0], 4, n_words, 0, n_columns - 1, "words", n_team)
    z_bytes = n_rows * n_cells * sizeof(real)
    apart(&Z[0, 0], z_bytes, &X[0, 0], n_rows * n_columns * sizeof(real), "Z and X")
    apart(&Z[0, 0], z_bytes, &words[0], 4 * n_words, "Z and words")
    apart(&Z[0, 0], z_bytes, &begins[0], 8 * begins.shape[0], "Z and begins")
    cdef Blocks b = blocks(n_rows, 4 * n_columns)
    while more(&b):
        n = b.end - b.begin
        with nogil:
            status = k.saffu_log_sums(&X[b.begin, 0], &words[0], &begins[0], sizeof(real), n, n_columns, n_cells,
                                      &Z[b.begin, 0], n_team)
        check(status)


def softmax_backward(const real[:, ::1] P not None, real[:, ::1] dP not None, n_threads):
    """Turn dP, the gradient by P = softmax(X), into the gradient by X, in place."""
    cdef int n_team = team(n_threads), status
    cdef int64_t n_rows = P.shape[0], n_columns = P.shape[1], n
    same_length(n_rows, dP.shape[0], "rows and gradients")
    same_length(n_columns, dP.shape[1], "columns and gradients")
    aligned(<size_t>&P[0, 0] | <size_t>&dP[0, 0], sizeof(real))
    apart(&dP[0, 0], n_rows * n_columns * sizeof(real), &P[0, 0], n_rows * n_columns * sizeof(real), "P and dP")
    cdef Blocks b = blocks(n_rows, 2 * n_columns)
    while more(&b):
        n = b.end - b.begin
        with nogil:
            status = k.saffu_softmax_backward(&P[b.begin, 0], &dP[b.begin, 0], sizeof(real), n, n_columns,
                                              &dP[b.begin, 0], n_team)
        check(status)


def mixture(const real[:, ::1] X not None, const real[:, ::1] T not None, const int32_t[::1] labels not None,
            n_threads):
    """Log-probability of each row's label, float64, under a mixture over hidden states."""
    cdef int n_team = team(n_threads), status
    cdef int64_t n_rows = X.shape[0], n_columns = X.shape[1], n
    cdef int64_t n_classes = T.shape[0]
    same_length(n_columns, T.shape[1], "hidden states of X and T")
    aligned(<size_t>&X[0, 0] | <size_t>&T[0, 0], sizeof(real))
    labels_fit(labels, n_rows, n_classes, n_team)
    log_prob = np.empty(n_rows)
    scratch = np.empty((n_rows, n_columns), dtype_of(sizeof(real)))
    cdef double[::1] log_prob_ = log_prob
    cdef real[:, ::1] scratch_ = scratch
    cdef Blocks b = blocks(n_rows, 4 * n_columns)
    while more(&b):
        n = b.end - b.begin
        with nogil:
            status = k.saffu_mixture(&X[b.begin, 0], &T[0, 0], &labels[b.begin], NULL, sizeof(real), n, n_columns,
                                     n_classes, &log_prob_[b.begin], &scratch_[b.begin, 0], NULL, n_team)
        check(status)
    return log_prob


def mixture_backward(real[:, ::1] X not None, const real[:, ::1] T not None, const int32_t[::1] labels not None,
                     const double[::1] scale not None, n_threads):
    """(log_prob, R): as ``mixture``, and the scaled posterior of the states; X becomes its gradient, in place."""
    cdef int n_team = team(n_threads), status
    cdef int64_t n_rows = X.shape[0], n_columns = X.shape[1], n
    cdef int64_t n_classes = T.shape[0], n_bytes = n_rows * n_columns * sizeof(real)
    same_length(n_columns, T.shape[1], "hidden states of X and T")
    aligned(<size_t>&X[0, 0] | <size_t>&T[0, 0], sizeof(real))
    labels_fit(labels, n_rows, n_classes, n_team)
    same_length(n_rows, scale.shape[0], "rows and scale")
    aligned(<size_t>&scale[0], 8)
    apart(&X[0, 0], n_bytes, &T[0, 0], n_classes * n_columns * sizeof(real), "X and T")
    apart(&X[0, 0], n_bytes, &labels[0], 4 * n_rows, "X and labels")
    apart(&X[0, 0], n_bytes, &scale[0], 8 * n_rows, "X and scale")
    log_prob = np.empty(n_rows)
    R = np.empty((n_rows, n_columns), dtype_of(sizeof(real)))
    cdef double[::1] log_prob_ = log_prob
    cdef real[:, ::1] R_ = R
    cdef Blocks b = blocks(n_rows, 4 * n_columns)
    while more(&b):
        n = b.end - b.begin
        with nogil:
            status = k.saffu_mixture(&X[b.begin, 0], &T[0, 0], &labels[b.begin], &scale[b.begin], sizeof(real), n,
                                     n_columns, n_classes, &log_prob_[b.begin], &R_[b.begin, 0], &X[b.begin, 0], n_team)
        check(status)
    return log_prob, R


def exp(const real[::1] x not None, n_threads):
    """Exponential, element by element."""
    cdef int n_team = team(n_threads), status
    cdef int64_t n = x.shape[0]
    aligned(<size_t>&x[0], sizeof(real))
    y = np.empty(n, dtype_of(sizeof(real)))
    cdef real[::1] y_ = y
    cdef Blocks b = blocks(n, 1, 4096)
    while more(&b):
        n = b.end - b.begin
        with nogil:
            status = k.saffu_exp(&x[b.begin], sizeof(real), n, &y_[b.begin], n_team)
        check(status)
    return y


def log(const real[::1] x not None, n_threads):
    """Natural logarithm, element by element."""
    cdef int n_team = team(n_threads), status
    cdef int64_t n = x.shape[0]
    aligned(<size_t>&x[0], sizeof(real))
    y = np.empty(n, dtype_of(sizeof(real)))
    cdef real[::1] y_ = y
    cdef Blocks b = blocks(n, 1, 4096)
    while more(&b):
        n = b.end - b.begin
        with nogil:
            status = k.saffu_log(&x[b.begin], sizeof(real), n, &y_[b.begin], n_team)
        check(status)
    return y

