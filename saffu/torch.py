"""saffu's transformer as a torch module; the extra ``torch`` installs what it needs."""

from saffu.transformer.torch_module import Transformer

__all__ = ["Transformer"]
