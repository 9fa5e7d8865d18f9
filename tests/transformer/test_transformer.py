"""The transformer against differences, against torch, and as a model of text."""

from __future__ import annotations

import importlib
import sys

import numpy as np
import pytest

import saffu
from helpers.small_transformers import SIX, double, rows, small
from saffu.transformer.functional import NOTHING
from saffu.transformer.model import Transformer
from saffu.transformer.sequences import windows
from saffu.transformer.sizes import LayerSizes, sizes_of

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
    assert loss == pytest.approx(model._label_losses(model.arrays, batch).sum() / n, rel=1e-12)
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
    module = Module(model.arrays, model.activation, model.causal)
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


def _named(module):
    """Parameters by the names of the arrays."""
    found = {}
    for name, value in module.named_parameters():
        first, _, rest = name.partition(".")
        found[name if first != "layers" else "layer" + rest] = value
    return found


def test_without_torch_the_remedy_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    for name in ("saffu.torch", "saffu.transformer.torch_module"):
        monkeypatch.delitem(sys.modules, name, raising=False)
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
        module, model = step(module, rng=7), step(model, rng=7)
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
    ids, labels = windows(np.arange(7, dtype=np.int32), np.array([0, 2]), 3, start=9)
    assert ids.tolist() == [[9, 0, -1], [9, 2, 3], [4, 5, -1]]
    assert labels.tolist() == [[0, 1, -1], [2, 3, 4], [5, 6, -1]]
    assert windows(np.empty(0, np.int32), np.zeros(1, np.int64), 3, 9)[0].shape == (0, 3)


def test_every_token_is_scored_after_those_before_it():
    model = small()
    ids, documents = np.array([1, 2, 3, 4, 5, 0, 7, 8, 9, 10, 1, 2]), [0, 3]
    found = model.log_prob(ids, documents)
    for t, (start, begin) in enumerate([(0, 0)] * 3 + [(3, 3)] * 8 + [(3, 11)]):
        before = [11 if begin == start else ids[begin - 1], *ids[begin:t]]
        logits = model.logits([before])[0, -1].astype(np.float64)
        assert found[t] == pytest.approx(logits[ids[t]] - np.log(np.exp(logits).sum()), rel=1e-4, abs=1e-5)
    assert model.perplexity(ids, documents) == pytest.approx(np.exp(-found.mean()))


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
    refined = model.refine(text, 12, learning_rate=1e-2, batch_tokens=64, validation=(text[:70], None))
    assert refined.perplexity(text) < 1.5 < model.perplexity(text)
    assert np.log(refined.perplexity(text[:70])) == pytest.approx(
        min(record["validation_loss"] for record in refined.history), rel=1e-5
    )
    start = saffu.random_start(model)
    assert (start.arrays["layer0.mlp_gain"] == 1).all()
    assert not start.arrays["layer0.expand_bias"].any()


def test_files_keep_everything(tmp_path):
    model = saffu.grow.add_heads(small(activation="gelu", causal=False), 1)
    model.save(tmp_path / "model")
    again = saffu.load(tmp_path / "model")
    assert type(again) is Transformer
    assert again.summary() == model.summary()
    for name, value in model.arrays.items():
        np.testing.assert_array_equal(again.arrays[name], value)


def test_sizes_are_read_off_the_arrays():
    assert sizes_of(small().arrays) == [LayerSizes(2, 3, 2, 5), LayerSizes(1, 2, 4, 7)]
    assert Transformer(5, 8, 1, heads=2).sizes == [LayerSizes(2, 4, 4, 32)]


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
def test_misuse_is_told(call, error, message):
    with pytest.raises(error, match=message):
        call()
