"""Sub-classes: how units are shared out, EM and corrections against their naive twins, and what they promise."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers import reference
from saffu.classifier import subclass_em as subclasses
from saffu.classifier.class_rows import Rows
from saffu.classifier.row_keys import row_keys
from saffu.classifier.subclass_em import Counts, SubClasses, Units, shared_out
from saffu.utils.sparse import SparseRows

SHRINKAGE, SMOOTHING = 0.7, 0.2


def problem(n=60, n_features=5, n_classes=3, seed=0, dtype=np.float64):
    """Features of several scales, half of them zero, and classes that overlap; every class has rows."""
    rng = np.random.default_rng(seed)
    y = np.concatenate([np.arange(n_classes), rng.integers(0, n_classes, n - n_classes)]).astype(np.int32)
    profile = rng.dirichlet(np.full(n_features, 0.8), 2 * n_classes)
    X = np.array([rng.multinomial(12, profile[2 * c + rng.integers(2)]) for c in y]) * rng.uniform(0.5, 2, n_features)
    return X.astype(dtype), y


def corners(n=400, seed=0):
    """Four clouds, of which opposite ones belong together: no single layer tells the classes apart."""
    rng = np.random.default_rng(seed)
    corner = rng.integers(0, 2, (n, 2))
    return corner.repeat(6, axis=1) + rng.random((n, 12)), (corner[:, 0] ^ corner[:, 1]).astype(np.int32)


def solver(X, y, n_units, complement, n_threads=1):
    """Rows and sub-classes; the ceiling is that of the features, or none."""
    rows = Rows(SparseRows.of(X, n_threads), y, int(y.max()) + 1)
    ceiling = np.where(X.max(axis=0) > 0, X.max(axis=0), 1.0).astype(np.float64) if complement else None
    return rows, SubClasses(shared_out(n_units, rows.class_sizes), ceiling, SHRINKAGE, SMOOTHING, n_threads)


def start(rows, classes, seed=0):
    return classes.random_counts(lambda: [rows], rows.features.n_columns, seed)


def loss(X, y, classes, units, scale):
    """Cross-entropy of the sum over the units of the row's class."""
    logits = scale * reference.unit_likelihood(X, units.means, classes.ceiling) + units.log_share
    own = classes.owner == y[:, None]
    return (reference.logsumexp(logits) - reference.logsumexp(np.where(own, logits, -np.inf))).sum()


# ---- units and rows ----------------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 40), min_size=1, max_size=12), st.integers(0, 150))
def test_units_are_shared_out(class_sizes, more):
    sizes, n_units = np.array(class_sizes, np.int64), len(class_sizes) + more
    blocks = shared_out(n_units, sizes)
    parts, room = np.diff(blocks), np.maximum(sizes, 1)
    assert (blocks[0], blocks[-1]) == (0, n_units)
    assert (parts >= 1).all()
    if n_units <= room.sum():
        assert (parts <= room).all()
    else:
        assert (parts >= room).all()
    free = parts < room  # equal parts, but for classes that are full
    if free.any():
        assert parts.max() <= parts[free].min() + 1


@given(st.integers(0, 40), st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_rows_are_in_the_order_of_their_classes_and_keys(n, n_classes, seed):
    rng = np.random.default_rng(seed)
    X, y = rng.random((n, 3)), rng.integers(0, n_classes, n).astype(np.int32)
    rows = Rows(SparseRows.of(X, 1), y, n_classes)
    np.testing.assert_array_equal(rows.class_sizes, np.bincount(y, minlength=n_classes))
    order = np.lexsort((row_keys(SparseRows.of(X, 1), y), y))
    np.testing.assert_array_equal(rows.targets, y[order])
    np.testing.assert_array_equal(rows.features._as_scipy().toarray(), X[order])
    held = rng.random(n) < 0.3
    for part, chosen in zip(rows.split(held), (~held, held), strict=True):
        np.testing.assert_array_equal(part.features._as_scipy().toarray(), X[order][chosen])
        np.testing.assert_array_equal(part.targets, y[order][chosen])
        assert part.starts.size == n_classes + 1
    for c in range(n_classes):
        np.testing.assert_array_equal(rows.part(c)._as_scipy().toarray(), X[order][y[order] == c])
        np.testing.assert_array_equal(rows.transposed(c)._as_scipy().toarray(), X[order][y[order] == c].T)


@pytest.mark.parametrize("complement", [False, True])
def test_random_counts_deal_out_every_row_once_and_evenly(complement):
    X, y = problem()
    rows, classes = solver(X, y, 12, complement)
    counts = start(rows, classes)
    for c in range(3):
        own = classes.owner == c
        np.testing.assert_allclose(counts.F[:, own].sum(axis=1), X[y == c].sum(axis=0), rtol=1e-12)
        assert np.ptp(counts.mass[own]) <= 1
        assert counts.mass[own].sum() == (y == c).sum()
    np.testing.assert_array_equal(start(rows, classes).F, counts.F)
    assert (start(rows, classes, seed=1).F != counts.F).any()


# ---- EM ----------------------------------------------------------------------------------------------------------


@given(st.integers(0, 10**6), st.sampled_from([3, 4, 9, 25]), st.booleans(), st.sampled_from([0.05, 0.5, 1.0]))
def test_a_round_of_em_equals_reference(seed, n_units, complement, scale):
    X, y = problem(30, seed=seed)
    rows, classes = solver(X, y, n_units, complement)
    counts = start(rows, classes, seed)
    for _ in range(2):  # the second round begins with soft responsibilities
        expected = reference.em_round(
            X, y, classes.blocks, counts.F, counts.mass, classes.ceiling, SHRINKAGE, SMOOTHING, scale
        )
        counts = classes.em_round(lambda: [rows], counts, scale)
        np.testing.assert_allclose(counts.F, expected[0], rtol=1e-8, atol=1e-10)
        np.testing.assert_allclose(counts.mass, expected[1], rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("complement", [False, True])
def test_units_and_layer_are_the_equations(complement):
    X, y = problem()
    rows, classes = solver(X, y, 9, complement)
    counts = classes.em_round(lambda: [rows], start(rows, classes), 0.3)
    units = classes.units(counts)
    means, log_share = reference.unit_means(
        counts.F, counts.mass, classes.blocks, classes.ceiling, SHRINKAGE, SMOOTHING
    )
    np.testing.assert_allclose(units.means, means, rtol=1e-12)
    np.testing.assert_allclose(units.log_share, log_share, rtol=1e-12)
    W, b = classes.layer(units, 0.4, 1.5, np.float64)
    logits = 0.4 * reference.unit_likelihood(X, means, classes.ceiling) + 1.5 * log_share
    np.testing.assert_allclose(reference.log_softmax(X @ W + b), reference.log_softmax(logits), rtol=1e-9)
    assert classes.layer(units, 0.4, 1.5, np.float32)[0].dtype == np.float32


@pytest.mark.parametrize("complement", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_em_is_the_same_from_one_batch_of_many(complement, dtype):
    X, y = problem(dtype=dtype)
    rows, classes = solver(X, y, 9, complement)
    counts = start(rows, classes)
    pieces = [Rows(SparseRows.of(X[m : m + 7], 1), y[m : m + 7], 3) for m in range(0, 60, 7)]
    whole, parts = (classes.em_round(lambda source=source: source, counts, 0.3) for source in ([rows], pieces))
    tolerance = 1e-5 if dtype == np.float32 else 1e-12
    np.testing.assert_allclose(parts.F, whole.F, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(parts.mass, whole.mass, rtol=tolerance)


@pytest.mark.parametrize("complement", [False, True])
def test_a_step_of_one_on_one_batch_is_a_full_round(complement):
    X, y = problem()
    rows, classes = solver(X, y, 9, complement)
    counts = start(rows, classes)
    full = classes.em_round(lambda: [rows], counts, 0.3)
    stepped = classes.em_round(lambda: [rows], Counts(counts.F.copy(), counts.mass.copy()), 0.3, lambda: 1.0)
    np.testing.assert_allclose(stepped.F, full.F, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(stepped.mass, full.mass, rtol=1e-12)


def test_steps_keep_the_mass_of_each_class_and_classes_that_a_batch_lacks():
    X, y = problem()
    rows, classes = solver(X, y, 9, True)
    counts = start(rows, classes)
    before = counts.F.copy()
    some = Rows(SparseRows.of(X[y > 0][:10], 1), y[y > 0][:10], 3)
    empty = Rows(SparseRows.of(X[:0], 1), y[:0], 3)
    stepped = classes.em_round(lambda: [empty, some], counts, 0.3, lambda: 0.4)
    own = classes.owner == 0
    np.testing.assert_array_equal(stepped.F[:, own], before[:, own])
    assert (stepped.F[:, ~own] != before[:, ~own]).any()
    np.testing.assert_allclose(np.add.reduceat(stepped.mass, classes.blocks[:-1]), rows.class_sizes, rtol=1e-12)


def test_em_separates_corners():
    X, y = corners()
    rows, classes = solver(X, y, 8, True)
    counts = start(rows, classes)
    losses = []
    for _ in range(30):
        counts = classes.em_round(lambda: [rows], counts, 1.0)
        losses.append(loss(X, y, classes, classes.units(counts), 1.0))
    W, b = classes.layer(classes.units(counts), 1.0, 1.0, np.float64)
    p = np.add.reduceat(np.exp(reference.log_softmax(X @ W + b)), classes.blocks[:-1], axis=1)
    assert (p.argmax(axis=1) == y).mean() > 0.95
    assert losses[-1] < losses[0]


# ---- corrections -------------------------------------------------------------------------------------------------


@given(st.integers(0, 10**6), st.sampled_from([3, 8, 20]), st.booleans(), st.sampled_from([0.1, 1.0]))
def test_a_correction_equals_reference(seed, n_units, complement, scale):
    X, y = problem(30, seed=seed)
    rows, classes = solver(X, y, n_units, complement)
    units = classes.units(classes.em_round(lambda: [rows], start(rows, classes, seed), scale))
    corrected = classes._corrected(units, classes._compared(lambda: [rows], units, scale), 4.0)
    expected = reference.correction(
        X,
        y,
        classes.blocks,
        units.means,
        units.log_share,
        classes.ceiling,
        scale,
        4.0,
        subclasses.KEPT,
        subclasses.SETTLED,
    )
    np.testing.assert_allclose(corrected.means, expected, rtol=1e-7)
    np.testing.assert_array_equal(corrected.log_share, units.log_share)


@pytest.mark.parametrize("complement", [False, True])
@pytest.mark.parametrize("scale", [0.1, 1.0])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_correction_lowers_the_training_loss(complement, scale, dtype):
    X, y = problem(200, dtype=dtype)
    rows, classes = solver(X, y, 9, complement)
    units = classes.units(classes.em_round(lambda: [rows], start(rows, classes), scale))
    losses = []
    for number, found in enumerate(classes.corrections(lambda: [rows], units, scale)):
        losses.append(loss(X.astype(np.float64), y, classes, found, scale))
        if number == 0:
            assert found is units
        if number == 15:
            break
    assert len(losses) > 5
    assert (np.diff(losses) < 1e-4 * (dtype == np.float32)).all()
    assert losses[-1] < losses[0] - 1.0


def test_corrections_end_where_none_helps():
    y = np.arange(60, dtype=np.int32) % 3
    X = 10.0 * np.eye(3)[y]  # every row is settled from the start
    rows, classes = solver(X, y, 6, False)
    units = classes.units(start(rows, classes))
    assert len(list(zip(classes.corrections(lambda: [rows], units, 1.0), range(100), strict=False))) < 100


@pytest.mark.parametrize("complement", [False, True])
def test_corrections_of_batches_and_chunks_are_those_of_all_rows(monkeypatch, complement):
    X, y = problem()
    rows, classes = solver(X, y, 9, complement)
    units = classes.units(start(rows, classes))
    whole = classes._compared(lambda: [rows], units, 0.5)
    whole.counted()
    monkeypatch.setattr("saffu.utils.sparse.CHUNK_VALUES", 9 * 13)
    monkeypatch.setattr("saffu.classifier.subclass_em.COUNTED_ROWS", 7)
    monkeypatch.setattr("saffu.classifier.subclass_em.PENDING_VALUES", 9 * 20)  # more than one chunk, less than all
    pieces = [Rows(SparseRows.of(X[m : m + 25], 1), y[m : m + 25], 3) for m in range(0, 60, 25)]
    for source in ([rows], pieces):
        found = classes._compared(lambda source=source: source, units, 0.5)
        np.testing.assert_array_equal(found.counted(), found.F)
        for name in ("F", "mass", "taken", "loss"):
            np.testing.assert_allclose(getattr(found, name), getattr(whole, name), rtol=1e-10, atol=1e-12)


def test_bits_do_not_depend_on_threads():
    X, y = problem(3000, n_features=40, dtype=np.float32)
    found = []
    for n_threads in (1, 2, 3, 7):
        rows, classes = solver(X, y, 30, True, n_threads)
        units: Units = classes.units(classes.em_round(lambda rows=rows: [rows], start(rows, classes), 0.3))
        steps = classes.corrections(lambda rows=rows: [rows], units, 0.3)
        found.append([next(steps).means, next(steps).means, next(steps).means])
    for other in found[1:]:
        np.testing.assert_array_equal(other, found[0])
