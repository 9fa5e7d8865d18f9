"""Transformers grown while they are trained beside the same trained from scratch, and families from one checkpoint."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from bench.data.texts import Text
from saffu import Transformer, grow
from saffu.transformer import Prototypes

Sizes = dict[str, int]


class Plan(NamedTuple):
    """Sizes of the stages, the last of them final, and the epochs that the final size is trained from scratch."""

    stages: tuple[Sizes, ...]
    positions: int
    epochs: int


FULL = Plan(
    (
        {"hidden": 48, "layers": 1, "heads": 2, "mlp": 96},
        {"hidden": 64, "layers": 2, "heads": 3, "mlp": 192},
        {"hidden": 96, "layers": 3, "heads": 4, "mlp": 384},
    ),
    64,
    4,
)
QUICK = Plan(
    ({"hidden": 8, "layers": 1, "heads": 1, "mlp": 8}, {"hidden": 12, "layers": 2, "heads": 2, "mlp": 16}), 16, 3
)
WIDTH = 24  # of queries, keys and values of a head


class Moment(NamedTuple):
    """After some training."""

    seconds: float
    multiply_adds: float
    nll: float


def start(text: Text, plan: Plan, sizes: Sizes, seed: int) -> Transformer:
    """A model of these sizes with random weights."""
    shape: dict[str, Any] = {**sizes, "key": WIDTH, "value": WIDTH, "positions": plan.positions}
    return Transformer(text.n_types, **shape, seed=seed)


def grown_to(model: Transformer, sizes: Sizes, init: Any, seed: int) -> Transformer:
    """The model with these sizes."""
    chance: dict[str, Any] = {"init": init, "seed": seed}
    while len(model.sizes) < sizes["layers"]:
        model = grow.add_layer(model, **chance)
    for layer, size in enumerate(model.sizes):
        model = grow.add_heads(model, sizes["heads"] - size.heads, layers=layer, **chance)
    return grow.hidden(grow.mlp(model, sizes["mlp"], **chance), sizes["hidden"], **chance)


def multiply_adds(model: Transformer, n_tokens: int) -> float:
    """Of training on so many tokens: a backward pass costs two forward ones."""
    h, T = model.hidden, model.positions
    each = sum(s.heads * (2 * h * s.key + 2 * h * s.value + T * (s.key + s.value)) + 2 * h * s.mlp for s in model.sizes)
    return 3.0 * n_tokens * (each + h * model.vocab_size)


def nll(model: Transformer, text: Text) -> float:
    """On validation text, nats per token."""
    return -float(model.log_prob(text.valid.ids, documents=text.valid.starts).mean())


def trained(model: Transformer, text: Text, epochs: int, rate: float, seed: int, so_far: Moment) -> tuple[Any, Moment]:
    """The model trained further, by the clock."""
    ids, documents = text.train.ids, text.train.starts
    began = time.perf_counter()
    better = model.refine(ids, epochs=epochs, documents=documents, learning_rate=rate, seed=seed, batch_tokens=1024)
    seconds = so_far.seconds + time.perf_counter() - began
    return better, Moment(seconds, so_far.multiply_adds + epochs * multiply_adds(model, ids.size), nll(better, text))


def from_scratch(text: Text, plan: Plan, rate: float, seed: int) -> Moment:
    """The final size from random weights."""
    model = start(text, plan, plan.stages[-1], seed)
    return trained(model, text, plan.epochs, rate, seed, Moment(0, 0, math.nan))[1]


def progressive(text: Text, plan: Plan, rate: float, kind: str, seed: int) -> list[Moment]:
    """An epoch of each size on the way, then the final size with one epoch, two, and so on, each from there."""
    moment, model = Moment(0.0, 0.0, math.nan), start(text, plan, plan.stages[0], seed)
    model, moment = trained(model, text, 1, rate, seed, moment)
    for sizes in plan.stages[1:-1]:
        model, moment = grown_by(model, text, sizes, kind, seed, moment)
        model, moment = trained(model, text, 1, rate, seed, moment)
    model, moment = grown_by(model, text, plan.stages[-1], kind, seed, moment)
    return [trained(model, text, epochs, rate, seed, moment)[1] for epochs in range(1, plan.epochs - 1)]


def grown_by(
    model: Transformer, text: Text, sizes: Sizes, kind: str, seed: int, moment: Moment
) -> tuple[Transformer, Moment]:
    """The model with these sizes; counting is on the clock."""
    began = time.perf_counter()
    init = Prototypes(model, text.train.ids, documents=text.train.starts, seed=seed) if kind == "explicit" else kind
    larger = grown_to(model, sizes, init, seed)
    return larger, moment._replace(seconds=moment.seconds + time.perf_counter() - began)


def race(text: Text, plan: Plan, rates: Sequence[float], seeds: Sequence[int]) -> Iterator[dict[str, Any]]:
    """Rows of the table of progressive growth; the rate is tuned for training from scratch, with another seed."""
    rate = min(rates, key=lambda rate: from_scratch(text, plan, rate, 99).nll)
    scratch = [from_scratch(text, plan, rate, seed) for seed in seeds]
    yield _row("from scratch", plan.epochs, scratch, scratch, rate)
    for kind in ("normal", "zeros", "explicit"):
        runs = [progressive(text, plan, rate, kind, seed) for seed in seeds]
        for epochs, moments in enumerate(zip(*runs, strict=True), start=1):
            yield _row(f"grown, {kind}", epochs, moments, scratch, rate)


def _row(name: str, epochs: int, runs: Sequence[Moment], scratch: Sequence[Moment], rate: float) -> dict[str, Any]:
    pairs = list(zip(runs, scratch, strict=True))
    return {
        "part": "progressive",
        "name": name,
        "epochs of the final size": epochs,
        "seconds": float(np.mean([run.seconds for run in runs])),
        "time": float(np.mean([run.seconds / other.seconds for run, other in pairs])),
        "multiply-adds": float(np.mean([run.multiply_adds / other.multiply_adds for run, other in pairs])),
        "nll": float(np.mean([run.nll for run in runs])),
        "rate": rate,
    }


def family(text: Text, plan: Plan, rates: Sequence[float], rate: float) -> Iterator[dict[str, Any]]:
    """Models of several sizes from one checkpoint, each trained for one epoch, beside the same from scratch.

    The rate of each is tuned with another seed; ``rate`` is that of the checkpoint.
    """

    def after(model: Transformer, rate: float, seed: int = 0) -> float:
        return trained(model, text, 1, rate, seed, Moment(0, 0, math.nan))[1].nll

    small, _ = trained(start(text, plan, plan.stages[0], 0), text, 2, rate, 0, Moment(0, 0, math.nan))
    yield {"part": "family", "name": "the checkpoint", "parameters": small.n_parameters, "grown": nll(small, text)}
    for sizes, wide in itertools.product(plan.stages, (1, 2)):
        bigger = sizes | {"mlp": wide * sizes["mlp"]}
        larger, fresh = grown_to(small, bigger, "normal", 0), start(text, plan, bigger, 0)
        if larger.n_parameters == small.n_parameters:
            continue
        tuned = [min(rates, key=partial(after, model, seed=99)) for model in (larger, fresh)]
        grown, alone = (after(model, rate) for model, rate in zip((larger, fresh), tuned, strict=True))
        name = ", ".join(f"{key} {value}" for key, value in bigger.items())
        facts = {"part": "family", "name": name, "parameters": larger.n_parameters, "rates": tuned}
        yield facts | {"grown": grown, "from scratch": alone}
