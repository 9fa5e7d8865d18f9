"""Growing an ExplicitLM: more contexts, whose scalars are zero at first, so that the function stays what it is."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from saffu.ngram_lm.contexts import Contexts
from saffu.ngram_lm.counted_model import CountedModel
from saffu.ngram_lm.counted_text import CountedText
from saffu.utils import validate
from saffu.utils.arrays import Float64


def larger(
    contexts: Contexts, radius: int | None, order: int | None, windows: Sequence[int] | None, induction: int | None
) -> Contexts:
    """The contexts with some settings enlarged; None leaves one as it is.

    Raises
    ------
    ValueError, TypeError
        If a setting would become smaller, or the model is one of Kneser-Ney or back-off.
    """
    if contexts.is_backoff:
        raise ValueError(
            "a model of Kneser-Ney or back-off cannot grow: its counts depend on the order; fit another one"
        )
    for name, new, old in (("radius", radius, contexts.radius), ("order", order, contexts.order)):
        if new is not None and validate.integer(new, name, 1) < old:
            raise ValueError(f"{name} must be at least {old}: a model can grow only, got {new}")
    if windows is not None and (missing := set(contexts.windows) - set(windows)):
        raise ValueError(f"windows must keep {min(missing)}: a model can grow only")
    if induction not in (None, contexts.induction) and contexts.induction:
        raise ValueError(f"induction must stay {contexts.induction}: its window has one length")
    return Contexts.of(
        contexts.radius if radius is None else radius,
        contexts.order if order is None else order,
        contexts.windows if windows is None else windows,
        contexts.induction if induction is None else induction,
        contexts.priming,
        contexts.floor,
        contexts.keys,
    )


def counted_for(
    contexts: Contexts,
    counted: CountedText,
    ids: ArrayLike | None,
    documents: ArrayLike | None,
    n_threads: int | None,
    progress: bool | None,
) -> CountedText:
    """What has been counted, in the tables of larger contexts: counted again if there are more of these.

    Parameters
    ----------
    contexts : Contexts
    counted : CountedText
    ids, documents : optional
        The text; by default that which was kept.
    n_threads : int, optional
    progress : bool, optional

    Raises
    ------
    ValueError, TypeError
        If the text is needed and was not kept, or is another one.
    """
    if contexts.n_tables == counted.contexts.n_tables:
        if ids is not None:
            counted.whole_text(ids, documents)  # another text is an error
        return counted.with_contexts(contexts)
    return counted.count_again(contexts, counted.whole_text(ids, documents), n_threads, progress)


def fill(
    grown: CountedModel,
    model: CountedModel,
    ids: ArrayLike | None,
    documents: ArrayLike | None,
    progress: bool | None,
) -> None:
    """Make a new model of larger contexts the same function as another, or, primed on its text, a better one.

    Raises
    ------
    ValueError, TypeError
        As :func:`counted_for`.
    """
    scalars = model.solution.primed_scalars()
    before, after = model.contexts.settings(), grown.contexts.settings()
    changed = {name: value for name, value in after.items() if value != before[name]}
    began = time.perf_counter()
    counted = counted_for(grown.contexts, model.counted, ids, documents, model.n_threads, progress)
    grown.limits = model.limits
    grown._start_afresh(model.n_threads, counted)
    grown.seconds.update(model.seconds)
    grown.seconds["count"] += time.perf_counter() - began
    grown.growth = [dict(record) for record in model.growth]
    solution = grown.solution
    solution.share = model.solution.share
    solution.bounds, solution.outdated = model.solution.bounds, model.solution.outdated
    solution.scalars = with_new_columns(scalars, model.contexts, grown.contexts)
    if changed:
        record: dict[str, Any] = {"kind": "contexts", **changed}
        if ids is not None:
            record["losses"] = solution.prime_if_better(progress)
        grown.growth.append(record)


def with_new_columns(scalars: Float64, before: Contexts, after: Contexts) -> Float64:
    """Scalars in the order of other contexts; those of contexts that were not there before are zero."""
    own, columns = before.columns, after.columns
    found = np.zeros((len(scalars), len(columns)))
    for j, name in enumerate(columns):
        if name in own and not (name == "induction" and not before.induction):
            found[:, j] = scalars[:, own.index(name)]
    return found
