"""Explicit attention: embeddings and attention solved by responsibilities, without a gradient step.

Every position in a window, on its own, predicts the next word by what class of word it holds:

    p(y) = sum_u pi_u sum_k a_uk sum_j x_{c_k j} B_u(y | j)

over units u, positions k with attention ``a_u = softmax(s W_u + w_u)``, and classes j: the embedding x of a token is
its distribution over the classes, and ``B_u(. | j)`` the words that follow class j in the context of unit u. All of it
is one mixture, so that expectation and maximisation (EM) solve it by counting: ``tau_uk``, the share of a position in
what the mixture gives the word that came, is its target. Embeddings and B are expected counts, normalised; W is
scaled by the logarithm of observed over expected co-occurrences of comparisons and attention (generalised iterative
scaling, Darroch and Ratcliff 1972), which can only improve it. New embeddings also move the comparisons, which the
scaling takes as they were; a round after which the likelihood is lower is undone, and is the last one.

The start is the papers': embeddings are the average bit-cipher codes of the words that follow, and B is read off the
codes. First come rounds on small parts of the text, each mixed into the counts so far (Cappe and Moulines 2009),
which are not monotone but reach most of the way in one reading; then rounds on the whole sample, which are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from saffu import _core
from saffu.attention_lm.contexts import Chunk, chunk
from saffu.attention_lm.units import Parameters, Unit, aggregate
from saffu.explicit.stepwise_em import stepwise_rate
from saffu.utils.arrays import Array, Float32, Float64, Int64
from saffu.utils.streams import TokenStream
from saffu.utils.threads import Workers

Passed = tuple[Float32, Float32 | None, Float32 | None]
State = tuple[Float32, list[Float32], Float64, Parameters]

PART = 8192  # positions at once in memory
READ = 1 << 15  # positions whose counts are mixed in at once
READINGS = 3  # of the sample in parts
ROUNDS, TOLERANCE = 4, 0.01  # on the whole sample; nats per token
EMBEDDING_MASS = 5.0  # tokens of the classes at large that an embedding is smoothed by
WORD_MASS = 2.0  # tokens of the unigram that the words of a class are smoothed by
FOREIGN = 0.02  # of a class in words whose code lacks its bit, at the start
ATTENTIONS = ("responsibilities", "gradient", "uniform")


@dataclass
class AttentionSolution:
    """Embeddings, attention and words of the classes.

    Attributes
    ----------
    X : ndarray of float32, shape (V, bits)
        Embeddings, rows of unit sum.
    B : list of ndarray of float32, shape (V, bits)
        Words of each class in each unit, columns of unit sum.
    shares : ndarray of float64, shape (n_units,)
        pi.
    attention : dict of str to ndarray
        ``attention`` and ``attention_bias`` of each unit but the documents', named as in
        :mod:`saffu.attention_lm.units`.
    losses : list of float
        Of the rounds on the whole sample: mean negative log-likelihood plus smoothing, nats per token; it never rises.
    """

    X: Float32
    B: list[Float32]
    shares: Float64
    attention: Parameters
    losses: list[float] = field(default_factory=list)


@dataclass
class Counts:
    """Expected counts of n positions, by name; ``loss`` is the sum of their negative log-likelihoods."""

    arrays: dict[str, Array]
    loss: float
    n: int

    def mix(self, other: Counts, keep: float, take: float) -> None:
        """Become ``keep`` times these counts and ``take`` times the others; loss and n too."""
        for name, theirs in other.arrays.items():
            mine = self.arrays[name]
            mine *= mine.dtype.type(keep)
            mine += mine.dtype.type(take) * theirs
        self.loss, self.n = keep * self.loss + take * other.loss, round(keep * self.n + take * other.n)


class AttentiveMixture:
    """The mixture, and the two steps of EM.

    Parameters
    ----------
    stream : TokenStream
    units : list of Unit
        Of the first layer.
    span : int
        How far back the document context reaches, tokens.
    codes : ndarray of float32, shape (V, bits)
        Codes of the types, rows of unit sum or zero: where the words of the classes start from.
    X : ndarray of float32, shape (V, bits)
        Where the embeddings start from.
    unigram : ndarray of float64, shape (V,)
    attention : {"responsibilities", "gradient", "uniform"}
        Whether attention is solved, or all positions count the same ("uniform").
    n_threads : int
    """

    def __init__(
        self,
        stream: TokenStream,
        units: list[Unit],
        span: int,
        codes: Float32,
        X: Float32,
        unigram: Float64,
        attention: str,
        n_threads: int,
    ) -> None:
        self.stream, self.units, self.span = stream, units, span
        self.views = [unit.view for unit in units]
        self.solve_attention = attention != "uniform"
        self.unigram, self.n_threads = unigram, n_threads
        self.bits = X.shape[1]
        self.parameters: Parameters = {}
        for unit in units:
            if unit.context != "document":
                self.parameters[f"{unit.name}.attention"] = np.zeros((unit.size, unit.size), np.float32)
                bias = _first_bias(unit) if self.solve_attention else np.zeros(unit.size, np.float32)
                self.parameters[f"{unit.name}.attention_bias"] = bias
        self.shares = np.full(len(units), 1 / len(units))
        words = unigram[:, None] * (codes + FOREIGN / self.bits)
        self.counts = Counts({"embeddings": X * np.float32(EMBEDDING_MASS)}, 0.0, 0)
        self.X = _normalised(X + np.float32(0.1 / self.bits), 1)
        self.B = [_normalised(words, 0).astype(np.float32) for _ in units]
        # Units side by side, or the kernels of one unit.
        self._workers = Workers(n_threads if len(units) >= n_threads else 1)
        self._inner_threads = 1 if len(units) >= n_threads else n_threads
        self.reach = 1.0
        self.prior = np.full(self.bits, 1 / self.bits, np.float32)  # of the classes, for types seen little

    # ---- expectation ----

    def expect(self, positions: Int64) -> Counts:
        """Expected counts of some positions, each of which has a token before it."""
        arrays = {"shares": np.zeros(len(self.units))}
        for i, unit in enumerate(self.units):
            arrays[f"words{i}"] = np.zeros(self.X.shape)
            arrays[f"embeddings{i}"] = np.zeros_like(self.X)
            if unit.context != "document":
                arrays[f"{unit.name}.attention"] = np.zeros((2, unit.size, unit.size))
                arrays[f"{unit.name}.attention_bias"] = np.zeros((2, unit.size))
        counts = Counts(arrays, 0.0, 0)
        for begin in range(0, positions.size, PART):
            self._expect_part(positions[begin : begin + PART], counts)
        arrays["embeddings"] = sum(arrays.pop(f"embeddings{i}") for i in range(len(self.units))) * self.X
        for i, B in enumerate(self.B):
            arrays[f"words{i}"] *= B
        return counts

    def _expect_part(self, positions: Int64, counts: Counts) -> None:
        """Add to the counts; those of embeddings and words are yet to be multiplied by what they renew."""
        seen = chunk(self.stream, positions, positions + 1, self.views, 1, self.span)
        y = self.stream.ids[positions]
        arrays = counts.arrays

        def forward(i: int) -> tuple[Passed, Float32, Float64]:
            """What a unit sees, how likely each class makes the word that came, and both together."""
            passed = aggregate(self.parameters, self.units[i], seen, self.X, None, self._inner_threads)
            T = self.B[i][y]
            return passed, T, np.einsum("nd,nd->n", passed[0], T, dtype=np.float64)

        def count(i: int) -> float:
            """Add the counts of one unit, to arrays of its own; the largest sum of comparisons."""
            unit, ((Z, A, S), T, q) = self.units[i], found[i]
            weight = self.shares[i] / likelihood
            dZ = T * weight[:, None].astype(np.float32)
            mass = np.zeros(len(self.X))
            _core.moments_labels(Z, y, weight, arrays[f"words{i}"], mass, True, self._inner_threads)
            if unit.context == "document":
                assert seen.means is not None
                seen.means.backward(dZ, arrays[f"embeddings{i}"])
                return 0.0
            assert A is not None
            assert S is not None
            self._expect_attention(i, seen, (A, S, dZ), weight * q, arrays)
            return float(S.sum(axis=1).max(initial=0.0))

        numbers = range(len(self.units))
        found = self._workers.map(forward, numbers)
        q = np.stack([each[2] for each in found])
        likelihood = self.shares @ q
        arrays["shares"] += (self.shares[:, None] * q / likelihood).sum(axis=1)
        self.reach = max(self.reach, 1.0 + max(self._workers.map(count, numbers)))
        counts.loss -= float(np.log(likelihood).sum())
        counts.n += positions.size

    def _expect_attention(
        self, i: int, seen: Chunk, passed: tuple[Float32, Float32, Float32], share: Float64, arrays: dict[str, Array]
    ) -> None:
        """Add comparisons with targets less those with attention, those with attention, and expected embeddings."""
        unit, (A, S, dZ) = self.units[i], passed
        view = seen.windows[0][unit.view].view
        # Without W nothing flows through the comparisons, and what remains of the gradient are expected counts.
        none, dX = np.zeros_like(self.parameters[f"{unit.name}.attention"]), arrays[f"embeddings{i}"]
        dW, dw, _ = _core.attend_backward(view, self.X, none, S, A, dZ, False, dX, self._inner_threads)
        expected = A * share[:, None].astype(np.float32)
        arrays[f"{unit.name}.attention"] += np.stack([dW, S.T @ expected])
        arrays[f"{unit.name}.attention_bias"] += np.stack([dw, expected.sum(axis=0)])

    # ---- maximisation ----

    def maximise(self, pace: float) -> None:
        """New parameters from the counts; ``pace`` 1 is the step of iterative scaling that cannot overshoot."""
        arrays = self.counts.arrays
        self.X = _normalised(arrays["embeddings"] + np.float32(EMBEDDING_MASS) * self.prior, 1)
        smooth = WORD_MASS * self.unigram[:, None]
        self.B = [_normalised(arrays[f"words{i}"] + smooth, 0).astype(np.float32) for i in range(len(self.units))]
        self.shares = arrays["shares"] / arrays["shares"].sum()
        if not self.solve_attention:
            return
        for name, value in self.parameters.items():
            difference, expected = arrays[name]
            ratio = np.maximum(1 + difference / np.maximum(expected, 1e-9), 1e-3)
            value += (pace / self.reach * np.where(expected > 1e-6, np.log(ratio), 0)).astype(np.float32)

    def smoothing_loss(self) -> float:
        """What the smoothing adds to the sum of the negative log-likelihoods."""
        tiny = np.float32(1e-30)
        total = -EMBEDDING_MASS * float(np.log(np.maximum(self.X, tiny)).sum(axis=0, dtype=np.float64) @ self.prior)
        for B in self.B:
            total -= WORD_MASS * float(self.unigram @ np.log(np.maximum(B, tiny)).sum(axis=1, dtype=np.float64))
        return total

    # ---- rounds ----

    def read(self, positions: Int64, rng: np.random.Generator, progress: Callable[[int], object]) -> None:
        """Rounds on parts of the positions, in an order by chance."""
        step = 0
        for _ in range(READINGS):
            order = rng.permutation(positions)
            for begin in range(0, order.size, READ):
                part = self.expect(np.sort(order[begin : begin + READ]))
                times = positions.size / part.n
                step += 1
                share = stepwise_rate(step, part.n, positions.size)
                if step == 1:
                    self.counts = Counts({name: np.zeros_like(a) for name, a in part.arrays.items()}, 0.0, 0)
                    share = 1.0
                self.counts.mix(part, 1 - share, share * times)
                self.prior = _normalised(self.counts.arrays["embeddings"].sum(axis=0), 0)
                self.maximise(2 * self.reach * share)
                progress(part.n)

    def state(self) -> State:
        """What a round renews: X, B, shares and attention."""
        return self.X, self.B, self.shares, {name: value.copy() for name, value in self.parameters.items()}

    def go_back(self, state: State) -> None:
        """Take back what was done since."""
        self.X, self.B, self.shares, self.parameters = state

    def round(self, positions: Int64, progress: Callable[[int], object]) -> float:
        """One round on all positions; the loss before it, nats per token with smoothing."""
        before = self.smoothing_loss()
        self.counts = self.expect(positions)
        progress(positions.size)
        loss = (self.counts.loss + before) / positions.size
        self.maximise(1.0)
        return loss

    def settle(self, positions: Int64, progress: Callable[[int], object]) -> None:
        """Embeddings, words and shares once more, of positions that the rounds were only a sample of."""
        attention = {name: value.copy() for name, value in self.parameters.items()}
        self.counts = self.expect(positions)
        self.prior = _normalised(self.counts.arrays["embeddings"].sum(axis=0), 0)
        self.maximise(1.0)
        self.parameters = attention
        progress(positions.size)


def solve(
    mixture: AttentiveMixture,
    positions: Int64,
    seed: int = 0,
    rounds: int = ROUNDS,
    progress: Callable[[int], object] = lambda n: None,
    every: Int64 | None = None,
) -> AttentionSolution:
    """Run EM until a round gains less than 0.01 nats per token, at most ``rounds`` times.

    Parameters
    ----------
    mixture : AttentiveMixture
    positions : ndarray of int64
        Places of the words to predict, each with a token of its document before it.
    seed : int
        Of the order of the first readings.
    rounds : int
    progress : callable
        Called with a number of positions whenever so many more are done.
    every : ndarray of int64, optional
        More positions than the rounds are run on: what is counted last.
    """
    losses: list[float] = []
    if positions.size:
        mixture.read(positions, np.random.default_rng(seed), progress)
        before = now = mixture.state()
        for _ in range(rounds):
            before, now = now, mixture.state()
            loss = mixture.round(positions, progress)
            if losses and loss > losses[-1]:
                mixture.go_back(before)
                break
            losses.append(loss)
            if len(losses) > 1 and losses[-2] - loss < TOLERANCE:
                break
    if every is not None and every.size > positions.size:
        mixture.settle(every, progress)
    return AttentionSolution(mixture.X, mixture.B, mixture.shares, mixture.parameters, losses)


def _first_bias(unit: Unit) -> Float32:
    """The first head begins without preference; each further one prefers a position of its own."""
    bias = np.zeros(unit.size, np.float32)
    if unit.head and unit.size:
        bias[unit.head % unit.size] = np.log(4.0)
    return bias


def _normalised(array: Array, axis: int) -> Array:
    shares: Array = array / array.sum(axis=axis, keepdims=True)
    return shares
