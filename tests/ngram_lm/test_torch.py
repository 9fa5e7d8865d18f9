"""Log-probabilities of language models as a torch module, under networks and beside them."""

import copy

import numpy as np
import pytest

import saffu
from helpers.made_up import N_TYPES, as_text, documents_with_habits

torch = pytest.importorskip("torch")
saffu_torch = pytest.importorskip("saffu.torch")

V = N_TYPES
KINDS = ("default", "kneser-ney", "backoff", "saffu-lm", "transformer")


@pytest.fixture(scope="module")
def models():
    text = as_text(documents_with_habits(1500, 0, back=3, up_to=(0.5, 0.7)))
    explicit = saffu.ExplicitLM(2, order=3, windows=(20,), induction=30).fit(**text, vocab_size=V)
    kneser_ney = saffu.ExplicitLM(order=4, priming="kneser-ney").fit(**text, vocab_size=V)
    kneser_ney.vocabulary = saffu.text.Vocabulary(list("abcdefghij"))
    return {
        "default": explicit,
        "kneser-ney": kneser_ney,
        "backoff": kneser_ney.to_backoff(),
        "saffu-lm": saffu.SaffuLM(bits=4, hidden=4, radius=3).fit(**text, vocab_size=V),
        "transformer": saffu.Transformer(V, hidden=6, positions=64),
    }


def documents(length=40, n=3, seed=5):
    return np.random.default_rng(seed).integers(0, V, (n, length))


def expected_of(model, ids):
    return np.array([model.log_probs(row, np.arange(1, row.size + 1)) for row in ids])


@pytest.mark.parametrize("kind", KINDS)
def test_every_place_of_a_batch(models, kind):
    model, ids = models[kind], documents()
    for dtype, tolerance in ((None, 1e-5), (torch.float64, 1e-5 if kind in KINDS[3:] else 1e-12)):
        module = saffu_torch.LogProbs(model, dtype=dtype)
        found = module(torch.tensor(ids))
        assert found.dtype == (dtype or torch.float32)
        assert not found.requires_grad
        np.testing.assert_allclose(found, expected_of(model, ids), atol=tolerance)


@pytest.mark.parametrize("kind", KINDS)
def test_what_follows_each_row(models, kind):
    """Also of rows longer than what can matter."""
    model, ids = models[kind], documents()
    module = saffu_torch.LogProbs(model, dtype=torch.float64)
    found = module.after(torch.tensor(ids))
    np.testing.assert_allclose(found, module(torch.tensor(ids))[:, -1], atol=1e-5)
    np.testing.assert_allclose(found.exp(), [model.distribution(row) for row in ids], atol=1e-6)


def test_starts_ends_and_empty_rows(models):
    model, ids = models["default"], documents(9)
    module = saffu_torch.LogProbs(model, dtype=torch.float64)
    rows = np.full((4, 12), -1)
    rows[0, :6], rows[1, 0], rows[1, 1:10], rows[2, 3:] = ids[0, :6], V, ids[1], ids[2]
    expected, found = module(torch.tensor(ids)), module(torch.tensor(rows))
    nothing = np.log(model.distribution([]))
    np.testing.assert_allclose(found[0, :6], expected[0, :6], atol=1e-12)
    np.testing.assert_allclose(found[1, 1:10], expected[1], atol=1e-12)
    np.testing.assert_allclose(found[2, 3:], expected[2], atol=1e-12)
    for place in ((1, 0), (2, 2), (3, 0), (3, 11)):
        np.testing.assert_allclose(found[place], nothing, atol=1e-12)
    np.testing.assert_allclose(module.after(torch.tensor(rows)), found[:, -1], atol=1e-12)
    assert module(torch.empty(2, 0, dtype=torch.long)).shape == (2, 0, V)
    assert module.after(torch.empty(2, 0, dtype=torch.long)).shape == (2, V)
    assert module(torch.empty(0, 3, dtype=torch.long)).shape == (0, 3, V)


def test_a_network_with_other_ids(models):
    """Tokens that the model has not are passed over, and as likely as ``missing``."""
    model, own = models["default"], documents(9)
    mapped = np.append(np.random.default_rng(0).permutation(V), [-1, 3])
    theirs = np.argsort(mapped[:V])[own]
    with_specials = np.insert(theirs, [0, 4], V, axis=1)  # twice a token that has no id
    module = saffu_torch.LogProbs(model, token_ids=mapped, missing=-7.0, dtype=torch.float64)
    expected = expected_of(model, own)[..., mapped]
    expected[..., V] = -7.0
    found = module(torch.tensor(with_specials))
    kept = np.delete(np.arange(11), [0, 5])
    np.testing.assert_allclose(found[:, kept], expected, atol=1e-12)
    np.testing.assert_allclose(found[:, 5], found[:, 4], atol=1e-12)
    assert saffu_torch.LogProbs(model, token_ids=mapped).missing == pytest.approx(-np.log(V))


def test_it_sees_what_the_model_learns(models):
    model = copy.deepcopy(models["default"])
    module = saffu_torch.to_module(model, dtype=torch.float64)
    ids = torch.tensor(documents(6))
    before = module(ids)
    model.update(np.tile([3, 5, 7], 60), documents=[0])
    np.testing.assert_allclose(module(ids), expected_of(model, ids.numpy()), atol=1e-12)
    assert (module(ids) - before).abs().max() > 0.1
    assert saffu_torch.from_module(module) is model


def test_the_numbers_are_not_copied(models, monkeypatch):
    """From the memory that the kernel writes to the tensor."""
    written = []
    text = models["default"].read([0])
    logits = type(text).logits
    monkeypatch.setattr(type(text), "logits", lambda self, at, out: written.append(out) or logits(self, at, out))
    found = saffu_torch.LogProbs(models["default"])(torch.tensor(documents()))
    assert np.shares_memory(written[0], found.numpy())


# ---- with a network --------------------------------------------------------------------------------------------------


class Bigrams(torch.nn.Module):
    """Logits by the newest token alone, as an object that has them."""

    def __init__(self, scale=1.0):
        super().__init__()
        torch.manual_seed(2)
        self.table = torch.nn.Embedding(V, V, dtype=torch.float64)
        self.table.weight.data *= scale
        self.logits = None

    def forward(self, ids):
        self.logits = self.table(ids)
        return self


def test_a_residual_base(models):
    base, ids = saffu_torch.LogProbs(models["default"], dtype=torch.float64), torch.tensor(documents(9))
    np.testing.assert_allclose(saffu_torch.OnBase(Bigrams(0.0), base)(ids).detach(), base(ids), atol=1e-12)
    network = Bigrams()
    module = saffu_torch.OnBase(network, base, weight=0.5)
    np.testing.assert_allclose(module(ids).detach(), network(ids).logits.detach() + 0.5 * base(ids), atol=1e-12)
    torch.nn.functional.cross_entropy(module(ids)[:, :-1].reshape(-1, V), ids[:, 1:].reshape(-1)).backward()
    assert network.table.weight.grad.abs().max() > 0
    assert [*dict(module.named_parameters())] == ["network.table.weight"]


def test_learning_on_a_base_beats_the_base(models):
    """On text in which there is more to learn than the base knows."""
    ids = torch.tensor((np.arange(400)[None] * 5 + np.arange(4)[:, None]) % V)
    base = saffu_torch.LogProbs(models["default"])
    module = saffu_torch.OnBase(Bigrams(0.0), base)

    def loss():
        return torch.nn.functional.cross_entropy(module(ids)[:, :-1].reshape(-1, V), ids[:, 1:].reshape(-1))

    before, optimiser = loss().item(), torch.optim.Adam(module.parameters(), 0.3)
    for _ in range(10):
        optimiser.zero_grad()
        loss().backward()
        optimiser.step()
    assert loss().item() < 0.5 * before


def test_a_mixture(models):
    expert, ids = saffu_torch.LogProbs(models["default"], dtype=torch.float64), torch.tensor(documents(9))
    network = Bigrams()
    mixture = saffu_torch.Mixture(network, expert, weight=0.3).double()
    p = 0.7 * torch.softmax(network(ids).logits, -1) + 0.3 * expert(ids).exp()
    np.testing.assert_allclose(mixture(ids).exp().detach(), p.detach(), atol=1e-7)
    torch.nn.functional.nll_loss(mixture(ids)[:, :-1].reshape(-1, V), ids[:, 1:].reshape(-1)).backward()
    assert mixture.logit.grad.abs() > 0
    assert network.table.weight.grad.abs().max() > 0
    assert sorted(mixture.state_dict()) == ["logit", "network.table.weight"]


def test_an_expert_with_other_ids_is_normalised(models):
    """Two of the network's tokens are one of the model's."""
    mapped = np.append(np.arange(V - 1), 4)
    expert = saffu_torch.LogProbs(models["default"], token_ids=mapped)
    found = saffu_torch.Mixture(Bigrams(), expert)(torch.tensor(documents(9)))
    np.testing.assert_allclose(found.exp().sum(-1).detach(), 1, atol=1e-6)


# ---- mistakes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda m: saffu_torch.LogProbs("model"), "model must be a language model of saffu, got str"),
        (lambda m: saffu_torch.LogProbs(m, token_ids=[0, V]), rf"token_ids must be in \[0, {V}\) or -1"),
        (lambda m: saffu_torch.LogProbs(m, token_ids=[0.5]), "token_ids must be a vector of integers"),
        (lambda m: saffu_torch.LogProbs(m)(torch.tensor([[V + 1]])), rf"ids must be in \[0, {V}\] or -1"),
        (lambda m: saffu_torch.LogProbs(m)(torch.tensor([1])), "ids must be a tensor of integers"),
        (lambda m: saffu_torch.LogProbs(m)(torch.tensor([[0.5]])), "ids must be a tensor of integers"),
        (lambda m: saffu_torch.Mixture(Bigrams(), saffu_torch.LogProbs(m), weight=1.0), "weight must be between"),
    ],
)
def test_mistakes(models, make, message):
    with pytest.raises((TypeError, ValueError), match=message):
        make(models["default"])
