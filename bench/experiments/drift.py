"""Does training move towards the explicit solution: cosines, epoch by epoch, with what is solved.

``python -m bench.experiments.drift [--print]`` takes about three minutes. Needs SAFFU_DATA.

Softmax does not see a shift of all weights of a feature, so these are centred; a feature counts by its root mean square
over the training rows.

* layer, weights: the softmax layer, whose columns are the classes.
* network, hidden weights: columns are hidden units, which come in no order; each unit of the one network is matched
  with one of the other (assignment of the largest sum of cosines), and the mean over the pairs is given.
* function: of the log-probabilities of the test rows, centred over the classes; needs no matching.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse

import saffu
from bench.data.datasets import Split
from bench.report.command import Options, closing, options, write
from bench.report.tables import markdown_table, mean_and_spread
from bench.trials.networks import Task, batch_size, tasks

EPOCHS = 16
SHOWN = (0, 1, 2, 4, 8, 16)
SCALE, RATE = "glorot", 1e-2
SEEDS = range(3)
FLOOR = 1e-6  # of probabilities, before the logarithm


class Row(NamedTuple):
    """One cosine; epoch -1 compares two solved networks of different seeds."""

    data: str
    measure: str
    seed: int
    epoch: int
    cosine: float


# ---- cosines -------------------------------------------------------------------------------------------------------


def cosine(a: NDArray, b: NDArray) -> float:
    """Of two arrays, as vectors."""
    return float(np.vdot(a, b) / np.sqrt(np.vdot(a, a) * np.vdot(b, b)))


def contributions(weights: NDArray, split: Split) -> NDArray:
    """Weights (D, N), each feature's mean taken away, times the feature's root mean square."""
    squares = split.train.multiply(split.train) if issparse(split.train) else np.square(split.train)
    size = np.sqrt(np.asarray(squares.mean(axis=0, dtype=np.float64))).reshape(-1, 1)
    return size * (weights - weights.mean(axis=1, keepdims=True))


def matched_cosine(a: NDArray, b: NDArray) -> float:
    """Mean cosine of columns (D, H) of a and b in the best pairing."""
    from scipy.optimize import linear_sum_assignment

    units = [columns / np.maximum(np.linalg.norm(columns, axis=0), 1e-300) for columns in (a, b)]
    cosines = units[0].T @ units[1]
    return float(cosines[linear_sum_assignment(cosines, maximize=True)].mean())


def function_cosine(a: Any, b: Any, X: Any) -> float:
    """Cosine of the centred log-probabilities of two models."""
    logs = [np.log(np.maximum(model.predict_proba(X), FLOOR)) for model in (a, b)]
    return cosine(*(log_p - log_p.mean(axis=1, keepdims=True) for log_p in logs))


def hidden_weights(network: Any) -> NDArray:
    """Weights (D, H) of the first hidden layer."""
    return network.weights[0].astype(np.float64)


def layer_cosines(trained: Any, explicit: Any, split: Split) -> dict[str, float]:
    """Cosines of two softmax layers."""
    weights = [contributions(layer.weights, split) for layer in (trained, explicit)]
    return {"layer, weights": cosine(*weights), "layer, function": function_cosine(trained, explicit, split.test)}


def network_cosines(trained: Any, explicit: Any, split: Split) -> dict[str, float]:
    """Cosines of two networks."""
    weights = [contributions(hidden_weights(network), split) for network in (trained, explicit)]
    function = function_cosine(trained, explicit, split.test)
    return {"network, hidden weights": matched_cosine(*weights), "network, function": function}


# ---- training ------------------------------------------------------------------------------------------------------


def rows(task: Task, seed: int, epochs: int) -> Iterator[Row]:
    """Yield the cosines of a layer and of a network along training from random weights."""
    split = task.split
    layer = saffu.SoftmaxLayer().fit(split.train, split.y_train)
    for explicit, measure in ((layer, layer_cosines), (task.fitted(), network_cosines)):
        start = saffu.random_start(explicit, scale=SCALE, seed=seed)
        seen: list[Row] = []

        def look(model: Any, epoch: int, explicit: Any = explicit, measure: Any = measure, seen: list = seen) -> None:
            found = measure(model, explicit, split)
            seen.extend(Row(task.name, name, seed, epoch, value) for name, value in found.items())

        def after_epoch(state: Any, look: Any = look) -> None:
            look(state.model(), state.epoch)

        look(start, 0)
        saffu.refine(
            start,
            split.train,
            split.y_train,
            epochs=epochs,
            batch_size=batch_size(task.n_rows),
            learning_rate=RATE,
            soften=1.0,
            seed=seed,
            callback=after_epoch,
        )
        yield from seen
    for name, value in network_cosines(task.fitted(seed=seed + 1), task.fitted(), split).items():
        yield Row(task.name, name, seed, -1, value)


def table(results: Sequence[Row]) -> str:
    """A line per data set and cosine, a column per epoch."""
    epochs = [epoch for epoch in SHOWN if epoch <= max(row.epoch for row in results)]
    lines = []
    for data, measure in dict.fromkeys((row.data, row.measure) for row in results):
        cells = []
        for epoch in [*epochs, -1]:
            values = [row.cosine for row in results if row[:2] == (data, measure) and row.epoch == epoch]
            cells.append(mean_and_spread(values, 2) if values else "")
        lines.append([data, measure, *cells])
    return markdown_table(["data", "cosine of", *(f"epoch {n}" for n in epochs), "two solved, other seeds"], lines)


def draw(results: Sequence[Row], figure: Any) -> None:
    """Cosine against epoch, a panel per data set."""
    names = list(dict.fromkeys(row.data for row in results))
    figure.set_size_inches(3.5 * len(names), 3.5)
    for axes, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        here = [row for row in results if row.data == name and row.epoch >= 0]
        epochs = sorted({row.epoch for row in here})
        for measure in dict.fromkeys(row.measure for row in here):
            of = [[row.cosine for row in here if (row.measure, row.epoch) == (measure, n)] for n in epochs]
            axes.plot(epochs, [np.mean(values) for values in of], "o-", markersize=3, label=measure)
        axes.set(title=name, xlabel="epoch", ylabel="cosine with the explicit solution", ylim=(-0.1, 1))
    axes.legend()


def run(given: Options) -> None:
    """Measure every task and write."""
    began = time.perf_counter()
    results: list[Row] = []
    for task in tasks(given.quick):
        for seed in SEEDS:
            results += rows(task, seed, 2 if given.quick else EPOCHS)
    budget = f"{EPOCHS} epochs of Adam at {RATE} from {SCALE} weights, every training row"
    text = table(results) + "\n\n" + closing(f"0 to {SEEDS[-1]}", budget, began)
    write(given, [row._asdict() for row in results], text, lambda figure: draw(results, figure))


def main(argv: Sequence[str] | None = None) -> None:
    """Run as a command."""
    run(options("drift", __doc__, argv, needs_for_data=["sklearn"]))


if __name__ == "__main__":
    main()
