"""ExplicitLM: a language model counted in one pass, whose contexts are weighted by a convex fit of a few scalars.

May import ``saffu.utils``, ``saffu.text``, ``saffu.explicit`` and ``saffu.training``. Read ``model.py`` first, then
``counts.py`` (what is counted), ``weights.py`` (the logarithms), ``priming.py`` (the scalars) and ``solution.py`` (when
each is made).
"""

from saffu.ngram_lm.backoff_lm import BackoffLM
from saffu.ngram_lm.contexts import PRIMINGS
from saffu.ngram_lm.cross_fitting import HeldOutLogits
from saffu.ngram_lm.model import ExplicitLM

__all__ = ["PRIMINGS", "BackoffLM", "ExplicitLM", "HeldOutLogits"]
