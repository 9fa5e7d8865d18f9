"""What an optimiser has gathered, for the larger model."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import saffu  # noqa: E402
from saffu import grow  # noqa: E402
from saffu.torch import Transformer  # noqa: E402

SIZES = {"hidden": 6, "layers": 2, "heads": (2, 1), "key": (3, 2), "value": (2, 4), "mlp": (5, 7), "positions": 8}
TARGET = {"hidden": 9, "layers": 3, "places": [1], "heads": 3, "mlp": 12, "value": 5, "key": 6}
IDS = torch.from_numpy(np.random.default_rng(0).integers(0, 11, (4, 8)))


def trained(model, optimizer, steps):
    """Losses of some steps on the same rows."""
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        logits = model(IDS)
        logits = getattr(logits, "logits", logits)
        loss = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), IDS[:, 1:].flatten())
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses


def doubles(model):
    return model.with_arrays({name: value.astype(np.float64) for name, value in model.arrays.items()})


@pytest.fixture
def model():
    return Transformer(doubles(saffu.Transformer(11, **SIZES)).arrays)


def grown(model, optimizer, make, new_squares="zeros", **target):
    larger = grow.module(model, **target)
    planned = grow.plan(model, **target)
    other = make(larger.parameters())
    state = grow.optimizer_state(
        optimizer, larger_optimizer=other, model=model, larger=larger, plan=planned, new_squares=new_squares
    )
    other.load_state_dict(state)
    return larger, other


def state_of(model, optimizer):
    names = [f"layer{n.split('.')[1]}.{n.split('.')[2]}" if "." in n else n for n, _ in model.named_parameters()]
    return {name: optimizer.state[p] for name, (_, p) in zip(names, model.named_parameters(), strict=True)}


def test_moments_are_those_of_the_gradients_of_the_larger_model(model):
    """The gradient by an old number is what it was, or 1 / s of that by one that is multiplied by s."""
    adam = torch.optim.Adam(model.parameters(), lr=0.0)
    trained(model, adam, 3)
    larger, other = grown(model, adam, lambda p: torch.optim.Adam(p, lr=0.0), **TARGET)
    fresh = torch.optim.Adam(larger.parameters(), lr=0.0)
    trained(larger, fresh, 3)
    planned = grow.plan(model, **TARGET)
    found, expected = state_of(larger, other), state_of(larger, fresh)
    for step in planned.steps:
        if step.source is None:
            assert not found[step.name]
            continue
        old = np.asarray(grow_mask(planned, step), bool)
        for key in ("exp_avg", "exp_avg_sq"):
            np.testing.assert_allclose(found[step.name][key][old], expected[step.name][key][old], rtol=1e-6, atol=1e-12)
            assert not found[step.name][key][~old].any()
        assert found[step.name]["step"] == 3


def grow_mask(planned, step):
    from saffu.checkpoint_growth.tensors import moment

    return moment(planned, step, np.ones(step.old_shape), 0)


def test_new_squares_may_begin_at_the_mean_of_the_others(model):
    adam = torch.optim.AdamW(model.parameters(), amsgrad=True)
    trained(model, adam, 3)
    make = lambda p: torch.optim.AdamW(p, amsgrad=True)  # noqa: E731
    larger, other = grown(model, adam, make, "mean", mlp=12)
    before, after = adam.state[model.layers[0].expand], other.state[larger.layers[0].expand]
    for key in ("exp_avg_sq", "max_exp_avg_sq"):
        torch.testing.assert_close(after[key][:, 5:].mean(), before[key].mean())
        assert torch.equal(after[key][:, :5], before[key])
    assert not after["exp_avg"][:, 5:].any()


def test_training_goes_on_without_a_jump(model):
    """The losses before and after growth are one curve; with an optimiser that has forgotten, the rate is off."""
    adam = torch.optim.Adam(model.parameters(), lr=3e-3)
    before = trained(model, adam, 60)
    for new_squares in ("zeros", "mean"):
        larger, other = grown(model, adam, lambda p: torch.optim.Adam(p, lr=3e-3), new_squares, **TARGET)
        after = trained(larger, other, 20)
        assert after[0] < before[-1]
        assert max(np.diff(after)) < 0.02
        assert after[-1] < before[-1]


def test_groups_may_be_others(model):
    sgd = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    trained(model, sgd, 3)
    larger = grow.module(model, mlp=12)
    gains = [p for n, p in larger.named_parameters() if "gain" in n]
    others = [p for n, p in larger.named_parameters() if "gain" not in n]
    other = torch.optim.SGD([{"params": gains, "lr": 0.2}, {"params": others}], lr=0.3, momentum=0.8)
    planned = grow.plan(model, mlp=12)
    state = grow.optimizer_state(sgd, larger_optimizer=other, model=model, larger=larger, plan=planned)
    other.load_state_dict(state)
    assert [group["lr"] for group in other.param_groups] == [0.2, 0.3]
    for one, two in ((model.output, larger.output), (model.layers[1].mlp_gain, larger.layers[1].mlp_gain)):
        assert torch.equal(sgd.state[one]["momentum_buffer"], other.state[two]["momentum_buffer"])


def test_what_it_cannot_take_along_is_refused(model):
    larger, planned = grow.module(model, mlp=12), grow.plan(model, mlp=12)
    adam, other = torch.optim.Adam(model.parameters()), torch.optim.Adam(larger.parameters())
    both = {"model": model, "larger": larger, "plan": planned}
    with pytest.raises(
        ValueError, match=r"larger_optimizer has a parameter of shape \(12, 6\) that is none of its mod"
    ):
        grow.optimizer_state(adam, larger_optimizer=adam, **both)
    with pytest.raises(ValueError, match="new_squares must be one of 'zeros', 'mean', got 'old'"):
        grow.optimizer_state(adam, larger_optimizer=other, new_squares="old", **both)
    prop = torch.optim.Rprop(model.parameters())
    trained(model, prop, 1)
    with pytest.raises(ValueError, match="keeps 'prev' of each number, of which it is not known how it grows"):
        grow.optimizer_state(prop, larger_optimizer=torch.optim.Rprop(larger.parameters()), **both)


def test_a_model_of_transformers_with_tied_and_fused_tensors():
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    sizes = {"n_embd": 12, "n_layer": 2, "n_head": 2, "vocab_size": 11, "n_positions": 8}
    still = {"resid_pdrop": 0, "embd_pdrop": 0, "attn_pdrop": 0, "bos_token_id": 1, "eos_token_id": None}
    model = transformers.GPT2LMHeadModel(transformers.GPT2Config(**sizes, **still)).double()
    adam = torch.optim.Adam(model.parameters(), lr=3e-3)
    before = trained(model, adam, 40)
    larger, other = grown(model, adam, lambda p: torch.optim.Adam(p, lr=3e-3), hidden=18, heads=3, layers=3)
    fused, old = (
        other.state[larger.transformer.h[0].attn.c_attn.weight],
        adam.state[model.transformer.h[0].attn.c_attn.weight],
    )
    for part in range(3):
        expected = old["exp_avg"][:, 12 * part : 12 * part + 12]
        torch.testing.assert_close(fused["exp_avg"][:12, 18 * part : 18 * part + 12], expected)
    after = trained(larger, other, 10)
    assert after[0] < before[-1]
    assert max(np.diff(after)) < 0.02
