"""Growing instead of starting anew.

``python -m bench.experiments.growth [--print]``. Needs SAFFU_DATA and torch.

Four tables: how exactly the six expansions keep the function of transformers, numpy's and torch's; what solved growth
gives explicit models and models of units; progressive growth of a transformer against training its final size from
scratch, with random, zero and explicit new parts; and a family of models from one checkpoint.
"""

from __future__ import annotations

import argparse
import itertools
import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from bench.data.corpora import MIN_COUNT
from bench.measure import markdown_table, timed
from bench.trials.attention_lm import Text, text_of
from bench.trials.networks import Options, closing, options, write
from saffu import ExplicitLM, SaffuLM, Transformer, grow
from saffu.prototypes import Prototypes
from saffu.transformer import sizes_of

RATES = (1e-3, 3e-3, 1e-2, 3e-2)
Sizes = dict[str, int]


# ---- exactness -------------------------------------------------------------------------------------------------------


def any_expansion(model: Any, sizes: Sequence[Any], hidden: int, rng: np.random.Generator) -> Any:
    """One of the six, of random extent, for random layers."""
    kind, more, seed = int(rng.integers(6)), int(rng.integers(1, 5)), int(rng.integers(1 << 30))
    if kind == 0:
        return grow.hidden(model, hidden + more, rng=seed)
    if kind == 1:
        return grow.add_layer(model, int(rng.integers(len(sizes) + 1)), rng=seed)
    layer = int(rng.integers(len(sizes)))
    if kind == 2:
        return grow.add_heads(model, more, layers=layer, rng=seed)
    name, field = (("mlp", "mlp"), ("head_dim", "value"), ("key_dim", "key"))[kind - 3]
    return getattr(grow, name)(model, getattr(sizes[layer], field) + more, layers=layer, rng=seed)


def largest_differences(n_sequences: int) -> dict[tuple[str, str], float]:
    """Largest difference of logits, relative to their scale, over random models and up to eight expansions of each."""
    import torch

    from saffu.torch import Transformer as TorchTransformer

    found: dict[tuple[str, str], float] = {}
    rng = np.random.default_rng(0)
    for dtype, library in itertools.product((np.float32, np.float64), ("numpy", "torch")):
        largest = 0.0
        for _ in range(n_sequences):
            layers = int(rng.integers(1, 4))
            small = {name: rng.integers(1, 9, layers).tolist() for name in ("heads", "key", "value", "mlp")}
            start = Transformer(20, int(rng.integers(4, 33)), layers, **small, positions=12, seed=int(rng.integers(99)))
            arrays = {n: v + rng.normal(0, 0.2, v.shape).astype(v.dtype) for n, v in start.arrays.items()}
            numpy_model = start.with_arrays({name: value.astype(dtype) for name, value in arrays.items()})
            ids = rng.integers(0, 21, (4, 12))
            if library == "numpy":
                model, logits = numpy_model, lambda m, ids=ids: m.logits(ids)
            else:
                model = TorchTransformer(numpy_model.arrays)
                logits = lambda m, ids=ids: m(torch.from_numpy(ids)).detach().numpy()  # noqa: E731
            before = logits(model)
            for _ in range(int(rng.integers(1, 9))):
                model = any_expansion(model, sizes_of(model.arrays), model.arrays["output"].shape[0], rng)
            largest = max(largest, float(np.abs(logits(model) - before).max() / np.abs(before).max()))
        found[np.dtype(dtype).name, library] = largest
    return found


# ---- solved growth ---------------------------------------------------------------------------------------------------


class Growth(NamedTuple):
    """A model before and after; criterion and perplexity with every seed, seconds of the first."""

    model: str
    what: str
    n_before: int
    n_after: int
    criterion: list[tuple[float, float]]
    perplexity: list[tuple[float, float]]
    seconds: float

    @property
    def changes(self) -> list[float]:
        """Of the perplexity, with every seed."""
        return [after / before - 1 for before, after in self.perplexity]

    def records(self) -> Iterator[dict[str, Any]]:
        """A line for each seed."""
        facts = {"part": "solved", "name": f"{self.model}, {self.what}", "parameters": self.n_after}
        for seed, (losses, perplexities) in enumerate(zip(self.criterion, self.perplexity, strict=True)):
            found = {
                f"{name} {when}": value
                for name, pair in (("criterion", losses), ("perplexity", perplexities))
                for when, value in zip(("before", "after"), pair, strict=True)
            }
            yield facts | {"seed": seed} | found


def solved_growths(text: Text, quick: bool, seeds: Sequence[int]) -> Iterator[Growth]:
    """Growths of an explicit model, which takes no seed, of compact ones, and of those on an explicit model."""
    ids, documents = text.train.ids, text.train.documents
    explicit = ExplicitLM(radius=2, order=3, windows=(), induction=0).fit(ids, text.n_types, documents)
    steps: list[dict[str, Any]] = [{"radius": 5}, {"order": 4}, {"windows": (60, 500)}, {"induction": 2000}]
    for step in steps:
        yield _grown("explicit", [explicit], text, step, lambda model: sum(t.nnz for t in model.counts.tables))
    size = {"bits": 8, "hidden": 8} if quick else {"bits": 32, "hidden": 32}
    for name, residual in (("units", None), ("units on the explicit", explicit)):
        shape: dict[str, Any] = size | {"contexts": ("radial",), "radius": 2, "min_count": MIN_COUNT}
        models = [SaffuLM(**shape, residual=residual, seed=seed).solve(ids, text.n_types, documents) for seed in seeds]
        steps = [
            {"radius": 8},
            {"hidden": 4 * size["hidden"]},
            {"contexts": ("radial", "document")},
            {"heads": 2},
            {"layers": 2},
        ]
        for step in steps:
            yield _grown(name, models, text, step, lambda model: model.n_parameters)


def _grown(
    name: str, models: Sequence[Any], text: Text, step: dict[str, Any], n_parameters: Callable[[Any], int]
) -> Growth:
    what = ", ".join(f"{k} {'+'.join(map(str, v)) if isinstance(v, tuple) else v}" for k, v in step.items())
    larger, spent = zip(
        *(timed(lambda m=m: m.grow(text.train.ids, text.train.documents, **step)) for m in models), strict=True
    )
    criterion = [tuple(each.growth[-1]["losses"]) for each in larger]
    before, after = (
        [each.perplexity(text.test.ids, text.test.documents) for each in group] for group in (models, larger)
    )
    sizes = n_parameters(models[0]), n_parameters(larger[0])
    return Growth(name, what, *sizes, criterion, list(zip(before, after, strict=True)), spent[0].wall)


# ---- progressive growth ----------------------------------------------------------------------------------------------


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
    return Transformer(text.n_types, **sizes, key=WIDTH, value=WIDTH, positions=plan.positions, seed=seed)


def grown_to(model: Transformer, sizes: Sizes, init: Any, seed: int) -> Transformer:
    """The model with these sizes."""
    chance: dict[str, Any] = {"init": init, "rng": seed}
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
    return -float(model.log_prob(text.valid.ids, text.valid.documents).mean())


def trained(model: Transformer, text: Text, epochs: int, rate: float, seed: int, so_far: Moment) -> tuple[Any, Moment]:
    """The model trained further, by the clock."""
    ids, documents = text.train.ids, text.train.documents
    began = time.perf_counter()
    better = model.refine(ids, epochs, documents=documents, learning_rate=rate, seed=seed, batch_tokens=1024)
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
    init = Prototypes(model, text.train.ids, text.train.documents, seed) if kind == "explicit" else kind
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

    def after(model: Transformer, rate: float, seed: int) -> float:
        return trained(model, text, 1, rate, seed, Moment(0, 0, math.nan))[1].nll

    small, _ = trained(start(text, plan, plan.stages[0], 0), text, 2, rate, 0, Moment(0, 0, math.nan))
    yield {"part": "family", "name": "the checkpoint", "parameters": small.n_parameters, "grown": nll(small, text)}
    for sizes, wide in itertools.product(plan.stages, (1, 2)):
        bigger = sizes | {"mlp": wide * sizes["mlp"]}
        larger, fresh = grown_to(small, bigger, "normal", 0), start(text, plan, bigger, 0)
        if larger.n_parameters == small.n_parameters:
            continue
        tuned = [min(rates, key=lambda rate, m=model: after(m, rate, 99)) for model in (larger, fresh)]
        grown, alone = (after(model, rate, 0) for model, rate in zip((larger, fresh), tuned, strict=True))
        name = ", ".join(f"{key} {value}" for key, value in bigger.items())
        facts = {"part": "family", "name": name, "parameters": larger.n_parameters, "rates": tuned}
        yield facts | {"grown": grown, "from scratch": alone}


# ---- tables ----------------------------------------------------------------------------------------------------------


def exact_table(found: dict[tuple[str, str], float]) -> str:
    """Largest differences."""
    libraries = "numpy", "torch"
    lines = [[dtype, *(f"{found[dtype, each]:.0e}" for each in libraries)] for dtype in ("float64", "float32")]
    return markdown_table(["", *libraries], lines)


def solved_table(growths: Sequence[Growth]) -> str:
    """What solved growth gives."""
    lines = [
        [
            g.model,
            g.what,
            f"{g.n_before:,} -> {g.n_after:,}",
            "{:.3f} -> {:.3f}".format(*np.mean(g.criterion, axis=0)),
            "{:.1f} -> {:.1f}".format(*np.mean(g.perplexity, axis=0)),
            f"{np.mean(g.changes):+.1%}",
            "" if len(g.changes) < 2 else f"{min(g.changes):+.1%} to {max(g.changes):+.1%}",
            f"{g.seconds:.1f}",
        ]
        for g in growths
    ]
    return markdown_table(
        [
            "model",
            "grown to",
            "entries or parameters",
            "criterion, nats",
            "test perplexity",
            "change",
            "over the seeds",
            "s",
        ],
        lines,
    )


def progressive_table(rows: Sequence[dict[str, Any]]) -> str:
    """Time, multiply-adds and loss."""
    lines = [
        [
            row["name"],
            str(row["epochs of the final size"]),
            f"{row['seconds']:.0f}",
            f"{row['time']:.0%}",
            f"{row['multiply-adds']:.0%}",
            f"{row['nll']:.3f}",
        ]
        for row in rows
    ]
    return markdown_table(["", "epochs of the final size", "s", "of the time", "of the multiply-adds", "nats"], lines)


def family_table(rows: Sequence[dict[str, Any]]) -> str:
    """Sizes, losses and tuned rates."""
    lines = []
    for row in rows:
        facts = [row["name"], f"{row['parameters']:,}", f"{row['grown']:.3f}"]
        alone = [f"{row['from scratch']:.3f}", *(f"{rate:g}" for rate in row["rates"])] if "rates" in row else [""] * 3
        lines.append(facts + alone)
    return markdown_table(["model", "parameters", "grown, nats", "from scratch, nats", "rate", "from scratch"], lines)


def run(given: Options) -> None:
    """Run everything and write."""
    began = time.perf_counter()
    plan, rates = (QUICK, RATES[:2]) if given.quick else (FULL, RATES)
    text = text_of("made up", 1500) if given.quick else text_of("children", given.more.tokens, given.more.types)
    seeds = (0,) if given.quick else tuple(range(given.more.seeds))
    differences = largest_differences(3 if given.quick else 200)
    print(exact_table(differences), flush=True)
    growths = []
    for growth in solved_growths(text, given.quick, seeds):
        growths.append(growth)
        print(growth, flush=True)
    rows = []
    for row in race(text, plan, rates, seeds):
        rows.append(row)
        print(row, flush=True)
    relatives = []
    for row in family(text, plan, rates, rows[0]["rate"]):
        relatives.append(row)
        print(row, flush=True)
    exact = [{"part": "exact", "name": " ".join(key), "difference": value} for key, value in differences.items()]
    solved = [record for growth in growths for record in growth.records()]
    records = [*exact, *solved, *rows, *relatives]
    budget = (
        f"{text.train.ids.size:,} tokens of {text.name}, {text.n_types:,} types; final size "
        + ", ".join(f"{key} {value}" for key, value in plan.stages[-1].items())
        + f", rate {rows[0]['rate']:g}, tuned from scratch"
    )
    parts = [
        "Largest difference of logits, relative to their scale, over random models and up to eight random expansions:",
        exact_table(differences),
        "Growth solved on the training text:",
        solved_table(growths),
        "Progressive growth, an epoch of each smaller size first; loss on validation text:",
        progressive_table(rows),
        "A family from one checkpoint, an epoch each; loss on validation text:",
        family_table(relatives),
        closing(f"{seeds[0]} to {seeds[-1]}", budget, began, ["torch"]),
    ]
    write(given, records, "\n\n".join(parts))


def add_options(parser: argparse.ArgumentParser) -> None:
    """What is measured on."""
    parser.add_argument("--tokens", type=int, default=50_000)
    parser.add_argument("--types", type=int, default=2000)
    parser.add_argument("--seeds", type=int, default=3)


def main(argv: Sequence[str] | None = None) -> None:
    """Run as a command."""
    run(options("growth", __doc__, argv, add_options, needs=["torch"]))


if __name__ == "__main__":
    main()
