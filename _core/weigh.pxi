# Bindings of weigh.c: discounted counts to sparse logarithms.


def weigh(const int64_t[::1] indptr not None, const int64_t[::1] counts not None, const int32_t[::1] parent not None,
          const double[::1] lower not None, const double[::1] discounts not None, n_threads):
    """(total, mass, u, p) of a whole CSR table of counts."""
    cdef int n_team = team(n_threads), status
    cdef int64_t n = counts.shape[0]
    cdef int64_t n_rows = csr_rows(&indptr[0], 8, indptr.shape[0], parent.shape[0], n, n_team)
    same_length(discounts.shape[0], 3, "discounts and (1, 2, 3+)")
    if not all(0 <= d <= n_d for d, n_d in zip(discounts, (1, 2, 3))):
        raise ValueError(f"discounts must lie between 0 and 1, 2 and 3, got {list(discounts)}")
    aligned(<size_t>&counts[0] | <size_t>&lower[0] | <size_t>&discounts[0], 8)
    aligned(<size_t>&parent[0], 4)
    total, mass, u, p = np.zeros(n_rows), np.zeros(n_rows), np.empty(n), np.empty(n)
    cdef double[::1] total_ = total, mass_ = mass, u_ = u, p_ = p
    cdef Blocks b = row_blocks(&indptr[0], n_rows, 16)
    while more(&b):
        with nogil:
            status = k.saffu_weigh(&indptr[b.begin], &counts[0], &parent[0], &lower[0], &discounts[0],
                                   b.end - b.begin, lower.shape[0], &total_[b.begin], &mass_[b.begin], &u_[0],
                                   &p_[0], n_team)
        if status == k.SAFFU_OUT_OF_RANGE:
            within(&parent[0], 4, n, 0, lower.shape[0] - 1, "parent", n_team)
        check(status)
    return total, mass, u, p
