# Bindings of product.c: sparse features times dense weights.


cdef int64_t row_stride(Py_ssize_t rows, Py_ssize_t columns, Py_ssize_t size, int64_t n_rows,
                        int64_t n_columns) except -1:
    """Bytes between rows as a number of entries; entries of a row must be adjacent."""
    if n_rows <= 1 and n_columns <= 1:
        return max(n_columns, 1)
    if (columns != size and n_columns > 1) or (n_rows > 1 and (rows % size or rows < 0)):
        raise ValueError("the entries of a row must be adjacent")
    return rows // size if n_rows > 1 else n_columns


cdef int64_t span(int64_t n_rows, int64_t n_columns, int64_t stride) noexcept:
    """Entries from the first of a matrix to the last."""
    return (n_rows - 1) * stride + n_columns if n_rows and n_columns else 0


cdef int h_fits(const int64_t[::1] indptr, const int32_t[::1] indices, const void *data, int size, int64_t n_entries,
                int n_threads) except -1:
    """The parts of the CSR matrix H; its columns are looked at by the kernel while they are in cache."""
    csr_rows(&indptr[0], 8, indptr.shape[0], indices.shape[0], n_entries, n_threads)
    aligned(<size_t>&indices[0], 4)
    return aligned(<size_t>data, size)


cdef object copy_of(const void *B, int size, int64_t n_inner, int64_t n_columns, int64_t stride, int64_t n_entries):
    """The copy of B that the products want for so many entries, as bytes, empty for none."""
    copy = np.zeros(size * k.saffu_copy_size(size, n_entries, n_inner, n_columns), np.uint8)
    cdef unsigned char[::1] copy_ = copy
    cdef int status = 0
    if copy_.shape[0]:
        with nogil:
            status = k.saffu_copy(B, size, n_inner, n_columns, stride, &copy_[0])
    check(status)
    return copy


def product(const int64_t[::1] indptr not None, const int32_t[::1] indices not None, const real[::1] data not None,
            const real[:, :] B not None, const real[::1] bias, n_threads, out=None):
    """Z = H B + bias for a CSR matrix H; the rows of B may be apart. bias and out may be None."""
    cdef int n_team = team(n_threads), status
    cdef int64_t n_rows = indptr.shape[0] - 1, n_inner = B.shape[0], n_columns = B.shape[1], n_entries = data.shape[0]
    cdef int64_t stride = row_stride(B.strides[0], B.strides[1], sizeof(real), n_inner, n_columns), z_bytes
    cdef const real *b = NULL
    cdef const unsigned char[::1] copy
    cdef const unsigned char *c = NULL
    h_fits(indptr, indices, &data[0], sizeof(real), n_entries, n_team)
    if bias is not None:
        same_length(bias.shape[0], n_columns, "bias and the columns of B")
        b = &bias[0]
    aligned(<size_t>&B[0, 0] | <size_t>b, sizeof(real))
    dtype = dtype_of(sizeof(real))
    Z = np.empty((n_rows, n_columns), dtype) if out is None else out
    cdef real[:, ::1] Z_ = Z
    same_length(Z_.shape[0], n_rows, "the rows of out and of H")
    same_length(Z_.shape[1], n_columns, "the columns of out and of B")
    z_bytes = n_rows * n_columns * sizeof(real)
    aligned(<size_t>&Z_[0, 0], sizeof(real))
    apart(&Z_[0, 0], z_bytes, &indptr[0], 8 * indptr.shape[0], "out and indptr")
    apart(&Z_[0, 0], z_bytes, &indices[0], 4 * n_entries, "out and indices")
    apart(&Z_[0, 0], z_bytes, &data[0], n_entries * sizeof(real), "out and data")
    apart(&Z_[0, 0], z_bytes, &B[0, 0], span(n_inner, n_columns, stride) * sizeof(real), "out and B")
    apart(&Z_[0, 0], z_bytes, b, 0 if b == NULL else n_columns * sizeof(real), "out and bias")
    copy = copy_of(&B[0, 0], sizeof(real), n_inner, n_columns, stride, indptr[n_rows])
    if copy.shape[0]:
        c = &copy[0]
    cdef Blocks part = row_blocks(&indptr[0], n_rows, n_columns // 4 + 1)
    while more(&part):
        with nogil:
            status = k.saffu_product(&indptr[part.begin], &indices[0], &data[0], &B[0, 0], c, b, sizeof(real),
                                     part.end - part.begin, n_inner, n_columns, stride, &Z_[part.begin, 0], n_team)
        if status == k.SAFFU_OUT_OF_RANGE:
            raise ValueError(f"column indices out of range: expected 0 to {n_inner - 1}, the last row of B")
        check(status)
    return Z


def product_double(const int64_t[::1] indptr not None, const int32_t[::1] indices not None,
                   const real[::1] data not None, const real[:, :] B not None, double[:, :] F not None, n_threads):
    """F = H B in float64, in place, for a CSR matrix H; the rows of B and of F may be apart."""
    cdef int n_team = team(n_threads), status
    cdef int64_t n_rows = indptr.shape[0] - 1, n_inner = B.shape[0], n_columns = B.shape[1], n_entries = data.shape[0]
    cdef int64_t stride = row_stride(B.strides[0], B.strides[1], sizeof(real), n_inner, n_columns)
    cdef int64_t f_stride = row_stride(F.strides[0], F.strides[1], sizeof(double), n_rows, n_columns), f_bytes
    cdef const unsigned char[::1] copy
    cdef const unsigned char *c = NULL
    h_fits(indptr, indices, &data[0], sizeof(real), n_entries, n_team)
    same_length(F.shape[0], n_rows, "the rows of F and of H")
    same_length(F.shape[1], n_columns, "the columns of F and of B")
    if n_rows > 1 and f_stride < n_columns:
        raise ValueError("the rows of F must not overlap")
    aligned(<size_t>&B[0, 0], sizeof(real))
    aligned(<size_t>&F[0, 0], sizeof(double))
    f_bytes = span(n_rows, n_columns, f_stride) * sizeof(double)
    apart(&F[0, 0], f_bytes, &indptr[0], 8 * indptr.shape[0], "F and indptr")
    apart(&F[0, 0], f_bytes, &indices[0], 4 * n_entries, "F and indices")
    apart(&F[0, 0], f_bytes, &data[0], n_entries * sizeof(real), "F and data")
    apart(&F[0, 0], f_bytes, &B[0, 0], span(n_inner, n_columns, stride) * sizeof(real), "F and B")
    copy = copy_of(&B[0, 0], sizeof(real), n_inner, n_columns, stride, indptr[n_rows])
    if copy.shape[0]:
        c = &copy[0]
    cdef Blocks part = row_blocks(&indptr[0], n_rows, n_columns // 4 + 1)
    while more(&part):
        with nogil:
            status = k.saffu_product_double(&indptr[part.begin], &indices[0], &data[0], &B[0, 0], c, sizeof(real),
                                            part.end - part.begin, n_inner, n_columns, stride, f_stride,
                                            &F[part.begin, 0], n_team)
        if status == k.SAFFU_OUT_OF_RANGE:
            raise ValueError(f"column indices out of range: expected 0 to {n_inner - 1}, the last row of B")
        check(status)
