"""A roadmap over models that cost nothing, whose order is known, and which can be stopped anywhere."""

import csv
import functools
import math
from pathlib import Path

import numpy as np

from saffu.search import architectures, roadmap
from saffu.search.text_split import Split
from saffu.utils.streams import TokenStream

SMALL = {"bits": [16, 32], "contexts": ["radial", "block+document"], "radius": [2, 4]}

TIMES = {"seconds_solve", "seconds_score", "seconds_refine", "pareto_seconds", "peak_megabytes"}

default_grid = functools.cache(architectures.default_grid)


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


def table(out):
    """The rows of results.csv without what differs from run to run."""
    with open(Path(out) / "results.csv", newline="") as file:
        return [{key: value for key, value in row.items() if key not in TIMES} for row in csv.DictReader(file)]


def write_text(path, n_documents, lines_each=2, tokens_each=3, seed=0, line_end="\n"):
    """A file of words of decreasing frequency; each line ends a token later."""
    rng = np.random.default_rng(seed)
    words = np.array([f"w{number}" for number in range(40)])
    weights = 1 / np.arange(1, 41)
    documents = []
    for _ in range(n_documents):
        drawn = rng.choice(words, (lines_each, tokens_each), p=weights / weights.sum())
        documents.append(line_end.join(" ".join(line) for line in drawn))
    path.write_text("\n\n".join(documents) + "\n")
    return path
