"""The classifier of texts: counts, their sums and differences, the solution, files, and what is refused."""

import itertools

import numpy as np
import pytest
from scipy.sparse import csr_array

import saffu
from saffu import ExplicitTextClassifier
from saffu.classifier import text_solution
from saffu.classifier.text_calibration import calibrated
from saffu.classifier.text_counts import TextCounts
from saffu.classifier.text_ridge import ridge_duals
from saffu.classifier.text_scores import TextScores
from saffu.classifier.text_solution import scale_of
from saffu.utils.sparse import SparseRows

WORDS = [f"w{i}" for i in range(60)]
LABELS = np.array(["cat", "dog", "emu"])


def made_up(n=300, seed=0, n_labels=3):
    """Texts whose words come from a distribution of their label."""
    rng = np.random.default_rng(seed)
    p = np.random.default_rng(99).dirichlet(np.full(len(WORDS), 0.3), n_labels)
    numbers = rng.integers(0, n_labels, n)
    texts = [" ".join(rng.choice(WORDS, rng.integers(3, 12), p=0.7 * p[c] + 0.3 / len(WORDS))) for c in numbers]
    return texts, LABELS[numbers] if n_labels == 3 else numbers


@pytest.fixture(scope="module")
def data():
    return made_up()


@pytest.fixture(scope="module")
def fitted(data):
    return ExplicitTextClassifier(n_threads=1).fit(*data)


def assert_same_counts(a, b):
    a, b = a.counts, b.counts
    np.testing.assert_array_equal(a.hashes, b.hashes)
    np.testing.assert_array_equal(a.classes, b.classes)
    for name in ("total", "mass"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
    assert (a.table != b.table).nnz == 0
    assert a.n_texts == b.n_texts
    np.testing.assert_array_equal(a.sample.keys, b.sample.keys)
    np.testing.assert_array_equal(a.sample.weights, b.sample.weights)
    assert (a.sample.features != b.sample.features).nnz == 0
    assert (a.sample.targets != b.sample.targets).nnz == 0


# ---- counts ----------------------------------------------------------------------------------------------------------


def test_counts_are_numbers_of_texts(fitted, data):
    texts, labels = data
    counts = fitted.counts
    for word in ("w3", "w17", "w3 w17"):
        holds = np.array([f" {word} " in f" {text} " for text in texts])
        _, hashes = fitted._state.ngrams.hashes([word], 1)
        place = np.flatnonzero(counts.hashes == hashes[-1])
        expected = [np.sum(holds & (labels == label)) for label in LABELS]
        if place.size == 0:
            assert sum(expected) == 0
            continue
        assert counts.table[:, place].toarray().ravel().tolist() == expected
        assert counts.total[place].tolist() == [sum(expected)]


def test_sixteen_shards_in_any_order_are_one_fit(data, fitted):
    texts, labels = data
    shards = [ExplicitTextClassifier(n_threads=1).fit(texts[i::16], labels[i::16]) for i in range(16)]
    for order in (range(16), np.random.default_rng(1).permutation(16)):
        merged = ExplicitTextClassifier(n_threads=1)
        for i in order:
            merged.merge(shards[i])
        assert_same_counts(merged, fitted)
        np.testing.assert_array_equal(merged.predict_proba(texts), fitted.predict_proba(texts))


@pytest.mark.parametrize("size", [1, 7, 100])
def test_chunks_are_one_fit(data, fitted, size):
    texts, labels = data
    classifier = ExplicitTextClassifier(n_threads=1)
    for i in range(0, len(texts), size):
        classifier.partial_fit(texts[i : i + size], labels[i : i + size])
    classifier.partial_fit([], [])
    assert_same_counts(classifier, fitted)
    np.testing.assert_array_equal(classifier.predict_proba(texts), fitted.predict_proba(texts))


def test_subtracting_undoes_counting(data):
    texts, labels = data
    whole = ExplicitTextClassifier(n_threads=1).fit(texts, labels)
    whole.subtract(texts[200:], labels[200:])
    assert_same_counts(whole, ExplicitTextClassifier().fit(texts[:200], labels[:200]))
    once = whole.predict_proba(texts)
    with pytest.raises(ValueError, match="must be texts that have been counted"):
        whole.subtract(["w1 never counted"], ["cat"])
    with pytest.raises(ValueError, match="must be texts that have been counted"):
        whole.subtract(texts[:1], [LABELS[str(labels[0]) != LABELS][0]])
    np.testing.assert_array_equal(whole.predict_proba(texts), once)
    everything = whole.subtract(texts[:200], labels[:200]).counts
    assert (everything.hashes.size, everything.classes.size, everything.n_texts) == (0, 0, 0)


def test_a_weight_of_k_counts_as_k_texts(data):
    texts, labels = data
    k = np.random.default_rng(2).integers(0, 4, len(texts))
    weighted = ExplicitTextClassifier(n_threads=1).fit(texts, labels, sample_weight=k)
    repeated = ExplicitTextClassifier(n_threads=1).fit(np.repeat(texts, k), np.repeat(labels, k))
    a, b = weighted.counts, repeated.counts
    np.testing.assert_array_equal(a.hashes, b.hashes)
    np.testing.assert_array_equal(a.table.toarray(), b.table.toarray())
    np.testing.assert_array_equal(a.mass, b.mass)
    assert weighted.facts["ridge"] == repeated.facts["ridge"]
    np.testing.assert_allclose(weighted.predict_proba(texts), repeated.predict_proba(texts), atol=1e-4)


def test_labels_may_come_later(data):
    texts, labels = data
    first = labels == "cat"
    classifier = ExplicitTextClassifier().partial_fit(np.array(texts)[first], labels[first])
    assert classifier.predict(texts[:3]).tolist() == ["cat"] * 3
    np.testing.assert_allclose(classifier.predict_proba(texts[:3]), 1)
    classifier.partial_fit(np.array(texts)[~first], labels[~first])
    assert classifier.classes_.tolist() == LABELS.tolist()
    assert_same_counts(classifier, ExplicitTextClassifier().fit(texts, labels))


def test_buckets_bound_the_features(data):
    classifier = ExplicitTextClassifier(buckets=100, n_threads=1).fit(*data)
    assert 64 < classifier.counts.hashes.size <= 128
    assert classifier.score(*data) > 0.7


def test_texts_beyond_the_bound_are_those_with_large_keys(data, monkeypatch):
    texts, labels = data
    monkeypatch.setattr("saffu.classifier.text_counts.SAMPLE_VALUES", 1500)
    one = ExplicitTextClassifier(n_threads=1).fit(texts, labels)
    kept = one.counts.sample
    assert kept.features.nnz <= 1500 < kept.features.nnz + 40
    assert (kept.keys < kept.bound).all()
    other = ExplicitTextClassifier(n_threads=1)
    for i in (2, 0, 1):
        other.merge(ExplicitTextClassifier().fit(texts[i::3], labels[i::3]))
    assert_same_counts(one, other)
    assert other.counts.n_texts == len(texts)
    one.subtract(texts[:50], labels[:50])
    assert one.counts.n_texts == len(texts) - 50
    assert one.score(texts, labels) > 0.7


# ---- the solution ----------------------------------------------------------------------------------------------------


def test_duals_solve_their_systems():
    rng = np.random.default_rng(0)
    X = csr_array(np.where(rng.random((50, 80)) < 0.2, rng.normal(size=(50, 80)), 0).astype(np.float32))
    Y = rng.normal(size=(50, 3)).astype(np.float32)
    rows, columns = SparseRows.of(X, 1), SparseRows.of(csr_array(X.T.tocsr()), 1)
    ridges = (0.1, 0.5, 7.0)
    for ridge, dual in zip(ridges, ridge_duals(rows, columns, Y, ridges, 1e-5), strict=True):
        expected = np.linalg.solve((X @ X.T).toarray().astype(float) + ridge * np.eye(50), Y)
        np.testing.assert_allclose(dual, expected, atol=2e-4 * np.abs(expected).max())


@pytest.mark.parametrize("kind", ["log", "idf", "ratio", "information"])
def test_weights_of_ngrams_equal_their_equations(fitted, kind):
    counts = fitted.counts
    n, N, total, M = counts.table.toarray(), counts.mass[:, None], counts.total, counts.n_texts
    a = 0.1
    odds = np.log((n + a) / (N + 2 * a)) - np.log((total - n + a) / (M - N + 2 * a))
    share, prior = (n + a) / (total + 3 * a), (N + a) / (M + 3 * a)
    expected = {
        "log": np.ones(total.size),
        "idf": 1 + np.log((1 + M) / (1 + total)),
        "ratio": np.sqrt((odds**2).mean(axis=0)),
        "information": np.sqrt(np.maximum((share * np.log(share / prior)).sum(axis=0), 1e-12)),
    }[kind]
    np.testing.assert_allclose(scale_of(kind, counts, a), expected, rtol=1e-5)


def test_scores_are_those_of_ridge_regression(data, monkeypatch):
    monkeypatch.setattr(text_solution, "ridge_duals", lambda *given: ridge_duals(*given[:4], 1e-5))
    texts, labels = data
    classifier = ExplicitTextClassifier(1, min_count=1, weighting="log", ridge=0.5, n_threads=1).fit(texts, labels)
    counted = np.array([[text.split().count(word) for word in WORDS] for text in texts])
    x = np.log1p(counted)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    y = (labels[:, None] == LABELS).astype(float)
    w = np.linalg.solve(x.T @ x + 0.5 * np.eye(len(WORDS)), x.T @ (y - y.mean(axis=0)))
    calibration = classifier._solved().calibration
    expected = x @ w * calibration.temperature + calibration.offsets
    np.testing.assert_allclose(classifier.decision_function(texts), expected, atol=1e-3)


def test_it_predicts_and_its_probabilities_are_calibrated():
    texts, labels = made_up(6000, seed=1)
    classifier = ExplicitTextClassifier(n_threads=2).fit(texts[:4000], labels[:4000])
    p = classifier.predict_proba(texts[4000:])
    np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-5)
    assert classifier.score(texts[4000:], labels[4000:]) > 0.75
    scores = TextScores(3, 1, 0.0)
    scores.add(np.log(p), labels[4000:, None] == LABELS, several=False)
    assert scores.summary()["calibration_error"] < 0.04
    assert abs(scores.summary()["nll"] - classifier.facts["held_out_loss"]) < 0.05


@pytest.mark.parametrize("n_threads", [2, 3, 7])
def test_nothing_depends_on_threads(data, fitted, n_threads):
    texts, labels = data
    other = ExplicitTextClassifier(n_threads=n_threads).fit(texts, labels)
    np.testing.assert_array_equal(other.predict_proba(texts), fitted.predict_proba(texts))
    assert other.facts == fitted.facts


def test_a_calibration_is_the_least_loss():
    rng = np.random.default_rng(3)
    scores = rng.normal(size=(400, 3)).astype(np.float32)
    labels = (3 * scores + rng.gumbel(size=scores.shape)).argmax(axis=1)
    found = calibrated(scores, np.eye(3)[labels], np.ones(400), False)
    assert 2 < found.temperature < 4
    for step in (0.95, 1.05):
        logits = found.temperature * step * scores + found.offsets
        loss = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(400), labels]
        best = found.logits(scores)
        assert loss.mean() > (np.log(np.exp(best).sum(axis=1)) - best[np.arange(400), labels]).mean()


# ---- what it tells ---------------------------------------------------------------------------------------------------


def test_the_top_labels_descend(fitted, data):
    texts = data[0][:20]
    labels, p = fitted.top(texts, k=2)
    assert labels.shape == p.shape == (20, 2)
    assert (p[:, 0] >= p[:, 1]).all()
    assert labels[:, 0].tolist() == fitted.predict(texts).tolist()
    assert fitted.top(texts, k=99)[0].shape == (20, 3)


def test_the_words_of_an_explanation_add_up(fitted, data):
    texts = data[0][:20]
    for text, explained in zip(texts, fitted.explain(texts, k=1000), strict=True):
        assert explained.label == fitted.predict([text])[0]
        assert all(f" {words} " in f" {text} " for words, _ in explained.words)
        weights = [weight for _, weight in explained.words]
        assert weights == sorted(weights, reverse=True)
    wanted = fitted.explain(["w1 w2 w3", "w4"], labels=["emu", "cat"], k=2)
    assert [each.label for each in wanted] == ["emu", "cat"]
    logits = fitted.decision_function([" ".join(WORDS)])[0]
    offsets = fitted._solved().calibration.offsets
    parts = [fitted.explain([" ".join(WORDS)], labels=[label], k=10**6)[0].words for label in LABELS]
    shares = logits - offsets - (logits - offsets).mean()
    assert all(sum(weight for _, weight in words) >= share for words, share in zip(parts, shares, strict=True))


def test_characters_are_explained_as_they_stand():
    texts = ["der und die", "the and a", "ein und aus", "then and there"] * 3
    labels = ["de", "en"] * 6
    classifier = ExplicitTextClassifier(3, tokenizer="chars").fit(texts, labels)
    assert classifier.predict(["und", "and"]).tolist() == ["de", "en"]
    assert all(words in "und" for words, _ in classifier.explain(["und"])[0].words)


# ---- several labels --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def several():
    rng = np.random.default_rng(5)
    topics = {"red": ["apple", "rose", "fire"], "green": ["leaf", "grass", "frog"], "blue": ["sky", "sea", "whale"]}
    texts, labels = [], []
    for _ in range(400):
        chosen = [name for name in topics if rng.random() < 0.4]
        words = [str(rng.choice(topics[name])) for name in chosen for _ in range(2)] + [str(rng.choice(WORDS))]
        texts.append(" ".join(rng.permutation(words)))
        labels.append(chosen)
    return texts, labels


def test_texts_may_have_several_labels(several):
    texts, labels = several
    classifier = ExplicitTextClassifier(n_threads=1).fit(texts, labels)
    assert classifier.several_labels
    assert classifier.score(texts, labels) > 0.95
    p = classifier.predict_proba(["apple sea", "w3 w4"])
    assert p[0, 2] > 0.7
    assert p[0, 0] > 0.7
    assert p[0, 1] < 0.3
    assert (p[1] < 0.4).all()
    assert classifier.predict(["apple rose whale sea", "w3"]) == [("blue", "red"), ()]
    np.testing.assert_allclose(np.exp(classifier.predict_log_proba(["apple"])), classifier.predict_proba(["apple"]))
    assert [words for words, _ in classifier.explain(["frog sea"], labels=["blue"], k=1)[0].words] == ["sea"]
    shards = [ExplicitTextClassifier(n_threads=1).fit(texts[i::4], labels[i::4]) for i in range(4)]
    for other in shards[1:]:
        shards[0].merge(other)
    assert_same_counts(shards[0], classifier)


def test_one_list_of_labels_makes_all_labels_independent(several):
    texts, labels = several
    one = [i for i, each in enumerate(labels) if len(each) == 1]
    single = ExplicitTextClassifier().fit([texts[i] for i in one], [labels[i][0] for i in one])
    assert not single.several_labels
    rest = [i for i in range(len(texts)) if i not in set(one)]
    single.partial_fit([texts[i] for i in rest], [labels[i] for i in rest])
    assert_same_counts(single, ExplicitTextClassifier().fit(texts, labels))
    assert single.several_labels


# ---- files -----------------------------------------------------------------------------------------------------------


def test_a_file_gives_the_same_classifier(fitted, data, tmp_path):
    fitted.save(tmp_path / "model")
    loaded = saffu.load(tmp_path / "model")
    assert loaded.get_params() == fitted.get_params()
    assert_same_counts(loaded, fitted)
    np.testing.assert_array_equal(loaded.predict_proba(data[0]), fitted.predict_proba(data[0]))
    loaded.partial_fit(["w1 w2"], ["cat"])
    assert loaded.counts.n_texts == fitted.counts.n_texts + 1


def test_a_pruned_classifier_is_as_small_as_it_was_asked_to_be(fitted, data, tmp_path):
    texts, labels = data
    plain = fitted.pruned()
    np.testing.assert_array_equal(plain.predict_proba(texts), fitted.predict_proba(texts))
    for size in (2500, 4000, 20_000):
        smaller = fitted.pruned(target_size=size)
        smaller.save(tmp_path / "small")
        assert size * 0.5 < (tmp_path / "small").stat().st_size <= size or smaller.n_ngrams == fitted.n_ngrams
        loaded = saffu.load(tmp_path / "small")
        np.testing.assert_allclose(loaded.predict_proba(texts), smaller.predict_proba(texts), atol=1e-3)
        assert smaller.score(texts, labels) > 0.7
    for use in (lambda: smaller.counts, lambda: smaller.partial_fit(["a"], ["cat"]), lambda: smaller.merge(fitted)):
        with pytest.raises(ValueError, match="pruned classifier"):
            use()
    with pytest.raises(ValueError, match="target_size must be at least"):
        fitted.pruned(target_size=100)


def test_damaged_files_are_refused(fitted, tmp_path):
    from saffu.utils import checkpoint

    arrays, metadata = fitted._to_checkpoint()
    rng = np.random.default_rng(0)
    for name in arrays:
        for array in (arrays[name][:-1], np.zeros(arrays[name].shape, np.float16)):
            if name in ("scale", "classes") and array.size == arrays[name].size:
                continue  # which a small file holds in 16 bits, and names go before numbers
            checkpoint.write(tmp_path / "damaged", "text-classifier", arrays | {name: array}, metadata)
            with pytest.raises(ValueError, match="damaged"):
                saffu.load(tmp_path / "damaged")
    for name in metadata:
        checkpoint.write(
            tmp_path / "damaged", "text-classifier", arrays, {k: v for k, v in metadata.items() if k != name}
        )
        if name != "class_names":
            with pytest.raises(ValueError, match="damaged"):
                saffu.load(tmp_path / "damaged")
    doubled = arrays | {"hashes": arrays["hashes"][rng.integers(0, 2, arrays["hashes"].size)]}
    checkpoint.write(tmp_path / "damaged", "text-classifier", doubled, metadata)
    with pytest.raises(ValueError, match="damaged"):
        saffu.load(tmp_path / "damaged")


# ---- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"ngrams": 0}, ValueError, "ngrams must be at least 1, got 0"),
        ({"ngrams": 17}, ValueError, "ngrams must be at most 16, got 17"),
        ({"tokenizer": "wordz"}, ValueError, "tokenizer must be"),
        ({"lowercase": "no"}, TypeError, "lowercase must be True or False"),
        ({"min_count": 0}, ValueError, "min_count must be"),
        ({"buckets": 1}, ValueError, "buckets must be at least 2"),
        ({"weighting": "tfidf"}, ValueError, "weighting must be"),
        ({"ridge": -1.0}, ValueError, "ridge must be"),
        ({"smoothing": 0.0}, ValueError, "smoothing must be"),
        ({"n_threads": 0}, ValueError, "n_threads must be at least 1"),
    ],
)
def test_settings_out_of_range(settings, error, message):
    with pytest.raises(error, match=message):
        ExplicitTextClassifier(**settings).fit(["a"], ["b"])


@pytest.mark.parametrize(
    ("X", "y", "error", "message"),
    [
        ("a text", ["a"], TypeError, "must be a list of texts, got one str"),
        ([b"a"], ["a"], TypeError, "must hold strings"),
        ([None], ["a"], TypeError, "got None at position 0"),
        (np.zeros((2, 2)), [0, 1], ValueError, "must be a vector of texts"),
        ([], [], ValueError, "at least one text"),
        (["a", "b"], ["x"], ValueError, "one label for each of the 2 rows"),
        (["a", "b"], [["x"]], ValueError, "one list of labels for each of the 2 texts"),
        (["a", "b"], ["x", 1], TypeError, "one kind"),
        (["a", "b"], [["x"], [1]], TypeError, "one kind"),
        (["a"], "x", TypeError, "must be a list of labels"),
        (["a"], None, ValueError, "requires y"),
        (["a", "b"], np.eye(2), ValueError, "vector of labels"),
    ],
)
def test_foul_input_is_refused(X, y, error, message):
    with pytest.raises(error, match=message):
        ExplicitTextClassifier().fit(X, y)


def test_what_is_not_fitted_predicts_nothing(tmp_path):
    new = ExplicitTextClassifier()
    for use in (lambda: new.predict(["a"]), lambda: new.classes_, lambda: new.save(tmp_path / "x"), lambda: new.counts):
        with pytest.raises(ValueError, match="has seen no data"):
            use()
    with pytest.raises(ValueError, match="must have the same n-grams"):
        ExplicitTextClassifier(1).fit(["a"], ["b"]).merge(ExplicitTextClassifier(2).fit(["a"], ["b"]))
    with pytest.raises(TypeError, match="must be an ExplicitTextClassifier"):
        new.merge(saffu.SoftmaxLayer())
    with pytest.raises(TypeError, match="one kind in every call"):
        ExplicitTextClassifier().fit(["a"], ["b"]).partial_fit(["a"], [1])


@pytest.mark.parametrize("texts", [[""], ["", ""], ["a"], ["a", "b"], ["", "a", "\ud800", "\x00" * 100]])
def test_the_smallest_data_are_solved(texts):
    labels = [i % 2 for i in range(len(texts))]
    classifier = ExplicitTextClassifier(min_count=1).fit(texts, labels)
    p = classifier.predict_proba([*texts, "never seen"])
    assert np.isfinite(p).all()
    np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-5)


def test_every_kind_of_texts_is_read():
    texts = ["a b", "c d"] * 3
    expected = ExplicitTextClassifier().fit(texts, [0, 1] * 3).predict_proba(texts)
    kinds = [tuple(texts), np.array(texts), np.array(texts, object)]
    for kind, labels in itertools.product(kinds, ([0, 1] * 3, np.array([0, 1] * 3))):
        np.testing.assert_array_equal(ExplicitTextClassifier().fit(kind, labels).predict_proba(kind), expected)


def test_counts_of_weights_between_are_summed():
    counts = ExplicitTextClassifier().fit(["a", "a"], [0, 1], sample_weight=[0.5, 0.25]).counts
    assert isinstance(counts, TextCounts)
    assert counts.total.tolist() == [0.75]
    assert counts.mass.tolist() == [0.5, 0.25]
