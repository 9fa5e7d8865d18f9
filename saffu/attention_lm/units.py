"""Self-attentive feed-forward units: layers of them, their output, and the gradients (arXiv 2311.07510).

A unit looks at one context through one head:

    s = x_head X^T      a = softmax(s W + w)      z = a X      h = softmax(z U + u)

where X are the embeddings of the tokens in its window, or, above the first layer, the hidden states of the positions
in it. A unit on the document has ``z`` from :class:`saffu.attention_lm.contexts.DocumentMeans` instead. All hidden
states of all layers, side by side, give the logits of the next token, on top of those of another model if there is one:

    logits = [h_1 .. h_n] O + o (+ logits of the other model)

Parameters are a dict of arrays of one dtype: ``"embeddings.logits"`` (V, bits), whose softmax by rows is X, so that
embeddings stay non-negative and of unit sum whatever a refinement does; ``"output.weights"`` (V, H), O transposed, and
``"output.bias"`` (V); and for each unit, with its name before the dot, ``attention`` (K, K), ``attention_bias`` (K),
``weights`` (D, hidden) and ``bias`` (hidden).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple, TypeAlias

import numpy as np

from saffu import _core
from saffu.attention_lm.contexts import Chunk, View, chunk
from saffu.attention_lm.windows import ComparisonCache
from saffu.utils.arrays import Array, Int64
from saffu.utils.streams import TokenStream

Parameters: TypeAlias = dict[str, Array]

EMBEDDINGS = "embeddings.logits"


class Unit(NamedTuple):
    """One head on one context in one layer; ``size`` is K, 0 for a document."""

    layer: int
    context: str
    head: int
    size: int

    @property
    def view(self) -> View:
        """What it looks at: context and K."""
        return self.context, self.size

    @property
    def name(self) -> str:
        """Where its parameters are found."""
        return f"{'' if self.layer == 0 else f'layer{self.layer + 1}.'}{self.context}{self.head + 1}"


class Sizes(NamedTuple):
    """What a network is to have: contexts with K of each (0 for a document), heads, layers, hidden units of a unit."""

    contexts: dict[str, int]
    heads: int
    layers: int
    hidden: int


class Network(NamedTuple):
    """An architecture: units layer by layer, the number of layers, and how far back a document is read."""

    units: list[Unit]
    n_layers: int
    span: int

    @classmethod
    def of(cls, sizes: Sizes, span: int) -> Network:
        """The network that a model begins with."""
        return cls(lay_out(sizes.contexts, sizes.contexts, sizes.heads, sizes.layers), sizes.layers, span)

    def chunk(self, stream: TokenStream, first: Int64, last: Int64) -> Chunk:
        """Runs of positions as this network sees them."""
        return chunk(stream, first, last, [unit.view for unit in self.units], self.n_layers, self.span)

    @property
    def reads_documents(self) -> bool:
        """Whether a unit looks at the whole document."""
        return any(unit.context == "document" for unit in self.units)


class Seen(NamedTuple):
    """What a unit computed for a chunk, kept for the way back."""

    Z: Array
    A: Array | None
    S: Array | None
    H: Array


def lay_out(contexts: Iterable[str], sizes: Mapping[str, int], heads: int, layers: int) -> list[Unit]:
    """The units of a model, layer by layer. The document has one head, and is seen by the first layer only.

    Parameters
    ----------
    contexts : iterable of {"block", "radial", "document"}
    sizes : mapping of str to int
        K of each context.
    heads, layers : int
        Units of each context and layer, and number of layers.

    Examples
    --------
    >>> [unit.name for unit in lay_out(["radial", "document"], {"radial": 4}, 2, 2)]
    ['radial1', 'radial2', 'document1', 'layer2.radial1', 'layer2.radial2']
    """
    contexts = list(contexts)
    first = [
        Unit(0, context, head, sizes.get(context, 0))
        for context in contexts
        for head in range(1 if context == "document" else heads)
    ]
    upper = [
        Unit(layer, context, head, sizes[context])
        for layer in range(1, layers)
        for context in contexts
        if context != "document"
        for head in range(heads)
    ]
    return first + upper


def shapes(unit: Unit, inputs: int, hidden: int) -> dict[str, tuple[int, ...]]:
    """Shapes of the parameters of a unit, by name.

    Parameters
    ----------
    unit : Unit
    inputs : int
        D, the width of what it looks at.
    hidden : int
        Hidden units.
    """
    found: dict[str, tuple[int, ...]] = {f"{unit.name}.weights": (inputs, hidden), f"{unit.name}.bias": (hidden,)}
    if unit.context != "document":
        found[f"{unit.name}.attention"], found[f"{unit.name}.attention_bias"] = (unit.size, unit.size), (unit.size,)
    return found


def blocks(units: Iterable[Unit], parameters: Parameters) -> list[slice]:
    """Columns of each unit among the hidden states of all, side by side.

    Parameters
    ----------
    units : iterable of Unit
    parameters : dict of str to ndarray
        The biases of the units have their widths.
    """
    widths = [parameters[f"{unit.name}.bias"].size for unit in units]
    return [slice(int(end) - width, int(end)) for end, width in zip(np.cumsum(widths), widths, strict=True)]


# ---- forward ---------------------------------------------------------------------------------------------------------


def embeddings(parameters: Parameters, n_threads: int) -> Array:
    """X (V, bits): rows of unit sum."""
    return _core.softmax(parameters[EMBEDDINGS], False, n_threads)


def aggregate(
    parameters: Parameters,
    unit: Unit,
    chunk: Chunk,
    source: Array,
    cache: ComparisonCache | None = None,
    n_threads: int = 1,
) -> tuple[Array, Array | None, Array | None]:
    """What a unit sees of its windows. Kernel ``saffu_attend``.

    Parameters
    ----------
    parameters : dict of str to ndarray
    unit : Unit
    chunk : Chunk
        Of n positions.
    source : ndarray, shape (V, D) or (n, D)
        Embeddings, or hidden states of the layer below.
    cache : ComparisonCache, optional
        Comparisons of the embeddings.
    n_threads : int

    Returns
    -------
    Z : ndarray, shape (n, D)
    A, S : ndarray of shape (n, K), or None
        Attention and comparisons; a document has none.
    """
    if unit.context == "document":
        assert chunk.means is not None
        return chunk.means.forward(source), None, None
    view = chunk.windows[unit.layer][unit.view].view
    W, bias = parameters[f"{unit.name}.attention"], parameters[f"{unit.name}.attention_bias"]
    table = cache.table_of(source) if cache is not None and unit.layer == 0 else None
    return _core.attend(view, source, table, W, bias, None, n_threads)


def forward(
    parameters: Parameters, units: list[Unit], chunk: Chunk, X: Array, cache: ComparisonCache | None = None
) -> tuple[list[Seen], list[Array]]:
    """Run all layers on a chunk.

    Parameters
    ----------
    parameters : dict of str to ndarray
    units : list of Unit
        Layer by layer.
    chunk : Chunk
    X : ndarray, shape (V, bits)
        Embeddings.
    cache : ComparisonCache, optional
        Their comparisons.

    Returns
    -------
    seen : list of Seen
        One of each unit.
    sources : list of ndarray
        What each layer looks at: X, then the hidden states of the layer below, side by side and of unit sum.
    """
    seen: list[Seen] = []
    sources = [X]
    for layer in range(1 + max(unit.layer for unit in units)):
        own = [unit for unit in units if unit.layer == layer]
        if layer:
            sources.append(joined(seen, units, layer - 1))
        for unit in own:
            Z, A, S = aggregate(parameters, unit, chunk, sources[layer], cache)
            logits = Z @ parameters[f"{unit.name}.weights"]
            logits += parameters[f"{unit.name}.bias"]
            seen.append(Seen(Z, A, S, _core.softmax(logits, False, 1)))
    return seen, sources


def joined(seen: list[Seen], units: list[Unit], layer: int) -> Array:
    """Hidden states of a layer, side by side and of unit sum."""
    states = [s.H for s, unit in zip(seen, units, strict=False) if unit.layer == layer]
    side_by_side: Array = np.concatenate(states, axis=1) * states[0].dtype.type(1 / len(states))
    return side_by_side


def hidden(seen: list[Seen], chunk: Chunk) -> Array:
    """The hidden states of the scored positions, side by side, shape (m, H)."""
    return np.concatenate([s.H[chunk.scored] for s in seen], axis=1)


def add_logits(parameters: Parameters, H: Array, logits: Array, below: bool = True) -> None:
    """``logits += H O + o``, in place; without what lies ``below``, ``logits = H O + o``."""
    # matmul leaves Python's lock to other workers, and scipy's gemm, which could add in place, does not.
    O = parameters["output.weights"].T  # noqa: E741 - the name of the equation
    if below:
        logits += H @ O
    else:
        np.matmul(H, O, out=logits)
    logits += parameters["output.bias"]


# ---- backward --------------------------------------------------------------------------------------------------------


def backward(
    parameters: Parameters,
    units: list[Unit],
    chunk: Chunk,
    seen: list[Seen],
    sources: list[Array],
    dH: Array,
    gradients: dict[str, Array],
    dX: Array | None,
) -> None:
    """Add the gradients of everything below the output.

    Parameters
    ----------
    dH : ndarray, shape (m, H)
        Gradient by :func:`hidden`.
    gradients : dict of str to ndarray
        Those of the units' parameters are added to.
    dX : ndarray, shape (V, bits), or None
        That of the embeddings is added to it.
    """
    offsets = np.cumsum([0, *(s.H.shape[1] for s in seen)])
    below: Array | None = None  # gradient by the joined states of the layer at hand, from the layer above
    for layer in range(max(unit.layer for unit in units), -1, -1):
        numbers = [i for i, unit in enumerate(units) if unit.layer == layer]
        passed = dX if layer == 0 else np.zeros_like(sources[layer])
        column = 0
        for i in numbers:
            width = seen[i].H.shape[1]
            d = np.zeros_like(seen[i].H)
            d[chunk.scored] = dH[:, offsets[i] : offsets[i + 1]]
            if below is not None:
                d += below[:, column : column + width] * d.dtype.type(1 / len(numbers))
            column += width
            _unit_backward(parameters, units[i], chunk, seen[i], sources[layer], d, gradients, passed)
        below = passed


def _unit_backward(
    parameters: Parameters,
    unit: Unit,
    chunk: Chunk,
    seen: Seen,
    source: Array,
    dH: Array,
    gradients: dict[str, Array],
    d_source: Array | None,
) -> None:
    """From the gradient by h to those of the unit, and of what it looks at. dH is used up."""
    name = unit.name
    _core.softmax_backward(seen.H, dH, 1)
    gradients[f"{name}.weights"] += seen.Z.T @ dH
    gradients[f"{name}.bias"] += dH.sum(axis=0)
    if unit.context == "document" and d_source is None:
        return
    dZ = dH @ parameters[f"{name}.weights"].T
    if unit.context == "document":
        assert chunk.means is not None
        assert d_source is not None
        chunk.means.backward(dZ, d_source)
        return
    assert seen.S is not None
    assert seen.A is not None
    view = chunk.windows[unit.layer][unit.view].view
    W = parameters[f"{name}.attention"]
    dW, dw, _ = _core.attend_backward(view, source, W, seen.S, seen.A, dZ, False, d_source, 1)
    gradients[f"{name}.attention"] += dW
    gradients[f"{name}.attention_bias"] += dw


def embedding_gradient(X: Array, dX: Array, n_threads: int) -> None:
    """From the gradient by X to that by the logits whose softmax it is, in place."""
    _core.softmax_backward(X, dX, n_threads)
