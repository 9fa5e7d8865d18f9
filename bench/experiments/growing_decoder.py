"""A decoder grown twice while it is trained, beside its final size from scratch.

``python -m bench.experiments.growing_decoder [--print]`` takes about forty minutes. Needs SAFFU_DATA and the bench
extra.

Both are Llama-shaped models of transformers trained by Adam in torch on the children's corpora, with the same rate
(tuned from scratch, on another seed), the same warm-up and the same decay. The grown one takes along the moments of
Adam. Its budgets are shares of the multiply-adds of the other, and, once, the same wall time.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from bench.data.texts import text_of
from bench.report.command import Options, closing, options, write
from bench.report.tables import markdown_table, mean_and_spread
from bench.trials.growing_decoder import FULL, QUICK, Budget, Plan, Run, of_scratch, trained

RATES = (1e-3, 2e-3, 4e-3, 8e-3)
SHARES = (0.4, 0.5, 0.6, 0.8, 1.0)
QUICK_SHARES = (0.6,)
SCRATCH, EQUAL_TIME = "from scratch", "grown, equal time"


def contenders(text: Any, plan: Plan, rate: float, shares: Sequence[float], seed: int) -> dict[str, Run]:
    """Every run of a seed by its name."""
    whole, last = of_scratch(plan, text), plan.stages[-1:]
    runs = {SCRATCH: trained(text, plan, last, rate, Budget(whole), seed)}
    for share in shares:
        runs[f"grown, {share:.0%}"] = trained(text, plan, plan.stages, rate, Budget(share * whole), seed)
    seconds = Budget(runs[SCRATCH].end.seconds, seconds=True)
    return runs | {EQUAL_TIME: trained(text, plan, plan.stages, rate, seconds, seed)}


def records_of(seed: int, runs: dict[str, Run]) -> list[dict[str, Any]]:
    """A record for each point."""
    return [{"seed": seed, "run": name, **point._asdict()} for name, found in runs.items() for point in found.points]


def loss_table(seeds: Sequence[dict[str, Run]]) -> str:
    """Budgets and losses."""
    lines = []
    for name in seeds[0]:
        pairs = [(runs[name].end, runs[SCRATCH].end) for runs in seeds]
        lines.append(
            [
                name,
                f"{np.mean([a.multiply_adds / b.multiply_adds for a, b in pairs]):.0%}",
                f"{np.mean([a.seconds / b.seconds for a, b in pairs]):.0%}",
                f"{np.mean([a.seconds for a, _ in pairs]):.0f}",
                mean_and_spread([a.loss for a, _ in pairs]),
                f"{np.mean([a.loss - b.loss for a, b in pairs]):+.3f}",
            ]
        )
    header = ["", "of the multiply-adds", "of the time", "s", "loss, nats", "beside from scratch"]
    return markdown_table(header, lines)


def growth_table(runs: dict[str, Run]) -> str:
    """Losses around each growth, of a seed."""
    lines = [
        [name, number, f"{before.loss:.6f}", f"{after.loss:.6f}", f"{after.loss - before.loss:+.1e}"]
        for name, found in runs.items()
        for number, (before, after) in enumerate(found.growths, 1)
    ]
    return markdown_table(["", "growth", "before, nats", "after, nats", "difference"], lines)


def reached(seeds: Sequence[dict[str, Run]]) -> str:
    """The least share of the multiply-adds whose run ends at the loss from scratch, or below."""
    for share in SHARES:
        name = f"grown, {share:.0%}"
        if name in seeds[0] and np.mean([runs[name].end.loss - runs[SCRATCH].end.loss for runs in seeds]) <= 0:
            return f"Growth ends at the loss from scratch, or below it, with {share:.0%} of the multiply-adds."
    return "Growth does not end at the loss from scratch with any of these budgets."


def draw(runs: dict[str, Run], figure: Any) -> None:
    """Loss against multiply-adds and against seconds; growths are marked."""
    figure.set_size_inches(12, 5)
    panels = figure.subplots(1, 2, sharey=True)
    shown = [name for name in runs if name in (SCRATCH, "grown, 60%", "grown, 100%", EQUAL_TIME)]
    for colour, name in enumerate(shown):
        for axes, value in zip(panels, (lambda p: p.multiply_adds, lambda p: p.seconds), strict=True):
            points = runs[name].points
            axes.plot([*map(value, points)], [p.loss for p in points], color=f"C{colour}", label=name)
            for before, after in runs[name].growths:
                axes.plot([value(before), value(after)], [before.loss, after.loss], "o", color=f"C{colour}", ms=5)
    panels[0].set(xlabel="multiply-adds", ylabel="validation loss (nats)")
    panels[1].set(xlabel="wall seconds of training")
    panels[0].legend()


def run(given: Options) -> None:
    """Train all and write."""
    began = time.perf_counter()
    plan, rates = (QUICK, RATES[1:2]) if given.quick else (FULL._replace(steps=given.more.steps), RATES)
    text = text_of("made up", 3000) if given.quick else text_of("children", given.more.tokens, given.more.types)
    budget = Budget(of_scratch(plan, text) / 4)
    rate = min(rates, key=lambda each: trained(text, plan, plan.stages[-1:], each, budget, 99).end.loss)
    print(f"rate {rate:g}", flush=True)
    seeds = tuple(range(1 if given.quick else given.more.seeds))
    found = []
    for seed in seeds:
        found.append(contenders(text, plan, rate, QUICK_SHARES if given.quick else SHARES, seed))
        print(loss_table(found), flush=True)
    sizes = " -> ".join("/".join(map(str, stage.values())) for stage in plan.stages)
    about = (
        f"{text.train.ids.size:,} tokens of {text.name}, {text.n_types:,} types; {'/'.join(plan.stages[0])} {sizes}, "
        f"{plan.steps} steps of {plan.rows} x {plan.length} tokens from scratch, rate {rate:g}"
    )
    parts = [
        "A decoder grown twice while it is trained; loss on validation text:",
        loss_table(found),
        reached(found),
        "Right before and right after each growth, of the first seed:",
        growth_table(found[0]),
        closing(f"{seeds[0]} to {seeds[-1]}", about, began, ["torch", "transformers"]),
    ]
    records = [record for seed, runs in zip(seeds, found, strict=True) for record in records_of(seed, runs)]
    write(given, records, "\n\n".join(parts), lambda figure: draw(found[0], figure))


def add_options(parser: argparse.ArgumentParser) -> None:
    """What is trained on, and how long."""
    parser.add_argument("--tokens", type=int, default=500_000)
    parser.add_argument("--types", type=int, default=2000)
    parser.add_argument("--steps", type=int, default=FULL.steps)
    parser.add_argument("--seeds", type=int, default=2)


def main(argv: Sequence[str] | None = None) -> None:
    """Run as a command."""
    run(options("growing-decoder", __doc__, argv, add_options, needs=["torch", "transformers", "matplotlib"]))


if __name__ == "__main__":
    main()
