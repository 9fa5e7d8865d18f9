"""The transformer against differences, against torch, and as a model of text."""

from __future__ import annotations

import importlib
import sys

import numpy as np
import pytest

import saffu
from helpers.small_transformers import SIX, double, rows, small
from saffu.text import Vocabulary
from saffu.transformer.functional import NOTHING
from saffu.transformer.model import Transformer
from saffu.transformer.scoring import label_losses_of
from saffu.transformer.sequences import windows
from saffu.transformer.sizes import LayerSizes, sizes_of
from saffu.utils.streams import TokenStream

SHAPES = [
    {"activation": "relu"},
    {"activation": "gelu", "causal": False},
    {"layers": 0, "heads": 1, "key": None, "value": None, "mlp": None},
    {"layers": 1, "heads": 3, "key": 1, "value": 5, "mlp": 1, "hidden": 1},
]


def labels_of(ids):
    return np.where(ids == NOTHING, NOTHING, (3 * ids + 1) % 11)


def gradients_of(model, ids, labels):
    batch = model._prepare(ids, labels, 1).take(slice(None))
    gradients = {name: np.full_like(value, np.nan) for name, value in model.arrays.items()}
    return model._loss_and_gradients(model.arrays, batch, gradients, 1), gradients


# ---- gradients -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", SHAPES)
def test_gradients_are_those_of_central_differences(settings):
    model, ids = double(small(**settings)), rows()
    labels = labels_of(ids)
    batch = model._prepare(ids, labels, 1).take(slice(None))
    loss, gradients = gradients_of(model, ids, labels)
    n = (labels != NOTHING).sum()
    assert loss == pytest.approx(label_losses_of(model, model.arrays, batch).sum() / n, rel=1e-12)
    rng = np.random.default_rng(0)
    scratch = {name: np.empty_like(value) for name, value in model.arrays.items()}
    for name, value in model.arrays.items():
        direction = rng.normal(size=value.shape)
        moved = [
            model._loss_and_gradients(model.arrays | {name: value + step * direction}, batch, scratch, 1)
            for step in (1e-5, -1e-5)
        ]
        expected = (moved[0] - moved[1]) / 2e-5
        assert np.vdot(gradients[name], direction) == pytest.approx(expected, rel=1e-6, abs=1e-9), name


@pytest.mark.parametrize("settings", SHAPES)
def test_torch_agrees(settings):
    torch = pytest.importorskip("torch")
    from saffu.torch import Transformer as Module

    model, ids = small(**settings), rows()
    module = Module(model.arrays, activation=model.activation, causal=model.causal)
    expected = module(torch.tensor(ids))
    found, known = model.logits(ids), ids != NOTHING
    scale = np.abs(found).max()
    np.testing.assert_allclose(found[known], expected.detach().numpy()[known], rtol=0, atol=1e-5 * scale)
    labels = labels_of(ids)
    loss = torch.nn.functional.cross_entropy(expected[torch.tensor(known)], torch.tensor(labels[known]))
    loss.backward()
    own, gradients = gradients_of(model, ids, labels)
    assert own == pytest.approx(loss.item(), rel=1e-5)
    by_torch = {name: value.grad.numpy() for name, value in _named(module).items()}
    for name, gradient in gradients.items():
        largest = max(np.abs(by_torch[name]).max(), 1e-6)
        np.testing.assert_allclose(gradient, by_torch[name], rtol=0, atol=1e-4 * largest, err_msg=name)


def test_to_torch_and_back(tmp_path):
    """With what it has grown by and its vocabulary; also after a step, which leaves the first model as it was."""
    torch = pytest.importorskip("torch")
    from saffu.torch import from_module, to_module

    model, ids = saffu.grow.mlp(small(activation="gelu"), 12), rows()
    model.vocabulary = Vocabulary(list("abcdefghi"))
    known = ids != NOTHING
    before = model.logits(ids)
    module = to_module(model)
    np.testing.assert_allclose(module(torch.tensor(ids)).detach().numpy()[known], before[known], rtol=1e-4, atol=1e-5)
    module(torch.tensor(ids))[torch.tensor(known)].square().mean().backward()
    torch.optim.SGD(module.parameters(), 0.1).step()
    back = from_module(module)
    assert type(back) is Transformer
    assert (back.activation, back.causal, back.growth) == (model.activation, model.causal, model.growth)
    assert back.vocabulary == model.vocabulary
    found = module(torch.tensor(ids)).detach().numpy()
    np.testing.assert_allclose(back.logits(ids)[known], found[known], rtol=1e-4, atol=1e-5)
    assert np.abs(found - before)[known].max() > 1e-2
    np.testing.assert_array_equal(model.logits(ids), before)
    back.save(tmp_path / "model")
    np.testing.assert_array_equal(saffu.load(tmp_path / "model").logits(ids), back.logits(ids))
    assert from_module(to_module(model, dtype=torch.float64)).dtype == np.float64


def test_arrays_may_be_shared_with_torch():
    torch = pytest.importorskip("torch")
    from saffu.torch import to_module

    model = small()
    for copied in (True, False):
        module = to_module(model, copy=copied)
        for name, value in _named(module).items():
            assert np.shares_memory(value.detach().numpy(), model.arrays[name]) == (not copied), name
    with torch.no_grad():
        module.output[0, 0] = 9.0
    assert model.arrays["output"][0, 0] == 9.0


def _named(module):
    """Parameters by the names of the arrays."""
    found = {}
    for name, value in module.named_parameters():
        first, _, rest = name.partition(".")
        found[name if first != "layers" else "layer" + rest] = value
    return found


def test_without_torch_the_remedy_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    for name in [name for name in sys.modules if name.startswith("saffu.") and "torch" in name]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(ImportError, match=r"pip install 'saffu\[torch\]'"):
        importlib.import_module("saffu.torch")


def test_torch_modules_grow():
    torch = pytest.importorskip("torch")
    from saffu import grow
    from saffu.torch import Transformer as Module

    model, ids = double(small()), rows()
    module = Module(model.arrays)
    expected = module(torch.tensor(ids)).detach().numpy()
    for kind, step in SIX.items():
        module, model = step(module, seed=7), step(model, seed=7)
        assert [record["kind"] for record in module.growth][-1] == kind
        for name, value in module.arrays.items():
            np.testing.assert_array_equal(value, model.arrays[name])
    logits = module(torch.tensor(ids)).detach().numpy()
    known = ids != NOTHING
    np.testing.assert_allclose(logits[known], expected[known], rtol=0, atol=1e-10 * np.abs(expected).max())
    with pytest.raises(ValueError, match="a model can grow only"):
        grow.hidden(module, 2)


# ---- text ------------------------------------------------------------------------------------------------------------


def test_windows_of_a_text():
    ids, labels = windows(TokenStream.of(np.arange(7), [0, 2]), 3, start=9)
    assert ids.tolist() == [[9, 0, -1], [9, 2, 3], [4, 5, -1]]
    assert labels.tolist() == [[0, 1, -1], [2, 3, 4], [5, 6, -1]]
    assert windows(TokenStream.of([]), 3, 9)[0].shape == (0, 3)


def test_every_token_is_scored_after_those_before_it():
    model = small()
    ids, documents = np.array([1, 2, 3, 4, 5, 0, 7, 8, 9, 10, 1, 2]), [0, 3]
    found = model.log_prob(ids, documents=documents)
    for t, (start, begin) in enumerate([(0, 0)] * 3 + [(3, 3)] * 8 + [(3, 11)]):
        before = [11 if begin == start else ids[begin - 1], *ids[begin:t]]
        logits = model.logits([before])[0, -1].astype(np.float64)
        assert found[t] == pytest.approx(logits[ids[t]] - np.log(np.exp(logits).sum()), rel=1e-4, abs=1e-5)
    assert model.perplexity(ids, documents=documents) == pytest.approx(np.exp(-found.mean()))


def test_what_follows_is_not_seen_unless_asked_for():
    ids = rows(n=1)[:, :4] % 11
    other = ids.copy()
    other[0, 3] = (ids[0, 3] + 1) % 11
    causal, both = small(), small(causal=False)
    np.testing.assert_array_equal(causal.logits(ids)[0, :3], causal.logits(other)[0, :3])
    assert not np.allclose(both.logits(ids)[0, :3], both.logits(other)[0, :3])


def test_what_fills_a_row_changes_nothing():
    for model in (small(), small(causal=False)):
        short, filled = np.array([[1, 2, 3]]), np.array([[1, 2, 3, NOTHING, NOTHING]])
        np.testing.assert_allclose(model.logits(short), model.logits(filled)[:, :3], rtol=1e-4, atol=1e-5)


def test_refinement_learns_a_text():
    text = np.tile([0, 1, 2, 3, 4, 5, 6], 60)
    model = Transformer(7, hidden=12, layers=1, heads=2, positions=16)
    refined = model.refine(text, epochs=12, learning_rate=1e-2, batch_tokens=64, validation=(text[:70], None))
    assert refined.perplexity(text) < 1.5 < model.perplexity(text)
    assert np.log(refined.perplexity(text[:70])) == pytest.approx(
        min(record["validation_loss"] for record in refined.history), rel=1e-5
    )
    start = saffu.random_start(model)
    assert (start.arrays["layer0.mlp_gain"] == 1).all()
    assert not start.arrays["layer0.expand_bias"].any()


def test_fit_trains_in_place_by_one_pass():
    text, documents = np.tile([0, 1, 2, 3, 4, 5, 6], 60), [0, 70]
    model, twin = (Transformer(7, hidden=12, layers=1, heads=2, positions=16) for _ in range(2))
    assert model.fit(text, documents=documents, vocab_size=7) is model
    expected = twin.refine(text, documents=documents)
    for name, value in expected.arrays.items():
        np.testing.assert_array_equal(model.arrays[name], value)
    assert [record["epoch"] for record in model.history] == [0, 1]
    before = model.perplexity(text)
    assert model.fit(text).perplexity(text) < before


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_whole_rows_hold_what_is_scored(dtype):
    """Rows of all tokens against the scores of the tokens that are there, and against the next token's."""
    model = small() if dtype == np.float32 else double(small())
    ids, documents = np.array([1, 2, 3, 4, 5, 0, 7, 8, 9, 10, 1, 2]), [0, 3]
    tolerance = 1e-5 if dtype == np.float32 else 1e-12
    positions = np.array([12, 0, 11, 3, 3, 7])
    rows = model.log_probs(ids, positions, documents=documents)
    assert (rows.dtype, rows.shape) == (np.float64, (6, 11))
    np.testing.assert_allclose(np.exp(rows).sum(axis=1), 1, rtol=1e-12)
    scored = model.log_prob(ids, documents=documents)
    np.testing.assert_allclose(rows[np.arange(1, 6), ids[positions[1:]]], scored[positions[1:]], atol=tolerance)
    following = [model.log_prob([*ids, token], documents=documents)[-1] for token in range(11)]
    np.testing.assert_allclose(rows[0], following, atol=tolerance)
    assert model.log_probs([], [0]).shape == (1, 11)
    assert model.log_probs(ids, []).shape == (0, 11)


def test_what_follows_a_document_and_what_is_drawn():
    """One token at a time, through more than one window of eight places."""
    model = small()
    ids = [3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9, 3, 2]
    for n in (0, 1, 7, 8, 9, 17):
        np.testing.assert_allclose(
            np.log(model.distribution(ids[:n])), model.log_probs(ids[:n], [n])[0], rtol=1e-4, atol=1e-5
        )
    drawn = list(model.generate(ids[:3], 20, temperature=0))
    for n, token in enumerate(drawn):
        assert token == int(model.distribution([*ids[:3], *drawn[:n]]).argmax())
    first, again, other = (list(model.generate([], 20, seed=seed, exclude=[4])) for seed in (1, 1, 2))
    assert first == again != other
    assert 4 not in first


def test_repr_is_a_call_that_makes_the_same_model():
    for model in (Transformer(5, hidden=8, layers=2, heads=(1, 2), seed=3), Transformer(5, layers=0, n_threads=2)):
        again = eval(repr(model), {"Transformer": Transformer})
        assert repr(again) == repr(model)
        assert again.sizes == model.sizes
        for name, value in model.arrays.items():
            np.testing.assert_array_equal(again.arrays[name], value)


def test_files_keep_everything(tmp_path):
    model = saffu.grow.add_heads(small(activation="gelu", causal=False, seed=4), 1)
    model.vocabulary = Vocabulary([f"w{number}" for number in range(9)])
    model.save(tmp_path / "model")
    again = saffu.load(tmp_path / "model")
    assert type(again) is Transformer
    assert again.summary() == model.summary()
    assert again.vocabulary == model.vocabulary
    assert repr(again) == repr(model)
    for name, value in model.arrays.items():
        np.testing.assert_array_equal(again.arrays[name], value)
    with pytest.raises(ValueError, match="vocabulary must have 11 types"):
        model.vocabulary = Vocabulary(["w"])


def test_files_of_before_have_neither_seed_nor_vocabulary():
    model = small(seed=4)
    arrays, metadata = model._to_checkpoint()
    del metadata["seed"]
    again = Transformer._from_checkpoint(arrays, metadata)
    assert (again.seed, again.vocabulary) == (0, None)
    assert again.sizes == model.sizes


def test_copies_are_of_the_subclass():
    class Mine(Transformer):
        pass

    model = Mine(5, hidden=4, layers=1, positions=6)
    for other in (model.refine([0, 1, 2]), model.grow(mlp=20), saffu.grow.hidden(model, 6), saffu.random_start(model)):
        assert type(other) is Mine


def test_sizes_are_read_off_the_arrays():
    assert sizes_of(small().arrays) == [LayerSizes(2, 3, 2, 5), LayerSizes(1, 2, 4, 7)]
    assert Transformer(5, hidden=8, layers=1, heads=2).sizes == [LayerSizes(2, 4, 4, 32)]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: Transformer(0), ValueError, "vocab_size must be at least 1"),
        (lambda: Transformer(5, heads=(1, 2, 3)), ValueError, "heads must be a number or one for each of 2 layers"),
        (lambda: Transformer(5, activation="tanh"), ValueError, "activation must be one of 'relu', 'gelu'"),
        (lambda: small().logits([[0] * 9]), ValueError, "ids must have at most 8 columns"),
        (lambda: small().logits([[12]]), ValueError, r"ids must be in \[0, 11\] or -1"),
        (lambda: small().logits([1, 2]), TypeError, "ids must be a matrix of integers"),
        (lambda: small(causal=False).refine([1, 2]), ValueError, "a model that is not causal"),
        (lambda: small(causal=False).log_prob([1, 2]), ValueError, "a model that is not causal"),
        (lambda: small(causal=False).log_probs([1, 2], [0]), ValueError, "a model that is not causal"),
        (lambda: small(causal=False).distribution([1, 2]), ValueError, "a model that is not causal"),
        (lambda: small().fit([1, 2], vocab_size=12), ValueError, "vocab_size must be 11, as the model has, got 12"),
        (lambda: small().fit([]), ValueError, "at least one"),
        (lambda: small().log_probs([1, 2], [3]), ValueError, r"positions must be in \[0, 2\], got 3 to 3"),
        (lambda: small().log_probs([1, 2], [0.5]), TypeError, "positions must be a vector of integers"),
        (lambda: small().distribution([11]), ValueError, "context must be below 11"),
        (lambda: small().update([1, 2]), NotImplementedError, "Transformer cannot update: refine it"),
        (lambda: small().prime(), NotImplementedError, "Transformer cannot prime"),
        (lambda: small().perplexity([]), ValueError, "at least one token"),
        (lambda: saffu.refine(small(), [[1, -1, 2]], [[1, 1, 1]]), ValueError, "only at the ends of rows"),
        (lambda: saffu.refine(small(), [[1, 2]], [[1]]), ValueError, "y must have the shape of X"),
        (lambda: saffu.refine(small(), [[1, 2]], [[-1, -1]]), ValueError, "at least one label"),
        (lambda: saffu.refine(small(), [[1]], [[1]], dropout=0.5), ValueError, "dropout must be 0"),
        (lambda: Transformer.from_arrays({"output": np.ones((2, 2))}), ValueError, "'embedding' is missing"),
        (
            lambda: Transformer.from_arrays(small().arrays | {"output": np.full((6, 11), np.nan)}),
            ValueError,
            "array 'output' must be finite",
        ),
    ],
)
def test_misuse_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()
