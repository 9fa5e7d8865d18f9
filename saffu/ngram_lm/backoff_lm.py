"""BackoffLM: a language model of n-grams with probabilities, as ARPA files hold them."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike

from saffu.explicit.cooccurrence import as_csr
from saffu.ngram_lm import arpa
from saffu.ngram_lm.backoff import BackoffTables
from saffu.text import LINE_END_ID, UNKNOWN, ModelVocabulary, Vocabulary
from saffu.utils import checkpoint, validate
from saffu.utils.arrays import Array, Float64, Int64
from saffu.utils.language_model import LanguageModel
from saffu.utils.progress import progress_bar
from saffu.utils.streams import TokenStream

BATCH = 1 << 18  # tokens scored at a time


@checkpoint.register("backoff-lm")
class BackoffLM(LanguageModel):
    """Language model of n-grams with a probability each: what an ARPA file holds, whoever wrote it.

    It answers what other language models answer, and learns nothing: to train one, fit a :class:`saffu.ExplicitLM` with
    ``priming="backoff"`` or ``"kneser-ney"``. Made by :meth:`from_arpa`, or by :meth:`saffu.ExplicitLM.to_backoff`.

    Parameters
    ----------
    types : sequence of str, length V
        Names of the types in an ARPA file; the first two are ``<unk>`` and ``</s>``.
    tables : BackoffTables
    n_threads : int, optional
        By default every available CPU. Results do not depend on it.

    Attributes
    ----------
    types : list of str
    tables : BackoffTables
    order, vocab_size : int
    vocabulary : saffu.text.Vocabulary or None
        The types as :mod:`saffu.text` has them, where ``</s>`` is ``<eos>``; None if another type is called so.

    Notes
    -----
    Back-off: Katz 1987. Kernel: ``saffu_find``, one look-up a token and order.

    Examples
    --------
    >>> import pathlib, tempfile, saffu
    >>> model = saffu.ExplicitLM(order=3, priming="backoff").fit([2, 3, 1, 2, 1] * 30, documents=range(0, 150, 5))
    >>> model.vocabulary = saffu.text.Vocabulary(["a", "b"])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "model.arpa.gz")
    ...     model.to_arpa(path)
    ...     read = BackoffLM.from_arpa(path)
    >>> read.types, read.order
    (['<unk>', '</s>', 'a', 'b'], 3)
    >>> bool(np.allclose(read.log_prob([2, 3, 1]), model.log_prob([2, 3, 1])))
    True
    """

    vocabulary = ModelVocabulary()

    def __init__(self, types: Sequence[str], *, tables: BackoffTables, n_threads: int | None = None) -> None:
        self.types, self.tables, self.n_threads = list(types), tables, n_threads
        if len(self.types) != tables.vocab_size:
            raise ValueError(f"types must be {tables.vocab_size}, as the tables have, got {len(self.types)}")
        if self.types[:2] != [UNKNOWN, arpa.END]:
            raise ValueError(f"types must begin with {UNKNOWN} and {arpa.END}, got {self.types[:2]}")
        special = Vocabulary([]).types[LINE_END_ID]
        self.vocabulary = None if special in self.types else Vocabulary(self.types[2:], tokenizer="whitespace")

    @classmethod
    def from_arpa(
        cls, path: str | os.PathLike[str], *, progress: bool | None = None, n_threads: int | None = None
    ) -> Self:
        r"""Read an ARPA file of KenLM, SRILM or any other program.

        Parameters
        ----------
        path : str or path
            Plain, or compressed by gzip, bzip2, xz or Zstandard.
        progress : bool, optional
            Show a bar on a terminal; by default for work longer than half a second.
        n_threads : int, optional

        Returns
        -------
        BackoffLM

        Raises
        ------
        ValueError
            If it is no ARPA file, or is damaged or not UTF-8.
        OSError
            If it cannot be read.

        Examples
        --------
        >>> import pathlib, tempfile
        >>> text = "\\data\\\nngram 1=3\n\n\\1-grams:\n-1\t<unk>\n-99\t<s>\n-0.045757\t</s>\n\n\\end\\\n"
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder, "small.arpa")
        ...     _ = path.write_text(text)
        ...     model = BackoffLM.from_arpa(path)
        >>> model.distribution([]).round(3).tolist()
        [0.1, 0.9]
        """
        types, tables = arpa.read(path, progress, n_threads)
        return cls(types, tables=tables, n_threads=n_threads)

    def to_arpa(self, path: str | os.PathLike[str], *, progress: bool | None = None) -> None:
        """Write an ARPA file, which KenLM and others read; one whose name ends with ``.gz`` is compressed.

        Parameters and errors as in :meth:`saffu.ExplicitLM.to_arpa`.
        """
        arpa.write(path, self.types, self.tables, progress)

    # ---- answers -----------------------------------------------------------------------------------------------------

    def fit(
        self,
        ids: ArrayLike,
        *,
        documents: ArrayLike | None = None,
        vocab_size: int | None = None,
        progress: bool | None = None,
    ) -> Self:
        """Raise NotImplementedError: this model holds probabilities and no counts."""
        self._cannot("fit", "fit an ExplicitLM with priming='backoff' and write it with to_arpa")

    def update(self, ids: ArrayLike, *, documents: ArrayLike | None = None, prime: bool = False) -> Self:
        """Raise NotImplementedError: this model holds probabilities and no counts."""
        self._cannot("update", "update an ExplicitLM with priming='backoff' and write it with to_arpa")

    def log_prob(self, ids: ArrayLike, *, documents: ArrayLike | None = None, progress: bool | None = None) -> Float64:
        """Log-probability of every token given what precedes it in its document, nats, shape (M,).

        Parameters and errors as in :meth:`saffu.ExplicitLM.log_prob`.
        """
        stream = TokenStream.of(ids, documents, self.vocab_size)
        found = np.empty(stream.ids.size)
        reach = self.order - 1
        with progress_bar(found.size, "score", progress) as bar:
            for first in range(0, found.size, BATCH):
                last, seen = min(first + BATCH, found.size), max(first - reach, 0)
                part = stream.slice(seen, last)
                found[first:last] = self.tables.score(part, n_threads=self.n_threads)[0][first - seen :]
                bar.update(last - first)
        return found

    def log_probs(self, ids: ArrayLike, positions: ArrayLike, *, documents: ArrayLike | None = None) -> Float64:
        """Log-probabilities, nats, of every type at positions of a text, shape (N, V).

        Parameters and errors as in :meth:`saffu.ExplicitLM.log_probs`.
        """
        stream = TokenStream.of(ids, documents, self.vocab_size)
        places = stream.places(positions)
        return self._log_probs(stream, places)

    def _log_probs(self, stream: TokenStream, places: Int64) -> Float64:
        contexts = self.tables.contexts(stream.with_next(0), places, self.n_threads)
        return self.tables.log_probs(contexts, places.size)

    def distribution(self, context: ArrayLike) -> Float64:
        """Probabilities of the token that follows ``context``, the document so far; shape (V,).

        Those of an ARPA file need not sum to one, so they are divided by their sum; :meth:`log_probs` gives them as
        they are.
        """
        seen = validate.token_ids(context, "context", self.vocab_size)
        weighed = np.exp(self._log_probs(TokenStream.of(seen), np.array([seen.size]))[0])
        found: Float64 = weighed / weighed.sum()
        return found

    def _reader(self, context: ArrayLike) -> tuple[Callable[[], Float64], Callable[[int], object]]:
        read = np.asarray(context, np.int32)

        def append(token: int) -> None:
            nonlocal read
            # A document that is cut seems to begin with <s>, so one token more than matters is kept.
            read = np.append(read, np.int32(token))[-self.order :]

        return lambda: self.distribution(read), append

    # ---- what it is --------------------------------------------------------------------------------------------------

    @property
    def order(self) -> int:
        """Tokens of the longest n-grams."""
        return self.tables.order

    @property
    def vocab_size(self) -> int:
        """V, the number of token types."""
        return self.tables.vocab_size

    def summary(self) -> dict[str, Any]:
        """Sizes; among the n-grams of one token is ``<s>``.

        Examples
        --------
        >>> import saffu
        >>> model = saffu.ExplicitLM(order=2, priming="kneser-ney").fit([2, 1, 2, 1], documents=[0, 2])
        >>> model.vocabulary = saffu.text.Vocabulary(["a"])
        >>> model.to_backoff().summary()
        {'order': 2, 'vocab_size': 3, 'ngrams': [4, 2]}
        """
        ngrams = [self.vocab_size + 1, *(table.nnz for table in self.tables.tables)]
        return {**self._settings(), "ngrams": ngrams}

    def _settings(self) -> dict[str, Any]:
        return {"order": self.order, "vocab_size": self.vocab_size}

    # ---- files -------------------------------------------------------------------------------------------------------

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model to one file; see :func:`saffu.load`. An existing file is replaced only when this is whole."""
        checkpoint.save(self, path)

    def _to_checkpoint(self) -> tuple[dict[str, Array], dict[str, Any]]:
        arrays: dict[str, Array] = {"unigram": self.tables.unigram}
        arrays["types"] = np.frombuffer("\n".join(self.types).encode(), np.uint8)
        for n, (table, weights) in enumerate(zip(self.tables.tables, self.tables.weights, strict=True)):
            arrays |= {f"table{n}.lengths": np.diff(table.indptr), f"table{n}.words": table.indices}
            arrays |= {f"table{n}.log_prob": table.data, f"table{n}.weights": weights}
        return arrays, {"order": self.order}

    @classmethod
    def _from_checkpoint(cls, arrays: dict[str, Array], metadata: dict[str, Any]) -> Self:
        order = checkpoint.parse(validate.integer, metadata["order"], "order", 1)
        types = checkpoint.parse(lambda: arrays["types"].tobytes().decode().split("\n"))
        tables = BackoffTables(checkpoint.checked(arrays, "unigram", np.float64, (len(types),)), [], [])
        n_rows = len(types) + 1
        for n in range(order - 1):
            lengths = checkpoint.checked(arrays, f"table{n}.lengths", np.int64, (n_rows,))
            words = checkpoint.checked(arrays, f"table{n}.words", np.int32, (int(lengths.sum()),))
            log_prob = checkpoint.checked(arrays, f"table{n}.log_prob", np.float64, words.shape)
            tables.weights.append(checkpoint.checked(arrays, f"table{n}.weights", np.float64, (n_rows,)))
            _check_rows(lengths, words, len(types))
            indptr = np.concatenate([[0], np.cumsum(lengths)])
            tables.tables.append(as_csr(indptr, words, log_prob, (n_rows, len(types))))
            n_rows = words.size
        return checkpoint.parse(cls, types, tables=tables)


def _check_rows(lengths: Array, words: Array, vocab_size: int) -> None:
    """Damaged unless the words of every row ascend in [0, V)."""
    row = np.repeat(np.arange(lengths.size), np.maximum(lengths, 0))
    sound = (
        (lengths >= 0).all()
        and ((words >= 0) & (words < vocab_size)).all()
        and ((np.diff(words) > 0) | (np.diff(row) > 0)).all()
    )
    if not sound:
        raise checkpoint.Damaged("a table of n-grams is damaged")
