# Bindings of product.c: sparse features times dense weights.

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
