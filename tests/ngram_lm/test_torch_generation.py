"""Shallow fusion in transformers' own generation, of a tiny network with random weights."""

import sys

import numpy as np
import pytest

import saffu

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
saffu_torch = pytest.importorskip("saffu.torch")

V, U = 8, 11  # types of the model, tokens of the network: three of them have no id in the model
IDS = np.array([-1, 3, 2, 7, 4, -1, 5, 6, 0, 1, -1])
PAD, END = 0, 9


@pytest.fixture(scope="module")
def model():
    rng = np.random.default_rng(0)
    ids = np.zeros(3000, np.int32)
    for t in range(1, ids.size):
        ids[t] = (3 * ids[t - 1] + 1) % V if rng.random() < 0.8 else rng.integers(V)
    return saffu.ExplicitLM(order=3, windows=(30,), induction=0).fit(ids)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    sizes = {"vocab_size": U, "n_positions": 64, "n_embd": 16, "n_layer": 1, "n_head": 2}
    special = {"bos_token_id": PAD, "eos_token_id": END, "pad_token_id": PAD}
    return transformers.GPT2LMHeadModel(transformers.GPT2Config(**sizes, **special)).eval()


def generated(network, rows, processors, **options):
    ids = torch.tensor(rows)
    given = {"attention_mask": (ids != PAD).long(), "max_new_tokens": 12, "do_sample": False, **options}
    return network.generate(ids, logits_processor=processors, **given)


def fusion(model, weight, **options):
    return saffu_torch.logits_processor(saffu_torch.LogProbs(model, token_ids=IDS, **options), weight=weight)


def test_it_is_a_processor_of_transformers(model):
    assert isinstance(fusion(model, 1.0), transformers.LogitsProcessor)


@pytest.mark.parametrize("weight", [0.0, 0.4])
def test_scores_are_sums(model, network, weight):
    """At every step, of rows of different lengths, padded to the left."""
    rows = [[PAD, PAD, 1], [4, 2, 7]]
    options = {"output_scores": True, "output_logits": True, "return_dict_in_generate": True}
    found = generated(network, rows, [fusion(model, weight, missing=-3.0)], **options)
    for step, (scores, logits) in enumerate(zip(found.scores, found.logits, strict=True)):
        for row in range(2):
            read = IDS[found.sequences[row, : 3 + step].numpy()]
            log_p = np.log(model.distribution(read[read >= 0]))
            added = np.where(IDS >= 0, log_p[np.maximum(IDS, 0)], -3.0)
            np.testing.assert_allclose(scores[row], logits[row].numpy() + weight * added, atol=1e-4)


def test_the_model_changes_what_is_generated(model, network):
    """A weight that outdoes the network gives what the model alone would take."""
    rows = [[4, 2, 7]]
    alone, fused = generated(network, rows, []), generated(network, rows, [fusion(model, 1000.0)])
    assert not torch.equal(alone, fused)
    expected = [*IDS[rows[0]], *model.generate(IDS[rows[0]], 12, temperature=0)]
    found = IDS[fused[0].numpy()].tolist()
    assert found == expected[: len(found)]
    assert len(found) > 5
    assert torch.equal(generated(network, rows, [fusion(model, 0.0)]), alone)


def test_beams_and_draws(model, network):
    """The most likely sequence by beams is the one that all sequences of two tokens are searched for."""
    rows, weight = [[4, 2, 7]], 1.0
    found = generated(network, rows, [fusion(model, weight)], num_beams=U * U, max_new_tokens=2, eos_token_id=None)
    pairs = torch.tensor([[*rows[0], first] for first in range(U)])
    with torch.no_grad():
        of_first, of_second = (torch.log_softmax(network(ids).logits[:, -1], -1) for ids in (pairs[:1, :-1], pairs))
    total = fusion(model, weight)(pairs[:1, :-1], of_first).T + fusion(model, weight)(pairs, of_second)
    assert found[0].tolist() == [*rows[0], *divmod(int(total.argmax()), U)]
    drawn = generated(network, rows, [fusion(model, 50.0)], do_sample=True, max_new_tokens=30)
    pairs = [(IDS[a], IDS[b]) for a, b in zip(drawn[0, 2:-1], drawn[0, 3:], strict=True)]
    assert np.mean([b == (3 * a + 1) % V for a, b in pairs]) > 0.9


def test_what_installs_transformers(model, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ImportError, match=r"^transformers is not installed; pip install 'saffu\[transformers\]'"):
        fusion(model, 1.0)


def test_what_is_no_module(model):
    with pytest.raises(TypeError, match=r"log_probs must be a saffu.torch.LogProbs, got ExplicitLM"):
        saffu_torch.logits_processor(model, weight=1.0)
