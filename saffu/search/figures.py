"""Figures, drawn by matplotlib, which the extra ``plot`` installs and which is imported only when one is drawn."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np

from saffu.utils.arrays import Float64, Int64

COLOURS = ("tab:blue", "tab:orange", "tab:green", "tab:purple")
Front = Callable[[Float64, Float64], Int64]


class Series(NamedTuple):
    """Models that are drawn alike.

    Attributes
    ----------
    name : str
    parameters, seconds, perplexity : ndarray of float64, shape (N,)
    refined : ndarray of float64, shape (N,)
        Perplexity after refinement, NaN where there was none.
    refined_seconds : ndarray of float64, shape (N,)
        Seconds of solving and refinement together.
    """

    name: str
    parameters: Float64
    seconds: Float64
    perplexity: Float64
    refined: Float64
    refined_seconds: Float64


def check() -> None:
    """Raise ImportError now if no figure could be drawn later; the message names the extra to install."""
    if find_spec("matplotlib") is None:
        raise ImportError("a figure needs matplotlib; pip install 'saffu[plot]' installs it")


def new_figure(width: float, height: float) -> Any:
    """Return an empty figure of so many inches, independent of any window.

    Raises
    ------
    ImportError
        If matplotlib is not installed; the message names the extra that installs it.
    """
    check()
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def png(figure: Any) -> bytes:
    """Return a figure as a PNG file."""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=150)
    return file.getvalue()


def pareto(series: Sequence[Series], unigram_perplexity: float, front: Front) -> Any:
    """Draw perplexity against parameters and against seconds, with the Pareto front of each series.

    Parameters
    ----------
    series : sequence of Series
    unigram_perplexity : float
        A line to compare with.
    front : callable
        ``front(cost, perplexity)`` returns the places of the models on the front, by ascending cost.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    """
    figure = new_figure(11, 5)
    left, right = figure.subplots(1, 2, sharey=True)
    for one, colour in zip(series, COLOURS, strict=False):
        _draw_series(left, one, one.parameters, one.parameters, front, colour)
        _draw_series(right, one, one.seconds, one.refined_seconds, front, colour)
    for axes, label in ((left, "parameters"), (right, "seconds to solve (and to refine)")):
        axes.axhline(unigram_perplexity, color="grey", linestyle=":", label="unigram")
        axes.set(xscale="log", yscale="log", xlabel=label)
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter("{x:g}")
        axes.grid(alpha=0.3)
    left.set_ylabel("held-out perplexity")
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


def _draw_series(axes: Any, one: Series, cost: Float64, refined_cost: Float64, front: Front, colour: str) -> None:
    axes.scatter(cost, one.perplexity, s=12, alpha=0.5, color=colour, label=one.name)
    best = front(cost, one.perplexity)
    axes.step(cost[best], one.perplexity[best], where="post", color=colour, label=f"{one.name}, Pareto front")
    done = np.isfinite(one.refined)
    if done.any():
        ways = np.stack([cost, refined_cost])[:, done], np.stack([one.perplexity, one.refined])[:, done]
        axes.plot(*ways, color=colour, linewidth=0.8)
        axes.plot(refined_cost[done], one.refined[done], "*", markersize=9, color=colour, label=f"{one.name}, refined")
