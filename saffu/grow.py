"""Growth that keeps the function: the six expansions of transformers, by Gesmundo and Maile (arXiv 2308.06103).

See :mod:`saffu.transformer.expansions` for their equations, and :meth:`saffu.Transformer.grow` for all of them at once.
"""

from saffu.transformer.expansions import add_heads, add_layer, head_dim, hidden, key_dim, mlp

__all__ = ["add_heads", "add_layer", "head_dim", "hidden", "key_dim", "mlp"]
