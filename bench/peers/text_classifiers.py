"""What classifies texts beside saffu: fastText, and scikit-learn's linear classifiers on counted words.

Each is a function that fits and returns a :class:`Fitted`. Settings that matter are chosen by the accuracy on a fifth
of the training texts, which are held out; the time is that of the last fit alone.
"""

from __future__ import annotations

import pickle
import re
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bench.report.requirements import installed

TINY = 1e-7  # the least probability: fastText's own are rounded
HELD = 5  # one text of so many is held out


class Fitted(NamedTuple):
    """A classifier, and how long it took."""

    log_proba: Callable[[Sequence[str]], NDArray] | None  # None: it has no probabilities
    predict: Callable[[Sequence[str]], NDArray]
    seconds: float
    n_bytes: int
    chosen: str = ""


Texts = Sequence[str]
Fit = Callable[[Texts, NDArray], Fitted]


def tuned(texts: Texts, y: NDArray, settings: Sequence[Any], fit: Callable[[Texts, NDArray, Any], Fitted]) -> Fitted:
    """Fit with the setting that is most accurate on held-out texts."""
    held = np.random.default_rng(0).permutation(y.size) % HELD == 0
    rest, out = np.flatnonzero(~held), np.flatnonzero(held)
    given = [texts[i] for i in rest], [texts[i] for i in out]

    def accuracy(setting: Any) -> float:
        try:
            return float((fit(given[0], y[rest], setting).predict(given[1]) == y[out]).mean())
        except RuntimeError:  # fastText met a number that is none
            return 0.0

    best = max(settings, key=accuracy)
    return fit(texts, y, best)._replace(chosen=str(best))


# ---- scikit-learn ----------------------------------------------------------------------------------------------------


def of_sklearn() -> dict[str, Fit]:
    """Fitting functions of scikit-learn, by name."""
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.naive_bayes import ComplementNB
    from sklearn.pipeline import make_pipeline
    from sklearn.svm import LinearSVC

    def vectors(longest: int) -> Any:
        return TfidfVectorizer(sublinear_tf=True, ngram_range=(1, longest), min_df=2, dtype=np.float32)

    def settings_of(*strengths: float) -> list[tuple[int, float]]:
        return [(longest, strength) for longest in (1, 2) for strength in strengths]

    makers = {  # settings are the longest n-gram, and one of the classifier
        "ComplementNB, tf-idf": (settings_of(0.03, 0.1, 0.3, 1.0), lambda alpha: ComplementNB(alpha=alpha)),
        "LogisticRegression, tf-idf": (settings_of(10), lambda C: LogisticRegression(C=C, max_iter=60)),
        "LinearSVC, tf-idf, calibrated": (
            settings_of(0.3, 1),
            lambda C: CalibratedClassifierCV(LinearSVC(C=C), ensemble=False, cv=3),
        ),
    }

    def fit_of(settings: Sequence[Any], make: Callable[[Any], Any]) -> Fit:
        def fit(texts: Texts, y: NDArray, setting: tuple[int, float]) -> Fitted:
            return _timed(make_pipeline(vectors(setting[0]), make(setting[1])), texts, y)

        return lambda texts, y: tuned(texts, y, settings, fit)

    found = {name: fit_of(*maker) for name, maker in makers.items()}
    return {**found, "NB-SVM": lambda texts, y: tuned(texts, y, (0.1, 1.0), _fit_nbsvm)}


def _timed(pipeline: Any, texts: Texts, y: NDArray) -> Fitted:
    start = time.perf_counter()
    pipeline.fit(texts, y)
    seconds = time.perf_counter() - start
    return Fitted(
        lambda texts: np.log(np.maximum(pipeline.predict_proba(texts), TINY)),
        pipeline.predict,
        seconds,
        len(pickle.dumps(pipeline)),
    )


def _fit_nbsvm(texts: Texts, y: NDArray, C: float) -> Fitted:
    """Wang and Manning (2012): presence of n-grams times log-count ratios of each label, and a linear SVM."""
    from scipy.sparse import csr_array, diags_array
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.svm import LinearSVC

    start = time.perf_counter()
    vectorizer = CountVectorizer(binary=True, ngram_range=(1, 2), min_df=2, dtype=np.float32)
    X = csr_array(vectorizer.fit_transform(texts))
    weights, offsets = [], []
    for label in range(int(y.max()) + 1):
        inside, outside = (np.asarray(X[y == label].sum(axis=0)).ravel() + 1, np.asarray(X[y != label].sum(axis=0)) + 1)
        ratio = np.log(inside / inside.sum()) - np.log(outside.ravel() / outside.sum())
        machine = LinearSVC(C=C).fit(X @ diags_array(ratio.astype(np.float32)), y == label)
        w = machine.coef_[0]
        w = 0.75 * np.abs(w).mean() + 0.25 * w  # their interpolation with naive Bayes
        weights.append(ratio * w)
        offsets.append(machine.intercept_[0])
    W, b = np.array(weights, np.float32).T, np.array(offsets)
    seconds = time.perf_counter() - start
    n_bytes = len(pickle.dumps((vectorizer, W, b)))
    return Fitted(None, lambda texts: (vectorizer.transform(texts) @ W + b).argmax(axis=1), seconds, n_bytes)


# ---- fastText --------------------------------------------------------------------------------------------------------

SETTINGS = [  # epochs, learning rate, longest n-gram
    (epochs, rate, 2) for epochs, rate in ((5, 0.5), (25, 0.5), (25, 1.0), (50, 2.0))
]
TOKEN = re.compile(r"\w+|[^\w\s]")


def of_fasttext() -> dict[str, Fit]:
    """The supervised classifier of fastText, by default and tuned; nothing where it is not installed."""
    if not (installed("fasttext-numpy2-wheel") or installed("fasttext")):
        return {}
    return {
        "fastText, bigrams, else default": lambda texts, y: _fit_fasttext(texts, y, (5, 0.1, 2)),
        "fastText, tuned": lambda texts, y: tuned(texts, y, SETTINGS, _fit_fasttext),
    }


def as_lines(texts: Texts) -> list[str]:
    """Tokens with spaces between, all lower case: fastText splits at white space alone."""
    return [" ".join(TOKEN.findall(text.lower())) for text in texts]


def _fit_fasttext(texts: Texts, y: NDArray, setting: tuple[int, float, int]) -> Fitted:
    """The file that it reads is written before the clock starts, shuffled: it takes texts in their order."""
    import fasttext

    order = np.random.default_rng(0).permutation(y.size)
    texts, y = [texts[i] for i in order], y[order]

    epochs, rate, longest = setting
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "train.txt"
        lines = zip(y.tolist(), as_lines(texts), strict=True)
        path.write_text("".join(f"__label__{label} {line}\n" for label, line in lines), encoding="utf-8")
        threads = {"thread": _cores(), "verbose": 0}
        start = time.perf_counter()
        model = fasttext.train_supervised(str(path), epoch=epochs, lr=rate, wordNgrams=longest, **threads)
        seconds = time.perf_counter() - start
        model.save_model(str(Path(scratch) / "model.bin"))
        n_bytes = (Path(scratch) / "model.bin").stat().st_size
    n_labels = int(y.max()) + 1

    def log_proba(texts: Texts) -> NDArray:
        p = np.full((len(texts), n_labels), TINY)
        for row, line in enumerate(as_lines(texts)):
            for probability, label in model.f.predict(f"{line}\n", n_labels, 0.0, "strict"):
                p[row, int(label.removeprefix("__label__"))] = max(min(probability, 1.0), TINY)
        return np.log(p)

    return Fitted(log_proba, lambda texts: log_proba(texts).argmax(axis=1), seconds, n_bytes)


def _cores() -> int:
    from saffu.utils.threads import available_cpus

    return available_cpus()
