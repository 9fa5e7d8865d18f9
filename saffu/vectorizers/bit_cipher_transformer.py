"""BitCipherTransformer: columns of categories as bit-cipher codes."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike

from saffu.classifier.inputs import Columns, names_of
from saffu.classifier.transformer import ColumnTransformer
from saffu.explicit.bit_cipher import BitCipher
from saffu.utils import containers, validate
from saffu.utils.arrays import Array, Float32
from saffu.vectorizers import categories as columns_and_categories


class BitCipherTransformer(ColumnTransformer):
    """Encodes each column of categories by a code of few bits: the more frequent a category, the fewer bits are set.

    Where a one-hot encoding of N categories takes N columns, this takes ``log2(N + 1)`` or a few more. Codes are not
    negative and of unit sum, as softmax layers want their features.

    Parameters
    ----------
    bits : int, optional
        b, the bits of each column. By default as few as give every category a code of its own. With fewer, only the
        ``2**b - 1`` most frequent categories have one.
    shared : bool
        Whether all columns hold categories of one kind, such as the words of a window, and share their codes.
    handle_unknown : {"zero", "error"}
        What becomes of a category that was not in the data of ``fit``: a code of zeros, or a ValueError.

    Attributes
    ----------
    categories_ : list of ndarray, length D
        The categories of each column, in ascending order; the same array for all columns if they are shared.
    ciphers_ : list of BitCipher, length D
        The cipher of each column; its ids are places in ``categories_``.
    n_features_in_ : int
        D, the number of columns.
    feature_names_in_ : ndarray of objects, shape (D,)
        Their names, if ``fit`` was given a table.

    Notes
    -----
    Bit-cipher: Zhao and Williams, arXiv 2311.11012; see :class:`saffu.BitCipher`. Of equally frequent categories the
    one that is lower in order has the lower rank, so the codes do not depend on the order of rows.

    Examples
    --------
    >>> transformer = BitCipherTransformer().fit([["red"], ["red"], ["blue"], ["green"], ["red"], ["blue"]])
    >>> transformer.transform([["red"], ["blue"], ["green"], ["pink"]])
    array([[1. , 0. ],
           [0. , 1. ],
           [0.5, 0.5],
           [0. , 0. ]], dtype=float32)
    >>> transformer.get_feature_names_out().tolist()
    ['x0_bit0', 'x0_bit1']
    """

    ciphers_: list[BitCipher]
    categories_: list[Array]

    def __init__(self, bits: int | None = None, *, shared: bool = False, handle_unknown: str = "zero") -> None:
        self.bits, self.shared, self.handle_unknown = bits, shared, handle_unknown

    def fit(self, X: Any, y: Any = None) -> Self:
        """Count the categories of each column and give each its code.

        Parameters
        ----------
        X : array_like or table, shape (M, D)
            Categories: strings, or numbers that are finite.
        y : optional
            Without effect; pipelines give it.

        Raises
        ------
        ValueError, TypeError
            If X is no matrix of categories, or a setting is out of range.
        """
        bits = None if self.bits is None else validate.size(self.bits, "bits")
        validate.choice(self.handle_unknown, "handle_unknown", ("zero", "error"))
        columns = columns_and_categories.columns_of(X, type(self).__name__, None)
        if self.shared:
            found = [columns_and_categories.count(np.concatenate(columns), 0)] * len(columns)
        else:
            found = [columns_and_categories.count(column, place) for place, column in enumerate(columns)]
        ciphers = {
            id(counts): BitCipher(len(counts).bit_length() if bits is None else bits).fit(counts=counts)
            for _, counts in found
        }
        self.categories_ = [categories for categories, _ in found]
        self.ciphers_ = [ciphers[id(counts)] for _, counts in found]
        self._columns = Columns(len(columns), names_of(X))
        return self

    def transform(self, X: Any) -> Any:
        """Encode categories.

        Parameters
        ----------
        X : array_like or table, shape (M, D)
            Categories, in the columns of ``fit``.

        Returns
        -------
        ndarray of float32, shape (M, sum of the bits of all columns)
            The codes of the columns side by side, each of unit sum, or zero for a category without one. A table, if
            :meth:`set_output` or ``sklearn.set_config`` says so.

        Raises
        ------
        ValueError, TypeError
            If X is no matrix of categories, its columns are not those of ``fit``, or a category is unknown and
            ``handle_unknown`` is ``"error"``. scikit-learn's NotFittedError if there was no fit.
        """
        known = self._known_columns()
        columns = columns_and_categories.columns_of(X, type(self).__name__, known)
        values = np.concatenate([self._encode(column, place) for place, column in enumerate(columns)], axis=1)
        return containers.wrap(values, self.get_feature_names_out(), X, containers.chosen(self))

    def _encode(self, column: Array, place: int) -> Float32:
        cipher = self.ciphers_[place]
        ids = columns_and_categories.look_up(column, self.categories_[place])
        unknown = ids < 0
        if self.handle_unknown == "error" and unknown.any():
            value = column[int(np.argmax(unknown))]
            raise ValueError(f"X must hold categories that fit has seen, got {value!r} in column {place}")
        codes = cipher.encode(np.where(unknown, 0, ids))
        codes[unknown] = 0
        return codes

    def inverse_transform(self, X: ArrayLike) -> Array:
        """Find the category of each code, as :meth:`saffu.BitCipher.decode` does.

        Parameters
        ----------
        X : array_like of float, shape (M, sum of the bits of all columns)

        Returns
        -------
        ndarray of objects, shape (M, D)
            None where a code is zero.

        Raises
        ------
        ValueError, TypeError
            If the shape does not fit, or a value is negative, infinite or NaN.

        Examples
        --------
        >>> transformer = BitCipherTransformer().fit([["red", 3], ["red", 4]])
        >>> transformer.inverse_transform(transformer.transform([["red", 4]])).tolist()
        [['red', '4']]
        """
        self._known_columns()
        ends = np.cumsum([cipher.bits for cipher in self.ciphers_])
        codes = np.split(validate.features(np.asarray(X), "X", int(ends[-1])), ends[:-1], axis=1)
        found = np.empty((len(codes[0]), len(codes)), dtype=object)
        for place, (cipher, categories) in enumerate(zip(self.ciphers_, self.categories_, strict=True)):
            ids = cipher.decode(codes[place])
            found[:, place] = categories[ids]  # that of -1 is overwritten
            found[ids < 0, place] = None
        return found

    def get_feature_names_out(self, input_features: ArrayLike | None = None) -> Array:
        """Names of the columns that ``transform`` returns: that of the input, ``_bit`` and a number.

        Parameters
        ----------
        input_features : array_like of str, shape (D,), optional
            Names of the input's columns; by default those of the table that ``fit`` was given, else x0, x1, ...

        Raises
        ------
        ValueError
            If there are not D of them, or they are not the names of ``fit``.
        """
        known = self._known_columns()
        names = known.names or tuple(f"x{place}" for place in range(known.n_features))
        if input_features is not None:
            given = tuple(np.asarray(input_features, dtype=object).tolist())
            if known.names is not None and given != known.names:
                raise ValueError("input_features is not equal to feature_names_in_")
            if len(given) != known.n_features:
                raise ValueError(
                    f"input_features should have length equal to number of features ({known.n_features}), "
                    f"got {len(given)}"
                )
            names = given
        parts = zip(names, self.ciphers_, strict=True)
        return np.array([f"{name}_bit{bit}" for name, cipher in parts for bit in range(cipher.bits)], dtype=object)

    def __sklearn_tags__(self) -> Any:
        """What scikit-learn asks of an estimator: here a transformer of categories, strings among them."""
        from sklearn.utils import InputTags, Tags, TargetTags, TransformerTags

        return Tags(
            estimator_type=None,
            target_tags=TargetTags(required=False),
            transformer_tags=TransformerTags(preserves_dtype=[]),
            input_tags=InputTags(categorical=True, string=True),
        )
