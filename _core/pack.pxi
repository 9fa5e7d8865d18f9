# Bindings of pack.c: sparse rows for the pooled softmax.

BLOCK = k.SAFFU_BLOCK


@cython.final
@cython.auto_pickle(False)
cdef class Packed:
    """Packed rows (head_ptr, head, tail_ptr, tail_word, tail_u), which fit together: from pack, or copies of arrays.

    head and tail_u are float32 if both are given so, else float64.
    """

    cdef tuple arrays
    cdef const int64_t[::1] head_ptr, tail_ptr
    cdef const unsigned char[::1] head, tail_u  # their bytes
    cdef const int32_t[::1] tail_word
    cdef int64_t n_rows, longest_head, last_word  # words of the longest head; the last word of a tail
    cdef int64_t size  # bytes of a number

    def __cinit__(self, head_ptr=(0,), head=(), tail_ptr=(0,), tail_word=(), tail_u=()):
        head, tail_u = np.array(head), np.array(tail_u)
        dtype = np.float32 if head.dtype == tail_u.dtype == np.float32 else np.float64
        self.adopt(np.array(head_ptr, np.int64), head.astype(dtype, copy=False), np.array(tail_ptr, np.int64),
                   np.array(tail_word, np.int32), tail_u.astype(dtype, copy=False))
        same_length(self.head_ptr.shape[0], self.tail_ptr.shape[0], "head_ptr and tail_ptr")
        csr_rows(&self.head_ptr[0], 8, self.head_ptr.shape[0], self.arrays[1].size, self.arrays[1].size, 1)
        csr_rows(&self.tail_ptr[0], 8, self.tail_ptr.shape[0], self.tail_word.shape[0], self.arrays[4].size, 1)
        within(&self.tail_word[0], 4, self.tail_word.shape[0], 0, MOST - k.SAFFU_BLOCK, "tail_word", 1)
        if (np.asarray(self.head_ptr) % BLOCK).any():
            raise ValueError(f"the heads of packed rows must be whole blocks of {BLOCK} words")
        self.measure()

    cdef adopt(self, head_ptr, head, tail_ptr, tail_word, tail_u):
        """Keep arrays that nobody else writes to."""
        self.arrays = head_ptr, head, tail_ptr, tail_word, tail_u
        self.head_ptr, self.tail_ptr, self.tail_word, self.size = head_ptr, tail_ptr, tail_word, head.itemsize
        self.head, self.tail_u = head.view(np.uint8), tail_u.view(np.uint8)
        self.n_rows = self.head_ptr.shape[0] - 1

    cdef measure(self):
        self.longest_head = np.diff(self.arrays[0]).max(initial=0)
        self.last_word = self.arrays[3].max(initial=-1)

    def __iter__(self):
        # The five arrays, read-only.
        for array in self.arrays:
            view = array.view()
            view.flags.writeable = False
            yield view

    def __reduce__(self):
        return Packed, self.arrays


cdef int words_bad(const int64_t[::1] indptr, const int32_t[::1] words, int n_threads) except -1:
    """Raise ValueError with the word of a CSR matrix that is out of range or out of order."""
    cdef int64_t place = 0
    within(&words[0], 4, words.shape[0], 0, MOST - k.SAFFU_BLOCK, "words", n_threads)
    if k.saffu_unsorted(&indptr[0], &words[0], indptr.shape[0] - 1, &place, n_threads) != k.SAFFU_OK:
        raise ValueError(f"the words of a row must ascend, got {words[place - 1]} and then {words[place]}")
    return 0


def pack(const int64_t[::1] indptr not None, const int32_t[::1] words not None, const real[::1] u not None,
         n_threads):
    """Packed rows of a CSR matrix with ascending columns, of numbers of the type of u."""
    cdef int n_team = team(n_threads), status
    cdef int64_t n_rows = csr_rows(&indptr[0], 8, indptr.shape[0], words.shape[0], u.shape[0], n_team)
    aligned(<size_t>&u[0], sizeof(real))
    aligned(<size_t>&words[0], 4)
    head_ptr, tail_ptr = np.zeros(n_rows + 1, np.int64), np.zeros(n_rows + 1, np.int64)
    cdef int64_t[::1] head_ptr_ = head_ptr, tail_ptr_ = tail_ptr
    cdef Blocks b = row_blocks(&indptr[0], n_rows, 2)
    while more(&b):
        with nogil:
            status = k.saffu_pack_sizes(&indptr[b.begin], &words[0], sizeof(real), b.end - b.begin,
                                        &head_ptr_[b.begin], &tail_ptr_[b.begin], n_team)
        if status == k.SAFFU_OUT_OF_RANGE:
            words_bad(indptr, words, n_team)
        check(status)
    n_head, n_tail = head_ptr[n_rows], tail_ptr[n_rows]
    dtype = dtype_of(sizeof(real))
    head, tail_word, tail_u = np.empty(n_head, dtype), np.empty(n_tail, np.int32), np.empty(n_tail, dtype)
    cdef real[::1] head_ = head, tail_u_ = tail_u
    cdef int32_t[::1] tail_word_ = tail_word
    b = row_blocks(&indptr[0], n_rows, 2)
    while more(&b):
        with nogil:
            status = k.saffu_pack(&indptr[b.begin], &words[0], &u[0], sizeof(real), &head_ptr_[b.begin],
                                  &tail_ptr_[b.begin], b.end - b.begin, &head_[0], &tail_word_[0], &tail_u_[0], n_team)
        check(status)
    cdef Packed packed = Packed()
    packed.adopt(head_ptr, head, tail_ptr, tail_word, tail_u)
    packed.measure()
    return packed
