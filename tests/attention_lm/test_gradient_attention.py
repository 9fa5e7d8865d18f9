"""Gradient targets: gains against their definition, rounds that only lower the loss, and what they find."""

import numpy as np
import pytest
from scipy.special import log_softmax

from helpers.mixtures import CONTEXTS, copies, mixture_of, text
from saffu.attention_lm import em_attention, gradient_attention
from saffu.attention_lm.model import SaffuLM


def solved(ids, documents, vocab_size, contexts, heads=1, bits=4, n_threads=1):
    mixture, positions = mixture_of(ids, documents, vocab_size, contexts, heads, bits, "gradient", n_threads)
    em_attention.solve(mixture, positions)
    return mixture, positions


def pooled_log_prob(mixture, Z, y):
    """The definition: log p(y) of ``softmax(log p_0 + sum_u pi_u z_u L_u)``."""
    log_unigram = np.log(mixture.unigram)
    logits = np.tile(log_unigram, (len(y), 1))
    for share, z, B in zip(mixture.shares, Z, mixture.B, strict=True):
        logits += share * z.astype(np.float64) @ (np.log(B.astype(np.float64)) - log_unigram[:, None]).T
    return log_softmax(logits, axis=1)[np.arange(len(y)), y]


@pytest.mark.parametrize("contexts", CONTEXTS, ids="+".join)
def test_loss_and_slopes_are_those_of_the_pooled_softmax(contexts):
    mixture, positions = solved(text(300, 0), [0, 40, 41], 9, contexts, heads=2)
    pooling = gradient_attention._Pooling(mixture, positions)
    Z = [z.astype(np.float64) for z, _, _ in pooling.passes()]
    loss, slopes = pooling.loss([z.astype(np.float32) for z in Z])
    assert loss == pytest.approx(-pooled_log_prob(mixture, Z, pooling.y).mean(), rel=1e-5)
    for u, slope in enumerate(slopes):
        for j in range(mixture.bits):
            step = np.zeros_like(Z[u])
            step[:, j] = 1e-5
            up, down = ([*Z[:u], Z[u] + sign * step, *Z[u + 1 :]] for sign in (1, -1))
            change = (pooled_log_prob(mixture, up, pooling.y) - pooled_log_prob(mixture, down, pooling.y)) / 2e-5
            np.testing.assert_allclose(slope[:, j], change, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("context", ["radial", "block"])
def test_gains_are_products_of_slopes_and_embeddings(context):
    mixture, positions = solved(text(200, 1), [0, 17], 9, (context,))
    pooling = gradient_attention._Pooling(mixture, positions)
    slope = np.random.default_rng(0).normal(size=(positions.size, mixture.bits)).astype(np.float32)
    gains = pooling.gains(mixture.units[0], slope)
    windows = pooling.seen.windows[0][mixture.units[0].view]
    for m, (first, length) in enumerate(zip(windows.first, windows.length, strict=True)):
        tokens = mixture.stream.ids[first + windows.step * np.arange(length)]
        np.testing.assert_allclose(gains[m, :length], mixture.X[tokens] @ slope[m], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("contexts", CONTEXTS, ids="+".join)
@pytest.mark.parametrize("seed", [0, 1])
def test_rounds_only_lower_the_loss(contexts, seed):
    mixture, positions = solved(text(600, seed), [0, 100, 101], 9, contexts, heads=2)
    losses = gradient_attention.solve(mixture, positions)
    assert (np.diff(losses) < 0).all()
    again = gradient_attention._Pooling(mixture, positions)
    assert again.loss([Z for Z, _, _ in again.passes()])[0] == pytest.approx(losses[-1], rel=1e-6)


def test_attention_moves_where_it_tells_the_word():
    mixture, positions = mixture_of(copies(3000, 0, 3), [0], 16, ("radial",), bits=16, attention="gradient")
    em_attention.solve(mixture, positions)
    mixture.parameters = {name: np.zeros_like(value) for name, value in mixture.parameters.items()}  # and forget where
    losses = gradient_attention.solve(mixture, positions)
    assert losses[-1] < losses[0] - 0.1
    assert mixture.parameters["radial1.attention_bias"].argmax() == 2


def test_no_positions_no_rounds():
    mixture, positions = mixture_of([0], [0], 3, ("radial",), attention="gradient")
    assert positions.size == 0
    assert gradient_attention.solve(mixture, positions) == []


def test_the_choice_reaches_the_model():
    ids = text(600, 2)
    by_gradient = SaffuLM(bits=4, hidden=4, radius=4, contexts=("radial",), attention="gradient").fit(ids)
    assert (np.diff(by_gradient.attention_losses) < 0).all()
    assert np.isfinite(by_gradient.perplexity(ids))
