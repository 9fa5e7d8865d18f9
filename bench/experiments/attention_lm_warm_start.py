"""Compact SaffuLMs refined from a solved start, and trained from random weights: test perplexity against time.

``python -m bench.experiments.attention_lm_warm_start [--print]`` takes about eight minutes. Needs SAFFU_DATA.

The same network of self-attentive feed-forward units, the same code: solved and refined, and trained from random
weights of a tuned scale at a tuned rate, for as many epochs and for as much wall time.
"""

from __future__ import annotations

import argparse
import itertools
import math
import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from bench.data.texts import Text, text_of
from bench.report.command import Options, closing, options, write
from bench.report.tables import markdown_table, mean_and_spread
from bench.trials.attention_lm import (
    RATES,
    SCALES,
    Moment,
    Setting,
    best,
    best_setting,
    remembered,
    solve,
    trained,
)

CORPORA = ("children", "brown")
SIZES = (10_000, 100_000, 1_000_000)  # tokens
EPOCHS = (1, 2, 4)
READ = 1_000_000  # tokens of a warm run, repetitions counted: the longest ones of the largest text are left out
TUNED_ON, TUNED_EPOCHS = 100_000, 4  # tokens of a longer text, and epochs on them
TYPES = 500
ARCHITECTURE: dict[str, Any] = {"bits": 32, "hidden": 32, "contexts": ("radial",), "radius": 8}
WARM_SETTINGS: tuple[Setting, ...] = tuple(itertools.product((True, False), RATES))  # embeddings frozen, rate
COLD_SETTINGS: tuple[Setting, ...] = tuple(itertools.product(SCALES, RATES))
CONTENDERS = WARM, COLD, COLD_AS_LONG = "warm", "cold", "cold, equal time"


class Run(NamedTuple):
    """One training run; ``budget`` is the number of epochs of the warm run that it stands beside."""

    corpus: str
    tokens: int
    n_types: int
    unigram: float
    contender: str
    setting: Setting
    budget: int
    seed: int
    moments: Sequence[Moment]

    @property
    def perplexity(self) -> float:
        """On test text, of the epoch that does best on validation text."""
        return best(self.moments).perplexity

    @property
    def seconds(self) -> float:
        """Of all of it."""
        return self.moments[-1].seconds


def warm(start: Any, text: Text, setting: Setting, epochs: int, seconds: float, **more: Any) -> list[Moment]:
    """Refine the solved model."""
    frozen, rate = setting
    return trained(start, text, epochs, seconds, freeze_embeddings=frozen, learning_rate=rate, **more)


def cold(shape: Any, text: Text, setting: Setting, epochs: int, seed: int = 0, **more: Any) -> list[Moment]:
    """Train the same architecture from random weights, its embeddings too."""
    scale, rate = setting
    start = shape.random_start(scale=scale, seed=seed)
    return trained(start, text, epochs, 0.0, freeze_embeddings=False, learning_rate=rate, seed=seed, **more)


def runs(text: Text, seeds: Sequence[int], budgets: Sequence[int], few: slice) -> Iterator[Run]:
    """Tune both starts, then train them with every seed, for every number of epochs."""
    starts = {seed: solve(text, seed=seed, **ARCHITECTURE) for seed in seeds}
    start, _ = starts[seeds[0]]
    part = text.beginning(TUNED_ON)
    shape = start if part.train.ids.size == text.train.ids.size else solve(part, **ARCHITECTURE)[0]
    try_warm = remembered(lambda setting, epochs: warm(shape, part, setting, epochs, 0.0, scored=False))
    try_cold = remembered(lambda setting, epochs: cold(shape, part, setting, epochs, scored=False))
    facts = text.name, text.train.ids.size, text.n_types, text.unigram
    n_tuned = part.train.ids.size
    share = text.train.ids.size / part.train.ids.size

    def tuned_cold(epochs: int) -> Setting:
        return best_setting(COLD_SETTINGS[few], try_cold, epochs if share == 1 else TUNED_EPOCHS, n_tuned)

    train_cold = remembered(lambda key, epochs: cold(start, text, key[0], epochs, key[1]))
    lengths: dict[int, int] = {}
    for epochs in budgets:
        setting = best_setting(WARM_SETTINGS[few], try_warm, epochs if share == 1 else TUNED_EPOCHS, n_tuned)
        ours = [
            Run(*facts, WARM, setting, epochs, seed, warm(solved, text, setting, epochs, solving, seed=seed))
            for seed, (solved, solving) in starts.items()
        ]
        yield from ours
        setting = tuned_cold(epochs)
        for seed in seeds:
            yield Run(*facts, COLD, setting, epochs, seed, train_cold((setting, seed), epochs))
        seconds = np.median([train_cold((setting, seed), epochs)[-1].seconds for seed in seeds])
        lengths[epochs] = max(math.ceil(epochs * np.median([run.seconds for run in ours]) / seconds), epochs)
    setting = tuned_cold(max(lengths.values()))
    for epochs, longer in lengths.items():
        for seed in seeds:
            yield Run(*facts, COLD_AS_LONG, setting, epochs, seed, train_cold((setting, seed), longer))


def table(results: Sequence[Run]) -> str:
    """Test perplexities, a line per corpus, size and number of epochs, and where the warm start does not win."""
    lines = []
    keys = dict.fromkeys((run.corpus, run.tokens, run.budget) for run in results)
    for key in keys:
        by = _contenders(results, key)
        first = by[WARM][0]
        corpus, tokens, epochs = key
        start = mean_and_spread([run.moments[0].perplexity for run in by[WARM]], 1)
        scores = [mean_and_spread([run.perplexity for run in by[name]], 1) for name in CONTENDERS]
        took = [f"{np.median([run.seconds for run in by[name]]):.1f}" for name in CONTENDERS]
        facts = [corpus, f"{tokens:,}", f"{first.n_types:,}", f"{first.unigram:.1f}", start, epochs]
        tuned = [_shown(by[name][0].setting) for name in CONTENDERS]
        longest = str(max(run.moments[-1].epoch for run in by[COLD_AS_LONG]))
        lines.append([*facts, *scores, *took, longest, *tuned, _verdict(by)])
    header = ["corpus", "tokens", "types", "unigram", "solved", "epochs", "warm", "cold", "cold, equal time"]
    header += [
        "warm, s",
        "cold, s",
        "cold, equal time, s",
        "its epochs",
        *(f"{name}, tuned" for name in CONTENDERS),
        "warm wins",
    ]
    return markdown_table(header, lines)


def _contenders(results: Sequence[Run], key: tuple[str, int, int]) -> dict[str, list[Run]]:
    """Runs of one corpus, size and number of epochs, by contender."""
    found = [run for run in results if (run.corpus, run.tokens, run.budget) == key]
    return {name: [run for run in found if run.contender == name] for name in CONTENDERS}


def _shown(setting: Setting) -> str:
    first, rate = setting
    return f"{('thawed', 'frozen')[first] if isinstance(first, bool) else first}, {rate:g}"


def _verdict(by: dict[str, list[Run]]) -> str:
    """Yes if the worst seed of the warm start is better than the best one of the cold starts; else, on the mean."""
    ours = [run.perplexity for run in by[WARM]]
    others = {name: [run.perplexity for run in by[name]] for name in (COLD, COLD_AS_LONG)}
    lost = [name for name, theirs in others.items() if np.mean(theirs) <= np.mean(ours)]
    if lost:
        return "**not against " + " nor ".join(lost) + "**"
    close = [name for name, theirs in others.items() if min(theirs) <= max(ours)]
    return "yes" if not close else "on average against " + " and ".join(close)


def summary(results: Sequence[Run]) -> str:
    """How much lower the solved models are than the unigram, and where the warm start does not win."""
    starts = [run for run in results if run.contender == WARM]
    gains = [1 - run.moments[0].perplexity / run.unigram for run in starts]
    keys = dict.fromkeys((run.corpus, run.tokens, run.budget) for run in results)
    verdicts = {key: _verdict(_contenders(results, key)) for key in keys}

    def where(word: str) -> str:
        lost = [f"{c}, {n:,} tokens, {e} epochs ({v.strip('*')})" for (c, n, e), v in verdicts.items() if word in v]
        return "everywhere" if not lost else f"but for: {'; '.join(lost)}"

    return (
        f"Solved, with no gradient step, the perplexity is {min(gains):.0%} to {max(gains):.0%} below the unigram's. "
        f"On average the warm start is better {where('not against')}. Its worst seed is better than the best of the "
        f"cold start {where('against')}."
    )


def draw(results: Sequence[Run], figure: Any) -> None:
    """Test perplexity against seconds, a panel per corpus and size; a line is a run."""
    panels = dict.fromkeys((run.corpus, run.tokens) for run in results)
    columns = min(len(panels), 3)
    rows = -(-len(panels) // columns)
    figure.set_size_inches(4.5 * columns, 3.2 * rows)
    for place, (corpus, tokens) in enumerate(panels):
        axes = figure.add_subplot(rows, columns, place + 1)
        named: set[str] = set()
        for run in results:
            if (run.corpus, run.tokens) != (corpus, tokens):
                continue
            label = None if run.contender in named else run.contender
            named.add(run.contender)
            colour = f"C{CONTENDERS.index(run.contender)}"
            seconds, values = [m.seconds for m in run.moments], [m.perplexity for m in run.moments]
            axes.plot(seconds, values, color=colour, linewidth=0.8, marker=".", label=label)
        axes.set(title=f"{corpus}, {tokens:,} tokens", xlabel="seconds", ylabel="test perplexity", yscale="log")
    figure.axes[0].legend()


def cases(given: Options) -> Iterator[tuple[Text, list[int]]]:
    """Texts, and the numbers of epochs to run on each."""
    if given.quick:
        yield text_of("made up", 1500), [1, 2]
        return
    for tokens in given.more.sizes:
        for corpus in given.more.corpora:
            text = text_of(corpus, tokens, given.more.types)
            yield text, [n for n in given.more.epochs if n * text.train.ids.size <= given.more.read] or [1]


def run(given: Options) -> None:
    """Measure every case and write."""
    began = time.perf_counter()
    results: list[Run] = []
    seeds = range(2 if given.quick else given.more.seeds)
    for text, budgets in cases(given):
        for result in runs(text, seeds, budgets, slice(1, 3) if given.quick else slice(None)):
            results.append(result)
            what = f"{result.corpus}, {result.tokens:,} tokens, {result.contender}, {result.budget} epochs"
            print(f"{what}: {result.perplexity:.1f}, {result.seconds:.1f} s", flush=True)
    records = [_record(run) | moment._asdict() for run in results for moment in run.moments]
    architecture = ", ".join(f"{name} {value}" for name, value in ARCHITECTURE.items() if name != "contexts")
    budget = (
        f"{architecture}, contexts {' and '.join(ARCHITECTURE['contexts'])}; at most {given.more.types:,} types, the "
        "others <unk>; every number of epochs is a run of its own, its rate falling to zero, the epoch that does best "
        "on validation text counts; rate, and frozen embeddings or scale, tuned on validation text, for as many epochs "
        f"(on text of more than {TUNED_ON:,} tokens, for {TUNED_EPOCHS} on so many of them; for the longest of the "
        "runs of equal time), off the clock; equal time: as many epochs as the solve and the epochs of the warm start "
        f"took, rounded up; runs that would read more than {given.more.read:,} tokens are left out"
    )
    report = f"{table(results)}\n\n{summary(results)}\n\n{closing(f'0 to {len(seeds) - 1}', budget, began)}"
    write(given, records, report, lambda figure: draw(results, figure))


def _record(run: Run) -> dict[str, Any]:
    record = run._asdict()
    del record["moments"]
    return record | {"setting": _shown(run.setting)}


def add_options(parser: argparse.ArgumentParser) -> None:
    """What bounds the time."""
    parser.add_argument("--corpora", nargs="+", default=list(CORPORA), help="children, brown or a children's corpus")
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES), help="tokens to train on")
    parser.add_argument("--epochs", type=int, nargs="+", default=list(EPOCHS), help="of the warm start")
    parser.add_argument("--seeds", type=int, default=3, help="of either start")
    parser.add_argument("--types", type=int, default=TYPES, help="of the vocabulary, the rest is <unk>")
    parser.add_argument("--read", type=int, default=READ, help="most tokens of a warm run, epochs times text")


def main(argv: Sequence[str] | None = None) -> None:
    """Run as a command."""
    run(options("attention-lm-warm-start", __doc__, argv, add_options))


if __name__ == "__main__":
    main()
