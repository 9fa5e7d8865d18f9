"""Learning on the spot: what an update adds, that it can be undone, and that it costs what the new text costs."""

import numpy as np
import pytest

from saffu import ExplicitLM, SaffuLM
from saffu.attention_lm import units
from saffu.attention_lm.em_attention import AttentiveMixture
from saffu.attention_lm.solve_context import runs
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
    model = SaffuLM(**SMALL, **settings, residual=base).fit(ids, documents=np.arange(0, 3000, 500), vocab_size=V)
    return model.refine(ids, epochs=refine, documents=np.arange(0, 3000, 500)) if refine else model


def values(model):
    """Everything that an update may change, but the residual."""
    found = model._fitted
    return {**found.parameters, **found.output.arrays(), **found.embeddings.arrays(), "scalars": found.scalars}


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
    model.update(new, documents=starts)
    moved = {name for name, value in values(model).items() if not np.array_equal(value, values(same)[name])}
    assert {"output.weights", "embeddings.logits", "observed", "expected", "counts", "more"} - moved <= (
        {"expected"} if settings == SETTINGS[0] else set()
    )
    assert np.abs(model.log_prob(probe) - before).max() > 1e-3
    model.subtract(new, documents=starts)
    assert_close(model, same, 2e-5)
    np.testing.assert_array_equal(model._fitted.output.counts, same._fitted.output.counts)
    np.testing.assert_allclose(model.log_prob(probe), before, atol=1e-4)


def test_only_what_follows_from_counts_moves():
    model, same = solved(layers=2), solved(layers=2)
    model.update(chain(100, 7, 5, high=6))
    after, before = values(model), values(same)
    still = [name for name in before if np.array_equal(after[name], before[name])]
    kept = {"X", "mass", "words", "shares", "curvature", "scalars", *model._fitted.embeddings.attention}
    kept |= {name for name in model._fitted.parameters if not name.startswith(("output", "embeddings"))}
    assert set(still) == kept
    logits = "embeddings.logits"
    assert not np.array_equal(after[logits][:6], before[logits][:6])
    np.testing.assert_array_equal(after[logits][6:], before[logits][6:])


def test_the_counts_are_those_of_the_text():
    model, before = solved(contexts=("radial", "document")), solved(contexts=("radial", "document"))
    ids, starts = chain(150, 7, 5), np.array([0, 70])
    model.update(ids, documents=starts)
    stream, then, now = TokenStream(ids, starts), before._fitted, model._fitted
    positions = np.array([t for t in range(150) if t not in starts])
    X = then.embeddings.X
    unigram, first = then.output.unigram, model._network.units[:1]
    mixture = AttentiveMixture(stream, first, 64, X, X, unigram, "responsibilities", 1)
    mixture.X, mixture.B, mixture.shares = X, list(then.embeddings.words), then.embeddings.shares
    mixture.parameters = dict(then.embeddings.attention)
    more = mixture.expect(positions).arrays["embeddings"]
    np.testing.assert_allclose(now.embeddings.more, more, rtol=1e-5)
    rows = X * then.embeddings.mass[:, None] + more
    expected = units.embeddings(then.parameters, 1) * np.exp(np.log(rows / rows.sum(1, keepdims=True)) - np.log(X))
    X = units.embeddings(now.parameters, 1)
    np.testing.assert_allclose(X, expected, rtol=1e-4, atol=1e-6)
    seen = model._network.chunk(stream, *runs(positions))
    H = units.hidden(units.forward(now.parameters, model._network.units, seen, X)[0], seen)
    observed = then.output.observed.copy()
    np.add.at(observed, ids[positions], H)
    np.testing.assert_allclose(now.output.observed, observed, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(now.output.counts, then.output.counts + np.bincount(ids, minlength=V))
    # The second unit is compared with what the bias and the first one, which has learned already, expect.
    logits = H[:, :12] @ now.parameters["output.weights"][:, :12].T + now.parameters["output.bias"]
    P = np.exp(logits - logits.max(1, keepdims=True))
    P /= P.sum(1, keepdims=True)
    np.testing.assert_allclose(now.output.expected, then.output.expected + P.T @ H[:, 12:], rtol=1e-3)


@pytest.mark.parametrize("refine", [0, 1])
@pytest.mark.parametrize("residual", [False, True])
def test_the_output_moves_by_its_lifts(residual, refine):
    model, before = solved(residual=residual, refine=refine), solved(residual=residual, refine=refine)
    model.update(chain(200, 7, step=5))
    for i, block in enumerate([slice(0, 12), slice(12, 24)]):
        change = (
            model._fitted.parameters["output.weights"][:, block] - before._fitted.parameters["output.weights"][:, block]
        )
        lifts = model._fitted.output.lift(block) - before._fitted.output.lift(block)
        np.testing.assert_allclose(change, model.scalars[1 + i] * lifts, atol=1e-5)
    if not refine:
        expected = np.concatenate(
            [model.scalars[1 + i] * model._fitted.output.lift(b) for i, b in enumerate([slice(0, 12), slice(12, 24)])],
            axis=1,
        )
        np.testing.assert_allclose(model._fitted.parameters["output.weights"], expected, atol=1e-4)


def test_the_solution_follows_from_its_statistics():
    for residual in (False, True):
        model = solved(residual=residual)
        lifts = [model._fitted.output.lift(block) for block in (slice(0, 12), slice(12, 24))]
        weights = [scalar * lift for scalar, lift in zip(model.scalars[1:], lifts, strict=True)]
        np.testing.assert_allclose(
            model._fitted.parameters["output.weights"], np.concatenate(weights, axis=1), atol=1e-6
        )
        np.testing.assert_allclose(
            np.exp(model._fitted.embeddings.log_embeddings(np.arange(V))), model._fitted.embeddings.X, rtol=1e-5
        )
        assert model._fitted.output.counts.sum() == 3000


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_new_text_is_learned(settings):
    """Half of the words never occurred; a text of them is predicted better and better."""
    model = SaffuLM(**SMALL, **{**settings, "residual": None}).fit(chain(3000, 0, high=12), vocab_size=V)
    test = chain(500, 9, 5, 12)
    before = model.perplexity(test)
    once = model.update(chain(300, 7, 5, 12)).perplexity(test)
    assert once < 0.1 * before
    assert model.update(chain(300, 10, 5, 12)).perplexity(test) < once


def test_the_residual_learns_exactly():
    model = solved(residual=True)
    twin = ExplicitLM(radius=1, order=2, windows=(), induction=0).fit(
        chain(3000, 0), vocab_size=V, documents=np.arange(0, 3000, 500)
    )
    new = chain(200, 7, step=5)
    model.update(new, documents=[0, 90])
    twin.update(new, documents=[0, 90])
    probe = chain(300, 8)
    np.testing.assert_array_equal(model.residual.log_prob(probe), twin.log_prob(probe))
    model.subtract(new, documents=[0, 90])
    twin.subtract(new, documents=[0, 90])
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
        (model._fitted.output.curvature - before._fitted.output.curvature)[int(residual) :, int(residual) :]
    )
    assert grown.min() > 0
    # The new scalars predict the new text better than the old ones, before it is counted.
    then, old = before._fitted, before.perplexity(new)
    weights, bias = then.parameters["output.weights"].copy(), then.parameters["output.bias"].copy()
    for i, block in enumerate([slice(0, 12), slice(12, 24)]):
        step = np.float32(model.scalars[1 + i] - before.scalars[1 + i])
        weights[:, block] += step * then.output.lift(block)
    if not residual:
        bias += np.float32(model.scalars[0] - before.scalars[0]) * np.log(then.output.unigram).astype(np.float32)
    model._solution = then.with_parameters({"output.weights": weights, "output.bias": bias})
    model.residual = None if not residual else before.residual
    assert model.perplexity(new) < old


def test_an_update_leaves_other_models_alone():
    model = solved()
    refined = model.refine(chain(3000, 0), epochs=1)
    before = {name: value.copy() for name, value in values(model).items()}
    refined.update(chain(100, 7, 5))
    for name, value in values(model).items():
        np.testing.assert_array_equal(value, before[name])


def test_what_cannot_be_learned_or_forgotten_is_named():
    model = solved(residual=True)
    before = {name: value.copy() for name, value in values(model).items()}
    with pytest.raises(ValueError, match="ids"):
        model.update([V])
    with pytest.raises(ValueError, match="hold more of token 3"):
        model.subtract([3] * 500)
    with pytest.raises(ValueError, match="learned before"):  # words learned, but no such document
        model.subtract([3, 7, 1, 12])
    model.update([]).subtract([])
    for name, value in values(model).items():
        np.testing.assert_array_equal(value, before[name])
    with pytest.raises(ValueError, match="call fit first"):
        SaffuLM(**SMALL).update([1, 2])


def test_single_tokens_are_counted():
    model = solved()
    model.update([5])
    model.update([3, 4], documents=[0, 1])
    assert model._fitted.output.counts.sum() == 3003
