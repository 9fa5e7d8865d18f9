"""A counted and a neural expert of one text, trained and mixed within a given time.

The counted expert comes first: counted, judged on the held-out part of the text, and given that part, so that it is
whole before the neural one begins. What is left of the time but for a reserve is the neural expert's. Then one weight
for each is fitted on the held-out part. The weight of a neural expert that helps nothing there is zero, so that the
mixture is never worse there than counts alone. Ctrl-C ends the neural expert's training, not the work.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np

from saffu.mixture_lm.held_out import HeldOutPart, hold_out
from saffu.mixture_lm.mixing_weights import fit_weights
from saffu.mixture_lm.model import HELD_OUT, MixtureLM
from saffu.mixture_lm.time_budget import TimeBudget
from saffu.ngram_lm import ExplicitLM
from saffu.utils.arrays import Float64
from saffu.utils.language_model import LanguageModel
from saffu.utils.streams import TokenStream

RESERVE_SHARE, RESERVE_SECONDS = 0.03, 1.0  # of the time, for scoring the held-out part and for saving
LEAST_SECONDS = 1.0  # in which a neural expert can learn anything
WATCHED_SHARE, WATCHED_TOKENS = 0.25, 20_000  # of the held-out part: what the neural expert is watched on, at most

Report = Callable[[str], object]
NeuralExpert = Callable[..., Any]


def recurrent_expert(*, budget: float, seed: int = 0, n_threads: int | None = None) -> Any:
    """The neural expert of a mixture, which chooses its size by the time that it has.

    Parameters
    ----------
    budget : float
        Seconds that its ``fit`` may take.
    seed : int
    n_threads : int, optional
    """
    found: Any = import_module("saffu.recurrent_lm")
    return found.RecurrentLM(budget=budget, seed=seed, n_threads=n_threads)


def train_within(
    stream: TokenStream,
    *,
    budget: TimeBudget,
    explicit: ExplicitLM,
    vocab_size: int,
    neural: NeuralExpert | None = None,
    report: Report | None = None,
    progress: bool | None = None,
) -> MixtureLM:
    """Train a mixture of counts and a neural network within a budget of wall time.

    Parameters
    ----------
    stream : TokenStream
        The text, checked.
    budget : TimeBudget
        The counted expert takes what it takes; without time left for a neural one it is the only expert.
    explicit : ExplicitLM
        The counted expert, not fitted yet. It ends as if fitted to all of the text.
    vocab_size : int
        V.
    neural : callable, optional
        ``neural(budget=seconds, n_threads=n)`` makes a language model whose ``fit`` takes that time, at most, and has
        an argument ``validation``; by default :func:`recurrent_expert`.
    report : callable, optional
        Called with a line whenever a stage is done: what it was, the perplexity on the held-out part, the time left.
    progress : bool, optional
        Whether to show bars on a terminal.

    Returns
    -------
    MixtureLM
        Its ``interrupted`` is whether Ctrl-C ended the training of the neural expert. It is then mixed as it is, if
        its ``fit`` has returned it; else, or if Ctrl-C came while the mixture was made, counts are the only expert.
    """
    show = report or (lambda line: None)
    part = hold_out(stream, HELD_OUT)
    n_watched = min(int(WATCHED_SHARE * part.held_out.ids.size), WATCHED_TOKENS)
    part = part._replace(lead=part.lead + n_watched)  # weights are fitted on what nothing was chosen by
    watched = part.held_out.slice(0, n_watched) if n_watched else None
    text, starts = part.training
    how: dict[str, Any] = {"vocab_size": vocab_size, "progress": progress}
    explicit.fit(text, documents=starts, **how)
    of_counts = _held_out_log_prob(explicit, part, progress)
    if part.held_out.ids.size:
        explicit.update(part.held_out.ids, documents=part.held_out.starts, prime=True)
    show(f"counted expert: {_perplexity(of_counts)}{budget}")
    counts_alone = _mixture([explicit], of_counts[None])
    seconds = budget.left() - RESERVE_SHARE * budget.seconds - RESERVE_SECONDS
    if seconds < LEAST_SECONDS or not part.held_out.ids.size:
        show(f"no neural expert: {'no time is left for it' if seconds < LEAST_SECONDS else 'the text is too short'}")
        return counts_alone
    try:
        expert = (neural or recurrent_expert)(budget=seconds, n_threads=explicit.n_threads)
        expert.fit(text, documents=starts, validation=watched, **how)
        of_neural = _held_out_log_prob(expert, part, progress)
        mixture = _mixture([explicit, expert], np.stack([of_counts, of_neural]))
        mixture.interrupted = bool(getattr(expert, "interrupted", False))
        show(f"neural expert: {_perplexity(of_neural)}{budget}")
        show(f"mixture: held-out perplexity {mixture.perplexities[-1]:,.1f}, {budget}")
    except KeyboardInterrupt:
        counts_alone.interrupted = True
        return counts_alone
    return mixture


def _held_out_log_prob(expert: LanguageModel, part: HeldOutPart, progress: bool | None) -> Float64:
    found: Float64 = expert.log_prob(part.scored.ids, documents=part.scored.starts, progress=progress)[part.lead :]
    return found


def _mixture(experts: list[Any], log_p: Float64) -> MixtureLM:
    mixture = MixtureLM(experts)
    mixture._fit = fit_weights(log_p)
    return mixture


def _perplexity(log_prob: Float64) -> str:
    if log_prob.size == 0:
        return ""
    with np.errstate(over="ignore"):
        return f"held-out perplexity {np.exp(-log_prob.mean()):,.1f}, "
