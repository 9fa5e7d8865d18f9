"""Classifiers in torch: the same numbers, gradients, and heads that are solved by counting."""

import copy

import numpy as np
import pytest
from scipy.sparse import csr_array

import saffu
from helpers.rows import problem

torch = pytest.importorskip("torch")
saffu_torch = pytest.importorskip("saffu.torch")


def held_out_loss(head, X, y):
    with torch.no_grad():
        return float(torch.nn.functional.cross_entropy(head(torch.tensor(X, dtype=torch.float32)), torch.tensor(y)))


def log_probabilities(module, X):
    return torch.log_softmax(module(X), 1)  # which leaves log-probabilities as they are


def solved(X, y, n_classes=4, **settings):
    return saffu.SoftmaxLayer(**settings).fit(X, y, n_classes=n_classes)


def head(n_features=30, n_classes=4, **options):
    torch.manual_seed(0)
    return torch.nn.Linear(n_features, n_classes, **options)


# ---- warm start ------------------------------------------------------------------------------------------------------


def sparse_tensors(X):
    dense = torch.tensor(X)
    return {"coo": dense.to_sparse(), "csr": dense.to_sparse_csr(), "csc": dense.to_sparse_csc()}


@pytest.mark.filterwarnings("ignore:Sparse")
@pytest.mark.parametrize("form", ["array", "tensor", "scipy", "coo", "csr", "csc", "list"])
def test_a_head_becomes_the_solved_layer(form):
    X, y = problem()
    forms = {"array": X, "tensor": torch.tensor(X), "scipy": csr_array(X), "list": X.tolist(), **sparse_tensors(X)}
    made = saffu_torch.warm_start_(head(), forms[form], torch.tensor(y), smoothing=0.3)
    layer = solved(X, y, smoothing=0.3)
    with torch.no_grad():
        found = torch.log_softmax(made(torch.tensor(X, dtype=torch.float32)), 1)
    np.testing.assert_allclose(found, layer.predict_log_proba(X), atol=2e-5)
    assert abs(made.weight.detach().double().mean(0)).max() < 1e-6


def test_it_is_written_into_the_head():
    X, y = problem()
    module = torch.nn.Sequential(head(dtype=torch.float64))
    parameters = list(module.parameters())
    assert saffu_torch.warm_start_(module[0], X, y) is module[0]
    assert all(before is after for before, after in zip(parameters, module.parameters(), strict=True))
    assert module[0].weight.dtype == torch.float64
    assert module[0].weight.requires_grad
    np.testing.assert_allclose(
        torch.log_softmax(module(torch.tensor(X)), 1).detach(), solved(X, y).predict_log_proba(X), atol=1e-12
    )


def test_soft_targets():
    X, y = problem()
    soft = np.full((y.size, 4), 0.1)
    soft[np.arange(y.size), y] = 0.7
    made = saffu_torch.warm_start_(head(dtype=torch.float64), X, torch.tensor(soft))
    np.testing.assert_allclose(
        torch.softmax(made(torch.tensor(X)), 1).detach(), solved(X, soft, None).predict_proba(X), atol=1e-12
    )


def test_features_of_a_body():
    """Batch by batch, in evaluation mode and without gradients; the mode of each part comes back."""
    torch.manual_seed(1)
    body = torch.nn.Sequential(torch.nn.Linear(30, 16), torch.nn.Dropout(0.5), torch.nn.ReLU()).double()
    body[0].eval()
    X, y = problem(n=9000, n_features=30)
    made = saffu_torch.warm_start_(head(16, dtype=torch.float64), torch.tensor(X), torch.tensor(y), body=body)
    assert [part.training for part in body.modules()] == [True, False, True, True]
    assert body[0].weight.grad is None
    with torch.no_grad():
        features = body.eval()(torch.tensor(X))
        np.testing.assert_allclose(
            torch.softmax(made(features), 1), solved(features.numpy(), y).predict_proba(features.numpy()), atol=1e-10
        )


def test_rows_and_places_of_sequences():
    """Labels that torch's losses ignore are left out."""
    X, y = problem()
    ignored = y.copy()
    ignored[::3] = -100
    kept = ignored >= 0
    made = saffu_torch.warm_start_(head(), X.reshape(20, 10, 30), ignored.reshape(20, 10))
    expected = saffu_torch.warm_start_(head(), X[kept], y[kept])
    torch.testing.assert_close(made.weight, expected.weight)
    torch.testing.assert_close(made.bias, expected.bias)


def test_classes_without_rows_are_unlikely():
    X, y = problem()
    made = saffu_torch.warm_start_(head(n_classes=7, dtype=torch.float64), X, y + 2)
    p = torch.softmax(made(torch.tensor(X)), 1).detach().numpy()
    seen = p[:, 2:6] / p[:, 2:6].sum(1, keepdims=True)
    np.testing.assert_allclose(seen, solved(X, y).predict_proba(X), atol=1e-10)
    assert p[:, [0, 1, 6]].mean() < 1e-3
    np.testing.assert_allclose(p[:, 0], p[:, 6])


def test_without_a_bias_the_shares_are_in_the_weights():
    X, y = problem(n=150)
    assert np.ptp(X.sum(1)) == 0
    rare = np.r_[np.flatnonzero(y == 0)[:5], np.flatnonzero(y != 0)]
    made = saffu_torch.warm_start_(head(bias=False, dtype=torch.float64), X[rare], y[rare])
    np.testing.assert_allclose(
        torch.softmax(made(torch.tensor(X)), 1).detach(), solved(X[rare], y[rare]).predict_proba(X), atol=1e-12
    )


@pytest.mark.parametrize("batches", [False, True])
@pytest.mark.parametrize("sparse", [False, True])
def test_corrections_bring_it_nearer(sparse, batches):
    """It is the hidden layer of a network with a unit for each class, whatever the rows come in."""
    X, y = problem(n=5000 if batches else 600, alike=0.6)
    X = np.hstack([X, *[X[:, :5]] * 4])  # some features are there five times, which counting takes for five
    given = csr_array(X) if sparse else X
    plain = held_out_loss(saffu_torch.warm_start_(head(50), given, y), X, y)
    body = (lambda rows: rows) if batches and not sparse else None
    for complement in (False, True):
        made = saffu_torch.warm_start_(head(50), given, y, corrections=8, complement=complement, body=body)
        assert held_out_loss(made, X, y) < plain - 0.01
        network = saffu.ExplicitNetwork(4, rounds=1, corrections=8, complement=complement).fit(given, y)
        expected = X @ network.weights[0] + network.bias[0]
        expected -= expected.mean(1, keepdims=True)
        found = made(torch.tensor(X, dtype=torch.float32)).detach().numpy()
        scale = np.vdot(found, expected) / np.vdot(expected, expected)
        np.testing.assert_allclose(found - found.mean(1, keepdims=True), scale * expected, atol=1e-3)
        log_p = torch.log_softmax(torch.tensor(found), 1).numpy()
        divergence = network.predict_proba(X) * (network.predict_log_proba(X) - log_p)
        assert divergence.sum(1).mean() < 0.02


def test_corrections_need_labels_of_every_class():
    X, y = problem()
    soft = np.full((y.size, 4), 0.25)
    for more in ({"corrections": 2}, {"complement": True}):
        for made, targets in ((head(n_classes=5), y), (head(), soft)):
            with pytest.raises(ValueError, match="y must hold labels of every class"):
                saffu_torch.warm_start_(made, X, targets, **more)


def test_training_goes_on_from_there():
    X, y = problem(n=600, alike=0.6)
    warm, cold = saffu_torch.warm_start_(head(), X[:400], y[:400]), head()
    assert held_out_loss(warm, X[400:], y[400:]) < 0.8 * held_out_loss(cold, X[400:], y[400:])
    before = held_out_loss(warm, X[:400], y[:400])
    optimiser = torch.optim.SGD(warm.parameters(), 1e-3)
    for _ in range(20):
        optimiser.zero_grad()
        loss = torch.nn.functional.cross_entropy(
            warm(torch.tensor(X[:400], dtype=torch.float32)), torch.tensor(y[:400])
        )
        loss.backward()
        optimiser.step()
    assert held_out_loss(warm, X[:400], y[:400]) < before


@pytest.mark.parametrize(
    ("X", "y", "message"),
    [
        (np.ones((4, 3)), [0, 1, 0, 1], "X must have 2 features"),
        (np.ones((3, 2)), [0, 1, 0, 1], "X must have a row for each of the 4"),
        (np.ones((5, 2)), [0, 1, 0, 1], "X must have a row for each of the 4"),
        (-np.ones((4, 2)), [0, 1, 0, 1], "X"),
        (np.ones((4, 2)), [0, 1, 0, 3], r"y must be in \[0, 3\)"),
        (np.ones((4, 2)), [0, 1, -1, 2], r"y must be in \[0, 3\)"),
        (np.ones((4, 2)), [-100] * 4, "y must hold at least one label"),
        (np.ones((4, 2)), [0.5] * 4, "y must be class numbers"),
    ],
)
def test_what_does_not_fit(X, y, message):
    made = head(2, 3)
    before = made.weight.detach().clone()
    with pytest.raises((ValueError, TypeError), match=message):
        saffu_torch.warm_start_(made, X, y)
    assert torch.equal(made.weight, before)


def test_only_linear_heads():
    with pytest.raises(TypeError, match=r"linear must be a torch.nn.Linear, got Conv2d"):
        saffu_torch.warm_start_(torch.nn.Conv2d(2, 2, 1), np.ones((2, 2)), [0, 1])


# ---- modules ---------------------------------------------------------------------------------------------------------


def fitted(kind, dtype=np.float64):
    X, y = problem(alike=0.4)
    labels = np.array(["ham", "spam", "eggs", "beans"])[y]
    if kind == "layer":
        return saffu.SoftmaxLayer().fit(X.astype(dtype), labels), X.astype(dtype), y
    hidden = (8,) if kind == "network" else (8, 6)
    return saffu.ExplicitNetwork(hidden=hidden, rounds=3, complement=False).fit(X.astype(dtype), labels), X, y


KINDS = pytest.mark.parametrize("kind", ["layer", "network", "deep network"])


@KINDS
@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.filterwarnings("ignore:Sparse")
def test_a_module_is_the_same_function(kind, sparse):
    model, X, _ = fitted(kind)
    rows = torch.tensor(X).to_sparse_csr() if sparse else torch.tensor(X)
    for dtype, tolerance in ((None, 1e-5), (torch.float64, 1e-10)):
        module = saffu_torch.to_module(model, dtype=dtype)
        assert type(module).__name__ == type(model).__name__
        found = log_probabilities(module, rows).detach()
        assert found.dtype == (dtype or torch.float32)
        np.testing.assert_allclose(found.exp(), model.predict_proba(X), atol=tolerance)
        np.testing.assert_allclose(found, model.predict_log_proba(X), rtol=0, atol=20 * tolerance)


@KINDS
def test_gradients_are_those_of_the_refiner(kind):
    model, X, y = fitted(kind)
    module = saffu_torch.to_module(model, dtype=torch.float64)
    names = np.array(["ham", "spam", "eggs", "beans"])[y]
    numbers = np.searchsorted(model.classes_, names)
    examples = model._prepare(X, names, 1)
    parameters = model._parameters(1.0, np.float64)
    gradients = {name: np.empty_like(value) for name, value in parameters.items()}
    loss = model._loss_and_gradients(parameters, examples.take(np.arange(len(y))), gradients, 1)
    found = torch.nn.functional.nll_loss(log_probabilities(module, torch.tensor(X)), torch.tensor(numbers))
    found.backward()
    assert loss == pytest.approx(found.item(), rel=1e-10)
    if kind == "layer":
        by_name = {"weights": module.weight.grad.T, "bias": module.bias.grad}
    else:
        by_name = {"output.weights": module.output.grad}
        for depth, linear in enumerate(module.hidden):
            by_name |= {f"hidden{depth}.weights": linear.weight.grad.T, f"hidden{depth}.bias": linear.bias.grad}
    assert by_name.keys() == gradients.keys()
    for name, gradient in gradients.items():
        np.testing.assert_allclose(by_name[name], gradient, rtol=1e-8, atol=1e-12, err_msg=name)


@KINDS
def test_there_and_back(kind, tmp_path):
    """Also after steps of training, which leave the first model as it was."""
    model, X, y = fitted(kind)
    expected = model.predict_proba(X)
    module = saffu_torch.to_module(model, dtype=torch.float64)
    back = saffu_torch.from_module(module)
    assert type(back) is type(model)
    np.testing.assert_allclose(back.predict_proba(X), expected, atol=1e-12)
    optimiser = torch.optim.Adam(module.parameters(), 0.01)
    for _ in range(3):
        optimiser.zero_grad()
        torch.nn.functional.nll_loss(log_probabilities(module, torch.tensor(X)), torch.tensor(y)).backward()
        optimiser.step()
    after = saffu_torch.from_module(module)
    found = log_probabilities(module, torch.tensor(X)).detach().exp()
    np.testing.assert_allclose(after.predict_proba(X), found, atol=1e-10)
    assert np.abs(found.numpy() - expected).max() > 1e-3
    for unchanged in (model, back):
        np.testing.assert_allclose(unchanged.predict_proba(X), expected, atol=1e-12)
    after.save(tmp_path / "model")
    np.testing.assert_array_equal(saffu.load(tmp_path / "model").predict(X), after.predict(X))
    with pytest.raises(ValueError, match="refined"):
        after.partial_fit(X, model.classes_[y])


@KINDS
def test_modules_can_be_saved_and_copied(kind, tmp_path):
    model, X, _ = fitted(kind)
    module = saffu_torch.to_module(model)
    torch.save(module.state_dict(), tmp_path / "state")
    other = saffu_torch.to_module(model)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    other.load_state_dict(torch.load(tmp_path / "state"))
    assert torch.equal(other(torch.tensor(X)), module(torch.tensor(X)))
    assert torch.equal(copy.deepcopy(module)(torch.tensor(X)), module(torch.tensor(X)))


def test_parameters_may_stay_where_the_network_has_them():
    network = fitted("network", np.float32)[0]
    module = saffu_torch.to_module(network, copy=False)
    assert np.shares_memory(module.hidden[0].weight.detach().numpy(), network.weights[0])
    assert not np.shares_memory(saffu_torch.to_module(network).hidden[0].weight.detach().numpy(), network.weights[0])


def test_what_is_no_model_and_no_module():
    with pytest.raises(TypeError, match="model must be one of SoftmaxLayer, "):
        saffu_torch.to_module(saffu.BitCipher(2))
    with pytest.raises(ValueError, match="has seen no data"):
        saffu_torch.to_module(saffu.SoftmaxLayer())
    with pytest.raises(TypeError, match="module must be one that to_module makes, got Linear"):
        saffu_torch.from_module(torch.nn.Linear(2, 2))
