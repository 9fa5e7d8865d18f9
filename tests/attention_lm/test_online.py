"""Learning on the spot: what an update adds, that it can be undone, and that it costs what the new text costs."""

import numpy as np
import pytest

from saffu import ExplicitLM, SaffuLM
from saffu.attention_lm import units
from saffu.attention_lm.em_attention import AttentiveMixture
from saffu.attention_lm.solver import runs
from saffu.utils.streams import TokenStream

V = 24
SMALL = {"bits": 8, "hidden": 12, "radius": 2, "span": 64, "n_threads": 1}
SETTINGS = [
    {"contexts": ("radial",)},
    {"contexts": ("radial", "document")},
    {"contexts": ("block", "document"), "heads": 2, "block": 3},
    {"contexts": ("radial",), "layers": 2},
    {"contexts": ("radial", "document"), "residual": True},
    {"contexts": ("radial",), "residual": True, "words": 15},
]


def chain(n, seed, step=1, low=0, high=V):
    """Tokens from low to high, each mostly ``step`` above the one before."""
    rng = np.random.default_rng(seed)
    ids, width = np.full(n, low, np.int32), high - low
    for t in range(1, n):
        ids[t] = low + ((ids[t - 1] - low + step) % width if rng.random() < 0.8 else rng.integers(width))
    return ids


def solved(residual=False, refine=0, **settings):
    ids = chain(3000, 0)
    base = ExplicitLM(radius=1, order=2, windows=(), induction=0, n_threads=1) if residual else None
    model = SaffuLM(**SMALL, **settings, residual=base).solve(ids, V, np.arange(0, 3000, 500))
    return model.refine(ids, refine, documents=np.arange(0, 3000, 500)) if refine else model


def values(model):
    """Everything that an update may change, but the model stood on."""
    known = model._known()
    return {**known.parameters, **known.evidence.arrays(), **known.classes.arrays(), "scalars": known.scalars}


def assert_close(one, other, tolerance):
    for name, value in values(one).items():
        np.testing.assert_allclose(value, values(other)[name], atol=tolerance, rtol=tolerance, err_msg=name)


@pytest.mark.parametrize("refine", [0, 1])
@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_subtract_undoes_an_update(settings, refine):
    model, same = solved(**settings, refine=refine), solved(**settings, refine=refine)
    probe = chain(300, 8)
    before = model.log_prob(probe)
    new, starts = chain(200, 7, step=5), [0, 64, 130]
    model.update(new, starts)
    moved = {name for name, value in values(model).items() if not np.array_equal(value, values(same)[name])}
    assert {"output.weights", "embeddings.logits", "observed", "expected", "counts", "more"} - moved <= (
        {"expected"} if settings == SETTINGS[0] else set()
    )
    assert np.abs(model.log_prob(probe) - before).max() > 1e-3
    model.subtract(new, starts)
    assert_close(model, same, 2e-5)
    np.testing.assert_array_equal(model._evidence.counts, same._evidence.counts)
    np.testing.assert_allclose(model.log_prob(probe), before, atol=1e-4)


def test_only_what_follows_from_counts_moves():
    model, same = solved(layers=2), solved(layers=2)
    model.update(chain(100, 7, 5, high=6))
    after, before = values(model), values(same)
    still = [name for name in before if np.array_equal(after[name], before[name])]
    kept = {"X", "mass", "words", "shares", "curvature", "scalars", *model._classes.attention}
    kept |= {name for name in model._solved if not name.startswith(("output", "embeddings"))}
    assert set(still) == kept
    logits = "embeddings.logits"
    assert not np.array_equal(after[logits][:6], before[logits][:6])
    np.testing.assert_array_equal(after[logits][6:], before[logits][6:])


def test_the_counts_are_those_of_the_text():
    model, before = solved(contexts=("radial", "document")), solved(contexts=("radial", "document"))
    ids, starts = chain(150, 7, 5), np.array([0, 70])
    model.update(ids, starts)
    stream = TokenStream(ids, starts)
    positions = np.array([t for t in range(150) if t not in starts])
    mixture = AttentiveMixture(
        stream, model._network.units[:1], 64, *[before._classes.X] * 2, before._evidence.unigram,
        "responsibilities", 1,
    )  # fmt: skip
    mixture.X, mixture.B, mixture.shares = before._classes.X, list(before._classes.words), before._classes.shares
    mixture.parameters = dict(before._classes.attention)
    more = mixture.expect(positions).arrays["embeddings"]
    np.testing.assert_allclose(model._classes.more, more, rtol=1e-5)
    rows = before._classes.X * before._classes.mass[:, None] + more
    change = np.log(rows / rows.sum(1, keepdims=True)) - np.log(before._classes.X)
    np.testing.assert_allclose(
        units.embeddings(model._solved, 1), np.exp(change) * units.embeddings(before._solved, 1), rtol=1e-4, atol=1e-6
    )
    X = units.embeddings(model._solved, 1)
    seen = model._network.chunk(stream, *runs(positions))
    H = units.hidden(units.forward(model._solved, model._network.units, seen, X)[0], seen)
    observed = before._evidence.observed.copy()
    np.add.at(observed, ids[positions], H)
    np.testing.assert_allclose(model._evidence.observed, observed, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(model._evidence.counts, before._evidence.counts + np.bincount(ids, minlength=V))
    # The second unit is compared with what the bias and the first one, which has learned already, expect.
    logits = H[:, :12] @ model._solved["output.weights"][:, :12].T + model._solved["output.bias"]
    P = np.exp(logits - logits.max(1, keepdims=True))
    P /= P.sum(1, keepdims=True)
    np.testing.assert_allclose(model._evidence.expected, before._evidence.expected + P.T @ H[:, 12:], rtol=1e-3)


@pytest.mark.parametrize("refine", [0, 1])
@pytest.mark.parametrize("residual", [False, True])
def test_the_output_moves_by_its_lifts(residual, refine):
    model, before = solved(residual=residual, refine=refine), solved(residual=residual, refine=refine)
    model.update(chain(200, 7, step=5))
    for i, block in enumerate([slice(0, 12), slice(12, 24)]):
        change = model._solved["output.weights"][:, block] - before._solved["output.weights"][:, block]
        lifts = model._evidence.lift(block) - before._evidence.lift(block)
        np.testing.assert_allclose(change, model.scalars[1 + i] * lifts, atol=1e-5)
    if not refine:
        expected = np.concatenate(
            [model.scalars[1 + i] * model._evidence.lift(b) for i, b in enumerate([slice(0, 12), slice(12, 24)])],
            axis=1,
        )
        np.testing.assert_allclose(model._solved["output.weights"], expected, atol=1e-4)


def test_the_solution_is_its_evidence():
    for residual in (False, True):
        model = solved(residual=residual)
        lifts = [model._evidence.lift(block) for block in (slice(0, 12), slice(12, 24))]
        weights = [scalar * lift for scalar, lift in zip(model.scalars[1:], lifts, strict=True)]
        np.testing.assert_allclose(model._solved["output.weights"], np.concatenate(weights, axis=1), atol=1e-6)
        np.testing.assert_allclose(np.exp(model._classes.log_embeddings(np.arange(V))), model._classes.X, rtol=1e-5)
        assert model._evidence.counts.sum() == 3000


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_new_text_is_learned(settings):
    """Half of the words were never heard; a text of them is predicted better and better."""
    model = SaffuLM(**SMALL, **{**settings, "residual": None}).solve(chain(3000, 0, high=12), V)
    test = chain(500, 9, 5, 12)
    before = model.perplexity(test)
    once = model.update(chain(300, 7, 5, 12)).perplexity(test)
    assert once < 0.1 * before
    assert model.update(chain(300, 10, 5, 12)).perplexity(test) < once


def test_the_residual_learns_exactly():
    model = solved(residual=True)
    twin = ExplicitLM(radius=1, order=2, windows=(), induction=0).fit(chain(3000, 0), V, np.arange(0, 3000, 500))
    new = chain(200, 7, step=5)
    model.update(new, [0, 90])
    twin.update(new, [0, 90])
    probe = chain(300, 8)
    np.testing.assert_array_equal(model.residual.log_prob(probe), twin.log_prob(probe))
    model.subtract(new, [0, 90])
    twin.subtract(new, [0, 90])
    np.testing.assert_array_equal(model.residual.log_prob(probe), twin.log_prob(probe))


@pytest.mark.parametrize("residual", [False, True])
def test_priming_fits_the_scalars_to_text_not_yet_counted(residual):
    contexts = ("radial", "document")
    model, before = solved(residual=residual, contexts=contexts), solved(residual=residual, contexts=contexts)
    new = chain(1500, 7, step=3)
    model.update(new, prime=True)
    assert np.abs(np.subtract(model.scalars, before.scalars)[1:]).max() > 0.01
    assert (model.scalars[0] == 1) == residual
    grown = np.linalg.eigvalsh(
        (model._evidence.curvature - before._evidence.curvature)[int(residual) :, int(residual) :]
    )
    assert grown.min() > 0
    # The new scalars say the new text better than the old ones, before it is counted.
    model._evidence, model._classes = before._evidence, before._classes
    old = before.perplexity(new)
    for name in ("output.weights", "output.bias"):
        model._values[name] = before._solved[name].copy()
    for i, block in enumerate([slice(0, 12), slice(12, 24)]):
        step = np.float32(model.scalars[1 + i] - before.scalars[1 + i])
        model._values["output.weights"][:, block] += step * before._evidence.lift(block)
    if not residual:
        model._values["output.bias"] += np.float32(model.scalars[0] - before.scalars[0]) * np.log(
            before._evidence.unigram
        ).astype(np.float32)
    model._values["embeddings.logits"] = before._solved["embeddings.logits"]
    model.residual = None if not residual else before.residual
    assert model.perplexity(new) < old


def test_an_update_leaves_other_models_alone():
    model = solved()
    refined = model.refine(chain(3000, 0), 1)
    before = {name: value.copy() for name, value in values(model).items()}
    refined.update(chain(100, 7, 5))
    for name, value in values(model).items():
        np.testing.assert_array_equal(value, before[name])


def test_what_cannot_be_learned_or_forgotten_is_named():
    model = solved(residual=True)
    before = {name: value.copy() for name, value in values(model).items()}
    with pytest.raises(ValueError, match="ids"):
        model.update([V])
    with pytest.raises(ValueError, match="more of token 3 than was heard"):
        model.subtract([3] * 500)
    with pytest.raises(ValueError, match="heard"):  # words heard, but no such document
        model.subtract([3, 7, 1, 12])
    model.update([]).subtract([])
    for name, value in values(model).items():
        np.testing.assert_array_equal(value, before[name])
    with pytest.raises(ValueError, match="call solve first"):
        SaffuLM(**SMALL).update([1, 2])


def test_single_tokens_are_counted():
    model = solved()
    model.update([5])
    model.update([3, 4], [0, 1])
    assert model._evidence.counts.sum() == 3003
