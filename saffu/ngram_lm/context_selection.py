"""Which of the keyed contexts of a model pay: those whose scalars lower the criterion of priming by more than chance.

Priming minimises a convex function of the scalars, so what a context is worth is known without fitting again: without
its scalars theta, all others at their new optimum, the criterion is higher by ``1/2 theta' S theta``, where S is the
inverse of the block of the inverse Hessian that belongs to them (Wald 1943). Scalars that are worth nothing gain about
``p / (2 n)`` nats a token on the n positions that they were fitted to, p being their number, and lose that elsewhere;
so a context stays if it gains more than ``p / n`` (Akaike 1974).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from saffu.ngram_lm.keyed_contexts import KeyedContexts
from saffu.ngram_lm.priming import STRENGTH, Objective, Part
from saffu.ngram_lm.solution import Solution
from saffu.text import LINE_END_ID, UNKNOWN_ID, Vocabulary
from saffu.utils.arrays import Float64, Int64

WORD_SKIPS = (1, 3), (2, 3)


class Choice(NamedTuple):
    """The contexts that pay, and what each was worth when it was looked at last, nats per token."""

    keys: KeyedContexts
    gains: dict[str, float]


def candidate_contexts(vocabulary: Vocabulary, radius: int) -> dict[str, Any]:
    """Contexts that may pay for the tokens of a vocabulary, as arguments of :class:`saffu.ExplicitLM`.

    For characters and bytes the present word, which a type without a letter, a digit or an apostrophe ends; for words
    and pieces of these, pairs that skip some. For all the place in the line.

    Parameters
    ----------
    vocabulary : Vocabulary
    radius : int
        That of the model.

    Examples
    --------
    >>> import saffu
    >>> vocabulary = saffu.text.Vocabulary(["a", "b", " "], tokenizer="chars")
    >>> candidate_contexts(vocabulary, 5)
    {'line_ends': (1,), 'words': 2, 'delimiters': (0, 1, 4)}
    """
    lines = {"line_ends": (LINE_END_ID,)}
    if vocabulary.tokenizer not in ("chars", "bytes"):
        return {**lines, "skips": WORD_SKIPS if radius > 1 else ()}
    ends = [not any(c.isalnum() or c == "'" for c in str(kind)) for kind in vocabulary.types]
    delimiters = sorted({UNKNOWN_ID, LINE_END_ID, *np.flatnonzero(ends).tolist()})
    return {**lines, "words": 2, "delimiters": tuple(delimiters)}


def choose(solution: Solution) -> Choice:
    """Leave out the context that gains least, while that is too little; those of words stay or go together."""
    contexts = solution.contexts
    scalars, keys = solution.primed_scalars(), contexts.keys
    parts = [part for part in solution.priming_parts(None, solution.counted.total()) if part.positions.size]
    if not keys or not parts:
        return Choice(keys, {})
    n = sum(part.positions.size for part in parts)
    hessian = _hessian(parts, solution.bounds, scalars)
    columns = {name: contexts.columns.index(name) for name in keys.names}
    groups = {name: np.array([column]) for name, column in columns.items() if not name.startswith("word")}
    if keys.words:
        groups["words"] = np.array([column for name, column in columns.items() if name.startswith("word")])
    kept, theta, gains = np.arange(scalars.shape[1]), scalars, dict[str, float]()
    while groups:
        own = {name: np.searchsorted(kept, group) for name, group in groups.items()}
        now = {name: gain(theta, hessian, group) for name, group in own.items()}
        gains |= now
        worst = min(now, key=lambda name: now[name] / own[name].size)
        if now[worst] > len(theta) * own[worst].size / n:
            break
        theta, hessian = without(theta, hessian, own[worst])
        kept = np.setdiff1d(kept, groups.pop(worst))
    return Choice(_restricted(keys, groups), gains)


def gain(theta: Float64, hessian: Float64, group: Int64) -> float:
    """What the scalars of some columns are worth; shapes (n_states, p), (n_states, p, p).

    Examples
    --------
    >>> gain(np.array([[2.0, 1.0]]), np.array([[[1.0, 0.0], [0.0, 3.0]]]), np.array([1]))
    1.5
    """
    own = np.linalg.inv(hessian)[:, group[:, None], group]
    return float(0.5 * (theta[:, group] * np.linalg.solve(own, theta[:, group, None])[..., 0]).sum())


def without(theta: Float64, hessian: Float64, group: Int64) -> tuple[Float64, Float64]:
    """The optimum without some columns, and its Hessian."""
    rest = np.setdiff1d(np.arange(theta.shape[1]), group)
    own = hessian[:, rest[:, None], rest]
    moved = np.linalg.solve(own, hessian[:, rest[:, None], group] @ theta[:, group, None])[..., 0]
    return theta[:, rest] + moved, own


def _hessian(parts: list[Part], bounds: Float64 | None, scalars: Float64) -> Float64:
    """That of the criterion and the ridge, shape (n_states, p, p)."""
    objective = Objective(parts, bounds, scalars)
    objective(scalars.ravel(), True)
    assert objective.data_hessian is not None
    n = sum(part.positions.size for part in parts)
    found: Float64 = objective.data_hessian + STRENGTH / n * np.eye(scalars.shape[1])
    return found


def _restricted(keys: KeyedContexts, groups: dict[str, Int64]) -> KeyedContexts:
    """The contexts of these groups."""
    skips = tuple(pair for pair, name in zip(keys.skips, keys.names, strict=False) if name in groups)
    has_words, has_lines = "words" in groups, "place in line" in groups
    kept = replace(keys, skips=skips, line_ends=keys.line_ends if has_lines else ())
    return kept if has_words else replace(kept, words=0, delimiters=())
