"""Reading one document token by token: its state is kept, so that the next token costs the same at any length.

A position sees the last tokens, the sum of its document, and, above the first layer, the last hidden states of the
layer below. All of that is kept here. Its logits are those that the whole text gives at that position, to rounding.
"""

from __future__ import annotations

from typing import Self

import numpy as np
from numpy.typing import ArrayLike

from saffu import _core
from saffu.attention_lm import units
from saffu.attention_lm.contexts import SEGMENT
from saffu.attention_lm.output_classes import OutputClasses
from saffu.attention_lm.units import Network, Parameters, Unit
from saffu.attention_lm.windows import Windows
from saffu.ngram_lm.model import ExplicitLM
from saffu.utils import validate
from saffu.utils.arrays import Float32, Float64, Int32


class Session:
    """A document that a model reads, for one thread at a time.

    Parameters
    ----------
    network : Network
    parameters : mapping of str to ndarray of float32
        As in :mod:`saffu.attention_lm.units`. They must not change while the document is read.
    X : ndarray of float32, shape (V, bits)
        Embeddings.
    residual : ExplicitLM, optional
        A model whose logits come on top. Its windows are read anew at each token: the last ``residual.history`` ones.
    output_classes : OutputClasses, optional
        What has an output; by default each word has.

    Attributes
    ----------
    n_tokens : int
        Tokens read so far.
    """

    def __init__(
        self,
        network: Network,
        parameters: Parameters,
        X: Float32,
        residual: ExplicitLM | None = None,
        output_classes: OutputClasses | None = None,
    ) -> None:
        self.network, self.parameters, self.X, self.residual = network, parameters, X, residual
        self.output_classes = output_classes
        self.n_tokens = 0
        self._widest = max([1, *(unit.size for unit in network.units)])
        reach = network.span + SEGMENT if network.reads_documents else 0
        self._reach = max(reach, self._widest, 0 if residual is None else residual.history)
        self._tokens = np.empty(2 * self._reach, np.int32)  # the last ones, from _begin to _end
        self._begin = self._end = 0
        self._sum = np.zeros(X.shape[1])  # of the document's tokens that a position sees
        self._layers: list[list[tuple[Unit, slice]]] = [[] for _ in range(network.n_layers)]
        blocks = units.blocks(network.units, parameters)
        for unit, block in zip(network.units, blocks, strict=True):
            self._layers[unit.layer].append((unit, block))
        self._below: list[Float32] = []  # last hidden states of each layer but the highest, oldest first
        self._hidden = np.empty(blocks[-1].stop, np.float32)
        self._forget_hidden()
        self._compute()

    # ---- reading -----------------------------------------------------------------------------------------------------

    def push(self, token: int) -> Self:
        """Read one token."""
        return self.extend([token])

    def extend(self, tokens: ArrayLike) -> Self:
        """Read some tokens, oldest first."""
        tokens = validate.token_ids(tokens, "tokens", self.X.shape[0])
        # The next position sees so many of those before it, directly and through the layers.
        seen = (self._widest - 1) * (self.network.n_layers - 1) + 1
        if tokens.size > seen:
            self._append(tokens[:-seen])
            self._forget_hidden()
        for token in tokens[-seen:]:
            self._append(np.array([token], np.int32))
            self._compute()
        return self

    def _append(self, tokens: Int32) -> None:
        if self.network.reads_documents:
            self._add_to_document(tokens)
        self.n_tokens += tokens.size
        tokens = tokens[-self._reach :]
        if self._end + tokens.size > self._tokens.size:
            kept = self.last(self._reach - tokens.size).copy()
            self._tokens[: kept.size] = kept
            self._begin, self._end = 0, kept.size
        self._tokens[self._end : self._end + tokens.size] = tokens
        self._end += tokens.size
        self._begin = max(self._end - self._reach, 0)

    def last(self, n: int) -> Int32:
        """The last n tokens, oldest first, or as many as are kept: at least what any position sees."""
        return self._tokens[max(self._end - n, self._begin) : self._end]

    def _add_to_document(self, tokens: Int32) -> None:
        """Keep the sum of the tokens from ``span`` before the segment of the next position."""
        before, after = self._oldest(self.n_tokens), self._oldest(self.n_tokens + tokens.size)
        held = np.concatenate([self.last(self.n_tokens - before), tokens])
        left = min(after - before, held.size)
        new = held.size - tokens.size
        if left < new:
            self._sum -= self.X[held[:left]].sum(axis=0, dtype=np.float64)
            self._sum += self.X[tokens].sum(axis=0, dtype=np.float64)
        else:
            self._sum = self.X[held[left:]].sum(axis=0, dtype=np.float64)

    def _oldest(self, offset: int) -> int:
        return max(offset - offset % SEGMENT - self.network.span, 0)

    # ---- hidden states -----------------------------------------------------------------------------------------------

    def _forget_hidden(self) -> None:
        widths = [sum(block.stop - block.start for _, block in layer) for layer in self._layers[:-1]]
        self._below = [np.empty((0, width), np.float32) for width in widths]

    def _compute(self) -> None:
        """Hidden states of the next position."""
        for depth, layer in enumerate(self._layers):
            for unit, block in layer:
                logits = self._aggregate(unit) @ self.parameters[f"{unit.name}.weights"]
                logits += self.parameters[f"{unit.name}.bias"]
                self._hidden[block] = _core.softmax(logits, False, 1)[0]
            if depth < len(self._below):
                joined = np.concatenate([self._hidden[block] for _, block in layer]) * np.float32(1 / len(layer))
                self._below[depth] = np.concatenate([self._below[depth], joined[None]])[-self._widest :]

    def _aggregate(self, unit: Unit) -> Float32:
        """What a unit sees, shape (1, D)."""
        if unit.context == "document":
            n = self.n_tokens - self._oldest(self.n_tokens)
            return (self._sum / max(n, 1)).astype(np.float32)[None]
        source: Float32 = self.X
        if unit.layer == 0:
            tokens = self.last(unit.size)
            n = self.n_tokens if unit.context == "radial" else (self.n_tokens - 1) % unit.size + 1
            length = min(n, unit.size, self.n_tokens)
        else:
            source = self._below[unit.layer - 1]
            tokens = np.arange(len(source), dtype=np.int32)
            n = unit.size if unit.context == "radial" else self.n_tokens % unit.size + 1
            length = min(n, len(source))
        newest = max(tokens.size - 1, 0)
        first, step = (newest, -1) if unit.context == "radial" else (tokens.size - length, 1)
        windows = Windows(tokens, [first], [length], [newest], step, unit.size)
        W, bias = (self.parameters[f"{unit.name}.{part}"] for part in ("attention", "attention_bias"))
        Z: Float32 = _core.attend(windows.view, source, None, W, bias, None, 1)[0]
        return Z

    # ---- answers -----------------------------------------------------------------------------------------------------

    @property
    def hidden(self) -> Float32:
        """Hidden states of all units for the next token, shape (H,); a copy."""
        return self._hidden.copy()

    def logits(self) -> Float32:
        """Logits of the next token, shape (V,)."""
        logits = self.parameters["output.weights"] @ self._hidden
        logits += self.parameters["output.bias"]
        if self.output_classes is not None:
            logits = logits[self.output_classes.of_word]
        if self.residual is not None:
            below = self.residual.distribution(self.last(self.residual.history))
            logits += np.log(below).astype(np.float32)
        return logits

    def distribution(self) -> Float64:
        """Distribution of the next token, shape (V,)."""
        logits = self.logits().astype(np.float64)
        probabilities: Float64 = _core.softmax(logits[None], False, 1)[0]
        return probabilities
