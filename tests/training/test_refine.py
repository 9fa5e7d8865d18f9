"""Refinement: what it promises about the loss, the bits, the checkpoint and the arguments; random starts."""

import itertools
import warnings

import numpy as np
import pytest
from scipy.sparse import csr_array

import saffu
from helpers import reference
from helpers.gradients import central_differences
from saffu import SoftmaxLayer, _core, random_start, refine
from saffu.classifier import softmax_mlp as stack
from saffu.classifier.examples import Examples
from saffu.training.losses import TrainingData
from saffu.utils import checkpoint


class Network:
    """The least that can be refined: a stack with given parameters."""

    def __init__(self, parameters, history=None):
        self.parameters, self.history = parameters, history

    def _parameters(self, soften, dtype):
        factors = {name: soften if name.startswith("hidden") else 1.0 for name in self.parameters}
        return {name: (value * factors[name]).astype(dtype) for name, value in self.parameters.items()}

    def _prepare(self, X, y, n_threads):
        return Examples(X, np.asarray(y, np.int32), n_threads, blas=True)

    def _loss_and_gradients(self, parameters, batch, gradients, n_threads):
        return stack.loss_and_gradients(parameters, *batch, None, n_threads, gradients)[0]

    def _losses(self, parameters, batch, n_threads):
        return stack.losses(parameters, *batch, n_threads)

    def _with_parameters(self, parameters, history):
        return Network({name: value.copy() for name, value in parameters.items()}, history)


def problem(n=300, n_features=12, n_classes=3, seed=0, dtype=np.float64, sparse=False):
    """Noisy counts whose features depend on each other, so that counting alone is not the optimum."""
    rng = np.random.default_rng(seed)
    profile = rng.dirichlet(np.full(n_features, 0.7), n_classes)
    y = np.concatenate([np.arange(n_classes), rng.integers(0, n_classes, n - n_classes)])
    X = np.array([rng.multinomial(8, profile[c]) for c in y]).astype(dtype)
    X[:, n_features // 2 :] = X[:, : n_features - n_features // 2]
    return (csr_array(X) if sparse else X), y


def network(sizes=(12, 7, 3), seed=0, history=None):
    rng = np.random.default_rng(seed)
    parameters = {}
    for i, shape in enumerate(itertools.pairwise(sizes[:-1])):
        parameters[f"hidden{i}.weights"] = rng.normal(0, 0.5, shape)
        parameters[f"hidden{i}.bias"] = np.zeros(shape[1])
    parameters["output.weights"] = rng.normal(0, 0.5, sizes[-2:])
    return Network(parameters, history)


def split_problem():
    """Few training rows and many others of the same kind: a network soon learns the few by heart."""
    X, y = problem(290, n_features=30)
    return (X[:90], y[:90]), (X[90:], y[90:])


def mean_loss(model, X, y, dtype=np.float64):
    return model._losses(model._parameters(1.0, dtype), model._prepare(X, y, 1).take(slice(None)), 1).mean()


def assert_same(a, b):
    a, b = a._parameters(1.0, np.float64), b._parameters(1.0, np.float64)
    for name, value in a.items():
        np.testing.assert_array_equal(value, b[name], err_msg=name)


def assert_close(a, b):
    """Equal but for the rounding of one centring."""
    a, b = a._parameters(1.0, np.float64), b._parameters(1.0, np.float64)
    for name, value in a.items():
        np.testing.assert_allclose(value, b[name], rtol=1e-12, atol=1e-14, err_msg=name)


def losses_of(model):
    return [(record["training_loss"], record["validation_loss"]) for record in model.history]


# ---- one layer -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sparse", [False, True])
def test_gradients_of_a_layer_are_central_differences(sparse):
    X, y = problem(30, sparse=sparse)
    layer = SoftmaxLayer().fit(X, y)
    parameters, batch = layer._parameters(1.0, np.float64), layer._prepare(X, y, 1).take(slice(None))
    gradients = {name: np.empty_like(value) for name, value in parameters.items()}
    loss = layer._loss_and_gradients(parameters, batch, gradients, 1)
    assert loss == pytest.approx(-layer.predict_log_proba(X)[np.arange(30), y].mean(), rel=1e-12)
    expected = central_differences(parameters, lambda p: layer._losses(p, batch, 1).mean())
    for name, gradient in gradients.items():
        assert np.linalg.norm(gradient - expected[name]) <= 1e-6 * np.linalg.norm(expected[name]), name


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_layer_comes_near_its_optimum(sparse, dtype):
    X, y = problem(dtype=dtype, sparse=sparse)
    layer = SoftmaxLayer().fit(X, y)
    weights = layer.weights.copy()
    refined = refine(layer, X, y, epochs=30, batch_size=30, learning_rate=0.05)
    before, after = (-m.predict_log_proba(X)[np.arange(300), y].mean() for m in (layer, refined))
    longer = refine(layer, X, y, epochs=200, batch_size=300, learning_rate=0.05)
    assert after < before - 0.003
    assert after == pytest.approx(longer.history[-1]["training_loss"], abs=0.002)
    np.testing.assert_array_equal(layer.weights, weights)
    assert layer.history is None
    assert refined.history[0]["training_loss"] == pytest.approx(before, abs=1e-5)
    assert [record["epoch"] for record in refined.history] == list(range(31))


def test_one_full_batch_step_is_adam():
    X, y = problem()
    layer = SoftmaxLayer().fit(X, y)
    start = layer._parameters(1.0, np.float64)
    p = np.exp(reference.log_softmax(X @ start["weights"] + start["bias"]))
    gradient = X.T @ (p - reference.one_hot(y, 3)) / 300
    expected, _, _ = reference.adam(gradient, start["weights"], 0.0, 0.0, 1e-3, 0.9, 0.999, 1e-8, 1)
    refined = refine(layer, X, y, epochs=1, batch_size=300, learning_rate=1e-3)
    np.testing.assert_allclose(refined.weights, expected, rtol=1e-9, atol=1e-12)


def test_labels_need_not_be_numbers_of_classes():
    X, y = problem()
    labels = np.array([-5, 7, 40])[y]
    named = refine(SoftmaxLayer().fit(X, labels), X, labels, epochs=2)
    assert_same(named, refine(SoftmaxLayer().fit(X, y), X, y, epochs=2))
    assert set(named.predict(X)) <= {-5, 7, 40}


def test_a_refined_layer_is_saved_and_loaded(tmp_path):
    X, y = problem()
    refined = refine(SoftmaxLayer().fit(X, y), X, y, epochs=2, validation=0.2)
    refined.save(tmp_path / "layer")
    again = saffu.load(tmp_path / "layer")
    np.testing.assert_array_equal(again.weights, refined.weights)
    np.testing.assert_array_equal(again.bias, refined.bias)
    assert again.history == refined.history
    assert again.scalars == refined.scalars
    np.testing.assert_array_equal(again.predict_proba(X), refined.predict_proba(X))


def test_a_damaged_history_is_refused(tmp_path):
    X, y = problem()
    arrays, metadata = SoftmaxLayer().fit(X, y)._to_checkpoint()
    checkpoint.write(tmp_path / "layer", "softmax-layer", arrays, {**metadata, "history": [3]})
    with pytest.raises(ValueError, match="history"):
        saffu.load(tmp_path / "layer")


def test_a_refined_layer_counts_no_more():
    X, y = problem()
    layer = SoftmaxLayer().fit(X, y)
    for moved in (refine(layer, X, y, epochs=1), random_start(layer)):
        with pytest.raises(ValueError, match=r"partial_fit needs .* weights follow from its counts"):
            moved.partial_fit(X, y)
        with pytest.raises(ValueError, match="merge needs"):
            moved.merge(layer)
        with pytest.raises(ValueError, match="merge needs"):
            SoftmaxLayer().fit(X, y).merge(moved)
        assert moved.fit(X, y).history is None  # a fit starts again
        assert_same(moved, layer)
    layer.partial_fit(X, y)
    np.testing.assert_array_equal(layer.class_mass, 2 * np.bincount(y))


def test_counts_of_a_refined_layer_are_its_own():
    X, y = problem()
    layer = SoftmaxLayer().fit(X, y)
    refined = refine(layer, X, y, epochs=1)
    counts = refined.counts.copy()
    layer.partial_fit(X, y)
    np.testing.assert_array_equal(refined.counts, counts)


def test_one_class_and_constant_features():
    X, y = problem()
    one = refine(SoftmaxLayer().fit(X, np.zeros(300, int), n_classes=1), X, np.zeros(300, int), epochs=1)
    np.testing.assert_array_equal(one.predict_proba(X), np.ones((300, 1)))
    constant = np.ones((300, 2))
    refined = refine(SoftmaxLayer().fit(constant, y), constant, y, epochs=20, learning_rate=0.01)
    np.testing.assert_allclose(refined.predict_proba(constant[:1])[0], np.bincount(y) / 300, atol=0.01)


# ---- stacks ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [(12, 7, 3), (12, 5, 6, 3)])
@pytest.mark.parametrize("sparse", [False, True])
def test_a_network_learns(sizes, sparse):
    X, y = problem(sparse=sparse)
    start = network(sizes, history=[])
    refined = refine(start, X, y, epochs=40, batch_size=32, learning_rate=0.05)
    optimum = refine(SoftmaxLayer().fit(X, y), X, y, epochs=60, learning_rate=0.05).history[-1]["training_loss"]
    assert refined.history[-1]["training_loss"] < optimum + 0.02 < start_loss(refined) - 0.2
    assert mean_loss(refined, X, y) == pytest.approx(min(loss for loss, _ in losses_of(refined)[1:]), rel=1e-12)


def start_loss(refined):
    return refined.history[0]["training_loss"]


@pytest.mark.parametrize("sparse", [False, True])
def test_bits_do_not_depend_on_threads(sparse):
    X, y = problem(600, n_features=120, sparse=sparse)
    layer = SoftmaxLayer().fit(X, y)
    arguments = {"epochs": 2, "batch_size": 500, "dropout": 0.2, "validation": 0.1}
    one = refine(layer, X, y, n_threads=1, **arguments)
    for n_threads in (2, 3, 7):
        many = refine(layer, X, y, n_threads=n_threads, **arguments)
        assert_same(one, many)
        assert losses_of(one) == losses_of(many)


def test_the_seed_decides():
    X, y = problem()
    runs = [refine(network(), X, y, epochs=2, dropout=0.3, seed=seed) for seed in (1, 1, 2)]
    assert_same(*runs[:2])
    assert losses_of(runs[1]) != losses_of(runs[2])


def test_soften_halves_hidden_logits_of_a_counted_start_only():
    X, y = problem()
    seen = []

    def first_step(model):
        arguments = {"epochs": 1, "batch_size": 300, "learning_rate": 0.0}
        refine(model, X, y, callback=lambda epoch: seen.append(epoch.model().parameters), soften=0.5, **arguments)

    first_step(network())
    first_step(network(history=[]))
    for name, value in network().parameters.items():
        np.testing.assert_array_equal(seen[0][name], value * (0.5 if name.startswith("hidden") else 1.0))
        np.testing.assert_array_equal(seen[1][name], value)


def test_frozen_layers_and_step_sizes():
    X, y = problem()
    start = network(history=[])

    def moved(**arguments):
        now = refine(start, X, y, epochs=1, batch_size=300, **arguments).parameters
        return {name: np.abs(now[name] - value).max() for name, value in start.parameters.items()}

    names = list(start.parameters)
    assert all(step > 0 for step in moved().values())
    assert [moved(freeze="hidden0")[name] > 0 for name in names] == [False, False, True]
    assert [moved(freeze=["hidden0.bias", "output"])[name] > 0 for name in names] == [True, False, False]
    assert set(moved(freeze=names).values()) == {0.0}
    rates = moved(learning_rate={"hidden0": 0.01, "hidden0.bias": 0.02})
    # The first step of Adam is the step size.
    np.testing.assert_allclose([rates[name] for name in names], [0.01, 0.02, 0.003], rtol=1e-3)


def test_the_step_size_decays_to_zero():
    X, y = problem()
    seen = []
    refine(network(), X, y, epochs=4, batch_size=50, learning_rate=0.1, callback=seen.append)
    expected = [0.05 * (1 + np.cos(np.pi * (6 * epoch - 1) / 24)) for epoch in (1, 2, 3, 4)]
    np.testing.assert_allclose([epoch.learning_rate for epoch in seen], expected, rtol=1e-12)
    assert [epoch.step for epoch in seen] == [6, 12, 18, 24]
    assert seen[-1].learning_rate < 0.001


@pytest.mark.parametrize("sparse", [False, True])
def test_dropout_zeroes_and_scales(sparse):
    X = np.ones((1000, 20), np.float32)
    examples = Examples(csr_array(X) if sparse else X, np.zeros(1000, np.int32), 1)
    rng = np.random.default_rng(0)
    dropped = examples.take(np.arange(1000), 0.25, rng)[0]
    dropped = dropped.toarray() if sparse else dropped
    assert dropped.dtype == np.float32
    assert set(np.unique(dropped)) == {np.float32(0), np.float32(1 / 0.75)}
    assert (dropped == 0).mean() == pytest.approx(0.25, abs=0.01)
    np.testing.assert_array_equal(X, 1)
    again = examples.take(slice(0, 7))[0]
    np.testing.assert_array_equal(again.toarray() if sparse else again, X[:7])


# ---- what is kept ----------------------------------------------------------------------------------------------------


def test_the_best_epoch_by_validation_is_kept():
    (X, y), other = split_problem()
    models = []
    refined = refine(
        network((30, 20, 3)), X, y, epochs=12, batch_size=8, learning_rate=0.3, validation=other,
        callback=lambda epoch: models.append(epoch.model()) and None,
    )  # fmt: skip
    validation = [loss for _, loss in losses_of(refined)]
    best = int(np.argmin(validation[1:]))
    assert 0 < best + 1 < 12  # otherwise this tests nothing
    assert_same(refined, models[best])
    assert mean_loss(refined, *other) == pytest.approx(validation[best + 1], rel=1e-12)


def test_patience_ends_it():
    (X, y), other = split_problem()
    arguments = {"epochs": 30, "batch_size": 8, "learning_rate": 0.3, "validation": other}
    refined = refine(network((30, 20, 3)), X, y, patience=3, **arguments)
    validation = [loss for _, loss in losses_of(refined)][1:]
    assert len(validation) == int(np.argmin(validation)) + 1 + 3 < 30


def test_a_share_is_held_out():
    X, y = problem()
    X[:, 0] = np.arange(300)  # a row's number
    seen = []

    class Spy(Network):
        def _loss_and_gradients(self, parameters, batch, gradients, n_threads):
            seen.extend(batch[0][:, 0])
            return super()._loss_and_gradients(parameters, batch, gradients, n_threads)

    refined = refine(Spy(network().parameters), X, y, epochs=2, batch_size=64, validation=0.25)
    assert len(set(seen)) == 225
    assert len(seen) == 450
    assert refined.history[-1]["validation_loss"] is not None
    assert refined.history[-1]["validation_loss"] != refined.history[-1]["training_loss"]


@pytest.mark.parametrize("validation", [None, 0.3])
def test_a_refinement_that_only_harms_returns_the_given_model(validation):
    X, y = problem()
    good = refine(SoftmaxLayer().fit(X, y), X, y, epochs=60, batch_size=300, learning_rate=0.02)
    worse = refine(good, X, y, epochs=1, batch_size=1, learning_rate=50.0, validation=validation)
    assert len(worse.history) == 2
    assert worse.history[1]["training_loss"] > worse.history[0]["training_loss"]
    assert_close(worse, good)
    np.testing.assert_allclose(worse.predict_proba(X), good.predict_proba(X), rtol=1e-12)


def test_better_on_validation_but_worse_in_training_returns_the_given_model():
    X, y = problem()

    class Contrary(Network):
        """Climbs instead of descending."""

        def _loss_and_gradients(self, parameters, batch, gradients, n_threads):
            loss = super()._loss_and_gradients(parameters, batch, gradients, n_threads)
            for gradient in gradients.values():
                gradient *= -1
            return loss

    start = Contrary(network().parameters, history=[])
    refined = refine(start, X, y, epochs=2, validation=(X, (y + 1) % 3))
    (training, validation), (last_training, last_validation) = losses_of(refined)[0], losses_of(refined)[-1]
    assert last_validation < validation
    assert last_training > training
    assert_same(refined, start)


def test_the_whole_training_loss_decides_where_the_sample_errs(monkeypatch):
    monkeypatch.setattr(Examples, "sample_rows", 1)
    X, y = problem()
    row = TrainingData(network(), X, y, None, 0, 1).sample[0]
    y[row] = (y[row] + 1) % 3  # the one row of the sample contradicts the others
    good = refine(SoftmaxLayer().fit(X, y), X, y, epochs=60, batch_size=300, learning_rate=0.02)

    class Stubborn(SoftmaxLayer):
        def _loss_and_gradients(self, parameters, batch, gradients, n_threads):
            alone = X[row : row + 1], y[row : row + 1].astype(np.int32)
            return super()._loss_and_gradients(parameters, alone, gradients, n_threads)

    stubborn = Stubborn().fit(X, y)
    stubborn._fitted.put(good._fitted.solution())
    refined = refine(stubborn, X, y, epochs=2, learning_rate=0.1)
    assert refined.history[-1]["training_loss"] < start_loss(refined)  # the sample alone got better
    assert_close(refined, good)


def test_no_epochs_give_back_the_given_model():
    X, y = problem()
    layer = SoftmaxLayer().fit(X, y)
    same = refine(layer, X, y, epochs=0)
    assert_close(same, layer)
    assert [record["epoch"] for record in same.history] == [0]


def test_divergence_is_reported_and_survived():
    X, y = problem(dtype=np.float32)
    layer = SoftmaxLayer().fit(X, y)
    with pytest.warns(RuntimeWarning, match="not finite after epoch 1"), np.errstate(all="ignore"):
        refined = refine(layer, X, y, epochs=3, learning_rate=1e38)
    assert len(refined.history) == 2
    assert_close(refined, layer)


# ---- callback, interruption, checkpoint ------------------------------------------------------------------------------


def test_callback_sees_every_epoch_and_can_stop():
    X, y = problem()
    seen = []

    def callback(epoch):
        seen.append(epoch)
        return epoch.epoch == 2

    refined = refine(network(), X, y, epochs=5, callback=callback, validation=0.2)
    assert [epoch.epoch for epoch in seen] == [1, 2]
    assert [(epoch.training_loss, epoch.validation_loss) for epoch in seen] == losses_of(refined)[1:]
    assert seen[0].seconds <= seen[1].seconds
    assert len(seen[1].model().history) == 3


class Interrupt:
    """A callback that presses Ctrl-C after some epochs."""

    def __init__(self, after):
        self.after = after

    def __call__(self, epoch):
        if epoch.epoch == self.after:
            raise KeyboardInterrupt


def test_an_interruption_returns_the_best_so_far():
    X, y = problem()
    with pytest.warns(RuntimeWarning, match="interrupted after epoch 2 of 5"):
        stopped = refine(network(), X, y, epochs=5, callback=Interrupt(2))
    assert losses_of(stopped) == losses_of(refine(network(), X, y, epochs=5))[:3]
    assert mean_loss(stopped, X, y) == min(loss for loss, _ in losses_of(stopped))


def test_an_interruption_within_the_first_epoch_returns_the_given_model(monkeypatch):
    X, y = problem()

    def interrupt(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(_core, "adam", interrupt)
    with pytest.warns(RuntimeWarning, match="interrupted after epoch 0"):
        stopped = refine(network(), X, y)
    assert_same(stopped, network())


@pytest.mark.parametrize("after", [1, 2, 4])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_resumed_refinement_ends_with_the_same_bits(tmp_path, after, dtype):
    X, y = problem(dtype=dtype)
    arguments = {"epochs": 4, "batch_size": 50, "learning_rate": {"output": 0.1}, "dropout": 0.2, "validation": 0.2}
    whole = refine(network(), X, y, **arguments)
    path = tmp_path / "state"
    with pytest.warns(RuntimeWarning, match="interrupted"):
        refine(network(), X, y, checkpoint=path, callback=Interrupt(after), **arguments)
    epochs = []
    resumed = refine(network(), X, y, checkpoint=path, callback=lambda e: epochs.append(e.epoch), **arguments)
    assert epochs == list(range(after + 1, 5))
    assert losses_of(resumed) == losses_of(whole)
    assert_same(resumed, whole)
    assert_same(refine(network(), X, y, checkpoint=path, **arguments), whole)  # nothing is left to do
    assert [path.name for path in tmp_path.iterdir()] == ["state"]


def test_a_checkpoint_of_a_layer_resumes_too(tmp_path):
    X, y = problem(sparse=True)
    layer = SoftmaxLayer().fit(X, y)
    with pytest.warns(RuntimeWarning, match="interrupted"):
        refine(layer, X, y, epochs=3, checkpoint=tmp_path / "state", callback=Interrupt(1))
    assert_same(refine(layer, X, y, epochs=3, checkpoint=tmp_path / "state"), refine(layer, X, y, epochs=3))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"epochs": 3}, "epochs"),
        ({"batch_size": 64}, "batch_size"),
        ({"learning_rate": 0.1}, "learning_rate"),
        ({"freeze": "output"}, "freeze"),
        ({"validation": 0.2}, "validation"),
        ({"soften": 0.6}, "soften"),
        ({"dropout": 0.1}, "dropout"),
        ({"patience": 1}, "patience"),
        ({"seed": 1}, "seed"),
        ({"model": network(seed=1)}, "model"),
        ({"X": problem(seed=1)[0]}, "X, y"),
        ({"y": np.roll(problem()[1], 1)}, "X, y"),
    ],
)
def test_a_checkpoint_of_other_arguments_is_refused(tmp_path, change, named):
    X, y = problem()
    arguments = {"model": network(), "X": X, "y": y, "epochs": 1, "checkpoint": tmp_path / "state"}
    refine(**arguments)
    with pytest.raises(ValueError, match=rf"with other arguments \([^)]*{named}"):
        refine(**{**arguments, **change})


def test_a_checkpoint_that_is_something_else_is_refused(tmp_path):
    X, y = problem()
    layer = SoftmaxLayer().fit(X, y)
    layer.save(tmp_path / "layer")
    with pytest.raises(ValueError, match="softmax-layer model, not the state of a refinement"):
        refine(layer, X, y, checkpoint=tmp_path / "layer")
    with pytest.raises(OSError, match="no folder"):
        refine(layer, X, y, checkpoint=tmp_path / "absent" / "state")
    refine(layer, X, y, epochs=1, checkpoint=tmp_path / "state")
    with pytest.raises(ValueError, match="unknown kind 'refinement'"):
        saffu.load(tmp_path / "state")


def test_a_diverged_refinement_can_be_saved(tmp_path):
    X, y = problem(dtype=np.float32)
    for model in (saffu.ExplicitNetwork(hidden=(9,)).fit(X, y), saffu.SoftmaxLayer().fit(X, y)):
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            diverged = refine(model, X, y, epochs=2, learning_rate=1e300)
        assert not np.isfinite(diverged.history[-1]["training_loss"])
        diverged.save(tmp_path / "model")
        again = saffu.load(tmp_path / "model")
        assert np.isnan(again.history[-1]["training_loss"])
        assert again.history[:-1] == diverged.history[:-1]


def test_quiet_without_a_terminal(capfd):
    X, y = problem()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        refine(network(), X, y, epochs=2, progress=True)
    assert capfd.readouterr() == ("", "")


# ---- arguments -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"epochs": -1}, ValueError, "epochs must be at least 0"),
        ({"epochs": 1.5}, TypeError, "epochs must be an integer"),
        ({"batch_size": 0}, ValueError, "batch_size must be at least 1"),
        ({"patience": 0}, ValueError, "patience must be at least 1"),
        ({"seed": -1}, ValueError, "seed must be at least 0"),
        ({"soften": 0.0}, ValueError, "soften must be positive"),
        ({"dropout": 1.0}, ValueError, "dropout must be below 1"),
        ({"dropout": -0.1}, ValueError, "dropout must be"),
        ({"learning_rate": -1e-3}, ValueError, "learning_rate must be"),
        ({"learning_rate": np.nan}, ValueError, "learning_rate must be"),
        ({"learning_rate": "fast"}, TypeError, "learning_rate must be a number"),
        ({"learning_rate": {"bias": -1.0}}, ValueError, r"learning_rate\['bias'\] must be"),
        ({"learning_rate": {"hidden0": 0.1}}, ValueError, "learning_rate must name .*weights, bias; got 'hidden0'"),
        ({"freeze": "embedding"}, ValueError, "freeze must name .*weights, bias; got 'embedding'"),
        ({"freeze": ["weights", ""]}, ValueError, "got ''"),
        ({"validation": 0.0}, ValueError, "validation must be positive"),
        ({"validation": 1}, ValueError, "validation must be below 1"),
        ({"validation": 0.999}, ValueError, "leaves none"),
        ({"validation": (1, 2, 3)}, ValueError, "share or a pair"),
        ({"validation": (np.ones((0, 12)), [])}, ValueError, "validation must have at least one row"),
        ({"validation": (np.ones((2, 5)), [0, 1])}, ValueError, "X has 5 features, but .* 12 features"),
        ({"n_threads": 0}, ValueError, "n_threads must be at least 1"),
        ({"momentum": 0.9}, TypeError, "'momentum' is no option of a refinement; there are epochs, batch_size"),
    ],
)
def test_bad_arguments(arguments, error, message):
    X, y = problem()
    with pytest.raises(error, match=message):
        refine(SoftmaxLayer().fit(X, y), X, y, **arguments)


def test_bad_rows():
    X, y = problem()
    layer = SoftmaxLayer().fit(X, y)
    with pytest.raises(ValueError, match=r"X has 11 features, but .* 12 features"):
        refine(layer, X[:, 1:], y)
    with pytest.raises(ValueError, match="one of the 3 classes, got 9 at position 0"):
        refine(layer, X, y + 9)
    with pytest.raises(ValueError, match="one label for each"):
        refine(layer, X, y[1:])
    with pytest.raises(ValueError, match="labels, one for each row"):
        refine(layer, X, reference.one_hot(y, 3))
    with pytest.raises(ValueError, match="at least one row"):
        refine(layer, X[:0], y[:0])
    for bad in (np.nan, np.inf, -1.0):
        wrong = X.copy()
        wrong[3, 4] = bad
        with pytest.raises(ValueError, match="row 3, column 4"):
            refine(layer, wrong, y)
    with pytest.raises(ValueError, match="seen no data"):
        refine(SoftmaxLayer(), X, y)


def test_a_start_of_infinite_loss_is_refused():
    X, y = problem()
    start = network()
    start.parameters["hidden0.bias"][0] = np.nan
    with pytest.raises(ValueError, match="loss of the given model on these rows is not finite"):
        refine(start, X, y)


# ---- random starts ---------------------------------------------------------------------------------------------------


def test_random_starts_have_the_given_spread():
    sizes = (300, 200, 100)
    start = network(sizes)
    glorot, he, normal = (random_start(start, scale=scale).parameters for scale in ("glorot", "he", 0.02))
    for name, shape in (("hidden0.weights", (300, 200)), ("output.weights", (200, 100))):
        limit = np.sqrt(6 / sum(shape))
        assert glorot[name].shape == shape
        assert limit * 0.99 < np.abs(glorot[name]).max() <= limit
        assert glorot[name].std() == pytest.approx(limit / np.sqrt(3), rel=0.02)
        assert he[name].std() == pytest.approx(np.sqrt(2 / shape[0]), rel=0.02)
        assert normal[name].std() == pytest.approx(0.02, rel=0.02)
        assert abs(normal[name].mean()) < 0.001
    assert not glorot["hidden0.bias"].any()
    assert random_start(start).history == []


def test_random_starts_follow_the_seed_and_leave_the_model():
    X, y = problem()
    layer = SoftmaxLayer().fit(X, y)
    weights = layer.weights.copy()
    assert_same(random_start(layer, seed=3), random_start(layer, seed=3))
    assert (random_start(layer, seed=3).weights != random_start(layer, seed=4).weights).any()
    np.testing.assert_array_equal(layer.weights, weights)
    np.testing.assert_array_equal(random_start(layer, scale=0.0).predict_proba(X), np.full((300, 3), 1 / 3))


@pytest.mark.parametrize(
    ("scale", "error", "message"),
    [
        ("xavier", ValueError, "scale must be one of 'glorot', 'he'"),
        (-1.0, ValueError, "scale must be"),
        (None, TypeError, "scale must be a number"),
    ],
)
def test_bad_scales(scale, error, message):
    with pytest.raises(error, match=message):
        random_start(network(), scale=scale)
