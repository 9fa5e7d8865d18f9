"""What a classifier of texts has counted, and the solution that follows once it is needed."""

from __future__ import annotations

from saffu.classifier.text_counts import TextCounts
from saffu.classifier.text_features import Ngrams
from saffu.classifier.text_model import TextModel
from saffu.classifier.text_solution import TextSettings, solve
from saffu.utils.locks import Lock


class TextState:
    """Counts, in a few parts, and the model that is solved from their sum.

    Parameters
    ----------
    ngrams : Ngrams
        How texts are read.
    settings : TextSettings
        How counts are solved.
    parts : tuple of TextCounts
        None where only a model is kept.
    model : TextModel, optional
    """

    def __init__(
        self,
        ngrams: Ngrams,
        settings: TextSettings,
        parts: tuple[TextCounts, ...] = (),
        model: TextModel | None = None,
    ) -> None:
        self.ngrams, self.settings, self.parts = ngrams, settings, parts
        self._model = model
        self._lock = Lock()

    @property
    def is_counted(self) -> bool:
        """Whether it has counts."""
        return bool(self.parts)

    def plus(self, part: TextCounts) -> TextState:
        """With more counts; as many as half of those before are merged at once, so many small ones take no longer."""
        if self.parts:
            self.parts[0].check_kind(part)
        parts = [*self.parts, part]
        while len(parts) > 1 and parts[-2].hashes.size < 2 * parts[-1].hashes.size:
            parts[-2:] = [parts[-2].merged(parts[-1])]
        return TextState(self.ngrams, self.settings, tuple(parts))

    def counts(self) -> TextCounts:
        """The sum of all parts."""
        with self._lock:
            return self._counts()

    def _counts(self) -> TextCounts:
        if not self.parts:
            raise ValueError("a pruned classifier keeps no counts")
        while len(self.parts) > 1:
            self.parts = (*self.parts[:-2], self.parts[-2].merged(self.parts[-1]))
        return self.parts[0]

    def model(self, n_threads: int) -> TextModel:
        """The solution, solved by the first thread that asks for it."""
        with self._lock:
            if self._model is None:
                self._model = solve(self._counts(), self.ngrams, self.settings, n_threads)
            return self._model
