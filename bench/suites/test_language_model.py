"""The language model of Brown: building, priming and scoring on one core, beside numpy and a transformer."""

import numpy as np
import pytest

from bench.data import corpora
from bench.measure.clock import record, timed
from bench.peers import dense_language_model
from bench.report.requirements import installed
from saffu import _core
from saffu.ngram_lm import HeldOutLogits

AGREEMENT = 3e-6  # nats: rows are float32
BATCH, N_BATCHES = 256, 32
D_MODEL = 128  # of the transformer


@pytest.fixture(scope="module")
def brown(data_folder):
    return corpora.brown(data_folder)


@pytest.fixture(scope="module")
def model(brown):
    """Fitted on one thread: every figure of this file but the transformer's is per core."""
    return dense_language_model.fit(brown, n_threads=1)


@pytest.mark.parametrize("priming", ["kneser-ney", "leave-one-out", "k-fold"])
def test_fit(benchmark, brown, priming):
    model, seconds = record(
        benchmark, lambda: dense_language_model.fit(brown, n_threads=1, priming=priming), 1, threads=1
    )
    n_tokens = brown.train.ids.size
    benchmark.extra_info.update(
        tokens_per_second=n_tokens / seconds.wall,
        **{f"{verb}_tokens_per_second": n_tokens / spent for verb, spent in model.seconds.items()},
        bytes_weights=model.summary()["bytes_weights"],
        perplexity=model.perplexity(brown.test.ids, documents=brown.test.starts),
    )


def test_scoring(benchmark, brown, model):
    twin, text = dense_language_model.DenseTwin(model, brown.test), brown.test
    positions = dense_language_model.spread_positions(text, 400)
    found, _ = record(benchmark, lambda: model.log_prob(text.ids, documents=text.starts), 3, threads=1)
    np.testing.assert_allclose(found[positions], twin.log_prob(positions), rtol=0, atol=AGREEMENT)
    per_token = dense_language_model.scoring_race(model, text)
    benchmark.extra_info.update(
        tokens_per_second=1 / per_token["saffu"].cpu,
        times_numpy_cpu=per_token["numpy"].cpu / per_token["saffu"].cpu,
        perplexity=float(np.exp(-found.mean())),
    )


@pytest.fixture(scope="module")
def held_out(brown, model):
    """Folds read as new text is, on one thread."""
    return HeldOutLogits(model, brown.train.ids, documents=brown.train.starts, min_count=corpora.MIN_COUNT, n_threads=1)


@pytest.mark.parametrize("order", ["in order", "shuffled"])
def test_held_out_logits(benchmark, held_out, order):
    """Batches of one fold, as a residual is trained on: runs of the text, or positions from anywhere in it."""
    own, out = held_out.positions(0), np.zeros((BATCH, held_out.vocab_size), np.float32)
    places = np.random.default_rng(0).permutation(own) if order == "shuffled" else own
    batches = places[: N_BATCHES * BATCH].reshape(N_BATCHES, BATCH)
    held_out.text(0)

    def score():
        for batch in batches:
            held_out.logits(0, batch, out=out)

    _, seconds = record(benchmark, score, 5, threads=1)
    own_log_prob = out[np.arange(BATCH), held_out.tokens(0)[batches[-1]]]
    np.testing.assert_allclose(own_log_prob, held_out.log_prob(0, batches[-1]), rtol=0, atol=1e-5)
    benchmark.extra_info.update(positions_per_second=batches.size / seconds.cpu)


def test_held_out_fold(benchmark, held_out):
    """Building the model of a fold, and the perplexity of the whole training text, each part by its own fold."""
    unused = iter(range(1, held_out.n_folds))  # a fold is built when it is first asked for
    text, seconds = record(benchmark, lambda: held_out.text(next(unused)), 3, threads=1)
    log_prob = np.concatenate([held_out.log_prob(fold) for fold in range(held_out.n_folds)])
    benchmark.extra_info.update(
        bytes_a_fold=text.n_bytes, perplexity=float(np.exp(-log_prob.mean())), cpu_seconds=seconds.cpu
    )


def test_cross_entropy_backward(benchmark, brown):
    """The gradient of the output layer's logits, in place."""
    V = len(brown.vocabulary)
    Z = np.random.default_rng(0).normal(0, 3, (BATCH, V)).astype(np.float32)
    labels = np.arange(BATCH, dtype=np.int32)
    _, seconds = record(benchmark, lambda: _core.cross_entropy_backward(Z, labels, None, 1), 20, threads=1)
    assert np.isfinite(Z).all()
    benchmark.extra_info.update(rows_per_second=BATCH / seconds.cpu, bytes_per_second=2 * Z.nbytes / seconds.cpu)


@pytest.fixture(scope="module")
def opponent(brown, data_folder):
    """Facts of the explicit model on every core, and the learning rate that suits the transformer in as much time."""
    if not installed("torch"):
        pytest.skip("torch is not installed; pip install 'saffu[bench]'")
    from bench.peers import torch_training
    from bench.peers.torch_language_models import Stream, Transformer

    explicit, seconds = timed(lambda: dense_language_model.fit(brown))
    valid = corpora.beginning(corpora.brown(data_folder, "valid").test, 20_000)
    text = {
        "stream": Stream(brown.train.ids, brown.train.starts),
        "valid": Stream(valid.ids, valid.starts),
    }
    facts = {
        "explicit_seconds": seconds.wall,
        "explicit_perplexity": explicit.perplexity(brown.test.ids, documents=brown.test.starts),
        "learning_rate": torch_training.best_learning_rate(
            lambda: Transformer(len(brown.vocabulary), D_MODEL), seconds=seconds.wall, **text
        ).learning_rate,
    }
    return facts, text


@pytest.mark.parametrize("times", [1, 10])
def test_transformer_for_as_long(benchmark, brown, opponent, times):
    from bench.peers import torch_training
    from bench.peers.torch_language_models import Stream, Transformer

    facts, text = opponent
    budget, rate = times * facts["explicit_seconds"], facts["learning_rate"]
    start = Transformer(len(brown.vocabulary), D_MODEL)
    trained, _ = record(
        benchmark, lambda: torch_training.train(start, seconds=budget, learning_rate=rate, **text), 1, times_fit=times
    )
    test = Stream(brown.test.ids, brown.test.starts)
    benchmark.extra_info.update(facts, perplexity=torch_training.perplexity(trained.model, test))
