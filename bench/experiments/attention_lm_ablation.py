"""What attention, contexts and moving embeddings are worth: test perplexity of SaffuLM with and without each.

``python -m bench.experiments.attention_lm_ablation [--print]`` takes about five minutes. Needs SAFFU_DATA.

The same compact language model with attention that is uniform, on the newest token alone, solved explicitly, or learned
by backprop from a solved and from a random start; with one context model and with several; with embeddings frozen and
thawed in refinement.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from bench.data.texts import Text, text_of
from bench.report.command import Options, closing, options, write
from bench.report.tables import markdown_table, mean_and_spread
from bench.trials.attention_lm import RATES, SCALES, Moment, best, best_setting, remembered, solve, trained
from saffu import SaffuLM

ARCHITECTURE: dict[str, Any] = {"bits": 32, "hidden": 32, "radius": 8, "block": 8}
TOKENS, TYPES = 100_000, 2000
CONTEXTS = (
    ("block",),
    ("radial",),
    ("document",),
    ("block", "radial"),
    ("block", "document"),
    ("radial", "document"),
    ("block", "radial", "document"),
)
ATTENTION = ("radial1.attention", "radial1.attention_bias")


class Result(NamedTuple):
    """One way to have a model, refined with one seed."""

    part: str
    name: str
    n_parameters: int
    seed: int
    setting: Any
    solve_seconds: float
    moments: Sequence[Moment]


class Way(NamedTuple):
    """A model to start from, and how to refine it."""

    part: str
    name: str
    start: SaffuLM
    solve_seconds: float
    settings: Sequence[Any]
    train: Callable[[Any, int, int], Sequence[Moment]]  # setting, epochs, seed


def learned(part: str, name: str, text: Text, solved: tuple[SaffuLM, float], few: slice, **settings: Any) -> Way:
    """From a solved model; the rate is tuned."""
    model, seconds = solved
    settings = {"freeze_embeddings": True, **settings}

    def train(rate: float, epochs: int, seed: int) -> Sequence[Moment]:
        return trained(model, text, epochs, seconds, learning_rate=rate, seed=seed, **settings)

    return Way(part, name, model, seconds, tuple(RATES)[few], train)


def from_random(part: str, name: str, text: Text, shape: SaffuLM, few: slice) -> Way:
    """From random weights; scale and rate are tuned, embeddings move."""

    def train(setting: tuple[str | float, float], epochs: int, seed: int) -> Sequence[Moment]:
        scale, rate = setting
        start = shape.random_start(scale=scale, seed=seed)
        return trained(start, text, epochs, learning_rate=rate, seed=seed, freeze_embeddings=False)

    return Way(part, name, shape, 0.0, tuple(itertools.product(SCALES, RATES))[few], train)


def ways(text: Text, few: slice) -> Iterator[Way]:
    """Every line of the three tables."""

    def solved(contexts: Sequence[str] = ("radial",), **changes: Any) -> tuple[SaffuLM, float]:
        return solve(text, contexts=contexts, **ARCHITECTURE | changes)

    part, explicit, uniform = "attention", solved(), solved(attention="uniform")
    yield learned(part, "uniform, and stays so", text, uniform, few, freeze=ATTENTION)
    yield learned(part, "newest token only", text, solved(radius=1), few)
    yield learned(part, "explicit, and stays so", text, explicit, few, freeze=ATTENTION)
    by_gradient = solved(attention="gradient")
    yield learned(part, "explicit by gradient targets, and stays so", text, by_gradient, few, freeze=ATTENTION)
    yield learned(part, "learned from uniform", text, uniform, few)
    yield learned(part, "learned from explicit", text, explicit, few)
    yield learned(part, "learned from explicit, embeddings too", text, explicit, few, freeze_embeddings=False)
    yield from_random(part, "learned from random weights", text, explicit[0], few)
    for contexts in CONTEXTS:
        found = explicit if contexts == ("radial",) else solved(contexts)
        yield learned("contexts", " + ".join(contexts), text, found, few)
    part, every = "embeddings", found
    yield learned(part, "frozen", text, every, few)
    yield learned(part, "thawed", text, every, few, freeze_embeddings=False)
    yield learned(part, "frozen for an epoch, then thawed", text, every, few, thaw_after=1)


def measured(way: Way, n_tokens: int, epochs: int, seeds: Sequence[int]) -> Iterator[Result]:
    """Tune with the first seed on validation text, then refine with every seed."""
    if way.part == "embeddings":
        epochs = max(epochs, 2)
    run = remembered(lambda setting, epochs: way.train(setting, epochs, seeds[0]))
    setting = best_setting(way.settings, run, epochs, n_tokens)
    for seed in seeds:
        moments = run(setting, epochs) if seed == seeds[0] else way.train(setting, epochs, seed)
        yield Result(way.part, way.name, way.start.n_parameters, seed, setting, way.solve_seconds, moments)


def tables(results: Sequence[Result], text: Text) -> str:
    """A table for each part."""
    parts = dict.fromkeys(result.part for result in results)
    return "\n\n".join(table([result for result in results if result.part == part], text) for part in parts)


def table(results: Sequence[Result], text: Text) -> str:
    """Perplexities of the ways of one part, solved and refined, and by how much they differ from the first."""
    names = dict.fromkeys(result.name for result in results)
    lines = []
    reference = results[0].moments[0].perplexity
    for name in names:
        found = [result for result in results if result.name == name]
        solved, random = found[0].moments[0].perplexity, found[0].solve_seconds == 0
        change = "-" if random else f"{solved / reference - 1:+.1%}"
        refined = mean_and_spread([best(result.moments).perplexity for result in found], 1)
        training = [result.moments[-1].seconds - result.solve_seconds for result in found]
        seconds = [f"{found[0].solve_seconds:.1f}", f"{sum(training) / len(training):.1f}"]
        start = "-" if random else f"{solved:.1f}"
        against = "-" if random else f"{solved / text.unigram - 1:+.1%}"
        lines.append([name, f"{found[0].n_parameters:,}", start, against, change, refined, *seconds, _shown(found[0])])
    header = [results[0].part, "parameters", "solved", "to the unigram", "to the first line", "refined"]
    return markdown_table([*header, "solve, s", "refine, s", "tuned"], lines)


def _shown(result: Result) -> str:
    setting = result.setting if isinstance(result.setting, tuple) else (result.setting,)
    return ", ".join(f"{part:g}" if isinstance(part, float) else part for part in setting)


def claim(results: Sequence[Result]) -> str:
    """One sentence on explicit attention before any gradient step."""
    solved = {result.name: result.moments[0].perplexity for result in results if result.part == "attention"}
    gain = 1 - solved["explicit, and stays so"] / solved["uniform, and stays so"]
    return f"With no gradient step, explicit attention lowers the perplexity of uniform attention by {gain:.1%}."


def run(given: Options) -> None:
    """Measure every way and write."""
    began = time.perf_counter()
    more = given.more
    text = text_of("made up", 1500) if given.quick else text_of(more.corpus, more.tokens, more.types)
    seeds = range(1 if given.quick else more.seeds)
    results: list[Result] = []
    for way in ways(text, slice(1, 3) if given.quick else slice(None)):
        for result in measured(way, text.train.ids.size, more.epochs, seeds):
            results.append(result)
            solved, refined = result.moments[0].perplexity, best(result.moments).perplexity
            print(f"{result.part}: {result.name}: {solved:.1f}, refined {refined:.1f}", flush=True)
    records = [
        {key: value for key, value in result._asdict().items() if key not in ("moments", "setting")}
        | {"setting": _shown(result)}
        | moment._asdict()
        | {"perplexity": moment.perplexity}
        for result in results
        for moment in result.moments
    ]
    architecture = ", ".join(f"{name} {value}" for name, value in ARCHITECTURE.items())
    about = (
        f"Test perplexity on {text.name}, {text.train.ids.size:,} tokens, {text.n_types:,} types, unigram "
        f"{text.unigram:.1f}; contexts radial where nothing is said, every one of them for embeddings; refined: "
        f"{more.epochs} epoch(s), at least 2 for embeddings, which are frozen where nothing is said; the epoch that "
        "does best on validation text counts."
    )
    budget = f"{architecture}; rate (and scale) tuned on validation text with the first seed, not counted"
    seeding = f"0 to {len(seeds) - 1}"
    report = [about, tables(results, text), claim(results), closing(seeding, budget, began)]
    write(given, records, "\n\n".join(report))


def add_options(parser: argparse.ArgumentParser) -> None:
    """What bounds the time."""
    parser.add_argument("--corpus", default="brown")
    parser.add_argument("--tokens", type=int, default=TOKENS)
    parser.add_argument("--types", type=int, default=TYPES, help="of the vocabulary, the rest is <unk>")
    parser.add_argument("--epochs", type=int, default=1, help="of the refinements")
    parser.add_argument("--seeds", type=int, default=3, help="of the order of the text, and of random weights")


def main(argv: Sequence[str] | None = None) -> None:
    """Run as a command."""
    run(options("attention-lm-ablation", __doc__, argv, add_options, needs=[]))


if __name__ == "__main__":
    main()
