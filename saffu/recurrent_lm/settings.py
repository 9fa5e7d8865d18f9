"""The settings of RecurrentLM that follow from a text and from the time there is: widths, dropout and streams.

Rules of thumb, in one place. The width grows with the cube root of the text; cells are twice as many where there is
time for many epochs; dropout grows with the number of epochs, as each is one more chance to memorise the text.
"""

from __future__ import annotations

import time
from typing import NamedTuple

import numpy as np

from saffu.utils.threads import Workers, one_blas_thread

STARTS = ("explicit", "random")
EPOCHS = 4  # where neither epochs nor a budget is given
WIDTHS = (32, 64, 96, 128, 192, 256, 320, 448, 640)
WIDTH_OF_A_MILLION = 320
FEWEST_EPOCHS = 1.0  # that a width must leave time for
MANY_EPOCHS = 6.0  # from which on there are twice as many cells
DROPOUTS = ((1.5, 0.1), (3.0, 0.2), (6.0, 0.3), (12.0, 0.4))  # below so many epochs
MOST_DROPOUT = 0.5
STREAMS, STEPS = 32, 35  # read side by side in training, and tokens between cuts of the gradient
STEPS_OF_AN_EPOCH = 200  # at least, where there are streams to spare
EFFICIENCY = 0.75  # of training beside a large product


class Sizes(NamedTuple):
    """Widths of the outputs of a layer and of its cells, and how many layers."""

    dim: int
    cells: int
    layers: int


def flops_of_token(vocab_size: int, sizes: Sizes) -> float:
    """Arithmetic of a step of training for each token: three products with every weight."""
    dim, cells, layers = sizes
    return 6.0 * (vocab_size * dim + layers * (8 * dim * cells + (dim * cells if cells != dim else 0)))


def width_of(n_tokens: int) -> int:
    """The width that suits a text of so many tokens.

    Examples
    --------
    >>> width_of(1_000_000), width_of(10_000)
    (320, 64)
    """
    ideal = WIDTH_OF_A_MILLION * (n_tokens / 1e6) ** (1 / 3)
    return min(WIDTHS, key=lambda width: abs(width - ideal))


def chosen_sizes(
    n_tokens: int, vocab_size: int, dim: int | None, cells: int | None, layers: int, flops: float
) -> Sizes:
    """Widths for a text, given the arithmetic that there is time for; what is given stays."""

    def epochs(sizes: Sizes) -> float:
        return flops / (max(n_tokens, 1) * flops_of_token(vocab_size, sizes))

    def with_cells(width: int) -> Sizes:
        wide = Sizes(width, 2 * width, layers)
        return wide if epochs(wide) >= MANY_EPOCHS else Sizes(width, width, layers)

    if dim is None:
        widths = [width for width in WIDTHS if width <= width_of(n_tokens)]
        fit = [width for width in widths if epochs(Sizes(width, cells or width, layers)) >= FEWEST_EPOCHS]
        dim = max(fit, default=WIDTHS[0])
    return Sizes(dim, cells, layers) if cells is not None else with_cells(dim)


def flops_of_epochs(n_tokens: int, vocab_size: int, dim: int | None, layers: int, epochs: float) -> float:
    """Arithmetic of so many epochs at the width that suits the text, its cells as many as make them affordable."""
    width = dim or width_of(n_tokens)
    doubled = Sizes(width, 2 * width, layers) if epochs >= MANY_EPOCHS else Sizes(width, width, layers)
    return 1.0001 * epochs * max(n_tokens, 1) * flops_of_token(vocab_size, doubled)


def dropout_of(epochs: float) -> float:
    """Little for a text that is read about once, more the more often it is read."""
    return next((dropout for limit, dropout in DROPOUTS if epochs < limit), MOST_DROPOUT)


def streams_of(n_tokens: int) -> int:
    """How many streams are read side by side: fewer in short texts, so that an epoch has steps enough."""
    fit = n_tokens // (STEPS_OF_AN_EPOCH * STEPS)
    return STREAMS if fit >= STREAMS else min(max(fit, 1), 16)


def speed(workers: Workers) -> float:
    """Arithmetic that training does in a second here, as far as large products tell."""
    A, B = np.ones((560, 320), np.float32), np.ones((320, 2048), np.float32)
    n = 2 * workers.n_threads
    with one_blas_thread():
        workers.map(lambda _: A @ B, range(n))
        began = time.perf_counter()
        workers.map(lambda _: A @ B, range(n))
        seconds = time.perf_counter() - began
    return EFFICIENCY * n * 2.0 * A.size * B.shape[1] / max(seconds, 1e-6)
