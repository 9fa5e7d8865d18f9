"""The network as functions of its arrays: states of many streams of tokens, forward and backward.

    x_t  = E[token before t]                                  a row of its own stands before a document
    i, f, a, o = gates of  x_t W + h_t-1 R + b                in every layer
    c_t  = f c_t-1 + i a      h_t = (o tanh c_t) P            without P where the layer has as many cells as outputs
    y_t  = softmax(h_t E^T + bias)                            h of the last layer

LSTM with projection: Sak, Senior and Beaufays (arXiv 1402.1128); tied embeddings: Press and Wolf (arXiv 1608.05859).
Embeddings and the bias of the output are one array, ``tokens``, whose last column is the bias.

Streams come in groups of ``GROUP``: a segment of text is an array (groups, T, GROUP). What depends on the state is done
group by group, each by one thread; products over all of a segment are cut by a grid that does not depend on threads.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from saffu import _core
from saffu.utils.arrays import Array, Bools, Int64
from saffu.utils.threads import Workers

GROUP = 16  # streams that are computed together
COLUMNS = 1024  # of a product that are computed at once
TOKENS = "tokens"

Arrays = dict[str, Array]
State = list[tuple[Array, Array]]  # of each layer: outputs (streams, D) and cells (streams, C)


# ---- arrays ----------------------------------------------------------------------------------------------------------


def shapes(vocab_size: int, dim: int, cells: int, layers: int) -> dict[str, tuple[int, ...]]:
    """Names of the arrays of a network, and their shapes."""
    found: dict[str, tuple[int, ...]] = {TOKENS: (vocab_size + 1, dim + 1)}
    for layer in range(layers):
        found[f"layer{layer}.input"] = found[f"layer{layer}.recurrent"] = (dim, 4 * cells)
        found[f"layer{layer}.bias"] = (4 * cells,)
        if cells != dim:
            found[f"layer{layer}.projection"] = (cells, dim)
    return found


def initial(vocab_size: int, dim: int, cells: int, layers: int, rng: np.random.Generator) -> Arrays:
    """Arrays of a random start: embeddings of standard deviation 0.1, gates that remember at first."""
    arrays: Arrays = {}
    for name, shape in shapes(vocab_size, dim, cells, layers).items():
        if name == TOKENS:
            arrays[name] = rng.normal(0.0, 0.1, shape).astype(np.float32)
            arrays[name][vocab_size] = arrays[name][:, dim] = 0
        elif name.endswith("bias"):
            arrays[name] = np.zeros(shape, np.float32)
            arrays[name][cells : 2 * cells] = 1
        else:
            bound = 1 / math.sqrt(cells)
            arrays[name] = rng.uniform(-bound, bound, shape).astype(np.float32)
    return arrays


def n_layers(arrays: Arrays) -> int:
    """How many layers a network has."""
    return sum(name.endswith(".recurrent") for name in arrays)


def zero_state(arrays: Arrays, n_streams: int) -> State:
    """The state at the start of a document, of so many streams."""
    dim, gates = arrays["layer0.recurrent"].shape
    dtype = arrays[TOKENS].dtype
    return [
        (np.zeros((n_streams, dim), dtype), np.zeros((n_streams, gates // 4), dtype)) for _ in range(n_layers(arrays))
    ]


# ---- products --------------------------------------------------------------------------------------------------------


def multiply(workers: Workers, A: Array, B: Array, out: Array | None = None) -> Array:
    """A B, its columns cut by a fixed grid that the workers share."""
    result = np.empty((len(A), B.shape[1]), A.dtype) if out is None else out
    width = max(min(COLUMNS, -(-B.shape[1] // 2)), 1)

    def one(begin: int) -> None:
        np.matmul(A, B[:, begin : begin + width], out=result[:, begin : begin + width])

    workers.map(one, range(0, B.shape[1], width))
    return result


def in_panels(B: Array) -> Array:
    """A matrix as ``panel_product`` reads it, its last panel filled with zeros.

    Examples
    --------
    >>> in_panels(np.ones((3, 40), np.float32)).shape
    (2, 3, 32)
    """
    width = _core.PANEL_BYTES // B.itemsize
    n_panels = -(-B.shape[1] // width)
    found = np.zeros((n_panels, len(B), width), B.dtype)
    for panel in range(n_panels):
        part = B[:, panel * width : (panel + 1) * width]
        found[panel, :, : part.shape[1]] = part
    return found


# ---- a layer ---------------------------------------------------------------------------------------------------------


class LayerStates(NamedTuple):
    """What the backward pass of a layer needs, each array (groups, T, streams, width)."""

    inputs: Array  # x
    before: Array  # h of the step before, zero where a document starts
    cells_before: Array
    gates: Array  # i, f, a, o
    tanh_cells: Array
    read: Array  # o tanh c
    outputs: Array  # h


class Segment(NamedTuple):
    """A segment of text in groups of streams, each array (groups, T, streams).

    Attributes
    ----------
    inputs : ndarray of int64
        The token before each position, V at the start of a document.
    starts : ndarray of bool
        Where the state begins anew.
    """

    inputs: Int64
    starts: Bools


def _layer_forward(
    workers: Workers, arrays: Arrays, layer: int, x: Array, starts: Bools, state: tuple[Array, Array]
) -> tuple[LayerStates, tuple[Array, Array]]:
    """States of a layer from its inputs (groups, T, streams, D), and the state at the end."""
    W, R, b = (arrays[f"layer{layer}.{name}"] for name in ("input", "recurrent", "bias"))
    P = arrays.get(f"layer{layer}.projection")
    n_groups, n_steps, n_streams, dim = x.shape
    R_panels, P_panels = in_panels(R), None if P is None else in_panels(P)
    n_cells = R.shape[1] // 4
    shape = n_groups, n_steps, n_streams
    gates = multiply(workers, x.reshape(-1, dim), W)
    gates += b
    gates = gates.reshape(*shape, 4 * n_cells)
    before, outputs = np.empty((2, *shape, dim), x.dtype)
    cells_before, tanh_cells, read = np.empty((3, *shape, n_cells), x.dtype)
    last_h, last_c = np.empty_like(state[0]), np.empty_like(state[1])
    if P is None:
        outputs = read

    def one(group: int) -> None:
        streams = slice(group * n_streams, (group + 1) * n_streams)
        h, c = state[0][streams], state[1][streams]
        from_state, cells = np.empty((n_streams, 4 * n_cells), x.dtype), np.empty((2, n_streams, n_cells), x.dtype)
        anew = starts[group].any(axis=1)
        for t in range(n_steps):
            h_before, c_before = before[group, t], cells_before[group, t]
            h_before[:], c_before[:] = h, c
            if anew[t]:
                h_before[starts[group, t]] = c_before[starts[group, t]] = 0
            _core.panel_product(h_before, R_panels, from_state, 1)
            c, m = cells[t % 2], read[group, t]
            _core.lstm_step(from_state, c_before, gates[group, t], c, tanh_cells[group, t], m, 1)
            if P_panels is not None:
                _core.panel_product(m, P_panels, outputs[group, t], 1)
            h = outputs[group, t]
        last_h[streams], last_c[streams] = h, c

    workers.map(one, range(n_groups))
    return LayerStates(x, before, cells_before, gates, tanh_cells, read, outputs), (last_h, last_c)


def _layer_backward(
    workers: Workers, arrays: Arrays, layer: int, seen: LayerStates, starts: Bools, dh: Array, gradients: Arrays
) -> Array:
    """Gradient by the inputs of a layer from that by its outputs, which is overwritten; those by its arrays."""
    names = [f"layer{layer}.{name}" for name in ("input", "recurrent", "bias", "projection")]
    W, R, P = arrays[names[0]], arrays[names[1]], arrays.get(names[3])
    n_groups, n_steps, n_streams, dim = dh.shape
    n_cells = R.shape[1] // 4
    R_back, P_back = in_panels(R.T), None if P is None else in_panels(P.T)
    d_gates = seen.gates  # in place

    def one(group: int) -> None:
        dc = np.zeros((n_streams, n_cells), dh.dtype)
        d_before, d_read = np.zeros((n_streams, dim), dh.dtype), np.empty((n_streams, n_cells), dh.dtype)
        anew = starts[group].any(axis=1)
        for t in range(n_steps - 1, -1, -1):
            d = dh[group, t]
            d += d_before
            if P_back is not None:
                _core.panel_product(d, P_back, d_read, 1)
                d = d_read
            gates = d_gates[group, t]
            _core.lstm_step_backward(seen.cells_before[group, t], seen.tanh_cells[group, t], d, gates, dc, 1)
            _core.panel_product(gates, R_back, d_before, 1)
            if anew[t]:
                d_before[starts[group, t]] = dc[starts[group, t]] = 0

    workers.map(one, range(n_groups))
    flat = d_gates.reshape(-1, 4 * n_cells)
    multiply(workers, seen.inputs.reshape(-1, dim).T, flat, gradients[names[0]])
    multiply(workers, seen.before.reshape(-1, dim).T, flat, gradients[names[1]])
    gradients[names[2]][:] = np.ones(len(flat), flat.dtype) @ flat
    if P is not None:
        multiply(workers, seen.read.reshape(-1, n_cells).T, dh.reshape(-1, dim), gradients[names[3]])
    return multiply(workers, flat, W.T).reshape(dh.shape)


# ---- the network -----------------------------------------------------------------------------------------------------


class Forward(NamedTuple):
    """What a forward pass computes.

    Attributes
    ----------
    outputs : ndarray, shape (groups, T, streams, D)
        Of the last layer, after dropout.
    state : State
        After the segment.
    layers : list of LayerStates
    masks : list of ndarray
        Factors of dropout, of the inputs of every layer and of the outputs; none without dropout.
    """

    outputs: Array
    state: State
    layers: list[LayerStates]
    masks: list[Array]


def dropout_mask(
    shape: tuple[int, ...], dropout: float, dtype: np.dtype[np.float32] | np.dtype[np.float64], rng: np.random.Generator
) -> Array:
    """Zero with probability ``dropout``, else 1 / (1 - dropout)."""
    kept = rng.random(shape, np.float32) >= np.float32(dropout)
    return kept * dtype.type(1 / (1 - dropout))


def forward(
    workers: Workers,
    arrays: Arrays,
    segment: Segment,
    state: State,
    dropout: float = 0.0,
    rng: np.random.Generator | None = None,
) -> Forward:
    """States of a segment of text.

    Parameters
    ----------
    workers : Workers
    arrays : dict of str to ndarray
    segment : Segment
    state : State
        Before the segment.
    dropout : float
        Of the inputs of each layer and of the outputs.
    rng : numpy.random.Generator, optional
        Where what is dropped is drawn; needed with dropout.
    """
    tokens, masks = arrays[TOKENS], list[Array]()
    layers, after = list[LayerStates](), list[tuple[Array, Array]]()
    x = tokens[segment.inputs][..., :-1]

    def dropped(values: Array) -> Array:
        if not dropout or rng is None:
            return np.ascontiguousarray(values)
        masks.append(dropout_mask(values.shape, dropout, tokens.dtype, rng))
        return values * masks[-1]

    for layer in range(n_layers(arrays)):
        seen, end = _layer_forward(workers, arrays, layer, dropped(x), segment.starts, state[layer])
        layers.append(seen)
        after.append(end)
        x = seen.outputs
    outputs = dropped(x)
    return Forward(outputs, after, layers, masks)


def backward(
    workers: Workers, arrays: Arrays, segment: Segment, found: Forward, d_outputs: Array, gradients: Arrays
) -> None:
    """Gradients by the arrays from that by the outputs of the last layer, which is overwritten.

    That of ``tokens`` is added to what is there; the others are written.
    """
    d: Array = d_outputs.reshape(found.outputs.shape)
    masks = list(found.masks)
    for layer in range(len(found.layers) - 1, -1, -1):
        if masks:
            d *= masks.pop()
        d = _layer_backward(workers, arrays, layer, found.layers[layer], segment.starts, d, gradients)
    if masks:
        d *= masks.pop()
    rows = d.reshape(segment.inputs.size, -1)
    add_rows(gradients[TOKENS][:, :-1], segment.inputs.reshape(-1), rows)


def add_rows(total: Array, rows: Int64, values: Array) -> None:
    """``total[rows[i]] += values[i]``, in ascending order of i."""
    order = np.argsort(rows, kind="stable")
    ordered = rows[order]
    begins = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1]))
    total[ordered[begins]] += np.add.reduceat(values[order], begins, axis=0)
