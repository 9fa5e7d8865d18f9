"""scikit-learn's own checks of estimators, on the classifier of texts.

They give rows of numbers, and pass over estimators of strings but for one check. So a classifier of texts is checked
that writes each row as a text: a word for each feature and the whole number next to its value.
"""

import numpy as np
import pytest

pytest.importorskip("sklearn.utils.estimator_checks")

from sklearn.base import clone, is_classifier
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils import get_tags
from sklearn.utils.validation import check_consistent_length, validate_data

from helpers.sklearn_checks import Checks
from saffu import ExplicitTextClassifier


class OfRows(ExplicitTextClassifier):
    """Rows of numbers as texts."""

    def _texts(self, X, reset):
        rows = np.rint(4 * validate_data(self, X, reset=reset)).astype(np.int64)
        return [" ".join(f"f{j}v{value}" for j, value in enumerate(row)) for row in rows.tolist()]

    def fit(self, X, y, *, sample_weight=None):
        texts = self._texts(X, True)
        if y is not None:
            check_consistent_length(X, y)
        return super().fit(texts, y, sample_weight=sample_weight, progress=False)

    def partial_fit(self, X, y, *, sample_weight=None, classes=None):
        texts = self._texts(X, not hasattr(self, "n_features_in_"))
        return super().partial_fit(texts, y, sample_weight=sample_weight, classes=classes)

    def _logits(self, X):
        self._found()
        return super()._logits(self._texts(X, False))

    def score(self, X, y, *, sample_weight=None):
        return float(np.average(self.predict(X) == np.asarray(y), weights=sample_weight))

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.one_d_array, tags.input_tags.two_d_array, tags.input_tags.string = False, True, False
        return tags


SINGLE = "the numbers are of single precision, and the check allows 1e-7"
CHECKS = Checks(
    [ExplicitTextClassifier(), OfRows(1, min_count=1)],
    lambda estimator: {"check_sample_weight_equivalence_on_dense_data": SINGLE},
)


@pytest.mark.filterwarnings("default")  # some checks warn of what they do themselves
@pytest.mark.parametrize(CHECKS.names, CHECKS.cases, **CHECKS.options)
def test_checks_of_scikit_learn(estimator, check):
    check(estimator)


def test_at_least_45_checks_run():
    assert CHECKS.green().total() >= 45


# ---- scikit-learn's tools, on texts ----------------------------------------------------------------------------------

TEXTS = [f"{words} {i % 7}" for i in range(30) for words in ("free money now", "lunch at noon")]
LABELS = ["spam", "ham"] * 30


def test_tags_say_that_it_reads_strings():
    tags = get_tags(ExplicitTextClassifier()).input_tags
    assert (tags.string, tags.one_d_array, tags.two_d_array) == (True, True, False)
    assert is_classifier(ExplicitTextClassifier())


def test_searches_and_pipelines_work():
    lower = FunctionTransformer(lambda texts: [text.lower() for text in texts])
    search = GridSearchCV(
        make_pipeline(lower, ExplicitTextClassifier()), {"explicittextclassifier__ngrams": [1, 2]}, cv=3
    )
    assert search.fit(TEXTS, LABELS).best_score_ == 1
    assert cross_val_score(ExplicitTextClassifier(), TEXTS, LABELS, cv=3).tolist() == [1, 1, 1]
    assert clone(ExplicitTextClassifier(3, ridge=2.0)).get_params()["ridge"] == 2.0


def test_ngrams_are_those_of_a_vectorizer():
    texts = ["The cat sat on the mat.", "a cat -- the cat!", ""]
    classifier = ExplicitTextClassifier(2).fit(texts, [0, 1, 1])
    counted = CountVectorizer(
        ngram_range=(1, 2), tokenizer=classifier._state.ngrams.tokens, token_pattern=None
    ).fit_transform(texts)
    counts = classifier.counts
    assert counts.hashes.size == counted.shape[1]
    assert sorted(counts.total.tolist()) == sorted((counted.toarray() > 0).sum(axis=0).tolist())
