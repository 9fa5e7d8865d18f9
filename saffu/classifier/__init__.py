"""SoftmaxLayer and ExplicitNetwork, classifiers of rows with non-negative features, and ExplicitTextClassifier.

All are solved without backpropagation. May import ``saffu.utils``, ``saffu.text``, ``saffu.explicit`` and
``saffu.training``. Read ``softmax_layer.py`` first, then ``estimator.py`` (the interface that the first two share with
scikit-learn) and ``network.py``; of texts ``text_classifier.py``, then ``text_counts.py`` and ``text_solution.py``.
"""

from saffu.classifier.network import ExplicitNetwork
from saffu.classifier.softmax_layer import SoftmaxLayer
from saffu.classifier.text_classifier import ExplicitTextClassifier

__all__ = ["ExplicitNetwork", "ExplicitTextClassifier", "SoftmaxLayer"]
