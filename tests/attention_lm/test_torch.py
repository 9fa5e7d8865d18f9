"""SaffuLM in torch: the same numbers for every kind of unit, gradients, and the way back."""

import numpy as np
import pytest

import saffu
from helpers.made_up import N_TYPES, as_text, documents_with_habits
from saffu.attention_lm.units import EMBEDDINGS

torch = pytest.importorskip("torch")
saffu_torch = pytest.importorskip("saffu.torch")

V = N_TYPES
SMALL = {"bits": 8, "hidden": 6, "block": 4, "radius": 3, "span": 64, "n_threads": 1}
KINDS = {
    "radial": {"contexts": ("radial",)},
    "block": {"contexts": ("block",), "heads": 2},
    "document": {"contexts": ("document",)},
    "everything": {"contexts": ("block", "radial", "document"), "heads": 2, "layers": 3},
    "residual": {"contexts": ("radial", "document")},
    "classes": {"contexts": ("radial",), "words": 5},
}


@pytest.fixture(scope="module")
def models():
    text = as_text(documents_with_habits(900, 0, back=3, up_to=(0.5, 0.7)))

    def solved(kind):
        base = {"residual": saffu.ExplicitLM(2, order=3, windows=(20,), induction=30)}
        more = base if kind in ("residual", "classes") else {}
        model = saffu.SaffuLM(**SMALL, **KINDS[kind], **more).fit(**text, vocab_size=V)
        rng = np.random.default_rng(1)  # what is solved is too sure to tell mistakes
        noise = {name: value + rng.normal(0, 0.5, value.shape) for name, value in model._fitted.parameters.items()}
        return model._with_parameters(noise, [])

    return {kind: solved(kind) for kind in KINDS}


def documents(length=150, n=2):
    """Longer than the span and two segments."""
    return np.random.default_rng(5).integers(0, V, (n, length))


def expected_of(model, ids):
    """Log-probabilities of what follows each place, (B, T, V)."""
    return np.array([model.log_probs(row, np.arange(1, row.size + 1)) for row in ids])


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_the_same_function(models, kind):
    model, ids = models[kind], documents()
    expected = expected_of(model, ids)
    for dtype in (None, torch.float64):
        module = saffu_torch.to_module(model, dtype=dtype)
        assert isinstance(module, saffu_torch.SaffuLM)
        found = torch.log_softmax(module(torch.tensor(ids)), -1).detach()
        assert found.dtype == (dtype or torch.float32)
        np.testing.assert_allclose(found.exp(), np.exp(expected), atol=1e-5)
        np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("kind", ["everything", "residual"])
def test_starts_and_ends_of_rows(models, kind):
    """V stands before a document, -1 behind its end; short rows are what they are alone."""
    model, ids = models[kind], documents(9)
    module = saffu_torch.to_module(model, dtype=torch.float64)
    expected = torch.log_softmax(module(torch.tensor(ids)), -1).detach()
    rows = np.full((2, 12), -1)
    rows[0, :6], rows[1, 0], rows[1, 1:10] = ids[0, :6], V, ids[1]
    found = torch.log_softmax(module(torch.tensor(rows)), -1).detach()
    np.testing.assert_allclose(found[0, :6], expected[0, :6], atol=1e-10)
    np.testing.assert_allclose(found[1, 1:10], expected[1], atol=1e-10)
    np.testing.assert_allclose(found[1, 0].exp(), model.distribution([]), atol=1e-5)
    assert module(torch.empty(3, 0, dtype=torch.long)).shape == (3, 0, V)


@pytest.mark.parametrize("kind", ["radial", "block", "document", "everything"])
def test_gradients_are_those_of_the_refiner(models, kind):
    model, ids = models[kind], documents(70, 1)[0]
    module = saffu_torch.to_module(model, dtype=torch.float64)
    row = torch.tensor(np.append(V, ids[:-1])[None])
    found = torch.nn.functional.cross_entropy(module(row)[0], torch.tensor(ids))
    found.backward()
    parameters = model._parameters(1.0, np.float32)
    gradients = {name: np.zeros_like(value) for name, value in parameters.items()}
    text = model._prepare(ids, None, 1)
    loss = model._loss_and_gradients(parameters, text.take(np.arange(len(text))), gradients, 1)
    assert loss == pytest.approx(found.item(), rel=1e-5)
    by_name = {EMBEDDINGS: module.embeddings, "output.weights": module.output, "output.bias": module.output_bias}
    for unit in module.units:
        by_name |= {f"{unit.unit.name}.{part}": value for part, value in unit.named_parameters()}
    assert by_name.keys() == gradients.keys()
    for name, gradient in gradients.items():
        np.testing.assert_allclose(by_name[name].grad, gradient, rtol=2e-3, atol=2e-6, err_msg=name)


@pytest.mark.parametrize("kind", ["everything", "classes"])
def test_there_and_back(models, kind, tmp_path):
    """Also after a step, which leaves the first model as it was."""
    model, ids = models[kind], documents(20)
    before = model.log_prob(ids[0])
    module = saffu_torch.to_module(model)
    np.testing.assert_array_equal(saffu_torch.from_module(module).log_prob(ids[0]), before)
    optimiser = torch.optim.SGD(module.parameters(), 1.0)
    torch.nn.functional.cross_entropy(module(torch.tensor(ids))[0, :-1], torch.tensor(ids[0, 1:])).backward()
    optimiser.step()
    back = saffu_torch.from_module(module)
    assert isinstance(back, saffu.SaffuLM)
    expected = torch.log_softmax(module(torch.tensor(ids)), -1).detach()
    np.testing.assert_allclose(expected_of(back, ids), expected, atol=1e-4)
    assert np.abs(back.log_prob(ids[0]) - before).max() > 1e-2
    np.testing.assert_array_equal(model.log_prob(ids[0]), before)
    back.save(tmp_path / "model")
    np.testing.assert_array_equal(saffu.load(tmp_path / "model").log_prob(ids[0]), back.log_prob(ids[0]))


def test_parameters_may_stay_where_the_model_has_them(models):
    model = models["radial"]
    module = saffu_torch.to_module(model, copy=False)
    assert np.shares_memory(module.output.detach().numpy(), model._fitted.parameters["output.weights"])
