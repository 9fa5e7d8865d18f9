"""Fitting MNIST beside naive Bayes, logistic regression and a softmax layer trained by Adam: time to reach each NLL."""

import time
import warnings

import pytest

from bench.data import datasets
from bench.measure.clock import median_seconds, timed
from bench.measure.scores import score_of
from bench.peers.classifiers import fit_saffu
from saffu.utils.threads import available_cpus

LEVELS = (0.6, 0.52, 0.4, 0.3)  # test NLL in nats


@pytest.fixture(scope="module")
def mnist(data_folder):
    return datasets.mnist(data_folder)


def time_to_reach(curve):
    """Seconds at which each level of NLL is first reached on a list of (seconds, NLL); None if never."""
    return {str(level): next((seconds for seconds, nll in curve if nll <= level), None) for level in LEVELS}


def test_count_and_weigh(benchmark, mnist):
    from sklearn.naive_bayes import MultinomialNB

    bayes = [timed(lambda: MultinomialNB(alpha=0.1).fit(mnist.train, mnist.y_train))[1] for _ in range(5)]
    benchmark.pedantic(fit_saffu("mean-norm"), args=(mnist.train, mnist.y_train), rounds=7, warmup_rounds=1)
    benchmark.extra_info.update(bytes=mnist.train.nbytes, threads=available_cpus())
    if benchmark.stats:
        benchmark.extra_info["ratio_to_MultinomialNB"] = median_seconds(bayes).wall / benchmark.stats["median"]


@pytest.mark.parametrize("complements", [False, True], ids=["x", "x and 1-x"])
def test_saffu_primed(benchmark, mnist, complements):
    split = datasets.with_complements(mnist) if complements else mnist
    layer = benchmark.pedantic(fit_saffu("primed"), args=(split.train, split.y_train), rounds=3, warmup_rounds=1)
    nll = score_of(layer.predict_log_proba(split.test), split.y_test).nll
    benchmark.extra_info.update(nll=nll, scalars=layer.scalars)
    if benchmark.stats:
        benchmark.extra_info["seconds_to_nll"] = time_to_reach([(benchmark.stats["median"], nll)])


def test_multinomial_naive_bayes(benchmark, mnist):
    from sklearn.naive_bayes import MultinomialNB

    model = benchmark.pedantic(MultinomialNB(alpha=0.1).fit, args=(mnist.train, mnist.y_train), rounds=3)
    benchmark.extra_info["nll"] = score_of(model.predict_log_proba(mnist.test), mnist.y_test).nll


def test_logistic_regression(benchmark, mnist):
    from sklearn.linear_model import LogisticRegression

    def run():
        curve, start = [], time.perf_counter()
        model = LogisticRegression(max_iter=2, warm_start=True)
        for _ in range(5):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # it is stopped early on purpose
                model.fit(mnist.train, mnist.y_train)
            curve.append((time.perf_counter() - start, score_of(model.predict_log_proba(mnist.test), mnist.y_test).nll))
            model.max_iter *= 2
        return curve

    curve = benchmark.pedantic(run, rounds=1)
    benchmark.extra_info.update(nll=curve[-1][1], seconds_to_nll=time_to_reach(curve))


def test_torch_adam(benchmark, mnist):
    torch = pytest.importorskip("torch")
    features, labels = torch.from_numpy(mnist.train), torch.from_numpy(mnist.y_train)
    test, test_labels = torch.from_numpy(mnist.test), torch.from_numpy(mnist.y_test)
    loss = torch.nn.functional.cross_entropy

    def run(epochs=3, batch=128):
        torch.manual_seed(0)
        layer = torch.nn.Linear(784, 10)
        optimiser = torch.optim.Adam(layer.parameters(), lr=1e-3)
        curve, spent = [], 0.0
        for _ in range(epochs):
            for i, rows in enumerate(torch.randperm(len(labels)).split(batch)):
                start = time.perf_counter()
                optimiser.zero_grad()
                loss(layer(features[rows]), labels[rows]).backward()
                optimiser.step()
                spent += time.perf_counter() - start
                if i % 10 == 0:  # the time of looking is not counted
                    with torch.no_grad():
                        curve.append((spent, float(loss(layer(test), test_labels))))
        return curve

    curve = benchmark.pedantic(run, rounds=1)
    benchmark.extra_info.update(nll=curve[-1][1], seconds_to_nll=time_to_reach(curve))
