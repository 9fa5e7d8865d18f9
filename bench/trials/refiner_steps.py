"""The refiner of self-attentive units, batch by batch, so that its steps can be timed and compared by themselves."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from bench.data.texts import Text
from saffu import SaffuLM
from saffu.attention_lm.backprop import BATCH_TOKENS
from saffu.attention_lm.contexts import SEGMENT
from saffu.attention_lm.scoring import fixed_embeddings
from saffu.attention_lm.segments import SegmentBatch
from saffu.training.losses import TrainingData
from saffu.training.options import Options
from saffu.training.run import Run
from saffu.utils.threads import available_cpus, one_blas_thread


class Refiner:
    """Steps of a refinement, without what goes on between epochs.

    The public interface refines whole epochs only, so this uses private methods of the model and of the run.
    """

    RATE = 1e-3

    def __init__(self, model: SaffuLM, text: Text, frozen: bool, batch_tokens: int = BATCH_TOKENS) -> None:
        start = model._copy()
        start.history = []  # nothing is softened
        start._frozen = fixed_embeddings(start) if frozen else None
        ids, documents = text.train.ids, text.train.starts
        data = TrainingData(start, ids, documents, validation=None, seed=0, n_threads=available_cpus())
        options = Options(epochs=1, batch_size=batch_tokens // SEGMENT, learning_rate=self.RATE, soften=1.0)
        self.run = Run(start, data, options)
        self.text: Any = data.rows
        self.step = 0

    def batches(self, n: int) -> list[SegmentBatch]:
        """The first so many batches of the first epoch."""
        return [batch for _, batch in itertools.islice(self.run._batches(), n)]

    def rates(self, n: int) -> list[float]:
        """The learning rates of the first so many steps."""
        return [self.RATE * self.run._decay(step) for step in range(1, n + 1)]

    def loss(self, batch: SegmentBatch) -> float:
        """Loss of a batch."""
        with one_blas_thread():
            return self.run.model._loss_and_gradients(self.run.parameters, batch, self.run.gradients, available_cpus())

    def train(self, batches: Sequence[SegmentBatch]) -> None:
        """A step for each batch."""
        with one_blas_thread():
            for batch in batches:
                self.step += 1
                self.run._step(self.step, batch)
