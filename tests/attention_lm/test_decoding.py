"""Reading token by token: the logits of every position, however the document is cut, and what is drawn from them."""

import numpy as np
import pytest

import saffu
from saffu.attention_lm import units
from saffu.attention_lm.model import SaffuLM
from saffu.ngram_lm.model import ExplicitLM
from saffu.utils.streams import TokenStream

V = 13
SMALL = {"bits": 6, "hidden": 5, "block": 4, "radius": 3, "span": 64, "n_threads": 1}
ARCHITECTURES = [
    {"contexts": ("radial",), "radius": 1},
    {"contexts": ("block",)},
    {"contexts": ("document",)},
    {"contexts": ("block", "radial", "document"), "heads": 2},
    {"contexts": ("block", "radial", "document"), "layers": 3},
    {"contexts": ("radial", "document"), "radius": 5, "layers": 2, "heads": 2},
    {"contexts": ("radial",), "radius": 1, "layers": 2},
    {"contexts": ("radial", "document"), "words": 7},  # with a residual: rarer words share outputs
]


def make_text(n=900, seed=0):
    """Tokens mostly decided by the two before them, in documents of 150."""
    rng = np.random.default_rng(seed)
    ids = np.zeros(n, np.int32)
    for t in range(n):
        ids[t] = (ids[t - 1] + 2 * ids[t - 2] + 1) % V if rng.random() < 0.7 else rng.integers(V)
    return ids, np.arange(0, n, 150)


def make_model(seed=0, residual=False, **architecture):
    ids, documents = make_text()
    base = (
        ExplicitLM(radius=2, order=3, windows=(20,), induction=30).fit(ids, vocab_size=V, documents=documents)
        if residual
        else None
    )
    model = SaffuLM(**{**SMALL, **architecture}, residual=base).fit(ids, documents=documents, vocab_size=V)
    # Random weights of size 1, which every part of the network moves visibly.
    rng = np.random.default_rng(seed)
    parameters = {name: rng.normal(0, 1, value.shape) for name, value in model._fitted.parameters.items()}
    return model._with_parameters(parameters, [])


def all_logits(model, ids):
    """Logits of every position of one document, and of the one behind it, computed at once."""
    parameters, classes = model._fitted.parameters, model._fitted.output_classes
    stream = TokenStream.of(np.append(ids, 0))
    seen = model._network.chunk(stream, np.array([0]), np.array([stream.ids.size]))
    passed, _ = units.forward(parameters, model._network.units, seen, units.embeddings(parameters, 1))
    outputs = np.zeros((stream.ids.size, parameters["output.bias"].size), np.float32)
    units.add_logits(parameters, units.hidden(passed, seen), outputs)
    logits = outputs if classes is None else outputs[:, classes.of_word]
    return logits if model.residual is None else logits + model.residual.read(stream.ids).logits()


@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=str)
@pytest.mark.parametrize("residual", [False, True])
def test_every_position_has_the_logits_of_the_whole(architecture, residual):
    model = make_model(**architecture, residual=residual)
    ids = make_text(180, seed=1)[0]
    expected = all_logits(model, ids)
    session = model.session()
    for t, token in enumerate([*ids, 0]):
        np.testing.assert_allclose(session.logits(), expected[t], atol=1e-5)
        assert session.n_tokens == t
        session.push(token)


@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=str)
@pytest.mark.parametrize("residual", [False, True])
def test_log_prob_is_the_same(architecture, residual):
    model = make_model(**architecture, residual=residual)
    ids = make_text(180, seed=1)[0]
    session, found = model.session(), []
    for token in ids:
        found.append(np.log(session.distribution()[token]))
        session.push(token)
    np.testing.assert_allclose(found, model.log_prob(ids), atol=1e-5)


@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=str)
@pytest.mark.parametrize("residual", [False, True])
def test_rows_of_log_probabilities_are_those_of_the_text(architecture, residual):
    model = make_model(**architecture, residual=residual)
    ids, starts = make_text(180, seed=1)[0], [0, 7, 8, 100]
    positions = [180, 0, 6, 7, 8, 9, 99, 100, 133, 133, 179]
    rows = model.log_probs(ids, positions, documents=starts)
    assert rows.dtype == np.float64
    np.testing.assert_allclose(np.exp(rows).sum(axis=1), 1, rtol=1e-12)
    own = model.log_prob(ids, documents=starts)
    np.testing.assert_allclose(rows[np.arange(1, 11), ids[positions[1:]]], own[positions[1:]], atol=1e-5)
    for row, position in zip(rows, positions, strict=True):
        begin = max(start for start in starts if start <= position)
        np.testing.assert_allclose(row, np.log(model.distribution(ids[begin:position])), atol=1e-5)
    np.testing.assert_allclose(model.log_probs([], [0]), np.log(model.distribution([]))[None], atol=1e-5)
    assert model.log_probs(ids, []).shape == (0, V)


@pytest.mark.parametrize(
    ("positions", "error", "message"),
    [
        ([4], ValueError, "positions must be between 0 and 3"),
        ([-1], ValueError, "positions must be between 0 and 3"),
        ([[1]], ValueError, "positions must be one-dimensional"),
        ([0.5], TypeError, "positions must be integers"),
    ],
)
def test_what_are_no_positions_is_named(positions, error, message):
    with pytest.raises(error, match=message):
        make_model().log_probs([1, 2, 3], positions)


@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=str)
@pytest.mark.parametrize("cuts", [[200], [1, 199], [97, 5, 64, 2, 32], [30, 0, 2, 168]])
def test_the_cuts_do_not_matter(architecture, cuts):
    model = make_model(**architecture)
    ids = make_text(200, seed=2)[0]
    expected = all_logits(model, ids)
    session, begin = model.session(), 0
    for length in cuts:
        session.extend(ids[begin : begin + length])
        begin += length
        np.testing.assert_allclose(session.logits(), expected[begin], atol=1e-5)
    assert session.hidden.shape == (model._fitted.parameters["output.weights"].shape[1],)
    np.testing.assert_allclose(model.distribution(ids[:begin]), session.distribution(), rtol=1e-4)


def test_a_session_stays_with_its_parameters():
    model = make_model()
    session = model.session([1, 2])
    before = session.logits()
    moved = {name: value + 1 for name, value in model._fitted.parameters.items()}
    model._solution = model._fitted.with_parameters(moved)
    np.testing.assert_array_equal(session.logits(), before)
    assert np.abs(model.session([1, 2]).logits() - before).max() > 0.1


def test_a_token_out_of_range_is_refused():
    session = make_model().session()
    with pytest.raises(ValueError, match="tokens"):
        session.push(V)
    assert session.n_tokens == 0


def test_generate_draws_from_the_distributions():
    model = make_model(residual=True, layers=2)
    drawn = list(model.generate([3, 1], 12, temperature=0.7, top_k=4, seed=5, exclude=[2]))
    rng, context = np.random.default_rng(5), [3, 1]
    for token in drawn:
        p = model.distribution(context)
        p[2] = 0
        kept = np.argsort(-p, kind="stable")[:4]
        weights = np.cumsum(p[kept] ** (1 / 0.7))
        assert token == kept[np.searchsorted(weights, rng.random() * weights[-1])]
        context.append(token)
    assert list(model.generate([3, 1], 12, temperature=0.7, top_k=4, seed=5, exclude=[2])) == drawn
    greedy = list(model.generate([3], 5, temperature=0))
    assert greedy[0] == model.distribution([3]).argmax()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_tokens": -1}, "n_tokens"),
        ({"temperature": -0.5}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"top_k": 0}, "top_k"),
        ({"exclude": list(range(V))}, "exclude must leave"),
        ({"exclude": [V]}, "exclude"),
        ({"prompt": [V]}, "prompt"),
    ],
)
def test_bad_settings_are_named_before_anything_is_drawn(settings, message):
    with pytest.raises(ValueError, match=message):
        make_model().generate(**settings)


# ---- files -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("residual", "words"), [(False, 6000), (True, 6000), (True, 6)])
def test_files_keep_every_bit(tmp_path, residual, words):
    ids, documents = make_text()
    base = ExplicitLM(radius=2, order=3, windows=(20,), induction=30) if residual else None
    model = SaffuLM(**SMALL, layers=2, residual=base, words=words, min_count=2, seed=3)
    model.fit(ids, documents=documents, vocab_size=V)
    model = model.refine(ids, epochs=1, documents=documents)
    model.vocabulary = saffu.text.Vocabulary([str(i) for i in range(V - 2)])
    model.save(tmp_path / "model.saffu")
    again = saffu.load(tmp_path / "model.saffu")
    assert type(again) is SaffuLM
    again.save(tmp_path / "again.saffu")
    assert (tmp_path / "again.saffu").read_bytes() == (tmp_path / "model.saffu").read_bytes()
    ours, theirs = (each._settings() | {"residual": None, "n_threads": None} for each in (model, again))
    assert ours == theirs
    assert (again.history, again.scalars, again.seconds) == (model.history, model.scalars, model.seconds)
    assert again.attention_losses == model.attention_losses
    assert again.vocabulary == model.vocabulary
    assert again.summary() == model.summary()
    new, starts = make_text(400, seed=4)
    for either in (model, again):
        either.update(new[:100])
    np.testing.assert_array_equal(again.log_prob(new, documents=starts), model.log_prob(new, documents=starts))


def test_summary_counts():
    model = make_model(residual=True, layers=2, heads=2)
    facts = model.summary()
    assert facts["n_parameters"] == sum(value.size for value in model._fitted.parameters.values())
    assert facts["bytes_parameters"] == 4 * facts["n_parameters"]
    assert facts["units"] == ["radial1", "radial2", "document1", "layer2.radial1", "layer2.radial2"]
    assert facts["vocab_size"] == V
    assert facts["residual"] == model.residual.summary()


def remove(arrays, metadata):
    del arrays["parameters.radial1.weights"]


def misname(arrays, metadata):
    arrays["parameters.radial9.weights"] = arrays.pop("parameters.radial1.weights")


def cut(arrays, metadata):
    arrays["parameters.output.weights"] = arrays["parameters.output.weights"][1:]


def widen(arrays, metadata):
    arrays["parameters.radial1.bias"] = arrays["parameters.radial1.bias"].astype(np.float64)


def spoil(arrays, metadata):
    arrays["parameters.embeddings.logits"][3, 2] = np.nan


def forget_scalars(arrays, metadata):
    metadata["scalars"] = metadata["scalars"][1:]


def rename_context(arrays, metadata):
    metadata["settings"]["contexts"] = ["far"]


def lose_settings(arrays, metadata):
    del metadata["settings"]


def break_history(arrays, metadata):
    metadata["history"] = 3


def swap_vocabulary(arrays, metadata):
    inner, metadata["vocabulary"] = saffu.text.Vocabulary(["a"])._to_checkpoint()
    arrays |= {f"vocabulary.{name}": array for name, array in inner.items()}


def damage_residual(arrays, metadata):
    arrays["residual.unigram"][0] += 1


def lose_cells(arrays, metadata):
    del arrays["cells"]


def empty_a_cell(arrays, metadata):
    arrays["cells"][arrays["cells"] == 1] = 0


def lose_statistics(arrays, metadata):
    del arrays["evidence.observed"]


def narrow_statistics(arrays, metadata):
    arrays["evidence.expected"] = arrays["evidence.expected"][:, 1:]


def spoil_statistics(arrays, metadata):
    arrays["evidence.observed"][2, 1] = -1


def spoil_classes(arrays, metadata):
    arrays["classes.mass"][2] = -1


def cut_attention(arrays, metadata):
    arrays["classes.radial1.attention"] = arrays["classes.radial1.attention"][1:]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (remove, "'radial1.weights' is missing"),
        (misname, "'radial1.weights' is missing"),
        (cut, "'output.weights' must be finite float32"),
        (widen, "'radial1.bias' must be finite float32"),
        (spoil, "'embeddings.logits' must be finite"),
        (forget_scalars, "2 scalars and 2 units"),
        (rename_context, "contexts must be one of"),
        (lose_settings, "'settings' is missing"),
        (break_history, "history is damaged"),
        (swap_vocabulary, "vocabulary must have 13 types, as the model has, got one of 3"),
        (damage_residual, "'unigram' is damaged"),
        (lose_cells, "'output.bias' must be finite float32 (13,)"),
        (empty_a_cell, "every output class must have a word"),
        (lose_statistics, "'observed' is missing"),
        (narrow_statistics, "'expected' must be finite float32"),
        (spoil_statistics, "counts of the output are damaged"),
        (spoil_classes, "counts of the embeddings are damaged"),
        (cut_attention, "attention that the embeddings were solved with"),
    ],
)
def test_damage_is_named(tmp_path, damage, message):
    path = tmp_path / "model.saffu"
    make_model(residual=True, words=8).save(path)
    kind, arrays, metadata = saffu.utils.checkpoint.read(path)
    damage(arrays, metadata)
    saffu.utils.checkpoint.write(path, kind, arrays, metadata)
    with pytest.raises(ValueError, match="is a damaged saffu-lm model") as caught:
        saffu.load(path)
    assert message in str(caught.value)
