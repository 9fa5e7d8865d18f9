"""The neural language models of the benchmarks: their size, what they score, that they learn, and their table."""

import gzip
import itertools
from contextlib import contextmanager

import numpy as np
import pytest

from bench.data import corpora
from saffu.text import LINE_END_ID, Chunk, Vocabulary

LINES = ["the cat sat on the mat", "a dog ran to the cat", "the dog sat", "a cat ran on a mat to the dog"]


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch")


class Ticks:
    """A stopwatch that counts how often it is read, so that a second is a hundred steps everywhere."""

    seconds = 0.0

    @contextmanager
    def paused(self):
        self.seconds += 0.01
        yield self.seconds


@pytest.fixture
def peers(torch, monkeypatch):
    """The models with short windows, so that short streams have many; float32 and one thread wherever it runs."""
    from bench.peers import torch_language_models as module
    from bench.peers import torch_softmax, torch_training

    torch.set_num_threads(1)
    monkeypatch.setattr(torch_training, "available_cpus", lambda: 1)
    for name, value in {"CONTEXT": 8, "UNROLLED": 4, "BATCH_TOKENS": 64, "SCORED_ROWS": 3}.items():
        monkeypatch.setattr(module, name, value)
    monkeypatch.setattr(torch_training, "Stopwatch", Ticks)
    monkeypatch.setattr(torch_softmax, "product_dtype", lambda: torch.float32)
    return module


@pytest.fixture
def softmax(peers):
    from bench.peers import torch_softmax

    return torch_softmax


@pytest.fixture
def training(peers):
    from bench.peers import torch_training

    return torch_training


def models(peers, vocab_size=11, **settings):
    return [peers.Transformer(vocab_size, 8, **settings), peers.LSTM(vocab_size, 6, layers=2, **settings)]


def unruly(torch, model):
    """The model with large random weights, whose predictions depend on all that they see."""
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.7)
    return model.eval()


# ---- sizes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("vocab_size", [1_000, 6_000, 20_000])
@pytest.mark.parametrize("per_type", [20, 61, 137])
def test_budget_is_met(torch, vocab_size, per_type):
    from bench.peers import torch_language_models as peers

    budget = per_type * vocab_size
    for build in (peers.transformer_of, peers.lstm_of, lambda *sizes: peers.lstm_of(*sizes, layers=2)):
        model = build(budget, vocab_size)
        # counted from outside: every tensor that is stored, each once
        counted = sum(tensor.numel() for tensor in {id(t): t for t in model.state_dict().values()}.values())
        assert counted == model.n_parameters
        assert counted == pytest.approx(budget, rel=0.03)


def test_a_budget_too_small_is_refused(torch):
    from bench.peers import torch_language_models as peers

    for build in (peers.transformer_of, peers.lstm_of):
        with pytest.raises(ValueError, match="n_parameters must suit a vocabulary"):
            build(1_000, 1_000)


# ---- the softmax -----------------------------------------------------------------------------------------------------


def test_loss_and_gradient_are_those_of_autograd(torch, peers, softmax, monkeypatch):
    monkeypatch.setattr(softmax.TiedSoftmax, "ROWS", 5)
    torch.manual_seed(0)
    hidden, embedding, bias = (torch.randn(*shape, requires_grad=True) for shape in ((13, 4), (9, 4), (9,)))
    targets = torch.randint(0, 9, (13,))
    logits = torch.nn.functional.linear(hidden, embedding, bias)
    expected = torch.nn.functional.cross_entropy(logits, targets)
    found = softmax.TiedSoftmax.apply(hidden, embedding, bias, targets)
    torch.testing.assert_close(found, expected)
    parts = (hidden, embedding, bias)
    for mine, theirs in zip(
        torch.autograd.grad(2 * found, parts), torch.autograd.grad(2 * expected, parts), strict=True
    ):
        torch.testing.assert_close(mine, theirs)


def test_bfloat16_is_close(torch, peers, softmax, monkeypatch):
    torch.manual_seed(0)
    parts = [torch.randn(*shape, requires_grad=True) for shape in ((40, 8), (30, 8), (30,))]
    targets = torch.randint(0, 30, (40,))
    gradients = []
    for dtype in (torch.float32, torch.bfloat16):
        monkeypatch.setattr(softmax, "product_dtype", lambda dtype=dtype: dtype)
        gradients.append(torch.autograd.grad(softmax.TiedSoftmax.apply(*parts, targets), parts))
    for exact, rough in zip(*gradients, strict=True):
        assert float((rough - exact).norm() / exact.norm()) < 0.01


# ---- what is scored --------------------------------------------------------------------------------------------------

STREAMS = {
    "one document": (41, []),
    "documents": (41, [0, 3, 4, 17, 40]),
    "as long as a window": (8, [0]),
    "shorter than a window": (5, [2]),
    "one token": (1, []),
    "a whole number of steps": (24, [0]),
    "a token more": (25, [0, 9]),
}


@pytest.mark.parametrize("case", STREAMS)
def test_every_token_is_scored_once(torch, peers, case):
    size, documents = STREAMS[case]
    stream = peers.Stream(np.random.default_rng(0).integers(0, 11, size), documents)
    for model in models(peers):
        positions = torch.cat([at for _, at in model.scored(stream)])
        np.testing.assert_array_equal(np.sort(positions), np.arange(size))


@pytest.mark.parametrize("case", STREAMS)
def test_scores_are_those_of_one_token_at_a_time(torch, peers, training, case):
    size, documents = STREAMS[case]
    ids = np.random.default_rng(1).integers(0, 11, size)
    starts = np.union1d([0], documents).astype(int)
    torch.manual_seed(0)
    for model in models(peers):
        unruly(torch, model)
        found = training.log_prob(model, peers.Stream(ids, documents))
        for t in range(size):
            start = starts[starts <= t].max()
            first = max(start, 0 if size <= 8 or t < 8 else min((t - 8) // 4 * 4 + 4, size - 8))
            if isinstance(model, peers.LSTM):
                first = start
            assert t == start or t - first >= min(4, t - start)  # half a context at least
            assert found[t] == pytest.approx(alone(torch, peers, model, ids, start, first, t), abs=1e-4)


def alone(torch, peers, model, ids, start, first, t):
    """Log-probability of token t given its document from ``first`` on, with nothing else in the computation."""
    before = LINE_END_ID if first == start else ids[first - 1]
    inputs = torch.tensor([[before, *ids[first:t]]])
    x = model.tokens(inputs)
    with torch.no_grad():
        if isinstance(model, peers.LSTM):
            hidden = model.lstm(x)[0][0, -1]
        else:
            length = inputs.shape[1]
            visible = torch.ones(length, length).tril().bool()[None, None]
            x = x + model.positions(torch.arange(length))
            for block in model.blocks:
                x = block(x, visible)
            hidden = model.norm(x)[0, -1]
        logits = model.tokens.weight @ hidden + model.bias
        return float(torch.log_softmax(logits, 0)[ids[t]])


def test_no_context_reaches_over_the_start_of_a_document(torch, peers, training):
    ids = np.random.default_rng(2).integers(0, 11, 30)
    other = np.concatenate([(ids[:13] + 1) % 11, ids[13:]])
    for model in models(peers):
        unruly(torch, model)
        one, two = (training.log_prob(model, peers.Stream(text, [0, 13])) for text in (ids, other))
        np.testing.assert_allclose(one[13:], two[13:], atol=1e-5)
        assert not np.allclose(one[:13], two[:13], atol=0.1)


@pytest.mark.parametrize("case", STREAMS)
def test_training_reads_the_whole_stream(torch, peers, case):
    size, documents = STREAMS[case]
    stream = peers.Stream(np.arange(size) % 11, documents)
    for model in models(peers):
        batches = model.batches(stream, np.random.default_rng(0))
        seen = torch.cat([targets for _, targets in itertools.islice(batches, 40)])
        counts = np.bincount(seen, minlength=11)
        assert (counts > 0).sum() == min(size, 11)
        assert counts.sum() >= 40 * min(size, 8) - 40 * 8


# ---- training --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def text():
    """Repeated lines in documents of four, as ids."""
    rng = np.random.default_rng(0)
    lines = [[*LINES[i].split(), "\n"] for i in rng.integers(0, len(LINES), 400)]
    vocabulary = Vocabulary.build(lines)
    ids = [vocabulary.encode(line) for line in lines]
    starts = np.cumsum([0, *map(len, ids)])[:-1:4]
    return vocabulary, np.concatenate(ids), starts


@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_training_lowers_perplexity_and_keeps_the_best(torch, peers, training, text, dropout):
    vocabulary, ids, starts = text
    stream, valid = peers.Stream(ids[:2000], starts[starts < 2000]), peers.Stream(ids[2000:])
    for model in models(peers, len(vocabulary), dropout=dropout):
        model.start_from_unigrams(stream.targets)
        before = training.perplexity(model, valid)
        run = training.train(model, stream, valid, seconds=2.0, learning_rate=2e-2)
        assert run.perplexity < 0.7 * before
        assert len(run.curve) == 10
        assert run.perplexity == min(value for _, value in run.curve)
        assert training.perplexity(run.model, valid) == pytest.approx(run.perplexity, rel=1e-6)
        assert run.tokens_per_second > 0


def test_bias_start_is_the_unigram(torch, peers, training, text):
    vocabulary, ids, _ = text
    model = models(peers, len(vocabulary))[1]
    torch.nn.init.zeros_(model.tokens.weight)
    stream = peers.Stream(ids)
    model.start_from_unigrams(stream.targets)
    counts = np.bincount(ids, minlength=len(vocabulary)) + 1
    np.testing.assert_allclose(training.log_prob(model, stream), np.log(counts / counts.sum())[ids], atol=1e-5)


def test_best_learning_rate_is_not_a_useless_one(torch, peers, training, text):
    vocabulary, ids, _ = text
    stream = peers.Stream(ids)
    tuned = training.best_learning_rate(
        lambda: peers.LSTM(len(vocabulary), 8), stream, stream, 0.2, rates=(1e-9, 1e-2, 1e-8)
    )
    assert tuned.learning_rate == 1e-2


# ---- parts of corpora and the table ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder of data with a small made-up Brown."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "brown").mkdir()
    rng = np.random.default_rng(3)
    for part, n_documents in (("train", 40), ("valid", 6), ("test", 6)):
        documents = ["\n".join(LINES[i] for i in rng.integers(0, len(LINES), 6)) for _ in range(n_documents)]
        path = folder / "brown" / f"{part}.txt.gz"
        path.write_bytes(gzip.compress(("\n\n".join(documents) + "\n").encode(), mtime=0))
    return folder


def test_beginning_ends_with_a_line(folder):
    whole, part = corpora.parts(folder, "brown"), corpora.parts(folder, "brown", 100)
    assert 85 < part.train.ids.size <= 100
    assert part.train.ids[-1] == LINE_END_ID
    assert whole.vocabulary.decode(whole.train.ids)[: part.train.ids.size] == part.vocabulary.decode(part.train.ids)
    assert corpora.beginning(whole.train, whole.train.ids.size) is whole.train
    np.testing.assert_array_equal(part.train.starts, whole.train.starts[whole.train.starts < 100])


def test_vocabulary_is_that_of_the_beginning():
    everything = Vocabulary(["common", "late", "rare", "mid", "twice"])
    ids = np.array([5, 2, 2, 6, 5, 2, 5, 1, 6, 4, 2, 1], np.int32)
    vocabulary, renumbered = corpora.frequent(everything, ids, 3)
    assert vocabulary.types == ["<unk>", "<eos>", "common", "mid"]
    assert vocabulary.decode(renumbered)[:4] == ["mid", "common", "common", "<unk>"]
    assert vocabulary == Vocabulary.build(
        [["\n" if kind == "<eos>" else kind for kind in everything.decode(ids)]],
        min_count=3,
    )


def test_a_beginning_without_a_line_end_is_refused():
    text = Chunk(np.full(9, 2, np.int32), np.zeros(1, np.int64), 18)
    with pytest.raises(ValueError, match="tokens must reach over the first line"):
        corpora.beginning(text, 5)


def test_table(torch, peers, folder, tmp_path, capsys, monkeypatch):
    from bench.experiments import neural_peers

    monkeypatch.setenv("SAFFU_DATA", str(folder))
    out = tmp_path / "made" / "table.md"
    arguments = ["--parameters", "3000", "--seconds", "0.2", "--multiples", "1", "3", "--tune-seconds", "0.1"]
    neural_peers.main([*arguments, "--rates", "3e-3", "1e-2", "--tokens", "500", "--out", str(out)])
    table = out.read_text(encoding="utf-8")
    assert capsys.readouterr().out.endswith(table)
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines() if line.startswith("|")]
    assert [(cells[0], cells[2]) for cells in lines[2:]] == [
        ("transformer", "0.2"),
        ("transformer", "0.6"),
        ("LSTM", "0.2"),
        ("LSTM", "0.6"),
    ]
    for cells in lines[2:]:
        assert int(cells[1].replace(",", "")) == pytest.approx(3000, rel=0.03)
        assert 1 < float(cells[3]) < 15
        assert 1 < float(cells[4]) < 15


@pytest.mark.parametrize(("epochs", "expected"), [(0.5, 0.0), (3.0, 0.2), (7.0, 0.2), (100.0, 0.4)])
def test_dropout_grows_with_the_epochs(training, epochs, expected):
    assert training.sensible_dropout(epochs) == expected
