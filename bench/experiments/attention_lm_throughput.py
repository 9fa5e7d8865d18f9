"""Tokens refined per second by SaffuLM, beside the same network in torch.

``python -m bench.experiments.attention_lm_throughput [--print]`` takes about a minute. Needs SAFFU_DATA and torch.

The same parameters, the same batches, the same Adam, float32, every core; the logits of the residual base are made
by the same code for both. Both losses of the first batch must agree.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

from bench.data.texts import Text, text_of
from bench.measure.clock import race
from bench.report.command import Options, closing, options, write
from bench.report.tables import markdown_table
from bench.trials.attention_lm import solve
from bench.trials.refiner_steps import Refiner
from saffu import ExplicitLM, SaffuLM
from saffu.attention_lm.backprop import BATCH_TOKENS
from saffu.utils.threads import available_cpus

AGREEMENT = 1e-4  # of the losses, relative
TOKENS = 200_000
STEPS, REPEATS = 20, 5
COMPACT: dict[str, Any] = {"bits": 32, "hidden": 32, "contexts": ("radial",)}
RESIDUAL: dict[str, Any] = {"bits": 64, "hidden": 64, "contexts": ("radial", "document")}


class Row(NamedTuple):
    """Tokens per second of one network."""

    network: str
    n_types: int
    n_parameters: int
    embeddings: str
    saffu: float
    torch: float
    difference: float  # of the losses of the first batch, relative

    @property
    def ratio(self) -> float:
        """Ours over theirs."""
        return self.saffu / self.torch


def measure(name: str, model: SaffuLM, text: Text, frozen: bool, steps: int, repeats: int) -> Row:
    """Check that the losses agree, then race."""
    import torch

    from bench.peers.torch_attention_lm import TorchSaffu, train

    torch.set_num_threads(available_cpus())
    ours = Refiner(model, text, frozen)
    theirs = [TorchSaffu(model, ours.text, frozen, Refiner.RATE, blockwise) for blockwise in (True, False)]
    batches = ours.batches(steps)
    mine = ours.loss(batches[0])
    difference = max(abs(float(network.loss(batches[0]).detach()) / mine - 1) for network in theirs)
    if not difference < AGREEMENT:
        raise AssertionError(f"{name}: losses must agree within {AGREEMENT}, but differ by {difference:.1e}")
    contenders: dict[str, Callable[[], Any]] = {"saffu": partial(ours.train, batches)}
    for network in theirs:
        contenders[f"torch {network.blockwise}"] = partial(train, network, batches)
    times = race(contenders, repeats)
    n_tokens = sum(batch.n_positions for batch in batches)
    quickest = min(seconds.wall for who, seconds in times.items() if who != "saffu")
    rates = n_tokens / times["saffu"].wall, n_tokens / quickest
    kind = "frozen" if frozen else "thawed"
    return Row(name, text.n_types, model.n_parameters, kind, rates[0], rates[1], difference)


def networks(given: Options) -> Iterator[tuple[str, SaffuLM, Text]]:
    """What is raced: a compact network alone, and one on an explicit model."""
    compact, residual = dict(COMPACT), dict(RESIDUAL)
    text = text_of("made up", 1500) if given.quick else text_of(given.more.corpus, given.more.tokens)
    few = text if given.quick else text_of(given.more.corpus, given.more.tokens, given.more.types)
    if given.quick:
        compact |= {"bits": 8, "hidden": 8}
        residual |= {"bits": 8, "hidden": 8, "span": 64}
    yield "compact", solve(few, **compact)[0], few
    yield "compact, every context", solve(few, **compact | {"contexts": ("block", "radial", "document")})[0], few
    yield "residual", solve(text, **residual, residual=ExplicitLM())[0], text


def table(rows: Sequence[Row]) -> str:
    """In Markdown."""
    header = [
        "network",
        "types",
        "parameters",
        "embeddings",
        "saffu, tokens/s",
        "torch, tokens/s",
        "ratio",
        "losses differ by",
    ]
    return markdown_table(header, map(_cells, rows))


def _cells(row: Row) -> list[str]:
    facts = [row.network, f"{row.n_types:,}", f"{row.n_parameters:,}", row.embeddings]
    return [*facts, f"{row.saffu:,.0f}", f"{row.torch:,.0f}", f"{row.ratio:.2f}x", f"{row.difference:.0e}"]


def run(given: Options) -> None:
    """Race every network and write."""
    began = time.perf_counter()
    rows = []
    steps, repeats = (2, 1) if given.quick else (given.more.steps, given.more.repeats)
    for name, model, text in networks(given):
        for frozen in (True, False):
            rows.append(measure(name, model, text, frozen, steps, repeats))
            print(" | ".join(_cells(rows[-1])), flush=True)
    budget = (
        f"the same {steps} batches of {BATCH_TOKENS:,} tokens for both, Adam steps with all that they need, medians "
        f"over {repeats} interleaved runs, wall time; of torch, the quicker of its cross-entropy with autograd and one "
        "in blocks of rows that takes its gradient on the way"
    )
    records = [row._asdict() | {"ratio": row.ratio} for row in rows]
    write(given, records, f"{table(rows)}\n\n{closing('0', budget, began, ['torch'])}")


def add_options(parser: argparse.ArgumentParser) -> None:
    """What is measured on."""
    parser.add_argument("--corpus", default="brown")
    parser.add_argument("--tokens", type=int, default=TOKENS, help="of the text that the networks are solved on")
    parser.add_argument("--types", type=int, default=4000, help="of the compact network, the rest is <unk>")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--repeats", type=int, default=REPEATS)


def main(argv: Sequence[str] | None = None) -> None:
    """Run as a command."""
    run(options("attention-lm-throughput", __doc__, argv, add_options, needs=["torch"]))


if __name__ == "__main__":
    main()
