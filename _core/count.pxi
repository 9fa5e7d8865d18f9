# Bindings of count.c: what occurs together.


cdef int targets_fit(const k.saffu_stream *s, int64_t n, int n_threads) except -1:
    """The first n targets are columns."""
    return within(s.targets, 4, n, 0, s.n_cols - 1, "targets", n_threads)


cdef int bucket_all(const k.saffu_stream *s, int64_t[::1] row_ptr, int32_t[::1] bucket, int n_threads) except -1:
    """The first stage of counting, in blocks of positions of each part."""
    cdef int64_t n_parts = k.saffu_bucket_parts(s, n_threads), longest = s.n // n_parts + 1
    cursors = np.zeros(n_parts * s.n_rows, np.int64)
    cdef int64_t[::1] cursors_ = cursors
    cdef Blocks b = blocks(longest, 4)
    cdef int status
    while more(&b):
        with nogil:
            status = k.saffu_bucket_count(s, b.begin, b.end, n_parts, &cursors_[0])
        if status == k.SAFFU_OUT_OF_RANGE:
            raise ValueError(f"contexts out of range: they must be below {s.n_rows}, the number of rows")
        check(status)
    with nogil:
        status = k.saffu_bucket_rows(s, n_parts, &cursors_[0], &row_ptr[0], n_threads)
    check(status)
    b = blocks(longest, 16)
    while more(&b):
        with nogil:
            status = k.saffu_bucket_place(s, b.begin, b.end, n_parts, &cursors_[0], &bucket[0])
        if status == k.SAFFU_OUT_OF_RANGE:
            targets_fit(s, s.n, n_threads)
        check(status)
    return 0


@cython.internal
@cython.final
@cython.auto_pickle(False)
cdef class Counters:
    """What a team counts rows in."""

    cdef k.saffu_counters all
    cdef int32_t[:, ::1] counter, seen
    cdef uint64_t[:, ::1] bits, words
    cdef int32_t[::1] indices, places
    cdef int64_t[::1] counts

    def __cinit__(self, int team, int64_t n_cols, int64_t n_distances, bint places):
        cdef int64_t stride = n_cols + 64, scratch
        self.all.team, self.all.stride = team, stride
        self.all.capacity = scratch = max(team << 18, 2 * n_distances + 2)
        self.counter, self.seen = np.zeros((team, stride), np.int32), np.empty((team, stride), np.int32)
        self.bits = np.zeros((team, stride // 64 + 16), np.uint64)
        self.words = np.zeros((team, stride // 4096 + 16), np.uint64)
        self.all.counter, self.all.seen = &self.counter[0, 0], &self.seen[0, 0]
        self.all.bits, self.all.words = &self.bits[0, 0], &self.words[0, 0]
        if team > 1:
            self.indices, self.counts = np.empty(scratch, np.int32), np.empty(scratch, np.int64)
            self.places = np.empty(scratch if places else 0, np.int32)
            self.all.indices, self.all.counts, self.all.places = &self.indices[0], &self.counts[0], &self.places[0]


@cython.internal
@cython.final
@cython.auto_pickle(False)
cdef class Apart:
    """The rows that are counted before all others."""

    cdef k.saffu_apart rows
    cdef int64_t[::1] numbers, before, segment, length, counts
    cdef int32_t[::1] indices, places
    cdef readonly int64_t n_most  # the entries that all rows may have

    cdef int find(self, const k.saffu_stream *s, const int64_t[::1] row_ptr, int64_t long_row, bint places,
                  int n_threads) except -1:
        """Rows of more than long_row positions, and space for what they hold."""
        cdef int64_t n, most = 0
        numbers = np.empty(row_ptr[s.n_rows] // long_row + 1, np.int64)
        self.numbers = numbers
        with nogil:
            n = k.saffu_longer_rows(s, &row_ptr[0], long_row, &most, &self.numbers[0], n_threads)
        self.n_most = most
        longer = numbers[:n]
        starts = np.asarray(row_ptr)
        sizes = starts[longer + 1] - starts[longer]
        self.before = np.append(0, np.cumsum(sizes))
        self.segment = np.append(0, np.cumsum(np.minimum(sizes * s.n_distances, s.n_cols)))
        self.length = np.zeros(n + 1, np.int64)
        self.indices, self.counts = np.empty(self.segment[n] + 1, np.int32), np.empty(self.segment[n] + 1, np.int64)
        self.places = np.empty(self.before[n] + 1 if places else 0, np.int32)
        self.rows.n, self.rows.rows, self.rows.before = n, &self.numbers[0], &self.before[0]
        self.rows.segment, self.rows.length = &self.segment[0], &self.length[0]
        self.rows.indices, self.rows.counts = &self.indices[0], &self.counts[0]
        self.rows.places = &self.places[0] if places else NULL
        return 0

    cdef int count(self, const k.saffu_stream *s, const int64_t[::1] row_ptr, const int32_t[::1] bucket,
                   int64_t team_row, int64_t max_pairs, const k.saffu_counters *all, int n_threads) except -1:
        """Those of at most team_row positions by a thread each, the others by the team, in blocks of positions."""
        cdef int64_t i
        cdef int status
        cdef Blocks b = row_blocks(&self.before[0], self.rows.n, 4 * s.n_distances)
        cdef int64_t[::1] totals = np.zeros(s.n_cols if self.rows.n else 0, np.int64)
        while more(&b):
            with nogil:
                status = k.saffu_count_apart(s, &row_ptr[0], &bucket[0], b.begin, b.end, team_row, all, &self.rows)
            check(status)
        for i in range(self.rows.n):
            if self.before[i + 1] - self.before[i] > team_row:
                self.count_long(s, row_ptr[self.numbers[i]], i, bucket, max_pairs, all, totals, n_threads)
        return 0

    cdef int count_long(self, const k.saffu_stream *s, int64_t begin, int64_t i, const int32_t[::1] bucket,
                        int64_t max_pairs, const k.saffu_counters *all, int64_t[::1] totals, int n_threads) except -1:
        """The i-th of these rows, whose positions begin here in the bucket, by the team."""
        cdef int64_t n = self.before[i + 1] - self.before[i], place = self.segment[i]
        cdef int status
        cdef Blocks part = blocks(n, s.n_distances)
        part.most = max(1, max_pairs // s.n_distances)
        while more(&part):
            with nogil:
                status = k.saffu_count_long(s, &bucket[0], begin + part.begin, begin + part.end, all, &totals[0])
            check(status)
        with nogil:
            status = k.saffu_emit_long(s.n_cols, self.rows.places != NULL, &totals[0], &self.length[i],
                                       &self.indices[place], &self.counts[place], n_threads)
        check(status)
        if self.rows.places == NULL:
            return 0
        part = blocks(n, 2)
        part.most = max_pairs
        while more(&part):
            with nogil:
                status = k.saffu_place_long(s, &bucket[0], begin + part.begin, begin + part.end, all, &totals[0],
                                            &self.places[self.before[i]])
            check(status)
        totals[:] = 0
        return 0


cdef tuple count_all(const k.saffu_stream *s, const int64_t[::1] row_ptr, const int32_t[::1] bucket, int64_t max_pairs,
                     bint keep, int n_threads):
    """The second stage: rows of many positions, then all others in blocks of positions.

    (indptr, indices, counts), and with keep the places, and where those of each entry begin.
    """
    cdef int64_t n_rows = s.n_rows, n_positions = row_ptr[n_rows], n_pairs = n_positions * s.n_distances
    cdef Counters mine = Counters(k.saffu_team(n_threads, n_pairs), s.n_cols, s.n_distances, keep)
    cdef Apart apart = Apart()
    cdef int status, team = mine.all.team
    apart.find(s, row_ptr, k.saffu_long_row(s, n_positions, max_pairs, mine.all.capacity, team), keep,
               n_threads)
    apart.count(s, row_ptr, bucket, k.saffu_team_row(s, n_positions, max_pairs, team), max_pairs, &mine.all, n_threads)
    # Space for the worst case; pages that no row writes are never touched, and the rest is given back by resize.
    indptr = np.zeros(n_rows + 1, np.int64)
    indices, counts = np.empty(apart.n_most + 1, np.int32), np.empty(apart.n_most + 1, np.int64)
    places = np.empty(n_positions + 1 if keep else 0, np.int32)
    place_ptr = np.zeros(apart.n_most + 1 if keep else 0, np.int64)
    cdef int64_t[::1] indptr_ = indptr, counts_ = counts, place_ptr_ = place_ptr
    cdef int32_t[::1] indices_ = indices, places_ = places
    cdef k.saffu_counted out
    out.indptr, out.indices, out.counts = &indptr_[0], &indices_[0], &counts_[0]
    out.places = &places_[0] if keep else NULL
    out.place_ptr = &place_ptr_[0]
    cdef Blocks b = row_blocks(&row_ptr[0], n_rows, 4 * s.n_distances)
    while more(&b):
        with nogil:
            status = k.saffu_count_rows(s, &row_ptr[0], &bucket[0], &apart.rows, b.begin, b.end, &mine.all, &out)
        check(status)
    indices.resize(indptr[n_rows], refcheck=False)
    counts.resize(indptr[n_rows], refcheck=False)
    if keep:
        place_ptr.resize(indptr[n_rows] + 1, refcheck=False)
        places.resize(place_ptr[indptr[n_rows]], refcheck=False)
    return indptr, indices, counts, places, place_ptr


def count(const int32_t[::1] contexts not None, const int32_t[::1] targets not None,
          const int64_t[::1] distances not None, const int64_t[::1] documents not None, n_rows, n_cols, n_threads,
          max_pairs=k.SAFFU_MAX_PAIRS):
    """CSR counts (indptr, indices, counts) of the pairs (contexts[t], targets[t + k]), k in distances.

    A row of more pairs than max_pairs is counted in pieces of at most so many.
    """
    cdef int n_team = team(n_threads)
    cdef int64_t most = whole(max_pairs, "max_pairs", 1, MOST)
    cdef k.saffu_stream s
    s.keep_positions = s.first_table = False
    s.n, s.n_distances, s.n_documents = contexts.shape[0], distances.shape[0], documents.shape[0]
    s.n_rows, s.n_cols = whole(n_rows, "n_rows", 0, MOST), whole(n_cols, "n_cols", 0, MOST)
    same_length(s.n, targets.shape[0], "contexts and targets")
    if s.n > MOST:
        raise ValueError(f"contexts and targets must be at most {MOST} long, got {s.n}")
    within(&distances[0], 8, s.n_distances, 1, INT64_MAX, "distances", n_team)
    ascending(&distances[0], 8, s.n_distances, True, "distances", n_team)
    within(&documents[0], 8, s.n_documents, 0, s.n, "documents", n_team)
    ascending(&documents[0], 8, s.n_documents, False, "documents", n_team)
    aligned(<size_t>&contexts[0] | <size_t>&targets[0], 4)
    s.contexts, s.targets, s.distances, s.documents = &contexts[0], &targets[0], &distances[0], &documents[0]
    # At one distance the first stage reads the targets of all documents, and looks at them on the way.
    targets_fit(&s, documents[0] if s.n_distances == 1 and s.n_documents else s.n, n_team)
    indptr = np.zeros(s.n_rows + 1, np.int64)
    if s.n == 0 or s.n_distances == 0 or s.n_documents == 0:
        return indptr, np.empty(0, np.int32), np.empty(0, np.int64)
    row_ptr, bucket = np.zeros(s.n_rows + 1, np.int64), np.empty(s.n, np.int32)
    bucket_all(&s, row_ptr, bucket, n_team)
    return count_all(&s, row_ptr, bucket, most, False, n_team)[:3]


@cython.final
@cython.auto_pickle(False)
cdef class SuffixCounter:
    """Counts what follows the suffixes of 1, 2, ... tokens before each position of a stream, table by table.

    Row r of the table of suffixes of n + 1 tokens is entry r of the one before. A table is counted from the positions
    behind each of its rows, which the table before leaves sorted: nothing is looked up.
    """

    cdef const int32_t[::1] targets  # see saffu_stream
    cdef tuple state                 # bucket, row_ptr, and is this the first table
    cdef int64_t n_cols

    def __cinit__(self, const int32_t[::1] contexts not None, const int32_t[::1] ids not None,
                  const int64_t[::1] documents not None, n_rows, n_cols, n_threads):
        """The row of the first table that each position has, -1 for none, the tokens, and where documents begin."""
        cdef int n_team = team(n_threads)
        cdef k.saffu_stream s
        cdef int64_t zero = 0
        self.n_cols = whole(n_cols, "n_cols", 0, MOST)
        same_length(contexts.shape[0], ids.shape[0], "contexts and ids")
        whole(ids.shape[0], "the number of ids", 0, MOST - 1)
        aligned(<size_t>&contexts[0], 4)
        within(&documents[0], 8, documents.shape[0], 0, ids.shape[0] - 1, "documents", n_team)
        targets = np.append(ids, np.int32(-1))
        within(<const int32_t *><size_t>targets.ctypes.data, 4, ids.shape[0], 0, self.n_cols - 1, "ids", n_team)
        targets[documents] = ~targets[documents]
        self.targets = targets
        s.keep_positions = s.first_table = True
        s.n = ids.shape[0]
        s.n_distances = s.n_documents = 1
        s.n_rows, s.n_cols = whole(n_rows, "n_rows", 0, MOST), self.n_cols
        s.contexts, s.targets, s.distances, s.documents = &contexts[0], &self.targets[0], &zero, &zero
        row_ptr, bucket = np.zeros(s.n_rows + 1, np.int64), np.empty(s.n, np.int32)
        if s.n:
            bucket_all(&s, row_ptr, bucket, n_team)
        self.state = bucket, row_ptr, True

    @property
    def row_lengths(self):
        """The number of positions of each row of the next table."""
        return np.diff(self.state[1])

    def count(self, n_continued, n_threads, max_pairs=k.SAFFU_MAX_PAIRS):
        """CSR counts (indptr, indices, counts) of the next table, of whose rows the first so many have longer ones."""
        cdef int n_team = team(n_threads)
        cdef int64_t most = whole(max_pairs, "max_pairs", 1, MOST), end
        cdef k.saffu_stream s
        cdef int64_t zero = 0
        cdef int64_t[::1] row_ptr
        cdef int32_t[::1] bucket
        bucket, row_ptr, first = self.state
        s.keep_positions, s.first_table = True, first
        s.n, s.n_rows, s.n_cols = self.targets.shape[0] - 1, row_ptr.shape[0] - 1, self.n_cols
        s.n_distances = s.n_documents = 1
        s.contexts, s.targets, s.distances, s.documents = NULL, &self.targets[0], &zero, &zero
        end = whole(n_continued, "n_continued", 0, s.n_rows)
        indptr, indices, counts, places, place_ptr = count_all(&s, row_ptr, bucket, most, end > 0, n_team)
        if end == 0:
            places, place_ptr = np.empty(0, np.int32), np.zeros(indices.size + 1, np.int64)
        elif end < s.n_rows:
            place_ptr[indptr[end]:] = place_ptr[indptr[end]]
        self.state = places, place_ptr, False
        return indptr, indices, counts
