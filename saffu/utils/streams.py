"""A text as its models read it: token ids, and where its documents start."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from saffu.utils import validate
from saffu.utils.arrays import Int32, Int64


class TokenStream(NamedTuple):
    """Documents of token ids, one behind the other; :meth:`of` checks what comes from outside.

    Attributes
    ----------
    ids : ndarray of int32, shape (T,)
    starts : ndarray of int64
        Ascending, distinct offsets in ``ids`` at which documents start. The first is 0 in a stream of its own;
        in a stretch of a longer one, tokens before the first continue a document.

    Examples
    --------
    >>> stream = TokenStream.of([4, 0, 2, 1, 3], documents=[0, 3])
    >>> stream.begins(np.array([0, 2, 4])).tolist()
    [0, 0, 3]
    >>> stream.slice(2, 5)
    TokenStream(ids=array([2, 1, 3], dtype=int32), starts=array([0, 1]))
    """

    ids: Int32
    starts: Int64

    @classmethod
    def of(
        cls,
        ids: ArrayLike,
        documents: ArrayLike | None = None,
        vocab_size: int | None = None,
        name: str = "ids",
        *,
        keep: bool = False,
        continues: bool = False,
    ) -> TokenStream:
        """Check and convert.

        Parameters
        ----------
        ids : array_like of int, shape (T,)
        documents : array_like of int, optional
            Offsets in ``ids`` at which documents start; by default all is one document.
        vocab_size : int, optional
            Every id must be below it.
        name : str
            What an error calls ``ids``.
        keep : bool
            Whether the stream outlives the call: it then never shares memory with ``ids``.
        continues : bool
            Whether the stream goes on with a document that began before it, unless an offset is 0. Otherwise it starts
            one at 0 in any case.

        Raises
        ------
        ValueError, TypeError
            If ids are out of range or not integers, or the offsets are not ascending within the stream.
        """
        checked = validate.token_ids(ids, name, vocab_size, keep)
        return cls(checked, validate.document_starts(documents, checked.size, from_zero=not continues))

    @classmethod
    def concat(cls, streams: Iterable[TokenStream]) -> TokenStream:
        """All documents of some streams, in their order."""
        parts = list(streams)
        if not parts:
            return cls(np.empty(0, np.int32), np.empty(0, np.int64))
        offsets = np.cumsum([0, *(part.ids.size for part in parts[:-1])])
        starts = [part.starts + offset for part, offset in zip(parts, offsets, strict=True)]
        return cls(np.concatenate([part.ids for part in parts]), np.concatenate(starts))

    def begins(self, positions: Int64) -> Int64:
        """Where the document of each position starts; a position just behind the stream belongs to the last one."""
        if self.starts.size == 0:
            return np.zeros_like(positions)
        return self.starts[self.documents_of(positions)]

    def places(self, values: ArrayLike, name: str = "positions") -> Int64:
        """Check positions in [0, T], where T is the place just behind the stream.

        Raises
        ------
        ValueError, TypeError
            If they are not a vector of integers, or out of range.
        """
        array = np.asarray(values)
        if array.size == 0 and array.ndim <= 1:
            return np.empty(0, np.int64)
        if array.ndim != 1 or array.dtype.kind not in "iu":
            raise TypeError(f"{name} must be a vector of integers, got {array.dtype} {array.shape}")
        if not (array.min() >= 0 and array.max() <= self.ids.size):
            wrong = int(((array < 0) | (array > self.ids.size)).argmax())
            raise ValueError(f"{name} must be in [0, {self.ids.size}], the length of the text, got {array[wrong]}")
        return array.astype(np.int64)

    def documents_of(self, positions: Int64) -> Int64:
        """The number of the document of each position."""
        return np.searchsorted(self.starts, positions, side="right") - 1

    @property
    def continues(self) -> bool:
        """Whether the first token continues a document that began before it."""
        return self.starts.size == 0 or bool(self.starts[0])

    def with_next(self, token: int) -> TokenStream:
        """The stream with one more token, which starts a document only if there was none."""
        starts = self.starts if self.starts.size else np.zeros(1, np.int64)
        return TokenStream(np.append(self.ids, np.int32(token)), starts)

    def lengths(self) -> Int64:
        """Tokens of each document."""
        return np.diff(np.append(self.starts, self.ids.size))

    def slice(self, first: int, last: int) -> TokenStream:
        """The tokens from ``first`` up to ``last``, the first of which starts a document."""
        inside = self.starts[(self.starts > first) & (self.starts < last)] - first
        return TokenStream(self.ids[first:last], np.append(np.zeros(int(last > first), np.int64), inside))
