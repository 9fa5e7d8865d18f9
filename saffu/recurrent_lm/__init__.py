"""A recurrent language model trained by backpropagation, whose embeddings start from co-occurrence counts.

Imports saffu.utils, saffu.text, saffu.training and saffu.explicit. Read ``network.py`` first: it is the network as
functions of its arrays.
"""

from saffu.recurrent_lm.model import RecurrentLM

__all__ = ["RecurrentLM"]
