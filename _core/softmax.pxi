# Bindings of softmax.c: rows of logits.

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
