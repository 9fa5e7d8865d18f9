"""SoftmaxLayer and ExplicitNetwork: classifiers of rows, solved without backpropagation.

May import ``saffu.utils``, ``saffu.explicit`` and ``saffu.training``. Read ``softmax_layer.py`` first, then
``network.py``.
"""
