"""Hidden states of a network at some positions, as the output layer counts them."""

from __future__ import annotations

import numpy as np

from saffu.attention_lm import units
from saffu.attention_lm.segments import SegmentedText
from saffu.attention_lm.solve_context import SolveContext, runs
from saffu.attention_lm.units import Parameters
from saffu.utils.arrays import Float32, Int32, Int64

PART = 1 << 13  # positions at once


class HiddenStates:
    """Hidden states of positions, and the logits that they are added to: :class:`saffu.attention_lm.output_layer.Rows`.

    Parameters
    ----------
    context : SolveContext
    parameters : dict of str to ndarray
        All but the output of the units that is to be solved.
    X : ndarray of float32, shape (V, bits)
        Embeddings.
    text : SegmentedText
        With the logits of the residual, if there is one.
    known : int
        So many units of the network have their output already, in ``parameters``: they belong to what lies below.
    """

    def __init__(
        self, context: SolveContext, parameters: Parameters, X: Float32, text: SegmentedText, known: int = 0
    ) -> None:
        self.network, self.parameters, self.X, self.text = context.network, parameters, X, text
        self.stream, self.n_outputs = text.stream, text.n_outputs
        self.counts, self.unigram, self.workers = context.shared.counts, context.shared.unigram, text.workers
        self.memory_budget = context.shared.memory_budget
        self._log_unigram = np.log(self.unigram).astype(np.float32)
        self._below = self.network.units[:known]
        self.blocks = units.blocks(self.network.units[known:], parameters)
        self.on_unigram = text.source is None and not known

    def hidden(self, positions: Int64) -> Float32:
        """Hidden states of the units whose output is to be solved, side by side, (n, H)."""
        H = np.empty((positions.size, self.blocks[-1].stop), np.float32)

        def fill(begin: int) -> None:
            part = slice(begin, begin + PART)
            chunk = self.network.chunk(self.stream, *runs(positions[part]))
            seen, _ = units.forward(self.parameters, self.network.units, chunk, self.X)
            H[part] = units.hidden(seen[len(self._below) :], chunk)

        self.workers.map(fill, range(0, positions.size, PART))
        return H

    def targets(self, positions: Int64) -> Int32:
        """The outputs that are right."""
        return self.text.targets(positions)

    def base(self, positions: Int64, out: Float32) -> None:
        """Write the logits of the unigram, or of the other model and of the known units, (n, n_outputs)."""
        if self.on_unigram:
            out[:] = self._log_unigram
            return
        self.text.fill(positions, out)
        if self._below:
            chunk = self.network.chunk(self.stream, *runs(positions))
            seen, _ = units.forward(self.parameters, self._below, chunk, self.X)
            units.add_logits(self.parameters, units.hidden(seen, chunk), out, self.text.source is not None)
