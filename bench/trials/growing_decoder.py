"""A Llama-shaped decoder that is grown while it is trained, beside one of its final size trained from scratch."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from bench.data.texts import Text
from saffu import grow

Sizes = dict[str, int]


class Plan(NamedTuple):
    """How a decoder grows and how it is trained.

    Attributes
    ----------
    stages : tuple of dict
        Sizes, the last of them final.
    shares : tuple of float
        Of a run's multiply-adds (or time) by which each stage but the last is over.
    steps : int
        Of the final size from scratch.
    rows, length : int
        Of a batch.
    """

    stages: tuple[Sizes, ...]
    shares: tuple[float, ...]
    steps: int
    rows: int
    length: int


FULL = Plan(
    (
        {"hidden": 64, "layers": 2, "mlp": 192, "heads": 2},
        {"hidden": 96, "layers": 3, "mlp": 288, "heads": 3},
        {"hidden": 128, "layers": 4, "mlp": 384, "heads": 4},
    ),
    (0.15, 0.45),
    2000,
    16,
    64,
)
QUICK = Plan(
    (
        {"hidden": 8, "layers": 1, "mlp": 12, "heads": 1},
        {"hidden": 16, "layers": 2, "mlp": 24, "heads": 2},
        {"hidden": 24, "layers": 2, "mlp": 36, "heads": 3},
    ),
    (0.2, 0.5),
    40,
    4,
    16,
)
WARM_UP, DECAY = 0.03, 0.5  # shares of a run in which the rate rises, and falls to zero
POINTS = 25  # of a curve


class Point(NamedTuple):
    """Loss on validation text after some training."""

    multiply_adds: float
    seconds: float
    loss: float


class Run(NamedTuple):
    """A curve; ``growths`` are the losses right before and right after each growth."""

    points: list[Point]
    growths: list[tuple[Point, Point]]

    @property
    def end(self) -> Point:
        """The last point."""
        return self.points[-1]


class Budget(NamedTuple):
    """What a run may take: multiply-adds, or seconds."""

    amount: float
    seconds: bool = False


# ---- models ----------------------------------------------------------------------------------------------------------


def start(text: Text, sizes: Sizes, length: int, seed: int) -> Any:
    """A model of these sizes with the library's random weights."""
    import torch
    import transformers

    config = transformers.LlamaConfig(
        vocab_size=text.n_types,
        hidden_size=sizes["hidden"],
        num_hidden_layers=sizes["layers"],
        intermediate_size=sizes["mlp"],
        num_attention_heads=sizes["heads"],
        max_position_embeddings=length,
        initializer_range=0.05,
        bos_token_id=None,
        eos_token_id=None,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return transformers.LlamaForCausalLM(config)


def multiply_adds(sizes: Sizes, n_types: int, length: int) -> float:
    """Of training on a token: a backward pass costs two forward ones."""
    hidden = sizes["hidden"]
    layer = 4 * hidden * hidden + 3 * hidden * sizes["mlp"] + length * hidden
    return 3.0 * (sizes["layers"] * layer + hidden * n_types)


def nll(model: Any, text: Text, length: int) -> float:
    """On validation text in pieces of a fixed length, nats per token."""
    import torch

    ids = text.valid.ids
    n = (ids.size - 1) // length
    rows = torch.from_numpy(ids[: n * length + 1].astype(np.int64))
    with torch.no_grad():
        losses = [
            _loss(model, rows[:-1].reshape(n, length)[some], rows[1:].reshape(n, length)[some]) * some.numel()
            for some in torch.arange(n).split(64)
        ]
    return float(sum(losses)) / n


def _loss(model: Any, inputs: Any, labels: Any) -> Any:
    import torch

    return torch.nn.functional.cross_entropy(model(inputs).logits.flatten(0, 1), labels.flatten())


# ---- training --------------------------------------------------------------------------------------------------------


class Training:
    """A model while it is trained, by the clock."""

    def __init__(self, text: Text, plan: Plan, stages: Sequence[Sizes], rate: float, seed: int) -> None:
        self.text, self.plan, self.stages, self.rate = text, plan, list(stages), rate
        self.rng, self.seed = np.random.default_rng(seed), seed
        self.ids = text.train.ids.astype(np.int64)
        self.model = start(text, self.stages[0], plan.length, seed)
        self.optimizer = self._adam(self.model)
        self.multiply_adds, self.seconds, self.run = 0.0, 0.0, Run([], [])

    def _adam(self, model: Any) -> Any:
        import torch

        return torch.optim.Adam(model.parameters(), lr=self.rate, betas=(0.9, 0.99))

    def step(self, share: float) -> None:
        """One step, at a rate for this share of the run."""
        import torch

        began = time.perf_counter()
        plan = self.plan
        first = self.rng.integers(0, self.ids.size - plan.length, plan.rows)
        rows = torch.from_numpy(self.ids[first[:, None] + np.arange(plan.length + 1)])
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate * min(share / WARM_UP, 1.0, (1.0 - share) / DECAY)
        self.optimizer.zero_grad()
        _loss(self.model, rows[:, :-1], rows[:, 1:]).backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.multiply_adds += plan.rows * plan.length * multiply_adds(self.stages[0], self.text.n_types, plan.length)
        self.seconds += time.perf_counter() - began

    def grow(self) -> None:
        """Become the next size, and take along what the optimiser has gathered."""
        before = self.point()
        began = time.perf_counter()
        sizes: dict[str, Any] = self.stages[1]
        planned = grow.plan(self.model, places="spread", **sizes)
        larger = grow.module(self.model, places="spread", seed=self.seed, **sizes)
        optimizer = self._adam(larger)
        state = grow.optimizer_state(
            self.optimizer,
            larger_optimizer=optimizer,
            model=self.model,
            larger=larger,
            plan=planned,
            new_squares="mean",
        )
        optimizer.load_state_dict(state)
        self.model, self.optimizer, self.stages = larger, optimizer, self.stages[1:]
        self.seconds += time.perf_counter() - began
        self.run.growths.append((before, self.point()))

    def point(self) -> Point:
        """Where the run is; scoring is not on the clock."""
        return Point(self.multiply_adds, self.seconds, nll(self.model, self.text, self.plan.length))


def trained(text: Text, plan: Plan, stages: Sequence[Sizes], rate: float, budget: Budget, seed: int) -> Run:
    """Train through some stages until the budget is spent."""
    training = Training(text, plan, stages, rate, seed)
    share, scored = 0.0, 0
    while share < 1.0:
        if len(training.stages) > 1 and share >= plan.shares[len(plan.stages) - len(training.stages)]:
            training.grow()
        training.step(max(share, 1e-3))
        share = (training.seconds if budget.seconds else training.multiply_adds) / budget.amount
        if share * POINTS >= scored + 1 or share >= 1.0:
            scored = int(share * POINTS)
            training.run.points.append(training.point())
    return training.run


def of_scratch(plan: Plan, text: Text) -> float:
    """Multiply-adds of the final size from scratch."""
    each = multiply_adds(plan.stages[-1], text.n_types, plan.length)
    return plan.steps * plan.rows * plan.length * each
