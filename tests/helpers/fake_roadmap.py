"""A roadmap over models that cost nothing, whose order is known, and which can be stopped anywhere."""

import math
from pathlib import Path

import numpy as np

from saffu.search import architectures, roadmap
from saffu.search.text_split import Split
from saffu.utils.streams import TokenStream

SMALL = {"bits": [16, 32], "contexts": ["radial", "block+document"], "radius": [2, 4]}


def make_split(seed=0):
    rng = np.random.default_rng(seed)
    ids = np.append(rng.integers(0, 4, 500), np.arange(4))
    return Split(TokenStream.of(ids, [0, 100]), TokenStream.of(rng.integers(0, 4, 50)), 4)


class FakeModel:
    """Better the larger it is, and by a fifth after each epoch; some architectures fail."""

    def __init__(self, architecture):
        if architecture.hidden == 666:
            raise MemoryError("too many\nhidden units")
        self.n_parameters = architecture.bits * architecture.hidden * len(architecture.contexts)
        self.score = 100 / math.log(self.n_parameters) + (architecture.radius or 0)

    def perplexity(self, ids, *, documents):
        return self.score + ids.size / 1000

    def refine(self, ids, *, documents, epochs):
        assert documents is not None
        self.score *= 0.8**epochs
        return self

    def save(self, path):
        Path(path).write_text(f"{self.score}")


class FakeSolver:
    """Counts its calls and can be made to stop at one of them."""

    def __init__(self, stop_at=None, stop=None):
        self.calls, self.prepared, self.stop_at, self.stop = [], [], stop_at, stop

    def prepare(self, split):
        self.prepared.append(split)
        return "shared"

    def solve(self, architecture, split, shared):
        assert shared == "shared"
        self.calls.append(architecture)
        if len(self.calls) == self.stop_at:
            self.stop()
        return FakeModel(architecture)


def run(out, solver=None, tried=None, split=None, settings=None, **effort):
    """A run over fakes."""
    tried = architectures.product(SMALL) if tried is None else tried
    effort = roadmap.Effort(**{"refine": 2} | effort)
    return roadmap.run(
        split or make_split(), tried, out, effort=effort, settings=settings, solver=solver or FakeSolver()
    )
