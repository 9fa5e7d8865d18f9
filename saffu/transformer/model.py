"""The transformer that growth is defined on: every layer may have sizes of its own; numpy, forward and backward.

    x    = I[id] + P
    x   += sum_e softmax(n Q_e (n K_e)^T / sqrt(k)) n V_e O_e        n = norm(x)
    x   += act(norm(x) W_1 + b_1) W_2 + b_2
    y_hat = softmax(x W_out)

in every layer, with heads e and ``norm(x) = g sqrt(h) x / sqrt(sum x^2 + epsilon)`` (Gesmundo and Maile, arXiv
2308.06103, section 2). Epsilon is added to the sum of squares, not to their mean: then zeros appended to x change
nothing but the factor sqrt(h), and a wider model can be the same function to rounding.

All of a model is a dictionary of arrays; sizes are read off their shapes.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike, DTypeLike
from scipy.special import erf

from saffu import _core
from saffu.training.history import history_from, history_to
from saffu.training.refinement import refine
from saffu.utils import checkpoint, validate
from saffu.utils.arrays import Array, Bools, Float64, Int32, Int64, checksum, ranges
from saffu.utils.initializers import initial
from saffu.utils.progress import progress_bar
from saffu.utils.threads import resolve_threads

Arrays = dict[str, Array]

ACTIVATIONS = ("relu", "gelu")
EPSILON = 1e-8
NOTHING = -1  # an id or a label that stands for none
MASKED = -1e30  # score of what is not attended to; finite, so that no row is NaN
LAYER_PARTS = (
    "attention_gain",
    "query",
    "key",
    "value",
    "merge",
    "mlp_gain",
    "expand",
    "expand_bias",
    "contract",
    "contract_bias",
)
BATCH_TOKENS = 2048
SCORED_ROWS = 16  # sequences at once in scoring


class LayerSizes(NamedTuple):
    """Heads E, widths k of queries and keys and v of values of a head, and p of the perceptron."""

    heads: int
    key: int
    value: int
    mlp: int


def layer_name(layer: int, part: str) -> str:
    """The name of an array of a layer."""
    return f"layer{layer}.{part}"


# ---- shapes ----------------------------------------------------------------------------------------------------------


def layer_shapes(hidden: int, sizes: LayerSizes) -> dict[str, tuple[int, ...]]:
    """Shapes of the arrays of a layer, by part."""
    heads, key, value, mlp = sizes
    return {
        "attention_gain": (hidden,),
        "query": (heads, hidden, key),
        "key": (heads, hidden, key),
        "value": (heads, hidden, value),
        "merge": (heads, value, hidden),
        "mlp_gain": (hidden,),
        "expand": (hidden, mlp),
        "expand_bias": (mlp,),
        "contract": (mlp, hidden),
        "contract_bias": (hidden,),
    }


def sizes_of(arrays: Mapping[str, Any]) -> list[LayerSizes]:
    """Sizes of the layers, in their order; everything is checked.

    Parameters
    ----------
    arrays : mapping of str to array
        ``embedding`` (n_inputs, h), ``positions`` (S, h), ``output`` (h, n_outputs), and for each layer n from 0 the
        arrays ``layer{n}.query`` (E, h, k), ``.key`` (E, h, k), ``.value`` (E, h, v), ``.merge`` (E, v, h),
        ``.attention_gain`` (h,), ``.mlp_gain`` (h,), ``.expand`` (h, p), ``.expand_bias`` (p,), ``.contract`` (p, h)
        and ``.contract_bias`` (h,).

    Raises
    ------
    ValueError
        If an array is missing, unknown, or of a shape that does not fit the others; the message names it.
    """
    _check_names(arrays)
    hidden = _shape(arrays, "embedding", 2)[1]
    expected: dict[str, tuple[int, ...]] = {"positions": (_shape(arrays, "positions", 2)[0], hidden)}
    expected["output"] = (hidden, _shape(arrays, "output", 2)[1])
    found = []
    for layer in range(_n_layers(arrays)):
        heads, _, key = _shape(arrays, layer_name(layer, "query"), 3)
        value, mlp = _shape(arrays, layer_name(layer, "value"), 3)[2], _shape(arrays, layer_name(layer, "expand"), 2)[1]
        found.append(LayerSizes(heads, key, value, mlp))
        expected |= {layer_name(layer, part): s for part, s in layer_shapes(hidden, found[-1]).items()}
    for name, shape in expected.items():
        if tuple(arrays[name].shape) != shape or min(shape) < 1:
            raise ValueError(f"array {name!r} must have shape {shape}, none of it 0, got {tuple(arrays[name].shape)}")
    return found


def _n_layers(arrays: Mapping[str, Any]) -> int:
    return len({name.partition(".")[0] for name in arrays if name.startswith("layer")})


def _check_names(arrays: Mapping[str, Any]) -> None:
    wanted = {"embedding", "positions", "output"}
    wanted |= {layer_name(layer, part) for layer in range(_n_layers(arrays)) for part in LAYER_PARTS}
    if missing := sorted(wanted - set(arrays)):
        raise ValueError(f"array {missing[0]!r} is missing")
    if unknown := sorted(set(arrays) - wanted):
        raise ValueError(f"array {unknown[0]!r} is none of a transformer's")


def _shape(arrays: Mapping[str, Any], name: str, n_axes: int) -> tuple[int, ...]:
    shape = tuple(arrays[name].shape)
    if len(shape) != n_axes:
        raise ValueError(f"array {name!r} must have {n_axes} axes, got shape {shape}")
    return shape


# ---- forward ---------------------------------------------------------------------------------------------------------


class _Seen(NamedTuple):
    """What the backward pass of a layer needs of its forward pass."""

    norm1: tuple[Array, Array, Array]
    q: Array
    k: Array
    v: Array
    a: Array
    o: Array
    norm2: tuple[Array, Array, Array]
    before: Array
    after: Array


def _norm(x: Array, gain: Array) -> tuple[Array, Array, Array]:
    """norm(x), the same without the gain, and the factor of each row."""
    factor = math.sqrt(x.shape[-1]) / np.sqrt(np.einsum("...i,...i->...", x, x)[..., None] + EPSILON)
    factor = factor.astype(x.dtype)
    unit = x * factor
    return unit * gain, unit, factor


def _activated(x: Array, activation: str) -> Array:
    if activation == "relu":
        return np.maximum(x, 0)
    return x * (0.5 * (1 + erf(x * math.sqrt(0.5)))).astype(x.dtype)


def _slope(x: Array, activation: str) -> Array:
    """Derivative of the activation."""
    if activation == "relu":
        return (x > 0).astype(x.dtype)
    normal = np.exp(-0.5 * x * x) / math.sqrt(2 * math.pi)
    return (0.5 * (1 + erf(x * math.sqrt(0.5))) + x * normal).astype(x.dtype)


def _heads(n: Array, W: Array) -> Array:
    """N W_e for all heads: (B, T, h) and (E, h, k) give (B, E, T, k)."""
    return np.tensordot(n, W, ((2,), (1,))).transpose(0, 2, 1, 3)


def _softmax(scores: Array) -> Array:
    flat = np.ascontiguousarray(scores).reshape(-1, scores.shape[-1])
    return _core.softmax(flat, False, 1).reshape(scores.shape)


def attended(ids: Int64, causal: bool) -> Bools:
    """Which places each place looks at, (B or 1, 1, T, T): tokens, and with ``causal`` none that follow."""
    T = ids.shape[1]
    if causal:  # what is appended to fill a row follows all of it
        return np.tril(np.ones((T, T), bool))[None, None]
    return (ids != NOTHING)[:, None, None, :]


def _layer(x: Array, arrays: Arrays, layer: int, mask: Bools, activation: str) -> tuple[Array, _Seen]:
    """One layer."""

    def part(name: str) -> Array:
        return arrays[layer_name(layer, name)]

    norm1 = _norm(x, part("attention_gain"))
    q, k, v = (_heads(norm1[0], part(name)) for name in ("query", "key", "value"))
    scores = (q @ k.swapaxes(-1, -2)) * q.dtype.type(1 / math.sqrt(q.shape[-1]))
    a = _softmax(np.where(mask, scores, q.dtype.type(MASKED)))
    o = a @ v
    x = x + np.tensordot(o, part("merge"), ((1, 3), (0, 1)))
    norm2 = _norm(x, part("mlp_gain"))
    before = norm2[0] @ part("expand") + part("expand_bias")
    after = _activated(before, activation)
    x = x + after @ part("contract") + part("contract_bias")
    return x, _Seen(norm1, q, k, v, a, o, norm2, before, after)


def forward(arrays: Arrays, ids: Int64, causal: bool, activation: str) -> tuple[Array, list[Array], list[_Seen]]:
    """Logits of sequences, and what the backward pass needs.

    Parameters
    ----------
    arrays : dict of str to ndarray
    ids : ndarray of int64, shape (B, T)
        -1 fills the ends of short rows.
    causal : bool
    activation : {"relu", "gelu"}

    Returns
    -------
    logits : ndarray, shape (B, T, n_outputs)
    states : list of ndarray, shape (B, T, h)
        Before each layer, and after the last one.
    seen : list
    """
    mask = attended(ids, causal)
    states, seen = [arrays["embedding"][np.maximum(ids, 0)] + arrays["positions"][: ids.shape[1]]], []
    for layer in range(_n_layers(arrays)):
        x, one = _layer(states[-1], arrays, layer, mask, activation)
        states.append(x)
        seen.append(one)
    return states[-1] @ arrays["output"], states, seen


# ---- backward --------------------------------------------------------------------------------------------------------


def _sum_outer(x: Array, dy: Array) -> Array:
    """Sum of outer products over all places."""
    return x.reshape(-1, x.shape[-1]).T @ dy.reshape(-1, dy.shape[-1])


def _norm_backward(norm: tuple[Array, Array, Array], gain: Array, dy: Array) -> tuple[Array, Array]:
    """Gradients by x and by the gain."""
    _, unit, factor = norm
    d_unit = dy * gain
    along = np.einsum("...i,...i->...", unit, d_unit)[..., None] / unit.shape[-1]
    return factor * (d_unit - unit * along), np.einsum("bti,bti->i", dy, unit)


def _heads_backward(n: Array, W: Array, dq: Array) -> tuple[Array, Array]:
    """Gradients by n and by W of :func:`_heads`."""
    return np.tensordot(dq, W, ((1, 3), (0, 2))), np.tensordot(dq, n, ((0, 2), (0, 1))).swapaxes(1, 2)


def _layer_backward(dx: Array, arrays: Arrays, layer: int, seen: _Seen, activation: str, out: Arrays) -> Array:
    """Write the gradients of a layer; return that by its input."""

    def part(name: str) -> Array:
        return arrays[layer_name(layer, name)]

    def put(name: str, gradient: Array) -> None:
        out[layer_name(layer, name)][...] = gradient

    put("contract", _sum_outer(seen.after, dx))
    put("contract_bias", dx.sum(axis=(0, 1)))
    d_before = (dx @ part("contract").T) * _slope(seen.before, activation)
    put("expand", _sum_outer(seen.norm2[0], d_before))
    put("expand_bias", d_before.sum(axis=(0, 1)))
    d_state, d_gain = _norm_backward(seen.norm2, part("mlp_gain"), d_before @ part("expand").T)
    put("mlp_gain", d_gain)
    dx = dx + d_state

    put("merge", np.tensordot(seen.o, dx, ((0, 2), (0, 1))))
    do = np.tensordot(dx, part("merge"), ((2,), (2,))).transpose(0, 2, 1, 3)
    da = do @ seen.v.swapaxes(-1, -2)
    scores = seen.a * (da - np.einsum("beij,beij->bei", seen.a, da)[..., None])
    scores *= scores.dtype.type(1 / math.sqrt(seen.q.shape[-1]))
    by = {"query": scores @ seen.k, "key": scores.swapaxes(-1, -2) @ seen.q, "value": seen.a.swapaxes(-1, -2) @ do}
    dn = np.zeros_like(dx)
    for name, gradient in by.items():
        d_input, d_weights = _heads_backward(seen.norm1[0], part(name), gradient)
        dn += d_input
        put(name, d_weights)
    d_state, d_gain = _norm_backward(seen.norm1, part("attention_gain"), dn)
    put("attention_gain", d_gain)
    return dx + d_state


def backward(
    arrays: Arrays,
    ids: Int64,
    d_logits: Array,
    states: list[Array],
    seen: list[_Seen],
    activation: str,
    out: Arrays,
) -> None:
    """Write the gradients of all arrays into ``out``, from that by the logits."""
    out["output"][...] = _sum_outer(states[-1], d_logits)
    dx = d_logits @ arrays["output"].T
    for layer in range(len(seen) - 1, -1, -1):
        dx = _layer_backward(dx, arrays, layer, seen[layer], activation, out)
    dx = np.where((ids != NOTHING)[..., None], dx, 0)
    out["positions"][...] = 0
    out["positions"][: ids.shape[1]] = dx.sum(axis=0)
    out["embedding"][...] = 0
    np.add.at(out["embedding"], np.maximum(ids, 0), dx)


# ---- sequences -------------------------------------------------------------------------------------------------------


class SequenceBatch(NamedTuple):
    """Ids and labels, each (B, T), -1 where there is none; how many labels a row of all rows has on average."""

    ids: Int64
    labels: Int64
    labels_per_row: float


class Sequences:
    """Rows of ids and of what should be predicted at each of them.

    Parameters
    ----------
    ids, labels : ndarray of int64, shape (n, T)
        -1 for none; in ``ids`` only at the end of a row.
    dtype : dtype
        Of the computation.
    n_threads : int
    """

    sample_rows, check_all = 200, False

    def __init__(self, ids: Int64, labels: Int64, dtype: DTypeLike, n_threads: int) -> None:
        self.ids, self.labels, self.dtype, self.n_threads = ids, labels, np.dtype(dtype), n_threads
        self.labels_per_row = max(int((labels != NOTHING).sum()), 1) / max(len(ids), 1)
        self._lengths = (ids != NOTHING).sum(axis=1)

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, rows: Int64 | slice, dropout: float = 0.0, rng: np.random.Generator | None = None) -> SequenceBatch:
        """Some rows, as long as the longest of them."""
        if dropout:
            raise ValueError("dropout must be 0: a transformer has none")
        longest = int(self._lengths[rows].max(initial=1))
        return SequenceBatch(self.ids[rows, :longest], self.labels[rows, :longest], self.labels_per_row)

    def checksum(self) -> int:
        """A number that changes with the rows."""
        return checksum([self.ids, self.labels])


def windows(ids: Int32, documents: Int64, length: int, start: int) -> tuple[Int64, Int64]:
    """A text as rows of at most ``length`` tokens, each after the one before it; a document begins after ``start``.

    Returns
    -------
    ids, labels : ndarray of int64, shape (n, length)
        -1 fills the ends.
    """
    if ids.size == 0:
        return np.empty((0, length), np.int64), np.empty((0, length), np.int64)
    ends = np.append(documents[1:], ids.size)
    n_rows = -(-(ends - documents) // length)
    end = np.repeat(ends, n_rows)
    first = np.repeat(documents, n_rows) + length * ranges(np.zeros_like(n_rows), n_rows)
    last = np.minimum(first + length, end)
    place = first[:, None] + np.arange(length)
    inside = place < last[:, None]
    place = np.minimum(place, ids.size - 1)
    before = np.where(np.isin(place, documents), start, ids[np.maximum(place - 1, 0)])
    return np.where(inside, before, NOTHING), np.where(inside, ids[place], NOTHING)


# ---- the model -------------------------------------------------------------------------------------------------------


@checkpoint.register("transformer")
class Transformer:
    """A transformer on token ids whose layers may each have sizes of their own (arXiv 2308.06103, section 2).

    Parameters
    ----------
    vocab_size : int
        V, the number of token types. There is one more embedding, number V, that stands before a document.
    hidden : int
        h, the width of the states.
    layers : int
        N.
    heads, key, value, mlp : int or sequence of N int, optional
        E, k, v and p, of all layers or of each; by default one head, k = v = hidden / heads, and p = 4 hidden.
    positions : int
        S, the longest sequence.
    activation : {"relu", "gelu"}
    causal : bool
        Whether a place sees only itself and what precedes it.
    seed : int
        Of the random weights: normal, of standard deviation 1 / sqrt(inputs).
    n_threads : int, optional
        Threads of the optimiser; products are those of BLAS, which has its own.

    Attributes
    ----------
    arrays : dict of str to ndarray
        By the names of :func:`sizes_of`; not to be changed in place.
    history : list of dict or None
        Of the last refinement; see :func:`saffu.refine`.
    growth : list of dict
        What the model has grown by, oldest first; see :mod:`saffu.grow`.

    Raises
    ------
    ValueError, TypeError
        If a size is below 1 or no integer, or lists do not have an entry for each layer.

    Examples
    --------
    >>> model = Transformer(vocab_size=10, hidden=8, layers=2, heads=2, positions=4)
    >>> model.logits([[1, 2, 3]]).shape
    (1, 3, 10)
    """

    interrupted = False  # whether Ctrl-C ended the refinement that this model comes from

    def __init__(
        self,
        vocab_size: int,
        hidden: int = 64,
        layers: int = 2,
        heads: int | Sequence[int] = 1,
        key: int | Sequence[int] | None = None,
        value: int | Sequence[int] | None = None,
        mlp: int | Sequence[int] | None = None,
        positions: int = 128,
        activation: str = "relu",
        causal: bool = True,
        seed: int = 0,
        n_threads: int | None = None,
    ) -> None:
        vocab_size = validate.size(vocab_size, "vocab_size")
        hidden = validate.size(hidden, "hidden")
        layers = validate.size(layers, "layers", 0)
        positions = validate.size(positions, "positions")
        each_heads = _each(heads, "heads", layers)
        width = [max(hidden // n, 1) for n in each_heads]
        sizes = [
            LayerSizes(*numbers)
            for numbers in zip(
                each_heads,
                width if key is None else _each(key, "key", layers),
                width if value is None else _each(value, "value", layers),
                [4 * hidden] * layers if mlp is None else _each(mlp, "mlp", layers),
                strict=True,
            )
        ]
        rng = np.random.default_rng(validate.integer(seed, "seed", 0))
        shapes: dict[str, tuple[int, ...]] = {"embedding": (vocab_size + 1, hidden), "positions": (positions, hidden)}
        for layer, size in enumerate(sizes):
            shapes |= {layer_name(layer, part): shape for part, shape in layer_shapes(hidden, size).items()}
        shapes["output"] = hidden, vocab_size
        self._set({name: initial(name, shape, rng) for name, shape in shapes.items()}, activation, causal, n_threads)

    def _set(self, arrays: Arrays, activation: str, causal: bool, n_threads: int | None) -> None:
        self.sizes = sizes_of(arrays)
        self.arrays = arrays
        self.activation = validate.choice(activation, "activation", ACTIVATIONS)
        self.causal, self.n_threads = bool(causal), n_threads
        resolve_threads(n_threads)
        self.history: list[dict[str, Any]] | None = []
        self.growth: list[dict[str, Any]] = []

    @classmethod
    def from_arrays(
        cls,
        arrays: Mapping[str, ArrayLike],
        activation: str = "relu",
        causal: bool = True,
        n_threads: int | None = None,
    ) -> Self:
        """A model of arrays by the names of :func:`sizes_of`, all float32 or all float64; they are copied.

        Raises
        ------
        ValueError
            If one is missing, unknown, not finite, or does not fit the others.
        """
        found = {name: np.array(value, order="C") for name, value in arrays.items()}
        for name, value in found.items():
            if value.dtype not in (np.float32, np.float64) or not np.isfinite(value).all():
                raise ValueError(f"array {name!r} must be finite float32 or float64, got {value.dtype}")
        if len({value.dtype for value in found.values()}) > 1:
            raise ValueError("arrays must be all float32 or all float64, got both")
        model = cls.__new__(cls)
        model._set(found, activation, causal, n_threads)
        return model

    def with_arrays(self, arrays: Mapping[str, ArrayLike]) -> Self:
        """A model of other arrays, all else the same; its history is empty."""
        other = self.from_arrays(arrays, self.activation, self.causal, self.n_threads)
        other.growth = [dict(record) for record in self.growth]
        return other

    # ---- what it is ----

    @property
    def vocab_size(self) -> int:
        """V."""
        return self.arrays["output"].shape[1]

    @property
    def hidden(self) -> int:
        """H."""
        return self.arrays["output"].shape[0]

    @property
    def positions(self) -> int:
        """S."""
        return len(self.arrays["positions"])

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the arrays."""
        return self.arrays["output"].dtype

    @property
    def n_parameters(self) -> int:
        """Numbers that the model consists of."""
        return sum(value.size for value in self.arrays.values())

    def summary(self) -> dict[str, Any]:
        """Settings and sizes."""
        return {
            "vocab_size": self.vocab_size,
            "hidden": self.hidden,
            "positions": self.positions,
            "layers": [size._asdict() for size in self.sizes],
            "activation": self.activation,
            "causal": self.causal,
            "n_parameters": self.n_parameters,
            "growth": self.growth,
            "epochs_refined": self.history[-1]["epoch"] if self.history else 0,
        }

    # ---- scoring ----

    def logits(self, ids: ArrayLike) -> Array:
        """Logits of every place of some sequences.

        Parameters
        ----------
        ids : array_like of int, shape (B, T) with T at most ``positions``
            In [0, V]; V stands before a document. -1 fills the ends of short rows.

        Returns
        -------
        ndarray, shape (B, T, V)
            Of the arrays' dtype.
        """
        return forward(self.arrays, self._rows(ids, "ids", self.vocab_size), self.causal, self.activation)[0]

    def log_prob(self, ids: ArrayLike, documents: ArrayLike | None = None, progress: bool = False) -> Float64:
        """Log-probability of every token of a text, nats, each after those before it in its window.

        A document is cut into windows of ``positions`` tokens; the first token of one sees the last one before it.

        Parameters
        ----------
        ids : array_like of int, shape (M,)
        documents : array_like of int, optional
            Offsets in ``ids`` at which documents start.
        progress : bool
            Show progress on a terminal.
        """
        rows = self._text(ids, documents)
        found = []
        with progress_bar(len(rows), "score", progress) as bar:
            for begin in range(0, len(rows), SCORED_ROWS):
                batch = rows.take(slice(begin, begin + SCORED_ROWS))
                losses = self._label_losses(self.arrays, batch)
                found.append(-losses[batch.labels != NOTHING])
                bar.update(len(batch.ids))
        return np.concatenate([np.empty(0), *found])

    def perplexity(self, ids: ArrayLike, documents: ArrayLike | None = None, progress: bool = False) -> float:
        """Perplexity per token of a text; see :meth:`log_prob`."""
        log_prob = self.log_prob(ids, documents, progress)
        if log_prob.size == 0:
            raise ValueError("ids must hold at least one token to have a perplexity")
        return float(np.exp(-log_prob.mean()))

    # ---- refinement ----

    def refine(
        self,
        ids: ArrayLike,
        epochs: int = 1,
        *,
        documents: ArrayLike | None = None,
        batch_tokens: int = BATCH_TOKENS,
        validation: tuple[ArrayLike, ArrayLike | None] | None = None,
        **options: Any,
    ) -> Self:
        """Train on a text by backpropagation, as a causal language model; see :func:`saffu.refine`.

        Parameters
        ----------
        ids, documents
            As in :meth:`log_prob`.
        epochs : int
        batch_tokens : int
            In a step, rounded to whole windows.
        validation : (ids, documents), optional
            Other text to choose the best epoch by.
        **options
            Of :func:`saffu.refine`: ``learning_rate``, ``patience``, ``callback``, ``checkpoint``, ``seed``,
            ``progress``.

        Returns
        -------
        Transformer
            A refined model; this one stays as it is.
        """
        if not self.causal:
            raise ValueError("a model that is not causal sees what it should predict; give saffu.refine ids and labels")
        windows_a_step = max(validate.integer(batch_tokens, "batch_tokens", 1, validate.INT32_MAX) // self.positions, 1)
        X, y = self._windows(ids, documents)
        if validation is not None:
            options["validation"] = self._windows(*validation)
        options = {"batch_size": windows_a_step, "learning_rate": 1e-3, **options}
        return refine(self, X, y, epochs=epochs, n_threads=self.n_threads, **options)

    def _text(self, ids: ArrayLike, documents: ArrayLike | None) -> Sequences:
        return Sequences(*self._windows(ids, documents), self.dtype, resolve_threads(self.n_threads))

    def _windows(self, ids: ArrayLike, documents: ArrayLike | None) -> tuple[Int64, Int64]:
        checked = validate.token_ids(ids, "ids", self.vocab_size)
        starts = validate.document_starts(documents, checked.size)
        return windows(checked, starts, self.positions, self.vocab_size)

    def _rows(self, ids: ArrayLike, name: str, highest: int) -> Int64:
        found = np.asarray(ids)
        if found.ndim != 2 or found.dtype.kind not in "iu":
            raise TypeError(f"{name} must be a matrix of integers, got {found.dtype} {found.shape}")
        if found.shape[1] > self.positions:
            raise ValueError(f"{name} must have at most {self.positions} columns, got {found.shape[1]}")
        if found.size and not (found.min() >= NOTHING and found.max() <= highest):
            raise ValueError(f"{name} must be in [0, {highest}] or -1, got {found.min()} to {found.max()}")
        return found.astype(np.int64)

    # what saffu.refine asks of a model

    def _parameters(self, soften: float, dtype: DTypeLike) -> Arrays:
        return {name: value.astype(dtype) for name, value in self.arrays.items()}

    def _prepare(self, X: Any, y: Any, n_threads: int) -> Sequences:
        ids, labels = self._rows(X, "X", self.vocab_size), self._rows(y, "y", self.vocab_size - 1)
        if ids.shape != labels.shape:
            raise ValueError(f"y must have the shape of X, {ids.shape}, got {labels.shape}")
        if (np.diff((ids == NOTHING).astype(np.int8), axis=1) < 0).any() or (ids[:, :1] == NOTHING).any():
            raise ValueError("X may hold -1 only at the ends of rows, after at least one id")
        if len(ids) and not (labels != NOTHING).any():
            raise ValueError("y must hold at least one label, got -1 alone")
        return Sequences(ids, labels, self.dtype, n_threads)

    def _loss_and_gradients(self, parameters: Arrays, batch: SequenceBatch, gradients: Arrays, n_threads: int) -> float:
        logits, states, seen = forward(parameters, batch.ids, self.causal, self.activation)
        known = batch.labels != NOTHING
        n = max(int(known.sum()), 1)
        flat = logits.reshape(-1, logits.shape[-1])
        weights = known.reshape(-1).astype(np.float64) / n
        labels = np.maximum(batch.labels, 0).reshape(-1).astype(np.int32)
        losses = _core.cross_entropy_labels(flat, labels, n_threads)
        P = _core.softmax(flat, False, n_threads)
        P[np.arange(labels.size), labels] -= 1
        P *= weights[:, None].astype(P.dtype)
        backward(parameters, batch.ids, P.reshape(logits.shape), states, seen, self.activation, gradients)
        return float(losses @ weights)

    def _label_losses(self, parameters: Arrays, batch: SequenceBatch) -> Float64:
        """Loss of each label, nats, (B, T); zero where there is none."""
        logits = forward(parameters, batch.ids, self.causal, self.activation)[0]
        labels = np.maximum(batch.labels, 0).reshape(-1).astype(np.int32)
        threads = resolve_threads(self.n_threads)
        losses = _core.cross_entropy_labels(logits.reshape(labels.size, -1), labels, threads)
        return np.where(batch.labels != NOTHING, losses.reshape(batch.labels.shape), 0.0)

    def _losses(self, parameters: Arrays, batch: SequenceBatch, n_threads: int) -> Float64:
        # Such that the mean over all rows is the mean over all labels.
        return self._label_losses(parameters, batch).sum(axis=1) / batch.labels_per_row

    def _with_parameters(self, parameters: Arrays, history: list[dict[str, Any]]) -> Self:
        other = self.with_arrays({name: np.asarray(value, self.dtype) for name, value in parameters.items()})
        other.history = history
        return other

    # ---- files ----

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model to one file; an existing file is replaced only when this is whole. See :func:`saffu.load`."""
        checkpoint.save(self, path)

    def _to_checkpoint(self) -> tuple[Arrays, dict[str, Any]]:
        facts = {"activation": self.activation, "causal": self.causal, "growth": self.growth}
        facts["history"] = history_to(self.history)
        return self.arrays, facts

    @classmethod
    def _from_checkpoint(cls, arrays: Arrays, metadata: dict[str, Any]) -> Self:
        model = checkpoint.parse(cls.from_arrays, arrays, metadata["activation"], metadata["causal"])
        model.history = checkpoint.parse(history_from, metadata["history"])
        model.growth = checkpoint.parse(lambda: [dict(record) for record in metadata["growth"]])
        return model


def _each(value: int | Sequence[int], name: str, layers: int) -> list[int]:
    """A size for each layer."""
    values = [value] * layers if isinstance(value, (int, np.integer)) else list(value)
    if len(values) != layers:
        raise ValueError(f"{name} must be a number or one for each of {layers} layers, got {len(values)}")
    return [validate.size(one, name) for one in values]
