# Bindings of adam.c: one step down a gradient.


def adam(const real[::1] gradient not None, real[::1] x not None, real[::1] first not None,
         real[::1] second not None, double learning_rate, double beta1, double beta2, double epsilon, step, n_threads):
    """One step of Adam: x and its two moments change in place."""
    cdef int n_team = team(n_threads), status
    cdef int64_t n = x.shape[0], size = n * sizeof(real), t = whole(step, "step", 1, INT64_MAX)
    if not (0 <= beta1 < 1 and 0 <= beta2 < 1 and epsilon > 0):
        got = f"{beta1}, {beta2} and {epsilon}"
        raise ValueError(f"beta1 and beta2 must lie within [0, 1) and epsilon be positive, got {got}")
    same_length(n, gradient.shape[0], "x and its gradient")
    same_length(n, first.shape[0], "x and its first moment")
    same_length(n, second.shape[0], "x and its second moment")
    aligned(<size_t>&gradient[0] | <size_t>&x[0] | <size_t>&first[0] | <size_t>&second[0], sizeof(real))
    apart(&x[0], size, &gradient[0], size, "x and its gradient")
    apart(&first[0], size, &gradient[0], size, "the first moment and the gradient")
    apart(&second[0], size, &gradient[0], size, "the second moment and the gradient")
    apart(&x[0], size, &first[0], size, "x and its first moment")
    apart(&x[0], size, &second[0], size, "x and its second moment")
    apart(&first[0], size, &second[0], size, "the two moments")
    cdef Blocks b = blocks(n, 4, 4096)
    while more(&b):
        with nogil:
            status = k.saffu_adam(&gradient[b.begin], learning_rate, beta1, beta2, epsilon, t, sizeof(real),
                                  b.end - b.begin, &x[b.begin], &first[b.begin], &second[b.begin], n_team)
        check(status)


def adam_without_momentum(const real[::1] gradient not None, real[::1] x not None, real[::1] second not None,
                          double scale, double learning_rate, double beta2, double epsilon, step, n_threads):
    """One step of Adam with beta1 = 0 along scale times the gradient: x and its second moment change in place."""
    cdef int n_team = team(n_threads), status
    cdef int64_t n = x.shape[0], size = n * sizeof(real), t = whole(step, "step", 1, INT64_MAX)
    if not (0 <= beta2 < 1 and epsilon > 0):
        raise ValueError(f"beta2 must lie within [0, 1) and epsilon be positive, got {beta2} and {epsilon}")
    same_length(n, gradient.shape[0], "x and its gradient")
    same_length(n, second.shape[0], "x and its second moment")
    aligned(<size_t>&gradient[0] | <size_t>&x[0] | <size_t>&second[0], sizeof(real))
    apart(&x[0], size, &gradient[0], size, "x and its gradient")
    apart(&second[0], size, &gradient[0], size, "the second moment and the gradient")
    apart(&x[0], size, &second[0], size, "x and its second moment")
    cdef Blocks b = blocks(n, 4, 4096)
    while more(&b):
        with nogil:
            status = k.saffu_adam_without_momentum(&gradient[b.begin], scale, learning_rate, beta2, epsilon, t,
                                                   sizeof(real), b.end - b.begin, &x[b.begin], &second[b.begin], n_team)
        check(status)
