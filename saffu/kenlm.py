r"""KenLM's Python interface over ARPA files and the models of saffu; nothing more has to be installed.

:class:`Model` has the methods of ``kenlm.Model``, in base-10 logarithms, so what calls that calls this::

    import saffu.kenlm as kenlm
    model = kenlm.Model("model.arpa")         # of KenLM, SRILM or saffu; or a model that saffu saved

A library that imports ``kenlm`` itself, such as pyctcdecode, is given this module instead before it does so:
``sys.modules["kenlm"] = saffu.kenlm``. :func:`decoder_lm` makes of a model what flashlight-text and torchaudio take.

**What is a sentence.** A sentence is a document that ends with ``<eos>``: ``bos=True`` conditions on the start of a
document, which an ARPA file calls ``<s>``, and ``eos=True`` adds ``<eos>``, which it calls ``</s>``. Text is split at
white space of ASCII; a word that the model does not know is ``<unk>``. So train on lines of tokens with spaces between,
each a document of its own: ``Corpus(files, tokenizer="whitespace", documents="line")``.

**What a state holds.** Of a back-off model (:class:`saffu.BackoffLM`, or a :class:`saffu.ExplicitLM` that is one) the
contexts that can still matter: two histories with the same future are the same state, as in KenLM. Of any other
language model the whole history, up to the number of tokens that can matter: windows see all of it. Those are asked
one word at a time only by the methods that need it, and are slower by far.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, repeat
from typing import Any, NamedTuple

import numpy as np

from saffu.ngram_lm import BackoffLM
from saffu.ngram_lm.arpa import BEGIN, END, LN10
from saffu.ngram_lm.states import Key, Scorer
from saffu.text import LINE_END_ID, UNKNOWN_ID
from saffu.utils import checkpoint
from saffu.utils.arrays import Float64, Int32
from saffu.utils.language_model import LanguageModel as AnyModel
from saffu.utils.streams import TokenStream

__all__ = ["FullScoreReturn", "LanguageModel", "Model", "State", "decoder_lm"]

Text = str | bytes
SHORT = 12  # words; shorter sentences are scored one word at a time, which is quicker than to set up arrays


class FullScoreReturn(NamedTuple):
    """What is known of a word after its context.

    Attributes
    ----------
    log_prob : float
        Base-10 log-probability.
    ngram_length : int
        Tokens of the longest known n-gram that ends with the word. Of models that are not made of n-grams, the tokens
        that there are, up to the order.
    oov : bool
        Whether the model does not know the word.

    Examples
    --------
    >>> FullScoreReturn(-1.5, 2, False).oov
    False
    """

    log_prob: float
    ngram_length: int
    oov: bool


class State:
    """What a model remembers of the words so far; a new one remembers nothing.

    The methods of :class:`Model` that are given a state to write into replace what it holds. Equal states have equal
    futures.

    Examples
    --------
    >>> State() == State()
    True
    """

    __slots__ = ("_key",)

    def __init__(self) -> None:
        self._key: Key = ()

    def __eq__(self, other: object) -> bool:
        return self._key == other._key if isinstance(other, State) else NotImplemented

    def __lt__(self, other: object) -> bool:
        return self._key < other._key if isinstance(other, State) else NotImplemented

    def __le__(self, other: object) -> bool:
        return self._key <= other._key if isinstance(other, State) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._key)

    def __repr__(self) -> str:
        return f"State({self._key})"


class Model:
    """A language model with the interface of ``kenlm.Model``.

    Parameters
    ----------
    path : str, bytes, path or language model
        An ARPA file, plain or compressed, or a file that a language model of saffu was saved in, with a vocabulary; or
        such a model itself.

    Attributes
    ----------
    path : bytes
        As KenLM has it; empty if a model was given.
    order : int
        Tokens of the longest n-grams.

    Raises
    ------
    OSError, ValueError
        If the file cannot be read, or is neither.
    TypeError
        If it is no file and no language model.

    Examples
    --------
    >>> import saffu
    >>> model = saffu.ExplicitLM(order=3, priming="backoff").fit([2, 3, 1, 2, 1] * 30, documents=range(0, 150, 5))
    >>> model.vocabulary = saffu.text.Vocabulary(["hello", "world"])
    >>> kenlm_model = Model(model)
    >>> kenlm_model.score("hello world") > kenlm_model.score("world hello")
    True
    >>> [(length, unknown) for _, length, unknown in kenlm_model.full_scores("hello you", eos=False)]
    [(2, False), (1, True)]
    """

    def __init__(self, path: str | bytes | os.PathLike[str] | AnyModel) -> None:
        self.path = b"" if isinstance(path, AnyModel) else os.fsencode(path)
        self._model = path if isinstance(path, AnyModel) else _load(os.fsdecode(path))
        types = _types(self._model)
        self._scorer = Scorer.of(self._model)
        self.order = self._scorer.order
        self._ids = {kind.encode(): i for i, kind in enumerate(types)}
        self._ids.setdefault(b"<eos>", LINE_END_ID)
        if self._scorer.start is not None:
            self._ids[BEGIN.encode()] = self._scorer.start

    def __contains__(self, word: Text) -> bool:
        """Whether the model knows a word; it does not know ``<unk>``."""
        return self._id(word) != UNKNOWN_ID

    def __reduce__(self) -> tuple[type, tuple[Any]]:
        return type(self), (self.path or self._model,)

    def __repr__(self) -> str:
        return f"<Model from {self.path.decode(errors='replace') if self.path else self._model!r}>"

    # ---- sentences ---------------------------------------------------------------------------------------------------

    def score(self, sentence: Text, bos: bool = True, eos: bool = True) -> float:
        """Base-10 log-probability of a sentence.

        Parameters
        ----------
        sentence : str or bytes
            Words with white space between.
        bos, eos : bool
            Whether it begins with the start of a sentence, and ends with the end of one.
        """
        ids = self._read(sentence, eos)
        if len(ids) <= SHORT and self._scorer.steps_are_quick:
            key, total = self._scorer.begin if bos else (), 0.0
            for word in ids:
                log_prob, _, key = self._scorer.step(key, word)
                total += log_prob
            return total
        return float(self._score(ids, bos)[0].sum())

    def score_batch(self, sentences: Iterable[Text], bos: bool = True, eos: bool = True) -> Float64:
        """Base-10 log-probabilities of many sentences at once, which is several times quicker.

        Parameters
        ----------
        sentences : iterable of str or bytes
        bos, eos : bool
            As in :meth:`score`.

        Returns
        -------
        ndarray of float64, shape (n_sentences,)
        """
        read = [self._read(sentence, eos) for sentence in sentences]
        lengths = np.array([len(ids) for ids in read], np.int64)
        starts = (np.cumsum(lengths) - lengths)[lengths > 0]
        flat = np.fromiter(chain.from_iterable(read), np.int32, int(lengths.sum()))
        log_prob, _ = self._scorer.score(TokenStream(flat, starts), np.full(starts.size, bool(bos)))
        found = np.zeros(lengths.size)
        if starts.size:
            found[lengths > 0] = np.add.reduceat(log_prob, starts) / LN10
        return found

    def full_scores(self, sentence: Text, bos: bool = True, eos: bool = True) -> Iterator[tuple[float, int, bool]]:
        """Each word of a sentence: base-10 log-probability, length of the n-gram that was known, whether unknown.

        Parameters
        ----------
        sentence, bos, eos
            As in :meth:`score`; with ``eos`` the end of the sentence is the last word.
        """
        ids = self._read(sentence, eos)
        log_prob, lengths = self._score(ids, bos)
        for word, value, length in zip(ids, log_prob.tolist(), lengths.tolist(), strict=True):
            yield value, length, word == UNKNOWN_ID

    def perplexity(self, sentence: Text) -> float:
        """Perplexity per word of a sentence, its end included."""
        n_words = len(_encoded(sentence).split()) + 1
        return float(10.0 ** (-self.score(sentence) / n_words))

    # ---- states ------------------------------------------------------------------------------------------------------

    def BeginSentenceWrite(self, state: State) -> None:
        """Make a state that of the start of a sentence."""
        state._key = self._scorer.begin

    def NullContextWrite(self, state: State) -> None:
        """Make a state that of no context at all."""
        state._key = ()

    def BaseScore(self, in_state: State, word: Text, out_state: State) -> float:
        """Base-10 log-probability of a word after a state; the state after the word is written into ``out_state``."""
        log_prob, _, out_state._key = self._scorer.step(in_state._key, self._id(word))
        return log_prob

    def BaseFullScore(self, in_state: State, word: Text, out_state: State) -> FullScoreReturn:
        """The same with all that is known of the word."""
        number = self._id(word)
        log_prob, length, out_state._key = self._scorer.step(in_state._key, number)
        return FullScoreReturn(log_prob, length, number == UNKNOWN_ID)

    # ---- words to numbers --------------------------------------------------------------------------------------------

    def _id(self, word: Text) -> int:
        return self._ids.get(_encoded(word), UNKNOWN_ID)

    def _read(self, sentence: Text, eos: bool) -> list[int]:
        ids = list(map(self._ids.get, _encoded(sentence).split(), repeat(UNKNOWN_ID)))
        if eos:
            ids.append(LINE_END_ID)
        return ids

    def _score(self, ids: Sequence[int], bos: bool) -> tuple[Float64, Int32]:
        """Base-10 log-probabilities and lengths of n-grams of one sentence."""
        if not ids:
            return np.empty(0), np.empty(0, np.int32)
        stream = TokenStream(np.array(ids, np.int32), np.zeros(1, np.int64))
        log_prob, lengths = self._scorer.score(stream, np.array([bool(bos)]))
        return log_prob / LN10, lengths


def _encoded(text: Text) -> bytes:
    if isinstance(text, str):
        return text.encode("utf-8", "surrogateescape")
    if isinstance(text, bytes):
        return text
    raise TypeError(f"text must be str or bytes, got {type(text).__name__}")


def _load(path: str) -> AnyModel:
    """A model of saffu, or what an ARPA file holds."""
    with open(path, "rb") as file:
        head = file.read(9)
    if head[8:] == b"{" and int.from_bytes(head[:8], "little") < 2**32:  # the length of a header, and its beginning
        model = checkpoint.load(path)
        if not isinstance(model, AnyModel):
            raise ValueError(f"{path!r} holds {type(model).__name__}, which is not a language model")
        return model
    return BackoffLM.from_arpa(path)


def _types(model: AnyModel) -> list[str]:
    """What an ARPA file would call the types of a model."""
    if isinstance(model, BackoffLM):
        return model.types
    vocabulary = getattr(model, "vocabulary", None)
    if vocabulary is None:
        raise ValueError("the model must have a vocabulary, which names its types; set its attribute vocabulary")
    types: list[str] = list(vocabulary.types)
    types[LINE_END_ID] = END
    return types


LanguageModel = Model  # KenLM's older name


# ---- decoders of speech ----------------------------------------------------------------------------------------------


def decoder_lm(model: Model, *, words: Sequence[str]) -> Any:
    """A model as the decoders of flashlight-text take one, and torchaudio's ``ctc_decoder`` as ``CTCDecoderLM``.

    Scores are base-10 logarithms, as those of the KenLM that is built into them, so the same weights suit both.

    Parameters
    ----------
    model : Model
    words : sequence of str
        The word of each number that the decoder gives.

    Returns
    -------
    flashlight.lib.text.decoder.LM

    Raises
    ------
    ImportError
        If flashlight-text is not installed; the extra ``speech`` installs it.
    """
    try:
        from flashlight.lib.text.decoder import LM, LMState
    except ImportError as error:
        raise ImportError("flashlight-text is not installed; pip install 'saffu[speech]' installs it") from error

    class DecoderLM(LM):  # type: ignore[misc]  # it has no types
        def __init__(self) -> None:
            super().__init__()
            self._known: dict[Any, tuple[float, State]] = {}  # of the utterance that is being decoded

        def start(self, start_with_nothing: bool) -> Any:
            begin, state = LMState(), State()
            (model.NullContextWrite if start_with_nothing else model.BeginSentenceWrite)(state)
            self._known = {begin: (0.0, state)}
            return begin

        def score(self, state: Any, token: int) -> tuple[Any, float]:
            return self._after(state, token, words[token])

        def finish(self, state: Any) -> tuple[Any, float]:
            return self._after(state, -1, END)

        def _after(self, state: Any, number: int, word: str) -> tuple[Any, float]:
            child = state.child(number)
            if child not in self._known:
                after = State()
                self._known[child] = model.BaseScore(self._known[state][1], word, after), after
            return child, self._known[child][0]

    return DecoderLM()
