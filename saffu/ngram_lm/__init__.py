"""ExplicitLM: a language model counted in one pass, whose contexts are weighted by a convex fit of a few scalars.

May import ``saffu.utils``, ``saffu.text``, ``saffu.explicit`` and ``saffu.training``. Read ``model.py`` first, then
``counts.py`` (what is counted), ``weights.py`` (the logarithms) and ``priming.py`` (the scalars).
"""
