"""RecurrentLM beside the same network in torch: tokens trained on per second, and perplexity after equal wall time.

``python -m bench.experiments.recurrent_lm [--print]`` takes four and a half times ``--budget`` for each seed, with
half an hour and five seeds eleven hours. Needs SAFFU_DATA and torch.

The speed is that of single steps, which take turns; the loss of the first must agree. For perplexity every contender
has the same widths, those that RecurrentLM chooses for the budget, and so much wall time, all included; the learning
rate falls with the clock to zero. Starts: embeddings from co-occurrence counts, or drawn.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from bench.data import corpora
from bench.data.corpora import Parts
from bench.report.command import closing, parser_of
from bench.report.requirements import data_folder, require
from bench.report.tables import check_published, markdown_table, mean_and_spread, publish
from saffu import RecurrentLM
from saffu.recurrent_lm import network
from saffu.recurrent_lm.settings import Sizes, dropout_of
from saffu.recurrent_lm.training import Plan, Training
from saffu.utils.streams import TokenStream
from saffu.utils.threads import Workers, available_cpus, one_blas_thread

NAME = "recurrent-lm"
SHARES = (0.03, 0.1, 0.3, 1.0)  # of the budget
AGREEMENT = 1e-4  # of the losses, relative
STEPS = 12
RATE = 1e-3


class Speed(NamedTuple):
    """Tokens per second of a network, and medians of the ratios of steps that took turns."""

    sizes: Sizes
    saffu: float
    autograd: float
    blockwise: float
    to_autograd: float
    to_blockwise: float


class Score(NamedTuple):
    """Test perplexity of a contender after a share of the budget, for each seed, and epochs."""

    share: float
    contender: str
    sizes: Sizes
    epochs: float
    perplexities: list[float]


def stream_of(part: Any) -> TokenStream:
    """A part of a corpus as models read it."""
    return TokenStream.of(part.ids, part.starts)


# ---- speed -----------------------------------------------------------------------------------------------------------


def speed(parts: Parts, sizes: Sizes, steps: int) -> Speed:
    """Steps of three implementations in turn."""
    from bench.peers.torch_recurrent import TorchRecurrent, as_batch

    stream, V = stream_of(parts.train), len(parts.vocabulary)
    arrays = network.initial(V, *sizes, np.random.default_rng(0))
    theirs = [TorchRecurrent(arrays, 0.0, blockwise) for blockwise in (False, True)]
    ours = Training(arrays, stream, None, Plan(1, 0.0, 0.0, 0.0, RATE, 0), Workers(available_cpus()))
    state, states = network.zero_state(arrays, ours.streams.n_streams), [None, None]
    seconds, n_tokens = [], 0
    with one_blas_thread():
        for number, step in zip(range(steps + 1), ours.streams.epoch(np.random.default_rng(0)), strict=False):
            step = step._replace(segment=step.segment._replace(starts=np.zeros_like(step.segment.starts)))
            batch, marks = as_batch(step), [time.perf_counter()]
            loss, state = ours._train(step, state, RATE, np.random.default_rng(0))
            marks.append(time.perf_counter())
            for i, each in enumerate(theirs):
                other, states[i] = each.step(batch, states[i], RATE)
                marks.append(time.perf_counter())
                if number == 0 and i == 0 and abs(other - loss) > AGREEMENT * loss:
                    raise SystemExit(f"the losses of the first step are {loss} and {other}: not the same network")
            if number:  # the first loads code and data
                seconds.append(np.diff(marks))
                n_tokens = step.targets.size
    taken = np.array(seconds)
    ratios = np.median(taken[:, 1:] / taken[:, :1], axis=0)
    return Speed(sizes, *(n_tokens / np.median(taken, axis=0)), *ratios)


# ---- perplexity ------------------------------------------------------------------------------------------------------


def scores(parts: Parts, budget: float, seeds: Sequence[int], shares: Sequence[float], peer: bool) -> Iterator[Score]:
    """Both starts, and torch from a random one, after each share of the budget."""
    train, test, V = stream_of(parts.train), stream_of(parts.test), len(parts.vocabulary)
    for share in shares:
        found: dict[str, list[float]] = {}
        epochs: dict[str, float] = {}
        sizes: Sizes | None = None
        for seed in seeds:
            for start in ("explicit", "random"):
                widths = {} if sizes is None else {"dim": sizes.dim, "cells": sizes.cells}
                model = RecurrentLM(budget=share * budget, start=start, seed=seed, **widths)
                model.fit(train.ids, documents=train.starts, vocab_size=V, progress=False)
                sizes = model.sizes
                found.setdefault(start, []).append(model.perplexity(test.ids, documents=test.starts))
                epochs[start] = (model.history or [{"tokens": 0}])[-1]["tokens"] / train.ids.size
            if peer and sizes is not None:
                perplexity, epochs["torch, random"] = _peer(
                    train, test, sizes, V, share * budget, seed, epochs["random"]
                )
                found.setdefault("torch, random", []).append(perplexity)
        assert sizes is not None
        for contender, perplexities in found.items():
            yield Score(share, contender, sizes, epochs[contender], perplexities)


def _peer(
    train: TokenStream, test: TokenStream, sizes: Sizes, V: int, seconds: float, seed: int, epochs: float
) -> tuple[float, float]:
    """Perplexity and epochs of the network in torch, float32, with the dropout of so many epochs."""
    from bench.peers.torch_recurrent import trained
    from saffu.recurrent_lm.explicit_start import log_unigram

    arrays = network.initial(V, *sizes, np.random.default_rng(seed))
    arrays[network.TOKENS][:-1, -1] = log_unigram(train, V)
    model, n_tokens = trained(arrays, train, seconds, dropout_of(epochs), False, seed)
    return model.perplexity(test), n_tokens / train.ids.size


# ---- the table -------------------------------------------------------------------------------------------------------


def report(parts: Parts, speeds: Sequence[Speed], found: Sequence[Score], closing_line: str) -> str:
    """Both tables in Markdown, with what they were measured on."""
    about = (
        f"{parts.name}: {parts.train.ids.size:,} tokens to train on, {len(parts.vocabulary):,} types. Tokens a second "
        "in training; ratios are medians of steps in turn. Blockwise: the softmax in blocks, in bfloat16 where that is "
        "faster in torch; all else is float32."
    )
    header = ["width, cells", "saffu", "torch, autograd", "torch, blockwise", "saffu / autograd", "saffu / blockwise"]
    rows = [
        [
            f"{each.sizes.dim}, {each.sizes.cells}",
            *(f"{value:,.0f}" for value in each[1:4]),
            *(f"{value:.2f}" for value in each[4:]),
        ]
        for each in speeds
    ]
    scored = [
        [
            f"{each.share:.0%}",
            each.contender,
            f"{each.sizes.dim}, {each.sizes.cells}",
            f"{each.epochs:.1f}",
            mean_and_spread(each.perplexities, 1),
        ]
        for each in found
    ]
    parts_of_text = [about, markdown_table(header, rows)]
    if scored:
        parts_of_text.append(markdown_table(["budget", "start", "width, cells", "epochs", "test perplexity"], scored))
    return "\n\n".join([*parts_of_text, closing_line])


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, and write or print the tables."""
    given = parser_of(NAME, __doc__, _add).parse_args(argv)
    require("torch")
    check_published(NAME, given.print)
    began, parts = time.perf_counter(), corpora.parts(data_folder(), given.corpus, given.tokens)
    speeds = [
        speed(parts, Sizes(dim, cells, 1), given.steps) for dim, cells in zip(given.dim, given.cells, strict=True)
    ]
    seeds, found = range(given.seeds), []
    for score in scores(parts, given.budget, seeds, given.shares, not given.no_peer) if given.seeds else ():
        print(score, flush=True)
        found.append(score)
    line = closing(f"0 to {given.seeds - 1}" if found else "0", f"{given.budget:g} s", began, ["torch"])
    publish(NAME, report(parts, speeds, found, line), given.print)


def _add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--corpus", choices=corpora.WORDS, default="brown")
    parser.add_argument("--tokens", type=int, help="train on the whole lines among the first so many tokens")
    parser.add_argument("--budget", type=float, default=1800.0, help="seconds of wall time of the longest runs")
    parser.add_argument("--shares", type=float, nargs="+", default=SHARES, help="of the budget, each a run of its own")
    parser.add_argument("--seeds", type=int, default=5, help="how many; none for the speed alone")
    parser.add_argument("--steps", type=int, default=STEPS, help="of training that are timed")
    parser.add_argument("--dim", type=int, nargs="+", default=[320, 320], help="widths that are timed")
    parser.add_argument("--cells", type=int, nargs="+", default=[320, 640], help="cells of these")
    parser.add_argument("--no-peer", action="store_true", help="leave torch out of the perplexities")


if __name__ == "__main__":
    main()
