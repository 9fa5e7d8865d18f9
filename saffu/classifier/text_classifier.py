"""A classifier of texts that is solved explicitly, and read from counts."""

from __future__ import annotations

import os
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike

from saffu.classifier import inputs, text_checkpoint
from saffu.classifier.labels import Classes
from saffu.classifier.text_counts import TextCounts, sorted_distinct
from saffu.classifier.text_features import Known, Ngrams, as_scipy, batches_of, texts_of
from saffu.classifier.text_model import TextModel
from saffu.classifier.text_predictor import TextPredictor
from saffu.classifier.text_pruning import pruned
from saffu.classifier.text_solution import TextSettings
from saffu.classifier.text_state import TextState
from saffu.classifier.text_targets import TextLabels, known_classes
from saffu.utils import checkpoint, validate
from saffu.utils.arrays import Array, Float64
from saffu.utils.progress import progress_bar
from saffu.utils.settings import not_fitted


class _Texts(NamedTuple):
    """Checked texts, their labels and their weights."""

    texts: list[str]
    labels: TextLabels
    weights: Float64 | None


@checkpoint.register("text-classifier")
class ExplicitTextClassifier(TextPredictor):
    """A classifier of texts: strings in, labels out, with probabilities that are calibrated.

    Texts are counted: of each n-gram of words, in how many texts of each label it is. From these counts follows a
    weight of each n-gram, and from the weighed texts a linear classifier by least squares with a ridge. There is no
    gradient descent. What the counts leave open (which weights, how large a ridge, and the temperature and offsets that
    make probabilities of scores) is decided by texts that are held out.

    Parameters
    ----------
    ngrams : int
        Features are the n-grams of 1 up to so many tokens.
    tokenizer : {"words", "whitespace", "chars", "bytes"}
        What a token is, as in :func:`saffu.text.tokenize`; line ends are none.
    lowercase : bool
        Whether capital and small letters are one.
    min_count : float
        N-grams in fewer texts are left out of the solution. They are counted, since more texts may come.
    buckets : int, optional
        At most so many features, rounded up to a power of two: n-grams share one where the beginnings of their hashes
        are equal. It bounds memory for streams without end. By default n-grams are told apart by 64 bits.
    weighting : {"folds", "information", "ratio", "idf", "log"}
        The weight of an n-gram, beside ``log(1 + count)``: the root of the relative entropy of the labels of texts that
        hold it to those of all; the root mean square log-count ratio of Wang and Manning (2012); the logarithm of the
        inverse document frequency; none. ``"folds"``: that of the first and the third with the lower loss on held-out
        texts.
    ridge : float or "folds"
        Of the least squares; texts have length one.
    smoothing : float
        Added to the counts that weights are made of; positive.
    n_threads : int, optional
        By default every available CPU. Nothing depends on it.

    Attributes
    ----------
    classes_ : ndarray of int64, bool or str, shape (N,)
        The labels, ascending.
    counts : TextCounts
        The number of texts of each label that hold each n-gram, and of all; exact sums.
    facts : dict
        What the folds decided: the weighting, the ridge, and the loss on held-out texts in nats.

    Notes
    -----
    Fitting only counts; the rest is solved when it is first needed. ``partial_fit`` in any chunks, ``merge`` of
    classifiers in any order and ``subtract`` give the counts of one ``fit``, bit for bit, as long as weights of texts
    are whole numbers.

    The rows of texts are kept, as numbers of hashed n-grams, up to 16 million of them; beyond, those texts are kept
    whose hashes are smallest. Least squares see what is kept, the weights of n-grams all counts.

    Texts may have several labels each, or none: ``y`` is then a list of lists. As soon as one call had such lists, each
    label has a probability of its own, instead of a share.

    Targets and scores are dense, a number for each text that is kept and each label.

    Examples
    --------
    >>> texts = ["free money now", "money for free", "lunch at noon", "see you at lunch"] * 3
    >>> classifier = ExplicitTextClassifier(min_count=1).fit(texts, ["spam", "spam", "ham", "ham"] * 3)
    >>> classifier.predict(["free lunch money", "at noon then"]).tolist()
    ['spam', 'ham']
    >>> [words for words, weight in classifier.explain(["free money at noon"], k=2)[0].words]
    ['free', 'money']
    """

    _state: TextState | None = None

    def __init__(
        self,
        ngrams: int = 2,
        *,
        tokenizer: str = "words",
        lowercase: bool = True,
        min_count: float = 2,
        buckets: int | None = None,
        weighting: str = "folds",
        ridge: float | str = "folds",
        smoothing: float = 0.1,
        n_threads: int | None = None,
    ):
        self.ngrams = ngrams
        self.tokenizer = tokenizer
        self.lowercase = lowercase
        self.min_count = min_count
        self.buckets = buckets
        self.weighting = weighting
        self.ridge = ridge
        self.smoothing = smoothing
        self.n_threads = n_threads

    # ---- counting ----------------------------------------------------------------------------------------------------

    def fit(self, X: Any, y: Any, *, sample_weight: ArrayLike | None = None, progress: bool | None = None) -> Self:
        """Count from scratch.

        Parameters
        ----------
        X : sequence of str, shape (M,)
            Texts.
        y : array_like, shape (M,), or list of lists
            A label for each text, all strings or all integers; or a list of labels for each.
        sample_weight : array_like, shape (M,), optional
            A weight for each text: k stands for k such texts.
        progress : bool, optional
            Whether to show a bar on a terminal; by default for work longer than half a second.

        Returns
        -------
        ExplicitTextClassifier
            Itself.

        Raises
        ------
        ValueError, TypeError
            If there are no texts, a text is no string, labels are not of one kind, or a setting is out of its range.
        """
        ngrams, solving = self._checked_settings()
        texts = texts_of(X, type(self).__name__)
        if not texts:
            raise ValueError("X must have at least one text, got none: a minimum of 1 is required.")
        labels = TextLabels.of(y, len(texts), type(self).__name__)
        weights = inputs.sample_weights(sample_weight, len(texts))
        state = TextState(ngrams, solving)
        return self._add(state, _Texts(texts, labels, weights), known_classes(labels, None, None), progress)

    def partial_fit(
        self, X: Any, y: Any, *, sample_weight: ArrayLike | None = None, classes: ArrayLike | None = None
    ) -> Self:
        """Count more texts.

        Parameters
        ----------
        X, y, sample_weight
            As in ``fit``; there may be no texts, and new labels.
        classes : array_like, optional
            All labels that will ever come. It is not needed: new labels may come at any time.

        Returns
        -------
        ExplicitTextClassifier
            Itself.

        Raises
        ------
        ValueError, TypeError
            As ``fit``. Also if the classifier was pruned, and so keeps no counts.
        """
        ngrams, solving = self._checked_settings()
        texts = texts_of(X, type(self).__name__)
        labels = TextLabels.of(y, len(texts), type(self).__name__)
        weights = validate.sample_weights(sample_weight, len(texts))
        self._check_counted("partial_fit")
        state = self._state or TextState(ngrams, solving)
        before = state.counts().classes if state.is_counted and classes is not None else None
        return self._add(state, _Texts(texts, labels, weights), known_classes(labels, classes, before), False)

    def merge(self, other: ExplicitTextClassifier) -> Self:
        """Add the counts of a classifier fitted to other texts, as if this one had seen them too.

        Parameters
        ----------
        other : ExplicitTextClassifier
            A classifier with the same n-grams; it stays as it is.

        Returns
        -------
        ExplicitTextClassifier
            Itself.

        Raises
        ------
        ValueError
            If the two read texts differently, or one keeps no counts.
        """
        if not isinstance(other, ExplicitTextClassifier):
            raise TypeError(f"other must be an ExplicitTextClassifier, got {type(other).__name__}")
        self._check_counted("merge")
        other._check_counted("merge")
        if other._state is None:
            return self
        state = self._state or TextState(*self._checked_settings())
        if state.ngrams != other._state.ngrams:
            raise ValueError(f"other must have the same n-grams, {state.ngrams}, got {other._state.ngrams}")
        for part in other._state.parts:
            state = state.plus(part)
        self._state = state
        return self

    def subtract(self, X: Any, y: Any, *, sample_weight: ArrayLike | None = None) -> Self:
        """Take texts away that were counted, as if they had never been.

        Parameters
        ----------
        X, y, sample_weight
            As they were counted.

        Returns
        -------
        ExplicitTextClassifier
            Itself.

        Raises
        ------
        ValueError, TypeError
            If one of the texts was not counted with this label and weight; then nothing has changed.
        """
        self._check_counted("subtract")
        texts = texts_of(X, type(self).__name__)
        labels = TextLabels.of(y, len(texts), type(self).__name__)
        weights = validate.sample_weights(sample_weight, len(texts))
        counts = self.counts
        if texts:
            assert self._state is not None
            numbers = known_classes(labels, counts.classes, None)
            for part in self._counted(self._state.ngrams, _Texts(texts, labels, weights), numbers, False):
                counts = counts.without(part)
            self._state = TextState(self._state.ngrams, self._state.settings, (counts,))
        return self

    def _checked_settings(self) -> tuple[Ngrams, TextSettings]:
        self._threads()
        ngrams = Ngrams.of(self.ngrams, self.tokenizer, self.lowercase, self.buckets)
        return ngrams, TextSettings.of(self.weighting, self.ridge, self.min_count, self.smoothing)

    def _check_counted(self, method: str) -> None:
        if self._state is not None and not self._state.is_counted:
            raise ValueError(f"{method} needs the counts, which a pruned classifier has not kept; fit anew")

    def _add(self, state: TextState, given: _Texts, classes: Classes, progress: bool | None) -> Self:
        for part in self._counted(state.ngrams, given, classes, progress):
            state = state.plus(part)
        self._state = state
        return self

    def _counted(self, ngrams: Ngrams, given: _Texts, classes: Classes, progress: bool | None) -> list[TextCounts]:
        """Counts of texts, batch by batch; those of no weight are none."""
        texts, targets = given.texts, given.labels.matrix(classes)
        weights = np.ones(len(texts)) if given.weights is None else given.weights
        if not weights.all():
            present = np.flatnonzero(weights)
            texts, targets, weights = [texts[i] for i in present], targets[present], weights[present]
        parts = []
        with progress_bar(len(texts), "counting", progress) as bar:
            for batch in batches_of(texts):
                indptr, hashes = ngrams.hashes(texts[batch], self._threads())
                distinct = sorted_distinct(hashes)
                rows = as_scipy(Known(distinct).rows(indptr, hashes, self._threads()))
                several = given.labels.several
                parts.append(TextCounts.of(rows, distinct, targets[batch], classes, several, weights[batch]))
                bar.update(batch.stop - batch.start)
        return parts

    # ---- what was found ----------------------------------------------------------------------------------------------

    @property
    def counts(self) -> TextCounts:
        """The sums over all texts."""
        return self._found().counts()

    @property
    def classes_(self) -> Classes:
        """The labels, ascending, shape (N,)."""
        state = self._found()
        return state.counts().classes if state.is_counted else self._solved().classes

    @property
    def facts(self) -> dict[str, Any]:
        """What the folds decided."""
        return dict(self._solved().facts)

    def _found(self) -> TextState:
        if self._state is None:
            raise not_fitted(self, "fit or partial_fit")
        return self._state

    def __sklearn_is_fitted__(self) -> bool:
        return self._state is not None

    def _solved(self) -> TextModel:
        return self._found().model(self._threads())

    # ---- files -------------------------------------------------------------------------------------------------------

    def pruned(self, *, target_size: int | None = None) -> ExplicitTextClassifier:
        """A smaller classifier that predicts nearly the same, and keeps no counts.

        Parameters
        ----------
        target_size : int, optional
            Bytes of its file at most. N-grams that move scores least are left out until it fits, and the weights of
            the rest are rounded to 8 bits. By default all are kept as they are, without the counts.

        Returns
        -------
        ExplicitTextClassifier

        Raises
        ------
        ValueError
            If not even one n-gram fits.
        """
        size = None if target_size is None else validate.integer(target_size, "target_size", 1)
        state, model = self._found(), pruned(self._solved(), size)
        smaller = type(self)(**self.get_params())
        smaller._state = TextState(state.ngrams, state.settings, (), model)
        return smaller

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the classifier to one file, which :func:`saffu.load` reads; nothing in it is ever executed.

        An old file is replaced only when the new one is whole. Errors: OSError if it cannot be written, ValueError if
        there is nothing to write yet.
        """
        self._solved()
        checkpoint.save(self, path)

    def _to_checkpoint(self) -> text_checkpoint.Parts:
        state = self._found()
        counts = state.counts() if state.is_counted else None
        return text_checkpoint.to_parts(self.get_params(), self._solved(), counts)

    @classmethod
    def _from_checkpoint(cls, arrays: dict[str, Array], metadata: dict[str, Any]) -> Self:
        model, counts, settings = text_checkpoint.from_parts(arrays, metadata)
        classifier = checkpoint.parse(cls, **settings)
        solving = checkpoint.parse(classifier._checked_settings)[1]
        classifier._state = TextState(model.ngrams, solving, () if counts is None else (counts,), model)
        return classifier
