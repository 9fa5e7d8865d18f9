"""ExplicitConvNet beside a small convolutional network in torch, k-means features, and pixels.

``python -m bench.experiments.image_classifier_quality [--quick] [--print] [--data NAME ...]`` takes about half an hour.
Needs SAFFU_DATA, torch and, for colour images, Pillow.

Each has its own test part. ExplicitConvNet solves without backpropagation; torch's network trains for as long as
ExplicitConvNet took, after its learning rate was tuned for two thirds of that, and holds a fifth of the images out.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bench.data import datasets
from bench.data.datasets import Split
from bench.measure.scores import score_of
from bench.report.command import parser_of
from bench.report.requirements import data_folder, require
from bench.report.tables import check_published, machine_line, markdown_table, publish
from saffu import ExplicitConvNet, ExplicitNetwork

NAME = "image-classifier-quality"
VARIANTS: dict[str, dict[str, Any]] = {  # beside the defaults
    "ExplicitConvNet, 400 units": {"units": 400},
    "ExplicitConvNet, head layer": {"head": "layer"},
    "ExplicitConvNet, quick": {"head": "layer", "units": 150, "pool": 4, "normalize": "none"},
}
Shape = tuple[int, int, int]
Predict = Callable[[NDArray], NDArray]


class Row(NamedTuple):
    """One line of the table; NLL in nats per image, on the test part."""

    data: str
    model: str
    accuracy: float
    nll: float
    seconds: float
    images_per_second: float
    note: str


def measured(data: str, model: str, split: Split, fit: Callable[[], tuple[Predict, str]]) -> Row:
    """Fit once, by the clock, and score the test part."""
    start = time.perf_counter()
    predict, note = fit()
    seconds = time.perf_counter() - start
    start = time.perf_counter()
    found = predict(split.test)
    speed = len(split.test) / (time.perf_counter() - start)
    score = score_of(found, split.y_test)
    return Row(data, model, score.accuracy, score.nll, seconds, speed, note)


def rows(data: str, split: Split, shape: Shape, quick: bool, alone: bool) -> Iterator[Row]:
    """The rows of one data set, those of others unless saffu is to be alone."""
    small = {"patch": 3, "units": 12, "hidden": (8,)} if quick else {}

    def saffu(**settings: Any) -> tuple[Predict, str]:
        net = ExplicitConvNet(shape, **settings | small).fit(split.train, split.y_train, progress=False)
        powers = ", ".join(f"{power:.2f}" for power in net.powers_)
        return net.predict_log_proba, f"contrast {net.normalize_}, powers {powers}"

    def pixels() -> tuple[Predict, str]:
        hidden = (20,) if quick else (300,)
        return ExplicitNetwork(hidden).fit(split.train, split.y_train, progress=False).predict_log_proba, ""

    default = measured(data, "ExplicitConvNet", split, saffu)
    yield default
    for name, settings in VARIANTS.items():
        yield measured(data, name, split, lambda settings=settings: saffu(**settings))
    yield measured(data, "ExplicitNetwork, pixels", split, pixels)
    if not alone:
        yield from others(data, split, shape, small.get("patch"), default.seconds)


def others(data: str, split: Split, shape: Shape, patch: int | None, budget: float) -> Iterator[Row]:
    """What a user would take instead; torch trains for as many seconds as saffu did."""
    from bench.peers import torch_images

    def conv_net() -> tuple[Predict, str]:
        predict, rate, _ = torch_images.train_conv_net(split, shape, budget)
        return predict, f"learning rate {rate:g}"

    def k_means() -> tuple[Predict, str]:
        size = patch or (6 if min(shape[:2]) > 8 else 4)
        predict, ridge = torch_images.train_kmeans(split, shape, size, 20 if patch else 400)
        return predict, f"ridge {ridge:g}"

    yield measured(data, "torch convolutional network", split, conv_net)
    yield measured(data, "k-means features, ridge", split, k_means)


def table(found: Sequence[Row]) -> str:
    """The rows in Markdown."""
    header = ["data", "model", "accuracy", "NLL (nats)", "seconds to fit", "images/s", "chosen"]
    lines = [
        [
            r.data,
            r.model,
            f"{r.accuracy:.4f}",
            f"{r.nll:.4f}",
            f"{r.seconds:.1f}",
            f"{r.images_per_second:,.0f}",
            r.note,
        ]
        for r in found
    ]
    return markdown_table(header, lines)


def sets(quick: bool, chosen: Sequence[str]) -> Iterator[tuple[str, Split, Shape]]:
    """The data sets of these names, or all."""
    if quick:
        yield "made up", datasets.made_up(n_features=64), (8, 8, 1)
        return
    makers: dict[str, Callable[[], tuple[Split, Shape]]] = {
        "digits": lambda: (datasets.digits(), (8, 8, 1)),
        "Fashion, 3,000": lambda: (datasets.fashion_part(data_folder()), (28, 28, 1)),
        "MNIST, 600": lambda: (datasets.subset(datasets.mnist(data_folder()), 0.01), (28, 28, 1)),
        "MNIST, 6,000": lambda: (datasets.subset(datasets.mnist(data_folder()), 0.1), (28, 28, 1)),
        "CIFAR-10, 10,000": lambda: (datasets.cifar10_part(data_folder()), (32, 32, 3)),
        "MNIST": lambda: (datasets.mnist(data_folder()), (28, 28, 1)),
    }
    for name, make in makers.items():
        if not chosen or name in chosen:
            yield name, *make()


def more_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--quick`` and ``--data``."""
    parser.add_argument("--quick", action="store_true", help="some seconds, made-up images, only to see that it works")
    parser.add_argument("--alone", action="store_true", help="without the rows of other libraries")
    parser.add_argument("--data", nargs="+", default=[], metavar="NAME", help="some of the data sets, by their names")


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, then write."""
    given = parser_of(NAME, __doc__, more_options).parse_args(argv)
    require("torch", "sklearn")
    printed = given.print or given.quick
    check_published(NAME, printed)
    found: list[Row] = []
    for name, split, shape in sets(given.quick, given.data):
        whole = split._replace(train=np.asarray(split.train, np.float32), test=np.asarray(split.test, np.float32))
        for row in rows(name, whole, shape, given.quick, given.alone):
            found.append(row)
            print(*row, flush=True)
    publish(NAME, f"{table(found)}\n\n{machine_line('every core', ['torch', 'scikit-learn'])}", printed)


if __name__ == "__main__":
    main()
