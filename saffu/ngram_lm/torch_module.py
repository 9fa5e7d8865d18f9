"""Log-probabilities of a model as a torch module, under or beside other networks; needs the extra ``torch``."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from saffu.ngram_lm.counted_model import CountedModel
from saffu.utils.arrays import Array, Bools, Int32, Int64
from saffu.utils.language_model import LanguageModel
from saffu.utils.streams import TokenStream
from saffu.utils.torch_tensors import Tensor, ids_of, tensor_of, torch

DROPPED = -1  # in place of an id: there is no token


class LogProbs(torch.nn.Module):
    """A language model of saffu as a module that gives log-probabilities of tokens, without gradients.

    It is computed by the model itself, on the CPU, all rows and places of a batch at once.

    Parameters
    ----------
    model : saffu.ExplicitLM or other language model of saffu
        Of V types.
    token_ids : array_like of int, shape (U,), optional
        Where it serves a network with a vocabulary of its own, of U tokens: the id that each of them has in the model,
        or -1 for none. By default the ids are the same, and U = V.
    missing : float, optional
        Log-probability of tokens without an id in the model, nats; by default that of one of V equally likely types.
    dtype : torch.dtype, optional
        Of the result; by default torch's own, float32 unless it was set.
    copy : bool
        Without effect: nothing is copied, the module keeps ``model`` itself, and sees what it learns later.

    Attributes
    ----------
    model : language model

    Raises
    ------
    ValueError, TypeError
        If ``model`` is none, or ``token_ids`` are out of range.

    Notes
    -----
    A network trained on top of a model should read other text than that which the model has counted, on which the
    model is surer than it will ever be again; :class:`saffu.SaffuLM` leaves each text out of the counts instead.

    Examples
    --------
    >>> import saffu
    >>> module = LogProbs(saffu.ExplicitLM(order=3, windows=(), induction=0).fit([0, 1, 2] * 50))
    >>> module(torch.tensor([[0, 1, 2]])).argmax(-1)
    tensor([[1, 2, 0]])
    """

    def __init__(
        self,
        model: LanguageModel,
        *,
        token_ids: ArrayLike | None = None,
        missing: float | None = None,
        dtype: torch.dtype | None = None,
        copy: bool = True,
    ) -> None:
        super().__init__()
        if not isinstance(model, LanguageModel):
            raise TypeError(f"model must be a language model of saffu, got {type(model).__name__}")
        self.model, self.dtype = model, dtype or torch.get_default_dtype()
        self._token_ids = None if token_ids is None else _checked(token_ids, model.vocab_size)
        self.missing = -math.log(model.vocab_size) if missing is None else float(missing)

    def forward(self, ids: Tensor) -> Tensor:
        """Log-probabilities of what follows each place of some documents.

        Parameters
        ----------
        ids : Tensor of int, shape (B, T)
            Rows that begin with the beginning of a document. What has no id in the model is passed over: -1 anywhere,
            and U, which may stand before the first token as what precedes it.

        Returns
        -------
        Tensor, shape (B, T, U)
            Nats, on the device of ``ids``: at each place, of the token that follows all of the row up to that place.
        """
        rows, kept = self._read(ids)
        n_before = np.cumsum(kept, axis=1)
        lengths = n_before[:, -1] if kept.shape[1] else np.zeros(len(kept), np.int64)
        starts = np.cumsum(lengths + 1) - lengths - 1
        # One more token ends each row, so that what follows the row has a place in it.
        text = np.zeros(int((lengths + 1).sum()), np.int32)
        text[(starts[:, None] + n_before - 1)[kept]] = rows[kept]
        found = self._log_probs(text, starts, (starts[:, None] + n_before).reshape(-1))
        flat = self._result(found, ids)
        return flat.reshape(*ids.shape, flat.shape[1])

    def after(self, ids: Tensor) -> Tensor:
        """Log-probabilities of what follows each of some documents.

        Parameters
        ----------
        ids : Tensor of int, shape (B, T)
            As in :meth:`forward`.

        Returns
        -------
        Tensor, shape (B, U)
            Nats.
        """
        contexts = [row[there] for row, there in zip(*self._read(ids), strict=True)]
        if isinstance(self.model, CountedModel):
            contexts = [context[max(context.size - self.model.history, 0) :] for context in contexts]
        lengths = np.array([context.size for context in contexts], np.int64)
        ends = np.cumsum(lengths + 1) - 1
        text = np.zeros(int((lengths + 1).sum()), np.int32)  # one more token each, in whose place is what follows
        text[np.delete(np.arange(text.size), ends)] = np.concatenate([*contexts, np.empty(0, np.int32)])
        return self._result(self._log_probs(text, ends - lengths, ends), ids)

    def to_model(self) -> LanguageModel:
        """``model`` itself."""
        return self.model

    def extra_repr(self) -> str:
        """What torch shows of it."""
        return repr(self.model)

    def _read(self, ids: Tensor) -> tuple[Int32, Bools]:
        """Ids of the model (B, T), and where there is one."""
        given = ids_of(ids)
        n_tokens = self.model.vocab_size if self._token_ids is None else self._token_ids.size
        if given.size and not (given.min() >= DROPPED and given.max() <= n_tokens):
            raise ValueError(f"ids must be in [0, {n_tokens}] or -1, got {given.min()} to {given.max()}")
        if self._token_ids is None:
            return given.astype(np.int32), (given != DROPPED) & (given != n_tokens)
        rows = np.append(self._token_ids, [DROPPED]).astype(np.int32)[given]  # U and -1 are both the last
        return rows, rows != DROPPED

    def _log_probs(self, text: Int32, starts: Int64, positions: Int64) -> Array:
        if positions.size == 0:
            return np.empty((0, self.model.vocab_size))
        stream = TokenStream(text, starts)
        if positions.size <= starts.size or not isinstance(self.model, CountedModel):
            return self.model.log_probs(stream.ids, positions, documents=stream.starts)
        # Many positions are written straight into the numbers that are wanted.
        dtype = np.float64 if self.dtype is torch.float64 else np.float32
        out: Array = np.empty((positions.size, self.model.vocab_size), dtype)
        return self.model.read(stream.ids, documents=stream.starts).logits(positions, out)

    def _result(self, log_probs: Array, ids: Tensor) -> Tensor:
        found = tensor_of(log_probs, dtype=self.dtype, copy=False).to(ids.device)
        if self._token_ids is None:
            return found
        known = torch.from_numpy(self._token_ids).to(ids.device)
        return found[:, known.clamp(min=0)].masked_fill(known == DROPPED, self.missing)


def _checked(token_ids: ArrayLike, vocab_size: int) -> Int64:
    found = token_ids.cpu().numpy() if isinstance(token_ids, Tensor) else np.asarray(token_ids)
    if found.ndim != 1 or found.dtype.kind not in "iu" or not found.size:
        raise TypeError(f"token_ids must be a vector of integers, got {found.dtype} {found.shape}")
    if found.min() < DROPPED or found.max() >= vocab_size:
        raise ValueError(f"token_ids must be in [0, {vocab_size}) or -1, got {found.min()} to {found.max()}")
    return found.astype(np.int64)


# ---- together with a network -----------------------------------------------------------------------------------------


def _logits(network: torch.nn.Module, ids: Tensor) -> Tensor:
    """Logits of a module that gives them, or, as those of transformers, an object that has them."""
    found: Any = network(ids)
    logits: Tensor = found if isinstance(found, Tensor) else found.logits
    return logits


class OnBase(torch.nn.Module):
    """A network on a residual base: logits of the network, plus log-probabilities of the base.

    What the base knows the network need not learn. A network whose logits are all zero is the base.

    Parameters
    ----------
    network : torch.nn.Module
        Takes ids (B, T), gives logits (B, T, U) of what follows each place, or an object with ``logits``.
    base : LogProbs
        Of as many tokens.
    weight : float
        Of the base's log-probabilities.

    Examples
    --------
    >>> import saffu
    >>> base = LogProbs(saffu.ExplicitLM(order=3, windows=(), induction=0).fit([0, 1, 2] * 50))
    >>> network = torch.nn.Embedding(3, 3, _weight=torch.zeros(3, 3))
    >>> OnBase(network, base)(torch.tensor([[0, 1, 2]])).argmax(-1)
    tensor([[1, 2, 0]])
    """

    def __init__(self, network: torch.nn.Module, base: LogProbs, *, weight: float = 1.0) -> None:
        super().__init__()
        self.network, self.base, self.weight = network, base, float(weight)

    def forward(self, ids: Tensor) -> Tensor:
        """Logits (B, T, U) of ids (B, T)."""
        base: Tensor = self.base(ids)
        return _logits(self.network, ids) + self.weight * base


class Mixture(torch.nn.Module):
    """A network and a model of saffu as experts: the logarithm of a weighted mean of their probabilities.

    Parameters
    ----------
    network : torch.nn.Module
        As for :class:`OnBase`.
    expert : LogProbs
        Of as many tokens; it is normalised over them.
    weight : float
        The expert's share at first, between 0 and 1.

    Attributes
    ----------
    logit : torch.nn.Parameter
        The logit of the expert's share, which is trained with the network.

    Examples
    --------
    >>> import saffu
    >>> expert = LogProbs(saffu.ExplicitLM(order=3, windows=(), induction=0).fit([0, 1, 2] * 50))
    >>> mixture = Mixture(torch.nn.Embedding(3, 3), expert, weight=0.25)
    >>> mixture(torch.tensor([[0, 1, 2]])).exp().sum(-1).round(decimals=3).tolist()
    [[1.0, 1.0, 1.0]]
    >>> round(mixture.weight.item(), 6)
    0.25
    """

    def __init__(self, network: torch.nn.Module, expert: LogProbs, *, weight: float = 0.5) -> None:
        super().__init__()
        if not 0 < weight < 1:
            raise ValueError(f"weight must be between 0 and 1, got {weight}")
        self.network, self.expert = network, expert
        self.logit = torch.nn.Parameter(torch.tensor(math.log(weight / (1 - weight))))

    @property
    def weight(self) -> Tensor:
        """The expert's share."""
        return torch.sigmoid(self.logit)

    def forward(self, ids: Tensor) -> Tensor:
        """Log-probabilities (B, T, U) of ids (B, T)."""
        shares = torch.nn.functional.logsigmoid(torch.stack([-self.logit, self.logit]))
        network, expert = (torch.log_softmax(each, -1) for each in (_logits(self.network, ids), self.expert(ids)))
        return torch.logaddexp(network + shares[0], expert + shares[1])
