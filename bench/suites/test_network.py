"""The explicit network on MNIST, and an epoch of the refiner beside the same architecture in torch."""

import numpy as np
import pytest
from scipy.sparse import csr_array

import saffu
from bench.data import datasets
from bench.measure.clock import race, record
from bench.measure.scores import score

HIDDEN, BATCH = 500, 128


@pytest.fixture(scope="module")
def split(data_folder):
    return datasets.mnist(data_folder)


@pytest.mark.parametrize("hidden", [(300,), (1000,)], ids=str)
def test_explicit(benchmark, split, hidden):
    fit = lambda: saffu.ExplicitNetwork(hidden=hidden).fit(split.train, split.y_train)  # noqa: E731
    network, _ = record(benchmark, fit, 1)
    nll, accuracy = score(network, split.test, split.y_test)
    benchmark.extra_info.update(accuracy=accuracy, nll=nll, parameters=network.n_parameters)


@pytest.mark.parametrize("hidden", [30, 300], ids=str)
def test_mlp_classifier(benchmark, split, hidden):
    MLPClassifier = pytest.importorskip("sklearn.neural_network").MLPClassifier

    def fit():
        return MLPClassifier((hidden,), batch_size=BATCH, max_iter=3, random_state=0).fit(split.train, split.y_train)

    with pytest.warns(match="Maximum iterations"):
        network, _ = record(benchmark, fit, 1)
    nll, accuracy = score(network, split.test, split.y_test)
    benchmark.extra_info.update(accuracy=accuracy, nll=nll, epochs=3)


@pytest.mark.parametrize("form", ["dense", "CSR"])
def test_an_epoch(benchmark, split, form):
    """Every product, activation and step of Adam of one epoch, and the losses before and after it."""
    pytest.importorskip("torch")
    from bench.peers import torch_networks

    n_features, n_classes = split.train.shape[1], 10
    network = saffu.ExplicitNetwork(hidden=(HIDDEN,), rounds=1, corrections=0).fit(split.train, split.y_train)
    features = split.train if form == "dense" else csr_array(split.train)
    build = lambda: torch_networks.SoftmaxNetwork(n_features, HIDDEN, n_classes, "glorot")  # noqa: E731
    one_row = split._replace(test=split.test[:1], y_test=split.y_test[:1])  # scoring is not measured

    def refine():
        return saffu.refine(network, features, split.y_train, epochs=1, batch_size=BATCH)

    rivals = {"saffu": refine, "torch": lambda: torch_networks.train(build, one_row, 3e-3, 1, BATCH)}
    seconds = race(rivals, repeats=3)
    flops = 4 * split.y_train.size * n_features * HIDDEN
    ratio = seconds["torch"].wall / seconds["saffu"].wall
    benchmark.extra_info.update(ratio_to_torch=ratio, seconds=seconds["saffu"].wall, flops_if_dense=flops)
    refined, _ = record(benchmark, refine, 1)
    assert np.isfinite(refined.history[-1]["training_loss"])
