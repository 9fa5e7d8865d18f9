"""Transformer: a small reference transformer, and the six expansions that enlarge one without changing its function.

May import ``saffu.utils``, ``saffu.text``, ``saffu.explicit`` and ``saffu.training``. Read ``model.py`` first, then
``functional.py`` for the equations and ``expansions.py`` for growth.
"""

from saffu.transformer.model import Transformer
from saffu.transformer.prototypes import Prototypes
from saffu.transformer.sizes import LayerSizes

__all__ = ["LayerSizes", "Prototypes", "Transformer"]
