"""The transformer as functions of its arrays: forward, backward and loss.

    x    = I[id] + P
    x   += sum_e softmax(n Q_e (n K_e)^T / sqrt(k)) n V_e O_e        n = norm(x)
    x   += act(norm(x) W_1 + b_1) W_2 + b_2
    y_hat = softmax(x W_out)

in every layer, with heads e and ``norm(x) = g sqrt(h) x / sqrt(sum x^2 + epsilon)`` (Gesmundo and Maile, arXiv
2308.06103, section 2). Epsilon is added to the sum of squares, not to their mean: then zeros appended to x change
nothing but the factor sqrt(h), and a wider model can be the same function to rounding.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from scipy.special import erf

from saffu import _core
from saffu.transformer.sizes import Arrays, layer_name, n_layers
from saffu.utils.arrays import Array, Bools, Int64

ACTIVATIONS = ("relu", "gelu")
EPSILON = 1e-8
NOTHING = -1  # an id or a label that stands for none
MASKED = -1e30  # score of what is not attended to; finite, so that no row is NaN

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
    for layer in range(n_layers(arrays)):
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
