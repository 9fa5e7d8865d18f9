"""Local softmax units on patches of images and signals: PatchEncoder, and ExplicitConvNet, a classifier on them.

A convolutional layer that is solved by counting: EM finds the units, whose M-step is the explicit solution of a softmax
layer; responsibilities pooled over cells are the features of a classifier. May import ``saffu.utils``,
``saffu.explicit``, ``saffu.training`` and ``saffu.classifier``. Read ``patch_encoder.py`` first, then
``patch_em.py``; of the classifier ``convnet.py``, then ``softmax_ridge.py`` and ``heads.py``.
"""

from saffu.patches.convnet import ExplicitConvNet
from saffu.patches.patch_encoder import PatchEncoder

__all__ = ["ExplicitConvNet", "PatchEncoder"]
