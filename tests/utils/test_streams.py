"""Streams of documents against lists of documents."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from saffu.utils.streams import TokenStream

some_documents = st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=6), max_size=8)


def stream_of(documents):
    starts = np.cumsum([0, *map(len, documents)])[:-1]
    return TokenStream.of([token for document in documents for token in document], starts)


def lists(stream):
    return [part.tolist() for part in np.split(stream.ids, stream.starts[1:])] if stream.ids.size else []


@given(some_documents)
def test_positions_know_their_document(documents):
    stream = stream_of(documents)
    numbers = [number for number, document in enumerate(documents) for _ in document]
    offsets = [offset for document in documents for offset in range(len(document))]
    positions = np.arange(stream.ids.size)
    assert lists(stream) == documents
    assert stream.documents_of(positions).tolist() == numbers
    assert (positions - stream.begins(positions)).tolist() == offsets
    assert stream.lengths().tolist() == [len(document) for document in documents]
    assert not stream.continues or not documents


@given(some_documents, some_documents, st.integers(0, 40), st.integers(0, 40))
def test_slices_and_concatenation(one, other, first, last):
    both = TokenStream.concat([stream_of(one), stream_of(other)])
    assert lists(both) == one + other
    first, last = sorted((min(first, both.ids.size), min(last, both.ids.size)))
    inside = both.slice(first, last)
    np.testing.assert_array_equal(inside.ids, both.ids[first:last])
    expected = [start - first for start in both.starts.tolist() if first < start < last]
    assert inside.starts.tolist() == ([0, *expected] if last > first else [])
    assert TokenStream.concat([]).ids.size == 0


@given(some_documents)
def test_the_next_token_goes_on_with_the_last_document(documents):
    expected = [*documents[:-1], [*documents[-1], 7]] if documents else [[7]]
    assert lists(stream_of(documents).with_next(7)) == expected


def test_a_stretch_continues_what_came_before_it():
    assert TokenStream.of([1, 2, 3], [1], continues=True).continues
    assert TokenStream.of([1, 2, 3], continues=True).starts.size == 0
    assert not TokenStream.of([1, 2, 3], [0, 1], continues=True).continues
    assert not TokenStream.of([1, 2, 3], [1]).continues


def test_memory_is_shared_unless_the_stream_is_kept():
    ids = np.arange(5, dtype=np.int32)
    assert np.shares_memory(TokenStream.of(ids).ids, ids)
    assert not np.shares_memory(TokenStream.of(ids, keep=True).ids, ids)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: TokenStream.of([0, 5], vocab_size=5), ValueError, "ids must be below 5, got 5"),
        (lambda: TokenStream.of([0.5], name="prompt"), TypeError, "prompt must be integers"),
        (lambda: TokenStream.of([0, 1], [1, 0]), ValueError, "documents must be ascending"),
        (lambda: TokenStream.of([0, 1]).places([3]), ValueError, r"positions must be in \[0, 2\].*got 3"),
        (lambda: TokenStream.of([0, 1]).places([-1]), ValueError, "got -1"),
        (lambda: TokenStream.of([0, 1]).places([0.0]), TypeError, "positions must be a vector of integers"),
    ],
)
def test_mistakes_are_named(make, error, message):
    with pytest.raises(error, match=message):
        make()
