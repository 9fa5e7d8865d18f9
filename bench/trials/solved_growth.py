"""What growth solved on text gives explicit models, models of units, and those on an explicit model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

from bench.data.corpora import MIN_COUNT
from bench.data.texts import Text
from bench.measure.clock import timed
from saffu import ExplicitLM, SaffuLM


class Growth(NamedTuple):
    """A model before and after; criterion and perplexity with every seed, seconds of the first."""

    model: str
    what: str
    n_before: int
    n_after: int
    criterion: list[tuple[float, float]]
    perplexity: list[tuple[float, float]]
    seconds: float

    @property
    def changes(self) -> list[float]:
        """Of the perplexity, with every seed."""
        return [after / before - 1 for before, after in self.perplexity]

    def records(self) -> Iterator[dict[str, Any]]:
        """A line for each seed."""
        facts = {"part": "solved", "name": f"{self.model}, {self.what}", "parameters": self.n_after}
        for seed, (losses, perplexities) in enumerate(zip(self.criterion, self.perplexity, strict=True)):
            found = {
                f"{name} {when}": value
                for name, pair in (("criterion", losses), ("perplexity", perplexities))
                for when, value in zip(("before", "after"), pair, strict=True)
            }
            yield facts | {"seed": seed} | found


def solved_growths(text: Text, quick: bool, seeds: Sequence[int]) -> Iterator[Growth]:
    """Growths of an explicit model, which takes no seed, of compact ones, and of those on an explicit model."""
    ids, documents = text.train.ids, text.train.starts
    explicit = ExplicitLM(radius=2, order=3, windows=(), induction=0).fit(
        ids, documents=documents, vocab_size=text.n_types
    )
    steps: list[dict[str, Any]] = [{"radius": 5}, {"order": 4}, {"windows": (60, 500)}, {"induction": 2000}]
    for step in steps:
        yield _grown("explicit", [explicit], text, step, lambda model: sum(t.nnz for t in model.counts.tables))
    size = {"bits": 8, "hidden": 8} if quick else {"bits": 32, "hidden": 32}
    for name, residual in (("units", None), ("units on the explicit", explicit)):
        shape: dict[str, Any] = size | {"contexts": ("radial",), "radius": 2, "min_count": MIN_COUNT}
        models = [
            SaffuLM(**shape, residual=residual, seed=seed).fit(ids, documents=documents, vocab_size=text.n_types)
            for seed in seeds
        ]
        steps = [
            {"radius": 8},
            {"hidden": 4 * size["hidden"]},
            {"contexts": ("radial", "document")},
            {"heads": 2},
            {"layers": 2},
        ]
        for step in steps:
            yield _grown(name, models, text, step, lambda model: model.n_parameters)


def _grown(
    name: str, models: Sequence[Any], text: Text, step: dict[str, Any], n_parameters: Callable[[Any], int]
) -> Growth:
    what = ", ".join(f"{k} {'+'.join(map(str, v)) if isinstance(v, tuple) else v}" for k, v in step.items())
    larger, spent = zip(
        *(timed(partial(m.grow, text.train.ids, documents=text.train.starts, **step)) for m in models), strict=True
    )
    criterion = [tuple(each.growth[-1]["losses"]) for each in larger]
    before, after = (
        [each.perplexity(text.test.ids, documents=text.test.starts) for each in group] for group in (models, larger)
    )
    sizes = n_parameters(models[0]), n_parameters(larger[0])
    return Growth(name, what, *sizes, criterion, list(zip(before, after, strict=True)), spent[0].wall)
