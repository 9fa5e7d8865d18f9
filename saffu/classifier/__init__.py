"""SoftmaxLayer and ExplicitNetwork: classifiers of rows with non-negative features, solved without backpropagation.

May import ``saffu.utils``, ``saffu.explicit`` and ``saffu.training``. Read ``softmax_layer.py`` first, then
``estimator.py`` (the interface that both share with scikit-learn) and ``network.py``.
"""

from saffu.classifier.network import ExplicitNetwork
from saffu.classifier.softmax_layer import SoftmaxLayer

__all__ = ["ExplicitNetwork", "SoftmaxLayer"]
