"""Figures of models, drawn by matplotlib, which the extra ``plot`` installs and which is imported when one is drawn.

Every function draws on the axes that it is given, or on those of a new figure, and returns them. What is drawn is all
there: nothing is shown or written, so ``ax.figure.savefig(path)`` or a notebook does the rest. May import every model.
Read ``language_models.py`` first.
"""

from saffu.plot.confusion import confusion_matrix
from saffu.plot.embeddings import neighbours
from saffu.plot.images import patches
from saffu.plot.language_models import attention, priming_scalars, surprisal
from saffu.plot.learning import learning_curves
from saffu.plot.reliability import ReliabilityDisplay

__all__ = [
    "ReliabilityDisplay",
    "attention",
    "confusion_matrix",
    "learning_curves",
    "neighbours",
    "patches",
    "priming_scalars",
    "surprisal",
]
