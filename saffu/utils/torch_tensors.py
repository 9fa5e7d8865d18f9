"""Arrays as torch tensors and tensors as arrays, on the same memory where that is possible; needs the extra ``torch``.

Memory passes through DLPack. It is copied where the two cannot share it: tensors on another device, other dtypes, and
arrays that may not be written to, which torch does not know of.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.sparse import csr_array

from saffu.utils.arrays import Array, Int64, Matrix

try:
    import torch as torch
    from torch import Tensor as Tensor
    from torch.utils.dlpack import from_dlpack
except ImportError as error:
    raise ImportError("saffu.torch needs torch: pip install 'saffu[torch]'") from error


def tensor_of(array: Array, *, dtype: torch.dtype | None = None, copy: bool = True) -> Tensor:
    """An array as a tensor on the CPU.

    Parameters
    ----------
    array : ndarray
    dtype : torch.dtype, optional
        By default that of the array.
    copy : bool
        False shares the memory of the array if the dtype stays: what is written into one is then in the other, too.

    Examples
    --------
    >>> numbers = np.zeros(2)
    >>> tensor_of(numbers, copy=False)[0] = 3.0
    >>> numbers
    array([3., 0.])
    """
    if copy or not array.flags.writeable:
        return torch.tensor(np.ascontiguousarray(array), dtype=dtype)
    shared: Tensor = from_dlpack(array)
    return shared if dtype is None else shared.to(dtype)


def parameter_of(array: Array, *, dtype: torch.dtype | None = None, copy: bool = True) -> torch.nn.Parameter:
    """An array as a parameter of a module, by default in torch's own dtype; see :func:`tensor_of`."""
    return torch.nn.Parameter(tensor_of(array, dtype=dtype or torch.get_default_dtype(), copy=copy))


def array_of(tensor: Tensor) -> Array:
    """A dense tensor as an array, on the same memory if it is on the CPU; without its gradient.

    Numbers of 16 bits that numpy does not know (bfloat16) become float32.

    Examples
    --------
    >>> array_of(torch.tensor([[1.0, 2.0]], requires_grad=True)).tolist()
    [[1.0, 2.0]]
    """
    found = tensor.detach().cpu()
    if found.dtype is torch.bfloat16:
        found = found.float()
    if found.is_neg() or found.is_conj():  # views whose memory does not hold the numbers themselves
        found = found.resolve_neg().resolve_conj()
    array: Array = np.from_dlpack(found)
    return array


def matrix_of(values: Any) -> Matrix:
    """Rows of features: a tensor as an array or, if it is sparse, as a csr_array; all else as it is.

    Examples
    --------
    >>> matrix_of(torch.eye(2).to_sparse()).toarray().tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """
    if not isinstance(values, Tensor):
        return values
    if values.layout is torch.strided:
        return array_of(values)
    if values.layout is torch.sparse_csr:
        parts = (array_of(part) for part in (values.values(), values.col_indices(), values.crow_indices()))
        return csr_array(tuple(parts), shape=tuple(values.shape))
    coordinates = values.to_sparse(layout=torch.sparse_coo).coalesce()
    rows, columns = array_of(coordinates.indices())
    return csr_array((array_of(coordinates.values()), (rows, columns)), shape=tuple(values.shape))


def ids_of(ids: Tensor, name: str = "ids") -> Int64:
    """Token ids (B, T) of a tensor, on the same memory if they are int64 on the CPU.

    Raises
    ------
    TypeError
        If it is no matrix of integers.
    """
    if not isinstance(ids, Tensor) or ids.ndim != 2 or ids.is_floating_point() or ids.dtype is torch.bool:
        given = f"{ids.dtype} {tuple(ids.shape)}" if isinstance(ids, Tensor) else type(ids).__name__
        raise TypeError(f"{name} must be a tensor of integers, shape (B, T), got {given}")
    return array_of(ids).astype(np.int64, copy=False)
