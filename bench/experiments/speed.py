"""Counting, moments, log weights, other kernels, language model and classifier, beside numpy, scipy and scikit-learn.

``python -m bench.experiments.speed [--print]`` takes a few minutes. Needs SAFFU_DATA and scikit-learn.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np

import saffu
from bench.data import corpora, datasets
from bench.measure.clock import Seconds, race
from bench.peers import counting, dense_language_model, kernels
from bench.peers.classifiers import fit_saffu
from bench.peers.dense import LOG_SHAPES, MOMENT_SHAPES, numpy_expression, one_hot_product
from bench.report.command import only_print
from bench.report.requirements import data_folder
from bench.report.tables import machine_line, markdown_table, publish
from saffu import _core

MEGABYTE = 1e6
Row = tuple[str, str, str, str]  # what, saffu, the peer, their ratio


def times_faster(ratio: float) -> str:
    """A ratio of times with two digits, or none behind the point."""
    return f"{ratio:.0f}x" if ratio >= 10 else f"{ratio:.2g}x"


def show(seconds: float) -> str:
    """Seconds with a unit that suits them."""
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1e3:.3g} ms"


def against(what: str, ours: float, peer: str, theirs: float) -> Row:
    """A row of two times."""
    return what, show(ours), f"{peer} {show(theirs)}", times_faster(theirs / ours)


def counting_rows() -> Iterator[Row]:
    """CPU seconds beside numpy at both radii, wall seconds of two threads beside one, peak memory."""
    ids = counting.zipf_ids()
    stream = "5M Zipf ids, V = 20,000, distances 1"
    for radius in (1, 10):
        name = stream if radius == 1 else f"{stream}..{radius}"
        runs = {key: counting.CONTENDERS[key] for key in ("saffu", "saffu, 2 threads")}
        times = race({key: partial(run, ids, radius) for key, run in runs.items()})
        yield against(f"count {name}", times["saffu"].cpu, "`numpy.unique`", counting.best_numpy_cpu(radius, ids))
    one, two = times["saffu"].wall, times["saffu, 2 threads"].wall
    yield "the same on two threads, wall", show(two), f"one thread {show(one)}", times_faster(one / two)
    memory = {name: counting.alone(name, radius, ids) for name in ("saffu", "numpy")}
    peaks = {name: f"{facts['peak'] / MEGABYTE:.0f} MB" for name, facts in memory.items()}
    share = f"{memory['saffu']['peak'] / memory['saffu']['result']:.2g} x the result"
    yield (
        "the same, peak memory beyond the input",
        f"{peaks['saffu']} = {share}",
        f"`numpy.unique` {peaks['numpy']}",
        "",
    )


def moments_rows() -> Iterator[Row]:
    """``H^T Y`` beside scipy and beside one read of H."""
    for n, n_features, n_classes in MOMENT_SHAPES:
        rng = np.random.default_rng(0)
        H, y = rng.random((n, n_features), np.float32), rng.integers(0, n_classes, n)
        times = race(_moments_contenders(H, y, n_classes))
        shape = f"{n:,} x {n_features} -> {n_classes:,}"
        ours, read = times["saffu"].cpu, times["read"].cpu
        yield against(f"moments {shape}, float32", ours, "scipy one-hot", times["scipy"].cpu)
        yield "the same, beside one read of H", show(ours), f"read {show(read)}", f"{read / ours:.0%} of read bandwidth"


def _moments_contenders(H, y, n_classes):
    return {
        "saffu": lambda: saffu.moments(H, y, n_classes=n_classes, n_threads=1),
        "scipy": lambda: one_hot_product(H, y, n_classes),
        "read": lambda: _core.lowest(H.reshape(-1), 1),
    }


def log_weights_rows() -> Iterator[Row]:
    """Log weights beside the numpy expression, both precisions."""
    for dtype in (np.float32, np.float64):
        F = (np.random.default_rng(0).random(LOG_SHAPES[0]) + 0.1).astype(dtype)
        contenders = {
            "saffu": lambda F=F: saffu.log_weights(F, 100.0, n_threads=1),
            "numpy": lambda F=F: numpy_expression(F, 100.0),
        }
        times = race(contenders, 9)
        shape = " x ".join(f"{size:,}" for size in LOG_SHAPES[0])
        yield against(f"log weights {shape}, {np.dtype(dtype)}", times["saffu"].cpu, "numpy", times["numpy"].cpu)


def kernel_rows() -> Iterator[Row]:
    """Kernels at the sizes where they once were slow, beside each peer."""
    for problem in kernels.problems():
        times = race(problem.contenders)
        for peer in [name for name in times if name != "saffu"]:
            yield against(problem.name, times["saffu"].cpu, peer, times[peer].cpu)
    problem = kernels.merging(*kernels.LARGE_TABLES, n_threads=2)
    times = race({name: run for name, run in problem.contenders.items() if "union" not in name})
    for peer in [name for name in times if name != "saffu"]:
        yield against(f"{problem.name}, wall", times["saffu"].wall, f"{peer}, one thread", times[peer].wall)


def language_model_rows(folder: Path) -> Iterator[Row]:
    """Fitting Brown, and scoring it beside the dense evaluation in numpy."""
    brown = corpora.brown(folder)
    model = dense_language_model.fit(brown)
    spent = dict(model.seconds)
    verbs = ", ".join(f"{verb} {show(seconds)}" for verb, seconds in spent.items())
    n_tokens = brown.train.ids.size
    yield f"fit the language model to Brown, {n_tokens:,} tokens, wall", show(sum(spent.values())), verbs, ""
    model.n_threads = 1
    per_token = dense_language_model.scoring_race(model, brown.test)
    ours, theirs = per_token["saffu"].cpu, per_token["numpy"].cpu
    rates = [f"{1 / seconds:,.0f} tokens/s" for seconds in (ours, theirs)]
    yield "score Brown", rates[0], f"the same rows added by numpy {rates[1]}", times_faster(theirs / ours)


def classifier_rows(folder: Path) -> Iterator[Row]:
    """MNIST: count and weigh beside naive Bayes, and the whole fit."""
    from sklearn.naive_bayes import MultinomialNB

    mnist = datasets.mnist(folder)
    wide = datasets.with_complements(mnist)
    fits = {
        "weighed": lambda: fit_saffu("mean-norm")(mnist.train, mnist.y_train),
        "bayes": lambda: MultinomialNB(alpha=0.1).fit(mnist.train, mnist.y_train),
        "primed": lambda: fit_saffu("primed")(wide.train, wide.y_train),
    }
    times: dict[str, Seconds] = race(fits)
    weighed, bayes = times["weighed"].wall, times["bayes"].wall
    yield against("count and weigh MNIST, wall", weighed, "MultinomialNB", bayes)
    yield "count, weigh and prime MNIST, x and 1 - x, wall", show(times["primed"].wall), "", ""


def report(folder: Path) -> str:
    """The table in Markdown, with what it was measured on."""
    rows = [
        *counting_rows(),
        *moments_rows(),
        *log_weights_rows(),
        *kernel_rows(),
        *language_model_rows(folder),
        *classifier_rows(folder),
    ]
    header = ("what", "saffu", "beside", "ratio")
    threads = "CPU seconds on one thread, or wall where it is named (every core), medians over interleaved runs"
    return f"{markdown_table(header, rows)}\n\n{machine_line(threads, ('scikit-learn',))}"


def main(argv: Sequence[str] | None = None) -> None:
    """Measure everything once, then write."""
    printed = only_print("speed", __doc__, argv, ["sklearn"])
    publish("speed", report(data_folder()), printed)


if __name__ == "__main__":
    main()
