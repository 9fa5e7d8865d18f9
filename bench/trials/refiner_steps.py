"""The refiner of self-attentive units, batch by batch, so that its steps can be timed and compared by themselves."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from bench.data.texts import Text
from saffu.attention_lm.contexts import SEGMENT
from saffu.attention_lm.model import BATCH_TOKENS, SaffuLM
from saffu.attention_lm.segments import Passage
from saffu.training.refinement import Plan, _Data, _Run
from saffu.utils.threads import available_cpus, one_blas_thread


class Refiner:
    """Steps of a refinement, without what goes on between epochs."""

    RATE = 1e-3

    def __init__(self, model: SaffuLM, text: Text, frozen: bool, batch_tokens: int = BATCH_TOKENS) -> None:
        start = model._copy()
        start.history = []  # nothing is softened
        start._frozen = start._fixed(np.float32) if frozen else None
        data = _Data(start, text.train.ids, text.train.documents, None, 0, available_cpus())
        plan = Plan(1, batch_tokens // SEGMENT, None, 1.0, 0.0, 0)
        self.run = _Run(start, data, plan, self.RATE, (), None)
        self.text: Any = data.rows
        self.step = 0

    def batches(self, n: int) -> list[Passage]:
        """The first so many batches of the first epoch."""
        return [batch for _, batch in itertools.islice(self.run._batches(), n)]

    def loss(self, batch: Passage) -> float:
        """Loss of a batch."""
        with one_blas_thread():
            return self.run.model._loss_and_gradients(self.run.parameters, batch, self.run.gradients, available_cpus())

    def train(self, batches: Sequence[Passage]) -> None:
        """A step for each batch."""
        with one_blas_thread():
            for batch in batches:
                self.step += 1
                self.run._step(self.step, batch)
