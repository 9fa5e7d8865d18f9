"""ExplicitNetwork: what it promises about bits, inputs, batches, files and errors."""

import copy
import itertools
import json
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_array

import saffu
from helpers import reference
from helpers.gradients import central_differences
from saffu import ExplicitNetwork, SoftmaxLayer, random_start, refine
from saffu.classifier.subclass_em import SubClasses
from saffu.classifier.unit_priming import Scores, mixture_loss, primed
from saffu.utils import checkpoint


def problem(n=200, n_features=12, n_classes=3, seed=0, dtype=np.float64):
    """Counts of two kinds of rows a class, in no order."""
    rng = np.random.default_rng(seed)
    y = np.concatenate([np.arange(n_classes), rng.integers(0, n_classes, n - n_classes)])
    profile = np.random.default_rng(99).dirichlet(np.full(n_features, 0.5), 2 * n_classes)
    X = np.array([rng.multinomial(12, profile[2 * c + rng.integers(2)]) for c in y])
    return X.astype(dtype), y


def corners(n=400, seed=0, copies=3):
    """Four clouds, of which opposite ones belong together: no single layer tells the classes apart."""
    rng = np.random.default_rng(seed)
    corner = rng.integers(0, 2, (n, 2))
    return corner.repeat(copies, axis=1) + rng.random((n, 2 * copies)), corner[:, 0] ^ corner[:, 1]


def solved(sizes=(8,), dtype=np.float64, **settings):
    """A small network and its rows."""
    X, y = problem(dtype=dtype)
    return ExplicitNetwork(sizes, rounds=4, corrections=4, **settings).fit(X, y), X, y


def arrays(network):
    """All that a solution consists of."""
    return [*network.weights, *network.bias, network.output, network.output_counts, network._fitted.scalars]


def assert_same(*networks):
    for other in networks[1:]:
        assert other.corrections_ == networks[0].corrections_
        for a, b in zip(arrays(networks[0]), arrays(other), strict=True):
            np.testing.assert_array_equal(a, b, strict=True)


def accuracy(model, X, y):
    return (model.predict(X) == y).mean()


# ---- the solution ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [(6,), (8, 6), (8, 6, 5)])
@pytest.mark.parametrize("complement", [False, True])
def test_shapes_and_probabilities(sizes, complement):
    network, X, y = solved(sizes, complement=complement)
    widths = [12, *sizes]
    assert [w.shape for w in network.weights] == list(itertools.pairwise(widths))
    assert [b.shape for b in network.bias] == [(n,) for n in sizes]
    assert network.output.shape == network.output_counts.shape == (sizes[-1], 3)
    assert network.n_parameters == sum(w.size + b.size for w, b in zip(network.weights, network.bias, strict=True)) + (
        3 * sizes[-1]
    )
    assert len(network.scalars) == len(network.corrections_) == len(sizes)
    assert set(network.scalars[0]) == {"likelihood", "share", "output"}
    assert network.history is None
    np.testing.assert_allclose(network.output_counts.sum(axis=0), np.bincount(y), rtol=1e-9)
    h = X
    for W, b in zip(network.weights, network.bias, strict=True):
        h = np.exp(reference.log_softmax(h @ W + b))
    p = h @ np.exp(reference.log_softmax(network.output))
    np.testing.assert_allclose(network.predict_proba(X), p, rtol=1e-9)
    np.testing.assert_allclose(network.predict_log_proba(X), np.log(p), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(network.predict_proba(X).sum(axis=1), 1, rtol=1e-12)
    np.testing.assert_array_equal(network.predict(X), p.argmax(axis=1))
    assert accuracy(network, X, y) > 0.7


@pytest.mark.parametrize("sizes", [(12,), (12, 8)])
@pytest.mark.parametrize("batches", [1, 4])
@pytest.mark.parametrize(("copies", "seed"), [(3, 0), (3, 1), (10, 0), (10, 1)])
def test_corners_need_a_hidden_layer(sizes, batches, copies, seed):
    """One unit a class says nothing here, or by chance the opposite: sub-classes must be found all the same."""
    (X, y), (X_test, y_test) = corners(seed=seed, copies=copies), corners(seed=99, copies=copies)
    network = ExplicitNetwork(sizes)
    if batches == 1:
        network.fit(X, y)
    else:
        network.fit_batches([(X[m::batches], y[m::batches]) for m in range(batches)])
    assert accuracy(SoftmaxLayer().fit(X, y), X_test, y_test) < 0.65
    assert accuracy(network, X_test, y_test) > 0.93


def test_mean_norm_is_the_formula_as_it_is(monkeypatch):
    monkeypatch.setattr(SubClasses, "corrections", None)  # not to be called
    network, _, _ = solved((8, 6), priming="mean-norm")
    np.testing.assert_array_equal(network._fitted.scalars, np.ones((2, 3)))
    assert network.corrections_ == [0, 0]


def test_corrections_are_limited():
    X, y = problem()
    for limit in (0, 1, 3):
        found = ExplicitNetwork((8, 6), rounds=3, corrections=limit).fit(X, y).corrections_
        assert max(found) <= limit


@pytest.mark.parametrize("sizes", [(8,), (8, 6)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("complement", [False, True])
def test_sparse_and_dense_are_the_same(sizes, dtype, complement):
    network, X, y = solved(sizes, dtype, complement=complement)
    sparse = ExplicitNetwork(sizes, rounds=4, corrections=4, complement=complement).fit(csr_array(X), y)
    assert_same(network, sparse)
    np.testing.assert_array_equal(network.predict_proba(X), sparse.predict_proba(csr_array(X)))
    assert network.weights[0].dtype == network.predict_proba(X).dtype == network.predict_log_proba(X).dtype == dtype


def test_bits_depend_on_the_seed_alone():
    X, y = problem(400, 30, dtype=np.float32)
    one, *others = (
        ExplicitNetwork((30, 9), rounds=4, corrections=3, n_threads=n).fit(X, y) for n in (1, 2, 3, 7, None)
    )
    assert_same(one, *others)
    for other in others:
        np.testing.assert_array_equal(one.predict_log_proba(X), other.predict_log_proba(X))
    assert (ExplicitNetwork((30, 9), rounds=4, corrections=3, seed=1).fit(X, y).weights[0] != one.weights[0]).any()


def test_numbers_of_any_type_are_features():
    X, y = problem()
    floats = {dtype: ExplicitNetwork((6,), rounds=3).fit(X.astype(dtype), y) for dtype in (np.float32, np.float64)}
    np.testing.assert_allclose(floats[np.float32].predict_proba(X), floats[np.float64].predict_proba(X), atol=0.02)
    for form in (X.astype(np.uint8), X.astype(np.int16), X.astype(np.float16), np.asfortranarray(X, np.float32)):
        assert_same(floats[np.float32], ExplicitNetwork((6,), rounds=3).fit(form, y))
    for form in (X.astype(np.int64), X.astype(int).tolist()):
        assert_same(floats[np.float64], ExplicitNetwork((6,), rounds=3).fit(form, y.tolist()))
    marks = X > 0
    networks = [ExplicitNetwork((6,), rounds=3).fit(form, y) for form in (marks, marks.astype(np.float32))]
    assert_same(*networks)
    np.testing.assert_array_equal(networks[0].predict_proba(marks), networks[0].predict_proba(csr_array(marks)))


@given(st.sampled_from([2.0**-60, 2.0**-20, 2.0**7, 2.0**60]))
def test_the_unit_of_the_features_does_not_matter(unit):
    X, y = problem(80)
    networks = [ExplicitNetwork((6,), rounds=3, corrections=2).fit(X * u, y) for u in (1.0, unit)]
    np.testing.assert_array_equal(networks[0].predict_proba(X), networks[1].predict_proba(X * unit))


def test_labels_may_be_far_apart():
    X, y = problem()
    names = np.array([-(10**12), 3, 10**15])
    network, plain = (ExplicitNetwork((6,), rounds=3).fit(X, labels) for labels in (names[y], y.astype(np.uint8)))
    np.testing.assert_array_equal(network.classes_, names)
    np.testing.assert_array_equal(network.predict(X), names[plain.predict(X)])
    assert network.predict(X).dtype == np.int64
    assert_same(network, plain)


def test_fit_starts_anew():
    network, X, y = solved()
    fresh = ExplicitNetwork((8,), rounds=4, corrections=4).fit(X[:, :5], y % 2)
    assert_same(fresh, network.fit(X[:, :5], y % 2))
    np.testing.assert_array_equal(network.classes_, [0, 1])


# ---- few and dull rows -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("priming", ["primed", "mean-norm"])
@pytest.mark.parametrize("complement", [False, True])
@pytest.mark.parametrize("sizes", [(40,), (40, 9)])
@pytest.mark.parametrize(
    "rows",
    [
        ([[1.0, 0.0], [0.0, 1.0]], [0, 1]),  # one row a class
        ([[1.0, 0.0], [0.0, 1.0], [0.0, 2.0]], [0, 1, 1]),
        ([[2.0, 0.0, 1.0]] * 3 + [[0.0, 1.0, 1.0]] * 4, [0] * 3 + [1] * 4),
        (np.ones((30, 3)), [0] * 10 + [1] * 20),  # constant
        (np.zeros((30, 3)), [0] * 10 + [1] * 20),
        (np.eye(30), [0] * 10 + [1] * 20),  # every feature once
    ],
)
def test_few_and_dull_rows_are_solved_sensibly(rows, sizes, complement, priming):
    X, y = np.array(rows[0]), np.array(rows[1])
    network = ExplicitNetwork(sizes, rounds=3, corrections=3, complement=complement, priming=priming).fit(X, y)
    for log_p in (network.predict_log_proba(X), network.predict_log_proba(3 * X + 1)):
        assert np.isfinite(log_p).all()
    np.testing.assert_allclose(network.predict_proba(X).sum(axis=1), 1, rtol=1e-9)
    if not np.ptp(X, axis=0).any():
        np.testing.assert_allclose(network.predict_proba(X[:1])[0], [1 / 3, 2 / 3], atol=0.1)
    elif priming == "mean-norm":
        assert accuracy(network, X, y) > 0.6


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_one_huge_and_one_empty_row(dtype):
    X, y = problem(dtype=dtype)
    X[0], X[1] = 1e6, 0
    network = ExplicitNetwork((6,), rounds=3).fit(X, y)
    assert np.isfinite(network.predict_log_proba(X)).all()


def test_no_rows_to_predict():
    network, X, _ = solved()
    assert network.predict_proba(X[:0]).shape == network.predict_log_proba(csr_array(X[:0])).shape == (0, 3)
    assert network.predict(X[:0]).shape == (0,)


# ---- batches -----------------------------------------------------------------------------------------------------


def cut(X, y, *ends):
    return [(X[a:b], y[a:b]) for a, b in zip((0, *ends), (*ends, len(y)), strict=True)]


@pytest.mark.parametrize("sizes", [(9,), (9, 6)])
@pytest.mark.parametrize("complement", [False, True])
def test_batches_are_about_as_good_as_all_rows(sizes, complement):
    (X, y), (X_test, y_test) = problem(300, dtype=np.float32), problem(600, seed=1, dtype=np.float32)
    whole = ExplicitNetwork(sizes, complement=complement).fit(X, y)
    batches = cut(X, y, 120, 130, 200)
    network = ExplicitNetwork(sizes, complement=complement).fit_batches(batches)
    assert accuracy(network, X_test, y_test) > accuracy(whole, X_test, y_test) - 0.04
    assert_same(network, ExplicitNetwork(sizes, complement=complement).fit_batches(lambda: iter(batches)))
    sparse = [(csr_array(X_part), list(y_part)) for X_part, y_part in batches]
    for n_threads in (1, 3):
        assert_same(network, ExplicitNetwork(sizes, complement=complement, n_threads=n_threads).fit_batches(sparse))


def test_mean_norm_of_one_batch_is_that_of_all_rows():
    network, X, y = solved((8, 6), priming="mean-norm")
    again = ExplicitNetwork((8, 6), rounds=4, corrections=4, priming="mean-norm").fit_batches([(X, y)])
    assert_same(network, again)


@pytest.mark.parametrize("sizes", [(9,), (9, 6)])
def test_batches_without_some_class_and_without_rows(sizes):
    X, y = problem(300)
    order = np.argsort(y, kind="stable")
    X_sorted, y_sorted = X[order], y[order]
    batches = cut(X_sorted, y_sorted, 0, 50, 100, 100, 200, 299)  # the classes one after the other
    network = ExplicitNetwork(sizes).fit_batches([*batches, (X[:0], [])])
    assert np.isfinite(network.predict_log_proba(X)).all()
    assert accuracy(network, X, y) > 0.7
    np.testing.assert_allclose(network.output_counts.sum(axis=0), np.bincount(y), rtol=1e-9)


def test_batches_of_several_types():
    X, y = problem()
    mixed = [
        (X[:80].astype(np.uint8), y[:80]),
        (csr_array(X[80:130].astype(np.float32)), y[80:130]),
        (X[130:], y[130:]),
    ]
    networks = [ExplicitNetwork((6,), rounds=3).fit_batches(b) for b in (mixed, cut(X, y, 80, 130))]
    assert_same(*networks)
    assert networks[0].weights[0].dtype == np.float64


def test_classes_of_batches():
    X, y = problem()
    batches = cut(X, y * 5, 90)
    networks = [ExplicitNetwork((6,), rounds=3).fit_batches(batches, classes=classes) for classes in (None, [10, 0, 5])]
    assert_same(*networks)
    np.testing.assert_array_equal(networks[1].classes_, [0, 5, 10])
    network = networks[0]
    for classes, error, message in [
        ([0, 5, 10, 15], ValueError, r"every class needs a row of positive weight, but \[15\] have none"),
        ([0, 5], ValueError, "y must be one of the 2 classes, got 10"),
        ([0.5, 5.0, 10.0], TypeError, "classes must be integer labels"),
        ([], ValueError, "class"),
    ]:
        with pytest.raises(error, match=message):
            network.fit_batches(batches, classes=classes)
    assert_same(*networks)


@pytest.mark.parametrize(
    ("batches", "error", "message"),
    [
        ([(np.ones((2, 2)), [0, 1], [1.0])], ValueError, "sample_weight must have one weight for each of the 2 rows"),
        ([(np.ones((2, 2)), [0, 1], [0, 0])], ValueError, "at least one row, got none"),
        ([], ValueError, "at least one row, got none"),
        ([(np.ones((0, 2)), [])], ValueError, "at least one row, got none"),
        (
            [(np.ones((2, 2)), [0, 1]), (np.ones((1, 3)), [0])],
            ValueError,
            "X has 3 features, but ExplicitNetwork is expecting 2 features",
        ),
        ([(np.ones((2, 2)), [0, 0]), (np.ones((1, 2)), [0])], ValueError, r"at least two classes, got 1 class, \[0\]"),
        ([(np.ones((2, 2)), [0])], ValueError, "one label for each of the 2 rows, got 1"),
        ([(-np.ones((2, 2)), [0, 1])], ValueError, "X must be finite and not negative, got -1.0 in row 0, column 0"),
        ([(np.ones((2, 2)), np.array([0, 2**63], np.uint64))], ValueError, "64 bits"),
        (iter([(np.ones((2, 2)), [0, 1])]), TypeError, "batches can be read only once"),
        (((x, [0]) for x in np.ones((3, 1, 2))), TypeError, "batches can be read only once"),
    ],
)
def test_bad_batches_are_named(batches, error, message):
    with pytest.raises(error, match=message):
        ExplicitNetwork((4,)).fit_batches(batches)


# ---- more rows for the output ------------------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [(8,), (9, 6), (17, 33, 9)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("ends", [(), (1,), (7, 8, 9, 40), tuple(range(1, 60))])
def test_more_rows_in_any_chunks_give_the_same_bits(sizes, dtype, ends):
    network, _, _ = solved(sizes, dtype)
    X, y = problem(60, seed=5, dtype=dtype)
    before = network.output_counts.copy()
    whole, pieces = saved_copy(network), saved_copy(network)
    whole.partial_fit(X, y)
    for X_part, y_part in cut(X, y, *ends):
        assert pieces.partial_fit(csr_array(X_part), y_part) is pieces
    assert_same(whole, pieces)
    np.testing.assert_allclose((whole.output_counts - before).sum(axis=0), np.bincount(y), rtol=1e-5)
    assert (whole.output != network.output).any()
    np.testing.assert_array_equal(whole.weights[0], network.weights[0])


def saved_copy(network):
    metadata = json.loads(json.dumps(network._to_checkpoint()[1]))
    return ExplicitNetwork._from_checkpoint(network._to_checkpoint()[0], metadata)


def test_who_may_take_more_rows():
    X, y = problem()
    with pytest.raises(ValueError, match=r"classes must list .* or call fit \(or fit_batches .* then partial_fit adds"):
        ExplicitNetwork((6,)).partial_fit(X, y)
    network, X, y = solved()
    counts = network.output_counts.copy()
    for bad, error, message in [
        ((X[:1], [7]), ValueError, "y must be one of the 3 classes, got 7"),
        ((X[:2], [0]), ValueError, "one label for each of the 2 rows"),
        ((X[:1], [0.5]), ValueError, "integer labels"),
        ((X[:1, :5], [0]), ValueError, "X has 5 features, but ExplicitNetwork is expecting 12 features"),
        ((-X[:1] - 1, [0]), ValueError, "finite and not negative"),
    ]:
        with pytest.raises(error, match=message):
            network.partial_fit(*bad)
    network.partial_fit(X[:0], [])
    np.testing.assert_array_equal(network.output_counts, counts)
    for moved in (refine(network, X, y, epochs=1), random_start(network)):
        with pytest.raises(ValueError, match="was refined"):
            moved.partial_fit(X, y)
        assert_same(network, moved.fit(X, y))


# ---- what is refused ---------------------------------------------------------------------------------------------

ROWS = [[1.0, 2.0], [3.0, 4.0]]


@pytest.mark.parametrize(
    ("X", "y", "error", "message"),
    [
        ([[1.0, -2.0], [0, 0]], [0, 1], ValueError, "X must be finite and not negative, got -2.0 in row 0, column 1"),
        ([[1.0, 2.0], [0, np.nan]], [0, 1], ValueError, "got nan in row 1, column 1"),
        (csr_array([[0, 2.0], [np.inf, 0]]), [0, 1], ValueError, "got inf in row 1, column 0"),
        (np.empty((0, 2)), [], ValueError, "X must have at least one row"),
        ([1.0, 2.0], [0, 1], ValueError, "X must be a matrix"),
        ([["a"], ["b"]], [0, 1], TypeError, "X must be numbers"),
        (ROWS, [0], ValueError, "one label for each of the 2 rows, got 1"),
        (ROWS, [[0, 1], [1, 0]], ValueError, "must be a vector of labels"),
        (ROWS, [0.5, 1.0], ValueError, "y must be integer labels.*Unknown label type: continuous"),
        (ROWS, ["a", 1], TypeError, "y must be labels of one kind"),
        (ROWS, np.array([0, 2**63], np.uint64), ValueError, "64 bits"),
        (ROWS, [5, 5], ValueError, r"y must name at least two classes, got 1 class, \[5\]"),
        (np.ones((5, 2)), [0, 1, 2, 3, 4], ValueError, r"hidden must be at least the number of classes, 5,.* \(4, 6\)"),
    ],
)
def test_bad_fit_is_named_and_changes_nothing(X, y, error, message):
    network = ExplicitNetwork((4, 6)).fit(ROWS, [5, 6])
    before = [array.copy() for array in arrays(network)]
    with pytest.raises(error, match=message):
        network.fit(X, y)
    np.testing.assert_array_equal(network.classes_, [5, 6])
    for a, b in zip(arrays(network), before, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"hidden": ()}, ValueError, "hidden must name at least one layer; without any, use SoftmaxLayer"),
        ({"hidden": (5, 0)}, ValueError, "hidden must be at least 1, got 0"),
        ({"hidden": (5.0,)}, TypeError, "hidden must be an integer, got 5.0"),
        ({"hidden": True}, TypeError, "hidden must be an integer"),
        ({"hidden": "30"}, TypeError, "hidden must be an integer"),
        ({"rounds": 0}, ValueError, "rounds must be at least 1"),
        ({"corrections": -1}, ValueError, "corrections must be at least 0"),
        ({"priming": "none"}, ValueError, "priming must be one of"),
        ({"shrinkage": 0}, ValueError, "shrinkage must be positive"),
        ({"smoothing": -1.0}, ValueError, "smoothing must be positive"),
        ({"seed": 0.5}, TypeError, "seed must be an integer"),
        ({"n_threads": 0}, ValueError, "n_threads must be at least 1"),
    ],
)
def test_bad_settings_are_named_by_fit(settings, error, message):
    network = ExplicitNetwork(**settings)
    for fit in (network.fit, lambda X, y: network.fit_batches([(X, y)])):
        with pytest.raises(error, match=message):
            fit(ROWS, [0, 1])


def test_a_number_is_one_layer():
    X, y = problem()
    networks = [ExplicitNetwork(hidden, rounds=2).fit(X, y) for hidden in (7, [np.int64(7)], (7,))]
    assert_same(*networks)
    assert networks[0].hidden == 7  # as it was given
    assert saved_copy(networks[0]).hidden == (7,)


def test_bad_predictions_are_named(tmp_path):
    network, X, y = solved()
    for method in (network.predict, network.predict_proba, network.predict_log_proba):
        with pytest.raises(ValueError, match="X has 11 features, but ExplicitNetwork is expecting 12 features"):
            method(X[:, 1:])
        with pytest.raises(ValueError, match=r"finite and not negative, got -1\.0"):
            method(X - 1)
    unsolved = ExplicitNetwork((8,))
    for use in (
        lambda: unsolved.predict(X),
        lambda: unsolved.predict_proba(X),
        lambda: unsolved.predict_log_proba(X),
        lambda: unsolved.weights,
        lambda: unsolved.classes_,
        lambda: unsolved.output,
        lambda: unsolved.scalars,
        lambda: unsolved.n_parameters,
        lambda: unsolved.save(tmp_path / "network"),
        lambda: refine(unsolved, X, y),
        lambda: random_start(unsolved),
    ):
        with pytest.raises(ValueError, match="call fit or partial_fit first"):
            use()


@pytest.mark.parametrize("when", [1, 3, 9])
@pytest.mark.parametrize("batches", [False, True])
def test_an_interrupted_fit_leaves_the_old_solution(monkeypatch, when, batches):
    network, X, y = solved((8, 6))
    again = saved_copy(network)
    calls = []
    em_round = SubClasses.em_round

    def interrupted(*arguments):
        calls.append(1)
        if len(calls) == when:
            raise KeyboardInterrupt
        return em_round(*arguments)

    monkeypatch.setattr(SubClasses, "em_round", interrupted)
    with pytest.raises(KeyboardInterrupt):
        network.fit_batches(cut(X[:, :7], y, 90)) if batches else network.fit(X[:, :7], y)
    assert len(calls) == when
    assert_same(network, again)
    np.testing.assert_array_equal(network.predict_proba(X), again.predict_proba(X))


# ---- files -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [(8,), (8, 6)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("refined", [False, True])
def test_files_round_trip_to_the_same_bits(tmp_path, sizes, dtype, refined):
    network, X, y = solved(sizes, dtype, shrinkage=0.5, seed=3, complement=False)
    network = refine(network, X, y, epochs=1) if refined else network
    network.save(tmp_path / "network.saffu")
    again = saffu.load(tmp_path / "network.saffu")
    assert type(again) is ExplicitNetwork
    assert again.get_params() == network.get_params()
    assert again.history == network.history
    assert_same(network, again)
    np.testing.assert_array_equal(network.predict_log_proba(X), again.predict_log_proba(X))
    if not refined:
        assert_same(network.partial_fit(X, y), again.partial_fit(X, y))


def damages():
    """Names of damages and functions that change arrays and metadata."""

    def array(name, change):
        return lambda arrays, metadata: arrays.update({name: change(arrays[name])})

    def settings(**changes):
        return lambda arrays, metadata: metadata["settings"].update(changes)

    for name in ("classes", "scalars", "output.counts", "hidden0.weights", "hidden0.bias", "hidden1.weights"):
        yield f"{name} missing", lambda arrays, metadata, name=name: arrays.pop(name)
        if name != "hidden0.weights":  # fewer features would be another network
            yield f"{name} short", array(name, lambda a: a[:-1])
        yield f"{name} without shape", array(name, lambda a: a.reshape(-1)[0])
        yield f"{name} of one more dimension", array(name, lambda a: a[None])
        yield (
            f"{name} of integers" if name != "classes" else "classes of floats",
            array(name, lambda a: a.astype(np.int16 if a.dtype.kind == "f" else np.float64)),
        )
    for name in ("hidden0.weights", "hidden1.bias", "output.counts", "scalars"):
        yield f"{name} not a number", array(name, lambda a: a * np.nan)
    yield "negative counts", array("output.counts", lambda a: -a)
    yield "hidden1.weights of another type", array("hidden1.weights", lambda a: a.astype(np.float32))
    yield "classes in no order", array("classes", lambda a: a[::-1].copy())
    yield "classes twice", array("classes", lambda a: a * 0)
    yield "output of another shape", lambda arrays, metadata: arrays.update({"output.weights": np.zeros((2, 2))})
    yield (
        "output of a network that was not refined",
        lambda arrays, metadata: arrays.update({"output.weights": np.zeros((6, 3))}),
    )
    yield "refined without an output", lambda arrays, metadata: metadata.update(history=[])
    yield "an unknown setting", settings(depth=3)
    yield "no layers", settings(hidden=[])
    yield "one layer too few", settings(hidden=[8])
    yield "one layer too many", settings(hidden=[8, 6, 6])
    yield "a layer of text", settings(hidden=["8", "6"])
    yield "a bad setting", settings(smoothing=-1)
    for name in ("settings", "corrections", "history"):
        yield f"{name} missing", lambda arrays, metadata, name=name: metadata.pop(name)
        yield f"{name} a number", lambda arrays, metadata, name=name: metadata.update({name: 3})
    yield "history of numbers", lambda arrays, metadata: metadata.update(history=[3])
    yield "one correction too few", lambda arrays, metadata: metadata["corrections"].pop()


@pytest.fixture(scope="module")
def sound():
    return solved((8, 6))[0]._to_checkpoint()


@pytest.mark.parametrize("damage", [pytest.param(damage, id=name) for name, damage in damages()])
def test_damaged_files_are_refused(tmp_path, sound, damage):
    arrays, metadata = copy.deepcopy(sound[0]), json.loads(json.dumps(sound[1]))
    damage(arrays, metadata)
    checkpoint.write(tmp_path / "network", "explicit-network", arrays, metadata)
    with pytest.raises(ValueError, match="damaged explicit-network model"):
        saffu.load(tmp_path / "network")


@given(st.integers(0, 10**6), st.integers(0, 255))
def test_a_changed_byte_never_runs_amok(tmp_path_factory, position, value):
    path = tmp_path_factory.getbasetemp() / "network.saffu"
    if not path.exists():
        ExplicitNetwork((2,), rounds=1, corrections=0).fit(ROWS, [5, 6]).save(path)
    data = bytearray(path.read_bytes())
    data[position % len(data)] = value
    damaged = path.with_suffix(".damaged")
    damaged.write_bytes(data)
    with suppress(ValueError):  # any other exception fails the test
        assert isinstance(saffu.load(damaged), ExplicitNetwork)


# ---- priming -----------------------------------------------------------------------------------------------------


def scores(n_rows, n_units, n_classes, seed, dtype=np.float64):
    rng = np.random.default_rng(seed)
    log_share = reference.log_softmax(rng.normal(0, 1, (1, n_units)))[0]
    log_output = reference.log_softmax(rng.normal(0, 2, (n_units, n_classes)))
    targets = rng.integers(0, n_classes, n_rows).astype(np.int32)
    return Scores(rng.normal(0, 3, (n_rows, n_units)).astype(dtype), log_share, log_output, targets)


@given(st.integers(0, 2**32 - 1), st.sampled_from([[0.7, 1.0, 1.0], [0.01, 0.3, 2.0], [2.0, 1.5, 0.2]]))
def test_mixture_loss_has_the_stated_value_and_derivatives(seed, theta):
    pieces = [scores(9, 6, 3, seed), scores(4, 6, 3, seed + 1)]
    evaluate = mixture_loss(pieces)
    value, gradient, hessian = evaluate(np.array(theta), True)
    expected, curvature = 0.0, np.zeros((3, 3))
    step = 1e-3

    def probabilities(s, a, t):
        return [
            (
                np.exp(reference.log_softmax(s * p.likelihood + a * p.log_share))
                @ np.exp(reference.log_softmax(t * p.log_output))
            )
            for p in pieces
        ]

    for piece, p in zip(pieces, probabilities(*theta), strict=True):
        expected -= np.log(p[np.arange(len(p)), piece.targets]).sum() / 13
    assert value == pytest.approx(expected, rel=1e-12)
    assert evaluate(np.array(theta), False)[0] == pytest.approx(value, rel=1e-14)
    found = central_differences({"theta": np.array(theta)}, lambda at: evaluate(at["theta"], False)[0], step)["theta"]
    np.testing.assert_allclose(gradient, found, rtol=1e-6, atol=1e-6 * np.abs(found).max())
    slopes = []
    for axis in np.eye(3):
        moved = [probabilities(*(theta + k * 1e-5 * axis)) for k in (-1, 1)]
        slopes.append([(b - a) / 2e-5 for a, b in zip(*moved, strict=True)])
    for i, p in enumerate(probabilities(*theta)):
        for a in range(3):
            for b in range(3):
                curvature[a, b] += (slopes[a][i] * slopes[b][i] / p).sum() / 13
    np.testing.assert_allclose(hessian, curvature, rtol=1e-4, atol=1e-6 * np.abs(curvature).max())
    np.testing.assert_array_equal(hessian, hessian.T)
    assert np.linalg.eigvalsh(hessian).min() >= -1e-12 * np.abs(hessian).max()


def test_mixture_loss_of_many_rows_and_of_float32_is_the_mean():
    parts = [scores(2047, 4, 3, 0), scores(2049, 4, 3, 1), scores(1, 4, 3, 2)]
    theta = np.array([0.3, 0.9, 1.1])
    whole = mixture_loss(parts)(theta, True)
    sizes = np.array([2047, 2049, 1])
    each = [mixture_loss([part])(theta, True) for part in parts]
    for number in range(3):
        mean = sum(size * np.asarray(found[number]) for size, found in zip(sizes, each, strict=True)) / sizes.sum()
        np.testing.assert_allclose(whole[number], mean, rtol=1e-12)
    narrow = mixture_loss([scores(2047, 4, 3, 0, np.float32)])(theta, True)
    for a, b in zip(narrow, each[0], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_primed_scalars_fit_the_held_out_rows():
    rng = np.random.default_rng(0)
    piece = scores(4000, 5, 3, 0)
    truth = np.array([0.4, 0.7, 1.6])
    h = np.exp(reference.log_softmax(truth[0] * piece.likelihood + truth[1] * piece.log_share))
    p = h @ np.exp(reference.log_softmax(truth[2] * piece.log_output))
    piece.targets = np.array([rng.choice(3, p=row) for row in p], np.int32)
    theta = primed([piece], np.ones(3))
    loss = mixture_loss([piece])
    assert loss(theta, False)[0] < loss(truth, False)[0] + 1e-6
    np.testing.assert_allclose(theta, truth, rtol=0.3)


@pytest.mark.parametrize(("name", "largest"), [("iris", 0.05), ("wine", 0.08)])
def test_one_row_moves_no_scalar_by_much_and_orders_do_not_matter(name, largest):
    sklearn_datasets = pytest.importorskip("sklearn.datasets")
    X, y = getattr(sklearn_datasets, f"load_{name}")(return_X_y=True)
    network = ExplicitNetwork((12,)).fit(X, y)
    for row in range(0, len(y), 40):
        kept = np.arange(len(y)) != row
        moved = ExplicitNetwork((12,)).fit(X[kept], y[kept])._fitted.scalars
        np.testing.assert_allclose(moved, network._fitted.scalars, rtol=largest)
    order = np.random.default_rng(0).permutation(len(y))
    assert_same(network, ExplicitNetwork((12,)).fit(X[order], y[order]))
    assert -network.predict_log_proba(X)[np.arange(len(y)), y].mean() < np.log(3) / 2


# ---- refinement --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [(5,), (6, 4)])
@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("start", ["counted", "random"])
def test_gradients_are_central_differences(sizes, sparse, start):
    X, y = problem(40, 5)
    network = ExplicitNetwork(sizes, rounds=3).fit(X, y)
    network = random_start(network, scale=0.5) if start == "random" else network
    X = csr_array(X) if sparse else X
    parameters = network._parameters(0.5, np.float64)
    batch = network._prepare(X[:9], y[:9], 1).take(slice(None))
    gradients = {name: np.full_like(value, np.nan) for name, value in parameters.items()}
    value = network._loss_and_gradients(parameters, batch, gradients, 1)

    def loss(at):
        return network._losses(at, batch, 1).mean()

    assert value == pytest.approx(loss(parameters), rel=1e-12)
    for name, expected in central_differences(parameters, loss).items():
        error = np.linalg.norm(gradients[name] - expected)
        assert error <= 1e-6 * np.linalg.norm(expected) + 1e-11, name


@pytest.mark.parametrize("sizes", [(8,), (8, 6)])
@pytest.mark.parametrize("sparse", [False, True])
def test_refinement_is_never_above_its_start(sizes, sparse):
    network, X, y = solved(sizes)
    X = csr_array(X) if sparse else X
    before = arrays(saved_copy(network))
    refined = refine(network, X, y, epochs=20, batch_size=32, learning_rate=0.05)
    for a, b in zip(arrays(network), before, strict=True):
        np.testing.assert_array_equal(a, b)  # the given network stays as it is
    loss_before, loss_after = (-model.predict_log_proba(X)[np.arange(len(y)), y].mean() for model in (network, refined))
    assert loss_after < loss_before
    assert refined.history[0]["training_loss"] == pytest.approx(loss_before, rel=1e-6)
    assert [record["epoch"] for record in refined.history] == list(range(21))
    np.testing.assert_array_equal(refined.classes_, network.classes_)
    wild = refine(network, X, y, epochs=1, learning_rate=30.0)
    assert -wild.predict_log_proba(X)[np.arange(len(y)), y].mean() <= loss_before + 1e-12


def test_random_starts_follow_the_seed():
    network, X, _ = solved((8, 6))
    starts = [random_start(network, seed=seed) for seed in (1, 1, 2)]
    assert_same(*starts[:2])
    assert (starts[2].weights[0] != starts[0].weights[0]).any()
    assert starts[0].history == []
    assert [w.shape for w in starts[0].weights] == [w.shape for w in network.weights]
    np.testing.assert_allclose(starts[0].predict_proba(X).sum(axis=1), 1, rtol=1e-9)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_random_and_refined_networks_keep_the_type(dtype):
    network, X, y = solved((8, 6), dtype=dtype)
    start = saffu.random_start(network)
    for model in (start, saffu.refine(start, X, y, epochs=1), saffu.refine(network, X, y, epochs=0)):
        assert {array.dtype for array in (*model.weights, *model.bias, model.output)} == {np.dtype(dtype)}
    np.testing.assert_array_equal(saffu.refine(network, X, y, epochs=0).predict_proba(X), network.predict_proba(X))
