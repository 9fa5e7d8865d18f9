"""Learning from one utterance at a time: accuracy on new ones, and milliseconds on one core.

``python -m bench.experiments.learning_on_the_spot [--print]`` takes about three minutes. The peers need torch.

A switch for a house is given short commands one after the other, each followed by the action that was meant, and has to
act on the next one: accuracy on new commands against the number learned, from none.

The explicit model is a language model in which the action stands before every word: an utterance is the document
``a w_1 a w_2 a ...``, so that a word follows the action, the word before it, and both. It is asked for the action under
which the utterance is likeliest. Learning is one ``update``. The scalars are primed when the number of utterances
learned is a power of two, which is timed apart: it can wait until nobody speaks. The peers get the same tokens.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

import saffu
from bench.data.utterances import ACTIONS, VOCAB_SIZE, Lexicon, documents_of, utterances
from bench.report.command import Options, closing, options, write
from bench.report.requirements import installed
from bench.report.tables import markdown_table, mean_and_spread
from bench.trials.one_core import on_one_core
from bench.trials.tuning import RATES, settings_tried

LEARNED = (0, 5, 10, 20, 50, 100, 200, 400)
N_TEST = 300
SEEDS = (10, 11, 12)  # the grammar and the encoding were settled on others
TUNING_SEED, TUNING_LEARNED = 99, 100
SETTINGS: dict[str, Any] = {"radius": 2, "order": 3, "windows": (), "induction": 0, "n_threads": 1}
MEGABYTES = 512


class Learner(Protocol):
    """What learns and answers. Tokens are numbers below ``VOCAB_SIZE``, actions those below ``len(ACTIONS)``."""

    @property
    def n_weights(self) -> int:
        """Number of weights."""
        ...

    def update(self, tokens: list[int], action: int) -> None:
        """Learn an utterance and what was meant."""

    def rest(self) -> None:
        """Do what can wait until nobody speaks."""

    def answer(self, tokens: list[int]) -> int:
        """The action that is meant."""


class Explicit:
    """The explicit language model of actions and words."""

    def __init__(self) -> None:
        self.model = saffu.ExplicitLM(**SETTINGS).partial_fit([], vocab_size=VOCAB_SIZE)
        self.n_learned = 0

    @property
    def n_weights(self) -> int:
        """Weights that are not zero."""
        return self.model.counts.n_entries

    def update(self, tokens: list[int], action: int) -> None:
        """Count the utterance."""
        self.model.update(documents_of(tokens, [action]), documents=[0])
        self.n_learned += 1

    def rest(self) -> None:
        """Prime at 1, 2, 4, 8, ... utterances."""
        if self.n_learned & (self.n_learned - 1) == 0:
            self.model.prime()

    def answer(self, tokens: list[int]) -> int:
        """The action under which the utterance is likeliest."""
        if self.n_learned == 0:
            return 0
        length, n_actions = 2 * len(tokens), len(ACTIONS)
        log_prob = self.model.log_prob(documents_of(tokens, range(n_actions)), documents=length * np.arange(n_actions))
        by_action = log_prob.reshape(n_actions, length)
        return int((by_action[:, 0] + by_action[:, 1::2].sum(axis=1)).argmax())


# ---- measuring -----------------------------------------------------------------------------------------------------


class Lesson(NamedTuple):
    """What one learner did with one stream of utterances; milliseconds of each update, rest and answer."""

    accuracy: dict[int, float]
    right: list[bool]  # answers before each utterance was learned
    n_weights: int
    update: list[float]
    rest: list[float]
    answer: list[float]


def taught(build: Callable[[], Learner], seed: int, learned: Sequence[int], n_test: int) -> Lesson:
    """Let a learner answer and then learn every utterance of a seed; score it on fresh ones at some numbers learned."""
    learner, lexicon = build(), Lexicon(len(ACTIONS), VOCAB_SIZE)
    fresh = utterances(n_test, seed + 1_000_000)
    lesson = Lesson({}, [], 0, [], [], [])

    def score(n: int) -> None:
        right = [learner.answer(lexicon.known(spoken.text)) == spoken.action for spoken in fresh]
        lesson.accuracy[n] = float(np.mean(right))

    for n, spoken in enumerate(utterances(max(learned), seed)):
        if n in learned and n_test:
            score(n)
        began = time.perf_counter()
        lesson.right.append(learner.answer(lexicon.known(spoken.text)) == spoken.action)
        answered = time.perf_counter()
        learner.update(lexicon.learn(spoken.text), spoken.action)
        updated = time.perf_counter()
        learner.rest()
        moments = np.array([began, answered, updated, time.perf_counter()])
        for times, spent in zip((lesson.answer, lesson.update, lesson.rest), 1e3 * np.diff(moments), strict=True):
            times.append(float(spent))
    if n_test:
        score(max(learned))
    return lesson._replace(n_weights=learner.n_weights)


def contenders(quick: bool) -> dict[str, Callable[[], Learner]]:
    """Every learner by name; those trained by backprop with the rate that served them best on another stream."""
    found: dict[str, Callable[[], Learner]] = {"explicit": Explicit}
    if installed("torch"):
        from bench.peers import torch_learners

        for name, build in torch_learners.LEARNERS.items():
            rate = best_rate(build, RATES[settings_tried(quick)], 4 if quick else TUNING_LEARNED)
            found[f"{name}, rate {rate:g}"] = functools.partial(build, rate, 0)
    return found


def best_rate(build: Callable[[float, int], Learner], rates: Sequence[float], learned: int) -> float:
    """The rate with the most right answers, each before the utterance was learned, on the stream kept for tuning."""
    right = [np.mean(taught(functools.partial(build, rate, 0), TUNING_SEED, [learned], 0).right) for rate in rates]
    return rates[int(np.argmax(right))]


# ---- tables and figure ---------------------------------------------------------------------------------------------


def accuracy_table(lessons: dict[str, list[Lesson]]) -> str:
    """Accuracy on fresh utterances by the number learned, mean and spread over the seeds."""
    learned = list(next(iter(lessons.values()))[0].accuracy)
    rows = [
        [name, f"{runs[0].n_weights:,}", *(mean_and_spread([run.accuracy[n] for run in runs], 2) for n in learned)]
        for name, runs in lessons.items()
    ]
    return markdown_table(["accuracy after", "weights", *(f"{n} learned" for n in learned)], rows)


def time_table(lessons: dict[str, list[Lesson]]) -> str:
    """Milliseconds of an update, of an answer, of both together at worst, and of the longest rest."""
    rows = []
    for name, runs in lessons.items():
        update, rest = (np.concatenate(part) for part in ([run.update for run in runs], [run.rest for run in runs]))
        answer = np.concatenate([run.answer[1:] for run in runs])  # without the very first, a guess
        typical = [f"{np.median(values):.1f}" for values in (update, answer)]
        slow = f"{np.percentile(update, 99) + np.percentile(answer, 99):.1f}"
        rows.append([name, *typical, slow, f"{rest.max():.0f}" if rest.max() >= 0.5 else "-"])
    header = ["ms on one core", "update", "answer", "both, 99th percentiles", "longest rest (priming)"]
    return markdown_table(header, rows)


def draw(lessons: dict[str, list[Lesson]], figure: Any) -> None:
    """Accuracy against utterances learned."""
    figure.set_size_inches(7, 4.5)
    axes = figure.subplots()
    for name, runs in lessons.items():
        learned = np.array(list(runs[0].accuracy))
        accuracy = np.array([list(run.accuracy.values()) for run in runs])
        axes.errorbar(learned + 1, accuracy.mean(axis=0), accuracy.std(axis=0), marker="o", ms=3, label=name)
    axes.axhline(0.9, color="grey", lw=0.5)
    axes.set(xscale="log", xlabel="1 + utterances learned", ylabel="accuracy on new utterances", ylim=(0, 1))
    axes.legend()


def run(given: Options) -> None:
    """Measure and write."""
    began = time.perf_counter()
    learned, n_test, seeds = ((0, 4), 10, SEEDS[:2]) if given.quick else (LEARNED, N_TEST, SEEDS)
    lessons = {
        name: [taught(build, seed, learned, n_test) for seed in seeds]
        for name, build in contenders(given.quick).items()
    }
    records = [
        {"contender": name, "seed": seed, "learned": n, "accuracy": accuracy}
        for name, runs in lessons.items()
        for seed, lesson in zip(seeds, runs, strict=True)
        for n, accuracy in lesson.accuracy.items()
    ]
    small = on_one_core()
    memory = (
        f"A model of {small['entries']:,} weights over 1,000 tokens, in a process of its own on one core: fitted in "
        f"{small['fit'] / 1e3:.1f} s, an update by ten tokens {small['update'] / 100:.1f} ms, an update and an answer "
        f"{small['answer'] / 100:.1f} ms, peak memory {small['megabytes']:.0f} MB (of {MEGABYTES})."
    )
    budget = (
        f"{max(learned)} utterances, {n_test} fresh ones to score on; peers: 8 steps of Adam for each utterance, "
        "on 32 of all learned so far, the new one among them; rate tuned on another stream, not counted"
    )
    words = ", ".join(map(str, seeds))
    libraries = [*filter(installed, ["torch"])]
    parts = [accuracy_table(lessons), time_table(lessons), memory, closing(words, budget, began, libraries)]
    write(given, records, "\n\n".join(parts), lambda figure: draw(lessons, figure))


def main(argv: Sequence[str] | None = None) -> None:
    """Run as a command."""
    run(options("learning-on-the-spot", __doc__, argv))


if __name__ == "__main__":
    main()
