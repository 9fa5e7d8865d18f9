"""Language models of saffu in lm-evaluation-harness; the extra ``eval`` installs what it needs.

To import this module registers the model ``saffu`` there::

    import lm_eval
    import saffu.lm_eval
    lm_eval.simple_evaluate(model="saffu", model_args={"path": "book.saffu"}, tasks=["lambada_openai"])

and ``python -m saffu.lm_eval`` is the harness's own command line with it::

    python -m saffu.lm_eval run --model saffu --model_args path=book.saffu --tasks lambada_openai

**What a request is.** A context and its continuation are one document from its beginning to its end, whatever would
separate documents in files: few-shot examples, which have blank lines between, are seen. A continuation begins at the
first token that the context does not have: where context and continuation share a word, that word. A word that the
model does not know is ``<unk>``, and has the probability of all such words together: compare models of one vocabulary,
or use a tokenizer of bytes or pieces of words.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import takewhile
from typing import Any, NamedTuple

import numpy as np

try:
    import lm_eval.models  # noqa: F401  (else the harness would know this model alone)
    from lm_eval.api.model import LM
    from lm_eval.api.registry import register_model
except ImportError as error:
    raise ImportError("lm-eval is not installed; pip install 'saffu[eval]' installs it") from error

from saffu.text import UNKNOWN_ID, Joiner, Vocabulary
from saffu.utils import checkpoint
from saffu.utils.arrays import Bools, Int32, Int64
from saffu.utils.language_model import LanguageModel
from saffu.utils.progress import progress_bar
from saffu.utils.streams import TokenStream

__all__ = ["HarnessModel"]

NAME = "saffu"
BATCH_TOKENS = 1 << 16  # of requests that are scored together
BATCH_BYTES = 1 << 22  # of the distributions that are looked at together: they stay in the cache
MAX_TOKENS = 256  # that are generated where a task does not say how many
LENGTHS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")  # one setting, as tasks call it
KNOWN_SETTINGS = ("until", *LENGTHS, "do_sample", "temperature", "top_k")


class _Request(NamedTuple):
    """A document of which the tokens from ``first`` on are scored."""

    ids: Int32
    first: int


@register_model(NAME)
class HarnessModel(LM):  # type: ignore[misc]  # it has no types
    """A language model of saffu as lm-evaluation-harness asks it, registered there as ``saffu``.

    Parameters
    ----------
    path : str, path or language model
        A file that the method ``save`` of a language model wrote, or such a model. It must have a vocabulary.
    n_threads : int, optional
        By default every available CPU.
    mmap : bool
        As in :func:`saffu.load`.
    batch_size, max_batch_size, device : optional
        What the harness gives to every model; of no effect.

    Raises
    ------
    OSError, ValueError, TypeError
        If the file cannot be read, or the model is no language model, or has no vocabulary.

    Examples
    --------
    >>> import saffu
    >>> from lm_eval.api.instance import Instance
    >>> model = saffu.ExplicitLM(order=3, windows=(), induction=0).fit([2, 3, 1] * 50)
    >>> model.vocabulary = saffu.text.Vocabulary(["hello", "world"])
    >>> request = Instance("loglikelihood", {}, ("hello", " world"), 0)
    >>> [(log_prob, is_greedy)] = HarnessModel(model).loglikelihood([request])
    >>> log_prob > -0.1, is_greedy
    (True, True)
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | LanguageModel,
        *,
        n_threads: int | None = None,
        mmap: bool = False,
        batch_size: Any = None,
        max_batch_size: Any = None,
        device: Any = None,
    ) -> None:
        super().__init__()
        self.model: Any = path if isinstance(path, LanguageModel) else checkpoint.load(path, mmap=mmap)
        if not isinstance(self.model, LanguageModel):
            raise ValueError(f"path must be of a language model, got one of {type(self.model).__name__}")
        if n_threads is not None:
            self.model.n_threads = n_threads
        vocabulary = getattr(self.model, "vocabulary", None)
        if vocabulary is None:
            raise ValueError("the model must have a vocabulary, which reads text; set its attribute vocabulary")
        self.vocabulary: Vocabulary = vocabulary

    @property
    def tokenizer_name(self) -> str:
        """What the harness's caches of requests are told apart by."""
        return f"saffu {self.vocabulary.tokenizer}"

    # ---- log-probabilities -------------------------------------------------------------------------------------------

    def loglikelihood(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """Log-probability of each continuation given its context, nats; whether each of its tokens is the likeliest.

        Parameters
        ----------
        requests : sequence of lm_eval.api.instance.Instance
            With ``args`` (context, continuation).
        disable_tqdm : bool
            Whether to show no progress.
        """
        found = self._scored(
            [self._continuation(*request.args) for request in requests], greedy=True, progress=not disable_tqdm
        )
        return [self._answer("loglikelihood", request, answer) for request, answer in zip(requests, found, strict=True)]

    def loglikelihood_rolling(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[float]:
        """Log-probability of each text, nats.

        Parameters
        ----------
        requests : sequence of lm_eval.api.instance.Instance
            With ``args`` (text,).
        disable_tqdm : bool
            Whether to show no progress.
        """
        texts = [_Request(self._ids(text), 0) for (text,) in (request.args for request in requests)]
        found = self._scored(texts, greedy=False, progress=not disable_tqdm)
        return [
            self._answer("loglikelihood_rolling", request, answer)
            for request, (answer, _) in zip(requests, found, strict=True)
        ]

    def _answer(self, verb: str, request: Any, answer: Any) -> Any:
        """The answer, which the harness may keep for another time."""
        self.cache_hook.add_partial(verb, request.args, answer)
        return answer

    def _ids(self, text: str) -> Int32:
        return self.vocabulary.encode_text(text)[0]

    def _continuation(self, context: str, continuation: str) -> _Request:
        whole, before = self._ids(context + continuation), self._ids(context)
        same = takewhile(lambda pair: pair[0] == pair[1], zip(whole, before, strict=False))
        return _Request(whole, sum(1 for _ in same))

    def _scored(self, requests: Sequence[_Request], *, greedy: bool, progress: bool) -> Iterator[tuple[float, bool]]:
        """Log-probabilities of what is scored of each request; whether it is the likeliest, if that is asked for."""
        with progress_bar(len(requests), "score", progress) as bar:
            for batch in _batches(requests):
                lengths = np.array([request.ids.size for request in batch], np.int64)
                starts = np.cumsum(lengths) - lengths
                stream = TokenStream.concat(TokenStream.of(request.ids) for request in batch)
                log_prob, likeliest = np.empty(0), np.ones(stream.ids.size, bool)
                if stream.ids.size:
                    log_prob = self.model.log_prob(stream.ids, documents=stream.starts, progress=False)
                if greedy:
                    likeliest = self._likeliest(stream, batch, starts)
                for request, start in zip(batch, starts, strict=True):
                    scored = slice(start + request.first, start + request.ids.size)
                    yield float(log_prob[scored].sum()), bool(likeliest[scored].all())
                bar.update(len(batch))

    def _likeliest(self, stream: TokenStream, batch: Sequence[_Request], starts: Int64) -> Bools:
        """Whether each token that is scored is the likeliest at its place."""
        ends = starts + [request.ids.size for request in batch]
        firsts = starts + [request.first for request in batch]
        places = np.concatenate([np.arange(first, end) for first, end in zip(firsts, ends, strict=True)])
        found = np.zeros(stream.ids.size, bool)
        rows = self.model._log_prob_rows(stream) if places.size else None
        size = max(1, BATCH_BYTES // (8 * self.model.vocab_size))
        for begin in range(0, places.size, size):
            part = places[begin : begin + size]
            assert rows is not None
            found[part] = rows(part).argmax(axis=1) == stream.ids[part]
        return found

    # ---- text --------------------------------------------------------------------------------------------------------

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:
        """Text that follows each context, up to a string that ends it, which is left out.

        Parameters
        ----------
        requests : sequence of lm_eval.api.instance.Instance
            With ``args`` (context, settings); of the settings ``until``, ``max_gen_toks`` and its other names,
            ``do_sample``, ``temperature`` and ``top_k`` are known. The likeliest token is always taken, unless
            ``do_sample`` is true or a temperature is given.
        disable_tqdm : bool
            Whether to show no progress.

        Raises
        ------
        ValueError
            If there are other settings.
        """
        with progress_bar(len(requests), "generate", not disable_tqdm) as bar:
            found = []
            for request in requests:
                text = self._generated(*request.args)
                found.append(self._answer("generate_until", request, text))
                bar.update()
        return found

    def _generated(self, context: str, settings: dict[str, Any]) -> str:
        if unknown := [name for name, value in settings.items() if name not in KNOWN_SETTINGS and value is not None]:
            raise ValueError(f"generation knows the settings {', '.join(KNOWN_SETTINGS)}, but not {unknown[0]!r}")
        until = settings.get("until") or ()
        ends = [until] if isinstance(until, str) else [end for end in until if end]
        sampled = settings.get("do_sample")
        temperature = 0.0 if sampled is False else settings.get("temperature", 1.0 if sampled else 0.0)
        lengths = [int(settings[name]) for name in LENGTHS if settings.get(name) is not None]
        ids = self._ids(context)
        drawn = self.model.generate(
            ids,
            lengths[0] if lengths else MAX_TOKENS,
            temperature=float(temperature),
            top_k=settings.get("top_k"),
            seed=0,
            exclude=[UNKNOWN_ID],
        )
        return _until(self._text(ids, drawn), ends)

    def _text(self, context: Int32, drawn: Iterable[int]) -> Iterator[str]:
        """The text that each drawn token adds to that of the context."""
        joiner = Joiner(self.vocabulary.tokenizer)
        for name in self.vocabulary.decode(context):
            joiner.add(name)
        for token in drawn:
            yield joiner.add(self.vocabulary.types[token])
        yield joiner.finish()


def _batches(requests: Sequence[_Request]) -> Iterator[list[_Request]]:
    """Requests of some tokens together."""
    batch: list[_Request] = []
    held = 0
    for request in requests:
        batch.append(request)
        held += request.ids.size
        if held >= BATCH_TOKENS:
            yield batch
            batch, held = [], 0
    if batch:
        yield batch


def _until(pieces: Iterable[str], ends: Sequence[str]) -> str:
    """Text up to the first of some strings that comes in it, taken no further than needed.

    Examples
    --------
    >>> _until(iter(["one", " two", ". three"]), [".", "e t"])
    'on'
    """
    text = ""
    for piece in pieces:
        text += piece
        places = [place for place in map(text.find, ends) if place >= 0]
        if places:
            return text[: min(places)]
    return text


if __name__ == "__main__":
    from lm_eval.__main__ import cli_evaluate

    cli_evaluate()
