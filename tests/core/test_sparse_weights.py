"""Sparse weights and packed rows against their naive twins."""

import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import random_array

from helpers import reference
from saffu import _core
from saffu.ngram_lm.counts import NgramCounts, suffix_contexts
from saffu.utils.streams import TokenStream

pytestmark = pytest.mark.kernels


@st.composite
def tables(draw):
    n_rows, n_cols = draw(st.integers(1, 12)), draw(st.integers(1, 120))
    density = draw(st.sampled_from([0.0, 0.1, 0.6, 1.0]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    table = random_array((n_rows, n_cols), density=density, format="csr", rng=rng)
    table.sort_indices()
    counts = rng.integers(0, 6, table.nnz)  # zeros are entries whose own count was taken away
    return table.indptr.astype(np.int64), table.indices.astype(np.int32), counts, n_cols, rng


@given(tables(), st.sampled_from([1, 2, 3]))
def test_weigh_equals_its_equation(table, n_threads):
    indptr, indices, counts, n_cols, rng = table
    d = np.sort(rng.uniform(0.1, 0.9, 3))
    lower = rng.dirichlet(np.ones(n_cols))
    total, mass, u, p = _core.weigh(indptr, counts, indices, lower, d, n_threads)
    expected = reference.weigh(indptr, counts, lower[indices], d)
    for found, wanted in zip((total, mass, u, p), expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-13, atol=1e-13)


@given(tables(), st.sampled_from([1, 2, 3]), st.sampled_from([(np.float32, 3), (np.float64, 2)]))
def test_packed_rows_hold_every_entry_once(table, n_threads, kind):
    indptr, indices, _, n_cols, rng = table
    dtype, most = kind
    u = rng.normal(size=indices.size).astype(dtype)
    head_ptr, head, tail_ptr, tail_word, tail_u = _core.pack(indptr, indices, u, n_threads)
    assert head.dtype == tail_u.dtype == dtype
    for c in range(indptr.size - 1):
        n_head = head_ptr[c + 1] - head_ptr[c]
        assert n_head % _core.BLOCK == 0
        row = np.zeros(-(-n_cols // _core.BLOCK) * _core.BLOCK)
        row[:n_head] = head[head_ptr[c] : head_ptr[c + 1]]
        tail = slice(tail_ptr[c], tail_ptr[c + 1])
        assert (tail_word[tail] >= n_head).all()
        row[tail_word[tail]] = tail_u[tail]
        expected = np.zeros_like(row)
        expected[indices[indptr[c] : indptr[c + 1]]] = u[indptr[c] : indptr[c + 1]]
        np.testing.assert_array_equal(row, expected)
        if n_head:  # a dense beginning pays only where so much is seen
            assert most * np.count_nonzero(indices[indptr[c] : indptr[c + 1]] < n_head) >= n_head


@given(st.lists(st.integers(0, 4), max_size=120), st.integers(2, 6), st.lists(st.integers(1, 119), max_size=4))
def test_suffix_tables_count_ngrams(ids, order, cuts):
    ids = np.array(ids, np.int32)
    documents = np.array(sorted({0, *cuts} & set(range(len(ids)))), np.int64)
    counts = NgramCounts(5, 1, order).of_stream(TokenStream(ids, documents))
    spans = itertools.pairwise([*documents, len(ids)])
    texts = [("<s>", *ids[a:b].tolist()) for a, b in spans]
    contexts = list(suffix_contexts(counts.chain, TokenStream(ids, documents), 1))
    for n, table in enumerate(counts.chain, start=1):
        grams = Counter(text[t - n : t + 1] for text in texts for t in range(n, len(text)))
        assert sorted(table.data) == sorted(grams.values())
        place = 0
        for text in texts:
            for t in range(1, len(text)):
                row = contexts[n - 1][place : place + 1]
                assert (row[0] >= 0) == (t >= n)
                if t >= n:
                    entry = _core.find(table.indptr, table.indices, row, ids[place : place + 1], 1)[0]
                    assert table.data[entry] == grams[text[t - n : t + 1]]
                place += 1


def test_sizes_that_do_not_match_are_refused():
    one, two = np.zeros(2, np.int64), np.zeros(3, np.int64)
    with pytest.raises(ValueError, match="equal lengths"):
        _core.weigh(one, two, np.zeros(2, np.int32), np.ones(1), np.ones(3), 1)
    with pytest.raises(ValueError, match="equal lengths"):
        _core.pack(one, np.zeros(2, np.int32), np.zeros(1), 1)
    with pytest.raises(ValueError, match="equal lengths"):
        _core.count(np.zeros(2, np.int32), np.zeros(3, np.int32), one[:1] + 1, one[:1], 1, 1, 1)


def one_row(counts, lower=(0.5, 0.25), discount=(0.5, 0.5, 0.5)):
    n = len(counts)
    parent = np.arange(n, dtype=np.int32) % len(lower)
    return _core.weigh(np.array([0, n]), np.array(counts), parent, np.array(lower, float), np.array(discount, float), 1)


@pytest.mark.parametrize("count", [-1, -2, -(10**8), -(2**63)])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_negative_count_is_refused(count, place):
    counts = [3, 1, 2]
    counts[place] = count
    with pytest.raises(ValueError, match="not negative"):
        one_row(counts)


def test_counts_beyond_2_to_62_are_refused_and_large_ones_are_right():
    with pytest.raises(ValueError, match="counts must be"):
        one_row([2**62, 2**62, 2**62, 2**62])
    total, mass, u, p = one_row([2**45, 1])
    np.testing.assert_allclose([total[0], mass[0]], [2.0**45 + 1, 1.0])
    np.testing.assert_allclose(p, [1.0, 0.75 / 2.0**45], rtol=1e-9)
    assert np.isfinite(u).all()


@pytest.mark.parametrize("discount", [(-0.1, 0.5, 0.5), (1.5, 0.5, 0.5), (0.5, 2.5, 0.5), (0.5, 0.5, np.nan)])
def test_discounts_out_of_bounds_are_refused(discount):
    with pytest.raises(ValueError, match="discounts must lie"):
        one_row([3, 1, 2], discount=discount)


def test_an_infinite_weight_is_refused():
    """Where a row frees no mass; one without counts needs none."""
    with pytest.raises(ValueError, match="infinite"):
        one_row([3, 1], discount=(0.0, 0.0, 0.0))
    np.testing.assert_array_equal(one_row([0, 0], discount=(0.0, 0.0, 0.0))[2], [0.0, 0.0])
