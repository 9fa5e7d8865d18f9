"""The output of a network of units, solved by counting: how much likelier each hidden unit makes each word.

    O_wi = log(F_wi / (S_i p(w)))        F = sum_m h_m (x) y_m,  S its sums over the words
    O_wi = log(F_wi / E_wi)              E = sum_m h_m (x) p_m,  p_m the probabilities of the model so far

The first form (arXiv 2311.07498, with the prior apart) is for the first unit of a model without a residual: by how much
a hidden unit makes a word likelier than the unigram has it. The second is for every further unit, and for all units of
a model on a residual: by how much likelier the word is than expected without the unit, so that nothing counts twice.
F is counted on the whole text and E on a sample of it, times what it is a sample of: an average of probabilities varies
less than a count of occurrences. After each unit two scalars are fitted by Newton on positions that the counts leave
out, one of the unit and one of all before it; in the end all of them together. A unit that does not help there gets
zero.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import NamedTuple, Protocol

import numpy as np

from saffu import _core
from saffu.attention_lm.softmax_pool import softmax_pool
from saffu.attention_lm.sufficient_statistics import OutputStatistics, lift_of_expected, lift_of_unigram
from saffu.explicit.newton import newton
from saffu.utils.arrays import Bools, Float32, Float64, Int32, Int64
from saffu.utils.threads import Workers

COMPARED_POSITIONS = 40_000  # on which observed and expected are compared
READ = 1 << 15  # positions whose hidden states are held at once
PRIMING_POSITIONS = 3_000
RIDGE = 3.0  # nats that a scalar one away from its start costs, twice
FIRST_SCALAR, FIRST_PARTS = 0.7, 4
ROWS, WAVE = 256, 16  # positions in a part, and how many parts are added up at once


class Rows(Protocol):
    """Positions of a text under a network whose output is to be solved."""

    counts: Int64  # of the words
    unigram: Float64
    n_outputs: int
    workers: Workers
    memory_budget: int  # logits that may be held at once
    blocks: list[slice]  # columns of each unit
    on_unigram: bool  # whether the logits below are those of the unigram

    def hidden(self, positions: Int64) -> Float32:
        """Hidden states (n, H)."""
        ...

    def targets(self, positions: Int64) -> Int32:
        """The outputs that are right."""
        ...

    def base(self, positions: Int64, out: Float32) -> None:
        """Write the logits below, (n, n_outputs)."""
        ...


class SolvedOutput(NamedTuple):
    """The output of some units.

    Attributes
    ----------
    weights : ndarray of float32, shape (n_outputs, H)
        O transposed, with the scalars in it.
    bias : ndarray of float32, shape (n_outputs,)
        The unigram's part of the logits, centred; zero on another model.
    scalars : ndarray of float64, shape (1 + n_units,)
        Of the unigram and of each unit.
    statistics : OutputStatistics
        What these follow from.
    """

    weights: Float32
    bias: Float32
    scalars: Float64
    statistics: OutputStatistics


def solve(rows: Rows, positions: Int64, seed: int) -> SolvedOutput:
    """Solve the output.

    Parameters
    ----------
    rows : Rows
    positions : ndarray of int64
        Where words are counted, less some that the scalars are fitted on.
    seed : int
        Of that choice.
    """
    fit = max(rows.memory_budget // rows.n_outputs, 1)
    n_primed = min(PRIMING_POSITIONS, max(fit // 4, 1), positions.size // 10)
    n_compared = min(COMPARED_POSITIONS, fit, positions.size - n_primed)
    is_primed, is_compared = np.zeros((2, positions.size), bool)
    order = np.random.default_rng(seed).permutation(positions.size)
    is_primed[order[:n_primed]] = is_compared[order[n_primed : n_primed + n_compared]] = True
    observed, primed, compared = _read(rows, positions, is_primed, is_compared)
    expected, O = np.zeros_like(observed), np.zeros_like(observed)  # noqa: E741 - the name of the equation
    times = (positions.size - n_primed) / max(n_compared, 1)
    theta = np.array([1.0])
    for i, block in enumerate(rows.blocks):
        if i == 0 and rows.on_unigram:
            O[:, block] = lift_of_unigram(observed[:, block], rows.unigram)
        else:
            expected[:, block] = times * compared.expect(block)
            O[:, block] = lift_of_expected(observed[:, block], expected[:, block])
        below, own = primed.prime(O, block)
        theta = np.append(theta * below, own)
        for each in (primed, compared):
            each.add(O, block, below, own)
    theta = primed.prime_all(O, theta)
    for block, scalar in zip(rows.blocks, theta[1:], strict=True):
        O[:, block] *= np.float32(scalar)
    bias = theta[0] * np.log(rows.unigram) if rows.on_unigram else np.zeros(rows.n_outputs)
    compared_columns = np.ascontiguousarray(expected[:, rows.blocks[0].stop if rows.on_unigram else 0 :])
    statistics = OutputStatistics(observed, compared_columns, rows.counts, primed.curvature)
    return SolvedOutput(O, (bias - bias.mean()).astype(np.float32), theta, statistics)


def _read(rows: Rows, positions: Int64, is_primed: Bools, is_compared: Bools) -> tuple[Float32, _Scored, _Scored]:
    """Sums of hidden states at the places of each output, but for the primed ones; positions primed and compared."""
    width = rows.blocks[-1].stop
    F, mass, counted = np.zeros((rows.n_outputs, width)), np.zeros(rows.n_outputs), (~is_primed).astype(np.float64)
    H_primed = np.empty((int(is_primed.sum()), width), np.float32)
    H_compared = np.empty((int(is_compared.sum()), width), np.float32)
    for begin in range(0, positions.size, READ):
        part = slice(begin, begin + READ)
        H, y = rows.hidden(positions[part]), rows.targets(positions[part])
        _core.moments_labels(H, y, counted[part], F, mass, True, rows.workers.n_threads)
        for kept, chosen in ((H_primed, is_primed), (H_compared, is_compared)):
            place = int(chosen[:begin].sum())
            kept[place : place + int(chosen[part].sum())] = H[chosen[part]]
    # The first parts alone are read often: each is to be of the whole text, and not of where it begins.
    parts = [np.arange(i, len(H_primed), -(-len(H_primed) // ROWS)) for i in range(-(-len(H_primed) // ROWS))]
    order = np.concatenate([*parts, np.empty(0, np.int64)]).astype(np.int64)
    primed = _Scored(rows, positions[is_primed][order], H_primed[order], [part.size for part in parts])
    n_compared = len(H_compared)
    sizes = [min(ROWS, n_compared - i) for i in range(0, n_compared, ROWS)]
    return F.astype(np.float32), primed, _Scored(rows, positions[is_compared], H_compared, sizes)


class _Scored:
    """Positions with their hidden states, and the logits of all that is solved so far; in parts of these sizes."""

    def __init__(self, rows: Rows, positions: Int64, H: Float32, sizes: Sequence[int]) -> None:
        self.rows, self.positions, self.H = rows, positions, H
        self.y = rows.targets(positions)
        self.logits = np.empty((positions.size, rows.n_outputs), np.float32)
        self.parts = [slice(end - size, end) for size, end in zip(sizes, accumulate(sizes), strict=True)]
        rows.workers.map(self._fill, self.parts)
        self.curvature = np.zeros((1 + len(rows.blocks),) * 2)

    def _fill(self, part: slice) -> None:
        self.rows.base(self.positions[part], self.logits[part])

    def expect(self, block: slice) -> Float32:
        """Sums of hidden states that the model so far expects at the places of each output."""

        def one(part: slice) -> Float32:
            return _core.softmax(self.logits[part], False, 1).T @ self.H[part, block]

        total = np.zeros((self.rows.n_outputs, block.stop - block.start), np.float32)
        for begin in range(0, len(self.parts), WAVE):
            total += sum(self.rows.workers.map(one, self.parts[begin : begin + WAVE]))
        return total

    def add(self, O: Float32, block: slice, below: float, own: float) -> None:  # noqa: E741
        """Scale the logits so far and add those of one unit."""
        lifts = np.ascontiguousarray(O[:, block].T) * np.float32(own)

        def one(part: slice) -> None:
            if below != 1.0:
                self.logits[part] *= np.float32(below)
            self.logits[part] += self.H[part, block] @ lifts

        self.rows.workers.map(one, self.parts)

    def prime(self, O: Float32, block: slice) -> tuple[float, float]:  # noqa: E741
        """Scalars of the logits so far, 1 for another model's, and of one more unit."""
        lifts = np.ascontiguousarray(O[:, block].T)
        parts = self.parts[:FIRST_PARTS]  # all the scalars are fitted once more in the end
        new = np.empty_like(self.logits[: parts[-1].stop if parts else 0])

        def multiply(part: slice) -> None:
            np.matmul(self.H[part, block], lifts, out=new[part])

        self.rows.workers.map(multiply, parts)
        below, own = self._newton(lambda part: [self.logits[part], new[part]], np.array([1.0, FIRST_SCALAR]), parts)
        return (below, own) if own > 0 else (1.0, 0.0)

    def prime_all(self, O: Float32, start: Float64) -> Float64:  # noqa: E741
        """(scalar of the unigram, or 1 for another model; scalars of all units)."""
        helps = zip(self.rows.blocks, start[1:] > 0, strict=True)
        lifts = [O[:, block].T * np.float32(it_helps) for block, it_helps in helps]
        self.rows.workers.map(self._fill, self.parts)  # as they were before units were added

        def groups(part: slice) -> list[Float32]:
            H = self.H[part]
            return [self.logits[part]] + [H[:, b] @ each for b, each in zip(self.rows.blocks, lifts, strict=True)]

        return self._newton(groups, start, self.parts)

    def _newton(self, groups: Callable[[slice], list[Float32]], start: Float64, parts: list[slice]) -> Float64:
        """Scalars of some groups of logits, near ``start``."""
        n = sum(part.stop - part.start for part in parts)
        if n == 0:
            return start

        def evaluate(theta: Float64, derivatives: bool) -> tuple[float, Float64, Float64]:
            found = self.rows.workers.map(lambda part: softmax_pool(groups(part), self.y[part], theta), parts)
            away = theta - start
            value = (sum(each[0] for each in found) + 0.5 * RIDGE * float(away @ away)) / n
            gradient = (sum(each[1] for each in found) + RIDGE * away) / n
            hessian = (sum(each[2] for each in found) + RIDGE * np.eye(theta.size)) / n
            if not self.rows.on_unigram:  # the other model stays as it is
                gradient[0] = 0.0
                hessian[0, 1:] = hessian[1:, 0] = 0.0
            if theta.size == len(self.curvature):
                self.curvature[:] = n * hessian
            return value, gradient, hessian

        return newton(evaluate, start, tolerance=1e-4)
