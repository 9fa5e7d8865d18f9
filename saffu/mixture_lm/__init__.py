"""MixtureLM: language models mixed in probability.

May import ``saffu.utils``, ``saffu.text``, ``saffu.ngram_lm`` and ``saffu.recurrent_lm``; experts of any other kind
come as objects. Read ``model.py`` first, then ``mixing_weights.py``, which fits the weights; ``experts.py`` says what
an expert is, ``held_out.py`` which text the weights are fitted on, and ``budgeted_training.py`` trains a counted and a
neural expert within a given time.

Other packages may use the names below.
"""

from saffu.mixture_lm.budgeted_training import train_within
from saffu.mixture_lm.model import MixtureLM
from saffu.mixture_lm.time_budget import TimeBudget

__all__ = ["MixtureLM", "TimeBudget", "train_within"]
