"""Figures of refinements: how losses fall."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from saffu.plot.axes import axes_or_new
from saffu.utils import validate


def learning_curves(models: Any, *, over: str = "epoch", ax: Any = None) -> Any:
    """Draw the losses of refinements, epoch by epoch.

    Parameters
    ----------
    models : refined model, its history, or a mapping of names to these
        A history is a list of records with ``epoch``, ``seconds``, ``training_loss`` and ``validation_loss``.
    over : {"epoch", "seconds"}
        What the losses are drawn over.
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes
        A dashed line for the training loss, and a solid one for the validation loss where there is one.

    Raises
    ------
    ValueError, TypeError
        If a model was not refined, or ``over`` is unknown.

    Examples
    --------
    >>> import saffu
    >>> X, y = [[3.0, 0.0], [2.0, 1.0], [0.0, 2.0], [1.0, 3.0]], [7, 7, 9, 9]
    >>> axes = learning_curves(saffu.SoftmaxLayer().fit(X, y).refine(X, y, epochs=2))
    >>> axes.lines[0].get_xdata().tolist()
    [0, 1, 2]
    """
    validate.choice(over, "over", ("epoch", "seconds"))
    named = models if isinstance(models, Mapping) else {"": models}
    histories = {name: _history(model) for name, model in named.items()}
    ax = axes_or_new(ax, 5, 3.5)
    for number, (name, history) in enumerate(histories.items()):
        before = f"{name}, " if name else ""
        for key, line in (("training_loss", "--"), ("validation_loss", "-")):
            records = [record for record in history if record.get(key) is not None]
            if records:
                x, losses = [record[over] for record in records], [record[key] for record in records]
                ax.plot(x, losses, line, marker=".", color=f"C{number}", label=before + key.split("_")[0])
    ax.set(xlabel=over, ylabel="loss in nats")
    ax.legend()
    return ax


def _history(model: Any) -> list[dict[str, Any]]:
    history = model if isinstance(model, list) else getattr(model, "history", None)
    if not history:
        raise ValueError(f"models must have been refined, got {type(model).__name__} without a history")
    return list(history)
