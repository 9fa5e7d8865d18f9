# Bindings of product.c: sparse features times dense weights.


cdef int64_t row_stride(Py_ssize_t rows, Py_ssize_t columns, Py_ssize_t size, int64_t n_rows, int64_t n_columns) except -1:
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


cdef real[::1] copy_of(const real[:, :] B, int64_t stride, int64_t n_entries):
    """The copy of B that the products want for so many entries, empty for none."""
    cdef int64_t n_inner = B.shape[0], n_columns = B.shape[1], size
    cdef int status = 0
    if real is float:
        size = k.saffu_copy_size_f32(n_entries, n_inner, n_columns)
    else:
        size = k.saffu_copy_size_f64(n_entries, n_inner, n_columns)
    cdef real[::1] copy = np.zeros(size, np.float32 if real is float else np.float64)
    if size:
        with nogil:
            if real is float:
                status = k.saffu_copy_f32(&B[0, 0], stride, n_inner, n_columns, &copy[0])
            else:
                status = k.saffu_copy_f64(&B[0, 0], stride, n_inner, n_columns, &copy[0])
    check(status)
    return copy


def product(const int64_t[::1] indptr not None, const int32_t[::1] indices not None, const real[::1] data not None,
            const real[:, :] B not None, const real[::1] bias, n_threads, out=None):
    """Z = H B + bias for a CSR matrix H; the rows of B may be apart. bias and out may be None."""
    cdef int n_team = team(n_threads), status
    cdef int64_t n_rows = indptr.shape[0] - 1, n_inner = B.shape[0], n_columns = B.shape[1], n_entries = data.shape[0]
    cdef int64_t stride = row_stride(B.strides[0], B.strides[1], sizeof(real), n_inner, n_columns), z_bytes
    cdef const real *b = NULL
    cdef const real *c = NULL
    h_fits(indptr, indices, &data[0], sizeof(real), n_entries, n_team)
    if bias is not None:
        same_length(bias.shape[0], n_columns, "bias and the columns of B")
        b = &bias[0]
    aligned(<size_t>&B[0, 0] | <size_t>b, sizeof(real))
    dtype = np.float32 if real is float else np.float64
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
    cdef real[::1] copy = copy_of(B, stride, indptr[n_rows])
    if copy.shape[0]:
        c = &copy[0]
    cdef Blocks part = row_blocks(&indptr[0], n_rows, n_columns // 4 + 1)
    while more(&part):
        with nogil:
            if real is float:
                status = k.saffu_product_f32(&indptr[part.begin], &indices[0], &data[0], &B[0, 0], stride, c, b,
                                             part.end - part.begin, n_inner, n_columns, &Z_[part.begin, 0], n_team)
            else:
                status = k.saffu_product_f64(&indptr[part.begin], &indices[0], &data[0], &B[0, 0], stride, c, b,
                                             part.end - part.begin, n_inner, n_columns, &Z_[part.begin, 0], n_team)
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
    cdef const real *c = NULL
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
    cdef real[::1] copy = copy_of(B, stride, indptr[n_rows])
    if copy.shape[0]:
        c = &copy[0]
    cdef Blocks part = row_blocks(&indptr[0], n_rows, n_columns // 4 + 1)
    while more(&part):
        with nogil:
            if real is float:
                status = k.saffu_product_double_f32(&indptr[part.begin], &indices[0], &data[0], &B[0, 0], stride, c,
                                                    part.end - part.begin, n_inner, n_columns, &F[part.begin, 0],
                                                    f_stride, n_team)
            else:
                status = k.saffu_product_double_f64(&indptr[part.begin], &indices[0], &data[0], &B[0, 0], stride, c,
                                                    part.end - part.begin, n_inner, n_columns, &F[part.begin, 0],
                                                    f_stride, n_team)
        if status == k.SAFFU_OUT_OF_RANGE:
            raise ValueError(f"column indices out of range: expected 0 to {n_inner - 1}, the last row of B")
        check(status)


def compress(const real[:, ::1] X not None, n_threads):
    """indptr, indices and data: the CSR form of a dense matrix."""
    cdef int n_team = team(n_threads), status
    cdef int64_t n_rows = X.shape[0], n_columns = X.shape[1], n
    aligned(<size_t>&X[0, 0], sizeof(real))
    if n_columns > MOST:
        raise ValueError(f"a matrix must have at most {MOST} columns to be compressed, got {n_columns}")
    indptr = np.zeros(n_rows + 1, np.int64)
    cdef int64_t[::1] indptr_ = indptr
    cdef Blocks b = blocks(n_rows, n_columns)
    while more(&b):
        n = b.end - b.begin
        with nogil:
            if real is float:
                status = k.saffu_compress_count_f32(&X[b.begin, 0], n, n_columns, &indptr_[b.begin + 1], n_team)
            else:
                status = k.saffu_compress_count_f64(&X[b.begin, 0], n, n_columns, &indptr_[b.begin + 1], n_team)
        check(status)
    np.cumsum(indptr, out=indptr)
    indices, data = np.empty(indptr[n_rows], np.int32), np.empty(indptr[n_rows], np.float32 if real is float else np.float64)
    cdef int32_t[::1] indices_ = indices
    cdef real[::1] data_ = data
    b = blocks(n_rows, n_columns)
    while more(&b):
        n = b.end - b.begin
        with nogil:
            if real is float:
                status = k.saffu_compress_f32(&X[b.begin, 0], &indptr_[b.begin], n, n_columns, &indices_[0], &data_[0],
                                              n_team)
            else:
                status = k.saffu_compress_f64(&X[b.begin, 0], &indptr_[b.begin], n, n_columns, &indices_[0], &data_[0],
                                              n_team)
        check(status)
    return indptr, indices, data


def take_rows(const int64_t[::1] begins not None, const int64_t[::1] indptr not None,
              const int32_t[::1] indices not None, const real[::1] data not None, n_threads):
    """indices and data of the rows of a CSR matrix that begin at begins; their ends are given by the new indptr."""
    cdef int n_team = team(n_threads), status
    cdef int64_t n_rows = begins.shape[0], n_entries = data.shape[0], n
    same_length(n_rows + 1, indptr.shape[0], "begins and indptr (less one)")
    same_length(n_entries, indices.shape[0], "indices and data")
    # Rows may be taken more than once: the new entries can be more than the old.
    csr_rows(&indptr[0], 8, n_rows + 1, indptr[n_rows], indptr[n_rows], n_team)
    aligned(<size_t>&begins[0], 8)
    aligned(<size_t>&indices[0], 4)
    aligned(<size_t>&data[0], sizeof(real))
    if n_rows and indptr[n_rows] // n_rows > n_entries:
        raise ValueError(f"rows out of range: {n_rows} rows of {indptr[n_rows]} entries lie beyond the {n_entries} there are")
    taken_indices = np.empty(indptr[n_rows], np.int32)
    taken_data = np.empty(indptr[n_rows], np.float32 if real is float else np.float64)
    cdef int32_t[::1] taken_indices_ = taken_indices
    cdef real[::1] taken_data_ = taken_data
    cdef Blocks b = row_blocks(&indptr[0], n_rows, 2)
    while more(&b):
        n = b.end - b.begin
        with nogil:
            if real is float:
                status = k.saffu_take_rows_f32(&begins[b.begin], &indptr[b.begin], &indices[0], &data[0], n,
                                               n_entries, &taken_indices_[0], &taken_data_[0], n_team)
            else:
                status = k.saffu_take_rows_f64(&begins[b.begin], &indptr[b.begin], &indices[0], &data[0], n,
                                               n_entries, &taken_indices_[0], &taken_data_[0], n_team)
        if status == k.SAFFU_OUT_OF_RANGE:
            raise ValueError(f"rows out of range: they must lie within the {n_entries} entries there are")
        check(status)
    return taken_indices, taken_data
