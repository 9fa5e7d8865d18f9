"""The network of :class:`saffu.SaffuLM` in torch: the same parameters, the same batches, the same Adam.

Every formulation is the quickest found in torch. Positions of a batch go through each operation together; the bias of
the output is one more column of its weights, added in the same product as the logits of the residual base; means
over the document are differences of running sums where embeddings are fixed, and sums by ``embedding_bag`` where they
move. One layer of units.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from saffu import SaffuLM
from saffu.attention_lm.contexts import SEGMENT
from saffu.attention_lm.segments import SegmentBatch, SegmentedText
from saffu.attention_lm.units import EMBEDDINGS, Unit
from saffu.training.run import BETA1, BETA2, EPSILON

NEVER = -1e30  # logit of a place where there is no token
ROWS = 256  # of logits that live at a time, in blocks


class BlockwiseLoss(torch.autograd.Function):
    """Mean cross-entropy of ``softmax(H O^T + base)``, its gradient taken on the way, block by block of rows.

    Blocks stay in the cache, where autograd would write and read all logits several times.
    """

    @staticmethod
    def forward(ctx: Any, H: Tensor, O: Tensor, base: Tensor | None, targets: Tensor) -> Tensor:  # noqa: E741
        """Loss of hidden states (n, h), output weights (V, h), logits (n, V) to add (overwritten), targets (n,)."""
        n = len(H)
        dH, dO = torch.empty_like(H), torch.zeros_like(O)
        logits, loss = H.new_empty(min(ROWS, n), len(O)), 0.0
        for first in range(0, n, ROWS):
            rows = slice(first, min(first + ROWS, n))
            z = logits[: rows.stop - first]
            torch.mm(H[rows], O.T, out=z) if base is None else torch.addmm(base[rows], H[rows], O.T, out=z)
            torch.softmax(z, 1, out=z)
            at = targets[rows, None]
            loss -= float(z.gather(1, at).clamp_min(1e-30).log().sum())
            z.scatter_add_(1, at, z.new_full(at.shape, -1.0))
            torch.mm(z, O, out=dH[rows])
            dO.addmm_(z.T, H[rows])
        ctx.save_for_backward(dH, dO)
        ctx.n = n
        return H.new_tensor(loss / n)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None]:
        """The gradients found on the way, scaled."""
        dH, dO = ctx.saved_tensors
        scale = gradients[0] / ctx.n
        return dH * scale, dO * scale, None, None


class TorchSaffu:
    """Network and optimiser.

    Parameters
    ----------
    model : SaffuLM
        Whose parameters to copy.
    text : SegmentedText
        The training text as that model prepared it, with the logits of its residual base.
    frozen : bool
        Whether embeddings are fixed.
    learning_rate : float
    blockwise : bool
        Whether the loss is that of :class:`BlockwiseLoss`, or that of torch; which is quicker depends on the machine.
    """

    def __init__(
        self, model: SaffuLM, text: SegmentedText, frozen: bool, learning_rate: float = 3e-3, blockwise: bool = True
    ) -> None:
        if model.layers > 1:
            raise ValueError(f"model must have one layer, got {model.layers}")
        session = model.session()  # has the units and the parameters as they are now
        self.units: list[Unit] = session.network.units
        self.span, self.text, self.blockwise = model.span, text, blockwise
        values = {name: torch.tensor(value, dtype=torch.float32) for name, value in session.parameters.items()}
        self.X = torch.softmax(values.pop(EMBEDDINGS), 1) if frozen else None
        self.parameters = {name: value.requires_grad_() for name, value in values.items()}
        self.optimiser = torch.optim.Adam(
            self.parameters.values(), learning_rate, betas=(BETA1, BETA2), eps=EPSILON, fused=True
        )
        self._read(text)

    def _read(self, text: SegmentedText) -> None:
        """What does not change: tokens, how far each place is from the start of its document, running sums."""
        places = np.arange(text.stream.ids.size)
        offset = places - text.stream.begins(places)
        self.ids = torch.from_numpy(text.stream.ids.astype(np.int64))
        self.offset = torch.from_numpy(offset)
        first = offset % SEGMENT
        reach = np.minimum(offset, first + self.span)  # tokens of the document context
        self.reach, self.inside = torch.from_numpy(reach), torch.from_numpy(first)
        self.sums: Tensor | None = None
        if self.X is not None and any(unit.context == "document" for unit in self.units):
            sums = torch.zeros(len(places) + 1, self.X.shape[1], dtype=torch.float64)
            torch.cumsum(self.X[self.ids].double(), 0, out=sums[1:])
            self.sums = sums

    # ---- steps ----

    def step(self, batch: SegmentBatch) -> float:
        """One step of the optimiser; the loss before it, nats per token."""
        loss = self.loss(batch)
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()
        return float(loss.detach())

    def loss(self, batch: SegmentBatch) -> Tensor:
        """Mean loss of a batch."""
        places = torch.from_numpy(batch.text.positions(batch.segments))
        X = torch.softmax(self.parameters[EMBEDDINGS], 1) if self.X is None else self.X
        H = torch.cat([self._hidden(unit, places, X) for unit in self.units], 1)
        O, bias = self.parameters["output.weights"], self.parameters["output.bias"]  # noqa: E741
        base, within = self._base(batch)
        targets = torch.from_numpy(self.text.targets(places.numpy()).astype(np.int64))
        return within + self._cross_entropy(H, O, bias, base, targets)

    def _cross_entropy(self, H: Tensor, O: Tensor, bias: Tensor, base: Tensor | None, targets: Tensor) -> Tensor:  # noqa: E741
        if base is None and not self.blockwise:
            return functional.cross_entropy(torch.addmm(bias, H, O.T), targets)
        wide_H, wide_O = torch.cat([H, H.new_ones(len(H), 1)], 1), torch.cat([O, bias[:, None]], 1)
        if self.blockwise:
            return BlockwiseLoss.apply(wide_H, wide_O, base, targets)
        assert base is not None
        return functional.cross_entropy(torch.addmm(base, wide_H, wide_O.T), targets)

    def _base(self, batch: SegmentBatch) -> tuple[Tensor | None, float]:
        """Logits of the residual base, and nats from outputs to words, by the code that the other network uses."""
        if self.text.source is None:
            return None, 0.0
        logits = self.text.buffer(batch.n_positions)

        def one(item: tuple[slice, Any]) -> float:
            return float(self.text.fill(self.text.positions(item[1]), logits[item[0]]).sum())

        within = sum(self.text.workers.map(one, batch.chunks())) / batch.n_positions
        return torch.from_numpy(logits), within

    # ---- units ----

    def _hidden(self, unit: Unit, places: Tensor, X: Tensor) -> Tensor:
        Z = self._means(places, X) if unit.context == "document" else self._attended(unit, places, X)
        weights, bias = (self.parameters[f"{unit.name}.{part}"] for part in ("weights", "bias"))
        return torch.softmax(torch.addmm(bias, Z, weights), 1)

    def _attended(self, unit: Unit, places: Tensor, X: Tensor) -> Tensor:
        """``softmax(s W + w) X`` over the window of each place; zero where the window is empty."""
        k, offset = torch.arange(unit.size), self.offset[places]
        if unit.context == "radial":
            length = offset.clamp_max(unit.size)
            at = places[:, None] - 1 - k
        else:
            length = torch.where(offset > 0, (offset - 1) % unit.size + 1, 0)
            at = (places - length)[:, None] + k
        there = k < length[:, None]
        seen = functional.embedding(self.ids[at.clamp(0, len(self.ids) - 1)], X)
        newest = functional.embedding(self.ids[(places - 1).clamp_min(0)], X)
        s = torch.bmm(seen, newest[:, :, None])[:, :, 0] * there
        weights, bias = (self.parameters[f"{unit.name}.{part}"] for part in ("attention", "attention_bias"))
        a = torch.softmax(torch.addmm(bias, s, weights).masked_fill(~there, NEVER), 1) * there
        return torch.bmm(a[:, None], seen)[:, 0]

    def _means(self, places: Tensor, X: Tensor) -> Tensor:
        """Means of the embeddings of the document so far."""
        reach = self.reach[places]
        scale = 1.0 / reach.clamp_min(1)[:, None]
        if self.sums is not None:
            return ((self.sums[places] - self.sums[places - reach]) * scale).float()
        # What a segment has in common is added up once, and what precedes each place in its segment by a running sum.
        segments, group = torch.unique_consecutive(places - self.inside[places], return_inverse=True)
        shared = _bags(self.ids, segments - self.reach[segments], segments, X)
        own = _bags(self.ids, places - self.inside[places], places, X)
        return (shared[group] + own) * scale.float()


def _bags(ids: Tensor, first: Tensor, last: Tensor, X: Tensor) -> Tensor:
    """Sums of the embeddings of the tokens from each first place to before each last one."""
    lengths = last - first
    ends = torch.cumsum(lengths, 0)
    begins = ends - lengths
    at = torch.arange(int(ends[-1])) + torch.repeat_interleave(first - begins, lengths)
    return functional.embedding_bag(ids[at], X, begins, mode="sum")


def train(network: TorchSaffu, batches: Iterable[SegmentBatch], rates: Iterable[float] | None = None) -> list[float]:
    """A step for each batch, at the network's learning rate or at one for each; the losses."""
    losses = []
    group = network.optimiser.param_groups[0]
    for batch, rate in zip(batches, itertools.repeat(group["lr"]) if rates is None else rates, strict=False):
        group["lr"] = rate
        losses.append(network.step(batch))
    return losses
