"""The language model of Brown: building, priming and scoring on one core, beside numpy and a transformer."""

import numpy as np
import pytest

from bench import corpora, language_model
from bench.measure import installed, record, timed

AGREEMENT = 1e-9  # nats
D_MODEL = 128  # of the transformer


@pytest.fixture(scope="module")
def brown(data_folder):
    return corpora.brown(data_folder)


@pytest.fixture(scope="module")
def model(brown):
    """Fitted on one thread: every figure of this file but the transformer's is per core."""
    return language_model.fit(brown, n_threads=1)


@pytest.mark.parametrize("priming", ["kneser-ney", "leave-one-out", "k-fold"])
def test_fit(benchmark, brown, priming):
    model, seconds = record(benchmark, lambda: language_model.fit(brown, 1, priming=priming), 1, threads=1)
    n_tokens = brown.train.ids.size
    benchmark.extra_info.update(
        tokens_per_second=n_tokens / seconds.wall,
        **{f"{verb}_tokens_per_second": n_tokens / spent for verb, spent in model.seconds.items()},
        bytes_weights=model.summary()["bytes_weights"],
        perplexity=model.perplexity(brown.test.ids, brown.test.documents),
    )


def test_scoring(benchmark, brown, model):
    twin, text = language_model.DenseTwin(model, brown.test), brown.test
    positions = language_model.spread_positions(text, 400)
    found, _ = record(benchmark, lambda: model.log_prob(text.ids, text.documents), 3, threads=1)
    np.testing.assert_allclose(found[positions], twin.log_prob(positions), rtol=0, atol=AGREEMENT)
    per_token = language_model.scoring_race(model, text)
    benchmark.extra_info.update(
        tokens_per_second=1 / per_token["saffu"].cpu,
        times_numpy_cpu=per_token["numpy"].cpu / per_token["saffu"].cpu,
        perplexity=float(np.exp(-found.mean())),
    )


@pytest.fixture(scope="module")
def opponent(brown, data_folder):
    """Facts of the explicit model on every core, and the learning rate that suits the transformer in as much time."""
    if not installed("torch"):
        pytest.skip("torch is not installed; pip install 'saffu[bench]'")
    from bench import torch_language_models as peers

    explicit, seconds = timed(lambda: language_model.fit(brown))
    valid = corpora.beginning(corpora.brown(data_folder, "valid").test, 20_000)
    text = {
        "stream": peers.Stream(brown.train.ids, brown.train.documents),
        "valid": peers.Stream(valid.ids, valid.documents),
    }
    facts = {
        "explicit_seconds": seconds.wall,
        "explicit_perplexity": explicit.perplexity(brown.test.ids, brown.test.documents),
        "learning_rate": peers.best_learning_rate(
            lambda: peers.Transformer(len(brown.vocabulary), D_MODEL), seconds=seconds.wall, **text
        ).learning_rate,
    }
    return facts, text


@pytest.mark.parametrize("times", [1, 10])
def test_transformer_for_as_long(benchmark, brown, opponent, times):
    from bench import torch_language_models as peers

    facts, text = opponent
    budget, rate = times * facts["explicit_seconds"], facts["learning_rate"]
    start = peers.Transformer(len(brown.vocabulary), D_MODEL)
    trained, _ = record(
        benchmark, lambda: peers.train(start, seconds=budget, learning_rate=rate, **text), 1, times_fit=times
    )
    test = peers.Stream(brown.test.ids, brown.test.documents)
    benchmark.extra_info.update(facts, perplexity=peers.perplexity(trained.model, test))
