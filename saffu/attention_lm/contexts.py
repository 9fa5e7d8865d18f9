"""What the positions of a stream see: windows of the last tokens, means over the document, and batches of positions.

A *context* is one of

* ``"radial"``: the last K tokens, the newest first;
* ``"block"``: the tokens of the present block of K, anchored at the start of the document;
* ``"document"``: the sum of the document's tokens so far, of unit sum.

Positions come in *segments*: up to 32 consecutive ones whose offset in the document begins at a multiple of 32. That is
how the document context is defined (it reaches back a fixed number of tokens from the start of the segment, so
that the tokens it has in common with its neighbours are added up once), and what is shuffled in training (a
layer above the first needs the hidden states of the positions before, and neighbours share them).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from saffu.attention_lm.windows import Windows
from saffu.utils import validate
from saffu.utils.arrays import Array, Int64, ranges
from saffu.utils.sparse import SparseRows
from saffu.utils.streams import TokenStream

View = tuple[str, int]  # a context, and K

CONTEXTS = ("block", "radial", "document")
SEGMENT = 32  # positions


def parse_contexts(value: str | Iterable[str]) -> tuple[str, ...]:
    """Names of contexts, checked, in their fixed order.

    Parameters
    ----------
    value : str or sequence of str
        A list of names, or a text that joins them with ``+``.

    Raises
    ------
    TypeError
        If it is neither a text nor a list of texts.
    ValueError
        If a name is unknown or given twice, or there is none.

    Examples
    --------
    >>> parse_contexts("document+radial")
    ('radial', 'document')
    """
    names = value.split("+") if isinstance(value, str) else value
    if not isinstance(names, (list, tuple)) or not all(isinstance(name, str) for name in names):
        raise TypeError(f"contexts must be a list of {', '.join(CONTEXTS)}, got {value!r}")
    found = [validate.choice(name.strip(), "contexts", CONTEXTS) for name in names]
    if not found or len(set(found)) < len(found):
        raise ValueError(f"contexts must name at least one of {', '.join(CONTEXTS)}, and each once, got {value!r}")
    return tuple(context for context in CONTEXTS if context in found)


def segment_bounds(stream: TokenStream) -> tuple[Int64, Int64]:
    """First position of each segment of a stream, and the one behind its last.

    Examples
    --------
    >>> first, last = segment_bounds(TokenStream.of(np.zeros(40, np.int32), documents=[0, 5]))
    >>> first.tolist(), last.tolist()
    ([0, 5, 37], [5, 37, 40])
    """
    lengths = stream.lengths()
    pieces = -(-lengths // SEGMENT)
    first = np.repeat(stream.starts, pieces) + SEGMENT * ranges(np.zeros_like(pieces), pieces)
    last = np.minimum(first + SEGMENT, np.repeat(stream.starts + lengths, pieces))
    return first, last


# ---- documents -------------------------------------------------------------------------------------------------------


class DocumentMeans:
    """Means of embeddings over the document so far, ``z = sum_{c before} x_c / n``, for some positions.

    The tokens of a position are those from ``span`` before its segment (or the document's start) to the newest.
    ``z`` is a product of sparse counts and embeddings in two steps: what a segment has in common, and the rest.

    Parameters
    ----------
    stream : TokenStream
    positions : ndarray of int64, shape (n,)
    span : int
        How far back a document is read from the start of a segment, tokens.
    """

    def __init__(self, stream: TokenStream, positions: Int64, span: int) -> None:
        begins = stream.begins(positions)
        segment = positions - (positions - begins) % SEGMENT
        first = np.maximum(begins, segment - span)
        shared, self.group = np.unique(segment, return_inverse=True)
        oldest = np.zeros_like(shared)
        oldest[self.group] = first
        self.n = positions.size
        self._low = np.concatenate([segment, oldest])
        self._high = np.concatenate([positions, shared])
        self._ids = stream.ids
        self._scale = 1.0 / np.maximum(positions - first, 1)

    def _rows(self, n_types: int, dtype: np.dtype[Any]) -> SparseRows:
        indices = self._ids[ranges(self._low, self._high)]
        indptr = np.concatenate([[0], np.cumsum(self._high - self._low)])
        return SparseRows(indptr, indices, np.ones(indices.size, dtype), n_types, 1)

    def forward(self, X: Array) -> Array:
        """Means, shape (n, d); zero where nothing precedes."""
        sums = self._rows(X.shape[0], X.dtype).product(X)
        Z = sums[: self.n] + sums[self.n :][self.group]
        Z *= self._scale[:, None].astype(X.dtype)
        return Z

    def backward(self, dZ: Array, dX: Array) -> None:
        """Add the gradient by X (V, d), from the gradient by Z (n, d)."""
        each = dZ * self._scale[:, None].astype(dZ.dtype)
        common = np.zeros((self._low.size - self.n, dZ.shape[1]), dZ.dtype)
        np.add.at(common, self.group, each)
        dX += self._rows(dX.shape[0], dX.dtype).transposed().product(np.concatenate([each, common]))


# ---- batches ---------------------------------------------------------------------------------------------------------


class Chunk(NamedTuple):
    """Positions to be computed at once.

    Attributes
    ----------
    positions : ndarray of int64, shape (n,)
        Those of the first layer, runs of consecutive ones.
    scored : ndarray of int64, shape (m,)
        Which of them are asked for; the others are there for the layers above.
    windows : list of dict
        ``windows[layer][view]`` see tokens in layer 0, and rows of the layer below in the others.
    means : DocumentMeans or None
        If a unit looks at the document.
    """

    positions: Int64
    scored: Int64
    windows: list[dict[View, Windows]]
    means: DocumentMeans | None


def chunk(stream: TokenStream, first: Int64, last: Int64, views: Iterable[View], n_layers: int, span: int) -> Chunk:
    """Lay out runs of positions ``first[i] .. last[i] - 1``.

    Parameters
    ----------
    stream : TokenStream
    first, last : ndarray of int64, shape (n_runs,)
        Each run lies in one document.
    views : iterable of (str, int)
        Contexts in use and K of each; of the document it is not read.
    n_layers : int
    span : int
        As for :class:`DocumentMeans`.
    """
    views = list(dict.fromkeys(views))
    local = [view for view in views if view[0] != "document"]
    halo = (max([1, *(size for _, size in local)]) - 1) * (n_layers - 1)
    low = np.maximum(first - halo, stream.begins(first))
    positions = ranges(low, last)
    run_begins = np.repeat(np.cumsum(last - low) - (last - low), last - low)
    scored = np.flatnonzero(positions >= np.repeat(first, last - low))
    windows = [{(name, size): token_windows(name, stream, positions, size) for name, size in local}]
    if n_layers > 1:
        age = np.arange(positions.size) - run_begins
        offset = positions - stream.begins(positions)
        upper = {(name, size): _hidden_windows(name, age, offset, size) for name, size in local}
        windows += [upper] * (n_layers - 1)
    means = DocumentMeans(stream, positions, span) if len(local) < len(views) else None
    return Chunk(positions, scored, windows, means)


def token_windows(context: str, stream: TokenStream, positions: Int64, size: int) -> Windows:
    """The windows of tokens that precede the positions.

    Parameters
    ----------
    context : {"radial", "block"}
    stream : TokenStream
    positions : ndarray of int64, shape (n,)
    size : int
        K.
    """
    build = Windows.radial_at if context == "radial" else Windows.block_at
    return build(stream.ids, positions, positions - stream.begins(positions), size)


def _hidden_windows(context: str, age: Int64, offset: Int64, size: int) -> Windows:
    """Windows of the layer below: row i and those before it, back to the start of its run."""
    rows = np.arange(age.size)
    reach = np.full_like(age, size) if context == "radial" else offset % size + 1
    length = np.minimum(reach, age + 1)
    if context == "radial":
        return Windows(rows, rows, length, rows, -1, size)
    return Windows(rows, rows - length + 1, length, rows, 1, size)
