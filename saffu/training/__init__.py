"""Backpropagation for what has been solved: minibatch Adam on any model that gives its loss and gradients.

May import ``saffu.utils``. Read ``refinement.py`` first, then ``protocols.py`` for what it asks of a model.
"""

from saffu.training.initialization import random_start
from saffu.training.options import LEARNING_RATE
from saffu.training.refinement import refine
from saffu.training.run import Epoch

__all__ = ["LEARNING_RATE", "Epoch", "random_start", "refine"]
