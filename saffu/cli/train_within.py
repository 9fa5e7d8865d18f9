"""What ``saffu train`` does within a time: a neural model, or a mixture of counts and a neural model."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from saffu.mixture_lm import MixtureLM, TimeBudget, budgeted_training
from saffu.ngram_lm import ExplicitLM
from saffu.utils.progress import on_terminal
from saffu.utils.streams import TokenStream

BUDGET = "15m"
NEURAL = "neural expert"


def time_budget(arguments: argparse.Namespace, began: float) -> TimeBudget:
    """The time that the command may take since it began."""
    return TimeBudget(BUDGET if arguments.budget is None else arguments.budget, began=began)


def train_mixture(
    arguments: argparse.Namespace, stream: TokenStream, vocab_size: int, budget: TimeBudget, explicit: ExplicitLM
) -> MixtureLM:
    """Counts first, then a neural model for the time that is left, mixed."""
    progress = not arguments.quiet
    return budgeted_training.train_within(
        stream,
        budget=budget,
        explicit=explicit,
        vocab_size=vocab_size,
        report=_line if progress and on_terminal() else None,
        progress=progress,
    )


def train_recurrent(
    arguments: argparse.Namespace, stream: TokenStream, vocab_size: int, budget: TimeBudget, explicit: ExplicitLM
) -> Any:
    """A neural model for the time that is left; ``explicit`` is not used."""
    seconds = max(budget.left() - budgeted_training.RESERVE_SECONDS, budgeted_training.LEAST_SECONDS)
    model = budgeted_training.recurrent_expert(budget=seconds, n_threads=arguments.threads)
    progress = not arguments.quiet
    return model.fit(stream.ids, documents=stream.starts, vocab_size=vocab_size, progress=progress)


def outcome(mixture: MixtureLM) -> str:
    """What became of the experts, in a line.

    Examples
    --------
    >>> print(outcome(MixtureLM([ExplicitLM(order=n) for n in (2, 3)], weights=[0.4, 0.6]).fit([0, 1] * 50)))
    weights: counts 0.400, neural expert 0.600
    """
    names = ["counts", NEURAL][: len(mixture.experts)]
    perplexities = mixture.perplexities
    assert mixture.weights is not None
    weights = ", ".join(f"{name} {weight:.3f}" for name, weight in zip(names, mixture.weights, strict=True))
    if perplexities[-1] != perplexities[-1]:  # there was too little text to hold any out
        return f"weights: {weights}"
    alone = ", ".join(f"{name} {perplexity:,.1f}" for name, perplexity in zip(names, perplexities, strict=False))
    return f"held-out perplexity: {alone}, mixture {perplexities[-1]:,.1f}; weights: {weights}"


def _line(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
