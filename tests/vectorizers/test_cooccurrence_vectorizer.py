"""CooccurrenceVectorizer: against a count by hand, against saffu.cooccurrence, and in scikit-learn's pipelines."""

import copy
import pickle
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import saffu
from saffu import CooccurrenceVectorizer
from saffu.text import tokenize
from saffu.utils.settings import NotFittedError

TEXTS = ["The cat sat on the mat.", "the dog sat", "", "cat and dog and cat"]
words = st.lists(st.sampled_from("abcde"), max_size=12).map(" ".join)


def pairs_by_hand(text, window, ordered=True):
    tokens = [token for token in tokenize(text.lower()) if token != "\n"]
    near = ((one, other) for t, one in enumerate(tokens) for other in tokens[t + 1 : t + 1 + window])
    return Counter(" ".join(pair if ordered else sorted(pair)) for pair in near)


def named(vectorizer, row, ordered=True):
    names = (name if ordered else " ".join(sorted(name.split(" "))) for name in vectorizer.get_feature_names_out())
    return {name: n for name, n in zip(names, row.toarray().ravel().tolist(), strict=True) if n}


@given(st.lists(words, min_size=1, max_size=6), st.integers(1, 6), st.booleans())
def test_pairs_are_those_counted_by_hand(texts, window, ordered):
    expected = [pairs_by_hand(text, window, ordered) for text in texts]
    vectorizer = CooccurrenceVectorizer(window, ordered=ordered)
    if not any(expected):
        with pytest.raises(ValueError, match="raw_documents must hold pairs of words within"):
            vectorizer.fit(texts)
        return
    X = vectorizer.fit_transform(texts)
    assert [named(vectorizer, X[[i]], ordered) for i in range(len(texts))] == expected
    assert X.dtype == np.int64
    assert X.has_canonical_format
    again = vectorizer.transform(texts)
    assert (again != X).nnz == 0
    alone = [vectorizer.transform([text]) for text in texts]  # rows do not depend on each other
    assert all((one != X[[i]]).nnz == 0 for i, one in enumerate(alone))


def test_the_sum_of_rows_is_what_saffu_counts():
    vectorizer = CooccurrenceVectorizer(3)
    X = vectorizer.fit_transform(TEXTS)
    ids = [vectorizer.vocabulary_.encode([w for w in tokenize(text.lower()) if w != "\n"]) for text in TEXTS]
    starts = np.unique(np.cumsum([0, *map(len, ids[:-1])]))
    counts = saffu.cooccurrence(
        np.concatenate(ids), [1, 2, 3], documents=starts, vocab_size=len(vectorizer.vocabulary_)
    )
    assert (counts != vectorizer.cooccurrence_).nnz == 0
    assert X.sum(axis=0).tolist() == counts[tuple(vectorizer.pairs_.T)].tolist()


def test_rare_words_are_in_no_pair_but_keep_their_places():
    vectorizer = CooccurrenceVectorizer(2, min_count=2).fit(["a x b", "a y b", "a b"])
    assert vectorizer.get_feature_names_out().tolist() == ["a b"]
    assert vectorizer.transform(["a z b", "a z z b", "z", ""]).toarray().ravel().tolist() == [1, 0, 0, 0]


def test_pairs_are_chosen_by_texts_and_by_count():
    texts = ["a b a b a b", "a c", "a c", "d"]
    assert CooccurrenceVectorizer(1, min_documents=2).fit(texts).get_feature_names_out().tolist() == ["a c"]
    vectorizer = CooccurrenceVectorizer(1, max_features=2)
    X = vectorizer.fit_transform(texts)
    assert vectorizer.get_feature_names_out().tolist() == ["a b", "a c"]  # of two that are found twice, the first
    assert X.toarray().tolist() == vectorizer.transform(texts).toarray().tolist() == [[3, 0], [0, 1], [0, 1], [0, 0]]


def test_case_tokenizer_and_threads():
    assert CooccurrenceVectorizer(lowercase=False).fit(["A a"]).get_feature_names_out().tolist() == ["A a"]
    split = CooccurrenceVectorizer(tokenizer="whitespace").fit(["don't stop!\nnow"])
    assert sorted(split.get_feature_names_out()) == ["don't now", "don't stop!", "stop! now"]
    texts = [" ".join(np.random.default_rng(i).choice(list("abcdefgh"), 400)) for i in range(50)]
    one, seven = (CooccurrenceVectorizer(4, n_threads=n).fit_transform(iter(texts)) for n in (1, 7))
    assert (one != seven).nnz == 0


@pytest.mark.parametrize(
    ("settings", "texts", "error", "message"),
    [
        ({"window": 0}, TEXTS, ValueError, "window must be at least 1, got 0"),
        ({"window": 2.0}, TEXTS, TypeError, "window must be an integer"),
        ({"tokenizer": "stems"}, TEXTS, ValueError, "tokenizer must be"),
        ({"min_count": 0}, TEXTS, ValueError, "min_count must be at least 1"),
        ({"min_documents": 0}, TEXTS, ValueError, "min_documents must be at least 1"),
        ({"max_features": 0}, TEXTS, ValueError, "max_features must be at least 1"),
        ({"n_threads": 0}, TEXTS, ValueError, "n_threads must be"),
        ({}, "one text", ValueError, "raw_documents must be an iterable of texts, got one string"),
        ({}, ["a b", 3], TypeError, "raw_documents must be strings, got int at place 1"),
        ({"min_documents": 9}, TEXTS, ValueError, "raw_documents must hold pairs"),
        ({}, [], ValueError, "raw_documents must hold pairs"),
    ],
)
def test_mistakes_are_named(settings, texts, error, message):
    with pytest.raises(error, match=message):
        CooccurrenceVectorizer(**settings).fit(texts)


def test_it_follows_the_contract_of_estimators():
    vectorizer = CooccurrenceVectorizer()
    for ask in (lambda: vectorizer.transform(["a"]), vectorizer.get_feature_names_out):
        with pytest.raises((NotFittedError, ValueError), match="has seen no data: call fit first"):
            ask()
    before = vars(vectorizer).copy()
    assert before == vectorizer.get_params()  # the constructor stores its arguments and nothing else
    assert vectorizer.set_params(window=1) is vectorizer
    with pytest.raises(ValueError, match="CooccurrenceVectorizer has the settings window, tokenizer"):
        vectorizer.set_params(windows=1)
    assert vectorizer.fit(TEXTS, y=[0, 1, 0, 1]) is vectorizer
    assert vectorizer.get_params() == before | {"window": 1}
    X = vectorizer.transform(TEXTS)
    for other in (copy.deepcopy(vectorizer), pickle.loads(pickle.dumps(vectorizer))):
        assert (other.transform(TEXTS) != X).nnz == 0
    vectorizer.set_params(window=4)
    with pytest.raises(ValueError, match="must hold pairs"):
        vectorizer.fit([])
    assert repr(CooccurrenceVectorizer(3)).startswith("CooccurrenceVectorizer(window=3, tokenizer='words'")


def test_in_a_pipeline_and_a_grid_search():
    sklearn = pytest.importorskip("sklearn")
    from sklearn.model_selection import GridSearchCV
    from sklearn.pipeline import make_pipeline

    tags = sklearn.utils.get_tags(CooccurrenceVectorizer())
    assert tags.input_tags.string
    assert not tags.input_tags.two_d_array
    unfitted = sklearn.base.clone(CooccurrenceVectorizer(2).fit(TEXTS))
    assert repr(unfitted) == repr(CooccurrenceVectorizer(2))
    with pytest.raises(sklearn.exceptions.NotFittedError):
        sklearn.utils.validation.check_is_fitted(unfitted)
    # The order of words tells the classes apart, which counts of words cannot.
    texts, y = ["a b c", "c b a", "x a b y", "y b a x"] * 10, ["right", "wrong"] * 20
    pipeline = make_pipeline(CooccurrenceVectorizer(), saffu.SoftmaxLayer())
    search = GridSearchCV(pipeline, {"cooccurrencevectorizer__ordered": [False, True]}, cv=2).fit(texts, y)
    assert search.best_params_ == {"cooccurrencevectorizer__ordered": True}
    assert search.score(["k b a k", "a b"], ["wrong", "right"]) == 1
