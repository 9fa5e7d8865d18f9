"""Encoders of patches and convolutional networks in torch: the same numbers and gradients, there and back."""

import numpy as np
import pytest

import saffu
from saffu import ExplicitConvNet, PatchEncoder
from saffu.patches.contrast import KINDS
from saffu.patches.heads import KINDS as HEADS

torch = pytest.importorskip("torch")
saffu_torch = pytest.importorskip("saffu.torch")

RNG = np.random.default_rng(0)
SHAPE = (6, 7, 2)
X = RNG.random((40, *SHAPE)).astype(np.float32)
Y = np.arange(40) % 3
for image, label in zip(X, Y, strict=True):
    image[2 * label, :, label % 2] += 1
X[0, :4], X = 0.5, X.reshape(40, -1)  # some patches are of one value, whose deviation is zero
NAMES = np.array(["high", "low", "middle"])


@pytest.fixture(scope="module")
def nets():
    settings = {"patch": (3, 2), "units": 6, "pool": 2, "rounds": 4, "hidden": (5,), "normalize": "whiten"}
    return {head: ExplicitConvNet(SHAPE, head=head, **settings).fit(X, NAMES[Y]) for head in HEADS}


@pytest.mark.parametrize("normalize", KINDS)
@pytest.mark.parametrize("stride", [1, 2])
def test_an_encoder_is_the_same_function(normalize, stride):
    encoder = PatchEncoder(SHAPE, patch=(3, 2), units=5, pool=2, stride=stride, normalize=normalize).fit(X)
    module = saffu_torch.to_module(encoder)
    assert type(module).__name__ == "PatchEncoder"
    found = module(torch.tensor(X))
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found.detach(), encoder.transform(X), atol=1e-5, rtol=1e-5)
    exact = saffu_torch.to_module(encoder, dtype=torch.float64)(torch.tensor(X, dtype=torch.float64)).detach()
    core, matrix = encoder.core_parts(np.dtype(np.float64))
    expected = saffu._core.pool_patches(core, X.astype(np.float64), matrix, encoder.weights_.astype(np.float64), 1)
    np.testing.assert_allclose(exact, expected.reshape(40, -1), atol=1e-10)


def test_a_signal():
    signals = RNG.random((20, 30)).astype(np.float32)
    encoder = PatchEncoder(patch=5, units=3, pool=4, rounds=2).fit(signals)
    found = saffu_torch.to_module(encoder)(torch.tensor(signals)).detach()
    np.testing.assert_allclose(found, encoder.transform(signals), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("normalize", KINDS)
def test_gradients_of_an_encoder(normalize):
    """By its weights they are those of the kernel; by images those of differences."""
    encoder = PatchEncoder(SHAPE, patch=3, units=4, pool=2, rounds=3, normalize=normalize).fit(X)
    module = saffu_torch.to_module(encoder, dtype=torch.float64)
    images = torch.tensor(X[:5], dtype=torch.float64, requires_grad=True)
    slope = RNG.normal(size=module(images).shape)
    (module(images) * torch.tensor(slope)).sum().backward()
    core, matrix = encoder.core_parts(np.dtype(np.float64))
    moments = saffu._core.patch_moments(
        core, X[:5].astype(np.float64), None, None, slope.reshape(5, 4, 4), matrix, encoder.weights_.astype(float), 1
    )
    np.testing.assert_allclose(module.weights.grad, moments.sum(axis=0), atol=1e-9)
    assert images.grad.isfinite().all()
    smooth = torch.tensor(X[1:3], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(module, (smooth,), eps=1e-7, atol=1e-4, fast_mode=True)


@pytest.mark.parametrize("head", HEADS)
def test_a_network_is_the_same_function(nets, head):
    module = saffu_torch.to_module(nets[head])
    log_p = module(torch.tensor(X)).detach()
    np.testing.assert_allclose(log_p.exp(), nets[head].predict_proba(X), atol=1e-5)
    np.testing.assert_allclose(log_p, nets[head].predict_log_proba(X), atol=1e-4)
    assert NAMES[log_p.argmax(1)].tolist() == nets[head].predict(X).tolist()


@pytest.mark.parametrize("head", HEADS)
def test_gradients_flow_to_every_parameter(nets, head):
    module = saffu_torch.to_module(nets[head], dtype=torch.float64)
    rows = torch.tensor(X, dtype=torch.float64)
    with torch.no_grad():
        module.powers += 0.5  # one of them may be zero

    def loss():
        return torch.nn.functional.nll_loss(module(rows), torch.tensor(Y))

    loss().backward()
    for name, parameter in module.named_parameters():
        place = np.unravel_index(int(parameter.grad.abs().argmax()), parameter.shape)
        found = []
        with torch.no_grad():
            for step in (1e-5, -1e-5):
                parameter[place] += step
                found.append(loss().item())
                parameter[place] -= step
        assert parameter.grad[place].item() == pytest.approx((found[0] - found[1]) / 2e-5, rel=1e-4, abs=1e-9), name
        assert parameter.grad.abs().max() > 0, name


def test_gradients_are_those_of_the_refiner(nets):
    solution = nets["layer"].solution
    parameters = solution.parameters(1.0, np.float64)
    gradients = {name: np.zeros_like(part) for name, part in parameters.items()}
    batch = X.astype(np.float64), Y.astype(np.int32)
    expected = solution.loss_and_gradients(parameters, batch, gradients, 1)
    power = solution.head.powers[0]
    module = saffu_torch.to_module(nets["layer"], dtype=torch.float64)
    loss = torch.nn.functional.nll_loss(module(torch.tensor(batch[0])), torch.tensor(Y))
    loss.backward()
    assert loss.item() == pytest.approx(expected, rel=1e-9)
    np.testing.assert_allclose(module.encoder.weights.grad, gradients["units"], atol=1e-9)
    np.testing.assert_allclose(module.layer.weight.grad.T, power * gradients["weights"], atol=1e-9)
    np.testing.assert_allclose(module.layer.bias.grad, power * gradients["bias"], atol=1e-9)


@pytest.mark.parametrize("head", HEADS)
def test_there_and_back(nets, tmp_path, head):
    """Also after steps of training, which leave the first model as it was."""
    expected = nets[head].predict_proba(X)
    module = saffu_torch.to_module(nets[head])
    back = saffu_torch.from_module(module)
    np.testing.assert_allclose(back.predict_proba(X), expected, atol=1e-6)
    optimiser = torch.optim.Adam(module.parameters(), 0.01)
    for _ in range(3):
        optimiser.zero_grad()
        torch.nn.functional.nll_loss(module(torch.tensor(X)), torch.tensor(Y)).backward()
        optimiser.step()
    after = saffu_torch.from_module(module)
    found = module(torch.tensor(X)).detach().exp().numpy()
    np.testing.assert_allclose(after.predict_proba(X), found, atol=1e-5)
    assert np.abs(found - expected).max() > 1e-3
    np.testing.assert_array_equal(nets[head].predict_proba(X), expected)
    after.save(tmp_path / "net")
    np.testing.assert_array_equal(saffu.load(tmp_path / "net").predict_proba(X), after.predict_proba(X))


def test_an_encoder_there_and_back(nets):
    encoder = nets["layer"].encoder_
    module = saffu_torch.to_module(encoder)
    with torch.no_grad():
        module.weights *= 0.5
    back = saffu_torch.from_module(module)
    np.testing.assert_array_equal(back.weights_, encoder.weights_ * np.float32(0.5))
    np.testing.assert_allclose(back.transform(X), module(torch.tensor(X)).detach(), atol=1e-5, rtol=1e-5)


def test_modules_can_be_saved_and_weights_shared(nets, tmp_path):
    module, other = (saffu_torch.to_module(nets["both"]) for _ in range(2))
    torch.save(module.state_dict(), tmp_path / "state")
    with torch.no_grad():
        for part in (*other.parameters(), other.encoder.whitening):
            part.zero_()
    other.load_state_dict(torch.load(tmp_path / "state"))
    assert torch.equal(other(torch.tensor(X)), module(torch.tensor(X)))
    shared = saffu_torch.to_module(nets["both"], copy=False)
    encoder = nets["both"].encoder_
    assert np.shares_memory(shared.encoder.weights.detach().numpy(), encoder.weights_)
    assert not np.shares_memory(module.encoder.weights.detach().numpy(), encoder.weights_)


def test_it_must_be_fitted():
    for model in (PatchEncoder(9), ExplicitConvNet(9)):
        with pytest.raises(ValueError, match="has seen no data"):
            saffu_torch.to_module(model)
