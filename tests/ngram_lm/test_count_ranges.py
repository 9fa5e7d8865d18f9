"""Counts cut into ranges: ranges of parts add up, and side by side they are the counts of the whole."""

import functools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from saffu.ngram_lm.count_ranges import JoinedRanges, balanced_cuts, cut
from saffu.ngram_lm.counts import NgramCounts
from saffu.utils.streams import TokenStream

V = 9

documents = st.lists(st.lists(st.integers(0, V - 1), min_size=1, max_size=30), min_size=1, max_size=6)
shapes = st.tuples(st.just(V), st.integers(1, 3), st.integers(2, 5)).flatmap(
    lambda shape: st.tuples(*map(st.just, shape), st.integers(0, shape[2] - 1))
)


def counted(shape, texts):
    return NgramCounts(*shape).of_stream(TokenStream.concat(TokenStream.of(text) for text in texts), n_threads=1)


def joined(empty, cuts, ranges, unigram, order):
    whole = JoinedRanges(empty, cuts, np.stack([piece.sizes for piece in ranges]))
    for number in order:
        whole.put(number, ranges[number])
    return whole.counts(unigram)


def assert_same(one, other):
    assert one.n_tokens == other.n_tokens
    np.testing.assert_array_equal(one.unigram, other.unigram)
    for mine, theirs in zip(one.tables, other.tables, strict=True):
        assert mine.shape == theirs.shape
        for name in ("indptr", "indices", "data"):
            found, expected = getattr(mine, name), getattr(theirs, name)
            assert found.dtype == expected.dtype
            np.testing.assert_array_equal(found, expected)


@given(shapes, st.lists(documents, min_size=1, max_size=5), st.integers(1, 12), st.randoms(use_true_random=False))
def test_ranges_of_parts_add_up_to_the_counts_of_all_text(shape, parts, n_ranges, random):
    counts = [counted(shape, texts) for texts in parts]
    cuts = balanced_cuts(counts[:2], n_ranges)
    pieces = [cut(part, cuts) for part in counts]
    ranges = [functools.reduce(lambda a, b: a.add(b), column) for column in zip(*pieces, strict=True)]
    order = random.sample(range(n_ranges), n_ranges)
    unigram = np.sum([part.unigram for part in counts], axis=0)
    whole = joined(NgramCounts(*shape), cuts, ranges, unigram, order)
    assert_same(whole, counted(shape, [text for texts in parts for text in texts]))


@given(documents, st.lists(st.integers(0, V * V - 1), max_size=5))
def test_any_cuts_will_do(texts, places):
    counts = counted((V, 2, 4, 1), texts)
    cuts = np.sort(np.array([places, places[::-1]], np.int64).reshape(2, -1), axis=1)
    ranges = cut(counts, cuts)
    assert len(ranges) == len(places) + 1
    assert_same(joined(NgramCounts(V, 2, 4, 1), cuts, ranges, counts.unigram, range(len(ranges))), counts)


def test_ranges_are_balanced_though_a_token_has_most_of_the_text():
    rng = np.random.default_rng(0)
    ids = np.where(rng.random(40_000) < 0.5, 0, rng.integers(0, 300, 40_000)).astype(np.int32)
    counts = NgramCounts(300, 2, 4, 1).of_stream(TokenStream.of(ids))
    ranges = cut(counts, balanced_cuts([counts], 8))
    sizes = np.stack([piece.sizes for piece in ranges])
    assert sizes.sum() == counts.n_entries
    n_chain = len(counts.chain)
    for share in (sizes[:, :n_chain].sum(axis=1), *sizes.T[n_chain:]):
        assert share.max() < 1.3 * share.mean()


@pytest.mark.parametrize(("repeats", "dtype"), [(255, np.uint8), (256, np.uint16), (70_000, np.uint32)])
def test_what_is_kept_is_narrow(repeats, dtype):
    counts = counted((2, 1, 2, 1), [[0] * (repeats + 1)])
    (piece,) = cut(counts, balanced_cuts([counts], 1))
    assert piece.chain[0].counts.tolist() == [repeats, 1]
    assert piece.chain[0].counts.dtype == dtype
    assert piece.chain[0].lengths.dtype == np.uint8


@pytest.mark.parametrize("n_ranges", [1, 7])
def test_no_text_has_ranges_too(n_ranges):
    empty = NgramCounts(V, 2, 3, 1)
    cuts = balanced_cuts([empty], n_ranges)
    assert_same(joined(NgramCounts(V, 2, 3, 1), cuts, cut(empty, cuts), empty.unigram, range(n_ranges)), empty)
