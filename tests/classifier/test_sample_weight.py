"""Weights of rows in hidden layers: a row of weight k counts as k rows in every sum."""

import numpy as np
import pytest
from scipy.sparse import csr_array

from saffu import ExplicitNetwork
from saffu.classifier.class_rows import Rows
from saffu.classifier.layer_solver import output_counts
from saffu.classifier.subclass_em import SubClasses
from saffu.classifier.unit_priming import Scores, mixture_loss
from saffu.utils.sparse import SparseRows


def problem(n=60, seed=0):
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 3
    X = rng.poisson(0.5 + 2.0 * (np.arange(7) % 3 == y[:, None])).astype(float)
    return X, y.astype(np.int32), rng.integers(1, 4, n)


def weighted_and_repeated(complement):
    """Rows with weights, the same rows repeated, and units to look at both with."""
    X, y, k = problem()
    weighted = Rows(SparseRows.of(X, 1), y, 3, k.astype(float))
    repeated = Rows(SparseRows.of(X.repeat(k, axis=0), 1), y.repeat(k), 3)
    subclasses = SubClasses(np.array([0, 2, 3, 5]), X.max(axis=0) if complement else None, 1.0, 0.1, 1)
    counts = subclasses.random_counts(lambda: [repeated], 7, 1)
    return weighted, repeated, subclasses, counts


@pytest.mark.parametrize("complement", [False, True])
def test_em_and_corrections_count_weighted_rows_as_repeated_ones(complement):
    weighted, repeated, subclasses, counts = weighted_and_repeated(complement)
    assert weighted.mass == repeated.mass
    one, other = (subclasses.em_round(lambda rows=rows: [rows], counts, 0.7) for rows in (weighted, repeated))
    np.testing.assert_allclose(one.F, other.F, rtol=1e-12)
    np.testing.assert_allclose(one.mass, other.mass, rtol=1e-12)
    units = subclasses.units(one)
    found = [subclasses._compared(lambda rows=rows: [rows], units, 0.7) for rows in (weighted, repeated)]
    for name in ("mass", "taken", "loss"):
        np.testing.assert_allclose(getattr(found[0], name), getattr(found[1], name), rtol=1e-9)
    np.testing.assert_allclose(found[0].counted(), found[1].counted(), rtol=1e-9, atol=1e-12)
    W, b = subclasses.layer(units, 0.7, 1.0, np.dtype(float))
    counted = [output_counts(lambda rows=rows: [rows], W, b) for rows in (weighted, repeated)]
    np.testing.assert_allclose(*counted, rtol=1e-12)
    dealt = subclasses.random_counts(lambda: [weighted], 7, 0)
    np.testing.assert_allclose(dealt.mass.sum(), repeated.mass)
    np.testing.assert_allclose(dealt.F.sum(axis=1), counts.F.sum(axis=1), rtol=1e-12)


def test_priming_counts_weighted_rows_as_repeated_ones():
    _, y, k = problem()
    rng = np.random.default_rng(0)
    likelihood, log_share = rng.normal(0, 3, (60, 5)), np.log(rng.dirichlet(np.ones(5)))
    log_output = np.log(rng.dirichlet(np.ones(3), 5))
    weighted = Scores(likelihood, log_share, log_output, y, k.astype(float))
    repeated = Scores(likelihood.repeat(k, axis=0), log_share, log_output, y.repeat(k))
    for found in zip(*(mixture_loss([s])(np.array([0.7, 0.9, 1.3]), True) for s in (weighted, repeated)), strict=True):
        np.testing.assert_allclose(*found, rtol=1e-10)


def assert_same(one, other):
    for a, b in zip([*one.weights, *one.bias, one.output], [*other.weights, *other.bias, other.output], strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("sizes", [(8,), (8, 6)])
def test_weights_of_one_change_nothing_and_of_zero_remove_the_row(sizes):
    X, y, k = problem()
    settings = {"hidden": sizes, "rounds": 3, "corrections": 3}
    plain = ExplicitNetwork(**settings).fit(X, y)
    assert_same(plain, ExplicitNetwork(**settings).fit(X, y, sample_weight=np.ones(60)))
    kept = k > 1
    fewer = ExplicitNetwork(**settings).fit(X[kept], y[kept], sample_weight=k[kept])
    assert_same(fewer, ExplicitNetwork(**settings).fit(csr_array(X), y, sample_weight=k * kept))
    assert (fewer.weights[0] != plain.weights[0]).any()
    np.testing.assert_allclose(fewer.output_counts.sum(axis=0), np.bincount(y[kept], k[kept]), rtol=1e-6)
    with pytest.raises(ValueError, match=r"every class needs a row of positive weight, but \[1\] have none"):
        plain.fit(X, y, sample_weight=(y != 1).astype(float))
    with pytest.raises(ValueError, match="every weight is zero"):
        plain.fit(X, y, sample_weight=np.zeros(60))
    assert_same(plain, ExplicitNetwork(**settings).fit(X, y))


def test_weights_in_batches_and_in_more_rows():
    X, y, k = problem()
    settings = {"hidden": (8,), "rounds": 3, "priming": "mean-norm"}
    whole = ExplicitNetwork(**settings).fit(X, y, sample_weight=k)
    assert_same(whole, ExplicitNetwork(**settings).fit_batches([(X, y, k)]))
    batches = [(X[:20], y[:20], k[:20]), (X[20:40], y[20:40]), (X[40:], y[40:], np.zeros(20))]
    primed = ExplicitNetwork(hidden=(8,), rounds=3).fit_batches(batches)
    mass = np.bincount(y[:40], np.concatenate([k[:20], np.ones(20)]))
    np.testing.assert_allclose(primed.output_counts.sum(axis=0), mass, rtol=1e-6)
    one, other = (ExplicitNetwork(**settings).fit(X, y) for _ in range(2))
    one.partial_fit(X, y, sample_weight=k)
    other.partial_fit(X.repeat(k, axis=0), y.repeat(k))
    np.testing.assert_allclose(one.output_counts, other.output_counts, rtol=1e-12)


def test_heavy_rows_move_the_network_towards_them():
    X, y, _ = problem(300)
    labels = np.where(np.arange(300) < 150, y, (y + 1) % 3)  # the second half says otherwise
    for half in (slice(150), slice(150, None)):
        weights = np.ones(300)
        weights[half] = 9.0
        network = ExplicitNetwork(hidden=(9,), rounds=4).fit(X, labels, sample_weight=weights)
        assert network.score(X[half], labels[half]) > 0.7
