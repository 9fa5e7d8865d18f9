# Bindings of ngrams.c: texts as hashed n-grams.

MAX_NGRAM = k.SAFFU_MAX_NGRAM
N_CODES = k.SAFFU_N_CODES


def hash_ngrams(const unsigned char[::1] text not None, const int64_t[::1] offsets not None,
                const unsigned char[::1] classes not None, tokenizer, n, mask, n_threads):
    """indptr and hashes of the n-grams of each text; see saffu.h for tokenizers and the classes of characters."""
    cdef int n_team = team(n_threads), status
    cdef int64_t n_texts = csr_rows(&offsets[0], 8, offsets.shape[0], text.shape[0], text.shape[0], n_team, "offsets")
    cdef k.saffu_texts texts
    same_length(classes.shape[0], k.SAFFU_N_CODES, "classes and the numbers of characters")
    texts.bytes, texts.offsets, texts.classes = &text[0], &offsets[0], &classes[0]
    texts.tokenizer, texts.n = whole(tokenizer, "tokenizer", 0, 3), whole(n, "n", 1, k.SAFFU_MAX_NGRAM)
    texts.mask = PyNumber_Index(mask)
    counts = np.zeros(n_texts, np.int64)
    cdef int64_t[::1] counts_ = counts
    cdef Blocks b = row_blocks(&offsets[0], n_texts, 4)
    while more(&b):
        with nogil:
            status = k.saffu_count_tokens(&texts, b.begin, b.end, &counts_[0], n_team)
        check(status)
    indptr = np.zeros(n_texts + 1, np.int64)
    np.cumsum(sum(np.maximum(counts - shorter, 0) for shorter in range(texts.n)), out=indptr[1:])
    hashes = np.empty(indptr[n_texts], np.uint64)
    cdef int64_t[::1] indptr_ = indptr
    cdef uint64_t[::1] hashes_ = hashes
    b = row_blocks(&offsets[0], n_texts, 4 * texts.n)
    while more(&b):
        with nogil:
            status = k.saffu_hash_ngrams(&texts, &indptr_[0], b.begin, b.end, &hashes_[0], n_team)
        check(status)
    return indptr, hashes


def match_ngrams(const int64_t[::1] indptr not None, const uint64_t[::1] hashes not None,
                 const uint64_t[::1] known not None, const int32_t[::1] first not None, n_threads):
    """Sparse rows of counts: begins and lengths of rows, and indices and data with gaps behind each row."""
    cdef int n_team = team(n_threads), status
    cdef int64_t n_rows = csr_rows(&indptr[0], 8, indptr.shape[0], hashes.shape[0], hashes.shape[0], n_team)
    cdef k.saffu_known table
    aligned(<size_t>&hashes[0] | <size_t>&known[0], 8)
    table.hashes, table.n, table.first = &known[0], known.shape[0], &first[0]
    table.bits = max(first.shape[0] - 2, 0).bit_length()
    same_length(first.shape[0], (1 << table.bits) + 1, "first and a power of two, and one,")
    within(&first[0], 4, first.shape[0], 0, table.n, "first", n_team)
    indices, counts = np.empty(hashes.shape[0], np.int32), np.empty(hashes.shape[0], np.float32)
    lengths, scratch = np.zeros(n_rows, np.int64), np.zeros((n_team, table.n), np.int32)
    cdef int32_t[::1] indices_ = indices
    cdef float[::1] counts_ = counts
    cdef int64_t[::1] lengths_ = lengths
    cdef int32_t[:, ::1] scratch_ = scratch
    cdef Blocks b = row_blocks(&indptr[0], n_rows, 16)
    while more(&b):
        with nogil:
            status = k.saffu_match_ngrams(&hashes[0], &indptr[0], &table, b.begin, b.end, &scratch_[0, 0],
                                          &indices_[0], &counts_[0], &lengths_[0], n_team)
        check(status)
    return lengths, indices, counts
