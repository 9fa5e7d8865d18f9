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
from saffu.transformer.sizes import LAYER_PARTS, Arrays, layer_name, n_layers
from saffu.utils.arrays import Array, Bools, Float64, Int64

ACTIVATIONS = ("relu", "gelu")
EPSILON = 1e-8
NOTHING = -1  # in place of an id or a label: there is none
MASKED = -1e30  # score of a place that is not attended to; finite, so that no row is NaN

# ---- forward ---------------------------------------------------------------------------------------------------------


class Norm(NamedTuple):
    """norm(x), the same without the gain, and the factor of each row."""

    output: Array
    unit: Array
    factor: Array


class LayerActivations(NamedTuple):
    """What the backward pass of a layer needs of its forward pass."""

    attention_norm: Norm
    queries: Array
    keys: Array
    values: Array
    attention: Array
    read: Array
    mlp_norm: Norm
    before: Array
    after: Array


class Activations(NamedTuple):
    """What a forward pass computes.

    Attributes
    ----------
    logits : ndarray, shape (B, T, n_outputs)
    states : list of ndarray, shape (B, T, h)
        Before each layer, and after the last one.
    layers : list of LayerActivations
    """

    logits: Array
    states: list[Array]
    layers: list[LayerActivations]


def _norm(x: Array, gain: Array) -> Norm:
    factor = math.sqrt(x.shape[-1]) / np.sqrt(np.einsum("...i,...i->...", x, x)[..., None] + EPSILON)
    factor = factor.astype(x.dtype)
    unit = x * factor
    return Norm(unit * gain, unit, factor)


def _activated(x: Array, activation: str) -> Array:
    activated: Array = np.maximum(x, 0) if activation == "relu" else x * _normal_share(x).astype(x.dtype)
    return activated


def _normal_share(x: Array) -> Array:
    """Share of a standard normal distribution below x."""
    share: Array = 0.5 * (1 + erf(x * math.sqrt(0.5)))
    return share


def _slope(x: Array, activation: str) -> Array:
    """Derivative of the activation."""
    if activation == "relu":
        return np.asarray(x > 0, x.dtype)
    normal = np.exp(-0.5 * x * x) / math.sqrt(2 * math.pi)
    return np.asarray(_normal_share(x) + x * normal, x.dtype)


def _heads(n: Array, W: Array) -> Array:
    """N W_e for all heads: (B, T, h) and (E, h, k) give (B, E, T, k)."""
    products: Array = np.tensordot(n, W, ((2,), (1,)))
    return products.transpose(0, 2, 1, 3)


def _softmax(scores: Array) -> Array:
    flat = np.ascontiguousarray(scores).reshape(-1, scores.shape[-1])
    return _core.softmax(flat, False, 1).reshape(scores.shape)


def attention_mask(ids: Int64, causal: bool) -> Bools:
    """Which places each place attends to, (B or 1, 1, T or 1, T): tokens, and with ``causal`` none that follow it."""
    if causal:  # The places that fill a row are at its end, so that they follow every token of it.
        below = np.tri(ids.shape[1], dtype=np.bool_)
        return below[None, None]
    tokens: Bools = ids != NOTHING
    return tokens[:, None, None, :]


def _layer(x: Array, arrays: Arrays, layer: int, mask: Bools, activation: str) -> tuple[Array, LayerActivations]:
    """States after a layer, and what its backward pass needs."""

    def part(name: str) -> Array:
        return arrays[layer_name(layer, name)]

    attention_norm = _norm(x, part("attention_gain"))
    q, k, v = (_heads(attention_norm.output, part(name)) for name in ("query", "key", "value"))
    scores = (q @ k.swapaxes(-1, -2)) * q.dtype.type(1 / math.sqrt(q.shape[-1]))
    attention = _softmax(np.where(mask, scores, q.dtype.type(MASKED)))
    read = attention @ v
    x = x + np.tensordot(read, part("merge"), ((1, 3), (0, 1)))
    mlp_norm = _norm(x, part("mlp_gain"))
    before = mlp_norm.output @ part("expand") + part("expand_bias")
    after = _activated(before, activation)
    x = x + after @ part("contract") + part("contract_bias")
    return x, LayerActivations(attention_norm, q, k, v, attention, read, mlp_norm, before, after)


def forward(arrays: Arrays, ids: Int64, causal: bool, activation: str) -> Activations:
    """Logits of sequences, and what the backward pass needs.

    Parameters
    ----------
    arrays : dict of str to ndarray
        By the names of :func:`saffu.transformer.sizes.sizes_of`.
    ids : ndarray of int64, shape (B, T)
        -1 fills the ends of short rows.
    causal : bool
        Whether a place attends only to itself and to what precedes it.
    activation : {"relu", "gelu"}
    """
    mask = attention_mask(ids, causal)
    states, layers = [arrays["embedding"][np.maximum(ids, 0)] + arrays["positions"][: ids.shape[1]]], []
    for layer in range(n_layers(arrays)):
        x, activations = _layer(states[-1], arrays, layer, mask, activation)
        states.append(x)
        layers.append(activations)
    return Activations(states[-1] @ arrays["output"], states, layers)


# ---- backward --------------------------------------------------------------------------------------------------------


def _sum_outer(x: Array, dy: Array) -> Array:
    """Sum of outer products over all places."""
    return x.reshape(-1, x.shape[-1]).T @ dy.reshape(-1, dy.shape[-1])


def _norm_backward(norm: Norm, gain: Array, dy: Array) -> tuple[Array, Array]:
    """Gradients by x and by the gain."""
    d_unit = dy * gain
    along = np.einsum("...i,...i->...", norm.unit, d_unit)[..., None] / norm.unit.shape[-1]
    return norm.factor * (d_unit - norm.unit * along), np.einsum("bti,bti->i", dy, norm.unit)


def _heads_backward(n: Array, W: Array, dq: Array) -> tuple[Array, Array]:
    """Gradients by n and by W of :func:`_heads`."""
    return np.tensordot(dq, W, ((1, 3), (0, 2))), np.tensordot(dq, n, ((0, 2), (0, 1))).swapaxes(1, 2)


def _mlp_backward(dx: Array, parts: Arrays, seen: LayerActivations, activation: str) -> tuple[Array, Arrays]:
    """Gradients by the input of a layer's perceptron and by the perceptron's arrays, from that by its output."""
    d_before = (dx @ parts["contract"].T) * _slope(seen.before, activation)
    d_state, d_gain = _norm_backward(seen.mlp_norm, parts["mlp_gain"], d_before @ parts["expand"].T)
    gradients = {
        "contract": _sum_outer(seen.after, dx),
        "contract_bias": dx.sum(axis=(0, 1)),
        "expand": _sum_outer(seen.mlp_norm.output, d_before),
        "expand_bias": d_before.sum(axis=(0, 1)),
        "mlp_gain": d_gain,
    }
    return dx + d_state, gradients


def _attention_backward(dx: Array, parts: Arrays, seen: LayerActivations) -> tuple[Array, Arrays]:
    """Gradients by the input of a layer's attention and by the attention's arrays, from that by its output."""
    gradients = {"merge": np.tensordot(seen.read, dx, ((0, 2), (0, 1)))}
    d_read = np.tensordot(dx, parts["merge"], ((2,), (2,))).transpose(0, 2, 1, 3)
    d_attention = d_read @ seen.values.swapaxes(-1, -2)
    d_scores = seen.attention * (d_attention - np.einsum("beij,beij->bei", seen.attention, d_attention)[..., None])
    d_scores *= d_scores.dtype.type(1 / math.sqrt(seen.queries.shape[-1]))
    d_heads = {
        "query": d_scores @ seen.keys,
        "key": d_scores.swapaxes(-1, -2) @ seen.queries,
        "value": seen.attention.swapaxes(-1, -2) @ d_read,
    }
    d_norm = np.zeros_like(dx)
    for name, gradient in d_heads.items():
        d_input, gradients[name] = _heads_backward(seen.attention_norm.output, parts[name], gradient)
        d_norm += d_input
    d_state, gradients["attention_gain"] = _norm_backward(seen.attention_norm, parts["attention_gain"], d_norm)
    return dx + d_state, gradients


def backward(
    arrays: Arrays, ids: Int64, d_logits: Array, forward_pass: Activations, activation: str, out: Arrays
) -> None:
    """Write the gradients of all arrays into ``out``, from that by the logits."""
    out["output"][...] = _sum_outer(forward_pass.states[-1], d_logits)
    dx = d_logits @ arrays["output"].T
    for layer in range(len(forward_pass.layers) - 1, -1, -1):
        parts = {part: arrays[layer_name(layer, part)] for part in LAYER_PARTS}
        seen = forward_pass.layers[layer]
        dx, of_mlp = _mlp_backward(dx, parts, seen, activation)
        dx, of_attention = _attention_backward(dx, parts, seen)
        for part, gradient in (of_mlp | of_attention).items():
            out[layer_name(layer, part)][...] = gradient
    dx = np.where((ids != NOTHING)[..., None], dx, 0)
    out["positions"][...] = 0
    out["positions"][: ids.shape[1]] = dx.sum(axis=0)
    out["embedding"][...] = 0
    np.add.at(out["embedding"], np.maximum(ids, 0), dx)


# ---- loss ------------------------------------------------------------------------------------------------------------


def label_losses(logits: Array, labels: Int64, n_threads: int) -> Float64:
    """Loss of each label, nats, (B, T); zero where there is none."""
    known = np.maximum(labels, 0).reshape(-1).astype(np.int32)
    losses = _core.cross_entropy_labels(logits.reshape(known.size, -1), known, n_threads)
    return np.where(labels != NOTHING, losses.reshape(labels.shape), 0.0)


def loss_and_gradient(logits: Array, labels: Int64, n_threads: int) -> tuple[float, Array]:
    """Mean loss over the labels of a batch, nats, and its gradient by the logits, (B, T, n_outputs)."""
    known = labels != NOTHING
    weights = known.reshape(-1).astype(np.float64) / max(int(known.sum()), 1)
    flat = logits.reshape(-1, logits.shape[-1])
    words = np.maximum(labels, 0).reshape(-1).astype(np.int32)
    losses = _core.cross_entropy_labels(flat, words, n_threads)
    gradient = _core.softmax(flat, False, n_threads)
    gradient[np.arange(words.size), words] -= 1
    gradient *= weights[:, None].astype(gradient.dtype)
    return float(losses @ weights), gradient.reshape(logits.shape)
