"""Growth of real checkpoints: decoders of several families, enlarged so that they compute exactly what they did.

May import ``saffu.utils`` and ``saffu.transformer``. Imports torch, transformers and safetensors only where a function
needs them. Read ``roles.py`` first, then ``scales.py``, which derives why growth is exact.
"""
