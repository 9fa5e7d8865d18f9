# Bindings of adam.c: one step down a gradient.

def adam(const real[::1] gradient, real[::1] x, real[::1] first, real[::1] second, double learning_rate, double beta1,
         double beta2, double epsilon, int64_t step, int n_threads):
    """One step of Adam: x and its two moments change in place."""
    cdef int64_t n = x.shape[0]
    cdef int status
    same_length(n, gradient.shape[0], "x and its gradient")
    same_length(n, first.shape[0], "x and its first moment")
    same_length(n, second.shape[0], "x and its second moment")
    with nogil:
        if real is float:
            status = k.saffu_adam_f32(&gradient[0], learning_rate, beta1, beta2, epsilon, step, n, &x[0], &first[0],
                                      &second[0], n_threads)
        else:
            status = k.saffu_adam_f64(&gradient[0], learning_rate, beta1, beta2, epsilon, step, n, &x[0], &first[0],
                                      &second[0], n_threads)
    check(status)
