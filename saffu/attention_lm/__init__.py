"""SaffuLM: language models of self-attentive units, solved from the bottom up.

May import every package above it: ``saffu.utils``, ``saffu.text``, ``saffu.explicit``, ``saffu.training``,
``saffu.ngram_lm`` and ``saffu.classifier``. Read ``model.py`` first, then ``solver.py``; ``units.py`` has the equations
of the network, and ``sufficient_statistics.py`` what its weights follow from.

Other packages may use the names below: the model, the table of its defaults, what contexts there are and how their
names are read, and the solution of many models of one text.
"""

from saffu.attention_lm.contexts import CONTEXTS, parse_contexts
from saffu.attention_lm.model import SaffuLM
from saffu.attention_lm.settings import DEFAULTS, Settings
from saffu.attention_lm.shared_counts import SharedCounts
from saffu.attention_lm.solver import fit_shared

__all__ = ["CONTEXTS", "DEFAULTS", "SaffuLM", "Settings", "SharedCounts", "fit_shared", "parse_contexts"]
