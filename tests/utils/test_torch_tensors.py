"""Arrays and tensors: the same memory where that is possible, the same numbers everywhere."""

import numpy as np
import pytest
from scipy.sparse import issparse

torch = pytest.importorskip("torch")
tensors = pytest.importorskip("saffu.utils.torch_tensors")


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32, np.int64, np.bool_])
def test_arrays_become_tensors(dtype):
    array = np.arange(6).reshape(2, 3).astype(dtype)
    for given in (array, array.T, np.asfortranarray(array)):
        shared, copied = tensors.tensor_of(given, copy=False), tensors.tensor_of(given)
        for tensor, same in ((shared, True), (copied, False)):
            np.testing.assert_array_equal(tensor, given)
            assert np.shares_memory(tensor.numpy(), given) == same


def test_what_may_not_be_written_to_has_the_same_numbers():
    array = np.arange(3.0)
    array.flags.writeable = False
    for copy in (True, False):
        found = tensors.tensor_of(array, copy=copy)
        assert found.tolist() == [0.0, 1.0, 2.0]
        found[0] = 5.0
        assert array[0] == 0.0


def test_other_dtypes_are_copies():
    array = np.arange(3.0)
    found = tensors.tensor_of(array, dtype=torch.float32, copy=False)
    found[0] = 7.0
    assert array[0] == 0.0
    assert tensors.parameter_of(array).dtype == torch.float32
    assert tensors.parameter_of(array).requires_grad


def test_tensors_become_arrays():
    tensor = torch.arange(6.0, requires_grad=True).reshape(2, 3)
    found = tensors.array_of(tensor)
    assert np.shares_memory(found, tensor.detach().numpy())
    np.testing.assert_array_equal(tensors.array_of(tensor.T), found.T)
    bits = torch.tensor([1.5, -2.0], dtype=torch.bfloat16)
    assert tensors.array_of(bits).dtype == np.float32
    assert tensors.array_of(bits).tolist() == [1.5, -2.0]
    assert tensors.array_of(torch.tensor([1j]).conj().imag).tolist() == [-1.0]


@pytest.mark.filterwarnings("ignore:Sparse")
def test_sparse_tensors_become_csr():
    dense = torch.tensor([[0.0, 2.0, 0.0], [1.0, 0.0, 3.0]])
    repeated = torch.sparse_coo_tensor([[0, 0, 1, 1], [1, 1, 0, 2]], [1.5, 0.5, 1.0, 3.0], (2, 3))
    for given in (dense.to_sparse(), dense.to_sparse_csr(), dense.to_sparse_csc(), repeated):
        found = tensors.matrix_of(given)
        assert issparse(found)
        assert found.format == "csr"
        np.testing.assert_array_equal(found.toarray(), dense)
    csr = dense.to_sparse_csr()
    assert np.shares_memory(tensors.matrix_of(csr).data, csr.values().numpy())


def test_ids():
    ids = torch.tensor([[1, 2]])
    assert np.shares_memory(tensors.ids_of(ids), ids.numpy())
    assert tensors.ids_of(ids.int()).dtype == np.int64
    for wrong in (torch.tensor([1]), torch.tensor([[0.5]]), torch.tensor([[True]]), [[1]]):
        with pytest.raises(TypeError, match="ids must be a tensor of integers"):
            tensors.ids_of(wrong)
