"""Signatures of the compiled core; see _core/src/saffu.h for the equations and shapes."""

from collections.abc import Iterator, Sequence
from typing import Any, Self, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

_Float32 = NDArray[np.float32]
_Float64 = NDArray[np.float64]
_Int32 = NDArray[np.int32]
_Int64 = NDArray[np.int64]
_UInt8 = NDArray[np.uint8]
_UInt64 = NDArray[np.uint64]
_Real = NDArray[Any]  # float32 or float64
_Index = NDArray[Any]  # int32 or int64

def config() -> dict[str, Any]: ...
def choose_variant(name: str = "x86-64-v4") -> str: ...
def max_threads() -> int: ...
def threads(n_threads: int) -> int: ...
def check_csr(indptr: _Index, indices: _Index, n_columns: int, n_entries: int, n_threads: int) -> None: ...

VARIANTS: tuple[str, ...]
MAX_THREADS: int

def count(
    contexts: _Int32,
    targets: _Int32,
    distances: _Int64,
    documents: _Int64,
    n_rows: int,
    n_cols: int,
    n_threads: int,
    max_pairs: int = ...,
) -> tuple[_Int64, _Int32, _Int64]: ...

@final
class SuffixCounter:
    def __new__(
        cls, contexts: _Int32, ids: _Int32, documents: _Int64, n_rows: int, n_cols: int, n_threads: int
    ) -> Self: ...
    @property
    def row_lengths(self) -> _Int64: ...
    def count(self, n_continued: int, n_threads: int, max_pairs: int = ...) -> tuple[_Int64, _Int32, _Int64]: ...

def merge(
    a_indptr: _Int64,
    a_indices: _Int32,
    a_counts: _Int64,
    a_rows: _Int64,
    b_indptr: _Int64,
    b_indices: _Int32,
    b_counts: _Int64,
    b_rows: _Int64,
    n_rows: int,
    n_threads: int,
    places: bool = True,
) -> tuple[_Int64, _Int32, _Int64, _Int64, _Int64]: ...
def find(indptr: _Int64, indices: _Int32, rows: _Int32, cols: _Int32, n_threads: int) -> _Int32: ...

BLOCK: int

def weigh(
    indptr: _Int64, counts: _Int64, parent: _Int32, lower: _Float64, discounts: _Float64, n_threads: int
) -> tuple[_Float64, _Float64, _Float64, _Float64]: ...

@final
class Packed:
    def __new__(
        cls,
        head_ptr: ArrayLike = ...,
        head: ArrayLike = ...,
        tail_ptr: ArrayLike = ...,
        tail_word: ArrayLike = ...,
        tail_u: ArrayLike = ...,
    ) -> Self: ...
    def __iter__(self) -> Iterator[NDArray[Any]]: ...

def pack(indptr: _Int64, words: _Int32, u: _Real, n_threads: int) -> Packed: ...

@final
class Batch:
    def __new__(
        cls,
        ids: _Int32,
        positions: _Int64,
        begins: _Int64,
        rows: _Int32,
        states: _Int32,
        target_u: _Float64 | None = None,
        previous: _Int32 | None = None,
    ) -> Self: ...

@final
class Pool:
    def __new__(
        cls,
        packed: Packed | Sequence[ArrayLike],
        log_prior: _Float64,
        unigram: _Float64,
        theta: _Float64,
        n_contexts: int,
        window: _Int64,
        window_mass: _Float64,
        induction: int,
        induction_mass: float,
        n_threads: int = 1,
    ) -> Self: ...
    def log_prob(self, batch: Batch, n_threads: int) -> _Float64: ...
    def distribution(self, batch: Batch, n_threads: int) -> _Float64: ...
    def logits(self, batch: Batch, out: _Real, n_threads: int) -> None: ...
    def derivatives(self, batch: Batch, second: bool, n_threads: int) -> tuple[_Float64, _Float64, _Float64 | None]: ...

# moments.c, weigh.c (dense), softmax.c
def moments_labels(
    H: _Real, labels: _Int32, weights: _Float64 | None, F: _Float64, mass: _Float64, add: bool, n_threads: int
) -> None: ...
def moments_soft(
    H: _Real, Y: _Real, weights: _Float64 | None, F: _Float64, mass: _Float64, add: bool, n_threads: int
) -> None: ...
def moments_csr_labels(
    indptr: _Int64,
    indices: _Index,
    data: _Real,
    labels: _Int32,
    weights: _Float64 | None,
    F: _Float64,
    mass: _Float64,
    add: bool,
    n_threads: int,
) -> None: ...
def moments_csr_soft(
    indptr: _Int64,
    indices: _Index,
    data: _Real,
    Y: _Real,
    weights: _Float64 | None,
    F: _Float64,
    mass: _Float64,
    add: bool,
    n_threads: int,
) -> None: ...
def lowest(x: _Real, n_threads: int) -> float: ...
def log_weights(
    F: _Real, by_class: bool, smoothing: float, exponent: float, n_threads: int
) -> tuple[_Real, _Float64]: ...
def leave_one_out(
    H: _Real,
    rows: _Int32,
    classes: _Int32,
    amounts: _Float64,
    F: _Float64,
    S: _Float64,
    smoothing: float,
    n_threads: int,
) -> _Float64: ...
def leave_one_out_csr(
    indptr: _Int64,
    indices: _Int32,
    data: _Float64,
    rows: _Int32,
    classes: _Int32,
    amounts: _Float64,
    F: _Float64,
    S: _Float64,
    smoothing: float,
    n_threads: int,
) -> _Float64: ...
def product(
    indptr: _Int64,
    indices: _Int32,
    data: _Real,
    B: _Real,
    bias: _Real | None,
    n_threads: int,
    out: _Real | None = None,
) -> _Real: ...
def product_double(
    indptr: _Int64,
    indices: _Int32,
    data: _Real,
    B: _Real,
    F: _Float64,
    n_threads: int,
) -> None: ...

MAX_NGRAM: int
N_CODES: int

def hash_ngrams(
    text: _UInt8, offsets: _Int64, classes: _UInt8, tokenizer: int, n: int, mask: int, n_threads: int
) -> tuple[_Int64, _UInt64]: ...
def match_ngrams(
    indptr: _Int64, hashes: _UInt64, known: _UInt64, first: _Int32, n_threads: int
) -> tuple[_Int64, _Int32, _Real]: ...
def compress(X: _Real, n_threads: int) -> tuple[_Int64, _Int32, _Real]: ...
def take_rows(
    begins: _Int64,
    indptr: _Int64,
    indices: _Int32,
    data: _Real,
    n_threads: int,
) -> tuple[_Int32, _Real]: ...
def softmax(X: _Real, log: bool, n_threads: int) -> _Real: ...
def logsumexp(X: _Real, n_threads: int) -> _Float64: ...
def cross_entropy_labels(X: _Real, labels: _Int32, n_threads: int) -> _Float64: ...
def cross_entropy_soft(X: _Real, T: _Real, n_threads: int) -> _Float64: ...
def cross_entropy_backward(X: _Real, labels: _Int32, scale: _Float64 | None, n_threads: int) -> _Float64: ...
def log_sums(X: _Real, words: _Int32, begins: _Int64, Z: _Real, n_threads: int) -> None: ...
def softmax_backward(P: _Real, dP: _Real, n_threads: int) -> None: ...
def mixture(X: _Real, T: _Real, labels: _Int32, n_threads: int) -> _Float64: ...
def mixture_backward(X: _Real, T: _Real, labels: _Int32, scale: _Float64, n_threads: int) -> tuple[_Float64, _Real]: ...
def exp(x: _Real, n_threads: int) -> _Real: ...
def log(x: _Real, n_threads: int) -> _Real: ...

# attend.c
@final
class View:
    def __new__(cls, ids: _Int32, first: _Int64, length: _Int32, head: _Int64, step: int, n_positions: int) -> Self: ...

def compare_all(X: _Real, n_threads: int) -> _Real: ...
def comparisons(view: View, X: _Real, cache: _Real | None, n_threads: int) -> _Real: ...
def attend(
    view: View,
    X: _Real,
    cache: _Real | None,
    W: _Real,
    bias: _Real | None,
    given: _Real | None,
    n_threads: int,
) -> tuple[_Real, _Real, _Real | None]: ...
def attend_backward(
    view: View,
    X: _Real,
    W: _Real,
    S: _Real,
    A: _Real,
    dZ: _Real,
    by_comparisons: bool,
    dX: _Real | None,
    n_threads: int,
) -> tuple[_Real, _Real, _Real | None]: ...

# patches.c
@final
class Patches:
    def __new__(
        cls,
        shape: tuple[int, int, int],
        patch: tuple[int, int],
        stride: int,
        pool: tuple[int, int],
        scale: float,
        spread: float,
        normalize: bool,
    ) -> Self: ...
    @property
    def places(self) -> tuple[int, int]: ...
    @property
    def n_cells(self) -> int: ...
    @property
    def n_inputs(self) -> int: ...

def pool_patches(patches: Patches, images: _Real, M: _Real | None, W: _Real, n_threads: int) -> _Real: ...
def patch_moments(
    patches: Patches,
    images: _Real,
    image_of: _Int32 | None,
    place_of: _Int32 | None,
    slope: _Real | None,
    M: _Real | None,
    W: _Real,
    n_threads: int,
) -> _Float64: ...

# regression.c
def regression_gradients(
    A: _Float32, W: _Float32, bias: _Float32, targets: _Int32, slopes: bool, n_threads: int
) -> tuple[_Float64, _Float64, _Float32 | None]: ...

# panels.c
PANEL_BYTES: int

def panel_product(A: _Real, panels: _Real, Z: _Real, n_threads: int) -> None: ...

# lstm.c
def lstm_step(R: _Real, C_before: _Real, G: _Real, C: _Real, tanh_C: _Real, M: _Real, n_threads: int) -> None: ...
def lstm_step_backward(C_before: _Real, tanh_C: _Real, dM: _Real, G: _Real, dC: _Real, n_threads: int) -> None: ...

# adam.c
def adam(
    gradient: _Real,
    x: _Real,
    first: _Real,
    second: _Real,
    learning_rate: float,
    beta1: float,
    beta2: float,
    epsilon: float,
    step: int,
    n_threads: int,
) -> None: ...
def adam_without_momentum(
    gradient: _Real,
    x: _Real,
    second: _Real,
    scale: float,
    learning_rate: float,
    beta2: float,
    epsilon: float,
    step: int,
    n_threads: int,
) -> None: ...
