"""Figures of language models: their scalars, what they attend to, and how surprised they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike

from saffu.attention_lm import SaffuLM
from saffu.attention_lm import scoring as attention_lm_scoring
from saffu.plot.axes import MOST_TICKS, axes_or_new, ids_and_tokens, label_tokens
from saffu.text import Vocabulary
from saffu.transformer import Transformer
from saffu.transformer import scoring as transformer_scoring
from saffu.utils import validate
from saffu.utils.language_model import LanguageModel
from saffu.utils.streams import TokenStream

LN2 = float(np.log(2))


class WithScalars(Protocol):
    """A model with primed scalars: :class:`saffu.ExplicitLM`, :class:`saffu.BackoffLM` made of one."""

    @property
    def scalars(self) -> Mapping[str, Sequence[float]]:
        """The scalars of each feature, one for each state of a context."""
        ...


def priming_scalars(model: WithScalars, *, ax: Any = None) -> Any:
    """Draw the scalars of a language model: a row for each feature, a column for each state of a context.

    Parameters
    ----------
    model : ExplicitLM
        A primed one. States 2 j + 1 and 2 j + 2 are those of contexts whose longest known suffix has j + 1 tokens,
        seen seldom or often.
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes

    Examples
    --------
    >>> import saffu
    >>> model = saffu.ExplicitLM(order=3, windows=(), induction=0).fit([2, 3, 4, 2, 3, 5] * 50)
    >>> axes = priming_scalars(model)
    >>> axes.get_xlabel()
    'state of the context'
    """
    scalars = model.scalars
    table = np.full((len(scalars), max(map(len, scalars.values()), default=0)), np.nan)
    for row, values in zip(table, scalars.values(), strict=True):
        row[: len(values)] = values
    ax = axes_or_new(ax, 2.5 + 0.7 * table.shape[1], 1 + 0.32 * len(table))
    most = float(np.nanmax(np.abs(table), initial=1e-9))
    image = ax.imshow(table, cmap="RdBu_r", vmin=-most, vmax=most, aspect="auto")
    for (row, column), value in np.ndenumerate(table):
        if np.isfinite(value):
            dark = abs(value) > 0.6 * most
            ax.text(column, row, f"{value:.2f}", ha="center", va="center", color="white" if dark else "black")
    ax.set_yticks(range(len(scalars)), list(scalars))
    ax.set_xticks(range(table.shape[1]), [str(state + 1) for state in range(table.shape[1])])
    ax.set(xlabel="state of the context", title="priming scalars")
    ax.figure.colorbar(image, ax=ax, label="scalar")
    return ax


def surprisal(
    model: LanguageModel, text: str | ArrayLike, *, vocabulary: Vocabulary | None = None, ax: Any = None
) -> Any:
    """Draw how surprising each token of a sentence is to a language model, and how uncertain it was before.

    Parameters
    ----------
    model : language model
    text : str or array_like of int, shape (M,)
        One document, as text for a model with a vocabulary, or as ids.
    vocabulary : saffu.text.Vocabulary, optional
        By default that of the model.
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes
        A bar for each token, ``-log2 p`` in bits, and a line: the entropy of the distribution that it is drawn from.

    Raises
    ------
    ValueError, TypeError
        If there is no token, ids are out of range, or text is given and there is no vocabulary.

    Examples
    --------
    >>> import saffu
    >>> axes = surprisal(saffu.ExplicitLM(order=2).fit([2, 3, 4, 2, 3, 5] * 50), [2, 3, 5])
    >>> [bool(bar.get_height() > 0) for bar in axes.patches]
    [True, True, True]
    """
    ids, tokens = ids_and_tokens(text, vocabulary or getattr(model, "vocabulary", None))
    bits, logs = -model.log_prob(ids) / LN2, model.log_probs(ids, np.arange(ids.size))
    entropy = -np.einsum("tv,tv->t", np.exp(logs), np.maximum(logs, -1e300)) / LN2
    ax = axes_or_new(ax, max(4.0, 1 + 0.45 * ids.size), 3)
    ax.bar(range(ids.size), bits, color="tab:blue", label="surprisal")
    ax.plot(range(ids.size), entropy, "o-", color="tab:orange", label="entropy")
    label_tokens(ax.xaxis, tokens, 45)
    ax.set(ylabel="bits", title=f"{bits.mean():.2f} bits a token")
    ax.legend()
    return ax


def attention(
    model: SaffuLM | Transformer,
    text: str | ArrayLike,
    *,
    unit: str | None = None,
    vocabulary: Vocabulary | None = None,
    ax: Any = None,
) -> Any:
    """Draw what a unit or a head attends to: a row for each position, a column for each token.

    Parameters
    ----------
    model : SaffuLM or Transformer
    text : str or array_like of int, shape (M,)
        One document, as text for a model with a vocabulary, or as ids.
    unit : str, optional
        Name of a unit of SaffuLM, such as ``"radial1"``, or of a head of a transformer, such as ``"layer1.head1"``; by
        default the first one.
    vocabulary : saffu.text.Vocabulary, optional
        By default that of the model.
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ValueError, TypeError
        If there is no such unit, there is no token, or ids are out of range.

    Examples
    --------
    >>> import saffu
    >>> axes = attention(saffu.Transformer(9, hidden=8, heads=2), [3, 1, 4])
    >>> axes.get_title()
    'attention of layer1.head1'
    """
    ids, tokens = ids_and_tokens(text, vocabulary or getattr(model, "vocabulary", None))
    module = transformer_scoring if isinstance(model, Transformer) else attention_lm_scoring
    tables = module.attention(model, TokenStream.of(ids, None, model.vocab_size))
    if not tables:
        raise ValueError("model must have units that attend to tokens, got one without")
    name = validate.choice(unit or next(iter(tables)), "unit", tuple(tables))
    side = max(3.5, 1.5 + 0.25 * min(ids.size, MOST_TICKS))
    ax = axes_or_new(ax, side + 0.8, side)
    image = ax.imshow(tables[name], cmap="viridis", vmin=0, vmax=1)
    label_tokens(ax.xaxis, tokens, 90)
    label_tokens(ax.yaxis, tokens, 0)
    ax.set(xlabel="token attended to", ylabel="newest token", title=f"attention of {name}")
    ax.figure.colorbar(image, ax=ax, label="share")
    return ax
