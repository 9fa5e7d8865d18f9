"""A text of some millions of tokens: fitted at once and in chunks, pruned, and scored on one thread and on two."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bench.measure.clock import Seconds, median_seconds, timed
from saffu import ExplicitLM
from saffu.utils.streams import TokenStream

N_CHUNKS, REPEATS = 30, 3
SCORED = 30_000  # tokens
MAX_LOSS = 0.005  # of perplexity, by pruning


class Text(NamedTuple):
    """Training and test part."""

    name: str
    train: TokenStream
    test: TokenStream
    n_types: int


def at_once(text: Text) -> ExplicitLM:
    """A model fitted in one call: counted, its scalars not yet primed."""
    return ExplicitLM().fit(text.train.ids, documents=text.train.starts, vocab_size=text.n_types)


def in_chunks(text: Text) -> ExplicitLM:
    """The same in thirty chunks of whole documents."""
    model, starts = ExplicitLM(), text.train.starts
    cuts = starts[np.linspace(0, starts.size, N_CHUNKS, endpoint=False).astype(int)].tolist()
    for begin, end in zip(cuts, [*cuts[1:], text.train.ids.size], strict=True):
        inside = starts[(starts >= begin) & (starts < end)] - begin
        model.partial_fit(text.train.ids[begin:end], documents=inside, vocab_size=text.n_types)
    return model


def primed(model: ExplicitLM) -> ExplicitLM:
    """Solved: the scalars of its contexts are fitted when they are first asked for."""
    model.distribution([])
    return model


class Fits(NamedTuple):
    """What fitting costs."""

    model: ExplicitLM
    at_once: Seconds
    in_chunks: Seconds
    priming: float
    equal: bool


def fits(text: Text) -> Fits:
    """Fit at once and in chunks, in turn."""
    runs: dict[Any, list[Seconds]] = {at_once: [], in_chunks: []}
    models: dict[Any, ExplicitLM] = {}
    priming = []
    for _ in range(REPEATS):
        for fit, seconds in runs.items():
            models[fit], spent = timed(lambda fit=fit: primed(fit(text)))
            seconds.append(spent)
        priming.append(models[at_once].seconds["prime"])
    part = text.test.slice(0, SCORED // 10)
    answers = [model.log_prob(part.ids, documents=part.starts, progress=False) for model in models.values()]
    medians = [median_seconds(seconds) for seconds in runs.values()]
    return Fits(models[at_once], *medians, statistics.median(priming), np.array_equal(*answers))


class Scores(NamedTuple):
    """Tokens a second on one thread and on two, and the median of their ratios."""

    one: float
    two: float
    times: float


def scores(model: ExplicitLM, test: TokenStream) -> Scores:
    """Score a part of the test text on one thread and on two, in turn."""
    part = test.slice(0, SCORED)
    wall: dict[int, list[float]] = {1: [], 2: []}
    for repeat in range(REPEATS + 3):
        for n_threads, seconds in wall.items():
            model.n_threads = n_threads
            spent = timed(lambda: model.log_prob(part.ids, documents=part.starts, progress=False))[1]
            if repeat > 0:
                seconds.append(spent.wall)
    model.n_threads = None
    one, two = (part.ids.size / statistics.median(seconds) for seconds in wall.values())
    return Scores(one, two, statistics.median(a / b for a, b in zip(wall[1], wall[2], strict=True)))


def file_size(model: ExplicitLM) -> int:
    """Bytes of the model's file."""
    with tempfile.TemporaryDirectory() as folder:
        model.save(path := Path(folder) / "model")
        return path.stat().st_size


def perplexity(model: ExplicitLM, test: TokenStream) -> float:
    """Of the whole test part."""
    return float(model.perplexity(test.ids, documents=test.starts, progress=False))


def facts(text: Text) -> Sequence[tuple[str, str]]:
    """Name and value of everything that is measured."""
    found = fits(text)
    model = found.model
    exact, exact_rate, exact_size = perplexity(model, text.test), scores(model, text.test), file_size(model)
    pruned, spent = timed(lambda: model.pruned(max_loss=MAX_LOSS, progress=False))
    rate = scores(pruned, text.test)
    return [
        ("tokens / types", f"{text.train.ids.size:,} / {text.n_types:,}"),
        ("one fit: s, CPU s", f"{found.at_once.wall:.2f}, {found.at_once.cpu:.2f}"),
        (f"{N_CHUNKS} chunks: s, CPU s", f"{found.in_chunks.wall:.2f}, {found.in_chunks.cpu:.2f}"),
        ("chunks to one fit: wall, CPU", f"{found.in_chunks.wall / found.at_once.wall:.2f}, "
                                         f"{found.in_chunks.cpu / found.at_once.cpu:.2f}"),
        ("their log-probabilities", "the same bits" if found.equal else "DIFFERENT"),
        ("of one fit, priming, s", f"{found.priming:.2f}"),
        ("perplexity", f"{exact:.2f}"),
        ("scored, tokens/s on one thread", f"{exact_rate.one:,.0f}"),
        ("on two", f"{exact_rate.two:,.0f} ({exact_rate.times:.2f} times)"),
        ("pruned to a loss of 0.5 %, s", f"{spent.wall:.1f}"),
        ("its loss on the test part", f"{perplexity(pruned, text.test) / exact - 1:+.2%}"),
        ("its file / the whole model's", f"{file_size(pruned) / exact_size:.1%}"),
        ("scored pruned, tokens/s on one thread", f"{rate.one:,.0f}"),
        ("pruned, on two", f"{rate.two:,.0f} ({rate.times:.2f} times)"),
    ]  # fmt: skip
