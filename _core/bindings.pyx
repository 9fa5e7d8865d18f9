# saffu._core: one def per kernel. No arithmetic here: check, allocate, release the GIL, call, raise from the status.
#
# No argument may crash the process, whoever calls: arrays are typed memoryviews, never None unless said so, aligned,
# and of equal lengths where they must be; ids, places and offsets are checked by one pass of check.c before a kernel
# follows them (or where it does, entry by entry); what is written shares no memory with what is read. Every call goes
# through three helpers: `team` turns n_threads into the number of threads, `more` cuts the work into blocks and handles
# signals between them, `check` turns a status into an exception.
import os

from cpython.number cimport PyNumber_Index
from libc.stdint cimport int32_t, int64_t, uint64_t

import numpy as np

cimport cython

cimport kernels as k

cdef extern from "Python.h":
    int PyErr_CheckSignals() except -1

cdef int64_t INT64_MAX = 2**63 - 1
cdef int64_t MOST = 2**31 - 1  # what places and columns of 32 bits hold


ctypedef fused real:
    float
    double

ctypedef fused real_target:
    float
    double

ctypedef fused index:
    int32_t
    int64_t

ctypedef fused other_index:
    int32_t
    int64_t


# ---- statuses and sizes ------------------------------------------------------------------------------------------


cdef int check(int status) except -1:
    """The one table from status codes to exceptions."""
    if status == k.SAFFU_OK:
        return 0
    if status == k.SAFFU_NO_MEMORY:
        raise MemoryError("a scratch buffer of the compiled core could not be allocated")
    if status == k.SAFFU_OUT_OF_RANGE:
        raise ValueError("an id is out of range")
    if status == k.SAFFU_NOT_A_COUNT:
        raise ValueError("counts must be finite and not negative")
    if status == k.SAFFU_NOT_FINITE:
        parts = "its counts, probabilities, discounts or exponent"
        raise ValueError(f"a weight would be infinite: {parts} are out of proportion")
    if status == k.SAFFU_TOO_LARGE:
        raise ValueError(f"a size is above {MOST}, what places of 32 bits hold")
    raise RuntimeError(f"unknown status {status} from the compiled core")


cdef int same_length(Py_ssize_t a, Py_ssize_t b, str names) except -1:
    if a != b:
        raise ValueError(f"{names} must have equal lengths, got {a} and {b}")
    return 0


cdef int64_t whole(object value, str name, int64_t low, int64_t high) except? -1:
    """An integer in [low, high]."""
    number = PyNumber_Index(value)
    if not low <= number <= high:
        raise ValueError(f"{name} must be between {low} and {high}, got {number}")
    return number


cdef int aligned(size_t places, size_t size) except -1:
    """Arrays whose addresses are joined by | in places start on boundaries of size bytes."""
    if places % size:
        raise ValueError("arrays must be aligned")
    return 0


cdef int apart(const void *a, int64_t a_bytes, const void *b, int64_t b_bytes, str names) except -1:
    """An array that is written shares no memory with another: the kernels promise the compiler as much."""
    if a_bytes and b_bytes and <size_t>a < <size_t>b + <size_t>b_bytes and <size_t>b < <size_t>a + <size_t>a_bytes:
        raise ValueError(f"{names} must not share memory")
    return 0


cdef object dtype_of(size_t size):
    """The type of reals of this size."""
    return np.float32 if size == 4 else np.float64


cdef void *at_row(const void *x, int size, int64_t stride, int64_t row) noexcept nogil:
    """A row of a matrix of entries of this size, rows so many entries apart."""
    return <void *>(<const char *>x + row * stride * size)


# ---- threads -----------------------------------------------------------------------------------------------------

MAX_THREADS = 1024  # more is a mistake
cdef int64_t most_threads = MAX_THREADS
cdef int most_in_a_team = max(16, 4 * (os.cpu_count() or 1))
cdef bint in_forked_child = False


def _after_fork():
    # The OpenMP runtime of gcc hangs when a forked child starts a team its parent had already started.
    global in_forked_child
    in_forked_child = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


cdef int team(object n_threads) except -1:
    """The one rule of how many threads a kernel uses: results do not depend on it, so that it may be lowered.

    Fewer than 1 or more than 1,024 is a mistake. More than 16 and than 4 a processor would only cost memory: starting
    thousands ends a process whose memory is limited. In a forked child it is 1, whenever the number was resolved.
    """
    cdef int64_t wanted = whole(n_threads, "n_threads", 1, most_threads)
    return 1 if in_forked_child else min(wanted, most_in_a_team)


def threads(n_threads):
    """The number of threads that a kernel called with this n_threads uses, here and now."""
    return team(n_threads)


# ---- blocks ------------------------------------------------------------------------------------------------------

cdef double BLOCK_SECONDS = 0.1  # a signal waits for about so long
cdef int64_t FIRST_STEPS = 1 << 24  # simple steps of a first block, before anything has been timed


def _first_block(steps):
    """Begin with blocks of so many steps; the number before. No result depends on it, which tests make sure of."""
    global FIRST_STEPS
    before, FIRST_STEPS = FIRST_STEPS, whole(steps, "steps", 1, 1 << 40)
    return before


cdef struct Blocks:
    int64_t begin, end          # rows of the block
    int64_t total               # rows of all
    int64_t grain               # blocks are multiples of so many rows
    int64_t size, most          # rows, or rows and entries, of the next block, and at most
    const int64_t *indptr       # where rows differ: offsets of their entries
    double started


cdef Blocks blocks(int64_t total, int64_t steps, int64_t grain=1) noexcept:
    """Blocks of rows, each of about so many simple steps; see more."""
    cdef Blocks b
    b.begin = b.end = 0
    b.total, b.grain, b.indptr, b.most = total, grain, NULL, INT64_MAX
    b.size = max(1, FIRST_STEPS // max(steps, 1) // grain) * grain
    b.started = 0.0
    return b


cdef Blocks row_blocks(const int64_t *indptr, int64_t n_rows, int64_t steps) noexcept:
    """Blocks of rows of a CSR matrix, of about so many simple steps for each entry and each row."""
    cdef Blocks b = blocks(n_rows, steps)
    b.indptr = indptr
    return b


cdef int64_t row_after(Blocks *b) noexcept:
    """The row that a block of b.size rows and entries from row b.begin ends before; at least one row."""
    cdef int64_t low = b.begin + 1, high = b.total, middle, limit = b.indptr[b.begin] + b.begin + b.size
    while low < high:
        middle = low + (high - low + 1) // 2
        if b.indptr[middle] + middle <= limit:
            low = middle
        else:
            high = middle - 1
    return low


cdef int more(Blocks *b) except -1:
    """Go on to the next block, of about a tenth of a second; 0 after the last. Signals are handled in between."""
    cdef double seconds
    if b.end >= b.total:
        return 0
    if b.end > 0:
        PyErr_CheckSignals()
        seconds = max(k.saffu_seconds() - b.started, 1e-6)
        b.size = <int64_t>(b.size * min(max(BLOCK_SECONDS / seconds, 0.125), 4.0)) // b.grain * b.grain
    b.size = min(max(b.size, b.grain), b.most)
    b.begin = b.end
    if b.indptr != NULL:
        b.end = row_after(b)
    else:
        b.end = b.total if b.total - b.begin <= b.size else b.begin + b.size
    if b.end < b.total:
        b.started = k.saffu_seconds()
    return 1


cdef const double *from_row(const double *x, int64_t row) noexcept nogil:
    """x from this entry on; NULL stays NULL."""
    if x == NULL:
        return x
    return x + row


# ---- checks of what comes in -------------------------------------------------------------------------------------


cdef int64_t integer_at(const void *x, int size, int64_t i) noexcept:
    return (<const int32_t *>x)[i] if size == 4 else (<const int64_t *>x)[i]


cdef int within(const void *x, int size, int64_t n, int64_t low, int64_t high, str name, int n_threads) except -1:
    """Integers of 4 or 8 bytes that all lie in [low, high]."""
    cdef Blocks b = blocks(n, 1)
    cdef int64_t place = 0
    cdef int status
    aligned(<size_t>x, size)
    while more(&b):
        with nogil:
            status = k.saffu_outside(at_row(x, size, 1, b.begin), size, b.end - b.begin, low, high, &place, n_threads)
        if status != k.SAFFU_OK:
            place += b.begin
            value = integer_at(x, size, place)
            raise ValueError(f"{name} out of range: expected {low} to {high}, got {value} at place {place}")
    return 0


cdef int ascending(const void *x, int size, int64_t n, bint strict, str name, int n_threads) except -1:
    """Integers of 4 or 8 bytes none of which is below the one before."""
    cdef Blocks b = blocks(n - 1, 1)
    cdef int64_t place = 0
    cdef int status
    aligned(<size_t>x, size)
    while more(&b):
        with nogil:
            status = k.saffu_descent(at_row(x, size, 1, b.begin), size, b.end - b.begin + 1, strict, &place,
                                     n_threads)
        if status != k.SAFFU_OK:
            place += b.begin
            before, after = integer_at(x, size, place - 1), integer_at(x, size, place)
            raise ValueError(f"{name} must ascend, got {before} and then {after} at place {place}")
    return 0


cdef int64_t csr_rows(const void *indptr, int size, int64_t n_offsets, int64_t n_indices, int64_t n_entries,
                      int n_threads, str name="indptr") except -1:
    """The number of rows of a CSR matrix, whose offsets, of this name, ascend from 0 and end within its entries."""
    cdef int64_t n_rows = n_offsets - 1
    same_length(n_indices, n_entries, "indices and data")
    if n_rows < 0:
        raise ValueError(f"{name} must have an offset more than there are rows, got none")
    first, last = integer_at(indptr, size, 0), integer_at(indptr, size, n_rows)
    if first != 0 or last > n_entries:
        most = f"at most the {n_entries} entries there are"
        raise ValueError(f"{name} must ascend from 0 to {most}, got {first} and {last}")
    ascending(indptr, size, n_offsets, False, name, n_threads)
    return n_rows


def check_csr(const index[::1] indptr not None, const other_index[::1] indices not None, int64_t n_columns,
              int64_t n_entries, n_threads):
    """Raise ValueError unless these are the offsets and columns of a CSR matrix with n_entries values."""
    cdef int n = team(n_threads)
    csr_rows(&indptr[0], sizeof(index), indptr.shape[0], indices.shape[0], n_entries, n)
    within(&indices[0], sizeof(other_index), indices.shape[0], 0, n_columns - 1, "column indices", n)


# ---- how it was built --------------------------------------------------------------------------------------------


VARIANTS = ("x86-64-v4", "x86-64-v3", "baseline")  # best first


def config():
    """How the core was built."""
    return {
        "compiler": (<bytes>k.SAFFU_COMPILER).decode(),
        "openmp": bool(k.SAFFU_HAS_OPENMP),
        "simd_variants": list(VARIANTS) if k.SAFFU_HAS_VARIANTS or k.SAFFU_CHOOSES_VARIANT else ["baseline"],
        "simd_choice": "import" if k.SAFFU_CHOOSES_VARIANT else "loader" if k.SAFFU_HAS_VARIANTS else "none",
    }


def choose_variant(name=VARIANTS[0]):
    """Use the best variant of the kernels that this processor has, but none better than this one; return its name.

    For tests: no kernel may be running. A core whose variants the loader chooses, or that has none, raises ValueError.
    """
    if not k.SAFFU_CHOOSES_VARIANT:
        raise ValueError("the variants of this build are not chosen by function pointers")
    if name not in VARIANTS:
        raise ValueError(f"name must be one of {', '.join(VARIANTS)}, got {name!r}")
    best = len(VARIANTS) - 1
    return VARIANTS[best - k.saffu_choose_variant(best - VARIANTS.index(name))]


if k.SAFFU_CHOOSES_VARIANT:
    choose_variant()


def max_threads():
    """Threads that OpenMP would use for the calling thread; 1 in a sequential build."""
    return k.saffu_max_threads()


include "count.pxi"
include "merge.pxi"
include "find.pxi"
include "weigh.pxi"
include "pack.pxi"
include "pool.pxi"
include "moments.pxi"
include "log_weights.pxi"
include "leave_one_out.pxi"
include "product.pxi"
include "sparse.pxi"
include "ngrams.pxi"
include "softmax.pxi"
include "attend.pxi"
include "patches.pxi"
include "regression.pxi"
include "panels.pxi"
include "lstm.pxi"
include "adam.pxi"
