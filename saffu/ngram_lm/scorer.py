"""A text under a pooled model: what each position sees is looked up once, then positions are scored in any order."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from saffu import _core
from saffu.ngram_lm.floor import Floor
from saffu.ngram_lm.log_linear import Packed, PooledModel, previous_places
from saffu.utils.arrays import Array, Bools, Float32, Float64, Int32, Int64, ranges
from saffu.utils.streams import TokenStream

Real = Float32 | Float64


class PooledText:
    """Positions of a text, ready to be scored by batches.

    Parameters
    ----------
    model : PooledModel
    scalars : ndarray of float64, shape (n_states, 2 + n_features)
    stream : TokenStream
        The text: windows look at it. It is kept, and trusted: nobody else may write into its ids.
    positions : ndarray of int64, shape (T,)
        Ascending.
    rows : ndarray of int32, shape (n_tables, T)
        From :meth:`saffu.ngram_lm.weights.NgramWeights.contexts`.
    n_threads : int
    previous : ndarray of int32, shape (M,), optional
        From :func:`saffu.ngram_lm.log_linear.previous_places`, if it is known.
    compact : bool
        Keep only the rows that the positions refer to.
    floor : Floor, optional
        What is mixed into the probabilities.
    opens : ndarray of bool, optional
        Which of the documents are there from their first token, to the floor; by default all.
    """

    def __init__(
        self,
        model: PooledModel,
        scalars: Float64,
        stream: TokenStream,
        positions: Int64,
        rows: Int32,
        n_threads: int,
        previous: Int32 | None = None,
        compact: bool = False,
        floor: Floor | None = None,
        opens: Bools | None = None,
    ) -> None:
        self.ids, self.positions, self.n_threads = _read_only(stream.ids), _read_only(positions), n_threads
        self.vocab_size = model.weights.vocab_size
        self._begins = stream.begins(positions)
        self._states = model.states(rows)
        self._rows = np.ascontiguousarray(model.packed_rows(rows).T)
        packed = model.weights.packed
        if compact:
            packed, self._rows = keep_rows(packed, self._rows)
        self._pool = model.pool(scalars, packed)
        self._previous = previous_places(stream.ids) if previous is None else previous
        self._floor = floor
        if floor is not None:
            self._floor_rows = floor.contexts(stream, positions, n_threads, opens)
            self._floor_log_prob = floor.tables.score(stream, opens, n_threads)[0][positions]
        self.n_bytes = sum(a.nbytes for a in (stream.ids, *packed, self._rows, self._states, self._begins, positions))

    def log_prob(self, positions: ArrayLike | None = None) -> Float64:
        """Log-probabilities, nats, of the tokens at these positions (by default all), shape (n,)."""
        places = self._places(positions)
        if not places.size:
            return np.empty(0)
        found = self._pool.log_prob(self._batch(places), self.n_threads)
        return found if self._floor is None else self._floor.mixed(found, self._floor_log_prob[places])

    def logits(self, positions: ArrayLike | None = None, out: Real | None = None) -> Real:
        """Log-probabilities, nats, of every token at these positions (by default all).

        Parameters
        ----------
        positions : array_like of int, shape (n,), optional
            Places in the text, in any order; ascending is faster.
        out : ndarray of float32 or float64, shape (n, V), optional
            Where to write; by default a new array of float32. Memory used before is several times faster to fill.

        Returns
        -------
        ndarray, shape (n, V)
            ``out``.

        Raises
        ------
        ValueError, TypeError
            If a position is not one of the text's, or ``out`` does not fit.
        """
        places = self._places(positions)
        shape = (places.size, self.vocab_size)
        if out is None:
            out = np.empty(shape, np.float32)
        fits = isinstance(out, np.ndarray) and out.dtype in (np.float32, np.float64) and out.shape == shape
        if not fits or not out.flags.c_contiguous or not out.flags.writeable:
            given = f"{out.dtype} {out.shape}" if isinstance(out, np.ndarray) else type(out).__name__
            raise ValueError(f"out must be a writeable contiguous float32 or float64 array {shape}, got {given}")
        if places.size:
            self._pool.logits(self._batch(places), out, self.n_threads)
            if self._floor is not None:
                self._floor.mix_rows(self._floor_rows[:, places], out)
        return out

    def _places(self, positions: ArrayLike | None) -> Int64:
        """Places of the positions among those of this text."""
        if positions is None:
            return np.arange(self.positions.size)
        wanted = np.asarray(positions)
        if wanted.size == 0 and wanted.ndim <= 1:
            return np.empty(0, np.int64)
        if wanted.ndim != 1 or wanted.dtype.kind not in "iu":
            raise TypeError(f"positions must be a vector of integers, got {wanted.dtype} {wanted.shape}")
        places = np.searchsorted(self.positions, wanted)
        known = places < self.positions.size
        known[known] = self.positions[places[known]] == wanted[known]
        if not known.all():
            raise ValueError(f"positions must be among those of this text, but {wanted[~known][0]} is not")
        return places

    def _batch(self, places: Int64) -> _core.Batch:
        return _core.Batch(
            self.ids,
            self.positions[places],
            self._begins[places],
            self._rows[places],
            self._states[places],
            None,
            self._previous,
        )


def _read_only(array: Array) -> Array:
    """A view that cannot be written through."""
    view = array.view()
    view.flags.writeable = False
    return view


def keep_rows(packed: Packed, rows: Int32) -> tuple[Packed, Int32]:
    """Packed rows without those that ``rows`` (-1 for none) does not refer to, and ``rows`` renumbered."""
    head_ptr, head, tail_ptr, tail_word, tail_u = packed
    used = np.unique(rows[rows >= 0])
    if used.size == 0:
        used = np.zeros(1, rows.dtype)  # kernels want at least one row
    new_head_ptr, from_head = _spans(head_ptr, used)
    new_tail_ptr, from_tail = _spans(tail_ptr, used)
    renumbered = np.where(rows >= 0, np.searchsorted(used, rows), -1).astype(np.int32)
    kept = Packed(new_head_ptr, head[from_head], new_tail_ptr, tail_word[from_tail], tail_u[from_tail])
    return kept, renumbered


def _spans(ptr: Int64, rows: Int32) -> tuple[Int64, Int64]:
    """The ``ptr`` of these rows alone, and the places of their entries."""
    lengths = ptr[rows + 1] - ptr[rows]
    return np.concatenate([[0], np.cumsum(lengths)]), ranges(ptr[rows], ptr[rows + 1])
