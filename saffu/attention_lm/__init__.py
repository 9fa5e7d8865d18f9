"""SaffuLM: language models of self-attentive units, solved from the bottom up.

May import every package above it: ``saffu.utils``, ``saffu.text``, ``saffu.explicit``, ``saffu.training``,
``saffu.ngram_lm`` and ``saffu.classifier``. Read ``model.py`` first, then ``solver.py``.
"""
