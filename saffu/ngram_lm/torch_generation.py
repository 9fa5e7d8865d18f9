"""A model of saffu beside a network while that generates, by shallow fusion; needs the extra ``transformers``."""

from __future__ import annotations

from typing import Any

from saffu.ngram_lm.torch_module import LogProbs
from saffu.utils.torch_tensors import Tensor


def logits_processor(log_probs: LogProbs, *, weight: float) -> Any:
    """Shallow fusion: what adds ``weight`` times log-probabilities of a model of saffu to the scores of a network.

    Parameters
    ----------
    log_probs : LogProbs
        The model, with ``token_ids`` if its vocabulary is not that of the network. It reads all that was generated and
        what it began with, row by row.
    weight : float
        Nats of score for a nat of log-probability.

    Returns
    -------
    transformers.LogitsProcessor
        For ``network.generate(.., logits_processor=[..])``: greedy, drawn at random, or by beams.

    Raises
    ------
    ImportError
        If transformers is not installed; the extra ``transformers`` installs it.
    TypeError
        If ``log_probs`` is none.

    Notes
    -----
    Gulcehre and others, "On using monolingual corpora in neural machine translation", arXiv 1503.03535, section 4.1.

    Examples
    --------
    >>> import saffu, torch
    >>> model = LogProbs(saffu.ExplicitLM(order=3, windows=(), induction=0).fit([0, 1, 2] * 50))
    >>> processor = logits_processor(model, weight=0.5)
    >>> processor(torch.tensor([[0, 1]]), torch.zeros(1, 3)).argmax(1)
    tensor([2])
    """
    if not isinstance(log_probs, LogProbs):
        raise TypeError(f"log_probs must be a saffu.torch.LogProbs, got {type(log_probs).__name__}")
    try:
        from transformers import LogitsProcessor
    except ImportError as error:
        raise ImportError("transformers is not installed; pip install 'saffu[transformers]' installs it") from error

    class ShallowFusion(LogitsProcessor):  # type: ignore[misc]  # taken as untyped
        def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
            return scores + weight * log_probs.after(input_ids).to(scores.dtype)

    return ShallowFusion()
