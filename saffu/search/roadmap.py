"""A roadmap: many architectures of one language model, each solved on the same counts and scored on held-out text.

Every result is on the disk before the next architecture is begun, so a run that was stopped, or killed, goes on where
it was and ends with the same results.
"""

from __future__ import annotations

import hashlib
import math
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import ArrayLike

from saffu.attention_lm.model import SaffuLM
from saffu.attention_lm.shared_counts import SharedCounts
from saffu.attention_lm.solver import fit_shared
from saffu.explicit.discounting import smoothed_distribution
from saffu.ngram_lm.model import ExplicitLM
from saffu.search import report
from saffu.search.architectures import Architecture, distinct
from saffu.search.report import Refined, Result
from saffu.search.result_log import Journal
from saffu.search.result_log import check_free as check_journal_free
from saffu.text import LINE_END_ID, UNKNOWN_ID, Chunk, Corpus, Vocabulary, default_min_count
from saffu.utils import validate
from saffu.utils.arrays import Bools, Int32, Int64
from saffu.utils.progress import progress_bar
from saffu.utils.streams import TokenStream
from saffu.utils.threads import resolve_threads

try:
    import resource
except ImportError:  # Windows does not tell
    resource = None  # type: ignore[assignment]

JOURNAL, MODELS = "results.jsonl", "models"
HELD_OUT_SHARE, HELD_OUT_TOKENS = 0.05, 15_000
ROOM = 1 << 26  # logits held in solving: a quarter of what a model by itself takes
FEWEST = 20  # documents, lines or tokens of which a twentieth can be held out
FORMAT = 1

Paths = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]


class Model(Protocol):
    """What a solved model must be able to do."""

    @property
    def n_parameters(self) -> int:
        """How many numbers the model consists of."""

    def perplexity(self, ids: ArrayLike, *, documents: ArrayLike | None = None) -> float:
        """Perplexity per token."""

    def refine(self, ids: ArrayLike, *, epochs: int, documents: ArrayLike | None = None) -> Any:
        """Train on by gradient steps, in place or as a new model that is returned."""

    def save(self, path: str) -> None:
        """Write the model to one file."""


# ---- text ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Split:
    """Token ids to train on, and others to be judged by.

    Parameters
    ----------
    ids : ndarray of int32, shape (M,)
    documents : ndarray of int64
        Offsets in ``ids`` at which documents begin.
    held_out : ndarray of int32, shape (T,)
    held_out_documents : ndarray of int64
        The same of the held-out text.
    vocab_size : int
        V.
    vocabulary : saffu.text.Vocabulary, optional
        Saved with the models, if given.

    Raises
    ------
    ValueError, TypeError
        If ids are out of range, not integers or absent.
    """

    ids: Int32
    documents: Int64
    held_out: Int32
    held_out_documents: Int64
    vocab_size: int
    vocabulary: Vocabulary | None = None

    def __post_init__(self) -> None:
        validate.size(self.vocab_size, "vocab_size")
        for name, starts in (("ids", "documents"), ("held_out", "held_out_documents")):
            ids = validate.token_ids(getattr(self, name), name, self.vocab_size, keep=True)
            if ids.size == 0:
                raise ValueError(f"{name} must hold at least one token, got none")
            object.__setattr__(self, name, ids)
            object.__setattr__(self, starts, validate.document_starts(getattr(self, starts), ids.size, starts))

    @property
    def facts(self) -> dict[str, Any]:
        """What tells this text from another: numbers of tokens and types, and a hash of everything."""
        digest = hashlib.sha256(str(self.vocab_size).encode())
        for array in (self.ids, self.documents, self.held_out, self.held_out_documents):
            digest.update(f"|{array.size}|".encode())
            digest.update(array.astype(array.dtype.newbyteorder("<")).tobytes())
        return {
            "tokens": self.ids.size,
            "held_out_tokens": self.held_out.size,
            "types": self.vocab_size,
            "text": digest.hexdigest(),
        }

    @property
    def unigram_perplexity(self) -> float:
        """Perplexity of the held-out text by the frequencies of the training text alone."""
        counts = np.bincount(self.ids, minlength=self.vocab_size)
        unigram = smoothed_distribution(counts, 1.0 / (self.ids.size + 1.0))
        return float(np.exp(-np.log(unigram[self.held_out]).mean()))


def read_split(
    paths: Paths,
    tokens: int = 1_000_000,
    valid: Paths | None = None,
    tokenizer: str = "words",
    documents: str | None = None,
    min_count: int | None = None,
    held_out_tokens: int = HELD_OUT_TOKENS,
    progress: bool = False,
) -> Split:
    """Read text files and set some of their text apart.

    Parameters
    ----------
    paths : str, path or sequence of them
        As in :class:`saffu.text.Corpus`; read no further than needed. Of several files the beginnings are taken, the
        same number of tokens of each as far as they reach.
    tokens : int
        The most tokens to train on.
    valid : str, path or sequence of them, optional
        Text to be held out. By default it is every twentieth document that was read; the last 5 % of the lines, where
        there are fewer than 20 documents; of the tokens, where there are fewer than 20 lines.
    tokenizer, documents, min_count
        As in :class:`saffu.text.Corpus` and its ``build_vocabulary``. Only training text counts for the vocabulary.
    held_out_tokens : int
        The most tokens to hold out.
    progress : bool
        Show progress on a terminal.

    Returns
    -------
    Split

    Raises
    ------
    OSError
        If a file cannot be read.
    ValueError
        If a file holds no text, or there is too little to hold some out.
    """
    tokens = validate.integer(tokens, "tokens", 1, validate.INT32_MAX)
    most = validate.integer(held_out_tokens, "held_out_tokens", 1, validate.INT32_MAX)
    corpora = _by_size(Corpus(paths, tokenizer=tokenizer, documents=documents))
    min_count = default_min_count(tokenizer) if min_count is None else min_count
    min_count = validate.integer(min_count, "min_count", 1, validate.INT32_MAX)
    spare = 0 if valid is not None else min(most, int(tokens * HELD_OUT_SHARE / (1 - HELD_OUT_SHARE)))
    with progress_bar(2 * (tokens + spare), "read", progress) as bar:
        lists = _first_lists(corpora, tokens + spare, bar.update)
        every_type = Vocabulary.build(lists, tokenizer=tokenizer, documents=documents)
        text = _first(corpora, every_type, tokens + spare, bar.update)
    Corpus.check_parts(corpora)
    held = np.zeros(text.ids.size, bool) if valid is not None else _held_out(text, most)
    ids, begun = _kept(text, ~held, tokens)
    vocabulary, recode = _frequent(every_type, ids, min_count)
    if valid is None:
        held_out, starts = _kept(text, held, most)
        held_out = recode[held_out]
    else:
        corpus = Corpus(valid, tokenizer=tokenizer, documents=documents)
        held_out, starts, _ = _first([corpus], vocabulary, most, lambda _: None)
    return Split(recode[ids], begun, held_out, starts, len(vocabulary), vocabulary)


def _by_size(corpus: Corpus) -> list[Corpus]:
    """The files one by one, small ones first: what they lack of their share goes to the others."""
    return sorted(corpus.parts(), key=lambda file: math.inf if file.n_bytes is None else file.n_bytes)


def _first_lists(corpora: Sequence[Corpus], tokens: int, advance: Callable[[int], Any]) -> Iterator[list[str]]:
    """Lists of tokens, until every file has given its share."""
    for place, corpus in enumerate(corpora):
        share = left = math.ceil(tokens / (len(corpora) - place))
        for found in corpus.token_lists():
            yield found
            advance(len(found))
            left -= len(found)
            if left <= 0:
                break
        tokens -= share - max(left, 0)


def _first(corpora: Sequence[Corpus], vocabulary: Vocabulary, tokens: int, advance: Callable[[int], Any]) -> Chunk:
    """The first tokens of each file, so many in all."""
    ids, starts, size = [np.empty(0, np.int32)], [np.empty(0, np.int64)], 0
    for place, corpus in enumerate(corpora):
        end = size + math.ceil((tokens - size) / (len(corpora) - place))
        for chunk in corpus.chunks(vocabulary):
            ids.append(chunk.ids[: end - size])
            starts.append(chunk.starts[chunk.starts < end - size] + size)
            size += ids[-1].size
            advance(ids[-1].size)
            if size >= end:
                break
    return Chunk(np.concatenate(ids), np.concatenate(starts), 0)


def _held_out(text: Chunk, most: int) -> Bools:
    """Which tokens to hold out: every twentieth document, or the last twentieth; at most about ``most``."""
    size = text.ids.size
    held = np.zeros(size, bool)
    if text.starts.size >= FEWEST:
        every = max(round(1 / HELD_OUT_SHARE), math.ceil(size / most))
        ends = np.append(text.starts[1:], size)
        last = np.arange(text.starts.size) % every == min(every, text.starts.size) - 1
        for begin, end in zip(text.starts[last], ends[last], strict=True):
            held[begin:end] = True
        return held
    lines = np.append(0, np.flatnonzero(text.ids == LINE_END_ID) + 1)
    for starts in (lines[lines < size], np.arange(size)):
        place = max(math.ceil(starts.size * (1 - HELD_OUT_SHARE)), int(np.searchsorted(starts, size - most)))
        if starts.size >= FEWEST and place < starts.size:
            held[starts[place] :] = True
            return held
    raise ValueError(f"the text has {size} tokens, too few to hold some out; give more, or a held-out text of its own")


def _kept(text: Chunk, chosen: Bools, most: int) -> tuple[Int32, Int64]:
    """The first so many chosen tokens as a text of their own, and where its documents start."""
    begins = np.zeros(text.ids.size, bool)
    begins[text.starts] = True
    begins = begins[chosen][:most]
    begins[:1] = True
    return text.ids[chosen][:most], np.flatnonzero(begins)


def _frequent(every_type: Vocabulary, ids: Int32, min_count: int) -> tuple[Vocabulary, Int32]:
    """The vocabulary of a training text, and the new id of each old one."""
    found, first, counts = np.unique(ids, return_index=True, return_counts=True)
    kept = (counts >= min_count) & (found > max(UNKNOWN_ID, LINE_END_ID))
    kept_ids = found[kept][np.lexsort((first[kept], -counts[kept]))]  # by frequency, ties by first appearance
    recode = np.full(len(every_type), UNKNOWN_ID, np.int32)
    recode[LINE_END_ID] = LINE_END_ID
    recode[kept_ids] = np.arange(kept_ids.size) + 2
    types = [every_type.types[place] for place in kept_ids]
    settings = {"tokenizer": every_type.tokenizer, "documents": every_type.documents}
    return Vocabulary(types, **settings, min_count=min_count), recode


# ---- models ----------------------------------------------------------------------------------------------------------


class Shared(NamedTuple):
    """What all architectures have in common: counts of the text, and the model that residual ones stand on."""

    counts: SharedCounts
    explicit_lm: ExplicitLM


def shared_counts(split: Split, n_threads: int | None = None) -> Shared:
    """What all architectures have in common, computed once."""
    counts = SharedCounts(TokenStream(split.ids, split.documents), split.vocab_size, resolve_threads(n_threads), ROOM)
    explicit_lm = ExplicitLM(n_threads=n_threads).fit(split.ids, vocab_size=split.vocab_size, documents=split.documents)
    return Shared(counts, explicit_lm)


def solve_saffu(architecture: Architecture, split: Split, shared: Shared, n_threads: int | None = None) -> SaffuLM:
    """Solve one architecture of :class:`saffu.SaffuLM`."""
    settings = {name: value for name, value in architecture.to_dict().items() if value is not None}
    settings["residual"] = shared.explicit_lm if architecture.residual else None
    if architecture.residual and split.vocabulary is not None:
        settings["min_count"] = split.vocabulary.min_count
    model = SaffuLM(**settings, n_threads=n_threads)
    fit_shared(model, shared.counts, progress=False)
    model.vocabulary = split.vocabulary
    return model


Solve = Callable[[Architecture, Split, Any], Model]


# ---- runs ------------------------------------------------------------------------------------------------------------


class Roadmap(NamedTuple):
    """What a run has come to.

    Attributes
    ----------
    results : list of Result
        Best first, failures last.
    n_pending : int
        How many architectures are still to be solved or refined, because the time was over.
    files : list of str
        The files that were written.
    notes : list of str
        What a user should know, such as how to get the figure.
    """

    results: list[Result]
    n_pending: int
    files: list[str]
    notes: list[str]


def outputs(out: str | os.PathLike[str]) -> list[str]:
    """The files in a folder that :func:`run` may write over."""
    models = os.path.join(out, MODELS)
    saved = sorted(os.listdir(models)) if os.path.isdir(models) else []
    names = [JOURNAL, report.TABLE, report.SUMMARY, report.FIGURE]
    return [os.path.join(out, name) for name in names] + [os.path.join(models, name) for name in [*saved, "new.saffu"]]


def check_free(out: str | os.PathLike[str]) -> None:
    """Raise OSError now if another process uses the folder, so that :func:`run` could not."""
    check_journal_free(os.path.join(out, JOURNAL))


def run(
    split: Split,
    architectures: Iterable[Architecture],
    out: str | os.PathLike[str],
    *,
    refine: int = 3,
    epochs: int = 1,
    minutes: float | None = None,
    retry: bool = False,
    settings: Mapping[str, Any] | None = None,
    solve: Solve = solve_saffu,
    prepare: Callable[[Split], Any] = shared_counts,
    progress: bool = False,
) -> Roadmap:
    """Solve and score architectures, refine the best, and write what came of it.

    The folder keeps every result. Called again with the same text, the run goes on with what is missing, and counts
    what other architectures were tried there as well.

    Parameters
    ----------
    split : Split
    architectures : iterable of Architecture
        In the order in which they are tried.
    out : str or path
        A folder, created if it is not there.
    refine : int
        How many of the best to train on by gradient steps. They are saved in the folder ``models``.
    epochs : int
        How many passes over the training text that takes.
    minutes : float, optional
        Begin nothing new after so much time. A later run goes on.
    retry : bool
        Try again what failed before.
    settings : mapping, optional
        What else the results depend on, as JSON can hold it; results of other settings are not mixed with these.
    solve : callable
        ``solve(architecture, split, shared)`` returns a :class:`Model`.
    prepare : callable
        ``prepare(split)`` returns ``shared``; called once, and only if there is something to solve.
    progress : bool
        Show progress on a terminal.

    Returns
    -------
    Roadmap

    Raises
    ------
    OSError
        If a file cannot be written, or another process uses the folder.
    ValueError
        If the folder holds results of another text or other settings.

    Notes
    -----
    An architecture that raises an exception is recorded with it and does not stop the others; what ``prepare`` raises
    does. ``KeyboardInterrupt`` leaves every file whole.
    """
    plan = distinct(architectures)
    if not plan:
        raise ValueError("architectures must name at least one")
    refine = validate.integer(refine, "refine", 0, validate.INT32_MAX)
    epochs = validate.integer(epochs, "epochs", 1, validate.INT32_MAX)
    seconds = math.inf if minutes is None else 60 * validate.positive(minutes, "minutes", or_zero=True)
    out = os.fspath(out)
    os.makedirs(out, exist_ok=True)
    header = {"format": FORMAT, **split.facts, **(settings or {})}
    with Journal(os.path.join(out, JOURNAL), header) as journal:
        work = _Run(split, out, journal, solve, prepare, time.monotonic() + seconds)
        n_pending = work.solve_all(plan, retry, progress)
        n_pending = n_pending or work.refine_best(refine, epochs, retry, progress)
        results = report.ranked(work.results.values())
        facts = split.facts | {"unigram_perplexity": split.unigram_perplexity, "seconds_shared": work.seconds_shared}
        files, notes = report.write(out, results, facts, n_pending)
        return Roadmap(results, n_pending, files, notes)


class _Run:
    """A run under way: the results so far, each on the disk as soon as it is known."""

    def __init__(
        self,
        split: Split,
        out: str,
        journal: Journal,
        solve: Solve,
        prepare: Callable[[Split], Any],
        deadline: float,
    ) -> None:
        self.split, self.out, self.journal, self.deadline = split, out, journal, deadline
        self.results: dict[Architecture, Result] = {}
        self.seconds_shared: float = 0.0
        self._solve, self._prepare = solve, prepare
        self._shared: list[Any] = []  # empty until it is needed
        for record in journal.records:
            self._take(record)

    # ---- stages ------------------------------------------------------------------------------------------------------

    def solve_all(self, plan: Sequence[Architecture], retry: bool, progress: bool) -> int:
        """Solve what has no result yet; return how many were left for want of time."""
        done = {key for key, result in self.results.items() if not (retry and result.error)}
        pending = [architecture for architecture in plan if architecture not in done]
        with progress_bar(len(plan), "solve", progress) as bar:
            bar.update(len(plan) - len(pending))
            for place, architecture in enumerate(pending):
                if time.monotonic() >= self.deadline:
                    return len(pending) - place
                self._record("solved", architecture, partial(self._scored, architecture))
                bar.update(1)
                bar.set_postfix_str(self._best())
        return 0

    def refine_best(self, n: int, epochs: int, retry: bool, progress: bool) -> int:
        """Refine the best that are not refined yet; return how many were left for want of time."""
        best = [result for result in report.ranked(self.results.values()) if not result.error][:n]
        pending = [result for result in best if not _is_refined(result.refined, epochs, retry)]
        with progress_bar(len(best), "refine", progress) as bar:
            bar.update(len(best) - len(pending))
            for place, result in enumerate(pending):
                if time.monotonic() >= self.deadline:
                    return len(pending) - place
                architecture = result.architecture
                task = partial(self._refined, architecture, epochs)
                self._record("refined", architecture, task, epochs=epochs)
                bar.update(1)
        return 0

    # ---- one architecture --------------------------------------------------------------------------------------------

    def _scored(self, architecture: Architecture) -> dict[str, Any]:
        shared = self._share()
        began = time.perf_counter()
        model = self._solve(architecture, self.split, shared)
        solved = time.perf_counter()
        perplexity = self._perplexity(model)
        return {
            "n_parameters": int(model.n_parameters),
            "perplexity": perplexity,
            "seconds_solve": solved - began,
            "seconds_score": time.perf_counter() - solved,
            "peak_megabytes": _peak_megabytes(),
        }

    def _refined(self, architecture: Architecture, epochs: int) -> dict[str, Any]:
        # Solved anew rather than kept: 250 models would not fit in memory, and solving takes seconds.
        model = self._solve(architecture, self.split, self._share())
        began = time.perf_counter()
        refined = model.refine(self.split.ids, epochs=epochs, documents=self.split.documents)
        if isinstance(refined, type(model)):
            model = refined
        if getattr(model, "interrupted", False):  # what there is of it would pass for the whole
            raise KeyboardInterrupt
        seconds = time.perf_counter() - began
        perplexity = self._perplexity(model)
        os.makedirs(os.path.join(self.out, MODELS), exist_ok=True)
        name = f"{MODELS}/{_file_name(architecture)}"
        model.save(os.path.join(self.out, name))
        return {"perplexity": perplexity, "seconds": seconds, "file": name, "peak_megabytes": _peak_megabytes()}

    def _perplexity(self, model: Model) -> float:
        perplexity = float(model.perplexity(self.split.held_out, documents=self.split.held_out_documents))
        if not math.isfinite(perplexity):
            raise ValueError(f"the perplexity of the held-out text is {perplexity}")
        return perplexity

    def _share(self) -> Any:
        if not self._shared:
            began = time.perf_counter()
            self._shared.append(self._prepare(self.split))
            self._write({"shared": time.perf_counter() - began})
        return self._shared[0]

    # ---- records -----------------------------------------------------------------------------------------------------

    def _record(self, kind: str, architecture: Architecture, task: Callable[[], dict[str, Any]], **more: Any) -> None:
        """Do the task and write what it found, or how it failed."""
        self._share()  # its failure is that of all, so it is not caught
        try:
            found = task()
        except Exception as error:
            found = {"error": " ".join(f"{type(error).__name__}: {error}".split())}
        self._write({kind: architecture.to_dict(), **more, **found})

    def _write(self, record: dict[str, Any]) -> None:
        self.journal.append(record)
        self._take(self.journal.records[-1])

    def _take(self, record: dict[str, Any]) -> None:
        """Enter a record of the journal into the results; a later one replaces an earlier one."""
        fields = dict(record)
        if "shared" in fields:
            self.seconds_shared = self.seconds_shared or fields["shared"]
        elif "solved" in fields:
            architecture = Architecture.from_dict(fields.pop("solved"))
            self.results[architecture] = Result(architecture, **fields)
        else:
            architecture = Architecture.from_dict(fields.pop("refined"))
            self.results[architecture] = self.results[architecture].with_refined(Refined(**fields))

    def _best(self) -> str:
        perplexities = [result.perplexity for result in self.results.values() if result.perplexity is not None]
        return f"best perplexity {min(perplexities):.1f}" if perplexities else ""


def _is_refined(refined: Refined | None, epochs: int, retry: bool) -> bool:
    return refined is not None and refined.epochs == epochs and not (retry and refined.error)


def _file_name(architecture: Architecture) -> str:
    return re.sub(r"[^0-9a-z]+", "-", str(architecture)) + ".saffu"


def _peak_megabytes() -> float | None:
    """The most memory that this process has had so far."""
    if resource is None:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1e6 if os.uname().sysname == "Darwin" else 1e3)  # bytes there, kilobytes elsewhere
