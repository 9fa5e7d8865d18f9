"""Refinement: minibatch Adam from where counting ended."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from saffu.training.losses import TrainingData
from saffu.training.options import Options
from saffu.training.protocols import Model
from saffu.training.run import Run
from saffu.utils.progress import progress_bar
from saffu.utils.threads import resolve_threads


def refine(
    model: Model,
    X: Any,
    y: ArrayLike,
    *,
    epochs: int = 8,
    validation: float | tuple[Any, ArrayLike] | None = None,
    seed: int = 0,
    progress: bool | None = None,
    **options: Any,
) -> Model:
    """Improve a model by backpropagation by minibatch Adam, whose step size decays to zero.

    Parameters
    ----------
    model : SoftmaxLayer or another model that can be refined
        Where to start; it stays as it is.
    X : array_like or sparse matrix, shape (M, D)
        Features, as the model takes them. They may be the rows that it was counted from, or others. float32 is the
        faster choice.
    y : array_like of int, shape (M,)
        Labels that the model knows.
    epochs : int
        Passes over the rows.
    validation : float or (X, y), optional
        A share in (0, 1) of the rows, held out by the seed, or other rows.
    seed : int
        Of the order of rows, the held-out share and the dropout.
    progress : bool, optional
        Whether to show a bar on a terminal; by default if the work takes longer than half a second.
    batch_size : int
        Rows in a step, 128 by default.
    learning_rate : float or mapping of str to float
        Largest step size of Adam, 0.003 by default; a mapping gives it by layer (``"hidden0"``) or parameter
        (``"hidden0.weights"``, which goes first), and what it does not name takes 0.003. It decays by a cosine over
        all steps, to zero.
    freeze : str or iterable of str
        Layers or parameters that do not move.
    patience : int, optional
        Stop after so many epochs without a new best one.
    soften : float
        The logits of hidden layers are multiplied by it at the start, by default by 0.7: those of a primed softmax are
        nearly saturated, and pass little gradient. Only weights that follow from counts are softened; a random start
        and a model refined before begin as they are.
    dropout : float
        Probability, in [0, 1), that an input feature is zeroed in training, 0 by default; the others are scaled up.
    callback : callable, optional
        Called with a :class:`saffu.training.run.Epoch` after every epoch; returning True ends the refinement.
    checkpoint : str or path, optional
        After every epoch the whole state is written here. Calling again with the same arguments goes on from
        there, and ends with the same bits as one uninterrupted call.
    n_threads : int, optional
        By default every available CPU. The result does not depend on it. Dense products use the threads of BLAS.

    Returns
    -------
    model
        A refined model of the same class. Its ``history`` lists a record for the given model (epoch 0) and for each
        epoch: ``epoch``, ``seconds``, ``training_loss`` (on a sample of at most 10,000 rows) and ``validation_loss``.
        Its attribute ``interrupted`` tells whether Ctrl-C ended it before its time; the best epoch so far is returned
        then. (It is False for every other model, and not saved.)

    Raises
    ------
    ValueError, TypeError
        If the rows do not fit the model, a label, layer or option is unknown, a number is out of its range, or the
        checkpoint was written by a call with other arguments.

    Warns
    -----
    RuntimeWarning
        If Ctrl-C ended it (the best model so far is returned), or if the loss became infinite or NaN.

    Notes
    -----
    The best epoch is returned: by validation loss, else by the loss of the sample. The given model takes part. On
    all training rows the loss of the result is never above that of the given model: that is checked at the end, and
    if need be the given parameters are returned.

    Kernel ``saffu_adam``.

    Examples
    --------
    >>> import saffu
    >>> X, y = [[3.0, 0.0], [2.0, 1.0], [0.0, 2.0], [1.0, 3.0]], [7, 7, 9, 9]
    >>> refined = refine(saffu.SoftmaxLayer().fit(X, y), X, y, epochs=2)
    >>> [record["epoch"] for record in refined.history]
    [0, 1, 2]
    """
    chosen = Options.of(epochs=epochs, seed=seed, **options)
    data = TrainingData(model, X, y, validation, chosen.seed, resolve_threads(chosen.n_threads))
    run = Run(model, data, chosen)
    try:
        # A divergence shows in the loss after the epoch and is reported there, once.
        with (
            progress_bar(chosen.epochs * run.steps_per_epoch, "refine", progress) as bar,
            np.errstate(over="ignore", invalid="ignore"),
        ):
            run.train(chosen.callback, bar.update)
        return run.result()
    except KeyboardInterrupt:
        best = run.result()
    best.interrupted = True
    message = f"interrupted after epoch {len(run.history) - 1} of {chosen.epochs}: the best model so far is returned"
    warnings.warn(message, RuntimeWarning, stacklevel=2)
    return best
