"""saffu's models in torch, and torch's softmax heads solved by counting; the extra ``torch`` installs what it needs.

:func:`warm_start_` solves the last layer of a network of yours; :func:`to_module` and :func:`from_module` carry models
over and back; :class:`LogProbs` gives what a counted language model knows to a network, which stands on it
(:class:`OnBase`), beside it (:class:`Mixture`), or is corrected by it while it generates (:func:`logits_processor`).
"""

from __future__ import annotations

from typing import Any

import saffu
from saffu.attention_lm.torch_module import SaffuLM
from saffu.classifier.torch_module import ExplicitNetwork, SoftmaxLayer
from saffu.classifier.torch_warm_start import warm_start_
from saffu.ngram_lm.torch_generation import logits_processor
from saffu.ngram_lm.torch_module import LogProbs, Mixture, OnBase
from saffu.patches.torch_module import ExplicitConvNet, PatchEncoder
from saffu.transformer.torch_module import Transformer
from saffu.utils.torch_tensors import torch

__all__ = [
    "ExplicitConvNet",
    "ExplicitNetwork",
    "LogProbs",
    "Mixture",
    "OnBase",
    "PatchEncoder",
    "SaffuLM",
    "SoftmaxLayer",
    "Transformer",
    "from_module",
    "logits_processor",
    "to_module",
    "warm_start_",
]

MODULES: dict[type, Any] = {
    saffu.SoftmaxLayer: SoftmaxLayer,
    saffu.ExplicitNetwork: ExplicitNetwork,
    saffu.PatchEncoder: PatchEncoder,
    saffu.ExplicitConvNet: ExplicitConvNet,
    saffu.SaffuLM: SaffuLM,
    saffu.Transformer: Transformer.of,
    saffu.ExplicitLM: LogProbs,
    saffu.BackoffLM: LogProbs,
}
CLASSIFIERS = (SoftmaxLayer, ExplicitNetwork, PatchEncoder, ExplicitConvNet)


def to_module(model: Any, *, dtype: torch.dtype | None = None, copy: bool = True) -> torch.nn.Module:
    """A model as a torch module of the same function, with gradients wherever it has weights.

    Parameters
    ----------
    model : SoftmaxLayer, ExplicitNetwork, PatchEncoder, ExplicitConvNet, SaffuLM, Transformer, ExplicitLM or BackoffLM
        With a solution. What the module takes and gives is described by its class here, which has the name of the
        model's; of models that are counts alone it is :class:`LogProbs`.
    dtype : torch.dtype, optional
        Of the parameters; by default torch's own, float32 unless it was set.
    copy : bool
        False leaves parameters where the model has them, if they are of that dtype: for prediction only, since a step
        of training would change both.

    Raises
    ------
    TypeError
        If it is no such model.
    ValueError
        If it has no solution yet.

    Examples
    --------
    >>> import saffu
    >>> layer = saffu.SoftmaxLayer().fit([[3.0, 0.0], [2.0, 1.0], [0.0, 2.0]], [0, 0, 1])
    >>> module = to_module(layer)
    >>> module(torch.tensor([[4.0, 1.0]])).argmax(1)
    tensor([0])
    """
    for kind, module in MODULES.items():
        if isinstance(model, kind):
            made: torch.nn.Module = module(model, dtype=dtype, copy=copy)
            return made
    known = ", ".join(kind.__name__ for kind in MODULES)
    raise TypeError(f"model must be one of {known}, got {type(model).__name__}")


def from_module(module: torch.nn.Module) -> Any:
    """A module of :func:`to_module` as a model again, with copies of the parameters as they are now.

    What gradients do not change, such as classes, counts and vocabulary, is that of the model it was made of. As after
    :func:`saffu.refine`, a model whose weights do not follow from its counts counts no further.

    Raises
    ------
    TypeError
        If it is no such module.

    Examples
    --------
    >>> import saffu
    >>> layer = saffu.SoftmaxLayer().fit([[3.0, 0.0], [2.0, 1.0], [0.0, 2.0]], ["ham", "ham", "spam"])
    >>> module = to_module(layer)
    >>> with torch.no_grad():
    ...     module.bias += torch.tensor([0.0, 9.0])
    >>> from_module(module).predict([[4.0, 1.0]])
    array(['spam'], dtype='<U4')
    """
    if not isinstance(module, (*CLASSIFIERS, SaffuLM, Transformer, LogProbs)):
        raise TypeError(f"module must be one that to_module makes, got {type(module).__name__}")
    return module.to_model()
