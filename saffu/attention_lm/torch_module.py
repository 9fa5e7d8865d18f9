"""SaffuLM as a torch module; needs the extra ``torch``. Its equations are in ``units.py``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from saffu.attention_lm.contexts import SEGMENT
from saffu.attention_lm.units import EMBEDDINGS, Parameters, Unit
from saffu.ngram_lm.torch_module import LogProbs
from saffu.utils.torch_tensors import Tensor, array_of, parameter_of, torch

if TYPE_CHECKING:
    from saffu.attention_lm.model import SaffuLM as Model

UNSEEN = -1e30  # logit of a place where there is no token; finite, so that no row is NaN
PARTS = ("attention", "attention_bias", "weights", "bias")


class UnitModule(torch.nn.Module):
    """One unit; parameters by their parts' names."""

    attention: Tensor
    attention_bias: Tensor
    weights: Tensor
    bias: Tensor

    def __init__(self, unit: Unit, parameters: Parameters, span: int, **how: Any) -> None:
        super().__init__()
        self.unit, self.span = unit, span
        for part in PARTS:
            if f"{unit.name}.{part}" in parameters:
                setattr(self, part, parameter_of(parameters[f"{unit.name}.{part}"], **how))

    def forward(self, source: Tensor, n_positions: int) -> Tensor:
        """Hidden states (B, P, hidden) of positions 0 .. P - 1, from the tokens' embeddings or the states below."""
        positions = torch.arange(n_positions, device=source.device)
        z = self._means(source, positions) if self.unit.context == "document" else self._attended(source, positions)
        return torch.softmax(z @ self.weights + self.bias, -1)

    def _attended(self, source: Tensor, positions: Tensor) -> Tensor:
        """``softmax(s W + w) X`` over the window of each position; zero where it is empty."""
        size = self.unit.size
        newest = positions - int(self.unit.layer == 0)  # a position sees the tokens before it, and states up to its own
        k = torch.arange(size, device=source.device)
        if self.unit.context == "radial":
            length = (newest + 1).clamp(max=size)
            at = newest[:, None] - k
        else:
            length = torch.where(newest >= 0, newest % size + 1, 0)
            at = (newest - length + 1)[:, None] + k
        there = k < length[:, None]
        seen = source[:, at.clamp(0, source.shape[1] - 1)]
        s = (seen @ source[:, newest.clamp(min=0), :, None])[..., 0] * there
        a = torch.softmax((s @ self.attention + self.attention_bias).masked_fill(~there, UNSEEN), -1) * there
        return (a[..., None, :] @ seen)[..., 0, :]

    def _means(self, source: Tensor, positions: Tensor) -> Tensor:
        """Means of the embeddings of the document so far."""
        sums = torch.nn.functional.pad(source.double().cumsum(1), (0, 0, 1, 0))
        first = (positions - positions % SEGMENT - self.span).clamp(min=0)
        means = (sums[:, positions] - sums[:, first]) / (positions - first).clamp(min=1)[:, None]
        return means.to(source.dtype)


class SaffuLM(torch.nn.Module):
    """:class:`saffu.SaffuLM` in torch: it gives logits of what follows each place of some documents.

    Parameters
    ----------
    model : saffu.SaffuLM
        A solved model.
    dtype : torch.dtype, optional
        Of the parameters; by default torch's own, float32 unless it was set.
    copy : bool
        False leaves parameters where the model has them, if they are of that dtype: for prediction only, since a step
        of training would change both.

    Attributes
    ----------
    source : saffu.SaffuLM
        ``model``.
    residual : saffu.torch.LogProbs or None
        The residual base, which has no gradients.

    Notes
    -----
    The residual base counts text that it is trained on as known; :meth:`saffu.SaffuLM.refine` leaves each text out of
    the counts, this module does not. So train it on text that the base has not counted.

    Examples
    --------
    >>> import saffu
    >>> module = SaffuLM(saffu.SaffuLM(bits=3, radius=2, hidden=4).fit([0, 1, 2] * 50))
    >>> module(torch.tensor([[0, 1, 2]])).argmax(-1)
    tensor([[1, 2, 0]])
    """

    of_word: Tensor | None

    def __init__(self, model: Model, *, dtype: torch.dtype | None = None, copy: bool = True) -> None:
        super().__init__()
        solution, network = model._fitted, model._network
        how: dict[str, Any] = {"dtype": dtype, "copy": copy}
        parameters = solution.parameters
        self.source = model
        self.embeddings = parameter_of(parameters[EMBEDDINGS], **how)
        self.units = torch.nn.ModuleList(UnitModule(unit, parameters, network.span, **how) for unit in network.units)
        self.output = parameter_of(parameters["output.weights"], **how)
        self.output_bias = parameter_of(parameters["output.bias"], **how)
        classes = solution.output_classes
        self.register_buffer("of_word", None if classes is None else torch.from_numpy(classes.of_word.astype("int64")))
        self.residual = None if model.residual is None else LogProbs(model.residual, dtype=self.output.dtype)

    def forward(self, ids: Tensor) -> Tensor:
        """Logits of what follows each place of some documents.

        Parameters
        ----------
        ids : Tensor of int, shape (B, T)
            Rows that begin with the beginning of a document. -1, which fills the ends of short rows, is passed over,
            and so is V, which may stand before the first token as what precedes it.

        Returns
        -------
        Tensor, shape (B, T, V)
            At each place, of the token that follows all of the row up to that place.
        """
        n_types, n_places = len(self.embeddings), ids.shape[1]
        if n_places == 0:
            return self.output.new_empty(*ids.shape, n_types)
        kept = (ids >= 0) & (ids < n_types)
        tokens = ids.gather(1, torch.argsort(~kept, dim=1, stable=True)).clamp(0, n_types - 1)
        states = self._states(torch.softmax(self.embeddings, 1)[tokens], n_places + 1)
        states = states.gather(1, kept.cumsum(1)[..., None].expand(-1, -1, states.shape[2]))
        logits = states @ self.output.T + self.output_bias
        if self.of_word is not None:
            logits = logits[..., self.of_word]
        return logits if self.residual is None else logits + self.residual(ids)

    def _states(self, embedded: Tensor, n_positions: int) -> Tensor:
        """Hidden states of all units, side by side, (B, P, H)."""
        found: list[Tensor] = []
        source, layer, below = embedded, 0, 0
        for module in self.units:
            assert isinstance(module, UnitModule)
            if module.unit.layer != layer:
                own = found[below:]
                source, layer, below = torch.cat(own, -1) / len(own), module.unit.layer, len(found)
            found.append(module(source, n_positions))
        return torch.cat(found, -1)

    def to_model(self) -> Model:
        """A language model with copies of these parameters; all else is that of ``source``."""
        values: Parameters = {
            EMBEDDINGS: array_of(self.embeddings),
            "output.weights": array_of(self.output),
            "output.bias": array_of(self.output_bias),
        }
        for module in self.units:
            assert isinstance(module, UnitModule)
            values |= {f"{module.unit.name}.{part}": array_of(value) for part, value in module.named_parameters()}
        return self.source._with_parameters(values, [])
