"""Why a larger model computes exactly what it did, part by part; and the factors that old numbers are multiplied by.

What is not scaled follows from zeros:

perceptron
    contract(activate(gate(x)) * expand(x)): a new unit, whatever its gate and its input make of x, meets a zero column
    of the contraction. Likewise a new head, and new numbers of values, meet zero columns of the output projection.

new layer
    x + merge(...) and x + contract(...) are x where both are zero, wherever the layer stands. Gemma 2 norms what they
    give once more; there the gains of these norms are zero instead. Were the maps zero, the norm of their first small
    steps would be as large as that of any layer, and training would jump.

heads and groups
    See :mod:`saffu.checkpoint_growth.heads`: an old query head reads its old keys and values, or a copy of them, and
    rotated heads become wider in whole multiples only, because only then are the old frequencies among the new ones.

gradients
    At the first step they reach all zeros that are met by free numbers (new embeddings, output projections,
    contractions), and after it what those meet: at the second step all that is new. Where the head is tied to the
    embedding, the second norms of Gemma 2's last layer follow at the third.

16 bits
    bfloat16 and float16 are computed in float32 and rounded once. Copies and zeros are exact, and so are factors that
    are powers of two (the width four times as large); other scaled numbers, and means, are off by at most 2^-8 of
    themselves in bfloat16 and 2^-11 in float16.

The factors, by their names in roles:

norm
    A state of h numbers is padded with zeros to h' (or with its mean, below). Its mean square becomes h / h' of what it
    was, so with an epsilon of h / h' times the old one, sqrt(mean square + epsilon) becomes sqrt(h / h') of what it
    was, and the normalised state sqrt(h' / h) times. The gain takes that back: gain' = gain sqrt(h / h'). No zero is
    added to it where the norm stores gain - 1: stored' = (1 + stored) sqrt(h / h') - 1.

    LayerNorm subtracts the mean first. Padded with the *mean* of the state, a state keeps its mean; the deviations of
    the new numbers are zero, so the variance becomes h / h' of what it was, and the same gain and epsilon follow. What
    writes into the state is linear, so a state has its mean behind it where every row of embeddings, of output weights
    and of biases has its own mean behind it (LEMON, arXiv 2310.07999, section 4.1, calls this average expansion). The
    normalised new numbers are exactly the shift, zero at first, so what reads them is free.

tied head
    Where logits are made with the embedding itself, its new columns meet normalised numbers that are zero, so tied
    weights stay tied, and the logits are the same.

embedding
    Gemma multiplies embeddings by sqrt(hidden), so they are divided by as much as that grows, rounded as the model
    rounds it: sqrt(h) / sqrt(h'). A head that is tied to them then gives smaller logits, so the last norm's gain is
    divided by the same factor ("head").

query
    Scores are divided by sqrt(k), the width of a head. New columns of the keys are zero, so only the divisor changes,
    and queries times sqrt(k' / k) compensate. Families that divide by a number of the config need nothing.

shared epsilon
    Qwen3 norms queries and keys, with the epsilon of the other norms, which has become h / h' of what it was. The norm
    of q sqrt(h / h') with that epsilon is the norm of q with the old one, so both projections take the factor.

layer number
    GPT-2 can divide the scores of layer number n by n + 1. A layer that comes to stand at n' takes queries times
    (n' + 1) / (n + 1).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from saffu.checkpoint_growth.roles import Config, Sizes


@dataclass(frozen=True)
class Change:
    """What factors depend on: sizes before and after, and where a layer was and is."""

    config: Config
    old: Sizes
    new: Sizes
    old_layer: int | None
    new_layer: int | None
    embedding_factors: tuple[float, float]


def embedding_factor(hidden: int, dtype: str) -> float:
    """The factor sqrt(hidden) of embeddings, rounded as a model of this dtype rounds it.

    Examples
    --------
    >>> embedding_factor(3072, "bfloat16")
    55.5
    """
    exact = math.sqrt(hidden)
    if dtype == "float64":
        return exact
    if dtype == "float16":
        return float(np.float16(exact))
    if dtype == "bfloat16":
        bits = np.float32(exact).view(np.uint32)
        rounded = (bits + np.uint32(0x7FFF) + (bits >> np.uint32(16) & np.uint32(1))) & np.uint32(0xFFFF0000)
        return float(rounded.view(np.float32))
    return float(np.float32(exact))


def _norm(change: Change) -> float:
    return math.sqrt(change.old.hidden / change.new.hidden)


def _embedding(change: Change) -> float:
    before, after = change.embedding_factors
    return before / after


def _head(change: Change) -> float:
    return 1 / _embedding(change) if change.config.get("tie_word_embeddings") else 1.0


def _query(change: Change) -> float:
    if not change.config.get("scale_attn_weights", True):
        return 1.0
    assert change.old_layer is not None
    assert change.new_layer is not None
    return math.sqrt(change.new.layers[change.new_layer].key / change.old.layers[change.old_layer].key)


def _layer_number(change: Change) -> float:
    if not change.config.get("scale_attn_by_inverse_layer_idx"):
        return 1.0
    assert change.old_layer is not None
    assert change.new_layer is not None
    return (change.new_layer + 1) / (change.old_layer + 1)


SCALES: dict[str, Callable[[Change], float]] = {
    "norm": _norm,
    "embedding": _embedding,
    "head": _head,
    "query": _query,
    "shared epsilon": _norm,
    "layer number": _layer_number,
}
