# Bindings of regression.c: softmax regression on dense features.


def regression_gradients(const float[:, ::1] A not None, const float[:, ::1] W not None, const float[::1] bias not None,
                         const int32_t[::1] targets not None, bint slopes, n_threads):
    """The cross-entropy of each row of softmax(A W + bias), and the gradients of their sum.

    Losses (n,); the gradient by W and in its last row that by the bias, of each chunk of rows, (chunks, n_features + 1,
    n_classes), their sum is wanted; and that by A, or None without slopes.
    """
    cdef int n_team = team(n_threads), status
    cdef int64_t n = A.shape[0], n_features = A.shape[1], n_classes = W.shape[1]
    cdef float *dA_ = NULL
    same_length(W.shape[0], n_features, "the rows of W and the columns of A")
    same_length(bias.shape[0], n_classes, "bias and the columns of W")
    same_length(targets.shape[0], n, "targets and the rows of A")
    whole(n_classes, "the number of classes", 1, 1 << 30)
    aligned(<size_t>&A[0, 0] | <size_t>&W[0, 0] | <size_t>&bias[0], 4)
    within(&targets[0], 4, n, 0, n_classes - 1, "targets", n_team)
    cdef k.saffu_regression_plan plan = k.saffu_plan_regression(n, n_features, n_classes)
    losses = np.empty(n)
    sums = np.zeros((plan.n_chunks, n_features + 1, plan.padded))
    dA = np.empty((n, n_features), np.float32) if slopes else None
    cdef float[:, ::1] dA_view
    if slopes:
        dA_view = dA
        dA_ = &dA_view[0, 0]
    cdef double[::1] losses_ = losses
    cdef double[:, :, ::1] sums_ = sums
    cdef Blocks b = blocks(plan.chunk if n else 0, max(plan.n_chunks, 1) * (plan.padded // 4) * (n_features + 1), 64)
    while more(&b):
        with nogil:
            status = k.saffu_regression_gradients(&A[0, 0], &W[0, 0], &bias[0], &targets[0], &plan, b.begin, b.end,
                                                  &losses_[0], dA_, &sums_[0, 0, 0], n_team)
        check(status)
    return losses, sums[:, :, :n_classes], dA
