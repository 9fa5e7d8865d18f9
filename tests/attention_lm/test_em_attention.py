"""Explicit attention: rounds against EM written out, what they never do, and what they find."""

import numpy as np
import pytest

from helpers import reference
from helpers.mixtures import CONTEXTS, SPAN, copies, mixture_of, text
from saffu.attention_lm import em_attention
from saffu.attention_lm.em_attention import EMBEDDING_MASS, WORD_MASS, solve
from saffu.attention_lm.model import SaffuLM


def ignore(n):
    pass


def read(mixture, positions, seed=0):
    mixture.read(positions, np.random.default_rng(seed), ignore)


# ---- a round ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("contexts", CONTEXTS, ids="+".join)
@pytest.mark.parametrize("heads", [1, 2])
def test_a_round_is_one_of_em(contexts, heads):
    ids, documents = text(120, 0), [0, 1, 50, 52]
    mixture, positions = mixture_of(ids, documents, 9, contexts, heads)
    rng = np.random.default_rng(1)
    mixture.X = rng.dirichlet(np.ones(4), 9).astype(np.float32)
    mixture.B = [rng.dirichlet(np.full(9, 0.3), 4).T.astype(np.float32) + np.float32(1e-3) for _ in mixture.B]
    mixture.prior = rng.dirichlet(np.ones(4)).astype(np.float32)
    mixture.shares = rng.dirichlet(np.ones(len(mixture.B)))
    for name, value in mixture.parameters.items():
        mixture.parameters[name] = (value + rng.normal(0, 1, value.shape)).astype(np.float32)
    for _ in range(2):
        before, moved = mixture.state()[3], []
        mixture.reach = 1.0  # a bound on the comparisons, which is else kept from round to round
        (X, B, shares, attention), expected_loss = reference.attention_round(
            ids,
            documents,
            positions,
            mixture.units,
            SPAN,
            mixture.state(),
            mixture.prior,
            mixture.unigram,
            EMBEDDING_MASS,
            WORD_MASS,
        )
        loss = mixture.round(positions, ignore)
        assert loss == pytest.approx(expected_loss, rel=1e-5)
        np.testing.assert_allclose(mixture.X, X, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(mixture.B, B, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(mixture.shares, shares, rtol=1e-4)
        assert set(mixture.parameters) == set(attention)
        for name, value in attention.items():
            np.testing.assert_allclose(mixture.parameters[name], value, rtol=0, atol=5e-5, err_msg=name)
            moved.append(np.abs(value - before[name]).max())
        assert min(moved, default=1) > 0.005


def test_all_stays_a_distribution():
    mixture, positions = mixture_of(text(300, 0), [0, 100], 9, ("block", "radial", "document"), heads=2)
    found = solve(mixture, positions)
    np.testing.assert_allclose(found.X.sum(axis=1), 1, rtol=1e-5)
    for B in found.B:
        np.testing.assert_allclose(B.sum(axis=0), 1, rtol=1e-5)
    assert found.shares.sum() == pytest.approx(1)
    assert min(found.X.min(), min(B.min() for B in found.B), found.shares.min()) >= 0


# ---- rounds never raise the criterion --------------------------------------------------------------------------------

TEXTS = {
    "usual": (lambda seed: text(400, seed), [0, 30, 31, 200], 9),
    "short": (lambda seed: text(60, seed), [0], 9),
    "one type": (lambda seed: np.zeros(50, np.int32), [0], 1),
    "two tokens": (lambda seed: np.array([0, 1]), [0], 2),
    "wide vocabulary": (lambda seed: text(80, seed), [0], 60),
    "documents of two": (lambda seed: text(80, seed), np.arange(0, 80, 2), 9),
    "noise": (lambda seed: np.random.default_rng(seed).integers(0, 9, 200), [0], 9),
}


@pytest.mark.parametrize("kind", TEXTS)
@pytest.mark.parametrize("contexts", CONTEXTS[:2] + CONTEXTS[3:], ids="+".join)
def test_rounds_never_raise_the_criterion(kind, contexts):
    make, documents, vocab_size = TEXTS[kind]
    for seed in (0, 1):
        for heads, bits in ((1, 2), (2, 4), (3, 16)):
            mixture, positions = mixture_of(make(seed), documents, vocab_size, contexts, heads, bits)
            if seed:
                read(mixture, positions, seed)
            losses = [mixture.round(positions, ignore) for _ in range(12)]
            rounding = 1e-6 * max(1.0, losses[-1])
            assert np.diff(losses).max() < rounding, (seed, heads, bits)
            assert losses[-1] < losses[0] + rounding


def test_a_round_that_would_raise_it_is_taken_back():
    """Steep attention by comparisons, which new embeddings upset: only made on purpose."""
    mixtures = [_steep(), _steep()]
    (mixture, positions), (again, _) = mixtures
    raw = [again.round(positions, ignore) for _ in range(60)]
    rise = int(np.argmax(np.diff(raw) > 0))
    assert raw[rise + 1] > raw[rise] + 1e-4
    tolerance, em_attention.TOLERANCE = em_attention.TOLERANCE, 0.0
    try:
        found = solve(mixture, positions, rounds=60)
    finally:
        em_attention.TOLERANCE = tolerance
    assert found.losses == raw[: rise + 1]
    assert mixture.round(positions, ignore) == pytest.approx(found.losses[-1], rel=1e-6)


def _steep(seed=236):
    rng = np.random.default_rng(seed)
    ids = rng.integers(0, 7, 60)
    for t in range(2, 60):
        ids[t] = ids[t - 2] if ids[t - 1] % 2 else (ids[t - 1] + 1) % 7
    mixture, positions = mixture_of(ids, [0], 7, ("radial",))
    X = rng.dirichlet(np.full(4, 0.1), 7).astype(np.float32) + np.float32(1e-3)
    mixture.X = X / X.sum(axis=1, keepdims=True)
    mixture.parameters["radial1.attention"] += rng.normal(0, 12, (4, 4)).astype(np.float32)
    mixture.read = lambda *arguments: None  # rounds on parts would lead away from here
    return mixture, positions


def test_solving_ends_by_itself_and_lists_its_losses():
    for seed in range(3):
        mixture, positions = mixture_of(text(400, seed), [0], 9, ("block", "radial"), 2)
        reported = []
        found = solve(mixture, positions, seed, rounds=50, progress=reported.append)
        losses = np.array(found.losses)
        assert 2 <= losses.size < 50
        assert (np.diff(losses) <= 0).all()
        assert losses[-2] - losses[-1] < em_attention.TOLERANCE
        assert sum(reported) == positions.size * (em_attention.READINGS + losses.size)


def test_a_text_without_contexts_is_left_at_its_start():
    mixture, positions = mixture_of([0, 1, 2], [0, 1, 2], 3, ("radial",))
    assert positions.size == 0
    found = solve(mixture, positions)
    assert found.losses == []
    assert not found.attention["radial1.attention"].any()


# ---- attention -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("contexts", CONTEXTS, ids="+".join)
def test_uniform_attention_stays_uniform(contexts):
    mixture, positions = mixture_of(text(300, 0), [0, 40], 9, contexts, 3, attention="uniform")
    found = solve(mixture, positions)
    assert len(found.attention) == 6 * len([c for c in contexts if c != "document"])
    assert not any(value.any() for value in found.attention.values())
    assert found.losses[-1] < found.losses[0]


@pytest.mark.parametrize("lag", [1, 3, 4])
def test_the_position_that_matters_is_found(lag):
    mixture, positions = mixture_of(copies(4000, 0, lag), [0], 16, ("radial",), bits=16)
    found = solve(mixture, positions)
    bias = found.attention["radial1.attention_bias"]
    assert bias.argmax() == lag - 1
    training, new = copies(4000, 0, lag), copies(1500, 1, lag)
    settings = {"bits": 16, "hidden": 16, "contexts": "radial", "radius": 6, "n_threads": 1}
    explicit, uniform = (
        SaffuLM(attention=attention, **settings).fit(training).perplexity(new)
        for attention in ("responsibilities", "uniform")
    )
    assert explicit < 0.6 * uniform
    assert uniform < 1.1 * 16


def test_solution_does_not_depend_on_threads():
    found = []
    for n_threads in (1, 2, 3):
        mixture, positions = mixture_of(
            text(600, 0), [0, 100], 9, ("block", "radial", "document"), 2, n_threads=n_threads
        )
        found.append(solve(mixture, positions, rounds=2))
    for other in found[1:]:
        np.testing.assert_array_equal(other.X, found[0].X)
        np.testing.assert_array_equal(other.B, found[0].B)
        assert other.losses == found[0].losses
        for name, value in found[0].attention.items():
            np.testing.assert_array_equal(other.attention[name], value)
